"""Hiding parts of the input and watching the output: occlusion and RISE. No gradient; any model with a graph will do.

Where the input has channels, all of a position are hidden together and share its attribution evenly.
"""

import itertools
import math

import keras
import numpy as np
from keras import ops

from innvest_lite import backend
from innvest_lite.analyzers.explained import Explained
from innvest_lite.analyzers.looped import Looped, by_sample, no_exponent, repeated
from innvest_lite.draws import uniform
from innvest_lite.errors import InvalidInputError
from innvest_lite.inputs import finite, one_of, positive, seed_of, spatial_axes

SCORES = ("logit", "probability")


class Perturbation(Looped):
    """What both methods share: a loop over masks, the explained output under each, one input at a time.

    Args:
        model: a Functional or Sequential `keras.Model`.
        fill: what hidden values become.
        score: "logit", or "probability", the model's output as it is, with its softmax or sigmoid.
        **options: as in `Analyzer`.
    """

    hands_back = False

    def __init__(self, model, *, fill=0.0, score="logit", **options):
        self.fill, self.score = finite(fill, "fill"), one_of(score, SCORES, "score")
        super().__init__(model, **options)
        # What does not fit the model is told now.
        for place in range(len(self._inputs_spec.names)):
            self._inputs_spec.sample(place, self.fill, "fill")
        self._evaluations()

    def _set_graph(self, graph):
        super()._set_graph(graph)
        if any(None in spec.shape[1:] for spec in self._graph.input_specs):
            raise InvalidInputError(f"{type(self).__name__} wants inputs of a fixed size; this model's are open.")

    def _sizes(self, number):
        """The number of positions of an input along each of its spatial axes."""
        shape = self._graph.input_specs[number].shape
        axes, _ = spatial_axes(self._graph, len(shape))
        return tuple(shape[axis] for axis in axes)

    def _evaluations(self):
        return max(self._masks(self._sizes(number)) for number in range(len(self._graph.inputs)))

    def _masks(self, sizes):
        """How many masks an input of these sizes gets."""
        raise NotImplementedError

    def _visible(self, draws, sizes, channels=None, seed=None):
        """What stays visible under the masks `draws`: float32 (masks, *sizes) in [0, 1].

        Args:
            draws: the numbers of the masks.
            sizes: of the input's spatial axes.
            channels: whether the input has channels; None: as the model's input of these sizes.
            seed: as `_explain` takes it.
        """
        raise NotImplementedError

    def _effect(self, scores, clean, visible, sizes):
        """What a round adds to the attribution: scores are (batch, masks), `clean` (batch,)."""
        raise NotImplementedError

    def _normalized(self, total, sizes):
        """The attribution from the sum over all masks."""
        raise NotImplementedError

    def _looped(self, inputs, target, keep, place, seed=None):
        logits = self._evaluated(inputs)
        weights = self._weights(logits, target)
        clean = _weighted(self._watched(logits), weights)
        numbers, together = range(len(self._graph.inputs)), place[1]
        results = [self._attribution(inputs, number, weights, clean, together, seed) for number in numbers]
        return Explained(results, [], no_exponent(inputs[0]), logits)

    def _watched(self, logits):
        """What the score is taken of."""
        return logits if self.score == "logit" else self._predictions(logits)

    def _attribution(self, inputs, number, weights, clean, together, seed):
        x, sizes = inputs[number], self._sizes(number)
        axes, channel = spatial_axes(self._graph, len(x.shape))
        count = self._masks(sizes)
        many = [repeated(other, together) for other in inputs]
        many_weights = repeated(weights, together)

        def body(round_number, state):
            draws = round_number * together + ops.arange(together, dtype="int32")
            visible = self._visible(ops.minimum(draws, count - 1), sizes, channel is not None, seed)
            shown = visible if channel is None else ops.expand_dims(visible, channel)
            shown = ops.tile(shown, (ops.shape(x)[0], *[1] * (len(x.shape) - 1)))
            values = ops.cast(many[number], "float32") * shown + self.fill * (1 - shown)
            altered = [ops.cast(values, x.dtype) if place == number else other for place, other in enumerate(many)]
            scores = by_sample(_weighted(self._watched(self._evaluated(altered)), many_weights), together)
            real = ops.cast(draws < count, "float32")
            effect = self._effect(ops.cast(scores, "float32"), ops.cast(clean, "float32"), visible, sizes)
            return (state[0] + ops.einsum("bm,m...->b...", effect * real, self._credited(visible)),)

        start = ops.zeros((ops.shape(x)[0], *sizes), "float32")
        (total,) = backend.loop(-(-count // together), body, (start,))
        heat = self._normalized(total, sizes)
        if channel is None:
            return heat
        return ops.broadcast_to(ops.expand_dims(heat, channel) / x.shape[channel], ops.shape(x))

    def _credited(self, visible):
        """Which positions a mask's effect is credited to."""
        raise NotImplementedError

    def get_config(self):
        """The model and the options, as Keras serializes them."""
        return {**super().get_config(), "fill": self.fill, "score": self.score}


@keras.saving.register_keras_serializable(package="innvest_lite")
class Occlusion(Perturbation):
    """Occlusion (Zeiler and Fergus 2014, arXiv 1311.2901): by how much the output falls when a window is hidden.

    Unit: logits (or probability). A position gets the mean over the windows that hide it.

    Args:
        model: a Functional or Sequential `keras.Model`.
        window: the size of the window in positions, a number or one per spatial axis; None: an eighth of the input. A
            column of a table and a token are positions too.
        stride: how far the window moves; None: half the window.
        **options: as in `Perturbation` and `Analyzer`.
    """

    def __init__(self, model, window=None, stride=None, **options):
        self.window, self.stride = _per_axis(window, "window"), _per_axis(stride, "stride")
        super().__init__(model, **options)

    def _window(self, sizes):
        """The window and the stride along each axis."""
        window = _spread(self.window, sizes) or tuple(max(1, size // 8) for size in sizes)
        window = tuple(min(pair) for pair in zip(window, sizes, strict=True))
        return window, _spread(self.stride, sizes) or tuple(max(1, size // 2) for size in window)

    def _corners(self, sizes):
        """The first position of every window, (windows, axes); the last window ends at the border."""
        window, stride = self._window(sizes)
        starts = [
            sorted({*range(0, size - extent + 1, step), size - extent})
            for size, extent, step in zip(sizes, window, stride, strict=True)
        ]
        return np.array(list(itertools.product(*starts)), "int32")

    def _masks(self, sizes):
        return len(self._corners(sizes))

    def _visible(self, draws, sizes, channels=None, seed=None):
        window, _ = self._window(sizes)
        corners = ops.take(ops.convert_to_tensor(self._corners(sizes)), draws, axis=0)
        hidden = ops.ones((1,) * (len(sizes) + 1), "float32")
        for axis, (size, extent) in enumerate(zip(sizes, window, strict=True)):
            offset = ops.arange(size, dtype="int32")[None] - corners[:, axis, None]
            inside = ops.cast(ops.logical_and(offset >= 0, offset < extent), "float32")
            shape = [1] * (len(sizes) + 1)
            shape[0], shape[axis + 1] = draws.shape[0], size
            hidden = hidden * ops.reshape(inside, shape)
        return 1 - hidden

    def _credited(self, visible):
        return 1 - visible

    def _effect(self, scores, clean, visible, sizes):
        return clean[:, None] - scores

    def _normalized(self, total, sizes):
        window, _ = self._window(sizes)
        covered = np.zeros(sizes, "float32")
        for corner in self._corners(sizes):
            covered[tuple(slice(start, start + extent) for start, extent in zip(corner, window, strict=True))] += 1
        # Windows that stride over positions hide some of them never; those get 0.
        return total / np.maximum(covered, 1)

    def get_config(self):
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

    def __init__(self, model, masks=2000, *, cells=7, probability=0.5, seed=0, score="probability", **options):
        self.masks, self.cells, self.seed = positive(masks, "masks"), positive(cells, "cells"), seed_of(seed)
        self.probability = finite(probability, "probability")
        if not 0 < probability < 1:
            raise InvalidInputError(f"probability should lie between 0 and 1, but is {probability!r}.")
        super().__init__(model, score=score, **options)

    def _masks(self, sizes):
        return self.masks

    def _visible(self, draws, sizes, channels=None, seed=None):
        seed = self.seed if seed is None else seed
        if channels is None:
            channels = sizes not in [spec.shape[1:] for spec in self._graph.input_specs]
        if not channels:
            # A table or a text, without channels: a position is not mixed with its neighbours.
            shown = uniform(sizes, seed, draws[:, None])
            return ops.cast(shown < self.probability, "float32")
        cells = tuple(min(self.cells, size) for size in sizes)
        grid = uniform(tuple(cell + 1 for cell in cells), seed, draws[:, None])
        masks = ops.cast(grid < self.probability, "float32")
        keys = ops.stack([draws, ops.full_like(draws, 1)], axis=1)
        shifts = uniform((len(sizes),), seed, keys)
        for axis, (size, cell) in enumerate(zip(sizes, cells, strict=True)):
            enlarge, extent = _enlarging(size, cell)
            first = ops.cast(ops.floor(shifts[:, axis] * extent), "int32")
            rows = first[:, None] + ops.arange(size, dtype="int32")[None]
            matrix = ops.take(ops.convert_to_tensor(enlarge), rows, axis=0)
            moved = ops.moveaxis(masks, axis + 1, -1)
            masks = ops.moveaxis(ops.einsum("m...c,msc->m...s", moved, matrix), -1, axis + 1)
        return masks

    def _credited(self, visible):
        return visible

    def _effect(self, scores, clean, visible, sizes):
        return scores

    def _normalized(self, total, sizes):
        return total / (self.masks * self.probability)

    def get_config(self):
        """The model and the options, as Keras serializes them."""
        return {
            **super().get_config(),
            "masks": self.masks,
            "cells": self.cells,
            "probability": self.probability,
            "seed": self.seed,
        }


def _enlarging(size, cells):
    """`(matrix, extent)`: linear interpolation from `cells + 1` cells to `(cells + 1) * extent` positions."""
    extent = math.ceil(size / cells)
    places = np.clip((np.arange((cells + 1) * extent) + 0.5) / extent - 0.5, 0, cells)
    return np.maximum(1 - np.abs(places[:, None] - np.arange(cells + 1)[None]), 0).astype("float32"), extent


def _weighted(outputs, weights):
    """The explained output of each sample: (batch,)."""
    product = ops.cast(outputs, weights.dtype) * weights
    return ops.sum(ops.reshape(product, (ops.shape(product)[0], -1)), axis=1)


def _per_axis(given, name):
    """A number, or a tuple of one per axis, of positions."""
    if isinstance(given, list | tuple):
        return tuple(positive(number, name) for number in given)
    return None if given is None else positive(given, name)


def _spread(given, sizes):
    if isinstance(given, tuple) and len(given) != len(sizes):
        raise InvalidInputError(f"{given} does not fit an input with {len(sizes)} spatial axes.")
    return (given,) * len(sizes) if isinstance(given, int) else given
