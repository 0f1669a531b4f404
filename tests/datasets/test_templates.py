"""Images of templates under waves: identities, moments within their standard errors, what a network reads."""

import keras
import numpy as np
import pytest
from means import assert_mean

from innvest_lite.datasets import template_images
from innvest_lite.errors import InvalidInputError


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
