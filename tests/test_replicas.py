"""Are the replicas themselves right? Against Keras's own layers and TensorFlow's gradient, in float64."""

import contextlib

import keras
import numpy as np
import pytest
import replicas
import tensorflow as tf
from keras import layers

EXACT = {"rtol": 1e-9, "atol": 1e-11}


def randomized(layer, rng):
    """Give a built layer random weights; variances stay positive."""
    for variable in layer.weights:
        values = rng.normal(size=variable.shape)
        variable.assign(np.abs(values) + 0.5 if "variance" in variable.name else values)
    return layer


LAYERS = {
    "dense": (lambda: layers.Dense(4), (5,)),
    "dense of a sequence": (lambda: layers.Dense(4, use_bias=False), (3, 5)),
    "conv1d valid": (lambda: layers.Conv1D(4, 3), (8, 3)),
    "conv1d same stride": (lambda: layers.Conv1D(4, 4, strides=2, padding="same"), (9, 3)),
    "conv1d causal": (lambda: layers.Conv1D(4, 3, padding="causal"), (8, 3)),
    "conv1d causal dilation": (lambda: layers.Conv1D(4, 3, padding="causal", dilation_rate=2), (8, 3)),
    "conv1d causal stride": (lambda: layers.Conv1D(4, 3, padding="causal", strides=2), (8, 3)),
    "conv1d groups": (lambda: layers.Conv1D(6, 3, groups=3), (8, 6)),
    "conv2d valid": (lambda: layers.Conv2D(4, (3, 2)), (6, 5, 3)),
    "conv2d valid stride": (lambda: layers.Conv2D(4, 3, strides=2), (6, 8, 3)),
    "conv2d same": (lambda: layers.Conv2D(4, (2, 4), padding="same"), (6, 5, 3)),
    "conv2d same stride": (lambda: layers.Conv2D(4, 3, strides=2, padding="same"), (6, 5, 3)),
    "conv2d same stride 3, 1x1": (lambda: layers.Conv2D(4, 1, strides=3, padding="same"), (7, 6, 3)),
    "conv2d valid dilation": (lambda: layers.Conv2D(4, 3, dilation_rate=2), (7, 6, 3)),
    "conv2d same dilation": (lambda: layers.Conv2D(4, 2, dilation_rate=2, padding="same"), (7, 6, 3)),
    "conv2d groups": (lambda: layers.Conv2D(6, 3, groups=2, padding="same"), (5, 5, 4)),
    "conv3d valid": (lambda: layers.Conv3D(3, 2, use_bias=False), (4, 3, 4, 2)),
    "conv3d same stride": (lambda: layers.Conv3D(3, (2, 3, 3), strides=2, padding="same"), (4, 5, 4, 2)),
    "depthwise1d": (lambda: layers.DepthwiseConv1D(3, depth_multiplier=2), (7, 3)),
    "depthwise2d": (lambda: layers.DepthwiseConv2D(3), (5, 6, 3)),
    "depthwise2d same stride": (lambda: layers.DepthwiseConv2D(3, 2, "same", depth_multiplier=2), (5, 6, 3)),
    "depthwise2d dilation": (lambda: layers.DepthwiseConv2D(2, dilation_rate=2, padding="same"), (5, 6, 3)),
    "average1d": (lambda: layers.AveragePooling1D(2), (7, 3)),
    "average2d overlapping": (lambda: layers.AveragePooling2D(3, strides=2), (7, 6, 3)),
    "average2d same": (lambda: layers.AveragePooling2D(2, padding="same"), (6, 4, 3)),
    "average3d": (lambda: layers.AveragePooling3D(2), (4, 4, 2, 2)),
    "global average": (lambda: layers.GlobalAveragePooling2D(), (4, 3, 5)),
}


