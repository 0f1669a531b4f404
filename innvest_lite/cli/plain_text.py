"""Text files that a command is given: texts to explain, tables, labels. Called by `texts`, `spreadsheets` and `naming`."""

from __future__ import annotations

import pathlib

from innvest_lite.errors import InvalidInputError


def read(path: str) -> str:
    """The text of a file in UTF-8, with or without a byte order mark.

    Raises:
        InvalidInputError: there is no such file, or it is not UTF-8.
    """
    place = pathlib.Path(path)
    if not place.is_file():
        raise InvalidInputError(f"There is no file {path!r}; correct the path.")
    try:
        return place.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"The file {path!r} is not UTF-8 text: {error}. Save it as UTF-8.") from error
