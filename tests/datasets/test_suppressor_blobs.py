"""Blobs and their suppressor: drawn by hand, weighed as published, and read best by the weight."""

import math

import numpy as np
import pytest
from means import ERRORS, assert_covariance, assert_mean

from innvest_lite.datasets import suppressor_blobs
from innvest_lite.errors import InvalidInputError

SAMPLES = 20_000
BLOB = np.array([[0, 0.5, 0.5, 0], [0.5, 1, 1, 0.5], [0.5, 1, 1, 0.5], [0, 0.5, 0.5, 0]])
SIGNAL, DISTRACTOR = np.zeros((8, 8)), np.zeros((8, 8))
SIGNAL[:4, :4], SIGNAL[4:, :4] = BLOB, -BLOB
DISTRACTOR[:4, :4], DISTRACTOR[:4, 4:] = BLOB, -BLOB


@pytest.mark.parametrize("strength", [0, 0.02, 0.08, 0.5])
@pytest.mark.parametrize("noise", ["white", "correlated"])
def test_the_parts_are_the_blobs_in_the_published_proportion(strength, noise):
    data = suppressor_blobs(4000, strength, noise, seed=2)
    np.testing.assert_array_equal(data.x, data.signal + data.distractor + data.noise)
    signs = 2 * data.y - 1
    assert_mean(signs[:, None], 0)
    # Both have 8 pixels of 1/2 and 4 of 1 in each blob: a norm of sqrt(12).
    expected = strength / math.sqrt(12) * np.multiply.outer(signs, SIGNAL)
    np.testing.assert_allclose(data.signal[..., 0], expected, atol=1e-7)
    drawn = data.distractor[:, 1, 1, 0]
    np.testing.assert_allclose(data.distractor[..., 0], np.multiply.outer(drawn, DISTRACTOR), atol=1e-7)
    assert_covariance(drawn[:, None], ((1 - strength) / 2) ** 2 / 12)
    assert_mean(drawn[:, None] * signs[:, None], 0)
    assert_mean((np.float64(data.noise) ** 2).sum((1, 2, 3))[:, None], ((1 - strength) / 2) ** 2)
    np.testing.assert_array_equal(data.masks, np.broadcast_to((SIGNAL != 0)[..., None], data.x.shape))


@pytest.mark.parametrize("noise", ["white", "correlated"])
def test_no_weight_reads_the_class_better(noise):
    """The log-loss is convex, and stands still at the weight: in all directions, of the bias too."""
    data = suppressor_blobs(SAMPLES, noise=noise, seed=4)
    x = np.float64(data.x).reshape(SAMPLES, -1)
    logits = x @ data.weight.ravel()
    surprise = data.y - 1 / (1 + np.exp(-logits))
    assert_mean(surprise[:, None] * np.column_stack([x, np.ones(SAMPLES), logits]), 0)
    # Logits are normal, of mean +-m and variance 2 m.
    mean = np.float64(data.weight).ravel() @ (SIGNAL.ravel() * 0.08 / math.sqrt(12))
    assert_mean(((logits > 0) == data.y)[:, None], (1 + math.erf(math.sqrt(mean / 2) / math.sqrt(2))) / 2)


def test_a_suppressor_is_weighed_and_says_nothing():
    data = suppressor_blobs(SAMPLES, noise="white")
    suppressors = np.zeros((8, 8), bool)
    suppressors[:4, 4:] = BLOB != 0
    assert not (data.masks[0, ..., 0] & suppressors).any()
    # In white noise: the signal without what it shares with the distractor, but for 1 / 65 as noise is a 64th at a pixel.
    expected = 2 * 0.08 / math.sqrt(12) * 64 / 0.46**2 * (SIGNAL - 32 / 65 * DISTRACTOR)
    np.testing.assert_allclose(data.weight[..., 0], expected, rtol=1e-5, atol=1e-5)
    assert np.all(data.weight[..., 0][suppressors] > 3)
    assert_mean((data.y - 0.5)[:, None] * data.x[..., 0][:, suppressors], 0)
    correlation = np.corrcoef(data.x[:, 1, 1, 0], data.y)[0, 1]
    assert correlation > ERRORS / math.sqrt(SAMPLES)


def test_correlated_noise_has_the_spectrum_that_is_said():
    data = suppressor_blobs(SAMPLES, seed=1)
    noise = np.float64(data.noise).reshape(SAMPLES, -1)
    covariance = noise.T @ noise / SAMPLES
    variances = np.linalg.eigvalsh(covariance)
    # Uniform on [0, 1] plus a hundredth, before scaling.
    found = np.sort(variances / variances.sum() * 64 * 0.51)
    np.testing.assert_allclose(found, (np.arange(64) + 0.5) / 64 + 0.01, atol=0.15)
    correlations = covariance / np.sqrt(np.outer(np.diag(covariance), np.diag(covariance)))
    assert 0.2 < np.abs(correlations - np.eye(64)).max() < 0.9
    # The axes are random too: no pixel is one.
    assert np.diag(covariance).std() < 0.3 * variances.std()


def test_the_problem_depends_on_the_seed_alone():
    one, other = suppressor_blobs(3, seed=5), suppressor_blobs(90, seed=5)
    np.testing.assert_array_equal(one.weight, other.weight)
    assert not np.array_equal(one.weight, suppressor_blobs(3, seed=6).weight)
    np.testing.assert_array_equal(np.unique(np.abs(one.signal)), np.unique(np.abs(other.signal)))


@pytest.mark.parametrize(
    "options, match",
    [
        ({"signal_strength": -0.1}, r"signal_strength should be a number in 0\.\.1"),
        ({"signal_strength": 1}, "signal_strength should be below 1"),
        ({"signal_strength": "0.1"}, "signal_strength should be a number"),
        ({"noise": "pink"}, r"noise should be one of \('white', 'correlated'\), but is 'pink'"),
        ({"noise": None}, "noise should be one of"),
    ],
)
def test_bad_blobs(options, match):
    with pytest.raises(InvalidInputError, match=match):
        suppressor_blobs(10, **options)
