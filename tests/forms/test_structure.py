"""Products, quotients, enlarged images: which input of a product is the gate, what is linear, what is a copy.

Gates get no relevance, so that a gate taken for a signal, or a signal for a gate, sends relevance astray.
"""

import keras
import models
import numpy as np
import pytest
from keras import layers, ops

from innvest_lite import LRP, Gradient, InvalidInputError, PatternAttribution, UnsupportedLayerError
from innvest_lite.forms import forms_of
from innvest_lite.graph import passes, trace

SQUASHING = ("sigmoid", "hard_sigmoid", "tanh", "softmax")


def last_form(model):
    graph = passes.rewrite(trace(model))
    return forms_of(graph)[graph.outputs[0].node]


def test_what_an_activation_squashes_is_a_gate():
    """Whichever way round the two are multiplied, inline or as a layer."""
    wrong = []
    for name in SQUASHING:
        for inline in (True, False):
            for first in (0, 1):
                x = keras.Input((4,))
                signal = layers.Dense(4)(x)
                gate = layers.Dense(4, activation=name)(x) if inline else layers.Activation(name)(layers.Dense(4)(x))
                pair = [signal, gate] if first == 0 else [gate, signal]
                form = last_form(keras.Model(x, layers.Multiply()(pair)))
                if form.kind != "product" or form.signal != first:
                    wrong.append((name, inline, first, form.kind, getattr(form, "signal", None)))
    assert wrong == []


def test_what_is_computed_from_the_signal_is_a_gate():
    """As in a squeeze-and-excitation block of one position; nothing is told of two branches of one value."""
    found = []
    for first in (0, 1):
        x = keras.Input((4,))
        signal = layers.Dense(4)(x)
        gate = layers.Dense(4)(layers.Dense(2, activation="relu")(signal))
        found.append(last_form(keras.Model(x, layers.Multiply()([signal, gate] if first == 0 else [gate, signal]))).signal)
    x = keras.Input((4,))
    found.append(last_form(keras.Model(x, layers.Multiply()([layers.Dense(4)(x), layers.Dense(4)(x)]))).signal)
    assert found == [0, 1, None]


def test_relevance_of_a_product_with_a_tanh_goes_to_the_signal():
    """As in a gated linear unit: LRP-0 without biases, worked out in float64 through the signal's layer alone."""
    x = keras.Input((4,), name="x")
    signal = layers.Dense(3, use_bias=False, name="signal")(x)
    gate = layers.Dense(3, activation="tanh", use_bias=False, name="gate")(x)
    value = layers.Dense(2, use_bias=False, name="out")(layers.Multiply(name="product")([gate, signal]))
    model, samples = models.randomize(keras.Model(x, value), seed=6), models.normal(5, 4)
    given = samples.astype("float64")
    kernels = {name: np.asarray(model.get_layer(name).kernel, "float64") for name in ("signal", "gate", "out")}
    signals = given @ kernels["signal"]
    arrived = signals * np.tanh(given @ kernels["gate"]) * kernels["out"][:, 1]
    expected = given * ((arrived / signals) @ kernels["signal"].T)
    np.testing.assert_allclose(LRP(model, "zero").analyze(samples, target=1), expected, rtol=1e-4, atol=1e-6)


def test_a_constant_over_x_is_no_linear_map():
    """The quotient x / 3 is one, and so is 3 * x; the derivative of 3 / x says nothing of its value."""
    kinds = {}
    for name, build in {
        "x / 3": lambda x: x / 3.0,
        "3 * x": lambda x: 3.0 * x,
        "3 / x": lambda x: 3.0 / x,
        "divide(3, x)": lambda x: ops.divide(3.0, x),
        "true_divide(3, x)": lambda x: ops.true_divide(3.0, x),
    }.items():
        x = keras.Input((4,))
        kinds[name] = last_form(keras.Model(x, build(x))).kind
    assert kinds == {
        **dict.fromkeys(("x / 3", "3 * x"), "scale"),
        **dict.fromkeys(("3 / x", "divide(3, x)", "true_divide(3, x)"), "opaque"),
    }


