"""Explanations near the ends of float32 keep all their bits: Python's wider numbers know the true values."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from innvest_lite import PatternNet
from innvest_lite.analyzers import sweep


def identities(depth):
    """`depth` dense layers that hand on three numbers as they are."""
    model = keras.Sequential([keras.Input((3,)), *(layers.Dense(3, use_bias=False, name=f"d{i}") for i in range(depth))])
    model.set_weights([np.eye(3)] * depth)
    return model


# The last number is 2**-21 of the first, and has a bit 2**-23 below its own first one.
SAMPLE = np.float32([[1, 1 + 2.0**-23, (1 + 2.0**-23) * 2.0**-21]])


@pytest.mark.parametrize("power", [-102, -108, -126, 120, 150])
def test_no_bit_is_lost_at_either_end(power, eager):
    """Below 2**-126 a float32 has fewer bits, so that what is 2**-21 of the largest needs an exponent long before."""
    model = identities(6)
    patterns = {layer.name: np.eye(3, dtype="float32") * 2.0 ** (power // 6) for layer in model.layers}
    heat, exponent = PatternNet(model, patterns=patterns).analyze(SAMPLE, target="all", return_exponent=True)
    np.testing.assert_array_equal(heat.astype("float64") * 2.0 ** float(exponent[0]), SAMPLE.astype("float64") * 2.0**power)
    assert (exponent[0] == 0) == (-102 <= power <= 126)


def test_an_input_without_relevance_does_not_decide():
    """Zeros have no exponent, whatever they were divided by on the way."""
    swept = sweep.Swept(
        {"none": tf.zeros((3, 2)), "some": tf.constant([[2.0**-40, 0], [2.0**40, 0], [1, 0]])},
        {name: tf.constant([130, -130, 0]) for name in ("none", "some")},
        tf.constant([130, -130, 0]),
        (),
    )
    undone = sweep.undo_rescaling(swept)
    assert undone.exponent.numpy().tolist() == [0, 0, 0]
    np.testing.assert_array_equal(undone.relevance["some"], [[2.0**90, 0], [2.0**-90, 0], [1, 0]])
    np.testing.assert_array_equal(undone.relevance["none"], np.zeros((3, 2)))
