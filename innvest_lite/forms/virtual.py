"""The linear forms without a kernel of their own: sums, average pooling, global average pooling.

Each gets a virtual kernel, so that patterns exist for residual networks too: one weight per addend and channel for a
sum, 1/n per tap and channel for an average. Forward values are the layer's own; only the VJPs use `apply`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from innvest_lite.forms.base import Form, LinearForm
from innvest_lite.graph import Node


@dataclasses.dataclass(frozen=True, eq=False)
class VirtualForm(LinearForm):
    """A linear node whose kernel is a constant of the architecture.

    Attributes:
        constant: the kernel, a NumPy array.
    """

    constant: np.ndarray | None = None

    def raw_kernel(self) -> Any:
        """The constant."""
        return ops.convert_to_tensor(self.constant)

    @property
    def weights_key(self) -> tuple[Any, ...]:
        """Each call has a virtual kernel of its own: two sums share no weights."""
        return (self.node.name,)

    def forward(self, *inputs: Any) -> tuple[Any, ...]:
        """The layer's own output."""
        return self.node.call(*inputs)


@dataclasses.dataclass(frozen=True, eq=False)
class Sum(VirtualForm):
    """Add, Subtract, `x + y`, a weighted sum of tensors; kernel (addends, channels)."""

    def apply(self, inputs: tuple[Any, ...], kernel: Any) -> Any:
        """The sum of `inputs[i] * kernel[i]`, channel by channel."""
        axis = self.unit_axes[0]
        rank = len(self.node.output_specs[0].shape)
        shape = tuple(-1 if position == axis else 1 for position in range(rank))
        terms = [ops.cast(x, kernel.dtype) * ops.reshape(kernel[i], shape) for i, x in enumerate(inputs)]
        return sum(terms[1:], terms[0])


@dataclasses.dataclass(frozen=True, eq=False)
class GlobalAverage(VirtualForm):
    """GlobalAveragePooling1D, 2D, 3D; kernel (positions..., channels)."""

    def apply(self, inputs: tuple[Any, ...], kernel: Any) -> Any:
        """The sum of `x * kernel` over all positions."""
        x = ops.cast(inputs[0], kernel.dtype)
        first = _channels_first(self.node)
        kernel = ops.moveaxis(kernel, -1, 0) if first else kernel
        axes = tuple(range(2, len(x.shape))) if first else tuple(range(1, len(x.shape) - 1))
        return ops.sum(x * kernel, axis=axes, keepdims=self.node.operation.keepdims)


@dataclasses.dataclass(frozen=True, eq=False)
class Average(VirtualForm):
    """AveragePooling1D, 2D, 3D; kernel (taps..., channels).

    With "same" padding a window at the border has fewer taps, and TensorFlow divides by their number; so does `apply`.
    """

    def apply(self, inputs: tuple[Any, ...], kernel: Any) -> Any:
        """The sum of `x * kernel` over each window."""
        x = ops.cast(inputs[0], kernel.dtype)
        first = _channels_first(self.node)
        x = ops.moveaxis(x, 1, -1) if first else x
        output = self._windows(x, kernel)
        if self.node.operation.padding == "same":
            taps = math.prod(kernel.shape[:-1])
            # How many taps of each window lie inside the input; one sample and channel are enough to count them.
            present = self._windows(ops.ones_like(x[:1, ..., :1]), ops.ones_like(kernel[..., :1]))
            output = output * (taps / present)
        return ops.moveaxis(output, -1, 1) if first else output

    def _windows(self, x, kernel):
        layer = self.node.operation
        if len(layer.pool_size) < 3 and len(set(layer.strides)) == 1:
            return ops.depthwise_conv(x, kernel[..., None], layer.strides, layer.padding, "channels_last")
        # Depthwise convolutions know neither three dimensions nor unequal strides; a grouped convolution is the same.
        return ops.conv(x, kernel[..., None, :], layer.strides, layer.padding, "channels_last")


def weighted_sum(node: Node, weights: Sequence[float]) -> Form:
    """The form of `sum_i weights[i] * inputs[i]`; without a kernel where the channels are not fixed or the ranks differ.

    Args:
        node: a node with at least two inputs.
        weights: one number per input.
    """
    spec = node.output_specs[0]
    rank = len(spec.shape)
    # A sum has no data format of its own; Keras's global one is for images alone.
    first = rank > 3 and keras.config.image_data_format() == "channels_first"
    axis = 1 if first else rank - 1
    ranks = {len(taken.shape) for taken in node.input_specs}
    if axis < 1 or spec.shape[axis] is None or ranks != {rank}:
        return Form(node, "sum")
    constant = np.array(weights, "float32")[:, None] * np.ones(spec.shape[axis], "float32")
    return Sum(node, "sum", fan_in=(0,), unit_axes=(axis,), constant=constant)


def average(node: Node) -> Form:
    """The form of an average pooling node."""
    layer = node.operation
    channels = node.input_specs[0].shape[1 if _channels_first(node) else -1]
    constant = np.full((*layer.pool_size, channels), 1 / math.prod(layer.pool_size), "float32")
    return Average(
        node, "average", fan_in=tuple(range(len(layer.pool_size))), unit_axes=_channel_axis(node), constant=constant
    )


def global_average(node: Node) -> Form:
    """The form of a global average pooling node; without a kernel where its input is masked or of no fixed size."""
    shape: tuple[Any, ...] = node.input_specs[0].shape[1:]
    if node.input_specs[0].masked or None in shape:
        return Form(node, "average")
    *positions, channels = (*shape[1:], shape[0]) if _channels_first(node) else shape
    constant = np.full((*positions, channels), 1 / math.prod(positions), "float32")
    return GlobalAverage(
        node, "average", fan_in=tuple(range(len(positions))), unit_axes=_channel_axis(node), constant=constant
    )


def _channels_first(node):
    return node.operation.data_format == "channels_first"


def _channel_axis(node):
    rank = len(node.output_specs[0].shape)
    return (1,) if _channels_first(node) else (rank - 1,)


LAYERS = {
    keras.layers.Add: lambda node: weighted_sum(node, [1.0] * len(node.inputs)),
    keras.layers.Subtract: lambda node: weighted_sum(node, [1.0, -1.0]),
    keras.layers.Average: lambda node: weighted_sum(node, [1 / len(node.inputs)] * len(node.inputs)),
    keras.layers.AveragePooling1D: average,
    keras.layers.AveragePooling2D: average,
    keras.layers.AveragePooling3D: average,
    keras.layers.GlobalAveragePooling1D: global_average,
    keras.layers.GlobalAveragePooling2D: global_average,
    keras.layers.GlobalAveragePooling3D: global_average,
}
