"""Whether a node does something to each token by itself, seen by trying it. Called by `token_flow`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from innvest_lite import backend
from innvest_lite.graph import Node
from innvest_lite.graph.behaviour import FAILURES, near
from innvest_lite.graph.weights import Weights, random_weights


def stay_apart(node: Node, axes: Sequence[tuple[int, ...]], outputs: Sequence[tuple[int, ...]], size: int) -> bool:
    """Whether changing one token changes no other: a node is evaluated twice, with another token in the middle.

    Args:
        node: a `Node`.
        axes: of each of its inputs, along which tokens lie.
        outputs: likewise of each output.
        size: what stands for open sizes.
    """
    generator = np.random.default_rng(0)
    first, second = [], []
    for spec, positions in zip(node.input_specs, axes, strict=True):
        shape = (2, *(size if one is None else one for one in spec.shape[1:]))
        values = generator.normal(size=shape) if keras.backend.is_float_dtype(spec.dtype) else np.ones(shape)
        changed = values.copy()
        if positions:
            middle = _middle(shape, positions)
            changed[middle] = generator.normal(size=changed[middle].shape)
        first.append(values)
        second.append(changed)
    with backend.eagerly():
        try:
            # Whatever the layer has learned: kernels often begin with zeros.
            weights = random_weights(node.weights)
            before, after = (_outputs(node, weights, values) for values in (first, second))
        except FAILURES:
            return False
    for one, other, positions in zip(before, after, outputs, strict=True):
        elsewhere = np.ones(one.shape, bool)
        elsewhere[_middle(one.shape, positions)] = False
        if not near(one[elsewhere], other[elsewhere], 1e-5):
            return False
    return True


def _outputs(node: Node, weights: Weights, values: list) -> list[np.ndarray]:
    given = [keras.ops.cast(one, spec.dtype) for one, spec in zip(values, node.input_specs, strict=True)]
    return [backend.to_numpy(keras.ops.cast(one, "float64")) for one in node.call_with(weights, *given)]


def _middle(shape: tuple[int, ...], positions: tuple[int, ...]) -> Any:
    return tuple(shape[axis] // 2 if axis in positions else slice(None) for axis in range(len(shape)))
