"""Whether a model's weights are still those that its patterns were fitted for.

Patterns of other weights explain nothing, and nothing in a picture shows it. So every explanation by patterns looks at
all weights of the model: the compiled explanation itself sums each weight up with random signs and sizes (one pass over
memory, which is what a matrix product with one vector costs), and the sums are compared on the host. Where they differ,
exact hashes decide, so that a sum that rounds otherwise is no false alarm.

A sum is float32: of large weights, a change below about 1e-7 of a block's sum is not seen. So blocks are short and of one
weight alone, and what is small is not summed at all: beside a variance of 1e9, no kernel's change would be.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from keras import ops

from innvest_lite import backend
from innvest_lite.errors import PatternMismatchError
from innvest_lite.graph import Graph

# Weights with fewer numbers are compared as they are: many small products cost more than they read.
_SMALL = 16 * 1024
# How many numbers a sum is of, at most, and at least: a weight whose size has no such divisor is compared as it is.
_LONGEST, _SHORTEST = 256, 16
_LOOK = "look"


class Unguarded:
    """Of methods that keep nothing that belongs to the weights."""

    def numbers(self) -> list:
        """Nothing to compare."""
        return []

    def check(self, key: Any, numbers: Any) -> None:
        """Nothing can have changed."""

    def look(self) -> None:
        """Nothing can have changed."""


class WeightGuard:
    """Compares a model's weights with those at a moment that `remember` is told of.

    Args:
        weights: Keras variables, all that the explanation depends on.
        fingerprints: a function that gives name -> hash of these weights as they are now.
    """

    def __init__(self, weights: list, fingerprints: Callable[[], Mapping[str, str]]) -> None:
        self._weights, self._fingerprints = weights, fingerprints
        self._expected: Mapping[str, str] = {}
        self._seen: dict = {}
        self._program: Any = None

    def remember(self, fingerprints: Mapping[str, str]) -> None:
        """Takes these hashes for those of the weights that the patterns belong to."""
        self._expected, self._seen = dict(fingerprints), {}

    def numbers(self) -> Any:
        """Small weights and sums of the large ones, float32 (numbers,), as a tensor of the program that asks for them."""
        found = [ops.zeros((0,), "float32")]
        for weight in self._weights:
            tensor, size = ops.cast(weight, "float32"), math.prod(weight.shape)
            length = _length(size)
            if length == 1:
                found.append(ops.reshape(tensor, (-1,)))
            else:
                found.append(_summed(ops.reshape(tensor, (-1, length)), _multipliers(length)))
        return ops.concatenate(found)

    def check(self, key: Any, numbers: Any) -> None:
        """Compares what a program's `numbers` gave with what they were when the weights were known to be the same.

        Args:
            key: of the program; programs round differently.
            numbers: float32 (numbers,).

        Raises:
            PatternMismatchError: the weights have changed.
        """
        numbers = np.asarray(numbers)
        if key not in self._seen or not _same(self._seen[key], numbers):
            self.look()
            self._seen[key] = numbers

    def look(self) -> None:
        """Compares the weights as they are now; by their sums first, and where those differ by their hashes.

        Raises:
            PatternMismatchError: the weights have changed.
        """
        # Also where a program is just being traced, the weights are looked at now.
        with backend.eagerly():
            if self._program is None:
                self._program = backend.compiled(self.numbers, [], False)
            now = np.asarray(self._program())
        if _LOOK in self._seen and _same(self._seen[_LOOK], now):
            return
        with backend.eagerly():
            current = self._fingerprints()
        changed = [name for name, expected in self._expected.items() if current.get(name, expected) != expected]
        if changed:
            raise PatternMismatchError(
                f"The model's weights have changed since the patterns were fitted ({', '.join(changed)}): call fit again."
            )
        self._seen[_LOOK] = now


def weights_of(graph: Graph) -> list:
    """The Keras variables of a graph's layers, each once; states such as those of seeds are none of them."""
    found = {}
    for node in graph.nodes:
        found.update({id(weight): weight for weight in node.weights})
    return list(found.values())


def _summed(rows: Any, multipliers: np.ndarray) -> Any:
    """The weighted sum of each row: float32 (rows,)."""
    # On GPU and TPU, matrix products round their factors to ten or seven bits, which would hide small changes.
    return ops.sum(rows * multipliers, axis=1) if backend.has_accelerator() else ops.matmul(rows, multipliers)


def _length(size: int) -> int:
    """How many numbers of a weight with `size` of them are summed up to one; 1: none are."""
    if size < _SMALL:
        return 1
    return next((length for length in range(_LONGEST, _SHORTEST - 1, -1) if size % length == 0), 1)


def _same(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether arrays hold the same bits: what is no number is the same as itself."""
    # As whole numbers, which reads each of them once; as bytes, both would be copied at every explanation.
    return np.array_equal(one.view(np.uint32), other.view(np.uint32))


def _multipliers(count: int) -> np.ndarray:
    """The numbers that weights are multiplied with before they are summed, the same on every machine: none is near 0."""
    generator = np.random.default_rng(0)
    return (generator.uniform(0.5, 1.5, count) * generator.choice([-1, 1], count)).astype("float32")