@contextlib.contextmanager
def float64():
    """Make every layer that is created inside a float64 one."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def build(factory, shape, rng):
    with float64():
        layer = factory()
        layer.build((None, *shape))
    return randomized(layer, rng)


def test_every_layer_is_a_matrix_of_patches_times_its_weights(subtests):
    """Also by the explanations' own route to a layer's value: one kernel with zeros where nothing is read."""
    rng = np.random.default_rng(0)
    for case, (factory, shape) in LAYERS.items():
        layer, x = build(factory, shape, rng), rng.normal(size=(3, *shape))
        if case == "average3d":  # TensorFlow's CPU has no float64 kernel for it
            layer, x = layers.AveragePooling3D(2), x.astype(np.float32)
        tolerance = {"rtol": 0, "atol": 1e-6} if x.dtype == np.float32 else EXACT
        value = keras.ops.convert_to_numpy(layer(x))
        with subtests.test(case):
            np.testing.assert_allclose(replicas.linear_value(layer, x), value, **tolerance)
            if "average" not in case:
                np.testing.assert_allclose(replicas.step_forward("linear", layer, None, x), value, **EXACT)


def test_add_is_a_linear_layer_of_its_addends():
    rng = np.random.default_rng(2)
    addends = [rng.normal(size=(2, 3, 4, 5)) for _ in range(3)]
    np.testing.assert_allclose(replicas.linear_value(layers.Add(), addends), sum(addends), **EXACT)
    assert replicas.layer_pattern(layers.Add(), addends).shape == (3, 5)


def test_average_pooling_over_padding_is_refused():
    with pytest.raises(ValueError, match="over padding"):
        replicas.linear_value(layers.AveragePooling2D(2, padding="same"), np.zeros((1, 5, 4, 2)))


def test_scattering_is_the_transpose_of_extracting():
    rng = np.random.default_rng(3)
    x, options = rng.normal(size=(2, 7, 6, 3)), ((3, 2), (2, 1), (1, 2), "same")
    patches = replicas.extract_patches(x, *options)
    other = rng.normal(size=patches.shape)
    np.testing.assert_allclose(np.sum(other * patches), np.sum(x * replicas.scatter_patches(other, x.shape, *options)))


@pytest.mark.parametrize("scale, center", [(True, True), (False, True), (True, False)])
@pytest.mark.parametrize("case", ["dense", "conv2d groups", "depthwise2d same stride"])
def test_a_fused_batchnorm_is_the_two_layers(case, scale, center):
    rng = np.random.default_rng(4)
    factory, shape = LAYERS[case]
    layer = build(factory, shape, rng)
    x = rng.normal(size=(3, *shape))
    y = keras.ops.convert_to_numpy(layer(x))
    norm = build(lambda: layers.BatchNormalization(scale=scale, center=center), y.shape[1:], rng)
    expected = keras.ops.convert_to_numpy(norm(y, training=False))
    np.testing.assert_allclose(replicas.linear_value(layer, x, norm), expected, **EXACT)
    np.testing.assert_allclose(replicas.step_forward("linear", layer, norm, x), expected, **EXACT)
    np.testing.assert_allclose(replicas.normalize(norm, y), expected, **EXACT)


def network(inline, pool_padding="valid"):
    """Return a small float64 CNN with a softmax head, random weights, one fused and one plain convolution."""
    rng = np.random.default_rng(5)
    with float64():
        first = [layers.Conv2D(4, 3, activation="relu")] if inline else [layers.Conv2D(4, 3), layers.ReLU()]
        stack = [keras.Input((9, 8, 2)), *first, layers.MaxPooling2D(2, padding=pool_padding)]
        stack += [layers.Conv2D(6, 3, padding="same", groups=2), layers.BatchNormalization(), layers.Activation("relu")]
        stack += [layers.DepthwiseConv2D(2, activation="relu"), layers.Dropout(0.5), layers.Flatten()]
        head = [layers.Dense(3, activation="softmax")] if inline else [layers.Dense(3), layers.Softmax()]
        model = keras.Sequential([*stack, layers.Dense(7, activation="relu"), *head])
    for layer in model.layers:
        randomized(layer, rng)
    return model, rng.normal(size=(3, 9, 8, 2))


def logits_of(model, x):
    """Return the logits in TensorFlow, with the head's softmax undone by leaving it out."""
    for layer in model.layers[:-1]:
        x = layer(x, training=False) if isinstance(layer, (layers.Dropout, layers.BatchNormalization)) else layer(x)
    last = model.layers[-1]
    return tf.matmul(x, last.kernel) + last.bias if isinstance(last, layers.Dense) else x


