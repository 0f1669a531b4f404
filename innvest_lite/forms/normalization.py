"""Normalizations by a sample's own statistics; to relevance the standard deviation is a constant (arXiv 2402.05602)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from innvest_lite.forms.base import Form
from innvest_lite.graph import Node


@dataclasses.dataclass(frozen=True, eq=False)
class Normalization(Form):
    """LayerNormalization, GroupNormalization, RMSNormalization, UnitNormalization."""

    def affine(self, *inputs: Any) -> Callable[..., tuple[Any, ...]]:
        """The normalization with the standard deviation (or norm) that these inputs have; the mean stays linear."""
        layer, weight = self.node.operation, self.weight(*inputs)
        _, beta = _weights(layer, weight.shape, weight.dtype)
        centres = _centres(layer) and not getattr(layer, "rms_scaling", False)

        def frozen(x):
            values, axes = _grouped(layer, ops.cast(x, weight.dtype))
            values = values - ops.mean(values, axes, keepdims=True) if centres else values
            values = weight * ops.reshape(values, ops.shape(x)) + beta
            return (ops.cast(values, self.node.output_specs[0].dtype),)

        return frozen

    def held(self, *inputs: Any) -> Callable[..., tuple[Any, ...]]:
        """The diagonal map that it is with the mean and the standard deviation that these inputs have."""
        weight, (x,), (output,) = self.weight(*inputs), inputs, self.forward(*inputs)

        def frozen(given):
            step = ops.cast(given, weight.dtype) - ops.cast(x, weight.dtype)
            return (output + ops.cast(weight * step, output.dtype),)

        return frozen

    def weight(self, *inputs: Any) -> Any:
        """The weight of that diagonal map.

        Args:
            *inputs: the tensor that it takes.

        Returns:
            Gamma over the standard deviation (or the norm), in the shape of the input, float32 or wider.
        """
        layer, (x,) = self.node.operation, inputs
        # In float32 at least, in which Keras takes these statistics, too.
        dtype = "float64" if x.dtype == "float64" else "float32"
        grouped, axes = _grouped(layer, ops.cast(x, dtype))
        inverse = _inverse(layer, grouped, axes, _centres(layer))
        gamma, _ = _weights(layer, x.shape, dtype)
        return ops.reshape(ops.ones_like(grouped) * inverse, ops.shape(x)) * gamma


@dataclasses.dataclass(frozen=True, eq=False)
class ByNorm(Normalization):
    """`keras.ops.normalize`: values divided by their norm."""

    def affine(self, *inputs: Any) -> Callable[..., tuple[Any, ...]]:
        """The values times one over the norm that these inputs have."""
        weight, dtype = self.weight(*inputs), self.node.output_specs[0].dtype
        return lambda x: (ops.cast(ops.cast(x, weight.dtype) * weight, dtype),)

    def weight(self, *inputs: Any) -> Any:
        """One over the norm, in the shape of the input, float32 or wider."""
        operation, (x,) = self.node.operation, inputs
        x = ops.cast(x, "float64" if x.dtype == "float64" else "float32")
        least = keras.config.epsilon() if operation.epsilon is None else operation.epsilon
        norm = ops.norm(x, ord=operation.order, axis=operation.axis, keepdims=True)
        return ops.ones_like(x) / ops.maximum(norm, least)


def _centres(layer):
    """Whether the mean is taken off."""
    return not isinstance(layer, keras.layers.RMSNormalization | keras.layers.UnitNormalization)


def _grouped(layer, x):
    """The values, in groups where the layer makes groups, and the axes over which it takes statistics."""
    if not isinstance(layer, keras.layers.GroupNormalization):
        axes = layer.axis if isinstance(layer.axis, list | tuple) else [layer.axis]
        return x, sorted(axis % len(x.shape) for axis in axes)
    channels = x.shape[-1]
    groups = channels if layer.groups == -1 else layer.groups
    shape = (*ops.shape(x)[:-1], groups, channels // groups)
    rank = len(shape)
    return ops.reshape(x, shape), [axis for axis in range(1, rank) if axis != rank - 2]


def _inverse(layer, x, axes, centres):
    """One over the standard deviation, the root mean square or the norm."""
    if isinstance(layer, keras.layers.UnitNormalization):
        # Keras adds nothing to the norm but a floor.
        return ops.rsqrt(ops.maximum(ops.sum(ops.square(x), axes, keepdims=True), 1e-12))
    if centres:
        return ops.rsqrt(ops.var(x, axes, keepdims=True) + layer.epsilon)
    return ops.rsqrt(ops.mean(ops.square(x), axes, keepdims=True) + layer.epsilon)


def _weights(layer, shape, dtype):
    """Gamma and beta, so that they broadcast against the values."""
    if isinstance(layer, keras.layers.RMSNormalization):
        scale, offset = layer.scale, None
    else:
        scale, offset = getattr(layer, "gamma", None), getattr(layer, "beta", None)
    if getattr(layer, "rms_scaling", False):
        offset = None
    return _spread(layer, scale, shape, dtype, 1.0), _spread(layer, offset, shape, dtype, 0.0)


def _spread(layer, weight, shape, dtype, default):
    if weight is None:
        return ops.convert_to_tensor(default, dtype)
    axes = layer.axis if isinstance(layer.axis, list | tuple) else [layer.axis]
    axes = {axis % len(shape) for axis in axes}
    sizes = tuple(size if axis in axes else 1 for axis, size in enumerate(shape))
    if math.prod(sizes) != math.prod(weight.shape):
        return ops.cast(weight, dtype)
    return ops.cast(ops.reshape(weight, sizes), dtype)


def normalization(node: Node) -> Form:
    """The form of a normalization node; opaque where groups lie along another axis than the last."""
    layer = node.operation
    grouped = isinstance(layer, keras.layers.GroupNormalization)
    # `_grouped` splits the last axis alone.
    if grouped and layer.axis not in (-1, len(node.input_specs[0].shape) - 1):
        return Form(node, "opaque")
    return Normalization(node, "normalization")


LAYERS = dict.fromkeys(
    (
        keras.layers.LayerNormalization,
        keras.layers.GroupNormalization,
        keras.layers.RMSNormalization,
        keras.layers.UnitNormalization,
    ),
    normalization,
)
