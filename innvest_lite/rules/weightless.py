"""The rules of nodes without weights of their own: sums, means, diagonal maps, normalizations, functions of one value."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

from keras import ops

from innvest_lite import backend
from innvest_lite.forms import KINDS, LinearForm
from innvest_lite.forms.structure import Mixture
from innvest_lite.options import truth
from innvest_lite.rules.base import Call, Rule, register_rule
from innvest_lite.rules.shares import Magnitudes, nowhere, own, require_number, stabilized, times, wide


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
        nothing = (ops.zeros_like(x) if backend.is_float(x) else x for x in call.inputs)
        # For inputs of 0 an affine map gives its constant: an offset, or a fixed mean.
        (constant,) = call.form.affine(*call.inputs)(*nothing)
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
        constants = call.form.forward(*(ops.zeros_like(x) if backend.is_float(x) else x for x in call.inputs))
        parts = [
            (wide(r), wide(z), wide(o)) for r, z, o in zip(relevance, call.outputs, constants, strict=True) if r is not None
        ]
        kept = [backend.divide_no_nan(r, z) * o for r, z, o in parts]
        return {"bias": _side_by_side(kept), "epsilon": _side_by_side([nowhere(r, z) for r, z, _ in parts])}


def _side_by_side(tensors):
    return ops.concatenate([ops.reshape(tensor, (ops.shape(tensor)[0], -1)) for tensor in tensors], axis=1)


@register_rule
@dataclasses.dataclass(frozen=True)
class Magnitude(Norm):
    """Inputs of a node without weights share in proportion to the magnitude of what they contribute.

    R_i = sum_j |c_ij| / sum_i |c_ij| R_j, the constant of a diagonal map being one more contribution; so do Hui and Binder
    2019 (doi 10.1007/978-3-030-20518-8_63) at BatchNormalization. Equal to `Norm` where
    all contributions have one sign; else no denominator is smaller than its parts, as where the addends of a sum cancel.
    """

    def reverse(self, call: Call, relevance: tuple[Any, ...]) -> tuple[Any, ...]:
        """R_in = |c| / (sum |c| + |o|) R."""
        if not self._differs(call):
            return super().reverse(call, relevance)
        parts = Magnitudes(call)
        return parts.back(backend.divide_no_nan(wide(relevance[0]), parts.total))

    def absorbed(self, call: Call, relevance: tuple[Any, ...]) -> dict[str, Any]:
        """The constant's share; all relevance is lost where there is no contribution."""
        if not self._differs(call):
            return super().absorbed(call, relevance)
        parts = Magnitudes(call)
        share = backend.divide_no_nan(wide(relevance[0]), parts.total)
        return {"bias": share * parts.constant, "epsilon": nowhere(relevance[0], parts.total)}

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
        gates: whether nothing passes where f(x) is 0, as behind a closed ReLU. An input of 0 has a share of its own where
            something is added to it, as by a BatchNormalization.
    """

    kinds: ClassVar[tuple[str, ...]] = ("rectifier", "activation")
    gates: bool = False

    def __post_init__(self) -> None:
        truth(self.gates, "gates")

    def reverse(self, call: Call, relevance: tuple[Any, ...]) -> tuple[Any, ...]:
        """R_in = (f(x) - f(0)) / f(x) R_out."""
        at_zero, arrived = self._at_zero(call), relevance[0]
        if self.gates:
            arrived = ops.where(ops.equal(call.outputs[0], 0), ops.zeros_like(arrived), arrived)
        if at_zero is None:
            return (arrived,)
        arrived, total = wide(arrived), wide(call.outputs[0])
        return (arrived - backend.divide_no_nan(arrived, total) * at_zero,)

    def absorbed(self, call: Call, relevance: tuple[Any, ...]) -> dict[str, Any]:
        """The share of f(0), and what arrived where nothing passes."""
        at_zero = self._at_zero(call)
        arrived, total = wide(relevance[0]), wide(call.outputs[0])
        nothing = ops.zeros_like(arrived)
        kept = nothing if at_zero is None else backend.divide_no_nan(arrived, total) * at_zero
        return {"bias": kept, "gate": ops.where(ops.equal(total, 0), arrived, nothing) if self.gates else nothing}

    def _at_zero(self, call):
        if not getattr(call.form, "constant", False):
            return None
        return wide(call.form.forward(ops.zeros_like(call.inputs[0][:1]))[0])
