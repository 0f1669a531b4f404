"""The report page: whole and harmless HTML, its numbers, and the command that writes it."""

import base64
import hashlib
import html.parser
import io
import re

import keras
import numpy as np
import pytest
from command_line import MODEL, fails, run, small_model
from pictures import write_digits
from PIL import Image

import innvest_lite
from innvest_lite import InvalidInputError
from innvest_lite.data import load_digits
from innvest_lite.report import Sample, charts, page, write
from innvest_lite.visualize import heatmap

VOID = {"meta", "img", "input", "line", "polyline", "path", "wbr", "br"}


class Elements(html.parser.HTMLParser):
    """All elements of a page: `(tag, attributes, ancestors)`; an element that is not closed is an error."""

    def __init__(self, text):
        super().__init__()
        self.found, self.texts, self._open = [], [], []
        self.feed(text)
        self.close()
        assert not self._open, self._open

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs), tuple(self._open)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.found.append((tag, dict(attrs), tuple(self._open)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    def of(self, tag, kind=None):
        return [attributes for name, attributes, _ in self.found if name == tag and kind in (None, attributes.get("class"))]


def sample(name="seven.png", seed=0):
    values = np.random.default_rng(seed).normal(size=(5, 6))
    image = np.random.default_rng(seed).integers(0, 256, (5, 6, 3)).astype("uint8")
    pictures = {"gradient": heatmap(values), "lrp.z": heatmap(-values)}
    return Sample(name, image, (("seven", 0.75), ("one", 0.2)), pictures, {"gradient": values, "lrp.z": -1e30 * values})


def decoded(address):
    assert address.startswith("data:image/png;base64,")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))).convert("RGB"))


def test_pictures_and_values_are_those_given():
    given = sample()
    elements = Elements(page("A report", [given]))
    rules = re.findall(r"#sample-0 \{ --image: url\((.*)\); \}", style_of(elements))
    np.testing.assert_array_equal(decoded(*rules), given.image)
    assert "#sample-0 .stack { aspect-ratio: 6 / 5; }" in style_of(elements)
    assert [article["id"] for article in elements.of("article")] == ["sample-0"]
    for picture, attributes in zip(given.pictures.values(), elements.of("img"), strict=True):
        np.testing.assert_array_equal(decoded(attributes["src"]), picture)
    stacks = [stack for stack in elements.of("div", "stack") if "data-values" in stack]
    for values, stack in zip(given.values.values(), stacks, strict=True):
        numbers = np.frombuffer(base64.b64decode(stack["data-values"]), "<i2").reshape(5, 6)
        assert (stack["data-width"], stack["data-height"], stack["tabindex"]) == ("6", "5", "0")
        np.testing.assert_allclose(numbers / 32767 * float(stack["data-limit"]), values, atol=np.abs(values).max() / 6e4)


def style_of(elements):
    (style,) = [text for text in elements.texts if text.startswith(":root")]
    return style


