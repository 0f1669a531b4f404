"""What patches become: their own mean, the sample's, zero, or what a user gives; and a loop over the steps of replacing.

Called by `degradation` and `single_deletion`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from keras import ops

from innvest_lite import backend
from innvest_lite.errors import InvalidInputError
from innvest_lite.forms.inputs import is_integer
from innvest_lite.inputs import InputSpec
from innvest_lite.metrics.patches import Patches
from innvest_lite.options import as_array, one_of

REPLACEMENTS = ("patch_mean", "image_mean", "data_mean", "zero")
_OTHERS = f"one of {REPLACEMENTS}, a callable, "


def fill_of(replace: str | np.ndarray | Callable, x: np.ndarray, patches: Patches, inputs: InputSpec) -> np.ndarray:
    """The replacement of patches: of the dtype and rank of `x`; along positions as long as the input, as the grid, or 1."""
    if not isinstance(replace, str):
        return _own_images(replace, x, inputs) if callable(replace) else own_sample(replace, x, inputs, "replace", _OTHERS)
    one_of(replace, REPLACEMENTS, "replace")
    if replace == "zero":
        return np.zeros((len(x), *[1] * (x.ndim - 1)), x.dtype)
    if is_integer(x.dtype.name):
        raise InvalidInputError(f"The model takes whole numbers, whose mean is not one: replace should not be {replace!r}.")
    if replace == "data_mean":
        return np.broadcast_to(x.mean(axis=0, keepdims=True, dtype="float64").astype(x.dtype), x.shape)
    if replace == "patch_mean":
        if patches.count == math.prod(patches.sizes):
            raise InvalidInputError(
                "A patch of one position is its own mean, so that nothing would change: take larger patches, or another "
                'replacement, such as replace="data_mean".'
            )
        return patches.means(x).astype(x.dtype)
    return x.mean(axis=patches.axes, keepdims=True, dtype="float64").astype(x.dtype)


def own_sample(given: Any, x: np.ndarray, inputs: InputSpec, name: str, others: str = "") -> np.ndarray:
    """A number, or an array that broadcasts to a sample, in the samples' shape and dtype.

    Args:
        given: the number or the array.
        x: the samples.
        inputs: what the model takes.
        name: of the argument, for messages.
        others: what the argument may be instead, for messages.

    Raises:
        InvalidInputError: it does not broadcast to a sample, or a sample of it would be none of the model's.
    """
    array, expected = as_array(given, name), x.shape[1:]
    if array.dtype.kind not in "fiub" or not _broadcasts(array.shape, expected):
        raise InvalidInputError(
            f"{name} should be {others}a number or an array that broadcasts to a sample of shape {expected}, but is "
            f"{array.dtype} of shape {array.shape} ({type(given).__name__})."
        )
    return np.broadcast_to(_like_samples(np.broadcast_to(array, expected)[None], inputs, name), x.shape)


def _broadcasts(shape, expected):
    try:
        return np.broadcast_shapes(shape, expected) == expected
    except ValueError:
        return False


def _own_images(replace, x, inputs):
    # A copy: what the callable does to its argument must not reach the samples.
    images = _like_samples(replace(x.copy()), inputs, "replace")
    if images.shape != x.shape:
        raise InvalidInputError(
            f"The array that replace returns should have the samples' shape {x.shape}, but has {images.shape}."
        )
    return images


def _like_samples(images, inputs, name):
    """Replacements, checked as the samples are and of their dtype."""
    try:
        return inputs.flat(images)[0]
    except InvalidInputError as error:
        raise InvalidInputError(f"What {name} gives should be valid samples of the model. {error}") from error


def each_step(count: int, value: Callable[[Any], Any], samples: Any) -> Any:
    """`value(step)`, (samples, 1), of each step, side by side: float64 (samples, count). Compiled, it is one loop."""

    def body(step, state):
        return (ops.where(ops.arange(count, dtype="int32") == step, value(step), state[0]),)

    return backend.loop(count, body, (ops.zeros((samples, count), "float64"),))[0]
