"""Tokens: where they can be altered, and one number for each of what arrives at its embedding.

Token numbers have no path, no noise and no gradient of their own: what they are embedded as has. A *point* is a value of
the graph that can be altered: a float input, or the embedding of a token input. Called by the methods that look at
gradients.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops

from innvest_lite import backend
from innvest_lite.analyzers import sweep
from innvest_lite.analyzers.samples import ungrouped
from innvest_lite.errors import UnsupportedLayerError, UnsupportedNode
from innvest_lite.forms import forms_of
from innvest_lite.forms.inputs import CODES, MASK, TOKENS, is_integer, kinds_of
from innvest_lite.graph import Graph, Node, Value
from innvest_lite.graph.behaviour import behaviour_of
from innvest_lite.graph.plain import is_plain

if TYPE_CHECKING:
    from innvest_lite.analyzers.explainer import Explainer

_log = logging.getLogger("innvest_lite")

REDUCTIONS = ("sum", "norm")
"""How an embedding's dimensions make one number a token: their sum, or their Euclidean norm."""


def tokens_at_inputs(
    explainer: Explainer, inputs: Any, points: Sequence, found: Mapping[Value, Any], reduction: str
) -> dict:
    """One number for each token, from what its embeddings got.

    Args:
        explainer: an `Explainer`.
        inputs: a tensor per input.
        points: as `points_of` gives them.
        found: point -> a tensor as `samples.grouped` gives it, the embedding's dimensions last.
        reduction: a word of `REDUCTIONS`.

    Returns:
        Input value -> a tensor in its shape, of the inputs that hold tokens.
    """
    graph, starts = explainer.graph, []
    tokens = [value for value, spec in zip(graph.inputs, graph.input_specs, strict=True) if is_integer(spec.dtype)]
    each = zip(graph.inputs, points, strict=True)
    for point in dict.fromkeys(point for value, of_input in each if value in tokens for point in of_input):
        node: Any = graph.producer(point)
        part = found[point] if reduction == "sum" else ops.square(found[point])
        starts.append((node.inputs[0], ungrouped(ops.sum(part, axis=-1), graph.spec(node.inputs[0]))))
    if any(value not in tokens for value, _ in starts):
        # What moves tokens before they are embedded moves their numbers back.
        _, calls = sweep.forward(explainer.plan, inputs)
        arrived = sweep.backward(explainer.plan, calls, starts, {}).relevance
    else:
        arrived = {token: sum(part for value, part in starts if value == token) for token, _ in starts}
    return {value: ops.sqrt(x) if reduction == "norm" else x for value, x in arrived.items() if value in tokens}


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
    found = ([] if kind in left_out else _points(graph, forms, value, graph.spec(value).dtype) for value, kind in pairs)
    # Several ways may lead to one embedding.
    return tuple(list(dict.fromkeys(of_input)) for of_input in found)


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
            raise looked_up(value, dtype, [node], "between them there is nothing to ask the model")
        if kind == "embedding":
            points.append(node.values[0])
        else:
            points += [point for other in node.values for point in _points(graph, forms, other, dtype)]
    return points


def looked_up(value: Value, dtype: str, users: Sequence[Node], why: str) -> UnsupportedLayerError:
    """The refusal of an input that only is looked up.

    Args:
        value: the input.
        dtype: its dtype.
        users: the nodes that take it.
        why: the method has no way to it, as part of a sentence.
    """
    content, advice = "whole numbers", "Explain the model from the first layer that computes with floats."
    if dtype == "string":
        way = "`preprocessor, rest = innvest_lite.texts.split(model)`, then analyzers of `rest` with this preprocessor"
        content = "texts"
        advice = f"Explain the model from its tokens on, with what makes them as preprocessor=: {way}."
    nodes = [UnsupportedNode(node.name, node.kind, f"it looks up {content}") for node in users]
    return UnsupportedLayerError(f"Input {value.node!r} holds {content} and feeds these nodes; {why}:", nodes, advice)


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


def refuse_computed(graph: Graph, kinds: Sequence[str], method: str) -> None:
    """Refuses what an embedding looks up by numbers that are computed of tokens, such as those of pairs of them.

    Args:
        graph: a `Graph`.
        kinds: what its inputs hold.
        method: of which method, one that hands relevance back.

    Raises:
        UnsupportedLayerError: there is such an embedding; between the numbers and the tokens, nothing can be followed.
    """
    tokens = {value for value, kind in zip(graph.inputs, kinds, strict=True) if kind == TOKENS}
    of_tokens, moved, forms = set(tokens), set(tokens), forms_of(graph)
    for node in graph.nodes:
        if forms[node.name].kind == "embedding":
            if of_tokens.intersection(node.inputs) and not moved.issuperset(node.inputs):
                maker: Any = graph.producer(node.inputs[0])
                raise UnsupportedLayerError(
                    f"{method} has no way back to the tokens from what looks up numbers that {maker.name} ({maker.kind}) "
                    "computes of them: whole numbers have no gradient. It is looked up in:",
                    [UnsupportedNode(node.name, node.kind, f"it looks up numbers computed by {maker.name}")],
                    "Explain the model by occlusion, which only asks for its outputs.",
                )
            continue
        if of_tokens.intersection(node.inputs) and node.output_specs[0].dtype != "bool":
            of_tokens.update(node.values)
            if forms[node.name].kind == "route" and moved.issuperset(of_tokens.intersection(node.inputs)):
                moved.update(node.values)
