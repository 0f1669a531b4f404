"""Running a plan: forward through the graph, then the relevance back, summed where a value fans out.

`forward` and `backward` are pure functions of a plan and tensors; the analyzers compile them together.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from keras import ops

from innvest_lite import backend
from innvest_lite.analyzers import recurrence
from innvest_lite.analyzers.constants import above
from innvest_lite.analyzers.samples import by_sample, scaled
from innvest_lite.graph import Value
from innvest_lite.graph.interpret import interpret
from innvest_lite.rules import Call, Gradient, Plan, Rule

# PatternNet grows by about two orders of magnitude a convolution (docs/design.md, decision 8); float32 ends at 1e38.
_KERNELS_BETWEEN_RESCALES = 3
# A float32's largest exponent, and the smallest at which 24 bits below the maximum are still normal numbers.
_LARGEST_EXPONENT, _SMALLEST_EXPONENT = 126, -102


@dataclasses.dataclass(frozen=True, eq=False)
class Passage:
    """What one node did with relevance: for `check`. All tensors stand scaled by 2**-exponent."""

    rule: Rule
    call: Call
    arrived: tuple[Any, ...]
    handed_on: tuple[Any, ...]
    exponent: Any
    #: Of a recurrent layer: the plan of one step, and what adds up numbers of all, see `_back_over_steps`.
    inside: tuple[Plan, Callable[..., Any]] | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Swept:
    """The result of a backward sweep.

    Attributes:
        relevance: `Value` -> tensor, for the graph's inputs and the values to keep; absent where none arrived.
        exponents: `Value` -> int32 (batch,): the true relevance is `relevance * 2**exponents`.
        exponent: int32 (batch,): that of the inputs.
        passages: a `Passage` per node, in the order of the sweep.
        rescales: how many exponents were added up, each at most 126 in magnitude; None: any number.
    """

    relevance: dict[Value, Any]
    exponents: dict[Value, Any]
    exponent: Any
    passages: tuple[Passage, ...]
    rescales: int | None = None


def forward(
    plan: Plan, inputs: Sequence[Any], given: Mapping[Value, Any] | None = None
) -> tuple[dict[Value, Any], dict[str, tuple[Any, ...]]]:
    """Evaluates the graph, so that relevance can go back through it.

    Args:
        plan: a `Plan`.
        inputs: a tensor for each input of the graph.
        given: `Value` -> tensor, to stand in for an input or for the only output of a node.

    Returns:
        `(values, calls)`: `Value` -> tensor, and node name -> `(inputs, outputs, pullback, prepared)`, without the given
        nodes.
    """
    steps, given, calls = {step.node.name: step for step in plan.steps}, given or {}, {}

    def evaluated(node, taken):
        outputs, pullback, prepared = _evaluated(steps[node.name], taken)
        if steps[node.name].rule.needs_bounds:
            prepared = _bounds(plan, steps[node.name], inputs)
        if node.values[0] not in given:
            calls[node.name] = (taken, outputs, pullback, prepared)
        return outputs

    return interpret(plan.graph, evaluated, inputs, given), calls


def _evaluated(step, inputs):
    """`(outputs, pullback, prepared)` of a node, in its rule's way where that has one, else in the form's."""
    if step.inner is not None:
        outputs, steps = recurrence.evaluated(step, inputs, forward)
        return outputs, None, steps
    ready = step.rule.prepare(step.form, inputs, step.nonnegative)
    if ready is None and step.form.kind == "route" and any(map(backend.is_whole, inputs)):
        outputs = step.form.forward(*inputs)
        if all(map(backend.is_whole, outputs)):
            return outputs, _moved_back(step.form, inputs), None
    if ready is None:
        return *backend.vjp(step.form.forward, *inputs), None
    outputs, prepared = ready
    return outputs, None, prepared


def _moved_back(form, inputs):
    """The pullback of what moves whole numbers: relevance of tokens goes back as that of floats in their places."""

    def pullback(arrived):
        floats = [ops.cast(x, "float32") if backend.is_whole(x) else x for x in inputs]
        _, back = backend.vjp(form.moved, *floats)
        return back(arrived)

    return pullback


def _bounds(plan, step, inputs):
    """The least and the largest values that a node can take, one sample each, by its rule's bounds.

    They are those of the model's input where only preprocessing lies between; None: those of the node's own input.
    """
    rule, before = step.rule, plan.before(step.node)
    if before is None or not rule.mapped:
        return None
    sources = {value for node in (*before.nodes, step.node) for value in node.inputs}
    ends = []
    for bound in (rule.low, rule.high):
        given = [
            rule.filled(x[:1], bound, step.form) if value in sources else x
            for value, x in zip(plan.graph.inputs, inputs, strict=True)
        ]
        values = interpret(before, lambda node, taken: plan.forms[node.name].forward(*taken), given)
        ends.append(values[step.node.inputs[0]])
    # A negative factor on the way exchanges them.
    return ops.minimum(*ends), ops.maximum(*ends)


def backward(
    plan: Plan,
    calls: Mapping[str, tuple[Any, ...]],
    starts: Sequence[tuple[Value, Any]],
    kernels: Mapping[str, Any],
    keep: Sequence[Value] = (),
    rescale: bool = False,
    *,
    constants: Mapping[Value, Any] | None = None,
) -> Swept:
    """Hands relevance from the output back to the inputs.

    Args:
        plan: a `Plan`.
        calls: what `forward` returned.
        starts: where it begins: values, those of the outputs, and the relevance of each, in its shape.
        kernels: node name -> the kernel that a rule with `needs_kernel` back-projects with.
        keep: values whose relevance is wanted besides the inputs'.
        rescale: keep all relevance under way near 1, sample by sample, by powers of two.
        constants: `Value` -> the constant that is taken off it before a rule sees it, see `constants`.

    Returns:
        A `Swept`.
    """
    wanted, constants = (*plan.graph.inputs, *keep), constants or {}
    pending: dict[Value, list] = {}
    _add(pending, *zip(*starts, strict=True))
    exponent = ops.zeros(ops.shape(starts[0][1])[:1], "int32")
    kept, passages, grown, rescales, interval = {}, [], 0, 0, _rescaling_interval(plan)
    # Below the last one nothing grows, and what comes out is brought back anyway; but float16 has no room for what shrinks.
    last = None if interval == 1 else next((step for step in plan.steps if step.rule.grows), None)
    for step in reversed(plan.steps):
        if not any(value in pending for value in step.node.values):
            continue
        pairs = zip(step.node.values, step.node.output_specs, strict=True)
        arrived = tuple(_as_wide(_total(pending.pop(value, None)), spec.dtype) for value, spec in pairs)
        here = zip(step.node.values, arrived, strict=True)
        kept.update({value: (tensor, exponent) for value, tensor in here if tensor is not None and value in wanted})
        if step.node.name not in calls:
            continue
        taken, outputs, pullback, prepared = calls[step.node.name]
        kernel = kernels.get(step.node.name)
        call = Call(step.form, taken, outputs, pullback, kernel, step.nonnegative, prepared)
        call = above(call, tuple(map(constants.get, step.node.inputs)), tuple(map(constants.get, step.node.values)))
        inside = None
        if step.inner is None:
            with backend.after(_awaited(step.rule, arrived)):
                handed_on = step.rule.reverse(call, arrived)
        else:
            over_steps = functools.partial(_back_over_steps, step, prepared, arrived, kernels)
            inside = step.inner, over_steps
            handed_on, *_ = over_steps()
        passages.append(Passage(step.rule, call, arrived, handed_on, exponent, inside))
        _add(pending, step.node.inputs, handed_on)
        grown += step.rule.grows
        if rescale and step.rule.grows and grown % interval == 0 and step is not last:
            pending, exponent = _rescaled(pending, exponent, plan.graph)
            rescales += 1
    kept.update({value: (_total(pending[value]), exponent) for value in wanted if value in pending})
    relevance = {value: tensor for value, (tensor, _) in kept.items()}
    exponents = {value: then for value, (_, then) in kept.items()}
    return Swept(relevance, exponents, exponent, tuple(passages), rescales)


def _awaited(rule, arrived):
    """What a rule's operations wait for; None: for nothing."""
    # Else what it makes of forward values alone, such as a denominator, would be made early and kept till relevance comes,
    # beside the values. Of a derivative, what is made early is one tensor in place of several.
    return None if isinstance(rule, Gradient) else next(tensor for tensor in arrived if tensor is not None)


