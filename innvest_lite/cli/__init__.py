"""The command `innvest-lite`: parses its arguments and delegates; `main` is the console script.

`parser` defines the arguments; each command is a function of a module that takes them and returns the exit code. No module
here imports TensorFlow or Keras at its top, so that `--help`, and errors that need neither, are immediate.

Exit codes: 0 success; 1 done except for what stderr names (an unreadable image, an unsupported model); 2 an error; 130
interrupted, 143 told to end (SIGTERM).
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Sequence

from innvest_lite.cli import quiet

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
_INTERRUPTED = "interrupted"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: the arguments after the program's name; None takes them from the command line. The process is then taken to
            be ours: an interruption ends it at once, whatever runs, with nothing unfinished left on the disk.

    Returns:
        The exit code. Wrong usage and `--help` end in `SystemExit`, as argparse does.

    Example:
        >>> main(["inspect", "model.keras"])
        digits: Sequential, 49,850 parameters
        ...
        0
    """
    if argv is None:
        _end_at_once_when_told()
    with _Interruptions():
        return _run(argv)
    _complain(_INTERRUPTED)
    return 128 + signal.SIGINT


def _run(argv):
    # Late, as all imports that take time: an interruption while they run is one like any other.
    from innvest_lite.cli.parser import build_parser

    parser = build_parser()
    if not (sys.argv[1:] if argv is None else argv):
        parser.print_help(sys.stderr)
        return 2
    arguments = parser.parse_args(argv)
    # Only of a process that is ours, and not where the user has said what TensorFlow is to print.
    unasked = argv is None and "TF_CPP_MIN_LOG_LEVEL" not in os.environ
    _choose_backend()
    with quiet.Quiet(unasked):
        return _run_command(arguments)


def _run_command(arguments):
    import importlib
    import logging

    from innvest_lite.cli.terminal import WARNINGS, Warnings, in_our_words
    from innvest_lite.errors import InnvestLiteError

    told, log = Warnings(), logging.getLogger("innvest_lite")
    log.addHandler(told)
    token = WARNINGS.set(told)
    try:
        if getattr(arguments, "imports", None):
            importlib.import_module("innvest_lite.cli.models").import_modules(arguments.imports)
        module, function = _COMMANDS[arguments.command]
        code = getattr(importlib.import_module(f"innvest_lite.cli.{module}"), function)(arguments)
        if told.texts and arguments.command == "analyze":
            # What was said above a long table is easily missed.
            _complain(f"{len(told.texts)} warning{'s' if len(told.texts) > 1 else ''}: see above")
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has closed the pipe, as in `innvest-lite methods | head -1`; the last flush at exit must not fail, too.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (InnvestLiteError, OSError) as error:
        _complain(f"error: {in_our_words(str(error))}")
        return 2
    except MemoryError as error:
        _complain(f"error: There is not enough memory: {error}. Use a smaller --batch-size, or smaller data.")
        return 2
    finally:
        WARNINGS.reset(token)
        log.removeHandler(told)
    return code


def _complain(text):
    from innvest_lite.cli.terminal import complain

    complain(text)


class _Interruptions:
    """A context whose block an interruption ends quietly, also where libraries below make an error of their own of it."""

    def __init__(self):
        self._before, self._interrupted = signal.getsignal(signal.SIGINT), False
        # Only the main thread may, and no handler of the caller's is replaced.
        main_thread = threading.current_thread() is threading.main_thread()
        self._ours = main_thread and self._before is signal.default_int_handler

    def _notice(self, number, frame):
        self._interrupted = True
        signal.default_int_handler(number, frame)

    def __enter__(self):
        if self._ours:
            signal.signal(signal.SIGINT, self._notice)

    def __exit__(self, kind, error, trace):
        if self._ours:
            signal.signal(signal.SIGINT, self._before)
        if kind is None or issubclass(kind, SystemExit):
            return False
        return self._interrupted or issubclass(kind, KeyboardInterrupt)


def _end_at_once_when_told():
    """Ends the process at a signal without unwinding: TensorFlow, imports and callbacks would swallow an exception.

    Signals that are ignored, as of a job in the background, stay ignored.
    """

    def end(number, frame):
        text = _INTERRUPTED if number == signal.SIGINT else "told to end"
        # Nothing that could wait for a lock: the main thread may hold it.
        with contextlib.suppress(Exception):
            if "innvest_lite.files" in sys.modules:
                sys.modules["innvest_lite.files"].clean_up()
        with contextlib.suppress(Exception):
            quiet.last_words(f"\ninnvest-lite: {text}\n")
        os._exit(128 + number)

    defaults = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    for number, default in defaults.items():
        with contextlib.suppress(ValueError):
            if signal.getsignal(number) is default:
                signal.signal(number, end)


def _choose_backend():
    """Settings that must be made before Keras is imported: its backend, and fewer of TensorFlow's own messages."""
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
