"""Relevance through recurrent layers, held against input times gradient of networks whose gates are held.

With the gates as constants and functions of one value handing on what they get, the rules of Arras et al. (2017, arXiv
1706.07206) are the gradient times the input of such a network; the twins are written with TensorFlow alone, step by step.
"""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops
from marked import of_which

import innvest_lite
from innvest_lite import rules
from innvest_lite.graph import trace

STEPS, SIZE, UNITS = 6, 3, 4
RANDOM = np.random.default_rng(0)
SAMPLES = RANDOM.normal(size=(3, STEPS, SIZE))


def held(x):
    return tf.stop_gradient(x)


def passing(function, x):
    """A function of one value that hands on what it gets: its slope is f(x) / x."""
    return x * held(function(x) / x)


def lstm(layer, x, states):
    cell, (h, c) = layer.cell, states
    i, f, g, o = tf.split(x @ cell.kernel.value + h @ cell.recurrent_kernel.value + cell.bias.value, 4, axis=1)
    c = held(tf.sigmoid(f)) * c + held(tf.sigmoid(i)) * passing(tf.tanh, g)
    h = held(tf.sigmoid(o)) * passing(tf.tanh, c)
    return h, [h, c]


def gru(layer, x, states):
    cell, (h,) = layer.cell, states
    bias = cell.bias.value if cell.reset_after else tf.stack([cell.bias.value, tf.zeros_like(cell.bias.value)])
    xz, xr, xh = tf.split(x @ cell.kernel.value + bias[0], 3, axis=1)
    uz, ur, uh = tf.split(cell.recurrent_kernel.value, 3, axis=1)
    bz, br, bh = tf.split(bias[1], 3)
    z, r = held(tf.sigmoid(xz + h @ uz + bz)), held(tf.sigmoid(xr + h @ ur + br))
    after = r * (h @ uh + bh) if cell.reset_after else (r * h) @ uh
    h = z * h + (1 - z) * passing(tf.tanh, xh + after)
    return h, [h]


def simple(layer, x, states):
    cell, (h,) = layer.cell, states
    h = passing(tf.tanh, x @ cell.kernel.value + cell.bias.value + h @ cell.recurrent_kernel.value)
    return h, [h]


def run(step, layer, x, count, mask=None):
    """All outputs, (batch, steps, units), in the order of the steps."""
    order = range(STEPS)[::-1] if layer.go_backwards else range(STEPS)
    states, output, found = [tf.zeros((len(x), UNITS), x.dtype)] * count, tf.zeros((len(x), UNITS), x.dtype), []
    for place in order:
        new, after = step(layer, x[:, place], states)
        if mask is not None:
            seen = mask[:, place, None]
            new = tf.where(seen, new, output)
            after = [tf.where(seen, one, other) for one, other in zip(after, states, strict=True)]
        output, states = new, after
        found.append(output)
    return tf.stack(found, axis=1)


LAYERS = {
    "LSTM": (layers.LSTM, {}, lstm, 2),
    "GRU": (layers.GRU, {}, gru, 1),
    "GRU, reset before": (layers.GRU, {"reset_after": False}, gru, 1),
    "SimpleRNN": (layers.SimpleRNN, {}, simple, 1),
    "LSTM, backwards": (layers.LSTM, {"go_backwards": True}, lstm, 2),
    "LSTM, unrolled": (layers.LSTM, {"unroll": True}, lstm, 2),
}


def randomized(model, seed=1):
    generator = np.random.default_rng(seed)
    for variable in model.weights:
        variable.assign(generator.normal(size=variable.shape) * 0.5)
    return model


def taped(x, function):
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        explained = function(x)
    return (x * tape.gradient(explained, x)).numpy(), explained.numpy()


@pytest.mark.parametrize(
    ("name", "sequences"),
    of_which(list(itertools.product(LAYERS, (False, True))), [("LSTM", True), ("GRU", False), ("LSTM, backwards", False)]),
)
def test_a_layer_is_input_times_the_gradient_of_held_gates(name, sequences):
    cls, options, step, count = LAYERS[name]
    layer = cls(UNITS, return_sequences=sequences, dtype="float64", name="layer", **options)
    x = keras.Input((STEPS, SIZE), dtype="float64")
    h = layer(x)
    h = layers.GlobalAveragePooling1D(dtype="float64")(h) if sequences else h
    model = randomized(keras.Model(x, layers.Dense(3, dtype="float64", name="out")(h)))

    def twin(x):
        outputs = run(step, layer, x, count)
        h = tf.reduce_mean(outputs, 1) if sequences else outputs[:, -1]
        return (h @ model.get_layer("out").kernel.value + model.get_layer("out").bias.value)[:, 1]

    expected, explained = taped(SAMPLES, twin)
    np.testing.assert_allclose(explained, model(SAMPLES)[:, 1], rtol=1e-12)
    analyzer = innvest_lite.LRP(model, "zero")
    found = analyzer.analyze(SAMPLES, target=1)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10 * np.abs(expected).max())
    report = analyzer.check(SAMPLES, target=1)
    assert report.unexplained.max() < 1e-9
    bias = sum(row.bias for row in report.rows)
    np.testing.assert_allclose(found.sum((1, 2)) + bias, explained, rtol=1e-9)
    # What it begins with are zeros, which get nothing by this rule.
    (of_layer,) = (row for row in report.rows if row.node == "layer")
    assert not of_layer.arrived.any() and any(row.node.startswith("layer/matmul") for row in report.rows)


