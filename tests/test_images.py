"""Images from files: what is found, how pixels are read from every kind of file, and what damaged files give."""

import concurrent.futures
import contextlib
import os
import pathlib
import struct
import subprocess
import sys
import time
import warnings
import zlib

import keras
import numpy as np
import pytest
from PIL import Image, ImageOps

from innvest_lite import images
from innvest_lite.errors import InvalidInputError
from innvest_lite.images import PREPROCESSORS, find_images, load_image, preprocess

COLOURS = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]], [[10, 20, 30], [255, 255, 255], [0, 0, 0]]], np.uint8)


def write(folder, name, pixels, **options):
    """Write an array as an image file of exactly its pixels."""
    path = folder / name
    Image.fromarray(np.asarray(pixels)).save(path, **options)
    return path


# --- find_images ---------------------------------------------------------------------------------------------------


def test_find_images_is_recursive_sorted_and_by_extension(tmp_path):
    names = ["b.PNG", "a.jpeg", "c/d.TiF", "c/a.webp", "notes.txt", ".hidden.png", ".cache/x.png", "c/._a.jpg"]
    names += ["z.jpg", "y.bmp", "x.gif", "w.tiff"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    found = [path.relative_to(tmp_path).as_posix() for path in find_images(str(tmp_path))]
    assert found == ["a.jpeg", "b.PNG", "c/a.webp", "c/d.TiF", "w.tiff", "x.gif", "y.bmp", "z.jpg"]


def test_find_images_in_a_hidden_folder_that_was_named(tmp_path):
    (tmp_path / ".hidden").mkdir()
    path = write(tmp_path / ".hidden", "a.png", COLOURS)
    assert find_images(tmp_path / ".hidden") == [path]


def test_find_images_takes_a_file_as_it_is(tmp_path):
    path = tmp_path / "no_extension"
    path.write_bytes(b"")
    assert find_images(path) == [pathlib.Path(path)]


def test_find_images_refuses(tmp_path):
    with pytest.raises(InvalidInputError, match="No folder or file is called .*absent"):
        find_images(tmp_path / "absent")
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(InvalidInputError, match=r"hold no image; expected files that end in one of \.png, \.jpg"):
        find_images(tmp_path)


# --- load_image: pixels --------------------------------------------------------------------------------------------


def test_colour_is_read_as_it_is(tmp_path):
    image = load_image(write(tmp_path, "a.png", COLOURS), 2, 3, 3)
    assert image.dtype == np.float32
    assert np.array_equal(image, COLOURS)


def test_colour_becomes_grey(tmp_path):
    image = load_image(str(write(tmp_path, "a.png", COLOURS)), 2, 3, 1)
    assert image.shape == (2, 3, 1)
    expected = COLOURS @ np.array([0.299, 0.587, 0.114])
    assert image[..., 0] == pytest.approx(expected, abs=0.6)


def test_grey_becomes_three_equal_channels(tmp_path):
    grey = np.array([[0, 100, 255]], np.uint8)
    path = write(tmp_path, "a.png", grey)
    assert load_image(path, 1, 3, 3).tolist() == [[[0, 0, 0], [100, 100, 100], [255, 255, 255]]]
    assert load_image(path, 1, 3, 1).tolist() == [[[0], [100], [255]]]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ["a.png", "a.tiff"])
