"""What the commands print. File names, layers and messages may come from strangers: nothing of them reaches the terminal
but text.
"""

from __future__ import annotations

import contextvars
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


# What messages of the library name, and what it is called here.
_WORDS = (
    ("let preprocessor= make them", "let --preprocess make them, such as --preprocess unit"),
    ("Replace more (steps=), larger patches, or by something else", "Try --max-patches, --patch, or --replace zero"),
    ("innvest_lite.fit_patterns(model, data)", "innvest-lite fit"),
    ("layer=...", "--option layer=..."),
    ("input=...", "--option input=..."),
    ("reference_inputs=", "--option reference_inputs="),
    ("low= and high= of Box and BoundedDeepTaylor", "--option low= and --option high="),
)


def in_our_words(text: str) -> str:
    """A message of the library in the words of the command line."""
    for theirs, ours in _WORDS:
        text = text.replace(theirs, ours)
    return text


class Warnings(logging.Handler):
    """Prints what the library warns of: each text once, on a line of its own, below a progress bar that is on its way.

    Attributes:
        texts: what was said so far.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Prints the `record`, if its text is a new one."""
        text = in_our_words(printable(record.getMessage(), keep="\n\t"))
        if text not in self.texts:
            self.texts.append(text)
            say()
            complain(f"warning: {text}")


WARNINGS: contextvars.ContextVar[Warnings | None] = contextvars.ContextVar("warnings", default=None)
"""Of the command that runs."""


def told_so_far() -> list[str]:
    """What the command that runs has warned of: who is handed a page alone shall read it too."""
    told = WARNINGS.get()
    return [] if told is None else [*told.texts]
