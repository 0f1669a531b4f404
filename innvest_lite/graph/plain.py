"""Whether a layer computes what its class says: a subclass with a `call` of its own may compute anything."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any


def is_plain(layer: Any, classes: Collection[type]) -> bool:
    """Whether a layer computes what one of Keras's own `classes` computes: it is one, its `call` (and, of a convolution,
    `convolution_op`, which is made to be replaced) is that class's, and its weights are not quantized.
    """
    return getattr(layer, "quantization_mode", None) is None and any(
        cls in classes and all(_same_method(type(layer), cls, name) for name in ("call", "convolution_op"))
        for cls in type(layer).__mro__
    )


def _same_method(layer_class, cls, name):
    return getattr(layer_class, name, None) is getattr(cls, name, None)
