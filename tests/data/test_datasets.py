"""Data with a ground truth: identities, moments within their standard errors, and what is promised of explanations."""

import dataclasses

import keras
import numpy as np
import pytest

import innvest_lite
from innvest_lite.datasets import signal_distractor, suppressor, template_images
from innvest_lite.errors import InvalidInputError

MAKERS = (signal_distractor, suppressor, template_images)
SAMPLES = 20_000
# Standard errors that a mean may be off by: with some hundred means looked at, and fixed seeds.
ERRORS = 4.5
SIGNAL, DISTRACTORS = (1.0, 2.0, 0.0, -1.0), ((1.0, 1.0, 0.5, 0.0), (0.0, 3.0, -1.0, 1.0))


def assert_mean(values, expected):
    """The means along the first axis, as near as their standard errors let one hope."""
    values = np.float64(values)
    error = values.std(0) / np.sqrt(len(values))
    assert np.all(np.abs(values.mean(0) - expected) <= ERRORS * error + 1e-6), (values.mean(0), expected, error)


def assert_covariance(values, expected):
    centred = np.float64(values) - np.mean(values, 0, "float64")
    assert_mean(centred[:, :, None] * centred[:, None, :], expected)


def cosine(one, other):
    one, other = np.ravel(np.float64(one)), np.ravel(np.float64(other))
    return one @ other / np.linalg.norm(one) / np.linalg.norm(other)


def arrays(data):
    return {field.name: getattr(data, field.name) for field in dataclasses.fields(data)}


@pytest.mark.parametrize("make", MAKERS)
def test_shapes_dtypes_and_seeds(make):
    data, again, other = arrays(make(7, seed=3)), arrays(make(7, seed=3)), arrays(make(7, seed=2**64 - 1))
    inputs = data.get("x", data.get("images"))
    assert len(inputs) == 7 and inputs.shape == data["signal"].shape
    for name, array in data.items():
        whole = name == "labels" or (make is suppressor and name == "y")
        assert array.dtype == ("int64" if whole else "bool" if name == "informative" else "float32"), name
        assert np.isfinite(array).all()
        np.testing.assert_array_equal(array, again[name])
    assert not np.array_equal(inputs, other.get("x", other.get("images")))
    with pytest.raises(dataclasses.FrozenInstanceError):
        make(2).signal = 0


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("option", [{"samples": 0}, {"samples": 2.5}, {"seed": -1}, {"seed": "0"}, {"samples": True}])
def test_bad_numbers(make, option):
    with pytest.raises(InvalidInputError, match=f"{next(iter(option))} should"):
        make(**{"samples": 3, **option})


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


@pytest.mark.parametrize("correlation, separation", [(0.8, 1.0), (-0.5, 2.0), (0.0, 1.0)])
def test_moments_of_the_suppressor(correlation, separation):
    data = suppressor(SAMPLES, correlation, separation, seed=2)
    np.testing.assert_array_equal(data.x, data.signal + data.noise)
    np.testing.assert_array_equal(data.signal, np.outer(data.y - 0.5, np.float32((separation, 0))))
    assert set(data.y) == {0, 1}
    assert_mean(data.y[:, None], 0.5)
    assert_mean(data.noise, 0)
    assert_covariance(data.noise, [[1, correlation], [correlation, 1]])
    assert_mean((data.y[:, None] - 0.5) * data.x, np.array([separation / 4, 0]))
    assert data.informative.tolist() == [True, False]


def test_the_suppressor_says_nothing_yet_the_fitted_weight_uses_it():
    data = suppressor(SAMPLES, 0.8, 1.0)
    assert abs(np.corrcoef(data.x[:, 1], data.y)[0, 1]) < ERRORS / np.sqrt(SAMPLES)
    np.testing.assert_allclose(data.weight, np.array([1, -0.8]) / 0.36, rtol=1e-6)
    features = np.column_stack([np.float64(data.x), np.ones(SAMPLES)])
    weight, information = logistic(features, data.y)
    errors = np.sqrt(np.diag(np.linalg.inv(information)))
    assert np.all(np.abs(weight - [*data.weight, 0]) < ERRORS * errors)
    assert weight[1] < -30 * errors[1]


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
    + [{"separation": value} for value in (0, -1, np.inf, 1e300, None)],
)
def test_bad_suppressors(options):
    with pytest.raises(InvalidInputError, match=f"{next(iter(options))}.* (should|but)"):
        suppressor(10, **options)


# template_images


def test_images_are_signal_and_waves_and_a_little_noise():
    data = template_images(300, size=20, classes=3, distractors=2, strength=1.5, noise=0.2)
    assert data.images.shape == (300, 20, 20, 1)
    assert data.templates.shape == (3, 20, 20, 1) and data.waves.shape == (4, 20, 20, 1)
    noise = np.float64(data.images) - data.signal - data.distractor
    assert_mean(noise.reshape(-1, 1), 0)
    assert_mean(noise.reshape(-1, 1) ** 2, 0.2**2)
    # The peak of a template is 1, and so an image's amplitude the peak of its signal.
    amplitudes = data.signal.max((1, 2, 3), keepdims=True)
    assert 0.5 <= amplitudes.min() < 0.6 and 1.4 < amplitudes.max() <= 1.5
    np.testing.assert_allclose(data.signal, amplitudes * data.templates[data.labels], atol=1e-6)
    quiet = template_images(5, strength=0, noise=0)
    np.testing.assert_array_equal(quiet.images, quiet.signal)


