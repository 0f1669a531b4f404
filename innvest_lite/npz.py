"""NumPy's files from strangers: what may go wrong where they are read, and archives of known arrays, never of objects.

Called by `attributions` and by the command line.
"""

from __future__ import annotations

import os
import pathlib
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Sequence

import numpy as np

from innvest_lite.errors import CorruptFileError, InvalidInputError

DAMAGED = (
    *(ValueError, TypeError, SyntaxError, LookupError, AttributeError, EOFError, ArithmeticError),
    *(MemoryError, RecursionError, tokenize.TokenError, zipfile.BadZipFile, zlib.error),
    *(NotImplementedError, RuntimeWarning),
)
"""What NumPy raises at damaged headers and archives, and at shapes that no memory holds."""


def read_arrays(path: str | os.PathLike[str], keys: Sequence[str]) -> dict[str, np.ndarray]:
    """The arrays of an .npz file that was written uncompressed, as `numpy.savez` does.

    Args:
        path: of the file.
        keys: the names of the arrays that it must hold; others are left out.

    Raises:
        InvalidInputError: there is no such file.
        CorruptFileError: it is damaged, lacks an array, holds objects, or claims to hold more than its own size.
    """
    place = pathlib.Path(path)
    if not place.is_file():
        raise InvalidInputError(f"There is no file {str(path)!r}; correct the path.")
    try:
        with zipfile.ZipFile(place) as archive:
            # Compressed, a short file could hold any number of zeros.
            claimed = sum(one.file_size for one in archive.infolist())
        if claimed > place.stat().st_size:
            raise CorruptFileError(
                f"{str(path)!r} is compressed, or claims more bytes than it has; expected a plain .npz file."
            )
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            with np.load(place, allow_pickle=False) as found:
                arrays = {key: found[key] for key in keys}
            empty = [key for key, array in arrays.items() if array.size and not array.nbytes]
            if empty:
                raise CorruptFileError(f"{str(path)!r}: {empty[0]} claims {arrays[empty[0]].size} values of no bytes.")
            return arrays
    except DAMAGED as error:
        raise CorruptFileError(
            f"Cannot read {str(path)!r}: {error or type(error).__name__}. Expected a whole .npz file of {', '.join(keys)}."
        ) from error
