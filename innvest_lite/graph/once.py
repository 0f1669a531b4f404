"""What is worked out once, however often it is asked for: of a graph, and of a model while an analyzer of it is made."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, MutableMapping
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import keras

from innvest_lite.graph.graph import Graph
from innvest_lite.scoped import Scoped

_Found = TypeVar("_Found")
_traced = Scoped()


def once(function: Callable[[Graph], _Found]) -> Callable[[Graph], _Found]:
    """Decorator: keeps what a function of a graph gave, as long as there is the graph.

    What it gives should hold names, values and nodes, and not the graph, which would then never go.
    """
    known: MutableMapping[Graph, _Found] = weakref.WeakKeyDictionary()

    @functools.wraps(function)
    def remembered(graph: Graph) -> _Found:
        if graph not in known:
            known[graph] = function(graph)
        return known[graph]

    return remembered


def one_trace() -> AbstractContextManager[None]:
    """A context, of this thread, in which models do not change, so that tracing one again gives the same graph."""
    return _traced.holds({})


def remembered_within(trace: Callable[..., Graph]) -> Callable[..., Graph]:
    """Decorator of `trace`, for `one_trace`."""

    @functools.wraps(trace)
    def traced(model: keras.Model, input_shape: Any = None) -> Graph:
        known = _traced.value
        if known is None:
            return trace(model, input_shape)
        key = id(model), repr(input_shape)
        if key not in known:
            # With the model, whose number no other gets as long as there is this one.
            known[key] = model, trace(model, input_shape)
        return known[key][1]

    return traced
