"""Layer-wise relevance propagation: how a linear node shares out the relevance of its units (Bach et al. 2015).

With contributions c_ij = x_i w_ij of input i to unit j, and z_j = sum_i c_ij + b_j, a rule gives input i the share
sum_j (share of c_ij in some z_j) R_j. Each is a division and a vector-Jacobian product with a changed kernel. Whatever
arrives where the denominator is exactly 0 is lost. `absorbed` says how much a rule keeps, for `analyzer.check`.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from keras import ops

from innvest_lite import backend
from innvest_lite.rules.base import Call, Rule, register_rule
from innvest_lite.rules.shares import (
    Signed,
    bias_of,
    kept,
    kernel_of,
    nowhere,
    own,
    require,
    require_bool,
    require_number,
    stabilized,
    times,
    wide,
)

BIASES = ("split", "shared", "ignore")


@dataclasses.dataclass(frozen=True)
class LinearRule(Rule):
    """What the rules for linear nodes share: they compute in float32 or wider."""

    kinds = ("linear",)

    def absorbed(self, call: Call, relevance: tuple[Any, ...]) -> dict[str, Any]:
        """How much relevance the node absorbs: reason ("bias", "epsilon") -> a tensor of the output's shape.

        Computed from the rule's formula, not from the result of `reverse`; for `analyzer.check`.
        """
        raise NotImplementedError


@register_rule
@dataclasses.dataclass(frozen=True)
class Zero(LinearRule):
    """LRP-0, the z-rule: R_i = sum_j c_ij / z_j R_j (Bach et al. 2015, doi 10.1371/journal.pone.0130140, eq. 56).

    Attributes:
        bias: whether z_j has the bias in it, which then keeps its share.
    """

    bias: bool = True

    @property
    def grows(self) -> bool:
        """Without its bias, z may be far smaller than what follows it."""
        return not self.bias

    def __post_init__(self) -> None:
        require_bool(self.bias, "bias")

    def reverse(self, call: Call, relevance: tuple[Any, ...]) -> tuple[Any, ...]:
        """R_in = x W'(R / z)."""
        # 0 where z is exactly 0, and not a large number: what arrives there goes nowhere (docs/design.md, decision 6).
        return times(call.inputs, own(call, backend.divide_no_nan(wide(relevance[0]), self._total(call))))

    def absorbed(self, call: Call, relevance: tuple[Any, ...]) -> dict[str, Any]:
        """The bias keeps the share b / z; all relevance is lost where z is 0."""
        return kept(call, relevance[0], self._total(call), self._total(call), self.bias)

    def _total(self, call):
        return wide(call.outputs[0]) if self.bias else call.form.linear_part(call.outputs[0])


@register_rule
@dataclasses.dataclass(frozen=True)
class Epsilon(LinearRule):
    """LRP-epsilon: R_i = sum_j c_ij / (z_j + epsilon sign(z_j)) R_j, sign(0) = 1 (Bach et al. 2015, eq. 58).

    Attributes:
        epsilon: in units of z.
        bias: whether z_j has the bias in it, which then keeps its share.
        bias_factor: which part of what bias and epsilon would keep is handed on all the same, in equal parts to all N
            inputs of a unit: c_ij + bias_factor (b_j + epsilon sign(z_j)) / N in place of c_ij. With 1 the rule conserves,
            which is what it is for (Arras et al. 2017, arXiv 1706.07206, eq. 3); inputs of 0 then get relevance too.
    """

    # iNNvestigate's default: small enough to change nothing but what is close to 0 / 0.
    epsilon: float = 1e-7
    bias: bool = True
    bias_factor: float = 0.0

    @property
    def grows(self) -> bool:
        """Without its bias, z may be far smaller than what follows it."""
        return not self.bias

    def __post_init__(self) -> None:
        zero = isinstance(self.epsilon, int | float) and self.epsilon == 0
        require(not zero, "epsilon should be above 0; Zero() has none.")
        require_number(self.epsilon, "epsilon", above=True)
        require_bool(self.bias, "bias")
        require_number(self.bias_factor, "bias_factor")

    def reverse(self, call: Call, relevance: tuple[Any, ...]) -> tuple[Any, ...]:
        """R_in = x W'(R / stab(z)), and the equal parts."""
        # A plain division: with sign(0) = 1 the denominator is never 0.
        cotangent = wide(relevance[0]) / self._stabilized(call)
        shares = times(call.inputs, own(call, cotangent))
        if not self.bias_factor:
            return shares
        ones = ops.ones_like(kernel_of(call))
        # How many inputs a unit has at its position: fewer, where its window reaches beyond the image.
        count = call.form.apply(tuple(ops.ones_like(x, dtype=ones.dtype) for x in call.inputs), ones)
        rest = self._stabilized(call) - call.form.linear_part(call.outputs[0])
        equal = call.form.vjp_inputs(call.inputs, ones, self.bias_factor * rest * cotangent / count)
        return tuple(share + ops.cast(part, share.dtype) for share, part in zip(shares, equal, strict=True))

    def absorbed(self, call: Call, relevance: tuple[Any, ...]) -> dict[str, Any]:
        """The bias keeps the share b / stab(z), epsilon what it adds to z, less what is handed on all the same."""
        total = wide(call.outputs[0]) if self.bias else call.form.linear_part(call.outputs[0])
        parts = kept(call, relevance[0], total, self._stabilized(call), self.bias)
        return {reason: part * (1 - self.bias_factor) for reason, part in parts.items()} if self.bias_factor else parts

    def _stabilized(self, call):
        total = wide(call.outputs[0]) if self.bias else call.form.linear_part(call.outputs[0])
        return stabilized(total, self.epsilon)


