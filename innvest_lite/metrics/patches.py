"""An input divided into patches: the sums over patches, and back from a value per patch to a value per position.

Sums are computed on the host in float64, so that neither batch size nor device changes which patch is first. Called by
`degradation`.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
from keras import ops


@dataclasses.dataclass(frozen=True)
class Patches:
    """The patches of one input, counted from its first position; those at the far border may be smaller.

    Attributes:
        axes: along which positions lie.
        channel: the axis of the channels, or None.
        sizes: how many positions lie along each axis.
        patch: how many positions a patch has along each axis.
    """

    axes: tuple[int, ...]
    channel: int | None
    sizes: tuple[int, ...]
    patch: int

    @property
    def grid(self) -> tuple[int, ...]:
        """How many patches lie along each axis."""
        return tuple(-(-size // self.patch) for size in self.sizes)

    @property
    def count(self) -> int:
        """How many patches there are."""
        return math.prod(self.grid)

    def sums(self, x: np.ndarray) -> np.ndarray:
        """The sum of each patch, per channel: float64, of the axes of `x`, with `grid` in place of `sizes`."""
        for axis, size in zip(self.axes, self.sizes, strict=True):
            x = np.add.reduceat(x, np.arange(0, size, self.patch), axis=axis, dtype="float64")
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
        for axis, size in zip(self.axes, self.sizes, strict=True):
            tensor = ops.take(tensor, np.arange(size) // self.patch, axis=axis)
        return tensor
