"""Sums and averages as linear maps: the constant kernel computes what the node computes, and hands back its transpose.

A wrong sign or share there sends PatternNet, PatternAttribution and LRP astray at every skip connection.
"""

import keras
import models
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

from innvest_lite import LRP, Gradient, PatternAttribution, PatternNet, UnsupportedLayerError
from innvest_lite.forms import LinearForm, forms_of
from innvest_lite.graph import trace

# How much of each addend the result has.
SUMS = {
    "plus": (lambda a, b: a + b, (1, 1)),
    "minus": (lambda a, b: a - b, (1, -1)),
    "ops.add": (ops.add, (1, 1)),
    "ops.subtract": (ops.subtract, (1, -1)),
    "Add": (lambda a, b: layers.Add()([a, b]), (1, 1)),
    "Subtract": (lambda a, b: layers.Subtract()([a, b]), (1, -1)),
    "Average": (lambda a, b: layers.Average()([a, b]), (0.5, 0.5)),
}


def test_a_sum_hands_back_what_each_addend_counts():
    rng = np.random.default_rng(1)
    one, two, cotangent = (tf.constant(rng.normal(size=(3, 4)), tf.float32) for _ in range(3))
    wrong = []
    for name, (build, counts) in SUMS.items():
        a, b = keras.Input((4,)), keras.Input((4,))
        graph = trace(keras.Model([a, b], build(a, b)))
        (form,) = forms_of(graph).values()
        value = form.apply((one, two), form.kernel())
        handed_back = form.vjp_inputs((one, two), form.kernel(), cotangent)
        pairs = [(value, counts[0] * one + counts[1] * two), (form.forward(one, two)[0], value)]
        pairs += [(found, count * cotangent) for found, count in zip(handed_back, counts, strict=True)]
        wrong += [name for found, expected in pairs if not np.allclose(found, expected, rtol=1e-6)][:1]
    assert wrong == []


@pytest.mark.parametrize("build", [lambda x: layers.Add()([x, x]), lambda x: x + x, lambda x: x * x], ids=["Add", "+", "*"])
def test_a_value_that_is_taken_twice_gets_two_shares_and_not_four(build):
    x = keras.Input((4,), name="x")
    model = models.randomize(keras.Model(x, layers.Dense(2, use_bias=False)(build(layers.Dense(4)(x)))), seed=2)
    samples = models.normal(3, 4)
    with tf.GradientTape() as tape:
        tensor = tf.constant(samples)
        tape.watch(tensor)
        total = tf.reduce_sum(model(tensor)[:, 1])
    np.testing.assert_allclose(Gradient(model).analyze(samples, target=1), tape.gradient(total, tensor), rtol=1e-5)


def test_a_sum_of_equals_conserves_relevance():
    x = keras.Input((4,), name="x")
    model = models.randomize(keras.Model(x, layers.Dense(2, use_bias=False)(layers.Add()([x, x]))), seed=2)
    samples = models.normal(3, 4)
    heat = LRP(model, "zero").analyze(samples, target=1)
    np.testing.assert_allclose(heat.sum(1), np.asarray(model(samples))[:, 1], rtol=1e-5)


def test_a_masked_average_has_no_constant_kernel():
    """What it divides by depends on the sample, so that 1/n would be a pattern of another map."""
    x = keras.Input((5,), dtype="int32")
    found = {}
    for masks in (True, False):
        value = layers.GlobalAveragePooling1D(name="mean")(layers.Embedding(6, 3, mask_zero=masks)(x))
        model = keras.Model(x, layers.Dense(2)(value))
        found[masks] = isinstance(forms_of(trace(model))["mean"], LinearForm)
        if masks:
            with pytest.raises(UnsupportedLayerError, match="mean"):
                PatternNet(model)
    assert found == {True: False, False: True}


