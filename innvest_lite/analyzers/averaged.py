"""The mean of gradients at many altered samples: along a path (`path`) or under noise (`noise`).

A method is a sampler, which alters samples, and a reduction, which makes one result of the gradients at them. The loop over
both is here; it is compiled, and its memory does not grow with the number of evaluations.

Tokens have no path and no noise of their own: there, what is altered is what they are embedded as, and the result is one
number a token. A *point* is a value of the graph that can be altered: a float input, or the embedding of a token input.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from keras import ops

from innvest_lite import backend
from innvest_lite.analyzers import sweep
from innvest_lite.analyzers.explained import Explained
from innvest_lite.analyzers.explainer import Explainer
from innvest_lite.analyzers.references import flattened
from innvest_lite.analyzers.samples import grouped, ungrouped
from innvest_lite.analyzers.strategy import Round, Strategy, by_sample, no_exponent, repeated
from innvest_lite.analyzers.tokens import points_of, tokens_at_inputs
from innvest_lite.graph import Graph, Value


@dataclasses.dataclass(frozen=True, eq=False)
class Draw:
    """Which evaluations of which samples a sampler is asked for.

    Attributes:
        position: the number of the point.
        numbers: int32 (together,), the numbers of the evaluations; those past the last one only fill the last round.
        index: int32 (batch,), the place of each sample among those that `analyze` was handed.
        seed: see `Round`.
    """

    position: int
    numbers: Any
    index: Any
    seed: Any


@dataclasses.dataclass(frozen=True, eq=False)
class Sampler:
    """Alters samples; subclasses are frozen.

    Attributes:
        count: how many altered samples there are of each sample.
    """

    count: int

    #: See `Strategy.differs`.
    differs = False

    def check_inputs(self, arrays: list) -> None:
        """Raises InvalidInputError where the sampler does not fit the samples."""

    def origins(self, explainer: Explainer, inputs: list, points: tuple) -> list:
        """Where the path to each point (`flattened`) starts, float32, one sample; None for samplers without a path.

        Args:
            explainer: the explainer.
            inputs: a tensor per input.
            points: for each input, the values that are altered for it.
        """
        return [None for _ in flattened(points)]

    def measured_from(self, explainer: Explainer, inputs: list, points: tuple) -> Any:
        """See `Strategy.measured_from`."""
        raise NotImplementedError

    def altered(self, x: Any, origin: Any, draw: Draw) -> Any:
        """Altered samples (batch * together, ...) of a point, from the clean ones, x (batch, ...)."""
        raise NotImplementedError

    def credited(self, gradient: Any, x: Any, origin: Any, draw: Draw) -> Any:
        """What counts of the gradient (batch * together, ...) at the altered samples of a point."""
        return gradient


@dataclasses.dataclass(frozen=True, eq=False)
class Reduction:
    """Makes one result of many gradients; subclasses are frozen."""

    def start(self, clean: list, gradients: Callable[[], list]) -> list:
        """The sums before the first round.

        Args:
            clean: a tensor per point.
            gradients: gives the gradients at the clean samples.
        """
        return [ops.zeros_like(x) for x in clean]

    def added(self, sums: list, found: list, numbers: Any, real: Any) -> list:
        """The sums after a round.

        Args:
            sums: those before it.
            found: the gradients (batch, together, ...) at each point.
            numbers: int32 (together,), the numbers of the evaluations.
            real: float32 (together,), 1 for real evaluations, 0 for those that only fill the last round.
        """
        raise NotImplementedError

    def result(self, sums: list, clean: list, origins: list) -> list:
        """The attribution at each point."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class AveragedGradients(Strategy):
    """Gradients at the samples that a sampler makes, reduced.

    Attributes:
        sampler: what alters samples.
        reduction: what becomes of the gradients.
        points: for each input, the values of the graph that are altered for it; none for masks and what is looked up.
        tokens: how the embedding's dimensions make one number a token, see `tokens`.
    """

    sampler: Sampler
    reduction: Reduction
    points: tuple
    tokens: str = "sum"

    @classmethod
    def of(cls, graph: Graph, sampler: Sampler, reduction: Reduction, tokens: str = "sum") -> AveragedGradients:
        """The strategy for a graph.

        Raises:
            UnsupportedLayerError: whole numbers of an input go where nothing can be altered.
        """
        return cls(sampler, reduction, points_of(graph), tokens)

    def evaluations(self) -> int:
        """See `Strategy.evaluations`."""
        return self.sampler.count

    def check_inputs(self, arrays: list) -> None:
        """See `Strategy.check_inputs`."""
        self.sampler.check_inputs(arrays)

    @property
    def differs(self) -> bool:
        """See `Strategy.differs`."""
        return self.sampler.differs

    def measured_from(self, explainer: Explainer, inputs: Any) -> Any:
        """See `Strategy.measured_from`."""
        return self.sampler.measured_from(explainer, inputs, self.points)

    def explain(self, explainer: Explainer, inputs: Any, weights: Any, keep: tuple, around: Round) -> Explained:
        """See `Strategy.explain`."""
        plan, together, flat = explainer.plan, around.together, self.flat
        values, _ = sweep.forward(plan, inputs)
        logits, specs = values[plan.graph.outputs[0]], [plan.graph.spec(point) for point in flat]
        # The class is the clean sample's, at all altered ones. Where it is given, nothing here hangs on the clean sample's
        # outputs, not even on their shape, so that a compiled program leaves them out unless it hands them on.
        lean = around.lean and weights is not None
        asked = explainer.targets.at(logits, weights) if weights is None else _each(weights, inputs[0], logits.dtype)
        many_weights = repeated(asked, together)
        clean = [grouped(ops.cast(values[point], "float32"), spec) for point, spec in zip(flat, specs, strict=True)]
        origins = self.sampler.origins(explainer, inputs, self.points)
        many = [repeated(x, together) for x in inputs]

        def gradients(altered: list) -> tuple[list, Any]:
            """The gradient at each point, and the outputs."""
            each = zip(flat, altered, specs, strict=True)
            given = {point: ops.cast(ungrouped(x, spec), values[point].dtype) for point, x, spec in each}
            there, calls = sweep.forward(plan, many, given)
            swept = sweep.backward(plan, calls, [(plan.graph.outputs[0], many_weights)], {}, flat)
            found = [swept.relevance.get(point) for point in flat]
            found = [
                ops.zeros_like(x) if g is None else grouped(ops.cast(g, "float32"), spec)
                for g, x, spec in zip(found, altered, specs, strict=True)
            ]
            return found, there[plan.graph.outputs[0]]

        def at_clean() -> list:
            return [by_sample(g, together)[:, 0] for g in gradients([repeated(x, together) for x in clean])[0]]

        def body(round_number: Any, state: Any) -> list:
            sums = state[1:] if lean else state
            numbers = round_number * together + ops.arange(together, dtype="int32")
            draws = [Draw(position, numbers, around.index, around.seed) for position in range(len(flat))]
            each = list(zip(clean, origins, draws, strict=True))
            found, outputs = gradients([self.sampler.altered(*one) for one in each])
            found = [self.sampler.credited(g, *one) for g, one in zip(found, each, strict=True)]
            real = ops.cast(numbers < self.sampler.count, "float32")
            sums = self.reduction.added(list(sums), [by_sample(g, together) for g in found], numbers, real)
            return [ops.logical_and(state[0], _finite(outputs, real)), *sums] if lean else sums

        start = self.reduction.start(clean, at_clean)
        start = [ops.ones(ops.shape(inputs[0])[:1], "bool"), *start] if lean else start
        state = list(backend.loop(self.rounds(together), body, start, around.tick))
        finite = state.pop(0) if lean else None
        averaged = self.reduction.result(state, clean, origins)
        return Explained(self._folded(explainer, averaged, inputs), [], no_exponent(inputs[0]), logits, finite)

    @property
    def flat(self) -> tuple[Value, ...]:
        """The points of all inputs, one after the other."""
        return flattened(self.points)

    def _folded(self, explainer: Explainer, averaged: list, inputs: Any) -> list:
        """From points to inputs: the embeddings of a token make one number; what has no points gets zeros."""
        found = dict(zip(self.flat, averaged, strict=True))
        tokens = tokens_at_inputs(explainer, inputs, self.points, found, self.tokens)
        return [
            ops.zeros_like(x, dtype="float32") if not points else tokens[value] if value in tokens else found[points[0]]
            for value, points, x in zip(explainer.graph.inputs, self.points, inputs, strict=True)
        ]


def _each(weights: Any, x: Any, dtype: Any) -> Any:
    """Weights on the outputs, of all samples or of one that stands for all, for each sample of x."""
    return ops.broadcast_to(ops.cast(weights, dtype), (ops.shape(x)[0], *ops.shape(weights)[1:]))


def _finite(outputs: Any, real: Any) -> Any:
    """Whether all outputs (batch * together, ...) of each sample's real evaluations are numbers: bool (batch,)."""
    finite = by_sample(ops.all(ops.isfinite(outputs), axis=tuple(range(1, len(outputs.shape)))), real.shape[0])
    return ops.all(ops.logical_or(finite, real[None] == 0), axis=1)


def along(numbers: Any, rank: int) -> Any:
    """Numbers (together,) in a shape that broadcasts against (batch, together, ...) of this rank."""
    return ops.reshape(numbers, (1, -1, *[1] * (rank - 2)))
