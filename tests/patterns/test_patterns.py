"""Patterns against the float64 replicas: every linear layer and estimator, and the decisions that change results.

Only the public API is used. Many layers are fitted at once, as branches of one model, and all estimators of one fit, so
that each has its own verdict for the price of a few fits.
"""

from functools import cache, partial

import keras
import numpy as np
import pytest
import replicas
from keras import layers
from replicas import TOLERANCE, assert_same_pattern

import innvest_lite

ESTIMATORS = ["linear", "relu", "relu.negative", "filter"]


def expected_pattern(layer, x, estimator, below=0, **options):
    """Return the replica's pattern, after a check that the case is no matter of luck.

    No denominator may lie within a factor 3 of the threshold, no sample so near to the gate that float32 could turn it;
    exactly `below` units lie under the threshold.
    """
    ratios, margin = replicas.layer_condition(layer, x, estimator, **options)
    if estimator.startswith("relu"):
        floor = replicas.DENOMINATOR_FLOOR
        live = ratios[~np.isnan(ratios)]
        assert not np.any((live > floor / 3) & (live < floor * 3)), f"choose another seed: {live}"
        assert np.sum(live < floor) == below, f"{np.sum(live < floor)} units below the threshold, not {below}: {live}"
        assert margin > 3e-6, f"choose another seed: a sample is {margin:.1g} from its gate"
    return replicas.layer_pattern(layer, x, estimator, **options)


def check(patterns, layer, x, estimator, **options):
    """Compare one layer's pattern with the replica's."""
    actual = patterns[layer.name]
    assert isinstance(actual, np.ndarray)
    assert actual.dtype == np.float32
    assert_same_pattern(actual, expected_pattern(layer, x, estimator, **options))


def fit(model, data, estimator="relu", batch_size=32, **options):
    return innvest_lite.fit_patterns(model, data, estimator=estimator, batch_size=batch_size, verbose=0, **options)


def every_estimator(model, data):
    """Each estimator's patterns, from one fit."""
    statistics = innvest_lite.fit_statistics(model, data, verbose=0)
    return [(estimator, statistics.patterns(estimator=estimator)) for estimator in ESTIMATORS]


def randomize(model, seed):
    """Give a model random kernels, biases of both signs, and BatchNormalizations that do something."""
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        values = rng.normal(size=variable.shape)
        if variable.name == "moving_variance":
            values = rng.uniform(0.5, 2.0, variable.shape)
        elif variable.name in ("kernel", "depthwise_kernel"):
            values /= np.sqrt(np.prod(variable.shape[:-1]))
        elif variable.name != "gamma":
            values *= 0.3
        variable.assign(values)
    return model


def inputs_of(shape, samples, seed, mean=0.3):
    return np.random.default_rng(seed).normal(mean, 1.0, (samples, *shape)).astype(np.float32)


# Every linear layer --------------------------------------------------------------------------------------------------

DENSE = {"dense": partial(layers.Dense, 4)}
SEQUENCES = {
    "dense_sequence": partial(layers.Dense, 4),
    "conv1d_valid": partial(layers.Conv1D, 4, 3),
    "conv1d_same_stride": partial(layers.Conv1D, 4, 4, 2, "same"),
    "conv1d_causal_dilation": partial(layers.Conv1D, 4, 3, padding="causal", dilation_rate=2),
    "conv1d_groups": partial(layers.Conv1D, 6, 3, groups=2),
    "depthwise1d": partial(layers.DepthwiseConv1D, 3, depth_multiplier=2),
}
IMAGES = {
    "conv2d_valid": partial(layers.Conv2D, 4, 3),
    "conv2d_same": partial(layers.Conv2D, 4, (3, 2), padding="same"),
    "conv2d_valid_stride": partial(layers.Conv2D, 4, 3, 2),
    "conv2d_same_stride": partial(layers.Conv2D, 4, 3, 2, "same"),
    "conv2d_1x1_stride": partial(layers.Conv2D, 4, 1, 2),
    "conv2d_valid_dilation": partial(layers.Conv2D, 4, 3, dilation_rate=2),
    "conv2d_same_dilation": partial(layers.Conv2D, 4, 2, dilation_rate=2, padding="same"),
    "conv2d_groups": partial(layers.Conv2D, 6, 3, groups=2, padding="same"),
    "conv2d_groups_stride": partial(layers.Conv2D, 4, 3, 2, groups=4),
    "depthwise2d": partial(layers.DepthwiseConv2D, 3),
    "depthwise2d_same_stride": partial(layers.DepthwiseConv2D, 3, 2, "same"),
    "depthwise2d_multiplier": partial(layers.DepthwiseConv2D, 2, depth_multiplier=2),
    "depthwise2d_dilation": partial(layers.DepthwiseConv2D, 2, dilation_rate=2),
}
VOLUMES = {
    "conv3d_valid": partial(layers.Conv3D, 3, 2),
    "conv3d_same_stride": partial(layers.Conv3D, 3, 3, 2, "same"),
    "conv3d_dilation": partial(layers.Conv3D, 3, 2, dilation_rate=2),
}
FAMILIES = {
    "dense": (DENSE, (6,), 150),
    "sequences": (SEQUENCES, (9, 4), 40),
    "images": (IMAGES, (7, 6, 4), 20),
    "volumes": (VOLUMES, (4, 5, 4, 2), 20),
}
BIASES = {"relu and bias": ("relu", True), "relu": ("relu", False), "bias": (None, True), "bare": (None, False)}


