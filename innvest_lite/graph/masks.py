"""The masks that Keras leaves on tensors; as operations, where a composite layer takes one, leaves one, or drops one."""

from __future__ import annotations

from typing import Any

import keras


def mask_of(tensor: Any) -> Any:
    """The Keras mask of a tensor; None where it has none."""
    return getattr(tensor, "_keras_mask", None)


def with_mask(tensor: Any, mask: Any) -> Any:
    """The tensor itself, with a Keras mask; None: as it is."""
    if mask is not None:
        tensor._keras_mask = mask
    return tensor


def carry_mask(layer: Any, source: Any, output: Any) -> Any:
    """Hands the Keras mask of `source` on to `output`, as `layer.__call__` would have done."""
    return with_mask(output, mask_of(source)) if layer.supports_masking else output


def copy_mask(source: Any, output: Any) -> Any:
    """Hands the Keras mask of `source`, if it has one, on to `output`."""
    return with_mask(output, mask_of(source))


class TakeMask:
    """The Keras mask of a tensor, as an operation."""

    def call(self, x: Any) -> Any:
        """The mask that a layer left on `x`, a tensor of truth values."""
        return mask_of(x)

    __call__ = call


class LeaveMask:
    """A composite layer's way of leaving a mask on what it gives, as an operation."""

    def call(self, x: Any, mask: Any) -> Any:
        """`x`, with a mask."""
        return with_mask(keras.ops.copy(x), mask)

    __call__ = call


class DropMask:
    """A layer's way of taking the mask off what it is given, as an operation."""

    def call(self, x: Any) -> Any:
        """`x`, without a mask."""
        return keras.ops.copy(x)

    __call__ = call
