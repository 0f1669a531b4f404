"""What making an analyzer and explaining hold at a time, counted in tensors of one layer's output."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import innvest_lite

DEPTH, POSITIONS, CHANNELS, SAMPLES = 24, 1024, 64, 8
OUTPUT = SAMPLES * POSITIONS * CHANNELS * 4


class Deep(layers.Layer):
    """Dense layers, one behind the other."""

    def __init__(self):
        super().__init__()
        self.parts = [layers.Dense(CHANNELS) for _ in range(DEPTH)]

    def call(self, x):
        for part in self.parts:
            x = part(x)
        return x


def peak_of(call):
    """The outputs that there are at most at a time while a call runs, beside what there is before."""
    try:
        before = tf.config.experimental.get_memory_info("CPU:0")["current"]
    except ValueError:
        pytest.skip("TensorFlow's allocator counts nothing on this machine.")
    tf.config.experimental.reset_memory_stats("CPU:0")
    call()
    return (tf.config.experimental.get_memory_info("CPU:0")["peak"] - before) / OUTPUT


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    x = keras.Input((POSITIONS, CHANNELS))
    return keras.Model(x, layers.GlobalAveragePooling1D()(Deep()(x)))


def test_memory_of_a_proof_is_that_of_a_few_values(model):
    # It would catch all values of what is looked into, here 24 and more, at once. A proof runs eight samples.
    assert peak_of(lambda: innvest_lite.LRP(model, "epsilon")) < DEPTH / 2


def test_memory_of_an_explanation_is_that_of_the_forward_values(model):
    # It would catch denominators that are made before relevance comes, one more for each layer.
    analyzer = innvest_lite.LRP(model, "epsilon")
    x = np.random.default_rng(0).normal(size=(SAMPLES, POSITIONS, CHANNELS)).astype("float32")
    assert peak_of(lambda: analyzer.analyze(x)) < 1.4 * DEPTH
