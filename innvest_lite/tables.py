"""Tables as text, for everything in the package that prints one; names of strangers as text that does no harm."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence

# Categories of Unicode: control characters (of terminals), characters that turn text round or do not show, halves of a
# character (bytes of a file's name that are no text), the ends of lines and paragraphs.
_UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")
# What begins a formula in spreadsheets, in some also in its wide form.
_FORMULA = tuple("=+-@\t\r＝＋－＠")


def printable(text: str, keep: str = "") -> str:
    """A text in which no character does anything to a terminal: such characters are escaped, as in Python's strings.

    Args:
        text: any text.
        keep: characters that are left as they are, such as "\\n".

    Returns:
        A str.

    Example:
        >>> print(printable("dense\\x1b[2J"))
        dense\\x1b[2J
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        repr(letter)[1:-1] if unicodedata.category(letter) in _UNSEEN and letter not in keep else letter for letter in text
    )


def csv_cell(value: object) -> object:
    """A value for a cell of a CSV file; a text that a spreadsheet would take for a formula gets a ' in front.

    Args:
        value: a text, or anything else, such as a number, which stays as it is.

    Returns:
        A str for a str, else the value.

    Example:
        >>> csv_cell("=1+1"), csv_cell("dense"), csv_cell(-1.5)
        ("'=1+1", 'dense', -1.5)
    """
    if not isinstance(value, str):
        return value
    mark = "'" if value.lstrip(" \n").startswith(_FORMULA) else ""
    return mark + printable(value)


def table(header: Sequence[str], rows: Iterable[Iterable[object]]) -> str:
    """Left-aligned columns as text.

    Args:
        header: a name for each column.
        rows: a sequence of rows, each with a cell for each column; cells are printed by `str`, as `printable` text.

    Example:
        >>> print(table(("layer", "units"), [("dense", 10)]))
        layer  units
        -----  -----
        dense  10
    """
    cells = [tuple(header), *(tuple(printable(str(cell)) for cell in row) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])
