"""DeepLIFT: the difference of the output from that at a reference, shared out to the differences of the inputs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from innvest_lite import backend, rules
from innvest_lite.analyzers import sweep
from innvest_lite.analyzers.explained import Explained
from innvest_lite.analyzers.explainer import Explainer
from innvest_lite.analyzers.references import References, flattened, from_config
from innvest_lite.analyzers.reverse import ReverseAnalyzer
from innvest_lite.analyzers.samples import grouped, ungrouped
from innvest_lite.analyzers.strategy import Round, Strategy, by_sample, no_exponent, repeated
from innvest_lite.analyzers.tokens import points_of, tokens_at_inputs
from innvest_lite.errors import UnsupportedLayerError, UnsupportedNode
from innvest_lite.forms import forms_of
from innvest_lite.forms.values import values_of
from innvest_lite.graph import Graph, Value
from innvest_lite.graph.ending import ending_of
from innvest_lite.graph.interpret import interpret
from innvest_lite.inputs import InputSpec
from innvest_lite.options import one_of
from innvest_lite.rules import lift, lift_mixing
from innvest_lite.rules.lift import Multiplier, Reference, by_sign, contribution, difference, paired

RULES = ("rescale", "reveal_cancel")
_COMPARE = ("Greater", "GreaterEqual", "Less", "LessEqual", "Equal", "NotEqual", "Sign")


@dataclasses.dataclass(frozen=True, eq=False)
class Measured:
    """Samples beside references, gone through forwards and back.

    Attributes:
        starts: values of the graph, and the multipliers that the way back starts with.
        swept: of multipliers.
        values: `Value` -> tensor, of the samples.
        before: likewise, of the references.
        parts: `Value` -> what makes it larger and what makes it smaller; empty without pairs.
    """

    starts: list
    swept: sweep.Swept
    values: dict
    before: dict
    parts: dict

    def contributed(self, value: Value, multiplier: Any) -> Any:
        """What a value contributes by a multiplier; None stays None."""
        if multiplier is None:
            return None
        return contribution(multiplier, difference(self.values[value], self.before[value]), self.parts.get(value))

    def at(self, value: Value) -> Any:
        """What a value contributes, float32 or wider: zeros where nothing came back to it."""
        found = self.contributed(value, self.swept.relevance.get(value))
        return ops.zeros_like(self.values[value], dtype="float32") if found is None else found


@dataclasses.dataclass(frozen=True, eq=False)
class Differences(Strategy):
    """Multipliers, back through the plan, times differences from references.

    Attributes:
        references: from which.
        points: for each input, the values of the graph whose differences share; none for masks and what is looked up.
        pairs: whether what makes values larger and what makes them smaller have multipliers of their own.
    """

    references: References
    points: tuple
    pairs: bool

    sweeps = True
    accounts = True
    differs = True

    def evaluations(self) -> int:
        """See `Strategy.evaluations`."""
        return self.references.count

    def check_inputs(self, arrays: list) -> None:
        """See `Strategy.check_inputs`."""
        self.references.check_inputs(arrays)

    def measured_from(self, explainer: Explainer, inputs: Any) -> Any:
        """See `Strategy.measured_from`."""
        return self.references.outputs(explainer, inputs, self.points)

    def sides(self, explainer: Explainer) -> tuple:
        """The sweeps whose contributions add up, for `check`: one for each reference."""
        return tuple(range(self.references.count))

    def swept(
        self, explainer: Explainer, inputs: Any, weights: Any, keep: tuple = (), side: int = 0
    ) -> tuple[list[tuple[Value, Any]], sweep.Swept, Any]:
        """See `reverse.Sweep.swept`: what is shared out of one reference's difference, and what each node contributes.

        Args:
            explainer: whose strategy this is.
            inputs: a tensor per input.
            weights: see `Strategy.explain`.
            keep: likewise.
            side: the number of the reference.
        """
        found = self._measured(explainer, inputs, weights, np.array([side], "int32"), keep)
        logits = found.values[explainer.graph.outputs[0]]
        at_inputs = zip(explainer.graph.inputs, self._at_inputs(explainer, inputs, found), strict=True)
        share = 1 / self.references.count
        relevance = {value: one * share for value, one in (*at_inputs, *((value, found.at(value)) for value in keep))}

        def shared(values: Sequence[Value], multipliers: Sequence[Any]) -> tuple:
            each = map(found.contributed, values, multipliers)
            return tuple(None if one is None else one * share for one in each)

        exponent = no_exponent(inputs[0])
        passages = tuple(
            dataclasses.replace(
                passage,
                arrived=shared(passage.call.form.node.values, passage.arrived),
                handed_on=shared(passage.call.form.node.inputs, passage.handed_on),
                exponent=exponent,
            )
            for passage in found.swept.passages
        )
        starts = [(value, *shared([value], [start])) for value, start in found.starts]
        return starts, sweep.Swept(relevance, dict.fromkeys(relevance, exponent), exponent, passages), logits

    def explain(self, explainer: Explainer, inputs: Any, weights: Any, keep: tuple, around: Round) -> Explained:
        """See `Strategy.explain`."""
        if self.references.count == 1:
            found = self._measured(explainer, inputs, weights, np.zeros(1, "int32"), keep)
            kept = [ops.cast(found.at(value), "float32") for value in keep]
            logits = found.values[explainer.graph.outputs[0]]
            return Explained(self._at_inputs(explainer, inputs, found), kept, no_exponent(inputs[0]), logits)
        return self._mean(explainer, inputs, weights, keep, around.together)

    def _mean(self, explainer: Explainer, inputs: Any, weights: Any, keep: tuple, together: int) -> Explained:
        """The mean explanation over several references, of which so many go at a time."""
        count, graph = self.references.count, explainer.graph
        values = values_of(graph, explainer.plan.forms, inputs)
        many = [repeated(x, together) for x in inputs]
        many_weights = (
            None if weights is None else repeated(explainer.targets.at(values[graph.outputs[0]], weights), together)
        )
        specs = list(map(graph.spec, keep))

        def body(round_number: Any, sums: Any) -> list:
            numbers = round_number * together + ops.arange(together, dtype="int32")
            found = self._measured(explainer, many, many_weights, ops.minimum(numbers, count - 1), keep)
            # Numbers past the last reference only fill the last round.
            real = ops.cast(numbers < count, "float32") / count
            each = [grouped(ops.cast(found.at(value), "float32"), spec) for value, spec in zip(keep, specs, strict=True)]
            pairs = zip(sums, [*self._at_inputs(explainer, many, found), *each], strict=True)
            return [total + ops.einsum("bn...,n->b...", by_sample(part, together), real) for total, part in pairs]

        nothing = [ops.zeros_like(x, dtype="float32") for x in inputs]
        pairs = zip(keep, specs, strict=True)
        nothing += [grouped(ops.zeros_like(values[value], dtype="float32"), spec) for value, spec in pairs]
        found = list(backend.loop(self.rounds(together), body, nothing))
        kept = [ungrouped(one, spec) for one, spec in zip(found[len(inputs) :], specs, strict=True)]
        return Explained(found[: len(inputs)], kept, no_exponent(inputs[0]), values[graph.outputs[0]])

    def _measured(self, explainer: Explainer, inputs: Any, weights: Any, numbers: Any, keep: tuple) -> Measured:
        """Each sample against the references of these numbers, one after the other: `len(numbers)` rows a sample."""
        plan, points = explainer.plan, flattened(self.points)
        values, calls = sweep.forward(plan, inputs)
        before = self._before(explainer, inputs, values, numbers)
        parts = self._parts(plan, values, before) if self.pairs else {}
        beside = {}
        for name, (taken, outputs, pullback, _) in calls.items():
            node = plan.graph.node_of[name]
            # Behind the points lies what is looked up.
            if node.values[0] not in points:
                there = tuple(before[value] for value in node.inputs), tuple(before[value] for value in node.values)
                beside[name] = taken, outputs, pullback, Reference(*there, tuple(map(parts.get, node.inputs)))
        weights = explainer.targets.at(values[plan.graph.outputs[0]], weights)
        starts = self._starts(explainer, values, before, weights)
        return Measured(starts, sweep.backward(plan, beside, starts, {}, (*points, *keep)), values, before, parts)

    def _before(self, explainer: Explainer, inputs: Any, values: dict, numbers: Any) -> dict:
        """All values of the graph at the references of these numbers, as many rows as the samples have."""
        graph, forms = explainer.graph, explainer.plan.forms
        given = self.references.rows(explainer, inputs, self.points, values, numbers)
        return interpret(graph, lambda node, taken: forms[node.name].forward(*taken), inputs, given)

    def _parts(self, plan: Any, values: dict, before: dict) -> dict:
        """What makes each value larger, and what makes it smaller, than at the reference."""
        points = set(flattened(self.points))
        found = {point: by_sign(difference(values[point], before[point])) for point in points}
        for step in plan.steps:
            node = step.node
            if points.intersection(node.values) or not isinstance(step.rule, Multiplier):
                continue
            taken, made = [tuple(values[value] for value in each) for each in (node.inputs, node.values)]
            there = tuple(before[value] for value in node.inputs), tuple(before[value] for value in node.values)
            floats = [backend.is_float(x) for x in taken]
            inner = tuple(
                (found.get(value) or by_sign(difference(x, x0))) if is_float else None
                for value, x, x0, is_float in zip(node.inputs, taken, there[0], floats, strict=True)
            )
            if any(floats) and all(map(backend.is_float, made)):
                split = step.rule.split(step.form, taken, made, Reference(*there, inner))
                found.update(zip(node.values, split, strict=True))
        return found

    def _starts(self, explainer: Explainer, values: dict, before: dict, weights: Any) -> list:
        """Where multipliers start, and how large: the weights, or of a function of outputs its mean derivative."""
        graph = explainer.graph
        spread = paired if self.pairs else lambda one: one
        ending = ending_of(graph)
        if ending is None:
            return [(graph.outputs[0], spread(weights))]
        call = rules.Call(
            explainer.plan.forms[ending.name],
            tuple(values[value] for value in ending.inputs),
            (values[graph.outputs[0]],),
            lambda given: given,
            prepared=Reference(tuple(before[value] for value in ending.inputs), (before[graph.outputs[0]],)),
        )
        found = lift_mixing.MeanGradient().back(call, (weights,))
        pairs = zip(ending.inputs, found, strict=True)
        return [(value, spread(one)) for value, one in pairs if one is not None]

    def _at_inputs(self, explainer: Explainer, inputs: Any, found: Measured) -> list:
        """The contributions of the inputs: one number a token, zeros for what has no points."""
        graph, points = explainer.graph, flattened(self.points)
        shared = {point: grouped(ops.cast(found.at(point), "float32"), graph.spec(point)) for point in points}
        tokens = tokens_at_inputs(explainer, inputs, self.points, shared, "sum")
        at_points = zip(graph.inputs, self.points, strict=True)
        at_inputs = {value: shared[of_input[0]] for value, of_input in at_points if of_input} | tokens
        return [
            at_inputs.get(value, ops.zeros_like(x, dtype="float32")) for value, x in zip(graph.inputs, inputs, strict=True)
        ]


@keras.saving.register_keras_serializable(package="innvest_lite")
class DeepLIFT(ReverseAnalyzer):
    """DeepLIFT (Shrikumar et al. 2017, arXiv 1704.02685): what differences from a reference do to the output.

    C_i = m_i (x_i - x0_i), the multipliers m by the chain rule (eq. 3), node by node: the Linear rule, and Rescale or
    RevealCancel at functions of one value. Unit: logits; the contributions sum to f(x) - f(x0) (eq. 1).

    Where the paper has no rule: what a maximum gained or lost is due to the value that is, or was, the largest; products of
    values share by the mean of both orders, (y + y0) / 2 for x; normalizations take the mean derivative on the straight way
    from the reference, in closed form; a softmax is exp(x - log sum exp(x)). Logits are explained, so that the paper's
    section 3.6 on softmax outputs asks for no centring: `target=` takes a contrast of logits, where one is wanted.

    Args:
        model: a Functional or Sequential `keras.Model`.
        reference_inputs: x0: a number, an array of one sample's shape, or a list of them for several inputs. For tokens,
            token numbers; None means 0, for tokens an embedding of zeros. Of several samples, (references, ...), the mean
            over all is explained, as DeepSHAP does (Lundberg and Lee 2017, arXiv 1705.07874).
        rule: "rescale", or "reveal_cancel", which looks at positive and negative contributions apart, so that those that
            cancel do not go unseen.
        **options: as in `ReverseAnalyzer` and `Analyzer`. `fallback="gradient"` lets the mean gradient between reference
            and sample stand in at nodes for which there is no rule; the sum then has its quadrature's error.

    Raises:
        UnsupportedLayerError: there is no rule for some of the nodes, such as recurrent layers; the message lists them.
        InvalidInputError: the references do not fit the model.

    Example:
        >>> import keras, numpy as np, innvest_lite
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="relu"), keras.layers.Dense(2)])
        >>> innvest_lite.DeepLIFT(model, reference_inputs=0.5).analyze(np.ones((2, 4))).shape
        (2, 4)
    """

    unit = "logits"
    stand_in = (rules.anything(), lift_mixing.MeanGradient())

    def __init__(self, model: Any, *, reference_inputs: Any = None, rule: str = "rescale", **options: Any) -> None:
        self.rule = one_of(rule, RULES, "rule")
        self._given_references = backend.Untracked(reference_inputs)
        super().__init__(model, **options)

    def composite(self) -> list:
        """The rules of `rules.lift` and `rules.lift_mixing`, by what each node is."""
        pairs = self.rule == "reveal_cancel"
        of_one_value = lift.RevealCancelMultiplier if pairs else lift.RescaleMultiplier
        own: Sequence[type[Multiplier]] = (lift.LinearMultiplier, of_one_value, *lift_mixing.MULTIPLIERS)
        return [*((rules.kind(*cls.kinds), cls(pairs)) for cls in own), (rules.kind("embedding"), rules.TokenSum())]

    def bindings(self) -> list:
        """See `Analyzer.bindings`."""
        pairs = self.rule == "reveal_cancel"
        stand_in = (self.stand_in[0], dataclasses.replace(self.stand_in[1], pairs=pairs))
        return [*self.composite(), *([stand_in] if self._fallback else [])]

    def strategy(self, graph: Graph, inputs: InputSpec) -> Strategy:
        """See `Analyzer.strategy`.

        Raises:
            UnsupportedLayerError: the model has recurrent layers.
            InvalidInputError: the references do not fit the model.
        """
        loops = [form for form in forms_of(graph).values() if form.kind == "recurrent"]
        if loops and not self._fallback:
            raise UnsupportedLayerError(
                "DeepLIFT has no rule for what goes over steps, of which it would have to keep all values twice:",
                [UnsupportedNode(form.name, form.node.kind, "it is recurrent") for form in loops],
                "Take integrated_gradients, which measures from a reference too, or lrp.cp_lrp_gamma; or let the mean "
                "gradient between reference and sample stand in, fallback='gradient'.",
            )
        compared = _compared(graph)
        if compared:
            raise UnsupportedLayerError(
                "DeepLIFT measures from a reference, at which a comparison may come out otherwise than at the sample; it "
                "has no rule for what compares values of the data:",
                [UnsupportedNode(node.name, node.kind, "it compares values of the data") for node in compared],
                "Take integrated_gradients, which measures from a reference too.",
            )
        references = References.of(self._given_references.value, inputs, several=True)
        return Differences(references, points_of(graph), self.rule == "reveal_cancel")

    def get_config(self) -> dict:
        """The model and the options, as Keras serializes them."""
        strategy: Any = self.explainer.strategy
        return {**super().get_config(), "reference_inputs": strategy.references.config, "rule": self.rule}

    @classmethod
    def from_config(cls, config: dict) -> DeepLIFT:
        """An analyzer from `get_config`."""
        return super().from_config(from_config(config))


def _compared(graph: Graph) -> list:
    """The nodes that compare numbers which depend on the input; tokens are compared for masks, which stay the sample's."""
    data, found = set(graph.inputs), []
    for node in graph.nodes:
        taken = [value for value in node.inputs if value in data]
        if taken:
            data.update(node.values)
        compares = type(node.operation).__name__ in _COMPARE
        if compares and any(keras.backend.is_float_dtype(graph.spec(value).dtype) for value in taken):
            found.append(node)
    return found
