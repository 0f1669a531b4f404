"""Which values of a graph can never be negative: there, half of z+ and of alpha-beta vanishes. Called by `rules.bind`."""

from __future__ import annotations

from collections.abc import Mapping

from innvest_lite.forms.base import Form
from innvest_lite.forms.structure import activation_name
from innvest_lite.graph import Graph, Value

_NEVER_NEGATIVE = ("relu", "relu6", "sigmoid", "hard_sigmoid", "softmax", "softplus", "exponential")
# Zero padding keeps the sign; the operation `Pad` may pad with anything.
_UNKNOWN_ROUTES = ("Pad",)


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
        if activation_name(node) in _NEVER_NEGATIVE or (known.issuperset(node.inputs) and _keeps_sign(forms[node.name])):
            known.update(node.values)
    return known


def _keeps_sign(form):
    """Whether a node makes no negative value of values that are not negative."""
    # A node without inputs is a constant, of whose sign nothing is known.
    if not form.node.inputs:
        return False
    # A weighted sum may have negative weights, as Subtract does.
    if form.kind == "sum":
        return type(form.node.operation).__name__ in ("Add", "Average")
    if form.kind == "route":
        return type(form.node.operation).__name__ not in _UNKNOWN_ROUTES
    return form.kind in ("max", "average", "product", "rectifier")
