"""The rules of attention: softmax, and products in which both sides come from the data.

AttnLRP (Achtibat et al. 2024, arXiv 2402.05602) lets relevance through both sides of a product and through the softmax;
CP-LRP (Ali et al. 2022, arXiv 2202.07304) takes the weights of attention for constants, so that the values get all.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import Any

from keras import ops

from innvest_lite import backend
from innvest_lite.options import one_of
from innvest_lite.rules.base import Call, Rule, register_rule
from innvest_lite.rules.shares import nowhere, require_number, stabilized, times, wide

# What hides an entry: -1e9, or what float16 or float32 has of large numbers; -1e4 in the oldest code.
_HIDDEN = -9e3
SHARES = ("contribution", "coefficient", "magnitude")


@register_rule
@dataclasses.dataclass(frozen=True)
class SoftmaxTaylor(Rule):
    """A softmax by its Taylor expansion: R_i = x_i (R_i - s_i sum_j R_j) (Achtibat et al. 2024, prop. 3.1).

    It does not conserve relevance, and changes when a constant is added to all logits though the softmax does not. Entries
    that are hidden, by infinite logits or by very negative ones, get nothing.
    """

    kinds = ("softmax",)

    def reverse(self, call: Call, relevance: tuple[Any, ...]) -> tuple[Any, ...]:
        """R_i = x_i (R_i - s_i sum_j R_j)."""
        arrived = wide(relevance[0])
        total = ops.sum(arrived, axis=call.form.axes, keepdims=True)
        found = _visible(call.inputs[0]) * (arrived - wide(call.outputs[0]) * total)
        return (found, *[None] * (len(call.inputs) - 1))

    def absorbed(self, call: Call, relevance: tuple[Any, ...]) -> dict[str, Any]:
        """What is lost, by the softmax's own gradient in place of its formula."""
        arrived, outputs = wide(relevance[0]), wide(call.outputs[0])
        back = call.pullback((ops.cast(backend.divide_no_nan(arrived, outputs), call.outputs[0].dtype),))[0]
        return {"softmax": arrived - _visible(call.inputs[0]) * wide(back)}


def _visible(logits):
    """The logits, 0 where they hide their entries."""
    logits = wide(logits)
    return ops.where(logits > _HIDDEN, logits, 0)


@register_rule
@dataclasses.dataclass(frozen=True)
class Halves(Rule):
    """A product in which all sides come from the data: each gets the same share (Achtibat et al. 2024, prop. 3.2, 3.3).

    R_A = A * (S B'), R_B = B * (A' S) with S = R / (2 stab(A B)).

    Attributes:
        epsilon: in units of the product; 0 divides by the product itself.
    """

    kinds = ("matmul", "product")
    epsilon: float = 0.0

    def __post_init__(self) -> None:
        require_number(self.epsilon, "epsilon")

    def reverse(self, call: Call, relevance: tuple[Any, ...]) -> tuple[Any, ...]:
        """R_A = A * dO/dA'(R / (n stab(O)))."""
        share = _shared(call, relevance[0], self.epsilon) / len(call.inputs)
        return times(call.inputs, tuple(map(wide, _back(call, share))))

    def absorbed(self, call: Call, relevance: tuple[Any, ...]) -> dict[str, Any]:
        """What a stabilizer keeps, and what arrived at 0."""
        return _lost(call, relevance[0], self.epsilon)


