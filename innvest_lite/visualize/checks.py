"""The checks of arrays that all makers of pictures share; each returns what it checked, or raises.

Called by the other files of `visualize`. No check edits its argument.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from innvest_lite.errors import InvalidInputError
from innvest_lite.options import refuse_masked


def as_batch(array: Any, name: str, keep_bytes: bool = False) -> tuple[np.ndarray, bool]:
    """A float64 batch with channels, made from an array of rank 2, 3 or 4.

    Args:
        array: numbers of shape `(batch, height, width, channels)`, `(height, width, channels)` or `(height, width)`.
        name: what messages call the array.
        keep_bytes: whether uint8 stays uint8.

    Returns:
        The pair (float64 array `(batch, height, width, channels)`, whether the input was a batch).

    Raises:
        InvalidInputError: another rank, an empty axis, a type that is not a real number, or NaN or Inf.
    """
    array = as_array(array, name)
    if not np.can_cast(array.dtype, np.float64, casting="same_kind"):
        raise InvalidInputError(f"{name} has the type {array.dtype}; expected real numbers, such as float32.")
    if array.ndim not in (2, 3, 4) or array.size == 0:
        raise InvalidInputError(
            f"{name} has the shape {array.shape}; expected a batch (batch, height, width, channels), one image "
            "(height, width, channels) or one image without channels (height, width), with no empty axis."
        )
    numbers = array if keep_bytes and array.dtype == np.uint8 else array.astype(np.float64)
    _check_finite(numbers, name)
    if numbers.ndim == 2:
        numbers = numbers[..., None]
    return (numbers, True) if numbers.ndim == 4 else (numbers[None], False)


def as_picture(picture: Any, name: str) -> np.ndarray:
    """The picture itself, once it is known to be uint8 of shape (height, width, 3).

    Raises:
        InvalidInputError: another type or shape, or an empty axis.
    """
    array = as_array(picture, name)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[-1] != 3 or array.size == 0:
        raise InvalidInputError(
            f"{name} is {array.dtype} with the shape {array.shape}; expected one picture, uint8 (height, width, 3). "
            "heatmap, project and overlay make such pictures; list(pictures) makes single pictures of a batch."
        )
    return array


def check_colour_channels(batch: np.ndarray, name: str, instead: str) -> None:
    """Raise InvalidInputError unless the batch has one channel (grey) or three (red, green, blue)."""
    channels = batch.shape[-1]
    if channels not in (1, 3):
        raise InvalidInputError(f"{name} has {channels} channels; expected 1 (grey) or 3 (red, green, blue). {instead}")


def check_size(value: Any, name: str, least: int, what: str = "pixels") -> None:
    """Raise InvalidInputError unless the value is a whole number, at least `least`."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise InvalidInputError(f"{name} is {value!r}; expected a whole number of {what}, at least {least}.")


def as_array(values: Any, name: str) -> np.ndarray:
    """The values as an array; InvalidInputError where parts differ in shape, as in a list of pictures of several sizes, or
    where entries are masked.
    """
    refuse_masked(values, name)
    try:
        return np.asarray(values)
    except ValueError as error:
        raise InvalidInputError(f"The parts of {name} have different shapes ({error}); pass them one by one.") from error


def _check_finite(numbers, name):
    """Raise InvalidInputError that counts NaN and Inf and gives the first place."""
    wrong = ~np.isfinite(numbers)
    if wrong.any():
        place = tuple(int(index) for index in np.argwhere(wrong)[0])
        raise InvalidInputError(
            f"{name} has {int(wrong.sum())} values that are NaN or Inf, the first at {place}; expected finite numbers. "
            "Check the input and the weights, or replace such values deliberately with numpy.nan_to_num."
        )
