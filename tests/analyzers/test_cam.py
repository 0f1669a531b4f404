"""Class activation maps against the papers' formulas on a tape, and where they are taken by default."""

import functools

import keras
import loop_replicas
import models
import numpy as np
import pytest
import tensorflow as tf
from comparing import assert_close, offenders, refusals
from keras import layers
from loop_replicas import assert_saved

import innvest_lite
from innvest_lite import GradCAM, GradCAMPlusPlus, InvalidInputError, UnsupportedLayerError

BOTH = [GradCAM, GradCAMPlusPlus]
TARGETS = [2, [0, 1, 2, 0, 2, 1], "all", np.random.default_rng(5).normal(size=(6, 3)).astype("float32")]


def features_and_gradient(logits, layer, x, target=None):
    """The layer's output and the gradient of the explained logit in it, both float64."""
    twin = keras.Model(logits.inputs[0], [logits.get_layer(layer).output, logits.outputs[0]])
    with tf.GradientTape() as tape:
        features, values = twin(tf.constant(x))
        weights = loop_replicas.weights_for(values.numpy(), target)
        total = tf.reduce_sum(values * tf.constant(weights, tf.float32))
    score = (values.numpy().astype("float64") * weights).sum(1)
    return features.numpy().astype("float64"), tape.gradient(total, features).numpy().astype("float64"), score


def channel_weights(method, features, gradient, score):
    """One number per sample and channel: Selvaraju et al., equation 1; Chattopadhay et al., equations 10 and 19."""
    rows = [array.reshape(len(features), -1, features.shape[-1]) for array in (features, gradient)]
    found = np.zeros((len(features), features.shape[-1]))
    for sample in range(len(features)):
        for channel in range(features.shape[-1]):
            a, g = (each[sample, :, channel] for each in rows)
            if method is GradCAM:
                found[sample, channel] = g.mean()
                continue
            # The score is exp(S), of which the network is piecewise linear: its derivatives are exp(S) times powers of g.
            y = np.exp(score[sample])
            first, second, third = y * g, y * g**2, y * g**3
            for k in range(len(g)):
                if g[k] != 0:
                    alpha = second[k] / (2 * second[k] + a.sum() * third[k])
                    found[sample, channel] += alpha * max(first[k], 0) / y
    return found


def slow_map(method, logits, layer, x, target=None):
    """The map at the layer's own size."""
    features, gradient, score = features_and_gradient(logits, layer, x, target)
    weights = channel_weights(method, features, gradient, score)
    weights = weights.reshape(len(x), *[1] * (features.ndim - 2), -1)
    return np.maximum((weights * features).sum(-1), 0)


def enlarged(heat, sizes):
    """Linear interpolation between the middles of positions, one axis after the other."""
    for axis, size in enumerate(sizes, start=1):
        count = heat.shape[axis]
        places = (np.arange(size) + 0.5) * count / size - 0.5
        along = np.moveaxis(heat, axis, -1)
        rows = [np.interp(places, np.arange(count), row) for row in along.reshape(-1, count)]
        heat = np.moveaxis(np.reshape(rows, (*along.shape[:-1], size)), -1, axis)
    return heat


def expected_heat(method, logits, layer, x, target=None):
    heat = enlarged(slow_map(method, logits, layer, x, target), x.shape[1:-1])
    return np.repeat(heat[..., None] / x.shape[-1], x.shape[-1], axis=-1)


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
        assert np.any(expected) and heat.dtype == "float32"
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


# Where ---------------------------------------------------------------------------------------------------------------


def vgg():
    stack = [keras.Input((12, 12, 3))]
    for block, filters in enumerate((4, 6), start=1):
        for number in (1, 2):
            name = f"block{block}_conv{number}"
            stack.append(layers.Conv2D(filters, 3, padding="same", activation="relu", name=name))
        stack.append(layers.MaxPooling2D(name=f"block{block}_pool"))
    stack += [layers.Flatten(), layers.Dense(8, activation="relu"), layers.Dense(3, activation="softmax")]
    return keras.Sequential(stack)


def pre_activated():
    """As ResNet50V2 ends: the sum of the last block, normalized and rectified."""
    x = keras.Input((8, 8, 2))
    stem = layers.Conv2D(4, 3, padding="same", name="stem")(x)
    value = layers.ReLU(name="relu1")(layers.BatchNormalization(name="bn1")(stem))
    value = layers.Add(name="add")([layers.Conv2D(4, 3, padding="same", name="branch")(value), stem])
    value = layers.ReLU(name="post_relu")(layers.BatchNormalization(name="post_bn")(value))
    return keras.Model(x, layers.Dense(3)(layers.GlobalAveragePooling2D(name="gap")(value)))


def mobile_v3(data_format="channels_last"):
    """As MobileNetV3 ends: global pooling that keeps the axes, and convolutions of one position as the head."""
    x = keras.Input((8, 8, 2) if data_format == "channels_last" else (2, 8, 8))
    lies, axis = {"data_format": data_format}, -1 if data_format == "channels_last" else 1
    value = layers.ReLU(name="last_relu")(layers.BatchNormalization(axis)(layers.Conv2D(4, 3, name="last", **lies)(x)))
    value = layers.GlobalAveragePooling2D(keepdims=True, **lies)(value)
    value = layers.Conv2D(5, 1, activation="relu", name="head", **lies)(value)
    value = layers.Conv2D(3, 1, name="logits", **lies)(value)
    return keras.Model(x, layers.Softmax()(layers.Flatten()(value)))


