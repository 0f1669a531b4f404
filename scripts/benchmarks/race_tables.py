"""What the race found, as rows of a CSV file, as a Markdown table, and as verdicts. Called by `race`."""

import csv
import math
import statistics

from race_contestants import CONTESTANTS, OURS, PLAIN, PLAIN_AGAIN

COLUMNS = (
    *("model", "batch", "method", "contestant", "version", "seconds_median"),
    *("ratio_to_gradient", "ratio_low", "ratio_high", "ratio_to_ours", "ours_low", "ours_high", "rounds", "note"),
)
AGAINST = {contestant.name: contestant.against for contestant in CONTESTANTS}
CONFIDENCE = 0.95
# The contestants that are no package.
CONTROLS = {name for name in AGAINST if name.startswith((PLAIN, OURS))}


def rows_of(case, workers, seconds, notes):
    """The CSV's rows of a case, one for each contestant that has times or a reason for having none."""
    rows = []
    for name, note in notes.items():
        row = {**case, "contestant": name, "version": workers[name].version, "note": note}
        row["rounds"] = len(seconds.get(name, ()))
        if seconds.get(name):
            row["seconds_median"] = f"{statistics.median(seconds[name]):.4f}"
            for other, columns in (
                (PLAIN, ("ratio_to_gradient", "ratio_low", "ratio_high")),
                (AGAINST[name], ("ratio_to_ours", "ours_low", "ours_high")),
            ):
                row.update(zip(columns, ratio(seconds[name], seconds.get(other)), strict=True))
        rows.append(row)
    return rows


def ratio(values, others):
    """The median of the ratios of the same rounds and its interval, as text."""
    if not others:
        return "", "", ""
    ratios = sorted(ours / theirs for ours, theirs in zip(values, others, strict=True))
    cut = left_out(len(ratios))
    return tuple(f"{number:.3f}" for number in (statistics.median(ratios), ratios[cut], ratios[-1 - cut]))


def left_out(count):
    """How many of the smallest and of the largest of so many values the interval of their median leaves out.

    The median lies between the k-th smallest and the k-th largest unless fewer than k values lie on one side of it, on
    which each lies with a probability of a half.
    """
    cut = 0
    while 1 - 2 * sum(math.comb(count, below) for below in range(cut + 2)) / 2**count >= CONFIDENCE:
        cut += 1
    return cut


def table(rows, names):
    """The Markdown table, and below it the notes."""
    cells, notes = {}, {}
    for row in rows:
        cells.setdefault(key_of(row), {})[row["contestant"]] = cell(row, notes)
    others = [name for name in names if name != PLAIN]
    heads = ["model", "batch", "method", "plain gradient", *others]
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for key, found in cells.items():
        lines.append("| " + " | ".join([*map(str, key), *(found.get(name, "-") for name in [PLAIN, *others])]) + " |")
    return "\n".join([*lines, "", *(f"- [{number}] {note}" for note, number in notes.items())])


def key_of(row):
    """Which case a row is of."""
    return row["model"], row["batch"], row["method"]


def cell(row, notes):
    """A table's cell: the ratio, for the plain gradient its seconds; and the number of the note, where there is one."""
    note = f"{row['contestant']}: {row['note']}"
    number = f" [{notes.setdefault(note, len(notes) + 1)}]" if row["note"] else ""
    if not row.get("seconds_median"):
        return f"none{number}"
    if row["contestant"] == PLAIN or not row["ratio_to_gradient"]:
        return f"{float(row['seconds_median']):.2f} s{number}"
    return f"x{float(row['ratio_to_gradient']):.2f}{interval(row, 'ratio')}{number}"


def interval(row, of):
    """The interval of a ratio, as text; "" in files of earlier versions, which have none."""
    low, high = row.get(f"{of}_low"), row.get(f"{of}_high")
    return f" ({float(low):.2f} to {float(high):.2f})" if low and high else ""


def verdicts(rows):
    """Where this package is ahead of each other one, level with it or behind, by the interval of the ratio."""
    found = {"ahead": [], "level": [], "behind": []}
    for row in rows:
        if row["contestant"] not in CONTROLS and row["contestant"] != "limit" and row.get("ours_low"):
            found[verdict(row)].append(row)
    counts = ", ".join(f"{word} in {len(those)}" for word, those in found.items())
    compared = sum(map(len, found.values()))
    lines = [f"This package against others, in the same terms, of {compared} comparisons: {counts}."]
    for word in ("behind", "level"):
        lines += [f"- {word}: {described(row)}" for row in found[word]]
    limits = [row for row in rows if row["contestant"] == "limit" and row.get("ours_low")]
    # The limit's ratio to this package, turned round.
    lines += [
        f"- limit: {' '.join(map(str, key_of(row)))}: this package takes {1 / float(row['ratio_to_ours']):.2f} of it "
        f"({1 / float(row['ours_high']):.2f} to {1 / float(row['ours_low']):.2f})"
        for row in limits
    ]
    return "\n".join([*lines, *noise(rows)])


def verdict(row):
    """Ahead where the other takes longer for sure, behind where it takes less."""
    if float(row["ours_low"]) > 1:
        return "ahead"
    return "behind" if float(row["ours_high"]) < 1 else "level"


def described(row):
    """A comparison, as text."""
    case = " ".join(map(str, key_of(row)))
    return f"{case}: {row['contestant']} takes {float(row['ratio_to_ours']):.2f} of it{interval(row, 'ours')}"


def noise(rows):
    """How far apart two timings of the same call are, over all cases."""
    lines = []
    for name, column in ((PLAIN_AGAIN, "ratio_to_gradient"), (f"{OURS}_again", "ratio_to_ours")):
        found = [float(row[column]) for row in rows if row["contestant"] == name and row.get(column)]
        if found:
            lines.append(
                f"- control: {name} takes {min(found):.2f} to {max(found):.2f} of itself, medians of {len(found)} cases"
            )
    return lines


def listed(versions):
    """What each contestant with a process of its own runs on, as a list."""
    alone = [contestant.name for contestant in CONTESTANTS if not contestant.of]
    return "\n".join([*(f"- {name}: {versions[name]}" for name in alone if name in versions), ""])


def print_tables(paths):
    """Prints the table of files that `--csv` wrote."""
    rows = {}
    for path in paths:
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                rows[row["model"], row["batch"], row["method"], row["contestant"]] = row
    print(listed({row["contestant"]: row["version"] for row in rows.values()}))
    known = {row["contestant"] for row in rows.values()}
    print(table(rows.values(), [contestant.name for contestant in CONTESTANTS if contestant.name in known]))
    print(verdicts(rows.values()))
