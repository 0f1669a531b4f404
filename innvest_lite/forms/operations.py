"""The forms of `keras.ops` operations: by the class that Keras made of the call, with its options, else by trying it.

Keras exports these classes under no name of their own, so that their names stand here, next to the module that they must
come from.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np
from keras import ops

from innvest_lite.forms import attention, normalization, structure, virtual
from innvest_lite.forms.base import Form
from innvest_lite.graph import Graph, Node, Samples, Slot
from innvest_lite.graph.arguments import Given, Sized
from innvest_lite.graph.cast import Cast
from innvest_lite.graph.ending import OfOutputs
from innvest_lite.graph.masks import DropMask, LeaveMask
from innvest_lite.graph.passes import einsum_axes
from innvest_lite.graph.source import Source
from innvest_lite.graph.steps import Fold, Unfold

_KERAS = "keras.src.ops."
# Values are moved or copied from several inputs, or to several outputs.
_ROUTES = ("Concatenate", "Stack", "Append", "Hstack", "Vstack", "Split", "Unstack", "Where", "Cast")
# The same, of one: what is tried tells, but for whole numbers, and where samples do not lie along the first axis.
_MOVING = ("Reshape", "ExpandDims", "Squeeze", "Transpose", "Swapaxes", "Moveaxis", "Ravel", "GetItem", "Flip", "Roll")
_WITH_FUNCTIONS = ("Map", "VectorizedMap", "Scan", "AssociativeScan", "ForiLoop", "WhileLoop", "Cond", "Switch")
# Each value with a weight of its own.
_ONE_BY_ONE = ("Add", "Subtract", "Multiply", "Divide", "TrueDivide")
_SUMS = {"Add": (1.0, 1.0), "Subtract": (1.0, -1.0)}
_MAXIMA = ("MaxPool", "AdaptiveMaxPool", "Max", "Amax", "Maximum", "Min", "Amin", "Minimum")


@dataclasses.dataclass(frozen=True, eq=False)
class ConstantMap(virtual.VirtualForm):
    """A product with a constant tensor: a dense layer whose kernel is no weight.

    Attributes:
        equation: as that of an EinsumDense layer, the inputs first, then the constant.
    """

    equation: str = ""

    def apply(self, inputs: tuple[Any, ...], kernel: Any) -> Any:
        """As the equation says."""
        return ops.einsum(self.equation, ops.cast(inputs[0], kernel.dtype), kernel)


def form_of_operation(node: Node, graph: Graph) -> Form:
    """The form of a node that is no layer.

    Args:
        node: a `Node`.
        graph: the `Graph` that it is in.
    """
    if isinstance(node.operation, Cast | Fold | Unfold | DropMask | LeaveMask | Source):
        return Form(node, "route")
    if isinstance(node.operation, OfOutputs):
        return Form(node, "opaque")
    # What gives truth values, such as the mask of an embedding, carries no relevance.
    if all(spec.dtype == "bool" for spec in node.output_specs):
        return Form(node, "route")
    # A user's own operation may be called as one of Keras's.
    operation = node.operation.operation if isinstance(node.operation, Sized) else node.operation
    name = type(operation).__name__ if type(operation).__module__.startswith(_KERAS) else ""
    if name in _ROUTES or structure.is_constant(node):
        return Form(node, "route")
    if name in _WITH_FUNCTIONS:
        # What it computes stands in a function, with weights that nobody sees.
        return Form(node, "opaque")
    if name == "OneHot" and node.operation.axis in (-1, len(node.input_specs[0].shape)):
        # A table that holds a 1 in each row.
        return Form(node, "embedding")
    if name == "StopGradient":
        # What it computes and its gradient disagree: relevance that follows the gradient is lost.
        return Form(node, "opaque")
    if len(node.inputs) > 1:
        return _of_several(node, graph, name)
    if name in _MOVING and not _can_be_tried(node):
        return Form(node, "route")
    if (name in _ONE_BY_ONE and _takes_weight(node)) or (name == "Einsum" and _scales(node)) or _adds_number(node, name):
        return Form(node, "scale")
    if name == "Normalize":
        return normalization.ByNorm(node, "normalization")
    if name in _LINEAR:
        form = _LINEAR[name](node)
        if form is not None:
            return form
    form = structure.tried_form(node)
    if form.kind == "opaque" and name == "Pad":
        # With infinite values, before a maximum.
        return Form(node, "route")
    # A maximum with a constant is a function of each value; of all others, the largest takes all.
    if form.kind == "opaque" and name in _MAXIMA and node.output_specs[0].shape[:1] == node.input_specs[0].shape[:1]:
        return Form(node, "max")
    return form


def _takes_weight(node):
    """Whether an operation adds a weight to each value, or multiplies it by one."""
    args, kwargs = node.arguments
    divides = type(node.operation).__name__.endswith("ivide") and not isinstance(args[0], Slot)
    same = node.input_specs[0].shape == node.output_specs[0].shape
    return same and not kwargs and len(args) == 2 and bool(node.weights) and not divides


def _adds_number(node, name):
    """Whether an operation adds a number; of a large one, such as hides scores of attention, trying would see no value."""
    args, kwargs = node.arguments
    numbers = [one for one in args if isinstance(one, int | float) and not isinstance(one, bool)]
    return name in ("Add", "Subtract") and not kwargs and len(args) == 2 and len(numbers) == 1


def _scales(node):
    """Whether a sum of products sums nothing: it multiplies each value by a weight."""
    given, _, output = node.operation.subscripts.replace(" ", "").partition("->")
    pairs = list(zip(node.arguments[0], given.split(","), strict=False))
    taken = [letters for one, letters in pairs if isinstance(one, Slot)]
    return len(pairs) == 2 and taken == [output] and bool(node.weights)


def _can_be_tried(node):
    specs = (*node.input_specs, *node.output_specs)
    return all(spec.samples == Samples() and keras.backend.is_float_dtype(spec.dtype) for spec in specs)


def _of_several(node, graph, name):
    if name in _SUMS:
        return virtual.weighted_sum(node, graph, _SUMS[name])
    if name == "Multiply":
        return structure.product(node, graph)
    if name in ("Divide", "TrueDivide") and node.inputs[0] != node.inputs[1]:
        return structure.quotient(node, graph)
    if name in _MAXIMA:
        return Form(node, "max")
    return attention.matmul(node, graph) or Form(node, "opaque")


def _mean(node):
    """A mean over all positions; None where it is one over others."""
    shape = node.input_specs[0].shape
    axes = node.operation.axis
    axes = range(len(shape)) if axes is None else np.atleast_1d(axes).tolist()
    positions = sorted(axis % len(shape) for axis in axes)
    for channels in (len(shape) - 1, 1):
        if positions == [axis for axis in range(1, len(shape)) if axis != channels] and positions:
            return virtual.mean_over(node, tuple(positions), channels, bool(node.operation.keepdims))
    return None


def _average_pool(node):
    operation = node.operation
    rank = len(node.input_specs[0].shape) - 2
    sizes, strides = (
        (size,) * rank if isinstance(size, int) else tuple(size)
        for size in (operation.pool_size, operation.strides or operation.pool_size)
    )
    layout = operation.data_format or keras.config.image_data_format()
    return virtual.pooling(node, sizes, strides, operation.padding, layout == "channels_first")


def _product(node):
    """A matrix product of the input with a constant matrix."""
    first, *rest = node.arguments[0]
    if (
        not isinstance(first, Slot)
        or len(rest) != 1
        or isinstance(rest[0], Given)
        or len(np.shape(rest[0])) != 2
        or len(node.input_specs[0].shape) < 2
    ):
        return None
    if type(node.operation).__name__ == "Tensordot" and node.operation.axes != 1:
        return None
    return _constant_map(node, "...x,xy->...y", rest[0])


def _einsum(node):
    """A sum of products of the input with one constant."""
    operands, equation = list(node.arguments[0]), node.operation.subscripts.replace(" ", "")
    if len(operands) != 2 or "->" not in equation or any(isinstance(one, Given) for one in operands):
        return None
    parts, output = equation.split("->")
    parts = parts.split(",")
    if isinstance(operands[1], Slot):
        operands.reverse()
        parts.reverse()
    given, kernel = parts
    # The batch is the first axis on both sides; letters that only one side has, or twice the same, are left alone.
    sound = given[:1] == output[:1] and given[0] != "." and len(set(kernel)) == len(kernel) and "." not in kernel
    summed = set(given) - set(output) - {"."}
    if not sound or not summed <= set(kernel) or given[0] in kernel:
        return None
    return _constant_map(node, f"{given},{kernel}->{output}", operands[1])


def _constant_map(node, equation, constant):
    constant = np.asarray(ops.convert_to_numpy(ops.cast(constant, "float32")))
    _, fan_in, units = einsum_axes(equation, len(node.output_specs[0].shape))
    if not fan_in:
        return None
    return ConstantMap(node, "linear", fan_in=fan_in, unit_axes=units, constant=constant, equation=equation)


_LINEAR = {
    "Mean": _mean,
    "AveragePool": _average_pool,
    **dict.fromkeys(("Matmul", "Dot", "Tensordot"), _product),
    "Einsum": _einsum,
}
