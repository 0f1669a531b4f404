"""Class 0 of one sigmoid unit, as a network of its own: the one that puts out -z, whose last weights are the negative ones.

To the gradient, a weight of -1 on z is the same. To rules that treat positive and negative contributions apart it is not:
what speaks for class 0 are the contributions that z+ leaves out. Called by the backward sweep.
"""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

from keras import ops

from innvest_lite.forms import LinearForm
from innvest_lite.graph.masks import copy_mask
from innvest_lite.rules.composite import Plan, Step
from innvest_lite.rules.first_layer import Flat, WSquare
from innvest_lite.rules.gradient import Gradient
from innvest_lite.rules.lrp import Epsilon, Zero
from innvest_lite.rules.pattern import Pattern
from innvest_lite.rules.pattern_shares import PatternEvidence, PatternShares

# To these, the network that puts out -z and a weight of -1 are the same; w * a of both networks is.
_ODD = (Gradient, Zero, Epsilon, Flat, WSquare, Pattern, PatternEvidence, PatternShares)


def mirrored(plan: Plan) -> Plan | None:
    """The plan of the network that puts out the negative of a plan's output.

    Args:
        plan: a `Plan`.

    Returns:
        A `Plan`; None where a weight of -1 is the same, or where more than sums, means and moves lies behind the last
        layers with weights.
    """
    last, between = plan.ends()
    if not last or all(isinstance(step.rule, _ODD) for step in last):
        return None
    users = {
        user.name
        for step in (*last, *between)
        for value in step.node.values
        for user in plan.graph.consumers.get(value, ())
    }
    names = {step.node.name for step in last}
    if not all(map(_only_adds, between)) or not users <= {step.node.name for step in between}:
        return None
    # What lies behind adds up values of the last layers alone, and no input of the model.
    if not all(isinstance(step.form, LinearForm) for step in last) or any(
        value in plan.graph.inputs for step in between for value in step.node.inputs
    ):
        return None
    turned = (
        dataclasses.replace(step, form=negated(step.form)) if step.node.name in names else step for step in plan.steps
    )
    return Plan(plan.graph, tuple(turned))


def _only_adds(step: Step) -> bool:
    """Whether a node sums, averages or moves values: of the negative of its inputs it makes that of its output."""
    form = step.form
    return form.kind == "route" or (form.kind in ("sum", "average") and isinstance(form, LinearForm))


def negated(form: Any) -> Any:
    """A linear form with the negative weights and bias."""
    cls: Any = type(form)

    # By what the form itself gives: its forward pass need not go by `kernel`, as behind BatchNormalization.
    class Negated(cls):
        def kernel(self):
            return -form.kernel()

        def bias(self):
            bias = form.bias()
            return None if bias is None else -bias

        def is_positive(self):
            return ops.logical_not(form.is_positive())

        def forward(self, *inputs):
            return tuple(copy_mask(output, -output) for output in form.forward(*inputs))

    made = copy.copy(form)
    object.__setattr__(made, "__class__", Negated)
    return made
