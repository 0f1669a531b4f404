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
# What a number is above, and by how many of these its exponent: of 0, of what is no normal number, and of all that are.
_BOUNDS = np.append(np.float32(0), np.nextafter(_POWERS_OF_TWO, np.float32(0)))
_EXPONENTS = np.append(0, np.arange(-_EXPONENT_BIAS, _EXPONENT_BIAS + 1)).astype("int32")
# Those of which the reciprocal is a normal number, too.
_SHIFTS = np.clip(_EXPONENTS, 1 - _EXPONENT_BIAS, _EXPONENT_BIAS - 1)
_RECIPROCALS = np.ldexp(np.float32(1), -_SHIFTS).astype("float32")


def exponents(magnitudes: Any) -> Any:
    """The power of two of each float32 of a vector, such that 2**e <= x < 2**(e + 1); 0 where x is 0.

    Args:
        magnitudes: numbers x of 0 and above.
    """
    return tf.gather(tf.constant(_EXPONENTS), _place(magnitudes))


def towards_one(magnitudes: Any) -> tuple[Any, Any]:
    """`(exponent, factor)` of each float32 of a vector: times the factor, 2**-exponent, it is near 1, or 0.

    Args:
        magnitudes: as in `exponents`.

    Returns:
        int32 from -126 to 126, and float32, of the vector's shape.
    """
    place = _place(magnitudes)
    return tf.gather(tf.constant(_SHIFTS), place), tf.gather(tf.constant(_RECIPROCALS), place)


def _place(magnitudes):
    """How many of the bounds each number is above."""
    return tf.reduce_sum(tf.cast(magnitudes[:, None] > _BOUNDS[None], tf.int32), axis=1)


def scale_by_powers_of_two(tensors: Iterable[Any], exponent: Any) -> list[Any]:
    """Each tensor times `2**exponent` of its sample: exact unless the result leaves float32's range.

    float16 and bfloat16 come back as float32, float64 stays.

    Args:
        tensors: tensors (batch, ...).
        exponent: int32 (batch,), of either sign, at most 252 in magnitude: of both halves there must be a float32.
    """
    # In two halves: a single factor 2**exponent may not be a float32 where the product still is.
    half = exponent // 2
    return times_factors(tensors, [power_of_two(half), power_of_two(exponent - half)])


def times_factors(tensors: Iterable[Any], factors: Sequence[Any]) -> list[Any]:
    """Each tensor times several factors of its sample, one after the other; dtypes as in `scale_by_powers_of_two`.

    Args:
        tensors: tensors (batch, ...).
        factors: float32 (batch,) each.
    """
    scaled = [x if x.dtype == tf.float64 else tf.cast(x, tf.float32) for x in tensors]
    for factor in factors:
        scaled = [x * tf.cast(tf.reshape(factor, (-1, *[1] * (len(x.shape) - 1))), x.dtype) for x in scaled]
    return scaled


def scale_wide(x: Any, exponent: Any) -> Any:
    """`x * 2**exponent` in float64, whose range holds what leaves float32's."""
    return tf.cast(x, tf.float64) * tf.pow(tf.constant(2.0, tf.float64), tf.cast(exponent, tf.float64))


def power_of_two(exponent: Any) -> Any:
    """2**exponent as float32, at most 2**127 (0 times infinity would be no number); 0 below the normal numbers."""
    table = tf.constant(np.append(np.float32(0), _POWERS_OF_TWO))
    return tf.gather(table, tf.clip_by_value(exponent + _EXPONENT_BIAS, 0, len(_POWERS_OF_TWO)))
