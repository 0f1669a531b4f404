"""Which values hold vectors of which others, by what each node hands on. Called by `token_flow` and `token_places`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import keras

from innvest_lite.forms import Form
from innvest_lite.forms.attention import Matmul
from innvest_lite.forms.structure import Product, is_constant
from innvest_lite.graph import Graph, Node, Value
from innvest_lite.graph.source import Source


def handed_on(form: Form) -> tuple[Value, ...]:
    """The values whose vectors a node hands on: not weights, gates, divisors, masks, whole numbers and mere shapes."""
    node = form.node
    if takes_shapes(node):
        return ()
    if isinstance(form, Matmul) and form.values is not None:
        return (node.inputs[form.values],)
    if isinstance(form, Product) and form.signal is not None:
        return (node.inputs[form.signal],)
    pairs = zip(node.inputs, node.input_specs, strict=True)
    return tuple(dict.fromkeys(value for value, spec in pairs if keras.backend.is_float_dtype(spec.dtype)))


def takes_shapes(node: Node) -> bool:
    """Whether nothing of what a node takes but its shape is in what it gives."""
    return is_constant(node) or isinstance(node.operation, Source)


def signal_of(graph: Graph, forms: Mapping[str, Form]) -> list[Node]:
    """The nodes through which vectors reach the explained output, in order."""
    wanted, found = {graph.outputs[0]}, []
    for node in reversed(graph.nodes):
        if wanted.intersection(node.values):
            found.append(node)
            wanted.update(handed_on(forms[node.name]))
    return found[::-1]


def starts(graph: Graph, forms: Mapping[str, Form], product: Node) -> Iterator[Value]:
    """What the values of the first attention are computed from, the latest first: where its tokens may begin."""
    wanted = set(handed_on(forms[product.name]))
    for node in reversed(graph.nodes):
        for value, spec in zip(node.values, node.output_specs, strict=True):
            if value in wanted:
                wanted.update(handed_on(forms[node.name]))
                if len(spec.shape) > 2:
                    yield value
    for value in graph.inputs:
        if value in wanted and len(graph.spec(value).shape) > 2:
            yield value


def elsewhere(graph: Graph, forms: Mapping[str, Form], start: Value) -> set[Value]:
    """The values that depend on vectors of the inputs in other ways than through one value."""
    pairs = zip(graph.inputs, graph.input_specs, strict=True)
    found = {value for value, spec in pairs if keras.backend.is_float_dtype(spec.dtype)} - {start}
    for node in graph.nodes:
        if found.intersection(node.inputs) or forms[node.name].kind == "embedding":
            found.update(value for value in node.values if value != start)
    return found


def before(graph: Graph, value: Value) -> set[Value]:
    """All values that a value is computed from."""
    found = {value}
    for node in reversed(graph.nodes):
        if found.intersection(node.values):
            found.update(node.inputs)
    return found
