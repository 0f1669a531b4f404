"""What an average at the border sees: fewer values, each of which counts more."""

import keras
import numpy as np
from keras import layers

from innvest_lite.forms import forms_of
from innvest_lite.graph import trace
from innvest_lite.metrics.windows import windows


def test_windows_of_an_average_at_the_border():
    """A 2x2 average over 3x3 pixels with padding: windows of four, two, two and one pixel, which are divided by as many."""
    x = keras.Input((3, 3, 2))
    (form,) = forms_of(trace(keras.Model(x, layers.AveragePooling2D(2, padding="same")(x)))).values()
    window = windows(form, [(3, 3, 2)], (2, 2, 2), 99, np.random.default_rng(0))
    image = np.random.default_rng(1).normal(size=(1, 3, 3, 2)).astype("float32")
    seen = np.asarray(window.seen((image,)))[:, :, window.group_of]
    found = seen.sum(-1) / 4
    expected = [image[0, :2, :2].mean((0, 1)), image[0, :2, 2:].mean((0, 1))]
    expected += [image[0, 2:, :2].mean((0, 1)), image[0, 2:, 2:].mean((0, 1))]
    assert window.positions.tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(found[0], expected, rtol=1e-6)
