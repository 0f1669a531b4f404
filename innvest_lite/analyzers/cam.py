"""Class activation maps: where in the last feature maps the evidence lies, drawn over the input."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from innvest_lite import backend
from innvest_lite.analyzers import sweep
from innvest_lite.analyzers.explained import Explained
from innvest_lite.analyzers.explainer import Explainer
from innvest_lite.analyzers.reverse import ReverseAnalyzer, Sweep
from innvest_lite.analyzers.strategy import Round, Strategy
from innvest_lite.errors import InvalidInputError, UnsupportedLayerError
from innvest_lite.forms import forms_of
from innvest_lite.forms.inputs import spatial_axes
from innvest_lite.graph import Graph, Node, Value
from innvest_lite.inputs import InputSpec
from innvest_lite.rules import Gradient, anything

# What may follow the last convolution within its block.
_SAME_PLACE = ("rectifier", "activation", "scale", "sum", "normalization", "product", "linear")


@dataclasses.dataclass(frozen=True, eq=False)
class ActivationMap(Sweep):
    """Feature maps, weighted by a mean over positions, summed, rectified, and drawn over the input.

    Attributes:
        value: the feature maps in the graph.
        channel_weights: see `GradCAM.channel_weights`.
    """

    value: Value = dataclasses.field(kw_only=True)
    channel_weights: Callable[[Any, Any, tuple], Any] = dataclasses.field(kw_only=True)

    def explain(self, explainer: Explainer, inputs: Any, weights: Any, keep: tuple, around: Round) -> Explained:
        """See `Strategy.explain`."""
        graph = explainer.graph
        values, calls = sweep.forward(explainer.plan, inputs)
        logits, features = values[graph.outputs[0]], values[self.value]
        swept = sweep.backward(explainer.plan, calls, explainer.targets.at(logits, weights), {}, (self.value, *keep))
        axes, channel = spatial_axes(graph, len(features.shape))
        gradient = swept.relevance.get(self.value, ops.zeros_like(features))
        features, gradient = ops.cast(features, "float32"), ops.cast(gradient, "float32")
        weight = ops.mean(self.channel_weights(features, gradient, axes), axis=axes, keepdims=True)
        heat = ops.relu(ops.sum(weight * features, axis=channel, keepdims=True))
        kept = [ops.cast(swept.relevance.get(value, ops.zeros_like(values[value])), "float32") for value in keep]
        return Explained([_over_input(heat, inputs[0], axes, channel)], kept, swept.exponent, logits)


@keras.saving.register_keras_serializable(package="innvest_lite")
class GradCAM(ReverseAnalyzer):
    """Grad-CAM (Selvaraju et al. 2017, arXiv 1610.02391): the feature maps, weighted by their mean gradients, rectified.

    The map has the size of the layer's output; it is interpolated to the input's, and spread evenly over its channels, so
    that their sum is the map. Unit: logits, up to the layer's number of positions.

    Args:
        model: a Functional or Sequential `keras.Model` with one input.
        layer: the name of the layer whose output is looked at; None: what the last convolution's block hands on.
        **options: as in `ReverseAnalyzer` and `Analyzer`.

    Raises:
        UnsupportedLayerError: the model has no layer with positions, or several inputs.
        InvalidInputError: there is no such layer, or its output has no positions.
    """

    def __init__(self, model: Any, layer: str | None = None, **options: Any) -> None:
        if not isinstance(layer, str | None):
            raise InvalidInputError(f"layer should be the name of a layer, but is {layer!r}.")
        self.layer = layer
        super().__init__(model, **options)

    def composite(self) -> list:
        """The chain rule everywhere."""
        return [(anything(), Gradient())]

    def channel_weights(self, features: Any, gradient: Any, axes: tuple) -> Any:
        """The weights whose mean over positions each channel gets.

        Args:
            features: the feature maps, float32.
            gradient: the gradient of the explained output in them, float32.
            axes: of their positions.

        Returns:
            A tensor of the feature maps' shape.
        """
        return gradient

    def strategy(self, graph: Graph, inputs: InputSpec) -> Strategy:
        """See `Analyzer.strategy`.

        Raises:
            UnsupportedLayerError: the model has no layer with positions, or several inputs.
            InvalidInputError: the chosen layer's output has no positions.
        """
        method, count, rank = type(self).__name__, len(graph.inputs), len(graph.input_specs[0].shape)
        if count > 1 or rank < 3:
            came = f"this model has {count} inputs" if count > 1 else "this model's input has none"
            raise UnsupportedLayerError(f"{method} draws over one input with positions; {came}.")
        value = _last_features(graph, method) if self.layer is None else _output_of(graph, self.layer)
        producer = graph.producer(value)
        shape = producer.output_specs[value.index].shape if producer else ()
        if len(shape) != rank:
            raise InvalidInputError(f"The output of {value.node!r} has shape {shape}, without the input's positions.")
        back = self.start, self.finish, self.kernels, False
        return ActivationMap(*back, value=value, channel_weights=self.channel_weights)

    def get_config(self) -> dict:
        """The model and the options, as Keras serializes them."""
        return {**super().get_config(), "layer": self.layer}


def _output_of(graph: Graph, layer: str) -> Value:
    known = {**{node.name: node.values[0] for node in graph.nodes}, **graph.layer_values}
    if layer not in known:
        raise InvalidInputError(f"layer={layer!r} names no layer of the model.")
    return known[layer]


def _last_features(graph: Graph, method: str) -> Value:
    """What the block of the last convolution hands on."""
    forms, rank = forms_of(graph), len(graph.input_specs[0].shape)
    found = [
        node
        for node in graph.nodes
        if forms[node.name].kind == "linear" and len(node.output_specs[0].shape) == rank and _has_positions(node)
    ]
    if not found:
        raise UnsupportedLayerError(f"{method} found no convolution in this model; name a layer.")
    node = found[-1]
    while True:
        following = [n for n in graph.consumers.get(node.values[0], ()) if _same_place(forms, node, n)]
        if not following:
            return node.values[0]
        node = following[-1]


def _same_place(forms: dict, node: Node, following: Node) -> bool:
    shape = node.output_specs[0].shape
    return forms[following.name].kind in _SAME_PLACE and following.output_specs[0].shape[:-1] == shape[:-1]


def _has_positions(node: Node) -> bool:
    """Whether there is more than one: behind global pooling, convolutions are dense layers."""
    channels_first = getattr(node.operation, "data_format", None) == "channels_first"
    shape = node.output_specs[0].shape[2:] if channels_first else node.output_specs[0].shape[1:-1]
    return any(size != 1 for size in shape)


@keras.saving.register_keras_serializable(package="innvest_lite")
class GradCAMPlusPlus(GradCAM):
    """Grad-CAM++ (Chattopadhay et al. 2018, arXiv 1710.11063): positive gradients, weighted by how much a place adds.

    The score is the exponential of the logit, as in the paper, whose common factor is left out: only the scale differs.
    """

    def channel_weights(self, features: Any, gradient: Any, axes: tuple) -> Any:
        """See `GradCAM.channel_weights`."""
        square, total = ops.square(gradient), ops.sum(features, axis=axes, keepdims=True)
        share = backend.divide_no_nan(square, 2 * square + total * square * gradient)
        # The paper sums over positions, where `ActivationMap` takes the mean.
        positions = [ops.cast(ops.shape(features)[axis], share.dtype) for axis in axes]
        return share * ops.relu(gradient) * ops.prod(ops.stack(positions))


def _over_input(heat: Any, x: Any, axes: tuple, channel: Any) -> Any:
    """Interpolates a map to the input's positions and spreads it evenly over the input's channels."""
    for axis in axes:
        heat = _resized(heat, ops.shape(x)[axis], axis)
    channels = ops.shape(x)[channel]
    return ops.broadcast_to(heat / ops.cast(channels, heat.dtype), ops.shape(x))


def _resized(heat: Any, size: Any, axis: int) -> Any:
    """Linear interpolation along one axis, between the middles of positions."""
    count = ops.shape(heat)[axis]
    scale = ops.cast(count, "float32") / ops.cast(size, "float32")
    places = (ops.cast(ops.arange(size), "float32") + 0.5) * scale - 0.5
    places = ops.clip(places, 0.0, ops.cast(count - 1, "float32"))
    matrix = ops.relu(1 - ops.abs(places[:, None] - ops.cast(ops.arange(count), "float32")[None]))
    return ops.moveaxis(ops.matmul(ops.moveaxis(heat, axis, -1), ops.transpose(matrix)), -1, axis)
