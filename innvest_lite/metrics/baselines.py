"""Results by the name of their method: what tables of them check, and gains over one of them, sample by sample.

Called by the records and tables of `degradation`, `single_deletion` and `ground_truth`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from innvest_lite.errors import InvalidInputError
from innvest_lite.metrics.intervals import bootstrap

GAIN = ("gain", "gain_low", "gain_high")
"""The numbers of a gain, as `to_dict` of a table names them."""


def gained(gains: np.ndarray, level: float, resamples: int, seed: int) -> tuple[float, float, float]:
    """The mean of gains, one a sample, and its percentile bootstrap interval: `(mean, low, high)`; see `bootstrap`."""
    return float(gains.mean()), *bootstrap(gains, level, resamples, seed)


def check_results(results: Any, kind: type) -> None:
    """Raises InvalidInputError unless `results` maps at least one name to results of a `kind`, and nothing else."""
    if not isinstance(results, Mapping) or not results or not all(isinstance(result, kind) for result in results.values()):
        raise InvalidInputError(f"results should map at least one name to a {kind.__name__}, but is {results!r}.")


def check_baseline(baseline: str | None, names: Iterable[str]) -> None:
    """Raises InvalidInputError where `baseline` names none of the methods."""
    if baseline is not None and baseline not in names:
        raise InvalidInputError(f"baseline should be one of {list(names)}, but is {baseline!r}.")
