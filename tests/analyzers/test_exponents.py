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


@pytest.mark.parametrize("up", [33, -33])
def test_what_was_rescaled_twice_comes_back_whole(up, eager):
    """Six layers up, three down, or the other way round: an exponent near 200 is undone, whose power is no float32.

    Of relevance below 0, too, whose largest number is not its largest magnitude.
    """
    model, names = identities(9), [f"d{i}" for i in range(9)]
    powers = [-up] * 3 + [up] * 6
    patterns = {name: np.eye(3, dtype="float32") * 2.0**power for name, power in zip(names, powers, strict=True)}
    samples = np.concatenate([SAMPLE, -SAMPLE])
    heat, exponent = PatternNet(model, patterns=patterns).analyze(samples, target="all", return_exponent=True)
    assert exponent.tolist() == [0, 0]
    np.testing.assert_array_equal(heat.astype("float64"), samples.astype("float64") * 2.0 ** (3 * up))


@pytest.mark.parametrize("grows", [0, 1])
def test_the_largest_of_all_branches_decides(grows, eager):
    """One of two branches grows by 2**30 a layer, eight times, while the other's relevance waits beside it."""
    ends, inputs, patterns = [], [keras.Input((3,), name=f"x{i}") for i in range(2)], {}
    for branch, value in enumerate(inputs):
        for index in range(8):
            value = layers.Dense(3, use_bias=False, name=f"d{branch}{index}")(value)
            patterns[f"d{branch}{index}"] = np.eye(3, dtype="float32") * (2.0**30 if branch == grows else 1)
        ends.append(value)
    model = keras.Model(inputs, layers.Concatenate()(ends))
    model.set_weights([np.eye(3)] * 16)
    heat, exponent = PatternNet(model, patterns=patterns).analyze([SAMPLE, SAMPLE], target="all", return_exponent=True)
    assert exponent[0] != 0
    found = heat[grows].astype("float64") * 2.0 ** (float(exponent[0]) - 240)
    np.testing.assert_array_equal(found, SAMPLE.astype("float64"))


def test_half_precision_has_no_room_for_what_shrinks(eager):
    """Below the only kernel lies a Reshape, through which relevance of 2**-30, nothing to a float16, goes as float16."""
    x = keras.Input((3, 1), dtype="float16")
    value = layers.Reshape((3,), dtype="float16")(x)
    model = keras.Model(x, layers.Dense(3, use_bias=False, name="d", dtype="float16")(value))
    model.set_weights([np.eye(3)])
    analyzer = PatternNet(model, patterns={"d": np.eye(3, dtype="float32") * 2.0**-30})
    sample = np.float32([[[1], [0.5], [2]]])
    np.testing.assert_array_equal(analyzer.analyze(sample, target="all"), sample * 2.0**-30)


def test_an_input_without_relevance_does_not_decide():
    """Zeros have no exponent, whatever they were divided by on the way; nor do they fit in place of another's numbers."""
    swept = sweep.Swept(
        {"none": tf.zeros((4, 2)), "some": tf.constant([[2.0**-40, 0], [2.0**40, 0], [1, 0], [2.0**40, 0]])},
        {name: tf.constant([130, -130, 0, 130]) for name in ("none", "some")},
        tf.constant([130, -130, 0, 130]),
        (),
    )
    undone = sweep.undo_rescaling(swept)
    assert undone.exponent.numpy().tolist() == [0, 0, 0, 130]
    np.testing.assert_array_equal(undone.relevance["some"], [[2.0**90, 0], [2.0**-90, 0], [1, 0], [2.0**40, 0]])
    np.testing.assert_array_equal(undone.relevance["none"], np.zeros((4, 2)))


def test_of_two_sweeps_each_sample_has_the_exponent_of_the_one_that_it_is_in():
    """The two classes of a sigmoid unit: where a sweep starts from 0, its exponent says nothing."""
    first, second = (
        sweep.Swept({"x": tf.constant(found, "float32")}, {"x": tf.constant(powers)}, tf.constant(powers), ())
        for found, powers in (([[3.0], [0.0]], [130, 0]), ([[0.0], [5.0]], [0, 135]))
    )
    starts = [[("y", tf.constant(start, "float32"))] for start in ([[1.0], [0.0]], [[0.0], [1.0]])]
    found = sweep.added([(starts[0], first), (starts[1], second)])
    assert found.exponent.numpy().tolist() == [130, 135]
    np.testing.assert_array_equal(found.relevance["x"], [[3], [5]])
