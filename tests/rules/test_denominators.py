"""Where a rule's denominator can vanish: relevance keeps the size of the logit, and what is lost is accounted for.

The oracles are formulas in NumPy, one unit at a time.
"""

import keras
import models
import numpy as np
import pytest
import tensorflow as tf
from comparing import assert_close

import innvest_lite
from innvest_lite import LRP
from innvest_lite.errors import UnsupportedLayerError
from innvest_lite.rules import Epsilon, Flat, Zero, ZPlus, first, kind

layers, ops = keras.layers, keras.ops
X = np.random.default_rng(0).normal(size=(50, 5)).astype("float32")


def cancelling(addition):
    """A model of two hidden values of opposite sign that are added up, with nothing behind the sum; and its weights."""
    x = keras.Input((5,))
    one, two = layers.Dense(4, use_bias=False, name="one"), layers.Dense(4, use_bias=False, name="two")
    total = addition(one(x), two(x))
    out = layers.Dense(1, use_bias=False, name="out")
    model = keras.Model(x, out(total))
    w = np.random.default_rng(1).normal(size=(5, 4))
    # Nearly the negative of each other.
    one.set_weights([w])
    two.set_weights([-0.999 * w + 0.01 * np.random.default_rng(2).normal(size=(5, 4))])
    out.set_weights([np.random.default_rng(3).normal(size=(4, 1))])
    return model, [layer.get_weights()[0] for layer in (one, two, out)]


SUMS = {
    "Add": lambda a, b: layers.Add()([a, b]),
    "operator": lambda a, b: a + b,
    "Average": lambda a, b: layers.Average()([a, b]),
}


def z_plus(x, w, relevance):
    """R_i = sum_j c_ij+ / z_j+ R_j, samples alike."""
    c = np.maximum(x[:, :, None] * w, 0)
    return (divided(c, c.sum(1, keepdims=True)) * relevance[:, None]).sum(2)


def divided(shares, total):
    """0 where nothing contributes."""
    return shares / np.where(total == 0, 1, total)


@pytest.mark.parametrize("name", SUMS)
def test_addends_that_cancel_share_by_their_size(name, eager):
    model, (w1, w2, w3) = cancelling(SUMS[name])
    a, b = X @ w1, X @ w2
    total = (a + b) / (2 if name == "Average" else 1)
    arrived = z_plus(total.astype("float64"), w3, (total @ w3).astype("float64"))
    share = np.abs(a) / (np.abs(a) + np.abs(b))
    expected = z_plus(X, w1, share * arrived) + z_plus(X, w2, (1 - share) * arrived)
    actual = LRP(model, "z_plus").analyze(X)
    assert_close(actual, expected, 1e-4)
    # By contribution, what one addend takes the other has to give back.
    signed = [*innvest_lite.rules.preset("z_plus"), (kind("sum"), innvest_lite.rules.Norm())]
    logits = np.abs(model(X).numpy()).ravel()
    assert np.median(np.abs(actual).max(1) / logits) < 2 < np.median(np.abs(LRP(model, signed).analyze(X)).max(1) / logits)


def test_what_is_against_a_sum_gets_the_other_sign(eager):
    """By size, so that nothing grows; signs of the addends alone, not held against the sum's, would be wrong."""
    model, (w1, w2, w3) = cancelling(SUMS["Add"])
    a, b = X @ w1, X @ w2
    arrived = z_plus((a + b).astype("float64"), w3, ((a + b) @ w3).astype("float64"))
    parts = [np.sign(a + b) * part / (np.abs(a) + np.abs(b)) * arrived for part in (a, b)]
    expected = z_plus(X, w1, parts[0]) + z_plus(X, w2, parts[1])
    assert min(part.min() for part in parts) < 0 < max(part.max() for part in parts)
    assert_close(LRP(model, "z_plus", sums="signed").analyze(X), expected, 1e-4)


def test_with_lrp_0_and_epsilon_alone_what_is_divided_multiplies_with(eager):
    """These are the gradient times the input, with sums that cancel as well."""
    model, (w1, w2, w3) = cancelling(SUMS["Add"])
    expected = X * ((w1 + w2) @ w3).ravel()
    for composite in ("zero", "epsilon", [(first(), Zero()), (kind("linear"), Epsilon(1e-9))]):
        assert_close(LRP(model, composite).analyze(X), expected, 1e-3)


def test_diagonal_maps_and_means(eager):
    """A BatchNormalization on its own has its offset as one more contribution; a mean of both signs shares by size."""
    x = keras.Input((3, 4))
    rng = np.random.default_rng(0)
    gamma, beta, mean, variance = rng.uniform(0.5, 2, 4), rng.normal(size=4), rng.normal(size=4), rng.uniform(0.5, 2, 4)
    h = layers.Conv1D(4, 1, use_bias=False, name="see")(x)
    both = layers.Add()([h, h])
    out = layers.Dense(1, use_bias=False, name="out")
    model = keras.Model(x, out(layers.GlobalAveragePooling1D()(layers.BatchNormalization(name="scale")(both))))
    model.get_layer("scale").set_weights([gamma, beta, mean, variance])
    data = rng.normal(size=(6, 3, 4)).astype("float32")
    found, kept = LRP(model, "z_plus").analyze(data, keep=["see"])
    w = gamma / np.sqrt(variance + 1e-3)
    o = beta - mean * w
    hidden = data @ model.get_layer("see").get_weights()[0][0]
    scaled = 2 * hidden * w + o
    pooled = scaled.mean(1)
    w_out = out.get_weights()[0]
    arrived = z_plus(pooled, w_out, pooled @ w_out)
    at_scale = np.abs(scaled) / np.abs(scaled).sum(1, keepdims=True) * arrived[:, None]
    expected = np.abs(2 * hidden * w) / (np.abs(2 * hidden * w) + np.abs(o)) * at_scale
    assert_close(kept["see"], expected, 1e-4)
    report = LRP(model, "z_plus").check(data)
    assert report.unexplained.max() < 1e-5
    (row,) = [row for row in report.rows if row.node == "scale"]
    assert_close(row.bias, (np.abs(o) / (np.abs(2 * hidden * w) + np.abs(o)) * at_scale).sum((1, 2)), 1e-4)