def test_sixteen_bits_are_scaled_without_rounding(tmp_path, name, channels):
    image = load_image(write(tmp_path, name, np.array([[0, 257, 1000, 65535]], np.uint16)), 1, 4, channels)
    assert image.shape == (1, 4, channels)
    for channel in range(channels):
        assert image[0, :, channel] == pytest.approx([0, 1, 1000 / 257, 255], rel=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_pixels_of_unknown_range_are_refused(tmp_path, dtype):
    path = write(tmp_path, "a.tiff", np.ones((2, 2), dtype))
    with pytest.raises(InvalidInputError, match=r"a\.tiff.*whose range is unknown; save it with 8 or 16 bits"):
        load_image(path, 2, 2, 3)


def test_transparency_is_laid_on_white(tmp_path):
    pixels = np.array([[[200, 0, 0, 255], [200, 0, 0, 0], [0, 0, 0, 51]]], np.uint8)
    path = write(tmp_path, "a.png", pixels)
    assert load_image(path, 1, 3, 3).tolist() == [[[200, 0, 0], [255, 255, 255], [204, 204, 204]]]
    assert load_image(path, 1, 3, 1).ravel().tolist() == [60, 255, 204]


def test_grey_transparency_is_laid_on_white(tmp_path):
    pixels = np.array([[[7, 255], [7, 0]]], np.uint8)
    path = tmp_path / "a.png"
    Image.frombytes("LA", (2, 1), pixels.tobytes()).save(path)
    assert load_image(path, 1, 2, 1).ravel().tolist() == [7, 255]
    path = write(tmp_path, "b.png", np.array([[7, 8]], np.uint8), transparency=7)
    assert load_image(path, 1, 2, 1).ravel().tolist() == [255, 8]


@pytest.mark.parametrize("name", ["a.png", "a.gif"])
def test_palette(tmp_path, name):
    image = Image.frombytes("P", (3, 1), bytes([0, 1, 2]))
    image.putpalette([255, 0, 0, 0, 255, 0, 9, 9, 9])
    image.save(tmp_path / "plain.png")
    assert load_image(tmp_path / "plain.png", 1, 3, 3).tolist() == [[[255, 0, 0], [0, 255, 0], [9, 9, 9]]]
    image.save(tmp_path / name, transparency=2)
    assert load_image(tmp_path / name, 1, 3, 3).tolist() == [[[255, 0, 0], [0, 255, 0], [255, 255, 255]]]


def test_one_bit_and_cmyk(tmp_path):
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "bit.png")
    assert load_image(tmp_path / "bit.png", 1, 2, 1).ravel().tolist() == [255, 0]
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "cmyk.tiff")
    assert load_image(tmp_path / "cmyk.tiff", 1, 1, 3).ravel().tolist() == [255, 0, 0]


