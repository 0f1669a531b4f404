"""What every explanation must beat: the input itself, and noise."""

import keras
from keras import ops

from innvest_lite.analyzers.base import Analyzer
from innvest_lite.errors import InvalidInputError
from innvest_lite.inputs import finite, seed_of


@keras.saving.register_keras_serializable(package="innvest_lite")
class Input(Analyzer):
    """The input itself, as float32."""

    hands_back = False

    def _explain(self, inputs, target, keep):
        return [ops.cast(x, "float32") for x in inputs], *_nothing(self, inputs, keep)


@keras.saving.register_keras_serializable(package="innvest_lite")
class Random(Analyzer):
    """Gaussian noise of the input's shape; each `analyze` starts the generator anew, so it gives the same values.

    Args:
        stddev: the standard deviation of the noise.
        seed: of the generator.
    """

    hands_back = False

    def __init__(self, model, *, stddev=1.0, seed=0, **options):
        super().__init__(model, **options)
        self.stddev, self.seed = finite(stddev, "stddev"), seed_of(seed)
        self._generator = keras.random.SeedGenerator(self.seed)
        self._first_state = self._generator.state.numpy()

    def analyze(self, x, target=None, **options):
        """As `Analyzer.analyze`; the target does not matter."""
        self._generator.state.assign(self._first_state)
        return super().analyze(x, target, **options)

    def _explain(self, inputs, target, keep):
        noise = [keras.random.normal(ops.shape(x), stddev=self.stddev, seed=self._generator) for x in inputs]
        return noise, *_nothing(self, inputs, keep)

    def get_config(self):
        """The model and the options, as Keras serializes them."""
        return {**super().get_config(), "stddev": self.stddev, "seed": self.seed}


def _nothing(analyzer, inputs, keep):
    """What a method without a backward pass keeps, and its exponents."""
    if keep:
        raise InvalidInputError(f"{type(analyzer).__name__} has no backward pass, so it keeps nothing on the way.")
    return [], ops.zeros(ops.shape(inputs[0])[:1], "int32")
