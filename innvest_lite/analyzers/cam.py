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
from innvest_lite.analyzers.feature_maps import FeatureMaps, feature_maps
from innvest_lite.analyzers.overlay import in_order, over_input
from innvest_lite.analyzers.reverse import ReverseAnalyzer, Sweep
from innvest_lite.analyzers.strategy import Round, Strategy
from innvest_lite.errors import InvalidInputError
from innvest_lite.forms.positions import Places
from innvest_lite.graph import Graph
from innvest_lite.graph.masks import mask_of
from innvest_lite.inputs import InputSpec
from innvest_lite.rules import Gradient, GuidedBackprop, TokenSum, anything, bind, kind
from innvest_lite.rules.composite import Plan


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class ActivationMap(Sweep):
    """Feature maps, weighted, summed, rectified, and drawn over the input.

    Attributes:
        maps: the feature maps, and the input that they are drawn over.
        channel_weights: see `GradCAM.channel_weights`.
        by_place: whether each place keeps a weight of its own; else the mean over positions is that of all.
    """

    maps: FeatureMaps = dataclasses.field(kw_only=True)
    by_place: bool = dataclasses.field(kw_only=True, default=False)
    channel_weights: Callable[[Any, Any, tuple], Any] = dataclasses.field(kw_only=True)

    def explain(self, explainer: Explainer, inputs: Any, weights: Any, keep: tuple, around: Round) -> Explained:
        """See `Strategy.explain`."""
        graph, value, places = explainer.graph, self.maps.value, self.maps.places
        values, calls = sweep.forward(explainer.plan, inputs)
        logits, features = values[graph.outputs[0]], values[value]
        starts = [(graph.outputs[0], explainer.targets.at(logits, weights))]
        swept = sweep.backward(explainer.plan, calls, starts, {}, (value, *keep))
        gradient = swept.relevance.get(value, ops.zeros_like(features))
        features, gradient = ops.cast(features, "float32"), ops.cast(gradient, "float32")
        weight = self.channel_weights(features, gradient, places.positions)
        weight = weight if self.by_place else ops.mean(weight, axis=places.positions, keepdims=True)
        heat = ops.relu(ops.sum(weight * features, axis=places.channels))
        heat = _without_padding(heat, values[value], gradient, places)
        kept = [ops.cast(swept.relevance.get(one, ops.zeros_like(values[one])), "float32") for one in keep]
        drawn = [ops.zeros_like(x, dtype="float32") for x in inputs]
        heat = in_order(heat, places, len(self.maps.over.positions))
        drawn[self.maps.input] = over_input(heat, inputs[self.maps.input], self.maps)
        return Explained(drawn, kept, swept.exponent, logits)


@dataclasses.dataclass(frozen=True, eq=False)
class GuidedMap(ActivationMap):
    """A class activation map times what Guided BackProp gives.

    Attributes:
        guided: the plan of Guided BackProp.
    """

    guided: Plan = dataclasses.field(kw_only=True)

    def explain(self, explainer: Explainer, inputs: Any, weights: Any, keep: tuple, around: Round) -> Explained:
        """See `Strategy.explain`."""
        found, number, graph = super().explain(explainer, inputs, weights, keep, around), self.maps.input, explainer.graph
        values, calls = sweep.forward(self.guided, inputs)
        starts = [(graph.outputs[0], explainer.targets.at(values[graph.outputs[0]], weights))]
        arrived = sweep.backward(self.guided, calls, starts, {}).relevance.get(graph.inputs[number])
        heat = found.relevance[number]
        channels = self.maps.over.channels
        heat = ops.sum(heat, axis=channels, keepdims=True) if channels else heat
        product = ops.zeros_like(found.relevance[number]) if arrived is None else heat * ops.cast(arrived, heat.dtype)
        drawn = [product if place == number else other for place, other in enumerate(found.relevance)]
        return found.replace(relevance=drawn)


