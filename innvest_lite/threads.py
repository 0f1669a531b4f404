"""NumPy's work on all cores: its loops, and the hashes of large arrays, run without Python's lock."""

from __future__ import annotations

import concurrent.futures
import itertools
import os
from collections.abc import Callable, Iterable
from typing import Any

_MOST = 16
"""Beyond, memory is what limits, and each thread has temporary arrays of its own."""


def in_threads(function: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
    """What a function gives for each of some items, in their order, worked out side by side.

    Args:
        function: of one item; what it raises is raised here.
        items: any iterable; no item is taken before there is a thread for it, so that it may make them.
    """
    workers, items = min(_cores(), _MOST), iter(items)
    first = list(itertools.islice(items, 2))
    if workers == 1 or len(first) < 2:
        return [function(item) for item in itertools.chain(first, items)]
    items, found, waiting = itertools.chain(first, items), [], []
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= 2 * workers:
                found.append(waiting.pop(0).result())
        found.extend(future.result() for future in waiting)
    return found


def _cores():
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
