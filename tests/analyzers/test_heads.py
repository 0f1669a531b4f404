"""Logits are explained however the head is written, and where they cannot be, it is said."""

import logging

import keras
import models
import numpy as np
import pytest
import tensorflow as tf
from models import assert_close

import innvest_lite
from innvest_lite.graph import trace

layers, ops = keras.layers, keras.ops
X = np.random.default_rng(0).normal(size=(4, 6)).astype("float32")
# What makes probabilities of the values of `Dense(3)`, whose logits the twin model puts out.
MANY = {
    "inline": lambda z: z("softmax"),
    "TensorFlow's": lambda z: z(tf.nn.softmax),
    "of keras.ops": lambda z: z(ops.softmax),
    "layer": lambda z: layers.Softmax()(z()),
    "operation": lambda z: ops.softmax(z()),
    "dropout": lambda z: layers.Dropout(0.1)(layers.Softmax()(z())),
    "identity": lambda z: layers.Identity()(z("softmax")),
    "linear": lambda z: layers.Activation("linear")(z("softmax")),
    "cast": lambda z: ops.cast(z("softmax"), "float64"),
    "another dtype": lambda z: layers.Activation("softmax", dtype="float64")(z()),
    "shape": lambda z: layers.Reshape((3, 1))(z("softmax")),
    "several": lambda z: layers.Flatten()(layers.Reshape((1, 3))(layers.Dropout(0.2)(z("softmax")))),
}


def built(head, units=3, nested=False):
    """A model with a head, and its twin that puts out the logits; of the same weights."""
    hidden, out = layers.Dense(5, activation="relu", name="hidden"), {}

    def logits(activation=None):
        out["layer"] = layers.Dense(units, activation=activation, name="out")
        return out["layer"](hidden(out["input"]))

    out["input"] = keras.Input((6,))
    probabilities = head(logits)
    model = keras.Model(out["input"], probabilities)
    if nested:
        x = keras.Input((6,))
        model = keras.Model(x, model(x))
    x = keras.Input((6,))
    twin_layer = layers.Dense(units, name="twin")
    twin = keras.Model(x, twin_layer(hidden(x)))
    twin_layer.set_weights(out["layer"].get_weights())
    return model, twin


@pytest.mark.parametrize("name", MANY)
def test_every_way_of_a_softmax(name, eager):
    for nested in (False, True):
        model, twin = built(MANY[name], nested=nested)
        for method in (innvest_lite.Gradient, innvest_lite.LRP):
            expected = method(twin).analyze(X)
            np.testing.assert_allclose(method(model).analyze(X), expected, rtol=1e-5, atol=1e-7)
        logits = innvest_lite.Gradient(model).explainer.logits([tf.constant(X)])
        np.testing.assert_allclose(np.reshape(logits, (4, 3)), twin(X), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["shape", "several", "cast", "inline"])
def test_predictions_are_the_models_own(name):
    model, _ = built(MANY[name])
    explainer = innvest_lite.Gradient(model).explainer
    predictions = explainer.predictions(explainer.logits([tf.constant(X)]))
    assert tuple(predictions.shape) == tuple(model(X).shape)
    np.testing.assert_allclose(predictions, model(X), rtol=1e-5)


