"""The thresholds of the estimators, on sums made by hand in float64: what is dead, ill-conditioned or live.

One unit, y = w'x with w = (1, 1), whose numbers are chosen so that every share is known beforehand.
"""

import dataclasses

import numpy as np
import pytest

from innvest_lite.patterns.estimators import KINDS, chosen, estimate, may_need_linear
from innvest_lite.patterns.layers import LayerStatistics

KERNEL = np.ones((2, 1))


def sums(x, bias=0.0, weights=None, pivot=0.0):
    """The statistics of samples (n, 2), from their definition: sums over samples times their weights, around a pivot."""
    x = np.asarray(x, "float64")
    weights = np.ones(len(x)) if weights is None else np.asarray(weights, "float64")
    y = x.sum(1)
    active, centred = weights * (y + bias > 0), weights * (y - pivot)
    return LayerStatistics(
        pivot=np.array([pivot]),
        count=weights.sum(),
        sum_y=np.array([centred.sum()]),
        linear_count=weights.sum(),
        linear_y=np.array([centred.sum()]),
        sum_x=(weights @ x)[:, None],
        sum_xy=(centred @ x)[:, None],
        active=np.array([active.sum()]),
        active_xy=((centred * (y + bias > 0)) @ x)[:, None],
        active_count=np.array([active.sum()]),
        active_x=(active @ x)[:, None],
    )


def report_of(estimator, statistics):
    """`(pattern, dead, ill_conditioned)` of the unit."""
    pattern, report = estimate(estimator, statistics, KERNEL, (0,))
    return pattern[:, 0], report.dead, report.ill_conditioned


def drifting():
    """Samples (n, 2) of which the last half differs from the first, and sums of which some were gathered of the first."""
    generator = np.random.default_rng(7)
    x = np.concatenate([generator.normal((0.4, 0.2), 1, (60, 2)), generator.normal((-0.3, 1.5), (2, 0.5), (60, 2))])
    whole, part = sums(x, pivot=0.3), sums(x[:60], pivot=0.3)
    taken = ("linear_count", "linear_y", "sum_x", "sum_xy", "active_count", "active_x")
    return x, dataclasses.replace(whole, **{name: getattr(part, name) for name in taken})


def test_sums_of_a_part_have_means_of_their_own():
    """Divided by the count of all, or around the mean of all, patterns of data that changes would be those of neither."""
    x, statistics = drifting()
    first, positive = x[:60], x.sum(1) > 0
    np.testing.assert_allclose(report_of("linear", statistics)[0], linear_pattern(first), rtol=1e-12)
    # E+[x y] of all, E+[x] of the first half, E[y] of all; y around the pivot, which is what sampling makes matter.
    y = x.sum(1) - 0.3
    covariance = (x * y[:, None])[positive].mean(0) - first[first.sum(1) > 0].mean(0) * y.mean()
    np.testing.assert_allclose(report_of("relu", statistics)[0], covariance / covariance.sum(), rtol=1e-12)


def test_what_has_not_varied_yet_may_need_the_linear_pattern():
    """A unit that is constant in the first samples: the rest of the data may make it unsound, or live."""
    assert may_need_linear(sums([[-1, -1]] * 9), KERNEL, (0,))
    assert not may_need_linear(sums(np.random.default_rng(8).normal(size=(500, 2))), KERNEL, (0,))


def linear_pattern(x):
    x = np.asarray(x, "float64")
    covariance = ((x - x.mean(0)) * (x.sum(1) - x.sum(1).mean())[:, None]).mean(0)
    return covariance / covariance.sum()


