"""Chains of linear layers without a rectifier between them, which are one linear map.

Layer by layer, patterns are right for one linear layer and not for a chain of them: units of the layers between that see
the same thing each take it for their signal, so that it counts once for each of them (docs/design.md, decision 19). The
pattern of the whole chain, cov[x, y] / var[y], knows nothing of the layers between. In: a graph, BatchNormalization fused.
Out: the same with one node for each chain. Called by the pattern methods and by the fitter.
"""

from __future__ import annotations

import math

import keras

from innvest_lite.forms.base import LinearForm
from innvest_lite.forms.joint import Chain
from innvest_lite.forms.linear import Dense
from innvest_lite.forms.registry import form_of
from innvest_lite.graph import Graph, Node, Slot, passes

# Numbers of a joint kernel that are not worth to mention, and those that are too many whatever the layers cost.
_FEW, _MANY = 1 << 20, 1 << 26
TO = ".."
"""Between the names of a chain's first and last layer in the name of its pattern."""
_AFFINE = ("linear", "average", "scale", "route")


def with_chains(graph: Graph) -> Graph:
    """Makes one node of each chain of linear layers that ends in a dense layer and is no dearer as one.

    A chain has two layers with weights at least; between them, values are scaled, moved and averaged, and nothing else
    uses them. Its node is called `first..last`.
    """
    # From the output on, so that the longest chain is found before its parts.
    for end in reversed(graph.nodes):
        chain = _chain(graph, end) if end.name in graph.node_of else ()
        if chain:
            graph = _joined(graph, chain)
    return graph


def _chain(graph, end):
    """The forms of the longest chain that ends at a node; empty where there is none."""
    # Asked of few nodes alone: what a form is may have to be tried.
    last = form_of(end, graph) if len(end.output_specs[0].shape) == 2 else None
    if not isinstance(last, Dense):
        return ()
    forms, found = [last], ()
    while (before := _alone(graph, forms[0].node)) is not None:
        form = form_of(before, graph)
        if form.kind not in _AFFINE or len(before.inputs) != 1:
            break
        forms.insert(0, form)
        if form.kind == "linear" and _affordable(forms):
            found = tuple(forms)
    return found


def _alone(graph, node):
    """What makes the value that a node takes, where nothing else takes it and its size is fixed; else None."""
    (value,) = node.inputs
    before = graph.producer(value)
    spec = node.input_specs[0]
    if before is None or value in graph.outputs or len(graph.consumers[value]) > 1 or len(before.output_specs) > 1:
        return None
    if not keras.backend.is_float_dtype(spec.dtype):
        # A comparison, or numbers that were rounded: moved on as they are, but no linear map.
        return None
    return None if spec.masked or None in (*spec.shape[1:], *before.input_specs[0].shape[1:]) else before


def _affordable(forms):
    """Whether the joint kernel has no more products than the layers have, or few."""
    joint = math.prod(forms[0].node.input_specs[0].shape[1:]) * forms[-1].node.output_specs[0].shape[1]
    apart = sum(map(_products, forms))
    return joint <= _FEW or joint <= min(apart, _MANY)


def _products(form):
    """How many products a node takes for a sample."""
    if not isinstance(form, LinearForm):
        return 0
    positions = math.prod(form.node.output_specs[0].shape[1:]) // math.prod(form.unit_shape)
    return math.prod(form.kernel_shape) * positions


def _joined(graph, forms):
    """The graph with one node in place of a chain."""
    first, last = forms[0].node, forms[-1].node
    node = Node(
        name=f"{first.name}{TO}{last.name}",
        operation=Chain(forms),
        inputs=first.inputs,
        arguments=((Slot(0),), {}),
        input_specs=first.input_specs,
        output_specs=last.output_specs,
    )
    graph = passes.with_one_for(graph, node, last, {form.name for form in forms})
    inner = {form.node.values[0] for form in forms[:-1]}
    return graph.replace(
        places={**graph.places, node.name: graph.places[last.name]},
        layer_values={name: value for name, value in graph.layer_values.items() if value not in inner},
    )
