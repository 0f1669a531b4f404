"""Tables of what `sequences.py` measured, and the choice of one of our methods for each kind of task. Called by it.

What was measured comes as `(task, network)` -> a list over seeds of "methods" by name: scores by name, or a word that says
why there are none.
"""

import itertools

import numpy as np
from common.tables import table_of

from innvest_lite.metrics.intervals import student

FAMILIES = {"digits": "digits", "negation": "negation", "addition": "arithmetic", "subtraction": "arithmetic"}
"""Tasks that one choice is made for; all others are tetrominoes."""
_OF_MASKS = ("precision |r|", "precision r", "area between")
JUDGED = {"digits": ("area between",), "arithmetic": ("sum: within 1 %", "operands: within 1 %")}
"""The scores that a family is judged by, the first of which choices are made by; of all others precision and hiding."""
OURS, RIVALS = ("lrp.", "pattern."), ("integrated_gradients", "attention.rollout")
_OF_IMAGES = ("precision |r|", "mass accuracy", "area between")


def family(task):
    """The family of a task."""
    return FAMILIES.get(task, "tetrominoes")


def main_score(task):
    """The score that choices are made by."""
    return judged(task)[0]


def judged(task):
    """The scores that methods are held against each other by."""
    return JUDGED.get(family(task), _OF_MASKS)


def choices(measured):
    """`(family, network)` -> who stands for whom: "ours", and each rival, by the mean of the main score.

    Args:
        measured: of the seeds that choices are made on.
    """
    found = {}
    for key, cells in _by_family(measured).items():
        means = {name: np.mean([_column(task, records, name).mean() for task, records in cells]) for name in _common(cells)}
        chosen = {who: _best(means, who) for who in RIVALS} | {"ours": _best(means, OURS)}
        found[key] = {who: name for who, name in chosen.items() if name}
    return found


def _best(means, prefix):
    names = [name for name in means if name.startswith(prefix)]
    return max(names, key=means.get) if names else None


def _by_family(measured):
    """`(family, network)` -> its cells, `(task, records)`, without those that have no records."""
    found = {}
    for (task, network), records in measured.items():
        if records:
            found.setdefault((family(task), network), []).append((task, records))
    return found


def _common(cells):
    """The methods that every record of some cells has scores of, in the order of the first."""
    every = [one["methods"] for _, records in cells for one in records]
    return [name for name in every[0] if all(isinstance(one.get(name), dict) for one in every)]


def _column(task, records, name, score=None):
    """A score of a method, an array over seeds."""
    return np.array([one["methods"][name][score or main_score(task)] for one in records])


def tables(measured, chosen):
    """All tables of a report, as text, one after the other.

    Args:
        measured: of the seeds that are reported.
        chosen: as `choices` gives them.
    """
    if not any(measured.values()):
        yield "nothing is measured"
        return
    images = {task: records for (task, _), records in measured.items() if family(task) == "tetrominoes" and records}
    for score in _OF_IMAGES if images else ():
        yield _over_cells(images, score)
    for (task, network), records in measured.items():
        if records and task not in images:
            yield _of_task(task, network, records)
    yield verdict(measured, chosen)
    yield from _left_out(measured)


def _of_task(task, network, records):
    """Methods in rows, all scores of a task in columns, means over seeds; the best by the main score first."""
    names, score = _common([(task, records)]), main_score(task)
    rows = []
    for name in sorted(names, key=lambda name: -_column(task, records, name).mean()):
        low, high = _interval(_column(task, records, name))
        scores = {one: None for record in records for method in names for one in record["methods"][method]}
        known = records[0]["methods"][name]
        means = {one: float(_column(task, records, name, one).mean()) if one in known else "" for one in scores}
        between = {f"95 % of {score}": f"{low:.3f} to {high:.3f}" if len(records) > 1 else "-"}
        rows.append({f"{task}, {network} ({len(records)})": name, **means, **between})
    return table_of(rows, ".4f")


def _over_cells(images, score):
    """Methods in rows, cells of tetrominoes in columns, means over seeds; the highest mean over cells first."""
    rows = []
    for name in _common(list(images.items())):
        means = {f"{task} ({len(one)})": float(_column(task, one, name, score).mean()) for task, one in images.items()}
        rows.append({score: name, **means, "mean": float(np.mean(list(means.values())))})
    return table_of(sorted(rows, key=lambda row: -row["mean"]), ".2f")


def verdict(measured, chosen):
    """A row a task, network and score: by how much the method that was chosen is above its rivals on these seeds."""
    rows = []
    for (task, network), records in measured.items():
        by_role = chosen.get((family(task), network), {})
        known = _common([(task, records)]) if records else []
        if by_role.get("ours") not in known:
            continue
        for score in judged(task):
            values = {who: _column(task, records, name, score) for who, name in by_role.items() if name in known}
            row = {"task": task, "network": network, "ours": by_role["ours"], "score": score}
            row["its"] = float(values["ours"].mean())
            for rival in RIVALS:
                row |= _against(rival, values)
            rows.append(row)
    return table_of(rows, ".3f") if rows else "nothing was chosen"


def _against(rival, values):
    """What ours is above a rival, paired over seeds, with its interval; "yes": it is above 0."""
    short = {"integrated_gradients": "IG", "attention.rollout": "rollout"}[rival]
    names = (f"less {short}", f"95 % of less {short}", f"beats {short}")
    if rival not in values:
        return dict(zip(names, itertools.repeat("-")))
    difference = values["ours"] - values[rival]
    low, high = _interval(difference)
    said = "yes" if low > 0 else "no" if high < 0 else "open"
    between = f"{low:.3f} to {high:.3f}" if len(difference) > 1 else "-"
    return dict(zip(names, (float(difference.mean()), between, said), strict=True))


def _interval(values):
    """`(low, high)` of the mean over seeds, with a confidence of 95 % (Student); no numbers of a single one."""
    return student(values, 0.95) if len(values) > 1 else (float("nan"), float("nan"))


def _left_out(measured):
    """What networks refuse, what is not there, and cells without a network that is accurate enough."""
    said = {}
    for (task, network), records in measured.items():
        if not records:
            said.setdefault("not measured, or no network is accurate enough", []).append(f"{task}, {network}")
        for name, why in (pair for one in records[:1] for pair in one["methods"].items()):
            if isinstance(why, str):
                said.setdefault(f"{name}: {why}", []).append(f"{task}, {network}")
    for why, where in said.items():
        yield f"{why} ({'; '.join(where)})"