def _back_over_steps(step, steps, arrived, kernels, *, measured=None, names=(), size=0):
    """`(relevance of the inputs, that of states that are constants, sums)` of a recurrent layer.

    The sums are those of the numbers, `size` for each sample, that `measured` gives of a sweep by name.
    """

    def back(plan, tensors, starts):
        _, calls = forward(plan, tensors)
        swept = backward(plan, calls, starts, kernels)
        found = measured(starts, swept, plan.graph.inputs) if measured else {}
        return swept.relevance, [found.get(name, 0.0) for name in names]

    batch = ops.shape(steps.given.sequences)[0]
    more = [ops.zeros((batch, size), "float64") for _ in names]
    return recurrence.handed_back(step, steps, arrived, back, more)


def undo_rescaling(swept: Swept) -> Swept:
    """Brings each sample whose true values fit in float32 back to them; the others keep one exponent for all values."""
    if swept.rescales == 0:
        return swept
    left = ops.where(_fits(swept), 0, swept.exponent)
    # One exponent is the difference of any two of its sums; of several, the power may be no float32.
    undone = _undone_at_once if swept.rescales == 1 else backend.scale_by_powers_of_two
    relevance = {value: undone([tensor], swept.exponents[value] - left)[0] for value, tensor in swept.relevance.items()}
    return dataclasses.replace(swept, relevance=relevance, exponents=dict.fromkeys(relevance, left), exponent=left)


