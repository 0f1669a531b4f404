"""What a rule is: how one call hands the relevance of its output to its inputs.

A rule is a frozen dataclass without state; its options are its fields. `sweep` calls `reverse` once per node.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection
from typing import Any, ClassVar, TypeVar

from innvest_lite.errors import InvalidInputError
from innvest_lite.forms import LinearForm

_RuleClass = TypeVar("_RuleClass", bound="type[Rule]")

# Saved composites name their rules, and only registered ones are made again: a file cannot run other code.
RULES: dict[str, type[Rule]] = {}


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
        constants: in plans with a rule that is `relative`, for each input the constant that was taken off, or None.
    """

    form: Any
    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]
    pullback: Callable[[tuple[Any, ...]], tuple[Any, ...]]
    kernel: Any = None
    nonnegative: bool = False
    prepared: Any = None
    constants: tuple[Any, ...] = ()


@dataclasses.dataclass(frozen=True)
class Rule:
    """The reverse-mode counterpart of a node.

    Attributes:
        kinds: the kinds of form that the rule understands; empty for any.
        needs_kernel: whether it back-projects with a kernel of the analyzer's (a pattern).
        needs_bounds: whether it has bounds of the model's input, and finds those of the node's input as
            `call.prepared`, where they are others.
        grows: whether relevance can grow without bound from layer to layer, so that a deep network leaves float32.
        relative: whether relevance goes by what a value has above the constant that the network adds to it: such a rule's
            plan takes constants off all inputs and outputs, see `innvest_lite.analyzers.constants`.
    """

    kinds: ClassVar[tuple[str, ...]] = ()
    needs_kernel: ClassVar[bool] = False
    needs_bounds: ClassVar[bool] = False
    relative: ClassVar[bool] = False

    @property
    def grows(self) -> bool:
        """See above; may depend on the rule's options."""
        return self.needs_kernel

    def is_for(self, form: Any) -> bool:
        """Whether the rule can serve a node: it is of one of the rule's kinds, and linear where a kernel is needed.

        Args:
            form: what the node is.
        """
        return (not self.kinds or form.kind in self.kinds) and (not self.needs_kernel or isinstance(form, LinearForm))

    def hands_to(self, form: Any) -> Collection[int]:
        """The inputs to which relevance may go; where none goes, the nodes before need no rule.

        Args:
            form: what the node is.

        Returns:
            Indices of the inputs.
        """
        return range(len(form.node.inputs))

    def reverse(self, call: Call, relevance: tuple[Any, ...]) -> tuple[Any, ...]:
        """Relevance of the inputs.

        Args:
            call: a `Call`.
            relevance: a tuple, for each output a tensor of its shape or None.

        Returns:
            A tuple, for each input a tensor of its shape or None.
        """
        raise NotImplementedError

    def prepare(self, form: Any, inputs: tuple[Any, ...], nonnegative: bool) -> tuple[tuple[Any, ...], Any] | None:
        """Evaluates the node in the rule's own way, where `reverse` can reuse parts of it; None: `form.forward` is used.

        Args:
            form: what the node is.
            inputs: the tensors that it takes.
            nonnegative: as in `Call`.

        Returns:
            None, or `(outputs, prepared)`: the node's outputs, and what `reverse` finds as `call.prepared`.
        """

    def absorbed(self, call: Call, relevance: tuple[Any, ...]) -> dict[str, Any] | None:
        """How much relevance the node absorbs, for `analyzer.check`; None where `check` can compute it from the form alone.

        Computed from the rule's formula, not from the result of `reverse`, so that the two check each other.

        Args:
            call: a `Call`.
            relevance: as for `reverse`.

        Returns:
            A dict from reason, "bias", "epsilon" (which also stands for denominators of 0), "kernel" or "softmax", see
            `CheckRow`, to a tensor of the output's shape.
        """

    def __str__(self) -> str:
        return repr(self).removesuffix("()")


@dataclasses.dataclass(frozen=True)
class Evaluated(Rule):
    """No rule: the method evaluates the node and propagates no relevance through it."""

    def __str__(self) -> str:
        return "-"


@dataclasses.dataclass(frozen=True)
class ByStep(Rule):
    """No rule: a recurrent layer is gone over step by step, by the rules of what it does in one, see `Step.inner`."""

    kinds = ("recurrent",)

    def __str__(self) -> str:
        return "step by step"


def register_rule(rule_class: _RuleClass) -> _RuleClass:
    """Class decorator: makes the rule `rule_class` known by name, under which saved analyzers find it again.

    The package's own tests run every registered rule on every form that it is for.

    Raises:
        InvalidInputError: it is not a frozen dataclass derived from `Rule` with a `reverse` of its own, or another rule
            has its name.
    """
    if not isinstance(rule_class, type) or not issubclass(rule_class, Rule) or rule_class.reverse is Rule.reverse:
        raise InvalidInputError(f"A rule is a class derived from innvest_lite.Rule with a reverse(), not {rule_class!r}.")
    parameters = rule_class.__dict__.get("__dataclass_params__")
    if parameters is None or not parameters.frozen:
        raise InvalidInputError(
            f"{rule_class.__name__} should be a dataclass: put @dataclasses.dataclass(frozen=True) below."
        )
    known = RULES.get(rule_class.__name__, rule_class)
    # The same class once more, as when a cell of a notebook is run twice, is no clash.
    if (known.__module__, known.__qualname__) != (rule_class.__module__, rule_class.__qualname__):
        raise InvalidInputError(f"{known.__module__} has a rule {rule_class.__name__} already; give yours another name.")
    RULES[rule_class.__name__] = rule_class
    return rule_class
