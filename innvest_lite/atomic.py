"""Files that are written whole or not at all. Called wherever the package writes one."""

import contextlib
import os
import pathlib
import re
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


def leftovers(path):
    """What a process that was killed while it wrote a file at `path` left beside it."""
    path = pathlib.Path(path)
    pattern = re.compile(re.escape(_prefix(path)) + r"[0-9a-f]{32}\.partial")
    return [file for file in path.parent.glob(".*.partial") if pattern.fullmatch(file.name)]


def _prefix(path):
    return f".{path.stem[:80]}-"
