"""Class activation maps against the papers' formulas on a tape, and where they are taken by default."""

import functools

import keras
import models
import numpy as np
import pytest
import tensorflow as tf
from cam_replicas import expected_heat, features_and_gradient, slow_map
from comparing import assert_close, offenders
from keras import layers
from loop_replicas import assert_saved

import innvest_lite
from innvest_lite import GradCAM, GradCAMPlusPlus, LayerCAM

BOTH = [GradCAM, GradCAMPlusPlus, LayerCAM]
TARGETS = [2, [0, 1, 2, 0, 2, 1], "all", np.random.default_rng(5).normal(size=(6, 3)).astype("float32")]


# The formulas --------------------------------------------------------------------------------------------------------

PLACES = [
    ("conv_bn", "relu2"),
    ("conv_bn", "conv1"),
    ("conv_bn", "pool"),
    ("conv_bn", "bn1"),
    ("residual", "stem"),
    ("residual", "mean"),
    ("separable", "separable"),
    ("gate", "gated"),
    ("conv1d", "leaky"),
    ("opaque", "attention"),
    ("conv3d", "conv"),
    ("conv3d", "pool"),
    ("sequential", "conv"),
]


@pytest.mark.parametrize("method", BOTH)
def test_against_the_papers(method):
    def is_the_papers(name, layer):
        case = models.case(name)
        heat = method(case.model, layer)(case.x)
        expected = expected_heat(method, case.logits, layer, case.x)
        # Values of a leaky ReLU may all speak against the class.
        assert (np.any(expected) or (method is LayerCAM and layer == "leaky")) and heat.dtype == "float32"
        assert_close(heat, expected, 2e-5)

    assert offenders(is_the_papers, PLACES) == {}


@pytest.mark.parametrize("method", BOTH)
def test_targets(method):
    case = models.case("conv_bn")
    analyzer = method(case.model, "relu1")

    def explains_the_target(target):
        expected = expected_heat(method, case.logits, "relu1", case.x, target)
        assert_close(analyzer.analyze(case.x, target, batch_size=4), expected, 2e-5)

    assert offenders(explains_the_target, TARGETS) == {}


def test_with_global_pooling_grad_cam_is_the_class_activation_map():
    """Zhou et al. 2016: the kernel of the class weights the feature maps, here each by one over the positions."""
    model, x = globally_pooled(), models.normal(4, 8, 6, 2)
    features = keras.Model(model.inputs[0], model.get_layer("last").output)(x).numpy()
    expected = np.maximum(features @ model.get_layer("out").kernel.numpy()[:, 1], 0) / (
        features.shape[1] * features.shape[2]
    )
    heat = np.asarray(GradCAM(model)(x, target=1))
    assert_close(heat.sum(-1), keras.ops.image.resize(expected[..., None], (8, 6)).numpy()[..., 0])


def globally_pooled():
    x = keras.Input((8, 6, 2), name="x")
    value = layers.Conv2D(5, 3, activation="relu", name="last")(layers.Conv2D(4, 2, activation="relu", name="first")(x))
    return models.randomize(keras.Model(x, layers.Dense(3, name="out")(layers.GlobalAveragePooling2D()(value))), seed=3)


def test_the_weights_of_grad_cam_plus_plus_come_from_real_derivatives():
    """The second and third derivatives of exp(S) by tapes, at single places, where S is piecewise linear."""
    model, x = globally_pooled(), models.normal(1, 8, 6, 2)
    features, gradient, score = features_and_gradient(model, "last", x, 1)
    place = (0, 2, 1, 3)
    start = tf.constant(features, tf.float64)
    kernel, bias = (tf.cast(each, tf.float64) for each in model.get_layer("out").weights)
    at = tf.Variable(start[place])
    with tf.GradientTape() as third, tf.GradientTape() as second, tf.GradientTape() as first:
        moved = tf.tensor_scatter_nd_update(start, [place], [at])
        value = tf.exp((tf.reduce_mean(moved, axis=(1, 2)) @ kernel + bias)[0, 1])
        one = first.gradient(value, at)
        two = second.gradient(one, at)
    three = third.gradient(two, at)
    y, g = np.exp(score[0]), gradient[place]
    np.testing.assert_allclose([one, two, three], [y * g, y * g**2, y * g**3], rtol=1e-4)


# Over the input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", BOTH)
@pytest.mark.parametrize("layer", ["relu1", "pool", "relu2"])
def test_interpolation_is_bilinear_as_keras_resizes(method, layer):
    case = models.case("conv_bn")
    heat = method(case.model, layer)(case.x).numpy()
    small = slow_map(method, case.logits, layer, case.x)
    resized = keras.ops.image.resize(small[..., None].astype("float32"), case.x.shape[1:3], interpolation="bilinear")
    assert_close(heat.sum(-1), resized.numpy()[..., 0], 2e-5)
    np.testing.assert_allclose(heat[..., 0], heat[..., 1], rtol=1e-6)


