"""Grids, their labels, and PNG files: exact layout, labels that are whole and in their place, writes that fail."""

import numpy as np
import pytest
from pictures import solid
from PIL import Image, ImageDraw, ImageFont

from innvest_lite.errors import InvalidInputError
from innvest_lite.visualize import grid, save
from innvest_lite.visualize.text import SIZES, _fit, _font, _width, render


def columns_of(picture, color):
    """The columns in which a colour occurs."""
    return np.flatnonzero((picture == color).all(-1).any(0))


def rows_of(picture, color):
    return np.flatnonzero((picture == color).all(-1).any(1))


# --- grid ----------------------------------------------------------------------------------------------------------


def test_grid_without_labels_has_an_exact_layout():
    red, green, blue = solid((255, 0, 0)), solid((0, 255, 0)), solid((0, 0, 255))
    picture = grid([[red, green], [blue, None]], cell=56, margin=10)
    assert (picture.shape, picture.dtype) == ((2 * 56 + 3 * 10, 2 * 56 + 3 * 10, 3), np.uint8)
    for color, top, left in (((255, 0, 0), 10, 10), ((0, 255, 0), 10, 76), ((0, 0, 255), 76, 10)):
        assert (picture[top : top + 56, left : left + 56] == color).all()
        assert (picture[top - 1, left : left + 56] == 200).all(), "a grey frame"
    assert (picture[74:, 78:] == 255).all(), "an empty cell has no frame"


def test_grid_keeps_pixels_when_it_enlarges():
    small = np.random.default_rng(0).integers(0, 256, (4, 4, 3), np.uint8)
    assert np.array_equal(grid([[small]], cell=16, margin=0), small.repeat(4, 0).repeat(4, 1))


@pytest.mark.parametrize(("height", "width", "place"), [(10, 40, (34, 53, 4, 83)), (40, 10, (4, 83, 34, 53))])
def test_grid_keeps_proportions_and_centres(height, width, place):
    picture = grid([[solid((255, 0, 0), height, width)]], cell=80, margin=4)
    assert picture.shape == (88, 88, 3)
    rows, columns = rows_of(picture, (255, 0, 0)), columns_of(picture, (255, 0, 0))
    assert (rows[0], rows[-1], columns[0], columns[-1]) == place


def test_grid_without_margin_has_no_frames_over_neighbours():
    picture = grid([[solid((255, 0, 0)), solid((0, 0, 255))]], cell=28, margin=0)
    assert np.array_equal(picture, np.concatenate([solid((255, 0, 0)), solid((0, 0, 255))], axis=1))


def test_grid_labels_stand_in_the_middle_and_one_margin_away():
    picture = grid([[solid((255, 0, 0))]], ["OOO"], ["OOO"], cell=112, margin=9)
    dark = (picture == picture[..., :1]).all(-1) & (picture[..., 0] < 150)
    top, left = rows_of(picture, (255, 0, 0))[0], columns_of(picture, (255, 0, 0))[0]
    row_label, column_label = np.argwhere(dark[top:, :left]), np.argwhere(dark[:top, left:])
    assert row_label[:, 0].mean() == pytest.approx(56, abs=2)
    assert column_label[:, 1].mean() == pytest.approx(56, abs=2)
    assert 9 <= left - 1 - row_label[:, 1].max() <= 9 + 3
    assert 9 <= top - 1 - column_label[:, 0].max() <= 9 + 6  # the room for descenders


def ink(picture):
    """How dark all of a grey picture is, in whole black pixels."""
    return (255 - np.asarray(picture, float)).sum() / 255


@pytest.mark.parametrize("text", ["input", "jgpqy()[]", "ÄÖÜ_", "two\nlines", "PatternAttribution", "'", "_", "W"])
@pytest.mark.parametrize("align", ["left", "center", "right"])
def test_labels_are_not_cut_off(text, align):
    block = np.asarray(render(text, width=400, align=align))
    assert (block[[0, -1]] == 255).all() and (block[:, [0, -1]] == 255).all(), "ink touches the edge"
    assert ink(block) > 1
    assert block.shape[1] <= 400


