"""What needs TensorFlow itself: reverse mode, compilation, loops, what tensors are.

Called by the forms (vector-Jacobian products), the analyzers and the fitter (compilation), all through
`innvest_lite.backend`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

# TensorFlow prints lines on stderr that have nothing to do with explanations; a user's own setting is kept.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf

if keras.backend.backend() != "tensorflow":
    raise ImportError(
        f"innvest_lite runs on Keras's TensorFlow backend, but Keras was started on {keras.backend.backend()!r}. "
        "Set the environment variable KERAS_BACKEND=tensorflow before keras is first imported."
    )

VERSION = tf.__version__
OperationError = tf.errors.OpError


class Untracked:
    """Holds a value, such as a dict, that Keras must not wrap and track as part of a model."""

    def __init__(self, value: Any) -> None:
        self.value = value


def vjp(function: Callable[..., Any], *inputs: Any) -> tuple[Any, Callable[[Any], tuple[Any, ...]]]:
    """Evaluates `function(*inputs)` and returns `(outputs, pullback)`, as `jax.vjp` does.

    `pullback(cotangents)` takes one cotangent per output (None where an output has none) and returns a tuple with one
    gradient per input, None for an input that is not a float or has no influence. It may be called once. What the
    gradient does not need of the forward evaluation is dead code inside a compiled function.
    """
    if len({id(x) for x in inputs}) < len(inputs):
        # The same tensor twice, as in Add()([x, x]): the tape would give each of the two the sum of both gradients.
        inputs = tuple(tf.identity(x) for x in inputs)
    watched = [x for x in inputs if x.dtype.is_floating]
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(watched)
        outputs = function(*inputs)

    def pullback(cotangents):
        pairs = [(o, c) for o, c in zip(_listed(outputs), _listed(cotangents), strict=True) if c is not None]
        targets = [output for output, _ in pairs]
        gradients = iter(tape.gradient(targets, watched, [tf.cast(c, o.dtype) for o, c in pairs]))
        return tuple(next(gradients) if x.dtype.is_floating else None for x in inputs)

    return outputs, pullback


def jvp(function: Callable[..., Any], inputs: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, ...]:
    """The derivatives of a function's outputs along tangents, one for each input, in its shape, as of `jax.jvp`."""
    with tf.autodiff.ForwardAccumulator(list(inputs), list(tangents)) as forward:
        outputs = _listed(function(*inputs))
    return tuple(forward.jvp(output, tf.UnconnectedGradients.ZERO) for output in outputs)


def _listed(values):
    return list(values) if isinstance(values, list | tuple) else [values]


def compiled(function: Callable[..., Any], signature: Sequence[Any], jit_compile: bool) -> Callable[..., Any]:
    """Returns `function` as one compiled graph, traced once, now, for `signature` (a nest of `tensor_spec`)."""
    # The concrete function: tf.function would count the programs of several analyzers as retracing, and warn.
    return tf.function(
        function, input_signature=signature, jit_compile=jit_compile, autograph=False
    ).get_concrete_function()


def stablehlo(function: Callable[..., Any], signature: Sequence[Any]) -> tuple[str, list[np.ndarray]]:
    """The program that XLA compiles of a function, before its own optimizations.

    Args:
        function: a function of tensors.
        signature: a `tensor_spec` of a fixed shape for each.

    Returns:
        `(text, weights)`: StableHLO, and the arrays that the program takes behind its arguments.
    """
    program = tf.function(function, input_signature=signature, jit_compile=True, autograph=False)
    graph = program.get_concrete_function().graph
    text = program.experimental_get_compiler_ir(*signature)(stage="stablehlo")
    variables = {id(variable.handle): variable for variable in graph.variables}
    return text, [variables.get(id(outside), outside).numpy() for outside, _ in graph.captures]


def tensor_spec(shape: Sequence[int | None], dtype: Any) -> tf.TensorSpec:
    """The shape (None where it may vary) and dtype of an argument of a compiled function."""
    return tf.TensorSpec(shape, dtype)


