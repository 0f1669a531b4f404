"""What an operation does is seen by trying it: names, classes and modules do not decide."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from innvest_lite.forms import forms_of
from innvest_lite.forms.structure import activation_name
from innvest_lite.graph import passes, trace
from innvest_lite.graph.behaviour import behaviour_of
from innvest_lite.graph.recognized import is_affine, is_sigmoid, is_softmax

layers, ops = keras.layers, keras.ops


def last_node(function, shape=(6,), dtype="float32"):
    """The last node of a model that is one call, and its form."""
    x = keras.Input(shape, dtype=dtype)
    graph = passes.split_activations(trace(keras.Model(x, function(x))))
    return graph.nodes[-1], forms_of(graph)[graph.nodes[-1].name]


def relu(x):
    """Not what it is called."""
    return ops.where(x > 0, x, 0.5 * x)


def sigmoid(x):
    return 2 * ops.sigmoid(x)


def linear(x):
    return 3 * x


def silu(x):
    """It sees all features at once."""
    return x - ops.mean(x, axis=-1, keepdims=True)


def over_the_batch(x):
    return x - ops.mean(x, axis=0, keepdims=True)


class Standardized(layers.Layer):
    """Preprocessing of one's own."""

    def __init__(self, function, **options):
        super().__init__(**options)
        self.function = function

    def call(self, x):
        return self.function(x)


STANDARDIZED = {
    "pixels": lambda x: (x - 127.5) / 127.5,
    "twice": lambda x: (x / 255 - 0.456) / 0.224,
    "whole numbers": lambda x: (x - 128) / 128,
    "far from 0": lambda x: (x - 1000) / 3,
    "farther": lambda x: x - 3000.0,
    "turned round": lambda x: (116 - x) / 58,
    "each its own": lambda x: (x - np.arange(100.0, 160, 10, "float32")) / np.arange(50.0, 110, 10, "float32"),
}


class Doubled(layers.ReLU):
    def call(self, x):
        return 2 * x


class Shifted(layers.Activation):
    def call(self, x):
        return self.activation(x + 1)


class Slopes(layers.Layer):
    """A slope for each feature."""

    def build(self, shape):
        self.slopes = self.add_weight(shape=shape[-1:], initializer="ones")

    def call(self, x):
        return ops.maximum(x, 0) - self.slopes * ops.maximum(-x, 0)


class Summed(layers.Layer):
    """What it has learned is one of several that would give the same."""

    def build(self, shape):
        self.factor = self.add_weight(shape=(), initializer="ones")

    def call(self, x):
        # Of TensorFlow, so that it cannot be looked into.
        return self.factor * tf.cumsum(x, axis=-1)


# What is called, the kind of its form, and the name of the function of Keras's that it computes.
KINDS = {
    "relu": (lambda x: ops.relu(x), "rectifier", "relu"),
    "relu6": (lambda x: ops.relu6(x), "rectifier", "relu6"),
    "a largest value": (lambda x: layers.ReLU(max_value=3)(x), "rectifier", None),
    "a slope": (lambda x: keras.activations.relu(x, negative_slope=0.3), "activation", "leaky_relu"),
    "a threshold": (lambda x: keras.activations.relu(x, threshold=1.0), "activation", None),
    "a slope in a layer": (lambda x: layers.ReLU(negative_slope=0.3)(x), "activation", "leaky_relu"),
    "Keras's slope": (lambda x: layers.LeakyReLU(0.2)(x), "activation", "leaky_relu"),
    "a function called relu": (lambda x: layers.Activation(relu)(x), "activation", "leaky_relu"),
    "a function called sigmoid": (lambda x: layers.Activation(sigmoid)(x), "activation", None),
    "a function called linear": (lambda x: layers.Activation(linear)(x), "scale", None),
    "linear": (lambda x: layers.Activation("linear")(x), "route", "linear"),
    "TensorFlow's": (lambda x: layers.Activation(tf.nn.relu)(x), "rectifier", "relu"),
    "TensorFlow's sigmoid": (lambda x: layers.Activation(tf.nn.sigmoid)(x), "activation", "sigmoid"),
    "a maximum with 0": (lambda x: ops.maximum(x, 0.0), "rectifier", "relu"),
    "a maximum with 1": (lambda x: ops.maximum(x, 1.0), "activation", None),
    "a subclass of ReLU": (lambda x: Doubled()(x), "scale", None),
    "a subclass of Activation": (lambda x: Shifted("tanh")(x), "activation", None),
    "bent far from 0": (lambda x: layers.Activation(lambda z: ops.clip(z, -8.0, 8.0))(x), "activation", None),
    "glu": (lambda x: layers.Activation("glu")(x), "opaque", None),
    "softmax": (lambda x: layers.Activation("softmax")(x), "softmax", "softmax"),
    "TensorFlow's softmax": (lambda x: layers.Activation(tf.nn.softmax)(x), "softmax", "softmax"),
    "one over": (lambda x: 1.0 / x, "opaque", None),
    "logarithm": (lambda x: ops.log(x), "opaque", None),
    "one more": (lambda x: ops.log1p(x), "activation", None),
    "square root": (lambda x: ops.sqrt(x), "activation", None),
    "steps": (lambda x: ops.round(x), "opaque", None),
    "signs": (lambda x: ops.sign(x), "opaque", None),
    "a constant": (lambda x: 2.0 - x, "scale", None),
    "constants": (lambda x: x * np.arange(6, dtype="float32"), "scale", None),
    "each its slope": (lambda x: Slopes()(x), "activation", None),
    "weights that mix": (lambda x: Summed()(x), "opaque", None),
    "sums so far": (lambda x: ops.cumsum(x, axis=-1), "average", None),
    "turned": (lambda x: ops.roll(x, 2, axis=-1), "route", None),
    "twice": (lambda x: ops.tile(x, (1, 2)), "route", None),
    "padded": (lambda x: ops.pad(x, ((0, 0), (1, 1))), "route", None),
    "padded with nothing": (lambda x: ops.pad(x, ((0, 0), (1, 1)), constant_values=-np.inf), "route", None),
    "padded with ones": (lambda x: ops.pad(x, ((0, 0), (1, 1)), constant_values=1.0), "average", None),
    "a function called silu": (lambda x: layers.Activation(silu)(x), "average", None),
    "over the batch": (lambda x: layers.Activation(over_the_batch)(x), "opaque", None),
    "over the batch, a node of its own": (lambda x: ops.mean(x, axis=0, keepdims=True), "opaque", None),
    "sorted": (lambda x: ops.sort(x, axis=-1), "opaque", None),
    "random": (lambda x: x + keras.random.normal((6,), seed=keras.random.SeedGenerator(1)), "opaque", None),
}


