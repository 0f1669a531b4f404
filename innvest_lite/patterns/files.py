"""HDF5 files that are written whole or not at all, and read only if every byte is as it was written.

A file starts with a user block of 512 bytes that HDF5 leaves alone: a line that says what the file is, and the SHA-256
of all bytes behind it. Files are data from strangers: no pickle, no links out of the file, no sizes that the file
itself does not hold.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import h5py
import numpy as np

from innvest_lite.errors import CorruptFileError
from innvest_lite.files import check_output, replacing, reserve

_BLOCK = 512
# Bytes that HDF5 notes of an attribute or an array, generously.
_NOTED = 1024
_MALFORMED = (LookupError, ValueError, TypeError, AttributeError, ArithmeticError, EOFError, MemoryError)
_FORMAT = "innvest_lite"

check_folder = check_output
"""The former name of `innvest_lite.files.check_output`."""


def write(
    path: str | os.PathLike[str],
    kind: str,
    version: int,
    attributes: Mapping[str, Any],
    groups: Iterable[tuple[str, Mapping[str, Any], Mapping[str, np.ndarray]]],
) -> None:
    """Writes a file under a temporary name beside `path`, and renames it when it is complete.

    Args:
        path: the path of the file.
        kind: what it holds, one word.
        version: of the format, an int.
        attributes: name -> number or string.
        groups: `(name, attributes, arrays)` one after the other, with arrays name -> np.ndarray.
    """
    check_output(path)
    with replacing(path) as partial:
        # Unbuffered, and in place that is taken first: HDF5 ends the process where a write of its own fails.
        with partial.open("w+b", buffering=0) as stream, h5py.File(stream, "w", userblock_size=_BLOCK) as file:
            size = _BLOCK + _taken(attributes, {})
            reserve(stream, size)
            file.attrs.update(attributes)
            # Node names may hold slashes, which are HDF5's path separator, so groups are numbered.
            for index, (name, attrs, arrays) in enumerate(groups):
                size += _taken({"name": name, **attrs}, arrays)
                reserve(stream, size)
                group = file.create_group(str(index))
                group.attrs.update({"name": name, **{f"attribute {key}": value for key, value in attrs.items()}})
                for key, array in arrays.items():
                    group.create_dataset(key, data=np.asarray(array))
        _seal(partial, kind, version)


def _taken(attributes, arrays):
    """More bytes than a group takes in a file, with what HDF5 notes of it."""
    texts = sum(len(str(text).encode()) for text in attributes.values())
    return sum(array.nbytes for array in arrays.values()) + 2 * texts + _NOTED * (4 + len(attributes) + len(arrays))


def as_text(value: str | Mapping[str, str]) -> str:
    """A word, or a mapping of words, as an attribute of a file."""
    return value if isinstance(value, str) else json.dumps(dict(value))


def from_text(text: str) -> str | dict[str, str]:
    """What `as_text` was given."""
    return json.loads(text) if text.startswith("{") else text


def texts(text: str) -> dict[str, str]:
    """A mapping from str to str, from its JSON.

    Raises:
        ValueError: it is no such mapping.
    """
    found = json.loads(text)
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise ValueError(f"expected a mapping of texts, but found {text[:80]!r}.")
    return found


def read(
    path: str | os.PathLike[str], kind: str, version: int
) -> tuple[dict[str, Any], dict[str, tuple[dict[str, Any], dict[str, np.ndarray]]]]:
    """Reads a file of this kind and version; returns `(attributes, groups)`, groups name -> `(attributes, arrays)`.

    Raises:
        CorruptFileError: anything is not as `write` left it.
        FileNotFoundError: there is no such file.
    """
    _check_seal(path, kind, version)
    with well_formed(path), h5py.File(path, "r") as file:
        groups, left = {}, os.path.getsize(path)
        for index in range(len(file)):
            group = _hard_linked(file, str(index), h5py.Group)
            attrs, arrays = dict(group.attrs), {}
            for key in group:
                # Not each by itself: what was never written takes no place in the file, however often it is claimed.
                arrays[key] = _array(_hard_linked(group, key, h5py.Dataset), left)
                left -= arrays[key].nbytes
            name = attrs.pop("name")
            if not isinstance(name, str):
                raise ValueError(f"expected a text as the name of a layer, but found {type(name).__name__}.")
            groups[name] = ({key.removeprefix("attribute "): value for key, value in attrs.items()}, arrays)
        return dict(file.attrs), groups


@contextlib.contextmanager
def well_formed(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turns whatever goes wrong while a file's content is interpreted into a CorruptFileError."""
    try:
        yield
    except (*_MALFORMED, RuntimeError, OSError) as error:
        if isinstance(error, CorruptFileError):
            raise
        raise CorruptFileError(f"{path} cannot be read: {error}. Fit again, or copy the file again.") from error


def _seal(path, kind, version):
    line = f"{_FORMAT} {kind} {version} {_digest(path)}\n".encode()
    with open(path, "r+b") as file:
        file.write(line.ljust(_BLOCK, b"\0"))
        # On the disk before the file gets its name: after a power cut the name must not stand for half of it.
        file.flush()
        os.fsync(file.fileno())


def _digest(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        file.seek(_BLOCK)
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


def _check_seal(path, kind, version):
    with open(path, "rb") as file:
        block = file.read(_BLOCK)
    words = block.rstrip(b"\0").decode("ascii", "replace").split()
    if len(words) != 4 or words[0] != _FORMAT:
        raise CorruptFileError(f"{path} is not a file of innvest_lite, or its first bytes are damaged.")
    if words[1] != kind:
        hint = " To make patterns of it, and of other parts: innvest-lite merge." if words[1] == "statistics" else ""
        raise CorruptFileError(f"{path} holds {words[1]}, where {kind} were expected.{hint}")
    if words[2] != str(version):
        raise CorruptFileError(
            f"{path} is of format version {words[2]}; this version of innvest_lite reads {version}. "
            "Read it with the version that wrote it, or fit again."
        )
    # Compared with the whole block, so that a change in its padding is found, too.
    line = f"{_FORMAT} {kind} {version} {_digest(path)}\n".encode()
    if block != line.ljust(_BLOCK, b"\0"):
        raise CorruptFileError(f"{path} is truncated or damaged: its checksum does not match. Fit or copy it again.")


def _hard_linked(group, key, expected):
    if not isinstance(group.get(key, getlink=True), h5py.HardLink):
        raise CorruptFileError(f"{group.file.filename} has a link out of the file at {key!r}, which is refused.")
    found = group[key]
    if not isinstance(found, expected):
        raise CorruptFileError(f"{group.file.filename} has {type(found).__name__} at {key!r}.")
    return found


def _array(dataset, most):
    """The values of a plain dataset of at most so many bytes, those of the file that no other dataset claims."""
    # Chunked datasets may be compressed, and unpack to far more than the size of the file.
    plain = dataset.external is None and not dataset.is_virtual and dataset.chunks is None
    if not plain or dataset.dtype.kind not in "fiu" or dataset.nbytes > most:
        raise CorruptFileError(
            f"{dataset.file.filename} has a dataset {dataset.name!r} of an unexpected storage, or larger than the file."
        )
    return np.asarray(dataset[()])
