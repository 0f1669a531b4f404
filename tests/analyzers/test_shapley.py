"""KernelSHAP against exact Shapley values, by all orders' worth of coalitions, and what it promises of sums and seeds."""

import itertools
import math
import sys

import keras
import models
import numpy as np
import pytest
from comparing import assert_close, offenders, refusals

from innvest_lite import InvalidInputError, KernelSHAP, create_analyzer, metrics

pytest.importorskip("shap")


def shapley(value, count):
    """The Shapley values of `count` players, from the values of all coalitions (Shapley 1953)."""
    of = {s: value(s) for size in range(count + 1) for s in itertools.combinations(range(count), size)}
    found = np.zeros(count)
    for player in range(count):
        for s in of:
            if player not in s:
                weight = math.factorial(len(s)) * math.factorial(count - len(s) - 1) / math.factorial(count)
                found[player] += weight * (of[tuple(sorted((*s, player)))] - of[s])
    return found


def exact(logits, sample, labels, backgrounds, target):
    """One sample's attributions: each part's Shapley value, spread evenly over its values."""

    def value(parts):
        shown = np.isin(labels, parts)
        rows = np.stack([np.where(shown, sample, background) for background in backgrounds])
        return np.asarray(logits(rows.astype("float32")), "float64")[:, target].mean()

    values = shapley(value, labels.max() + 1)
    return values[labels] / np.bincount(labels.reshape(-1))[labels]


def quarters(shape):
    """Six parts of different sizes."""
    height, width = shape
    rows, columns = np.arange(height)[:, None] * 2 // height, np.arange(width)[None] ** 2 * 3 // width**2
    return rows * 3 + columns


def test_tables(eager):
    """Each column is a part."""
    case, rows = models.case("dense"), models.normal(3, 6, seed=4)
    for background, backgrounds in (
        (None, np.zeros((1, 6))),
        (0.5, np.full((1, 6), 0.5)),
        (rows[0], rows[:1]),
        (rows, rows),
    ):
        heat = KernelSHAP(case.model, background).analyze(case.x[:3], 1)
        expected = [exact(case.logits, x, np.arange(6), backgrounds, 1) for x in case.x[:3]]
        assert_close(heat, np.stack(expected), 1e-4)


def test_superpixels(eager):
    """A label map, with labels that are no numbers in a row, and a function that looks at the image."""
    case = models.case("conv_bn")
    labels = quarters((8, 7))
    assert len(np.unique(labels)) == 6 and np.ptp(np.bincount(labels.reshape(-1))) > 0
    by_light = lambda image: (image.sum(-1) > np.median(image.sum(-1))).astype(int) + 5  # noqa: E731
    for given, of_sample in ((labels * 10 - 3, lambda x: labels), (by_light, lambda x: by_light(x) - 5)):
        heat = KernelSHAP(case.model, 0.3, segments=given).analyze(case.x[:2], 2)
        expected = [
            exact(case.logits, x, np.repeat(of_sample(x)[..., None], 2, axis=-1), np.full((1, 8, 7, 2), 0.3), 2)
            for x in case.x[:2]
        ]
        assert_close(heat, np.stack(expected), 1e-4)


def test_patches_by_default(eager):
    """Eight along each axis, none of them empty; all values of one have the same share."""
    x = keras.Input((17, 9, 3), name="x")
    model = keras.Model(x, keras.layers.Dense(2, name="out")(keras.layers.Flatten(name="flat")(x)))
    given = models.normal(1, 17, 9, 3)
    heat = KernelSHAP(model, masks=200).analyze(given, 0)[0]
    assert len(np.unique(heat)) == 64
    np.testing.assert_array_equal(heat[0, 0], heat[1, 1])
    assert heat[0, 0, 0] != heat[3, 0, 0] and np.all(heat == heat[..., :1])
    np.testing.assert_allclose(heat.sum(), model(given)[0, 0] - model(0 * given)[0, 0], rtol=1e-4)


