"""The one loop that evaluates a graph, into which others plug what a node computes.

Called by the fitter's `Layout`, with the forms' forward values, and by the analyzers' sweep, with the rules'.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from innvest_lite.graph.graph import Graph, Node, Value
from innvest_lite.graph.masks import copy_mask


def interpret(
    graph: Graph,
    evaluate: Callable[[Node, tuple[Any, ...]], tuple[Any, ...]],
    inputs: Sequence[Any],
    given: Mapping[Value, Any] | None = None,
) -> dict[Value, Any]:
    """Evaluates a graph, node by node.

    Args:
        graph: a `Graph`.
        evaluate: a function of `(node, tensors)`, a `Node` and the tuple of what it takes, that gives its outputs, a tuple.
        inputs: a tensor for each input of the graph.
        given: `Value` -> tensor, to stand in for an input, or for the only output of a node; None: nothing does.

    Returns:
        `Value` -> tensor, for all values of the graph.
    """
    values = {**dict(zip(graph.inputs, inputs, strict=True)), **(given or {})}
    for _ in interpreted(graph, evaluate, values, given):
        pass
    return values


def interpreted(
    graph: Graph,
    evaluate: Callable[[Node, tuple[Any, ...]], tuple[Any, ...]],
    values: dict[Value, Any],
    given: Mapping[Value, Any] | None = None,
) -> Iterator[Node]:
    """As `interpret`, one node each time that it is asked for the next.

    Args:
        graph: as there.
        evaluate: as there.
        values: `Value` -> tensor, for the inputs; what is computed comes to it, and what no later node takes may go.
        given: as there.

    Returns:
        A generator of the nodes, each when its outputs are in `values`.
    """
    for node in graph.nodes:
        outputs = evaluate(node, tuple(values[value] for value in node.inputs))
        if given and node.values[0] in given:
            # The node is evaluated all the same: the mask that Keras made of its inputs is valid for the stand-in too.
            copy_mask(outputs[0], given[node.values[0]])
        else:
            values.update(zip(node.values, outputs, strict=True))
        del outputs
        yield node
