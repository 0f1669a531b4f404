"""What every explanation must beat: the input itself, and noise."""

import keras
from keras import ops

from innvest_lite.analyzers.base import Analyzer
from innvest_lite.analyzers.explained import Explained
from innvest_lite.analyzers.looped import Looped, no_exponent
from innvest_lite.draws import normal
from innvest_lite.errors import InvalidInputError
from innvest_lite.inputs import finite, seed_of


@keras.saving.register_keras_serializable(package="innvest_lite")
class Input(Analyzer):
    """The input itself, as float32."""

    hands_back = False

    def _values(self, names):
        if names:
            raise InvalidInputError("Input has no backward pass, so it keeps nothing on the way.")
        return ()

    def _explain(self, inputs, target, keep, seed=None):
        return Explained([ops.cast(x, "float32") for x in inputs], [], no_exponent(inputs[0]), self._evaluated(inputs))


@keras.saving.register_keras_serializable(package="innvest_lite")
class Random(Looped):
    """Gaussian noise of the input's shape. A sample's noise depends on the seed and on its place in `x` alone.

    Args:
        model: a Functional or Sequential `keras.Model`.
        stddev: the standard deviation of the noise.
        seed: of the noise.
        **options: as in `Analyzer`.
    """

    hands_back = False
    is_random = True

    def __init__(self, model, *, stddev=1.0, seed=0, **options):
        self.stddev, self.seed = finite(stddev, "stddev"), seed_of(seed)
        super().__init__(model, **options)

    def _evaluations(self):
        return 1

    def _looped(self, inputs, target, keep, place, seed=None):
        index, seed = place[0], self.seed if seed is None else seed
        noise = []
        for number, x in enumerate(inputs):
            keys = ops.stack([ops.full_like(index, number), index], axis=1)
            noise.append(self.stddev * normal(ops.shape(x)[1:], seed, keys))
        return Explained(noise, [], no_exponent(inputs[0]), self._evaluated(inputs))

    def get_config(self):
        """The model and the options, as Keras serializes them."""
        return {**super().get_config(), "stddev": self.stddev, "seed": self.seed}
