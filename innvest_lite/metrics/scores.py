"""What `ground_truth` finds: scores per sample, and a comparison of methods; of several seeds, see `seeds`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from innvest_lite.errors import InvalidInputError
from innvest_lite.metrics.baselines import GAIN, check_baseline, check_results, gained
from innvest_lite.metrics.intervals import bootstrap
from innvest_lite.options import one_of
from innvest_lite.tables import Tabled

SCORES = ("precision", "mass_accuracy", "emd", "fni_emd", "auc", "signal_correlation")
"""All scores, in the order in which they are printed."""
SCOPES = ("local", "global")
"""Of each sample's map, with the mean over samples; and of the mean map."""
MEAN = ("mean", "low", "high")
"""The numbers that `to_dict` gives for a score."""


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class GroundTruth(Tabled):
    """How well maps show what is known to matter; 1 is best in all scores.

    Attributes:
        precision: float64 (samples,); see `ground_truth` for this and the other scores.
        mass_accuracy: float64 (samples,).
        fni_emd: float64 (samples,).
        auc: float64 (samples,).
        chance: float64 (samples,), the truth's share of the positions, which a constant map gets in precision and mass
            accuracy, and a random one on average; in auc they get 0.5.
        empty: bool (samples,), whether the map is 0 everywhere; it then counts as a constant one.
        emd: float64 (samples,), or None where it was not asked for.
        signal_correlation: float64 (samples,), or None where no signal was given.
        global_scores: the scores of one map, the mean of the signed maps over samples, as a `GroundTruth` of one sample;
            None where the truth differs between samples.
    """

    precision: np.ndarray
    mass_accuracy: np.ndarray
    fni_emd: np.ndarray
    auc: np.ndarray
    chance: np.ndarray
    empty: np.ndarray
    emd: np.ndarray | None = None
    signal_correlation: np.ndarray | None = None
    global_scores: GroundTruth | None = None

    @property
    def scores(self) -> dict[str, np.ndarray]:
        """The scores that there are: name -> float64 (samples,)."""
        return {name: getattr(self, name) for name in SCORES if getattr(self, name) is not None}

    @property
    def mean(self) -> dict[str, float]:
        """The mean over samples of each score."""
        return {name: float(values.mean()) for name, values in self.scores.items()}

    def interval(self, score: str, level: float = 0.95, resamples: int = 2000, *, seed: int = 0) -> tuple[float, float]:
        """A percentile bootstrap interval, over samples, of a score's mean.

        Args:
            score: its name, such as "precision".
            level: of the interval, between 0 and 1.
            resamples: the number of bootstrap samples.
            seed: of the draws.

        Returns:
            `(low, high)`, two floats.

        Raises:
            InvalidInputError: there is no such score, or a number is out of range.
        """
        return bootstrap(self._score(score), level, resamples, seed)

    def gain(
        self, baseline: GroundTruth, score: str, level: float = 0.95, resamples: int = 2000, *, seed: int = 0
    ) -> tuple[float, float, float]:
        """By how much a score's mean exceeds another's on the same samples, with its paired bootstrap interval.

        Args:
            baseline: another `GroundTruth` of the same samples, in the same order.
            score: its name, such as "precision".
            level: of the interval, between 0 and 1.
            resamples: the number of bootstrap samples.
            seed: of the draws.

        Returns:
            `(mean, low, high)`, three floats.

        Raises:
            InvalidInputError: there is no such score, a number is out of range, or the samples cannot be paired.
        """
        _check_pair(self, baseline)
        return gained(self._score(score) - baseline._score(score), level, resamples, seed)

    def _score(self, name):
        return self.scores[one_of(name, tuple(self.scores), "score")]

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain Python values: a list, one number a sample, for each score, and "global_scores" likewise."""
        found = {name: values.tolist() for name, values in self.scores.items()}
        found |= {"chance": self.chance.tolist(), "empty": self.empty.tolist()}
        return found | {"global_scores": self.global_scores and self.global_scores.to_dict()}

    def _parts(self) -> Iterator[Any]:
        shared = self.global_scores.mean if self.global_scores else {}
        rows = []
        for name, mean in self.mean.items():
            ends = (f"{end:.3f}" for end in self.interval(name))
            rows.append((name, f"{mean:.3f}", *ends, *([f"{shared[name]:.3f}"] if shared else [])))
        header = ("score", "mean", "95 % from", "to", *(["of the mean map"] if shared else []))
        note = _note({"these": self})
        yield from ((header, rows), note)


def _note(results, *more):
    """What stands below a table of named results."""
    samples = _span([len(result.chance) for result in results.values()], "")
    chance = _span([result.chance.mean() for result in results.values()], ".3f")
    empty = ", ".join(f"{result.empty.sum()} of {name}" for name, result in results.items() if result.empty.any())
    notes = [f"{samples} samples", f"chance is {chance} in precision and mass_accuracy, 0.5 in auc", *more]
    return "; ".join([*notes, *([f"maps that are 0 everywhere and count as constant: {empty}"] if empty else [])])


def _span(values, how):
    return " to ".join(dict.fromkeys(f"{value:{how}}" for value in (min(values), max(values))))


def _check_pair(result, baseline):
    """Raises InvalidInputError unless two results are of the same samples, as far as that can be told."""
    if not isinstance(baseline, GroundTruth):
        raise InvalidInputError(f"baseline should be a GroundTruth, but is {baseline!r}.")
    if not np.array_equal(result.chance, baseline.chance):
        raise InvalidInputError("baseline should be of the same samples, but its truth has other sizes.")


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class GroundTruthTable(Tabled):
    """Methods compared, the highest mean precision first. It prints as tables.

    Attributes:
        results: name -> `GroundTruth`.
        baseline: the name of the result that the others are compared with sample by sample, or None.
    """

    results: dict[str, GroundTruth]
    baseline: str | None = None

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """`{name: {"local": {score: {"mean", "low", "high"}}, "global": {score: {"mean"}}}}`, of plain Python values.

        Intervals are those of `GroundTruth.interval`. With a baseline also "gain", "gain_low" and "gain_high". "global",
        which has no intervals, is None where one of the results has no `global_scores`.
        """
        return {
            name: {"local": self._local(result), "global": self._global(result)} for name, result in self.results.items()
        }

    def _local(self, result):
        found = {name: dict(zip(MEAN, (mean, *result.interval(name)), strict=True)) for name, mean in result.mean.items()}
        if self.baseline is not None:
            for name, numbers in found.items():
                numbers |= dict(zip(GAIN, result.gain(self.results[self.baseline], name), strict=True))
        return found

    def _global(self, result):
        if not globals_of(self.results.values()):
            return None
        found = {name: {"mean": mean} for name, mean in result.global_scores.mean.items()}
        if self.baseline is not None:
            than = self.results[self.baseline].global_scores.mean
            found = {name: {**numbers, "gain": numbers["mean"] - than[name]} for name, numbers in found.items()}
        return found

    def _parts(self) -> Iterator[Any]:
        note = _note(self.results, "95 % intervals are of a bootstrap over samples")
        yield from (*compared(self.to_dict(), self.baseline), note)


def ground_truth_table(results: Mapping[str, GroundTruth], baseline: str | None = None) -> GroundTruthTable:
    """Compares methods by how well they show a known truth (Clark et al. 2024, arXiv 2306.12816).

    Args:
        results: name -> `GroundTruth`, all with the same scores.
        baseline: the name of one of them, such as that of a constant map, with which the others are then compared sample by
            sample (all of them must be of the same samples); or None.

    Returns:
        A `GroundTruthTable`; print it.

    Raises:
        InvalidInputError: it is not such a mapping, or the samples cannot be paired.

    Example:
        >>> from innvest_lite.metrics import ground_truth, ground_truth_table
        >>> masks, maps = np.array([[True, False, False, False]]), np.array([[3.0, 1.0, 0.0, 0.0], [1.0, -1.0, 2.0, 0.0]])
        >>> results = {"mine": ground_truth(maps, masks), "constant": ground_truth(np.ones_like(maps), masks)}
        >>> ground_truth_table(results, baseline="constant").to_dict()["mine"]["local"]["mass_accuracy"]["gain"]
        0.25
    """
    check_results(results, GroundTruth)
    check_scores(results.values())
    check_baseline(baseline, results)
    if baseline is not None:
        for result in results.values():
            _check_pair(result, results[baseline])
    return GroundTruthTable(dict(sorted(results.items(), key=lambda pair: -pair[1].mean["precision"])), baseline)


def check_scores(results: Iterable[GroundTruth]) -> None:
    """Raises InvalidInputError unless all results have the same scores."""
    different = {tuple(result.scores) for result in results}
    if len(different) > 1:
        raise InvalidInputError(f"Only the same scores can be compared, but there are {sorted(different)}.")


def globals_of(results: Iterable[GroundTruth]) -> list[GroundTruth]:
    """The `global_scores` of all results; [] where one has none."""
    found = [result.global_scores for result in results]
    return [scores for scores in found if scores is not None] if None not in found else []


def compared(rows: Mapping[str, Mapping[str, Any]], baseline: str | None) -> Iterator[Any]:
    """A table for each scope, and one of gains, as `(header, rows)`, with empty lines between them."""
    parts = [(scope, MEAN) for scope in SCOPES]
    if baseline is not None:
        parts = [part for scope in SCOPES for part in ((scope, MEAN), (f"{scope}, gain over {baseline}", GAIN))]
    blocks = [block for title, numbers in parts if (block := _block(rows, title, numbers))]
    for number, block in enumerate(blocks):
        yield from ([""] if number else [])
        yield block


def _block(rows, title, numbers):
    scope = title.partition(",")[0]
    if any(row[scope] is None for row in rows.values()):
        return None
    scores = list(next(iter(rows.values()))[scope])
    cells = [(name, *(_cell(*map(row[scope][score].get, numbers)) for score in scores)) for name, row in rows.items()]
    return (title, *scores), cells


def _cell(mean, low, high):
    return f"{mean:.3f}" if low is None else f"{mean:.3f} ({low:.3f} to {high:.3f})"
