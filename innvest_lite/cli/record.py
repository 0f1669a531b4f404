"""What `analyze` explained, in two files beside the results: explanations.csv and explanations.json.

A row for each result: file, method, the class that was explained, its name and score, the true class where folders say it,
and the names of the files. Both are kept up to date as `exponents.json` is: rows of other results in the folder stay.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from innvest_lite.answers import Answer, Scores
from innvest_lite.cli.terminal import say
from innvest_lite.errors import InvalidInputError
from innvest_lite.files import locked, replacing
from innvest_lite.tables import csv_cell, table

JSON, CSV = "explanations.json", "explanations.csv"
COLUMNS = (
    "file",
    "method",
    "target",
    "class",
    "name",
    "score",
    "unit",
    "softmax",
    "logit",
    "true",
    "correct",
    "values",
    "picture",
)
# Rows that are printed; a file has all.
_SHOWN = 20


def row(
    file: str,
    method: str,
    answer: Answer,
    *,
    target: Any = None,
    true: str | None = None,
    correct: bool | None = None,
    values: str = "",
    picture: str | None = None,
) -> dict[str, Any]:
    """One row, a dict with the keys `COLUMNS`.

    Args:
        file: what was explained.
        method: the name of the method.
        answer: what of it was explained.
        target: as the user gave it; None: what is predicted.
        true: the name of the true class, where it is known.
        correct: whether it is what the model predicts; None where that is not known, or another class was asked for.
        values: the name of the file of the values, seen from the folder.
        picture: likewise, of the picture.
    """
    found = {"file": file, "method": method, "target": target, **answer.to_dict(), "true": true, "correct": correct}
    found.update(softmax=answer.share, values=values, picture=picture)
    return {column: found[column] for column in COLUMNS}


def note(out: pathlib.Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Adds rows to both files of a folder; earlier rows of the same results are replaced.

    Raises:
        InvalidInputError: the folder has files of these names that are none of ours.
    """
    with locked(out / JSON, waiting=True):
        kept = {(one["values"], one["file"]): one for one in [*_read(out / JSON), *rows]}
        with replacing(out / JSON) as partial:
            # The name of a file may hold bytes that are not text: as JSON's own escapes.
            text = json.dumps(list(kept.values()), indent=1, ensure_ascii=False) + "\n"
            partial.write_bytes(text.encode("utf-8", "backslashreplace"))
        with replacing(out / CSV) as partial, partial.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(COLUMNS)
            writer.writerows(["" if one[key] is None else csv_cell(one[key]) for key in COLUMNS] for one in kept.values())


def check(out: pathlib.Path) -> None:
    """Raises InvalidInputError where a folder has an explanations.json that is none of ours."""
    _read(out / JSON)


def doubts(found: Sequence[Scores]) -> list[str]:
    """What all scores together say against the model, see `Scores.doubts`."""
    if not found:
        return []
    return dataclasses.replace(
        found[0],
        values=np.concatenate([one.values for one in found]),
        logits=np.concatenate([one.logits for one in found if one.logits is not None]),
    ).doubts()


def show(rows: Sequence[Mapping[str, Any]], out: pathlib.Path) -> None:
    """Prints what was explained, and where it is wrong as far as folders say so."""
    # What is wrong is what one wants to see.
    rows = sorted(rows, key=lambda one: one["correct"] is not False)
    header = (
        ("file", "explained", "score", "picture") if any(one["picture"] for one in rows) else ("file", "explained", "score")
    )
    say(table(header, [_cells(one)[: len(header)] for one in rows[:_SHOWN]]))
    if len(rows) > _SHOWN:
        say(f"... and {len(rows) - _SHOWN} more, in {out / CSV}")
    known = [one for one in rows if one["correct"] is not None]
    if known:
        others = f" ({len(rows) - len(known)} are in folders of no class)" if len(known) < len(rows) else ""
        wrong = sum(not one["correct"] for one in known)
        say(f"{wrong} of {len(known)} predictions are not the class of the folder{others}.")


def _cells(one):
    named = (
        one["name"] if one["class"] is None or one["name"] == f"class {one['class']}" else f"{one['name']} ({one['class']})"
    )
    more = f" (true: {one['true']})" if one["true"] is not None and one["true"] != one["name"] else ""
    answer = Answer(one["class"], one["name"], one["score"], one["unit"], one["logit"], one["softmax"])
    return one["file"], f"{named}{more}", answer.said, one["picture"] or ""


def _read(file):
    """The rows of a file; none where there is no file."""
    try:
        found = json.loads(file.read_bytes())
    except FileNotFoundError:
        return []
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, list) or not all(isinstance(one, dict) and set(COLUMNS) == set(one) for one in found):
        raise InvalidInputError(
            f"{file} is not what analyze writes, and is not replaced: remove it, or choose another folder."
        )
    return found
