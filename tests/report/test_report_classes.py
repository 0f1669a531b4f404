"""Classes on the report page: heads of every kind, what folders say, wrong predictions, and which images are drawn."""

import re

import keras
import numpy as np
import pytest
from command_line import run
from PIL import Image
from test_report import Elements

from innvest_lite.report import Sample, page

SIZE = (12, 12, 3)
METHODS = ("--methods", "gradient")


def photos(folder, counts, seed=0):
    """Coloured images in a folder for each class; returns name -> pixels."""
    generator, made = np.random.default_rng(seed), {}
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = generator.integers(0, 256, SIZE, dtype="uint8")
            Image.fromarray(pixels).save(folder / name / f"{number:02d}.png")
            made[f"{name}/{number:02d}.png"] = pixels
    return made


def saved(path, units, activation):
    keras.utils.set_random_seed(1)
    stack = [keras.layers.Rescaling(1 / 255), keras.layers.Flatten()]
    model = keras.Sequential([keras.Input(SIZE), *stack, keras.layers.Dense(units, activation=activation)])
    kernel, bias = model.layers[-1].get_weights()
    # Without what all of such images have in common, so that their classes differ.
    model.layers[-1].set_weights([10 * (kernel - kernel.mean(axis=0)), bias])
    model.save(path)
    return model


def articles(path):
    """Name -> (judgement, the texts of its list)."""
    text = path.read_text(encoding="utf-8")
    found = {}
    for one in re.findall(r"<article .*?</article>", text, flags=re.DOTALL):
        (name,) = re.findall(r'data-name="([^"]*)"', one)
        judged = re.findall(r'data-judged="(\w+)"', one)
        found[name] = (judged[0] if judged else None, re.findall(r"<li[^>]*>(.*?)</li>", one))
    Elements(text)
    return found


HEADS = {
    "one sigmoid": (1, "sigmoid"),
    "softmax": (3, "softmax"),
    "logits": (3, None),
    "sigmoids": (3, "sigmoid"),
}


@pytest.mark.parametrize("head", HEADS)
def test_classes_and_wrong_predictions_of_every_head(tmp_path, head, capsys):
    units, activation = HEADS[head]
    names = ["ant", "bee", "cow"][: max(units, 2)]
    given = photos(tmp_path / "photos", dict.fromkeys(names, 6), seed=2)
    model = saved(tmp_path / "model.keras", units, activation)
    assert run("report", tmp_path / "model.keras", tmp_path / "photos", "-o", tmp_path / "page.html", *METHODS) == 0
    outputs = np.float64(model.predict(np.stack([*given.values()]).astype("float32"), verbose=0))
    outputs = np.hstack([1 - outputs, outputs]) if units == 1 else outputs
    shares = np.exp(outputs) / np.exp(outputs).sum(1, keepdims=True) if head == "logits" else outputs
    found, wrong = articles(tmp_path / "page.html"), 0
    assert list(found) == list(given)
    for name, row in zip(given, shares, strict=True):
        true = names.index(name.split("/")[0])
        is_wrong = row[true] <= 0.5 if head == "sigmoids" else row.argmax() != true
        wrong += is_wrong
        judged, texts = found[name]
        best = int(row.argmax())
        assert texts[0] == f"{names[best]}: {100 * row[best]:.1f} %"
        assert judged == ("wrong" if is_wrong else "right")
        assert texts[-1] == (f"wrong: this is {names[true]}" if is_wrong else f"true class: {names[true]}")
    assert 0 < wrong < len(given), "a case of each"
    text = (tmp_path / "page.html").read_text()
    assert f"{wrong} of {len(given)} predictions are wrong" in text and 'id="show"' in text
    assert ("has a probability of its own" in text) == (head == "sigmoids")
    assert ("The model ends in logits" in capsys.readouterr().out) == (head == "logits")


def test_a_regression_says_its_number(tmp_path):
    given = photos(tmp_path / "photos", {"a": 2})
    model = saved(tmp_path / "model.keras", 1, None)
    assert run("report", tmp_path / "model.keras", tmp_path / "photos", "-o", tmp_path / "page.html", *METHODS) == 0
    numbers = model.predict(np.stack([*given.values()]).astype("float32"), verbose=0)[:, 0]
    for (judged, texts), number in zip(articles(tmp_path / "page.html").values(), numbers, strict=True):
        assert judged is None and texts == [f"the output, output {number:.2f}"]


def test_without_folders_nothing_is_judged(tmp_path):
    photos(tmp_path / "photos", {"a": 3})
    saved(tmp_path / "model.keras", 2, "softmax")
    assert run("report", tmp_path / "model.keras", tmp_path / "photos" / "a", "-o", tmp_path / "page.html", *METHODS) == 0
    assert {judged for judged, _ in articles(tmp_path / "page.html").values()} == {None}
    assert 'id="show"' not in (tmp_path / "page.html").read_text()


