"""Signals, distractors and suppressors: identities, moments within their standard errors, the weights in closed form."""

import keras
import numpy as np
import pytest
from means import ERRORS, assert_covariance, assert_mean

import innvest_lite
from innvest_lite.datasets import signal_distractor, suppressor
from innvest_lite.errors import InvalidInputError

SAMPLES = 20_000
SIGNAL, DISTRACTORS = (1.0, 2.0, 0.0, -1.0), ((1.0, 1.0, 0.5, 0.0), (0.0, 3.0, -1.0, 1.0))


def cosine(one, other):
    one, other = np.ravel(np.float64(one)), np.ravel(np.float64(other))
    return one @ other / np.linalg.norm(one) / np.linalg.norm(other)


# signal_distractor


@pytest.mark.parametrize("signal, distractor", [((1, 0), (1, 1)), (SIGNAL, DISTRACTORS), ((2.0, 1.0), np.zeros(2))])
def test_signal_and_distractor_make_x_and_the_weight_reads_y(signal, distractor):
    data = signal_distractor(500, signal, distractor, noise=2.0)
    np.testing.assert_array_equal(data.x, data.signal + data.distractor)
    np.testing.assert_array_equal(data.signal, np.outer(data.y, np.float32(signal)))
    np.testing.assert_allclose(data.weight @ data.signal_direction, 1, atol=1e-6)
    np.testing.assert_allclose(data.distractor_directions @ data.weight, 0, atol=1e-6)
    np.testing.assert_allclose(data.x @ data.weight, data.y, atol=1e-5)
    # The shortest of all such weights is the pseudo-inverse's.
    directions = np.vstack([signal, distractor])
    expected = np.linalg.pinv(directions)[:, 0]
    np.testing.assert_allclose(data.weight, expected, atol=1e-6)


def test_moments_of_the_toy():
    data = signal_distractor(SAMPLES, SIGNAL, DISTRACTORS, noise=1.5, seed=1)
    assert np.abs(data.y).max() <= 1
    assert_mean(data.x, 0)
    assert_covariance(data.y[:, None], 1 / 3)
    signal, distractors = np.array(SIGNAL), np.array(DISTRACTORS)
    assert_covariance(data.x, np.outer(signal, signal) / 3 + 1.5**2 * distractors.T @ distractors)
    # The distractor says nothing of y.
    assert_mean(data.distractor * data.y[:, None], 0)


def test_a_weak_distractor_is_cancelled_too():
    data = signal_distractor(3, (1.0, 1.0, 1.0), ((1e4, 0, 0), (0, 1e-4, 0)))
    np.testing.assert_allclose(data.weight, (0, 0, 1), atol=1e-6)


def test_one_distractor_may_come_twice_and_none_be_heard():
    np.testing.assert_allclose(signal_distractor(3, (1, 0), ((1, 1), (2, 2))).weight, (1, -1), atol=1e-6)
    quiet = signal_distractor(9, noise=0)
    np.testing.assert_array_equal(quiet.x, quiet.signal)


@pytest.mark.parametrize(
    "options, match",
    [
        ({"signal": (2, 2)}, "lies in the span"),
        ({"distractor": ((1, 1), (0, 1))}, "lies in the span"),
        ({"signal": (0, 0)}, "not all 0"),
        ({"signal": 1.0}, r"shape \(\)"),
        ({"signal": ((1, 0),)}, r"shape \(1, 2\)"),
        ({"distractor": (1, 1, 1)}, r"distractor should have shape \(2,\) or \(distractors, 2\).*\(3,\)"),
        ({"distractor": ((1, 1), (1,))}, "distractor cannot be read as an array"),
        ({"distractor": ()}, "distractor should hold numbers"),
        ({"distractor": np.zeros((1, 1, 2))}, "distractor should have shape"),
        ({"signal": ("a", "b")}, "signal should hold numbers"),
        ({"signal": (1, np.nan)}, "signal has values that are not finite"),
        ({"signal": (1e39, 0)}, "range of float32"),
        ({"signal": (1e-39, 0)}, "The weight has values"),
        ({"noise": 3e38}, "range of float32"),
        ({"noise": -1}, "noise should be a number of at least 0"),
        ({"noise": np.nan}, "noise should be a number"),
        ({"noise": 1e300}, "float32's range"),
    ],
)
def test_bad_toys(options, match):
    with pytest.raises(InvalidInputError, match=match):
        signal_distractor(100, **options)


def linear(weight):
    model = keras.Sequential([keras.Input((len(weight),)), keras.layers.Dense(1, use_bias=False, name="readout")])
    model.set_weights([np.reshape(weight, (-1, 1))])
    return model


