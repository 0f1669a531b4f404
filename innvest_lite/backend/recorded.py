"""Tensors that a function makes of nothing but weights and constants, to be had again later, of these or other weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from innvest_lite.scoped import Scoped

_others = Scoped()


def with_weights(values: Mapping[int, Any]) -> AbstractContextManager[None]:
    """A context in which what was recorded is worked out of other weights: `id` of a TensorFlow variable -> tensor."""
    return _others.holds(values)


def variable_of(weight: Any) -> Any:
    """The TensorFlow variable behind a Keras variable, outside of a scope of other weights; TensorFlow's are their own."""
    return weight if isinstance(weight, tf.Variable) else weight.value


class Captured:
    """Tensors that were made while a function was recorded.

    Args:
        tensors: the tensors, inside the recorded function.
        program: the recorded function, which gives them.
    """

    def __init__(self, tensors: Sequence[Any], program: Any) -> None:
        self._program = program
        self._places = {id(tensor): place for place, tensor in enumerate(tensors)}
        self._tensors = list(tensors)
        self._inside = {id(inside): outside for outside, inside in program.graph.captures}
        self._sources = [self._sources_of(tensor) for tensor in tensors]
        self._constants: list[np.ndarray] | None = None

    def index(self, tensor: Any) -> int:
        """The number of a tensor."""
        return self._places[id(tensor)]

    def values(self) -> list[Any]:
        """All tensors, worked out anew."""
        others = _others.value
        return list(self._program()) if others is None else self._of_others(others)

    def variables(self, index: int) -> tuple[Any, ...]:
        """The variables that a tensor is made of."""
        handles = {id(variable.handle): variable for variable in self._program.graph.variables}
        return tuple(handles[source] for source in self._sources[index] if source in handles)

    def all_variables(self) -> list[Any]:
        """The variables that all tensors are made of."""
        return list(self._program.graph.variables)

    def constant(self, index: int) -> np.ndarray | None:
        """The value of a tensor that depends on no variable; None for others."""
        if self.variables(index):
            return None
        if self._constants is None:
            self._constants = [value.numpy() for value in self.values()]
        return self._constants[index]

    def _of_others(self, others):
        """All tensors, where the variables have other values."""
        if not self._tensors:
            return []
        graph = self._program.graph
        own = {id(variable.handle): variable for variable in graph.variables}
        kept, given = [], {}
        for outside, inside in graph.captures:
            variable = own.get(id(outside))
            if variable is not None and id(variable) in others:
                kept.append(tf.Variable(others[id(variable)], dtype=variable.dtype))
                given[inside.name] = kept[-1].handle
            else:
                given[inside.name] = outside
        definition, names = graph.as_graph_def(), [tensor.name for tensor in self._tensors]

        def run() -> list:
            inside = tf.compat.v1.get_default_graph()
            taken = {name: inside.capture(one) for name, one in given.items()}
            return tf.graph_util.import_graph_def(definition, input_map=taken, return_elements=names, name="others")

        # A function that is called counts as one traced again, of which TensorFlow warns.
        return list(tf.function(run, autograph=False).get_concrete_function()())

    def _sources_of(self, tensor):
        """The `id` of everything outside of the recorded function on which a tensor depends."""
        waiting, seen, found = [tensor], set(), {}
        while waiting:
            one = waiting.pop()
            if id(one) in self._inside:
                found[id(self._inside[id(one)])] = None
            if id(one.op) not in seen:
                seen.add(id(one.op))
                waiting.extend(one.op.inputs)
        return tuple(found)


def recorded(function: Callable[[], tuple[Any, Sequence[Any]]]) -> tuple[Any, Captured]:
    """Runs a function, once, where tensors have no values yet.

    Args:
        function: gives `(result, tensors)`: anything, and tensors that it made.

    Returns:
        `(result, captured)`: the result as it is, and the tensors as `Captured`.
    """
    kept: list[Any] = []

    def run() -> list:
        kept[:] = function()
        return list(kept[1])

    program = tf.function(run, autograph=False).get_concrete_function()
    return kept[0], Captured(kept[1], program)


def shapes_of(function: Callable[..., Any], args: tuple, kwargs: dict) -> Any:
    """What a function gives, as TensorFlow sees it before there are values.

    Args:
        function: of tensors and other things.
        args: its arguments, symbolic tensors in place of tensors.
        kwargs: likewise.

    Returns:
        Symbolic tensors in the structure of its output.
    """
    flat = [leaf for leaf in keras.tree.flatten((args, kwargs)) if isinstance(leaf, keras.KerasTensor)]
    found: list[Any] = []

    def run(*tensors: Any) -> None:
        given = iter(tensors)
        own, named = keras.tree.map_structure(
            lambda leaf: next(given) if isinstance(leaf, keras.KerasTensor) else leaf, (args, kwargs)
        )
        with keras.StatelessScope(collect_losses=True):
            outputs = function(*own, **named)
        found.append(
            keras.tree.map_structure(
                lambda leaf: keras.KerasTensor(tuple(leaf.shape), leaf.dtype) if tf.is_tensor(leaf) else leaf, outputs
            )
        )

    signature = [tf.TensorSpec(leaf.shape, leaf.dtype) for leaf in flat]
    tf.function(run, autograph=False).get_concrete_function(*signature)
    return found[0]
