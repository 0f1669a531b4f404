"""Pictures in rows on one white sheet, with labels at the left and on top.

In: uint8 RGB pictures from `visualize.pictures`. Out: one such picture. Called by users and the command line.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from innvest_lite.errors import InvalidInputError
from innvest_lite.visualize.checks import as_picture, check_size
from innvest_lite.visualize.text import render

_FRAME = (200, 200, 200)  # a hairline round each picture: a heat map is white where nothing is relevant
_WHITE = (255, 255, 255)
_ROW_LABEL_CELLS = 3  # a row label is wrapped where it would be wider than this many cells


def grid(
    rows: Sequence[Sequence[Any]],
    row_labels: Sequence[str] | None = None,
    column_labels: Sequence[str] | None = None,
    cell: int = 112,
    margin: int = 8,
) -> np.ndarray:
    """One picture of many: for example a row per sample and a column per method, with labels.

    A picture keeps its proportions and is enlarged or reduced to its cell without smoothing, so that pixels stay what
    they are. Margins grow with the labels: column labels are wrapped, then shrunk, to the width of a cell; row labels
    are wrapped beyond three cells.

    Args:
        rows: a list of rows; a row is a list of uint8 pictures `(height, width, 3)`, or None for an empty cell. All
            rows have the same length.
        row_labels: one text a row, or None.
        column_labels: one text a column, or None.
        cell: the side of a square cell, in pixels (at least 16). A multiple of a small picture's side looks best.
        margin: the space around and between cells, in pixels.

    Returns:
        uint8 array `(height, width, 3)`.

    Raises:
        InvalidInputError: no pictures, rows or labels that differ in number, something that is not a picture, or a cell
            or margin that is not a whole number in its range.

    Example:
        >>> black = np.zeros((28, 28, 3), np.uint8)
        >>> grid([[black, black]], cell=28, margin=4).shape
        (36, 68, 3)
    """
    rows = _check_rows(rows)
    check_size(cell, "cell", least=16)
    check_size(margin, "margin", least=0)
    left = _blocks(row_labels, len(rows), "row_labels", cell * _ROW_LABEL_CELLS, "right")
    top = _blocks(column_labels, len(rows[0]), "column_labels", cell, "center")
    sheet = _Sheet(len(rows), len(rows[0]), cell, margin)
    sheet.label(left, top)
    for row, pictures in enumerate(rows):
        for column, picture in enumerate(pictures):
            if picture is not None:
                sheet.place(picture, row, column)
    return np.array(sheet.image)


class _Sheet:
    """The layout, and the image that is drawn on; labels are measured before pictures are placed."""

    def __init__(self, rows, columns, cell, margin):
        self.columns, self.cell, self.margin = columns, cell, margin
        self.heights = [cell] * rows
        self.left = self.top = margin

    def label(self, left, top):
        """Make room for the labels, make the image, and draw them: rows' at their middle, columns' on their cell."""
        if left:
            self.left += max(block.width for block in left) + self.margin
            self.heights = [max(self.cell, block.height) for block in left]
        if top:
            self.top += max(block.height for block in top) + self.margin
        self.image = Image.new("RGB", self._corner(len(self.heights), self.columns), _WHITE)
        for row, block in enumerate(left):
            _, y = self._corner(row, 0)
            self._paste(block, self.left - self.margin - block.width, y + (self.heights[row] - block.height) // 2)
        for column, block in enumerate(top):
            x, y = self._corner(0, column)
            self._paste(block, x + (self.cell - block.width) // 2, y - self.margin - block.height)

    def place(self, picture, row, column):
        """Paste a picture, scaled to its cell, into the cell's middle."""
        height, width = picture.shape[:2]
        scale = self.cell / max(height, width)
        width, height = max(1, round(width * scale)), max(1, round(height * scale))
        x, y = self._corner(row, column)
        x, y = x + (self.cell - width) // 2, y + (self.heights[row] - height) // 2
        if self.margin > 1:
            self.image.paste(_FRAME, (x - 1, y - 1, x + width + 1, y + height + 1))
        self._paste(Image.fromarray(picture).resize((width, height), Image.Resampling.NEAREST), x, y)

    def _corner(self, row, column):
        """The left and upper pixel of a cell; of the cell after the last, the size of the image."""
        down = sum(self.heights[:row]) + row * self.margin
        return self.left + column * (self.cell + self.margin), self.top + down

    def _paste(self, block, x, y):
        """Put a block on the sheet with its left upper corner at (x, y)."""
        self.image.paste(block.convert("RGB"), (x, y))


def _blocks(labels, expected, name, width, align):
    """One rendered label each, or none at all."""
    if labels is None:
        return []
    labels = [labels] if isinstance(labels, str) else list(labels)
    if len(labels) != expected:
        raise InvalidInputError(f"{name} has {len(labels)} labels for {expected}; give one each, or None for no labels.")
    return [render(label, width, align) for label in labels]


def _check_rows(rows):
    """Rows as lists of checked pictures, all of one length."""
    rows = [list(row) for row in rows]
    lengths = sorted({len(row) for row in rows})
    if not rows or lengths[0] == 0:
        raise InvalidInputError("A grid needs at least one row with one picture; the rows are empty.")
    if len(lengths) > 1:
        raise InvalidInputError(f"All rows of a grid need the same length, but have {lengths}; fill short ones with None.")
    return [
        [None if picture is None else as_picture(picture, f"rows[{i}][{j}]") for j, picture in enumerate(row)]
        for i, row in enumerate(rows)
    ]
