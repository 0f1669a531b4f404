"""Exponents and powers of two over the whole range of float32, against `frexp` and `ldexp` of float64.

An exponent that is one off leaves relevance near 2 in place of 1, which a deep sweep turns into infinity.
"""

import numpy as np
import tensorflow as tf

from innvest_lite import backend

POWERS = np.ldexp(1.0, np.arange(-126, 128))


def test_the_exponent_of_every_power_of_two_and_of_its_neighbours():
    """2**e <= x < 2**(e + 1), so that x divided by 2**e is at least 1."""
    exact = POWERS.astype("float32")
    x = np.concatenate([exact, np.nextafter(exact[1:], np.float32(0)), np.nextafter(exact, np.float32(np.inf))])
    expected = np.frexp(x.astype("float64"))[1] - 1
    np.testing.assert_array_equal(backend.exponents(tf.constant(x)), expected)
    exponents, factors = backend.towards_one(tf.constant(x))
    np.testing.assert_array_equal(exponents, np.clip(expected, -126, 126))
    np.testing.assert_array_equal(factors.numpy().astype("float64"), 2.0 ** -np.clip(expected, -126, 126))
    np.testing.assert_array_equal(backend.exponents(tf.zeros(3)), np.zeros(3))


def test_scaling_is_exact_as_far_as_the_result_is_a_float32():
    """Also by powers that are no float32 themselves: 2**-126 times 2**252 is 2**126, in two factors of 2**126."""
    starts, ends = (grid.ravel() for grid in np.meshgrid([-126, -1, 0, 3, 126], [-126, -60, 0, 61, 126]))
    x = np.ldexp(np.array([1.0, -1.0]), starts[:, None]).astype("float32")
    (found,) = backend.scale_by_powers_of_two([tf.constant(x)], tf.constant(ends - starts, "int32"))
    np.testing.assert_array_equal(found.numpy().astype("float64"), np.ldexp(np.array([1.0, -1.0]), ends[:, None]))