@pytest.mark.parametrize(
    ("where", "sequences"),
    of_which(list(itertools.product(("end", "middle"), (False, True))), [("end", False), ("middle", True)]),
)
def test_masked_steps_get_nothing_and_change_nothing(where, sequences):
    """Against a twin that holds its state there; behind it a mean over the steps that count."""
    layer = layers.LSTM(UNITS, return_sequences=sequences, dtype="float64", name="layer")
    x, hides = keras.Input((STEPS, SIZE), dtype="float64"), keras.Input((STEPS,), dtype="bool")
    # With values that are not 0 where they are hidden.
    h = layer(x, mask=hides)
    h = layers.GlobalAveragePooling1D(dtype="float64")(h, mask=hides) if sequences else h
    model = randomized(keras.Model([x, hides], layers.Dense(2, dtype="float64", name="out")(h)))
    mask = np.ones((3, STEPS), bool)
    mask[1, 4:], mask[2, 2:] = False, False
    if where == "middle":
        mask = mask[:, np.random.default_rng(2).permutation(STEPS)]
    samples = SAMPLES

    def twin(x):
        outputs = run(lstm, layer, x, 2, tf.constant(mask))
        weights = mask / mask.sum(1, keepdims=True)
        h = tf.einsum("bt,btu->bu", weights, outputs) if sequences else outputs[:, -1]
        return (h @ model.get_layer("out").kernel.value + model.get_layer("out").bias.value)[:, 1]

    expected, explained = taped(samples, twin)
    np.testing.assert_allclose(explained, model([samples, mask])[:, 1], rtol=1e-12)
    analyzer = innvest_lite.LRP(model, "zero")
    found = analyzer.analyze([samples, mask], target=1)[0]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10 * np.abs(expected).max())
    assert not found[~mask].any()
    # What biases take at masked steps is not counted: there, the cell is not asked.
    report = analyzer.check([samples, mask], target=1)
    assert report.unexplained.max() < 1e-9 and max(np.abs(row.bias).max() for row in report.rows) > 1e-3
    if where == "end" and not sequences:
        short = randomized(_shorter(4))
        np.testing.assert_allclose(found[1:2, :4], innvest_lite.LRP(short, "zero").analyze(samples[1:2, :4], target=1))


def _shorter(steps):
    x = keras.Input((steps, SIZE), dtype="float64")
    h = layers.LSTM(UNITS, dtype="float64")(layers.Masking(dtype="float64")(x))
    return keras.Model(x, layers.Dense(2, dtype="float64")(h))


class Cell(layers.Layer):
    """A cell of one's own: what was, fading, and what comes."""

    def __init__(self, units, **options):
        super().__init__(**options)
        self.units = self.state_size = units

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], self.units), name="kernel")
        self.fade = self.add_weight(shape=(self.units,), name="fade")

    def call(self, x, states):
        h = ops.relu(ops.matmul(x, self.kernel) + states[0] * self.fade)
        return h, [h]


def seq2seq(x):
    *_, h, c = layers.LSTM(UNITS, return_state=True, name="encoder")(x)
    return layers.LSTM(UNITS, name="decoder")(layers.ZeroPadding1D(1)(x)[:, :4], initial_state=[h, c])


def one_state(x):
    return layers.GRU(UNITS, name="gru")(x, initial_state=layers.Dense(UNITS, name="start")(layers.Flatten()(x)))


def of_series(x):
    return layers.LSTM(UNITS, name="outer")(
        layers.TimeDistributed(layers.GRU(3, name="inner"))(layers.Reshape((3, 2, 3))(x))
    )


NETWORKS = {
    "a state of its own": one_state,
    "series of series": of_series,
    "stacked": lambda x: layers.GRU(UNITS, name="two")(layers.LSTM(5, return_sequences=True, name="one")(x)),
    "both ways": lambda x: layers.Bidirectional(layers.LSTM(UNITS), name="both")(x),
    "both ways, summed": lambda x: layers.Bidirectional(layers.GRU(UNITS), merge_mode="sum", name="both")(x),
    "stacked cells": lambda x: layers.RNN([layers.LSTMCell(5), layers.GRUCell(UNITS)], name="cells")(x),
    "a cell of one's own": lambda x: layers.RNN(Cell(UNITS), name="own")(x),
    "states handed on": seq2seq,
    "images": lambda x: layers.Flatten()(layers.ConvLSTM1D(2, 3, padding="same", name="conv")(ops.expand_dims(x, -1))),
}