@register_rule
@dataclasses.dataclass(frozen=True)
class Proportional(Rule):
    """A product of a gate and a signal: each gets what it is of both, R_i = |a_i| / sum_k |a_k| R.

    LRP-prop of Arras et al. 2019 (arXiv 1909.12114), by magnitude, as they recommend it where a sum of the two can vanish.
    """

    kinds = ("product",)

    def is_for(self, form: Any) -> bool:
        """Of products, not of quotients."""
        return super().is_for(form) and not getattr(form, "divides", False)

    def reverse(self, call: Call, relevance: tuple[Any, ...]) -> tuple[Any, ...]:
        """R_i = |a_i| / sum_k |a_k| R, added up where an input is broadcast."""
        sizes, back, total = self._sizes(call)
        share = backend.divide_no_nan(wide(relevance[0]), total)
        return back(tuple(size * share for size in sizes))

    def absorbed(self, call: Call, relevance: tuple[Any, ...]) -> dict[str, Any]:
        """What arrived where all are 0."""
        return {"epsilon": nowhere(relevance[0], self._sizes(call)[-1])}

    def _sizes(self, call):
        """`(the inputs' magnitudes in the output's shape, the pullback of broadcasting, their sum)`."""
        shape = ops.shape(call.outputs[0])
        spread, back = backend.vjp(
            lambda *x: tuple(ops.broadcast_to(one, shape) for one in x), *(ops.abs(wide(x)) for x in call.inputs)
        )
        return spread, back, sum(spread[1:], spread[0])


@register_rule
@dataclasses.dataclass(frozen=True)
class ValuePath(Rule):
    """A product in which one side weighs the other: the weights are constants, and the values get all (Ali et al. 2022).

    R_V = V * (A' (R / stab(A V))).

    Attributes:
        shares: how the values share: "contribution", as above; "magnitude" of what they contribute, which has no
            denominator that can vanish; "coefficient", by their weights alone, A' (R / A 1).
        epsilon: in units of the product, of "contribution"; 0 divides by the product itself.
    """

    kinds = ("matmul",)
    shares: str = "contribution"
    epsilon: float = 0.0

    def __post_init__(self) -> None:
        one_of(self.shares, SHARES, "shares")
        require_number(self.epsilon, "epsilon")

    def is_for(self, form: Any) -> bool:
        """Where it is known which side weighs the other."""
        return super().is_for(form) and getattr(form, "values", None) is not None

    def hands_to(self, form: Any) -> Collection[int]:
        """The values."""
        return (form.values,)

    def reverse(self, call: Call, relevance: tuple[Any, ...]) -> tuple[Any, ...]:
        """See above; the weights get nothing."""
        place = call.form.values
        if self.shares == "contribution":
            share = wide(_back(call, _shared(call, relevance[0], self.epsilon))[place])
            found = wide(call.inputs[place]) * share
        else:
            size = self._sizes(call)
            total, pullback = backend.vjp(_of_values(call), size)
            (share,) = pullback(backend.divide_no_nan(wide(relevance[0]), total))
            found = size * share
        return tuple(found if index == place else None for index in range(len(call.inputs)))

    def absorbed(self, call: Call, relevance: tuple[Any, ...]) -> dict[str, Any]:
        """What a stabilizer keeps, and what arrived at 0."""
        if self.shares == "contribution":
            return _lost(call, relevance[0], self.epsilon)
        return {"epsilon": nowhere(relevance[0], _of_values(call)(self._sizes(call)))}

    def _sizes(self, call):
        values = wide(call.inputs[call.form.values])
        return ops.abs(values) if self.shares == "magnitude" else ops.ones_like(values)


def _of_values(call):
    """The product as a function of its values, in float32 or wider."""
    place, inputs = call.form.values, tuple(map(wide, call.inputs))
    return lambda values: wide(call.form.forward(*inputs[:place], values, *inputs[place + 1 :])[0])


def _shared(call, relevance, epsilon):
    total = wide(call.outputs[0])
    return backend.divide_no_nan(wide(relevance), stabilized(total, epsilon) if epsilon else total)


def _back(call, cotangent):
    """The pullback in float32 at least: what was divided by a small number leaves float16."""
    if call.outputs[0].dtype == cotangent.dtype:
        return call.pullback((cotangent,))
    _, pullback = backend.vjp(lambda *x: wide(call.form.forward(*x)[0]), *map(wide, call.inputs))
    return pullback(cotangent)


def _lost(call, relevance, epsilon):
    total = wide(call.outputs[0])
    if not epsilon:
        return {"epsilon": nowhere(relevance, total)}
    return {"epsilon": wide(relevance) * (1 - total / stabilized(total, epsilon))}
