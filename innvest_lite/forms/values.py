"""The values of a graph, computed forwards by its forms. Called by the fitter, the explainer and the measures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from innvest_lite.forms.base import Form
from innvest_lite.graph import Graph, Value
from innvest_lite.graph.interpret import interpret


def values_of(graph: Graph, forms: Mapping[str, Form], inputs: Sequence[Any]) -> dict[Value, Any]:
    """Evaluates a graph.

    Args:
        graph: a `Graph`.
        forms: node name -> form, for all of its nodes.
        inputs: a tensor for each input of the graph.

    Returns:
        `Value` -> tensor, for all values of the graph.
    """
    return interpret(graph, lambda node, taken: forms[node.name].forward(*taken), inputs)
