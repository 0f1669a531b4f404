"""What image degradation finds: the curves and the areas over and between them. Made by `degradation`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from innvest_lite.errors import InvalidInputError
from innvest_lite.metrics.baselines import gained
from innvest_lite.metrics.drawing import axes_or_new
from innvest_lite.metrics.intervals import bootstrap
from innvest_lite.options import formerly_positional
from innvest_lite.tables import Tabled

# The number of steps of a curve that are printed.
_PRINTED = 10
_RANKED = {"signed": "signed values", "magnitude": "magnitudes"}
# So that more methods than there are colours can be told apart.
_COLOURS, _DASHES = 10, ("-", ":", "-.", (0, (5, 1, 1, 1, 1, 1)))


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Degradation(Tabled):
    """How a class's probability changed while patches were replaced.

    Attributes:
        curves: float64 (samples, steps + 1); column n is the probability with the first n patches replaced.
        classes: int64 (samples,), the class that is followed.
        order: "most", "least", "both" or "random".
        patch: how many positions a patch has along each axis.
        ranked_by: "signed" or "magnitude", of what the patches were ranked by; None: at random, or nobody said.
        least: of the order "both" a second `curves`, with the least relevant patch first; else None.
    """

    curves: np.ndarray
    classes: np.ndarray
    order: str
    patch: int
    ranked_by: str | None = None
    least: np.ndarray | None = None

    @property
    def steps(self) -> int:
        """The number of patches that were replaced in the end."""
        return self.curves.shape[1] - 1

    @property
    def mean(self) -> np.ndarray:
        """The mean curve over samples: float64 (steps + 1,)."""
        return self.curves.mean(axis=0)

    @property
    def means(self) -> dict[str, np.ndarray]:
        """The mean curve of each order, by its name; two of the order "both", "most" and "least"."""
        if self.least is None:
            return {self.order: self.mean}
        return {"most": self.mean, "least": self.least.mean(axis=0)}

    @property
    def area_over_curve(self) -> np.ndarray:
        """`sum_n (p_0 - p_n) / (steps + 1)` with n = 0..steps, per sample: float64 (samples,), a probability.

        The AOPC of Samek et al. 2017 (arXiv 1509.06321) before its mean over samples. With the most relevant patch first
        higher is better, with the least relevant first lower is.
        """
        return (self.curves[:, :1] - self.curves).mean(axis=1)

    @property
    def area_between(self) -> np.ndarray:
        """`sum_n (p_n, least relevant first - p_n, most relevant first) / (steps + 1)`, per sample: float64 (samples,).

        The ABPC of Samek et al. 2017 (arXiv 1509.06321, appendix), which Bluecher et al. 2024 (arXiv 2401.06654) call
        symmetric relevance gain: higher is better, and a random order has 0 by symmetry, whatever patches are replaced by.

        Raises:
            InvalidInputError: the order is another than "both".
        """
        if self.least is None:
            raise InvalidInputError(f'Only order="both" gives an area between curves; this is of order {self.order!r}.')
        return (self.least - self.curves).mean(axis=1)

    @property
    def start(self) -> float:
        """The mean probability with nothing replaced."""
        return float(self.mean[0])

    @property
    def end(self) -> float:
        """The mean probability after the last step of `curves`."""
        return float(self.mean[-1])

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

    def interval_between(self, level: float = 0.95, resamples: int = 2000, *, seed: int = 0) -> tuple[float, float]:
        """As `interval`, of the mean of `area_between`; of the order "both".

        Args:
            level: of the interval, between 0 and 1.
            resamples: the number of bootstrap samples.
            seed: of the draws.

        Returns:
            `(low, high)`, two floats.

        Raises:
            InvalidInputError: a number out of range, or another order.
        """
        return bootstrap(self.area_between, level, resamples, seed)

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
        return gained(gains_over(self, baseline), level, resamples, seed)

    def to_dict(self) -> dict[str, Any]:
        """All of it, with the areas, as plain Python values."""
        return {
            "order": self.order,
            "patch": self.patch,
            "classes": self.classes.tolist(),
            "curves": self.curves.tolist(),
            "area_over_curve": self.area_over_curve.tolist(),
            "ranked_by": self.ranked_by,
            **self._both(),
        }

    def _both(self):
        """What the order "both" adds to the dict."""
        if self.least is None:
            return {}
        return {"least": self.least.tolist(), "area_between": self.area_between.tolist()}

    def _parts(self) -> Iterator[Any]:
        means = self.means
        shown = np.unique(np.linspace(0, self.steps, min(self.steps, _PRINTED) + 1).round().astype(int))
        rows = [(number, *(f"{curve[number]:.3f}" for curve in means.values())) for number in shown]
        header = ("patches replaced", *(f"probability, {order} first" for order in means))
        areas = f"area over the curve {_with_interval(self.area_over_curve, self.interval())}"
        if self.least is not None:
            areas += f", between the curves {_with_interval(self.area_between, self.interval_between())}"
        ranked = f", ranked by {_RANKED[self.ranked_by]}" if self.ranked_by else ""
        yield from ((header, rows), f"{areas}, {len(self.curves)} samples, patch {self.patch}{ranked}")

    def plot(self, axes: Any = None) -> Any:
        """The mean curve; needs matplotlib.

        Args:
            axes: a matplotlib `Axes`; None makes one.

        Returns:
            The `Axes`.
        """
        return drawn({order: {order: curve} for order, curve in self.means.items()}, self.patch, axes)


def gains_over(result: Degradation, baseline: Any) -> np.ndarray:
    """The differences of two results' areas, sample by sample.

    Raises:
        InvalidInputError: they cannot be paired.
    """
    if not isinstance(baseline, Degradation) or baseline.patch != result.patch:
        raise InvalidInputError(f"baseline should be a Degradation with patch {result.patch}, but is {baseline!r}.")
    if baseline.curves.shape != result.curves.shape or not np.array_equal(baseline.classes, result.classes):
        raise InvalidInputError("baseline should follow the same classes of the same samples, over as many steps.")
    return result.area_over_curve - baseline.area_over_curve


def _with_interval(areas, interval):
    return f"{areas.mean():.3f} (95 % from {interval[0]:.3f} to {interval[1]:.3f})"


def drawn(curves: Mapping[str, Mapping[str, np.ndarray]], patch: int, axes: Any = None) -> Any:
    """A plot of mean curves; needs matplotlib.

    Args:
        curves: name -> order -> float64 (steps + 1,). The least relevant patch first is drawn thin beside "most".
        patch: how many positions a patch has along each axis.
        axes: a matplotlib `Axes`; None makes one.

    Returns:
        The `Axes`.
    """
    axes = axes_or_new(axes, (8, 5))
    explained = [name for name, means in curves.items() if "random" not in means]
    for name, means in curves.items():
        look = _look(explained.index(name)) if name in explained else {"color": "k", "linestyle": "--"}
        for order, curve in means.items():
            beside = order == "least" and len(means) > 1
            axes.plot(curve, label=f"{name}, least first" if beside else name, **look, linewidth=0.8 if beside else 1.5)
    orders = sorted({order for means in curves.values() for order in means} - {"random"}, reverse=True)
    title = f"image degradation, {' and '.join(orders) or 'random'} first, patch {patch}"
    axes.set(xlabel="patches replaced", ylabel="probability of the class", title=title)
    # Not from the least value on: that makes cliffs of what hardly moves.
    axes.set_ylim(0, 1.05 * max(curve.max() for means in curves.values() for curve in means.values()) or 1)
    # Beside the curves: a legend of many methods would cover them.
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize="small")
    return axes


def _look(place):
    """Colour and dashes of the method at this place."""
    return {"color": f"C{place % _COLOURS}", "linestyle": _DASHES[place // _COLOURS % len(_DASHES)]}
