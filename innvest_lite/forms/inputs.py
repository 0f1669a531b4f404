"""What a graph says of its inputs: which of them hold tokens, of which vocabulary, and where positions lie.

Called by `innvest_lite.inputs`, which checks what people hand in, by the analyzers and by the measures.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import keras

from innvest_lite.forms.base import Form
from innvest_lite.forms.registry import forms_of
from innvest_lite.graph import Graph, Spec, Value


def with_token_inputs(graph: Graph) -> Graph:
    """The graph with its token inputs marked as integers: Keras's `Input` is float unless its dtype is given."""
    forms = forms_of(graph)
    specs = [
        dataclasses.replace(spec, dtype="int32") if not is_integer(spec.dtype) and _is_tokens(graph, forms, value) else spec
        for value, spec in zip(graph.inputs, graph.input_specs, strict=True)
    ]
    return graph.replace(input_specs=tuple(specs))


def _is_tokens(graph, forms, value):
    """Whether a value is used by embeddings, directly or reshaped, and otherwise by masks alone."""
    ends = []
    for node in graph.consumers.get(value, ()):
        kind = forms[node.name].kind
        if all(spec.dtype == "bool" for spec in node.output_specs):
            continue
        moved = kind == "route" and len(node.inputs) == 1
        ends.append(kind == "embedding" or (moved and _is_tokens(graph, forms, node.values[0])))
    return bool(ends) and all(ends)


def vocabulary(graph: Graph, forms: Mapping[str, Form], value: Value) -> int | None:
    """The size of the smallest embedding that uses a value, directly or reshaped; None where none does."""
    sizes = []
    for node in graph.consumers.get(value, ()):
        kind = forms[node.name].kind
        if kind == "embedding":
            sizes.append(node.operation.input_dim)
        elif kind == "route":
            sizes.append(vocabulary(graph, forms, node.values[0]))
    return min((size for size in sizes if size is not None), default=None)


def dtype_of(graph: Graph, forms: Mapping[str, Form], value: Value, spec: Spec) -> str:
    """The dtype to compute in: integers stay integers where an embedding or an unknown layer takes them, else float32."""
    keeps = not is_integer(spec.dtype) or _feeds_integers(graph, forms, value)
    return spec.dtype if keeps else "float32"


def _feeds_integers(graph, forms, value):
    for node in graph.consumers.get(value, ()):
        kind = forms[node.name].kind
        if kind in ("embedding", "opaque") or (kind == "route" and _feeds_integers(graph, forms, node.values[0])):
            return True
    return False


def spatial_axes(graph: Graph, rank: int) -> tuple[tuple[int, ...], int | None]:
    """The axes of a tensor of this rank along which positions lie, and that of its channels (None where there is none).

    A table of features or of tokens, (batch, features), has positions alone.
    """
    if rank < 3:
        return tuple(range(1, rank)), None
    # A Flatten layer has a data format too, which says nothing of the layers before it.
    layers = (node.operation for node in graph.nodes if not isinstance(node.operation, keras.layers.Flatten))
    formats = [layer.data_format for layer in layers if getattr(layer, "data_format", None) is not None]
    first = "channels_first" in formats[:1]
    return (tuple(range(2, rank)), 1) if first else (tuple(range(1, rank - 1)), rank - 1)


def is_integer(dtype: Any) -> bool:
    """Whether a Keras dtype holds integers or booleans."""
    return not keras.backend.is_float_dtype(dtype)
