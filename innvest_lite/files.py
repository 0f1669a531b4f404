"""Writing files whole or not at all, and checking first that a path can be written. Called wherever the package writes."""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping

from innvest_lite.errors import InvalidInputError


def check_output(
    path: str | os.PathLike[str], example: str = "patterns.h5", keep: Mapping[str, str | os.PathLike[str]] | None = None
) -> None:
    """Refuses, before the work starts rather than after it, a path at which no file can be written, or should be.

    Args:
        path: where a file is to stand.
        example: the name of such a file, for the message.
        keep: what it is, such as "the model's own file" -> the path of a file that must not be replaced.

    Raises:
        IsADirectoryError: there is a folder.
        FileNotFoundError: there is no folder to write it to.
        InvalidInputError: it is one of the files to keep.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; name a file in it, such as {path / example}.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {path.parent} to write {path.name} to; make it first.")
    check_not_among(path, keep or {})


def check_not_among(path: str | os.PathLike[str], keep: Mapping[str, str | os.PathLike[str]]) -> None:
    """Raises InvalidInputError where `path` is one of the files to `keep`, as in `check_output`."""
    path = pathlib.Path(path)
    for what, other in keep.items():
        if _is_same(path, pathlib.Path(other)):
            raise InvalidInputError(f"{path} is {what}, which would be replaced; choose another path.")


def check_output_folder(path: str | os.PathLike[str]) -> None:
    """Raises NotADirectoryError where there is a file at the `path` of a folder that is to be written to."""
    path = pathlib.Path(path)
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(f"{path} is a file; name a folder.")


def _is_same(one, other):
    # Names do not tell: there are links, and file systems on which capitals make no difference.
    return os.path.samefile(one, other) if one.exists() and other.exists() else one.resolve() == other.resolve()


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
    """Gives a free path beside `path` to write to, and renames it to `path` when the block ends without error.

    Args:
        path: the path of the file; an existing file is replaced.

    Returns:
        A context manager of a hidden `pathlib.Path`; after an error nothing of it remains.
    """
    path = pathlib.Path(path)
    partial = path.with_name(f"{_prefix(path)}{uuid.uuid4().hex}.partial")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing_folder(path: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
    """As `replacing`, for a folder: an existing one is removed once the new one is complete."""
    # Resolved, so that a link to the folder remains a link.
    path = pathlib.Path(path).resolve()
    partial = path.with_name(f"{_prefix(path)}{uuid.uuid4().hex}.partial")
    old = partial.with_suffix(".old")
    try:
        yield partial
        # A folder is not replaced by a name, as a file is: the old one steps aside first.
        if path.exists():
            os.replace(path, old)
        os.replace(partial, path)
    finally:
        if old.exists() and not path.exists():
            os.replace(old, path)
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def leftovers(path: str | os.PathLike[str]) -> list[pathlib.Path]:
    """The partial files that a process killed while writing a file at `path` has left beside it, a list of paths."""
    path = pathlib.Path(path)
    pattern = re.compile(re.escape(_prefix(path)) + r"[0-9a-f]{32}\.partial")
    return [file for file in path.parent.glob(".*.partial") if pattern.fullmatch(file.name)]


def _prefix(path):
    return f".{path.stem[:80]}-"
