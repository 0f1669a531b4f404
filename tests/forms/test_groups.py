"""Convolutions with groups, which on a CPU are computed group by group: against plain ones side by side."""

import keras
import models
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import innvest_lite
from innvest_lite import backend
from innvest_lite.forms import convolutions

CASES = {
    "Conv2D": (layers.Conv2D, {"kernel_size": 3, "padding": "same"}, (5, 6, 4)),
    "Conv2D, strides and dilation": (layers.Conv2D, {"kernel_size": 2, "strides": 2}, (6, 5, 4)),
    "Conv2D, dilated": (layers.Conv2D, {"kernel_size": 2, "dilation_rate": 2}, (6, 5, 4)),
    "Conv1D, causal": (layers.Conv1D, {"kernel_size": 3, "padding": "causal"}, (7, 4)),
    "Conv3D": (layers.Conv3D, {"kernel_size": 2}, (3, 4, 3, 4)),
    "Conv2D, 1x1 with strides": (layers.Conv2D, {"kernel_size": 1, "strides": 2}, (5, 5, 4)),
    # TensorFlow's depthwise convolution, which does the same for one channel a group, wants one stride for both.
    "Conv2D, a channel each": (layers.Conv2D, {"kernel_size": 2, "strides": (1, 2), "groups": 4}, (5, 6, 4)),
}


_QUICK = ("Conv2D", "Conv1D, causal", "Conv2D, 1x1 with strides", "Conv2D, a channel each")


def grouped_and_side_by_side(kind, options, shape):
    """A network, and the same of two or four convolutions of three units that see their part of the channels each."""
    groups, options = options.get("groups", 2), {name: value for name, value in options.items() if name != "groups"}
    x, size = keras.Input(shape, name="x"), shape[-1] // groups
    whole = kind(3 * groups, groups=groups, activation="relu", name="grouped", **options)
    model = models.randomize(keras.Model(x, layers.Dense(3, name="out")(layers.Flatten()(whole(x)))), seed=31)
    parts = [kind(3, activation="relu", **options) for _ in range(groups)]
    seen = [part(x[..., size * number : size * (number + 1)]) for number, part in enumerate(parts)]
    twin = keras.Model(x, layers.Dense(3, name="out")(layers.Flatten()(layers.Concatenate()(seen))))
    for number, part in enumerate(parts):
        part.set_weights([weight[..., 3 * number : 3 * number + 3] for weight in whole.get_weights()])
    twin.get_layer("out").set_weights(model.get_layer("out").get_weights())
    return model, twin


@pytest.mark.parametrize("case", [name if name in _QUICK else pytest.param(name, marks=pytest.mark.slow) for name in CASES])
def test_groups_are_plain_convolutions_side_by_side(case):
    """Logits, gradients and the products of a fit, whose patterns are those of the two halves."""
    kind, options, shape = CASES[case]
    model, twin = grouped_and_side_by_side(kind, options, shape)
    x = models.normal(12, *shape, seed=32)

    @tf.function
    def gradient(batch):
        with tf.GradientTape() as tape:
            tape.watch(batch)
            logits = twin(batch)
            chosen = logits[:, 1]
        return logits, tape.gradient(chosen, batch)

    logits, expected = gradient(tf.constant(x))
    analyzer = innvest_lite.Gradient(model)
    np.testing.assert_allclose(analyzer.explainer.logits([x]), logits, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(analyzer.analyze(x, 1), expected, rtol=1e-5, atol=1e-6)
    found = innvest_lite.fit_patterns(model, x, "linear", batch_size=5, verbose=0)["grouped"]
    halves = innvest_lite.fit_patterns(twin, x, "linear", batch_size=5, verbose=0)
    halves = [pattern for name, pattern in halves.items() if pattern.shape == (*found.shape[:-1], 3)]
    np.testing.assert_allclose(found, np.concatenate(halves, axis=-1), rtol=1e-4, atol=1e-4)


def test_where_tensorflow_has_groups_a_strided_1x1_kernel_is_no_matrix(monkeypatch):
    """Of accelerators: the product of all channels with a kernel of half as many would be none."""
    monkeypatch.setattr(backend, "has_accelerator", lambda: True)
    monkeypatch.setattr(convolutions, "native_convolution", lambda layer, x, kernel: "native")
    layer = layers.Conv2D(6, 1, groups=2, strides=2)
    layer.build((None, 5, 5, 4))
    assert convolutions.convolve(layer, tf.zeros((2, 5, 5, 4)), layer.kernel) == "native"
