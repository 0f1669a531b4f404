"""What one call of a linear layer adds to its sums: small ones, a few numbers a unit, and products of the kernel's size.

Called by `gatherer`, inside a compiled step or batch by batch; the names are those of `layers.LayerStatistics`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

from keras import ops

from innvest_lite import backend
from innvest_lite.forms.base import as_dtype, weighted
from innvest_lite.patterns.layout import Call

# From so many values of a sample on, a layer's batch is gathered in parts: beside what the forward pass holds, two arrays
# of the size of a layer's values are needed, which for the first layers of VGG16 are larger than all of its kernels.
_LARGE = 1 << 20
_PARTS = 4

PRODUCTS = ("sum_x", "sum_xy", "active_xy", "active_x")
"""The sums of a kernel's size."""


@dataclasses.dataclass(frozen=True)
class Added:
    """What a call adds.

    Attributes:
        size: how many values the layer gave, int64: pairs (x, y) times units.
        weight: what a pair counts in the mean, float64, a number; None: 1.
        sum_y: the sum of y less the pivot, in unit shape.
        active: the number of pairs in the positive regime, float64 in unit shape; None where it is not gathered.
        products: name -> a function that computes it.
    """

    size: Any
    weight: Any
    sum_y: Any
    active: Any
    products: dict[str, Callable[[], Any]]


def parts_of(call: Call) -> Iterator[Call]:
    """The call, or where its values are many, calls with a part of the samples each, made when they are asked for."""
    if len(call.inputs) > 1 or math.prod(size or 0 for size in call.output.shape[1:]) < _LARGE:
        yield call
        return
    count = ops.shape(call.output)[0]
    for number in range(_PARTS):
        rows = slice(count * number // _PARTS, count * (number + 1) // _PARTS)
        weights = None if call.weights is None else call.weights[rows]
        yield Call(call.form, (call.inputs[0][rows],), call.output[rows], call.decides[rows], weights)


def added(call: Call, pivot: Any, linear: bool, regime: bool) -> Added:
    """What a call adds.

    Args:
        call: the `Call`.
        pivot: the number subtracted from y, a tensor in unit shape.
        linear: whether there are products with all pairs.
        regime: whether there are products over the positive regime.
    """
    form, inputs = call.form, call.inputs
    centred = form.centred(call.output, pivot)
    weights = None if call.weights is None else ops.reshape(call.weights, (-1, *[1] * (len(centred.shape) - 1)))
    # Sums of y less the pivot: of y itself, float32 would lose the variance of units whose mean is large
    # (docs/design.md, decision 7).
    heavy = weighted(centred, weights)
    weight = None if weights is None else _mean_of(ops.cast(weights, "float64"))
    products: dict[str, Callable[[], Any]] = {}
    if linear:
        products.update(
            sum_x=lambda: form.input_sums(inputs, centred, weights), sum_xy=lambda: form.vjp_kernel(inputs, heavy)
        )
    active = None
    if regime:
        passes = call.decides > 0

        def mask(dtype: str) -> Any:
            return weighted(ops.cast(passes, dtype), weights)

        # Of integers, or in float64: what is left of all pairs, the negative regime, may be a few.
        active = as_dtype(form.per_unit(ops.cast(passes, "int32") if weights is None else mask("float64")), "float64")
        # Made where they are used, one after the other: each is as large as the layer's values.
        products.update(
            active_xy=lambda: form.vjp_kernel(inputs, ops.where(passes, heavy, ops.zeros((), heavy.dtype))),
            active_x=lambda: form.vjp_kernel(inputs, mask(heavy.dtype)),
        )
    return Added(backend.size(centred), weight, form.per_unit(heavy), active, products)


def _mean_of(weights):
    """The mean; 0 of no samples, as a part of a small batch may be."""
    return ops.sum(weights) / ops.maximum(ops.cast(backend.size(weights), weights.dtype), 1)


def units_of(form: Any) -> int:
    """How many units a linear form has."""
    return max(math.prod(form.unit_shape), 1)