def test_distractors_are_waves_as_strong_at_every_pixel():
    data = template_images(5000, size=12, distractors=3, strength=1.5, seed=4)
    flat, waves = data.distractor.reshape(5000, -1).astype("float64"), data.waves.reshape(6, -1).astype("float64")
    np.testing.assert_allclose((waves**2).sum(0), 3, rtol=1e-5)
    remainder = flat - flat @ np.linalg.pinv(waves) @ waves
    assert np.abs(remainder).max() < 1e-4
    assert_mean(flat, 0)
    assert_mean(flat**2, 1.5**2)


def periods_of(wave):
    """How many periods a plane wave has per image: the turns of its phase from pixel to pixel, in both directions."""
    turns = [np.angle(wave[1:] / wave[:-1]).mean(), np.angle(wave[:, 1:] / wave[:, :-1]).mean()]
    return np.linalg.norm(turns) * len(wave) / (2 * np.pi)


@pytest.mark.parametrize("periods", [(0.25, 1.0), (2.0, 2.5), (0, 0)])
def test_waves_have_so_many_periods(periods):
    waves = np.float64(template_images(1, distractors=20, periods=periods).waves[..., 0])
    found = [periods_of(cosine + 1j * sine) for cosine, sine in zip(waves[:20], waves[20:], strict=True)]
    assert min(found) >= periods[0] - 1e-4 and max(found) <= periods[1] + 1e-4
    assert np.ptp(found) > 0.5 * np.ptp(periods) or periods == (0, 0)


@pytest.mark.parametrize("classes", [2, 5])
def test_templates_are_known_apart_and_not_made_of_waves(classes):
    data = template_images(2, classes=classes)
    templates, waves = (np.float64(part).reshape(len(part), -1) for part in (data.templates, data.waves))
    assert templates.min() >= 0
    np.testing.assert_array_equal(templates.max(1), 1)
    unit = templates / np.linalg.norm(templates, axis=1, keepdims=True)
    assert np.abs(unit @ unit.T - np.eye(classes)).max() < 0.5
    assert np.linalg.norm(unit - unit @ np.linalg.pinv(waves) @ waves, axis=1).min() > 0.5
    # Smooth: neighbouring pixels are alike.
    assert max(np.abs(np.diff(data.templates, axis=axis)).max() for axis in (1, 2)) < 0.6


def test_templates_and_waves_do_not_depend_on_what_is_drawn():
    one, other = template_images(3, seed=5), template_images(9, strength=1.0, noise=0.0, seed=5)
    for name in ("templates", "waves"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@pytest.mark.parametrize(
    "options, match",
    [
        ({"classes": 1}, "classes should be at least 2"),
        ({"classes": 2.0}, "classes should be a whole number"),
        ({"size": 8}, "size should be at least 9 for 2 classes, but is 8"),
        ({"size": 28, "classes": 40}, "size should be at least 33 for 40 classes"),
        ({"distractors": 0}, "distractors should"),
        ({"strength": -1}, "strength should"),
        ({"strength": 3e38}, "range of float32"),
        ({"periods": 2.0}, "periods should be a pair"),
        ({"periods": (2, 1)}, "the smallest first"),
        ({"periods": (-1, 1)}, "periods should be a number of at least 0"),
        ({"noise": "little"}, "noise should"),
    ],
)
def test_bad_images(options, match):
    with pytest.raises(InvalidInputError, match=match):
        template_images(40, **options)


def best_pixel(images, labels):
    """The accuracy on two classes of the best threshold on the best single pixel, chosen on the images themselves."""
    order = np.argsort(images.reshape(len(images), -1), axis=0)
    above = np.cumsum((2 * labels - 1)[order], axis=0)
    # To say 1 above a threshold gains as many samples over saying 1 always as there are more zeros than ones below it.
    right = (labels.sum() - above) / len(labels)
    return max(right.max(), 1 - right.min())


@pytest.mark.slow
@pytest.mark.parametrize(("strength", "by_pixel"), [(0.5, 0.78), (1.0, 0.70)])
def test_a_small_network_reads_the_class_and_no_pixel_does(strength, by_pixel):
    """By a pixel: a difference of 1 under a standard deviation of sqrt(strength^2 + 0.5^2), and the best of many pixels."""
    data = template_images(2000, strength=strength)
    layers = [keras.Input((28, 28, 1))]
    for filters in (8, 16):
        layers += [keras.layers.Conv2D(filters, 3, activation="relu"), keras.layers.MaxPooling2D()]
    model = keras.Sequential([*layers, keras.layers.Flatten(), keras.layers.Dense(2)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(3e-3), loss)
    model.fit(data.images[:1500], data.labels[:1500], epochs=8, verbose=0)
    accuracy = np.mean(model.predict(data.images[1500:], verbose=0).argmax(1) == data.labels[1500:])
    assert accuracy > 0.95, accuracy
    assert by_pixel - 0.04 < best_pixel(data.images, data.labels) < by_pixel
    # The measure itself sees a pixel that does.
    assert best_pixel(data.signal, data.labels) > 0.95
