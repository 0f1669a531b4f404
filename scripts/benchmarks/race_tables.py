"""What the race found, as rows of a CSV file and as a Markdown table. Called by `race`."""

import csv
import statistics

from race_contestants import CONTESTANTS, OURS, PLAIN

COLUMNS = (
    *("model", "batch", "method", "contestant", "version", "seconds_median"),
    *("ratio_to_gradient", "ratio_to_ours", "rounds", "note"),
)


def rows_of(case, workers, seconds, notes):
    """The CSV's rows of a case, one for each contestant that has times or a reason for having none."""
    rows = []
    for name, note in notes.items():
        row = {**case, "contestant": name, "version": workers[name].version, "note": note}
        row["rounds"] = len(seconds.get(name, ()))
        if seconds.get(name):
            row["seconds_median"] = f"{statistics.median(seconds[name]):.4f}"
            row["ratio_to_gradient"] = ratio(seconds[name], seconds.get(PLAIN))
            row["ratio_to_ours"] = ratio(seconds[name], seconds.get(OURS))
        rows.append(row)
    return rows


def ratio(values, others):
    """The median of the ratios of the same rounds, as text."""
    if others is None:
        return ""
    return f"{statistics.median(ours / theirs for ours, theirs in zip(values, others, strict=True)):.3f}"


def table(rows, names):
    """The Markdown table, and below it the notes."""
    cells, notes = {}, {}
    for row in rows:
        key = row["model"], row["batch"], row["method"]
        cells.setdefault(key, {})[row["contestant"]] = cell(row, notes)
    others = [name for name in names if name != PLAIN]
    heads = ["model", "batch", "method", "plain gradient", *others]
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for key, found in cells.items():
        lines.append("| " + " | ".join([*map(str, key), *(found.get(name, "-") for name in [PLAIN, *others])]) + " |")
    return "\n".join([*lines, "", *(f"- [{number}] {note}" for note, number in notes.items())])


def cell(row, notes):
    """A table's cell: the ratio, for the plain gradient its seconds; and the number of the note, where there is one."""
    note = f"{row['contestant']}: {row['note']}"
    number = f" [{notes.setdefault(note, len(notes) + 1)}]" if row["note"] else ""
    if not row.get("seconds_median"):
        return f"none{number}"
    by_ratio = row["contestant"] != PLAIN and row["ratio_to_gradient"]
    return (f"x{float(by_ratio):.2f}" if by_ratio else f"{float(row['seconds_median']):.2f} s") + number


def print_tables(paths):
    """Prints the table of files that `--csv` wrote."""
    rows = {}
    for path in paths:
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                rows[row["model"], row["batch"], row["method"], row["contestant"]] = row
    print(*dict.fromkeys(f"- {row['contestant']}: {row['version']}" for row in rows.values()), sep="\n", end="\n\n")
    known = {row["contestant"] for row in rows.values()}
    print(table(rows.values(), [contestant.name for contestant in CONTESTANTS if contestant.name in known]))