def batch_spec(shape: Sequence[int | None], dtype: str) -> Any:
    """As `tensor_spec`, for batches of any number of samples, the first axis; the other sizes are those of `shape`."""
    return tensor_spec((None, *shape[1:]), dtype)


def add_up(tensors: Sequence[Any]) -> Any:
    """The sum of several tensors in one operation, as TensorFlow's own tape makes it: the same order of rounding."""
    return tf.add_n(tensors)


def after(operation: Any) -> AbstractContextManager[Any]:
    """A context in which a graph's operations wait for an earlier one, or for nothing if that is None."""
    return tf.control_dependencies([] if operation is None else [operation])


def loop(
    count: int,
    body: Callable[[Any, tuple[Any, ...]], Sequence[Any]],
    state: Sequence[Any],
    tick: Callable[[int], None] | None = None,
) -> Sequence[Any]:
    """Runs `state = body(index, state)` `count` times, one after the other; in a compiled function as one loop.

    `tick(index)` is called in Python when a round is done, each time that the function runs; XLA knows no such calls.
    """

    def following(index: Any, *values: Any) -> tuple[Any, ...]:
        found = tuple(body(index, values))
        if tick is None:
            return (index + 1, *found)
        with tf.control_dependencies([tf.convert_to_tensor(one) for one in found]):
            later = tf.numpy_function(lambda number: _told(tick, number), [index], tf.int32)
        return (tf.ensure_shape(later, ()), *found)

    # One at a time: otherwise TensorFlow starts later rounds early, and needs the memory of all of them.
    return tf.while_loop(
        lambda index, *_: index < count,
        following,
        (tf.constant(0), *state),
        parallel_iterations=1,
    )[1:]


def _told(tick: Callable[[int], None], index: Any) -> Any:
    """Calls `tick` and gives the next index."""
    tick(int(index))
    return index + 1


def scan(
    body: Callable[[Sequence[Any], Sequence[Any]], tuple[Sequence[Any], Sequence[Any]]],
    carried: Sequence[Any],
    taken: Sequence[Any],
    like: Sequence[Any],
    reverse: bool = False,
) -> tuple[list[Any], list[Any]]:
    """Goes over the first axis of several tensors, one entry after the other; in a compiled function as one loop.

    Args:
        body: of what is carried on and the entries at a place: what is carried on from there, and what comes out.
        carried: what the first place gets, a list of tensors, whose shapes and dtypes stay.
        taken: tensors with as many entries.
        like: tensors of the shapes and dtypes of what comes out.
        reverse: whether the last place is the first.

    Returns:
        What is carried on from the last place, and what came out of all, in the order of the places, as two lists.
    """
    carried, taken = list(map(tf.convert_to_tensor, carried)), list(map(tf.convert_to_tensor, taken))
    count = taken[0].shape[0] if taken[0].shape[0] is not None else tf.shape(taken[0])[0]
    entries = [tf.TensorArray(x.dtype, count, element_shape=x.shape[1:]).unstack(x) for x in taken]

    def step(index: Any, carried: Sequence[Any], arrays: Sequence[Any]) -> tuple[Any, list[Any], list[Any]]:
        place = count - 1 - index if reverse else index
        after, out = body(list(carried), [array.read(place) for array in entries])
        after = [tf.ensure_shape(new, old.shape) for new, old in zip(after, carried, strict=True)]
        return index + 1, after, [array.write(place, one) for array, one in zip(arrays, out, strict=True)]

    arrays = [tf.TensorArray(one.dtype, count, element_shape=one.shape) for one in like]
    _, carried, arrays = tf.while_loop(
        lambda index, *_: index < count, step, (tf.constant(0), carried, arrays), parallel_iterations=1
    )
    return list(carried), [array.stack() for array in arrays]


def size(x: Any) -> Any:
    """How many values a tensor holds, int64."""
    return tf.size(x, out_type=tf.int64)


def split(x: Any, sizes: Sequence[int]) -> list[Any]:
    """A tensor cut along its first axis into parts of these sizes, in one operation."""
    return tf.split(x, list(sizes))


