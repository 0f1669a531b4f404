"""Writing files whole or not at all, and checking first that a path can be written. Called wherever the package writes.

`replacing` and `replacing_folder` keep what is unfinished under a name of its own; `clean_up` takes all of that away at
once, for a process that ends without unwinding. `locked` keeps two processes from writing one file in turn.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import pathlib
import re
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import BinaryIO

from innvest_lite.errors import InvalidInputError

# Bytes of a name that partial files repeat; file systems allow 255 in all.
_LONGEST = 150

_Path = str | os.PathLike[str]


def check_output(path: _Path, example: str = "patterns.h5", keep: Mapping[str, _Path] | None = None) -> None:
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


def check_not_among(path: _Path, keep: Mapping[str, _Path]) -> None:
    """Raises InvalidInputError where `path` is one of the files to `keep`, as in `check_output`; a link to it is, too."""
    path = pathlib.Path(path)
    for what, other in keep.items():
        if _is_same(path, pathlib.Path(other)):
            raise InvalidInputError(f"{path} is {what}, which would be replaced; choose another path.")


def check_none_among(paths: Iterable[_Path], keep: Mapping[str, Iterable[_Path]]) -> None:
    """As `check_not_among`, for many paths and many files.

    Args:
        paths: where files are to stand; what is not there yet replaces nothing.
        keep: what they are, such as "one of the images" -> the paths of files that must not be replaced.

    Raises:
        InvalidInputError: one of the paths is one of these files, by whatever name or link.
    """
    kept = {identity: what for what, files in keep.items() for identity in map(_identity, files) if identity is not None}
    for path in paths:
        what = kept.get(_identity(path))
        if what is not None:
            raise InvalidInputError(f"{path} is {what}, which would be replaced; choose another path.")


def check_not_inside(folder: _Path, keep: Mapping[str, _Path]) -> None:
    """Refuses a folder that is to be replaced as a whole, where a file lies in it that must not be.

    Args:
        folder: its path; there need not be one yet.
        keep: as in `check_output`.

    Raises:
        InvalidInputError: one of the files lies in it, or a link to it does.
    """
    resolved = pathlib.Path(folder).resolve()
    for what, other in keep.items():
        # Where a link stands counts as well as what it points to: both would be gone.
        places = (pathlib.Path(other).resolve(), pathlib.Path(other).parent.resolve())
        if any(place.is_relative_to(resolved) for place in places):
            raise InvalidInputError(f"{folder} is a folder that holds {what}, and would be replaced; choose another path.")


def check_output_folder(path: _Path) -> None:
    """Raises NotADirectoryError where there is a file at the `path` of a folder that is to be written to."""
    path = pathlib.Path(path)
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(f"{path} is a file; name a folder.")


def _is_same(one, other):
    # Names do not tell: there are links, and file systems on which capitals make no difference.
    return os.path.samefile(one, other) if one.exists() and other.exists() else one.resolve() == other.resolve()


def _identity(path):
    """What all names of one file have in common; None where there is no file."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


# What has to be done about unfinished files, the last one first.
_UNFINISHED: list[Callable[[], None]] = []


def clean_up() -> None:
    """Takes away all that is unfinished, in all threads, and gives folders their names back; for a process that ends."""
    while _UNFINISHED:
        with contextlib.suppress(OSError):
            _UNFINISHED.pop()()


@contextlib.contextmanager
def _finally(action):
    """Runs an action when the block ends, or with `clean_up`."""
    _UNFINISHED.append(action)
    try:
        yield
    finally:
        action()
        with contextlib.suppress(ValueError):
            _UNFINISHED.remove(action)


@contextlib.contextmanager
def replacing(path: _Path) -> Iterator[pathlib.Path]:
    """Gives a free path beside `path` to write to, and renames it to `path` when the block ends without error.

    Args:
        path: the path of the file; an existing file is replaced, and of a link the link itself, not what it points to.

    Returns:
        A context manager of a hidden `pathlib.Path`; after an error nothing of it remains.
    """
    path = pathlib.Path(path)
    partial = _partial(path)
    with _finally(lambda: partial.unlink(missing_ok=True)):
        yield partial
        os.replace(partial, path)


@contextlib.contextmanager
def replacing_folder(path: _Path) -> Iterator[pathlib.Path]:
    """As `replacing`, for a folder: an existing one is removed once the new one is complete."""
    # Resolved, so that a link to the folder remains a link.
    path = pathlib.Path(path).resolve()
    partial = _partial(path)
    old = partial.with_suffix(".old")

    def restore():
        if old.exists() and not path.exists():
            os.replace(old, path)
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)

    with _finally(restore):
        yield partial
        # A folder is not replaced by a name, as a file is: the old one steps aside first.
        if path.exists():
            os.replace(path, old)
        os.replace(partial, path)


def reserve(stream: BinaryIO, size: int) -> None:
    """Makes room on the disk for a file that is about to be written, where the system can.

    Args:
        stream: the file, open for writing in binary.
        size: in bytes.

    Raises:
        OSError: there is no room.
    """
    if not hasattr(os, "posix_fallocate") or not size:
        return
    try:
        # Said before hours of work, not after them.
        os.posix_fallocate(stream.fileno(), 0, size)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
            raise


@contextlib.contextmanager
def locked(path: _Path, waiting: bool = False) -> Iterator[bool]:
    """Holds the right to write a file against other processes, and other users of `locked` in this one.

    The lock is a hidden file beside it, which is gone afterwards; of a process that was killed it remains, and holds
    nothing.

    Args:
        path: the path of the file, which need not be there.
        waiting: wait for another holder to end; else that is an error.

    Returns:
        A context manager of a bool: whether the file system has locks. Without them nothing is held.

    Raises:
        InvalidInputError: another process, or another user in this one, writes the file.
    """
    path = pathlib.Path(path).resolve()
    lock = path.with_name(f"{_prefix(path)}lock")
    stream = _taken(lock, path, waiting)
    if stream is None:
        yield False
        return

    def release():
        # While it is held: who takes one that is gone by then, tries again.
        lock.unlink(missing_ok=True)
        stream.close()

    with _finally(release):
        yield True


def _taken(lock, path, waiting):
    """The open file of a lock that is held now; None where there are no locks."""
    try:
        import fcntl
    except ModuleNotFoundError:
        return None
    while True:
        stream = lock.open("ab")
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | (0 if waiting else fcntl.LOCK_NB))
        except BlockingIOError as error:
            stream.close()
            raise InvalidInputError(
                f"{path} is being written by another process or fit: wait for it to end, or choose another path."
            ) from error
        except OSError:
            stream.close()
            lock.unlink(missing_ok=True)
            return None
        if _identity(lock) == (os.fstat(stream.fileno()).st_dev, os.fstat(stream.fileno()).st_ino):
            return stream
        stream.close()


def leftovers(path: _Path) -> list[pathlib.Path]:
    """The partial files that a process killed while writing a file at `path` has left beside it, a list of paths.

    Those of processes that still write it are among them: to be asked for while the file is `locked`.
    """
    path = pathlib.Path(path)
    pattern = re.compile(re.escape(_prefix(path)) + r"[0-9a-f]{32}\.partial")
    return [file for file in path.parent.glob(".*.partial") if pattern.fullmatch(file.name)]


def _partial(path):
    return path.with_name(f"{_prefix(path)}{uuid.uuid4().hex}.partial")


def _prefix(path):
    """How the names of what belongs to a file begin: no other file's do."""
    name = os.fsencode(path.name)
    return f".{path.name if len(name) <= _LONGEST else hashlib.sha256(name).hexdigest()}-"
