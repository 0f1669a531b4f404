"""What an operation does, seen by trying it: its name does not tell, since options and overridden methods change it.

Comes in: a node. Goes out: a `Behaviour`. What Keras itself says of one value at a time is only asked for its curve; all
else is evaluated at random numbers, too, so what is said of it is seen, not proven. Called by the passes and the forms.
"""

from __future__ import annotations

import dataclasses
import functools
import weakref
from collections.abc import Callable, MutableMapping
from typing import Any

import keras
import numpy as np

from innvest_lite import backend
from innvest_lite.graph.arguments import Given, Slot
from innvest_lite.graph.graph import Node, Spec
from innvest_lite.graph.plain import is_plain
from innvest_lite.graph.weights import random_weights

OPEN_SIZES = (8, 16, 32, 64, 12, 7)
"""Sizes that are tried in place of open ones: multiples of the patches and poolings that people use."""
# Where a function of one value is looked at: both signs of every size, with the places where Keras's own have corners.
_SIZES = np.concatenate([np.geomspace(1e-3, 1e4, 71), np.arange(0.25, 8, 0.25), [0.2, 2.9, 3.1, 5.9, 6.1]])
GRID = np.concatenate([-_SIZES[::-1], [0.0], _SIZES]).astype("float32")
"""The numbers at which functions of one value are compared, float32, in no particular order."""
_ZERO = int(np.flatnonzero(GRID == 0)[0])


@dataclasses.dataclass(frozen=True)
class Behaviour:
    """What was seen of an operation.

    Attributes:
        works: whether it gave one finite tensor of floats, of the same batch, twice the same, each sample on its own.
        diagonal: whether each number of its output depends on the number at the same place of its input alone.
        affine: whether it is a linear map plus a constant.
        moves: whether it is affine and each number of its output, the constant aside, is a number of its input or 0.
        monotone: whether it is affine and has no negative coefficient.
        constant: whether it gives something else than 0 for zeros.
        curve: of a diagonal operation that does the same at all places, its values on `GRID`, a tuple; else None.
    """

    works: bool = False
    diagonal: bool = False
    affine: bool = False
    moves: bool = False
    monotone: bool = False
    constant: bool = False
    curve: tuple[float, ...] | None = None

    @functools.cached_property
    def values(self) -> np.ndarray | None:
        """The curve as an array; NaN where it gives none."""
        return None if self.curve is None else np.asarray(self.curve, "float64")

    @property
    def is_identity(self) -> bool:
        """Whether it gives what it takes."""
        return self.moves and self.diagonal and self.values is not None and np.array_equal(self.values, GRID)

    @property
    def is_rectifier(self) -> bool:
        """Whether it is max(x, 0), or that up to a largest value."""
        if self.values is None or not np.isfinite(self.values).all():
            return False
        top = self.values.max()
        return bool(top > 0 and np.allclose(self.values, np.clip(GRID, 0, top), rtol=1e-6, atol=0))

    @property
    def is_bounded(self) -> bool:
        """Whether no value is far from 0: it squashes, and scales a signal rather than carries one."""
        return self.values is not None and bool(np.nanmax(np.abs(self.values)) <= 1 + 1e-6)

    @property
    def never_negative(self) -> bool:
        """Whether it is a function of one value of which none is below 0."""
        return self.values is not None and not np.isnan(self.values).any() and bool(self.values.min() >= 0)

    @property
    def is_flat(self) -> bool:
        """Whether it only gives whole numbers, as rounding and signs do, so that no gradient goes through it."""
        return self.values is not None and bool(np.all(self.values == np.round(self.values)))


OPAQUE = Behaviour()
# What a user's code raises on numbers, shapes or types that it does not expect.
FAILURES = (
    *(ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RuntimeError, AssertionError),
    backend.OperationError,
)

OF_ONE_VALUE = (
    *(
        "celu",
        "elu",
        "exponential",
        "gelu",
        "hard_shrink",
        "hard_sigmoid",
        "hard_silu",
        "hard_tanh",
        "leaky_relu",
        "linear",
    ),
    *("log_sigmoid", "mish", "relu", "relu6", "selu", "sigmoid", "silu", "soft_shrink", "softplus", "softsign"),
    *("sparse_plus", "sparse_sigmoid", "squareplus", "swish", "tanh", "tanh_shrink", "threshold"),
)
"""The names of Keras's functions of one value at a time. Softmax and its kin, and glu, see several."""
_FUNCTIONS = tuple(
    getattr(place, name) for place in (keras.activations, keras.ops) for name in OF_ONE_VALUE if hasattr(place, name)
)
_LAYERS = (keras.layers.ReLU, keras.layers.LeakyReLU, keras.layers.ELU)
# The operations that Keras makes of calls with symbolic tensors, which it exports under no name of their own.
_MODULES = ("keras.src.activations.activations", "keras.src.ops.nn", "keras.src.ops.numpy", "keras.src.ops.math")
_OPERATIONS = frozenset(
    (
        *("Celu", "Elu", "Exp", "Expm1", "Gelu", "HardShrink", "HardSigmoid", "HardSilu", "HardTanh", "LeakyRelu"),
        *("LogSigmoid", "Mish", "ReLU", "Relu", "Relu6", "Selu", "Sigmoid", "Silu", "SoftShrink", "Softplus", "Softsign"),
        *("SparsePlus", "SparseSigmoid", "Squareplus", "Tanh", "TanhShrink", "Threshold"),
        *(
            "Absolute",
            "Abs",
            "Arctan",
            "Arcsinh",
            "Clip",
            "Cos",
            "Erf",
            "Log1p",
            "Negative",
            "Sin",
            "Sinh",
            "Sqrt",
            "Square",
        ),
        *("Add", "Subtract", "Multiply", "Divide", "TrueDivide", "Maximum", "Minimum", "Power"),
    )
)
_seen_functions: MutableMapping[Any, dict] = weakref.WeakKeyDictionary()
_seen_nodes: MutableMapping[Node, Behaviour] = weakref.WeakKeyDictionary()