@register_rule
@dataclasses.dataclass(frozen=True)
class Gamma(LinearRule):
    """LRP-gamma: contributions of the sign of z count 1 + gamma times.

    Montavon et al. 2019 (doi 10.1007/978-3-030-28954-6_10).
    R_i = sum_j (c_ij + gamma c_ij+) / (z_j + gamma z_j+) R_j where z_j is positive, with the bias as one more contribution;
    for inputs that are not negative this is the kernel W + gamma W+. Where z_j is negative, c- and z- stand in place of c+
    and z+ (Andeol et al. 2021, arXiv 2106.00949): with z+ there, the denominator would cross 0.

    Attributes:
        gamma: 0 is LRP-0, and large values tend to z+.
        bias: whether the bias contributes, and keeps its share.
    """

    gamma: float = 0.25
    bias: bool = True

    @property
    def grows(self) -> bool:
        """A layer propagates up to 1 + 2 / gamma times the magnitude that it receives."""
        return True

    def __post_init__(self) -> None:
        require_number(self.gamma, "gamma")
        require_bool(self.bias, "bias")

    def reverse(self, call: Call, relevance: tuple[Any, ...]) -> tuple[Any, ...]:
        """R_in = x+ (W + gamma W+)'s + x- (W + gamma W-)'s with s = R / z where z is positive, else its mirror image."""
        handed_on: tuple[Any, ...] = tuple(ops.zeros_like(x, dtype=kernel_of(call).dtype) for x in call.inputs)
        for part, total, arrived in self._signs(call, wide(relevance[0])):
            shares = part.back(backend.divide_no_nan(arrived, total))
            handed_on = tuple(a + b for a, b in zip(handed_on, shares, strict=True))
        return handed_on

    def absorbed(self, call: Call, relevance: tuple[Any, ...]) -> dict[str, Any]:
        """The bias keeps its share, (b + gamma b+) / z or its mirror image."""
        kept = lost = ops.zeros_like(wide(relevance[0]))
        for part, total, arrived in self._signs(call, wide(relevance[0])):
            kept = kept + backend.divide_no_nan(arrived * (total - part.output), total)
            lost = lost + nowhere(arrived, total)
        return {"bias": kept, "epsilon": lost}

    def _signs(self, call, relevance):
        """For units with positive and with negative z: the favoured contributions, their total, the relevance of these."""
        positive = (wide(call.outputs[0]) if self.bias else call.form.linear_part(call.outputs[0])) >= 0
        kernel, bias = kernel_of(call), bias_of(call) if self.bias else None
        for sign, here in ((1, positive), (-1, ops.logical_not(positive))):
            # Contributions of the sign of z count 1 + gamma times, so that no total is nearer to 0 than z itself.
            above, below = (ops.relu(sign * kernel) * sign, -ops.relu(-sign * kernel) * sign)
            part = Signed(call, kernel + self.gamma * above, kernel + self.gamma * below)
            total = part.output
            if bias is not None:
                total = total + call.form.spread(bias + self.gamma * sign * ops.relu(sign * bias))
            yield part, total, ops.where(here, relevance, 0)


