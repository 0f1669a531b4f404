"""Shares of this sample, as far as patterns take it for signal: LRP with w * a of PatternAttribution in place of weights.

With v_ij = sign(w_ij) (w_ij a_ij)+, the weights that their pattern agrees with (w * a as in Kindermans et al. 2017, arXiv
1705.05598, section 4), input i contributes x_i v_ij to unit j. In the paper an input's share is the same in all samples;
here inputs of 0 get nothing, so that little is lost at closed rectifiers, and distractors, for which a weight has a
pattern of the other sign or none, get nothing either.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from keras import ops

from innvest_lite import backend
from innvest_lite.options import truth
from innvest_lite.rules.base import Call, Rule, register_rule
from innvest_lite.rules.shares import Signed, nowhere, times, with_sign_of


@dataclasses.dataclass(frozen=True)
class SharesByPattern(Rule):
    """What the rules of this module share: a kernel of the analyzer's, w * a, and relevance in its dtype, float32."""

    needs_kernel = True
    relative = True

    @property
    def grows(self) -> bool:
        """There is no more in the shares than arrived."""
        return False


@register_rule
@dataclasses.dataclass(frozen=True)
class PatternShares(SharesByPattern):
    """By the contributions that have the sign of the unit's value, those that made it what it is.

    R_i = sum_j (s_j x_i v_ij)+ / sum_k (s_j x_k v_kj)+ R_j, where s_j is the sign of z_j, without the bias: for positive
    units the z+ rule (Montavon et al. 2017, doi 10.1016/j.patcog.2016.11.008, eq. 15) with the kernel v. What arrives where
    no contribution has that sign is lost.

    Attributes:
        rectified: a ReLU follows, so that relevance arrives at positive units alone, and one pass is enough.
    """

    kinds = ("linear",)
    rectified: bool = False

    def __post_init__(self) -> None:
        truth(self.rectified, "rectified")

    def reverse(self, call: Call, relevance: tuple[Any, ...]) -> tuple[Any, ...]:
        """R_in = the two signs' x V's, with s = R / their contributions."""
        shares = [
            part.back(backend.divide_no_nan(arrived, part.output)) for part, arrived in self._by_sign(call, relevance)
        ]
        return tuple(sum(share[1:], share[0]) for share in zip(*shares, strict=True))

    def absorbed(self, call: Call, relevance: tuple[Any, ...]) -> dict[str, Any]:
        """All relevance is lost where no contribution has the sign of the unit's value."""
        return {"epsilon": sum(nowhere(arrived, part.output) for part, arrived in self._by_sign(call, relevance))}

    def _by_sign(self, call, relevance):
        """For each sign of z its contributions, and what arrived at units with this sign."""
        # Each pass over a kernel counts where few samples are explained: v is not made first.
        agreed = ops.relu(call.kernel)
        speaking = ops.where(call.form.is_positive(), agreed, 0)
        against = speaking - agreed
        arrived = ops.cast(relevance[0], agreed.dtype)
        if self.rectified:
            yield Signed(call, speaking, against), arrived
            return
        above = call.outputs[0] >= 0
        yield Signed(call, speaking, against), ops.where(above, arrived, 0)
        yield Signed(call, against, speaking), ops.where(above, 0, arrived)


@dataclasses.dataclass(frozen=True)
class SharesByMagnitude(SharesByPattern):
    """By all contributions: R_i = sum_j s_j x_i v_ij / sum_k |x_k v_kj| R_j, where s_j is the sign of z_j.

    What speaks against a unit's value gets relevance of the other sign, so that less is handed on than arrives; the
    denominator is that of `Magnitude`, under which shares cannot explode. Subclasses say what v is.
    """

    def signed(self, call: Call) -> Any:
        """V, a tensor in the kernel's shape with the signs of the weights."""
        raise NotImplementedError

    def reverse(self, call: Call, relevance: tuple[Any, ...]) -> tuple[Any, ...]:
        """R_in = x V's with s = sign(z) R / (|x| |V|)."""
        kernel = self.signed(call)
        return times(call.inputs, call.form.vjp_inputs(call.inputs, kernel, self._factor(call, relevance, kernel)))

    def absorbed(self, call: Call, relevance: tuple[Any, ...]) -> dict[str, Any]:
        """All relevance is lost where nothing contributes; elsewhere, what speaks against a unit's value counts twice."""
        kernel = self.signed(call)
        arrived = ops.cast(relevance[0], kernel.dtype)
        lost = nowhere(arrived, self._total(call, kernel))
        inputs = tuple(ops.cast(x, kernel.dtype) for x in call.inputs)
        shared = self._factor(call, relevance, kernel) * call.form.apply(inputs, kernel)
        return {"epsilon": lost, "kernel": arrived - lost - shared}

    def _factor(self, call, relevance, kernel):
        arrived = ops.cast(relevance[0], kernel.dtype)
        return backend.divide_no_nan(with_sign_of(call.outputs[0], arrived), self._total(call, kernel))

    def _total(self, call, kernel):
        return call.form.apply(tuple(ops.abs(ops.cast(x, kernel.dtype)) for x in call.inputs), ops.abs(kernel))


@register_rule
@dataclasses.dataclass(frozen=True)
class PatternEvidence(SharesByMagnitude):
    """What speaks for a unit's value and what speaks against it, for kernels that serve one position.

    R_i = sum_j s_j x_i v_ij / sum_k |x_k v_kj| R_j with v_ij = sign(w_ij) (w_ij a_ij)+, w * a as in Kindermans et al. 2017
    (arXiv 1705.05598, section 4), and s_j the sign of z_j. Where a kernel knows its place, absence of what is usual there
    is evidence too.
    """

    kinds = ("linear",)

    def signed(self, call: Call) -> Any:
        """The weights' share that their pattern agrees with."""
        return _agreeing(call)


@register_rule
@dataclasses.dataclass(frozen=True)
class PatternMagnitudes(SharesByMagnitude):
    """Addends in proportion to their size, with their sign: for sums and means.

    R_i = sum_j s_j x_i v_ij / sum_k |x_k v_kj| R_j with v_ij = sign(w_ij) |w_ij a_ij|, w * a as in Kindermans et al. 2017
    (arXiv 1705.05598, section 4), and s_j the sign of z_j: all addends of a sum count, also one that its pattern is
    against, since a sum has no weights that could have learned to leave it out.
    """

    kinds = ("sum", "average")

    def signed(self, call: Call) -> Any:
        """The size of w * a with the signs of the coefficients."""
        return _sign_of_weights(call) * ops.abs(call.kernel)


def _agreeing(call):
    """The part of w * a that is positive, with the sign of w."""
    return _sign_of_weights(call) * ops.relu(call.kernel)


def _sign_of_weights(call):
    return ops.sign(ops.cast(call.form.kernel(), call.kernel.dtype))
