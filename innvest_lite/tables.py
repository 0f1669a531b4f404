"""Tables as text, for everything in the package that prints one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(header: Sequence[str], rows: Iterable[Iterable[object]]) -> str:
    """Left-aligned columns as text.

    Args:
        header: a name for each column.
        rows: a sequence of rows, each with a cell for each column; cells are printed by `str`.

    Example:
        >>> print(table(("layer", "units"), [("dense", 10)]))
        layer  units
        -----  -----
        dense  10
    """
    cells = [tuple(header), *(tuple(str(cell) for cell in row) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])
