"""What a graph says of its inputs: what they hold, of which vocabulary, and where positions and classes lie.

Called by `innvest_lite.inputs`, which checks what people hand in, by the analyzers and by the measures.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from innvest_lite import backend
from innvest_lite.forms.base import Form
from innvest_lite.forms.registry import forms_of
from innvest_lite.forms.structure import softmax_axes
from innvest_lite.graph import Graph, Spec, Value
from innvest_lite.graph.masks import LeaveMask
from innvest_lite.graph.passes import is_linear_part, unit_axes
from innvest_lite.graph.plain import is_plain
from innvest_lite.graph.recognized import is_softmax


def with_token_inputs(graph: Graph) -> Graph:
    """The graph with its inputs marked by what they hold.

    Token inputs are integers: Keras's `Input` is float unless its dtype is given. Whole numbers that the model computes
    with as with floats, such as uint8 images, are floats.
    """
    forms = forms_of(graph)
    specs = [
        dataclasses.replace(spec, dtype="int32") if not is_integer(spec.dtype) and _is_tokens(graph, forms, value) else spec
        for value, spec in zip(graph.inputs, graph.input_specs, strict=True)
    ]
    # Left as it is, what is known of the graph stays known.
    graph = graph if specs == list(graph.input_specs) else graph.replace(input_specs=tuple(specs))
    pairs = list(zip(graph.inputs, specs, strict=True))
    # Whole numbers beside tokens, one for each, are a mask, even where they are computed with.
    texts = {spec.shape[1:] for value, spec in pairs if is_integer(spec.dtype) and _is_embedded(graph, forms, value)}
    numbers = {
        value: spec.dtype
        for value, spec in pairs
        if spec.shape[1:] not in texts
        and is_integer(spec.dtype)
        and not _is_embedded(graph, forms, value)
        and not (graph.consumers.get(value) and _only_chooses(graph, value))
        and dtype_of(graph, forms, value, spec) == "float32"
    }
    return _as_floats(graph, forms, numbers) if numbers else graph


def _as_floats(graph, forms, numbers):
    """The graph with whole numbers, value -> dtype, as floats, also where they have only been moved."""
    numbers, nodes = dict(numbers), []
    for node in graph.nodes:
        taken = [numbers.get(value) for value in node.inputs]
        if any(taken):
            specs = zip(node.input_specs, taken, strict=True)
            node = node.replace(input_specs=tuple(_float_spec(spec) if dtype else spec for spec, dtype in specs))
            if forms[node.name].kind == "route" and node.output_specs[0].dtype in taken:
                numbers.update(dict.fromkeys(node.values, node.output_specs[0].dtype))
                node = node.replace(output_specs=tuple(map(_float_spec, node.output_specs)))
        nodes.append(node)
    pairs = zip(graph.inputs, graph.input_specs, strict=True)
    specs = tuple(_float_spec(spec) if value in numbers else spec for value, spec in pairs)
    return graph.replace(nodes=tuple(nodes), input_specs=specs)


def _float_spec(spec):
    return dataclasses.replace(spec, dtype="float32")


def _is_tokens(graph, forms, value):
    """Whether a value is used by embeddings, directly or reshaped, and otherwise by masks and numbers of tokens alone."""
    return _feeds_embedding(graph, forms, value) and _ends_in_embeddings(graph, forms, value)


def _ends_in_embeddings(graph, forms, value):
    """Whether all that is made of a value are masks, and numbers that embeddings take, such as those of pairs of tokens."""
    nodes = [node for node in graph.consumers.get(value, ()) if not _is_mask(node)]
    return all(
        forms[node.name].kind == "embedding"
        or (not set(node.values).intersection(graph.outputs) and not _looks_up(node) and _goes_on(graph, forms, node))
        for node in nodes
    )


def _goes_on(graph, forms, node):
    used = [value for value in node.values if graph.consumers.get(value)]
    return bool(used) and all(_ends_in_embeddings(graph, forms, value) for value in used)


def _looks_up(node):
    """Whether a layer of Keras's looks its input up in a table, or sorts it in bins."""
    return is_plain(node.operation, _LOOKUPS)


_LOOKUPS = (
    *(keras.layers.StringLookup, keras.layers.IntegerLookup, keras.layers.Hashing, keras.layers.HashedCrossing),
    *(keras.layers.Discretization, keras.layers.CategoryEncoding, keras.layers.TextVectorization),
)


def _is_mask(node):
    return all(spec.dtype == "bool" for spec in node.output_specs)


