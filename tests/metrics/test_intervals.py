"""Intervals of means. The bootstrap is also tested where it is used, on areas and on scores."""

import numpy as np
import pytest
from scipy import stats

from innvest_lite import InvalidInputError
from innvest_lite.metrics import intervals
from innvest_lite.metrics.intervals import bootstrap, student, student_quantile


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 5, 9, 10, 29, 100])
def test_quantiles_of_student(degrees):
    for level in (0.5, 0.9, 0.95, 0.99, 0.999):
        assert student_quantile(level, degrees) == pytest.approx(stats.t.ppf((1 + level) / 2, degrees), rel=1e-9)


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_the_interval_of_a_few_runs(level):
    values = np.random.default_rng(0).normal(3, 2, 5)
    expected = stats.t.interval(level, 4, loc=values.mean(), scale=stats.sem(values))
    assert student(values, level) == pytest.approx(expected)


def test_it_covers_the_mean_as_often_as_it_says():
    """In 2000 runs of five values, 95 % within four standard errors, 0.0049 each."""
    runs = np.random.default_rng(1).normal(size=(2000, 5))
    ends = np.array([student(run, 0.95) for run in runs])
    assert np.mean((ends[:, 0] < 0) & (ends[:, 1] > 0)) == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize("level", [0, 1, 95, None])
def test_bad_levels(level):
    with pytest.raises(InvalidInputError, match="level should"):
        student(np.arange(3.0), level)


def test_a_bootstrap_is_the_same_however_many_draws_are_held(monkeypatch):
    values = np.random.default_rng(0).normal(size=7)
    found = bootstrap(values, resamples=100)
    generator = np.random.default_rng(0)
    means = [values[generator.integers(7, size=7)].mean() for _ in range(100)]
    assert found == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])))
    for held in (1, 7, 30):
        monkeypatch.setattr(intervals, "_DRAWS", held)
        assert bootstrap(values, resamples=100) == found
