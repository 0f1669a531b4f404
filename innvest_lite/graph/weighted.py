"""Operations of `keras.ops` with a weight among their arguments, as the linear layers that they are.

Comes in: a graph in which tracing has looked into layers, so that `ops.matmul(x, self.w) + self.b` is two operations. Goes
out: the same with one linear node for them, by which forms, rules and patterns know it as they know a Dense layer.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from innvest_lite.graph.arguments import Given, Slot, StandIn
from innvest_lite.graph.graph import Graph, Node, Value


@dataclasses.dataclass(frozen=True, eq=False)
class Linear(StandIn):
    """A linear map by weights that no layer of Keras's own holds; it has the attributes of the layer that would.

    Attributes:
        map: "dense", "einsum", "convolution", "depthwise" or "transposed", as in `passes.LINEAR_MAPS`.
        kernel_given: the kernel, a `Given`.
        bias_given: the bias, likewise, or None.
        operation: the operation that Keras made of the call.
        equation: of an einsum.
        kernel_size, strides, dilation_rate, padding, output_padding, data_format, groups: of a convolution.
    """

    map: str
    kernel_given: Given
    operation: Any
    bias_given: Any = None
    equation: str = ""
    kernel_size: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()
    dilation_rate: tuple[int, ...] = ()
    padding: str = "valid"
    output_padding: Any = None
    data_format: str | None = None
    groups: int = 1

    activation = None
    supports_masking = False
    quantization_mode = None

    @property
    def kernel(self) -> Any:
        """The kernel as it is now, a tensor."""
        return self.kernel_given.value(())

    @property
    def bias(self) -> Any:
        """The bias as it is now, a tensor; None where there is none."""
        return None if self.bias_given is None else self.bias_given.value(())

    @property
    def weights(self) -> list[Any]:
        """The variables that kernel and bias are made of."""
        return [*self.kernel_given.variables, *(() if self.bias_given is None else self.bias_given.variables)]

    @property
    def like(self) -> type:
        """The class of Keras's layers that computes this, activation and all."""
        if self.map in ("dense", "einsum"):
            return keras.layers.Dense if self.map == "dense" else keras.layers.EinsumDense
        ending = {"convolution": "Conv{}D", "depthwise": "DepthwiseConv{}D", "transposed": "Conv{}DTranspose"}[self.map]
        return getattr(keras.layers, ending.format(len(self.kernel_size)))

    @property
    def weights_key(self) -> tuple[Any, ...]:
        """Equal for maps by the same variables."""
        return (self.map, self.kernel_given.key, None if self.bias_given is None else self.bias_given.key)

    def call(self, x: Any) -> Any:
        """The map of `x`, as the model computes it."""
        kernel = self.kernel
        output = ops.einsum(self.equation, x, kernel) if self.equation else self.operation.call(x, kernel)
        return output if self.bias_given is None else ops.add(output, self.bias)

    __call__ = call


@dataclasses.dataclass(frozen=True, eq=False)
class LookUp(StandIn):
    """Rows of a table of weights, looked up by whole numbers: what an Embedding layer computes.

    Attributes:
        table: a `Given`.
        operation: the operation that Keras made of the call.
    """

    table: Given
    operation: Any

    like = keras.layers.Embedding

    @property
    def input_dim(self) -> int:
        """How many rows there are."""
        return _shape(self.table)[0]

    @property
    def weights(self) -> list[Any]:
        """The variables that the table is made of."""
        return list(self.table.variables)

    def call(self, numbers: Any) -> Any:
        """The rows of these numbers."""
        return self.operation.call(self.table.value(()), numbers)

    __call__ = call


def with_linear_maps(graph: Graph) -> Graph:
    """The graph with one linear node for each operation with a kernel, and for the bias that is added to it."""
    nodes: dict[str, Node] = {}
    others: dict[Value, Value] = {}
    for node in graph.nodes:
        node = node.replace(inputs=tuple(others.get(value, value) for value in node.inputs))
        before = _biased(graph, node, nodes)
        if before is not None:
            bias = next(leaf for leaf in keras.tree.flatten(node.arguments) if isinstance(leaf, Given))
            operation = dataclasses.replace(before.operation, bias_given=bias)
            nodes[before.name] = before.replace(operation=operation, output_specs=node.output_specs)
            others[node.values[0]] = before.values[0]
        else:
            nodes[node.name] = _as_linear(node)
    return graph.replace(
        nodes=tuple(nodes.values()),
        outputs=tuple(others.get(value, value) for value in graph.outputs),
        layer_values={name: others.get(value, value) for name, value in graph.layer_values.items()},
    )


def _as_linear(node):
    """A node of an operation with a kernel or a table as that of a layer; any other as it is."""
    (args, kwargs), called = node.arguments, _called(node)
    if not _is_keras(called) or kwargs or len(node.inputs) != 1 or len(args) != 2:
        return node
    slots = [isinstance(one, Slot) for one in args]
    weights = [isinstance(one, Given) and bool(one.variables) and not one.by_batch for one in args]
    name, stands = type(called).__name__, None
    if slots == [True, False] and weights[1] and name in _MAPS:
        stands = _MAPS[name](node, args[1])
    if slots == [False, True] and weights[0] and name in _WEIGHT_FIRST:
        stands = _WEIGHT_FIRST[name](node, args[0])
    return node if stands is None else node.replace(operation=stands, arguments=((Slot(0),), {}))