def test_sums_are_the_difference(eager):
    """Also with few coalitions; measures know it."""
    case, rows = models.case("conv_bn"), models.normal(3, 8, 7, 2, seed=4)
    analyzer = KernelSHAP(case.model, rows, masks=150)
    wanted = case.logits(case.x[:2]).numpy()[:, 1] - case.logits(rows).numpy()[:, 1].mean()
    np.testing.assert_allclose(analyzer.analyze(case.x[:2], 1).sum((1, 2, 3)), wanted, rtol=1e-4, atol=1e-5)
    report = analyzer.check(case.x[:2], 1)
    np.testing.assert_allclose(report.start, wanted, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(report.gap, 0, atol=1e-4)
    np.testing.assert_allclose(metrics.completeness(analyzer, case.x[:2], 1).gap, 0, atol=1e-4)


def test_several_inputs_and_tokens(eager):
    """The parts of all inputs play together."""
    case = models.case("two_inputs")
    one, two = KernelSHAP(case.model, segments=[None, np.array([0, 0, 1])]).analyze([x[:1] for x in case.x], 1)

    def value(parts):
        a = np.where(np.isin(np.arange(4), parts), case.x[0][:1], 0)
        b = np.where(np.isin(np.array([4, 4, 5]), parts)[:, None], case.x[1][:1], 0)
        return float(case.logits([a.astype("float32"), b.astype("float32")])[0, 1])

    expected = shapley(value, 6)
    assert_close(one[0], expected[:4], 1e-4)
    assert_close(two[0], np.repeat(expected[[4, 4, 5]] / [4, 4, 2], 2).reshape(3, 2), 1e-4)
    text = models.case("text")
    heat = KernelSHAP(text.model).analyze(text.x[:1], 1)
    value = lambda parts: float(text.logits(np.where(np.isin(np.arange(6), parts), text.x[:1], 0))[0, 1])  # noqa: E731
    assert_close(heat[0], shapley(value, 6), 1e-4)


def test_draws_hang_on_the_seed_alone(eager):
    """Nor does it disturb NumPy's own numbers."""
    case = models.case("conv_bn")
    analyzer = KernelSHAP(case.model, masks=130, seed=3)
    np.random.seed(1)
    before = np.random.get_state()[1].copy()
    first = analyzer.analyze(case.x[:2], 1)
    np.testing.assert_array_equal(np.random.get_state()[1], before)
    assert_close(analyzer.analyze(case.x[:2], 1, batch_size=7), first)
    assert_close(analyzer.analyze(case.x[1:2], 1), first[1:])
    assert np.abs(KernelSHAP(case.model, masks=130, seed=4).analyze(case.x[:2], 1) - first).max() > 1e-4


@keras.saving.register_keras_serializable("tests")
def halves(image):
    return (np.arange(image.shape[0])[:, None] * 2 // image.shape[0]) + np.zeros(image.shape[1], int)


def test_files(tmp_path, eager):
    case = models.case("conv_bn")
    labels = quarters((8, 7))
    for segments in (None, labels, halves):
        analyzer = create_analyzer("kernel_shap", case.model, background=0.5, segments=segments, masks=200, seed=2)
        analyzer.save(tmp_path / "analyzer.keras")
        loaded = keras.saving.load_model(tmp_path / "analyzer.keras")
        np.testing.assert_array_equal(loaded.analyze(case.x[:1], 1), analyzer.analyze(case.x[:1], 1))
    with pytest.raises(InvalidInputError, match="cannot be saved"):
        KernelSHAP(case.model, segments=lambda image: labels).save(tmp_path / "other.keras")


def test_what_is_refused(tmp_path, monkeypatch, eager):
    case = models.case("conv_bn")
    model, x = case.model, case.x[:1]
    cases = {
        "tensors": (lambda: KernelSHAP(model)(x), "explains arrays, by analyze"),
        "export": (lambda: KernelSHAP(model).export(tmp_path / "served"), "cannot be called on tensors, exported"),
        "keep": (lambda: KernelSHAP(model, masks=200).analyze(x, keep=["pool"]), "keeps nothing on the way"),
        "labels": (lambda: KernelSHAP(model, segments=np.zeros((8, 8), int)).analyze(x), r"shape \(8, 7\), a label for"),
        "floats": (lambda: KernelSHAP(model, segments=np.zeros((8, 7))).analyze(x), "whole numbers"),
        "background": (lambda: KernelSHAP(model, np.zeros((2, 3))), "should have shape"),
        "few": (lambda: KernelSHAP(model, masks=60).analyze(x), "do not tell 56 parts apart: ask for at least 112"),
        "masks": (lambda: KernelSHAP(model, masks=0), "masks should be"),
    }
    assert refusals(cases, InvalidInputError) == {}
    monkeypatch.setitem(sys.modules, "shap", None)
    missing = {"shap": (lambda: KernelSHAP(model).analyze(x), r"pip install 'innvest_lite\[shap\]'")}
    assert refusals(missing, InvalidInputError) == {}


def test_a_value_that_is_off_would_be_seen():
    honest = shapley(lambda parts: len(parts) ** 2.0, 4)
    np.testing.assert_allclose(honest, 4.0)
    assert offenders(lambda: assert_close(honest * 1.001, honest, 1e-4), [()]) != {}
