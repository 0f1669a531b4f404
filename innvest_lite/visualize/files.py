"""Writing a picture to a PNG, JPEG or WebP file, whole or not at all. Called by users and the command line."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping
from typing import Any

from PIL import Image

from innvest_lite.errors import InvalidInputError
from innvest_lite.files import replacing
from innvest_lite.visualize.checks import as_picture

# What an ending means: Pillow's name of a format, its options, and the longest side that it can hold. JPEG without
# subsampling, which would smear the colours of thin lines.
_JPEG = ("JPEG", {"quality": 92, "subsampling": 0}, 65_500)
FORMATS: Mapping[str, tuple[str, Mapping[str, Any], int]] = {
    ".png": ("PNG", {}, 2**31 - 1),
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
    ".webp": ("WEBP", {"quality": 92}, 16_383),
}


def save(picture: Any, path: str | os.PathLike[str]) -> pathlib.Path:
    """Write one picture as PNG, JPEG or WebP: first under a temporary name in the same folder, then renamed.

    An existing file is replaced. The parent folder is made where it is missing, but no folder above it. PNG keeps every
    pixel; JPEG and WebP, of quality 92, are smaller files of photographs, and change pixels a little.

    Args:
        picture: uint8 `(height, width, 3)`.
        path: the path of the file, ending in `.png`, `.jpg`, `.jpeg` or `.webp`.

    Returns:
        The path, as a `pathlib.Path`.

    Raises:
        InvalidInputError: not such a picture, another ending, sides longer than its format holds, or a folder above the
            parent that does not exist.
        OSError: the disk's own errors (no permission, no space); nothing is left behind.

    Example:
        >>> save(np.zeros((28, 28, 3), np.uint8), "explanations/seven.png")
        PosixPath('explanations/seven.png')
    """
    array = as_picture(picture, "picture")
    path = pathlib.Path(path)
    if path.suffix.lower() not in FORMATS:
        raise InvalidInputError(
            f"Pictures are written as PNG, JPEG or WebP, but the path is {str(path)!r}; let it end in "
            "'.png', '.jpg' or '.webp'."
        )
    name, options, longest = FORMATS[path.suffix.lower()]
    if max(array.shape) > longest:
        raise InvalidInputError(
            f"{name} holds {longest} pixels a side, but picture has the shape {array.shape}: let "
            f"{str(path)!r} end in '.png'."
        )
    _make_parent(path)
    with replacing(path) as partial:
        Image.fromarray(array).save(partial, format=name, **options)
    return path


def _make_parent(path):
    """Make the folder that the file goes to, if it alone is missing."""
    try:
        path.parent.mkdir(exist_ok=True)
    except FileNotFoundError as error:
        raise InvalidInputError(
            f"Cannot write {str(path)!r}: the folder {str(path.parent.parent)!r} does not exist. "
            "Make it first, or correct the path."
        ) from error
    except FileExistsError as error:
        raise InvalidInputError(f"Cannot write {str(path)!r}: {str(path.parent)!r} is a file, not a folder.") from error