DEFAULTS = [
    (vgg, "block2_conv2"),
    (pre_activated, "post_relu"),
    (lambda: models.build("conv_bn"), "relu2"),
    (lambda: models.build("residual"), "mean"),
    (lambda: models.build("separable"), "bn2"),
    (lambda: models.build("conv1d"), "separable"),
    (lambda: models.build("conv3d"), "conv"),
    (lambda: models.build("gate"), "gated"),
    (mobile_v3, "last_relu"),
    (lambda: gated_lower_down(), "gated"),
]


def looks_at(build, layer):
    model = models.randomize(build(), seed=3)
    x = models.data_for(model)
    heat = GradCAM(model)(x).numpy()
    np.testing.assert_array_equal(heat, GradCAM(model, layer=layer)(x))
    assert np.any(heat)


def test_by_default_it_looks_at_what_the_last_block_hands_on():
    assert offenders(looks_at, DEFAULTS) == {}


def test_where_it_looks_with_the_channels_first():
    model = models.randomize(mobile_v3("channels_first"), seed=3)
    x = models.data_for(model)
    heat = GradCAM(model).analyze(x)
    np.testing.assert_array_equal(heat, GradCAM(model, layer="last_relu").analyze(x))
    assert np.any(heat)


def gated_lower_down():
    """A value that is gated goes on where the gate is applied, not where it is computed."""
    x = keras.Input((6, 6, 2))
    conv = layers.Conv2D(4, 3, name="conv")(x)
    gate = layers.Activation("sigmoid", name="gate")(conv)
    end = layers.Multiply(name="gated")([conv, layers.Dropout(0.1, name="between")(gate)])
    return keras.Model(x, layers.Dense(3)(layers.GlobalAveragePooling2D()(end)))


def test_a_layer_of_a_nested_model():
    case = models.case("nested")
    heat = GradCAM(case.model)(case.x)
    np.testing.assert_array_equal(heat, GradCAM(case.model, layer="stack/bn")(case.x))
    assert not np.array_equal(heat, GradCAM(case.model, layer="stack/conv")(case.x))


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


@pytest.mark.parametrize("method", BOTH)
def test_files_and_batches(method, tmp_path):
    case = models.case("conv_bn")
    analyzer = method(case.model, layer="pool")
    assert_saved(analyzer, case.x, tmp_path)
    heat = analyzer.analyze(case.x, batch_size=1)
    assert_close(heat, analyzer.analyze(case.x, batch_size=4))
    assert analyzer.analyze(case.x[:0]).shape == (0, 8, 7, 2)


# Errors --------------------------------------------------------------------------------------------------------------


NOWHERE = [
    ("two_inputs", None, UnsupportedLayerError, "GradCAM.* draws over one input with positions; this model has 2 inputs"),
    ("dense", None, UnsupportedLayerError, "GradCAM.* draws over one input with positions"),
    ("text", "conv", UnsupportedLayerError, "GradCAM.* draws over one input with positions"),
    ("opaque", None, UnsupportedLayerError, "GradCAM.* found no convolution in this model; name a layer"),
    ("conv_bn", "out", InvalidInputError, r"The output of 'out' has shape \(None, 3\), without the input's positions"),
    ("conv_bn", "flat", InvalidInputError, "'flat' has shape .*, without the input's positions"),
    ("residual", "gap", InvalidInputError, "'gap' has shape .*, without the input's positions"),
    ("conv_bn", "nope", InvalidInputError, "layer"),
    ("conv_bn", "x", InvalidInputError, "layer"),
    ("conv_bn", ["conv1"], InvalidInputError, "name of a layer, but is"),
]


@pytest.mark.parametrize("method", BOTH)
def test_where_no_map_can_be(method):
    def made(name, layer):
        return lambda: method(models.case(name).model, layer=layer)

    for kind in (UnsupportedLayerError, InvalidInputError):
        uses = {f"{name} {layer}": (made(name, layer), message) for name, layer, error, message in NOWHERE if error is kind}
        assert uses and refusals(uses, kind) == {}


def test_planted_errors():
    """A kernel off by a thousandth, and Grad-CAM for Grad-CAM++, are caught."""
    case, model = models.case("conv_bn"), models.build("conv_bn")
    model.get_layer("out").kernel.assign(model.get_layer("out").kernel * 1.001)
    expected = expected_heat(GradCAM, case.logits, "relu1", case.x, 1)
    for wrong in (GradCAM(model, "relu1"), GradCAMPlusPlus(case.model, "relu1"), GradCAM(case.model, "conv1")):
        with pytest.raises(AssertionError, match="differs by"):
            assert_close(wrong(case.x, target=1), expected, 2e-5)
    assert isinstance(wrong, innvest_lite.Analyzer)
