"""What a model computes, as a frozen list of calls: `Value`, `Node`, `Graph`.

Made by `trace`, rewritten by `passes`, read by the forms and the sweep. A node is a call, not a layer: a layer that is
called twice has two nodes, and a nested model's nodes stand in the same list as all others.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import keras

from innvest_lite.graph.arguments import Given, StandIn, filled
from innvest_lite.graph.weights import AS_THEY_ARE, Weights
from innvest_lite.tables import Brief, Tabled, table as table


@dataclasses.dataclass(frozen=True)
class Value:
    """A tensor of the graph: output number `index` of the node (or the input) called `node`."""

    node: str
    index: int = 0


@dataclasses.dataclass(frozen=True)
class Samples:
    """Where the samples lie in a value: nearly always along its first axis, one after the other.

    Attributes:
        axis: the axis.
        rows: how many entries of it one sample has: as many as a layer cuts it in windows, else 1.
    """

    axis: int = 0
    rows: int = 1


@dataclasses.dataclass(frozen=True)
class Spec:
    """What is known of a value before there is one.

    Attributes:
        shape: its shape, None where it may vary, such as along the axis of the samples.
        dtype: its dtype.
        mask: the shape of its Keras mask; None where it has none.
        samples: where the samples lie; None where it holds nothing of one sample alone.
    """

    shape: tuple[int | None, ...]
    dtype: str
    mask: tuple[int | None, ...] | None = None
    samples: Samples | None = Samples()

    @property
    def masked(self) -> bool:
        """Whether Keras masks it."""
        return self.mask is not None


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Node(Brief):
    """One call of a Keras layer or operation.

    Attributes:
        name: the layer's name, `name#2` for its second call, `outer/inner` inside a nested model.
        operation: the Keras layer or operation that is called.
        inputs: the values it takes, in the order of the slots of its arguments.
        arguments: `(args, kwargs)` of the call, a `Slot` in place of each tensor.
        part: "" for the whole call, else the part of a layer that this node is: "linear", "activation", "depthwise"
            or "pointwise" (`passes` cuts layers in parts).
        batchnorm: the BatchNormalization layer fused into this linear node, or None.
        input_specs: a `Spec` for each input.
        output_specs: a `Spec` for each output.
        closed: why tracing did not look into a layer that is made of others, the end of a sentence; else "".
        steps: of a recurrent layer, the graph of one step, see `recurrence`; else None.
    """

    name: str
    operation: Any
    inputs: tuple[Value, ...]
    arguments: tuple[tuple[Any, ...], dict[str, Any]]
    input_specs: tuple[Spec, ...]
    output_specs: tuple[Spec, ...]
    part: str = ""
    batchnorm: Any = None
    closed: str = ""
    steps: Graph | None = None

    @property
    def values(self) -> tuple[Value, ...]:
        """The values this node makes."""
        return tuple(Value(self.name, index) for index in range(len(self.output_specs)))

    @property
    def kind(self) -> str:
        """The class name of the layer or operation, with the part: "Conv2D", "Dense (linear)"."""
        fused = " + BatchNormalization" if self.batchnorm is not None else ""
        part = f" ({self.part})" if self.part else ""
        operation = self.operation.operation if isinstance(self.operation, StandIn) else self.operation
        return type(operation).__name__ + part + fused

    def call(self, *inputs: Any) -> tuple[Any, ...]:
        """Evaluates the whole call as the model's `predict` does, without side effects on the user's layers."""
        return self.call_with(AS_THEY_ARE, *inputs)

    def call_with(self, weights: Weights, *inputs: Any) -> tuple[Any, ...]:
        """As `call`, with other weights."""
        # Losses of activity regularizers and new states of seeds or of recurrent layers stay in the scope. Within a scope
        # of names, a layer's name may begin with an underscore.
        with weights.of(self.weights).scope(), keras.name_scope("node"):
            args, kwargs = keras.tree.map_structure(lambda leaf: filled(leaf, inputs), self.arguments)
            operation = filled(self.operation, inputs)
            if takes_training(operation):
                kwargs = {**kwargs, "training": False}
            outputs = operation(*args, **kwargs)
        return tuple(one for one in keras.tree.flatten(outputs) if one is not None)

    @property
    def weights(self) -> list[Any]:
        """The variables that the node reads: those of its layers, and those among its arguments."""
        found = [*getattr(self.operation, "weights", ()), *getattr(self.batchnorm, "weights", ())]
        for leaf in keras.tree.flatten(self.arguments):
            found.extend(leaf.variables if isinstance(leaf, Given) else ())
        return found

    def replace(self, **changes: Any) -> Node:
        """A copy with some attributes changed."""
        return dataclasses.replace(self, **changes)


def takes_training(operation: Any) -> bool:
    """Whether an operation is a layer with a `training` argument in its `call`."""
    # The checker takes no class for hashable.
    return isinstance(operation, keras.Layer) and _has_training(type(operation))  # type: ignore[arg-type]


@functools.cache
def _has_training(layer_class):
    return "training" in inspect.signature(layer_class.call).parameters


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Graph(Tabled):
    """Nodes in an order in which they can be evaluated, with the inputs and outputs of the model.

    Attributes:
        inputs: the model's input values, flat, in the order of `keras.tree.flatten`.
        outputs: the model's output values, flat.
        nodes: every call between them.
        input_specs: a `Spec` for each input.
        output_names: the name of each output: its key, where the model gives a dict of them, else its layer's.
        output_layers: the name of the layer that makes each output of the model, as in `model.output_names`.
        layer_values: layer (node) name -> the value that the whole layer hands on, also where passes cut or fused it.
        places: layer (node) name -> its index in `model.layers`, followed by those inside nested models.
        structure: how the model gives its outputs, a nest of their numbers; 0: one, by itself.
    """

    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    nodes: tuple[Node, ...]
    input_specs: tuple[Spec, ...]
    output_names: tuple[str, ...]
    layer_values: Mapping[str, Value]
    places: Mapping[str, tuple[int, ...]]
    output_layers: tuple[str, ...] = ()
    structure: Any = 0

    @functools.cached_property
    def node_of(self) -> dict[str, Node]:
        """Node name -> node."""
        return {node.name: node for node in self.nodes}

    @functools.cached_property
    def order(self) -> dict[str, int]:
        """Node name -> its number in `nodes`: what comes from a node stands behind it."""
        return {node.name: number for number, node in enumerate(self.nodes)}

    @functools.cached_property
    def every_node(self) -> tuple[Node, ...]:
        """All nodes, behind each recurrent layer those of what it does in one step."""
        return tuple(one for node in self.nodes for one in (node, *(node.steps.every_node if node.steps else ())))

    @functools.cached_property
    def consumers(self) -> dict[Value, list[Node]]:
        """Value -> the nodes that take it, in order."""
        table: dict[Value, list[Node]] = {}
        for node in self.nodes:
            for value in dict.fromkeys(node.inputs):
                table.setdefault(value, []).append(node)
        return table

    def producer(self, value: Value) -> Node | None:
        """The node that makes a value; None for an input."""
        return self.node_of.get(value.node)

    def spec(self, value: Value) -> Spec:
        """The `Spec` of a value."""
        producer = self.producer(value)
        return producer.output_specs[value.index] if producer else self.input_specs[self.inputs.index(value)]

    def replace(self, **changes: Any) -> Graph:
        """A copy with some attributes changed."""
        return dataclasses.replace(self, **changes)

    def __repr__(self) -> str:
        taken, given = (", ".join(str(self.spec(one).shape) for one in side[:4]) for side in (self.inputs, self.outputs))
        return f"<Graph of {len(self.nodes)} nodes: {taken} to {given}>"

    def _parts(self) -> Iterator[tuple]:
        rows = [(node.name, node.kind, ", ".join(value.node for value in node.inputs)) for node in self.nodes]
        yield ("node", "layer", "inputs"), rows
