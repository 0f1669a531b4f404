"""Which nodes are a softmax, a sigmoid, another of Keras's functions, or affine, however they are written.

See `behaviour`. Called by the passes, the forms and the matchers.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import MutableMapping

import keras
import numpy as np

from innvest_lite import backend
from innvest_lite.graph.behaviour import (
    FAILURES,
    OF_ONE_VALUE,
    OPEN_SIZES,
    activation_of,
    adds_up,
    behaviour_of,
    evaluated,
    is_keras_layer,
    is_known,
    near,
    of_curve,
)
from innvest_lite.graph.graph import Node
from innvest_lite.graph.plain import is_plain


def is_softmax(node: Node) -> bool:
    """Whether a node is a softmax, over whichever axis: Keras's own, or what gives the same."""
    function = activation_of(node)
    if is_plain(node.operation, (keras.layers.Softmax,)) or any(function is one for one in _SOFTMAXES):
        return len(node.inputs) == 1
    if (
        is_known(node)
        or is_keras_layer(node)
        or len(node.inputs) != 1
        or len(node.output_specs) != 1
        or node.part not in ("", "activation")
    ):
        return False
    has_weights = node.part != "activation" and node.weights
    if node.output_specs[0].shape != node.input_specs[0].shape or has_weights:
        return False
    if node not in _seen_softmaxes:
        _seen_softmaxes[node] = _gives_softmax(function or node.call, node.input_specs[0])
    return _seen_softmaxes[node]


_SOFTMAXES = (keras.activations.softmax, keras.ops.softmax)
_seen_softmaxes: MutableMapping[Node, bool] = weakref.WeakKeyDictionary()


def _gives_softmax(function, spec):
    if not keras.backend.is_float_dtype(spec.dtype):
        return False
    shape = tuple(7 if size is None else size for size in spec.shape[1:])
    logits = np.random.default_rng(0).normal(size=(2, *shape))
    with backend.eagerly():
        try:
            given = evaluated(function, spec.dtype, logits)
        except FAILURES:
            return False
    powers = np.exp(logits)
    tolerance = 1e-4 if spec.dtype in ("float32", "float64") else 3e-2
    return any(near(given, powers / powers.sum(axis, keepdims=True), tolerance) for axis in range(1, logits.ndim))


def is_log_softmax(node: Node) -> bool:
    """Whether a node gives the logarithm of a softmax."""
    if len(node.inputs) != 1 or len(node.output_specs) != 1 or node.output_specs[0].shape != node.input_specs[0].shape:
        return False
    if node.part not in ("", "activation") or is_known(node) or is_keras_layer(node):
        return False
    function = activation_of(node) or node.call
    return _gives_softmax(
        lambda x: keras.tree.map_structure(keras.ops.exp, function(x)),
        node.input_specs[0],
    )


def is_sigmoid(node: Node) -> bool:
    """Whether a node is a sigmoid: Keras's own, or what gives the same."""
    values = behaviour_of(node).values
    return values is not None and same_curve(values, curves()["sigmoid"])


@functools.cache
def curves() -> dict[str, np.ndarray]:
    """Name -> values on `GRID`, of Keras's functions of one value."""
    found = {name: of_curve(getattr(keras.activations, name)).values for name in OF_ONE_VALUE}
    return {name: values for name, values in found.items() if values is not None}


def same_curve(values: np.ndarray, others: np.ndarray) -> bool:
    """Whether two functions of one value have the same values on `GRID`, up to rounding."""
    return bool(np.allclose(values, others, rtol=1e-4, atol=1e-6, equal_nan=True))


def is_affine(node: Node) -> bool:
    """Whether a node, whatever weights it has, is a linear map plus a constant of all the floats that it takes."""
    if node not in _seen_affine:
        _seen_affine[node] = _gives_sums(node)
    return _seen_affine[node]


_seen_affine: MutableMapping[Node, bool] = weakref.WeakKeyDictionary()


def _gives_sums(node):
    if not node.inputs or not all(
        keras.backend.is_float_dtype(spec.dtype) for spec in (*node.input_specs, *node.output_specs)
    ):
        return False
    half = any(spec.dtype in ("float16", "bfloat16") for spec in node.input_specs)
    generator = np.random.default_rng(0)

    def outputs_of(values):
        given = [keras.ops.cast(x, spec.dtype) for x, spec in zip(values, node.input_specs, strict=True)]
        return np.concatenate([backend.to_numpy(keras.ops.cast(y, "float64")).ravel() for y in node.call(*given)])

    with backend.eagerly():
        for size in OPEN_SIZES:
            shapes = [tuple(size if given is None else given for given in spec.shape[1:]) for spec in node.input_specs]
            first, second = ([generator.normal(size=(2, *shape)) for shape in shapes] for _ in range(2))
            try:
                return adds_up(outputs_of, first, second, 3e-2 if half else 1e-4)
            except FAILURES:
                continue
    return False
