"""Explanations of tables: a bar for each of the columns that count most, the rest summed. Called by users.

In: a number for each column. Out: one uint8 RGB picture, drawn with Pillow.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from innvest_lite.errors import InvalidInputError
from innvest_lite.visualize.checks import as_array, as_batch, check_size
from innvest_lite.visualize.colormaps import DEFAULT, colorize
from innvest_lite.visualize.scales import number
from innvest_lite.visualize.text import render

_WHITE, _AXIS = (255, 255, 255), (120, 120, 120)
_MARGIN, _GAP, _BAR, _ROW = 12, 8, 18, 26
_TITLE_SIZES, _SIZES = (19, 18, 17, 16, 15, 14, 13), (14, 13, 12, 11, 10)
# Names take at most this share of the width; the number at a bar's end so many pixels.
_NAMES, _NUMBER = 0.45, 64
# How strong the colour of a bar is: its length says how much it is.
_STRENGTH = 0.7


def bars(
    relevance: Any,
    names: Sequence[str],
    values: Sequence[Any] | None = None,
    title: str | None = None,
    *,
    unit: str = "logits",
    colormap: str = DEFAULT,
    limit: float | None = None,
    most: int = 10,
    width: int = 640,
) -> np.ndarray:
    """A bar for each of the columns of a table that count most, to the right what is for the answer, else to the left.

    Args:
        relevance: a number for each column, shape `(columns,)`, or `(1, columns)` as `analyze` gives it for one row.
        names: the name of each column.
        values: what the row has in each column, written beside its name: numbers or texts; None: names alone.
        title: a text above all; wrapped.
        unit: what the bars count; "" for nothing.
        colormap: as in `heatmap`; bars have one colour for either sign.
        limit: the number of the longest bar that there is room for, so that charts can be compared; None: the largest.
        most: how many columns have a bar of their own, at least 1; all others are summed in one more, "4 others".
        width: of the picture, in pixels, at least 240.

    Returns:
        uint8 array `(height, width, 3)`.

    Raises:
        InvalidInputError: numbers of names, values and relevance that differ, or what `heatmap` refuses.

    Example:
        >>> bars(np.array([0.5, -2.0, 0.1]), ["age", "income", "city"], [63, 1200.5, "Bonn"], most=2).shape
        (125, 640, 3)
    """
    check_size(width, "width", least=240)
    check_size(most, "most", least=1, what="bars")
    numbers = _numbers(relevance)
    labels = _texts(names, len(numbers), "names")
    if values is not None:
        labels = [" = ".join(pair) for pair in zip(labels, _texts(values, len(numbers), "values"), strict=True)]
    rows = list(_rows(numbers, labels, most))
    colors = colorize(np.array([-_STRENGTH, _STRENGTH]), colormap)
    chart = _Chart(rows, _bound(rows, limit), colors, width)
    above = render(title, width - 2 * _MARGIN, "center", _TITLE_SIZES) if title else None
    below = render(unit, width // 2, "left", _SIZES[1:]) if unit else None
    return chart.drawn(above, below)


@dataclasses.dataclass(frozen=True)
class _Row:
    """A bar: its name, and its value."""

    name: str
    value: float


class _Chart:
    """Names at the left, bars from a line at zero, and their numbers."""

    def __init__(self, rows: list[_Row], bound: float, colors: np.ndarray, width: int) -> None:
        self.rows, self.colors, self.width, self.bound = rows, colors, width, bound
        self.labels = [render(row.name, int(_NAMES * width), "right", _SIZES) for row in rows]
        self.heights = [max(_ROW, label.height + 6) for label in self.labels]
        self.left = _MARGIN + max(label.width for label in self.labels) + _GAP
        room = width - self.left - _MARGIN
        signs = {row.value < 0 for row in rows if row.value} or {False}
        self.has_right = False in signs
        before = _NUMBER if True in signs else 0
        after = _NUMBER if False in signs else 0
        #: Pixels of a bar as large as the bound, and where zero is.
        self.length = (room - before - after) / len(signs)
        self.zero = self.left + before + (self.length if True in signs else 0)

    def drawn(self, above: Image.Image | None, below: Image.Image | None) -> np.ndarray:
        """The chart, with what stands above it and below its line."""
        top = _MARGIN + (above.height + _MARGIN if above else 0)
        bottom = top + sum(self.heights)
        sheet = Image.new("RGB", (self.width, bottom + (below.height + _GAP if below else 0) + _MARGIN), _WHITE)
        if above:
            sheet.paste(above.convert("RGB"), ((self.width - above.width) // 2, _MARGIN))
        y = top
        for row, label, height in zip(self.rows, self.labels, self.heights, strict=True):
            self._draw(sheet, row, label, y + height // 2)
            y += height
        ImageDraw.Draw(sheet).line((round(self.zero), top, round(self.zero), bottom - 1), fill=_AXIS)
        if below:
            place = min(max(round(self.zero) - below.width // 2, self.left), self.width - _MARGIN - below.width)
            sheet.paste(below.convert("RGB"), (place, bottom + _GAP))
        return np.array(sheet)

    def _draw(self, sheet, row, label, middle):
        """One bar round its middle, with its name and its number."""
        sheet.paste(label.convert("RGB"), (self.left - _GAP - label.width, middle - label.height // 2))
        share = min(max(row.value / self.bound, -1.0), 1.0)
        end = round(self.zero + share * self.length)
        if row.value:
            ends = sorted((round(self.zero), end))
            color = tuple(map(int, self.colors[int(row.value > 0)]))
            ImageDraw.Draw(sheet).rectangle((ends[0], middle - _BAR // 2, ends[1], middle + _BAR // 2), fill=color)
        text = render(_signed(row.value), _NUMBER - 6, "left", _SIZES[1:])
        left = row.value < 0 or (not row.value and not self.has_right)
        sheet.paste(text.convert("RGB"), (end - 4 - text.width if left else end + 5, middle - text.height // 2))


def _rows(numbers: np.ndarray, labels: list[str], most: int) -> Iterator[_Row]:
    """The largest magnitudes first, and the sum of the others."""
    order = np.argsort(-np.abs(numbers), kind="stable")
    # One that is left over is no more room than "1 others".
    shown = order if len(order) <= most + 1 else order[:most]
    for place in shown:
        yield _Row(labels[place], float(numbers[place]) + 0.0)
    if len(shown) < len(order):
        yield _Row(f"{len(order) - len(shown)} others", float(numbers[order[len(shown) :]].sum()))


def _numbers(relevance):
    array = as_array(relevance, "relevance")
    array = array[0] if array.ndim == 2 and len(array) == 1 else array
    if array.ndim != 1:
        raise InvalidInputError(
            f"relevance has the shape {array.shape}; expected a number for each column, (columns,). Draw the rows of a "
            "batch one by one."
        )
    return as_batch(array[None], "relevance")[0].reshape(-1)


def _texts(given, count, name):
    """Names or values as texts, as many as there are columns."""
    given = [given] if isinstance(given, str) else list(given)
    if len(given) != count:
        raise InvalidInputError(f"{name} has {len(given)} entries for {count} columns; give one each.")
    return [f"{one:.6g}" if isinstance(one, float | np.floating) else str(one) for one in given]


def _bound(rows, limit):
    """The number of the longest bar."""
    if limit is None:
        return max(abs(row.value) for row in rows) or 1.0
    if isinstance(limit, str | bool) or not np.isscalar(limit) or not 0 < limit < np.inf:
        raise InvalidInputError(f"limit is {limit!r}; expected one positive, finite number in the unit of relevance.")
    return float(limit)


def _signed(value):
    return f"+{number(value)}" if value > 0 else number(value)
