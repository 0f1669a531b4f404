"""Whether what was found inside a layer's call gives what the layer gives, on random numbers. Called by `opening`."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from innvest_lite import backend
from innvest_lite.graph.behaviour import FAILURES, OPEN_SIZES
from innvest_lite.graph.graph import Node, Value
from innvest_lite.graph.masks import with_mask
from innvest_lite.graph.merging import NotOpened, sized
from innvest_lite.graph.recording import said
from innvest_lite.graph.weights import random_weights

# Another number of samples than those that were recorded, and more: of fewer, what was cut off would not be seen.
_SAMPLES = 8


class Unproven(NotOpened):
    """What was found does not give the same."""


def prove(call: Node, nodes: Sequence[Node], outputs: Sequence[Value]) -> None:
    """Compares a call with the nodes of which it is said to consist.

    Args:
        call: the call, as one node.
        nodes: what was found in it.
        outputs: the values that it gives.

    Raises:
        NotOpened: the call itself raises on random numbers, or gives none.
        Unproven: the nodes raise, or give something else.
    """
    weights = random_weights(getattr(call.operation, "weights", ()))
    with backend.eagerly(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        given, expected = _called(call, weights)
        values = dict(zip(call.inputs, given, strict=True))
        # Of a whole encoder, all values at once would be gigabytes.
        last = {value: node for node in nodes for value in node.inputs if value not in outputs}
        try:
            for node in nodes:
                taken = (values[value] for value in node.inputs)
                values.update(zip(node.values, node.call_with(weights, *taken), strict=True))
                values = {value: tensor for value, tensor in values.items() if last.get(value) is not node}
        except FAILURES as error:
            raise Unproven(f"what was found in it raises {said(error)}") from error
        found = [backend.to_numpy(values[value]) for value in outputs]
        if len(found) != len(expected) or not all(map(_same, map(backend.to_numpy, expected), found)):
            raise Unproven("what was found in it does not give the same numbers")


def _called(call, weights):
    """Random inputs that a call takes, and what it gives for them: numbers, of which there must be some to compare."""
    reason = ""
    sizes = OPEN_SIZES if any(None in spec.shape[1:] for spec in call.input_specs) else (0,)
    # Logarithms and roots want positive numbers.
    for size, positive in itertools.product(sizes, (False, True)):
        given = _random(call, size, positive)
        try:
            expected = call.call_with(weights, *given)
        except FAILURES as error:
            reason = reason or f"it raises {said(error)}"
            continue
        if all(_is_finite(backend.to_numpy(one)) for one in expected):
            # Some layers take the masks off what they are given.
            return _random(call, size, positive), expected
        reason = reason or "what it gives of random numbers is no number"
    raise NotOpened(reason)


def _is_finite(array):
    return array.dtype.kind not in "fV" or bool(np.isfinite(array.astype("float64")).all())


def _random(call, size, positive):
    generator, given = np.random.default_rng(0), {}
    for value, spec in zip(call.inputs, call.input_specs, strict=True):
        shape = tuple(size if one is None else one for one in sized(spec, _SAMPLES))
        mask = None
        if spec.mask is not None:
            mask = keras.ops.cast(generator.integers(0, 2, shape[: len(spec.mask)]), "bool")
        given.setdefault(value, with_mask(_numbers(generator, spec.dtype, shape, positive), mask))
    return [given[value] for value in call.inputs]


def _numbers(generator: np.random.Generator, dtype: str, shape: tuple[int, ...], positive: bool) -> Any:
    if dtype == "string":
        return keras.ops.convert_to_tensor(generator.choice(["a", "b"], shape))
    # Of whole numbers, those that every table has.
    if not keras.backend.is_float_dtype(dtype):
        return keras.ops.cast(generator.integers(0, 2, shape), dtype)
    return keras.ops.cast(generator.uniform(0.1, 1, shape) if positive else generator.normal(size=shape), dtype)


def _same(expected, found):
    if expected.shape != found.shape:
        return False
    if expected.dtype.kind not in "fV":
        return np.array_equal(expected, found)
    expected, found = expected.astype("float64"), found.astype("float64")
    largest = np.max(np.abs(expected[np.isfinite(expected)]), initial=0.0)
    return np.allclose(found, expected, rtol=0, atol=1e-5 * largest, equal_nan=True)
