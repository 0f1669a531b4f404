"""Maps drawn at another size than their own: the photograph's, read from a file or handed over."""

import pathlib

import numpy as np
import pytest
from PIL import Image

from innvest_lite.errors import InvalidInputError
from innvest_lite.images import as_photo, load_image, load_photo, resized_photo
from innvest_lite.visualize import colormaps, heatmap, overlay, pictures


def enlarged(values, height, width):
    """Bilinear enlargement, place by place: pixels are areas, whose centres are at half places."""
    found = np.empty((height, width))
    for row in range(height):
        for column in range(width):
            y = np.clip((row + 0.5) * values.shape[0] / height - 0.5, 0, values.shape[0] - 1)
            x = np.clip((column + 0.5) * values.shape[1] / width - 0.5, 0, values.shape[1] - 1)
            top, left = int(y), int(x)
            below, right = min(top + 1, values.shape[0] - 1), min(left + 1, values.shape[1] - 1)
            upper = values[top, left] * (1 - (x - left)) + values[top, right] * (x - left)
            lower = values[below, left] * (1 - (x - left)) + values[below, right] * (x - left)
            found[row, column] = upper * (1 - (y - top)) + lower * (y - top)
    return found


def a_map(*shape):
    return np.random.default_rng(3).normal(size=shape)


def photo(height=24, width=35, seed=1):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def near(one, other, most=1):
    return np.abs(one.astype(int) - other.astype(int)).max() <= most


def test_a_heat_map_is_summed_then_enlarged_then_coloured():
    relevance = a_map(4, 5, 3)
    expected = heatmap(enlarged(relevance.sum(-1), 24, 35), limit=np.abs(relevance.sum(-1)).max())
    found = heatmap(relevance, size=(24, 35))
    assert found.shape == (24, 35, 3) and near(found, expected)
    assert np.array_equal(heatmap(relevance, size=(4, 5)), heatmap(relevance))


def test_what_is_over_the_limit_is_clipped_before_it_is_enlarged():
    """An outlier is as wide as its neighbours are."""
    row = np.array([[0.0, 1000.0, 0.0, 1.0]])
    assert near(heatmap(row, limit=1, size=(3, 40)), heatmap(enlarged(np.minimum(row, 1), 3, 40), limit=1))


def test_no_other_sign_appears_round_a_spot():
    spot = np.zeros((7, 7))
    spot[3, 3] = 1
    assert (heatmap(spot, "seismic", size=(200, 200))[..., 2] <= heatmap(spot, "seismic", size=(200, 200))[..., 0]).all()


@pytest.mark.parametrize("grey", [False, True])
def test_an_overlay_has_the_size_of_the_photograph(grey):
    relevance, image = a_map(4, 5, 3), photo()[..., :1] if grey else photo()
    strength = enlarged(relevance.sum(-1), 24, 35) / np.abs(relevance.sum(-1)).max()
    weight = (0.9 * np.minimum(1, 2 * np.abs(strength)))[..., None]
    lightness = (image[..., 0] if grey else image @ [0.299, 0.587, 0.114])[..., None]
    expected = (1 - weight) * lightness + weight * colormaps.colorize(strength, "blue-white-red")
    found = overlay(relevance, image)
    assert found.shape == (24, 35, 3) and near(found, np.rint(expected))


def test_the_same_size_is_not_interpolated():
    """As it was before sizes could differ: written again, without `resized`."""
    relevance, image = a_map(6, 7, 3), a_map(6, 7, 3)
    strength = relevance.sum(-1) / np.abs(relevance.sum(-1)).max()
    weight = (0.9 * np.minimum(1, 2 * np.abs(strength)))[..., None]
    grey = image @ [0.299, 0.587, 0.114]
    grey = ((grey - grey.min()) / (grey.max() - grey.min()))[..., None]
    expected = (1 - weight) * grey + weight * (colormaps.colorize(strength, "blue-white-red") / 255)
    assert near(overlay(relevance, image), np.rint(255 * expected), 0)


def test_photographs_are_coloured_in_parts(monkeypatch):
    relevance, images = a_map(2, 4, 5, 3), np.stack([photo(), photo(seed=2)])
    for of in (images, images.astype(float)):
        whole = overlay(relevance, of)
        with monkeypatch.context() as patched:
            patched.setattr(pictures, "_AT_A_TIME", 70)
            assert np.array_equal(overlay(relevance, of), whole)
        assert np.array_equal(overlay(relevance[1], of[1]), whole[1])