def test_a_map_that_is_larger_than_the_input():
    case = models.case("shapes")
    heat = GradCAM(case.model, "conv")(case.x).numpy()
    small = slow_map(GradCAM, case.logits, "conv", case.x)
    assert small.shape[1:] == (8, 6) and case.x.shape[1:3] == (4, 3)
    resized = keras.ops.image.resize(small[..., None].astype("float32"), (4, 3), antialias=False)
    assert_close(heat.sum(-1), resized.numpy()[..., 0], 2e-5)


@pytest.mark.slow
@pytest.mark.parametrize("method, layer", [(GradCAM, "pool"), (GradCAM, None), (GradCAMPlusPlus, None)])
def test_the_channels_first(method, layer):
    """Compiled, for only so TensorFlow runs such convolutions on CPU."""
    made = {}
    for order, shape in (("channels_first", (2, 8, 7)), ("channels_last", (8, 7, 2))):
        x = keras.Input(shape, name="x")
        value = layers.Conv2D(4, 3, activation="relu", data_format=order, name="conv")(x)
        value = layers.AveragePooling2D(2, data_format=order, name="pool")(value)
        value = layers.Conv2D(5, 2, activation="relu", data_format=order, name="last")(value)
        value = layers.GlobalMaxPooling2D(data_format=order)(value)
        made[order] = models.randomize(keras.Model(x, layers.Dense(3, name="out")(value)), seed=2)
    x = models.normal(4, 8, 7, 2)
    heat = method(made["channels_first"], layer).analyze(np.moveaxis(x, -1, 1))
    assert_close(np.moveaxis(heat, 1, -1), expected_heat(method, made["channels_last"], layer or "last", x), 2e-5)


def test_images_of_any_size():
    x = keras.Input((None, None, 2), name="x")
    value = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3, 2, activation="relu", name="conv")(x))
    model = models.randomize(keras.Model(x, layers.Dense(3, name="out")(value)), seed=2)
    analyzer = GradCAM(model)
    for shape in ((9, 7, 2), (12, 15, 2)):
        x = models.normal(3, *shape)
        assert_close(analyzer.analyze(x), expected_heat(GradCAM, model, "conv", x), 2e-5)


def test_what_is_kept_is_the_gradient(eager):
    case = models.case("conv_bn")
    heat, kept = GradCAM(case.model).analyze(case.x, keep=["pool"])
    assert_close(kept["pool"], features_and_gradient(case.logits, "pool", case.x)[1])
    np.testing.assert_array_equal(heat, GradCAM(case.model).analyze(case.x))


def flattened(data_format):
    x = keras.Input((6, 8, 3))
    value = layers.Flatten(data_format=data_format)(layers.Conv2D(4, 3, name="conv")(x))
    return keras.Model(x, layers.Dense(2)(value))


@pytest.mark.parametrize("method", [GradCAM, functools.partial(innvest_lite.Occlusion, window=3)])
def test_flatten_says_nothing_of_where_channels_lie(method):
    """Nor for what else draws over positions."""
    one, two = models.randomize(flattened("channels_last"), seed=3), flattened("channels_first")
    # The same computation: its Flatten moves the channels first, so the kernel's rows are reordered.
    conv, bias, kernel, last = one.get_weights()
    two.set_weights([conv, bias, kernel.reshape(4, 6, 4, 2).transpose(1, 2, 0, 3).reshape(96, 2), last])
    x = models.normal(2, 6, 8, 3)
    np.testing.assert_allclose(method(two)(x), method(one)(x), atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("method", BOTH)
def test_files_and_batches(method, tmp_path):
    case = models.case("conv_bn")
    analyzer = method(case.model, layer="pool")
    assert_saved(analyzer, case.x, tmp_path)
    heat = analyzer.analyze(case.x, batch_size=1)
    assert_close(heat, analyzer.analyze(case.x, batch_size=4))
    assert analyzer.analyze(case.x[:0]).shape == (0, 8, 7, 2)


def test_planted_errors():
    """A kernel off by a thousandth, and Grad-CAM for Grad-CAM++, are caught."""
    case, model = models.case("conv_bn"), models.build("conv_bn")
    model.get_layer("out").kernel.assign(model.get_layer("out").kernel * 1.001)
    expected = expected_heat(GradCAM, case.logits, "relu1", case.x, 1)
    for wrong in (GradCAM(model, "relu1"), GradCAMPlusPlus(case.model, "relu1"), GradCAM(case.model, "conv1")):
        with pytest.raises(AssertionError, match="differs by"):
            assert_close(wrong(case.x, target=1), expected, 2e-5)
    assert isinstance(wrong, innvest_lite.Analyzer)
