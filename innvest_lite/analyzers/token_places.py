"""Where the tokens of a transformer lie over its input. Called by `attention_maps`.

A patch, a word or a step of a series is a token; tokens that a network adds, such as a class token or registers, lie
nowhere.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from innvest_lite import backend
from innvest_lite.analyzers.feature_maps import FeatureMaps
from innvest_lite.analyzers.token_flow import TokenFlow
from innvest_lite.analyzers.vectors import handed_on
from innvest_lite.errors import InvalidInputError, UnsupportedLayerError
from innvest_lite.forms import Form, forms_of
from innvest_lite.forms.inputs import MASK
from innvest_lite.forms.positions import Places, places_of, places_of_input
from innvest_lite.forms.windows import windows_of
from innvest_lite.graph import Graph, Node, Value
from innvest_lite.graph.behaviour import FAILURES, evaluated
from innvest_lite.inputs import InputSpec


@dataclasses.dataclass(frozen=True, eq=False)
class TokenPlaces:
    """How tokens lie over an input.

    Attributes:
        maps: the last value in which the tokens are the input's positions alone, and how it lies over the input.
        numbers: for each of that value's tokens its number in the sequence; None where they are the same.
    """

    maps: FeatureMaps
    numbers: tuple[int, ...] | None


def token_places(graph: Graph, inputs: InputSpec, flow: TokenFlow, input: str | None, method: str) -> TokenPlaces:
    """How the tokens of a flow lie over an input.

    Args:
        graph: the model's graph.
        inputs: what the model takes.
        flow: where the tokens begin.
        input: the name of the input; None: the only one whose positions are the tokens, and of several with tokens of their
            own the one with the largest vocabulary.
        method: the name of the method, for messages.

    Raises:
        UnsupportedLayerError: the tokens could not be followed to positions of an input.
        InvalidInputError: there is no such input, or several inputs could be drawn over.
    """
    if input is not None and input not in inputs.names:
        raise InvalidInputError(f"input={input!r} names no input of the model; they are {', '.join(inputs.names)}.")
    forms, found = forms_of(graph), {}
    for number, (name, kind) in enumerate(zip(inputs.names, inputs.kinds, strict=True)):
        if name == input or (input is None and kind != MASK):
            places = _over(graph, forms, flow, number, name)
            if places is not None:
                found[number] = places
    if not found:
        raise UnsupportedLayerError(
            f"{method} draws over what became the tokens of {flow.tokens.node!r}, "
            f"{graph.spec(flow.tokens).shape}, and could not follow them to positions of "
            f"{'an input' if input is None else repr(input)}. Where sizes are open, say input_shape=...; or explain the "
            "model by innvest_lite.LRP(model, 'attn_lrp')."
        )
    largest = max(inputs.vocabularies[number] or 0 for number in found)
    if largest and len(found) > 1:
        # Words beside the numbers of their segments.
        found = {number: places for number, places in found.items() if inputs.vocabularies[number] == largest}
    if len(found) > 1:
        names = " or ".join(f"input={places.maps.name!r}" for places in found.values())
        raise InvalidInputError(f"{method} draws over one input, and this model has several with tokens: say {names}.")
    return next(iter(found.values()))


def _over(graph: Graph, forms: Mapping[str, Form], flow: TokenFlow, number: int, name: str) -> TokenPlaces | None:
    """How the tokens lie over one input; None where they do not, as far as they can be followed."""
    source = graph.inputs[number]
    places, own = places_of(graph, forms, source), places_of_input(graph, graph.spec(source))
    value, numbers = flow.tokens, None
    while not (where := places.get(value)) or not where.positions:
        node = graph.producer(value)
        before = [] if node is None else [one for one in handed_on(forms[node.name]) if one in places]
        if node is None or len(before) != 1 or len(graph.spec(value).shape) != 3:
            return None
        step = _numbers(node, before[0], forms[node.name], places)
        if step is None:
            return None
        # A token's number there, and there its number behind the node.
        numbers = step if numbers is None else tuple(numbers[one] for one in step)
        value = before[0]
    # The sequence has the order of the value's axes.
    if where.positions != _axes(flow, graph.spec(value).shape, numbers):
        return None
    windows = windows_of(graph, forms, source, own)
    return TokenPlaces(FeatureMaps(value, name, where, number, own, windows), numbers)


def _axes(flow: TokenFlow, shape: tuple[int | None, ...], numbers: tuple[int, ...] | None) -> tuple[int, ...]:
    return flow.places.positions if numbers is None else tuple(range(1, len(shape) - 1))


def _numbers(node: Node, before: Value, form: Form, places: Mapping[Value, Places | None]) -> tuple[int, ...] | None:
    """For each token that a node takes its number among those that it gives; None where some are lost or mixed."""
    spec, given = node.input_specs[node.inputs.index(before)], node.output_specs[0]
    if None in (*spec.shape[1:], *given.shape[1:]) or len(spec.shape) != 3:
        return None
    count = spec.shape[1] or 0
    if spec.shape == given.shape and form.kind in ("scale", "activation", "rectifier", "normalization", "sum"):
        return tuple(range(count))
    if len(node.inputs) > 1:
        return None
    # Token by token the digits of its number, which any precision holds, less what the network adds of its own.
    digits = [np.arange(1, count + 1) >> place & 1 for place in range(count.bit_length())]
    try:
        with backend.eagerly():
            nothing, *seen = (
                evaluated(lambda x: node.call(x)[0], spec.dtype, np.broadcast_to(line[None, :, None], (1, *spec.shape[1:])))
                for line in (np.zeros(count), *digits)
            )
    except FAILURES:
        return None
    lines = np.stack([(one - nothing)[0] for one in seen]).round(2)
    if not np.isin(lines, (0, 1)).all() or not (lines == lines[:, :, :1]).all():
        return None
    found = (lines[:, :, 0] * 2 ** np.arange(len(digits))[:, None]).sum(0).astype(int).tolist()
    numbers = range(1, count + 1)
    if any(found.count(one) != 1 for one in numbers) or not {0, *numbers}.issuperset(found):
        return None
    return tuple(found.index(one) for one in numbers)
