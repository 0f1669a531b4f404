"""What `signal_quality` found, to print, to plot and to keep."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from innvest_lite.metrics.drawing import axes_or_new
from innvest_lite.tables import Brief, Tabled


@dataclasses.dataclass(frozen=True, repr=False)
class LayerQuality(Brief):
    """The rho of one layer.

    Attributes:
        rho: estimator -> float64 (neurons,). 1 is best, and what a random direction gets is near 0. NaN for a neuron that
            never varies, or for which the estimator has no pattern.
        floor: about sqrt(fan-in / rows): values that lie nearer to 1 than this, on either side, cannot be told from 1.
        neurons: int (neurons,), which units these are, flat in the kernel's order.
        fan_in: how many inputs a neuron sums.
        rows: the number of pairs of window and output in the regression; for "active", the median over neurons.
    """

    rho: dict[str, np.ndarray]
    floor: float
    neurons: np.ndarray
    fan_in: int
    rows: int


@dataclasses.dataclass(frozen=True, repr=False)
class SignalQuality(Tabled):
    """What `signal_quality` found.

    Attributes:
        layers: layer (node) name -> `LayerQuality`.
        on: the target of the regression.
        ridge: see `signal_quality`.
    """

    layers: dict[str, LayerQuality]
    on: str
    ridge: float

    def to_dict(self) -> dict[str, dict[str, dict[str, Any]]]:
        """`{layer: {estimator: {"rho": [one a neuron], "floor": ...}}}`, of plain Python values."""
        return {
            name: {estimator: {"rho": rho.tolist(), "floor": layer.floor} for estimator, rho in layer.rho.items()}
            for name, layer in self.layers.items()
        }

    def _parts(self) -> Iterator[tuple]:
        names = list(next(iter(self.layers.values())).rho) if self.layers else []
        rows = [
            (name, *(f"{_median(layer.rho[estimator]):.3g}" for estimator in names), f"{layer.floor:.3f}", layer.rows)
            for name, layer in self.layers.items()
        ]
        yield ("layer (median over neurons)", *names, "floor", "rows"), rows

    def plot(self, axes: Any = None) -> Any:
        """Medians over neurons, a line per estimator, with the floor below 1 in grey; needs matplotlib.

        Args:
            axes: a matplotlib `Axes`; None makes one.

        Returns:
            The `Axes`.
        """
        axes = axes_or_new(axes, (1 + 0.6 * len(self.layers), 4))
        places = np.arange(len(self.layers))
        floors = np.array([layer.floor for layer in self.layers.values()])
        axes.fill_between(places, 1 - np.minimum(floors, 1), 1, color="0.9", label="cannot be told from 1")
        for estimator in next(iter(self.layers.values())).rho:
            axes.plot(places, [_median(layer.rho[estimator]) for layer in self.layers.values()], "o-", label=estimator)
        axes.set_xticks(places, list(self.layers), rotation=60, ha="right")
        axes.set(
            ylabel="rho",
            ylim=(min(-0.05, axes.get_ylim()[0]), max(1.05, axes.get_ylim()[1])),
            title=f"signal estimators, {self.on}",
        )
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize="small")
        return axes


def _median(rho):
    return float(np.nanmedian(rho)) if np.isfinite(rho).any() else float("nan")
