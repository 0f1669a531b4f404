"""A value that holds within a context."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any


class Scoped:
    """A value that holds within a context, for the thread that is in it; None outside."""

    def __init__(self) -> None:
        self._local = threading.local()

    @property
    def value(self) -> Any:
        """What holds now."""
        return getattr(self._local, "value", None)

    @contextlib.contextmanager
    def holds(self, value: Any) -> Iterator[None]:
        """A context in which the value is this one, and behind which it is what it was."""
        before = self.value
        self._local.value = value
        try:
            yield
        finally:
            self._local.value = before
