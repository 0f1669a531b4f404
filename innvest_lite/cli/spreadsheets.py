"""Tables of a CSV file as samples: a row is one, a column a feature, whose name the first row says. Called by `samples`."""

from __future__ import annotations

import csv
import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from innvest_lite.cli import plain_text
from innvest_lite.errors import InvalidInputError, did_you_mean

ENDING = ".csv"
_DELIMITERS = ",;\t|"


@dataclasses.dataclass(frozen=True, eq=False)
class Spreadsheet:
    """A table.

    Attributes:
        names: of the columns.
        rows: the cells, texts, `(rows, columns)`.
        path: of the file.
    """

    names: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    path: str

    def only(self, columns: Sequence[str]) -> Spreadsheet:
        """The columns of these names, in this order.

        Raises:
            InvalidInputError: there is no column of one of these names.
        """
        for name in columns:
            if name not in self.names:
                hint = did_you_mean(name, list(self.names))
                raise InvalidInputError(f"{self.path!r} has no column {name!r}.{hint} It has {', '.join(self.names)}.")
        places = [self.names.index(name) for name in columns]
        rows = tuple(tuple(row[place] for place in places) for row in self.rows)
        return Spreadsheet(tuple(columns), rows, self.path)

    def numbers(self, dtype: str = "float32") -> np.ndarray:
        """The cells as numbers of a dtype, `(rows, columns)`.

        Args:
            dtype: of the model's input; whole numbers are read as such.

        Raises:
            InvalidInputError: a cell is no number; the message says which.
        """
        return np.array(
            [
                [self._number(cell, row, name, dtype) for cell, name in zip(cells, self.names, strict=True)]
                for row, cells in enumerate(self.rows)
            ],
            dtype,
        )

    def _number(self, cell, row, name, dtype):
        whole = np.dtype(dtype).kind in "iu"
        try:
            number = int(cell) if whole else float(cell)
        except ValueError:
            number = math.nan
        if not math.isfinite(number) or abs(number) > (np.iinfo(dtype) if whole else np.finfo(dtype)).max:
            raise InvalidInputError(
                f"{self.path!r}: column {name!r} of row {row} holds {cell!r}, which is no number ({dtype}). Choose the "
                "columns that the model takes, in its order, with --columns A,B,C."
            )
        return number


def read(path: str) -> Spreadsheet:
    """The table of a CSV file (comma, semicolon, tab or | between cells); without a header, columns are named by number.

    Raises:
        InvalidInputError: there is no such file, it is not UTF-8, or its rows differ in length.
    """
    text = plain_text.read(path)
    first = text.partition("\n")[0]
    delimiter = max(_DELIMITERS, key=first.count)
    try:
        rows = [tuple(map(str.strip, row)) for row in csv.reader(text.splitlines(), delimiter=delimiter) if row]
    except csv.Error as error:
        raise InvalidInputError(f"The file {path!r} is no CSV table: {error}.") from error
    named = bool(rows) and not any(map(_is_number, rows[0]))
    names = rows[0] if named else tuple(f"column {place}" for place in range(len(rows[0]) if rows else 0))
    cells = rows[named:]
    if not cells or len(set(names)) != len(names):
        raise InvalidInputError(f"The table {path!r} should have rows, and columns whose names differ.")
    for number, row in enumerate(cells):
        if len(row) != len(names):
            raise InvalidInputError(f"{path!r}: row {number} has {len(row)} cells where there are {len(names)} columns.")
    return Spreadsheet(names, tuple(cells), path)


def inputs_of(table: Spreadsheet, model: Any, columns: Sequence[str] | None) -> tuple[Any, tuple[str, ...]]:
    """What a model takes of a table, and the names of the columns that it takes.

    Args:
        table: the table.
        model: a model of one input `(features,)`, or of inputs that are named as columns are, a number or a text each.
        columns: the columns to take, in the model's order; None: all, or those that the inputs are named after.

    Raises:
        InvalidInputError: the columns do not fit the model.
    """
    inputs = model.inputs
    if len(inputs) > 1:
        taken = table.only([tensor.name for tensor in inputs])
        found = {}
        for place, tensor in enumerate(inputs):
            one = taken.only([taken.names[place]])
            cells = np.array(one.rows, object) if tensor.dtype == "string" else one.numbers(tensor.dtype)
            found[tensor.name] = cells.reshape(len(cells), *[1] * (len(tensor.shape) - 1))
        return found, taken.names
    taken = table if columns is None else table.only(columns)
    shape = tuple(inputs[0].shape)
    if len(shape) != 2 or shape[1] not in (None, len(taken.names)):
        raise InvalidInputError(
            f"The model takes inputs of shape {shape}, and the table {table.path!r} gives {len(taken.names)} columns: "
            f"{', '.join(taken.names)}. Choose those that the model takes, in its order, with --columns A,B,C."
        )
    return taken.numbers(), taken.names


def _is_number(cell):
    try:
        float(cell)
    except ValueError:
        return False
    return True
