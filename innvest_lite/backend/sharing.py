"""What is made of weights, made once while a program is traced, and not again at each place that needs it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import tensorflow as tf

from innvest_lite.scoped import Scoped

_made = Scoped()


def weights_stay() -> AbstractContextManager[None]:
    """A context in which no weight changes, so that `once` may give what it gave before."""
    return _made.holds({})


def once(key: Any, make: Callable[[], Any]) -> Any:
    """What `make` gives; within `weights_stay`, what it gave for the same key before.

    Args:
        key: hashable; of an `id`, whatever has it must live as long as the context.
        make: makes tensors of weights alone.
    """
    values = _made.value
    if values is None:
        return make()
    # Tensors of one graph are of no use in another, such as that of a branch.
    place = key, None if tf.executing_eagerly() else id(tf.compat.v1.get_default_graph())
    if place not in values:
        values[place] = make()
    return values[place]
