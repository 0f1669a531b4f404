"""The nodes of a graph as matchers see them: where each stands among the layers with weights. Called by `composite`."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

import keras

from innvest_lite.forms import Form
from innvest_lite.graph import Graph, Value


@dataclasses.dataclass(frozen=True, eq=False)
class Site:
    """A node, as a matcher sees it.

    Attributes:
        form: what the node is.
        first: whether it is a linear node to which the input comes through no other one.
        before_first: whether it is no linear node, and the input comes to it through nothing that was learned.
        users: the nodes that take what it puts out.
        last: whether it is a linear node from which the output comes through no other one.
        place: the index of its layer in `model.layers`, followed by those inside nested models.
        places: the name of every layer -> its place.
        offset: whether it adds to what was looked up or learned, or scales that, before any linear node: what stands for a
            place, beside words.
    """

    form: Form
    first: bool = False
    last: bool = False
    before_first: bool = False
    users: tuple[Any, ...] = ()
    place: tuple[int, ...] = ()
    places: Mapping[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)
    offset: bool = False

    @property
    def kind(self) -> str:
        """The kind of the form: "linear", "sum", "rectifier", ..."""
        return self.form.kind

    @property
    def name(self) -> str:
        """The node's name, as `plan()` prints it."""
        return self.form.name

    @property
    def operation(self) -> Any:
        """The Keras layer or operation."""
        return self.form.node.operation


def sites_of(
    graph: Graph, forms: Mapping[str, Form], behind: Collection[Value] = (), before: Collection[Value] = ()
) -> list[Site]:
    """A `Site` for each node of a graph, in order.

    Args:
        graph: a `Graph`.
        forms: node name -> form.
        behind: values of the graph that stand behind linear nodes of another one, around it.
        before: likewise before linear nodes.
    """
    # By data flow, not by the order of layers: each branch of a network has a first and a last layer of its own.
    behind_linear = _reached_through(graph.nodes, _is_linear, forms, behind)
    before_linear = _reached_through(reversed(graph.nodes), _is_linear, forms, before, forwards=False)
    behind_learned = _reached_through(graph.nodes, _is_learned, forms, behind_linear)
    sites = []
    for node in graph.nodes:
        form = forms[node.name]
        # Layers with weights alone: a sum or an average before the first of them does not make it a hidden layer.
        linear = form.kind == "linear"
        in_front = not linear and not behind_linear.intersection(node.inputs)
        learned = _is_learned(form) or bool(behind_learned.intersection(node.inputs))
        sites.append(
            Site(
                form,
                linear and not behind_linear.intersection(node.inputs),
                linear and not before_linear.intersection(node.values),
                in_front and not learned,
                tuple(user for value in node.values for user in graph.consumers.get(value, ())),
                # The parts into which passes cut a layer have the layer's place.
                graph.places[node.name.removesuffix(f"/{node.part}")],
                graph.places,
                in_front and learned and form.kind == "scale",
            )
        )
    return sites


def _is_linear(form):
    return form.kind in ("linear", "recurrent")


def _is_learned(form):
    """Whether a node is more than preprocessing: it looks up what was learned, or adds it or multiplies by it.

    Of numbers that are scaled with what is known of the data, such as their mean, the variables are not trained; the
    BatchNormalization of a first layer is scaling all the same.
    """
    node = form.node
    if form.kind == "embedding":
        return True
    is_scaling = isinstance(node.operation, keras.layers.BatchNormalization)
    return not _is_linear(form) and not is_scaling and any(one.trainable for one in node.weights)


def _reached_through(nodes, tells, forms, reached, forwards=True):
    """The values that lie behind some node of which `tells` says yes, or before one, going through `nodes`."""
    reached = set(reached)
    for node in nodes:
        sources, targets = (node.inputs, node.values) if forwards else (node.values, node.inputs)
        if tells(forms[node.name]) or reached.intersection(sources):
            reached.update(targets)
    return reached