def when(condition: Any, act: Callable[[], None]) -> Any:
    """Calls `act`, which changes variables, where a boolean tensor is true when the program runs; gives the operation."""

    def acted() -> Any:
        act()
        return tf.constant(True)

    return tf.cond(condition, acted, lambda: tf.constant(False))


def divide_no_nan(x: Any, y: Any) -> Any:
    """`x / y`, and 0 where y is 0, in one operation, in the wider dtype of the two."""
    if x.dtype != y.dtype:
        # As where a number of NumPy's makes a layer's values float64, and the next layer's are float32 again.
        dtype = x.dtype if x.dtype.size > y.dtype.size else y.dtype
        x, y = tf.cast(x, dtype), tf.cast(y, dtype)
    return tf.math.divide_no_nan(x, y)


def argmax(x: Any) -> Any:
    """The index of the largest along the last axis, int32; the first of several. `ops.argmax` works on bits."""
    return tf.argmax(x, axis=-1, output_type=tf.int32)


def eagerly() -> AbstractContextManager[Any]:
    """A context in which tensors have values, also where a `tf.function` is just being traced."""
    return tf.init_scope()


def within(function: Callable[..., Any], jit_compile: bool) -> Callable[..., Any]:
    """The function, as one that XLA compiles within whatever calls it, or as it is."""
    return tf.function(function, jit_compile=True, autograph=False) if jit_compile else function


def at_least_one(x: Any) -> Any:
    """The tensor, with a sample of zeros where it has none."""
    missing = tf.cast(tf.equal(tf.shape(x)[0], 0), tf.int32)
    return tf.ensure_shape(tf.pad(x, [[0, missing], *[[0, 0]] * (len(x.shape) - 1)]), x.shape)


def require_within(indices: Any, count: int, message: str) -> Any:
    """The indices, behind a check when the program runs that they lie in 0 to count - 1; else it stops with a message."""
    within = tf.reduce_all(tf.logical_and(indices >= 0, indices < count))
    with tf.control_dependencies([tf.debugging.Assert(within, [message, indices])]):
        return tf.identity(indices)


def words(number: Any) -> tuple[Any, Any]:
    """The low and the high 32 bits of an int64 scalar, as uint32. (In `keras.ops`, 64 bits become 32.)"""
    bits = tf.cast(number, tf.uint64)
    return tf.cast(bits, tf.uint32), tf.cast(tf.bitwise.right_shift(bits, tf.constant(32, tf.uint64)), tf.uint32)


def shifted(bits: Any, distance: int) -> Any:
    """uint32 shifted to the left, or to the right by a negative distance; zeros follow."""
    # Not `keras.ops`, in which every shift would be four calls: noise takes twenty rotations a number.
    shift = tf.bitwise.left_shift if distance > 0 else tf.bitwise.right_shift
    return shift(bits, tf.constant(abs(distance), tf.uint32))


def numpy_dtype(tensor: Any) -> Any:
    """The NumPy dtype of a tensor."""
    return tensor.dtype.as_numpy_dtype


def is_float(tensor: Any) -> bool:
    """Whether a tensor holds floats."""
    return tensor.dtype.is_floating


def is_whole(tensor: Any) -> bool:
    """Whether a tensor holds whole numbers; truth values and texts are none."""
    return tensor.dtype.is_integer


def tensor(array: np.ndarray) -> Any:
    """An array as a tensor of its dtype, objects as texts."""
    # Half the time that `convert_to_tensor` takes, which asks for what it is given first.
    return tf.constant(array)


def to_numpy(tensor: Any) -> np.ndarray:
    """The values of a concrete tensor or variable."""
    return tf.convert_to_tensor(tensor).numpy()


def known(tensor: Any) -> np.ndarray | None:
    """The values of a tensor; None where it has none yet, inside a function that is being traced."""
    return tensor.numpy() if hasattr(tensor, "numpy") else None


def view(tensor: Any) -> np.ndarray:
    """The values of a concrete tensor or variable without a copy, to be read at once."""
    return np.asarray(tf.convert_to_tensor(tensor))


def has_accelerator() -> bool:
    """Whether TensorFlow sees a GPU or a TPU, where XLA is the better default; on CPU its own kernels are."""
    return bool(tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("TPU"))
