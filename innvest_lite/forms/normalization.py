"""Normalizations by a sample's own statistics; to relevance the standard deviation is a constant (arXiv 2402.05602)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
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

    @property
    def is_euclidean(self) -> bool:
        """Whether it divides by a standard deviation, a root mean square or a Euclidean norm."""
        return True

    def mean_pullback(self, x: Any, before: Any, cotangent: Any) -> Any:
        """The mean of its vector-Jacobian products on the straight way between two inputs, in closed form.

        Args:
            x: the end of the way, a tensor of the input's shape.
            before: its start, likewise.
            cotangent: likewise, float32 or wider.
        """
        layer, dtype = self.node.operation, cotangent.dtype
        centres = _centres(layer) and not getattr(layer, "rms_scaling", False)
        gamma, _ = _weights(layer, x.shape, dtype)
        (end, axes), (start, _), (given, _) = (
            _grouped(layer, ops.cast(one, dtype)) for one in (x, before, cotangent * gamma)
        )
        if centres:
            start, end = (one - ops.mean(one, axes, keepdims=True) for one in (start, end))
        found = _mean_pullback(start, end, given, axes, *self._squares(axes, end))
        found = found - ops.mean(found, axes, keepdims=True) if centres else found
        return ops.reshape(found, ops.shape(x))

    def _squares(self, axes, grouped):
        """`(share, floor)`: it divides by the root of share times the sum of squares, plus the floor."""
        layer = self.node.operation
        if isinstance(layer, keras.layers.UnitNormalization):
            return 1.0, 1e-12
        count = math.prod(ops.shape(grouped)[axis] for axis in axes)
        return 1 / count, layer.epsilon

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

    @property
    def is_euclidean(self) -> bool:
        """See `Normalization.is_euclidean`."""
        return self.node.operation.order == 2

    def mean_pullback(self, x: Any, before: Any, cotangent: Any) -> Any:
        """See `Normalization.mean_pullback`."""
        operation, dtype = self.node.operation, cotangent.dtype
        axes = [axis % len(x.shape) for axis in np.atleast_1d(operation.axis).tolist()]
        return _mean_pullback(ops.cast(before, dtype), ops.cast(x, dtype), cotangent, axes, 1.0, self._least() ** 2)

    def _least(self):
        """The norm that it divides by at least."""
        epsilon = self.node.operation.epsilon
        return keras.config.epsilon() if epsilon is None else epsilon

    def affine(self, *inputs: Any) -> Callable[..., tuple[Any, ...]]:
        """The values times one over the norm that these inputs have."""
        weight, dtype = self.weight(*inputs), self.node.output_specs[0].dtype
        return lambda x: (ops.cast(ops.cast(x, weight.dtype) * weight, dtype),)

    def weight(self, *inputs: Any) -> Any:
        """One over the norm, in the shape of the input, float32 or wider."""
        operation, (x,) = self.node.operation, inputs
        x = ops.cast(x, "float64" if x.dtype == "float64" else "float32")
        norm = ops.norm(x, ord=operation.order, axis=operation.axis, keepdims=True)
        return ops.ones_like(x) / ops.maximum(norm, self._least())


def _mean_pullback(start, end, given, axes, share, floor):
    """The mean of the VJPs of u / sqrt(share sum(u^2) + floor) on the straight way from `start` to `end`.

    With u = u* + t d, u* being where the root is smallest, and t = sqrt(s* / a) sinh(z), the root is sqrt(s*) cosh(z), and
    what is to be integrated are powers of cosh(z): the ends' z, tanh(z) and 1 / cosh(z).
    """

    def added(one, two):
        return ops.sum(one * two, axes, keepdims=True)

    way = end - start
    square = share * added(way, way)
    # Where there is no way to go, it is the derivative; its length then is of no matter.
    none = square <= 1e-10 * (share * (added(start, start) + added(end, end)) + floor)
    square = ops.where(none, ops.ones_like(square), square)
    nearest = -share * added(start, way) / square
    nearest = ops.where(none, ops.zeros_like(nearest), nearest)
    least = start + nearest * way
    smallest = share * added(least, least) + floor
    scale = ops.sqrt(smallest / square)
    ends = [ops.arcsinh((place - nearest) / scale) for place in (0.0, 1.0)]
    lengths, tangents, cosines = (ops.subtract(*map(f, reversed(ends))) for f in (lambda z: z, ops.tanh, _sech))
    direction = scale * way
    whole, along = added(given, least), added(given, direction)
    curved = least * (whole * tangents - along * cosines) + direction * (along * (lengths - tangents) - whole * cosines)
    found = scale / ops.sqrt(smallest) * (given * lengths - share * curved / smallest)
    straight = ops.rsqrt(share * added(end, end) + floor)
    return ops.where(none, straight * given - share * straight**3 * end * added(given, end), found)


def _sech(z):
    return 1 / ops.cosh(z)


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
