"""What image degradation finds: the curves, the area over them, and a comparison of methods. Made by `degradation`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from innvest_lite.errors import InvalidInputError
from innvest_lite.metrics.drawing import axes_or_new
from innvest_lite.metrics.intervals import bootstrap
from innvest_lite.options import formerly_positional
from innvest_lite.tables import table

# The number of steps of a curve that are printed.
_PRINTED = 10
_GAIN = ("gain", "gain_low", "gain_high")
_BETTER = {False: "a larger area is better", True: "a smaller area is better"}
# So that more methods than there are colours can be told apart.
_COLOURS, _DASHES = 10, ("-", ":", "-.", (0, (5, 1, 1, 1, 1, 1)))


@dataclasses.dataclass(frozen=True, eq=False)
class Degradation:
    """How a class's probability changed while patches were replaced.

    Attributes:
        curves: float64 (samples, steps + 1); column n is the probability with the first n patches replaced.
        classes: int64 (samples,), the class that is followed.
        order: "most", "least" or "random".
        patch: how many positions a patch has along each axis.
    """

    curves: np.ndarray
    classes: np.ndarray
    order: str
    patch: int

    @property
    def steps(self) -> int:
        """The number of patches that were replaced in the end."""
        return self.curves.shape[1] - 1

    @property
    def mean(self) -> np.ndarray:
        """The mean curve over samples: float64 (steps + 1,)."""
        return self.curves.mean(axis=0)

    @property
    def area_over_curve(self) -> np.ndarray:
        """`sum_n (p_0 - p_n) / (steps + 1)` with n = 0..steps, per sample: float64 (samples,), a probability.

        The AOPC of Samek et al. 2017 (arXiv 1509.06321) before its mean over samples. With the most relevant patch first
        higher is better, with the least relevant first lower is.
        """
        return (self.curves[:, :1] - self.curves).mean(axis=1)

    @formerly_positional("seed")
    def interval(self, level: float = 0.95, resamples: int = 2000, *, seed: int = 0) -> tuple[float, float]:
        """A percentile bootstrap interval, over samples, of the mean area.

        Args:
            level: of the interval, between 0 and 1.
            resamples: the number of bootstrap samples.
            seed: of the draws.

        Returns:
            `(low, high)`, two floats.

        Raises:
            InvalidInputError: a number out of range.
        """
        return bootstrap(self.area_over_curve, level, resamples, seed)

    @formerly_positional("seed")
    def gain(
        self, baseline: Degradation, level: float = 0.95, resamples: int = 2000, *, seed: int = 0
    ) -> tuple[float, float, float]:
        """By how much the mean area exceeds another's on the same samples, with its paired bootstrap interval.

        The interval is of the paired differences, since samples differ far more from each other than methods do on one
        sample: it can exclude 0 where the intervals of the two methods overlap.

        Args:
            baseline: another `Degradation` of the same samples, in the same order, patch and number of steps.
            level: of the interval, between 0 and 1.
            resamples: the number of bootstrap samples.
            seed: of the draws.

        Returns:
            `(mean, low, high)`, three floats.

        Raises:
            InvalidInputError: a number out of range, or areas that cannot be paired.
        """
        gains = _gains(self, baseline)
        return float(gains.mean()), *bootstrap(gains, level, resamples, seed)

    def to_dict(self) -> dict[str, Any]:
        """All of it, with the areas, as plain Python values."""
        return {
            "order": self.order,
            "patch": self.patch,
            "classes": self.classes.tolist(),
            "curves": self.curves.tolist(),
            "area_over_curve": self.area_over_curve.tolist(),
        }

    def __str__(self) -> str:
        shown = np.unique(np.linspace(0, self.steps, min(self.steps, _PRINTED) + 1).round().astype(int))
        rows = [(number, f"{self.mean[number]:.3f}") for number in shown]
        low, high = self.interval()
        return (
            f"{table((f'patches replaced ({self.order} first)', 'probability'), rows)}\n"
            f"area over the curve {self.area_over_curve.mean():.3f} (95 % from {low:.3f} to {high:.3f}), "
            f"{len(self.curves)} samples, patch {self.patch}"
        )

    def plot(self, axes: Any = None) -> Any:
        """The mean curve; needs matplotlib.

        Args:
            axes: a matplotlib `Axes`; None makes one.

        Returns:
            The `Axes`.
        """
        return _drawn({self.order: self}, axes)


def _gains(result, baseline):
    """The differences of two results' areas, sample by sample.

    Raises:
        InvalidInputError: they cannot be paired.
    """
    if not isinstance(baseline, Degradation) or baseline.patch != result.patch:
        raise InvalidInputError(f"baseline should be a Degradation with patch {result.patch}, but is {baseline!r}.")
    if baseline.curves.shape != result.curves.shape or not np.array_equal(baseline.classes, result.classes):
        raise InvalidInputError("baseline should follow the same classes of the same samples, over as many steps.")
    return result.area_over_curve - baseline.area_over_curve


@dataclasses.dataclass(frozen=True, eq=False)
class DegradationTable:
    """Methods compared, the best first: the largest area, or, where the least relevant patch goes first, the smallest.

    It prints as a table.

    Attributes:
        results: name -> `Degradation`.
        baseline: the name of the result that the others are compared with sample by sample, or None.
    """

    results: dict[str, Degradation]
    baseline: str | None = None

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """`{name: {"order": ..., "area": mean, "low": ..., "high": ...}}`, of plain Python values; 95 % intervals.

        With a baseline also "gain", "gain_low" and "gain_high": `Degradation.gain` over it.
        """
        found = {}
        for name, result in self.results.items():
            found[name] = {"order": result.order, "area": float(result.area_over_curve.mean())}
            found[name] |= dict(zip(("low", "high"), result.interval(), strict=True))
            if self.baseline is not None:
                found[name] |= dict(zip(_GAIN, result.gain(self.results[self.baseline]), strict=True))
        return found

    def __str__(self) -> str:
        numbers = ("area", "low", "high", *(_GAIN if self.baseline is not None else ()))
        rows = [(name, row["order"], *(f"{row[number]:.4f}" for number in numbers)) for name, row in self.to_dict().items()]
        header = ("method", "order", "area over the curve", "95 % from", "to")
        gains = (f"gain over {self.baseline}", "95 % of it from", "to") if self.baseline is not None else ()
        result = next(iter(self.results.values()))
        note = f"{len(result.curves)} samples, patch {result.patch}, {result.steps} steps"
        return f"{table((*header, *gains), rows)}\n{note}; {_BETTER[_lowest_first(self.results)]}"

    def plot(self, axes: Any = None) -> Any:
        """The mean curves, a line per method; needs matplotlib.

        Args:
            axes: a matplotlib `Axes`; None makes one.

        Returns:
            The `Axes`.
        """
        return _drawn(self.results, axes)


def degradation_table(results: Mapping[str, Degradation], baseline: str | None = None) -> DegradationTable:
    """Compares methods by the area over their curves (Samek et al. 2017, arXiv 1509.06321).

    Args:
        results: name -> `Degradation`, all of the same patch and number of steps.
        baseline: the name of one of them, such as that of the random order, with which the others are then compared sample
            by sample (all of them must be of the same samples); or None.

    Returns:
        A `DegradationTable`; print it, or `plot()` it.

    Raises:
        InvalidInputError: it is not such a mapping, or the areas cannot be compared.

    Example:
        >>> from innvest_lite.metrics import degradation, degradation_table
        >>> random = degradation(model, None, images[:8], patch=4, steps=5, order="random")
        >>> gradient = degradation(model, innvest_lite.InputTimesGradient(model), images[:8], patch=4, steps=5)
        >>> print(degradation_table({"random": random, "input_t_gradient": gradient}, baseline="random"))
        method            order   area over the curve  95 % from  to      gain over random  95 % of it from  to...
    """
    if not isinstance(results, Mapping) or not results or not all(isinstance(r, Degradation) for r in results.values()):
        raise InvalidInputError(f"results should map at least one name to a Degradation, but is {results!r}.")
    kinds = {(result.patch, result.steps) for result in results.values()}
    if len(kinds) > 1:
        raise InvalidInputError(
            f"Areas can only be compared for the same patch and steps, but (patch, steps) are {sorted(kinds)}."
        )
    if baseline is not None and baseline not in results:
        raise InvalidInputError(f"baseline should be one of {list(results)}, but is {baseline!r}.")
    if baseline is not None:
        for result in results.values():
            _gains(result, results[baseline])
    # A random order stands among the others by its area, in either direction.
    sign = 1 if _lowest_first(results) else -1
    return DegradationTable(dict(sorted(results.items(), key=lambda pair: sign * pair[1].area_over_curve.mean())), baseline)


def _lowest_first(results):
    """Whether small areas are good.

    Raises:
        InvalidInputError: in some results the most relevant patch goes first, and in others the least.
    """
    orders = _informed_orders(results)
    if len(orders) > 1:
        raise InvalidInputError(
            'Areas of order "most" and order "least" cannot be compared: those of a good method are large in the first '
            "order and small in the second."
        )
    return orders == {"least"}


def _informed_orders(results):
    return {result.order for result in results.values()} - {"random"}


def _drawn(results, axes):
    axes = axes_or_new(axes, (8, 5))
    explained = [name for name, result in results.items() if result.order != "random"]
    for name, result in results.items():
        place = explained.index(name) if name in explained else None
        look = {"color": "k", "linestyle": "--"} if place is None else _look(place)
        axes.plot(result.mean, label=name, **look)
    orders, patch = sorted(_informed_orders(results)), next(iter(results.values())).patch
    title = f"image degradation, {' and '.join(orders) or 'random'} first, patch {patch}"
    axes.set(xlabel="patches replaced", ylabel="probability of the class", title=title)
    # Beside the curves: a legend of many methods would cover them.
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize="small")
    return axes


def _look(place):
    """Colour and dashes of the method at this place."""
    return {"color": f"C{place % _COLOURS}", "linestyle": _DASHES[place // _COLOURS % len(_DASHES)]}
