"""Panels: the very pixels of small images, sizes of large ones, the numbers at colour bars, texts of all kinds."""

import numpy as np
import pytest
from PIL import Image

from innvest_lite.errors import InvalidInputError
from innvest_lite.visualize import COLORMAPS, heatmap, overlay, panel, project, scales, text
from innvest_lite.visualize.pictures import limits_of

# A margin and a hairline.
EDGE = 13


def a_map(*shape, seed=3):
    return np.random.default_rng(seed).normal(size=shape)


def photo(height, width, seed=1):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def inside(sheet, picture):
    """How often a picture stands on a sheet, pixel by pixel."""
    height, width = picture.shape[:2]
    corners = np.argwhere((sheet[: len(sheet) - height + 1, : sheet.shape[1] - width + 1] == picture[0, 0]).all(-1))
    return sum(np.array_equal(sheet[y : y + height, x : x + width], picture) for y, x in corners)


def eightfold(picture):
    return np.kron(picture, np.ones((8, 8, 1), np.uint8))


@pytest.fixture
def written(monkeypatch):
    """The texts that are written, in order."""
    texts = []

    def render(words, *arguments):
        texts.append(words)
        return text.render(words, *arguments)

    monkeypatch.setattr(scales, "render", render)
    return texts


# --- pixels --------------------------------------------------------------------------------------------------------


def test_small_images_are_enlarged_pixel_by_pixel():
    image, relevance = photo(28, 28), a_map(28, 28, 3)
    sheet = panel(image, relevance, title="a digit")
    assert inside(sheet, eightfold(image)) == 1 and inside(sheet, eightfold(overlay(relevance, image))) == 1
    assert inside(panel(image, relevance, kind="heatmap"), eightfold(heatmap(relevance))) == 1
    assert inside(panel(image, relevance, kind="signal"), eightfold(project(relevance))) == 1


def test_a_map_of_another_size_is_smooth_on_an_enlarged_image():
    image, relevance = photo(28, 28), a_map(7, 7)
    assert inside(panel(image, relevance), overlay(relevance[..., None], eightfold(image))) == 1


def test_options_are_those_of_overlay():
    image, relevance = photo(28, 28), a_map(28, 28, 3)
    options = {"colormap": "seismic", "percentile": 90, "absolute": True, "opacity": 0.5}
    assert inside(panel(image, relevance, **options), eightfold(overlay(relevance, image, **options))) == 1
    assert inside(panel(image, relevance, limit=0.3), eightfold(overlay(relevance, image, limit=0.3))) == 1


def test_a_photograph_is_reduced_to_the_width_and_keeps_its_proportions(tmp_path):
    Image.fromarray(photo(800, 1200)).save(tmp_path / "photo.png")
    sheet = panel(tmp_path / "photo.png", a_map(14, 14), title="a photograph")
    assert 900 <= sheet.shape[1] <= 1000
    reduced = np.asarray(Image.open(tmp_path / "photo.png").resize((450, 300), Image.Resampling.BILINEAR))
    found = np.abs(sheet[EDGE + 40 : EDGE + 340, EDGE + 100].astype(int).mean() - reduced.mean())
    assert found < 12
    assert 2400 <= panel(tmp_path / "photo.png", a_map(14, 14), width=2500).shape[1] <= 2500
    own = panel(tmp_path / "photo.png", a_map(14, 14), width=4000)
    assert inside(own[:, : 1200 + 2 * EDGE], photo(800, 1200)) == 1, "larger than it is it does not become"


@pytest.mark.parametrize("shape", [(1, 1), (1, 900), (900, 1), (30, 2000), (2000, 30), (300, 400)])
def test_any_size(shape):
    sheet = panel(photo(*shape), a_map(6, 5), title="t", width=600)
    assert sheet.dtype == np.uint8 and sheet.shape[1] <= 600 and sheet.shape[0] <= 700


def test_floats_and_grey_images():
    image = a_map(28, 28)
    expected = np.repeat(np.rint(255 * (image - image.min()) / (image.max() - image.min()))[..., None], 3, axis=2)
    for given in (image, image[..., None], image[None, ..., None]):
        assert inside(panel(given, a_map(28, 28)), eightfold(expected.astype(np.uint8))) == 1
    assert (panel(np.full((28, 28), 7.0), a_map(28, 28))[EDGE + 5, EDGE + 5] == 128).all()


# --- several explanations ------------------------------------------------------------------------------------------


def test_several_explanations_beside_one_photograph():
    image, maps = photo(14, 14), {name: a_map(14, 14, seed=seed) for seed, name in enumerate("abcdefg")}
    sheet = panel(image, maps, width=2000)
    for relevance in maps.values():
        assert inside(sheet, np.kron(overlay(relevance[..., None], image), np.ones((16, 16, 1), np.uint8))) == 1
    assert inside(sheet, np.kron(image, np.ones((16, 16, 1), np.uint8))) == 1
    assert panel(photo(300, 400), maps).shape[1] <= 1000


