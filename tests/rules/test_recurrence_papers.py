"""Recurrent layers against NumPy loops from the papers: the bias factor, and what gates get."""

import itertools

import keras
import numpy as np
import pytest
import recurrent_replicas as replicas
import tensorflow as tf
from keras import layers

import innvest_lite

STEPS, SIZE, UNITS = 5, 3, 4
SAMPLES = np.random.default_rng(3).normal(size=(4, STEPS, SIZE))


def of_layer(cls):
    """A model whose logits are the last output itself, and its random weights."""
    generator = np.random.default_rng(5)
    layer = cls(UNITS, dtype="float64", name="layer")
    x = keras.Input((STEPS, SIZE), dtype="float64")
    out = layers.Dense(UNITS, dtype="float64", use_bias=False, name="out")
    model = keras.Model(x, out(layer(x)))
    weights = [generator.normal(size=one.shape) * 0.5 for one in layer.weights]
    layer.set_weights(weights)
    out.set_weights([np.eye(UNITS)])
    return model, weights


def of_which(cases, quick):
    """All cases, those that are not quick marked as slow."""
    return [case if case in quick else pytest.param(*case, marks=pytest.mark.slow) for case in cases]


@pytest.mark.parametrize(
    ("cls", "factor"),
    of_which(list(itertools.product((layers.LSTM, layers.GRU), (0.0, 0.3, 1.0))), [(layers.LSTM, 1.0), (layers.GRU, 0.3)]),
)
def test_the_bias_factor_is_the_papers(cls, factor):
    """With one epsilon for W x + U h + b of an LSTM; with one for each part, all of these are off by per cents."""
    (model, weights), epsilon = of_layer(cls), 0.02
    options = {"epsilon": epsilon, "bias_factor": factor}
    analyzer = innvest_lite.LRP(model, "epsilon", composite_options=options)
    output = np.asarray(model(SAMPLES))
    start = np.zeros_like(output)
    # The layer of ones at the end has its own epsilon and, of its units of 0, the equal parts.
    start[:, 2] = output[:, 2]
    (last,) = replicas.linear([output], [np.eye(UNITS)], np.zeros(UNITS), start, epsilon, factor)
    twin = getattr(replicas, cls.__name__)(*weights, SAMPLES)
    expected, *begun = twin.relevance(last, epsilon, factor)
    np.testing.assert_allclose(analyzer.analyze(SAMPLES, target=2), expected, rtol=0, atol=1e-10 * np.abs(expected).max())
    report = analyzer.check(SAMPLES, target=2)
    assert report.unexplained.max() < 1e-9
    (row,) = (row for row in report.rows if row.node == "layer")
    np.testing.assert_allclose(row.bias, sum(one.sum(1) for one in begun), atol=1e-10)
    if factor == 1:
        # All is at the inputs, or at the zeros with which the states begin.
        np.testing.assert_allclose(expected.sum((1, 2)) + row.bias, output[:, 2], rtol=1e-9)
        assert not report.alarms or "vanishes" not in " ".join(report.alarms)


@pytest.mark.parametrize(
    ("composite", "gates"),
    of_which(
        list(itertools.product(("attn_lrp", "cp_lrp"), ("constant", "halves", "proportional"))),
        [("attn_lrp", "halves"), ("cp_lrp", "proportional")],
    ),
)
def test_gates_get_what_is_said(composite, gates):
    model, weights = of_layer(layers.LSTM)
    analyzer = innvest_lite.LRP(model, composite, composite_options={"gates": gates, "epsilon": 1e-12})
    output = np.asarray(model(SAMPLES))
    start = np.zeros_like(output)
    start[:, 1] = output[:, 1]
    expected, _, _ = replicas.LSTM(*weights, SAMPLES).relevance(start, 1e-12, gates=gates)
    found = analyzer.analyze(SAMPLES, target=1)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9 * np.abs(expected).max())
    assert analyzer.check(SAMPLES, target=1).unexplained.max() < 1e-9


def test_what_a_normalization_multiplies_with_is_no_gate():
    """Halves for it would take relevance to the statistic, whose gradient is at right angles to its input."""
    x = keras.Input((6,), dtype="float64")
    scaled = x * keras.ops.rsqrt(keras.ops.mean(keras.ops.square(x), axis=-1, keepdims=True) + 1e-6)
    model = keras.Model(x, layers.Dense(2, dtype="float64", use_bias=False)(scaled))
    plain, halves = (
        innvest_lite.LRP(model, "cp_lrp", composite_options={"gates": gates}).analyze(SAMPLES.reshape(10, 6), target=0)
        for gates in ("constant", "halves")
    )
    np.testing.assert_array_equal(plain, halves)


