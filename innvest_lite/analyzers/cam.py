"""Class activation maps: where in the last feature maps the evidence lies, drawn over the input."""

import keras
from keras import ops

from innvest_lite import backend
from innvest_lite.analyzers import sweep
from innvest_lite.analyzers.base import Analyzer
from innvest_lite.analyzers.explained import Explained
from innvest_lite.analyzers.reverse import ReverseAnalyzer
from innvest_lite.errors import InvalidInputError, UnsupportedLayerError
from innvest_lite.forms import forms_of
from innvest_lite.inputs import spatial_axes
from innvest_lite.rules import Gradient, anything

# What may follow the last convolution within its block.
_SAME_PLACE = ("rectifier", "activation", "scale", "sum", "normalization", "product", "linear")


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

    def __init__(self, model, layer=None, **options):
        if not isinstance(layer, str | None):
            raise InvalidInputError(f"layer should be the name of a layer, but is {layer!r}.")
        self.layer = layer
        super().__init__(model, **options)

    def composite(self):
        """The chain rule everywhere."""
        return [(anything(), Gradient())]

    # What the sweep hands back is the gradient, which is not the map.
    check = Analyzer.check

    def _set_graph(self, graph):
        super()._set_graph(graph)
        count = len(self._graph.inputs)
        if count > 1 or len(self._graph.input_specs[0].shape) < 3:
            came = f"this model has {count} inputs" if count > 1 else "this model's input has none"
            raise UnsupportedLayerError(f"{type(self).__name__} draws over one input with positions; {came}.")
        self._value = self._last_features() if self.layer is None else self._output_of(self.layer)
        producer = self._graph.producer(self._value)
        shape = producer.output_specs[self._value.index].shape if producer else ()
        if len(shape) != len(self._graph.input_specs[0].shape):
            raise InvalidInputError(f"The output of {self._value.node!r} has shape {shape}, without the input's positions.")

    def _output_of(self, layer):
        try:
            return self._values((layer,))[0]
        except InvalidInputError as error:
            raise InvalidInputError(f"layer={layer!r} names no layer of the model.") from error

    def _last_features(self):
        forms, rank = forms_of(self._graph), len(self._graph.input_specs[0].shape)
        found = [
            node
            for node in self._graph.nodes
            if forms[node.name].kind == "linear" and len(node.output_specs[0].shape) == rank and _has_positions(node)
        ]
        if not found:
            raise UnsupportedLayerError(f"{type(self).__name__} found no convolution in this model; name a layer.")
        node = found[-1]
        while True:
            following = [n for n in self._graph.consumers.get(node.values[0], ()) if self._same_place(forms, node, n)]
            if not following:
                return node.values[0]
            node = following[-1]

    def _same_place(self, forms, node, following):
        shape = node.output_specs[0].shape
        return forms[following.name].kind in _SAME_PLACE and following.output_specs[0].shape[:-1] == shape[:-1]

    def _explain(self, inputs, target, keep, seed=None):
        values, calls = sweep.forward(self._plan, inputs)
        logits = values[self._graph.outputs[0]]
        weights = sweep.largest(logits) if target is None else ops.broadcast_to(target, ops.shape(logits))
        swept = sweep.backward(self._plan, calls, weights, {}, (self._value, *keep))
        features = values[self._value]
        axes, channel = spatial_axes(self._graph, len(features.shape))
        gradient = swept.relevance.get(self._value, ops.zeros_like(features))
        features, gradient = ops.cast(features, "float32"), ops.cast(gradient, "float32")
        weight = ops.mean(self._channel_weights(features, gradient, axes), axis=axes, keepdims=True)
        heat = ops.relu(ops.sum(weight * features, axis=channel, keepdims=True))
        kept = [ops.cast(swept.relevance.get(value, ops.zeros_like(values[value])), "float32") for value in keep]
        return Explained([_over_input(heat, inputs[0], axes, channel)], kept, swept.exponent, logits)

    def _channel_weights(self, features, gradient, axes):
        """The weights whose mean over positions each channel gets."""
        return gradient

    def get_config(self):
        """The model and the options, as Keras serializes them."""
        return {**super().get_config(), "layer": self.layer}


def _has_positions(node):
    """Whether there is more than one: behind global pooling, convolutions are dense layers."""
    channels_first = getattr(node.operation, "data_format", None) == "channels_first"
    shape = node.output_specs[0].shape[2:] if channels_first else node.output_specs[0].shape[1:-1]
    return any(size != 1 for size in shape)


@keras.saving.register_keras_serializable(package="innvest_lite")
class GradCAMPlusPlus(GradCAM):
    """Grad-CAM++ (Chattopadhay et al. 2018, arXiv 1710.11063): positive gradients, weighted by how much a place adds.

    The score is the exponential of the logit, as in the paper, whose common factor is left out: only the scale differs.
    """

    def _channel_weights(self, features, gradient, axes):
        square, total = ops.square(gradient), ops.sum(features, axis=axes, keepdims=True)
        share = backend.divide_no_nan(square, 2 * square + total * square * gradient)
        # The paper sums over positions, where `_explain` takes the mean.
        positions = [ops.cast(ops.shape(features)[axis], share.dtype) for axis in axes]
        return share * ops.relu(gradient) * ops.prod(ops.stack(positions))


def _over_input(heat, x, axes, channel):
    """Interpolates a map to the input's positions and spreads it evenly over the input's channels."""
    for axis in axes:
        heat = _resized(heat, ops.shape(x)[axis], axis)
    channels = ops.shape(x)[channel]
    return ops.broadcast_to(heat / ops.cast(channels, heat.dtype), ops.shape(x))


def _resized(heat, size, axis):
    """Linear interpolation along one axis, between the middles of positions."""
    count = ops.shape(heat)[axis]
    scale = ops.cast(count, "float32") / ops.cast(size, "float32")
    places = (ops.cast(ops.arange(size), "float32") + 0.5) * scale - 0.5
    places = ops.clip(places, 0.0, ops.cast(count - 1, "float32"))
    matrix = ops.relu(1 - ops.abs(places[:, None] - ops.cast(ops.arange(count), "float32")[None]))
    return ops.moveaxis(ops.matmul(ops.moveaxis(heat, axis, -1), ops.transpose(matrix)), -1, axis)
