"""The gradient under noise: SmoothGrad, SquareGrad, VarGrad. They share the noise and differ in the reduction."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from innvest_lite.analyzers.averaged import AveragedGradients, Draw, Reduction, Sampler, along
from innvest_lite.analyzers.base import Analyzer
from innvest_lite.analyzers.gradient import POSTPROCESSES, postprocessed
from innvest_lite.analyzers.strategy import Strategy, repeated
from innvest_lite.analyzers.tokens import REDUCTIONS, tell_of_zero_sums
from innvest_lite.draws import normal
from innvest_lite.errors import InvalidInputError
from innvest_lite.graph import Graph
from innvest_lite.inputs import InputSpec
from innvest_lite.options import finite, one_of, positive, seed_of, truth


@dataclasses.dataclass(frozen=True, eq=False)
class Noise(Sampler):
    """Gaussian noise on the samples.

    Attributes:
        scale: the standard deviation, see `SmoothGrad`.
        relative: what `scale` means.
        seed: of the noise.
    """

    scale: float
    relative: bool
    seed: int

    def altered(self, x: Any, origin: Any, draw: Draw) -> Any:
        """See `Sampler.altered`."""
        together = draw.numbers.shape[0]
        if not self.scale:
            return repeated(x, together)
        # A number of noise hangs on the point, the sample's place and the evaluation alone, whatever the batches are.
        places, numbers = each_evaluation(draw)
        keys = ops.stack([ops.full_like(places, draw.position), places, numbers], axis=1)
        noise = normal(ops.shape(x)[1:], self.seed if draw.seed is None else draw.seed, keys)
        scale, axes = self.scale, tuple(range(1, len(x.shape)))
        if self.relative:
            spread = ops.max(x, axis=axes, keepdims=True) - ops.min(x, axis=axes, keepdims=True)
            scale = repeated(scale * spread, together)
        return repeated(x, together) + scale * noise


def each_evaluation(draw: Draw) -> tuple[Any, Any]:
    """The place of the sample and the number of each evaluation of a draw: int32 (batch * together,), two of them."""
    together, count = draw.numbers.shape[0], ops.shape(draw.index)[0]
    places = ops.reshape(ops.broadcast_to(draw.index[:, None], (count, together)), (-1,))
    return places, ops.reshape(ops.broadcast_to(draw.numbers[None], (count, together)), (-1,))


def checked_scale(noise_scale: Any) -> float:
    """The standard deviation of noise, a number of at least 0.

    Raises:
        InvalidInputError: it is none.
    """
    if finite(noise_scale, "noise_scale") < 0:
        raise InvalidInputError(f"noise_scale should be a number of at least 0, but is {noise_scale!r}.")
    return noise_scale


@dataclasses.dataclass(frozen=True, eq=False)
class Mean(Reduction):
    """The mean of a function of the gradients.

    Attributes:
        count: of how many.
        each: the function of a gradient.
    """

    count: int
    each: Callable[[Any], Any]

    def added(self, sums: list, found: list, numbers: Any, real: Any) -> list:
        """See `Reduction.added`."""
        shares = [self.each(g) * along(real, len(g.shape)) for g in found]
        return [total + ops.sum(share, axis=1) for total, share in zip(sums, shares, strict=True)]

    def result(self, sums: list, clean: list, origins: list) -> list:
        """See `Reduction.result`."""
        return [total / self.count for total in sums]


@dataclasses.dataclass(frozen=True, eq=False)
class Variance(Reduction):
    """The variance of a function of the gradients.

    Attributes:
        count: of how many.
        each: the function of a gradient.
    """

    count: int
    each: Callable[[Any], Any]

    def start(self, clean: list, gradients: Callable[[], list]) -> list:
        """See `Reduction.start`: pivots, sums, sums of squares."""
        # The deviations are taken from the clean gradient: a variance as a difference of large sums would be noise.
        zeros = [ops.zeros_like(x) for x in clean]
        return [*(self.each(g) for g in gradients()), *zeros, *zeros]

    def added(self, sums: list, found: list, numbers: Any, real: Any) -> list:
        """See `Reduction.added`."""
        pivots, first, second = _thirds(sums)
        added_first, added_second = [], []
        for pivot, one, two, g in zip(pivots, first, second, found, strict=True):
            deviation = (self.each(g) - pivot[:, None]) * along(real, len(g.shape))
            added_first.append(one + ops.sum(deviation, axis=1))
            added_second.append(two + ops.sum(ops.square(deviation), axis=1))
        return [*pivots, *added_first, *added_second]

    def result(self, sums: list, clean: list, origins: list) -> list:
        """See `Reduction.result`."""
        _, first, second = _thirds(sums)
        # Rounding may leave a hair below 0 where all gradients are the same.
        return [
            ops.maximum(two / self.count - ops.square(one / self.count), 0) for one, two in zip(first, second, strict=True)
        ]


def _thirds(values: list) -> tuple[list, list, list]:
    size = len(values) // 3
    return values[:size], values[size : 2 * size], values[2 * size :]


class NoisyGradient(Analyzer):
    """The gradient under Gaussian noise on the input, reduced in some way; the class is that of the clean input.

    Args:
        model: a Functional or Sequential `keras.Model`.
        augment_by_n: how many noisy samples are taken of each sample.
        noise_scale: the standard deviation of the noise: a share of each sample's range (largest minus smallest
            value), or, with `relative=False`, in units of the input.
        relative: what `noise_scale` means.
        seed: of the noise. A sample's noise depends on the seed and on its place in `x` alone, not on `batch_size`. In
            `predict` and in a direct call, the place is that in the batch.
        postprocess: None, "abs" or "square", done to every gradient.
        tokens: at an embedding, "sum" or "norm" over the embedding axis, as in `Gradient`.
        **options: as in `Analyzer`.
    """

    is_random = True
    sign_tells = False
    #: Whether it adds up squares, which do not cancel.
    squares = False

    def __init__(
        self,
        model: Any,
        augment_by_n: int = 64,
        noise_scale: float = 0.15,
        *,
        relative: bool = True,
        seed: int = 0,
        postprocess: str | None = None,
        tokens: str = "sum",
        **options: Any,
    ) -> None:
        self.tokens = one_of(tokens, REDUCTIONS, "tokens")
        self.augment_by_n = positive(augment_by_n, "augment_by_n")
        self.noise_scale, self.seed = checked_scale(noise_scale), seed_of(seed)
        self.relative = truth(relative, "relative")
        self.postprocess = one_of(postprocess, POSTPROCESSES, "postprocess")
        super().__init__(model, **options)

    def reduction(self) -> Reduction:
        """What becomes of the gradients."""
        raise NotImplementedError

    def strategy(self, graph: Graph, inputs: InputSpec) -> Strategy:
        """See `Analyzer.strategy`."""
        if self.tokens == "sum" and not self.squares:
            tell_of_zero_sums(graph, type(self).__name__)
        noise = Noise(self.augment_by_n, self.noise_scale, self.relative, self.seed)
        return AveragedGradients.of(graph, noise, self.reduction(), self.tokens)

    def _postprocessed(self, gradient: Any) -> Any:
        return postprocessed(gradient, self.postprocess)

    def get_config(self) -> dict:
        """The model and the options, as Keras serializes them."""
        return {
            **super().get_config(),
            "augment_by_n": self.augment_by_n,
            "noise_scale": self.noise_scale,
            "relative": self.relative,
            "seed": self.seed,
            "postprocess": self.postprocess,
            "tokens": self.tokens,
        }


@keras.saving.register_keras_serializable(package="innvest_lite")
class SmoothGrad(NoisyGradient):
    """The mean gradient under noise (Smilkov et al. 2017, arXiv 1706.03825). Unit: logits per unit of input."""

    unit = "logits per unit of input"

    def reduction(self) -> Reduction:
        """See `NoisyGradient.reduction`."""
        return Mean(self.augment_by_n, self._postprocessed)


@keras.saving.register_keras_serializable(package="innvest_lite")
class SquareGrad(NoisyGradient):
    """The mean square of the gradient under noise (Hooker et al. 2019, arXiv 1806.10758)."""

    unit = "squares of logits per unit of input"
    squares = True

    def reduction(self) -> Reduction:
        """See `NoisyGradient.reduction`."""
        return Mean(self.augment_by_n, lambda gradient: ops.square(self._postprocessed(gradient)))


@keras.saving.register_keras_serializable(package="innvest_lite")
class VarGrad(NoisyGradient):
    """The variance of the gradient under noise (Adebayo et al. 2018, arXiv 1810.03292)."""

    unit = "squares of logits per unit of input"
    squares = True

    def reduction(self) -> Reduction:
        """See `NoisyGradient.reduction`."""
        return Variance(self.augment_by_n, self._postprocessed)
