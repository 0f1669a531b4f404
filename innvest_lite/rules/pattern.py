"""The rules of PatternNet and PatternAttribution (Kindermans et al. 2017, arXiv 1705.05598, section 4).

Which kernel a linear node back-projects with, the pattern a or the product w * a, is the analyzer's choice; the rules
are the same. A diagonal map z = w x has the closed pattern a = 1/w.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from keras import ops

from innvest_lite import backend
from innvest_lite.options import truth
from innvest_lite.rules.base import Call, Rule, register_rule
from innvest_lite.rules.lrp import PositiveShares
from innvest_lite.rules.shares import Signed


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


class SharesByPattern(PositiveShares):
    """Positive contributions with what the analyzer makes of patterns in place of weights."""

    needs_kernel = True

    @property
    def grows(self) -> bool:
        """There is no more in the shares than arrived."""
        return False

    def reverse(self, call: Call, relevance: tuple[Any, ...]) -> tuple[Any, ...]:
        """As z+, in the pattern's dtype, float32, whatever the model's is."""
        return super().reverse(call, (ops.cast(relevance[0], call.kernel.dtype),))


@register_rule
@dataclasses.dataclass(frozen=True)
class PatternShares(SharesByPattern):
    """z+ with the kernel v = w * a: what inputs contribute in this sample, as far as patterns take it for signal.

    R_i = sum_j (x_i v_ij)+ / sum_k (x_k v_kj)+ R_j without the bias: the z+ rule (Montavon et al. 2017, doi
    10.1016/j.patcog.2016.11.008, eq. 15) with the product of PatternAttribution (Kindermans et al. 2017, arXiv 1705.05598)
    in place of the weight. There, an input's share is the same in all samples; here, inputs of 0 get nothing, so that
    little is lost at closed rectifiers.
    """

    kinds = ("linear", "sum", "average")

    def contributions(self, call: Call) -> Signed:
        """Those of the analyzer's kernel."""
        return Signed(call, ops.relu(call.kernel), -ops.relu(-call.kernel))


@register_rule
@dataclasses.dataclass(frozen=True)
class PatternMagnitudes(SharesByPattern):
    """How large inputs contribute in this sample: R_i = sum_j |x_i v_ij| / sum_k |x_k v_kj| R_j, with v = w * a.

    For sums and means, of whose few addends often none is positive, so that of z+ (Montavon et al. 2017, doi
    10.1016/j.patcog.2016.11.008, eq. 15) nothing would be left; v as in `PatternShares`.
    """

    kinds = ("sum", "average")

    def contributions(self, call: Call) -> Signed:
        """Their magnitudes."""
        return Signed(call, ops.abs(call.kernel), -ops.abs(call.kernel))


@register_rule
@dataclasses.dataclass(frozen=True)
class PatternEvidence(SharesByPattern):
    """Half by what speaks for a unit in this sample, half by what does on average: for kernels that serve one position.

    With u_ij the positive part of w_ij a_ij, the product of PatternAttribution (Kindermans et al. 2017, arXiv 1705.05598),
    and v = sign(w) u: R_i = sum_j ((x_i v_ij)+ / sum_k (x_k v_kj)+ + sign(x_i) v_ij / sum_k u_kj) R_j / 2. Inputs
    that push a unit down get relevance against it, in the second half. Averages know a signal that is always at one
    place, samples one that is not; neither is enough for both (docs/evidence.md).
    """

    kinds = ("linear",)

    def contributions(self, call: Call) -> Signed:
        """Those that the pattern agrees with: of inputs whose weight and pattern have the same sign."""
        kernel = _agreeing(call)
        return Signed(call, ops.relu(kernel), -ops.relu(-kernel))

    def reverse(self, call: Call, relevance: tuple[Any, ...]) -> tuple[Any, ...]:
        """The mean of both."""
        (shared,) = super().reverse(call, relevance)
        averaged = call.form.vjp_inputs(call.inputs, _averaging(call), ops.cast(relevance[0], shared.dtype))[0]
        return ((shared + ops.sign(ops.cast(call.inputs[0], averaged.dtype)) * averaged) / 2,)

    def absorbed(self, call: Call, relevance: tuple[Any, ...]) -> dict[str, Any]:
        """All of one half where nothing speaks for a unit; in the other, what speaks against it counts twice."""
        lost = super().absorbed(call, relevance)["epsilon"]
        kernel = _averaging(call)
        signs = tuple(ops.sign(ops.cast(x, kernel.dtype)) for x in call.inputs)
        short = 1 - call.form.apply(signs, kernel)
        return {"epsilon": lost / 2, "kernel": ops.cast(relevance[0], short.dtype) * short / 2}


def _agreeing(call):
    """The part of w * a that is positive, with the sign of w."""
    return ops.sign(ops.cast(call.form.kernel(), call.kernel.dtype)) * ops.relu(call.kernel)


def _averaging(call):
    """The same, with magnitudes that sum to 1 over the fan-in; 0 for units without a pattern."""
    kernel = _agreeing(call)
    return backend.divide_no_nan(kernel, ops.sum(ops.abs(kernel), axis=call.form.fan_in, keepdims=True))


@register_rule
@dataclasses.dataclass(frozen=True)
class InverseScale(Rule):
    """The closed pattern of a diagonal map, for PatternNet: a = 1/w, and 0 where w is 0.

    It follows from w'a = 1 of Kindermans et al. 2017, arXiv 1705.05598.
    """

    kinds = ("scale",)

    def reverse(self, call: Call, relevance: tuple[Any, ...]) -> tuple[Any, ...]:
        """R_in = R_out / w."""
        # The VJP of ones is w, whatever layer makes the diagonal map: BatchNormalization, Rescaling, LayerScale, ...
        (weight,) = call.pullback((ops.ones_like(call.outputs[0]),))
        return (_divided(relevance[0], weight),)


@register_rule
@dataclasses.dataclass(frozen=True)
class Pass(Rule):
    """Hands relevance on unchanged: at activations in LRP; w * a = 1 of a diagonal map, for PatternAttribution.

    As Bach et al. 2015 (doi 10.1371/journal.pone.0130140) do, and as Kindermans et al. 2017 (arXiv 1705.05598) implies.
    """

    kinds = ("scale", "rectifier", "activation")

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
