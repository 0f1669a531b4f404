"""Images from files: find them, and read them; `preprocess` scales their values (`scalings`).

In: a folder or file. Out: `load_image` gives float32 arrays `(height, width, channels)` in 0..255 of the size that a model
takes, `load_photo` and `as_photo` uint8 arrays of the size that an image has. Called by users, the command line and
`visualize`. Image files are data from strangers: only the formats below are decoded, within Pillow's limit on pixels, and
only as many at a time, in all threads together, as `DECODING_BYTES` has room for.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from PIL import ExifTags, Image

from innvest_lite.errors import InvalidInputError
from innvest_lite.scalings import PREPROCESSORS, preprocess

__all__ = [
    "DECODING_BYTES",
    "EXTENSIONS",
    "PREPROCESSORS",
    "as_photo",
    "find_images",
    "load_image",
    "load_photo",
    "preprocess",
    "resized_photo",
]

DECODING_BYTES = 2**30
"""What all images that are decoded at a time may take, by an upper estimate; one that takes more is decoded alone."""

EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")
"""What `find_images` takes for an image, in any case of letters."""

_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF")
_DAMAGED = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    ArithmeticError,
    LookupError,
    MemoryError,
    TypeError,
    struct.error,
    UserWarning,
)
_TOO_LARGE = (Image.DecompressionBombError, Image.DecompressionBombWarning)
_ALPHA_MODES = ("LA", "PA", "RGBA", "RGBa")

# Bytes for each pixel: Pillow's own, and, of formats whose decoders hold the whole image too, theirs (a progressive JPEG's
# coefficients, the canvas of an animation, a turned TIFF).
_PILLOW_BYTES, _DECODER_BYTES = 4, 8
# Images of more pixels are converted so many pixels at a time: copies of the whole would take several times as much.
_LARGE, _AT_A_TIME = 1 << 24, 1 << 20
# Bytes for each pixel that is converted: cut out, with alpha, the white behind it, both together.
_CONVERTED_BYTES = 16

# How an image is turned upright, by its EXIF orientation, and where its first rows come from.
_TURNS = {
    2: (Image.Transpose.FLIP_LEFT_RIGHT, "first rows"),
    3: (Image.Transpose.ROTATE_180, "last rows"),
    4: (Image.Transpose.FLIP_TOP_BOTTOM, "last rows"),
    5: (Image.Transpose.TRANSPOSE, "first columns"),
    6: (Image.Transpose.ROTATE_270, "first columns"),
    7: (Image.Transpose.TRANSVERSE, "last columns"),
    8: (Image.Transpose.ROTATE_90, "last columns"),
}


def find_images(folder_or_file: str | os.PathLike[str]) -> list[pathlib.Path]:
    """The image files of a folder and of all folders in it, by their extension; or the one file that was named.

    Files and folders whose name starts with a dot are left out. A file that is named itself is taken whatever its
    extension: `load_image` looks at its content.

    Args:
        folder_or_file: a path.

    Returns:
        A sorted list of `pathlib.Path`, never empty.

    Raises:
        InvalidInputError: the path does not exist, or the folder has no image.

    Example:
        >>> find_images("photos")
        [PosixPath('photos/bird.png'), PosixPath('photos/zebra.JPG')]
    """
    path = pathlib.Path(folder_or_file)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise InvalidInputError(f"No folder or file is called {str(path)!r} (seen from {os.getcwd()!r}); correct the path.")
    found = sorted(file for file in path.rglob("*") if _looks_like_image(file, path))
    if not found:
        raise InvalidInputError(
            f"The folder {str(path)!r} and the folders in it hold no image; expected files that end in one of "
            f"{', '.join(EXTENSIONS)}."
        )
    return found


def load_image(path: str | os.PathLike[str], height: int, width: int, channels: int) -> np.ndarray:
    """One image file as the array that a model of this input size takes; the first frame of an animation.

    The image is turned upright as its EXIF orientation says, laid on white where it is transparent, turned into colour
    or grey (ITU-R BT.601), and resized with bilinear interpolation to exactly this size, whatever its proportions.
    Sixteen-bit grey is scaled to 0..255 without rounding. Other threads that decode images at the same time are waited for
    where all of them together would take more than `DECODING_BYTES`.

    Args:
        path: a PNG, JPEG, BMP, GIF, WebP or TIFF file.
        height: pixels, at least 1.
        width: pixels, at least 1.
        channels: 3 (red, green, blue) or 1 (grey).

    Returns:
        float32 array `(height, width, channels)` in 0..255.

    Raises:
        InvalidInputError: a missing, unreadable, damaged, truncated or too large file, by name; or a size that is no
            size.

    Example:
        >>> load_image("photos/bird.png", 224, 224, 3).shape
        (224, 224, 3)
    """
    _check_size(height, width, channels)
    resized = _decoded(path, lambda image: _resized(image, (height, width), channels), width)
    return _as_floats(resized, channels)


def load_photo(path: str | os.PathLike[str]) -> np.ndarray:
    """One image file at its own size, as people see it: upright, in colour; the first frame of an animation.

    The image is turned upright as its EXIF orientation says, laid on white where it is transparent, and turned into colour.
    The same guards hold as in `load_image`: the same formats, Pillow's limit on pixels, and `DECODING_BYTES`.

    Args:
        path: a PNG, JPEG, BMP, GIF, WebP or TIFF file.

    Returns:
        uint8 array `(height, width, 3)`.

    Raises:
        InvalidInputError: a missing, unreadable, damaged, truncated or too large file, by name.

    Example:
        >>> load_photo("photos/bird.png").shape
        (28, 28, 3)
    """
    return _as_bytes(_decoded(path, lambda image: _resized(image, None, 3), None))


def as_photo(image: Any, name: str = "image") -> np.ndarray:
    """What somebody calls a photograph, as `load_photo` gives it: a path, an image of Pillow's, or an array of bytes.

    Args:
        image: the path of a file, a `PIL.Image.Image`, or a uint8 array `(height, width)` or `(height, width, 1 or 3)`.
        name: what messages call it.

    Returns:
        uint8 array `(height, width, 3)`; an array of that shape is handed back as it is.

    Raises:
        InvalidInputError: it is none of these, or what `load_photo` refuses.

    Example:
        >>> as_photo(np.zeros((20, 30), np.uint8)).shape
        (20, 30, 3)
    """
    if isinstance(image, str | os.PathLike):
        return load_photo(image)
    if isinstance(image, Image.Image):
        return _as_bytes(_of_pillow(image, name))
    array = np.asarray(image)
    is_image = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3))
    if array.dtype != np.uint8 or array.size == 0 or not is_image:
        raise InvalidInputError(
            f"{name} is {type(image).__name__} of {array.dtype} with the shape {array.shape}; expected the path of an "
            "image, an image of Pillow's, or a uint8 array (height, width, 1 or 3)."
        )
    array = array[..., None] if array.ndim == 2 else array
    return array if array.shape[2] == 3 else np.repeat(array, 3, axis=2)


def resized_photo(photo: np.ndarray, height: int, width: int, channels: int) -> np.ndarray:
    """A photograph as the array that a model of this input size takes, as `load_image` of its file gives it.

    But for images of sixteen bits, of which a photograph keeps eight.

    Args:
        photo: uint8 `(height, width, 3)`, as `load_photo` gives it.
        height: pixels, at least 1.
        width: pixels, at least 1.
        channels: 3 (red, green, blue) or 1 (grey).

    Returns:
        float32 array `(height, width, channels)` in 0..255.

    Raises:
        InvalidInputError: a size that is no size.

    Example:
        >>> resized_photo(load_photo("photos/bird.png"), 224, 224, 3).shape
        (224, 224, 3)
    """
    _check_size(height, width, channels)
    return _as_floats(_resized(Image.fromarray(photo), (height, width), channels), channels)


def _decoded(path: str | os.PathLike[str], convert: Callable[[Image.Image], Image.Image], width: int | None) -> Image.Image:
    """What `convert` makes of the image in a file, once it is decoded; `width` is that of the result, None its own."""
    try:
        with Image.open(path, formats=_FORMATS) as image:
            _check_area(*image.size)
            # Closed, and with it its pixels are gone, before another one is let in.
            with _BUDGET.lent(_bytes_of(image, width or min(image.size))), contextlib.closing(image):
                image.load()
                return convert(image)
    except InvalidInputError as error:
        raise InvalidInputError(f"Cannot use the image {str(path)!r}: {error}") from error
    except _TOO_LARGE as error:
        raise InvalidInputError(f"Cannot use the image {str(path)!r}: {_too_large(error)}") from error
    except FileNotFoundError as error:
        raise InvalidInputError(
            f"There is no image {str(path)!r} (seen from {os.getcwd()!r}); correct the path."
        ) from error
    except _DAMAGED as error:
        raise InvalidInputError(
            f"Cannot read the image {str(path)!r}: {error or type(error).__name__}. Expected a whole file of a format "
            f"among {', '.join(_FORMATS)}; save it again, or remove it from the folder."
        ) from error


def _of_pillow(image, name):
    """An image of Pillow's, upright and in colour; where it stands for a file, that is decoded now."""
    try:
        _check_area(*image.size)
        return _resized(image, None, 3)
    except InvalidInputError as error:
        raise InvalidInputError(f"Cannot use {name}: {error}") from error
    except _TOO_LARGE as error:
        raise InvalidInputError(f"Cannot use {name}: {_too_large(error)}") from error
    except _DAMAGED as error:
        raise InvalidInputError(f"Cannot read {name}: {error or type(error).__name__}.") from error


