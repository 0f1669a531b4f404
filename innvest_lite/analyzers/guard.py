"""Whether a model's weights are still those that its patterns were fitted for.

Patterns of other weights explain nothing, and nothing in a picture shows it. So every explanation by patterns looks at
all weights of the model: the compiled explanation itself sums each weight up with random signs and sizes (one pass over
memory, which is what a matrix product with one vector costs), and the sums are compared on the host. Where they differ,
exact hashes decide, so that a sum that rounds otherwise is no false alarm.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from innvest_lite import backend
from innvest_lite.errors import PatternMismatchError
from innvest_lite.graph import Graph

# Weights with fewer numbers are joined and summed in blocks of this many: many small products cost more than they read.
_BLOCK = 1024
_SMALL, _NARROW = 16 * _BLOCK, 16
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
        """Sums of all weights, float32 (sums,), as a tensor of the program that asks for them."""
        large, small = [], []
        for weight in self._weights:
            if not keras.backend.is_float_dtype(weight.dtype) or not math.prod(weight.shape):
                continue
            tensor, last = ops.cast(weight, "float32"), weight.shape[-1] if weight.shape else 1
            if math.prod(weight.shape) >= _SMALL and last >= _NARROW:
                large.append(ops.matmul(ops.reshape(tensor, (-1, last)), _multipliers(last)))
            else:
                small.append(ops.reshape(tensor, (-1,)))
        joined = ops.concatenate([*large, *small]) if large or small else ops.zeros((0,), "float32")
        return ops.matmul(
            ops.reshape(ops.pad(joined, [(0, -joined.shape[0] % _BLOCK)]), (-1, _BLOCK)), _multipliers(_BLOCK)
        )

    def check(self, key: Any, numbers: Any) -> None:
        """Compares what a program's `numbers` gave with what they were when the weights were known to be the same.

        Args:
            key: of the program; programs round differently.
            numbers: float32 (sums,).

        Raises:
            PatternMismatchError: the weights have changed.
        """
        numbers = np.asarray(numbers)
        if key not in self._seen or not np.array_equal(self._seen[key], numbers, equal_nan=True):
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
        if _LOOK in self._seen and np.array_equal(self._seen[_LOOK], now, equal_nan=True):
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
        for holder in (node.operation, node.batchnorm):
            found.update({id(weight): weight for weight in getattr(holder, "weights", ())})
    return list(found.values())


def _multipliers(count: int) -> np.ndarray:
    """The numbers that weights are multiplied with before they are summed, the same on every machine: none is near 0."""
    generator = np.random.default_rng(0)
    return (generator.uniform(0.5, 1.5, count) * generator.choice([-1, 1], count)).astype("float32")
