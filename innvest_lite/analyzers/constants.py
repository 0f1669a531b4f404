"""Constants that a network adds to its values, such as those of a BatchNormalization behind a ReLU, taken off them.

A linear layer behind such a constant sees x = x' + c. What c contributes is a bias, of which no input has a share; by x
itself, closed units would have one, and share and value could differ in sign. So rules that are `relative` see x' in place
of x, and relevance is that of what a value has above its constant. Called by the sweep.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from keras import ops

from innvest_lite import backend
from innvest_lite.graph import Value
from innvest_lite.rules import Call, Plan
from innvest_lite.rules.shares import share_above, wide

# Of these nodes, what a value has above its constant is what the node makes of that of its inputs.
_HAND_ON = ("scale", "normalization", "product", "matmul", "sum", "average", "max", "route")
# What these make of a constant depends on the sample: on its mean and standard deviation, on its gates and weights.
_BY_SAMPLE = ("normalization", "product", "matmul")
# These add a constant of their own.
_ADD = ("scale", "normalization")


def constants_of(plan: Plan, calls: Mapping[str, tuple[Any, ...]]) -> dict[Value, Any]:
    """The constant parts of values.

    Diagonal maps and normalizations behind a layer with weights add it (before the first, they are preprocessing, and
    belong to the input); sums, means, maxima, gates and what moves values hand it on; layers with weights and activations
    take it in. A sample's gates, and the mean and standard deviation of its normalizations, are constants.

    Args:
        plan: a `Plan`.
        calls: node name -> `(inputs, ...)`, as they were evaluated.

    Returns:
        `Value` -> a tensor in the shape of one sample of it, (1, ...), or where samples differ of all of them; none where
        no rule of the plan is relative.
    """
    found: dict[Value, Any] = {}
    if not any(step.rule.relative for step in plan.steps):
        return found
    behind: set[Value] = set()
    # Values whose constants differ from sample to sample.
    several: set[Value] = set()
    for step in plan.steps:
        node, kind = step.node, step.form.kind
        if kind == "linear" or behind.intersection(node.inputs):
            behind.update(node.values)
        adds = kind in _ADD and behind.intersection(node.inputs)
        if node.name in calls and kind in _HAND_ON and (adds or found.keys() & _sources(step)):
            taken = calls[node.name][0]
            given = [found.get(value, _nothing(x)) for value, x in zip(node.inputs, taken, strict=True)]
            differ = kind in _BY_SAMPLE or several.intersection(node.inputs) or not all(map(backend.is_float, taken))
            if differ:
                several.update(node.values)
                given = [ops.broadcast_to(constant, ops.shape(x)) for constant, x in zip(given, taken, strict=True)]
            found.update(zip(node.values, _handed_on(step.form, taken, given, differ), strict=True))
    return found


def _handed_on(form, taken, given, differ):
    """What a node makes of the constants of its inputs; of maxima, those of the values that are the largest."""
    if form.kind == "max" and differ:
        return backend.jvp(form.forward, taken, [ops.cast(c, x.dtype) for c, x in zip(given, taken, strict=True)])
    return form.held(*taken)(*given)


def _sources(step):
    """The values from which a node may have a constant; where nothing tells the signal from its gates, none is known."""
    if step.form.kind not in ("product", "matmul"):
        return set(step.node.inputs)
    place = getattr(step.form, "signal" if step.form.kind == "product" else "values", None)
    return set() if place is None else {step.node.inputs[place]}


def above(call: Call, inputs: tuple[Any, ...], outputs: tuple[Any, ...]) -> Call:
    """A call of what inputs and outputs have above their constants, each a tensor or None."""
    if all(constant is None for constant in (*inputs, *outputs)):
        return call
    unshifted = all(constant is None for constant in inputs)
    return dataclasses.replace(
        call,
        inputs=_less(call.inputs, inputs),
        outputs=_less(call.outputs, outputs),
        nonnegative=call.nonnegative and unshifted,
        constants=inputs,
    )


def relative(relevance: Any, value: Any, constant: Any) -> Any:
    """Relevance of a value as that of what it has above its constant, which keeps a share of its own by its size."""
    if constant is None:
        return relevance
    return wide(relevance) * share_above(wide(value), wide(constant))


def _less(values, constants):
    return tuple(x if constant is None else x - constant for x, constant in zip(values, constants, strict=True))


def _nothing(x):
    """A constant of 0; what is no float, such as a condition, is what it is in each sample."""
    return ops.zeros_like(x[:1]) if backend.is_float(x) else x