def _called(node):
    """The operation that Keras made of a node's call."""
    return node.operation.operation if isinstance(node.operation, StandIn) else node.operation


def _is_keras(operation):
    return type(operation).__module__.startswith("keras.src.ops.")


def _shape(given):
    return tuple(given.value(()).shape)


def _dense(node, kernel):
    rank = len(node.input_specs[0].shape)
    if type(node.operation).__name__ == "Tensordot" and not _sums_the_last(node.operation.axes, rank):
        return None
    return Linear("dense", kernel, node.operation) if len(_shape(kernel)) == 2 and rank > 1 else None


def _sums_the_last(axes, rank):
    """Whether a tensordot sums over the last axis of the first and the first axis of the second."""
    if isinstance(axes, int):
        return axes == 1
    first, second = (np.ravel(one).tolist() for one in axes)
    return len(first) == len(second) == 1 and first[0] % rank == rank - 1 and second[0] == 0


def _from_the_left(node, kernel):
    """A matrix of weights times values: it sums over their last axis but one."""
    rank = len(node.input_specs[0].shape)
    if rank < 3 or len(_shape(kernel)) != 2:
        return None
    leading = "abcdefg"[: rank - 2]
    return Linear("einsum", kernel, node.operation, equation=f"{leading}xy,zx->{leading}zy")


def _einsum(node, kernel, weight_first=False):
    equation = node.operation.subscripts.replace(" ", "")
    if "->" not in equation:
        return None
    given, output = equation.split("->")
    taken, letters = reversed(given.split(",")) if weight_first else given.split(",")
    summed = set(taken) - set(output) - {"."}
    # The batch is the first axis on both sides; letters that only one side has, or twice the same, are left alone.
    sound = taken[:1] == output[:1] and taken[0] not in f".{letters}" and len(set(letters)) == len(letters)
    if not sound or "." in letters or not summed or not summed <= set(letters):
        return None
    return Linear("einsum", kernel, node.operation, equation=f"{taken},{letters}->{output}")


def _convolved(name):
    def build(node: Node, kernel: Given) -> Linear:
        operation, shape = _called(node), _shape(kernel)
        rank = len(shape) - 2
        layout = operation.data_format or keras.config.image_data_format()
        channels = node.input_specs[0].shape[1 if layout == "channels_first" else -1]
        return Linear(
            name,
            kernel,
            node.operation,
            kernel_size=shape[:rank],
            strides=_each(operation.strides, rank),
            dilation_rate=_each(operation.dilation_rate, rank),
            padding=operation.padding,
            output_padding=getattr(operation, "output_padding", None),
            data_format=layout,
            groups=channels // shape[-2] if name == "convolution" else 1,
        )

    return build


def _each(size, rank):
    return (size,) * rank if isinstance(size, int) else tuple(size)


_MAPS: dict[str, Callable[[Node, Given], Linear | None]] = {
    **dict.fromkeys(("Matmul", "Dot", "Tensordot"), _dense),
    "Einsum": _einsum,
    "Conv": _convolved("convolution"),
    "DepthwiseConv": _convolved("depthwise"),
    "ConvTranspose": _convolved("transposed"),
}

_WEIGHT_FIRST: dict[str, Callable[[Node, Given], Any]] = {
    "Matmul": _from_the_left,
    "Einsum": functools.partial(_einsum, weight_first=True),
    "Take": lambda node, table: LookUp(table, node.operation) if _called(node).axis == 0 else None,
}


def _biased(graph, node, nodes):
    """The linear node without a bias to which an operation adds one, or None."""
    if type(node.operation).__name__ != "Add" or not _is_keras(node.operation) or len(node.inputs) != 1:
        return None
    before = nodes.get(node.inputs[0].node)
    if before is None or not isinstance(before.operation, Linear) or before.operation.bias_given is not None:
        return None
    original = graph.node_of[node.name].inputs[0]
    if len(graph.consumers[original]) > 1 or original in graph.outputs:
        return None
    (bias,) = (leaf for leaf in keras.tree.flatten(node.arguments) if not isinstance(leaf, Slot))
    if not isinstance(bias, Given) or node.output_specs[0].shape != before.output_specs[0].shape:
        return None
    return before if _lies_along_units(before, _shape(bias)) else None


def _lies_along_units(node, shape):
    """Whether a bias of this shape has one number a unit."""
    rank, linear = len(node.output_specs[0].shape), node.operation
    if linear.map == "einsum":
        return False
    units = 1 if linear.data_format == "channels_first" else rank - 1
    sizes = (1,) * (rank - len(shape)) + shape
    return len(sizes) == rank and int(np.prod(sizes)) == sizes[units] == node.output_specs[0].shape[units]
