"""Numbers beyond float32, which are rescaled by powers of two, and models of other precisions."""

import keras
import models
import numpy as np
import pytest
import replicas
import tensorflow as tf
from comparing import assert_close
from keras import layers

from innvest_lite import Gradient, IntegratedGradients, PatternAttribution, PatternNet, fit_patterns, metrics
from innvest_lite.analyzers import sweep

PATTERN_METHODS = [PatternNet, PatternAttribution]


# Numbers beyond float32 ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1e12, 1e-10, 1.0])
def test_rescaling_is_exact(scale, caplog, eager):
    """Nine layers of a growth of `scale` each; Python's integers know the true value."""
    model, x = models.chain(depth=9), models.normal(6, 4)
    rng, patterns = np.random.default_rng(5), {}
    for layer in model.layers:
        layer.bias.assign(np.full(layer.bias.shape, 0.2))
        patterns[layer.name] = np.float32(rng.uniform(0.1, 0.3, layer.kernel.shape) * scale)
    expected = replicas.explain(model, x, patterns, "pattern.net")
    analyzer = PatternNet(model, patterns=patterns)
    heat, exponent = analyzer.analyze(x, return_exponent=True)
    live = np.abs(expected).max(axis=1) > 0
    assert live.sum() >= 3 and np.all(np.isfinite(heat))
    true = heat[live].astype(object) * [[2 ** int(e) if e >= 0 else 1 / 2 ** int(-e)] for e in exponent[live]]
    for actual, wanted in zip(true.astype("float64"), expected[live], strict=True):
        assert_close(actual, wanted)
    fits = (np.abs(expected).max(axis=1) < 1e37) & (np.abs(expected).max(axis=1) > 1e-30)
    assert not exponent[fits].any() and np.all(exponent[live & ~fits] != 0)
    assert not caplog.records
    np.testing.assert_array_equal(analyzer.analyze(x), heat)
    assert ("leave the range of float32" in caplog.text) == bool(exponent.any())


def test_rescaling_keeps_small_relevance_on_the_way(eager):
    """A value near the output is small where the input's is large; both are float32, and so is what comes back."""
    x = keras.Input((3,), name="x")
    value = x
    for index in range(6):
        value = layers.Dense(3, use_bias=False, name=f"d{index}")(value)
    model = keras.Model(x, value)
    for layer in model.layers[1:]:
        layer.kernel.assign(np.eye(3))
    patterns = {f"d{index}": np.eye(3, dtype="float32") * 2.0**23 for index in range(6)}
    data = np.array([[1, 0.5, 0.25]]) * 2.0**-20
    names = list(patterns)
    heat, kept = PatternNet(model, patterns=patterns).analyze(data, target="all", keep=names)
    np.testing.assert_array_equal(heat, data * 2.0**138)
    for index, name in enumerate(names):
        np.testing.assert_array_equal(kept[name], data * 2.0 ** (23 * (5 - index)), err_msg=name)


def undone(relevance, exponents):
    """What `undo_rescaling` makes of the relevance of one input: relevance and exponents."""
    exponents = tf.constant(exponents, "int32")
    swept = sweep.undo_rescaling(sweep.Swept({"x": tf.constant(relevance, "float32")}, {"x": exponents}, exponents, ()))
    np.testing.assert_array_equal(swept.exponents["x"], swept.exponent)
    return swept.relevance["x"].numpy(), swept.exponent.numpy().tolist()


def test_a_sample_without_relevance_has_exponent_zero():
    relevance, exponents = [[0, 0], [0, 0], [0, 0], [1, 0], [-1, 0]], [500, 90, -500, 500, 3]
    heat, left = undone(relevance, exponents)
    assert left == [0, 0, 0, 500, 0]
    np.testing.assert_array_equal(heat[1:], [[0, 0], [0, 0], [1, 0], [-8, 0]])


@pytest.mark.parametrize("exponent", [255, 500])
def test_a_sample_without_relevance_stays_zero(exponent):
    np.testing.assert_array_equal(undone([[0, 0]], [exponent])[0], [[0, 0]])


