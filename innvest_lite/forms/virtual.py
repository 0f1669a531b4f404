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

from innvest_lite.forms.base import Form, LinearForm, as_dtype, weighted
from innvest_lite.graph import Graph, Node
from innvest_lite.graph.once import once


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
    """Add, Subtract, `x + y`, a weighted sum of tensors; kernel (addends, channels).

    Attributes:
        weights: one number per addend.
    """

    weights: tuple[float, ...] = ()

    def apply(self, inputs: tuple[Any, ...], kernel: Any) -> Any:
        """The sum of `inputs[i] * kernel[i]`, channel by channel."""
        terms = [ops.cast(x, kernel.dtype) * self._factor(kernel, i) for i, x in enumerate(inputs)]
        return sum(terms[1:], terms[0])

    def vjp_inputs(self, inputs: tuple[Any, ...], kernel: Any, cotangent: Any) -> tuple[Any, ...]:
        """See `LinearForm.vjp_inputs`; in closed form, where no addend is broadcast."""
        shapes = [spec.shape for spec in (*self.node.input_specs, *self.node.output_specs)]
        if len(set(shapes)) > 1 or None in shapes[0][1:]:
            return super().vjp_inputs(inputs, kernel, cotangent)
        # TensorFlow's gradient asks for the shapes of the terms, so that all of them would be computed.
        return tuple(cotangent * self._factor(kernel, i) for i in range(len(inputs)))

    def vjp_kernel(self, inputs: tuple[Any, ...], cotangent: Any) -> Any:
        """See `LinearForm.vjp_kernel`: for each addend, a sum over samples and positions."""
        return ops.stack([self.per_unit(as_dtype(x, cotangent.dtype) * cotangent) for x in inputs])

    def input_sums(self, inputs: tuple[Any, ...], like: Any, weights: Any = None) -> Any:
        """See `LinearForm.input_sums`."""
        alike = [ops.broadcast_to(as_dtype(x, like.dtype), ops.shape(like)) if x.shape != like.shape else x for x in inputs]
        return ops.stack([self.per_unit(weighted(as_dtype(x, like.dtype), weights)) for x in alike])

    def _factor(self, kernel, addend):
        axis, rank = self.unit_axes[0], len(self.node.output_specs[0].shape)
        return ops.reshape(kernel[addend], tuple(-1 if position == axis else 1 for position in range(rank)))


@dataclasses.dataclass(frozen=True, eq=False)
class BroadcastSum(Form):
    """A weighted sum whose addends differ in rank, or whose channels are not fixed: without a kernel.

    Attributes:
        weights: one number per addend.
    """

    weights: tuple[float, ...] = ()


@dataclasses.dataclass(frozen=True, eq=False)
class GlobalAverage(VirtualForm):
    """A mean over all positions; kernel (positions..., channels).

    Attributes:
        positions: their axes.
        keepdims: whether these axes stay, with a size of 1.
    """

    positions: tuple[int, ...] = ()
    keepdims: bool = False

    def apply(self, inputs: tuple[Any, ...], kernel: Any) -> Any:
        """The sum of `x * kernel` over all positions."""
        x = ops.cast(inputs[0], kernel.dtype)
        kernel = kernel if 1 in self.positions else ops.moveaxis(kernel, -1, 0)
        return ops.sum(x * kernel, axis=self.positions, keepdims=self.keepdims)


@dataclasses.dataclass(frozen=True, eq=False)
class Average(VirtualForm):
    """Average pooling over windows of 1 to 3 dimensions; kernel (taps..., channels).

    With "same" padding a window at the border has fewer taps, and TensorFlow divides by their number; so does `apply`.

    Attributes:
        strides: one per dimension.
        padding: "same" or "valid".
        channels_first: whether the channels stand before the positions.
    """

    strides: tuple[int, ...] = ()
    padding: str = "valid"
    channels_first: bool = False

    def apply(self, inputs: tuple[Any, ...], kernel: Any) -> Any:
        """The sum of `x * kernel` over each window."""
        x = ops.cast(inputs[0], kernel.dtype)
        x = ops.moveaxis(x, 1, -1) if self.channels_first else x
        output = self._windows(x, kernel)
        if self.padding == "same":
            taps = math.prod(kernel.shape[:-1])
            # How many taps of each window lie inside the input; one sample and channel are enough to count them.
            present = self._windows(ops.ones_like(x[:1, ..., :1]), ops.ones_like(kernel[..., :1]))
            output = output * (taps / present)
        return ops.moveaxis(output, -1, 1) if self.channels_first else output

    def _windows(self, x, kernel):
        if len(self.strides) < 3 and len(set(self.strides)) == 1:
            return ops.depthwise_conv(x, kernel[..., None], self.strides, self.padding, "channels_last")
        # Depthwise convolutions know neither three dimensions nor unequal strides; a grouped convolution is the same.
        return ops.conv(x, kernel[..., None, :], self.strides, self.padding, "channels_last")


