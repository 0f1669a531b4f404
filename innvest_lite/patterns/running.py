"""The kernel-sized sums of a fit while it runs: totals that lose nothing to their rounding, in two float32 arrays each.

One is on the host, the total as float32 has it. The other is the device's: what came since the host last looked, on top of
what the total's rounding had left over, which goes back to where it will be added to (Kahan's compensated summation, the
compensation being the accumulator itself). So a fit keeps 8 bytes for each number, not 4 on the device and 8 on the host.
Called by `fitter`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import numpy as np

from innvest_lite.patterns.arrays import SplitArray, all_finite, blocks_of, rows_of
from innvest_lite.patterns.gatherer import Gatherer
from innvest_lite.patterns.layers import LayerStatistics
from innvest_lite.patterns.statistics import PatternStatistics
from innvest_lite.threads import in_threads


class RunningSums:
    """The kernel-sized sums of `PatternStatistics` while a fit adds to them.

    Args:
        statistics: their arrays are taken for what was there before, and are `SplitArray`.
        gatherer: what adds to the device's parts.
    """

    def __init__(self, statistics: PatternStatistics, gatherer: Gatherer) -> None:
        self._statistics, self._gatherer = statistics, gatherer
        for name, kind, layer in self._each():
            before = getattr(layer, kind)
            split = SplitArray(before.shape, device=functools.partial(gatherer.look, name, kind))
            if statistics.samples:
                split.own = [before.astype("float32")]
                gatherer.put(name, kind, (before - split.own[0]).astype("float32"))
            setattr(layer, kind, split)

    def _each(self) -> Iterator[tuple[str, str, LayerStatistics]]:
        for name in self._gatherer.names:
            for kind in self._gatherer.kinds(name):
                yield name, kind, self._statistics.layers[name]

    def add(self, name: str, kind: str, array: np.ndarray) -> None:
        """Adds an array to a sum on the host; for the first batch, which has not been to the device's sums."""
        split = getattr(self._statistics.layers[name], kind)
        split.own = [split.own[0] + array if split.own else array]

    def flush(self, move: bool) -> list[str]:
        """Adds the device's parts to the host's, and sends back what float32 leaves over.

        Args:
            move: whether to move the pivots to the means so far: exact as long as everything is gathered of every batch.

        Returns:
            The names of the layers with a sum that is not finite.
        """
        broken: list[str] = []
        if not self._gatherer.has_sums:
            return broken
        for name in self._gatherer.names:
            layer: Any = self._statistics.layers[name]
            fan_in = self._statistics.facts[name].fan_in
            shifts: dict = {}
            if move and layer.count:
                # Rounded to float32, the pivot that the device will subtract.
                pivot = np.float64(np.float32(layer.pivot + layer.sum_y / layer.count))
                shifts = layer.shifts(layer.pivot - pivot, fan_in)
                layer.move_small(pivot)
            finite = [self._settle(name, kind, *shifts.get(kind, ())) for kind in self._gatherer.kinds(name)]
            if not all(finite):
                broken.append(name)
        return broken

    def _settle(self, name: str, kind: str, factor: Any = None, of: str = "") -> bool:
        """Does so with one sum, to which `factor * sum of` is added; whether all of it is finite."""
        layer = self._statistics.layers[name]
        split, other = getattr(layer, kind), getattr(layer, of).held() if of else None
        held, own = split.held(), split.own
        # What the first batch left may be a tensor's own memory, which is not to be written to.
        high = own[0] if own and own[0].flags.writeable else np.empty(split.shape, "float32")
        rest = np.empty(split.shape, "float32")

        def settle(at: Any) -> bool:
            # What is not finite is found here, and said by the fitter.
            with np.errstate(invalid="ignore", over="ignore"):
                total = held[at]
                if other is not None:
                    total += rows_of(factor, at) * rows_of(other, at)
                high[at] = total
                np.subtract(total, high[at], out=rest[at], casting="same_kind")
            return bool(np.isfinite(high[at]).all())

        finite = in_threads(settle, blocks_of(split.shape))
        split.own = [high]
        self._gatherer.put(name, kind, rest)
        return all(finite)

    def held(self, name: str) -> LayerStatistics:
        """The statistics of a layer, for many looks at parts of them."""
        layer = self._statistics.layers[name]
        return dataclasses.replace(layer, **{kind: getattr(layer, kind).held() for kind in self._gatherer.kinds(name)})

    def finish(self, keep: bool) -> list[str]:
        """Takes the sums off the device; unless they are kept, they are freed there.

        Returns:
            The names of the layers with a sum that is not finite.
        """
        if not keep:
            self._gatherer.stop()
        broken = []
        for name, kind, layer in self._each():
            split = getattr(layer, kind).held()
            setattr(layer, kind, split)
            if not all_finite(split):
                broken.append(name)
            if not keep:
                self._gatherer.drop(name, kind)
        return list(dict.fromkeys(broken))
