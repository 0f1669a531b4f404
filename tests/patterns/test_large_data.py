"""Sums over much data: around pivots, in any parts, with products that rest on a part of the data."""

import copy

import keras
import models
import numpy as np
import pytest
import replicas
from fits import assert_same, data, dense, fit, statistics, sums
from models import normal

import innvest_lite
from innvest_lite import PatternStatistics
from innvest_lite.patterns import fitter

_SIZE = 4


def far_away(samples, mean=100):
    """Standard deviation 1, with correlations."""
    generator = np.random.default_rng(31)
    mixed = generator.normal(size=(samples, 6)) @ generator.normal(size=(6, 6)) / np.sqrt(6)
    return (mean + mixed).astype("float32")


def one_layer(mean=100):
    """A layer of which every unit is active about half of the time on `far_away`."""
    x = keras.Input((6,), name="x")
    model = models.randomize(keras.Model(x, keras.layers.Dense(5, activation="relu", name="dense")(x)), 32)
    kernel = model.get_layer("dense").kernel.numpy()
    model.get_layer("dense").bias.assign(-mean * kernel.sum(0))
    return model


@pytest.mark.slow
@pytest.mark.parametrize("estimator", ["relu", "linear"])
def test_ten_thousand_batches_far_from_zero(estimator):
    """The pairs (x, y) are far from 0, so a sum around 0 would lose all digits that count.

    For a+ too, of which three of the five units here have no sound estimate: theirs is the linear one, of all data.
    """
    model, x = one_layer(), far_away(10_000 * _SIZE)
    batches = (x[start : start + _SIZE] for start in range(0, len(x), _SIZE))
    actual = innvest_lite.fit_patterns(model, batches, estimator, verbose=0)["dense"]
    expected = replicas.layer_pattern(model.get_layer("dense"), x.astype("float64"), estimator)
    replicas.assert_same_pattern(actual, expected, 1e-4)


def in_parts(model, x, cuts, **options):
    return [statistics(part, model, batch_size=16, **options) for part in np.split(x, cuts)]


def merged(parts):
    first, *others = copy.deepcopy(parts)
    for other in others:
        first.merge(other)
    return first


@pytest.mark.slow
@pytest.mark.parametrize("mean, tolerance", [(1, 1e-6), (100, 5e-5)])
def test_parts_with_pivots_of_their_own_are_the_whole_in_any_order(mean, tolerance):
    model, x = one_layer(mean), far_away(300, mean)
    whole = statistics(x, model, batch_size=16)
    parts = in_parts(model, x, [50, 51, 200])
    assert len({tuple(part.layers["dense"].pivot) for part in parts}) == 4
    for order in ([0, 1, 2, 3], [3, 1, 0, 2], [2, 3, 1, 0]):
        found = merged([parts[index] for index in order])
        assert found.samples == 300
        assert_same(found.patterns(), whole.patterns(), tolerance)
        assert_same(found.patterns(estimator="linear"), whole.patterns(estimator="linear"), tolerance)
    left = merged([merged(parts[:2]), merged(parts[2:])])
    assert_same(left.patterns(), whole.patterns(), tolerance)
    with pytest.raises(innvest_lite.InvalidInputError, match="with themselves"):
        left.merge(left)


def test_a_merge_with_nothing_changes_nothing():
    model, x = one_layer(), far_away(40)
    whole, nothing = statistics(x, model), statistics(x, model, sample_weight=np.zeros(40))
    assert_same(sums(merged([whole, nothing])), sums(whole), 0)
    assert_same(merged([nothing, whole]).patterns(), whole.patterns(), 1e-12)


# Products that rest on a part of the data ----------------------------------------------------------------------------
@pytest.fixture
def soon(monkeypatch):
    """All is gathered of 64 samples, then of every fourth batch."""
    monkeypatch.setattr(fitter, "FULL_SAMPLES", 64)
    monkeypatch.setattr(fitter, "FULL_EVERY", 4)
    monkeypatch.setattr(fitter, "FLUSH_EVERY", 8)


