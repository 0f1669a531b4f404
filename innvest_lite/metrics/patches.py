"""An input divided into patches: the sums over patches, and back from a value per patch to a value per position.

Sums are computed on the host in float64, so that neither batch size nor device changes which patch is first. Called by
`degradation` and `single_deletion`; cells of a grid are patches too.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
from keras import ops


@dataclasses.dataclass(frozen=True)
class Patches:
    """The patches of one input, counted from its first position.

    Attributes:
        axes: along which positions lie.
        channel: the axis of the channels, or None.
        sizes: how many positions lie along each axis.
        starts: for each axis, where patches begin: a position each, the first 0.
    """

    axes: tuple[int, ...]
    channel: int | None
    sizes: tuple[int, ...]
    starts: tuple[tuple[int, ...], ...]

    @classmethod
    def of_size(cls, axes: tuple[int, ...], channel: int | None, sizes: tuple[int, ...], patch: int) -> Patches:
        """Patches of so many positions along each axis; those at the far border may be smaller."""
        return cls(axes, channel, sizes, tuple(tuple(range(0, size, patch)) for size in sizes))

    @classmethod
    def in_cells(cls, axes: tuple[int, ...], channel: int | None, sizes: tuple[int, ...], grid: tuple[int, ...]) -> Patches:
        """The cells of a grid of so many along each axis, as in `cell_of`."""
        pairs = zip(sizes, grid, strict=True)
        return cls(
            axes, channel, sizes, tuple(tuple(cell * size // cells for cell in range(cells)) for size, cells in pairs)
        )

    @property
    def grid(self) -> tuple[int, ...]:
        """How many patches lie along each axis."""
        return tuple(map(len, self.starts))

    @property
    def count(self) -> int:
        """How many patches there are."""
        return math.prod(self.grid)

    def sums(self, x: np.ndarray) -> np.ndarray:
        """The sum of each patch, per channel: float64, of the axes of `x`, with `grid` in place of `sizes`."""
        for axis, starts in zip(self.axes, self.starts, strict=True):
            x = np.add.reduceat(x, starts, axis=axis, dtype="float64")
        return x

    def means(self, x: np.ndarray) -> np.ndarray:
        """As `sums`, the means."""
        return self.sums(x) / self.sums(np.ones([self._size_of(axis) for axis in range(x.ndim)]))

    def _size_of(self, axis):
        return self.sizes[self.axes.index(axis)] if axis in self.axes else 1

    def totals(self, attributions: np.ndarray) -> np.ndarray:
        """The sum of each patch over positions and channels, the patches in C order: float64 (batch, count)."""
        return self.sums(attributions).sum(axis=self.channel or ()).reshape(len(attributions), self.count)

    def on_grid(self, values: np.ndarray) -> np.ndarray:
        """Values (batch, count) in the axes of the input, with `grid` for its sizes and one channel."""
        values = values.reshape(len(values), *self.grid)
        return values if self.channel is None else np.expand_dims(values, self.channel)

    def spread(self, tensor: Any) -> Any:
        """A tensor with `grid` in place of `sizes`, each value at all positions of its patch."""
        for axis, size, starts in zip(self.axes, self.sizes, self.starts, strict=True):
            tensor = ops.take(tensor, np.searchsorted(starts, np.arange(size), side="right") - 1, axis=axis)
        return tensor


def cell_of(positions: Any, size: Any, cells: int) -> Any:
    """The cell of each position along an axis: cell c of n begins at position floor(c * size / n).

    Args:
        positions: whole numbers, an array or a tensor.
        size: how many positions there are.
        cells: how many cells; at most `size`, so that none is empty.
    """
    return ((positions + 1) * cells - 1) // size
