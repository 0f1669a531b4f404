"""A softmax that is written by hand, `exp(z - max(z)) / sum(exp(z - max(z)))`, as one node. Called by `trace`."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from innvest_lite.graph.arguments import Slot
from innvest_lite.graph.graph import Graph, Node, Value
from innvest_lite.graph.passes import without_unused

_KERAS = "keras.src.ops."


class Softmax:
    """A softmax over some axes, as an operation.

    Args:
        axis: the axes, counted from the first.
    """

    def __init__(self, axis: tuple[int, ...]) -> None:
        self.axis = axis

    def call(self, x: Any) -> Any:
        """Numbers that sum to 1 along the axes."""
        return ops.softmax(x, axis=self.axis if len(self.axis) > 1 else self.axis[0])

    __call__ = call


def with_softmaxes(graph: Graph) -> Graph:
    """The graph with each softmax that is written by hand as one node."""
    nodes = tuple(_softmax(graph, node) or node for node in graph.nodes)
    return graph if nodes == graph.nodes else without_unused(graph.replace(nodes=nodes))


def _softmax(graph: Graph, node: Node) -> Node | None:
    """A quotient as the softmax that it is; None where it is none."""
    if not _is(node, "Divide", "TrueDivide") or len(node.inputs) != 2 or node.inputs[0] == node.inputs[1]:
        return None
    power, total = map(graph.producer, node.inputs)
    if power is None or total is None or not _is(power, "Exp") or not _is(total, "Sum"):
        return None
    if total.inputs != power.values or not total.operation.keepdims or total.operation.axis is None:
        return None
    rank = len(power.output_specs[0].shape)
    axes = tuple(sorted(axis % rank for axis in np.atleast_1d(total.operation.axis).tolist()))
    if 0 in axes:
        return None
    logits = _unshifted(graph, power.inputs[0], axes)
    return node.replace(
        operation=Softmax(axes), inputs=(logits,), arguments=((Slot(0),), {}), input_specs=(graph.spec(logits),)
    )


def _unshifted(graph: Graph, value: Value, axes: tuple[int, ...]) -> Value:
    """Logits before the same number was taken off all along the axes, which a softmax does not see."""
    node = graph.producer(value)
    if node is None or not _is(node, "Subtract") or len(node.inputs) != 2:
        return value
    logits, shift = node.input_specs
    even = len(shift.shape) == len(logits.shape) and all(shift.shape[axis] == 1 for axis in axes)
    return node.inputs[0] if even and logits.shape == node.output_specs[0].shape else value


def _is(node: Node, *names: str) -> bool:
    return type(node.operation).__name__ in names and type(node.operation).__module__.startswith(_KERAS)
