"""Bootstrap intervals, over samples, of a measure's mean. Called by the measures that have one number a sample."""

from __future__ import annotations

import numpy as np

from innvest_lite.errors import InvalidInputError
from innvest_lite.options import finite, positive, seed_of


def bootstrap(values: np.ndarray, level: float = 0.95, resamples: int = 2000, seed: int = 0) -> tuple[float, float]:
    """The percentile interval of a mean.

    Args:
        values: float (samples,).
        level: of the interval, between 0 and 1.
        resamples: the number of bootstrap samples.
        seed: of the draws.

    Returns:
        `(low, high)`.

    Raises:
        InvalidInputError: a number out of range.
    """
    if not 0 < finite(level, "level") < 1:
        raise InvalidInputError(f"level should lie between 0 and 1, but is {level!r}.")
    generator = np.random.default_rng(seed_of(seed))
    # Percentiles rather than a normal interval: areas are bounded and skewed, and samples may be few.
    draws = (generator.integers(len(values), size=len(values)) for _ in range(positive(resamples, "resamples")))
    low, high = np.quantile([values[draw].mean() for draw in draws], [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
