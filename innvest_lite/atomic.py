"""Files that are written whole or not at all. Called wherever the package writes one."""

import contextlib
import os
import pathlib
import re
import shutil
import uuid


@contextlib.contextmanager
def replacing(path):
    """Gives a free path beside `path` to write to, and moves what is there into its place when the block ends well.

    Args:
        path: where the file shall stand; one that is there is replaced.

    Returns:
        A context manager of a hidden `pathlib.Path`; after an error nothing is left of it.
    """
    path = pathlib.Path(path)
    partial = path.with_name(f"{_prefix(path)}{uuid.uuid4().hex}.partial")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing_folder(path):
    """As `replacing`, for a folder: what is at `path` goes when the new one is whole."""
    # Behind links, which stay what they are.
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


def leftovers(path):
    """What a process that was killed while it wrote a file at `path` left beside it."""
    path = pathlib.Path(path)
    pattern = re.compile(re.escape(_prefix(path)) + r"[0-9a-f]{32}\.partial")
    return [file for file in path.parent.glob(".*.partial") if pattern.fullmatch(file.name)]


def _prefix(path):
    return f".{path.stem[:80]}-"
