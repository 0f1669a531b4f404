"""What the measures ask of an analyzer: true values in float64, maps without channels, logits, targets that stay.

In: an `Analyzer` and samples as `analyze` takes them. Called by the sanity checks and the properties.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from innvest_lite.analyzers import Analyzer, create_analyzer
from innvest_lite.errors import InvalidInputError
from innvest_lite.forms.inputs import spatial_axes
from innvest_lite.metrics.similarity import spearman, ssim
from innvest_lite.options import positive
from innvest_lite.preprocessing import refuse_preprocessor


class Subject:
    """An analyzer and samples to explain.

    Args:
        analyzer: an `Analyzer`.
        x: samples, as `analyze` takes them.
        target: as in `analyze`; None: what the analyzer's `neuron_selection_mode` says, by default the largest logit of
            each sample, which `targets` holds fast.
        batch_size: how many samples go at a time.

    Raises:
        InvalidInputError: it is no analyzer, or there are no samples, or they or the target do not fit the model.
    """

    def __init__(self, analyzer: Analyzer, x: Any, target: Any = None, batch_size: int = 32) -> None:
        self.analyzer = checked_analyzer(analyzer)
        self.explainer = analyzer.explainer
        self.graph, self.spec = self.explainer.graph, self.explainer.inputs
        self.x, self.arrays = x, self.spec.flat(x)
        if not len(self.arrays[0]):
            raise InvalidInputError("There are no samples: a measure needs at least one.")
        self.batch_size = positive(batch_size, "batch_size")
        self._target = target

    @functools.cached_property
    def logits(self) -> np.ndarray:
        """The explained outputs, float64 (samples, outputs), flat."""
        return self.explainer.logits_of(self.arrays, self.batch_size)

    @functools.cached_property
    def targets(self) -> np.ndarray:
        """Weights on the outputs, float32 in their shape: the target, or what the analyzer explains without one.

        Raises:
            InvalidInputError: the analyzer wants to be told.
        """
        targets = self.explainer.targets
        weights = self.explainer.weights(self.arrays, targets.selected(self._target), self.batch_size)
        return self.predicted if weights is None else weights

    @functools.cached_property
    def predicted(self) -> np.ndarray:
        """Weights on the outputs, float32 in their shape, that name what is predicted of each sample, see `Targets.at`."""
        return self._shaped(self.explainer.targets.predicted(self.logits))

    def one_hot(self, places: np.ndarray) -> np.ndarray:
        """Weights that name one output of each sample, by its place among the flat outputs."""
        weights = np.zeros(self.logits.shape, "float32")
        weights[np.arange(len(weights)), places] = 1
        return self._shaped(weights)

    def _shaped(self, weights):
        """Flat weights in the shape of the outputs, whose open sizes the first sample tells."""
        sizes = self.explainer.output.shape[1:]
        if None in sizes:
            sizes = self.explainer.weights([array[:1] for array in self.arrays], "all", 1).shape[1:]
        return weights.reshape(len(weights), *sizes)

    def explained(self, target: np.ndarray | None = None, arrays: Sequence[np.ndarray] | None = None) -> list[np.ndarray]:
        """The attributions, float64 arrays, one per input, also where they leave the range of float32.

        Args:
            target: weights on the outputs; None: `targets`.
            arrays: other samples than the subject's, an array per input.
        """
        x = self.x if arrays is None else self.spec.packed(self.x, arrays)
        target = self.targets if target is None else target
        found, exponent = self.analyzer.analyze(x, target=target, batch_size=self.batch_size, return_exponent=True)
        parts = self.spec.in_order(found)
        return [np.ldexp(part.astype("float64"), exponent.reshape(-1, *[1] * (part.ndim - 1))) for part in parts]

    def maps(self, target: np.ndarray | None = None) -> list[np.ndarray]:
        """The attributions with the channels summed: float64 (samples, positions...) for each input."""
        return [_without_channels(self.graph, part) for part in self.explained(target)]


def checked_analyzer(analyzer: Any, kind: type[Analyzer] = Analyzer) -> Any:
    """The analyzer, if it is one, and takes the model's own inputs.

    Raises:
        InvalidInputError: it is none, of another kind, or has a preprocessor.
    """
    if isinstance(analyzer, Analyzer) and not isinstance(analyzer, kind):
        raise InvalidInputError(
            f"This looks at the analyzer's own backward sweep ({kind.__name__}), which {type(analyzer).__name__} has none "
            "of: methods that average or compare outputs go back many times or never."
        )
    if not isinstance(analyzer, Analyzer):
        raise InvalidInputError(f"An analyzer is wanted, such as innvest_lite.Gradient(model), but this is {analyzer!r}.")
    refuse_preprocessor(analyzer, "A measure")
    return analyzer


def made(make_analyzer: str | Callable[..., Analyzer], model: keras.Model, **options: Any) -> Analyzer:
    """The analyzer of a model, from a name for `create_analyzer` or a function of the model.

    Raises:
        InvalidInputError: it is neither, or the function gives no analyzer of that very model.
    """
    if isinstance(make_analyzer, str):
        return create_analyzer(make_analyzer, model, **options)
    if not callable(make_analyzer) or isinstance(make_analyzer, Analyzer):
        raise InvalidInputError(
            "An analyzer is made by a name for create_analyzer or a function (or class) of a model, for it is made for "
            f"copies of the model too; but this is {make_analyzer!r}."
        )
    analyzer = checked_analyzer(make_analyzer(model, **options))
    if analyzer.model is not model:
        raise InvalidInputError("The function that makes analyzers should explain the model that it is given, not another.")
    return analyzer


def vectors(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Arrays (samples, ...) side by side, float64 (samples, values)."""
    return np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)


def similarities(one: Sequence[np.ndarray], two: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """How alike two lists of maps are, one map per input.

    Returns:
        A dict of float64 (samples,): "spearman" over all values, "absolute_spearman" over their magnitudes, and "ssim", the
        mean over the inputs.
    """
    first, second = vectors(one), vectors(two)
    return {
        "spearman": spearman(first, second),
        "absolute_spearman": spearman(np.abs(first), np.abs(second)),
        "ssim": np.mean([ssim(a, b) for a, b in zip(one, two, strict=True)], axis=0),
    }


def _without_channels(graph, part):
    channels = spatial_axes(graph, len(part.shape))[1]
    return part if channels is None else part.sum(channels)