def test_gamma_keeps_the_size_of_the_logit(eager):
    """z + gamma z+ is 0 at z = -0.25 for these weights; with the parts of z's own sign no denominator is below |z|."""
    model = keras.Sequential([keras.Input((2,)), layers.Dense(1, use_bias=False)])
    for weight in (-1.2501, -1.2499, -0.9999, -1.0001, 2.0):
        model.set_weights([np.array([[1.0], [weight]])])
        relevance, z = LRP(model, "gamma").analyze(np.ones((1, 2), "float32")), 1 + weight
        c = np.array([1.0, weight])
        c = c + 0.25 * np.where(np.sign(c) == np.sign(z), c, 0)
        assert_close(relevance[0], c / c.sum() * z, 1e-3)
        assert np.abs(relevance).max() < 3 * max(1, abs(z))


FUNCTIONS = {
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "softplus": lambda z: np.log1p(np.exp(z)),
    "exponential": np.exp,
    "hard_sigmoid": lambda z: np.clip(z / 6 + 0.5, 0, 1),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_a_function_makes_of_zero_is_a_sink(name, eager):
    function = FUNCTIONS[name]
    x = keras.Input((5,))
    hidden, out = layers.Dense(4, activation=name, use_bias=False), layers.Dense(1, use_bias=False)
    model = keras.Model(x, out(hidden(x)))
    w, v = (layer.get_weights()[0].astype("float64") for layer in (hidden, out))
    z = X.astype("float64") @ w
    # LRP-0 of what the input changes: f(z) - f(0), shared by x_i w_ij / z_j.
    expected = ((X[:, :, None] * w / z[:, None]) * ((function(z) - function(0)) * v.ravel())[:, None]).sum(2)
    analyzer = LRP(model, "zero")
    assert_close(analyzer.analyze(X), expected, 1e-3)
    report = analyzer.check(X)
    assert_close(report.at_input, model(X).numpy().ravel() - (function(0) * v).sum(), 1e-3)
    assert report.unexplained.max() < 1e-4


class Blended(keras.Layer):
    """A matrix of weights in a layer that cannot be looked into; linear, with a constant."""

    def build(self, shape):
        self.matrix = self.add_weight(shape=(shape[-1], 3))
        self.offset = self.add_weight(shape=(3,), initializer="ones")

    def call(self, x):
        return tf.matmul(x, self.matrix) + self.offset


def test_fallback_stays_in_logits(eager):
    x = keras.Input((5,))
    blended = Blended(name="blended")
    model = keras.Model(x, layers.Dense(1, use_bias=False)(blended(layers.Dense(4, activation="relu", use_bias=False)(x))))
    with pytest.raises(UnsupportedLayerError, match="blended"):
        LRP(model, "zero")
    analyzer = LRP(model, "zero", fallback="gradient")
    matrix, offset = blended.get_weights()
    out = model.layers[-1].get_weights()[0]
    # What the constant adds to the logit, it keeps.
    assert_close(analyzer.analyze(X).sum(1), model(X).numpy().ravel() - (offset @ out), 1e-3)
    (row,) = [row for row in analyzer.check(X).rows if row.node == "blended"]
    assert_close(row.bias, np.full(len(X), (offset @ out).item()), 1e-3)
    assert matrix.shape == (4, 3)


def test_fallback_refuses_what_is_not_linear():
    x = keras.Input((8, 4))
    model = keras.Model(x, layers.Dense(2)(models.Closed(name="closed")(x)))
    for method in (LRP, innvest_lite.DeepTaylor, innvest_lite.PatternAttribution):
        with pytest.raises(UnsupportedLayerError, match="closed"):
            method(model, fallback="gradient")


def test_flat_at_a_first_layer_and_sums_behind(eager):
    """The composites that the README names conserve on a network whose sums cancel."""
    model, _ = cancelling(SUMS["Add"])
    flat_first = [(first(), Flat()), (kind("linear"), ZPlus())]
    for composite in ("epsilon_plus", "epsilon_plus_flat", "epsilon_gamma_box", flat_first):
        report = LRP(model, composite).check(X)
        assert report.unexplained.max() < 1e-4


def test_a_difference_of_rectified_values_shares_by_magnitude():
    """Of u - v, u gets the share u / (u + v), worked out in NumPy; by contribution it would be u / (u - v)."""
    a, b = keras.Input((5,), name="a"), keras.Input((5,), name="b")
    minus = layers.Subtract(name="minus")([layers.ReLU()(a), layers.ReLU()(b)])
    model = keras.Model([a, b], layers.Dense(2, use_bias=False)(minus))
    u, v = np.abs(X) + 0.1, np.abs(X[::-1]) + 0.1
    found, kept = LRP(model, "z_plus").analyze([u, v], target=0, keep=["minus"])
    assert np.any(kept["minus"])
    for given, share in zip(found, (u, v), strict=True):
        assert_close(given, share / (u + v) * kept["minus"])
