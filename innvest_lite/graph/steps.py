"""A layer that is applied to each step of a sequence, as that layer applied to all steps as if they were samples.

`TimeDistributed` calls its layer once a step. On steps that stand among the samples one call does, so that a node stays one
however long the sequence is, with one kernel and one pattern. Called by `trace`.
"""

from __future__ import annotations

from typing import Any

import keras

from innvest_lite.graph.arguments import Slot
from innvest_lite.graph.graph import Node, Samples, Spec
from innvest_lite.graph.plain import is_plain


class Fold:
    """Puts the steps of each sample behind each other, as samples: (batch, steps, ...) to (batch * steps, ...)."""

    def call(self, x: Any) -> Any:
        """All steps of all samples."""
        return keras.ops.reshape(x, (-1, *x.shape[2:]))

    __call__ = call


class Unfold:
    """The reverse.

    Args:
        steps: how many steps a sample has.
    """

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def call(self, x: Any) -> Any:
        """(batch * steps, ...) to (batch, steps, ...)."""
        return keras.ops.reshape(x, (-1, self.steps, *x.shape[1:]))

    __call__ = call


def is_stepwise(node: Node) -> bool:
    """Whether a node applies a layer to each of a known number of steps."""
    if not is_plain(node.operation, (keras.layers.TimeDistributed,)) or len(node.inputs) != 1:
        return False
    (spec,) = node.input_specs
    return None not in spec.shape[1:] and not spec.masked and spec.samples is not None and spec.samples.axis == 0


def folded(node: Node) -> tuple[Node, Node, Node]:
    """A stepwise node as three: its steps as samples, its layer's call, and the steps of each sample again.

    The last has the node's name.
    """
    (before,), (after,) = node.input_specs, node.output_specs
    steps, inner = int(before.shape[1] or 0), node.operation.layer
    samples = Samples(0, steps * (before.samples.rows if before.samples else 1))
    specs = [Spec((None, *spec.shape[2:]), spec.dtype, samples=samples) for spec in (before, after)]
    only: Any = ((Slot(0),), {})
    fold = Node(f"{node.name}/fold", Fold(), node.inputs, only, (before,), (specs[0],))
    call = Node(f"{node.name}/{inner.name}", inner, fold.values, only, (specs[0],), (specs[1],))
    return fold, call, Node(node.name, Unfold(steps), call.values, only, (specs[1],), (after,))
