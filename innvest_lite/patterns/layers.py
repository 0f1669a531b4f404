"""The sums of one linear layer, around a pivot, and the facts about the layer that need no data.

Used by `statistics`, which keeps them for all layers of a model.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from innvest_lite.patterns.arrays import SplitArray, blocks_of, rows_of
from innvest_lite.patterns.estimators import ESTIMATORS
from innvest_lite.threads import in_threads

if TYPE_CHECKING:
    from innvest_lite.forms import LinearForm

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

    @property
    def is_finite(self) -> bool:
        """Whether the small sums, those of a few numbers a unit, are numbers: where y is not, they are not."""
        small = (self.pivot, self.count, self.linear_count, self.sum_y, self.linear_y, self.active, self.active_count)
        return all(value is None or bool(np.isfinite(value).all()) for value in small)

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
        self._make_plain()
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
        self._make_plain()
        for name, (factor, of) in self.shifts(self.pivot - pivot, fan_in).items():
            _add_product(getattr(self, name), factor, getattr(self, of))
        self.move_small(pivot)

    def _make_plain(self):
        """Makes plain arrays of all sums, which can be changed in place."""
        for name, value in vars(self).items():
            if isinstance(value, SplitArray):
                setattr(self, name, np.asarray(value))

    def shifts(self, step: np.ndarray, fan_in: Sequence[int]) -> dict[str, tuple[np.ndarray, str]]:
        """What a move of the pivot adds to the products with y.

        Args:
            step: how much smaller the new pivot is, in unit shape.
            fan_in: the kernel axes over which a unit sums its inputs.

        Returns:
            Name of a product -> a factor that broadcasts against the kernel, and the name of the sum that it multiplies.
        """
        if not step.any():
            return {}
        over, found = np.expand_dims(step, fan_in), {}
        if self.sum_xy is not None:
            found["sum_xy"] = over, "sum_x"
        if self.active_xy is not None:
            # Where the sum of x over the regime rests on a part of the pairs, it stands for all of them.
            counted: Any = self.active_count
            share = np.divide(self.active, counted, out=np.zeros_like(step), where=counted > 0)
            found["active_xy"] = over * np.expand_dims(share, fan_in), "active_x"
        return found

    def move_small(self, pivot: np.ndarray) -> None:
        """Moves the pivot and the sums of y alone, in place."""
        step = self.pivot - pivot
        self.pivot = np.array(pivot, "float64")
        if self.sum_y is not None:
            self.sum_y += self.count * step
            self.linear_y += self.linear_count * step


def _add_product(total, factor, values):
    """`total += factor * values`, some rows at a time."""

    # In place, since these are the largest arrays on the host.
    def add(part):
        total[part] += rows_of(factor, part) * rows_of(values, part)

    in_threads(add, blocks_of(total.shape))


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
