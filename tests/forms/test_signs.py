"""What may be negative is never said not to be: by values at random inputs, and by z+ worked out in float64.

A value that is wrongly said never to be negative loses what its negative numbers say, in gamma, alpha-beta and z+.
"""

import keras
import models
import numpy as np
from keras import layers, ops

from innvest_lite import LRP
from innvest_lite.forms import forms_of
from innvest_lite.forms.signs import nonnegative_values
from innvest_lite.graph import trace


class Padded(layers.Layer):
    """What it adds stands in no argument."""

    def call(self, x):
        return ops.pad(x, ((0, 0), (1, 1)), constant_values=-1.0)


# Of two values that may be negative, and the same rectified.
MAY_BE_NEGATIVE = {
    "Subtract": lambda a, b, up_a, up_b: layers.Subtract()([up_a, up_b]),
    "minus": lambda a, b, up_a, up_b: up_a - up_b,
    "negation": lambda a, b, up_a, up_b: -up_a,
    "tanh": lambda a, b, up_a, up_b: ops.tanh(a),
    "a sum with one that may": lambda a, b, up_a, up_b: layers.Add()([up_a, b]),
    "a maximum of what may": lambda a, b, up_a, up_b: layers.Maximum()([a, b]),
    "a product with one that may": lambda a, b, up_a, up_b: layers.Multiply()([up_a, b]),
    "padding with a negative number": lambda a, b, up_a, up_b: ops.pad(up_a, ((0, 0), (1, 1)), constant_values=-1.0),
    "padding of one's own": lambda a, b, up_a, up_b: Padded()(up_a),
    "a choice of a negative number": lambda a, b, up_a, up_b: ops.where(up_a > 0.5, up_a, -1.0),
    "a minimum that begins below 0": lambda a, b, up_a, up_b: ops.min(up_a, axis=1, initial=-1.0),
    "a negative scale": lambda a, b, up_a, up_b: layers.Rescaling(-2.0)(up_a),
    "an offset": lambda a, b, up_a, up_b: layers.Rescaling(1.0, -0.5)(up_a),
    "a leaky rectifier": lambda a, b, up_a, up_b: layers.ReLU(negative_slope=0.1)(a),
}
NEVER_NEGATIVE = {
    "Add": lambda a, b, up_a, up_b: layers.Add()([up_a, up_b]),
    "plus": lambda a, b, up_a, up_b: up_a + up_b,
    "Average": lambda a, b, up_a, up_b: layers.Average()([up_a, up_b]),
    "Multiply": lambda a, b, up_a, up_b: layers.Multiply()([up_a, up_b]),
    "Concatenate": lambda a, b, up_a, up_b: layers.Concatenate()([up_a, up_b]),
    "a maximum": lambda a, b, up_a, up_b: layers.Maximum()([up_a, up_b]),
    "sigmoid": lambda a, b, up_a, up_b: ops.sigmoid(a),
    "softplus": lambda a, b, up_a, up_b: layers.Activation("softplus")(a),
}


def known_and_least(build):
    """Whether the output of a model is said never to be negative, and its least value at a thousand random inputs."""
    a, b = keras.Input((4,)), keras.Input((4,))
    model = keras.Model([a, b], build(a, b, layers.ReLU()(a), layers.ReLU()(b)))
    graph = trace(model)
    samples = np.random.default_rng(2).normal(size=(2, 1000, 4)).astype("float32")
    known = graph.outputs[0] in nonnegative_values(graph, forms_of(graph))
    return known, float(np.min(model([*samples])))


def test_what_is_negative_somewhere_is_not_said_never_to_be():
    found = {name: known_and_least(build) for name, build in MAY_BE_NEGATIVE.items()}
    assert {name: least for name, (_, least) in found.items() if least >= 0} == {}, "these cases show nothing"
    assert [name for name, (known, _) in found.items() if known] == []


def test_what_is_never_negative_is_known():
    """So that half of the work is saved there."""
    found = {name: known_and_least(build) for name, build in NEVER_NEGATIVE.items()}
    assert [name for name, (known, least) in found.items() if not known or least < 0] == []


def test_z_plus_behind_a_difference_is_worked_out():
    """R_i = sum_j c_ij+ / z_j+ R_j, where c_ij+ has negative inputs times negative weights too."""
    a, b = keras.Input((4,)), keras.Input((4,))
    value = layers.Dense(3, use_bias=False, name="out")(layers.Subtract(name="minus")([layers.ReLU()(a), layers.ReLU()(b)]))
    model = models.randomize(keras.Model([a, b], value), seed=4)
    one, two = models.normal(5, 4, seed=1), models.normal(5, 4, seed=2)
    _, kept = LRP(model, "z_plus").analyze([one, two], target=1, keep="minus")
    kernel = np.asarray(model.get_layer("out").kernel, "float64")[:, 1]
    taken = np.maximum(one, 0).astype("float64") - np.maximum(two, 0)
    shares = np.maximum(taken * kernel, 0)
    expected = shares / shares.sum(1, keepdims=True) * (taken @ kernel)[:, None]
    assert np.any((taken < 0) & (shares > 0)), "the case shows nothing"
    np.testing.assert_allclose(kept["minus"], expected, rtol=1e-5, atol=1e-6)
