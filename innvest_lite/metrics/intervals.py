"""Intervals of means: by bootstrap over samples, and by Student's t over a few runs. Called by the records of measures."""

from __future__ import annotations

import math

import numpy as np

from innvest_lite.errors import InvalidInputError
from innvest_lite.options import finite, positive, seed_of

# Each halves the interval that holds a quantile's angle: more than float64 can tell apart.
_HALVINGS = 60
# How many draws are held at a time.
_DRAWS = 10**6


def bootstrap(values: np.ndarray, level: float = 0.95, resamples: int = 2000, seed: int = 0) -> tuple[float, float]:
    """The percentile bootstrap interval of the mean of samples.

    Args:
        values: float64 (samples,).
        level: of the interval, between 0 and 1.
        resamples: the number of bootstrap samples.
        seed: of the draws.

    Returns:
        `(low, high)`, two floats.

    Raises:
        InvalidInputError: a number out of range.
    """
    level = _level(level)
    generator = np.random.default_rng(seed_of(seed))
    left, means = positive(resamples, "resamples"), []
    while left:
        rows = min(left, max(1, _DRAWS // len(values)))
        means.append(values[generator.integers(len(values), size=(rows, len(values)))].mean(axis=1))
        left -= rows
    # Percentiles rather than a normal interval: areas and scores are bounded and skewed, and samples may be few.
    low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def student(values: np.ndarray, level: float) -> tuple[float, float]:
    """Student's t interval of the mean of a few runs: `mean -+ t sqrt(sum (v - mean)^2 / (n - 1) / n)`.

    A bootstrap of five values would be far too narrow.

    Args:
        values: float64 (runs,), at least two.
        level: of the interval, between 0 and 1.

    Returns:
        `(low, high)`, two floats.

    Raises:
        InvalidInputError: `level` is out of range.
    """
    half = student_quantile(_level(level), len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values))
    return float(values.mean() - half), float(values.mean() + half)


def student_quantile(level: float, degrees: int) -> float:
    """The t that a variable of Student's distribution stays within, on either side, with probability `level`.

    Args:
        level: between 0 and 1.
        degrees: of freedom, a whole number of at least 1.
    """
    low, high = 0.0, math.pi / 2
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, degrees) < level else (low, middle)
    return math.sqrt(degrees) * math.tan((low + high) / 2)


def _within(angle, degrees):
    """P(|T| < t) with tan(angle) = t / sqrt(degrees); Abramowitz and Stegun, 26.7.3 and 26.7.4."""
    odd = degrees % 2
    term = math.cos(angle) if odd else 1.0
    total = 0.0
    for power in range(odd + 1, degrees, 2):
        total += term
        term *= math.cos(angle) ** 2 * power / (power + 1)
    return (angle + math.sin(angle) * total) * 2 / math.pi if odd else math.sin(angle) * total


def _level(level):
    if not 0 < finite(level, "level") < 1:
        raise InvalidInputError(f"level should lie between 0 and 1, but is {level!r}.")
    return float(level)
