"""`check`: what happens to relevance on its way is explained, node by node, and a leak is not."""

from functools import cache

import keras
import models
import numpy as np
import pytest
from comparing import assert_close
from keras import layers

import innvest_lite
from innvest_lite import Gradient, PatternAttribution, PatternNet, rules


@cache
def patterns(name):
    """Those of `w'a = 1` that need no data: what becomes of the relevance must add up for any."""
    return innvest_lite.fit_patterns(models.case(name).model, estimator="filter")


def made(method, name, **options):
    """A new analyzer of a named model."""
    return method(models.case(name).model, **({} if method is Gradient else {"patterns": patterns(name)}), **options)


@pytest.mark.parametrize(
    "name, method",
    [
        *(("conv_bn", method) for method in (Gradient, PatternNet, PatternAttribution)),
        *((name, PatternAttribution) for name in ("residual", "separable", "shapes")),
        ("gate", PatternNet),
    ],
)
def test_check_explains_every_difference(name, method, eager):
    case, analyzer = models.case(name), made(method, name)
    report = analyzer.check(case.x, batch_size=4)
    assert report.start.shape == (6,)
    assert np.all(report.unexplained < 1e-5)
    np.testing.assert_allclose(report.gap, sum(row.lost for row in report.rows), atol=1e-4 * np.abs(report.start).max())
    flat = keras.tree.flatten(analyzer.analyze(case.x))
    total = sum(array.astype("float64").reshape(6, -1).sum(axis=1) for array in flat)
    np.testing.assert_allclose(report.at_input, total, rtol=1e-4, atol=1e-5 * max(np.abs(array).max() for array in flat))
    if method is not Gradient:
        logits = models.predicted(name)[1][0]
        centred = logits - logits.mean(-1, keepdims=True) if method is PatternAttribution else logits
        np.testing.assert_allclose(report.start, centred.max(-1), rtol=1e-4)
    rows, order = [row.node for row in report.rows], [step.node.name for step in reversed(analyzer.plan().steps)]
    assert rows == [node for node in order if node in rows]  # a gate gets no relevance, so no row
    assert len(rows) == len(order) or name == "gate"
    assert report.rows[0].node in str(report) and "unexplained" in str(report)


def test_compiled_it_reports_the_same():
    """With patterns of data, too."""
    analyzer, x = models.fitted(PatternAttribution, "conv_bn"), models.case("conv_bn").x
    report = analyzer.check(x, batch_size=4)
    assert np.all(report.unexplained < 1e-5)
    logits = models.predicted("conv_bn")[1][0]
    np.testing.assert_allclose(report.start, logits.max(-1) - logits.mean(-1), rtol=1e-4)
    assert_close(report.at_input, np.asarray(analyzer(x), "float64").sum((1, 2, 3)), 1e-4)


def test_pattern_attribution_conserves_at_sums_and_units_and_nowhere_else(eager):
    analyzer = made(PatternAttribution, "residual", shares="average")
    rows = {row.node: row for row in analyzer.check(models.case("residual").x).rows}
    for name in ("add", "subtract", "mean", "gap", "out", "pointwise"):
        np.testing.assert_allclose(rows[name].handed_on, rows[name].arrived, rtol=1e-4, atol=1e-5)
        assert np.abs(rows[name].arrived).max() > 1e-3
    assert np.abs(rows["branch"].padding).max() > 1e-3 and np.abs(rows["relu"].gate).max() > 1e-3
    assert not np.any(rows["relu"].padding) and not np.any(rows["branch"].gate)


def test_check_finds_a_planted_leak(monkeypatch, eager):
    """A rule that loses a hundredth is not explained away."""
    original = rules.Pattern.reverse
    leak = lambda self, call, relevance: tuple(0.99 * r for r in original(self, call, relevance))  # noqa: E731
    monkeypatch.setattr(rules.Pattern, "reverse", leak)
    assert np.all(made(PatternAttribution, "conv_bn", shares="average").check(models.case("conv_bn").x).unexplained > 1e-3)


def test_check_calls_a_maximum_with_a_constant_a_gate(eager):
    x = keras.Input((4,), name="x")
    value = keras.ops.maximum(layers.Dense(5, name="hidden")(x), 0.0)
    model = models.randomize(keras.Model(x, layers.Dense(3, name="out")(value)), seed=9)
    assert np.all(Gradient(model).check(models.normal(5, 4)).unexplained < 1e-5)


def channels_first():
    """Convolutions of each kind and a pooling, with the channels in front."""
    options = {"data_format": "channels_first"}
    x = keras.Input((2, 9, 8), name="x")
    value = layers.Conv2D(4, 3, activation="relu", name="conv", **options)(x)
    value = layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2, name="depthwise", **options)(value)
    value = layers.AveragePooling2D(2, padding="same", name="pool", **options)(layers.ReLU(name="relu")(value))
    value = layers.Conv2D(5, 1, strides=2, activation="relu", name="pointwise", **options)(value)
    return models.randomize(keras.Model(x, layers.Dense(3, name="out")(layers.Flatten(name="flat")(value))), seed=5)


@pytest.mark.parametrize("method", [PatternAttribution, pytest.param(PatternNet, marks=pytest.mark.slow)])
def test_check_with_the_channels_first(method):
    """Compiled, for only so TensorFlow runs such convolutions on CPU."""
    model = channels_first()
    x, fitted = models.data_for(model, 6, seed=7), innvest_lite.fit_patterns(model, estimator="filter")
    options = {"shares": "average"} if method is PatternAttribution else {}
    analyzer = method(model, patterns=fitted, **options)
    report = analyzer.check(x)
    assert np.all(report.unexplained < 1e-6)
    total = analyzer.analyze(x).astype("float64").sum(axis=(1, 2, 3))
    np.testing.assert_allclose(report.at_input, total, rtol=1e-4, atol=1e-5 * np.abs(total).max())
    rows = {row.node: row for row in report.rows}
    assert np.abs(rows["depthwise"].padding).max() > 1e-3
    assert not np.any(np.abs(rows["conv"].padding) > 1e-6 * np.abs(rows["conv"].arrived).max())


def test_methods_without_a_sweep_have_totals_alone(eager):
    model, x = models.case("dense").model, models.case("dense").x
    analyzer = innvest_lite.IntegratedGradients(model, 4)
    assert analyzer.check(x[:0]).start.shape == (0,) and str(analyzer.check(x[:0])) == "no samples, nothing to check"
    assert str(analyzer.check(x)).startswith("start ")
    for method in (innvest_lite.InputTimesGradient(model), analyzer):
        np.testing.assert_allclose(method.check(x).at_input, method.analyze(x).sum(1), rtol=1e-4, atol=1e-5)
    index = Gradient(model, neuron_selection_mode="index")
    np.testing.assert_array_equal(index.check(x, neuron_selection=1).start, Gradient(model).check(x, target=1).start)
