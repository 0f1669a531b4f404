"""What counts as a sample of the positive regime, and that what only fills up a batch counts as none.

Sums by NumPy in float64, from the definition.
"""

import keras
import models
import numpy as np
import pytest
from keras import layers

import innvest_lite


def one_layer(**options):
    x = keras.Input((5,), name="x")
    value = layers.Dense(4, activation="relu", name="hidden", **options)(x)
    return models.randomize(keras.Model(x, layers.Dense(2, name="out")(value)), seed=8)


def test_a_unit_at_exactly_zero_is_not_active():
    """As blank regions of an image are to a convolution without a bias; ReLU passes what is above 0."""
    model, x = one_layer(use_bias=False), models.normal(50, 5, seed=9)
    x[20:] = 0
    found = innvest_lite.fit_statistics(model, x, verbose=0).layers["hidden"]
    active = x.astype("float64") @ np.asarray(model.get_layer("hidden").kernel, "float64") > 0
    assert 0 < active.sum() < 80
    np.testing.assert_array_equal(found.active, active.sum(0))
    np.testing.assert_allclose(found.active_x, x.astype("float64").T @ active, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("weighted", [False, True])
def test_what_fills_up_the_last_batch_counts_as_no_sample(weighted):
    """Under XLA all batches have one size; 10 samples are three batches of 4."""
    model, x = one_layer(), models.normal(10, 5, seed=10)
    weights = np.linspace(0.5, 2, 10) if weighted else np.ones(10)
    options = {"sample_weight": weights} if weighted else {}
    found = innvest_lite.fit_statistics(model, x, batch_size=4, jit_compile=True, verbose=0, **options)
    layer, hidden = found.layers["hidden"], model.get_layer("hidden")
    given = x.astype("float64")
    y = given @ np.asarray(hidden.kernel, "float64")
    active = weights[:, None] * (y + np.asarray(hidden.bias, "float64") > 0)
    assert found.samples == 10
    np.testing.assert_allclose(layer.count, weights.sum(), rtol=1e-6)
    np.testing.assert_allclose(layer.sum_y + layer.count * layer.pivot, weights @ y, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(layer.active, active.sum(0), rtol=1e-6)
    np.testing.assert_allclose(layer.active_x, given.T @ active, rtol=1e-5, atol=1e-5)


def test_weights_of_samples_count_in_every_sum_of_a_convolution():
    """Of inputs, of outputs and of their products; a window at each of five positions, worked out one by one."""
    x = keras.Input((6, 3), name="x")
    value = layers.Flatten()(layers.Conv1D(4, 2, activation="relu", name="conv")(x))
    model = models.randomize(keras.Model(x, layers.Dense(2, name="out")(value)), seed=15)
    samples, weights = models.normal(12, 6, 3, seed=16), np.linspace(0.25, 3, 12)
    found = innvest_lite.fit_statistics(model, samples, sample_weight=weights, batch_size=5, verbose=0).layers["conv"]
    kernel, bias = (np.asarray(weight, "float64") for weight in model.get_layer("conv").weights)
    windows = np.stack([samples[:, place : place + 2].astype("float64") for place in range(5)], axis=1)
    y = np.einsum("nptc,tcu->npu", windows, kernel)
    active = weights[:, None, None] * (y + bias > 0)
    by_hand = {
        "count": 5 * weights.sum(),
        "sum_x": np.einsum("n,nptc->tc", weights, windows)[..., None],
        "sum_y": np.einsum("n,npu->u", weights, y) - 5 * weights.sum() * found.pivot,
        "sum_xy": np.einsum("n,nptc,npu->tcu", weights, windows, y - found.pivot),
        "active": active.sum((0, 1)),
        "active_x": np.einsum("nptc,npu->tcu", windows, active),
        "active_xy": np.einsum("nptc,npu->tcu", windows, active * (y - found.pivot)),
    }
    for name, expected in by_hand.items():
        np.testing.assert_allclose(getattr(found, name), expected, rtol=1e-4, atol=1e-4, err_msg=name)
