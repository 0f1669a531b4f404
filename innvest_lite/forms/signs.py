"""Which values of a graph can never be negative: there, half of z+ and of alpha-beta vanishes. Called by `rules.bind`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np

from innvest_lite import backend
from innvest_lite.forms.base import Form
from innvest_lite.forms.structure import Mixture
from innvest_lite.graph import Graph, Node, Value
from innvest_lite.graph.behaviour import behaviour_of, is_known
from innvest_lite.graph.recognized import is_softmax


def nonnegative_values(graph: Graph, forms: Mapping[str, Form]) -> set[Value]:
    """The values that are at least 0 whatever the input.

    Args:
        graph: a `Graph`.
        forms: node name -> form.

    Returns:
        A set of `Value`.
    """
    known: set[Value] = set()
    for node in graph.nodes:
        if _is_never_negative(node) or (known.issuperset(node.inputs) and _keeps_sign(forms[node.name])):
            known.update(node.values)
    return known


def _is_never_negative(node):
    # Of what is only tried, the next number could be negative.
    return (is_known(node) and behaviour_of(node).never_negative) or is_softmax(node)


def _keeps_sign(form):
    """Whether a node makes no negative value of values that are not negative."""
    # A node without inputs is a constant, of whose sign nothing is known.
    if not form.node.inputs:
        return False
    if any(np.any(number < 0) for number in _constants(form.node)):
        return False
    if form.kind == "sum":
        return min(form.weights) >= 0
    if isinstance(form, Mixture):
        return form.monotone and not behaviour_of(form.node, try_layers=True).constant
    return form.kind in ("max", "average", "product", "rectifier", "route")


def _constants(node: Node) -> Iterator[Any]:
    """The numbers among the arguments of an operation, and what a maximum begins with."""
    given = (*keras.tree.flatten(node.arguments), getattr(node.operation, "initial", None))
    for leaf in given:
        if isinstance(leaf, int | float | np.ndarray | np.number) or keras.ops.is_tensor(leaf):
            number = np.asarray(backend.to_numpy(leaf) if keras.ops.is_tensor(leaf) else leaf)
            if number.dtype.kind in "fiu":
                yield number