def behaviour_of(node: Node, try_layers: bool = False) -> Behaviour:
    """What a node does, where it takes one tensor and gives one; else nothing is seen of it.

    Args:
        node: a `Node`; the activation of a layer that was cut in two, or a whole call.
        try_layers: whether to try Keras's own layers, too, other than its activations. Who asks for a function of one value
            need not: trying a large convolution takes seconds.
    """
    if len(node.inputs) != 1 or len(node.output_specs) != 1 or node.part not in ("", "activation"):
        return OPAQUE
    if not try_layers and is_keras_layer(node):
        return OPAQUE
    if node not in _seen_nodes:
        _seen_nodes[node] = _behaviour(node)
    return _seen_nodes[node]


def is_keras_layer(node: Node) -> bool:
    """Whether a node is a whole call of one of Keras's own layers, other than its activations."""
    if node.part == "activation" or not isinstance(node.operation, keras.Layer):
        return False
    is_activation = isinstance(node.operation, (keras.layers.Activation, *_LAYERS))
    return type(node.operation).__module__.startswith("keras.src.") and not is_activation


def is_known(node: Node) -> bool:
    """Whether a node is one of Keras's own functions of one value, options and all, so that its curve tells all of it."""
    function = activation_of(node)
    if function is not None:
        return any(function is known for known in _FUNCTIONS)
    return (isinstance(node.operation, keras.Layer) and is_plain(node.operation, _LAYERS)) or _is_operation(node)


def activation_of(node: Node) -> Any:
    """The activation function of a node that is one: of a layer that was cut in two, of an Activation layer; else None."""
    operation = node.operation
    if node.part != "activation" and not is_plain(operation, (keras.layers.Activation,)):
        return None
    return operation.activation


def _behaviour(node):
    function = activation_of(node)
    if isinstance(function, keras.Layer):
        return behaviour_of(node.replace(operation=function, part="", arguments=((Slot(0),), {})))
    if is_known(node):
        # A layer's `call`, which builds nothing and records nothing.
        known = function or (node.operation.call if isinstance(node.operation, keras.Layer) else node.call)
        return of_curve(known)
    if function is None:
        # What a scale of 0 hides is seen with other weights.
        return tried(functools.partial(node.call_with, random_weights(node.weights)), node.input_specs[0])
    return _tried_once(function, node.input_specs[0])


def _tried_once(function, spec):
    try:
        seen = _seen_functions.setdefault(function, {})
    except TypeError:
        return tried(function, spec)
    if spec not in seen:
        seen[spec] = tried(function, spec)
    return seen[spec]


def _is_operation(node):
    if isinstance(node.operation, keras.Layer) or type(node.operation).__module__ not in _MODULES:
        return False
    # A constant of several numbers does something else at each place.
    others = [leaf for leaf in keras.tree.flatten(node.arguments) if not isinstance(leaf, Slot)]
    constants = (np.shape(leaf) == () and not isinstance(leaf, Given) for leaf in others)
    return type(node.operation).__name__ in _OPERATIONS and all(constants)


def of_curve(function: Callable[[Any], Any]) -> Behaviour:
    """What a function of one value does, by its values on the grid."""
    with backend.eagerly():
        try:
            curve = evaluated(function, "float32", GRID)
        except FAILURES:
            return OPAQUE
    # From end to end: between two small numbers, what an offset rounds off would count thousandfold.
    low, high = GRID.argmin(), GRID.argmax()
    start, slope = curve[_ZERO], (curve[high] - curve[low]) / (float(GRID[high]) - float(GRID[low]))
    affine = bool(np.isfinite(curve).all()) and near(curve, start + slope * GRID, 1e-6)
    return Behaviour(
        works=True,
        diagonal=True,
        affine=affine,
        moves=affine and slope == 1,
        monotone=affine and bool(slope >= 0),
        constant=bool(start != 0),
        curve=tuple(curve.tolist()),
    )