@pytest.mark.parametrize("inline, padding, target", [(True, "valid", None), (False, "same", 1)])
def test_gradient_is_that_of_tensorflow(inline, padding, target):
    model, x = network(inline, padding)
    tensor = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(tensor)
        logits = logits_of(model, tensor)
        chosen = tf.reduce_max(logits, axis=-1) if target is None else logits[:, target]
        total = tf.reduce_sum(chosen)
    np.testing.assert_allclose(replicas.forward(model, x)[1][-1], logits.numpy(), **EXACT)
    np.testing.assert_allclose(replicas.explain(model, x, {}, "gradient", target), tape.gradient(total, tensor), **EXACT)


def test_pattern_net_with_the_kernel_as_pattern_is_the_logit_times_the_gradient():
    model, x = network(inline=True)
    steps, values = replicas.forward(model, x)
    kernels = {layer.name: replicas.fused_kernel(layer, norm)[0] for kind, layer, norm in steps if kind == "linear"}
    expected = replicas.explain(model, x, {}, "gradient") * values[-1].max(axis=-1)[:, None, None, None]
    np.testing.assert_allclose(replicas.explain(model, x, kernels, "pattern.net"), expected, **EXACT)


def test_pattern_attribution_with_ones_as_pattern_is_the_logit_times_the_gradient():
    model, x = network(inline=False)
    steps, values = replicas.forward(model, x)
    ones = {layer.name: np.ones(layer.kernel.shape) for kind, layer, _ in steps if kind == "linear"}
    expected = replicas.explain(model, x, {}, "gradient", 2) * values[-1][:, 2][:, None, None, None]
    np.testing.assert_allclose(replicas.explain(model, x, ones, "pattern.attribution", 2), expected, **EXACT)


def test_weight_times_pattern_is_one(subtests):
    """In the kernel's layout, for every layer."""
    rng = np.random.default_rng(6)
    for case, (factory, shape) in LAYERS.items():
        layer, x = build(factory, shape, rng), rng.normal(size=(6, *shape))
        a, kernel = replicas.layer_pattern(layer, x), replicas.kernel_of(layer, x.shape)
        fan_in = tuple(range(kernel.ndim - (2 if isinstance(layer, replicas.DEPTHWISE) else 1)))
        ratios = replicas.layer_condition(layer, x)[0]
        with subtests.test(case):
            assert a.shape == kernel.shape
            np.testing.assert_allclose(np.sum(kernel * a, axis=fan_in).ravel(), ~np.isnan(ratios), rtol=1e-9)


def toy(samples=40_000):
    """Return the paper's toy, x = a_s y + a_d e with a_s = (1, 0) and a_d = (1, 1), and its regression weight."""
    rng = np.random.default_rng(7)
    y, e = rng.uniform(-1, 1, (samples, 1)), rng.normal(size=(samples, 1))
    return y * [1.0, 0.0] + e * [1.0, 1.0], np.array([1.0, -1.0])


@pytest.mark.parametrize("estimator", ["linear", "relu", "relu.negative"])
def test_the_toy_of_the_paper(estimator):
    inputs, weight = toy()
    a = replicas.pattern(inputs, weight, inputs @ weight > 0, estimator)
    assert abs(a[0]) / np.linalg.norm(a) > 0.999
    a = replicas.pattern(inputs, weight, inputs @ weight > 0, "filter")
    np.testing.assert_allclose(a, weight / 2)


