"""The rules of nodes without weights of their own: sums, means, diagonal maps, normalizations, functions of one value."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar

from keras import ops

from innvest_lite import backend
from innvest_lite.forms import KINDS, LinearForm
from innvest_lite.forms.structure import Mixture
from innvest_lite.options import truth
from innvest_lite.rules.base import Call, Rule, register_rule
from innvest_lite.rules.shares import (
    Magnitudes,
    nowhere,
    own,
    require_number,
    share_above,
    stabilized,
    times,
    wide,
    with_sign_of,
)


@register_rule
@dataclasses.dataclass(frozen=True)
class Norm(Rule):
    """The z-rule of a node without weights of its own: inputs share in proportion to what they contribute.

    R_i = sum_j c_ij / stab(z_j) R_j for sums, average pooling and diagonal maps; at a normalization the statistics are
    constants (Achtibat et al. 2024, arXiv 2402.05602).

    Attributes:
        epsilon: in units of z; 0 divides by z itself.
    """

    kinds: ClassVar[tuple[str, ...]] = ("sum", "average", "scale", "normalization")
    epsilon: float = 0.0

    def __post_init__(self) -> None:
        require_number(self.epsilon, "epsilon")

    def reverse(self, call: Call, relevance: tuple[Any, ...]) -> tuple[Any, ...]:
        """R_in = x J'(R / stab(z))."""
        total = wide(call.outputs[0])
        total = stabilized(total, self.epsilon) if self.epsilon else total
        cotangent = backend.divide_no_nan(wide(relevance[0]), total)
        shares = self._back(call, cotangent)
        # A mask is an input too, and has no share.
        return tuple(
            None if share is None else times((x,), (share,))[0] for x, share in zip(call.inputs, shares, strict=True)
        )

    def absorbed(self, call: Call, relevance: tuple[Any, ...]) -> dict[str, Any]:
        """What the constant part of the node, z less the contributions, absorbs, and epsilon."""
        total = wide(call.outputs[0])
        denominator = stabilized(total, self.epsilon) if self.epsilon else total
        cotangent = backend.divide_no_nan(wide(relevance[0]), denominator)
        # For inputs of 0 an affine map gives its constant: an offset, or a fixed mean.
        (constant,) = call.form.affine(*call.inputs)(*map(_nothing, call.inputs))
        return {"bias": cotangent * wide(constant), "epsilon": wide(relevance[0]) - cotangent * total}

    def _back(self, call, cotangent):
        form = call.form
        if form.kind == "normalization":
            # The statistics as constants: through them, relevance would be shared out by how inputs change the variance.
            _, pullback = backend.vjp(form.affine(*call.inputs), *call.inputs)
            return pullback((cotangent,))
        return own(call, cotangent) if isinstance(form, LinearForm) else call.pullback((cotangent,))


@register_rule
@dataclasses.dataclass(frozen=True)
class Contributions(Norm):
    """The z-rule of any node that is linear in what it takes, by its gradient: R_i = x_i J'(R / z).

    Bach et al. 2015 (doi 10.1371/journal.pone.0130140), eq. 56. What a constant of the node has in z, it keeps. Stands in
    where a method has no rule (`fallback="gradient"`).
    """

    # Tokens are no numbers that could be linear.
    kinds: ClassVar[tuple[str, ...]] = tuple(kind for kind in KINDS if kind != "embedding")

    def reverse(self, call: Call, relevance: tuple[Any, ...]) -> tuple[Any, ...]:
        """R_in = x J'(R / z)."""
        parts = zip(relevance, call.outputs, strict=True)
        shares = call.pullback(tuple(None if r is None else backend.divide_no_nan(wide(r), wide(z)) for r, z in parts))
        taken = zip(call.inputs, shares, strict=True)
        return tuple(None if share is None else times((x,), (wide(share),))[0] for x, share in taken)

    def absorbed(self, call: Call, relevance: tuple[Any, ...]) -> dict[str, Any]:
        """What the constant part of the node keeps, and what arrived at 0."""
        constants = call.form.forward(*map(_nothing, call.inputs))
        parts = [
            (wide(r), wide(z), wide(o)) for r, z, o in zip(relevance, call.outputs, constants, strict=True) if r is not None
        ]
        kept = [backend.divide_no_nan(r, z) * o for r, z, o in parts]
        return {"bias": _side_by_side(kept), "epsilon": _side_by_side([nowhere(r, z) for r, z, _ in parts])}


def _nothing(x):
    return ops.zeros_like(x) if backend.is_float(x) else x


def _side_by_side(tensors):
    return ops.concatenate([ops.reshape(tensor, (ops.shape(tensor)[0], -1)) for tensor in tensors], axis=1)


