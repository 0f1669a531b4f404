"""Shares of this sample: PatternAttribution by x * w * a, as loops over units and as what `check` accounts for."""

import keras
import models
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from untraced import eager_fits  # noqa: F401  (a fixture)

import innvest_lite
from innvest_lite import backend, rules
from innvest_lite.forms import forms_of
from innvest_lite.graph import trace
from innvest_lite.rules import Call

pytestmark = pytest.mark.usefixtures("eager", "eager_fits")


def looped(x, kernel, relevance):
    """R_i = sum_j (x_i v_ij)+ / sum_k (x_k v_kj)+ R_j, in float64, and what arrives where nothing is positive."""
    shares, lost = np.zeros_like(x), 0.0
    for row in range(len(x)):
        for unit in range(kernel.shape[1]):
            positive = [max(value * weight, 0) for value, weight in zip(x[row], kernel[:, unit], strict=True)]
            if not sum(positive):
                lost += relevance[row, unit]
                continue
            for place, part in enumerate(positive):
                shares[row, place] += part / sum(positive) * relevance[row, unit]
    return shares, lost


def test_inputs_share_by_what_they_contribute_for_the_signal():
    """Inputs of both signs and of 0, and a unit with no positive contribution at all."""
    rng = np.random.default_rng(1)
    x, kernel, arrived = rng.normal(size=(4, 6)), rng.normal(size=(6, 3)), rng.normal(size=(4, 3))
    x[:, 2] = 0
    x[0], kernel[:, 1] = np.abs(x[0]), -np.abs(kernel[:, 1])
    expected, lost = looped(x, kernel, arrived)
    assert lost == arrived[0, 1]
    i = keras.Input((6,))
    (form,) = forms_of(trace(keras.Model(i, layers.Dense(3)(i)))).values()
    inputs = (tf.constant(x, tf.float32),)
    outputs, pullback = backend.vjp(form.forward, *inputs)
    call, relevance = (
        Call(form, inputs, outputs, pullback, tf.constant(kernel, tf.float32)),
        tf.constant(arrived, tf.float32),
    )
    (found,) = rules.PatternShares().reverse(call, (relevance,))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    absorbed = rules.PatternShares().absorbed(call, (relevance,))
    np.testing.assert_allclose(np.sum(absorbed["epsilon"]), lost, rtol=1e-5)


def residual_network():
    x = keras.Input((8, 8, 2))
    y = layers.Conv2D(6, 3, padding="same", activation="relu")(x)
    z = layers.BatchNormalization()(layers.DepthwiseConv2D(3, padding="same")(y))
    y = layers.Add()([y, layers.Conv2D(6, 1)(layers.ReLU(6.0)(z))])
    return models.randomize(keras.Model(x, layers.Dense(3)(layers.GlobalAveragePooling2D()(y))), seed=7)


def test_nothing_is_lost_but_where_a_unit_has_no_positive_contribution():
    model, x = residual_network(), models.normal(60, 8, 8, 2)
    analyzer = innvest_lite.PatternAttribution(model, shares="sample", start="logit").fit(x, verbose=0)
    report = analyzer.check(x[:8])
    assert report.unexplained.max() < 1e-5
    maps, logits = analyzer.analyze(x[:8]), model.predict(x[:8], verbose=0).max(1)
    # Shares are between 0 and 1: no map has more in it than it starts from.
    assert (np.abs(maps).sum((1, 2, 3)) <= np.abs(logits) * (1 + 1e-4)).all()
    assert np.median(maps.sum((1, 2, 3)) / logits) > 0.9
    assert not np.any((maps != 0) & (x[:8] == 0))


def test_the_shares_are_an_option_that_is_kept(tmp_path):
    model, x = residual_network(), models.normal(60, 8, 8, 2)
    analyzer = innvest_lite.PatternAttribution(model, shares="sample").fit(x, verbose=0)
    expected = analyzer.analyze(x[:2])
    assert not np.allclose(expected, innvest_lite.PatternAttribution(model, patterns=analyzer.patterns).analyze(x[:2]))
    analyzer.save(tmp_path / "shares.keras")
    np.testing.assert_array_equal(keras.saving.load_model(tmp_path / "shares.keras").analyze(x[:2]), expected)