@pytest.mark.parametrize("estimator", ["linear", "relu"])
@pytest.mark.parametrize("share, dead", [(1e-12, True), (0.9e-10, True), (1.1e-10, False), (1e-6, False)])
def test_below_a_share_of_its_mean_a_variance_is_rounding(estimator, share, dead):
    """With y = 1 plus and minus the root of the share: below 1e-10 of E[y]^2, float32 cannot tell it from a constant."""
    step = np.sqrt(share)
    pattern, found, _ = report_of(estimator, sums([[1 + step, 0], [1 - step, 0]], pivot=1.0))
    assert found == dead
    # Both samples are active, and the second input never varies.
    np.testing.assert_allclose(pattern, [0, 0] if dead else [1, 0], atol=1e-6)


@pytest.mark.parametrize(
    "estimator, share, sound",
    [("relu", 2e-3, True), ("relu", 0.5e-3, False), ("relu.safe", 0.2, True), ("relu.safe", 0.05, False)],
)
def test_below_a_share_of_the_variance_the_linear_pattern_stands_in(estimator, share, sound):
    """Four samples y = (-1, -1, t, t), so w'cov+ = t^2 - t (t - 1) / 2, which is a share of var[y] = (1 + t)^2 / 4."""
    t = share / (2 - share)
    x = np.array([[-1.5, 0.5], [-0.5, -0.5], [t, 0], [t + 0.25, -0.25]])
    pattern, dead, ill = report_of(estimator, sums(x))
    active, y = x.sum(1) > 0, x.sum(1)
    in_regime = (x * y[:, None])[active].mean(0) - x[active].mean(0) * y.mean()
    np.testing.assert_allclose(in_regime.sum() / y.var(), share, rtol=1e-9)
    assert (dead, ill) == (0, 0 if sound else 1)
    np.testing.assert_allclose(pattern, in_regime / in_regime.sum() if sound else linear_pattern(x), rtol=1e-9)


@pytest.mark.parametrize("estimator", ["linear", "relu", "relu.negative"])
@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e6])
def test_weights_count_by_their_ratios_alone(estimator, scale):
    """Also far below 1, where counts are no longer counts."""
    rng = np.random.default_rng(4)
    x, weights = rng.normal(0.3, 1, (40, 2)), rng.uniform(0.1, 1, 40)
    expected = report_of(estimator, sums(x, weights=weights))
    np.testing.assert_allclose(report_of(estimator, sums(x, weights=scale * weights))[0], expected[0], rtol=1e-9)
    assert np.all(expected[0] != 0)


@pytest.mark.parametrize("estimator", ["linear", "relu", "relu.negative"])
def test_the_pivot_does_not_matter(estimator):
    """E[x y] - E[x] E[y] with the last mean over all samples; only the difference does not depend on where y is zero."""
    x = np.random.default_rng(5).normal(0.3, 1, (40, 2))
    expected, *_ = report_of(estimator, sums(x))
    for pivot in (-2.0, 0.7, 30.0):
        np.testing.assert_allclose(report_of(estimator, sums(x, pivot=pivot))[0], expected, rtol=1e-9)


@pytest.mark.parametrize("estimator, bias", [("relu", -100.0), ("relu.safe", -100.0), ("relu.negative", 100.0)])
def test_a_unit_that_is_never_in_the_regime_has_no_pattern(estimator, bias):
    x = np.random.default_rng(6).normal(size=(40, 2))
    pattern, dead, ill = report_of(estimator, sums(x, bias=bias))
    assert (pattern.tolist(), dead, ill) == ([0, 0], 1, 0)


def test_which_estimator_a_kind_of_layer_has():
    """The negative values of a single unit are the other class: "relu.safe" takes them all, the paper's a+ does not."""
    words = {kind: chosen("relu.rectified", kind) for kind in KINDS}
    assert words == {kind: "relu.safe" if kind == "rectified" else "linear" for kind in KINDS}
    assert chosen("relu.safe", "single") == chosen({"output": "relu.safe"}, "single") == "linear"
    assert [chosen("relu", kind) for kind in ("single", "sum")] == ["relu", "relu"]
    assert chosen({"sum": "relu.rectified"}, "sum") == "linear" and chosen({"sum": "filter"}, "rectified") == "relu.safe"
