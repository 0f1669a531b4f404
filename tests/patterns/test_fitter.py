"""Which batches of the data a fit takes, and of which it gathers everything: worked out from their numbers."""

import keras
import models
import numpy as np
import pytest
from keras import layers

import innvest_lite
from innvest_lite.patterns import fitter


@pytest.fixture
def soon(monkeypatch):
    """Everything is gathered of the first 16 samples, afterwards of every fourth batch."""
    for name, value in {"FULL_SAMPLES": 16, "FULL_EVERY": 4, "FLUSH_EVERY": 3}.items():
        monkeypatch.setattr(fitter, name, value)


def one_layer():
    x = keras.Input((5,), name="x")
    model = keras.Model(x, layers.Dense(3, activation="relu", name="dense")(x))
    models.randomize(model, seed=17)
    model.get_layer("dense").bias.assign(np.zeros(3))
    return model


def gathered(x, **options):
    options = {"estimator": "relu", "batch_size": 8, "verbose": 0, **options}
    return innvest_lite.fit_statistics(one_layer(), x, **options).layers["dense"]


@pytest.mark.parametrize("steps", [2, 7])
def test_a_fit_that_is_gone_on_with_gathers_of_the_same_batches(soon, tmp_path, steps):
    """Of 20 batches: 0 and 1, then 4, 8, 12 and 16, wherever it was broken off."""
    x = models.normal(160, 5, seed=18)
    gathered(x, steps=steps, checkpoint=tmp_path / "part.h5")
    found = gathered(x, checkpoint=tmp_path / "part.h5")
    assert (found.count, found.linear_count) == (160, 6 * 8)
    of_all = x.reshape(20, 8, 5)[[0, 1, 4, 8, 12, 16]].astype("float64").sum((0, 1))
    np.testing.assert_allclose(found.sum_x[:, 0], of_all, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    "shard, steps, batches",
    [((1, 3), 2, [1, 4]), ((2, 3), None, [2, 5, 8]), ((3, 4), 9, [3, 7])],
)
def test_steps_of_a_shard_are_so_many_batches(shard, steps, batches):
    """Every third batch from number 1 on, say, and so many of them."""
    x = models.normal(80, 5, seed=19)
    found = gathered(x, estimator="linear", shard=shard, steps=steps)
    assert found.count == 8 * len(batches)
    expected = x.reshape(10, 8, 5)[batches].astype("float64").sum((0, 1))
    np.testing.assert_allclose(found.sum_x[:, 0], expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("estimator", ["linear", "relu"])
def test_a_fit_after_one_that_failed_begins_with_nothing(estimator):
    """What the failed one had gathered on the device by then, small sums and products, would count in the next one."""
    model, x = one_layer(), models.normal(40, 5, seed=20)
    fits = innvest_lite.patterns.PatternFits(model, estimator)
    spoilt = np.concatenate([5 + x[:24], np.full((8, 5), np.nan, "float32")])
    with pytest.raises(innvest_lite.InvalidInputError):
        fits(iter(np.split(spoilt, 4)), verbose=0)
    found = fits(x, batch_size=8, verbose=0)["dense"]
    kernel, x = np.asarray(model.get_layer("dense").kernel, "float64"), x.astype("float64")
    y = x @ kernel
    of_all = x.T @ y / 40 - np.outer(x.mean(0), y.mean(0))
    active = y > 0
    in_regime = (x.T @ (y * active) - (x.T @ active) * y.mean(0)) / active.sum(0)
    signal = of_all if estimator == "linear" else in_regime
    np.testing.assert_allclose(found, signal / (kernel * signal).sum(0), rtol=1e-4, atol=1e-5)
