"""Pure rewrites of a `Graph`: each takes a graph and returns another that computes the same outputs.

`strip_softmax` alone changes the output, on purpose: explanations start at the logit (docs/design.md, decision 1).
Called by the analyzers and the fitter, in the order in which the functions stand here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import keras

from innvest_lite.errors import InvalidInputError
from innvest_lite.graph.arguments import Slot
from innvest_lite.graph.behaviour import behaviour_of
from innvest_lite.graph.cast import Cast
from innvest_lite.graph.graph import Graph, Node, Value
from innvest_lite.graph.plain import is_plain
from innvest_lite.graph.recognized import is_sigmoid, is_softmax
from innvest_lite.graph.weighted import Linear

IDLE = (
    *(keras.layers.Dropout, keras.layers.SpatialDropout1D, keras.layers.SpatialDropout2D, keras.layers.SpatialDropout3D),
    *(keras.layers.AlphaDropout, keras.layers.GaussianDropout, keras.layers.GaussianNoise),
    *(keras.layers.ActivityRegularization, keras.layers.Identity),
)
"""Layers that do nothing outside of training, whatever the data."""
# What may stand behind a softmax: it changes the shape at most.
_KEEPING = (*IDLE, keras.layers.Reshape, keras.layers.Flatten)
_RESHAPING_OPERATIONS = (
    *(("keras.src.ops.numpy", name) for name in ("Reshape", "Ravel", "Squeeze", "ExpandDims")),
    ("keras.src.ops.core", "Cast"),
)
_SEPARABLE = (keras.layers.SeparableConv1D, keras.layers.SeparableConv2D)
LINEAR_MAPS = {
    keras.layers.Dense: "dense",
    keras.layers.EinsumDense: "einsum",
    keras.layers.Conv1D: "convolution",
    keras.layers.Conv2D: "convolution",
    keras.layers.Conv3D: "convolution",
    keras.layers.DepthwiseConv1D: "depthwise",
    keras.layers.DepthwiseConv2D: "depthwise",
    keras.layers.Conv1DTranspose: "transposed",
    keras.layers.Conv2DTranspose: "transposed",
    keras.layers.Conv3DTranspose: "transposed",
    **dict.fromkeys(_SEPARABLE, "separable"),
}
"""Each layer that is, its activation aside, a linear map with a kernel -> the name of the map, by which `forms.linear`
gives it a form."""
LINEAR_LAYERS = tuple(LINEAR_MAPS)


def _is_linear_layer(layer, rank):
    """Whether a layer is, its activation aside, one of the linear maps that the forms know.

    Args:
        layer: a Keras layer.
        rank: of its output.
    """
    if isinstance(layer, Linear):
        return True
    if not is_plain(layer, LINEAR_LAYERS):
        return False
    return not isinstance(layer, keras.layers.EinsumDense) or einsum_bias_axes(layer, rank) is not None


def rewrite(graph: Graph, fuse: bool = False, split: bool = False, strip: bool = True) -> Graph:
    """The passes that every method needs, and those that some need.

    The gradient family fuses and splits nothing: the same operations as the model's own give the same rounding.

    Args:
        graph: a `Graph`.
        fuse: whether BatchNormalization is fused into the linear node before it.
        split: whether separable convolutions are cut in two.
        strip: whether softmax and sigmoid come off the outputs; who explains one of several selects it first, since what
            other outputs make of its probabilities is no part of it.
    """
    # In this order: only once inline activations are nodes can a softmax be taken off, or a linear part be fused.
    graph = split_activations(graph)
    graph = strip_softmax(graph) if strip else graph
    graph = split_separable(graph) if split else graph
    return fuse_batchnorm(graph) if fuse else graph


def select_output(graph: Graph, name: str | None) -> Graph:
    """Keeps one output and the nodes that it depends on.

    Args:
        graph: a `Graph`.
        name: an output name: its key, where the model gives a dict, or its layer's; None where the model has a single
            output.

    Raises:
        InvalidInputError: there is no such output, or several and no name, or several of that name.
    """
    names = list(graph.output_names)
    if name is None and len(names) > 1:
        raise InvalidInputError(
            f"The model has several outputs; choose one, output= one of {names}, or make the analyzer with a function of "
            "all of them, target=."
        )
    # A key names before a layer does: a shared layer may make several outputs.
    known: list[Any] = names if name in names else list(graph.output_layers)
    if name is not None and name not in known:
        raise InvalidInputError(f"The model has no output {name!r}; it has {names}.")
    if known.count(name) > 1:
        keys = f"their keys: {names}" if len(set(names)) == len(names) else 'keys: keras.Model(inputs, {"first": ..., ...})'
        raise InvalidInputError(f"{known.count(name)} outputs of the model are made by {name!r}; name them by {keys}.")
    index = 0 if name is None else known.index(name)
    one = {"outputs": (graph.outputs[index],), "output_names": (graph.output_names[index],)}
    # The only one is handed on as the model gives it, such as in a dict.
    return without_unused(graph.replace(**one, **({"structure": 0} if len(names) > 1 else {})))


def split_activations(graph: Graph) -> Graph:
    """Cuts a layer with an inline activation in a linear node and an activation node, so that no rule strips one.

    Node `dense` keeps the name of the layer (patterns are named by it); the activation is `dense/activation`.
    """

    def cut(node):
        activation = getattr(node.operation, "activation", None)
        linear = _is_linear_layer(node.operation, len(node.output_specs[0].shape))
        if not linear or activation in (None, keras.activations.linear):
            return [node]
        linear = node.replace(part="linear")
        return [linear, _following(linear, f"{node.name}/activation", "activation")]

    return _expand(graph, cut)


def split_separable(graph: Graph) -> Graph:
    """Cuts a separable convolution in its two linear maps, `name/depthwise` and `name/pointwise`."""

    def cut(node):
        if node.part not in ("", "linear") or not is_plain(node.operation, _SEPARABLE):
            return [node]
        layer, spec = node.operation, node.output_specs[0]
        channels = layer.depthwise_kernel.shape[-2] * layer.depthwise_kernel.shape[-1]
        axis = 1 if layer.data_format == "channels_first" else len(spec.shape) - 1
        shape = spec.shape[:axis] + (channels,) + spec.shape[axis + 1 :]
        depthwise = node.replace(
            name=f"{node.name}/depthwise", part="depthwise", output_specs=(type(spec)(shape, spec.dtype),)
        )
        pointwise = _following(depthwise, f"{node.name}/pointwise", "pointwise").replace(output_specs=node.output_specs)
        return [depthwise, pointwise]

    return _expand(graph, cut)


def _following(node, name, part):
    """A node for the next part of the same layer, whose input is the node's output."""
    return Node(
        name=name,
        operation=node.operation,
        inputs=node.values,
        arguments=((Slot(0),), {}),
        input_specs=node.output_specs,
        output_specs=node.output_specs,
        part=part,
    )


