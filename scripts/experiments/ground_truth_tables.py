"""Tables of what `ground_truth.py` measured. Called by it."""

import itertools

import numpy as np
from common.tables import table_of

from innvest_lite.metrics.intervals import student
from innvest_lite.patterns.estimators import DEFAULT

SCORES = ("precision", "mass_accuracy", "signal_correlation")
RIVALS = ("gradient", "integrated_gradients")
"""Beside the presets of LRP, what PatternAttribution is held against."""
PRODUCT = "multiplicative"
"""The scenario without a signal that adds to anything; its cells stand apart."""
_USUAL_SHARES = {"mlp": "average", "cnn": "average"}
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


def interval(values):
    """`(low, high)` of the mean of a few seeds, with a confidence of 95 % (Student); no numbers of a single one."""
    return student(values, 0.95) if len(values) > 1 else (float("nan"), float("nan"))


def named(network, every_choice=False):
    """A function from a method's name in the record to that in a table; None: it is not shown."""
    known = {usual(network): "PatternAttribution", _SIGNAL: "PatternNet from contrast"}
    known |= {f"PatternNet, {DEFAULT}, logit": "PatternNet", f"gradient x {_SIGNAL}": "gradient x PatternNet"}
    return lambda name: known.get(name, name if every_choice or "Pattern" not in name else None)


def overview(columns, title, every_choice=False):
    """Methods in rows, networks in columns: means over cells, after those over seeds; the highest mean of all first.

    Args:
        columns: network -> as `columns_of` gives them.
        title: of the column of names.
        every_choice: also the pattern methods by other choices than the defaults.
    """
    rows = {}
    for network, cells in columns.items():
        shown = named(network, every_choice)
        for name in dict.fromkeys(name for cell in cells.values() for name in cell if shown(name)):
            mean = float(np.mean([cell[name].mean() for cell in cells.values() if name in cell]))
            rows.setdefault(shown(name), {})[f"{network} ({len(cells)})"] = mean
    made = [{title: name, **row, "mean": float(np.mean(list(row.values())))} for name, row in rows.items()]
    return table_of(sorted(made, key=lambda row: -row["mean"]), ".2f")


def means(columns, network, score, every_choice=False):
    """Methods in rows, cells in columns, means over seeds; the highest mean over cells first.

    Args:
        columns: as `columns_of` gives them.
        network: its name.
        score: one of `SCORES`.
        every_choice: also the pattern methods by other choices than the defaults.
    """
    shown, rows = named(network, every_choice), []
    for name in dict.fromkeys(name for column in columns.values() for name in column if shown(name)):
        found = {cell: float(column[name].mean()) for cell, column in columns.items() if name in column}
        row = {f"{network}: {score}": shown(name), **found}
        rows.append({**row, "mean": float(np.mean(list(found.values())))})
    return table_of(sorted(rows, key=lambda row: -row["mean"]), ".2f")


def against(columns, network, score):
    """Cell by cell: the best rival by its mean, and how PatternAttribution does against it, paired over seeds."""
    rows = []
    for cell, column in columns.items():
        best = max((name for name in column if _is_rival(name)), key=lambda name: column[name].mean())
        difference = column[usual(network)] - column[best]
        low, high = interval(difference)
        row = {f"{network}: {score}": cell, "seeds": len(difference), "best rival": best, "its": float(column[best].mean())}
        rows.append({**row, "PatternAttribution less it": float(difference.mean()), "95 % from": low, "to": high})
    return table_of(rows, ".2f")


def verdict(columns, network, score):
    """In how many cells the defaults are at least as good as all that they are held against."""
    by_mean = not_below = 0
    for column in columns.values():
        differences = [column[usual(network)] - column[name] for name in column if _is_rival(name)]
        by_mean += all(each.mean() >= 0 for each in differences)
        not_below += all(each.mean() >= 0 or interval(each)[1] >= 0 for each in differences)
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
    """All tables of a report, as text, one after the other: an overview, the verdicts, and with --cells cell by cell.

    Args:
        records: network -> cell -> what was measured, a list over seeds.
        options: of the command line.
        cells: the cells.
    """
    found = {
        score: {network: columns_of(records[network], cells, options.scope, score) for network in options.networks}
        for score in SCORES
    }
    added = {score: _of_scenario(columns, False) for score, columns in found.items()}
    product = {score: _of_scenario(columns, True) for score, columns in found.items()}
    titled = [*added.items(), *((f"{score}, {PRODUCT}", product[score]) for score in SCORES[:2])]
    for title, columns in titled:
        if columns:
            yield overview(columns, title, options.every_choice)
    every = [(network, score) for network, score in itertools.product(options.networks, SCORES) if network in added[score]]
    if not every:
        yield "nothing is measured"
        return
    yield table_of([verdict(added[score][network], network, score) for network, score in every], ".2f")
    for network, score in every if options.cells else ():
        yield means(found[score][network], network, score, options.every_choice)
        yield against(found[score][network], network, score)


def _of_scenario(columns, product):
    """Network -> the columns of cells of the scenario `PRODUCT`, or of all others; without networks that have none."""
    chosen = {
        network: {name: column for name, column in cells.items() if name.startswith(PRODUCT[:3]) is product}
        for network, cells in columns.items()
    }
    return {network: cells for network, cells in chosen.items() if cells}