def test_each_explanation_has_its_own_scale_and_unit(written):
    maps = {"one": np.full((28, 28), 3.0), "other": np.full((28, 28), 0.5)}
    panel(photo(28, 28), maps, unit={"one": "logits"})
    assert {"3", "-3", "0.5", "-0.5", "logits"} <= set(written) and written.count("logits") == written.count("3")


# --- colour bars ---------------------------------------------------------------------------------------------------


def test_the_number_of_the_full_colour_is_the_largest_sum_over_channels(written):
    relevance = a_map(28, 28, 3)
    largest = np.abs(relevance.sum(-1)).max()
    panel(photo(28, 28), relevance)
    assert {f"{largest:.3g}", f"{largest / 2:.3g}", "0", f"{-largest / 2:.3g}", f"{-largest:.3g}", "logits"} == set(written)


def test_numbers_of_clipped_colours_say_so(written):
    relevance = a_map(28, 28, 3)
    panel(photo(28, 28), relevance, percentile=90)
    bound = np.percentile(np.abs(relevance.sum(-1)), 90)
    assert {f"> {bound:.3g}", f"< {-bound:.3g}"} <= set(written)
    written.clear()
    panel(photo(28, 28), relevance, limit=2, absolute=True, unit="")
    assert set(written) == {"> 2", "1", "0"}


@pytest.mark.parametrize("absolute", [False, True])
@pytest.mark.parametrize("name", COLORMAPS)
def test_a_colour_bar_has_the_colours_of_its_numbers(name, absolute):
    bar = np.asarray(scales.scale(5.0, 200, colormap=name, unit="", absolute=absolute, clipped=False))
    top, bottom = np.flatnonzero((bar[:, 0] == 170).all(-1))[[0, -1]]
    for share in (1.0, 0.5, 0.25, 0.0):
        place = round(top + (1 - share) * (bottom - top))
        value = share if absolute else 2 * share - 1
        expected = heatmap(np.array([[value]]), name, limit=1, absolute=absolute)[0, 0].astype(int)
        inner = min(max(place, top + 1), bottom - 1)
        assert np.abs(bar[inner, 7] - expected).max() <= 8, (share, place)


def test_limits_are_those_of_each_image():
    batch = a_map(2, 4, 5, 3)
    assert limits_of(batch, None, 100) == pytest.approx(np.abs(batch.sum(-1)).max((1, 2)))
    assert limits_of(batch, 7, 100) == pytest.approx([7, 7])


@pytest.mark.parametrize(
    ("value", "words"), [(0.0, "0"), (-1.5, "-1.5"), (12345.0, "1.23e4"), (1e-5, "1e-5"), (1e25, "1e25"), (1e-25, "1e-25")]
)
def test_numbers_in_words(value, words):
    assert scales.number(value) == words


# --- texts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", ["ζέβρα 斑马 🦓 حمار", "a\ud800b\x00\x1b[2J\u202e", "x" * 900, "\n\n", "two\nlines", 7])
def test_titles_of_all_letters(words):
    sheet = panel(photo(28, 28), {str(words): a_map(28, 28)}, title=words, unit=str(words))
    assert inside(sheet, eightfold(photo(28, 28))) == 1


def test_long_titles_are_wrapped():
    short, long = (panel(photo(28, 28), a_map(28, 28), title=words) for words in ("zebra", "zebra " * 30))
    assert long.shape[1] == short.shape[1] and long.shape[0] > short.shape[0] + 20


def test_accents_are_left_out_where_the_font_has_none():
    shown = lambda words: np.asarray(text.render(words, 400, "left"))  # noqa: E731
    assert np.array_equal(shown("Übergröße – été ≥ 3"), shown("Ubergrosse - ete >= 3"))
    assert not np.array_equal(shown("é"), shown("a")) and not np.array_equal(shown("斑"), shown("e"))


# --- refused -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 100}, "width is 100; expected a whole number of pixels, at least 200"),
        ({"kind": "picture"}, "kind"),
        ({"relevance": {}}, "empty dict"),
        ({"relevance": np.ones((2, 5, 5, 1))}, r"relevance has the shape \(2, 5, 5, 1\); expected one explanation"),
        ({"relevance": {"a": np.ones((2, 5, 5, 1))}}, r"relevance\['a'\] has the shape"),
        ({"relevance": {"a": np.full((5, 5), np.nan)}}, r"relevance\['a'\] has 25 values that are NaN"),
        ({"image": np.ones((2, 5, 5, 1))}, r"image has the shape \(2, 5, 5, 1\); expected one image"),
        ({"image": np.ones((5, 5, 2))}, "image has 2 channels"),
        ({"image": "nothing.png"}, "There is no image 'nothing.png'"),
        ({"limit": -1}, "limit is -1"),
        ({"colormap": "heat"}, "No colour map is called 'heat'"),
        ({"opacity": 2}, "opacity is 2"),
        ({"relevance": np.ones((5, 5, 2)), "kind": "signal"}, "signal has 2 channels"),
    ],
)
def test_what_a_panel_refuses(options, message):
    with pytest.raises(InvalidInputError, match=message):
        panel(**{"image": photo(5, 5), "relevance": np.ones((5, 5)), **options})