def test_pattern_methods_refuse_a_constant_over_x():
    """They would hand on 1 / w of a weight that there is none of."""
    x = keras.Input((4,))
    model = keras.Model(x, layers.Dense(2, name="out")(2.0 / (1.0 + layers.Dense(4, activation="relu")(x))))
    with pytest.raises(UnsupportedLayerError, match="ivide"):
        PatternAttribution(model)


def test_an_enlarged_image_is_a_copy_where_nothing_is_interpolated():
    kinds = {}
    for name in ("nearest", "bilinear", "bicubic"):
        x = keras.Input((3, 3, 1))
        kinds[name] = last_form(keras.Model(x, layers.UpSampling2D(2, interpolation=name)(x))).kind
    assert kinds == {"nearest": "route", "bilinear": "average", "bicubic": "average"}


@pytest.mark.parametrize("what", [lambda x: layers.RandomCrop(4, 4)(x), lambda x: ops.stop_gradient(x)])
def test_what_computes_something_else_than_it_says_is_refused(what):
    """Keras says that RandomCrop crops, and outside of training hands on what came; stop_gradient has the gradient 0."""
    x = keras.Input((6, 6, 2))
    value = layers.GlobalAveragePooling2D()(what(layers.Conv2D(3, 3, padding="same")(x)))
    model = keras.Model(x, layers.Dense(2)(value))
    with pytest.raises(UnsupportedLayerError):
        LRP(model)
    Gradient(model)
    # Where it does nothing, it is a route.
    model = keras.Model(x, layers.Dense(2)(layers.GlobalAveragePooling2D()(layers.RandomCrop(6, 6)(x))))
    LRP(model)


@pytest.mark.parametrize("layout", ["channels_last", "channels_first"])
@pytest.mark.parametrize(("size", "kind"), [(6, "route"), (8, "route"), (9, "average")])
def test_a_crop_moves_unless_it_enlarges(layout, size, kind):
    shape = (8, 10, 2) if layout == "channels_last" else (2, 8, 10)
    x = keras.Input(shape)
    assert last_form(keras.Model(x, layers.CenterCrop(size, 6, data_format=layout)(x))).kind == kind


def test_quotients_have_gates():
    """Relevance goes to what is divided: the sum is the logit, as of the same product with the divisor's values."""
    x, dense = keras.Input((6,)), layers.Dense(3, use_bias=False)
    model = models.randomize(
        keras.Model(x, dense(layers.Dense(5, use_bias=False)(x) / (1 + ops.mean(ops.abs(x), -1, True)))), 1
    )
    samples = models.normal(4, 6)
    logits = model.predict(samples, verbose=0)
    np.testing.assert_allclose(LRP(model, "zero").analyze(samples, target=1).sum(1), logits[:, 1], rtol=1e-4)
    first, second = (layer.kernel.numpy() for layer in model.layers if layer.weights)
    by_hand = samples * (first @ second[:, 1]) / (1 + np.abs(samples).mean(1, keepdims=True))
    np.testing.assert_allclose(LRP(model, "zero").analyze(samples, target=1), by_hand, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "quotient",
    [
        lambda x: ops.sum(x, axis=-1, keepdims=True) / (ops.abs(x) + 1),  # what is broadcast goes to several places
        lambda x: x / x,
        lambda x: ops.ones_like(x) / (ops.abs(x) + 1),  # nothing of the input is divided
    ],
)
def test_other_quotients_are_refused(quotient):
    x = keras.Input((6,))
    with pytest.raises(UnsupportedLayerError, match="Divide|OnesLike"):
        LRP(keras.Model(x, layers.Dense(3)(quotient(x))), "zero")


def test_one_hot_along_another_axis_is_no_table():
    x = keras.Input((5,), dtype="int32")
    assert last_form(keras.Model(x, ops.one_hot(x, 7, axis=-1))).kind == "embedding"
    assert last_form(keras.Model(x, ops.one_hot(x, 7, axis=1))).kind != "embedding"
    table = keras.Model(x, layers.Dense(2)(layers.Flatten()(ops.one_hot(x, 7))))
    with pytest.raises(InvalidInputError, match="tokens 0 to 6"):
        Gradient(table).analyze(np.full((1, 5), 7))
