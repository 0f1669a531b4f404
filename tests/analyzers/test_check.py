"""`check`: what happens to relevance on its way is explained, node by node, and a leak is not."""

import keras
import models
import numpy as np
import pytest
from keras import layers

from innvest_lite import Gradient, PatternAttribution, PatternNet, rules


@pytest.mark.parametrize(
    "name, method",
    [
        *(("conv_bn", method) for method in (Gradient, *(PatternNet, PatternAttribution))),
        *((name, PatternAttribution) for name in ("residual", "separable", "shapes")),
        ("gate", PatternNet),
    ],
)
def test_check_explains_every_difference(name, method):
    case, analyzer = models.case(name), models.fitted(method, name)
    report = analyzer.check(case.x, batch_size=4)
    assert report.start.shape == (6,)
    assert np.all(report.unexplained < 1e-5)
    np.testing.assert_allclose(report.gap, sum(row.lost for row in report.rows), atol=1e-4 * np.abs(report.start).max())
    flat = keras.tree.flatten(analyzer.analyze(case.x))
    total = sum(array.astype("float64").reshape(6, -1).sum(axis=1) for array in flat)
    np.testing.assert_allclose(report.at_input, total, rtol=1e-4, atol=1e-5 * max(np.abs(array).max() for array in flat))
    if method is not Gradient:
        np.testing.assert_allclose(report.start, models.predicted(name)[1][0].max(-1), rtol=1e-4)
    rows, order = [row.node for row in report.rows], [step.node.name for step in reversed(analyzer.plan().steps)]
    assert rows == [node for node in order if node in rows]  # a gate gets no relevance, so no row
    assert len(rows) == len(order) or name == "gate"
    assert report.rows[0].node in str(report) and "unexplained" in str(report)


def test_pattern_attribution_conserves_at_sums_and_units_and_nowhere_else():
    rows = {row.node: row for row in models.fitted(PatternAttribution, "residual").check(models.case("residual").x).rows}
    for name in ("add", "subtract", "mean", "gap", "out", "pointwise"):
        np.testing.assert_allclose(rows[name].handed_on, rows[name].arrived, rtol=1e-4, atol=1e-5)
        assert np.abs(rows[name].arrived).max() > 1e-3
    assert np.abs(rows["branch"].padding).max() > 1e-3 and np.abs(rows["relu"].gate).max() > 1e-3
    assert not np.any(rows["relu"].padding) and not np.any(rows["branch"].gate)


def test_check_finds_a_planted_leak(monkeypatch):
    """A rule that loses a hundredth is not explained away."""
    original = rules.Pattern.reverse
    leak = lambda self, call, relevance: tuple(0.99 * r for r in original(self, call, relevance))  # noqa: E731
    monkeypatch.setattr(rules.Pattern, "reverse", leak)
    report = PatternAttribution(
        models.case("conv_bn").model, patterns=models.fitted(PatternAttribution, "conv_bn").patterns
    ).check(models.case("conv_bn").x)
    assert np.all(report.unexplained > 1e-3)


def test_check_calls_a_maximum_with_a_constant_a_gate():
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


def test_check_with_the_channels_first():
    model = channels_first()
    data = models.data_for(model, 48, seed=7)
    for method in (PatternAttribution, PatternNet):
        analyzer = method(model).fit(data, verbose=0)
        report = analyzer.check(data[:6])
        assert np.all(report.unexplained < 1e-6)
        total = analyzer.analyze(data[:6]).astype("float64").sum(axis=(1, 2, 3))
        np.testing.assert_allclose(report.at_input, total, rtol=1e-4, atol=1e-5 * np.abs(total).max())
        rows = {row.node: row for row in report.rows}
        assert np.abs(rows["depthwise"].padding).max() > 1e-3
        assert not np.any(np.abs(rows["conv"].padding) > 1e-6 * np.abs(rows["conv"].arrived).max())