def weighted_sum(node: Node, graph: Graph, weights: Sequence[float]) -> Form:
    """The form of `sum_i weights[i] * inputs[i]`; without a kernel where the channels are not fixed or the ranks differ.

    Args:
        node: a node with at least two inputs.
        graph: the `Graph` that it is in, which tells where the channels lie.
        weights: one number per input.
    """
    spec = node.output_specs[0]
    rank = len(spec.shape)
    axis = 1 if rank > 2 and _channels_first_around(node, graph) else rank - 1
    ranks = {len(taken.shape) for taken in node.input_specs}
    if axis < 1 or spec.shape[axis] is None or ranks != {rank}:
        return BroadcastSum(node, "sum", weights=tuple(weights))
    constant = np.array(weights, "float32")[:, None] * np.ones(spec.shape[axis], "float32")
    return Sum(node, "sum", fan_in=(0,), unit_axes=(axis,), constant=constant, weights=tuple(weights))


def _channels_first_around(node, graph):
    """Whether the nearest layer that has channels has them first. A sum has no data format of its own, nor is Keras's
    global one that of the model.
    """
    rank = len(node.output_specs[0].shape)
    for layouts in _layouts_around(graph):
        if rank in layouts[node.name]:
            return layouts[node.name][rank][1] == "channels_first"
    return keras.config.image_data_format() == "channels_first"


@once
def _layouts_around(graph):
    """The data format of the nearest layer before each node, and of the nearest behind it, of those with values of a rank.

    Returns:
        Two dicts: node name -> rank -> `(distance, data format)`.
    """
    before: dict[str, dict[int, tuple[int, str]]] = {}
    behind: dict[str, dict[int, tuple[int, str]]] = {}
    for node in graph.nodes:
        producers = (graph.producer(value) for value in node.inputs)
        before[node.name] = _nearest([near for near in producers if near is not None], before)
    for node in reversed(graph.nodes):
        takers = [near for value in node.values for near in graph.consumers.get(value, ())]
        behind[node.name] = _nearest(takers, behind)
    return before, behind


def _nearest(neighbours, known):
    """Rank -> `(distance, data format)` of the nearest layer with one, from what is known of the neighbours."""
    found: dict[int, tuple[int, str]] = {}
    for near in neighbours:
        layout = getattr(near.operation, "data_format", None)
        # Of a vector, as behind a global pooling, a data format says nothing any more.
        own = {} if layout is None else {len(near.output_specs[0].shape): (1, layout)}
        for rank, (distance, beyond) in {**{k: (d + 1, f) for k, (d, f) in known[near.name].items()}, **own}.items():
            if rank not in found or distance < found[rank][0]:
                found[rank] = distance, beyond
    return found


def average(node: Node) -> Form:
    """The form of an average pooling layer."""
    layer = node.operation
    return pooling(node, tuple(layer.pool_size), tuple(layer.strides), layer.padding, _channels_first(node))


def pooling(node: Node, sizes: tuple[int, ...], strides: tuple[int, ...], padding: str, channels_first: bool) -> Form:
    """The form of an average over windows; without a kernel where the channels are not fixed.

    Args:
        node: a node that takes one tensor.
        sizes: of the windows.
        strides: likewise.
        padding: "same" or "valid".
        channels_first: whether the channels stand before the positions.
    """
    axis = 1 if channels_first else len(node.output_specs[0].shape) - 1
    channels = node.input_specs[0].shape[axis]
    if channels is None:
        return Form(node, "average")
    return Average(
        node,
        "average",
        fan_in=tuple(range(len(sizes))),
        unit_axes=(axis,),
        constant=np.full((*sizes, channels), 1 / math.prod(sizes), "float32"),
        strides=strides,
        padding=padding,
        channels_first=channels_first,
    )


def global_average(node: Node) -> Form:
    """The form of a global average pooling layer; without a kernel where its input is masked, or a mask comes with it."""
    if node.input_specs[0].masked or len(node.inputs) > 1:
        return Form(node, "average")
    rank = len(node.input_specs[0].shape)
    channels = 1 if _channels_first(node) else rank - 1
    positions = tuple(axis for axis in range(1, rank) if axis != channels)
    return mean_over(node, positions, channels, node.operation.keepdims)


def mean_over(node: Node, positions: tuple[int, ...], channels: int, keepdims: bool) -> Form:
    """The form of a mean over all positions; without a kernel where their sizes are not fixed.

    Args:
        node: a node that takes one tensor.
        positions: the axes of the positions.
        channels: the axis of the channels.
        keepdims: whether the axes of the positions stay.
    """
    shape = node.input_specs[0].shape
    if None in shape[1:]:
        return Form(node, "average")
    sizes: tuple[Any, ...] = tuple(shape[axis] for axis in positions)
    return GlobalAverage(
        node,
        "average",
        fan_in=tuple(range(len(sizes))),
        unit_axes=(channels if keepdims or channels == 1 else 1,),
        constant=np.full((*sizes, shape[channels]), 1 / math.prod(sizes), "float32"),
        positions=positions,
        keepdims=keepdims,
    )


def _channels_first(node):
    return node.operation.data_format == "channels_first"


LAYERS = {
    **dict.fromkeys((keras.layers.AveragePooling1D, keras.layers.AveragePooling2D, keras.layers.AveragePooling3D), average),
    keras.layers.GlobalAveragePooling1D: global_average,
    keras.layers.GlobalAveragePooling2D: global_average,
    keras.layers.GlobalAveragePooling3D: global_average,
}
SUMS = {
    keras.layers.Add: lambda node: [1.0] * len(node.inputs),
    keras.layers.Subtract: lambda node: [1.0, -1.0],
    keras.layers.Average: lambda node: [1 / len(node.inputs)] * len(node.inputs),
}
"""Each layer that sums its inputs -> the function that gives the weight of each."""
