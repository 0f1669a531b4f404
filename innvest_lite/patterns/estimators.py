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
from innvest_lite.patterns.arrays import combined, dots_with

if TYPE_CHECKING:
    from innvest_lite.patterns.layers import LayerStatistics

# Where w'cov is below this share of var[y], the two-component pattern is not determined by the data (docs/design.md,
# decision 4). Divided by less than a tenth, it is determined but so long that it drowns all others: see docs/evidence.md.
ILL_CONDITIONED = {"relu": 1e-3, "relu.negative": 1e-3, "relu.safe": 0.1}
# A unit above this share on the first samples will hardly fall below the shares above on all samples.
_SAFE = 0.3
# Where var[y] is below this share of E[y]^2, float32 cannot tell y from a constant.
_CONSTANT = 1e-10

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
    terms, live, unsound = _terms(estimator, statistics, kernel, tuple(fan_in))
    dead, ill, size = int((~live).sum()), int(unsound.sum()), live.size
    pattern = combined(terms, kernel.shape, fan_in, dtype)
    pattern.flags.writeable = False
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
    sums: Any = statistics
    # The positive regime, which "relu" and "relu.safe" share.
    variance, in_regime = _explained([_linear(sums), _regime("relu", sums)], kernel, fan_in)
    # What has not varied yet: what there is says nothing of it, and the rest of the data may.
    unvaried = variance <= _CONSTANT * (sums.pivot + sums.sum_y / sums.count) ** 2
    unsafe = (sums.active > 0) & (in_regime < _SAFE * variance)
    return bool(np.any(unvaried | unsafe))


# A pattern is a sum of the layer's sums, each times one number a unit, so that of the large arrays only two things are
# ever computed: their products with the kernel, summed over the fan-in, and that sum.


def _terms(estimator, statistics, kernel, fan_in):
    """The pattern as a list of `(array, number per unit)`, which units are live, and which of these are not sound."""
    if estimator == "filter":
        (square,) = dots_with(kernel, [kernel], fan_in)
        live = square > 0
        return [(kernel, _inverse(square, live))], live, np.zeros_like(live)
    of_all, mean_y = _linear(statistics), statistics.pivot + statistics.sum_y / statistics.count
    regime = None if estimator == "linear" else _regime(estimator, statistics)
    variance, *rest = _explained([of_all, *([] if regime is None else [regime])], kernel, fan_in)
    # Above 0: w'cov[x, y] is a variance, and a negative one is rounding, or a regime that the data does not determine.
    varies = variance > np.maximum(_CONSTANT * mean_y**2, 0)
    if regime is None:
        return of_all.terms(_inverse(variance, varies)), varies, np.zeros_like(varies)
    (in_regime,) = rest
    sound = in_regime > np.maximum(ILL_CONDITIONED[estimator] * variance, 0)
    # A unit that never was in the regime has the pattern 0, not the linear one: nothing ever passed there
    # (docs/design.md, decision 4).
    live = varies & (regime.count > 0)
    terms = [*regime.terms(_inverse(in_regime, live & sound)), *of_all.terms(_inverse(variance, live & ~sound))]
    return terms, live, live & ~sound


@dataclasses.dataclass(frozen=True)
class _Covariance:
    """E[x y] - E[x] E[y], the means of x y, x and y each over pairs of their own.

    Attributes:
        count: how many pairs there are, a number per unit.
        products: `(array, +1 or -1)`, whose sum is that of x y.
        inputs: likewise, of x.
        of_xy: what the sum of x y is multiplied with for its mean, a number per unit.
        of_x: likewise of x, and with E[y].
    """

    count: Any
    products: list
    inputs: list
    of_xy: Any
    of_x: Any

    def terms(self, scale: np.ndarray) -> list:
        """The covariance times a number per unit, as a list of `(array, number per unit)`."""
        if not scale.any():
            return []
        pairs = [(self.products, self.of_xy * scale), (self.inputs, -self.of_x * scale)]
        return [(array, sign * factor) for parts, factor in pairs for array, sign in parts]


def _linear(statistics):
    """cov[x, y] from the pairs whose products were gathered: all of them, or a part."""
    share = 1 / statistics.linear_count
    mean_y = statistics.linear_y * share
    ones = np.ones_like(mean_y)
    return _Covariance(ones, [(statistics.sum_xy, 1)], [(statistics.sum_x, 1)], share * ones, share * mean_y)


def _regime(estimator, statistics):
    """E[x y] - E[x] E[y] with the first two means over the regime and the last one over all pairs.

    The sums of the negative regime are those of all pairs less those of the positive regime.
    """
    count, seen = statistics.active, statistics.active_count
    products, inputs = [(statistics.active_xy, 1)], [(statistics.active_x, 1)]
    if estimator == "relu.negative":
        count, seen = statistics.count - count, statistics.linear_count - seen
        products = [(statistics.sum_xy, 1), (statistics.active_xy, -1)]
        inputs = [(statistics.sum_x, 1), (statistics.active_x, -1)]
    # E[y] is the mean over all pairs, also in the regime, as in the paper: it looks like a slip and is not
    # (docs/design.md, decision 2).
    mean_y = statistics.sum_y / statistics.count
    return _Covariance(count, products, inputs, 1 / _at_least(count), mean_y / _at_least(seen))


def _explained(covariances, kernel, fan_in):
    """w'cov of each covariance, a number per unit; each array is gone over once."""
    terms = [covariance.terms(np.ones_like(covariance.of_xy)) for covariance in covariances]
    arrays = {id(array): array for one in terms for array, _ in one}
    dots = dict(zip(arrays, dots_with(kernel, list(arrays.values()), fan_in), strict=True))
    return [sum(dots[id(array)] * factor for array, factor in one) for one in terms]


def _at_least(count):
    """A count to divide by, 1 in place of 0. Not max(count, 1): with small sample weights a count may be far below 1."""
    return np.where(count > 0, count, 1.0)


def _inverse(value, where):
    """1 / value for some units, 0 for the others."""
    return np.where(where, 1 / np.where(where, value, 1.0), 0.0)
