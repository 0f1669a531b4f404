"""The sums of one linear layer, around a pivot, and the facts about the layer that need no data.

Used by `statistics`, which keeps them for all layers of a model.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from innvest_lite.patterns.estimators import ESTIMATORS

if TYPE_CHECKING:
    from innvest_lite.forms import LinearForm

# Values of a sum that are moved at a time, so that there is no second float64 copy of a whole layer.
_AT_A_TIME = 1 << 22

GATHERED = {
    "all": ESTIMATORS,
    "relu": ("relu", "relu.safe", "filter"),
    "relu, sampled": ("relu", "relu.safe", "filter"),
    "linear": ("linear", "filter"),
    "nothing": ("filter",),
}
"""What was gathered of a layer -> the estimators for which that is enough."""

# Each sum -> the attribute of a layer's form that says its shape; None for a number.
_COUNTS = {"pivot": "unit_shape", "count": None, "linear_count": None}
_OF_ALL = {"sum_y": "unit_shape", "linear_y": "unit_shape", "sum_x": "input_sums_shape", "sum_xy": "kernel_shape"}
_OF_REGIME = {
    "active": "unit_shape",
    "active_xy": "kernel_shape",
    "active_count": "unit_shape",
    "active_x": "kernel_shape",
}


def sums_of(gathered: str) -> dict[str, str | None]:
    """The sums that a layer has: name -> the attribute of its form that says the shape, or None for a number.

    Args:
        gathered: a key of `GATHERED`.
    """
    of_all = {} if gathered == "nothing" else _OF_ALL
    return {**_COUNTS, **of_all, **({} if gathered in ("nothing", "linear") else _OF_REGIME)}


@dataclasses.dataclass
class LayerStatistics:
    """The sums of one linear layer, with y = w'x (no bias) and c = y - pivot. None where a sum was not gathered.

    The products with all pairs serve the linear estimator; where that is only the fallback of the two-component one, a
    part of the pairs is enough for them, so they have a count and a sum of y of their own. With `approximate=True` the same
    holds for the sum of x over the positive regime.

    Attributes:
        pivot: the number subtracted from y, in unit shape.
        count: the number of (x, y) pairs, samples counted by their weights.
        sum_y: sum of c, in unit shape.
        linear_count: the number of pairs in the two products below.
        linear_y: sum of c over these pairs, in unit shape.
        sum_x: sum of x, broadcastable to the kernel's shape.
        sum_xy: sum of x c, in kernel shape.
        active: the number of pairs in the positive regime, in unit shape.
        active_xy: sum of x c over the positive regime, in kernel shape.
        active_count: the number of pairs in the sum below, in unit shape.
        active_x: sum of x over the positive regime, in kernel shape.
    """

    pivot: np.ndarray
    count: float
    sum_y: np.ndarray | None = None
    linear_count: float = 0.0
    linear_y: np.ndarray | None = None
    sum_x: np.ndarray | None = None
    sum_xy: np.ndarray | None = None
    active: np.ndarray | None = None
    active_xy: np.ndarray | None = None
    active_count: np.ndarray | None = None
    active_x: np.ndarray | None = None

    @classmethod
    def empty(cls, form: LinearForm, gathered: str) -> LayerStatistics:
        """Sums of no data, of a `LinearForm`; `gathered` is a key of `GATHERED`."""
        shapes = sums_of(gathered).items()
        return cls(**{name: 0.0 if shape is None else np.zeros(getattr(form, shape)) for name, shape in shapes})

    def items(self) -> list[tuple[str, Any]]:
        """`(name, sum)` of all that was gathered but the pivot."""
        fields = ((field.name, getattr(self, field.name)) for field in dataclasses.fields(self)[1:])
        return [(name, value) for name, value in fields if value is not None]

    def add(self, other: LayerStatistics, fan_in: Sequence[int]) -> None:
        """Adds the sums of another part of the data, in place; `other` is left around this one's pivot.

        Args:
            other: a `LayerStatistics` of the same layer.
            fan_in: the kernel axes over which a unit sums its inputs.
        """
        # Empty sums can be moved without loss, which spares a move of the others.
        if not self.count:
            self.move(other.pivot, fan_in)
        other.move(self.pivot, fan_in)
        for name, value in other.items():
            self.accumulate(name, value)

    def accumulate(self, name: str, value: Any) -> None:
        """Adds to one sum, in place."""
        mine = getattr(self, name)
        if np.ndim(mine):
            np.add(mine, value, out=mine)
        else:
            setattr(self, name, mine + float(value))

    def move(self, pivot: np.ndarray, fan_in: Sequence[int]) -> None:
        """Moves the sums to another pivot, in place."""
        step = self.pivot - pivot
        self.pivot = np.array(pivot, "float64")
        if not step.any():
            return
        over = np.expand_dims(step, fan_in)
        self.sum_y += self.count * step
        if self.sum_xy is not None:
            self.linear_y += self.linear_count * step
            _add_product(self.sum_xy, over, self.sum_x)
        if self.active_xy is not None:
            # Where the sum of x over the regime rests on a part of the pairs, it stands for all of them.
            counted: Any = self.active_count
            share = np.divide(self.active, counted, out=np.zeros_like(step), where=counted > 0)
            _add_product(self.active_xy, over * np.expand_dims(share, fan_in), self.active_x)

    def of_units(self, part: slice, axis: int, unit_axis: int) -> LayerStatistics:
        """The statistics of some units: a slice along an axis of the kernel, which is `unit_axis` of the unit shape."""
        units = (slice(None),) * unit_axis + (part,)
        kernel = (slice(None),) * axis + (part,)

        shapes = sums_of("all")

        def sliced(name, value):
            if value is None or not np.ndim(value):
                return value
            per_unit = shapes[name] == "unit_shape"
            at = units if per_unit else kernel
            # One entry for all units stays as it is.
            return value if not per_unit and value.shape[axis] == 1 else value[at]

        return LayerStatistics(**{name: sliced(name, value) for name, value in vars(self).items()})


def _add_product(total, factor, values):
    """`total += factor * values`, some rows at a time."""
    # In place, since these are the largest arrays on the host.
    rows = max(1, _AT_A_TIME * len(total) // max(total.size, 1))
    for start in range(0, len(total), rows):
        part = slice(start, start + rows)
        total[part] += (factor if len(factor) == 1 else factor[part]) * (values if len(values) == 1 else values[part])


@dataclasses.dataclass(frozen=True)
class LayerFacts:
    """What is known of a layer without data; parts of one whole agree in all of it.

    Attributes:
        fingerprint: a hash of the weights.
        kind: one of `estimators.KINDS`.
        activation: the name of the activation that decides the regime, "" for none.
        fan_in: the kernel axes over which a unit sums its inputs.
        is_output: whether the layer's value is an output of the model (a logit).
        gathered: a key of `GATHERED`.
    """

    fingerprint: str
    kind: str
    activation: str
    fan_in: tuple[int, ...]
    is_output: bool
    gathered: str