def _expand(graph, cut):
    """Replaces each node by the chain of nodes that `cut(node)` returns; consumers then take the last one's value."""
    nodes, others = [], {}
    for node in graph.nodes:
        chain = cut(node.replace(inputs=tuple(others.get(value, value) for value in node.inputs)))
        if chain[-1].values != node.values:
            others.update(zip(node.values, chain[-1].values, strict=True))
        nodes.extend(chain)
    return renamed(graph, nodes, others)


def renamed(graph: Graph, nodes: Iterable[Node], others: Mapping[Value, Value]) -> Graph:
    """A graph with other nodes.

    Args:
        graph: a `Graph`.
        nodes: in place of its nodes.
        others: a value that is gone -> the one that outputs and whole layers now have in its place.
    """
    return graph.replace(
        nodes=tuple(nodes),
        outputs=tuple(others.get(value, value) for value in graph.outputs),
        layer_values={name: others.get(value, value) for name, value in graph.layer_values.items()},
    )


def with_ones_for(graph: Graph, ones: Mapping[str, Node], gone: Collection[str]) -> Graph:
    """A graph with one node in place of several, at as many places as there are.

    Args:
        graph: a `Graph`.
        ones: the name of the node whose value others take, of the several -> the one that stands in its place.
        gone: the names of all the several.
    """
    others = {graph.node_of[last].values[0]: node.values[0] for last, node in ones.items()}
    nodes = []
    for other in graph.nodes:
        if other.name not in gone or other.name in ones:
            node = ones.get(other.name, other)
            nodes.append(node.replace(inputs=tuple(others.get(value, value) for value in node.inputs)))
    return renamed(graph, nodes, others)


def strip_softmax(graph: Graph) -> Graph:
    """Takes the softmax or sigmoid off every output that ends in one: what stays are the logits.

    The activation may be inline (after `split_activations`), a layer, a function or an operation, however it is written;
    behind it may stand what keeps order (`heads`), which then keeps the order of the logits.
    """
    nodes, others = {node.name: node for node in graph.nodes}, {}
    for squashing, *rest in filter(None, heads(graph)):
        if rest:
            nodes[rest[0].name] = nodes[rest[0].name].replace(inputs=squashing.inputs)
        else:
            others[squashing.values[0]] = squashing.inputs[0]
    # The softmax itself is dropped only where no other output depends on it.
    return without_unused(renamed(graph, nodes.values(), others))


def heads(graph: Graph) -> tuple[tuple[Node, ...], ...]:
    """What `strip_softmax` takes off each output, and what follows: a softmax or a sigmoid, then what keeps order.

    Returns:
        For each output a tuple of nodes, of which the first is the softmax or sigmoid; empty where there is none.
    """
    return tuple(_head(graph, value) for value in graph.outputs)


