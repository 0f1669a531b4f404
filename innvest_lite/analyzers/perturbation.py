"""Hiding parts of the input and watching the output: occlusion and RISE. No gradient; any model with a graph will do.

A method is a set of `masks`; the loop over them is the same. Where the input has channels, all of a
position are hidden together and share its attribution evenly.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np
from keras import ops

from innvest_lite import backend
from innvest_lite.analyzers.base import Analyzer
from innvest_lite.analyzers.explained import Explained
from innvest_lite.analyzers.explainer import Explainer
from innvest_lite.analyzers.masks import Grids, Masks, Windows
from innvest_lite.analyzers.strategy import Round, Strategy, by_sample, no_exponent, repeated
from innvest_lite.errors import InvalidInputError
from innvest_lite.forms.inputs import MASK, input_axes
from innvest_lite.graph import Graph
from innvest_lite.inputs import InputSpec
from innvest_lite.options import as_array, finite, one_of, positive, seed_of

SCORES = ("logit", "probability")


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class MaskedOutputs(Strategy):
    """The explained output under masks of one input after the other.

    Attributes:
        masks: for each input, what is hidden of it; None for masks and texts, which get zeros.
        sizes: for each input, the number of its positions along each spatial axis.
        channels: for each input, its axis of channels; None where it has none.
        fill: what hidden values become.
        score: what is watched, a word of `SCORES`.
    """

    masks: tuple
    sizes: tuple
    channels: tuple
    fill: Any
    score: str
    unit = "mask"
    no_numbers = (
        "No weight does: the model gives none for samples of which parts are hidden, such as a mean over tokens of which a "
        "mask leaves none, or values overflow on the way. fill= hides them otherwise."
    )

    def evaluations(self) -> int:
        """See `Strategy.evaluations`."""
        pairs = zip(self.masks, self.sizes, strict=True)
        return max((masks.count(sizes) for masks, sizes in pairs if masks is not None), default=1)

    def explain(self, explainer: Explainer, inputs: Any, weights: Any, keep: tuple, around: Round) -> Explained:
        """See `Strategy.explain`."""
        logits = explainer.logits(inputs)
        weights = explainer.targets.at(logits, weights)
        results = [self._attribution(explainer, inputs, number, (weights, logits), around) for number in range(len(inputs))]
        return Explained(results, [], no_exponent(inputs[0]), logits)

    def _score(self, explainer: Explainer, logits: Any, weights: Any) -> Any:
        """The explained output of each sample: (batch,)."""
        watched = logits if self.score == "logit" else explainer.predictions(logits)
        product = ops.cast(watched, weights.dtype) * weights
        if self.score == "probability" and explainer.targets.two_classes:
            # Of the class 0, whose weight is -1, it is 1 - p.
            product = product + ops.relu(-weights)
        return ops.sum(ops.reshape(product, (ops.shape(product)[0], -1)), axis=1)

    def _attribution(self, explainer: Explainer, inputs: Any, number: int, explained: tuple, around: Round) -> Any:
        """The attribution of one input, in its shape."""
        weights, logits = explained
        x, sizes, together, masks = inputs[number], self.sizes[number], around.together, self.masks[number]
        if masks is None:
            return ops.zeros_like(x, dtype="float32")
        channel = self.channels[number]
        count, clean = masks.count(sizes), ops.cast(self._score(explainer, logits, weights), "float32")
        many, many_weights = [repeated(other, together) for other in inputs], repeated(weights, together)

        def body(round_number: Any, state: Any) -> tuple:
            numbers = round_number * together + ops.arange(together, dtype="int32")
            visible = masks.visible(ops.minimum(numbers, count - 1), sizes, channel is not None, around.seed)
            shown = visible if channel is None else ops.expand_dims(visible, channel)
            shown = ops.tile(shown, (ops.shape(x)[0], *[1] * (len(x.shape) - 1)))
            values = ops.cast(many[number], "float32") * shown + self.fill * (1 - shown)
            altered = [ops.cast(values, x.dtype) if place == number else other for place, other in enumerate(many)]
            scores = by_sample(self._score(explainer, explainer.logits(altered), many_weights), together)
            effect, credited = masks.effect(ops.cast(scores, "float32"), clean, visible)
            # Numbers past the last mask only fill the last round.
            real = ops.cast(numbers < count, "float32")
            return (state[0] + ops.einsum("bm,m...->b...", effect * real, credited),)

        start = ops.zeros((ops.shape(x)[0], *sizes), "float32")
        (total,) = backend.loop(-(-count // together), body, (start,), around.tick)
        heat = masks.normalized(total, sizes)
        if channel is None:
            return heat
        return ops.broadcast_to(ops.expand_dims(heat, channel) / x.shape[channel], ops.shape(x))


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class OpenSizes(Strategy):
    """Stands where a model leaves sizes open: how many windows there are, the samples tell.

    Attributes:
        method: its name.
    """

    method: str
    sized = False

    def explain(self, explainer: Explainer, inputs: Any, weights: Any, keep: tuple, around: Round) -> Explained:
        """Refuses tensors, which `analyze` would have seen as arrays."""
        shapes = [spec.shape for spec in explainer.graph.input_specs]
        raise InvalidInputError(
            f"{self.method} wants inputs of a fixed size, and this model's are open, {shapes}: take analyze, which sees "
            f"the size of the samples, or say it, {self.method}(model, input_shape=...)."
        )


class Perturbation(Analyzer):
    """What both methods share: the explained output under masks, one input at a time.

    Args:
        model: a Functional or Sequential `keras.Model`.
        fill: what hidden values become: a number, or an array of one sample's shape, such as the mean of the data.
        score: "logit", or "probability", the model's output as it is, with its softmax or sigmoid.
        **options: as in `Analyzer`.
    """

    hands_back = False

    def __init__(self, model: Any, *, fill: Any = 0.0, score: str = "logit", **options: Any) -> None:
        self._fill = backend.Untracked(as_array(fill, "fill") if np.ndim(fill) else finite(fill, "fill"))
        self.score = one_of(score, SCORES, "score")
        self.unit = {"logit": "logits"}.get(self.score, self.score)
        super().__init__(model, **options)

    @property
    def fill(self) -> Any:
        """What hidden values become."""
        return self._fill.value

    def masks_of(self) -> Masks:
        """What is hidden."""
        raise NotImplementedError

    def strategy(self, graph: Graph, inputs: InputSpec) -> Strategy:
        """See `Analyzer.strategy`."""
        shapes = [spec.shape for spec in graph.input_specs]
        if any(None in shape[1:] for shape in shapes):
            return OpenSizes(type(self).__name__)
        hidden = [kind != MASK and dtype != "string" for kind, dtype in zip(inputs.kinds, inputs.dtypes, strict=True)]
        axes = [input_axes(graph, *each) for each in zip(shapes, inputs.kinds, strict=True)]
        sizes = tuple(tuple(shape[axis] for axis in one) for shape, (one, _) in zip(shapes, axes, strict=True))
        masks = tuple(
            self.masks_of().suited(channel is not None) if one else None
            for (_, channel), one in zip(axes, hidden, strict=True)
        )
        strategy = MaskedOutputs(masks, sizes, tuple(channel for _, channel in axes), self._fill.value, self.score)
        # What does not fit the model is told now: the fill, and windows with another number of axes.
        for place in [place for place, one in enumerate(hidden) if one]:
            inputs.sample(place, self._fill.value, "fill")
        strategy.evaluations()
        return strategy

    def get_config(self) -> dict:
        """The model and the options, as Keras serializes them."""
        return {**super().get_config(), "fill": np.asarray(self._fill.value).tolist(), "score": self.score}


@keras.saving.register_keras_serializable(package="innvest_lite")
class Occlusion(Perturbation):
    """Occlusion (Zeiler and Fergus 2014, arXiv 1311.2901): by how much the output falls when a window is hidden.

    Unit: logits (or probability). A position gets the mean over the windows that hide it.

    Args:
        model: a Functional or Sequential `keras.Model`.
        window: the size of the window in positions, a number or one per spatial axis; None: an eighth of an image, a series
            or a volume along each axis, and one column of a table or one token of a text, which are positions too.
        stride: how far the window moves; None: half the window.
        **options: as in `Perturbation` and `Analyzer`.
    """

    def __init__(self, model: Any, window: Any = None, stride: Any = None, **options: Any) -> None:
        self.window, self.stride = _per_axis(window, "window"), _per_axis(stride, "stride")
        super().__init__(model, **options)

    def masks_of(self) -> Masks:
        """See `Perturbation.masks_of`."""
        return Windows(self.window, self.stride)

    def get_config(self) -> dict:
        """The model and the options, as Keras serializes them."""
        return {**super().get_config(), "window": self.window, "stride": self.stride}


@keras.saving.register_keras_serializable(package="innvest_lite")
class RISE(Perturbation):
    """RISE (Petsiuk et al. 2018, arXiv 1806.07421): the mean output over random masks that show a position.

    Unit: probability (or logits). Masks are grids of a few cells, shown or hidden at random, enlarged linearly and
    moved at random; in a table and in a text each position is a cell.

    Args:
        model: a Functional or Sequential `keras.Model`.
        masks: how many masks.
        cells: how many cells a mask has along each axis.
        probability: of a cell to be shown.
        seed: of the masks, which are the same for all samples and do not depend on `batch_size`.
        score: as in `Perturbation`, here "probability" by default, as in the paper.
        **options: as in `Perturbation` and `Analyzer`.

    Raises:
        InvalidInputError: an option is out of range.
    """

    is_random = True
    # A mean probability is above 0 everywhere; less its mean, it is how much showing a pixel adds.
    picture = "centred heatmap"

    def __init__(
        self,
        model: Any,
        masks: int = 2000,
        *,
        cells: int = 7,
        probability: float = 0.5,
        seed: int = 0,
        score: str = "probability",
        **options: Any,
    ) -> None:
        self.masks, self.cells, self.seed = positive(masks, "masks"), positive(cells, "cells"), seed_of(seed)
        self.probability = finite(probability, "probability")
        if not 0 < probability < 1:
            raise InvalidInputError(f"probability should lie between 0 and 1, but is {probability!r}.")
        super().__init__(model, score=score, **options)

    def masks_of(self) -> Masks:
        """See `Perturbation.masks_of`."""
        return Grids(self.masks, self.cells, self.probability, self.seed)

    def get_config(self) -> dict:
        """The model and the options, as Keras serializes them."""
        return {
            **super().get_config(),
            "masks": self.masks,
            "cells": self.cells,
            "probability": self.probability,
            "seed": self.seed,
        }


def _per_axis(given: Any, name: str) -> Any:
    """A number, or a tuple of one per axis, of positions."""
    if isinstance(given, list | tuple):
        return tuple(positive(number, name) for number in given)
    return None if given is None else positive(given, name)
