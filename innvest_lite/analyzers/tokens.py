"""Tokens: where they can be altered, and one number for each of what arrives at its embedding.

Token numbers have no path, no noise and no gradient of their own: what they are embedded as has. A *point* is a value of
the graph that can be altered: a float input, or the embedding of a token input. Called by the methods that look at
gradients.
"""

from __future__ import annotations

import logging
from typing import Any

import keras
import numpy as np
from keras import ops

from innvest_lite import backend
from innvest_lite.errors import UnsupportedLayerError
from innvest_lite.forms import forms_of
from innvest_lite.forms.inputs import CODES, MASK, TOKENS, is_integer, kinds_of
from innvest_lite.graph import Graph, Node, Value
from innvest_lite.graph.behaviour import behaviour_of
from innvest_lite.graph.plain import is_plain

_log = logging.getLogger("innvest_lite")

REDUCTIONS = ("sum", "norm")
"""How an embedding's dimensions make one number a token: their sum, or their Euclidean norm."""


def by_token(parts: list, reduction: str) -> Any:
    """One number a token (batch, tokens...) from what its embeddings got, tensors (batch, tokens..., dimensions)."""
    if reduction == "sum":
        return sum(ops.sum(x, axis=-1) for x in parts)
    return ops.sqrt(sum(ops.sum(ops.square(x), axis=-1) for x in parts))


def points_of(graph: Graph) -> tuple:
    """For each input, the values that can be altered for it; none for masks and what is looked up.

    Raises:
        UnsupportedLayerError: there are none at all, or tokens go where nothing can be altered.
    """
    forms = forms_of(graph)
    kinds = kinds_of(graph, forms)
    # Where there is nothing else, what is looked up is refused by its name.
    left_out = (MASK, CODES) if set(kinds) - {MASK, CODES} else (MASK,)
    pairs = zip(graph.inputs, kinds, strict=True)
    return tuple([] if kind in left_out else _points(graph, forms, value, graph.spec(value).dtype) for value, kind in pairs)


def _points(graph: Graph, forms: dict, value: Value, dtype: str) -> list[Value]:
    """The values that can be altered for an input: itself, or what its tokens are embedded as."""
    if not is_integer(dtype):
        return [value]
    points = []
    for node in graph.consumers.get(value, ()):
        kind = forms[node.name].kind
        if node.output_specs[0].dtype == "bool":
            # A mask: it stays that of the clean sample.
            continue
        if kind not in ("embedding", "route"):
            content = "texts" if dtype == "string" else "integers"
            raise UnsupportedLayerError(
                f"Input {value.node!r} holds {content} and feeds {node.name} ({node.kind}): between whole "
                "numbers there is nothing to ask the model. Explain it from the first layer that computes with floats."
            )
        points += [node.values[0]] if kind == "embedding" else _points(graph, forms, node.values[0], dtype)
    return points


def tell_of_zero_sums(graph: Graph, method: str) -> None:
    """Warns where a token's gradient sums to 0 over the embedding axis, whatever the model has learned.

    Layer normalization takes the mean off, so that the gradient of what it is given sums to 0.

    Args:
        graph: a `Graph`.
        method: its name.
    """
    forms = forms_of(graph)
    for value, kind in zip(graph.inputs, kinds_of(graph, forms), strict=True):
        points = _points_or_none(graph, forms, value) if kind == TOKENS else []
        if points and all(_is_normalized(graph, forms, point) for point in points):
            _log.warning(
                "%s of the tokens of %r sums to 0 over the embedding axis by construction, because layer normalization "
                "follows the embedding: what comes is rounding. Take the gradient's norm, %s(model, tokens='norm'), or the "
                "gradient times the embedding, InputTimesGradient(model).",
                method,
                value.node,
                method,
            )


def _points_or_none(graph, forms, value):
    try:
        return _points(graph, forms, value, "int32")
    except UnsupportedLayerError:
        return []


def _is_normalized(graph: Graph, forms: dict, value: Value) -> bool:
    """Whether all that takes a value normalizes it over its last axis, directly or behind what only moves or adds to it."""
    nodes = graph.consumers.get(value, [])
    return bool(nodes) and all(_normalizes(node) or _leads_there(graph, forms, node) for node in nodes)


def _leads_there(graph, forms, node):
    if node.input_specs[0].shape != node.output_specs[0].shape:
        return False
    kind, seen = forms[node.name].kind, behaviour_of(node, try_layers=True)
    # What scales all of an embedding alike, or adds to it, leaves a sum of 0.
    stays = kind in ("route", "sum") or (seen.diagonal and seen.affine and _scales_evenly(node))
    return stays and _is_normalized(graph, forms, node.values[0])


def _scales_evenly(node):
    """Whether an affine function of each value has one factor along the last axis."""
    shape = (1, *(4 if size is None else size for size in node.input_specs[0].shape[1:]))
    with backend.eagerly():
        ends = [backend.to_numpy(node.call(keras.ops.full(shape, end, node.input_specs[0].dtype))[0]) for end in (0, 1)]
    factors = ends[1].astype("float64") - ends[0]
    return np.allclose(factors, factors[..., :1], rtol=1e-3, atol=1e-5)


def _normalizes(node: Node) -> bool:
    layer = node.operation
    if not is_plain(layer, (keras.layers.LayerNormalization,)) or getattr(layer, "rms_scaling", False):
        return False
    axes = [layer.axis] if isinstance(layer.axis, int) else list(layer.axis)
    return [axis % len(node.input_specs[0].shape) for axis in axes] == [len(node.input_specs[0].shape) - 1]
