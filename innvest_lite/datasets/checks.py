"""Options and numbers of data sets, checked. Called by the makers in this folder."""

from __future__ import annotations

from typing import Any

import numpy as np

from innvest_lite.errors import InvalidInputError
from innvest_lite.options import as_array, finite, seed_of


def generator(seed: Any) -> np.random.Generator:
    """The random numbers of a seed."""
    return np.random.default_rng(seed_of(seed))


def non_negative(number: Any, name: str) -> float:
    """An option of at least 0 that float32 can hold, as a float."""
    if not 0 <= finite(number, name) <= float(np.finfo("float32").max):
        raise InvalidInputError(f"{name} should be a number of at least 0 within float32's range, but is {number!r}.")
    return float(number)


def fraction(number: Any, name: str) -> float:
    """An option in 0..1, as a float."""
    if not 0 <= finite(number, name) <= 1:
        raise InvalidInputError(f"{name} should be a number in 0..1, but is {number!r}.")
    return float(number)


def numbers(given: Any, name: str) -> np.ndarray:
    """An array of finite numbers that float32 can hold, as float64."""
    array = as_array(given, name)
    if array.dtype.kind not in "fiu" or not array.size:
        raise InvalidInputError(f"{name} should hold numbers, but has dtype {array.dtype} and shape {array.shape}.")
    return float32(array, name).astype("float64")


def float32(array: np.ndarray, name: str) -> np.ndarray:
    """An array as float32, where all of its numbers stay finite."""
    with np.errstate(over="ignore"):
        cast = array.astype("float32")
    if not np.isfinite(cast).all():
        raise InvalidInputError(f"{name} has values that are not finite, or leave the range of float32.")
    return cast
