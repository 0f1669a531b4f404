"""Exact powers of two, by which relevance is kept in float32's range sample by sample. Called by the sweep."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

# All powers of two that are normal float32 numbers. A table, not bits: LiteRT and ONNX have no operations on bits, and
# `pow` is not exact on every device.
_EXPONENT_BIAS = 127
_POWERS_OF_TWO = np.ldexp(np.float32(1), np.arange(1 - _EXPONENT_BIAS, _EXPONENT_BIAS + 1)).astype("float32")


def exponents(x: Any) -> Any:
    """The power of two `e` of each float32 of a vector, such that 2**e <= |x| < 2**(e + 1); 0 where x is 0."""
    # Counted: the number of powers that are not larger.
    reached = tf.cast(tf.abs(x)[:, None] >= _POWERS_OF_TWO[None], tf.int32)
    return tf.where(x == 0, 0, tf.reduce_sum(reached, axis=1) - _EXPONENT_BIAS)


def scale_by_powers_of_two(tensors: Iterable[Any], exponent: Any) -> list[Any]:
    """Each tensor times `2**exponent` of its sample: exact unless the result leaves float32's range.

    float16 and bfloat16 come back as float32, float64 stays.

    Args:
        tensors: tensors (batch, ...).
        exponent: int32 (batch,), of either sign, at most 252 in magnitude: of both halves there must be a float32.
    """
    # In two halves: a single factor 2**exponent may not be a float32 where the product still is.
    half = exponent // 2
    return times_powers_of_two(tensors, [half, exponent - half])


def times_powers_of_two(tensors: Iterable[Any], exponents: Sequence[Any]) -> list[Any]:
    """As `scale_by_powers_of_two`, by several exponents, each of whose powers of two is a normal float32."""
    scaled = [x if x.dtype == tf.float64 else tf.cast(x, tf.float32) for x in tensors]
    for factor in map(_power_of_two, exponents):
        scaled = [x * tf.cast(tf.reshape(factor, (-1, *[1] * (len(x.shape) - 1))), x.dtype) for x in scaled]
    return scaled


def scale_wide(x: Any, exponent: Any) -> Any:
    """`x * 2**exponent` in float64, whose range holds what leaves float32's."""
    return tf.cast(x, tf.float64) * tf.pow(tf.constant(2.0, tf.float64), tf.cast(exponent, tf.float64))


def _power_of_two(exponent):
    """2**exponent as float32, at most 2**127 (0 times infinity would be no number); 0 below the normal numbers."""
    table = tf.constant(np.append(np.float32(0), _POWERS_OF_TWO))
    return tf.gather(table, tf.clip_by_value(exponent + _EXPONENT_BIAS, 0, len(_POWERS_OF_TWO)))
