"""Model inputs from `.npy` files, memory-mapped; results as `.npy` files, written in order. Called by the commands."""

from __future__ import annotations

import os
import pathlib
import warnings
from types import TracebackType
from typing import BinaryIO

import numpy as np

from innvest_lite.errors import InvalidInputError
from innvest_lite.files import reserve
from innvest_lite.npz import DAMAGED

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
        with warnings.catch_warnings():
            # That is, where a product of sizes overflows, and seems to be small.
            warnings.simplefilter("error", RuntimeWarning)
            array = np.load(path, mmap_mode="r", allow_pickle=False)
    except DAMAGED as error:
        raise InvalidInputError(
            f"Cannot read the array {str(path)!r}: {error or type(error).__name__}. Expected a whole .npy file without "
            "objects; save it again, with np.save."
        ) from error
    if not isinstance(array, np.ndarray):
        raise InvalidInputError(f"{str(path)!r} holds several arrays; save the samples alone as .npy, with np.save.")
    # Not only without samples: of no bytes each, a short file can claim any number of them.
    if not array.ndim or not array.nbytes:
        raise InvalidInputError(
            f"The array {str(path)!r} should hold samples, but has shape {array.shape} and type {array.dtype}."
        )
    if array.dtype.kind == "V":
        raise InvalidInputError(f"The array {str(path)!r} should hold plain numbers, but is of type {array.dtype}.")
    return array


class Writer:
    """A `.npy` file of samples that come in batches, written in order.

    Not memory-mapped: where the disk is full, writing to a map ends the process (SIGBUS) in place of an error.

    Args:
        path: where it stands.
        count: the number of samples that will come.

    Raises:
        OSError: there is no room for it; said with the first batch, where the system can.

    Example:
        >>> with Writer("a.npy", 2) as written:
        ...     written.add(np.zeros((2, 3), "float32"))
        >>> np.load("a.npy").shape
        (2, 3)
    """

    def __init__(self, path: str | os.PathLike[str], count: int) -> None:
        self._path, self._count = path, count
        self._stream: BinaryIO | None = None

    def __enter__(self) -> Writer:
        self._stream = open(self._path, "wb")  # noqa: SIM115
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._stream is not None:
            self._stream.close()

    def add(self, values: np.ndarray) -> None:
        """Writes the next samples, an array `(batch, ...)`."""
        stream = self._stream
        if stream is None:
            raise InvalidInputError("A Writer is used in a with block.")
        if not stream.tell():
            shape = (self._count, *values.shape[1:])
            descr = np.lib.format.dtype_to_descr(values.dtype)
            np.lib.format.write_array_header_1_0(stream, {"descr": descr, "fortran_order": False, "shape": shape})
            stream.flush()
            reserve(stream, stream.tell() + self._count * values[0].nbytes)
        stream.write(np.ascontiguousarray(values).data)