@cache
def family_model(family, bias="relu and bias"):
    """Return (model, x): all layers of a family, side by side on one input, under one linear head."""
    factories, shape, samples = FAMILIES[family]
    activation, use_bias = BIASES[bias]
    x = keras.Input(shape)
    branches = [f(name=name, activation=activation, use_bias=use_bias)(x) for name, f in factories.items()]
    flat = layers.Concatenate()([layers.Flatten()(branch) for branch in branches]) if len(branches) > 1 else branches[0]
    model = keras.Model(x, layers.Dense(2, name="head")(flat))
    return randomize(model, seed=1), inputs_of(shape, samples, seed=2)


@cache
def family_statistics(family, bias="relu and bias"):
    model, x = family_model(family, bias)
    return innvest_lite.fit_statistics(model, x, batch_size=32, verbose=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_layer_and_estimator(family, subtests, eager_fits):
    model, x = family_model(family)
    for estimator in ESTIMATORS:
        patterns = family_statistics(family).patterns(estimator=estimator)
        for name in FAMILIES[family][0]:
            with subtests.test(f"{name}, {estimator}"):
                check(patterns, model.get_layer(name), x, estimator)
                assert patterns.report()[name].dead == dead_units(patterns[name], "depthwise" in name) <= 1


def dead_units(pattern, depthwise):
    """How many units of a pattern are 0 everywhere."""
    fan_in = tuple(range(pattern.ndim - (2 if depthwise else 1)))
    return np.sum(~np.any(pattern, axis=fan_in))


@pytest.mark.slow
@pytest.mark.parametrize("bias", [bias for bias in BIASES if bias != "relu and bias"])
@pytest.mark.parametrize("family", FAMILIES)
def test_with_and_without_bias_and_activation(family, bias, subtests):
    model, x = family_model(family, bias)
    for estimator in ("relu", "relu.negative"):
        patterns = family_statistics(family, bias).patterns(estimator=estimator)
        for name in FAMILIES[family][0]:
            with subtests.test(f"{name}, {estimator}"):
                check(patterns, model.get_layer(name), x, estimator)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_head_sees_what_the_branches_give(family, eager_fits):
    model, x = family_model(family)
    branches = [replicas.linear_value(model.get_layer(name), x) for name in FAMILIES[family][0]]
    hidden = np.concatenate([np.maximum(branch, 0).reshape(len(x), -1) for branch in branches], axis=-1)
    check(family_statistics(family).patterns(estimator="relu"), model.get_layer("head"), hidden, "relu")


# Data ----------------------------------------------------------------------------------------------------------------


def small_network():
    """Return a chain with a fused convolution, an inline one, pooling and a softmax head."""
    stack = [keras.Input((9, 8, 2)), layers.Conv2D(4, 3, name="fused"), layers.BatchNormalization(), layers.ReLU()]
    stack += [layers.MaxPooling2D(), layers.Conv2D(5, 2, padding="same", activation="relu", name="inline")]
    stack += [layers.Flatten(), layers.Dense(6, activation="relu", name="hidden")]
    return randomize(keras.Sequential([*stack, layers.Dense(3, activation="softmax", name="out")]), seed=3)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_whole_network(estimator, eager_fits):
    model, x = small_network(), inputs_of((9, 8, 2), 120, seed=4)
    patterns = fit(model, x, estimator)
    steps, values = replicas.forward(model, x)
    linear = [
        (layer, norm, value) for (kind, layer, norm), value in zip(steps, values[:-1], strict=True) if kind == "linear"
    ]
    assert [layer.name for layer, *_ in linear] == ["fused", "inline", "hidden", "out"]
    for layer, norm, value in linear:
        check(patterns, layer, value, estimator, batchnorm=norm)


BRIGHT = "sorted by brightness"


def test_batch_size_and_order_do_not_matter(subtests):
    """Sorted data begin with a batch that is like no other: a pivot taken from it must do no harm."""
    model, x = small_network(), inputs_of((9, 8, 2), 70, seed=5, mean=2.0)
    fits = innvest_lite.PatternFits(model, "relu")
    patterns = fits(x, batch_size=70, verbose=0)
    brightness = np.argsort(x.mean(axis=(1, 2, 3)))
    orders = {"given": slice(None), "reversed": slice(None, None, -1), BRIGHT: brightness}
    for order, batch_size in (("given", 64), ("reversed", 7), (BRIGHT, 1), (BRIGHT, 7), (BRIGHT, 64)):
        other = fits(x[orders[order]], batch_size=batch_size, verbose=0)
        with subtests.test(f"{order}, {batch_size}"):
            assert set(other) == set(patterns)
            for name in patterns:
                assert_same_pattern(other[name], patterns[name])


def test_inputs_far_from_zero(eager_fits):
    """With a mean of 30 deviations, E[x y] - E[x] E[y] in float32 would have lost everything."""
    model = randomize(keras.Sequential([keras.Input((5,)), layers.Dense(3, activation="relu", name="dense")]), seed=6)
    x = inputs_of((5,), 300, seed=7, mean=30.0)
    dense = model.get_layer("dense")
    dense.bias.assign(-(x @ dense.kernel.numpy()).mean(axis=0))
    check(fit(model, x, "linear"), dense, x, "linear")


# Decisions that change results ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("estimator, sign", [("relu", -1e3), ("relu.negative", 1e3)])
def test_a_dead_unit_has_pattern_zero(estimator, sign, eager_fits):
    stack = [keras.Input((6, 6, 2)), layers.Conv2D(3, 3, activation="relu", name="conv"), layers.Flatten()]
    model = randomize(keras.Sequential([*stack, layers.Dense(2)]), seed=8)
    conv, x = model.get_layer("conv"), inputs_of((6, 6, 2), 30, seed=9)
    conv.bias.assign([0.1, sign, -0.1])
    patterns = fit(model, x, estimator)
    check(patterns, conv, x, estimator)
    assert not patterns["conv"][..., 1].any()
    assert np.all(np.any(patterns["conv"] != 0, axis=(0, 1, 2)) == [True, False, True])


@pytest.mark.parametrize("estimator", ["relu", "relu.negative"])
def test_a_denominator_that_is_not_safely_positive_gives_the_linear_pattern(estimator):
    """A unit far below 0 of which a bias lets the upper tail pass has a negative w'cov; likewise its mirror."""
    rng = np.random.default_rng(10)
    x = inputs_of((4,), 400, seed=11, mean=4.0)
    model = keras.Sequential([keras.Input((4,)), layers.Dense(4, activation="relu", name="dense")])
    dense = model.get_layer("dense")
    dense.kernel.assign(np.abs(rng.normal(1.0, 0.3, (4, 4))) * [-1, 1, -1, 1])
    y = x @ dense.kernel.numpy()
    dense.bias.assign(-y.mean(axis=0) - y.std(axis=0) * [0.8, -0.8, 0.8, -0.8])
    patterns = fit(model, x, estimator)
    check(patterns, dense, x, estimator, below=2)
    first = 0 if estimator == "relu" else 1
    linear = replicas.layer_pattern(dense, x, "linear")
    assert_same_pattern(patterns["dense"][:, first::2], linear[:, first::2])


@pytest.mark.parametrize("estimator", ["relu", "relu.negative"])
def test_a_denominator_that_is_positive_but_tiny_gives_the_linear_pattern(estimator):
    """The denominator is linear in a shift of y that takes the gate along, so 2e-4 of var[y] can be met exactly."""
    model = randomize(keras.Sequential([keras.Input((4,)), layers.Dense(1, activation="relu", name="dense")]), seed=23)
    dense, x = model.get_layer("dense"), inputs_of((4,), 400, seed=24)
    weight = dense.kernel.numpy()[:, 0]
    y = x @ weight
    gate = y.mean() + y.std() * (0.8 if estimator == "relu" else -0.8)
    y_in_regime = y[y > gate] if estimator == "relu" else y[y <= gate]
    slope = y_in_regime.mean() - y.mean()
    shift = (2e-4 * y.var() - y_in_regime.var() - y_in_regime.mean() * slope) / slope
    dense.bias.assign([-gate - shift])
    shifted = x + np.float32(shift) * weight / (weight @ weight)
    ratio = replicas.layer_condition(dense, shifted, estimator)[0]
    assert 1e-4 < ratio < 3e-4
    check(fit(model, shifted, estimator), dense, shifted, estimator, below=1)


def test_calls_of_a_shared_layer_are_merged(subtests, eager_fits):
    x = keras.Input((5,))
    shared = layers.Dense(5, activation="relu", name="shared")
    model = randomize(keras.Model(x, layers.Dense(2)(shared(shared(x)))), seed=12)
    data = inputs_of((5,), 200, seed=13)
    stacked = np.concatenate([data, np.maximum(replicas.linear_value(shared, data), 0)])
    for estimator, patterns in every_estimator(model, data):
        with subtests.test(estimator):
            check(patterns, shared, stacked, estimator)
            if "shared#2" in patterns:
                np.testing.assert_array_equal(patterns["shared#2"], patterns["shared"])


NORMALIZED = {
    "dense_norm": (partial(layers.Dense, 4), {}),
    "conv": (partial(layers.Conv2D, 4, 3), {}),
    "conv_bare": (partial(layers.Conv2D, 4, 3, 2, use_bias=False), {"epsilon": 0.1}),
    "conv_unscaled": (partial(layers.Conv2D, 4, 2), {"scale": False}),
    "conv_uncentered": (partial(layers.Conv2D, 4, 2), {"center": False}),
    "depthwise": (partial(layers.DepthwiseConv2D, 3, depth_multiplier=2), {}),
}


def normalized_model():
    x = keras.Input((6, 6, 2))
    branches = []
    for name, (factory, options) in NORMALIZED.items():
        branch = layers.BatchNormalization(name=f"{name}_bn", **options)(factory(name=name)(x))
        branches.append(layers.Flatten()(layers.ReLU()(branch)))
    model = keras.Model(x, layers.Dense(2, name="head")(layers.Concatenate()(branches)))
    return randomize(model, seed=14), inputs_of((6, 6, 2), 30, seed=15)


def test_a_fused_batchnorm(subtests, eager_fits):
    model, x = normalized_model()
    norms = {name: model.get_layer(f"{name}_bn") for name in NORMALIZED}
    for norm in norms.values():
        if norm.scale:
            assert {-1, 1} == set(np.sign(replicas.scale_and_shift(norm)[0])), "choose another seed"
    for estimator, patterns in every_estimator(model, x):
        for name, norm in norms.items():
            with subtests.test(f"{name}, {estimator}"):
                check(patterns, model.get_layer(name), x, estimator, batchnorm=norm)


def residual(kind):
    """Return two convolutions that meet in an Add, with something between it and the ReLU."""
    x = keras.Input((6, 5, 3))
    one, two = layers.Conv2D(4, 3, name="one"), layers.Conv2D(4, 3, name="two")
    norm, dropout = layers.BatchNormalization(name="norm"), layers.Dropout(0.5)
    left, right = one(x), two(x)
    if kind == "fused, add":
        left = norm(left)
    value = layers.Add(name="add")([left, right])
    if kind in ("add, norm", "add, dropout"):
        value = {"add, norm": norm, "add, dropout": dropout}[kind](value)
    flat = layers.Flatten()(value if kind == "linear" else layers.ReLU()(value))
    return randomize(keras.Model(x, layers.Dense(2, name="head")(flat)), seed=16)


@pytest.mark.parametrize("kind", ["add", "fused, add", "add, norm", "add, dropout", "linear"])
def test_the_regime_is_that_of_the_rectifier_the_value_reaches(kind, subtests, eager_fits):
    model, x = residual(kind), inputs_of((6, 5, 3), 40, seed=17)
    named = {layer.name: layer for layer in model.layers}
    one, two, add, norm = (named.get(name) for name in ("one", "two", "add", "norm"))
    fused = norm if kind == "fused, add" else None
    addends = [replicas.linear_value(one, x, fused), replicas.linear_value(two, x)]
    regime = sum(addends)
    if kind == "add, norm":
        regime = replicas.normalize(norm, regime)
    own = kind == "linear"  # no rectifier: each linear node's own sign
    for estimator, patterns in every_estimator(model, x):
        with subtests.test(estimator):
            check(patterns, one, x, estimator, regime=None if own else regime, batchnorm=fused)
            check(patterns, two, x, estimator, regime=None if own else regime)
            check(patterns, add, addends, estimator, regime=None if own else regime)


def test_a_batchnorm_whose_input_is_used_elsewhere_is_not_fused_but_gives_the_regime(eager_fits):
    x = keras.Input((6, 5, 3))
    conv, norm = layers.Conv2D(4, 3, name="conv"), layers.BatchNormalization()
    value = conv(x)
    paths = layers.Concatenate()([layers.Flatten()(layers.ReLU()(norm(value))), layers.Flatten()(value)])
    model = randomize(keras.Model(x, layers.Dense(2)(paths)), seed=18)
    data = inputs_of((6, 5, 3), 40, seed=19)
    regime = replicas.normalize(norm, replicas.linear_value(conv, data))
    check(fit(model, data), conv, data, "relu", regime=regime)


def test_layers_without_a_kernel(subtests, eager_fits):
    """Add, average pooling and global average pooling, each before a ReLU."""
    x = keras.Input((6, 4, 3))
    rectified = [layers.AveragePooling2D(2, name="pool"), layers.AveragePooling2D(3, strides=1, name="overlapping")]
    paths = [layers.ReLU()(layer(x)) for layer in [*rectified, layers.GlobalAveragePooling2D(name="global")]]
    paths.append(layers.ReLU()(layers.Add(name="add")([x, layers.Conv2D(3, 3, padding="same", name="conv")(x), x])))
    flat = layers.Concatenate()([layers.Flatten()(path) for path in paths])
    model = randomize(keras.Model(x, layers.Dense(2)(flat)), seed=20)
    data = inputs_of((6, 4, 3), 60, seed=21)
    addends = [np.float64(data), replicas.linear_value(model.get_layer("conv"), data), np.float64(data)]
    for estimator, patterns in every_estimator(model, data):
        with subtests.test(estimator):
            for name in ("pool", "overlapping", "global"):
                check(patterns, model.get_layer(name), data, estimator)
            check(patterns, model.get_layer("add"), addends, estimator)
            assert patterns["global"].shape == (6, 4, 3) and patterns["add"].shape == (3, 3)


def test_the_toy_of_the_paper(subtests):
    """For x = a_s y + a_d e with a_s = (1, 0), a_d = (1, 1) the weight is (1, -1) and the pattern a_s."""
    rng = np.random.default_rng(22)
    y, e = rng.uniform(-1, 1, (20_000, 1)), rng.normal(size=(20_000, 1))
    x = (y * [1.0, 0.0] + e * [1.0, 1.0]).astype(np.float32)
    model = keras.Sequential([keras.Input((2,)), layers.Dense(1, use_bias=False, name="dense")])
    model.get_layer("dense").kernel.assign([[1.0], [-1.0]])
    statistics = innvest_lite.fit_statistics(model, x, batch_size=512, verbose=0)
    for estimator in ("linear", "relu", "relu.negative"):
        with subtests.test(estimator):
            a = statistics.patterns(estimator=estimator)["dense"][:, 0]
            assert a[0] / np.linalg.norm(a) > 0.999
            np.testing.assert_allclose(a[0] - a[1], 1.0, rtol=TOLERANCE)
