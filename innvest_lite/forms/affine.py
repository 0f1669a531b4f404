"""W x + U h + b in one step of a recurrent layer as the one linear map of (x, h) that it is in the papers.

Cells write it as products, sums and a bias apart. What stabilizes a denominator, what a bias takes, and what patterns take
for signal are all of the whole value (Arras et al. 2017, arXiv 1706.07206). In: a graph with recurrent layers. Out: the
same, with one linear node for each such sum. Called where rules are bound and where patterns are fitted.
"""

from __future__ import annotations

import keras

from innvest_lite.forms.joint import Affine, AffineForm
from innvest_lite.forms.linear import Dense
from innvest_lite.forms.registry import form_of
from innvest_lite.graph import Graph, Slot, passes
from innvest_lite.graph.arguments import Given

AND = "+"
"""Between the names of the nodes that one linear map was made of."""


def with_affine_steps(graph: Graph) -> Graph:
    """The graph, the steps of its recurrent layers with one linear node for each sum of dense maps."""
    nodes = tuple(node if node.steps is None else node.replace(steps=_joined(node.steps)) for node in graph.nodes)
    return graph.replace(nodes=nodes)


def _joined(graph):
    """A graph with its sums of dense maps joined, in the order of the graph."""
    graph = with_affine_steps(graph)
    for name in [node.name for node in graph.nodes]:
        # As it is by now: what it adds up may have been joined already. One that is gone was added up itself.
        node = graph.node_of.get(name)
        terms = None if node is None else _terms(graph, node)
        graph = graph if terms is None else _with(graph, node, *terms)
    return graph


def _terms(graph, node):
    """`(nodes, constants)` that a node adds up, dense maps all; None for any other node."""
    is_add = type(node.operation).__name__ == "Add" and not isinstance(node.operation, keras.Layer)
    if not is_add or len(node.output_specs[0].shape) != 2:
        return None
    if any(spec.shape != node.output_specs[0].shape for spec in node.input_specs):
        return None
    before = [graph.producer(value) for value in node.inputs]
    if any(one is None or not _alone(graph, one) for one in before):
        return None
    if not all(isinstance(form_of(one, graph), Dense | AffineForm) for one in before):
        return None
    leaves = [leaf for leaf in keras.tree.flatten(node.arguments) if not isinstance(leaf, Slot)]
    units = node.output_specs[0].shape[-1]
    if not all(isinstance(leaf, Given) and _size(leaf) == units for leaf in leaves):
        return None
    # A dense map and its bias alone are one node since tracing.
    return (before, tuple(leaves)) if len(before) > 1 or isinstance(before[0].operation, Affine) else None


def _size(leaf):
    """How many numbers a constant has that does not depend on the batch; None for any other."""
    if leaf.by_batch or not leaf.variables:
        return None
    shape = tuple(leaf.value(()).shape)
    return shape[-1] if shape and all(size == 1 for size in shape[:-1]) else None


def _alone(graph, node):
    """Whether one node takes what a node makes, and nothing else does."""
    value = node.values[0]
    return len(node.values) == 1 and value not in graph.outputs and len(graph.consumers.get(value, ())) == 1


def _name(names):
    """The first name, and of the others the part that differs from it: "lstm/matmul+matmul#2"."""
    within = names[0].rpartition("/")[0]
    return AND.join([names[0], *(name.removeprefix(f"{within}/") for name in names[1:])])


def _with(graph, total, before, constants):
    """The graph with one node in place of a sum and of what it adds up."""
    forms: list[Dense] = []
    for one in before:
        joined = isinstance(one.operation, Affine)
        forms.extend(one.operation.forms if joined else [form_of(one, graph)])
        constants = (*constants, *(one.operation.constants if joined else ()))
    node = total.replace(
        name=_name([form.name for form in forms]),
        operation=Affine(tuple(forms), constants),
        inputs=tuple(form.node.inputs[0] for form in forms),
        arguments=(tuple(Slot(index) for index in range(len(forms))), {}),
        input_specs=tuple(form.node.input_specs[0] for form in forms),
    )
    graph = passes.with_ones_for(graph, {total.name: node}, {one.name for one in before})
    return graph.replace(places={**graph.places, node.name: ()})
