"""The rules of PatternNet and PatternAttribution (Kindermans et al. 2017, arXiv 1705.05598, section 4).

Which kernel a linear node back-projects with, the pattern a or the product w * a, is the analyzer's choice; the rules
are the same. A diagonal map z = w x has the closed pattern a = 1/w. Shares of one sample by patterns: `pattern_shares`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import Any

from keras import ops

from innvest_lite import backend
from innvest_lite.options import truth
from innvest_lite.rules.base import Call, Rule, register_rule


@register_rule
@dataclasses.dataclass(frozen=True)
class Pattern(Rule):
    """The gradient's backward pass of a linear node with the kernel replaced; the bias is ignored.

    Kindermans et al. 2017 (arXiv 1705.05598), section 4.
    """

    kinds = ("linear", "sum", "average")
    needs_kernel = True

    def reverse(self, call: Call, relevance: tuple[Any, ...]) -> tuple[Any, ...]:
        """R_in = A' R_out, where A is the node's map with the pattern as its kernel."""
        # In the pattern's dtype: a model of float16 would overflow, since PatternNet grows with depth
        # (docs/design.md, decision 8).
        return call.form.vjp_inputs(call.inputs, call.kernel, ops.cast(relevance[0], call.kernel.dtype))


@register_rule
@dataclasses.dataclass(frozen=True)
class InverseScale(Rule):
    """The closed pattern of a diagonal map, for PatternNet: a = 1/w, and 0 where w is 0.

    It follows from w'a = 1 of Kindermans et al. 2017, arXiv 1705.05598. A normalization is a diagonal map whose weight is
    the sample's own, its statistics being constants, as in Achtibat et al. 2024 (arXiv 2402.05602).
    """

    kinds = ("scale", "normalization")

    def reverse(self, call: Call, relevance: tuple[Any, ...]) -> tuple[Any, ...]:
        """R_in = R_out / w."""
        if call.form.kind == "normalization":
            return (_divided(relevance[0], call.form.weight(*call.inputs)),)
        # The VJP of ones is w, whatever layer makes the diagonal map: BatchNormalization, Rescaling, LayerScale, ...
        (weight,) = call.pullback((ops.ones_like(call.outputs[0]),))
        # Whole numbers, such as those of a mask, have no share.
        return (None if weight is None else _divided(relevance[0], weight),)


@register_rule
@dataclasses.dataclass(frozen=True)
class Pass(Rule):
    """Hands relevance on unchanged: at activations in LRP; w * a = 1 of a diagonal map, for PatternAttribution.

    So it does at a normalization, with its statistics as constants. As Bach et al.
    2015 (doi 10.1371/journal.pone.0130140) do, and Achtibat et al. 2024 (arXiv 2402.05602) at normalizations, and as
    Kindermans et al. 2017 (arXiv 1705.05598) implies.
    """

    kinds = ("scale", "normalization", "rectifier", "activation")

    def reverse(self, call: Call, relevance: tuple[Any, ...]) -> tuple[Any, ...]:
        """R_in = R_out."""
        return (relevance[0],)


@register_rule
@dataclasses.dataclass(frozen=True)
class GatedSignal(Rule):
    """A product of a signal and gates: the gates are constants, so the node is a diagonal map of the signal.

    Gates as constants: Arras et al. 2017 (arXiv 1706.07206); the map: as `InverseScale` and `Pass`.

    Attributes:
        inverse: divide by the gate (PatternNet, a = 1/w) or hand on unchanged (PatternAttribution, w * a = 1).
    """

    kinds = ("product",)
    inverse: bool = False

    def __post_init__(self) -> None:
        truth(self.inverse, "inverse")

    def is_for(self, form: Any) -> bool:
        """Where it is known which input carries the signal."""
        return super().is_for(form) and getattr(form, "signal", None) is not None

    def hands_to(self, form: Any) -> Collection[int]:
        """The signal."""
        return (form.signal,)

    def reverse(self, call: Call, relevance: tuple[Any, ...]) -> tuple[Any, ...]:
        """R_signal = R_out, or R_out / gate; the gates get nothing."""
        signal = call.form.signal
        passed = relevance[0]
        if self.inverse:
            # In the signal alone, with the gates as constants; its VJP of ones is then the gate.
            _, pullback = backend.vjp(lambda x: call.form.forward(*_with(call.inputs, signal, x))[0], call.inputs[signal])
            passed = _divided(passed, pullback(ops.ones_like(call.outputs[0]))[0])
        return tuple(passed if index == signal else None for index in range(len(call.inputs)))


def _divided(relevance, weight):
    """relevance / weight in float32 or wider, 0 where the weight is 0."""
    dtype = relevance.dtype if relevance.dtype == "float64" else "float32"
    relevance, weight = ops.cast(relevance, dtype), ops.cast(weight, dtype)
    # Where w is 0 the input does not reach the output and the data determines no pattern: 0, as for a dead unit
    # (docs/design.md, decision 4). The inner `where` keeps the division itself free of NaN.
    zero = ops.equal(weight, 0)
    return ops.where(zero, 0, relevance / ops.where(zero, 1, weight))


def _with(values, index, value):
    return (*values[:index], value, *values[index + 1 :])
