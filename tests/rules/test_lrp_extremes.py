"""LRP where numbers are large, small or zero: growth beyond float32, half precision, stabilizers, dead kernels."""

import keras
import models
import numpy as np
import pytest
from keras import layers

from innvest_lite import LRP, DeepTaylor
from innvest_lite.rules import AlphaBeta, Epsilon, Norm, WSquare, Zero, kind

LINEAR = kind("linear")


@pytest.mark.slow
def test_alpha_beta_beyond_float32():
    """Each layer hands on 2 R - swap(R), so the relevance (z, -z) grows three times a layer: 3^100 is beyond float32."""
    x = value = keras.Input((2,))
    for _ in range(100):
        value = layers.Dense(2, use_bias=False)(value)
    model = keras.Model(x, value)
    model.set_weights([np.float32([[1, -0.5], [-0.5, 1]])] * 100)
    samples = np.float32([[1, 1]])
    analyzer = LRP(model, [(LINEAR, AlphaBeta(2.0, 1.0))])
    values, exponent = analyzer.analyze(samples, target=np.float32([[1, -1]]), return_exponent=True)
    logit = 0.5**100
    found = np.log2(np.abs(values.astype("float64"))) + exponent[:, None]
    np.testing.assert_allclose(found, np.log2(logit) + 100 * np.log2(3), rtol=1e-5)
    assert np.sign(values).tolist() == [[1, -1]]


@pytest.mark.slow
def test_deep_taylor_beyond_float32():
    """With the gradient at sums, each x + x doubles what arrives, and z+ hands all of it on: 2^140 is beyond float32."""
    x = value = keras.Input((1,))
    for _ in range(140):
        value = layers.Dense(1, use_bias=False)(layers.Add()([value, value]))
    model = keras.Model(x, value)
    model.set_weights([np.float32([[0.5]])] * 140)
    analyzer = DeepTaylor(model, structure="gradient")
    values, exponent = analyzer.analyze(np.float32([[3]]), return_exponent=True)
    assert np.log2(values.item()) + exponent.item() == pytest.approx(140 + np.log2(3))
    np.testing.assert_allclose(DeepTaylor(model).analyze(np.float32([[3]])), [[3]], rtol=1e-5)


@pytest.mark.parametrize("rule", [Zero(), Epsilon(1e-7)])
def test_half_precision_divides_in_float32(rule):
    """The hidden value is 1e-4 and what follows it 1e6, which float16 does not hold."""
    model = keras.Sequential(
        [keras.Input((1,)), *(layers.Dense(1, use_bias=False, dtype="mixed_float16") for _ in range(3))]
    )
    model.set_weights([np.float32([[w]]) for w in (1e-4, 1e3, 1e3)])
    values = LRP(model, [(LINEAR, rule)]).analyze(np.float32([[1]]))
    np.testing.assert_allclose(values, [[100]], rtol=2e-2)


@pytest.mark.parametrize("epsilon", [0.0, 0.5, 3.0])
def test_the_epsilon_of_norm(epsilon, eager):
    a, b = keras.Input((3,), name="a"), keras.Input((3,), name="b")
    model = keras.Model([a, b], layers.Add()([a, b]))
    one, two = np.float32([[1, -2, 0.5]]), np.float32([[3, 1, -0.25]])
    total = one + two
    found = LRP(model, [(kind("sum"), Norm(epsilon))]).analyze([one, two], target=np.ones((1, 3)))
    stabilized = total + epsilon * np.where(total >= 0, 1, -1)
    for part, contribution in zip(found, (one, two), strict=True):
        np.testing.assert_allclose(part, contribution / stabilized * total, rtol=1e-6)


def test_a_kernel_of_zeros_loses_what_arrives(eager):
    x = keras.Input((3,))
    model = keras.Model(x, layers.Dense(2, name="out")(x))
    model.set_weights([np.float32([[1, 0], [2, 0], [-1, 0]]), np.float32([1, 5])])
    report = LRP(model, [(LINEAR, WSquare())]).check(np.ones((1, 3), "float32"), target=1)
    (row,) = report.rows
    assert report.start.tolist() == row.epsilon.tolist() == [5] and report.at_input.tolist() == [0]
    assert np.all(report.unexplained < 1e-6)


@pytest.mark.parametrize("bias", ["split", "shared", "ignore"])
@pytest.mark.parametrize("name", ["conv_bn", "residual"])
def test_alpha_beta_evaluates_the_model(name, bias, eager):
    """Its forward pass is its own, z+ + z- + b."""
    report = LRP(models.case(name).model, [(LINEAR, AlphaBeta(2.0, 1.0, bias))]).check(models.case(name).x)
    np.testing.assert_allclose(report.start, models.predicted(name)[1][0].max(-1), rtol=1e-4)


@pytest.mark.parametrize("given, policy", [("float32", "float64"), ("float32", "mixed_float16"), ("float64", "float64")])
def test_results_have_the_precision_of_the_inputs(given, policy, eager):
    model = keras.Sequential([keras.Input((4,), dtype=given), layers.Dense(3, activation="relu", dtype=policy)])
    composites = ("gamma", "alpha_beta", "epsilon", "w_square")
    found = {composite: LRP(model, composite).analyze(np.ones((2, 4))).dtype for composite in composites}
    assert found == dict.fromkeys(composites, given)


def test_a_masked_average_is_shared_out_among_what_it_sees(eager):
    x = keras.Input((5,), dtype="int32")
    pooled = layers.GlobalAveragePooling1D()(layers.Embedding(6, 3, mask_zero=True)(x))
    model = models.randomize(keras.Model(x, layers.Dense(2, use_bias=False)(pooled)), seed=2)
    tokens = np.array([[1, 2, 0, 0, 0], [5, 4, 3, 2, 1]])
    table, kernel = (np.asarray(weight, "float64") for weight in model.get_weights())
    values = LRP(model, "zero").analyze(tokens, target=1)
    seen = (tokens != 0)[..., None]
    expected = (table[tokens] * seen / seen.sum(1, keepdims=True)) @ kernel[:, 1]
    np.testing.assert_allclose(values, expected, atol=1e-6)
    assert np.all(LRP(model, "zero").check(tokens).unexplained < 1e-5)