def test_a_smaller_picture_is_the_mean_of_what_it_stands_for():
    assert heatmap(np.tile([[1.0, -1.0]], (8, 8)), size=(1, 1)).tolist() == [[[255, 255, 255]]]
    halves = np.repeat([[1.0, -1.0]], 8, axis=1)
    left, right = heatmap(halves, "seismic", size=(1, 2))[0].astype(int)
    assert left[0] > left[2] + 80 and right[2] > right[0] + 80


@pytest.mark.parametrize("size", [(0, 3), (3,), "large", 3, (2.5, 3), (True, 3)])
def test_sizes_that_are_none(size):
    with pytest.raises(InvalidInputError, match="size"):
        heatmap(np.ones((2, 2)), size=size)


# --- from files ----------------------------------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path):
    Image.fromarray(photo()).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_overlays_of_files_and_of_pillows_images(path):
    relevance = a_map(4, 5, 3)
    expected = overlay(relevance, photo())
    for image in (path, str(path), Image.open(path), Image.fromarray(photo())):
        assert np.array_equal(overlay(relevance, image), expected)
    assert np.array_equal(overlay(relevance[None], path), expected[None])
    assert np.array_equal(overlay(relevance.sum(-1), path), expected)
    with pytest.raises(InvalidInputError, match=r"one photograph, \(24, 35, 3\),.*one by one"):
        overlay(np.stack([relevance, relevance]), path)
    with pytest.raises(InvalidInputError, match=r"There is no image .*nothing\.png"):
        overlay(relevance, path.with_name("nothing.png"))


def test_photographs_are_upright_and_on_white(tmp_path):
    stored = Image.fromarray(photo(3, 4))
    exif = Image.Exif()
    exif[0x0112] = 6
    stored.save(tmp_path / "turned.png", exif=exif)
    for image in (load_photo(tmp_path / "turned.png"), as_photo(Image.open(tmp_path / "turned.png"))):
        assert np.array_equal(image, np.rot90(photo(3, 4), -1))
    clear = Image.new("RGBA", (2, 1), (255, 0, 0, 0))
    assert as_photo(clear).tolist() == [[[255, 255, 255]] * 2]


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "CMYK", "I;16"])
def test_every_kind_of_image_becomes_colour(mode, tmp_path):
    grey = Image.fromarray(np.tile(np.array([[0, 255]], np.uint8), (2, 2)))
    image = Image.fromarray(np.asarray(grey, np.uint16) * 257) if mode == "I;16" else grey.convert(mode)
    assert image.mode == mode
    expected = np.repeat(np.asarray(grey)[..., None], 3, axis=2)
    assert np.array_equal(as_photo(image), expected)
    image.save(tmp_path / "image.tiff")
    assert np.array_equal(load_photo(tmp_path / "image.tiff"), expected)


def test_a_photograph_resized_is_what_load_image_gives(path):
    for channels in (1, 3):
        expected = load_image(path, 13, 9, channels)
        assert np.array_equal(resized_photo(load_photo(path), 13, 9, channels), expected)


@pytest.mark.parametrize("image", [np.ones((2, 2)), np.ones((2, 2, 2), np.uint8), np.ones((0, 2), np.uint8), None, 7])
def test_what_is_no_photograph(image):
    with pytest.raises(InvalidInputError, match="image is .*; expected the path of an image"):
        as_photo(image)


def test_photographs_keep_to_the_guards(tmp_path, monkeypatch, path):
    with monkeypatch.context() as patched:
        patched.setattr(Image, "MAX_IMAGE_PIXELS", 24 * 35 - 1)
        with pytest.raises(InvalidInputError, match="Cannot use the image .*840 pixels.*limit of 839"):
            load_photo(path)
        with pytest.raises(InvalidInputError, match="Cannot use image: it has 35 x 24 pixels, more than 839"):
            as_photo(Image.fromarray(photo()))
    (tmp_path / "short.png").write_bytes(path.read_bytes()[:80])
    for image in (tmp_path / "short.png", pathlib.Path(__file__)):
        with pytest.raises(InvalidInputError, match="Cannot read the image"):
            load_photo(image)
    with pytest.raises(InvalidInputError, match="Cannot read image"):
        as_photo(Image.open(tmp_path / "short.png"))
