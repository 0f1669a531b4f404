"""From sums to patterns: the estimators of the signal (Kindermans et al. 2017, arXiv 1705.05598, section 3).

All with y = w'x, without the bias; pure float64 functions of a layer's statistics and its kernel. By construction
sum(w * a) = 1 over the fan-in of every live unit.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from innvest_lite.errors import InvalidInputError
from innvest_lite.options import one_of

if TYPE_CHECKING:
    from innvest_lite.patterns.layers import LayerStatistics

# Where w'cov is below this share of var[y], the two-component pattern is not determined by the data (docs/design.md,
# decision 4). Divided by less than a tenth, it is determined but so long that it drowns all others: see docs/evidence.md.
ILL_CONDITIONED = {"relu": 1e-3, "relu.negative": 1e-3, "relu.safe": 0.1}
# A unit above this share on the first samples will hardly fall below the shares above on all samples.
_SAFE = 0.3
# Where var[y] is below this share of E[y]^2, float32 cannot tell y from a constant.
_CONSTANT = 1e-10
# Values of a layer that are estimated at a time: float64 copies of a whole wide layer would take more memory than its
# forward pass.
_AT_A_TIME = 1 << 22

ESTIMATORS = ("linear", "relu", "relu.safe", "relu.rectified", "relu.negative", "filter")
KINDS = ("rectified", "unrectified", "output", "single", "sum", "average")
"""What a choice of estimators tells apart: layers with weights whose value reaches a rectifier; hidden ones whose value
does not, such as linear bottlenecks and the depthwise halves of separable convolutions; outputs; outputs of a single unit,
whose two signs are two classes or none; sums; average pooling."""
RENAMED_KINDS = {"linear": "rectified"}
"""The former name of a kind, which meant another thing than the estimator of that name -> its present name."""
DEFAULT = "relu.rectified"
"""Chosen by the evidence in `docs/evidence.md`."""


@dataclasses.dataclass(frozen=True)
class LayerReport:
    """What the data said of one layer.

    Attributes:
        count: pairs (x, y) that the estimate rests on: samples (times their weights) times positions.
        active: mean share of pairs in the positive regime; NaN where that was not gathered.
        units: the number of units.
        dead: units never in the regime, or whose y never varies; their pattern is 0.
        ill_conditioned: units whose two-component pattern the data does not determine; they have the linear pattern.
        estimator: by which the pattern was estimated.
        activation: the name of the activation that decides the regime, "" where the layer's value reaches none.
    """

    count: float
    active: float
    units: int
    dead: int
    ill_conditioned: int
    estimator: str = ""
    activation: str = ""

    def __post_init__(self) -> None:
        if math.isnan(self.active):
            # One and the same NaN, so that reports of which a share was not gathered equal each other.
            object.__setattr__(self, "active", math.nan)

    @property
    def note(self) -> str:
        """What about this layer the paper does not cover; "" where it covers all."""
        if self.activation in ("", "relu"):
            return ""
        return f"{self.activation}: the paper covers ReLU only"


def checked_choice(estimator: Any) -> str | dict[str, str]:
    """A choice of estimators: a word for all layers, or a mapping from the kinds of `KINDS` to words.

    Raises:
        InvalidInputError: there is no such kind or estimator.
    """
    if not isinstance(estimator, Mapping):
        return one_of(estimator, ESTIMATORS, "estimator")
    for old in estimator.keys() & RENAMED_KINDS:
        new = RENAMED_KINDS[old]
        warnings.warn(f"The kind of layer {old!r} is called {new!r} now.", DeprecationWarning, stacklevel=3)
        if new in estimator:
            raise InvalidInputError(f"estimator has both {new!r} and its former name, {old!r}; give one of them.")
    estimator = with_present_names(estimator)
    unknown = [kind for kind in estimator if kind not in KINDS]
    if unknown:
        raise InvalidInputError(f"estimator maps kinds of layers to estimators; the kinds are {KINDS}, not {unknown[0]!r}.")
    return {kind: one_of(word, ESTIMATORS, f"estimator[{kind!r}]") for kind, word in estimator.items()}


def with_present_names(estimator: str | Mapping[str, str]) -> str | dict[str, str]:
    """A choice of estimators, as `checked_choice` takes it, with the present names of the kinds; for files of others."""
    if not isinstance(estimator, Mapping):
        return estimator
    return {RENAMED_KINDS.get(kind, kind): word for kind, word in estimator.items()}


def chosen(estimator: str | Mapping[str, str], kind: str) -> str:
    """The estimator of a choice for layers of a kind; the default for a kind that a mapping leaves out.

    "relu.rectified" is "relu.safe" where a rectifier, or another activation, decides which values pass. Elsewhere values of
    both signs pass, and it is "linear": also at outputs, whose signal is what tells the classes apart, and where it is
    above 0 there is little but one of them.
    A single unit counts as an output where nothing else is said of it. It has no positive regime of its own: its negative
    values are the other class, so that "relu.safe" takes all of them, "linear".
    """
    if isinstance(estimator, str):
        word = estimator
    else:
        word = estimator.get(kind, estimator.get("output", DEFAULT) if kind == "single" else DEFAULT)
    if word == "relu.rectified":
        word = "relu.safe" if kind == "rectified" else "linear"
    return "linear" if kind == "single" and word == "relu.safe" else word


def estimate(
    estimator: str, statistics: LayerStatistics | None, kernel: np.ndarray, fan_in: Sequence[int], dtype: str = "float64"
) -> tuple[np.ndarray, LayerReport]:
    """The pattern of a layer.

    Args:
        estimator: one of `ESTIMATORS`.
        statistics: a `LayerStatistics`; None for "filter", which needs no data.
        kernel: the effective kernel.
        fan_in: the kernel axes over which a unit sums its inputs.
        dtype: of the pattern; whatever it is, the arithmetic is float64.

    Returns:
        `(pattern, report)`: the pattern in the kernel's shape, and a `LayerReport`.
    """
    pattern = np.empty(kernel.shape, dtype)
    dead = ill = 0
    for at, own, weights in _blocks(statistics, kernel, fan_in):
        pattern[at], live, unsound = _estimated(estimator, own, weights, fan_in)
        dead, ill = dead + int((~live).sum()), ill + int(unsound.sum())
    size = math.prod(size for axis, size in enumerate(kernel.shape) if axis not in fan_in)
    if statistics is None:
        return pattern, LayerReport(0, float("nan"), size, dead, ill, estimator)
    gathered = statistics.active is not None
    active = float(np.mean(statistics.active) / statistics.count) if gathered else float("nan")
    return pattern, LayerReport(statistics.count, active, size, dead, ill, estimator)


def may_need_linear(statistics: LayerStatistics, kernel: np.ndarray, fan_in: Sequence[int]) -> bool:
    """Whether, by the sums so far, some unit may end with the linear pattern because its two-component one is not sound.

    Args:
        statistics: the `LayerStatistics` of the first samples, with all products.
        kernel: the effective kernel.
        fan_in: the kernel axes over which a unit sums its inputs.
    """
    for _, own, weights in _blocks(statistics, kernel, fan_in):
        variance = np.sum(weights * _linear_covariance(own, fan_in), axis=fan_in)
        mean_y = own.pivot + own.sum_y / own.count
        if np.any(variance <= _CONSTANT * mean_y**2):
            # It has not varied yet: what there is says nothing of it, and the rest of the data may.
            return True
        # The positive regime, which "relu" and "relu.safe" share.
        _, in_regime = _regime_covariance("relu", own, fan_in)
        if np.any((own.active > 0) & (np.sum(weights * in_regime, axis=fan_in) < _SAFE * variance)):
            return True
    return False


def _blocks(statistics, kernel, fan_in):
    """Some units at a time: their place in the kernel, their statistics, their float64 kernel."""
    units = [axis for axis in range(kernel.ndim) if axis not in fan_in]
    if not units:
        yield ..., statistics, kernel.astype("float64")
        return
    # Along the last axis of units, the one that is long.
    axis, step = units[-1], max(1, _AT_A_TIME * kernel.shape[units[-1]] // max(kernel.size, 1))
    for start in range(0, kernel.shape[axis], step):
        part = slice(start, start + step)
        at = (slice(None),) * axis + (part,)
        yield at, statistics and statistics.of_units(part, axis, len(units) - 1), kernel[at].astype("float64")


def _estimated(estimator, statistics, kernel, fan_in):
    """The pattern of some units, which of them are live, and which of these have the linear pattern as a fallback."""
    if estimator == "filter":
        pattern, live = _normalized(kernel, kernel, fan_in, np.zeros(()))
        return pattern, live, np.zeros_like(live)
    mean_y = statistics.pivot + statistics.sum_y / statistics.count
    covariance = _linear_covariance(statistics, fan_in)
    linear, varies = _normalized(covariance, kernel, fan_in, _CONSTANT * mean_y**2)
    if estimator == "linear":
        return linear, varies, np.zeros_like(varies)
    variance = np.sum(kernel * covariance, axis=fan_in)
    count, in_regime = _regime_covariance(estimator, statistics, fan_in)
    pattern, sound = _normalized(in_regime, kernel, fan_in, ILL_CONDITIONED[estimator] * variance)
    # A unit that never was in the regime has the pattern 0, not the linear one: nothing ever passed there
    # (docs/design.md, decision 4).
    live = varies & (count > 0)
    pattern = np.where(_over(sound, fan_in), pattern, linear)
    return np.where(_over(live, fan_in), pattern, 0.0), live, live & ~sound


def _linear_covariance(statistics, fan_in):
    """cov[x, y] from the pairs whose products were gathered: all of them, or a part."""
    mean_y = statistics.linear_y / statistics.linear_count
    return statistics.sum_xy / statistics.linear_count - (statistics.sum_x / statistics.linear_count) * _over(
        mean_y, fan_in
    )


def _regime_covariance(estimator, statistics, fan_in):
    """The count, and E[x y] - E[x] E[y] with the first two means over the regime and the last one over all pairs.

    The sums of the negative regime are those of all pairs less those of the positive regime.
    """
    count, seen = statistics.active, statistics.active_count
    sum_x, sum_xy = statistics.active_x, statistics.active_xy
    if estimator == "relu.negative":
        count, seen = statistics.count - count, statistics.linear_count - seen
        sum_x, sum_xy = statistics.sum_x - sum_x, statistics.sum_xy - sum_xy
    mean_x = sum_x / _over(_at_least(seen), fan_in)
    mean_xy = sum_xy / _over(_at_least(count), fan_in)
    # E[y] is the mean over all pairs, also in the regime, as in the paper: it looks like a slip and is not
    # (docs/design.md, decision 2).
    return count, mean_xy - mean_x * _over(statistics.sum_y / statistics.count, fan_in)


def _at_least(count):
    """A count to divide by, 1 in place of 0. Not max(count, 1): with small sample weights a count may be far below 1."""
    return np.where(count > 0, count, 1.0)


def _normalized(direction, kernel, fan_in, least):
    """`direction / (w'direction)`, and for which units w'direction is above `least`; 0 for the others."""
    denominator = np.sum(kernel * direction, axis=fan_in)
    # Above 0: w'cov[x, y] is a variance, and a negative one is rounding, or a regime that the data does not determine.
    sound = denominator > np.maximum(least, 0)
    safe = np.where(sound, denominator, 1.0)
    return np.where(_over(sound, fan_in), direction / _over(safe, fan_in), 0.0), sound


def _over(per_unit, fan_in):
    """Shapes one number a unit so that it broadcasts against the kernel."""
    return np.expand_dims(per_unit, fan_in)
