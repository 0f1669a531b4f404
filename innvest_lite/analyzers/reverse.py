"""`ReverseAnalyzer`: an analyzer that is one forward and one backward sweep over a plan."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from keras import ops

from innvest_lite import backend
from innvest_lite.analyzers import sweep
from innvest_lite.analyzers.base import Analyzer
from innvest_lite.analyzers.constants import constants_of, relative
from innvest_lite.analyzers.explained import Explained
from innvest_lite.analyzers.explainer import Explainer, rivals_of
from innvest_lite.analyzers.mirrored import mirrored
from innvest_lite.analyzers.strategy import Round, Strategy
from innvest_lite.analyzers.tokens import looked_up
from innvest_lite.errors import InvalidInputError
from innvest_lite.forms.inputs import is_integer
from innvest_lite.graph import Graph, Value
from innvest_lite.graph.ending import ending_of
from innvest_lite.inputs import InputSpec
from innvest_lite.rules import Contributions, affine
from innvest_lite.rules.composite import Plan
from innvest_lite.rules.shares import with_sign_of


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Sweep(Strategy):
    """One forward and one backward sweep by the rules of the plan.

    Attributes:
        start: from the weights on the outputs and their values to the relevance that the sweep starts from.
        finish: from the inputs and the relevance that arrived there, lists of tensors, to the attributions.
        kernels: gives node name -> the kernel that rules with `needs_kernel` back-project with.
        accounts: see `Strategy`.
        centred: whether `start` is given by how much the outputs exceed their mean, in place of their values.
        directed: whether that has the sign of the output itself, for rules that give relevance of the sign of R to what
            made a value what it is: of a negative value, that is what speaks against it.
        unsigned: whether the two classes of a single unit have the same explanation: z times its signal is -z times the
            signal of -z.
    """

    start: Callable[[Any, Any], Any]
    finish: Callable[[list, list], list]
    kernels: Callable[[], dict]
    accounts: bool = True
    centred: bool = False
    directed: bool = False
    unsigned: bool = False

    sweeps = True
    hangs_on_place = False

    def starting_values(self, axis: int | None, logits: Any, weights: Any) -> Any:
        """What the start sees of the outputs' values, a tensor of their shape.

        A softmax does not see a constant that is added to all logits, so that an explanation should not either: less their
        mean, the logits do not depend on it. A sigmoid sees it, and of a single output, or of all with one weight
        (`target="all"`), nothing would be left.

        Args:
            axis: see `rivals_of`.
            logits: the outputs.
            weights: of them, in their shape.
        """
        if not self.centred or axis is None:
            return logits
        above = logits - ops.mean(logits, axis=axis, keepdims=True)
        above = with_sign_of(logits, ops.abs(above)) if self.directed else above
        first = *[slice(None)] * (axis % len(weights.shape)), slice(0, 1)
        differ = ops.any(weights != weights[first], axis=axis, keepdims=True)
        return ops.where(differ, above, logits)

    def sides(self, explainer: Explainer) -> tuple:
        """The sweeps whose relevance adds up: the numbers that `swept` takes.

        One; of a sigmoid unit that stands for two classes, one for each where rules make a difference (see `mirrored`).
        """
        return (0,) if not explainer.targets.two_classes or mirrored(explainer.plan) is None else (1, -1)

    def swept(
        self, explainer: Explainer, inputs: Any, weights: Any, keep: tuple = (), side: int = 0
    ) -> tuple[list[tuple[Value, Any]], sweep.Swept, Any]:
        """The forward and the backward sweep: where it starts, see `sweep.backward`, a `Swept`, and the logits.

        Of a function of the model's outputs, it starts from these, with the function's gradient as their weights.

        Args:
            explainer: whose strategy this is.
            inputs: a tensor per input.
            weights: see `Strategy.explain`.
            keep: likewise.
            side: 0: all weights; 1: the positive ones; -1: the negative ones, as positive weights on the mirrored network.
        """
        plan: Any = explainer.plan if side >= 0 else mirrored(explainer.plan)
        values, calls = sweep.forward(plan, inputs)
        put_out = values[plan.graph.outputs[0]]
        logits = put_out if side >= 0 else -put_out
        weights = explainer.targets.at(logits, weights)
        weights = ops.relu(side * weights) if side else weights
        weights = ops.abs(weights) if self.unsigned and explainer.targets.two_classes else weights
        constants = constants_of(plan, calls)
        ending = ending_of(plan.graph)
        if ending is None:
            outputs = [(plan.graph.outputs[0], put_out, weights, rivals_of(explainer.targets, explainer.head))]
        else:
            taken, _, pullback, _ = calls[ending.name]
            outputs = list(zip(ending.inputs, taken, pullback((weights,)), explainer.rivals, strict=True))
        starts = []
        for value, output, given, axis in outputs:
            # Whole numbers have no gradient, and what a function does not depend on has one of 0.
            if given is not None or backend.is_float(output):
                given = ops.zeros_like(output) if given is None else given
                start = self.start(given, self.starting_values(axis, output, given))
                starts.append((value, relative(start, output, constants.get(value))))
        found = sweep.backward(plan, calls, starts, self.kernels(), keep, rescales(plan), constants=constants)
        return starts, found, logits

    def explain(self, explainer: Explainer, inputs: Any, weights: Any, keep: tuple, around: Round) -> Explained:
        """See `Strategy.explain`."""
        graph, found = explainer.graph, []
        for side in self.sides(explainer):
            starts, swept, logits = self.swept(explainer, inputs, weights, keep, side)
            found.append((starts, sweep.undo_rescaling(swept) if rescales(explainer.plan) else swept))
        swept = sweep.added(found)
        _refuse_unfollowed(graph, swept)
        relevance = [_arrived(swept, value, x) for value, x in zip(graph.inputs, inputs, strict=True)]
        kept = [swept.relevance.get(value) for value in keep]
        missing = [value.node for value, tensor in zip(keep, kept, strict=True) if tensor is None]
        if missing:
            raise InvalidInputError(f"No relevance passes through {', '.join(missing)}; leave them out of keep.")
        return Explained(self.finish(inputs, relevance), [_single(tensor) for tensor in kept], swept.exponent, logits)


class ReverseAnalyzer(Analyzer):
    """An analyzer that hands relevance from the output back to the input by the rules of a composite.

    Subclasses give `composite`, and may say where the relevance starts and what becomes of it at the input. They may set
    their options before or after `super().__init__()`: the composite is asked for when the plan is first wanted, at the
    latest when the analyzer is made.

    Args:
        fallback: "gradient" lets the gradient stand in at nodes for which the method has no rule: of nodes that are linear
            in what they take, as x * J'(R / y), which stays in the unit of the relevance and conserves it; others are an
            error all the same. None (the default) makes all of them an error. PatternNet, whose signals are in no unit
            that a gradient could keep, takes the plain gradient of any node.

    Raises:
        UnsupportedLayerError: there is no rule for some of the nodes; the message lists them.
        InvalidInputError: there is no such fallback.
    """

    starts_from_logit = False
    starts_centred = False
    starts_directed: Any = False
    starts_unsigned = False
    accounts = True
    #: What stands in where `fallback` lets the gradient do so: `(matcher, rule)`.
    stand_in: tuple = (affine(), Contributions())

    def __init__(self, model: Any, *, fallback: str | None = None, **options: Any) -> None:
        if fallback not in (None, "gradient"):
            raise InvalidInputError(f"fallback should be None or 'gradient', but is {fallback!r}.")
        self._fallback = fallback
        super().__init__(model, **options)

    def composite(self) -> list:
        """The ordered list of (matcher, rule) of the method."""
        raise NotImplementedError

    def start(self, weights: Any, logits: Any) -> Any:
        """The relevance of the output.

        Args:
            weights: weights on the outputs, (batch, outputs...).
            logits: the outputs' values, in the same shape.

        Returns:
            A tensor of the same shape.
        """
        return weights * logits if self.starts_from_logit else weights

    def finish(self, inputs: list, relevance: list) -> list:
        """What becomes of the relevance at the inputs.

        Args:
            inputs: a tensor per input.
            relevance: the relevance that arrived there, a tensor per input, in its shape.

        Returns:
            The attributions, a tensor per input.
        """
        return relevance

    def kernels(self) -> dict:
        """Node name -> the kernel that rules with `needs_kernel` back-project with."""
        return {}

    def bindings(self) -> list:
        """See `Analyzer.bindings`: the composite, behind it the fallback."""
        return [*self.composite(), *([self.stand_in] if self._fallback else [])]

    def strategy(self, graph: Graph, inputs: InputSpec) -> Strategy:
        """See `Analyzer.strategy`."""
        return Sweep(
            self.start,
            self.finish,
            self.kernels,
            self.accounts,
            centred=self.starts_centred,
            directed=self.starts_directed,
            unsigned=self.starts_unsigned,
        )

    @property
    def rescales(self) -> bool:
        """Whether relevance is kept near 1 on its way, by powers of two."""
        return rescales(self.explainer.plan)

    def get_config(self) -> dict:
        """The model and the options, as Keras serializes them."""
        return {**super().get_config(), "fallback": self._fallback}


def rescales(plan: Plan) -> bool:
    """Whether some rule of a plan lets relevance grow, so that it has to be kept near 1 by powers of two."""
    return any(step.rule.grows for step in plan.steps)


def _arrived(swept: sweep.Swept, value: Any, x: Any) -> Any:
    """The relevance of an input; zeros where the output does not depend on it, or not in a way that could be followed."""
    return _single(swept.relevance[value]) if value in swept.relevance else ops.zeros_like(x, dtype="float32")


def _refuse_unfollowed(graph: Graph, swept: sweep.Swept) -> None:
    """Refuses a model of which no input gets relevance because whole numbers and texts are looked up."""
    if any(value in swept.relevance for value in graph.inputs):
        return
    for value, spec in zip(graph.inputs, graph.input_specs, strict=True):
        if is_integer(spec.dtype) and graph.consumers.get(value):
            raise looked_up(value, spec.dtype, graph.consumers[value], "no relevance can be followed through them")


def _single(tensor: Any) -> Any:
    return tensor if tensor.dtype == "float64" else ops.cast(tensor, "float32")
