"""The gradient under noise: SmoothGrad, SquareGrad, VarGrad."""

import keras
from keras import ops

from innvest_lite.analyzers.averaged import AveragedGradient
from innvest_lite.analyzers.gradient import POSTPROCESSES, postprocessed
from innvest_lite.analyzers.looped import by_sample, repeated
from innvest_lite.draws import normal
from innvest_lite.errors import InvalidInputError
from innvest_lite.inputs import finite, one_of, positive, seed_of


class NoisyGradient(AveragedGradient):
    """The gradient under Gaussian noise on the input, summed up in some way; the class is that of the clean input.

    Args:
        model: a Functional or Sequential `keras.Model`.
        augment_by_n: how many noisy samples are taken of each sample.
        noise_scale: the standard deviation of the noise: a share of each sample's range (largest minus smallest
            value), or, with `relative=False`, in units of the input.
        relative: what `noise_scale` means.
        seed: of the noise. A sample's noise depends on the seed and on its place in `x` alone, not on `batch_size`. In
            `predict` and in a direct call, the place is that in the batch.
        postprocess: None, "abs" or "square", done to every gradient.
        **options: as in `Analyzer`.
    """

    is_random = True

    def __init__(self, model, augment_by_n=64, noise_scale=0.15, *, relative=True, seed=0, postprocess=None, **options):
        self.augment_by_n = positive(augment_by_n, "augment_by_n")
        self.noise_scale, self.relative, self.seed = finite(noise_scale, "noise_scale"), bool(relative), seed_of(seed)
        if noise_scale < 0:
            raise InvalidInputError(f"noise_scale should be a number of at least 0, but is {noise_scale!r}.")
        self.postprocess = one_of(postprocess, POSTPROCESSES, "postprocess")
        super().__init__(model, **options)

    def _evaluations(self):
        return self.augment_by_n

    def _altered(self, x, origin, place):
        position, draws, index, seed = place
        together, count = draws.shape[0], ops.shape(index)[0]
        places = ops.reshape(ops.broadcast_to(index[:, None], (count, together)), (-1,))
        numbers = ops.reshape(ops.broadcast_to(draws[None], (count, together)), (-1,))
        keys = ops.stack([ops.full_like(places, position), places, numbers], axis=1)
        noise = normal(ops.shape(x)[1:], self.seed if seed is None else seed, keys)
        axes = tuple(range(1, len(x.shape)))
        scale = self.noise_scale
        if self.relative:
            spread = ops.max(x, axis=axes, keepdims=True) - ops.min(x, axis=axes, keepdims=True)
            scale = repeated(scale * spread, together)
        return repeated(x, together) + scale * noise

    def get_config(self):
        """The model and the options, as Keras serializes them."""
        return {
            **super().get_config(),
            "augment_by_n": self.augment_by_n,
            "noise_scale": self.noise_scale,
            "relative": self.relative,
            "seed": self.seed,
            "postprocess": self.postprocess,
        }


@keras.saving.register_keras_serializable(package="innvest_lite")
class SmoothGrad(NoisyGradient):
    """The mean gradient under noise (Smilkov et al. 2017, arXiv 1706.03825). Unit: logits per unit of input."""

    def _added(self, sums, found, draws):
        found = [self._each(postprocessed(g, self.postprocess)) * self._share(draws, len(g.shape)) for g in found]
        return [total + ops.sum(g, axis=1) for total, g in zip(sums, found, strict=True)]

    def _each(self, gradient):
        return gradient

    def _average(self, sums, clean, origins):
        return [total / self.augment_by_n for total in sums]


@keras.saving.register_keras_serializable(package="innvest_lite")
class SquareGrad(SmoothGrad):
    """The mean square of the gradient under noise (Hooker et al. 2019, arXiv 1806.10758)."""

    def _each(self, gradient):
        return ops.square(gradient)


@keras.saving.register_keras_serializable(package="innvest_lite")
class VarGrad(NoisyGradient):
    """The variance of the gradient under noise (Adebayo et al. 2018, arXiv 1810.03292)."""

    def _empty(self, clean, gradients, together):
        # The deviations are taken from the clean gradient: a variance as a difference of large sums would be noise.
        pivots = [by_sample(g, together)[:, 0] for g in gradients([repeated(x, together) for x in clean])]
        pivots = [postprocessed(g, self.postprocess) for g in pivots]
        zeros = [ops.zeros_like(x) for x in clean]
        return [*pivots, *zeros, *zeros]

    def _added(self, sums, found, draws):
        pivots, first, second = _thirds(sums)
        added_first, added_second = [], []
        for pivot, one, two, g in zip(pivots, first, second, found, strict=True):
            deviation = (postprocessed(g, self.postprocess) - pivot[:, None]) * self._share(draws, len(g.shape))
            added_first.append(one + ops.sum(deviation, axis=1))
            added_second.append(two + ops.sum(ops.square(deviation), axis=1))
        return [*pivots, *added_first, *added_second]

    def _average(self, sums, clean, origins):
        _, first, second = _thirds(sums)
        count = self.augment_by_n
        return [ops.maximum(two / count - ops.square(one / count), 0) for one, two in zip(first, second, strict=True)]


def _thirds(values):
    size = len(values) // 3
    return values[:size], values[size : 2 * size], values[2 * size :]
