"""Writing a picture to a PNG file, whole or not at all. Called by users and the command line."""

from __future__ import annotations

import os
import pathlib
from typing import Any

from PIL import Image

from innvest_lite.errors import InvalidInputError
from innvest_lite.files import replacing
from innvest_lite.visualize.checks import as_picture


def save(picture: Any, path: str | os.PathLike[str]) -> pathlib.Path:
    """Write one picture as PNG: first under a temporary name in the same folder, then renamed.

    An existing file is replaced. The parent folder is made where it is missing, but no folder above it.

    Args:
        picture: uint8 `(height, width, 3)`.
        path: the path of the file, ending in `.png`.

    Returns:
        The path, as a `pathlib.Path`.

    Raises:
        InvalidInputError: not such a picture, another ending, or a folder above the parent that does not exist.
        OSError: the disk's own errors (no permission, no space); nothing is left behind.

    Example:
        >>> save(np.zeros((28, 28, 3), np.uint8), "explanations/seven.png")
        PosixPath('explanations/seven.png')
    """
    array = as_picture(picture, "picture")
    path = pathlib.Path(path)
    if path.suffix.lower() != ".png":
        raise InvalidInputError(f"Pictures are written as PNG, but the path is {str(path)!r}; let it end in '.png'.")
    _make_parent(path)
    with replacing(path) as partial:
        Image.fromarray(array).save(partial, format="PNG")
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
