"""Tables of what `ground_truth.py` measured. Called by it."""

import itertools

import numpy as np
from common.tables import table_of

from innvest_lite.metrics.intervals import student
from innvest_lite.patterns.estimators import DEFAULT

SCORES = ("precision", "mass_accuracy", "signal_correlation")
RIVALS = ("gradient", "integrated_gradients")
"""Beside the presets of LRP, what PatternAttribution is held against."""
_USUAL_SHARES = {"mlp": "average", "cnn": "average", "residual": "sample", "bottleneck": "sample"}
_SIGNAL = f"PatternNet, {DEFAULT}, contrast"


def usual(network):
    """The name of PatternAttribution as it is without options."""
    return f"PatternAttribution, {DEFAULT}, {_USUAL_SHARES.get(network, 'sample')}"


def columns_of(records, cells, scope, score):
    """Name of a cell -> method -> scores, an array over seeds; cells without any are left out.

    "lin w+d" is linear, white, with distractors.

    Args:
        records: cell -> what was measured, a list over seeds.
        cells: the cells, `(scenario, background, distractors)`.
        scope: "local" or "global".
        score: one of `SCORES`.
    """
    place, columns = SCORES.index(score), {}
    for cell in cells:
        found = [each["methods"] for each in records[cell]]
        if found and found[0]["gradient"][scope]:
            name = f"{cell[0][:3]} {cell[1][0]}{'+d' if cell[2] else ''}"
            columns[name] = {method: np.array([each[method][scope][place] for each in found]) for method in found[0]}
    return columns


def means(columns, title, every_choice=False):
    """Methods in rows, cells in columns, means over seeds; the highest mean over cells first.

    Args:
        columns: as `columns_of` gives them.
        title: of the column of names, which begins with the network.
        every_choice: also the pattern methods by other choices than the defaults.
    """
    network = title.split(":")[0]
    named = {usual(network): "PatternAttribution", _SIGNAL: "PatternNet from contrast"}
    named |= {f"PatternNet, {DEFAULT}, logit": "PatternNet", f"gradient x {_SIGNAL}": "gradient x PatternNet"}
    rows = []
    for name in dict.fromkeys(name for column in columns.values() for name in column):
        if every_choice or "Pattern" not in name or name in named:
            found = {cell: float(column[name].mean()) for cell, column in columns.items() if name in column}
            rows.append({title: named.get(name, name), **found, "mean": float(np.mean(list(found.values())))})
    return table_of(sorted(rows, key=lambda row: -row["mean"]), ".2f")


def against(columns, network, score):
    """Cell by cell: the best rival by its mean, and how PatternAttribution does against it, paired over seeds."""
    rows = []
    for cell, column in columns.items():
        best = max((name for name in column if _is_rival(name)), key=lambda name: column[name].mean())
        difference = column[usual(network)] - column[best]
        low, high = student(difference, 0.95) if len(difference) > 1 else (float("nan"),) * 2
        row = {f"{network}: {score}": cell, "seeds": len(difference), "best rival": best, "its": float(column[best].mean())}
        rows.append({**row, "PatternAttribution less it": float(difference.mean()), "95 % from": low, "to": high})
    return table_of(rows, ".2f")


def verdict(columns, network, score):
    """In how many cells the defaults are at least as good as all that they are held against."""
    by_mean = not_below = 0
    for column in columns.values():
        differences = [column[usual(network)] - column[name] for name in column if _is_rival(name)]
        by_mean += all(each.mean() >= 0 for each in differences)
        not_below += all(each.mean() >= 0 or (len(each) > 1 and student(each, 0.95)[1] >= 0) for each in differences)
    row = {"network": network, "score": score, "cells": len(columns)}
    row |= {"PatternAttribution at least as good": by_mean, "interval not below": not_below}
    return {**row, "PatternNet's the highest": _highest(columns) if score == "signal_correlation" else ""}


def _highest(columns):
    """In how many of the cells of linear and xor nothing has a higher score than PatternNet."""
    cells = [column for cell, column in columns.items() if cell[:3] in ("lin", "xor")]
    others = [[name for name in column if not name.startswith(("PatternNet", "gradient x"))] for column in cells]
    highest = sum(
        all(column[_SIGNAL].mean() >= column[name].mean() for name in names)
        for column, names in zip(cells, others, strict=True)
    )
    return f"{highest} of {len(cells)}"


def _is_rival(name):
    return name.startswith("lrp.") or name in RIVALS


def tables(records, options, cells):
    """All tables of a report, as text, one after the other.

    Args:
        records: network -> cell -> what was measured, a list over seeds.
        options: of the command line.
        cells: the cells.
    """
    verdicts = []
    for network, score in itertools.product(options.networks, SCORES):
        columns = columns_of(records[network], cells, options.scope, score)
        if not columns:
            continue
        yield means(columns, f"{network}: {score}", options.every_choice)
        if all(usual(network) in column for column in columns.values()):
            yield against(columns, network, score)
            verdicts.append(verdict(columns, network, score))
    yield table_of(verdicts, ".2f") if verdicts else "nothing is measured"
