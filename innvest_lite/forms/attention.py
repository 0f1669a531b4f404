"""Products in which both sides come from the data, such as those of attention."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import keras

from innvest_lite.forms.base import Form
from innvest_lite.forms.structure import is_masked_softmax
from innvest_lite.graph import Graph, Node, Value
from innvest_lite.graph.behaviour import behaviour_of
from innvest_lite.graph.recognized import is_softmax

_KERAS = "keras.src.ops."
# A matrix product or a sum of products of two tensors.
_PRODUCTS = ("Matmul", "Einsum", "Dot", "Tensordot", "Vdot", "Inner", "Outer")
# These hand weights on as they are, as far as who weighs whom goes.
_CARRYING = ("Repeat", "Tile", "BroadcastTo", "Where", "Cast")


@dataclasses.dataclass(frozen=True, eq=False)
class Matmul(Form):
    """A matrix product, or another sum of products, of two tensors that both come from the data.

    Attributes:
        values: the index of the input whose values are weighed by the other, which comes out of a softmax (or of another
            function that is never negative); None where neither weighs the other, as queries and keys do not.
    """

    values: int | None = None

    def affine(self, *inputs: Any) -> Callable[..., tuple[Any, ...]]:
        """The product as a map of the values, with the weights that these inputs have."""
        place = self.values
        if place is None:
            return self.forward
        return lambda *given: self.forward(*inputs[:place], given[place], *inputs[place + 1 :])


def matmul(node: Node, graph: Graph) -> Form | None:
    """The form of a product of two tensors of the data; None where a node is none."""
    operation = node.operation
    name = type(operation).__name__ if type(operation).__module__.startswith(_KERAS) else ""
    floats = [keras.backend.is_float_dtype(spec.dtype) for spec in (*node.input_specs, *node.output_specs)]
    if name not in _PRODUCTS or len(node.inputs) != 2 or not all(floats):
        return None
    weighing = [_weighs(graph, value) for value in node.inputs]
    return Matmul(node, "matmul", values=weighing.index(False) if sum(weighing) == 1 else None)


def _weighs(graph: Graph, value: Value) -> bool:
    """Whether a value comes out of a softmax, or of a function of one value that is never negative and squashes."""
    node = graph.producer(value)
    if node is None or not node.inputs:
        return False
    if is_softmax(node) or is_masked_softmax(node):
        return True
    if node.part != "activation" and node.weights:
        # It makes values; trying a large layer would take seconds.
        return False
    seen = behaviour_of(node, try_layers=True)
    if seen.is_bounded and seen.never_negative:
        return True
    # Scaled, moved, dropped out or hidden, weights are weights.
    carries = (seen.affine and (seen.moves or seen.diagonal)) or type(node.operation).__name__ in _CARRYING
    floats = [keras.backend.is_float_dtype(spec.dtype) for spec in node.input_specs]
    return carries and any(_weighs(graph, one) for one in itertools.compress(node.inputs, floats))
