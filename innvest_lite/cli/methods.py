"""`innvest-lite methods`: a table of what `create_analyzer` knows."""

from __future__ import annotations

import argparse

import innvest_lite
from innvest_lite.cli import models
from innvest_lite.cli.terminal import say
from innvest_lite.tables import table


def run(arguments: argparse.Namespace) -> int:
    """Prints the table; returns the exit code."""
    rows = [
        (name, "yes" if models.needs_patterns(name) else "no", method.summary)
        for name, method in innvest_lite.ANALYZERS.items()
    ]
    say(table(("method", "needs fit", "what it is"), rows))
    return 0