@register_rule
@dataclasses.dataclass(frozen=True)
class Magnitude(Norm):
    """Inputs of a node without weights share in proportion to the magnitude of what they contribute.

    R_i = sum_j |c_ij| / sum_i |c_ij| R_j, the constant of a diagonal map being one more contribution; so do Hui and Binder
    2019 (doi 10.1007/978-3-030-20518-8_63) at BatchNormalization. Equal to `Norm` where
    all contributions have one sign; else no denominator is smaller than its parts, as where the addends of a sum cancel.

    Attributes:
        signed: whether contributions of the other sign than the whole get relevance of the other sign, c in place of |c|.
    """

    signed: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        truth(self.signed, "signed")

    def reverse(self, call: Call, relevance: tuple[Any, ...]) -> tuple[Any, ...]:
        """R_in = |c| / (sum |c| + |o|) R, or sign(z) c in place of |c|."""
        if not self._differs(call):
            return super().reverse(call, relevance)
        parts = Magnitudes(call)
        share = backend.divide_no_nan(wide(relevance[0]), parts.total)
        if not self.signed:
            return parts.back(share)
        back = self._back(call, with_sign_of(call.outputs[0], share))
        return tuple(None if part is None else times((x,), (part,))[0] for x, part in zip(call.inputs, back, strict=True))

    def absorbed(self, call: Call, relevance: tuple[Any, ...]) -> dict[str, Any]:
        """The constant's share; all relevance is lost where there is no contribution."""
        if not self._differs(call):
            return super().absorbed(call, relevance)
        parts = Magnitudes(call)
        share = backend.divide_no_nan(wide(relevance[0]), parts.total)
        lost = {"bias": share * parts.constant, "epsilon": nowhere(relevance[0], parts.total)}
        if not self.signed:
            return lost
        (constant,) = call.form.affine(*call.inputs)(*map(_nothing, call.inputs))
        shared = with_sign_of(call.outputs[0], share) * (wide(call.outputs[0]) - wide(constant))
        return {**lost, "kernel": wide(relevance[0]) - lost["bias"] - lost["epsilon"] - shared}

    def _differs(self, call):
        """Whether contributions can have both signs, and it is known how large each is."""
        form = call.form
        if form.kind == "normalization" or (isinstance(form, Mixture) and not form.monotone):
            return False
        return not (call.nonnegative and form.kind in ("sum", "average") and min(getattr(form, "weights", (1,))) >= 0)


@register_rule
@dataclasses.dataclass(frozen=True)
class Coefficients(Rule):
    """The pattern of a linear map without weights whose inputs are alike: R_i = sum_j w_ij / sum_i w_ij R_j.

    A mean of what is the same everywhere has the pattern a = 1 / sum w, with w'a = 1 (Kindermans et al. 2017, arXiv
    1705.05598). For maps without negative coefficients, such as sums and interpolation.
    """

    kinds = ("average",)

    def reverse(self, call: Call, relevance: tuple[Any, ...]) -> tuple[Any, ...]:
        """R_in = W'(R / W 1)."""
        x = call.inputs[0][:1]
        nothing, ones = (wide(call.form.forward(values)[0]) for values in (ops.zeros_like(x), ops.ones_like(x)))
        share = backend.divide_no_nan(wide(relevance[0]), ones - nothing)
        return call.pullback((share,))


@register_rule
@dataclasses.dataclass(frozen=True)
class Elementwise(Rule):
    """A function of one value hands relevance on unchanged, less the share of what it makes of 0.

    R_in = (f(x) - f(0)) / f(x) R_out: f(0) is no contribution of the input, and a sink like a bias; where it is 0, as for a
    ReLU (Bach et al. 2015, doi 10.1371/journal.pone.0130140), R_in = R_out.

    Attributes:
        signed: by size, (f(x) - f(0)) / (|f(x) - f(0)| + |f(0)|) with the sign of f(x), which is between -1 and 1 where the
            other is without bound; of inputs from which a constant was taken (`Call.constants`), f(c) in place of f(0).
    """

    kinds: ClassVar[tuple[str, ...]] = ("rectifier", "activation")
    signed: bool = False

    def __post_init__(self) -> None:
        truth(self.signed, "signed")

    def reverse(self, call: Call, relevance: tuple[Any, ...]) -> tuple[Any, ...]:
        """R_in = (f(x) - f(0)) / f(x) R_out, or by size."""
        share = self._share(call)
        return (relevance[0] if share is None else wide(relevance[0]) * share,)

    def absorbed(self, call: Call, relevance: tuple[Any, ...]) -> dict[str, Any]:
        """The share of f(0), with what the sign turns round."""
        arrived, share = wide(relevance[0]), self._share(call)
        return {"bias": ops.zeros_like(arrived) if share is None else arrived * (1 - share)}

    def _share(self, call):
        """What of the relevance is the input's: a tensor; None: all."""
        shares, total = [], wide(call.outputs[0])
        if getattr(call.form, "constant", False):
            at_zero = wide(call.form.forward(ops.zeros_like(call.inputs[0][:1]))[0])
            shares.append(share_above(total, at_zero) if self.signed else 1 - backend.divide_no_nan(at_zero, total))
        if self.signed and call.constants and call.constants[0] is not None:
            constant = wide(call.constants[0])
            shares.append(share_above(wide(call.inputs[0]) + constant, constant))
        return math.prod(shares[1:], start=shares[0]) if shares else None
