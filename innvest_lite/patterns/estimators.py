"""From sums to patterns: the estimators of the signal (Kindermans et al. 2017, arXiv 1705.05598, section 3).

All with y = w'x, without the bias; pure float64 functions of a layer's statistics and its kernel. By construction
sum(w * a) = 1 over the fan-in of every live unit.
"""

import dataclasses

import numpy as np

# Where w'cov is below this share of var[y], the two-component pattern is not determined by the data: decision 4.
ILL_CONDITIONED = 1e-3
# Where var[y] is below this share of E[y]^2, float32 cannot tell y from a constant.
_CONSTANT = 1e-10

ESTIMATORS = ("linear", "relu", "relu.negative", "filter")


@dataclasses.dataclass(frozen=True)
class LayerReport:
    """What the data said of one layer.

    Attributes:
        count: pairs (x, y) that the estimate rests on: samples times positions.
        active: mean share of pairs in the positive regime; NaN where that was not gathered.
        units: the number of units.
        dead: units never in the regime, or whose y never varies; their pattern is 0.
        ill_conditioned: units whose two-component pattern the data does not determine; theirs is the linear one.
    """

    count: int
    active: float
    units: int
    dead: int
    ill_conditioned: int


def estimate(estimator, statistics, kernel, fan_in):
    """The pattern of a layer.

    Args:
        estimator: one of `ESTIMATORS`.
        statistics: a `LayerStatistics`; None for "filter", which needs no data.
        kernel: the effective kernel, float64.
        fan_in: the kernel axes over which a unit sums its inputs.

    Returns:
        `(pattern, report)`: float64 in the kernel's shape, and a `LayerReport`.
    """
    if estimator == "filter":
        pattern, live = _normalized(kernel, kernel, fan_in, np.zeros(()))
        return pattern, LayerReport(0, float("nan"), live.size, int((~live).sum()), 0)
    mean_y = statistics.sum_y / statistics.count
    covariance = statistics.sum_xy / statistics.count - (statistics.sum_x / statistics.count) * _over(mean_y, fan_in)
    linear, varies = _normalized(covariance, kernel, fan_in, _CONSTANT * mean_y**2)
    ill = np.zeros_like(varies)
    pattern, live = linear, varies
    if estimator != "linear":
        variance = np.sum(kernel * covariance, axis=fan_in)
        count, sum_x, sum_xy = _regime(estimator, statistics)
        live = varies & (count > 0)
        share = _over(np.maximum(count, 1), fan_in)
        in_regime = sum_xy / share - (sum_x / share) * _over(mean_y, fan_in)
        pattern, sound = _normalized(in_regime, kernel, fan_in, ILL_CONDITIONED * variance)
        ill = live & ~sound
        pattern = np.where(_over(ill, fan_in), linear, pattern)
    pattern = np.where(_over(live, fan_in), pattern, 0.0)
    active = float(np.mean(statistics.active) / statistics.count) if statistics.active.size else float("nan")
    return pattern, LayerReport(statistics.count, active, live.size, int((~live).sum()), int(ill.sum()))


def _regime(estimator, statistics):
    """Count, sum of x and sum of x y over the regime; the negative one is what the positive one leaves."""
    if estimator == "relu":
        return statistics.active, statistics.active_x, statistics.active_xy
    return (
        statistics.count - statistics.active,
        statistics.sum_x - statistics.active_x,
        statistics.sum_xy - statistics.active_xy,
    )


def _normalized(direction, kernel, fan_in, least):
    """`direction / (w'direction)`, and for which units w'direction is above `least`; 0 for the others."""
    denominator = np.sum(kernel * direction, axis=fan_in)
    sound = denominator > np.maximum(least, 0)
    safe = np.where(sound, denominator, 1.0)
    return np.where(_over(sound, fan_in), direction / _over(safe, fan_in), 0.0), sound


def _over(per_unit, fan_in):
    """Shapes one number a unit so that it broadcasts against the kernel."""
    return np.expand_dims(per_unit, fan_in)
