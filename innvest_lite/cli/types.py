"""What the values of options may be: from the text on the command line to a value, or argparse's own error.

Called by `parser`; imports nothing heavy.
"""

from __future__ import annotations

import argparse
import contextlib
import json
from typing import Any


def positive(text: str) -> int:
    """A whole number above 0."""
    number = int(text) if text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return number


def percentile(text: str) -> float:
    """A number above 0, up to 100."""
    try:
        number = float(text)
    except ValueError:
        number = 0
    if not 0 < number <= 100:
        raise argparse.ArgumentTypeError(f"{text!r} is not a percentile, a number above 0 up to 100")
    return number


def whole(text: str) -> int:
    """A whole number of at least 0."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 0")
    return int(text)


def names(text: str) -> list[str]:
    """Names between commas."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise argparse.ArgumentTypeError(f"{text!r} holds no name")
    return names


def estimator(text: str) -> str | dict[str, str]:
    """A word, or words by kind of layer: kind=word,kind=word."""
    if "=" not in text:
        return text
    pairs = [part.partition("=") for part in text.split(",")]
    return {kind.strip(): word.strip() for kind, _, word in pairs}


def shard(text: str) -> tuple[int, int]:
    """I/N, with I from 1 to N, as `(index, count)` from 0."""
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form I/N with I from 1 to N")
    return int(number) - 1, int(count)


def option(text: str) -> tuple[str, Any]:
    """A name and a value: a number, true, false, null, a list in JSON, (low, high) or low,high, else a word.

    Python's True, False and None will do too.
    """
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=VALUE")
    bare = value[1:-1] if value[:1] + value[-1:] == "()" else value
    value = {"True": "true", "False": "false", "None": "null"}.get(value, value)
    for text in (value, f"[{bare}]" if "," in bare else value):
        with contextlib.suppress(json.JSONDecodeError):
            return name, json.loads(text)
    return name, value


def target(text: str) -> int | str | tuple[int, ...]:
    """A whole number, several between commas as a tuple, else a word: "all", or the name of a class."""
    numbers = text.split(",")
    if not all(number.isdecimal() for number in numbers):
        return text
    return int(text) if len(numbers) == 1 else tuple(map(int, numbers))
