"""What a rule is: how one call hands the relevance of its output to its inputs.

A rule is a frozen dataclass without state; its options are its fields. `sweep` calls `reverse` once per node.
"""

import dataclasses
from collections.abc import Callable
from typing import ClassVar

from innvest_lite.forms import Form

RULES = {}


@dataclasses.dataclass(frozen=True, eq=False)
class Call:
    """One evaluated node, as a rule sees it.

    Attributes:
        form: what the node is.
        inputs: the tensors that it took.
        outputs: the tensors that it made.
        pullback: relevance of the outputs (a tuple, None where an output has none) to the gradient's relevance of
            the inputs, a tuple.
        nonnegative: whether no input can be negative, whatever the model's input.
        prepared: what the rule's `prepare` left for `reverse`, or None.
        kernel: for rules with `needs_kernel`, the kernel to back-project with; else None.
    """

    form: Form
    inputs: tuple
    outputs: tuple
    pullback: Callable
    kernel: object = None
    nonnegative: bool = False
    prepared: object = None


@dataclasses.dataclass(frozen=True)
class Rule:
    """The reverse-mode counterpart of a node.

    Attributes:
        kinds: the kinds of form that the rule understands; empty for any.
        needs_kernel: whether it back-projects with a kernel of the analyzer's (a pattern).
        grows: whether relevance can grow without bound from layer to layer, so that a deep network leaves float32.
    """

    kinds: ClassVar[tuple] = ()
    needs_kernel: ClassVar[bool] = False

    @property
    def grows(self):
        """See above; a rule may decide by its options."""
        return self.needs_kernel

    def reverse(self, call, relevance):
        """Relevance of the inputs.

        Args:
            call: a `Call`.
            relevance: a tuple, for each output a tensor of its shape or None.

        Returns:
            A tuple, for each input a tensor of its shape or None.
        """
        raise NotImplementedError

    def prepare(self, form, inputs, nonnegative):
        """Evaluates the node in the rule's own way, where `reverse` can use what comes up; None: `form.forward` will do.

        Args:
            form: what the node is.
            inputs: the tensors that it takes.
            nonnegative: as in `Call`.

        Returns:
            None, or `(outputs, prepared)`: the node's outputs, and what `reverse` finds as `call.prepared`.
        """

    def absorbed(self, call, relevance):
        """What the node keeps of the relevance, for `analyzer.check`; None where `check` can tell by the form alone.

        Computed from the rule's formula, not from what `reverse` gave.

        Args:
            call: a `Call`.
            relevance: as for `reverse`.

        Returns:
            A dict from reason, "bias" or "epsilon" (which also stands for denominators of 0), to a tensor of the
            output's shape.
        """

    def __str__(self):
        return repr(self).removesuffix("()")


def register_rule(rule_class):
    """Class decorator: makes a rule known by name, and runs it through the contract tests of the package."""
    RULES[rule_class.__name__] = rule_class
    return rule_class
