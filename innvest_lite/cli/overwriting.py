"""Results of an earlier run stay, unless --overwrite says otherwise. Called by the commands whose results take work."""

from __future__ import annotations

import argparse
import os
import pathlib
from collections.abc import Iterable

from innvest_lite.errors import InvalidInputError

# How many files a message names.
_NAMED = 3


def refuse_existing(paths: Iterable[str | os.PathLike[str]], arguments: argparse.Namespace) -> None:
    """Raises InvalidInputError where one of the paths to write is there already, and --overwrite was not given.

    Args:
        paths: files, or folders that would be replaced whole.
        arguments: of the command.
    """
    if arguments.overwrite:
        return
    there = [str(path) for path in map(pathlib.Path, paths) if path.exists()]
    if there:
        more = f" and {len(there) - _NAMED} more" if len(there) > _NAMED else ""
        raise InvalidInputError(
            f"There is {', '.join(there[:_NAMED])}{more} of an earlier run already: add --overwrite to replace it, or "
            "choose another --out."
        )