def test_a_gate_that_lets_nothing_through_gives_zero_at_any_exponent(eager):
    """The first layer is closed; above it, the biases keep relevance alive, and it grows by 2**40 a layer."""
    stack = [layers.Dense(3, activation="relu", name=f"d{index}") for index in range(14)]
    model = keras.Sequential([keras.Input((3,)), *stack, layers.Dense(2, name="out")])
    for layer in model.layers:
        layer.kernel.assign(np.eye(*layer.kernel.shape))
        layer.bias.assign(np.full(layer.bias.shape, 0.2))
    model.layers[0].bias.assign([-1e3] * 3)
    patterns = {layer.name: np.full(layer.kernel.shape, 2.0**40, "float32") for layer in model.layers}
    heat, exponent = PatternNet(model, patterns=patterns).analyze(np.ones((2, 3)), return_exponent=True)
    np.testing.assert_array_equal(heat, np.zeros((2, 3)))
    assert not exponent.any()


# Precision -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "policy, method, tolerance",
    [
        *(("mixed_float16", method, 5e-3) for method in (Gradient, *PATTERN_METHODS)),
        *(("float16", method, 5e-3) for method in PATTERN_METHODS),
        *(("float64", method, 1e-5) for method in PATTERN_METHODS),
        ("mixed_bfloat16", Gradient, 0.15),
    ],
)
def test_other_precisions(policy, method, tolerance):
    """But for a sample in which rounding turns a gate: most are near what float32 gives."""
    data, x = models.normal(60, 6, 6, 2), models.normal(5, 6, 6, 2, seed=2)
    expected = method(models.branched("float32")).fit(data, verbose=0).analyze(x, target=1)
    actual = method(models.branched(policy)).fit(data, verbose=0).analyze(x, target=1)
    assert np.all(np.isfinite(actual))
    largest = np.abs(expected).max(axis=(1, 2, 3))
    assert np.sum(np.abs(actual - expected).max(axis=(1, 2, 3)) <= tolerance * largest) >= 4


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["float64", "float16", "mixed_float16"])
def test_the_patterns_of_other_precisions_come_back(policy):
    model = models.branched(policy)
    patterns = fit_patterns(model, models.normal(60, 6, 6, 2), verbose=0)
    found = PatternAttribution(model, patterns=patterns).patterns
    for name, pattern in patterns.items():
        assert found[name].dtype == np.float32
        assert_close(found[name], pattern)


@pytest.mark.slow
@pytest.mark.parametrize(
    "policy, tolerance", [("float64", 1e-5), ("float16", 0.02), ("mixed_float16", 0.02), ("mixed_bfloat16", 0.1)]
)
def test_the_gap_of_integrated_gradients_in_other_precisions(policy, tolerance):
    """But for samples on whose path rounding turns a gate."""
    x = models.normal(5, 6, 6, 2, seed=2)
    wanted = metrics.completeness(IntegratedGradients(models.branched("float32")), x, target=1)
    model = models.branched(policy)
    found = metrics.completeness(IntegratedGradients(model), x, target=1)
    ends = [np.asarray(model(given), "float64")[:, 1] for given in (x, 0 * x)]
    assert_close(found.explained, ends[0] - ends[1], 1e-5 if policy == "float64" else tolerance)
    assert np.sum(np.abs(found.gap - wanted.gap) <= tolerance * np.abs(wanted.explained).max()) >= 4
    _, gap = IntegratedGradients(model).analyze(x, target=1, return_gap=True)
    assert gap.shape == (5,) and gap.dtype == np.float32


def test_half_precision_does_not_end_the_range_of_relevance(eager):
    """Relevance grows by orders of magnitude per layer: beyond 65504, the largest float16, after a few."""
    stack = [layers.Dense(8, activation="relu", name=f"d{index}", dtype="mixed_float16") for index in range(6)]
    model = models.randomize(keras.Sequential([keras.Input((8,)), *stack]), seed=4)
    for layer in model.layers:
        layer.bias.assign(np.full(8, 0.3))
    patterns = {layer.name: np.full((8, 8), 50, "float32") for layer in stack}
    heat = PatternNet(model, patterns=patterns).analyze(models.normal(3, 8), target="all")
    assert np.all(np.isfinite(heat)) and np.all(np.any(heat, axis=1))


def test_a_float64_model_is_explained_in_float64():
    model = models.branched("float64")
    x = np.random.default_rng(8).normal(size=(3, 6, 6, 2))
    tensor = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(tensor)
        total = tf.reduce_sum(model(tensor)[:, 1])
    heat = Gradient(model).analyze(x, target=1)
    assert heat.dtype == np.float64
    assert_close(heat, tape.gradient(total, tensor), 1e-12)