@keras.saving.register_keras_serializable(package="innvest_lite")
class GradCAM(ReverseAnalyzer):
    """Grad-CAM (Selvaraju et al. 2017, arXiv 1610.02391): the feature maps, weighted by their mean gradients, rectified.

    The map has the size of the layer's output; it is interpolated to the input's, or to what is left of it where the
    network begins with a crop, and spread evenly over its channels, so that their sum is the map. Unit: logits, up to the
    layer's number of positions.

    The layer is the one whose output the network's last pooling over positions takes: the sum of its last block, all
    branches of its last Concatenate, behind BatchNormalization and activation, also inside nested models. Where a network
    flattens instead, it is what the last pooling before that takes, as is the custom for VGG (block5_conv3). Of a text, the
    map has one number a token.

    Args:
        model: a Functional or Sequential `keras.Model`.
        layer: the name of the layer whose output is looked at; None: the one above.
        input: of a model with several inputs, the name of the one to draw over; None: the only one whose positions reach
            the layer. The others get zeros.
        **options: as in `ReverseAnalyzer` and `Analyzer`.

    Attributes:
        layer: the name of the layer that is looked at.

    Raises:
        UnsupportedLayerError: the network has no last pooling over positions (its output has positions itself, it pools
            side by side at several places, or layers of one's own hide its feature maps): name a layer.
        InvalidInputError: there is no such layer or input, the layer's output has no positions, or several inputs could be
            drawn over.

    Example:
        >>> GradCAM(model).layer
        'conv2_2'
    """

    def __init__(self, model: Any, layer: str | None = None, *, input: str | None = None, **options: Any) -> None:
        for what, name in (("layer", layer), ("input", input)):
            if not isinstance(name, str | None):
                raise InvalidInputError(f"{what} should be the name of a{'n' * (what == 'input')} {what}, but is {name!r}.")
        self._layer_choice, self._input_choice = layer, input
        super().__init__(model, **options)

    @property
    def layer(self) -> str | None:
        """The name of the layer whose output is looked at; before the analyzer is bound, the one that was asked for."""
        if self._explainer is None:
            return self._layer_choice
        strategy: Any = self._explainer.strategy
        return strategy.maps.name

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
            UnsupportedLayerError: as in the class.
            InvalidInputError: likewise.
        """
        maps = feature_maps(graph, inputs, self._layer_choice, self._input_choice, type(self).__name__)
        back = self.start, self.finish, self.kernels, False
        return self.drawn(graph, back, {"maps": maps, "channel_weights": self.channel_weights})

    def drawn(self, graph: Graph, back: tuple, options: dict) -> ActivationMap:
        """The strategy.

        Args:
            graph: the model's graph.
            back: what a `Sweep` is made of.
            options: what an `ActivationMap` is made of besides.

        Returns:
            An `ActivationMap`.
        """
        return ActivationMap(*back, **options)

    def get_config(self) -> dict:
        """The model and the options, as Keras serializes them."""
        return {**super().get_config(), "layer": self._layer_choice, "input": self._input_choice}


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


@keras.saving.register_keras_serializable(package="innvest_lite")
class LayerCAM(GradCAM):
    """LayerCAM (Jiang et al. 2021, doi 10.1109/TIP.2021.3089943): feature maps, each place weighted by its own gradient.

    M = relu(sum_k relu(g_k) A_k) (eq. 6 and 7): without a mean over positions, so that maps of early layers, `layer=`, with
    their many positions, keep what is where. Layer, input and drawing as in `GradCAM`, whose arguments it takes. Unit:
    logits.
    """

    def channel_weights(self, features: Any, gradient: Any, axes: tuple) -> Any:
        """See `GradCAM.channel_weights`."""
        return ops.relu(gradient)

    def drawn(self, graph: Graph, back: tuple, options: dict) -> ActivationMap:
        """See `GradCAM.drawn`."""
        return ActivationMap(*back, **options, by_place=True)


@keras.saving.register_keras_serializable(package="innvest_lite")
class GuidedGradCAM(GradCAM):
    """Guided Grad-CAM (Selvaraju et al. 2017, arXiv 1610.02391): Grad-CAM's map, times Guided BackProp.

    Edges of Guided BackProp where Grad-CAM finds the class; as it hardly depends on the class itself, they are no evidence
    of their own. The product is taken with the whole map at each position, for each channel. Layer and input as in
    `GradCAM`, whose arguments it takes. Unit: none.
    """

    sign_tells = False

    def drawn(self, graph: Graph, back: tuple, options: dict) -> ActivationMap:
        """See `GradCAM.drawn`."""
        guided = [(kind("rectifier"), GuidedBackprop()), (kind("embedding"), TokenSum()), (anything(), Gradient())]
        return GuidedMap(*back, **options, guided=bind(graph, guided, type(self).__name__))


def _without_padding(heat: Any, features: Any, gradient: Any, places: Places) -> Any:
    """The map with zeros where Keras masks a step and nothing of it reaches the output."""
    mask = mask_of(features)
    if mask is None or places.positions != (1,):
        return heat
    # A convolution without padding has fewer steps than the mask that it hands on.
    unused = ops.logical_not(ops.cast(mask, "bool"))[:, : ops.shape(heat)[1]]
    return ops.where(ops.logical_and(unused, ops.all(gradient == 0, axis=places.channels)), 0.0, heat)