def test_labels_hold_all_their_ink():
    block = render("Deep Taylor (jgpqy)", width=400, align="left")
    wide = Image.new("L", (600, 200), 255)
    ImageDraw.Draw(wide).text((50, 50), "Deep Taylor (jgpqy)", fill=30, font=ImageFont.load_default(SIZES[0]))
    assert ink(block) == pytest.approx(ink(wide), rel=1e-6)


LONG_LABELS = [
    "guided backpropagation of the gradient in many words",
    "averyverylongwordwithoutanyplacetobreakitatallreally",
    "block3_conv1/separable_convolution_pointwise",
]


@pytest.mark.parametrize("text", LONG_LABELS)
def test_long_labels_fit_a_narrow_width(text):
    block = render(text, width=60, align="center")
    assert block.width <= 60
    one_line = render("Ag", width=400, align="left").height
    assert block.height > one_line, "wrapped"
    _, lines = _fit(text, 60)
    assert "".join(lines).replace(" ", "") == text.replace(" ", ""), "no character is lost"


def test_layer_names_break_after_their_separators():
    width = _width("block3_conv1/", _font(SIZES[0]))
    assert _fit("block3_conv1/pointwise", width)[1] == ["block3_conv1/", "pointwise"]
    assert _fit("block3_conv1/pointwise", width - 1)[1] == ["block3_", "conv1/", "pointwise"]


def test_a_word_a_little_too_long_shrinks_instead_of_breaking():
    width = _width("PatternAttribution", _font(SIZES[2]))
    font, lines = _fit("PatternAttribution", width)
    assert (font.size, lines) == (SIZES[2], ["PatternAttribution"])


def test_labels_of_one_line_stand_on_one_line():
    heights = {render(text, 400, "center").height for text in ("input", "gradient", "jgpqy", "ooo")}
    assert len(heights) == 1


def test_grid_labels_stand_beside_their_pictures_and_nowhere_else():
    red = (255, 0, 0)
    rows = [[solid(red)] * 2] * 2
    plain = grid(rows, cell=56, margin=6)
    labelled = grid(rows, ["first row", "second"], ["one", "two"], cell=56, margin=6)
    down, right = labelled.shape[0] - plain.shape[0], labelled.shape[1] - plain.shape[1]
    assert np.array_equal(labelled[down + 6 :, right + 6 :], plain[6:, 6:]), "the pictures are as they were"
    dark = (labelled == labelled[..., :1]).all(-1) & (labelled[..., 0] < 150)
    top, left = down + 6, right + 6
    cells = {
        "first row": dark[top : top + 56, :left],
        "second": dark[top + 62 :, :left],
        "one": dark[:top, left : left + 56],
        "two": dark[:top, left + 62 :],
    }
    assert all(block.any() for block in cells.values())
    assert sum(block.sum() for block in cells.values()) == dark.sum()
    assert not dark[:6].any() and not dark[:, :6].any(), "the outer margin is free"
    assert labelled.shape[1] == plain.shape[1] + render("first row", 999, "right").width + 6
    assert labelled.shape[0] == plain.shape[0] + render("one", 999, "center").height + 6


def test_grid_rows_grow_with_tall_labels():
    picture = grid([[solid((255, 0, 0))]], ["a\nb\nc\nd\ne"], cell=28, margin=4)
    label = render("a\nb\nc\nd\ne", 84, "right")
    assert label.height > 28
    assert picture.shape[0] == label.height + 8
    middle = rows_of(picture, (255, 0, 0)).mean()
    assert middle == pytest.approx((picture.shape[0] - 1) / 2, abs=1)