def test_first_frame_of_an_animation(tmp_path):
    frames = [Image.new("RGB", (4, 4), color) for color in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert load_image(tmp_path / "a.gif", 1, 1, 3).ravel().tolist() == [255, 0, 0]


@pytest.mark.parametrize(("orientation", "turned"), [(1, "abcd"), (3, "dcba"), (6, "cadb"), (8, "bdac")])
def test_exif_orientation_is_respected(tmp_path, orientation, turned):
    """A 2x2 image is stored as a b / c d; its EXIF says how it was held."""
    pixels = {"a": [255, 0, 0], "b": [0, 255, 0], "c": [0, 0, 255], "d": [9, 9, 9]}
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.array([[pixels["a"], pixels["b"]], [pixels["c"], pixels["d"]]], np.uint8)
    path = write(tmp_path, "a.png", stored, exif=exif)
    expected = [pixels[letter] for letter in turned]
    assert load_image(path, 2, 2, 3).reshape(4, 3).tolist() == expected


def test_exif_orientation_of_a_sixteen_bit_image(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = write(tmp_path, "a.png", np.array([[0, 65535]], np.uint16), exif=exif)
    assert load_image(path, 2, 1, 1).ravel().tolist() == [0, 255]


def test_resize_is_bilinear_to_exactly_the_size(tmp_path):
    path = write(tmp_path, "a.png", np.array([[0, 200]], np.uint8))
    assert load_image(path, 3, 4, 1).shape == (3, 4, 1)
    assert load_image(path, 1, 4, 1).ravel().tolist() == [0, 50, 150, 200]


# --- load_image: bad files -----------------------------------------------------------------------------------------


def test_missing_and_foreign_files(tmp_path):
    with pytest.raises(InvalidInputError, match=r"There is no image .*absent\.png"):
        load_image(tmp_path / "absent.png", 2, 2, 3)
    (tmp_path / "text.png").write_text("not an image")
    with pytest.raises(InvalidInputError, match=r"text\.png.*cannot identify.*PNG, JPEG"):
        load_image(tmp_path / "text.png", 2, 2, 3)
    with pytest.raises(InvalidInputError, match="Cannot read the image"):
        load_image(tmp_path, 2, 2, 3)


def test_only_the_known_formats_are_decoded(tmp_path):
    Image.fromarray(COLOURS).save(tmp_path / "a.ppm")
    (tmp_path / "a.ppm").rename(tmp_path / "a.png")
    with pytest.raises(InvalidInputError, match=r"a\.png.*cannot identify"):
        load_image(tmp_path / "a.png", 2, 2, 3)


@pytest.mark.parametrize("extension", ["jpg", "png", "bmp", "gif", "webp", "tiff"])
def test_truncated_files(tmp_path, extension):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    path = write(tmp_path, f"whole.{extension}", noise)
    content = path.read_bytes()
    for share in (0.5, 0.1, 0.01):
        path.write_bytes(content[: int(len(content) * share)])
        with pytest.raises(InvalidInputError, match=rf"Cannot read the image .*whole\.{extension}.*save it again"):
            load_image(path, 8, 8, 3)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("extension", ["jpg", "png", "bmp", "gif", "webp", "tiff"])
def test_damaged_files_give_an_image_or_the_error(tmp_path, extension):
    generator = np.random.default_rng(1)
    content = write(tmp_path, f"a.{extension}", generator.integers(0, 256, (16, 16, 3), np.uint8)).read_bytes()
    refused = 0
    for _ in range(150):
        damaged = bytearray(content)
        for place in generator.integers(0, min(len(content), 400), 3):
            damaged[place] = generator.integers(256)
        (tmp_path / "damaged").write_bytes(damaged)
        try:
            image = load_image(tmp_path / "damaged", 4, 4, 3)
        except InvalidInputError:
            refused += 1
        else:
            assert image.shape == (4, 4, 3) and np.isfinite(image).all()
    assert refused > 0


def png_of_size(width, height):
    """The file of a PNG that claims a size and holds no pixels."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("action", ["ignore", "error"])
@pytest.mark.parametrize("side", [10_000, 100_000])
def test_decompression_bombs_are_refused_whatever_the_warning_filter(tmp_path, side, action):
    """10,000 x 10,000 pixels are in the range where Pillow only warns, 100,000 x 100,000 where it raises."""
    (tmp_path / "bomb.png").write_bytes(png_of_size(side, side))
    with warnings.catch_warnings():
        warnings.simplefilter(action)
        before = list(warnings.filters), Image.MAX_IMAGE_PIXELS
        with pytest.raises(InvalidInputError, match=r"Cannot use the image .*bomb\.png.*make the image smaller"):
            load_image(tmp_path / "bomb.png", 2, 2, 3)
        assert (list(warnings.filters), Image.MAX_IMAGE_PIXELS) == before


def test_the_limit_on_pixels_is_pillows_own(tmp_path, monkeypatch):
    path = write(tmp_path, "a.png", np.zeros((10, 10), np.uint8))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert load_image(path, 2, 2, 1).shape == (2, 2, 1)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert load_image(path, 2, 2, 1).shape == (2, 2, 1)


@pytest.mark.parametrize("size", [(0, 2, 3), (2, -1, 3), (2.0, 2, 3), (None, None, 3), (2, 2, 4), (2, 2, None)])
def test_sizes(tmp_path, size):
    path = write(tmp_path, "a.png", COLOURS)
    with pytest.raises(InvalidInputError, match="The size .*expected two whole numbers above 0 and 1 or 3 channels"):
        load_image(path, *size)


# --- preprocess ----------------------------------------------------------------------------------------------------


def batch(channels=3):
    return np.random.default_rng(0).uniform(0, 255, (2, 4, 5, channels)).astype(np.float32)


def test_none_and_unit():
    assert np.array_equal(preprocess(batch(), "none"), batch())
    assert preprocess(np.array([[[0, 51, 255]]], np.uint8), "unit").tolist() == [[[0, np.float32(0.2), 1]]]
    assert preprocess(batch(channels=1), "unit").shape == (2, 4, 5, 1)


def test_every_application_is_listed():
    """A canary: a module of keras.applications that can prepare inputs, and that the list does not name."""
    applications = vars(keras.applications).items()
    modules = {name for name, module in applications if hasattr(module, "preprocess_input")} - {"imagenet_utils"}
    assert modules == set(PREPROCESSORS) - {"none", "unit"}


@pytest.mark.parametrize("name", PREPROCESSORS)
def test_every_preprocessor_gives_a_new_array_and_leaves_its_input(name):
    images, frozen = batch(), batch()
    frozen.flags.writeable = False
    for given in (images, frozen):
        result = preprocess(given, name)
        assert (result.shape, result.dtype) == (given.shape, np.float32)
        assert not np.shares_memory(result, given)
        assert np.array_equal(given, batch())


@pytest.mark.parametrize("name", [name for name in PREPROCESSORS if name not in ("none", "unit")])
def test_every_application_is_called_as_keras_calls_it(name):
    expected = getattr(keras.applications, name).preprocess_input(batch())
    assert np.array_equal(preprocess(batch(), name), expected)


def test_exact_values_of_two_families():
    images = np.array([[[10, 20, 30]]], np.uint8)
    assert preprocess(images, "vgg16").ravel() == pytest.approx([30 - 103.939, 20 - 116.779, 10 - 123.68], rel=1e-6)
    assert preprocess(images, "mobilenet_v2").ravel() == pytest.approx(np.array([10, 20, 30]) / 127.5 - 1, rel=1e-5)


@pytest.mark.parametrize(
    ("model", "module"),
    [("DenseNet121", "densenet"), ("densenet121", "densenet"), ("resnet101", "resnet"), ("ResNet101V2", "resnet_v2")]
    + [("MobileNetV2", "mobilenet_v2"), ("vgg-16", "vgg16"), ("EfficientNetV2B0", "efficientnet_v2")],
)
def test_names_of_models_stand_for_their_module(model, module):
    assert np.array_equal(preprocess(batch(), model), preprocess(batch(), module))


def test_channels_last_whatever_keras_is_set_to():
    expected = preprocess(batch(), "vgg16")
    keras.config.set_image_data_format("channels_first")
    try:
        assert np.array_equal(preprocess(batch(), "vgg16"), expected)
    finally:
        keras.config.set_image_data_format("channels_last")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vgg61", r"called 'vgg61'\. Did you mean 'vgg1[69]'\? Choose one of none, unit, convnext, .*xception"),
        ("mobilnet_v2", "Did you mean 'mobilenet_v2'"),
        ("densnet121", "Did you mean 'densenet121'"),
        ("units", "Did you mean 'unit'"),
        ("imagenet_utils", "No preprocessor"),
        (None, "No preprocessor is called None"),
    ],
)
def test_unknown_names(name, message):
    with pytest.raises(InvalidInputError, match=message):
        preprocess(batch(), name)


def test_bad_images():
    with pytest.raises(InvalidInputError, match=r"'vgg16' expects 3 channels .* images has 1; load them with channels=3"):
        preprocess(batch(channels=1), "vgg16")
    with pytest.raises(InvalidInputError, match=r"type float64 and the shape \(2, 2\)"):
        preprocess(np.ones((2, 2)), "unit")
    with pytest.raises(InvalidInputError, match="type complex64"):
        preprocess(np.ones((2, 2, 1), np.complex64), "unit")


def test_importing_is_light():
    code = "import sys, innvest_lite.images; print([name for name in ('tensorflow', 'keras') if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


# --- large images --------------------------------------------------------------------------------------------------


def at_once(path, height, width, channels, across_first=False):
    """An image read by Pillow's own calls on the whole of it; resized in one, or across and then down."""
    with Image.open(path) as image:
        shown = ImageOps.exif_transpose(image)
        if shown.mode.startswith("I;16") or shown.mode == "I":
            shown = Image.fromarray(np.asarray(shown, np.float32) / np.float32(257))
        elif shown.mode in ("LA", "RGBA") or "transparency" in shown.info:
            shown = Image.alpha_composite(Image.new("RGBA", shown.size, "white"), shown.convert("RGBA"))
        shown = shown if shown.mode == "F" else shown.convert("L" if channels == 1 else "RGB")
        shown = shown.resize((width, shown.height), Image.Resampling.BILINEAR) if across_first else shown
        pixels = np.asarray(shown.resize((width, height), Image.Resampling.BILINEAR), np.float32)
    pixels = pixels.reshape(height, width, -1)
    return np.repeat(pixels, channels // pixels.shape[-1], axis=-1)


@pytest.mark.parametrize("at_a_time", [None, 1, 100])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("mode", "ending"), [("RGB", "jpg"), ("RGBA", "png"), ("I;16", "png"), ("RGB", "tiff")])
def test_a_large_image_is_what_pillow_makes_of_the_whole(tmp_path, monkeypatch, mode, ending, orientation, at_a_time):
    in_rows(monkeypatch, at_a_time)
    noise = np.random.default_rng(orientation).integers(0, 256, (23, 37, 4), np.uint8)
    pixels = {"RGB": noise[..., :3], "RGBA": noise, "I;16": noise.astype(np.uint16)[..., 0] * 257}[mode]
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert_same_pixels(write(tmp_path, f"a.{ending}", pixels, exif=exif), at_a_time)


@pytest.mark.parametrize("at_a_time", [None, 1, 100])
@pytest.mark.parametrize("name", ["palette", "transparent palette", "grey with alpha", "bit", "cmyk", "transparent colour"])
def test_a_large_image_in_other_modes(tmp_path, monkeypatch, name, at_a_time):
    in_rows(monkeypatch, at_a_time)
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 256, (23, 37, 3), np.uint8))
    image, ending, options = {
        "palette": (noise.quantize(17), "png", {}),
        "transparent palette": (noise.quantize(17), "gif", {"transparency": 3}),
        "grey with alpha": (noise.convert("LA"), "png", {}),
        "bit": (noise.convert("1"), "png", {}),
        "cmyk": (noise.convert("CMYK"), "tiff", {}),
        "transparent colour": (noise, "png", {"transparency": noise.getpixel((3, 4))}),
    }[name]
    image.save(tmp_path / f"a.{ending}", **options)
    assert_same_pixels(tmp_path / f"a.{ending}", at_a_time)