def test_as_many_of_each_folder_are_drawn(tmp_path, capsys):
    photos(tmp_path / "photos", {"many": 40, "some": 5, "few": 2})
    saved(tmp_path / "model.keras", 3, "softmax")
    drawn = {}
    for seed in (0, 0, 1):
        options = ("-o", tmp_path / "page.html", "--limit", 9, "--seed", seed, *METHODS)
        assert run("report", tmp_path / "model.keras", tmp_path / "photos", *options) == 0
        found = list(articles(tmp_path / "page.html"))
        assert found == sorted(found) and len(found) == 9
        counts = {name: sum(one.startswith(name) for one in found) for name in ("many", "some", "few")}
        assert counts["few"] == 2 and sorted([counts["many"], counts["some"]]) == [3, 4]
        assert drawn.setdefault(seed, found) == found
    assert drawn[0] != drawn[1]
    assert "9 of 47 images are shown, drawn at random, as many of each of the 3 folders" in capsys.readouterr().out


def test_photographs_keep_their_shape(tmp_path):
    """A large one is shown as a JPEG of its own proportions, smooth; a small one by its pixels."""
    (tmp_path / "photos").mkdir()
    wide = np.random.default_rng(0).integers(0, 256, (280, 1120, 3), dtype="uint8")
    Image.fromarray(wide).save(tmp_path / "photos" / "wide.png")
    Image.fromarray(np.zeros(SIZE, "uint8")).save(tmp_path / "photos" / "small.png")
    saved(tmp_path / "model.keras", 2, "softmax")
    assert run("report", tmp_path / "model.keras", tmp_path / "photos", "-o", tmp_path / "page.html", *METHODS) == 0
    text = (tmp_path / "page.html").read_text()
    shown = r"#sample-\d+ \{ --image: url\(data:image/(\w+);.*?aspect-ratio: (\d+) / (\d+)"
    assert re.findall(shown, text, re.DOTALL) == [("png", "12", "12"), ("jpeg", "560", "140")]
    assert re.findall(r'<article class="([\w ]+)" id="sample-(\d)"', text) == [("sample", "0"), ("sample smooth", "1")]


def test_doubts_stand_on_the_page(tmp_path, capsys):
    photos(tmp_path / "photos", {"a": 5, "b": 5})
    model = saved(tmp_path / "model.keras", 2, "softmax")
    model.layers[-1].set_weights([0 * weight for weight in model.layers[-1].get_weights()])
    model.save(tmp_path / "model.keras")
    assert run("report", tmp_path / "model.keras", tmp_path / "photos", "-o", tmp_path / "page.html", *METHODS) == 0
    assert "warning: The model prefers no class: all have the same" in capsys.readouterr().err
    assert "The model prefers no class: all have the same" in (tmp_path / "page.html").read_text()


def test_names_of_strangers_are_text_there_too():
    image = np.zeros((4, 4, 3), "uint8")
    one = Sample("a", image, (), {"m": image}, {"m": np.ones((4, 4))}, said="<b>", true="<i>", wrong=True)
    text = page("t", [one])
    assert "<b>" not in text and "<i>" not in text and "wrong: this is &lt;i&gt;" in text


def test_more_folders_than_images(tmp_path):
    """Other folders with another seed, not the first ones always."""
    photos(tmp_path / "photos", {f"c{number}": 2 for number in range(8)})
    saved(tmp_path / "model.keras", 3, "softmax")
    seen = set()
    for seed in range(4):
        options = ("-o", tmp_path / "page.html", "--limit", 3, "--seed", seed, *METHODS)
        assert run("report", tmp_path / "model.keras", tmp_path / "photos", *options) == 0
        found = [name.split("/")[0] for name in articles(tmp_path / "page.html")]
        assert len(set(found)) == 3
        seen |= set(found)
    assert len(seen) > 3


def test_one_logit_is_explained_for_the_predicted_side(tmp_path):
    """The same weights with a sigmoid and without, told --logits, have the same maps."""
    photos(tmp_path / "photos", {"a": 3, "b": 3})
    sums = {}
    for name, activation, more in (("sigmoid", "sigmoid", ()), ("logit", None, ("--logits",))):
        saved(tmp_path / "model.keras", 1, activation)
        assert (
            run("report", tmp_path / "model.keras", tmp_path / "photos", "-o", tmp_path / "page.html", *METHODS, *more) == 0
        )
        text = (tmp_path / "page.html").read_text()
        values = re.findall(r'data-limit="([^"]*)" data-values="([^"]*)"', text)
        sums[name] = values
        assert len(values) == 6
    assert sums["sigmoid"] == sums["logit"]


def test_saved_maps_of_another_class_are_named(tmp_path, capsys):
    photos(tmp_path / "photos", {"a": 3, "b": 3})
    saved(tmp_path / "model.keras", 2, "softmax")
    for target, said in ((1, True), (None, False)):
        options = [
            "--method",
            "gradient",
            "--plain",
            "--out",
            tmp_path / f"o{target}",
            "--save",
            tmp_path / f"{target}.npz",
        ]
        options += [] if target is None else ["--target", target]
        assert run("analyze", tmp_path / "model.keras", tmp_path / "photos", *options) == 0
        capsys.readouterr()
        given = ("-o", tmp_path / "page.html", "--attributions", tmp_path / f"{target}.npz")
        assert run("report", tmp_path / "model.keras", tmp_path / "photos", *given) == 0
        assert ("are of another class than the predicted one" in capsys.readouterr().err) == said
        assert ("are of another class than the predicted one" in (tmp_path / "page.html").read_text()) == said