def _as_floats(image, channels):
    """A resized image as float32 `(height, width, channels)`."""
    pixels = np.asarray(image, np.float32).reshape(image.height, image.width, -1)
    return np.repeat(pixels, channels // pixels.shape[-1], axis=-1)


def _as_bytes(image):
    """An image in colour, or in grey with fractions, as uint8 `(height, width, 3)`."""
    if image.mode != "F":
        return np.asarray(image).copy()
    grey = np.rint(np.clip(np.asarray(image), 0, 255)).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def _looks_like_image(file, folder):
    """Whether a file in the folder has an image's extension and no part of its name is hidden."""
    hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
    return not hidden and file.suffix.lower() in EXTENSIONS and file.is_file()


def _check_size(height, width, channels):
    """Raise InvalidInputError unless the size can be that of an image."""
    whole = all(isinstance(side, (int, np.integer)) and side > 0 for side in (height, width))
    if not whole or channels not in (1, 3):
        raise InvalidInputError(
            f"The size (height, width, channels) is {(height, width, channels)}; expected two whole numbers above 0 "
            "and 1 or 3 channels. Where a model leaves its input size open, the size must come from you."
        )


def _check_area(width, height):
    """Raise Pillow's own error where Pillow would only warn, so that no warning filter decides what is read."""
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and width * height > limit:
        raise Image.DecompressionBombError(f"it has {width} x {height} pixels, more than {limit}")


class _Budget:
    """Bytes that threads borrow and give back; who asks for more than there are waits."""

    def __init__(self, total: int) -> None:
        self._total, self._free = total, total
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def lent(self, amount: int) -> Iterator[None]:
        """Holds so many bytes, or all where it asks for more than all, until the block ends."""
        amount = min(amount, self._total)
        with self._changed:
            self._changed.wait_for(lambda: self._free >= amount)
            self._free -= amount
        try:
            yield
        finally:
            with self._changed:
                self._free += amount
                self._changed.notify_all()


_BUDGET = _Budget(DECODING_BYTES)


def _bytes_of(image, width):
    """The most that an image takes while it is decoded and resized; nothing of it is decoded yet."""
    pixels = image.width * image.height
    each = _PILLOW_BYTES + (0 if image.format == "PNG" else _DECODER_BYTES)
    converted = pixels if pixels <= _LARGE else _AT_A_TIME
    return pixels * each + converted * _CONVERTED_BYTES + width * max(image.size) * _PILLOW_BYTES


def _resized(image, size, channels):
    """A decoded image upright, in grey or colour, of a size (height, width), or of its own where that is None.

    A large one is converted some rows at a time, without a copy.

    Across first, which makes each row by itself, and then down; where Pillow goes down first, its bytes may differ by 1.
    """
    turn, side = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation), (None, "first rows"))
    across, down = image.size if side.endswith("rows") else image.size[::-1]
    height, width = size or (down, across)
    # What is a pixel wide may be millions high, and becomes as wide as the model takes it before it becomes lower.
    _check_area(width, down)
    step, narrow = down if across * down <= _LARGE else max(1, _AT_A_TIME // across), None
    for start in range(0, down, step):
        stop = min(start + step, down)
        low, high = (start, stop) if side.startswith("first") else (down - stop, down - start)
        part = image.crop((0, low, across, high) if side.endswith("rows") else (low, 0, high, across))
        part = _in_channels(_as_shown(part if turn is None else part.transpose(turn), image.format), channels)
        if step == down:
            return part.resize((width, height), Image.Resampling.BILINEAR)
        narrow = Image.new(part.mode, (width, down)) if narrow is None else narrow
        narrow.paste(part.resize((width, part.height), Image.Resampling.BILINEAR), (0, start))
    return narrow.resize((width, height), Image.Resampling.BILINEAR)


def _too_large(error):
    """What to do about an image beyond Pillow's limit."""
    return f"{error}. Pillow's limit guards against decompression bombs; make the image smaller first."


def _as_shown(image, file_format):
    """The image on white where it is transparent; sixteen-bit grey becomes mode "F", in 0..255."""
    if image.mode.startswith("I;16") or (image.mode == "I" and file_format == "PNG"):
        return Image.fromarray(np.asarray(image, np.float32) / np.float32(257))
    if image.mode in ("I", "F"):
        raise InvalidInputError(
            f"its pixels are of mode {image.mode!r}, whose range is unknown; save it with 8 or 16 bits."
        )
    if image.mode in _ALPHA_MODES or "transparency" in image.info:
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return image


def _in_channels(image, channels):
    """The image in grey or in colour; sixteen-bit grey keeps its fractions, as one channel for all three."""
    return image if image.mode == "F" else image.convert("L" if channels == 1 else "RGB")