def counts(found, name="dense"):
    layer = found.layers[name]
    return layer.count, layer.linear_count, float(layer.active.sum()), float(layer.active_count.sum())


def test_what_rests_on_which_batches(soon):
    model, x = one_layer(0), far_away(400, 0)
    everything = statistics(x, model)
    assert counts(everything)[:2] == (400, 400)
    exact = statistics(x, model, estimator="relu")
    # The first 64 samples (8 batches), then of the batches 8 to 49 every fourth: 11.
    assert counts(exact)[:2] == (400, 64 + 11 * 8)
    assert counts(exact)[2] == counts(exact)[3] == counts(everything)[2]
    sampled = statistics(x, model, estimator="relu", approximate=True)
    assert counts(sampled)[:2] == (400, 64 + 11 * 8)
    assert counts(sampled)[3] < counts(sampled)[2] == counts(everything)[2]
    # Units without a sound a+ want the linear pattern, so that layer goes on with the products of every batch.
    assert counts(statistics(far_away(400), one_layer(), estimator="relu"))[:2] == (400, 400)
    linear = statistics(x, model, estimator="linear")
    assert counts_linear(linear) == (400, 400)
    assert linear.layers["dense"].active_xy is None


def counts_linear(found):
    return found.layers["dense"].count, found.layers["dense"].linear_count


def test_the_positive_regime_does_not_rest_on_a_part(soon):
    model, x = one_layer(), far_away(400)
    expected = replicas.layer_pattern(model.get_layer("dense"), x.astype("float64"), "relu")
    replicas.assert_same_pattern(fit(model, x)["dense"], expected)
    assert_same(fit(model, x), statistics(x, model).patterns(), 1e-6)


@pytest.mark.parametrize("mean", [pytest.param(0, marks=pytest.mark.slow), 100])
def test_a_sampled_mean_costs_little(soon, mean):
    """Its error is that of the mean times the distance of the pivot from E[y]: of second order."""
    model, x = one_layer(mean), far_away(2000, mean)
    exact, sampled = fit(model, x)["dense"], fit(model, x, approximate=True)["dense"]
    deviation = np.abs(sampled - exact).max() / np.abs(exact).max()
    # That of E+[x] is some 3 % of a standard deviation, the pivot's, after 64 samples, 12 %.
    assert 0 < deviation < 0.03
    half = fit(model, x[::2])["dense"]
    assert deviation < 0.5 * np.abs(half - exact).max() / np.abs(exact).max(), "less than the noise of the data itself"


@pytest.mark.slow
def test_a_pivot_far_from_the_mean_is_put_right_while_all_is_gathered(soon):
    """The first samples are nothing like the rest; an error of first order would show."""
    model, x = one_layer(), far_away(2000)
    x[:8] += 30
    exact, sampled = fit(model, x)["dense"], fit(model, x, approximate=True)["dense"]
    assert np.abs(sampled - exact).max() / np.abs(exact).max() < 0.02
    pivot = statistics(x, model, estimator="relu", approximate=True).layers["dense"].pivot
    y = x[:64].astype("float64") @ model.get_layer("dense").kernel.numpy()
    np.testing.assert_allclose(pivot, y.mean(0), rtol=1e-5)


@pytest.mark.slow
def test_a_resumed_fit_gathers_the_same(soon, tmp_path):
    model, x = one_layer(), far_away(400)
    for exact in (True, False):
        options = {"estimator": "relu", "approximate": not exact}
        whole = statistics(x, model, **options)
        for steps in (5, 8, 21):
            path = tmp_path / f"{exact}-{steps}.h5"
            statistics(x, model, steps=steps, checkpoint=path, **options)
            resumed = statistics(x, model, checkpoint=path, **options)
            assert counts(resumed) == counts(whole)
            assert_same(resumed.patterns(), whole.patterns(), 1e-5 if exact else 1e-3)