def _undone_at_once(tensors, exponent):
    return backend.times_factors(tensors, [backend.power_of_two(exponent)])


def added(found: Sequence[tuple[Sequence[tuple[Value, Any]], Swept]]) -> Swept:
    """The sum of sweeps that `undo_rescaling` gave or that need none, each with its starts; without passages.

    A sample whose first start is 0 everywhere has the exponent of the second.
    """
    (starts, first), *others = found
    for _, second in others:
        ((_, start),) = starts
        begins = ops.any(ops.not_equal(ops.reshape(start, (ops.shape(start)[0], -1)), 0), axis=1)
        exponent = ops.where(begins, first.exponent, second.exponent)
        relevance = {
            value: backend.scale_by_powers_of_two([tensor], first.exponent - exponent)[0]
            + backend.scale_by_powers_of_two([second.relevance[value]], second.exponent - exponent)[0]
            for value, tensor in first.relevance.items()
        }
        first = Swept(relevance, dict.fromkeys(relevance, exponent), exponent, ())
    return first


def _fits(swept):
    """Per sample, whether the largest of its true values is a float32 with all its bits; where all are 0 it is."""
    tops, zeros = [], []
    for value, tensor in swept.relevance.items():
        largest = _magnitude([tensor])
        tops.append(swept.exponents[value] + backend.exponents(largest))
        zeros.append(largest == 0)
    if not tops:
        return ops.ones_like(swept.exponent, dtype="bool")
    if len(tops) == 1:
        (top,), (none,) = tops, zeros
    else:
        zeros = ops.stack(zeros)
        top, none = ops.max(ops.where(zeros, _SMALLEST_EXPONENT - 1, ops.stack(tops)), axis=0), ops.all(zeros, axis=0)
    return ops.logical_or(none, ops.logical_and(top <= _LARGEST_EXPONENT, top >= _SMALLEST_EXPONENT))


def _as_wide(relevance, dtype):
    """Relevance as float64 where its value is float64 and only there: layers of both precisions may follow each other."""
    wide = dtype == "float64"
    same = relevance is None or (relevance.dtype == "float64") == wide
    return relevance if same else ops.cast(relevance, "float64" if wide else "float32")


def _rescaling_interval(plan):
    """How many kernels lie between rescales; float16 ends at 65504, so there it is every one."""
    half = any(spec.dtype == "float16" for step in plan.steps for spec in step.node.output_specs)
    return 1 if half else _KERNELS_BETWEEN_RESCALES


def _add(pending, values, relevances):
    for value, relevance in zip(values, relevances, strict=True):
        if relevance is not None:
            pending.setdefault(value, []).append(relevance)


def _total(relevances):
    """Sums what arrived at a value from all its consumers; None where nothing did."""
    if relevances is None or len(relevances) == 1:
        return relevances and relevances[0]
    if len({relevance.dtype for relevance in relevances}) > 1:
        # Under mixed precision, rules with a kernel hand on float32 and the others the model's dtype.
        widest = "float64" if any(relevance.dtype == "float64" for relevance in relevances) else "float32"
        relevances = [ops.cast(relevance, widest) for relevance in relevances]
    return backend.add_up(relevances)


def _rescaled(pending, exponent, graph):
    pending = {value: _total(relevances) for value, relevances in pending.items()}
    specs = list(map(graph.spec, pending))
    if any(spec.samples is None for spec in specs):
        # Of what holds nothing of one sample alone, later.
        return {value: [tensor] for value, tensor in pending.items()}, exponent
    tensors = list(pending.values())
    # A normal number, so that one multiplication is enough.
    shift, factor = backend.towards_one(_magnitude([by_sample(x, spec) for x, spec in zip(tensors, specs, strict=True)]))
    tensors = scaled(tensors, specs, factor)
    return {value: [tensor] for value, tensor in zip(pending, tensors, strict=True)}, exponent + shift


def _magnitude(tensors):
    """Per sample, the largest magnitude among several tensors, in float32."""
    largest = []
    for tensor in tensors:
        axes = tuple(range(1, len(tensor.shape)))
        # Without a tensor of magnitudes, which would take longer to write than these take to read.
        largest.append(ops.cast(ops.maximum(ops.max(tensor, axis=axes), -ops.min(tensor, axis=axes)), "float32"))
    return largest[0] if len(largest) == 1 else ops.max(ops.stack(largest), axis=0)