def vocabulary(graph: Graph, forms: Mapping[str, Form], value: Value) -> int | None:
    """The size of the smallest embedding that uses a value, directly or reshaped; None where none does."""
    sizes = []
    for node in graph.consumers.get(value, ()):
        kind = forms[node.name].kind
        if kind == "embedding":
            operation = node.operation
            sizes.append(getattr(operation, "input_dim", None) or getattr(operation, "num_classes", None))
        elif kind == "route":
            sizes += [vocabulary(graph, forms, value) for value in node.values]
    return min((size for size in sizes if size is not None), default=None)


def dtype_of(graph: Graph, forms: Mapping[str, Form], value: Value, spec: Spec) -> str:
    """The dtype to compute in: float32 for integers, unless an embedding takes them or what is not the same for floats."""
    keeps = not is_integer(spec.dtype) or spec.dtype in ("string", "bool") or _feeds_integers(graph, forms, value)
    return spec.dtype if keeps else "float32"


def _feeds_integers(graph, forms, value):
    for node in graph.consumers.get(value, ()):
        kind = forms[node.name].kind
        if kind == "embedding" or (kind == "opaque" and not _takes_floats(node)) or _overflows(node):
            return True
        follows = kind == "route" or node.output_specs[0].dtype in _SMALL
        if follows and any(_feeds_integers(graph, forms, value) for value in node.values):
            return True
    return False


_SMALL = ("int8", "uint8", "int16", "uint16")


def _overflows(node):
    """Whether a node makes other numbers of small whole ones than of floats: in uint8, 100 - 128 is 228. This is tried."""
    if not all(spec.dtype in _SMALL for spec in (*node.input_specs, *node.output_specs)):
        return False
    generator, ranges = np.random.default_rng(0), [np.iinfo(spec.dtype) for spec in node.input_specs]
    shapes = [(16, *(8 if size is None else size for size in spec.shape[1:])) for spec in node.input_specs]
    pairs = zip(ranges, shapes, strict=True)
    numbers = [generator.integers(info.min, info.max, shape, info.dtype, endpoint=True) for info, shape in pairs]
    with backend.eagerly():
        try:
            whole = node.call(*map(keras.ops.convert_to_tensor, numbers))
            floats = node.call(*(keras.ops.convert_to_tensor(x, "float32") for x in numbers))
        except (TypeError, ValueError, ArithmeticError, NotImplementedError, backend.OperationError):
            return False  # whether it takes floats is asked elsewhere
        return not all(np.array_equal(backend.to_numpy(a), backend.to_numpy(b)) for a, b in zip(whole, floats, strict=True))


def _takes_floats(node):
    """Whether a node computes with whole numbers as with floats, and a gradient goes through it; this is tried."""
    if len(node.inputs) != 1 or any(is_integer(spec.dtype) for spec in node.output_specs):
        return False
    shape = (2, *(8 if size is None else size for size in node.input_specs[0].shape[1:]))
    numbers = np.random.default_rng(0).integers(0, 5, shape)
    with backend.eagerly():
        try:
            whole = node.call(keras.ops.convert_to_tensor(numbers, node.input_specs[0].dtype))
            outputs, pullback = backend.vjp(lambda x: node.call(x), keras.ops.convert_to_tensor(numbers, "float32"))
            gradient = pullback(tuple(keras.ops.ones_like(y) for y in outputs))[0]
        except (TypeError, ValueError, ArithmeticError, NotImplementedError, backend.OperationError):
            return False  # it takes no floats
        pairs = [(backend.to_numpy(a), backend.to_numpy(b)) for a, b in zip(whole, outputs, strict=True)]
    return gradient is not None and all(np.allclose(a, b, rtol=1e-4, atol=1e-6, equal_nan=True) for a, b in pairs)


NUMBERS, TOKENS, MASK, CODES = "numbers", "tokens", "mask", "codes"
"""What an input holds: numbers that the model computes with; tokens, which it embeds; whole numbers that only hide others;
whole numbers and texts that it looks up, through which no relevance can be followed."""


def kinds_of(graph: Graph, forms: Mapping[str, Form]) -> tuple[str, ...]:
    """What each input of a graph holds, of `with_token_inputs`: one of the words above."""
    pairs = list(zip(graph.inputs, graph.input_specs, strict=True))
    kinds = [_kind_of(graph, forms, value, spec) for value, spec in pairs]
    texts = {spec.shape[1:] for (_, spec), kind in zip(pairs, kinds, strict=True) if kind == TOKENS}
    # Whole numbers beside tokens, one for each: a mask, whatever the model makes of it.
    whole = [kind == CODES and spec.dtype != "string" for (_, spec), kind in zip(pairs, kinds, strict=True)]
    return tuple(
        MASK if one and spec.shape[1:] in texts else kind for one, (_, spec), kind in zip(whole, pairs, kinds, strict=True)
    )


