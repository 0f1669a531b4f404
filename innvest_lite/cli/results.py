"""Writing measures to files: tables (CSV) and curves (PNG). Called by `evaluation` and by scripts.

Curves need matplotlib; without it they are not written.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import json
import os
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import innvest_lite
from innvest_lite.files import replacing
from innvest_lite.tables import csv_cell

if TYPE_CHECKING:
    from innvest_lite.metrics import DegradationTable, GroundTruthTable, SignalQuality

FILES = (
    *("degradation.csv", "degradation_curves.csv", "degradation.png", "signal.csv", "signal.png", "ground_truth.csv"),
    "evaluation.json",
)
"""The names of all files that may be written to a folder."""


def save_degradation(compared: DegradationTable, folder: str | os.PathLike[str]) -> None:
    """Writes a `DegradationTable`: degradation.csv (areas), degradation_curves.csv (means) and degradation.png."""
    summary = compared.to_dict()
    columns = list(next(iter(summary.values())))
    rows = [
        {"method": name, **summary[name], "samples": len(result.curves), "patch": result.patch, "steps": result.steps}
        for name, result in compared.results.items()
    ]
    save_rows(folder, "degradation.csv", ("method", *columns, "samples", "patch", "steps"), rows)
    curves = {
        name if order in (result.order, "most") else f"{name}, {order} first": curve
        for name, result in compared.results.items()
        for order, curve in result.means.items()
    }
    steps = next(iter(compared.results.values())).steps
    per_step = [{"replaced": step, **{name: curve[step] for name, curve in curves.items()}} for step in range(steps + 1)]
    save_rows(folder, "degradation_curves.csv", ("replaced", *curves), per_step)
    save_plot(folder, "degradation.png", compared.plot)


def save_signal(quality: SignalQuality, folder: str | os.PathLike[str]) -> None:
    """Writes a `SignalQuality`: signal.csv, a row per neuron and estimator, and signal.png."""
    rows = [
        {"layer": name, "neuron": neuron, "estimator": estimator, "rho": value, "floor": layer.floor, "rows": layer.rows}
        for name, layer in quality.layers.items()
        for estimator, values in layer.rho.items()
        for neuron, value in zip(layer.neurons, values, strict=True)
    ]
    save_rows(folder, "signal.csv", ("layer", "neuron", "estimator", "rho", "floor", "rows"), rows)
    save_plot(folder, "signal.png", quality.plot)


def save_ground_truth(table: GroundTruthTable, folder: str | os.PathLike[str]) -> None:
    """Writes a `GroundTruthTable`: ground_truth.csv, a row per method, scope and score; global scores have no intervals."""
    numbers = ("mean", "low", "high", "gain", "gain_low", "gain_high")
    rows = [
        {"method": name, "scope": scope, "score": score, **dict.fromkeys(numbers, ""), **found}
        for name, scopes in table.to_dict().items()
        for scope, scores in scopes.items()
        for score, found in (scores or {}).items()
    ]
    counts = {name: len(result.chance) for name, result in table.results.items()}
    rows = [{**row, "samples": counts[row["method"]]} for row in rows]
    save_rows(folder, "ground_truth.csv", ("method", "scope", "score", *numbers, "samples"), rows)


def save_settings(arguments: argparse.Namespace, samples: int, folder: str | os.PathLike[str]) -> None:
    """Writes evaluation.json: the arguments, the number of samples and the version, so that results can be told apart."""
    typed = {name: value for name, value in vars(arguments).items() if name != "command"}
    settings = {"innvest_lite": innvest_lite.__version__, "samples": samples, **typed}
    with replacing(pathlib.Path(folder) / "evaluation.json") as partial:
        partial.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")


def can_draw() -> bool:
    """Whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def save_rows(folder: str | os.PathLike[str], name: str, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes a CSV file with a header; `rows` are dicts. Names that would be formulas are marked, see `tables.csv_cell`."""
    with replacing(pathlib.Path(folder) / name) as partial, partial.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(map(csv_cell, columns))
        writer.writerows([csv_cell(row[column]) for column in columns] for row in rows)


def save_plot(folder: str | os.PathLike[str], name: str, plot: Callable[[Any], Any]) -> None:
    """Writes what `plot(axes)` draws as PNG, if matplotlib is installed; without pyplot, which looks for a display."""
    if not can_draw():
        return
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5))
    plot(figure.add_subplot())
    with replacing(pathlib.Path(folder) / name) as partial:
        figure.savefig(partial, format="png", dpi=150, bbox_inches="tight")
