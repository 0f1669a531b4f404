"""What `ground_truth` finds on several seeds: means and Student's t intervals over seeds."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from innvest_lite.errors import InvalidInputError
from innvest_lite.metrics.baselines import GAIN, check_baseline
from innvest_lite.metrics.intervals import student
from innvest_lite.metrics.scores import (
    MEAN,
    SCOPES,
    GroundTruthTable,
    check_scores,
    compared,
    globals_of,
)
from innvest_lite.options import one_of
from innvest_lite.tables import Tabled


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class GroundTruthSeeds(Tabled):
    """Methods compared on several seeds, the highest mean precision first. It prints as tables.

    Each seed, such as a network trained anew on new data, counts once: with the mean over its samples, or with the scores
    of its mean map. Intervals are Student's t intervals over seeds, which may end beyond the range of a score.

    Attributes:
        tables: a `GroundTruthTable` per seed.
        baseline: the name of the method that the others are compared with seed by seed, or None.
    """

    tables: tuple[GroundTruthTable, ...]
    baseline: str | None = None

    def values(self, name: str, score: str, scope: str = "local") -> np.ndarray:
        """A score of each seed.

        Args:
            name: of the method.
            score: such as "precision".
            scope: "local", the mean over samples, or "global", of the mean map.

        Returns:
            float64 (seeds,).

        Raises:
            InvalidInputError: there is no such method, score or scope.
        """
        results = [each.results[one_of(name, tuple(self.tables[0].results), "name")] for each in self.tables]
        one_of(score, tuple(results[0].scores), "score")
        if one_of(scope, SCOPES, "scope") == "global":
            results = globals_of(results)
            if not results:
                raise InvalidInputError(
                    'There is nothing "global": the truth differs between samples, and a mean map has none.'
                )
        return np.array([result.scores[score].mean() for result in results])

    def interval(self, name: str, score: str, scope: str = "local", level: float = 0.95) -> tuple[float, float]:
        """Student's t interval, over seeds, of the mean.

        Args:
            name: of the method.
            score: such as "precision".
            scope: "local" or "global", as in `values`.
            level: of the interval, between 0 and 1.

        Returns:
            `(low, high)`, two floats.

        Raises:
            InvalidInputError: there is no such method, score or scope, or `level` is out of range.
        """
        return student(self.values(name, score, scope), level)

    def gain(self, name: str, score: str, scope: str = "local", level: float = 0.95) -> tuple[float, float, float]:
        """By how much a method exceeds the baseline, seed by seed, with Student's t interval of these differences.

        Args:
            name: of the method.
            score: such as "precision".
            scope: "local" or "global", as in `values`.
            level: of the interval, between 0 and 1.

        Returns:
            `(mean, low, high)`, three floats.

        Raises:
            InvalidInputError: there is no baseline, or no such method, score or scope, or `level` is out of range.
        """
        if self.baseline is None:
            raise InvalidInputError(
                "There is no baseline to compare with: ground_truth_seeds(tables, baseline=...) names it."
            )
        gains = self.values(name, score, scope) - self.values(self.baseline, score, scope)
        return float(gains.mean()), *student(gains, level)

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """`{name: {"local": {score: {"mean", "low", "high"}}, "global": ...}}`, of plain Python values; 95 % intervals.

        With a baseline also "gain", "gain_low" and "gain_high". "global" is None where `values` has nothing global.
        """
        return {
            name: {"local": self._row(name, "local"), "global": self._row(name, "global") if self._global else None}
            for name in self._names
        }

    def _row(self, name, scope):
        found = {}
        for score in self.tables[0].results[name].scores:
            mean = float(self.values(name, score, scope).mean())
            found[score] = dict(zip(MEAN, (mean, *self.interval(name, score, scope)), strict=True))
            if self.baseline is not None:
                found[score] |= dict(zip(GAIN, self.gain(name, score, scope), strict=True))
        return found

    @property
    def _names(self):
        first = self.tables[0].results
        return tuple(sorted(first, key=lambda name: -sum(each.results[name].precision.mean() for each in self.tables)))

    @property
    def _global(self):
        return globals_of(result for each in self.tables for result in each.results.values())

    def _parts(self) -> Iterator[Any]:
        note = f"{len(self.tables)} seeds; 95 % intervals are Student's t over seeds"
        yield from (*compared(self.to_dict(), self.baseline), note)


def ground_truth_seeds(tables: Sequence[GroundTruthTable], baseline: str | None = None) -> GroundTruthSeeds:
    """Joins comparisons of several seeds: means and intervals over seeds, not over samples (Clark et al. 2024, 2306.12816).

    Samples of one network say nothing of the next one: a claim about a method wants intervals over networks, five at least.

    Args:
        tables: a `GroundTruthTable` per seed, at least two, all of the same methods and scores.
        baseline: the name of the method that the others are compared with seed by seed, or None.

    Returns:
        A `GroundTruthSeeds`; print it.

    Raises:
        InvalidInputError: there are no such tables, or they cannot be joined.

    Example:
        >>> from innvest_lite.metrics import ground_truth, ground_truth_seeds, ground_truth_table
        >>> masks, maps = np.array([[True, False, False]]), [np.array([[3.0, 1.0, 0.0]]), np.array([[1.0, -1.0, 2.0]])]
        >>> joined = ground_truth_seeds([ground_truth_table({"mine": ground_truth(each, masks)}) for each in maps])
        >>> joined.values("mine", "mass_accuracy")
        array([0.75, 0.25])
    """
    found = tuple(tables) if isinstance(tables, list | tuple) else ()
    if len(found) < 2 or not all(isinstance(each, GroundTruthTable) for each in found):
        raise InvalidInputError(
            f"tables should be at least two GroundTruthTables, one a seed: one alone has no interval; but is {tables!r}."
        )
    names = [set(each.results) for each in found]
    if any(each != names[0] for each in names):
        raise InvalidInputError(f"tables should be of the same methods, but are of {[sorted(each) for each in names]}.")
    check_scores(result for each in found for result in each.results.values())
    check_baseline(baseline, sorted(names[0]))
    return GroundTruthSeeds(found, baseline)