def in_rows(monkeypatch, at_a_time):
    """Takes all images for large ones, of which so many pixels are converted at a time."""
    if at_a_time is not None:
        monkeypatch.setattr(images, "_LARGE", 0)
        monkeypatch.setattr(images, "_AT_A_TIME", at_a_time)


def assert_same_pixels(path, at_a_time):
    for size in ((7, 5, 3), (7, 5, 1), (23, 37, 3), (50, 9, 3), (9, 80, 1)):
        found = load_image(path, *size)
        np.testing.assert_array_equal(found, at_once(path, *size, across_first=at_a_time is not None))
        # Newer versions of Pillow go down first where that is less work, and round between.
        np.testing.assert_allclose(found, at_once(path, *size), atol=1)


def test_threads_decode_no_more_at_a_time_than_there_is_room_for(tmp_path, monkeypatch):
    """Ten images in ten threads, of which three and the row of numbers that each is resized to fit into the budget."""
    path = write(tmp_path, "a.png", np.zeros((20, 10), np.uint8))
    cost = 20 * 10 * (4 + 16) + 2 * 20 * 4
    monkeypatch.setattr(images, "_BUDGET", images._Budget(3 * cost))
    running, most, real = [], [], images._resized

    def slowly(*arguments):
        running.append(1)
        most.append(len(running))
        time.sleep(0.01)
        running.pop()
        return real(*arguments)

    monkeypatch.setattr(images, "_resized", slowly)
    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        assert len(list(pool.map(lambda _: load_image(path, 2, 2, 1), range(10)))) == 10
    assert max(most) == 3
    monkeypatch.setattr(images, "_BUDGET", images._Budget(cost // 2))
    most.clear()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert len(list(pool.map(lambda _: load_image(path, 2, 2, 1), range(4)))) == 4
    assert max(most) == 1, "one that takes more than all is decoded alone"
    (tmp_path / "broken.png").write_bytes(path.read_bytes()[:45])
    for _ in range(5):
        with pytest.raises(InvalidInputError):
            load_image(tmp_path / "broken.png", 2, 2, 1)
    assert images._BUDGET._free == cost // 2, "what failed gave back what it took"


@pytest.mark.parametrize("whole", [True, False])
def test_pixels_are_gone_before_another_image_is_let_in(tmp_path, monkeypatch, whole):
    path = write(tmp_path, "a.png", np.random.default_rng(0).integers(0, 256, (90, 90), np.uint8))
    path.write_bytes(path.read_bytes()[: None if whole else 4000])
    opened, open_ones, real = [], [], Image.open

    class Watched(images._Budget):
        @contextlib.contextmanager
        def lent(self, amount):
            with super().lent(amount):
                try:
                    yield
                finally:
                    with contextlib.suppress(ValueError):
                        open_ones.append(opened[-1].im)

    def kept(*arguments, **options):
        opened.append(real(*arguments, **options))
        return opened[-1]

    monkeypatch.setattr(images, "_BUDGET", Watched(10**6))
    monkeypatch.setattr(Image, "open", kept)
    with contextlib.nullcontext() if whole else pytest.raises(InvalidInputError):
        load_image(path, 2, 2, 1)
    assert len(opened) == 1 and not open_ones


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "gif", "tiff", "bmp"])
def test_the_estimate_is_no_less_than_pillow_takes(tmp_path, monkeypatch, ending):
    """Pillow holds 4 bytes for a pixel in colour; the decoders of other formats than PNG may hold the whole image, too."""
    path = write(tmp_path, f"a.{ending}", np.zeros((30, 20, 3), np.uint8))
    with Image.open(path) as image:
        each = 4 if ending == "png" else 12
        assert images._bytes_of(image, 5) == 30 * 20 * (each + 16) + 5 * 30 * 4
        monkeypatch.setattr(images, "_LARGE", 599)
        assert images._bytes_of(image, 5) == 30 * 20 * each + 2**20 * 16 + 5 * 30 * 4