def _kind_of(graph, forms, value, spec):
    if not is_integer(spec.dtype):
        return NUMBERS
    if spec.dtype == "string":
        return CODES
    if _is_embedded(graph, forms, value):
        return TOKENS
    return MASK if _only_hides(graph, forms, value) else CODES


def _is_embedded(graph, forms, value):
    """Whether whole numbers are embedded, or only what is computed of them is."""
    if _feeds_embedding(graph, forms, value):
        return True
    used = graph.consumers.get(value) and not _only_hides(graph, forms, value)
    return bool(used) and _ends_in_embeddings(graph, forms, value)


def _feeds_embedding(graph, forms, value):
    return any(
        forms[node.name].kind == "embedding"
        or (
            forms[node.name].kind == "route"
            and not _is_mask(node)
            and any(_feeds_embedding(graph, forms, other) for other in node.values)
        )
        for node in graph.consumers.get(value, ())
    )


def _only_hides(graph, forms, value):
    """Whether all that is made of a value are truth values."""
    nodes = graph.consumers.get(value, ())
    return all(
        _is_mask(node)
        or (forms[node.name].kind == "route" and all(_only_hides(graph, forms, other) for other in node.values))
        for node in nodes
    )


def _only_chooses(graph, value):
    """Whether all that is made of a value are truth values that choose between others, or hide them."""
    for node in graph.consumers.get(value, ()):
        if all(spec.dtype == "bool" for spec in node.output_specs):
            if not all(_only_chooses(graph, other) for other in node.values):
                return False
            continue
        # As a condition, or as the mask of a layer, which comes behind what it hides.
        condition = type(node.operation).__name__ == "Where" and node.inputs[0] == value
        hides = value in node.inputs[1:] and (isinstance(node.operation, (keras.Layer, LeaveMask)))
        moves = is_integer(graph.spec(value).dtype) and all(is_integer(spec.dtype) for spec in node.output_specs)
        if moves and all(_only_chooses(graph, other) and graph.consumers.get(other) for other in node.values):
            continue
        if graph.spec(value).dtype != "bool" or not (condition or hides):
            return False
    return True


def class_axis(graph: Graph, head: tuple[Form, ...] = ()) -> int:
    """The axis of a graph's only output along which classes lie, of (batch, positions..., classes) or with classes first.

    A softmax that was taken off tells; else the last layer with units or with a data format.

    Args:
        graph: a `Graph` that ends at the logits.
        head: the forms that were taken off, of which the first is a softmax or a sigmoid.
    """
    shape = graph.spec(graph.outputs[0]).shape
    if head and is_softmax(head[0].node):
        axis = softmax_axes(head[0].node)[-1]
        before = head[0].node.input_specs[0].shape
        # What follows a softmax may have added or dropped axes of size 1.
        places, own = ([place for place, size in enumerate(sizes) if place and size != 1] for sizes in (before, shape))
        if before == shape:
            return axis
        if axis in places and len(places) == len(own):
            return own[places.index(axis)]
    return _unit_axis(graph, graph.outputs[0], len(shape))


def _unit_axis(graph, value, rank):
    """The axis of a value along which the units of the layer that made it lie."""
    node = graph.producer(value)
    if node is None or len(node.output_specs[0].shape) != rank:
        return rank - 1
    if is_linear_part(node):
        return unit_axes(node)[-1]
    if is_plain(node.operation, (keras.layers.Permute,)):
        return 1 + node.operation.dims.index(_unit_axis(graph, node.inputs[0], rank))
    if getattr(node.operation, "data_format", None) is not None:
        return 1 if node.operation.data_format == "channels_first" else rank - 1
    # Functions of each value, sums and the like leave the axes where they are.
    stays = node.inputs and node.input_specs[0].shape == node.output_specs[0].shape
    return _unit_axis(graph, node.inputs[0], rank) if stays else rank - 1


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


def input_axes(graph: Graph, shape: tuple[int | None, ...], kind: str) -> tuple[tuple[int, ...], int | None]:
    """`spatial_axes` of an input of this shape and kind: tokens have no channels, also where they lie in rows."""
    return (tuple(range(1, len(shape))), None) if kind == TOKENS else spatial_axes(graph, len(shape))


def is_integer(dtype: Any) -> bool:
    """Whether a Keras dtype holds no floats: integers, booleans, texts."""
    return not keras.backend.is_float_dtype(dtype)