def test_the_relu_pattern_by_hand():
    """Four samples, two of them positive: E+[x] = (2.5, 0.5), E+[x y] = (6.5, 1.5), E[y] = 0.25."""
    inputs, weight = np.array([[1.0, 0.0], [4.0, 1.0], [-1.0, 0.0], [-2.0, 0.0]]), np.array([1.0, -1.0])
    a = replicas.pattern(inputs, weight, np.array([True, True, False, False]))
    covariance = np.array([6.5 - 2.5 * 0.25, 1.5 - 0.5 * 0.25])
    np.testing.assert_allclose(a, covariance / (covariance[0] - covariance[1]))


def test_a_unit_that_is_never_active_has_pattern_zero():
    inputs, weight = toy(100)
    assert not replicas.pattern(inputs, weight, np.zeros(100, bool), "relu").any()
    assert not replicas.pattern(inputs, weight, np.ones(100, bool), "relu.negative").any()
    assert not replicas.pattern(inputs, 0 * weight, np.ones(100, bool), "relu").any()


def test_a_denominator_that_is_not_safely_positive_gives_the_linear_pattern():
    """Far below 0 and with a bias that lets the upper tail pass, E+[y] (E+[y] - E[y]) is negative."""
    inputs, weight = toy(1000)
    inputs = inputs - [8.0, 0.0]
    mask = inputs @ weight + 7.5 > 0
    assert 100 < mask.sum() < 500
    linear = replicas.pattern(inputs, weight, mask, "linear")
    np.testing.assert_array_equal(replicas.pattern(inputs, weight, mask, "relu"), linear)


# Tests of the tests: each defect must be caught ----------------------------------------------------------------------


@pytest.fixture(params=["dense", "conv2d same stride"])
def case(request):
    """Return (layer, x, its right pattern in float32, as the library would give it)."""
    rng = np.random.default_rng(8)
    factory, shape = LAYERS[request.param]
    layer = build(factory, shape, rng)
    x = rng.normal(0.3, 1.0, size=(60, *shape))
    return layer, x, replicas.layer_pattern(layer, x).astype(np.float32)


def defective(layer, x, weigh=lambda w: w, gate=lambda y, b: y + b, estimate=replicas.pattern):
    """Return a pattern from defective parts; without arguments it is the right one."""
    columns = []
    for inputs, weight, b in replicas.linear_units(layer, x):
        weight = weigh(weight)
        columns.append(estimate(inputs, weight, gate(inputs @ weight, b) > 0))
    return np.stack(columns, axis=-1).reshape(layer.kernel.shape)


def with_mean_of_the_regime(inputs, weight, mask):
    """The defect E+[y] for E[y]."""
    y = inputs[mask] @ weight
    covariance = np.mean(inputs[mask] * (y - y.mean())[:, None], axis=0)
    return covariance / (weight @ covariance)


def off_by_a_permille(weight):
    return weight * np.where(np.arange(len(weight)) % 2, 1.001, 1.0)


DEFECTS = {
    "a kernel off by 0.1 %": {"weigh": off_by_a_permille},
    "a kernel scaled by 0.1 %": {"weigh": lambda w: 1.001 * w},
    "E+[y] for E[y]": {"estimate": with_mean_of_the_regime},
    "no bias in the mask": {"gate": lambda y, b: y},
    "the other regime": {"gate": lambda y, b: -(y + b)},
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_planted_defect_is_caught(case, defect):
    layer, x, actual = case
    with pytest.raises(AssertionError, match="the patterns differ"):
        replicas.assert_same_pattern(actual, defective(layer, x, **DEFECTS[defect]))


def test_without_a_defect_nothing_is_caught(case):
    layer, x, actual = case
    replicas.assert_same_pattern(actual, defective(layer, x))


def test_the_comparison_catches_shapes_and_nan():
    right = np.ones((3, 2), np.float32)
    with pytest.raises(AssertionError, match="shape"):
        replicas.assert_same_pattern(right.T, right)
    with pytest.raises(AssertionError, match="not finite"):
        replicas.assert_same_pattern(np.where([[True], [False], [True]], right, np.nan), right)