def test_the_policy_knows_style_and_script_by_their_hashes():
    """As a browser does: over the bytes between the tags, and nothing inline beside them."""
    samples = [sample('a" style="color:red" onclick="alert(1)', 0), sample("b", 1)]
    content = page("A report", samples, curves={"a": [1.0, 0.5]}, rows=[{"a": 1.0}]).encode()
    elements = Elements(content.decode())
    (policy,) = [meta["content"] for meta in elements.of("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    directives = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    for tag, directive in ((b"style", "style-src"), (b"script", "script-src")):
        (text,) = re.findall(b"<%s>(.*?)</%s>" % (tag, tag), content, flags=re.DOTALL)
        assert b"\r" not in text, "a browser reads the ends of lines as \\n"
        assert directives.pop(directive) == f"'sha256-{base64.b64encode(hashlib.sha256(text).digest()).decode()}'"
    assert directives == {"default-src": "'none'", "img-src": "data:", "base-uri": "'none'", "form-action": "'none'"}
    inline = [key for _, attributes, _ in elements.found for key in attributes if key == "style" or key.startswith("on")]
    assert not inline and "unsafe" not in policy


def test_nothing_comes_from_elsewhere_and_names_are_text():
    name = '"><script>alert(1)</script><img src="http://example.com/x.png">'
    text = page(name, [sample(name)], facts=name, curves={name: [0.5, 0.4]}, rows=[{"layer": name, "rho": 0.5}])
    elements = Elements(text)
    assert len(elements.of("script")) == 1 and elements.of("script")[0] == {}
    sources = [value for _, attributes, _ in elements.found for key, value in attributes.items() if key in ("src", "href")]
    assert sources and all(source.startswith("data:") for source in sources)
    (policy,) = [meta["content"] for meta in elements.of("meta") if "http-equiv" in meta]
    assert policy.startswith("default-src 'none'")
    assert "alert(1)" not in "".join(re.findall(r"<script>(.*?)</script>", text, flags=re.DOTALL)[0])


def test_every_control_and_picture_has_a_name():
    elements = Elements(page("A report", [sample()]))
    assert all("alt" in image for image in elements.of("img"))
    assert [tag for tag, _, ancestors in elements.found if tag in ("input", "select") and "label" not in ancestors] == []
    assert all(stack["aria-label"] for stack in elements.of("div", "stack") if "tabindex" in stack)
    assert ("html", {"lang": "en"}, ()) in elements.found


def test_samples_can_be_sorted():
    elements = Elements(page("A report", [sample("b", 0), sample("a", 1)]))
    articles = elements.of("article")
    assert [article["data-name"] for article in articles] == ["b", "a"]
    assert all(float(article["data-confidence"]) == 0.75 for article in articles)
    assert "75.0 %" in "".join(elements.texts)


def test_maps_of_zeros_and_samples_without_classes():
    given = sample()
    blank = Sample("blank", given.image, (), {"gradient": given.image}, {"gradient": np.zeros((5, 6))})
    (stack,) = [stack for stack in Elements(page("A report", [blank])).of("div", "stack") if "data-values" in stack]
    assert stack["data-limit"] == "0" and not any(base64.b64decode(stack["data-values"]))
    assert "(all zero)" in page("A report", [blank]) and "(all zero)" not in page("A report", [given])


@pytest.mark.parametrize(
    "values", [np.full((5, 6), np.nan), np.full((5, 6), np.inf), np.zeros((4, 6)), np.zeros((5, 6, 1))], ids=str
)
def test_values_are_one_for_each_pixel(values):
    given = sample()
    with pytest.raises(InvalidInputError, match="values of gradient of 'seven.png'.*one for each pixel"):
        page(
            "A report",
            [Sample("seven.png", given.image, (), {"gradient": given.pictures["gradient"]}, {"gradient": values})],
        )


def test_curves_and_rows_are_checked():
    for curves in ({"a": [1.0, 0.5], "b": [1.0]}, {"a": [np.nan, 1.0]}, {"a": []}):
        with pytest.raises(InvalidInputError, match="all of one length"):
            page("A report", [sample()], curves=curves)
    with pytest.raises(InvalidInputError, match="different columns"):
        page("A report", [sample()], rows=[{"a": 1}, {"b": 1}])
    text = page("A report", [sample()], rows=[{"<b>": np.float32(1 / 3)}])
    assert "<td>0.333</td>" in text and "<b>" not in text


def test_names_that_are_no_text(tmp_path):
    path = write(tmp_path / "report.html", "A report", [sample("a\udcff.png")])
    assert "a\\udcff.png" in path.read_text(encoding="utf-8")


def test_axes_of_curves_start_at_zero():
    def lowest(values):
        line = Elements(charts.lines({"a": values}, "x", "y")).of("polyline")[0]["points"]
        return max(float(point.split(",")[1]) for point in line.split())

    assert lowest([0.9, 0.8]) < lowest([0.9, 0.0])


def test_curves_are_drawn_in_their_places():
    svg = charts.lines({"falls": [1.0, 0.5, 0.0], "stays": [1.0, 1.0, 1.0]}, "patches", "probability")
    elements = Elements(svg)
    falls, stays = (
        [tuple(map(float, point.split(","))) for point in line["points"].split()] for line in elements.of("polyline")
    )
    assert [x for x, _ in falls] == [x for x, _ in stays] and falls[0] == stays[0]
    assert falls[2][1] - falls[1][1] == pytest.approx(falls[1][1] - falls[0][1], abs=0.2) and stays[2][1] == stays[0][1]
    assert charts.lines({"flat": [0.0]}, "x", "y")


def test_write(tmp_path):
    assert write(tmp_path / "report.html", "A report", [sample()]).read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    with pytest.raises(InvalidInputError, match="let it end in .html"):
        write(tmp_path / "report.txt", "A report", [sample()])
    with pytest.raises(InvalidInputError, match="at least one sample"):
        write(tmp_path / "none.html", "A report", [])
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


# The command ----------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    write_digits(folder, [*(f"{place:02d}.png" for place in range(11)), "z/11.png"])
    return folder


def test_the_command(photos, tmp_path, capsys, eager):
    (tmp_path / "labels.txt").write_text("\n".join(f"digit {place}" for place in range(10)))
    options = ("--methods", "gradient,pattern.attribution", "--preprocess", "unit", "--labels", tmp_path / "labels.txt")
    measures = ("--degradation", "--patch", 7, "--steps", 4, "--signal", "--limit", 9, "--top", 2)
    assert run("report", MODEL, photos, "-o", tmp_path / "report.html", *options, *measures) == 0
    printed = capsys.readouterr().out
    assert "9 of 12 images are shown, drawn at random, as many of each of the 2 folders" in printed
    assert "9 images, 2 methods" in printed
    elements = Elements((tmp_path / "report.html").read_text(encoding="utf-8"))
    names = [article["data-name"] for article in elements.of("article")]
    assert len(names) == 9 and names == sorted(names) and "z/11.png" in names
    digits = load_digits()[0][[int(name[-6:-4]) for name in names]]
    expected = small_model().predict(digits, verbose=0)
    text = " ".join(elements.texts)
    for row in expected:
        assert f"digit {row.argmax()}: {100 * row.max():.1f} %" in text
    heat = innvest_lite.Gradient(small_model()).analyze(digits)[..., 0]
    stacks = [stack for stack in elements.of("div", "stack") if "data-values" in stack]
    assert len(stacks) == 18
    numbers = np.frombuffer(base64.b64decode(stacks[0]["data-values"]), "<i2").reshape(28, 28)
    np.testing.assert_allclose(numbers / 32767, heat[0] / np.abs(heat[0]).max(), atol=2e-5)
    assert len(elements.of("polyline")) == 3 and "random order" in text and len(elements.of("table")) == 1
    assert "hidden" in text


@pytest.mark.slow
def test_a_method_that_does_not_go_is_left_out(photos, tmp_path, capsys):
    x = keras.Input((28, 28, 1))
    # Along another axis than the last, its groups are not known.
    value = keras.layers.GroupNormalization(2, axis=1)(keras.layers.Conv2D(4, 3, activation="relu")(x))
    keras.Model(x, keras.layers.Dense(3)(keras.layers.Flatten()(value))).save(tmp_path / "model.keras")
    options = ("--methods", "gradient,pattern.net", "-o", tmp_path / "report.html")
    assert run("report", tmp_path / "model.keras", photos, *options) == 1
    said = capsys.readouterr()
    assert "left out: pattern.net" in said.err and "The model ends in logits" in said.out
    elements = Elements((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert len([stack for stack in elements.of("div", "stack") if "data-values" in stack]) == 12
    shares = [float(share) for share in re.findall(r"class \d: ([\d.]+) %", " ".join(elements.texts))]
    np.testing.assert_allclose(np.reshape(shares, (12, 3)).sum(1), 100, atol=0.2, err_msg="the softmax of logits")
    options = ("--methods", "pattern.net", "-o", tmp_path / "none.html")
    assert "This model supports none of the methods" in fails(capsys, "report", tmp_path / "model.keras", photos, *options)


REFUSED = [
    (("-o", "report.txt"), "let it end in .html"),
    (("-o", "nowhere/report.html"), "There is no folder"),
    (("-o", "."), "let it end in .html"),
    (("--logits",), "remove --logits"),
    (("--methods", "gradeint"), "Did you mean 'gradient'"),
    (("--preprocess", "vgg61"), "No preprocessor is called"),
    (("--labels", "missing.txt"), "missing.txt"),
    (("--labels", "labels.txt", "--methods", "gradient"), "name 2 classes, but the model has 10"),
]


@pytest.mark.slow
def test_colours_subfolders_unreadable_images_and_exponents(tmp_path, capsys, eager):
    keras.utils.set_random_seed(0)
    stack = [keras.layers.Conv2D(3, 1, activation="relu") for _ in range(8)]
    ends = [keras.layers.Flatten(), keras.layers.Dense(4, activation="softmax")]
    model = keras.Sequential([keras.Input((8, 8, 3)), *stack, *ends])
    model.set_weights([np.abs(weight) for weight in model.get_weights()])
    model.save(tmp_path / "model.keras")
    (tmp_path / "photos" / "z").mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(1, 256, (2, 8, 8, 3)).astype("uint8")
    Image.fromarray(pixels[0]).save(tmp_path / "photos" / "a.png")
    Image.fromarray(pixels[1]).save(tmp_path / "photos" / "z" / "b.png")
    (tmp_path / "photos" / "broken.png").write_bytes(b"no image")
    (tmp_path / "labels.txt").write_bytes("one\r\ntwo\nthree\nfour\n".encode("utf-8-sig"))
    kernels = {layer.name: 3e5 * np.abs(layer.kernel.numpy()) for layer in [*stack, ends[1]]}
    fitted = innvest_lite.fit_patterns(model, pixels.astype("float32"), verbose=0)
    patterns = innvest_lite.Patterns(kernels, "linear", fitted.fingerprints, fitted.reports)
    patterns.save(tmp_path / "patterns.h5")
    options = ("--methods", "pattern.net,gradient", "--patterns", tmp_path / "patterns.h5", "--top", 4)
    given = ("--labels", tmp_path / "labels.txt", "-o", tmp_path / "page.html")
    assert run("report", tmp_path / "model.keras", tmp_path / "photos", *options, *given) == 1
    elements = Elements((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert [article["data-name"] for article in elements.of("article")] == ["a.png", "z/b.png"]
    assert len([tag for tag, _, above in elements.found if tag == "li" and "header" not in above]) == 8
    said = " ".join(elements.texts)
    assert "left out" in said and "Patterns: patterns.h5" in said and "one: " in said and "\ufeff" not in said
    limits = [float(stack["data-limit"]) for stack in elements.of("div", "stack") if "data-limit" in stack]
    gradient = innvest_lite.Gradient(model).analyze(pixels[:1].astype("float32"))
    assert limits[1] == pytest.approx(np.abs(gradient.sum(-1)).max(), rel=1e-4)
    values, exponent = innvest_lite.PatternNet(model, patterns=patterns).analyze(
        pixels[:1].astype("float32"), return_exponent=True
    )
    assert exponent[0] > 0 and limits[0] == pytest.approx(
        np.abs(values.sum(-1, dtype="float64")).max() * 2.0 ** exponent[0], rel=1e-4
    )


@pytest.mark.parametrize("percentile", ["0", "100.5", "nan", "many"])
def test_a_percentile_is_one(photos, percentile, capsys):
    with pytest.raises(SystemExit):
        run("report", MODEL, photos, "--percentile", percentile)
    assert f"{percentile!r} is not a percentile" in capsys.readouterr().err


def test_outliers_are_clipped(photos, tmp_path, eager):
    options = ("--methods", "gradient", "--preprocess", "unit", "--limit", 1)
    shown = []
    for percentile in (80, 100):
        assert run("report", MODEL, photos, "-o", tmp_path / "report.html", *options, "--percentile", percentile) == 0
        elements = Elements((tmp_path / "report.html").read_text(encoding="utf-8"))
        shown.append(decoded(elements.of("img")[0]["src"]))
    place = int(elements.of("article")[0]["data-name"][-6:-4])
    heat = innvest_lite.Gradient(small_model()).analyze(load_digits()[0][place][None])[0]
    for picture, percentile in zip(shown, (80, 100), strict=True):
        expected = heatmap(heat, percentile=percentile)
        assert np.abs(picture.astype(int) - expected).max() <= 8 and len(np.unique(picture.reshape(-1, 3), axis=0)) <= 255
    assert (shown[0] != shown[1]).any()


@pytest.mark.parametrize("options, message", REFUSED)
def test_refused(photos, options, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "labels.txt").write_text("a\nb")
    assert message in fails(capsys, "report", MODEL, photos, *options)
    assert [path.name for path in tmp_path.iterdir()] == ["labels.txt"]
