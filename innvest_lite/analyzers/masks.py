"""What occlusion and RISE hide: windows that move over the input, and random grids. Called by `perturbation`."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

import numpy as np
from keras import ops

from innvest_lite.draws import uniform
from innvest_lite.errors import InvalidInputError


@dataclasses.dataclass(frozen=True, eq=False)
class Masks:
    """What is hidden of an input, mask by mask; subclasses are frozen."""

    def suited(self, has_channels: bool) -> Masks:
        """The masks of one input, which has channels, or is a table or a text."""
        return self

    def count(self, sizes: tuple) -> int:
        """How many masks an input with `sizes` positions along its spatial axes gets."""
        raise NotImplementedError

    def visible(self, numbers: Any, sizes: tuple, has_channels: bool, seed: Any = None) -> Any:
        """What stays visible: float32 (masks, *sizes) in [0, 1].

        Args:
            numbers: int32 (masks,), the numbers of the masks.
            sizes: of the input's spatial axes.
            has_channels: whether the input has channels; a table and a text have positions alone.
            seed: an int64 tensor in place of the own seed; None: the own one.
        """
        raise NotImplementedError

    def effect(self, scores: Any, clean: Any, visible: Any) -> tuple[Any, Any]:
        """What a round adds: the effect of each mask (batch, masks), and float32 (masks, *sizes), where it is credited.

        Args:
            scores: (batch, masks), the explained output under each mask.
            clean: (batch,), that of the clean sample.
            visible: what `visible` gave.
        """
        raise NotImplementedError

    def normalized(self, total: Any, sizes: tuple) -> Any:
        """The attribution (batch, *sizes) from the sum over all masks."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True, eq=False)
class Windows(Masks):
    """A window that moves over the input.

    Attributes:
        window: its size, see `Occlusion`.
        stride: how far it moves.
    """

    window: int | tuple | None
    stride: int | tuple | None

    def suited(self, has_channels: bool) -> Windows:
        """See `Masks.suited`: neighbours in a table or a text need not belong together, so one of them is hidden."""
        return dataclasses.replace(self, window=1) if self.window is None and not has_channels else self

    def extents(self, sizes: tuple) -> tuple[tuple, tuple]:
        """The window and the stride along each axis."""
        window = _spread(self.window, sizes) or tuple(max(1, size // 8) for size in sizes)
        window = tuple(min(pair) for pair in zip(window, sizes, strict=True))
        return window, _spread(self.stride, sizes) or tuple(max(1, size // 2) for size in window)

    def corners(self, sizes: tuple) -> np.ndarray:
        """The first position of every window, int32 (windows, axes); the last window ends at the border."""
        window, stride = self.extents(sizes)
        starts = [
            sorted({*range(0, size - extent + 1, step), size - extent})
            for size, extent, step in zip(sizes, window, stride, strict=True)
        ]
        return np.array(list(itertools.product(*starts)), "int32")

    def count(self, sizes: tuple) -> int:
        """See `Masks.count`."""
        return len(self.corners(sizes))

    def visible(self, numbers: Any, sizes: tuple, has_channels: bool, seed: Any = None) -> Any:
        """See `Masks.visible`."""
        window, _ = self.extents(sizes)
        corners = ops.take(ops.convert_to_tensor(self.corners(sizes)), numbers, axis=0)
        hidden = ops.ones((1,) * (len(sizes) + 1), "float32")
        for axis, (size, extent) in enumerate(zip(sizes, window, strict=True)):
            offset = ops.arange(size, dtype="int32")[None] - corners[:, axis, None]
            inside = ops.cast(ops.logical_and(offset >= 0, offset < extent), "float32")
            shape = [1] * (len(sizes) + 1)
            shape[0], shape[axis + 1] = numbers.shape[0], size
            hidden = hidden * ops.reshape(inside, shape)
        return 1 - hidden

    def effect(self, scores: Any, clean: Any, visible: Any) -> tuple[Any, Any]:
        """See `Masks.effect`: by how much the output falls, for what is hidden."""
        return clean[:, None] - scores, 1 - visible

    def normalized(self, total: Any, sizes: tuple) -> Any:
        """See `Masks.normalized`: the mean over the windows that hide a position."""
        window, _ = self.extents(sizes)
        covered = np.zeros(sizes, "float32")
        for corner in self.corners(sizes):
            covered[tuple(slice(start, start + extent) for start, extent in zip(corner, window, strict=True))] += 1
        # Windows that stride over positions hide some of them never; those get 0.
        return total / np.maximum(covered, 1)


@dataclasses.dataclass(frozen=True, eq=False)
class Grids(Masks):
    """Grids of a few cells, shown or hidden at random, enlarged linearly and moved at random.

    Attributes:
        masks: how many.
        cells: how many cells along each axis.
        probability: of a cell to be shown.
        seed: of the draws.
    """

    masks: int
    cells: int
    probability: float
    seed: int

    def count(self, sizes: tuple) -> int:
        """See `Masks.count`."""
        return self.masks

    def visible(self, numbers: Any, sizes: tuple, has_channels: bool, seed: Any = None) -> Any:
        """See `Masks.visible`."""
        seed = self.seed if seed is None else seed
        if not has_channels:
            # A table or a text: a position is not mixed with its neighbours.
            return ops.cast(uniform(sizes, seed, numbers[:, None]) < self.probability, "float32")
        cells = tuple(min(self.cells, size) for size in sizes)
        grid = uniform(tuple(cell + 1 for cell in cells), seed, numbers[:, None])
        # 1 below, else 0. A cast of booleans would be moved behind the transpositions, of which oneDNN complains.
        masks = ops.maximum(ops.sign(self.probability - grid), 0.0)
        keys = ops.stack([numbers, ops.full_like(numbers, 1)], axis=1)
        shifts = uniform((len(sizes),), seed, keys)
        for axis, (size, cell) in enumerate(zip(sizes, cells, strict=True)):
            enlarge, extent = _enlarging(size, cell)
            first = ops.cast(ops.floor(shifts[:, axis] * extent), "int32")
            rows = first[:, None] + ops.arange(size, dtype="int32")[None]
            matrix = ops.take(ops.convert_to_tensor(enlarge), rows, axis=0)
            moved = ops.moveaxis(masks, axis + 1, -1)
            masks = ops.moveaxis(ops.einsum("m...c,msc->m...s", moved, matrix), -1, axis + 1)
        return masks

    def effect(self, scores: Any, clean: Any, visible: Any) -> tuple[Any, Any]:
        """See `Masks.effect`: the output, for what is shown."""
        return scores, visible

    def normalized(self, total: Any, sizes: tuple) -> Any:
        """See `Masks.normalized`."""
        return total / (self.masks * self.probability)


def _enlarging(size: int, cells: int) -> tuple[np.ndarray, int]:
    """`(matrix, extent)`: linear interpolation from `cells + 1` cells to `(cells + 1) * extent` positions."""
    extent = math.ceil(size / cells)
    places = np.clip((np.arange((cells + 1) * extent) + 0.5) / extent - 0.5, 0, cells)
    return np.maximum(1 - np.abs(places[:, None] - np.arange(cells + 1)[None]), 0).astype("float32"), extent


def _spread(given: Any, sizes: tuple) -> Any:
    if isinstance(given, tuple) and len(given) != len(sizes):
        raise InvalidInputError(f"{given} does not fit an input with {len(sizes)} spatial axes.")
    return (given,) * len(sizes) if isinstance(given, int) else given
