"""Tables as text and as HTML, for everything in the package that prints one; names of strangers as text that does no harm.

`Tabled` is the base of values that are tables: all of it where they are printed, a line as `repr`, HTML in a notebook.
`Brief` is that of values with a `repr` of a line, whatever they hold.
"""

from __future__ import annotations

import dataclasses
import html
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

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
    cells = [tuple(printable(str(cell)) for cell in row) for row in (header, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def html_table(header: Sequence[str], rows: Iterable[Iterable[object]], most: int = 500) -> str:
    """A table for a notebook: readable on light and on dark pages, whose colours it takes, and loading nothing.

    Args:
        header: a name for each column; all empty: there is no row of names.
        rows: as in `table`; whatever cells hold is shown as text.
        most: how many rows are shown; a last one says how many more there are.

    Example:
        >>> html_table(("layer",), [("<b>",)]).count("&lt;b&gt;")
        1
    """
    cells = [list(map(str, row)) for row in rows]
    left_out, cells = len(cells[most:]), cells[:most]
    columns = list(zip(*cells, strict=True)) or [("",)] * len(header)
    sides = ["right" if all(map(_is_number, column)) else "left" for column in columns]
    lines = [_row("td", row, sides) for row in cells]
    if left_out:
        lines.append(f'<tr><td colspan="{len(header)}" style="{_CELL}">{left_out:,} more: print it to see them</td></tr>')
    names = f"<thead>{_row('th', header, sides)}</thead>" if any(header) else ""
    return (
        '<div style="overflow:auto;max-height:36em"><table style="border-collapse:collapse;color:inherit">'
        f"{names}<tbody>{''.join(lines)}</tbody></table></div>"
    )


_CELL = "padding:.2em .8em;border-bottom:1px solid rgba(128,128,128,.35)"


def _row(tag, cells, sides):
    each = zip((html.escape(printable(str(cell))) for cell in cells), sides, strict=True)
    return "<tr>" + "".join(f'<{tag} style="{_CELL};text-align:{side}">{cell}</{tag}>' for cell, side in each) + "</tr>"


def _is_number(cell):
    try:
        return not cell or float(cell) is not None
    except ValueError:
        return False


# A repr, and a field in it, in letters.
_LINE, _FIELD = 300, 72


class Brief:
    """A dataclass with a `repr` of one line: arrays by type and shape, long collections by their number."""

    def __repr__(self) -> str:
        fields: Any = dataclasses.fields(self) if dataclasses.is_dataclass(self) else ()
        told = ", ".join(f"{field.name}={brief(getattr(self, field.name))}" for field in fields if field.repr)
        return f"{type(self).__name__}({_cut(told, _LINE)})"


class Tabled(Brief):
    """A value that is a table, or tables and texts: all of it where it is printed, and in a notebook."""

    def _parts(self) -> Iterable[Any]:
        """Texts, "" for an empty line, and tables as `(header, rows)`, from top to bottom."""
        raise NotImplementedError

    def __str__(self) -> str:
        return "\n".join(part if isinstance(part, str) else table(*part) for part in self._parts())

    def _repr_html_(self) -> str:
        return "".join(
            f"<p>{html.escape(printable(part, keep=chr(10)))}</p>" if isinstance(part, str) else html_table(*part)
            for part in self._parts()
            if part
        )


def brief(value: Any) -> str:
    """A value in a few words, for a `repr`.

    Args:
        value: anything.

    Example:
        >>> brief([1, 2]), brief({"a": 1}), brief(range(3))
        ('[1, 2]', 'dict of 1: a', 'range(0, 3)')
    """
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{value.dtype} {tuple(value.shape)}"
    if isinstance(value, Mapping):
        names = f": {', '.join(map(str, value))}" if value else ""
        return _cut(f"{type(value).__name__} of {len(value)}{names}", _FIELD)
    if isinstance(value, list | tuple) and not all(isinstance(one, str | int | float | None) for one in value):
        kinds = sorted({type(one).__name__ for one in value})
        return f"{type(value).__name__} of {len(value)} {kinds[0] if len(kinds) == 1 else 'values'}"
    return _cut(repr(value), _FIELD)


def _cut(text, most):
    """A text in one line, shortened to so many letters."""
    text = " ".join(printable(text, keep="\n").split())
    return text if len(text) <= most else f"{text[: most - 3]}..."
