"""Recurrent layers against NumPy loops from the papers: the bias factor, and what gates get."""

import itertools

import keras
import numpy as np
import pytest
import recurrent_replicas as replicas
import tensorflow as tf
from keras import layers, ops
from marked import of_which

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


@pytest.mark.parametrize("cell", ["relu", None])
def test_a_cell_of_layers_with_activations_is_looked_into(cell, eager):
    """The parts into which a layer is cut are not what its own call gives."""

    @keras.saving.register_keras_serializable(package="tests")
    class OfLayers(layers.Layer):
        state_size = output_size = UNITS

        def build(self, shape):
            self.taken = layers.Dense(UNITS, activation=cell, dtype="float64")
            self.kept = layers.Dense(UNITS, dtype="float64")
            self.taken.build((None, shape[-1]))
            self.kept.build((None, UNITS))

        def call(self, x, states):
            h = keras.ops.tanh(self.taken(x) + self.kept(states[0]))
            return h, [h]

    x = keras.Input((STEPS, SIZE), dtype="float64")
    model = keras.Model(x, layers.RNN(OfLayers(dtype="float64"), dtype="float64", name="layer")(x))
    analyzer = innvest_lite.LRP(model, "epsilon")
    assert (" Affine " in str(analyzer.plan())) == (cell is None)
    assert analyzer.check(SAMPLES, target=0).unexplained.max() < 1e-9


def test_with_states_besides_the_mask_of_the_sequences_is_not_handed_on(eager):
    """As Keras does: what is explained is what the model predicts."""
    x, state = keras.Input((STEPS,), dtype="int32"), keras.Input((UNITS,))
    words = layers.Embedding(9, SIZE, mask_zero=True)(x)
    model = keras.Model([x, state], layers.Dense(2)(layers.GRU(UNITS)(words, initial_state=state)))
    given = [np.array([[1, 2, 3, 0, 0]], "int32"), np.ones((1, UNITS), "float32")]
    analyzer = innvest_lite.LRP(model, "cp_lrp")
    assert analyzer.check(given).unexplained.max() < 1e-5
    np.testing.assert_allclose(analyzer.check(given, target=1).start, model.predict(given, verbose=0)[:, 1], rtol=1e-5)


def test_zeros_at_masked_steps_hand_nothing_back(eager):
    """With zero_output_for_mask, what arrives at a masked step stood for nothing: a sum over all steps, against a twin."""
    x, seen = keras.Input((STEPS, SIZE), dtype="float64"), keras.Input((STEPS,), dtype="bool")
    layer = layers.SimpleRNN(UNITS, return_sequences=True, zero_output_for_mask=True, dtype="float64", name="layer")
    model = keras.Model([x, seen], ops.sum(layer(x, mask=seen), axis=1))
    layer.set_weights([np.random.default_rng(7).normal(size=one.shape) * 0.5 for one in layer.get_weights()])
    shown = np.array([[1, 0, 1, 1, 0], [0, 1, 1, 0, 1], [1, 1, 1, 1, 1], [1, 0, 0, 0, 0]], bool)
    w, u, b = (one.value for one in layer.weights)
    given = tf.constant(SAMPLES)
    with tf.GradientTape() as tape:
        tape.watch(given)
        h, total = tf.zeros((len(SAMPLES), UNITS), "float64"), 0.0
        for step in range(STEPS):
            z = given[:, step] @ w + h @ u + b
            new = z * tf.stop_gradient(tf.tanh(z) / z)
            h = tf.where(shown[:, step, None], new, h)
            total += tf.where(shown[:, step, None], new, 0)[:, 1]
    expected = (given * tape.gradient(total, given)).numpy()
    analyzer = innvest_lite.LRP(model, "zero")
    found = analyzer.analyze([SAMPLES, shown], target=1)[0]
    np.testing.assert_allclose(analyzer.check([SAMPLES, shown], target=1).start, total, rtol=1e-9)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10 * np.abs(expected).max())


def test_constant_states_ring_no_alarm_and_rows_are_of_whole_samples(eager):
    """Two series in a sample are two samples of the layer: its rows add them up."""
    x = keras.Input((2, STEPS, SIZE), dtype="float64")
    each = layers.TimeDistributed(layers.SimpleRNN(UNITS, dtype="float64", name="rnn"), dtype="float64")(x)
    model = keras.Model(x, layers.Dense(1, use_bias=False, dtype="float64")(layers.Flatten(dtype="float64")(each)))
    generator = np.random.default_rng(8)
    for variable in model.weights:
        variable.assign(generator.normal(size=variable.shape) * 0.5)
    options = {"bias_factor": 1.0, "epsilon": 1e-3}
    given = np.stack([SAMPLES, SAMPLES[::-1]], axis=1)
    report = innvest_lite.LRP(model, "epsilon", composite_options=options).check(given, target="all")
    (row,) = (row for row in report.rows if row.node.endswith("rnn"))
    np.testing.assert_allclose(report.at_input + row.bias, report.start, rtol=1e-9)
    assert not any("vanishes" in alarm for alarm in report.alarms) and np.all(row.bias != 0)


def test_at_the_border_the_equal_parts_go_to_what_is_there(eager):
    """Nothing is lost in the padding: a window has fewer inputs there."""
    x = keras.Input((6, 6, 2), dtype="float64")
    conv = layers.Conv2D(3, 3, padding="same", dtype="float64", bias_initializer="ones")(x)
    model = keras.Model(x, layers.Dense(1, use_bias=False, dtype="float64")(layers.Flatten(dtype="float64")(conv)))
    options = {"bias_factor": 1.0, "epsilon": 1e-3}
    report = innvest_lite.LRP(model, "epsilon", composite_options=options).check(
        np.random.default_rng(9).normal(size=(2, 6, 6, 2)), target="all"
    )
    assert report.unexplained.max() < 1e-9
    np.testing.assert_allclose(report.at_input, report.start, rtol=1e-9)


def test_a_product_of_zeros_keeps_what_arrives(eager):
    x, g = keras.Input((3,), dtype="float64"), keras.Input((3,), dtype="float64")
    gated = layers.Multiply(dtype="float64")([x, layers.Activation("tanh", dtype="float64")(g)])
    model = keras.Model([x, g], layers.Dense(1, dtype="float64", bias_initializer="ones", name="out")(gated + 1.0))
    given = [np.zeros((1, 3)), np.zeros((1, 3))]
    for gates in ("halves", "proportional"):
        report = innvest_lite.LRP(model, "cp_lrp", composite_options={"gates": gates}).check(given, target="all")
        assert report.unexplained.max() < 1e-9
