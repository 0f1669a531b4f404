"""What every explanation must beat: the input itself, and noise."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
from keras import ops

from innvest_lite.analyzers.base import Analyzer
from innvest_lite.analyzers.explained import Explained
from innvest_lite.analyzers.explainer import Explainer
from innvest_lite.analyzers.strategy import Round, Strategy, no_exponent
from innvest_lite.draws import normal
from innvest_lite.graph import Graph
from innvest_lite.inputs import InputSpec
from innvest_lite.options import finite, seed_of


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Copied(Strategy):
    """The input stands for its explanation."""

    depends = False

    def explain(self, explainer: Explainer, inputs: Any, weights: Any, keep: tuple, around: Round) -> Explained:
        """See `Strategy.explain`."""
        copies = [ops.zeros_like(x, dtype="float32") if x.dtype == "string" else ops.cast(x, "float32") for x in inputs]
        return Explained(copies, [], no_exponent(inputs[0]), explainer.logits(inputs))


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Drawn(Strategy):
    """Gaussian noise stands for the explanation.

    Attributes:
        stddev: the noise's standard deviation.
        seed: of the noise.
    """

    stddev: float
    seed: int

    depends = False

    def explain(self, explainer: Explainer, inputs: Any, weights: Any, keep: tuple, around: Round) -> Explained:
        """See `Strategy.explain`."""
        seed, noise = self.seed if around.seed is None else around.seed, []
        for number, x in enumerate(inputs):
            keys = ops.stack([ops.full_like(around.index, number), around.index], axis=1)
            noise.append(self.stddev * normal(ops.shape(x)[1:], seed, keys))
        return Explained(noise, [], no_exponent(inputs[0]), explainer.logits(inputs))


@keras.saving.register_keras_serializable(package="innvest_lite")
class Input(Analyzer):
    """The input itself, as float32."""

    unit = "input"
    hands_back = False
    picture = "image"
    sign_tells = False

    def strategy(self, graph: Graph, inputs: InputSpec) -> Strategy:
        """See `Analyzer.strategy`."""
        return Copied()


@keras.saving.register_keras_serializable(package="innvest_lite")
class Random(Analyzer):
    """Gaussian noise of the input's shape. A sample's noise depends on the seed and on its place in `x` alone.

    Args:
        model: a Functional or Sequential `keras.Model`.
        stddev: the standard deviation of the noise.
        seed: of the noise.
        **options: as in `Analyzer`.
    """

    hands_back = False
    is_random = True

    def __init__(self, model: Any, *, stddev: float = 1.0, seed: int = 0, **options: Any) -> None:
        self.stddev, self.seed = finite(stddev, "stddev"), seed_of(seed)
        super().__init__(model, **options)

    def strategy(self, graph: Graph, inputs: InputSpec) -> Strategy:
        """See `Analyzer.strategy`."""
        return Drawn(self.stddev, self.seed)

    def get_config(self) -> dict:
        """The model and the options, as Keras serializes them."""
        return {**super().get_config(), "stddev": self.stddev, "seed": self.seed}
