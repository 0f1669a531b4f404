"""Model inputs from `.npy` files, memory-mapped. Called by the commands."""

from __future__ import annotations

import os
import pathlib

import numpy as np

from innvest_lite.errors import InvalidInputError

_ENDINGS = (".npy", ".npz")


def is_array(path: str | os.PathLike[str]) -> bool:
    """Whether a path names a file of arrays, by its ending."""
    return pathlib.Path(path).suffix.lower() in _ENDINGS


def read(path: str | os.PathLike[str], preprocess: str = "none") -> np.ndarray:
    """The samples of a .npy file, memory-mapped; pickled ones are refused.

    Args:
        path: the file.
        preprocess: the value of --preprocess, which must be "none" for arrays.

    Raises:
        InvalidInputError: there is no such file, it holds no array of samples, or a preprocessor was given.
    """
    if preprocess != "none":
        raise InvalidInputError("--preprocess is for images: a .npy file holds inputs as the model takes them.")
    path = pathlib.Path(path)
    if not path.is_file():
        raise InvalidInputError(f"There is no file {str(path)!r}; correct the path.")
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise InvalidInputError(f"Cannot read the array {str(path)!r}: {error}") from error
    if not isinstance(array, np.ndarray):
        raise InvalidInputError(f"{str(path)!r} holds several arrays; save the samples alone as .npy, with np.save.")
    if not array.ndim or not len(array):
        raise InvalidInputError(f"The array {str(path)!r} should hold samples, but has shape {array.shape}.")
    return array
