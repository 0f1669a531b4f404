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
    chains: list[tuple] = []
    gone: set[str] = set()
    # From the output on, so that the longest chain is found before its parts.
    for end in reversed(graph.nodes):
        chain = () if end.name in gone else _chain(graph, end)
        if chain:
            chains.append(chain)
            gone.update(form.name for form in chain)
    return _joined(graph, chains) if chains else graph


def _chain(graph, end):
    """The forms of the longest chain that ends at a node; empty where there is none."""
    # Asked of few nodes alone: what a form is may have to be tried.
    last = form_of(end, graph) if len(end.output_specs[0].shape) == 2 else None
    if not isinstance(last, Dense):
        return ()
    forms, length, products = [last], 0, _products(last)
    while (before := _alone(graph, forms[-1].node)) is not None:
        form = form_of(before, graph)
        if form.kind not in _AFFINE or len(before.inputs) != 1:
            break
        forms.append(form)
        products += _products(form)
        if form.kind == "linear" and _affordable(form, last, products):
            length = len(forms)
    return tuple(reversed(forms[:length]))


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


def _affordable(first, last, apart):
    """Whether the joint kernel of a chain has no more products than its layers have, or few."""
    joint = math.prod(first.node.input_specs[0].shape[1:]) * last.node.output_specs[0].shape[1]
    return joint <= _FEW or joint <= min(apart, _MANY)


def _products(form):
    """How many products a node takes for a sample."""
    if not isinstance(form, LinearForm):
        return 0
    positions = math.prod(form.node.output_specs[0].shape[1:]) // math.prod(form.unit_shape)
    return math.prod(form.kernel_shape) * positions


def _joined(graph, chains):
    """The graph with one node in place of each chain."""
    ends = {forms[-1].name: _as_one(forms) for forms in chains}
    gone = {form.name for forms in chains for form in forms}
    inner = {form.node.values[0] for forms in chains for form in forms[:-1]}
    joined = passes.with_ones_for(graph, ends, gone)
    return joined.replace(
        places={**graph.places, **{node.name: graph.places[last] for last, node in ends.items()}},
        layer_values={name: value for name, value in joined.layer_values.items() if value not in inner},
    )


def _as_one(forms):
    """The node of a chain."""
    first, last = forms[0].node, forms[-1].node
    return Node(
        name=f"{first.name}{TO}{last.name}",
        operation=Chain(forms),
        inputs=first.inputs,
        arguments=((Slot(0),), {}),
        input_specs=first.input_specs,
        output_specs=last.output_specs,
    )
