"""DeepLIFT's rules for nodes that mix values: maxima, products, normalizations, softmaxes, and what nothing is known of.

The paper has none for them. These keep its eq. 1: multipliers times differences add up to the difference of the output.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import numpy as np
from keras import ops

from innvest_lite import backend
from innvest_lite.forms.normalization import Normalization
from innvest_lite.graph.masks import copy_mask
from innvest_lite.rules.base import Call
from innvest_lite.rules.lift import Multiplier, by_sign, difference, difference_of_floats
from innvest_lite.rules.shares import wide

# Of the mean gradient of nodes that no rule is for.
STEPS = 16


@dataclasses.dataclass(frozen=True)
class MaxMultiplier(Multiplier):
    """A maximum: what it gained is due to the largest value now, what it lost to the one that was the largest there.

    The paper has no rule for it. The value that takes the difference dy has moved by dy or more, so that its multiplier,
    dy / dx m, lies between 0 and m; of a minimum, the other way round.
    """

    kinds: ClassVar[tuple[str, ...]] = ("max",)

    def back(self, call: Call, multipliers: tuple[Any, ...]) -> tuple[Any, ...]:
        """m_in = (P'(m dy+) + P0'(m dy-)) / dx, with P and P0 the places of the largest now and at the reference."""
        rise = difference(call.outputs[0], call.prepared.outputs[0])
        gained, lost = by_sign(rise)
        is_minimum = type(call.form.node.operation).__name__.lower().removeprefix("a").startswith("min")
        now, then = (lost, gained) if is_minimum else (gained, lost)
        _, before = backend.vjp(call.form.forward, *call.prepared.inputs)
        shares = zip(call.pullback((multipliers[0] * now,)), before((multipliers[0] * then,)), strict=True)
        deltas = [difference_of_floats(x, x0) for x, x0 in zip(call.inputs, call.prepared.inputs, strict=True)]
        pairs = zip(shares, deltas, strict=True)
        return tuple(
            None if one is None else backend.divide_no_nan(wide(one) + wide(two), delta) for (one, two), delta in pairs
        )


@dataclasses.dataclass(frozen=True)
class MeanGradient(Multiplier):
    """The mean derivative of a node on the straight way from the reference to the sample, by Gauss and Legendre's rule.

    Exact for products: of two factors it is the one in the middle, dx (y + y0) / 2 + dy (x + x0) / 2, the Shapley values of
    both. What it is not exact for, such as nodes of which nothing is known, has the quadrature's error.

    Attributes:
        steps: how many derivatives; None: as many as the product has factors, halved, which is exact.
    """

    steps: int | None = STEPS

    def back(self, call: Call, multipliers: tuple[Any, ...]) -> tuple[Any, ...]:
        """m_in = sum_k w_k J(x0 + t_k (x - x0))' m."""
        nodes, weights = np.polynomial.legendre.leggauss(self.steps or (len(call.inputs) + 1) // 2)
        total: list[Any] = [None] * len(call.inputs)
        for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
            _, pullback = backend.vjp(call.form.forward, *_between(call, float(node)))
            for place, part in enumerate(pullback(multipliers)):
                if part is not None:
                    part = float(weight) * wide(part)
                    total[place] = part if total[place] is None else total[place] + part
        return tuple(total)


def _between(call, node):
    """A node's inputs on the way from the reference to the sample; what is no float stays the sample's."""

    def there(x, x0):
        return copy_mask(x, ops.cast(wide(x0) + node * difference(x, x0), x.dtype)) if backend.is_float(x) else x

    return tuple(map(there, call.inputs, call.prepared.inputs))


@dataclasses.dataclass(frozen=True)
class ProductMultiplier(MeanGradient):
    """A product of values of the data, such as a gate and what it gates, and the quotient of two: see `MeanGradient`.

    A quotient is the product with 1 / y, whose multiplier is (1 / y - 1 / y0) / (y - y0) = -1 / (y y0).
    """

    kinds: ClassVar[tuple[str, ...]] = ("product", "matmul")
    steps: int | None = None

    def back(self, call: Call, multipliers: tuple[Any, ...]) -> tuple[Any, ...]:
        """See the class."""
        if not getattr(call.form, "divides", False):
            return super().back(call, multipliers)
        (x, y), (x0, y0) = map(wide, call.inputs), map(wide, call.prepared.inputs)
        # The pullback of a product adds up where an input is broadcast.
        of_x, of_y = (1 / y + 1 / y0) / 2, -(x + x0) / (2 * y * y0)
        _, pullback = backend.vjp(lambda one, two: one * of_x + two * of_y, x, y)
        return pullback(multipliers[0])


@dataclasses.dataclass(frozen=True)
class NormalizationMultiplier(Multiplier):
    """A normalization by a sample's own statistics: the mean derivative on the straight way, in closed form."""

    kinds: ClassVar[tuple[str, ...]] = ("normalization",)

    def is_for(self, form: Any) -> bool:
        """Where the statistic is a Euclidean norm or a standard deviation."""
        return super().is_for(form) and isinstance(form, Normalization) and form.is_euclidean

    def back(self, call: Call, multipliers: tuple[Any, ...]) -> tuple[Any, ...]:
        """m_in = (mean of J over the way)' m."""
        found = call.form.mean_pullback(call.inputs[0], call.prepared.inputs[0], multipliers[0])
        return (found, *[None] * (len(call.inputs) - 1))


@dataclasses.dataclass(frozen=True)
class SoftmaxMultiplier(Multiplier):
    """A softmax as p = exp(x - log sum exp(x)): the Rescale rule at each of these functions, and the chain rule.

    A constant that is added to all logits of the sample does not change it, as it does not change the softmax.
    """

    kinds: ClassVar[tuple[str, ...]] = ("softmax",)

    def back(self, call: Call, multipliers: tuple[Any, ...]) -> tuple[Any, ...]:
        """m_in = g m - q sum(g m), g and q being the multipliers of the exponential and of log sum exp."""
        axes, (now, then) = call.form.axes, (wide(call.outputs[0]), wide(call.prepared.outputs[0]))
        # What is hidden in the sample and at the reference has no part.
        shown = ops.logical_or(now > 0, then > 0)
        x, x0 = (ops.where(shown, wide(one), 0) for one in (call.inputs[0], call.prepared.inputs[0]))
        total, total0 = (_log_sum(one, shown, axes) for one in (x, x0))
        largest = ops.maximum(total, total0)
        inner = _exponential(x - largest, x0 - largest)
        mean = ops.abs(total - total0)
        weights = inner * backend.divide_no_nan(mean, -ops.expm1(-mean))
        weights = ops.where(mean == 0, inner, weights)
        outer = ops.multiply(_exponential(x - total, x0 - total0), multipliers[0])
        found = outer - weights * ops.sum(ops.where(shown, outer, 0), axis=axes, keepdims=True)
        return (ops.where(shown, found, 0), *[None] * (len(call.inputs) - 1))


def _log_sum(x, shown, axes):
    x = ops.where(shown, x, -1e30)
    most = ops.max(x, axis=axes, keepdims=True)
    return most + ops.log(ops.sum(ops.exp(x - most), axis=axes, keepdims=True))


def _exponential(x, x0):
    """(exp(x) - exp(x0)) / (x - x0) without the difference of two nearly equal numbers."""
    run = ops.abs(x - x0)
    share = ops.where(run == 0, 1.0, -ops.expm1(-run) / ops.where(run == 0, 1.0, run))
    return ops.exp(ops.maximum(x, x0)) * share


MULTIPLIERS = (MaxMultiplier, ProductMultiplier, NormalizationMultiplier, SoftmaxMultiplier)
"""For each kind of node that mixes values, but for linear maps."""