@pytest.mark.parametrize("composite", ["zero", "epsilon_plus"])
def test_a_mask_that_is_handed_to_an_average_hides_from_it(composite):
    """As an argument, where the values themselves carry no mask: by hand, with steps that are hidden left out."""
    x, mask = keras.Input((5, 3)), keras.Input((5,), dtype="bool")
    mean = layers.GlobalAveragePooling1D(name="mean")(x, mask=mask)
    model = models.randomize(keras.Model([x, mask], layers.Dense(2, use_bias=False)(mean)), seed=1)
    samples, seen = models.normal(2, 5, 3), np.arange(5) < np.array([[3], [5]])
    found = LRP(model, composite).analyze([samples, seen], target=1)[0]
    hidden = np.where(seen[..., None], samples, 0)
    mean = hidden.sum(1, keepdims=True) / seen.sum(1)[:, None, None]
    arrived = mean * model.layers[-1].kernel.numpy()[:, 1]
    size = hidden if composite == "zero" else np.abs(hidden)
    np.testing.assert_allclose(found, size / size.sum(1, keepdims=True) * arrived, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("shares", ["sample", "average"])
def test_attribution_by_patterns_shares_a_masked_average_by_what_each_step_contributes(shares):
    """Neither hidden steps nor signs are lost: sign(z) c / sum |c| over the steps that are seen, by hand."""
    x, mask = keras.Input((5, 3)), keras.Input((5,), dtype="bool")
    mean = layers.GlobalAveragePooling1D(name="mean")(x, mask=mask)
    model = models.randomize(keras.Model([x, mask], layers.Dense(2, name="out")(mean)), seed=1)
    samples, seen = models.normal(2, 5, 3), np.arange(5) < np.array([[3], [5]])
    analyzer = PatternAttribution(model, shares=shares, patterns={"out": model.get_layer("out").kernel.numpy()})
    found, inside = analyzer.analyze([samples, seen], target=1, keep=["mean"])
    parts = np.where(seen[..., None], samples, 0).astype("float64")
    sign, sizes = np.sign(parts.sum(1, keepdims=True)), np.abs(parts).sum(1, keepdims=True)
    np.testing.assert_allclose(found[0], sign * parts / sizes * inside["mean"][:, None], rtol=1e-4, atol=1e-6)
    assert np.all(found[0][seen]) and not found[0][~seen].any()


def twins(first, rank):
    """A residual block with the channels first or last; the same weights compute the same of moved images or series."""
    convolution = {1: layers.Conv1D, 2: layers.Conv2D}[rank]
    pool = {1: layers.GlobalAveragePooling1D, 2: layers.GlobalAveragePooling2D}[rank]
    order = {"data_format": "channels_first" if first else "channels_last"}
    sizes = (6, 5)[:rank]
    x = keras.Input((2, *sizes) if first else (*sizes, 2))
    stem = convolution(4, 3, padding="same", activation="relu", **order)(x)
    total = layers.Add(name="total")([stem, convolution(4, 3, padding="same", **order)(stem)])
    return models.randomize(keras.Model(x, layers.Dense(3)(pool(**order)(layers.ReLU()(total)))), seed=3)


@pytest.mark.slow
@pytest.mark.parametrize("rank", [1, 2])
def test_sums_have_patterns_along_the_channels_wherever_these_lie(rank):
    """Whatever Keras's global setting is."""
    x = models.normal(30, *(6, 5)[:rank], 2)
    found = [
        PatternAttribution(twins(first, rank)).fit(samples, verbose=0).analyze(samples)
        for first, samples in ((False, x), (True, np.moveaxis(x, -1, 1)))
    ]
    np.testing.assert_allclose(np.moveaxis(found[1], 1, -1), found[0], rtol=1e-3, atol=1e-4 * np.abs(found[0]).max())


@pytest.mark.parametrize("before", [True, False], ids=["before", "behind"])
@pytest.mark.parametrize("first", [True, False], ids=["first", "last"])
def test_the_nearest_layer_says_where_the_channels_of_a_sum_lie(first, before):
    """A layer before it rather than one behind it, the nearest of several, and only one whose values have as many axes."""
    own, other = ("channels_first", "channels_last") if first else ("channels_last", "channels_first")
    convolution, pool = layers.Conv2D(4, 1, data_format=own), layers.MaxPooling2D(1, data_format=other)
    x = keras.Input((4, 4, 4))
    near = layers.ReLU()(convolution(pool(x)) if before else x)
    total = layers.Add(name="total")([near, layers.ReLU()(near)])
    # Behind a global pooling there are vectors, of which the data format says nothing.
    found = pool(layers.ReLU()(total if before else convolution(total)))
    model = keras.Model(x, layers.Dense(3)(layers.GlobalAveragePooling2D(data_format=other)(found)))
    form = PatternAttribution(model).plan().forms["total"]
    assert form.unit_axes == ((1,) if first else (3,))


def test_a_merge_of_ones_own_is_not_taken_for_keras_own():
    """Keras's sums and products ask `_merge_function`, which is made to be overridden, and looked into where it is."""

    class Difference(layers.Add):
        def _merge_function(self, inputs):
            return inputs[0] - inputs[1]

    class Total(layers.Multiply):
        def _merge_function(self, inputs):
            return inputs[0] + inputs[1]

    for merge, as_keras, right in ((Difference(), np.add, [1, -1]), (Total(), np.multiply, [1, 1])):
        a, b = keras.Input((4,)), keras.Input((4,))
        model = keras.Model([a, b], merge([a, b]))
        given = [models.normal(2, 4, seed=seed) for seed in (1, 2)]
        # The layers do compute something else, and their gradient is known.
        assert not np.allclose(model(given), as_keras(*given))
        shares = LRP(model, "zero").analyze(given, target=0)
        for share, factor, x in zip(shares, right, given, strict=True):
            np.testing.assert_allclose(share[:, 0], factor * x[:, 0], rtol=1e-5)
        assert [float(x[0, 0]) for x in Gradient(model).analyze(given, target=0)] == right
