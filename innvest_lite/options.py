"""Options that people hand in, checked: numbers, words, shards, names, arrays. NumPy only; for the whole package."""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeVar

import numpy as np

from innvest_lite.errors import InvalidInputError

_Result = TypeVar("_Result")


def as_array(given: Any, what: str) -> np.ndarray:
    """`np.asarray(given)`.

    Raises:
        InvalidInputError: it has rows of different lengths or masked entries, or cannot be made an array.
    """
    refuse_masked(given, what)
    try:
        return np.asarray(given)
    except (ValueError, TypeError) as error:
        raise InvalidInputError(f"{what} cannot be read as an array: {error}") from error


def fits(shape: Sequence[int | None], expected: Sequence[int | None]) -> bool:
    """Whether a shape is the expected one; None, in either, may be any size."""
    return len(shape) == len(expected) and all(
        want is None or size is None or size == want for size, want in zip(shape, expected, strict=True)
    )


def checked_shapes(given: Any) -> Any:
    """The shape of a sample, a tuple of sizes, or a list or a dict of them; None stays None.

    Raises:
        InvalidInputError: it is none of these.
    """
    if given is None or (isinstance(given, list | tuple) and all(_is_size(size) for size in given)):
        return None if given is None else tuple(given)
    if isinstance(given, dict) and given:
        return {key: checked_shapes(one) for key, one in given.items()}
    if isinstance(given, list | tuple):
        return [checked_shapes(one) for one in given]
    raise InvalidInputError(
        "input_shape should be the shape of a sample, such as (224, 224, 3), or a list or a dict of shapes, but is "
        f"{given!r}."
    )


def _is_size(size):
    return size is None or (isinstance(size, int) and not isinstance(size, bool) and size > 0)


def refuse_masked(given: Any, what: str) -> None:
    """Raises InvalidInputError where entries of a masked array, or of one in a list, are masked.

    NumPy's functions would take the numbers that lie beneath the mask.

    Args:
        given: anything; only masked arrays, and lists and tuples of them, are looked at.
        what: what it is, for the message.
    """
    if _is_masked(given):
        raise InvalidInputError(
            f"{what} is a masked array, and some of its entries are masked: nothing stands for them here. Fill them, as "
            "with array.filled(0), or leave these samples out."
        )


def _is_masked(given):
    if isinstance(given, np.ma.MaskedArray):
        return bool(np.ma.is_masked(given))
    return isinstance(given, list | tuple) and any(map(_is_masked, given))


def truth(given: Any, name: str) -> bool:
    """An option that is True or False, as a bool.

    Raises:
        InvalidInputError: it is something else; every text, "no" too, would count as True.
    """
    if not isinstance(given, bool | np.bool_):
        raise InvalidInputError(f"{name} should be True or False, but is {_short(given)}.")
    return bool(given)


def truth_or(given: Any, word: str, name: str) -> bool | str:
    """An option that is True, False or one word.

    Raises:
        InvalidInputError: it is something else.
    """
    if isinstance(given, str) and given == word:
        return given
    if not isinstance(given, bool | np.bool_):
        raise InvalidInputError(f"{name} should be True, False or {word!r}, but is {_short(given)}.")
    return bool(given)


def positive(number: Any, name: str) -> int:
    """An option that counts something, as an int.

    Raises:
        InvalidInputError: it is not a whole number of at least 1.
    """
    if not _is_whole(number) or number < 1:
        raise InvalidInputError(f"{name} should be a whole number of at least 1, but is {number!r}.")
    return int(number)


def whole(number: Any, name: str) -> int:
    """An option that is any whole number, such as a seed, as an int.

    Raises:
        InvalidInputError: it is not a whole number.
    """
    if not _is_whole(number):
        raise InvalidInputError(f"{name} should be a whole number, but is {number!r}.")
    return int(number)


def _is_whole(number):
    return isinstance(number, int | np.integer) and not isinstance(number, bool)


def shard_of(shard: Any) -> tuple[int, int]:
    """`(index, count)`, which of `count` parts, as two ints.

    Raises:
        InvalidInputError: it is not a pair of whole numbers with `0 <= index < count`.
    """
    numbers = tuple(shard) if isinstance(shard, tuple | list) else ()
    if len(numbers) != 2 or not all(map(_is_whole, numbers)) or not 0 <= numbers[0] < numbers[1]:
        raise InvalidInputError(f"shard should be (index, count) with 0 <= index < count, but is {shard!r}.")
    return int(numbers[0]), int(numbers[1])


def one_of(given: Any, words: Collection[Any], name: str) -> Any:
    """`given`, if it is one of the words.

    Raises:
        InvalidInputError: it is not one of them, or not a text.
    """
    if not isinstance(given, str | None) or given not in words:
        raise InvalidInputError(f"{name} should be one of {tuple(words)}, but is {_short(given)}.")
    return given


def _short(given):
    """What was given, for a message: an array, such as labels handed over for the option, by its shape."""
    return f"an array of shape {given.shape}" if isinstance(given, np.ndarray) else repr(given)


def finite(number: Any, name: str) -> float:
    """An option that is a number, as a float.

    Raises:
        InvalidInputError: it is not a finite number.
    """
    number = number.item() if isinstance(number, np.ndarray) and number.ndim == 0 else number
    if not is_number(number):
        raise InvalidInputError(f"{name} should be a number, but is {number!r}.")
    return float(number)


def is_number(value: Any) -> bool:
    """Whether a value is a finite number, and not a truth value."""
    return isinstance(value, int | float | np.number) and not isinstance(value, bool) and bool(np.isfinite(value))


def seed_of(number: Any) -> int:
    """A seed, as an int.

    Raises:
        InvalidInputError: it is not a whole number from 0 to 2**64 - 1.
    """
    if not 0 <= whole(number, "seed") < 2**64:
        raise InvalidInputError(f"seed should lie between 0 and 2**64 - 1, but is {number}.")
    return int(number)


def names_of(keep: Any) -> tuple[str, ...]:
    """The names given as `keep=`, one name or several, as a tuple.

    Raises:
        InvalidInputError: it is neither a name nor several names.
    """
    keep = (keep,) if isinstance(keep, str) else keep
    if not isinstance(keep, list | tuple | set) or not all(isinstance(name, str) for name in keep):
        raise InvalidInputError(f"keep should be names of layers, but is {keep!r}.")
    return tuple(keep)


def formerly_positional(*names: str) -> Callable[[Callable[..., _Result]], Callable[..., _Result]]:
    """Function decorator: arguments that are given by name now are still taken by their place, for one release.

    Args:
        *names: in the order in which they stood behind the positional arguments that are left.

    Returns:
        The decorator.
    """

    def decorate(function: Callable[..., _Result]) -> Callable[..., _Result]:
        parameters = inspect.signature(function).parameters.values()
        places = sum(parameter.kind is parameter.POSITIONAL_OR_KEYWORD for parameter in parameters)

        @functools.wraps(function)
        def taking(*given: Any, **options: Any) -> _Result:
            late = given[places:]
            if late and len(late) <= len(names):
                named = dict(zip(names, late, strict=False))
                told = ", ".join(f"{name}=" for name in named)
                warnings.warn(f"{function.__name__} takes {told} by name now.", DeprecationWarning, stacklevel=2)
                return function(*given[:places], **named, **options)
            return function(*given, **options)

        return taking

    return decorate