@pytest.mark.parametrize("signal, distractor", [((1, 0), (1, 1)), (SIGNAL, DISTRACTORS)])
@pytest.mark.parametrize("estimator", ["linear", "relu"])
def test_patterns_show_the_signal_and_the_gradient_shows_the_weight(signal, distractor, estimator, eager):
    data = signal_distractor(SAMPLES, signal, distractor)
    model = linear(data.weight)
    patterns = innvest_lite.fit_patterns(model, data.x, estimator, batch_size=1000, verbose=0)
    assert abs(cosine(patterns["readout"], signal)) > 0.99
    shown = innvest_lite.PatternNet(model, patterns=patterns).analyze(data.x[:5])
    gradient = innvest_lite.Gradient(model).analyze(data.x[:5])
    # As w'a_s = 1, the cosine is 1 / (|w| |a_s|): of the paper's toy, that of 45 degrees.
    expected = 1 / np.linalg.norm(data.weight) / np.linalg.norm(signal)
    for row, slope in zip(shown, gradient, strict=True):
        assert abs(cosine(row, signal)) > 0.99
        assert cosine(slope, signal) == pytest.approx(expected, abs=1e-5)
    assert expected < 0.75


# suppressor


@pytest.mark.parametrize(
    "correlation, separation, deviations",
    [(0.8, 1.0, (1, 1)), (-0.5, 2.0, (1, 1)), (0.0, 1.0, (1, 1)), (0.6, 2.0, [0.5, 3])],
)
def test_moments_of_the_suppressor(correlation, separation, deviations):
    data = suppressor(SAMPLES, correlation, separation, deviations=deviations, seed=2)
    np.testing.assert_array_equal(data.x, data.signal + data.noise)
    np.testing.assert_array_equal(data.signal, np.outer(data.y - 0.5, np.float32((separation, 0))))
    assert set(data.y) == {0, 1}
    assert_mean(data.y[:, None], 0.5)
    assert_mean(data.noise, 0)
    assert_covariance(data.noise, np.outer(deviations, deviations) * [[1, correlation], [correlation, 1]])
    assert_mean((data.y[:, None] - 0.5) * data.x, np.array([separation / 4, 0]))
    assert data.informative.tolist() == [True, False]


@pytest.mark.parametrize(
    "deviations, expected", [((1, 1), np.array([1, -0.8]) / 0.36), ((0.5, 2), np.array([4, -0.8]) / 0.36)]
)
def test_the_suppressor_says_nothing_yet_the_fitted_weight_uses_it(deviations, expected):
    data = suppressor(SAMPLES, 0.8, 1.0, deviations=deviations)
    assert abs(np.corrcoef(data.x[:, 1], data.y)[0, 1]) < ERRORS / np.sqrt(SAMPLES)
    np.testing.assert_allclose(data.weight, expected, rtol=1e-6)
    features = np.column_stack([np.float64(data.x), np.ones(SAMPLES)])
    weight, information = logistic(features, data.y)
    errors = np.sqrt(np.diag(np.linalg.inv(information)))
    assert np.all(np.abs(weight - [*data.weight, 0]) < ERRORS * errors)
    assert weight[1] < -30 * errors[1]


def test_suppressors_that_float32_cannot_hold():
    with pytest.raises(InvalidInputError, match="The noise has values"):
        suppressor(100, deviations=(3e38, 1))
    with pytest.raises(InvalidInputError, match="The weight has values"):
        suppressor(100, deviations=(1e-30, 1))


def logistic(features, labels):
    """Logistic regression by Newton's steps: the weights and the Fisher information."""
    weight = np.zeros(features.shape[1])
    for _ in range(20):
        likely = 1 / (1 + np.exp(-features @ weight))
        information = (features * (likely * (1 - likely))[:, None]).T @ features
        weight = weight + np.linalg.solve(information, features.T @ (labels - likely))
    return weight, information


@pytest.mark.parametrize(
    "options",
    [{"correlation": 1}, {"correlation": -1.5}, {"correlation": "0"}, {"correlation": np.nan}]
    + [{"separation": value} for value in (0, -1, np.inf, 1e300, None)]
    + [{"deviations": value} for value in (1.0, (1, 0), (1, -1), (1,), (1, np.nan), (1, 1e300), "ab")],
)
def test_bad_suppressors(options):
    with pytest.raises(InvalidInputError, match=f"{next(iter(options))}.* (should|but)"):
        suppressor(10, **options)
