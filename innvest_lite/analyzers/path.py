"""Integrated gradients: the mean gradient on the straight path from a reference to the sample."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from innvest_lite import backend
from innvest_lite.analyzers.averaged import AveragedGradients, Draw, Reduction, Sampler, along
from innvest_lite.analyzers.base import Analyzer
from innvest_lite.analyzers.binding import engine_for
from innvest_lite.analyzers.gradient import POSTPROCESSES, postprocessed
from innvest_lite.analyzers.references import FromReferences, References, from_config
from innvest_lite.analyzers.strategy import Strategy
from innvest_lite.errors import InvalidInputError
from innvest_lite.foreign import familiar
from innvest_lite.graph import Graph
from innvest_lite.inputs import InputSpec
from innvest_lite.options import one_of, positive, truth


def _gauss_legendre(steps: int) -> tuple[np.ndarray, np.ndarray]:
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    return (nodes + 1) / 2, weights / 2


def _trapezoid(steps: int) -> tuple[np.ndarray, np.ndarray]:
    if steps < 2:
        raise InvalidInputError("The trapezoid rule needs at least 2 steps.")
    weights = np.full(steps, 1 / (steps - 1))
    weights[[0, -1]] /= 2
    return np.linspace(0, 1, steps), weights


_QUADRATURES: dict[str, Callable[[int], tuple[np.ndarray, np.ndarray]]] = {
    "gauss_legendre": _gauss_legendre,
    "left": lambda steps: (np.arange(steps) / steps, np.full(steps, 1 / steps)),
    "trapezoid": _trapezoid,
}


@dataclasses.dataclass(frozen=True, eq=False)
class Path(FromReferences, Sampler):
    """Places on the straight path from a reference to the sample.

    Attributes:
        nodes: float32 (count,), where on the path, from 0 to 1.
        references: where it starts, one sample.
    """

    nodes: np.ndarray
    references: References

    def altered(self, x: Any, origin: Any, draw: Draw) -> Any:
        """See `Sampler.altered`."""
        nodes = ops.take(ops.convert_to_tensor(self.nodes), ops.minimum(draw.numbers, self.count - 1))
        path = origin[:, None] + along(nodes, len(x.shape) + 1) * (x - origin)[:, None]
        return ops.reshape(path, (-1, *ops.shape(x)[1:]))


@dataclasses.dataclass(frozen=True, eq=False)
class Integral(Reduction):
    """The way from the reference to the sample times the mean gradient on it.

    Attributes:
        shares: float32 (count,), the weight of each place in the mean.
        each: a function of a gradient.
    """

    shares: np.ndarray
    each: Callable[[Any], Any]

    def added(self, sums: list, found: list, numbers: Any, real: Any) -> list:
        """See `Reduction.added`."""
        shares = real * ops.take(ops.convert_to_tensor(self.shares), ops.minimum(numbers, len(self.shares) - 1))
        pairs = zip(sums, found, strict=True)
        return [total + ops.sum(self.each(g) * along(shares, len(g.shape)), axis=1) for total, g in pairs]

    def result(self, sums: list, clean: list, origins: list) -> list:
        """See `Reduction.result`."""
        return [(x - x0) * total for x, x0, total in zip(clean, origins, sums, strict=True)]


@keras.saving.register_keras_serializable(package="innvest_lite")
class IntegratedGradients(Analyzer):
    """Integrated gradients (Sundararajan et al. 2017, arXiv 1703.01365): (x - x0) times the mean gradient from x0 to x.

    Unit: logits; the attributions sum to f(x) - f(x0) but for the error of the quadrature, the completeness gap.

    Args:
        model: a Functional or Sequential `keras.Model`.
        steps: how many gradients are taken on the path.
        reference_inputs: x0: a number, an array of one sample's shape, or a list of them for several inputs. For tokens,
            token numbers; None means 0, for tokens an embedding of zeros.
        rule: where on the path: "gauss_legendre" (converges fastest), "left" (left Riemann sum, iNNvestigate's),
            "trapezoid".
        postprocess: None, "abs" or "square", done to every gradient; with one, the attributions are not complete.
        **options: as in `Analyzer`.
    """

    unit = "logits"

    def __init__(
        self,
        model: Any,
        steps: int = 32,
        *,
        reference_inputs: Any = None,
        rule: str = "gauss_legendre",
        postprocess: str | None = None,
        **options: Any,
    ) -> None:
        self.steps = positive(steps, "steps")
        self.rule = one_of(rule, _QUADRATURES, "rule")
        self.postprocess = one_of(postprocess, POSTPROCESSES, "postprocess")
        self._quadrature = backend.Untracked(_QUADRATURES[rule](self.steps))
        super().__init__(model, **options)
        self._given_references = backend.Untracked(reference_inputs)

    def strategy(self, graph: Graph, inputs: InputSpec) -> Strategy:
        """See `Analyzer.strategy`."""
        nodes, shares = (np.float32(part) for part in self._quadrature.value)
        path = Path(len(nodes), nodes, References.of(self._given_references.value, inputs))
        return AveragedGradients.of(graph, path, Integral(shares, lambda g: postprocessed(g, self.postprocess)))

    @familiar
    def analyze(
        self,
        x: Any,
        target: Any = None,
        batch_size: int = 32,
        verbose: int | str = 0,
        keep: Any = (),
        return_exponent: bool = False,
        *,
        neuron_selection: Any = None,
        return_gap: bool = False,
    ) -> Any:
        """As `Analyzer.analyze`.

        Args:
            x: as in `Analyzer.analyze`.
            target: as in `Analyzer.analyze`.
            batch_size: how many samples are evaluated at a time.
            verbose: 1 shows a progress bar.
            keep: as in `Analyzer.analyze`; there is nothing that this method could keep.
            return_exponent: as in `Analyzer.analyze`.
            neuron_selection: as in `Analyzer.analyze`.
            return_gap: whether to return the completeness gap too.

        Returns:
            As `Analyzer.analyze`; with `return_gap`, last also float32 (samples,), f(x) - f(x0) minus the sum of the
            attributions, in logits.

        Raises:
            InvalidInputError: as `Analyzer.analyze`.
        """
        truth(return_gap, "return_gap")
        found = super().analyze(x, target, batch_size, verbose, keep, return_exponent, neuron_selection=neuron_selection)
        if not return_gap:
            return found
        result = found if return_exponent else (found,)
        return (*result, self._gap(x, result[0], target, neuron_selection, batch_size))

    def _gap(self, x: Any, attributions: Any, target: Any, neuron_selection: Any, batch_size: int) -> np.ndarray:
        """What the sum of the attributions leaves unexplained: float32 (samples,)."""
        explainer, target = engine_for(self, target)
        attributions = explainer.inputs.in_order(attributions)
        arrays, weights = explainer.checked(x, target, neuron_selection, batch_size)
        with_target, count = weights is not None, len(arrays)

        def gap(*tensors: Any) -> Any:
            inputs, sums = tensors[:count], tensors[-1]
            there = explainer.logits(inputs)
            share = explainer.targets.at(there, tensors[count] if with_target else None)
            # The attributions are float32, whatever the model computes in.
            there, here, share = (
                ops.cast(part, "float32") for part in (there, explainer.strategy.measured_from(explainer, inputs), share)
            )
            return _summed(share * (there - here)) - sums

        signature = [*explainer.signature(with_target), backend.tensor_spec((explainer.inputs.batch,), "float32")]
        program = explainer.program(("gap", with_target), gap, signature)
        sums = sum(part.sum(tuple(range(1, part.ndim)), dtype="float32") for part in attributions)
        flat = [*arrays, *([weights] if with_target else []), sums]
        return explainer.batched(program, flat, positive(batch_size, "batch_size"))[0]

    def get_config(self) -> dict:
        """The model and the options, as Keras serializes them."""
        strategy: Any = self.explainer.strategy
        own = {"steps": self.steps, "rule": self.rule, "postprocess": self.postprocess}
        return {**super().get_config(), **own, "reference_inputs": strategy.sampler.references.config}

    @classmethod
    def from_config(cls, config: dict) -> IntegratedGradients:
        """An analyzer from `get_config`."""
        return super().from_config(from_config(config))


def _summed(x: Any) -> Any:
    return ops.sum(ops.reshape(x, (ops.shape(x)[0], -1)), axis=1)
