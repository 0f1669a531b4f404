"""What image degradation finds: the curves, the area over them, and a comparison of methods. Made by `degradation`."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from innvest_lite.errors import InvalidInputError
from innvest_lite.graph.graph import table
from innvest_lite.inputs import finite, positive, seed_of
from innvest_lite.metrics.drawing import axes_or_new

# So many steps of a curve are printed.
_PRINTED = 10


@dataclasses.dataclass(frozen=True, eq=False)
class Degradation:
    """What became of a class's probability while patches were replaced.

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
    def steps(self):
        """How many patches were replaced in the end."""
        return self.curves.shape[1] - 1

    @property
    def mean(self):
        """The mean curve over samples: float64 (steps + 1,)."""
        return self.curves.mean(axis=0)

    @property
    def area_over_curve(self):
        """`sum_n (p_0 - p_n) / (steps + 1)` with n = 0..steps, per sample: float64 (samples,), a probability.

        The AOPC of Samek et al. 2017 (arXiv 1509.06321) before its mean over samples. With the most relevant patch first
        higher is better, with the least relevant first lower is.
        """
        return (self.curves[:, :1] - self.curves).mean(axis=1)

    def interval(self, level=0.95, resamples=2000, seed=0):
        """A percentile bootstrap interval, over samples, of the mean area.

        Args:
            level: of the interval, between 0 and 1.
            resamples: how many sets of as many samples are drawn with replacement.
            seed: of the draws.

        Returns:
            `(low, high)`, two floats.

        Raises:
            InvalidInputError: a number out of range.
        """
        if not 0 < finite(level, "level") < 1:
            raise InvalidInputError(f"level should lie between 0 and 1, but is {level!r}.")
        areas, generator = self.area_over_curve, np.random.default_rng(seed_of(seed))
        draws = (generator.integers(len(areas), size=len(areas)) for _ in range(positive(resamples, "resamples")))
        low, high = np.quantile([areas[draw].mean() for draw in draws], [(1 - level) / 2, (1 + level) / 2])
        return float(low), float(high)

    def to_dict(self):
        """All of it, with the areas, as plain Python values."""
        return {
            "order": self.order,
            "patch": self.patch,
            "classes": self.classes.tolist(),
            "curves": self.curves.tolist(),
            "area_over_curve": self.area_over_curve.tolist(),
        }

    def __str__(self):
        shown = np.unique(np.linspace(0, self.steps, min(self.steps, _PRINTED) + 1).round().astype(int))
        rows = [(number, f"{self.mean[number]:.3f}") for number in shown]
        low, high = self.interval()
        return (
            f"{table((f'patches replaced ({self.order} first)', 'probability'), rows)}\n"
            f"area over the curve {self.area_over_curve.mean():.3f} (95 % from {low:.3f} to {high:.3f}), "
            f"{len(self.curves)} samples, patch {self.patch}"
        )

    def plot(self, axes=None):
        """The mean curve; needs matplotlib.

        Args:
            axes: a matplotlib `Axes`; None makes one.

        Returns:
            The `Axes`.
        """
        return _drawn({self.order: self}, axes)


@dataclasses.dataclass(frozen=True, eq=False)
class DegradationTable:
    """Methods compared, the largest area first; it prints as a table.

    Attributes:
        results: name -> `Degradation`.
    """

    results: dict

    def to_dict(self):
        """`{name: {"area": mean, "low": ..., "high": ..., "order": ...}}`, of plain Python values; 95 % intervals."""
        found = {}
        for name, result in self.results.items():
            low, high = result.interval()
            area = float(result.area_over_curve.mean())
            found[name] = {"area": area, "low": low, "high": high, "order": result.order}
        return found

    def __str__(self):
        rows = [
            (name, row["order"], *(f"{row[number]:.4f}" for number in ("area", "low", "high")))
            for name, row in self.to_dict().items()
        ]
        return table(("method", "order", "area over the curve", "95 % from", "to"), rows)

    def plot(self, axes=None):
        """The mean curves, a line per method; needs matplotlib.

        Args:
            axes: a matplotlib `Axes`; None makes one.

        Returns:
            The `Axes`.
        """
        return _drawn(self.results, axes)


def degradation_table(results):
    """Compares methods by the area over their curves.

    Args:
        results: name -> `Degradation`, all of the same patch and number of steps.

    Returns:
        A `DegradationTable`; print it, or `plot()` it.

    Raises:
        InvalidInputError: it is no such mapping, or areas that cannot be compared.

    Example:
        >>> from innvest_lite.metrics import degradation, degradation_table
        >>> random = degradation(model, None, images[:8], patch=4, steps=5, order="random")
        >>> gradient = degradation(model, innvest_lite.InputTimesGradient(model), images[:8], patch=4, steps=5)
        >>> print(degradation_table({"random": random, "input_t_gradient": gradient}))
        method            order   area over the curve  95 % from  to...
    """
    if not isinstance(results, Mapping) or not results or not all(isinstance(r, Degradation) for r in results.values()):
        raise InvalidInputError(f"results should map at least one name to a Degradation, but is {results!r}.")
    kinds = {(result.patch, result.steps) for result in results.values()}
    if len(kinds) > 1:
        raise InvalidInputError(
            f"Areas compare where patch and steps are the same; here (patch, steps) are {sorted(kinds)}."
        )
    return DegradationTable(dict(sorted(results.items(), key=lambda pair: -pair[1].area_over_curve.mean())))


def _drawn(results, axes):
    axes = axes_or_new(axes)
    for name, result in results.items():
        axes.plot(result.mean, "--" if result.order == "random" else "-", label=name)
    axes.set(xlabel="patches replaced", ylabel="probability of the class", title="image degradation")
    axes.legend()
    return axes