def test_probabilities_that_are_used_further_stay():
    """Only the output's own softmax comes off: what another layer takes is part of the network."""
    x = keras.Input((6,))
    p = layers.Dense(3, activation="softmax", name="p")(x)
    model = keras.Model(x, layers.Dense(2, name="out")(layers.Concatenate()([p, x])))
    tape_x = tf.constant(X)
    with tf.GradientTape() as tape:
        tape.watch(tape_x)
        largest = tf.reduce_max(model(tape_x), axis=1)
    expected = tape.gradient(largest, tape_x)
    np.testing.assert_allclose(innvest_lite.Gradient(model).analyze(X), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("behind", [False, True])
def test_each_of_two_outputs_has_its_own_logits(behind):
    """One output moves probabilities, another computes with them, before or behind that; in NumPy."""
    x = keras.Input((6,))
    p = layers.Dense(3, activation="softmax", name="p")(x)
    moved = layers.Flatten(name="moved")(p)
    model = keras.Model(x, [moved, layers.Dense(2, name="more")(moved if behind else p)])
    logits = X @ model.get_layer("p").get_weights()[0]
    powers = np.exp(logits)
    more = powers / powers.sum(1, keepdims=True) @ model.get_layer("more").get_weights()[0]
    for name, expected in (("moved", logits), ("more", more)):
        found = innvest_lite.Gradient(model, output=name).explainer.logits([tf.constant(X)])
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_a_user_function_called_softmax_stays():
    def softmax(x):
        return 2 * x

    x = keras.Input((6,))
    model = keras.Model(x, layers.Dense(3, activation=softmax)(x))
    assert not innvest_lite.Gradient(model).explainer.head


def mixture(x):
    return layers.Average()([layers.Dense(3, activation="softmax")(x), layers.Dense(3, activation="softmax")(x)])


SQUASHED = {
    "mean of probabilities": mixture,
    "tanh": lambda x: layers.Dense(3, activation="tanh")(x),
    "scaled sigmoid": lambda x: layers.Rescaling(2.0)(layers.Dense(1, activation="sigmoid")(x)),
    "softmax twice": lambda x: layers.Softmax()(layers.Dense(3, activation="softmax")(x)),
    "sigmoid, then softmax": lambda x: layers.Softmax()(layers.Dense(3, activation="sigmoid")(x)),
    "log softmax": lambda x: layers.Dense(3, activation="log_softmax")(x),
    "log softmax, an operation": lambda x: ops.log_softmax(layers.Dense(3)(x)),
    "one of two": lambda x: layers.Dense(3, activation="softmax")(x)[:, :2],
    "sigmoid, written out": lambda x: 1 / (1 + ops.exp(-layers.Dense(1)(x))),
    "sparsemax": lambda x: layers.Dense(3, activation="sparsemax")(x),
    "shares": lambda x: shares(layers.Dense(3, activation="softplus")(x)),
    "a direction": lambda x: layers.UnitNormalization()(layers.Dense(3)(x)),
    "logarithm of a sigmoid": lambda x: layers.Dense(1, activation="log_sigmoid")(x),
}


def shares(values):
    return values / ops.sum(values, axis=-1, keepdims=True)


def largest_is_0(z):
    return z - ops.max(z, axis=-1, keepdims=True)


@pytest.mark.parametrize("name", SQUASHED)
def test_what_is_squashed_and_stays_is_said_once(name, caplog):
    x = keras.Input((6,))
    model = keras.Model(x, SQUASHED[name](x))
    with caplog.at_level(logging.WARNING, "innvest_lite"):
        analyzer = innvest_lite.Gradient(model)
        analyzer.analyze(X)
        analyzer.analyze(X)
    assert len(caplog.records) == 1 and "not logits" in caplog.records[0].message


WRITTEN = {
    "plain": lambda z: shares(ops.exp(z)),
    "of the largest": lambda z: shares(ops.exp(largest_is_0(z))),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_a_softmax_that_is_written_out_comes_off(name, caplog):
    """What is explained are the logits, as of Keras's own."""
    x = keras.Input((6,))
    z = layers.Dense(3, name="z")(x)
    written, own = keras.Model(x, WRITTEN[name](z)), keras.Model(x, layers.Softmax()(z))
    np.testing.assert_allclose(written(X), own(X), rtol=1e-5)
    for method in ("gradient", "lrp.z"):
        found, expected = (innvest_lite.create_analyzer(method, model).analyze(X) for model in (written, own))
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert not caplog.records


def test_what_is_no_softmax_stays():
    """Of another axis than the sum's, of other powers, of a shift that differs."""
    x = keras.Input((4, 3))
    power = ops.exp(x)
    tails = [
        power / ops.sum(power, axis=0, keepdims=True),
        power / ops.sum(ops.exp(2 * x), axis=-1, keepdims=True),
        power / ops.max(power, axis=-1, keepdims=True),
        ops.sum(power, axis=-1, keepdims=True) / power,
    ]
    for tail in tails:
        model = keras.Model(x, tail)
        assert not any(node.kind == "Softmax" for node in trace(model).nodes)
    shifted = ops.exp(x - ops.max(x, axis=1, keepdims=True))
    node = trace(keras.Model(x, shifted / ops.sum(shifted, axis=-1, keepdims=True))).nodes[-1]
    assert node.kind == "Softmax" and node.inputs[0].node.startswith("subtract")


def test_of_two_softmaxes_one_comes_off():
    x = keras.Input((6,))
    model = keras.Model(x, SQUASHED["softmax twice"](x))
    explainer = innvest_lite.Gradient(model).explainer
    np.testing.assert_allclose(explainer.predictions(explainer.logits([tf.constant(X)])), model(X), rtol=1e-5)


@pytest.mark.parametrize("tail", [lambda z: z - ops.mean(z), lambda z: ops.tanh(z) * z, lambda z: layers.Dot(1)([z, z])])
def test_nothing_is_said_of_what_only_combines_logits(tail, caplog):
    x = keras.Input((6,))
    innvest_lite.Gradient(keras.Model(x, tail(layers.Dense(3)(x))))
    assert not caplog.records


@pytest.mark.parametrize("activation", [None, "relu", "softplus", "softmax", "sigmoid"])
def test_nothing_is_said_of_logits(activation, caplog):
    x = keras.Input((6,))
    innvest_lite.Gradient(keras.Model(x, layers.Dense(3, activation=activation)(layers.Dense(4, activation="tanh")(x))))
    assert not caplog.records


@pytest.mark.parametrize(
    "head, message",
    [
        (lambda z: ops.argmax(z, axis=-1), "explain a model that ends before it, such as before an argmax"),
        (lambda z: ops.sum(z), "one number for all"),
    ],
)
def test_outputs_without_a_gradient_or_samples_are_refused(head, message):
    x = keras.Input((6,))
    with pytest.raises(innvest_lite.InvalidInputError, match=message):
        innvest_lite.Gradient(keras.Model(x, head(layers.Dense(3)(x))))


@pytest.mark.parametrize("kind", ["dense", "separable"])
def test_class_0_of_one_unit_is_class_1_of_the_network_that_puts_out_minus_z(kind, eager):
    """Also where the last layer's own forward pass does not go by its effective kernel: z of class 0 had the wrong sign."""

    def network():
        x = keras.Input((6, 6, 3))
        value = layers.Conv2D(5, 3, activation="relu", name="hidden")(x)
        if kind == "dense":
            value = layers.Dense(1, name="last")(layers.Flatten()(value))
            value = layers.BatchNormalization(name="normalized")(value)
        else:
            value = layers.GlobalAveragePooling2D()(layers.SeparableConv2D(1, 3, name="last")(value))
        return keras.Model(x, layers.Activation("sigmoid")(value))

    model, twin = models.randomize(network(), seed=5), network()
    twin.set_weights(model.get_weights())
    last = twin.get_layer("normalized" if kind == "dense" else "last")
    for weight in (last.gamma, last.beta) if kind == "dense" else (last.pointwise_kernel, last.bias):
        weight.assign(-weight)
    x = models.normal(6, 6, 6, 3, seed=6)
    np.testing.assert_allclose(model.predict(x, verbose=0), 1 - twin.predict(x, verbose=0), rtol=1e-3, atol=1e-5)
    one, other = (innvest_lite.create_analyzer("lrp.alpha_1_beta_0", each) for each in (model, twin))
    for target, turned in ((0, 1), (1, 0)):
        assert_close(one.analyze(x, target), other.analyze(x, turned))