def test_what_is_high_and_narrow_does_not_become_huge(tmp_path, monkeypatch):
    """10 x 800,000 pixels are few, but 224 x 800,000, which resizing would make of them at first, are 179 million."""
    path = tmp_path / "a.png"
    Image.new("1", (10, 800_000)).save(path)
    with pytest.raises(InvalidInputError, match="it has 224 x 800000 pixels, more than"):
        load_image(path, 224, 224, 3)
    assert load_image(path, 4, 4, 3).shape == (4, 4, 3)


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["png", "jpg", "webp"])
def test_the_memory_of_one_large_image(tmp_path, ending):
    """With transparency where there is any; measured in another process, from before to the peak."""
    side = 6000
    image = Image.new("RGB" if ending == "jpg" else "RGBA", (side, side), (9, 99, 200, 128)[: 3 if ending == "jpg" else 4])
    image.save(tmp_path / f"a.{ending}", **({"progressive": True} if ending == "jpg" else {}))
    code = (
        "import resource, sys, PIL.Image, numpy\nfrom innvest_lite.images import load_image\n"
        "PIL.Image.init()\nload_image(sys.argv[2], 8, 8, 3)\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before = peak(); load_image(sys.argv[1], 224, 224, 3); print((peak() - before) * 1024)"
    )
    small = write(tmp_path, f"small.{ending}", np.zeros((8, 8, 3), np.uint8))
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / f"a.{ending}"), str(small)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert done.returncode == 0, done.stderr
    allowed = side * side * (4 if ending == "png" else 12)
    assert int(done.stdout) < allowed + 64e6
