"""Whether a layer computes what its class says: a subclass with a `call` of its own may compute anything."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

_REPLACEABLE = ("call", "convolution_op", "_merge_function")


def is_plain(layer: Any, classes: Collection[type]) -> bool:
    """Whether a layer computes what one of Keras's own `classes` computes: it is one, its `call` (and what `call` asks and
    is made to be replaced: `convolution_op` of a convolution, `_merge_function` of a sum or a product) is that class's, and
    its weights are not quantized.
    """
    return getattr(layer, "quantization_mode", None) is None and any(
        cls in classes and all(_same_method(type(layer), cls, name) for name in _REPLACEABLE) for cls in type(layer).__mro__
    )


def is_keras_own(layer: Any) -> bool:
    """Whether what a layer computes is written in Keras: its `call`, and what `call` asks and is made to be replaced."""
    owners = (next((cls for cls in type(layer).__mro__ if name in vars(cls)), None) for name in _REPLACEABLE)
    return all(owner is None or owner.__module__.startswith("keras.src.layers.") for owner in owners)


def _same_method(layer_class, cls, name):
    return getattr(layer_class, name, None) is getattr(cls, name, None)
