"""Everything that needs TensorFlow itself: reverse mode, compilation, exact powers of two.

The rest of the package is written with `keras.ops`. Called by the forms (vector-Jacobian products), the sweep
(rescaling), the analyzers and the fitter (compilation).
"""

import os

# TensorFlow greets on stderr with lines that say nothing about an explanation; a user's own setting wins.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import tensorflow as tf

if keras.backend.backend() != "tensorflow":
    raise ImportError(
        f"innvest_lite runs on Keras's TensorFlow backend, but Keras was started on {keras.backend.backend()!r}. "
        "Set the environment variable KERAS_BACKEND=tensorflow before keras is first imported."
    )

# The bits of a float32: 23 of mantissa, then 8 of exponent with this bias.
_MANTISSA_BITS = 23
_EXPONENT_BIAS = 127


class Untracked:
    """Holds a value, such as a dict, that Keras must not wrap and track as part of a model."""

    def __init__(self, value):
        self.value = value


def vjp(function, *inputs):
    """Evaluates `function(*inputs)` and returns `(outputs, pullback)`, as `jax.vjp` does.

    `pullback(cotangents)` takes one cotangent per output (None where an output has none) and returns a tuple with one
    gradient per input, None for an input that is not a float or does not matter. It may be called once. What the
    gradient does not need of the forward evaluation is dead code inside a compiled function.
    """
    if len({id(x) for x in inputs}) < len(inputs):
        # The same tensor twice, as in Add()([x, x]): the tape would give each of them the sum of both gradients.
        inputs = [tf.identity(x) for x in inputs]
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


def _listed(values):
    return list(values) if isinstance(values, list | tuple) else [values]


def compiled(function, signature, jit_compile):
    """Returns `function` as one compiled graph, traced once, now, for `signature` (a nest of `tensor_spec`)."""
    # The traced function itself: a tf.function would count the programs of several analyzers as retracing, and warn.
    return tf.function(
        function, input_signature=signature, jit_compile=jit_compile, autograph=False
    ).get_concrete_function()


def tensor_spec(shape, dtype):
    """The shape (None where it may vary) and dtype of an argument of a compiled function."""
    return tf.TensorSpec(shape, dtype)


def add_up(tensors):
    """The sum of several tensors in one operation, as TensorFlow's own tape makes it: the same order of rounding."""
    return tf.add_n(tensors)


def loop(count, body, state):
    """Runs `state = body(index, state)` `count` times, one after the other; in a compiled function as one loop."""
    # One at a time: TensorFlow else begins the next rounds early, and needs the memory of all of them.
    return tf.while_loop(
        lambda index, *_: index < count,
        lambda index, *values: (index + 1, *body(index, values)),
        (tf.constant(0), *state),
        parallel_iterations=1,
    )[1:]


def divide_no_nan(x, y):
    """`x / y`, and 0 where y is 0, in one operation."""
    return tf.math.divide_no_nan(x, y)


def numpy_dtype(tensor):
    """The NumPy dtype of a tensor."""
    return tensor.dtype.as_numpy_dtype


def is_float(tensor):
    """Whether a tensor holds floats."""
    return tensor.dtype.is_floating


def to_numpy(tensor):
    """The values of a concrete tensor or variable."""
    return tf.convert_to_tensor(tensor).numpy()


def has_accelerator():
    """Whether TensorFlow sees a GPU or a TPU, where XLA is the better default; on CPU its own kernels are."""
    return bool(tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("TPU"))


def exponents(x):
    """The power of two `e` of each finite float32 in `x`, such that 2**e <= |x| < 2**(e + 1); 0 where x is 0."""
    bits = tf.bitcast(tf.abs(x), tf.int32)
    exponent = tf.bitwise.right_shift(bits, _MANTISSA_BITS) - _EXPONENT_BIAS
    return tf.where(x == 0, 0, exponent)


def scale_by_power_of_two(x, exponent):
    """`x * 2**exponent` for int32 exponents of either sign, exact unless the result leaves float32's range.

    float16 and bfloat16 come back as float32, float64 stays.
    """
    x = x if x.dtype == tf.float64 else tf.cast(x, tf.float32)
    # In two halves: a single factor 2**exponent may not be a float32 where the product still is.
    half = exponent // 2
    first, second = _power_of_two(half), _power_of_two(exponent - half)
    return x * tf.cast(first, x.dtype) * tf.cast(second, x.dtype)


def scale_wide(x, exponent):
    """`x * 2**exponent` in float64, whose range holds what leaves float32's."""
    return tf.cast(x, tf.float64) * tf.pow(tf.constant(2.0, tf.float64), tf.cast(exponent, tf.float64))


def _power_of_two(exponent):
    """2**exponent as float32, made from its bits: `pow` is not exact on every device."""
    # At most 2**127: 0 times infinity would be no number.
    biased = tf.clip_by_value(exponent + _EXPONENT_BIAS, 0, 2 * _EXPONENT_BIAS)
    return tf.bitcast(tf.bitwise.left_shift(biased, _MANTISSA_BITS), tf.float32)
