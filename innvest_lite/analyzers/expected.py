"""Expected gradients: integrated gradients, in the mean over many references, both by random draws."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
from keras import ops

from innvest_lite import backend
from innvest_lite.analyzers.averaged import AveragedGradients, Draw
from innvest_lite.analyzers.base import Analyzer
from innvest_lite.analyzers.noise import Mean, Noise, checked_scale, each_evaluation
from innvest_lite.analyzers.references import FromReferences, References, from_config
from innvest_lite.analyzers.strategy import Strategy
from innvest_lite.draws import uniform
from innvest_lite.graph import Graph
from innvest_lite.inputs import InputSpec
from innvest_lite.options import positive, seed_of, truth

# Behind the keys of the noise of the same evaluation.
_OF_THE_PLACE = 1


@dataclasses.dataclass(frozen=True, eq=False)
class RandomPath(FromReferences, Noise):
    """Random places on the ways from random references to the sample, or to what noise makes of it.

    Attributes:
        references: of which one is drawn for each place.
    """

    references: References

    def altered(self, x: Any, origin: Any, draw: Draw) -> Any:
        """See `Sampler.altered`."""
        start, end, place = self._way(x, origin, draw)
        return start + place * (end - start)

    def credited(self, gradient: Any, x: Any, origin: Any, draw: Draw) -> Any:
        """See `Sampler.credited`: the gradient times the whole way."""
        start, end, _ = self._way(x, origin, draw)
        return gradient * (end - start)

    def _way(self, x: Any, origin: Any, draw: Draw) -> tuple[Any, Any, Any]:
        """Where each way starts and ends, and which part of it is gone."""
        # All inputs of a sample have the same reference and the same place.
        places, numbers = each_evaluation(draw)
        keys = ops.stack([ops.zeros_like(places), places, numbers, ops.full_like(places, _OF_THE_PLACE)], axis=1)
        drawn = uniform((2,), self.seed if draw.seed is None else draw.seed, keys)
        chosen = ops.cast(drawn[:, 0] * self.references.count, "int32")
        start = ops.take(origin, ops.minimum(chosen, self.references.count - 1), axis=0)
        return start, super().altered(x, None, draw), ops.reshape(drawn[:, 1], (-1, *[1] * (len(x.shape) - 1)))


@keras.saving.register_keras_serializable(package="innvest_lite")
class ExpectedGradients(Analyzer):
    """Expected gradients (Erion et al. 2021, arXiv 1906.10670): integrated gradients in the mean over references.

    E[(x - x0) * grad f(x0 + t (x - x0))] over references x0 and places t in [0, 1], as the mean over random draws (eq. 4),
    known as GradientSHAP (Lundberg and Lee 2017, arXiv 1705.07874) too. Unit: logits; the attributions sum to f(x) less the
    mean of f over the references, but for what a mean of so many draws is off: the error falls as 1 / sqrt(augment_by_n).

    Args:
        model: a Functional or Sequential `keras.Model`.
        reference_inputs: an array (references, ...) of samples, such as a part of the training data; also one sample, a
            number, or a list or a dict of these for several inputs. None means 0, for tokens an embedding of zeros.
        augment_by_n: how many draws, each a reference and a place on the way from it, are taken of each sample.
        noise_scale: the standard deviation of noise that is added to the sample in each draw, as some implementations of
            GradientSHAP do; 0: none. With noise, the mean of f under noise stands in place of f(x).
        relative: what `noise_scale` means, as in `SmoothGrad`: a share of each sample's range, or units of the input.
        seed: of the draws, as in `SmoothGrad`: a sample's depend on the seed and on its place in `x` alone.
        **options: as in `Analyzer`.

    Raises:
        InvalidInputError: the references do not fit the model, or an option is out of range.

    Example:
        >>> ExpectedGradients(model, images[:20], augment_by_n=8).analyze(images[:2]).shape
        (2, 28, 28, 1)
    """

    unit = "logits"
    is_random = True

    def __init__(
        self,
        model: Any,
        reference_inputs: Any = None,
        augment_by_n: int = 200,
        *,
        noise_scale: float = 0.0,
        relative: bool = True,
        seed: int = 0,
        **options: Any,
    ) -> None:
        self.augment_by_n, self.seed = positive(augment_by_n, "augment_by_n"), seed_of(seed)
        self.noise_scale, self.relative = checked_scale(noise_scale), truth(relative, "relative")
        self._given_references = backend.Untracked(reference_inputs)
        super().__init__(model, **options)

    def strategy(self, graph: Graph, inputs: InputSpec) -> Strategy:
        """See `Analyzer.strategy`.

        Raises:
            InvalidInputError: the references do not fit the model.
        """
        references = References.of(self._given_references.value, inputs, several=True)
        path = RandomPath(self.augment_by_n, self.noise_scale, self.relative, self.seed, references)
        return AveragedGradients.of(graph, path, Mean(self.augment_by_n, lambda credited: credited))

    def get_config(self) -> dict:
        """The model and the options, as Keras serializes them."""
        strategy: Any = self.explainer.strategy
        own = {"augment_by_n": self.augment_by_n, "noise_scale": self.noise_scale, "relative": self.relative}
        own |= {"seed": self.seed, "reference_inputs": strategy.sampler.references.config}
        return {**super().get_config(), **own}

    @classmethod
    def from_config(cls, config: dict) -> ExpectedGradients:
        """An analyzer from `get_config`."""
        return super().from_config(from_config(config))