def test_a_broadcast_gate_adds_up_what_it_gets():
    """Squeeze-and-excitation: a gate for each channel, of all positions."""
    x, g = keras.Input((4, 4, 3), dtype="float64"), keras.Input((3,), dtype="float64")
    gate = layers.Reshape((1, 1, 3), dtype="float64")(layers.Activation("sigmoid", dtype="float64")(g))
    gated = layers.Multiply(dtype="float64")([x, gate])
    flat = layers.Flatten(dtype="float64")(gated)
    model = keras.Model([x, g], layers.Dense(1, dtype="float64", use_bias=False, name="out")(flat))
    generator = np.random.default_rng(2)
    given = [generator.normal(size=(2, 4, 4, 3)), generator.normal(size=(2, 3))]
    kernel = np.asarray(model.get_layer("out").kernel).reshape(4, 4, 3)
    at_gate = replicas.sigmoid(given[1])
    contributions = given[0] * at_gate[:, None, None] * kernel
    sizes = np.abs(given[0]), np.broadcast_to(np.abs(at_gate)[:, None, None], given[0].shape)
    share = sizes[0] / (sizes[0] + sizes[1])
    options = {"gates": "proportional", "epsilon": 1e-12}
    of_x, of_g = innvest_lite.LRP(model, "cp_lrp", composite_options=options).analyze(given, target="all")
    np.testing.assert_allclose(of_x, contributions * share, atol=1e-10)
    arrived = (contributions * (1 - share)).sum((1, 2))
    np.testing.assert_allclose(of_g, replicas.through_sigmoid(given[1], arrived), atol=1e-10)


def test_a_bias_factor_outside_is_refused():
    with pytest.raises(innvest_lite.errors.InvalidInputError, match="bias_factor"):
        innvest_lite.rules.Epsilon(bias_factor=-1)
    with pytest.raises(innvest_lite.errors.InvalidInputError, match="gates"):
        innvest_lite.rules.preset("cp_lrp", gates="half")


@keras.saving.register_keras_serializable(package="tests")
class ThreeMaps(layers.Layer):
    """A cell that adds up three products with a constant after each, one of them used by itself as well."""

    state_size = output_size = UNITS

    def build(self, shape):
        sizes = {"w": shape[-1], "u": UNITS, "v": shape[-1]}
        self.kernels = [self.add_weight(shape=(size, UNITS), name=name) for name, size in sizes.items()]
        self.constants = [self.add_weight(shape=(UNITS,), name=name) for name in "bcd"]

    def call(self, x, states):
        (h,), (w, u, v), (b, c, d) = states, self.kernels, self.constants
        apart = keras.ops.matmul(keras.ops.tanh(x), v)
        first = (keras.ops.matmul(x, w) + keras.ops.matmul(h, u) + b) + c
        inner = first + (keras.ops.matmul(h, u) + d) + apart
        h = keras.ops.tanh(inner) + 0.1 * apart
        return h, [h]


def test_a_cell_of_three_maps_keeps_all_that_it_adds_up():
    """Of h, two products in one sum; what is used by itself stays apart. Against the gradient of a twin."""
    x = keras.Input((STEPS, SIZE), dtype="float64")
    cell = ThreeMaps(dtype="float64", name="cell")
    model = keras.Model(x, layers.RNN(cell, dtype="float64", name="layer")(x))
    generator = np.random.default_rng(6)
    for variable in model.weights:
        variable.assign(generator.normal(size=variable.shape) * 0.4)
    analyzer = innvest_lite.LRP(model, "zero")
    plan = str(analyzer.plan())
    assert plan.count(" Affine ") == 1
    (w, u, v), (b, c, d) = ([one.value for one in group] for group in (cell.kernels, cell.constants))

    def passing(function, z):
        return z * tf.stop_gradient(function(z) / z)

    given = tf.constant(SAMPLES)
    with tf.GradientTape() as tape:
        tape.watch(given)
        h = tf.zeros((len(SAMPLES), UNITS), "float64")
        for step in range(STEPS):
            now = given[:, step]
            apart = passing(tf.tanh, now) @ v
            h = passing(tf.tanh, now @ w + h @ u + b + c + h @ u + d + apart) + 0.1 * apart
        explained = h[:, 1]
    expected = (given * tape.gradient(explained, given)).numpy()
    np.testing.assert_allclose(np.asarray(model(SAMPLES))[:, 1], explained, rtol=1e-12)
    np.testing.assert_allclose(analyzer.analyze(SAMPLES, target=1), expected, rtol=0, atol=1e-10 * np.abs(expected).max())
    report = analyzer.check(SAMPLES, target=1)
    assert report.unexplained.max() < 1e-9
