"""Score-CAM: feature maps weighted by what the model says of the input under each of them. No gradient."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
from keras import ops

from innvest_lite import backend
from innvest_lite.analyzers.cam import GradCAM
from innvest_lite.analyzers.explained import Explained
from innvest_lite.analyzers.explainer import Explainer
from innvest_lite.analyzers.feature_maps import FeatureMaps, feature_maps
from innvest_lite.analyzers.overlay import in_order, over_input, over_positions
from innvest_lite.analyzers.strategy import Round, Strategy, by_sample, no_exponent, repeated
from innvest_lite.errors import InvalidInputError, UnsupportedLayerError
from innvest_lite.forms.inputs import is_integer
from innvest_lite.forms.values import values_of
from innvest_lite.graph import Graph
from innvest_lite.inputs import InputSpec
from innvest_lite.rules import Evaluated, anything


@dataclasses.dataclass(frozen=True, eq=False)
class ScoredMaps(Strategy):
    """Feature maps, each weighted by the explained output of the input that it masks, summed, rectified, drawn.

    Attributes:
        maps: the feature maps, and the input that they mask and are drawn over.
        count: how many there are.
    """

    maps: FeatureMaps
    count: int

    def evaluations(self) -> int:
        """See `Strategy.evaluations`: one a feature map."""
        return self.count

    def explain(self, explainer: Explainer, inputs: Any, weights: Any, keep: tuple, around: Round) -> Explained:
        """See `Strategy.explain`."""
        graph, places, together = explainer.graph, self.maps.places, around.together
        values = values_of(graph, explainer.plan.forms, inputs)
        logits = values[graph.outputs[0]]
        many_weights = repeated(explainer.targets.at(logits, weights), together)
        many = [repeated(x, together) for x in inputs]
        features = ops.transpose(ops.cast(values[self.maps.value], "float32"), (0, *places.positions, *places.channels))
        features = ops.reshape(features, (*ops.shape(features)[: 1 + len(places.positions)], self.count))

        def body(round_number: Any, state: Any) -> tuple:
            numbers = round_number * together + ops.arange(together, dtype="int32")
            chosen = ops.moveaxis(ops.take(features, ops.minimum(numbers, self.count - 1), axis=-1), -1, 1)
            masks = ops.reshape(chosen, (-1, *ops.shape(chosen)[2:]))
            masked = [x if place != self.maps.input else self._masked(x, masks) for place, x in enumerate(many)]
            product = ops.cast(explainer.logits(masked), many_weights.dtype) * many_weights
            scores = by_sample(ops.sum(ops.reshape(product, (ops.shape(product)[0], -1)), axis=1), together)
            # Numbers past the last map have a row of zeros.
            return (state[0] + ops.matmul(ops.cast(scores, "float32"), ops.one_hot(numbers, self.count)),)

        start = ops.zeros((ops.shape(inputs[0])[0], self.count), "float32")
        (scores,) = backend.loop(self.rounds(together), body, (start,))
        share = ops.softmax(scores, axis=-1)
        share = ops.reshape(share, (-1, *[1] * len(places.positions), self.count))
        heat = in_order(ops.relu(ops.sum(share * features, axis=-1)), places, len(self.maps.over.positions))
        drawn = [ops.zeros_like(x, dtype="float32") for x in inputs]
        drawn[self.maps.input] = over_input(heat, inputs[self.maps.input], self.maps)
        return Explained(drawn, [], no_exponent(inputs[0]), logits)

    def _masked(self, x: Any, masks: Any) -> Any:
        """The input under a feature map, enlarged to its positions and brought to 0..1."""
        heat = over_positions(in_order(masks, self.maps.places, len(self.maps.over.positions)), x, self.maps)
        axes = tuple(range(1, len(heat.shape)))
        least, most = (extreme(heat, axis=axes, keepdims=True) for extreme in (ops.min, ops.max))
        mask = backend.divide_no_nan(heat - least, most - least)
        for axis in self.maps.over.channels:
            mask = ops.expand_dims(mask, axis)
        return ops.cast(ops.cast(x, "float32") * mask, x.dtype)


@keras.saving.register_keras_serializable(package="innvest_lite")
class ScoreCAM(GradCAM):
    """Score-CAM (Wang et al. 2020, arXiv 1910.01279): the feature maps, weighted by the logit of the input under each.

    Each map is enlarged to the input, brought to 0..1 and multiplied with it; the softmax of the logits of all of them are
    their weights (algorithm 1; the logit of an empty input, which the paper takes off, cancels in it). A map that is the
    same everywhere shows nothing of the input. No gradient, but a forward pass for each feature map.

    Layer, input and drawing as in `GradCAM`, whose arguments it takes. Unit: that of the feature maps.

    Raises:
        UnsupportedLayerError: as in `GradCAM`; or the layer's number of channels is open.
        InvalidInputError: as in `GradCAM`; or the input holds tokens, which cannot be multiplied with a mask.
    """

    hands_back = False

    def bindings(self) -> list:
        """See `Analyzer.bindings`: nothing is handed back."""
        return [(anything(), Evaluated())]

    def strategy(self, graph: Graph, inputs: InputSpec) -> Strategy:
        """See `Analyzer.strategy`.

        Raises:
            UnsupportedLayerError: as in the class.
            InvalidInputError: likewise.
        """
        maps = feature_maps(graph, inputs, self._layer_choice, self._input_choice, type(self).__name__)
        if is_integer(inputs.dtypes[maps.input]) or inputs.vocabularies[maps.input]:
            raise InvalidInputError(
                f"ScoreCAM multiplies the input with a mask, but {inputs.names[maps.input]!r} holds tokens or whole "
                "numbers, which have no parts: take gradcam, or occlusion, which hides tokens."
            )
        count = 1
        for axis in maps.places.channels:
            size = graph.spec(maps.value).shape[axis]
            if size is None:
                raise UnsupportedLayerError(
                    f"ScoreCAM asks the model once for each feature map, but how many {maps.name!r} has is open: say the "
                    "size of the samples, input_shape=."
                )
            count *= size
        return ScoredMaps(maps, count)
