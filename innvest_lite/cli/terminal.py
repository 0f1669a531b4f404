"""What the commands print. File names, layers and messages may come from strangers: nothing of them reaches the terminal
but text.
"""

from __future__ import annotations

import logging
import sys
from typing import TextIO

from innvest_lite.tables import printable


def say(text: object = "", *, file: TextIO | None = None) -> None:
    """Prints a text, with control characters escaped but for the ends of lines.

    Args:
        text: what is printed by `str`.
        file: a stream; None: standard output.
    """
    file = sys.stdout if file is None else file
    encoding = getattr(file, "encoding", None) or "utf-8"
    # What the terminal's encoding lacks is escaped, too, rather than an error.
    shown = printable(str(text), keep="\n\t").encode(encoding, "backslashreplace").decode(encoding)
    print(shown, file=file, flush=True)


def complain(text: object) -> None:
    """As `say`, on standard error, behind the program's name."""
    say(f"innvest-lite: {text}", file=sys.stderr)


class Harmless(logging.Filter):
    """Escapes control characters in the messages of a logger."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Changes the `record`'s message; True, so that it is handled."""
        record.msg, record.args = printable(record.getMessage(), keep="\n\t"), ()
        return True
