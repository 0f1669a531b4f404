"""Keeps what TensorFlow says of itself off the terminal, for a command's whole process.

TensorFlow's C++ code writes to the file descriptor 2 that oneDNN is on, that there is no GPU, and, where a LiteRT file
cannot be made, MLIR by the page; some of it before any setting of TensorFlow's is read. `Quiet` puts a small process of its
own behind that descriptor, which drops the lines that are such notes and hands on all others as they come. Should the
command die, what was dropped is handed on too: it may say why. What Python writes to `sys.stderr` goes past it.

Called by `main`, for the command line alone: a caller's streams are not touched. Whoever sets TF_CPP_MIN_LOG_LEVEL gets
everything.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import TextIO

# In the words of C++'s loggers: I, W or E, a date (or 0000), a time, a thread, file:line] what happened.
_NOTES = re.compile(
    rb"WARNING: All log messages before absl::InitializeLog\(\) is called are written to STDERR"
    rb"|(?:I\d{4} \d\d:|\d{4}-\d\d-\d\d [\d:.]+: I ).*"
    rb"|To enable the following instructions: .* rebuild TensorFlow with the appropriate compiler flags\."
    # A machine without NVIDIA's driver or without its card; with both, cuInit fails for other reasons, which are told.
    rb"|.*\] failed call to cuInit: .*(?:UNKNOWN ERROR \(303\)|CUDA_ERROR_NO_DEVICE).*"
    rb"|.*\] Unable to register cu\w+ (?:factory|computation placer).*"
    rb"|.*\] computation placer already registered.*"
    rb"|.*\] oneDNN supports DT_\w+ only on platforms with .*"
)
# What the LiteRT converter prints before it raises an error with the operations that it lacks, which the command names.
_MLIR = re.compile(
    rb"loc\(.*|<unknown>:0: .*|Some ops are not supported by the native TFLite runtime.*|(?:TF Select|Flex|Custom) ops: .*"
    rb"|Details:|\ttf\..*|\s*|W\d{4} .*tf_tfl_flatbuffer_helpers\.cc.*"
)
# In between the lines: a converter begins, it has ended, and the command has ended, whatever came of it.
_CONVERTING, _CONVERTED, _ENDED = b"\0converting\0\n", b"\0converted\0\n", b"\0ended\0\n"
_DIED = b"innvest-lite: the process died; what TensorFlow had said before:\n"
# Bytes of dropped lines that are kept for that, and seconds that the last lines may take to come through.
_KEPT, _PATIENCE = 2**20, 2.0
_active: list[Quiet] = []


class Quiet:
    """A context in which such notes are dropped.

    Args:
        wanted: whether they are; where processes cannot be forked, or there is no standard error, they are not.
    """

    def __init__(self, wanted: bool) -> None:
        self._wanted = wanted and hasattr(os, "fork")

    def __enter__(self) -> Quiet:
        self._stderr: TextIO | None = None
        if self._wanted:
            # Descriptor 2 may be closed.
            with contextlib.suppress(OSError):
                self._begin()
        return self

    def __exit__(self, *_: object) -> None:
        if self in _active:
            self._end()

    def _begin(self):
        self.terminal = os.dup(2)
        source, sink = os.pipe()
        if sys.stderr is not None:
            sys.stderr.flush()
        self._child = os.fork()
        if self._child == 0:
            os.close(sink)
            _child(source)
        os.close(source)
        os.dup2(sink, 2)
        os.close(sink)
        self._divert()
        _active.append(self)

    def _divert(self):
        """What Python writes goes to the terminal itself, where there is one."""
        with contextlib.suppress(OSError, AttributeError, ValueError):
            if sys.stderr.fileno() == 2:
                told = {"encoding": sys.stderr.encoding, "errors": sys.stderr.errors}
                # Open until the process ends: loggers may keep it.
                stream = open(self.terminal, "w", buffering=1, closefd=False, **told)  # noqa: SIM115
                self._stderr, sys.stderr = sys.stderr, stream

    def _end(self):
        _active.remove(self)
        _tell(_ENDED)
        os.dup2(self.terminal, 2)
        if self._stderr is not None:
            sys.stderr.flush()
            sys.stderr = self._stderr
        end = time.monotonic() + _PATIENCE
        # A process that the command started and left may hold the pipe open: it is not waited for.
        while os.waitpid(self._child, os.WNOHANG) == (0, 0) and time.monotonic() < end:
            time.sleep(0.002)


@contextlib.contextmanager
def converting() -> Iterator[None]:
    """A context in which MLIR's complaints about operations are notes too."""
    if _active:
        _tell(_CONVERTING)
    try:
        yield
    finally:
        if _active:
            _tell(_CONVERTED)


def last_words(text: str) -> None:
    """Writes a text to the terminal, for a process that ends at once and knows why; waits for no lock."""
    os.write(_active[0].terminal if _active else 2, text.encode())
    if _active:
        _tell(_ENDED)


def _tell(word):
    with contextlib.suppress(OSError):
        os.write(2, word)


def _child(source):
    """All that the other process does; it lives until nobody holds the pipe."""
    try:
        # These end the command, which may have something to say then.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, signal.SIG_IGN)
        # Whoever reads the command's output is not to wait for this process.
        for descriptor in {0, 1} - {source}:
            with contextlib.suppress(OSError):
                os.close(descriptor)
        relay(lambda: os.read(source, 2**16), _written)
    finally:
        os._exit(0)


def _written(text):
    # A reader that has gone is no reason to stop reading: the command would wait.
    with contextlib.suppress(OSError):
        while text:
            text = text[os.write(2, text) :]


def relay(read: Callable[[], bytes], write: Callable[[bytes], None]) -> None:
    """Hands on lines that are no notes; all of them, late, where the end comes unannounced.

    Args:
        read: gives some bytes, none at the end.
        write: takes some.
    """
    rest, dropped, converting, announced = b"", bytearray(), False, False
    while chunk := read():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            before, word = _word(line + b"\n")
            announced = announced or word == _ENDED
            if before and (
                _NOTES.fullmatch(before.rstrip(b"\n")) or (converting and _MLIR.fullmatch(before.rstrip(b"\n")))
            ):
                dropped += before
                del dropped[:-_KEPT]
            elif before:
                write(before)
            converting = word == _CONVERTING if word else converting
    if rest:
        write(rest)
    if dropped and not announced:
        write(_DIED + bytes(dropped))


def _word(line):
    """The text of a line, and the word between the lines that it ends with, or b""; a word may follow half a line."""
    for word in (_CONVERTING, _CONVERTED, _ENDED):
        if line.endswith(word):
            return line[: -len(word)], word
    return line, b""
