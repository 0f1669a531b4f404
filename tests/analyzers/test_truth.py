"""What the paper promises, on images whose signal is known: PatternNet is like it, and the gradient's kin less so."""

import keras
import numpy as np
import pytest

import innvest_lite
from innvest_lite.datasets import template_images

MARGIN = 0.08


def correlations(found, signal):
    """Pearson's, sample by sample."""
    found, signal = (part.reshape(len(part), -1) - part.mean((1, 2, 3))[:, None] for part in (found, signal))
    return (found * signal).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(signal, axis=1)


@pytest.fixture(scope="module")
def trained():
    """A small VGG-like network and its data; the last 200 were not trained on."""
    keras.utils.set_random_seed(0)
    data = template_images(4200)
    stack = [keras.Input((28, 28, 1))]
    for filters in (8, 16):
        stack += [keras.layers.Conv2D(filters, 3, padding="same", activation="relu") for _ in range(2)]
        stack += [keras.layers.MaxPooling2D()]
    stack += [keras.layers.Flatten(), keras.layers.Dense(32, activation="relu"), keras.layers.Dense(2)]
    model = keras.Sequential(stack)
    model.compile(keras.optimizers.Adam(2e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(data.images[:4000], data.labels[:4000], epochs=4, verbose=0)
    return model, data


@pytest.mark.slow
def test_the_network_reads_the_class(trained):
    model, data = trained
    assert np.mean(model.predict(data.images[4000:], verbose=0).argmax(1) == data.labels[4000:]) > 0.98


@pytest.mark.slow
@pytest.mark.parametrize("estimator", ["relu", "linear"])
def test_pattern_net_is_more_like_the_signal(trained, estimator):
    model, data = trained
    test, labels, signal = data.images[4000:], data.labels[4000:], data.signal[4000:]
    analyzer = innvest_lite.PatternNet(model, estimator=estimator).fit(data.images[:4000], batch_size=100, verbose=0)
    own = correlations(analyzer.analyze(test, target=labels), signal)
    for other in ("Gradient", "Deconvnet", "GuidedBackprop"):
        theirs = correlations(getattr(innvest_lite, other)(model).analyze(test, target=labels), signal)
        assert np.mean(own) > np.mean(theirs) + MARGIN, (np.mean(own), other, np.mean(theirs))
