"""The command `innvest-lite`: parses its arguments and delegates; `main` is the console script.

`parser` defines the arguments; each command is a function of a module that takes them and returns the exit code. No module
here imports TensorFlow or Keras at its top, so that `--help`, and errors that need neither, are immediate.

Exit codes: 0 success; 1 done except for what stderr names (an unreadable image, an unsupported model); 2 an error; 130
interrupted.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

from innvest_lite.cli.parser import build_parser
from innvest_lite.errors import InnvestLiteError

_COMMANDS = {
    "demo": ("demo", "run"),
    "methods": ("methods", "run"),
    "inspect": ("inspection", "run"),
    "fit": ("fitting", "run"),
    "merge": ("fitting", "merge"),
    "analyze": ("analysis", "run"),
    "evaluate": ("evaluation", "run"),
    "export": ("exporting", "run"),
    "report": ("reporting", "run"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: the arguments after the program's name; None takes them from the command line.

    Returns:
        The exit code. Wrong usage and `--help` end in `SystemExit`, as argparse does.

    Example:
        >>> main(["inspect", "model.keras"])
        digits: Sequential, 49,850 parameters
        ...
        0
    """
    arguments = build_parser().parse_args(argv)
    _choose_backend()
    module, function = _COMMANDS[arguments.command]
    command = getattr(importlib.import_module(f"innvest_lite.cli.{module}"), function)
    try:
        code = command(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has closed the pipe, as in `innvest-lite methods | head -1`; the last flush at exit must not fail, too.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (InnvestLiteError, OSError) as error:
        print(f"innvest-lite: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("innvest-lite: interrupted", file=sys.stderr)
        return 130
    return code


def _choose_backend():
    """Settings that must be made before Keras is imported: its backend, and fewer of TensorFlow's own messages."""
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
