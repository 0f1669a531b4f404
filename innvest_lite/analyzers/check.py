"""`analyzer.check(x)`: what happens to the relevance, node by node, and where each difference went.

Made from the passages that a backward sweep records. Called by `Analyzer.check`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from keras import ops

from innvest_lite import backend
from innvest_lite.analyzers.batches import padded
from innvest_lite.analyzers.samples import by_sample
from innvest_lite.analyzers.sweep import Swept
from innvest_lite.forms import LinearForm
from innvest_lite.graph import Spec, Value
from innvest_lite.graph.source import Source
from innvest_lite.rules import Evaluated
from innvest_lite.rules.lrp import LinearRule
from innvest_lite.tables import Brief, Tabled

if TYPE_CHECKING:
    from innvest_lite.analyzers.explainer import Explainer

# Of what arrives at a node, and by how much relevance may grow or shrink from one block to the next.
_VANISHED, _MOST = 1e-5, 2.0
REASONS = ("epsilon", "gate", "kernel", "padding", "softmax", "rest")


@dataclasses.dataclass(frozen=True, repr=False)
class CheckRow(Brief):
    """What happened at one node, summed over units and positions; float64 arrays, one number per sample.

    Attributes:
        node: the node's name.
        rule: its rule, as text.
        arrived: the relevance of its outputs.
        handed_on: the relevance that it gave its inputs.
        bias: what its bias absorbed; 0 for rules that ignore the bias.
        epsilon: what a stabilizer absorbed, and what arrived where the rule divides by 0.
        gate: what closed (or squashing) activations kept, and maxima with a constant.
        kernel: what the back-projecting kernel's sum over the fan-in is short of 1: in PatternAttribution dead units, and
            what speaks against a unit in shares of the sample; in PatternNet and the gradient family the change of units.
        padding: what went to positions outside the image.
        softmax: by how much its rule does not conserve relevance.
        rest: what none of these explains: rounding.
    """

    node: str
    rule: str
    arrived: np.ndarray
    handed_on: np.ndarray
    bias: np.ndarray
    epsilon: np.ndarray
    gate: np.ndarray
    kernel: np.ndarray
    padding: np.ndarray
    softmax: np.ndarray
    rest: np.ndarray

    @property
    def lost(self) -> np.ndarray:
        """`arrived - handed_on`."""
        return self.arrived - self.handed_on


@dataclasses.dataclass(frozen=True, repr=False)
class CheckReport(Tabled):
    """The rows of all nodes, from the output to the input, and the totals.

    Attributes:
        rows: a `CheckRow` per node.
        start: the relevance at the output, per sample; of methods with a reference, how the output differs from that there.
        at_input: the relevance that reached the inputs, per sample.
        whole: of rules that are to conserve relevance, the names of nodes behind which all that is under way is that of one
            value, the ends of blocks; for `alarms`.
    """

    rows: tuple[CheckRow, ...]
    start: np.ndarray
    at_input: np.ndarray
    whole: tuple[str, ...] = ()

    @property
    def gap(self) -> np.ndarray:
        """`start - at_input`, per sample: by how much the method does not conserve the output."""
        return self.start - self.at_input

    @property
    def unexplained(self) -> np.ndarray:
        """What no reason explains, per sample, as a share of the largest sum of relevance at any node."""
        largest = np.max([np.abs(row.arrived) for row in self.rows], axis=0, initial=0)
        rest = np.sum([np.abs(row.rest) for row in self.rows], axis=0)
        balance = np.abs(self.gap - np.sum([row.lost for row in self.rows], axis=0))
        return (rest + balance) / np.where(largest > 0, largest, 1)

    @property
    def alarms(self) -> tuple[str, ...]:
        """What should make one look twice, a sentence each: where relevance vanishes, and where it grows or shrinks.

        Whatever is divided by its own size has a gradient that is at right angles to it: behind a normalization that a rule
        missed, relevance sums to 0, silently.
        """
        return (*self._vanishing(), *self._growing())

    def _vanishing(self):
        for row in self.rows if self.whole else ():
            arrived = np.abs(row.arrived)
            # Constants keep what arrives at them, such as what stands for a place, or the states with which steps begin.
            stays = np.abs([row.handed_on, row.gate, row.bias]).max(axis=0) > _VANISHED * arrived
            if np.all(arrived > 0) and not np.any(stays):
                yield (
                    f"At {row.node} ({row.rule}) relevance vanishes: if it divides what it takes by the size of that, "
                    "a rule has missed it."
                )

    def _growing(self):
        carried, last, name = np.array(self.start, "float64"), np.abs(self.start).mean(), "the output"
        for row in self.rows:
            carried = carried - row.lost
            if row.node not in self.whole:
                continue
            size = np.abs(carried).mean()
            if size <= _VANISHED * last:
                # What is left is rounding.
                return
            if last > 0 and max(size / last, last / size) > _MOST:
                word, times = ("grows", size / last) if size > last else ("shrinks", last / size)
                yield f"From {name} to {row.node}, relevance {word} {times:.3g} times."
            last, name = size, row.node

    def _parts(self) -> Iterator[Any]:
        if not self.start.size:
            yield "no samples, nothing to check"
            return
        header = ("node", "rule", "arrived", "handed on", "bias", *REASONS)
        rows = [(row.node, row.rule, *(f"{np.mean(getattr(row, field)):.4g}" for field in _FIELDS)) for row in self.rows]
        total = (
            f"start {np.mean(self.start):.4g}, at the input {np.mean(self.at_input):.4g}, gap {np.mean(self.gap):.4g}, "
            f"unexplained at most {np.max(self.unexplained, initial=0):.2g} of the largest sum (means over samples)"
        )
        yield from [*([(header, rows)] if rows else []), total, *self.alarms]


def check(explainer: Explainer, arrays: list[np.ndarray], weights: np.ndarray | None, batch_size: int) -> CheckReport:
    """The `CheckReport` of samples.

    Args:
        explainer: an `Explainer`.
        arrays: a checked array per input.
        weights: weights on the outputs, or None for the largest logit.
        batch_size: how many samples go at a time.
    """
    if not len(arrays[0]):
        return CheckReport((), np.zeros(0), np.zeros(0))
    return (_by_node if explainer.strategy.accounts else _totals)(explainer, arrays, weights, batch_size)


def _totals(explainer, arrays, weights, batch_size):
    """Of methods whose attributions are not what one backward sweep hands back: no rows."""
    attributions, _, exponent, _ = explainer.run(arrays, weights, (), batch_size)
    sums = sum(array.astype("float64").sum(tuple(range(1, array.ndim))) for array in attributions)
    start = explainer.explained(arrays, weights, batch_size) - explainer.measured_from(arrays, weights, batch_size)
    return CheckReport((), start, np.ldexp(sums, exponent))


def _by_node(explainer, arrays, weights, batch_size):
    with_target = weights is not None

    def numbers(*tensors):
        inputs = tensors[: len(arrays)]
        weights, strategy, found = tensors[-1] if with_target else None, explainer.strategy, {}
        for side in strategy.sides(explainer):
            starts, swept, _ = strategy.swept(explainer, inputs, weights, side=side)
            for name, value in measured(starts, swept, explainer.graph.inputs).items():
                found[name] = found[name] + value if name in found else value
        return found

    program = explainer.program(("check", with_target), numbers, explainer.signature(with_target))
    flat = arrays if weights is None else [*arrays, weights]
    batches = []
    fixed = explainer.inputs.batch
    size = fixed or batch_size
    for start in range(0, len(arrays[0]), size):
        parts = [array[start : start + size] for array in flat]
        count = len(parts[0])
        outputs = program(*(padded(part, fixed or count) for part in parts))
        batches.append({name: np.asarray(value)[:count] for name, value in outputs.items()})
    whole = {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
    rules = {step.node.name: str(step.rule) for step in explainer.plan.every_step}
    start, at_input = whole.pop(_START), whole.pop(_INPUT)
    # Dict outputs of a compiled function come back sorted; the plan knows the order.
    rows = tuple(CheckRow(node, rule, *whole[node].T) for node, rule in reversed(rules.items()) if node in whole)
    return CheckReport(rows, start, at_input, _whole(explainer.plan))


def _whole(plan):
    """The nodes behind which all relevance that is under way is that of one value; none where it is not to be conserved."""
    if not any(isinstance(step.rule, LinearRule) for step in plan.every_step):
        return ()
    found, waiting = [], set(plan.graph.outputs)
    for step in reversed(plan.steps):
        if waiting.intersection(step.node.values) and not isinstance(step.rule, Evaluated):
            waiting.difference_update(step.node.values)
            waiting.update(step.node.inputs[place] for place in step.rule.hands_to(step.form))
            if len(waiting) == 1:
                found.append(step.node.name)
    return tuple(found)


_FIELDS = tuple(field.name for field in dataclasses.fields(CheckRow))[2:]
# Of the inputs and the output, in which samples lie along the first axis.
_PLAIN = Spec((), "float32")
# No nodes are called so.
_START, _INPUT = " start", " input"


def measured(starts: Sequence[tuple[Value, Any]], swept: Swept, inputs: Sequence[Value]) -> dict[str, Any]:
    """The numbers of a sweep as float64 tensors: node -> (batch, fields), and the totals (batch,).

    Args:
        starts: the relevance at the outputs, see `sweep.backward`.
        swept: a `Swept`.
        inputs: the graph's input values.
    """
    tensors = [start for _, start in starts]
    total = _sum(tensors, [_PLAIN] * len(tensors))
    numbers = {_START: total, _INPUT: ops.zeros_like(total)}
    for value in inputs:
        if value in swept.relevance:
            numbers[_INPUT] += backend.scale_wide(_sum((swept.relevance[value],), (_PLAIN,)), swept.exponents[value])
    for passage in swept.passages:
        if passage.inside is not None:
            # A recurrent layer's rows are those of what it does in a step, added up over all.
            plan, over_steps = passage.inside
            names = [step.node.name for step in plan.every_step if not isinstance(step.rule, Evaluated)]
            _, begun, sums = over_steps(measured=measured, names=names, size=len(_FIELDS))
            if begun:
                names, sums = [passage.call.form.name, *names], [_of_constants(begun), *sums]
            # A sample may be several to the layer, as in a series of series.
            sample: Any = passage.call.form.node.input_specs[0].samples
            sums = [ops.sum(ops.reshape(part, (-1, sample.rows, len(_FIELDS))), axis=1) for part in sums]
            numbers.update(
                {name: backend.scale_wide(part, passage.exponent[:, None]) for name, part in zip(names, sums, strict=True)}
            )
            continue
        row = _row(passage)
        fields = ops.stack([row[field] for field in _FIELDS], axis=1)
        numbers[passage.call.form.name] = backend.scale_wide(fields, passage.exponent[:, None])
    return numbers


def _of_constants(states):
    """The row of a recurrent layer itself: what arrived at the states with which it begins, where they are constants."""
    arrived = _sum(states, [_PLAIN] * len(states))
    return ops.stack([arrived if field in ("arrived", "bias") else ops.zeros_like(arrived) for field in _FIELDS], axis=1)


def _row(passage):
    node = passage.call.form.node
    arrived, handed_on = _sum(passage.arrived, node.output_specs), _sum(passage.handed_on, node.input_specs)
    arrived = ops.zeros_like(handed_on) if arrived is None else arrived
    handed_on = ops.zeros_like(arrived) if handed_on is None else handed_on
    zero = ops.zeros_like(arrived)
    row = dict.fromkeys(_FIELDS, zero)
    row.update(arrived=arrived, handed_on=handed_on)
    kind, lost = passage.call.form.kind, arrived - handed_on
    absorbed = passage.rule.absorbed(passage.call, passage.arrived)
    if absorbed is not None:
        row.update({reason: _sum((tensor,), node.output_specs) for reason, tensor in absorbed.items()})
        row["rest"] = lost - sum(row[reason] for reason in absorbed)
    elif passage.call.kernel is not None and isinstance(passage.call.form, LinearForm):
        row.update(_kernel_losses(passage, arrived, handed_on))
    elif kind in ("rectifier", "activation", "max", "opaque"):
        row["gate"] = lost
    elif kind == "route":
        # What is made of weights or constants alone is moved to no input.
        row["bias" if isinstance(node.operation, Source) or node.weights else "padding"] = lost
    elif kind == "embedding":
        row["rest"] = lost
    else:
        row["kernel"] = lost
    return row


def _kernel_losses(passage, arrived, handed_on):
    """Two sums tell padding from the rest: each unit's kernel over its whole fan-in, and over the taps in the image.

    The second is the forward map of an input of ones: a computation other than the one that is checked.
    """
    call, relevance = passage.call, ops.cast(passage.arrived[0], "float64")
    kernel = ops.cast(call.kernel, "float64")
    ones = tuple(ops.ones_like(x, dtype="float64") for x in call.inputs)
    specs = call.form.node.output_specs
    whole = _sum((relevance * call.form.spread(ops.sum(kernel, axis=call.form.fan_in)),), specs)
    inside = _sum((relevance * call.form.apply(ones, kernel),), specs)
    return {"kernel": arrived - whole, "padding": whole - inside, "rest": inside - handed_on}


def _sum(relevances, specs):
    """Sums over everything but the samples, in float64; None where there is nothing to sum."""
    pairs = [(r, spec) for r, spec in zip(relevances, specs, strict=False) if r is not None]
    sums = [ops.sum(by_sample(ops.cast(r, "float64"), spec), axis=1) for r, spec in pairs]
    return sum(sums[1:], sums[0]) if sums else None