def tried(function: Callable[[Any], Any], spec: Spec) -> Behaviour:
    """Tries a function of one tensor.

    Args:
        function: of one tensor, batch first; it gives a tensor, or a tuple of one.
        spec: of that tensor; sizes may be open.

    Returns:
        A `Behaviour`; where nothing could be seen, or the function raises, one that does not work.
    """
    if not keras.backend.is_float_dtype(spec.dtype):
        return OPAQUE
    with backend.eagerly():
        for size in OPEN_SIZES if None in spec.shape[1:] else (0,):
            shape = tuple(size if given is None else given for given in spec.shape[1:])
            try:
                return _seen(functools.partial(evaluated, function, spec.dtype), shape, spec.dtype)
            except FAILURES:
                continue
    return OPAQUE


def evaluated(function: Callable[[Any], Any], dtype: str, values: np.ndarray) -> np.ndarray:
    """What a function gives for values of this dtype, float64; TypeError unless it is one tensor of floats."""
    outputs = keras.tree.flatten(function(keras.ops.cast(values, dtype)))
    if len(outputs) != 1 or not keras.backend.is_float_dtype(keras.backend.standardize_dtype(outputs[0].dtype)):
        raise TypeError("not one tensor of floats")
    return backend.to_numpy(keras.ops.cast(outputs[0], "float64"))


def _seen(function, shape, dtype):
    generator = np.random.default_rng(0)
    exact = {"float64": 1e-9, "float32": 1e-4}.get(dtype, 3e-2)
    first, second = generator.normal(size=(2, 3, *shape))
    outputs = function(first)
    if outputs.shape[:1] != (3,) or np.isnan(outputs).all() or not near(function(first), outputs, 1e-6):
        return OPAQUE
    changed = first.copy()
    changed[1:] = second[1:]
    if not near(function(changed)[:1], outputs[:1], 1e-6):
        return OPAQUE
    # Random places keep their numbers, all others change.
    kept = generator.random(first.shape) < 0.5
    diagonal = outputs.shape == first.shape and near(function(np.where(kept, first, second))[kept], outputs[kept], 1e-6)
    at_zero = function(np.zeros_like(first))
    affine = adds_up(lambda values: function(values[0]), [first], [second], exact)
    moves = affine and bool(
        np.isin(np.round(outputs - at_zero, 12), np.append(np.round(_stored(first, dtype), 12), 0)).all()
    )
    sparse = np.abs(first) * (generator.random(first.shape) < 0.2)
    monotone = affine and all(bool(np.min(function(x) - at_zero) >= -exact) for x in (np.abs(first), sparse))
    constant = bool(np.any(at_zero != 0))
    return Behaviour(True, diagonal, affine, moves, monotone, constant, _curve(function, shape) if diagonal else None)


def _curve(function, shape):
    """The values of a diagonal function on the grid, if they are the same wherever a number stands."""
    size = max(int(np.prod(shape)), 1)
    count = -(-len(GRID) // size)
    seen = []
    for seed in (1, 2):
        # Twice in another order, so that each number stands at two places.
        order = np.random.default_rng(seed).permutation(np.resize(np.arange(len(GRID)), count * size))
        values = function(GRID[order].reshape(count, *shape)).reshape(-1)
        curve = np.full(len(GRID), np.nan)
        curve[order] = values
        if not near(values, curve[order], 1e-6):
            return None
        seen.append(curve)
    return tuple(seen[0].tolist()) if near(seen[0], seen[1], 1e-6) else None


def adds_up(function: Callable[[list], np.ndarray], first: list, second: list, tolerance: float) -> bool:
    """Whether what a function of several arrays gives of weighted sums of two lists is the same sum, but for a constant."""

    def combined(a: float, b: float) -> np.ndarray:
        return function([a * x + b * y for x, y in zip(first, second, strict=True)])

    constant = combined(0, 0)
    if not np.isfinite(constant).all():
        return False
    one, two = combined(1, 0) - constant, combined(0, 1) - constant
    # A large constant rounds off small differences; where it hides them, nothing is seen.
    rounded = 0.03 * tolerance * np.max(np.abs(constant), initial=0.0)
    if rounded > 0.01 * np.max(np.abs(one), initial=0.0) > 0:
        return False
    return all(
        near(combined(a, b) - constant, a * one + b * two, tolerance, rounded * (1 + abs(a) + abs(b)))
        for a, b in ((1.0, 1.0), (-2.0, 0.0), (30.0, -30.0), (0.01, 0.02))
    )


def _stored(values, dtype):
    return backend.to_numpy(keras.ops.cast(keras.ops.cast(values, dtype), "float64"))


def near(values: np.ndarray, others: np.ndarray, tolerance: float, more: float = 0.0) -> bool:
    """Whether two arrays are alike, up to a tolerance relative to the largest of the second and an absolute one."""
    scale = np.max(np.abs(others), initial=0.0, where=np.isfinite(others))
    return values.shape == others.shape and bool(
        np.allclose(values, others, rtol=tolerance, atol=tolerance * scale + more, equal_nan=True)
    )