@pytest.mark.slow
def test_parts_with_sampled_means_are_merged(soon):
    model, x = one_layer(), far_away(2000)
    options = {"estimator": "relu", "approximate": True}
    whole = statistics(x, model, batch_size=16, **options).patterns()["dense"]
    found = merged(in_parts(model, x, [500, 1000], **options))
    assert np.abs(found.patterns()["dense"] - whole).max() / np.abs(whole).max() < 0.01
    with pytest.raises(innvest_lite.PatternMismatchError, match="gathered in different ways.*sampled"):
        found.merge(statistics(x, model, estimator="relu"))


def test_a_fallback_that_comes_up_late_rests_on_a_part(soon):
    """The unit is active for all of the first samples, and then a+ is sound; with the later ones it is not."""
    x = keras.Input((6,), name="x")
    model = models.randomize(keras.Model(x, keras.layers.Dense(1, activation="relu", name="dense")(x)), 32)
    layer = model.get_layer("dense")
    weight = layer.kernel.numpy()[:, 0]
    x = far_away(400, 0) - np.float32(30) * weight / (weight @ weight)
    y = x @ weight
    layer.bias.assign([-np.quantile(y, 0.3)])
    # Those above the threshold first, but not in order.
    x = np.concatenate([x[y > np.quantile(y, 0.31)], x[y <= np.quantile(y, 0.31)]])
    found = statistics(x, model, estimator="relu")
    assert counts_linear(found) == (400, 64 + 11 * 8)
    assert found.patterns().reports["dense"].ill_conditioned == 1
    rows = np.concatenate([np.arange(64), *(np.arange(8 * batch, 8 * batch + 8) for batch in range(8, 50, 4))])
    part = replicas.layer_pattern(layer, x[rows].astype("float64"), "linear")
    replicas.assert_same_pattern(found.patterns()["dense"], part)


def test_what_was_not_gathered_is_not_estimated():
    found = statistics(data(), estimator="relu")
    for estimator in ("linear", "relu.negative"):
        with pytest.raises(innvest_lite.InvalidInputError, match=f"for '{estimator}' were not gathered.*made for 'relu'"):
            found.patterns(dense(), estimator)
    assert_same(found.patterns(dense(), "filter"), fit(dense(), None, estimator="filter"))
    assert_same(statistics(data(), estimator="linear").patterns(), fit(dense(), data(), estimator="linear"))


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_policies_accumulate_in_float32(policy):
    """10,000 pairs a unit; a half-precision sum stops growing at 2,048."""
    keras.config.set_dtype_policy(policy)
    try:
        x = keras.Input((20, 6), name="x")
        layer = keras.layers.Dense(5, activation="relu", name="dense")
        model = models.randomize(keras.Model(x, layer(x)), seed=33)
    finally:
        keras.config.set_dtype_policy("float32")
    values = normal(500, 20, 6, seed=34).astype("float16").astype("float32")
    found = statistics(values, model, batch_size=100)
    layer_sums = found.layers["dense"]
    y = values.reshape(-1, 6).astype("float64") @ layer.kernel.numpy().astype("float64")
    assert layer_sums.count == 10_000
    np.testing.assert_allclose(layer_sums.sum_x[:, 0], values.sum((0, 1)), rtol=1e-5, atol=1e-2)
    np.testing.assert_allclose(layer_sums.sum_y + layer_sums.count * layer_sums.pivot, y.sum(0), rtol=0.02, atol=20)
    exact = replicas.layer_pattern(layer, values.reshape(-1, 6), "linear")
    replicas.assert_same_pattern(found.patterns(estimator="linear")["dense"], exact, 0.02)


def test_files_hold_all_that_is_needed(tmp_path):
    found = statistics(data(), estimator={"rectified": "relu", "unrectified": "linear"})
    found.save(tmp_path / "part.h5")
    loaded = PatternStatistics.load(tmp_path / "part.h5")
    assert loaded.estimator == {"rectified": "relu", "unrectified": "linear"}
    assert (loaded.settings, loaded.facts, loaded.complete) == (found.settings, found.facts, True)
    assert_same(sums(loaded), sums(found), 0)
    # Without the model, whose kernels the file holds.
    assert_same(loaded.patterns(), found.patterns(dense()), 0)
