"""What is said of explanations that say nothing, or something else than they seem to. Called by `Analyzer.analyze`."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from innvest_lite import backend
from innvest_lite.graph.ending import ending_of
from innvest_lite.rules.pattern import Pattern

if TYPE_CHECKING:
    from innvest_lite.analyzers.base import Analyzer
    from innvest_lite.analyzers.explainer import Explainer
    from innvest_lite.rules.composite import Plan

_log = logging.getLogger("innvest_lite")
# Of an image of 8 bits, some pixel is brighter; labels, counts and board positions are not.
_BRIGHT = 64
# A factor below this is for numbers up to 255.
_OF_PIXELS = 0.05
_AMONG_RIVALS = (
    ", although a softmax does not see a constant that is added to all logits. Weights as target= contrast it with others; "
    'start="contrast" of the pattern methods and LRP\'s epsilon do not depend on it.'
)


def tell(analyzer: Analyzer, relevance: list, explained: np.ndarray, explainer: Explainer) -> None:
    """Warns, once, of maps of zeros, of maps that a negative logit turned round, and of patterns alone through recurrence.

    Args:
        analyzer: whose explanations they are.
        relevance: an array per input, samples first.
        explained: the explained output of each sample.
        explainer: the engine that made them.
    """
    told = explainer.told
    empty = np.all([~array.any(axis=tuple(range(1, array.ndim))) for array in relevance], axis=0)
    if empty.any() and "empty" not in told:
        told.add("empty")
        why = analyzer.zeros_mean if (explained[empty] <= 0).any() else ""
        method = type(analyzer).__name__
        _log.warning("%s: the explanations of %d of %d samples are all 0%s.", method, empty.sum(), len(empty), why)
    negative = explained < 0
    # Of a function of the outputs it starts from each output by itself.
    if "turned" not in told and negative.any() and analyzer.turns_with_the_logit and ending_of(explainer.graph) is None:
        told.add("turned")
        _log.warning(
            "%d of %d explained logits are negative, and %s starts from the logit: there, its sign is turned round%s",
            negative.sum(),
            len(negative),
            type(analyzer).__name__,
            _AMONG_RIVALS if explainer.has_rivals else ".",
        )
    if "recurrent" in told:
        return
    # The plan stays what it is.
    told.add("recurrent")
    recurrent = [step.node.name for step in explainer.plan.steps if step.inner is not None and _by_patterns(step.inner)]
    if recurrent:
        _log.warning(
            "%s goes back over the steps of %s by patterns alone: what units share counts once for each of them, at every "
            "step again, so that early steps outgrow all others, and the map says little of where the evidence is "
            '(docs/sequences.md). PatternAttribution with shares="sample" hands on no more than arrives.',
            type(analyzer).__name__,
            ", ".join(recurrent),
        )


def _by_patterns(plan):
    """Whether some rule of a plan back-projects with patterns as they are."""
    return any(isinstance(step.rule, Pattern) for step in plan.every_step)


def tell_of_inputs(analyzer: Analyzer, arrays: Sequence[np.ndarray], explainer: Explainer) -> None:
    """Warns, once, of inputs outside of a rule's bounds, of 8-bit images that nothing scales, and of those scaled twice.

    Args:
        analyzer: what explains them.
        arrays: an array per input, samples first.
        explainer: the engine.
    """
    _tell_of_bounds(explainer, arrays)
    _tell_of_scaled_twice(explainer, arrays)
    if analyzer.preprocessor is None:
        _tell_of_bytes(explainer, arrays)


def _tell_of_bounds(explainer, arrays):
    """Of inputs outside of the bounds that a rule at the first layer was given."""
    if "bounds" in explainer.told:
        return
    for array, rule, axis in _bounded(explainer.plan, arrays):
        low, high = (_along(getattr(rule, end), axis, array.ndim) for end in ("low", "high"))
        # What was standardized exceeds the bounds of most now and then.
        slack = 0.1 * (high - low)
        if np.any(array < low - slack) or np.any(array > high + slack):
            explainer.told.add("bounds")
            _log.warning(
                "Inputs reach from %.4g to %.4g, outside of the bounds %s to %s that the first layer's rule has for the "
                "model's input: what it gives there means nothing. Say the least and the largest value that an input can "
                "have: low= and high= of Box and BoundedDeepTaylor, composite_options={'low': ..., 'high': ...} of LRP.",
                array.min(),
                array.max(),
                rule.low,
                rule.high,
            )
            return


def _tell_of_bytes(explainer, arrays):
    """Where the first sample looks like an 8-bit image and nothing scales it, neither in the model nor before it."""
    if "bytes" in explainer.told:
        return
    for value, array, name in zip(explainer.graph.inputs, arrays, explainer.inputs.names, strict=True):
        one = array[:1]
        if array.ndim != 4 or array.dtype.kind != "f" or not one.size or (one != np.rint(one)).any():
            continue
        if one.min() >= 0 and _BRIGHT < one.max() <= 255 and not _is_changed(explainer.plan, value):
            explainer.told.add("bytes")
            _log.warning(
                "Input %r holds whole numbers up to %d, like an 8-bit image, and the model scales nothing itself. If it "
                "was trained on other numbers, such as 0 to 1, give it those, or let preprocessor= make them.",
                name,
                one.max(),
            )


def _tell_of_scaled_twice(explainer, arrays):
    """Where images lie in 0..1, or -1..1, and the model scales its input as pixels in 0..255 want it."""
    if "twice" in explainer.told:
        return
    for value, array, name in zip(explainer.graph.inputs, arrays, explainer.inputs.names, strict=True):
        step = next((step for step in explainer.plan.steps if value in step.node.inputs), None)
        # The model first, which costs nothing: the numbers of all samples are read only where something scales them.
        if step is None or step.form.kind != "scale" or array.ndim != 4 or array.dtype.kind != "f" or not array.size:
            continue
        if 0 < np.abs(array).max() <= 1 and _shrinks(step, array[:1]):
            explainer.told.add("twice")
            _log.warning(
                "Input %r holds numbers up to %.3g, and the model itself scales pixels in 0 to 255 (%s), so that nearly "
                "nothing of them is left. If it was trained on images as they are, give it those.",
                name,
                np.abs(array).max(),
                step.node.name,
            )


def _shrinks(step, one):
    """Whether a node takes all that it sees to less than a twentieth, as a division by 127.5 or 255 does."""
    there, here = (backend.to_numpy(step.form.forward(given)[0]) for given in (one, np.zeros_like(one)))
    return float(np.abs(there - here).max()) < _OF_PIXELS * float(np.abs(one).max())


def _is_changed(plan, value):
    """Whether the numbers of an input are computed with before a layer with weights sees them."""
    same = {value}
    for step in plan.steps:
        if same.intersection(step.node.inputs) and step.form.kind != "linear":
            # What is moved, resized or pooled is still as large.
            if step.form.kind not in ("route", "average", "max"):
                return True
            same.update(step.node.values)
    return False


def _bounded(plan: Plan, arrays: Sequence[np.ndarray]) -> Iterator[tuple[np.ndarray, Any, int]]:
    """(array, rule, channel axis) of the inputs that reach a rule with bounds through preprocessing alone."""
    for step in plan.steps:
        before = plan.before(step.node) if step.rule.needs_bounds else None
        rule: Any = step.rule
        if before is not None and (rule.mapped or all(plan.forms[node.name].kind != "scale" for node in before.nodes)):
            taken = {value for node in (*before.nodes, step.node) for value in node.inputs}
            for value, array in zip(plan.graph.inputs, arrays, strict=True):
                form: Any = step.form
                if value in taken and array.size:
                    yield array, step.rule, form.input_channel_axis


def _along(bound: float | tuple[float, ...], axis: int, rank: int) -> np.ndarray:
    """A bound, or one for each channel, in the shape of an array of this rank."""
    values = np.asarray(bound)
    return values.reshape([-1 if other == axis else 1 for other in range(rank)]) if values.ndim else values


def tell_of_exponents(exponents: np.ndarray) -> None:
    """Warns of explanations that come back divided by powers of two.

    Args:
        exponents: int32 `(samples,)`.
    """
    if exponents.any():
        _log.warning(
            "The explanations of %d of %d samples leave the range of float32 and come back divided by a power of two; "
            "their direction is exact. return_exponent=True says by how much.",
            np.count_nonzero(exponents),
            len(exponents),
        )
