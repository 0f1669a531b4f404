"""What of a model's output was not taken off, though it squashes: probabilities that are explained as they are.

Comes in: a graph whose head is no softmax and no sigmoid that `passes.heads` finds. Called where analyzers are bound.
"""

from __future__ import annotations

import keras
import numpy as np

from innvest_lite import backend
from innvest_lite.graph.behaviour import FAILURES, OPEN_SIZES, behaviour_of
from innvest_lite.graph.graph import Graph, Node, Value
from innvest_lite.graph.interpret import interpret
from innvest_lite.graph.passes import is_linear_part
from innvest_lite.graph.recognized import curves, is_log_softmax, is_softmax, same_curve

# Of the numbers that are sent through what has no weights; what does not squash hands on some of this size.
_LARGE = 30.0


def squashes(graph: Graph) -> Node | None:
    """What of a graph's only output squashes: a softmax, its logarithm, what has bounds, however it is written.

    Looks through what adds, averages and moves values; None where the output comes from weights or is not bounded.
    """
    waiting, seen = [graph.outputs[0]], set()
    while waiting:
        node = graph.producer(waiting.pop())
        if node is None or node.name in seen or _has_weights(node):
            continue
        seen.add(node.name)
        if is_softmax(node) or is_log_softmax(node) or _squashes_alone(node):
            return node
        # In a product, what has bounds gates what has none.
        if type(node.operation).__name__ != "Multiply":
            waiting.extend(node.inputs)
    return graph.producer(graph.outputs[0]) if _is_bounded_behind_weights(graph) else None


def _squashes_alone(node: Node) -> bool:
    """Whether a node is a function of one value with bounds, or the logarithm of a sigmoid."""
    seen = behaviour_of(node)
    if seen.values is None or seen.affine:
        return False
    return seen.is_bounded or same_curve(seen.values, curves()["log_sigmoid"])


def _has_weights(node: Node) -> bool:
    return is_linear_part(node) or (node.part != "activation" and bool(node.weights))


def _is_bounded_behind_weights(graph: Graph) -> bool:
    """Whether what follows the last weights gives small numbers of large ones: exp(z) / sum(exp(z)), z / |z|."""
    needed: set[Value] = {graph.outputs[0]}
    tail: list[Node] = []
    for node in reversed(graph.nodes):
        if needed.intersection(node.values) and not _has_weights(node):
            tail.insert(0, node)
            needed = needed.difference(node.values).union(node.inputs)
    # Of one function of one value the curve has told already.
    if len(tail) < 2 and (not tail or behaviour_of(tail[0]).values is not None):
        return False
    sources = tuple(needed)
    if any(not keras.backend.is_float_dtype(graph.spec(value).dtype) for value in sources):
        return False
    part = graph.replace(nodes=tuple(tail), inputs=sources, outputs=graph.outputs)
    with backend.eagerly():
        for size in OPEN_SIZES:
            try:
                found = _tried(part, sources, size)
            except FAILURES:
                continue
            # 0 / 0 is no number, and tells nothing.
            found = found[~np.isnan(found)]
            return bool(np.abs(found).max(initial=0.0) <= 1 + 1e-3 and len(found) and np.ptp(found) > 0)
    return False


def _tried(part: Graph, sources: tuple[Value, ...], size: int) -> np.ndarray:
    generator, given = np.random.default_rng(0), []
    for value in sources:
        spec = part.spec(value)
        shape = tuple(size if known is None else known for known in spec.shape[1:])
        given.append(keras.ops.cast(generator.normal(scale=_LARGE, size=(3, *shape)), spec.dtype))
    output = interpret(part, lambda node, taken: node.call(*taken), given)[part.outputs[0]]
    return backend.to_numpy(keras.ops.cast(output, "float64"))