@pytest.mark.parametrize(
    "name",
    [
        name
        if name in ("both ways", "a cell of one's own", "a state of its own", "series of series")
        else pytest.param(name, marks=pytest.mark.slow)
        for name in NETWORKS
    ],
)
def test_networks_conserve_without_biases(name, eager):
    """What biases take aside, all arrives at the input, and the user's layers are as they were."""
    x = keras.Input((STEPS, SIZE))
    model = randomized(keras.Model(x, layers.Dense(2, name="out")(NETWORKS[name](x))))
    kept = [len(layer._inbound_nodes) for layer in model._flatten_layers()]
    for variable in model.weights:
        if "bias" in variable.path:
            variable.assign(np.zeros(variable.shape))
    graph = trace(model)
    recurrent = [node for node in graph.nodes if node.steps is not None]
    assert recurrent and not any(node.closed for node in graph.nodes)
    samples = SAMPLES.astype("float32")
    report = innvest_lite.LRP(model, "zero").check(samples, target=1)
    assert np.abs(report.gap).max() < 1e-5 * np.abs(report.start).max() and report.unexplained.max() < 1e-4
    # Keras's own call, as ever.
    np.testing.assert_allclose(
        innvest_lite.Gradient(model).analyze(samples, target=1),
        taped(samples, lambda x: model(x)[:, 1])[0] / samples,
        atol=1e-5,
    )
    assert [len(layer._inbound_nodes) for layer in model._flatten_layers()] == kept


@pytest.mark.slow
@pytest.mark.parametrize("composite", ["epsilon_plus", "cp_lrp_gamma", "alpha1_beta0", "attn_lrp"])
@pytest.mark.parametrize("name", NETWORKS)
def test_check_explains_every_composite(name, composite):
    x = keras.Input((STEPS, SIZE))
    model = randomized(keras.Model(x, layers.Dense(2, name="out")(NETWORKS[name](x))))
    analyzer, samples = innvest_lite.LRP(model, composite), SAMPLES.astype("float32")
    assert np.isfinite(analyzer.analyze(samples)).all()
    assert analyzer.check(samples).unexplained.max() < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_patterns_are_fitted_and_explained_in_every_network(name):
    x = keras.Input((STEPS, SIZE))
    model = randomized(keras.Model(x, layers.Dense(2, name="out")(NETWORKS[name](x))))
    data = np.random.default_rng(1).normal(size=(120, STEPS, SIZE)).astype("float32")
    analyzer, samples = innvest_lite.PatternAttribution(model).fit(data, verbose=0), SAMPLES.astype("float32")
    heat = analyzer.analyze(samples)
    assert np.isfinite(heat).all() and heat.any()
    assert analyzer.check(samples).unexplained.max() < 1e-4
    # All that a step's weights do has a pattern, and none is of a unit that was never seen.
    assert len(analyzer.patterns) > 2 and all(np.any(pattern) for pattern in analyzer.patterns.values())


def test_steps_of_open_number(tmp_path):
    """Of any length, compiled once, also as a served file."""
    x = keras.Input((None, SIZE))
    model = randomized(keras.Model(x, layers.Dense(2)(layers.LSTM(UNITS)(x))))
    analyzer = innvest_lite.LRP(model, "zero")
    analyzer.export(tmp_path / "served", verbose=False)
    served = tf.saved_model.load(tmp_path / "served")
    for steps in (3, 5):
        samples = RANDOM.normal(size=(2, steps, SIZE)).astype("float32")
        found = analyzer.analyze(samples)
        same = keras.Model(fixed := keras.Input((steps, SIZE)), model(fixed))
        np.testing.assert_allclose(found, innvest_lite.LRP(same, "zero").analyze(samples), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(served.serve(samples)["attributions"], found, rtol=1e-4, atol=1e-6)


def test_what_is_left_closed_says_why():
    x = keras.Input(batch_shape=(2, STEPS, SIZE))
    model = keras.Model(x, layers.Dense(2)(layers.LSTM(UNITS, stateful=True, name="keeps")(x)))
    with pytest.raises(innvest_lite.UnsupportedLayerError, match="keeps.*\n*.*states stay from one batch to the next"):
        innvest_lite.LRP(model, "zero")


def test_a_user_can_give_a_whole_layer_one_rule():
    x = keras.Input((STEPS, SIZE))
    model = randomized(keras.Model(x, layers.Dense(2)(layers.LSTM(UNITS, name="lstm")(x))))
    plan = innvest_lite.LRP(
        model, [(rules.kind("recurrent"), rules.Gradient()), (rules.kind("linear"), rules.Zero())]
    ).plan()
    assert [type(step.rule) for step in plan.every_step] == [rules.Gradient, rules.Zero]
