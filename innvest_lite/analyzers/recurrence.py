"""Relevance through recurrent layers: over the steps and back, each by the plan of what the layer does in one.

The sweep hands its own two functions in, with which it goes through a graph. Nothing but the states is kept of a step:
going back, what it does is worked out once more (memory linear in the number of steps).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from innvest_lite.graph import Value
from innvest_lite.graph.arguments import Slot
from innvest_lite.graph.recurrence import Given, backwards, forwards
from innvest_lite.rules import Plan, Step


@dataclasses.dataclass(frozen=True, eq=False)
class Steps:
    """A recurrent layer that was gone over.

    Attributes:
        given: what it was called with.
        states: the states before each step, steps first.
    """

    given: Given
    states: list[Any]


def evaluated(step: Step, inputs: Sequence[Any], forward: Callable[..., Any]) -> tuple[tuple[Any, ...], Steps]:
    """`(outputs, steps)` of a recurrent layer.

    Args:
        step: its step of the plan, with `inner`.
        inputs: the tensors that it takes.
        forward: of a plan and tensors, `(values, calls)`.
    """
    plan: Any = step.inner
    given = Given.of_node(step.node, inputs)

    def one(*tensors: Any) -> list[Any]:
        values, _ = forward(plan, tensors)
        return [values[value] for value in plan.graph.outputs]

    outputs, states = forwards(step.node, one, given)
    return tuple(outputs), Steps(given, states)


def handed_back(
    step: Step,
    steps: Steps,
    arrived: Sequence[Any],
    back: Callable[[Plan, Sequence[Any], Sequence[tuple[Value, Any]]], tuple[Mapping[Value, Any], Sequence[Any]]],
    more: Sequence[Any] = (),
) -> tuple[tuple[Any, ...], list[Any], list[Any]]:
    """Relevance of what a recurrent layer takes.

    Args:
        step: its step of the plan, with `inner`.
        steps: what `evaluated` gave.
        arrived: the relevance of what the layer gives.
        back: of a plan, what it takes, and where relevance starts with how much: the relevance of the graph's values, and
            what is added up over all steps.
        more: what is added to, see `graph.recurrence.backwards`.

    Returns:
        `(relevance, begun, sums)`: for each input of the node a tensor or None; that of the states with which it begins,
        where they are constants, a list; and the sums.
    """
    plan: Any = step.inner

    def one(taken: Any, before: Sequence[Any], output: Any, after: Sequence[Any]) -> tuple[list[Any], Any]:
        starts = list(zip(plan.graph.outputs, [output, *after], strict=True))
        relevance, added = back(plan, [taken, *before], starts)
        return [relevance.get(value) for value in plan.graph.inputs], added

    found, sums = backwards(step.node, one, steps.given, steps.states, arrived, more)
    places = _places(step.node)
    handed = [None] * len(step.node.inputs)
    for place, relevance in zip(places, found, strict=False):
        handed[place] = relevance
    return tuple(handed), found[len(places) :], sums


def _places(node):
    """Which inputs of a node are its sequences and, where they are given, its initial states."""
    args, kwargs = node.arguments
    given = {**dict(zip(("sequences", "initial_state", "mask"), args, strict=False)), **kwargs}
    several = [given["sequences"], given.get("initial_state")]
    return [leaf.index for leaf in keras.tree.flatten(several) if isinstance(leaf, Slot)]