@register_rule
@dataclasses.dataclass(frozen=True)
class AlphaBeta(LinearRule):
    """LRP-alpha-beta: positive and negative contributions on their own (Bach et al. 2015, eq. 60).

    R_i = sum_j (alpha c_ij+ / z_j+ - beta c_ij- / z_j-) R_j with alpha - beta = 1.

    Attributes:
        alpha: the weight of the positive contributions.
        beta: the weight of the negative contributions.
        bias: "split": b+ belongs to z+, b- to z-, as in the paper. "shared": the whole bias stands in both, as in
            iNNvestigate. "ignore": in neither.
    """

    alpha: float = 2.0
    beta: float = 1.0
    bias: str = "split"

    @property
    def grows(self) -> bool:
        """A layer propagates up to alpha + beta times the magnitude that it receives."""
        return self.beta > 0

    def __post_init__(self) -> None:
        words = isinstance(self.bias, str) and self.bias in BIASES
        require(words, f"bias should be one of {BIASES}, but is {self.bias!r}.")
        require_number(self.alpha, "alpha")
        require_number(self.beta, "beta")
        require(
            # Not equality: 1.1 - 0.1 is not 1 in floating point.
            abs(self.alpha - self.beta - 1) < 1e-6,
            f"alpha - beta should be 1, so that relevance is conserved, but alpha is {self.alpha} and beta {self.beta}.",
        )

    def prepare(self, form: Any, inputs: tuple[Any, ...], nonnegative: bool) -> tuple[tuple[Any, ...], Any] | None:
        """z as z+ + z- + b: both are needed, and z - z+ in place of z- would be a difference of nearly equal numbers."""
        if not self.beta:
            return None
        # What is only evaluated yet has no pullback.
        parts = self._parts(Call(form, inputs, (), None, nonnegative=nonnegative))  # type: ignore[arg-type]
        return form.completed(inputs, parts[0].output + parts[1].output), parts

    def reverse(self, call: Call, relevance: tuple[Any, ...]) -> tuple[Any, ...]:
        """R_in = alpha c+ / z+ R - beta c- / z- R."""
        relevance = wide(relevance[0])
        # Both parts were computed in `prepare` where beta is not 0: the forward value is their sum.
        speaks_for, against = call.prepared or self._parts(call)
        above, below = self._biases(call)
        handed_on = speaks_for.back(self.alpha * backend.divide_no_nan(relevance, speaks_for.output + above))
        if against is None:
            return handed_on
        taken = against.back(self.beta * backend.divide_no_nan(relevance, against.output + below))
        return tuple(a - b for a, b in zip(handed_on, taken, strict=True))

    def absorbed(self, call: Call, relevance: tuple[Any, ...]) -> dict[str, Any]:
        """The bias keeps its shares of both denominators; relevance is lost where a part has no contributions."""
        kept = lost = ops.zeros_like(wide(relevance[0]))
        weights, parts = (self.alpha, -self.beta), call.prepared or self._parts(call)
        for weight, part, bias in zip(weights, parts, self._biases(call), strict=True):
            if part is not None:
                arrived, total = weight * wide(relevance[0]), part.output + bias
                kept = kept + backend.divide_no_nan(arrived * bias, total)
                lost = lost + nowhere(arrived, total)
        return {"bias": kept, "epsilon": lost}

    def _parts(self, call):
        """The positive contributions, and, where beta is not 0, the negative ones."""
        kernel = kernel_of(call)
        # A contribution is positive where input and weight have the same sign, and negative where they do not.
        positive, negative = ops.relu(kernel), -ops.relu(-kernel)
        return Signed(call, positive, negative), Signed(call, negative, positive) if self.beta else None

    def _biases(self, call):
        """The bias terms of z+ and of z-, spread over the output."""
        bias = bias_of(call) if self.bias != "ignore" else None
        if bias is None:
            return 0.0, 0.0
        above, below = (bias, bias) if self.bias == "shared" else (ops.relu(bias), -ops.relu(-bias))
        return call.form.spread(above), call.form.spread(below)


@register_rule
@dataclasses.dataclass(frozen=True)
class ZPlus(LinearRule):
    """The z+ rule of Deep Taylor decomposition (Montavon et al. 2017, doi 10.1016/j.patcog.2016.11.008, eq. 15).

    R_i = sum_j c_ij+ / z_j+ R_j without the bias: alpha-beta with alpha 1, beta 0.

    Attributes:
        fast: use x W+ for c+ also where x is negative, which is one pass fewer; the same result where no x is.
    """

    fast: bool = False

    def __post_init__(self) -> None:
        require_bool(self.fast, "fast")

    def reverse(self, call: Call, relevance: tuple[Any, ...]) -> tuple[Any, ...]:
        """R_in = x+ W+'s + x- W-'s with s = R / z+."""
        forward = self._contributions(call)
        return forward.back(backend.divide_no_nan(wide(relevance[0]), forward.output))

    def absorbed(self, call: Call, relevance: tuple[Any, ...]) -> dict[str, Any]:
        """All relevance is lost where a unit has no positive contribution."""
        return {"epsilon": nowhere(relevance[0], self._contributions(call).output)}

    def _contributions(self, call):
        kernel = kernel_of(call)
        positive = ops.relu(kernel)
        return Signed(call, positive, positive if self.fast else -ops.relu(-kernel), together=self.fast)
