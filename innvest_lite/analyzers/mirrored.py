"""Class 0 of one sigmoid unit, as a network of its own: the one that puts out -z, whose last weights are the negative ones.

To the gradient, a weight of -1 on z is the same. To rules that treat positive and negative contributions apart it is not:
what speaks for class 0 are the contributions that z+ leaves out. Called by the backward sweep.
"""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

from innvest_lite.forms import LinearForm
from innvest_lite.graph import Node
from innvest_lite.rules.composite import Plan
from innvest_lite.rules.first_layer import Flat, WSquare
from innvest_lite.rules.gradient import Gradient
from innvest_lite.rules.lrp import Epsilon, Zero

# To these, the network that puts out -z and a weight of -1 are the same.
_ODD = (Gradient, Zero, Epsilon, Flat, WSquare)


def mirrored(plan: Plan) -> Plan | None:
    """The plan of the network that puts out the negative of a plan's output.

    Args:
        plan: a `Plan`.

    Returns:
        A `Plan`; None where a weight of -1 is the same, or where more than sums, means and moves lies behind the last
        layers with weights.
    """
    steps = {step.node.name: step for step in plan.steps}
    last, between = _last_linear(plan, steps)
    if not last or all(steps[node.name].rule.needs_kernel or isinstance(steps[node.name].rule, _ODD) for node in last):
        return None
    values = [value for node in (*last, *between) for value in node.values]
    if not {user.name for value in values for user in plan.graph.consumers.get(value, ())} <= {n.name for n in between}:
        return None
    names = {node.name for node in last}
    turned = (
        dataclasses.replace(step, form=negated(step.form)) if step.node.name in names else step for step in plan.steps
    )
    return Plan(plan.graph, tuple(turned))


def _last_linear(plan: Plan, steps: dict) -> tuple[list[Node], list[Node]]:
    """The last nodes with weights, and what lies behind them; two empty lists where that is more than sums and moves."""
    waiting = [plan.graph.outputs[0]]
    last: list[Node] = []
    between: list[Node] = []
    while waiting:
        node = plan.graph.producer(waiting.pop())
        if node is None:
            return [], []
        form = steps[node.name].form
        if form.kind == "linear" and isinstance(form, LinearForm):
            last.append(node)
        elif form.kind == "route" or (form.kind in ("sum", "average") and isinstance(form, LinearForm)):
            between.append(node)
            waiting.extend(node.inputs)
        else:
            return [], []
    return last, between


def negated(form: Any) -> Any:
    """A linear form with the negative weights and bias."""
    cls: Any = type(form)

    class Negated(cls):
        def kernel(self):
            return -cls.kernel(self)

        def bias(self):
            bias = cls.bias(self)
            return None if bias is None else -bias

    made = copy.copy(form)
    object.__setattr__(made, "__class__", Negated)
    return made
