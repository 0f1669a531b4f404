"""Methods compared by what image degradation finds: a table of areas, gains, and how far the probability moved."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from innvest_lite.errors import InvalidInputError
from innvest_lite.metrics.baselines import GAIN, check_baseline, check_results
from innvest_lite.metrics.curves import Degradation, drawn, gains_over
from innvest_lite.tables import Tabled

_BETWEEN = ("between", "between_low", "between_high")
_BETTER = {
    "most": "a larger area is better",
    "least": "a smaller area is better",
    "both": "a larger area between the curves is better; a random order has 0",
}


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class DegradationTable(Tabled):
    """Methods compared, the best first.

    That is the largest area; with the least relevant patch first the smallest; in both orders the largest area between. It
    prints as a table, whose last columns say how far the probability moved at all: where a random order hardly moves it,
    there is little to compare. Removal rewards suppressors, see `degradation`.

    Attributes:
        results: name -> `Degradation`.
        baseline: the name of the result that the others are compared with sample by sample, or None.
    """

    results: dict[str, Degradation]
    baseline: str | None = None

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """`{name: {"order": ..., "area": mean, "low": ..., "high": ...}}`, of plain Python values; 95 % intervals.

        With a baseline also "gain", "gain_low" and "gain_high": `Degradation.gain` over it. "ranked_by" is None for a
        random order; "start" and "end" are mean probabilities. Of both orders also "between", "between_low" and
        "between_high": the mean of `Degradation.area_between`, for a random order 0.
        """
        return {name: self._row(result) for name, result in self.results.items()}

    def _row(self, result):
        row = {"order": result.order, "area": float(result.area_over_curve.mean())}
        row |= dict(zip(("low", "high"), result.interval(), strict=True))
        if self.baseline is not None:
            row |= dict(zip(GAIN, result.gain(self.results[self.baseline]), strict=True))
        row |= {"ranked_by": result.ranked_by, "start": result.start, "end": result.end}
        if result.least is not None:
            row |= dict(zip(_BETWEEN, (float(result.area_between.mean()), *result.interval_between()), strict=True))
        elif self._in_both_orders:
            row |= dict.fromkeys(_BETWEEN, 0.0)
        return row

    @property
    def _in_both_orders(self):
        return _goal(self.results) == "both"

    def _parts(self) -> Iterator[Any]:
        columns = {"area": "area over the curve", "low": "95 % from", "high": "to"}
        if self.baseline is not None:
            columns |= dict(zip(GAIN, (f"gain over {self.baseline}", "95 % of it from", "to"), strict=True))
        if self._in_both_orders:
            columns |= dict(zip(_BETWEEN, ("area between", "95 % of it from", "to"), strict=True))
        columns |= {"start": "probability", "end": "in the end"}
        rows = [
            (name, row["order"], row["ranked_by"] or "", *(f"{row[number]:.4f}" for number in columns))
            for name, row in self.to_dict().items()
        ]
        result = next(iter(self.results.values()))
        note = f"{len(result.curves)} samples, patch {result.patch}, {result.steps} steps"
        header = ("method", "order", "ranked by", *columns.values())
        yield from ((header, rows), f"{note}; {_BETTER[_goal(self.results)]}")

    def plot(self, axes: Any = None) -> Any:
        """The mean curves, a line per method; needs matplotlib.

        Args:
            axes: a matplotlib `Axes`; None makes one.

        Returns:
            The `Axes`.
        """
        means = {name: result.means for name, result in self.results.items()}
        return drawn(means, next(iter(self.results.values())).patch, axes)


def degradation_table(results: Mapping[str, Degradation], baseline: str | None = None) -> DegradationTable:
    """Compares methods by the area over their curves (Samek et al. 2017, arXiv 1509.06321).

    Args:
        results: name -> `Degradation`, all of the same order (but for random ones), patch and number of steps.
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
        method            order   ranked by  area over the curve  95 % from  to      gain over random  95 % of it from  ...
    """
    check_results(results, Degradation)
    kinds = {(result.patch, result.steps) for result in results.values()}
    if len(kinds) > 1:
        raise InvalidInputError(
            f"Areas can only be compared for the same patch and steps, but (patch, steps) are {sorted(kinds)}."
        )
    check_baseline(baseline, results)
    if baseline is not None:
        for result in results.values():
            gains_over(result, results[baseline])
    # A random order stands among the others by its area, in either direction.
    goal = _goal(results)
    return DegradationTable(dict(sorted(results.items(), key=lambda pair: _place(pair[1], goal))), baseline)


def _place(result, goal):
    """What results are sorted by, the best first."""
    if goal == "both":
        return 0.0 if result.least is None else -result.area_between.mean()
    return (1 if goal == "least" else -1) * result.area_over_curve.mean()


def _goal(results):
    """The order, "most", "least" or "both", that says what is good.

    Raises:
        InvalidInputError: the results are of different orders.
    """
    orders = {result.order for result in results.values()} - {"random"}
    if len(orders) > 1:
        raise InvalidInputError(
            f"Areas of the orders {sorted(orders)} cannot be compared: those of a good method are large with the most "
            'relevant patch first and small with the least; only the order "both" has an area between the two.'
        )
    return orders.pop() if orders else "most"