def test_grid_row_labels_wrap_beyond_three_cells():
    picture = grid([[solid((255, 0, 0))]], [" ".join(["many words"] * 10)], cell=40, margin=0)
    assert picture.shape[1] <= 4 * 40


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rows": []}, "at least one row"),
        ({"rows": [[]]}, "at least one row with one picture"),
        ({"rows": [[solid(0)], [solid(0), solid(0)]]}, r"same length, but have \[1, 2\]; fill short ones with None"),
        (
            {"rows": [[[solid(0), np.zeros((9, 9, 3), np.uint8)]]]},
            r"The parts of rows\[0\]\[0\] have different shapes .*one by one",
        ),
        ({"rows": [[np.zeros((2, 2))]]}, r"rows\[0\]\[0\] is float64 with the shape \(2, 2\)"),
        ({"rows": [[solid(0), np.zeros((1, 2, 2, 3), np.uint8)]]}, r"rows\[0\]\[1\] .*list\(pictures\)"),
        ({"row_labels": ["a", "b"]}, "row_labels has 2 labels for 1"),
        ({"row_labels": "ab", "rows": [[solid(0)]] * 2}, "row_labels has 1 labels for 2"),
        ({"column_labels": []}, "column_labels has 0 labels for 1"),
        ({"cell": 15}, "cell is 15; expected a whole number of pixels, at least 16"),
        ({"cell": 32.0}, r"cell is 32\.0"),
        ({"margin": -1}, "margin is -1"),
    ],
)
def test_grid_refuses(arguments, message):
    with pytest.raises(InvalidInputError, match=message):
        grid(**{"rows": [[solid(0)]], **arguments})


# --- save ----------------------------------------------------------------------------------------------------------


def test_save_writes_the_very_pixels(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (7, 5, 3), np.uint8)
    path = save(picture, str(tmp_path / "new" / "a.PNG"))
    assert path == tmp_path / "new" / "a.PNG"
    with Image.open(path) as image:
        assert (image.format, image.mode) == ("PNG", "RGB")
        assert np.array_equal(np.asarray(image), picture)
    assert [file.name for file in path.parent.iterdir()] == ["a.PNG"]


def test_save_replaces_and_a_failure_leaves_the_old_file(tmp_path, monkeypatch):
    path = save(solid(1), tmp_path / "a.png")
    save(solid(2), path)
    before = path.read_bytes()

    def fail(self, partial, **options):
        partial.write_bytes(b"half a picture")
        raise OSError("no space left")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(OSError, match="no space left"):
        save(solid(3), path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


def test_save_makes_no_other_folder(tmp_path):
    with pytest.raises(InvalidInputError, match="missing.*does not exist"):
        save(solid(0), tmp_path / "missing" / "parent" / "a.png")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInputError, match="is a file, not a folder"):
        save(solid(0), tmp_path / "file" / "a.png")


@pytest.mark.parametrize("name", ["a.tiff", "a", "png", "jpg"])
def test_save_writes_no_other_format(tmp_path, name):
    with pytest.raises(InvalidInputError, match=r"let it end in '\.png', '\.jpg' or '\.webp'"):
        save(solid(0), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "kind"), [("a.jpg", "JPEG"), ("a.JPEG", "JPEG"), ("a.webp", "WEBP")])
def test_save_writes_by_the_ending(tmp_path, name, kind):
    """A smooth picture, and thin red lines on white, which subsampled colours would smear."""
    picture = np.full((64, 64, 3), 255, np.uint8)
    picture[:32] = np.linspace(0, 255, 64).astype(np.uint8)[None, :, None]
    picture[40::4, :, 1:] = 60
    path = save(picture, tmp_path / name)
    with Image.open(path) as image:
        assert (image.format, image.mode, image.size) == (kind, "RGB", (64, 64))
        off = np.abs(np.asarray(image).astype(int) - picture)
    assert off[:32].mean() < 2 and (kind == "WEBP" or off.mean() < 6)


@pytest.mark.parametrize(("name", "side"), [("a.webp", 16_383), ("a.jpg", 65_500)])
def test_save_says_what_a_format_cannot_hold(tmp_path, name, side):
    save(np.zeros((1, side, 3), np.uint8), tmp_path / name)
    with pytest.raises(InvalidInputError, match=f"holds {side} pixels a side.* end in '.png'"):
        save(np.zeros((side + 1, 1, 3), np.uint8), tmp_path / f"longer-{name}")
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_save_wants_one_picture(tmp_path):
    with pytest.raises(InvalidInputError, match=r"picture is uint8 with the shape \(2, 28, 28, 3\)"):
        save(np.zeros((2, 28, 28, 3), np.uint8), tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []
