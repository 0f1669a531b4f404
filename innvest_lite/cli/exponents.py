"""`exponents.json`: which values of a folder's results were divided by a power of two, to fit float32.

An entry belongs to one result. It is written before its values, and an earlier result of that name is removed first: at no
moment, also not after a crash, does a file stand beside the exponent of other values. Called by `analysis`.
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping

from innvest_lite.cli.terminal import say
from innvest_lite.errors import InvalidInputError
from innvest_lite.files import locked, replacing

NAME = "exponents.json"


def note(out: pathlib.Path, powers: Mapping[str, int | dict[str, int]]) -> None:
    """Records the exponents of results that are written next; entries of other results stay.

    Args:
        out: the folder of the results.
        powers: the name of a result, without .npy -> its exponent, or row -> exponent of an array; 0 or {} for none.

    Raises:
        InvalidInputError: the folder has an `exponents.json` that is none of ours.
    """
    file = out / NAME
    with locked(file, waiting=True):
        before = _read(file)
        after = {name: power for name, power in {**before, **powers}.items() if power}
        for name in powers:
            if before.get(name) != after.get(name):
                (out / f"{name}.npy").unlink(missing_ok=True)
        if after == before:
            return
        if not after:
            file.unlink(missing_ok=True)
            return
        with replacing(file) as partial:
            partial.write_text(json.dumps(after, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def check(out: pathlib.Path) -> None:
    """Raises InvalidInputError where a folder has an `exponents.json` that is none of ours."""
    _read(out / NAME)


def _read(file):
    """The entries of a file; none where there is no file."""
    try:
        found = json.loads(file.read_bytes())
    except FileNotFoundError:
        return {}
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not all(map(_is_entry, found.values())):
        raise InvalidInputError(
            f"{file} is not what analyze writes, and is not replaced: remove it, or choose another folder."
        )
    return found


def _is_entry(value):
    numbers = value.values() if isinstance(value, dict) else (value,)
    return all(isinstance(number, int) for number in numbers)


def say_what_is_scaled(count: int, out: pathlib.Path) -> None:
    """Says that so many values had to be divided by a power of two to fit float32, if any had."""
    if count:
        say(
            f"{count} explanations are outside the range of float32: multiply the values of the .npy file by "
            f"2**exponent, with the exponents in {out / NAME}. Their direction is exact."
        )