def _head(graph, output):
    chain, value = [], output
    while (node := graph.producer(value)) is not None:
        chain.insert(0, node)
        if is_softmax(node) or is_sigmoid(node):
            # What takes the output itself takes probabilities, too.
            return () if len(chain) > 1 and output in graph.consumers else tuple(chain)
        value = node.inputs[0] if keeps_order(node) else None
        # What else takes the value on the way takes probabilities.
        if value is None or len(graph.consumers[value]) > 1 or value in graph.outputs:
            return ()
    return ()


def keeps_order(node: Node) -> bool:
    """Whether a node hands on the same numbers in the same order, of another type or shape at most."""
    return len(node.inputs) == 1 and (
        is_plain(node.operation, _KEEPING)
        or type(node.operation) is Cast
        or (type(node.operation).__module__, type(node.operation).__name__) in _RESHAPING_OPERATIONS
        or behaviour_of(node).is_identity
    )


def without_unused(graph: Graph) -> Graph:
    """Drops the nodes on which no output depends."""
    needed, kept = set(graph.outputs), []
    for node in reversed(graph.nodes):
        if needed.intersection(node.values):
            needed.update(node.inputs)
            kept.append(node)
    made = needed | set(graph.inputs) | {value for node in kept for value in node.values}
    layer_values = {name: value for name, value in graph.layer_values.items() if value in made}
    return graph.replace(nodes=tuple(reversed(kept)), layer_values=layer_values)


def fuse_batchnorm(graph: Graph) -> Graph:
    """Makes one linear node of a linear node and the BatchNormalization after it.

    Only where nothing else uses the value between them, it is no output, and the normalized axis is the axis of the
    linear node's units. The effective kernel and bias are computed by the form (`forms.linear`).
    """
    nodes: dict[str, Node] = {}
    others: dict[Value, Value] = {}
    for node in graph.nodes:
        before = _fusible_before(graph, node)
        if before is None:
            nodes[node.name] = node.replace(inputs=tuple(others.get(value, value) for value in node.inputs))
        else:
            nodes[before.name] = nodes[before.name].replace(batchnorm=node.operation, output_specs=node.output_specs)
            others[node.values[0]] = before.values[0]
    return renamed(graph, nodes.values(), others)


def _fusible_before(graph, node):
    """The linear node that a BatchNormalization node can be fused into, or None."""
    if not is_plain(node.operation, (keras.layers.BatchNormalization,)):
        return None
    value = node.inputs[0]
    before = graph.producer(value)
    if before is None or not is_linear_part(before) or before.batchnorm is not None:
        return None
    # What else uses the value needs it before normalization.
    if len(graph.consumers[value]) > 1 or value in graph.outputs or node.input_specs[0].masked:
        return None
    # Along another axis the factor would differ from position to position, and no kernel could hold it.
    return before if unit_axes(before) == (node.operation.axis % len(node.input_specs[0].shape),) else None


def is_linear_part(node: Node) -> bool:
    """Whether a node is a linear map with a kernel of its own and without an activation."""
    if not _is_linear_layer(node.operation, len(node.output_specs[0].shape)):
        return False
    if node.part in ("linear", "depthwise", "pointwise"):
        return True
    return node.part == "" and node.operation.activation in (None, keras.activations.linear)


def unit_axes(node: Node) -> tuple[int, ...]:
    """The output axes of a linear node along which its units lie; one axis for all but EinsumDense."""
    rank = len(node.output_specs[0].shape)
    layer = node.operation
    if isinstance(layer, keras.layers.EinsumDense) or (isinstance(layer, Linear) and layer.map == "einsum"):
        return einsum_axes(layer.equation, rank)[2]
    return (1,) if getattr(layer, "data_format", None) == "channels_first" else (rank - 1,)


def einsum_axes(equation: str, output_rank: int) -> tuple[str, tuple[int, ...], tuple[int, ...]]:
    """Reads an EinsumDense equation.

    Returns:
        `(letters, fan_in, units)`: the kernel's letters, the kernel axes summed over, and, in the order of the
        kernel's other axes, the output axes where the units lie.
    """
    _, kernel, output = equation.replace("->", ",").split(",")
    # "...x,xy->...y": the ellipsis stands for as many leading output axes as there are letters missing.
    hidden = output_rank - len(output.replace("...", ""))
    leading = output.startswith("...")
    positions = {letter: index + (hidden if leading else 0) for index, letter in enumerate(output.replace("...", ""))}
    fan_in = tuple(axis for axis, letter in enumerate(kernel) if letter not in positions)
    units = tuple(positions[letter] for letter in kernel if letter in positions)
    return kernel, fan_in, units


def einsum_bias_axes(layer: Any, output_rank: int) -> tuple[int, ...] | None:
    """The axes of an EinsumDense bias along which no units lie, all of size 1; None if it varies along one of them."""
    if layer.bias is None:
        return ()
    _, _, units = einsum_axes(layer.equation, output_rank)
    hidden = output_rank - len(layer.bias.shape)
    flat = tuple(axis for axis in range(len(layer.bias.shape)) if axis + hidden not in units)
    return None if any(layer.bias.shape[axis] > 1 for axis in flat) else flat