@pytest.mark.parametrize("name", [name for name in KINDS if name != "random"])
def test_kinds(name):
    function, kind, called = KINDS[name]
    node, form = last_node(function)
    assert form.kind == kind
    assert activation_name(node) == called


@pytest.mark.parametrize("name", STANDARDIZED)
@pytest.mark.parametrize("called", [Standardized, layers.Activation])
def test_an_offset_that_rounds_small_numbers_off_leaves_a_scale_a_scale(name, called):
    _, form = last_node(called(STANDARDIZED[name]))
    assert form.kind == "scale"


def test_a_corner_is_seen_in_spite_of_an_offset():
    for function in (lambda x: ops.relu(x) + 100, lambda x: ops.abs(x) - 1000, lambda x: ops.tanh(x) + 3000):
        _, form = last_node(Standardized(function))
        assert form.kind == "activation"


def test_what_is_infinite_or_flat_carries_no_relevance():
    assert {last_node(function)[1].kind for function in (ops.reciprocal, ops.floor, ops.sign, ops.log)} == {"opaque"}


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_other_precisions(dtype):
    cases = [(ops.tanh, "activation"), (ops.relu, "rectifier"), (lambda x: 2 * x + 1, "scale")]
    for function, kind in (*cases, (lambda x: ops.flip(x, -1), "route")):
        assert last_node(function, dtype=dtype)[1].kind == kind


def test_open_sizes():
    assert last_node(lambda x: ops.flip(x, 1), (None, None, 3))[1].kind == "route"
    halved = layers.Resizing(4, 4)
    assert last_node(halved, (None, None, 3))[1].kind == "average"


def test_weights_are_not_seen():
    """A layer whose weights happen to make it the identity, or linear, need not stay so."""
    node, _ = last_node(Slopes())
    seen = behaviour_of(node)
    assert seen.diagonal and not seen.affine and seen.curve is None
    node, _ = last_node(layers.Dense(6, kernel_initializer="identity"))
    assert not behaviour_of(node).is_identity


def test_a_layer_is_left_as_it_was():
    layer, x = Slopes(), keras.Input((6,))
    y = layer(x)
    before = [array.copy() for array in layer.get_weights()]
    forms_of(trace(keras.Model(x, y)))
    assert layer.output is y and len(layer._inbound_nodes) == 1
    np.testing.assert_array_equal(layer.get_weights(), before)


SOFTMAXES = {
    "string": lambda x: layers.Activation("softmax")(x),
    "layer": lambda x: layers.Softmax()(x),
    "operation": lambda x: ops.softmax(x),
    "function": lambda x: layers.Activation(ops.softmax)(x),
    "TensorFlow": lambda x: layers.Activation(tf.nn.softmax)(x),
    "by hand": lambda x: layers.Activation(lambda z: ops.exp(z) / ops.sum(ops.exp(z), -1, keepdims=True))(x),
    "inline": lambda x: layers.Dense(4, activation=tf.nn.softmax)(x),
}


def test_softmax_however_it_is_written():
    assert [name for name, function in SOFTMAXES.items() if not is_softmax(last_node(function)[0])] == []
    others = (ops.log_softmax, lambda x: ops.normalize(ops.abs(x), order=1), ops.sigmoid, layers.Activation("sparsemax"))
    assert not any(is_softmax(last_node(function)[0]) for function in others)


def test_sigmoid_however_it_is_written():
    ways = (
        layers.Activation("sigmoid"),
        layers.Activation(tf.nn.sigmoid),
        ops.sigmoid,
        layers.Activation(lambda x: 1 / (1 + ops.exp(-x))),
        layers.Dense(1, activation=keras.ops.sigmoid),
    )
    assert all(is_sigmoid(last_node(way)[0]) for way in ways)
    assert not any(is_sigmoid(last_node(way)[0]) for way in (ops.hard_sigmoid, ops.tanh, layers.Activation(sigmoid)))


def test_affine_whatever_weights_it_has():
    assert is_affine(last_node(Summed())[0]) and is_affine(last_node(layers.Dense(3))[0])
    bent = Slopes()
    node, _ = last_node(bent)
    bent.set_weights([np.full(6, 0.5)])
    assert not is_affine(node)
    one, two = keras.Input((4,)), keras.Input((4,))
    graph = trace(keras.Model([one, two], layers.Dot(axes=1)([one, two])))
    assert not is_affine(next(node for node in graph.nodes if node.kind == "Matmul"))
