"""VarGrad where the true variance is 0: rounding must not make a negative variance."""

import keras
import models
import numpy as np
from keras import layers

from innvest_lite import VarGrad


def test_a_variance_is_never_negative(eager):
    """The function relu(x) - relu(-x) has the gradient w but at 0, where TensorFlow has 0: there each noisy one lies w off.

    So all deviations from the clean gradient are equal, and float32's E[d^2] - E[d]^2 falls to either side of 0.
    """
    x = keras.Input((400,), name="x")
    value = layers.Subtract()([layers.ReLU()(x), layers.ReLU()(-x)])
    model = models.randomize(keras.Model(x, layers.Dense(1, use_bias=False)(value)), seed=5)
    found = VarGrad(model, augment_by_n=10, noise_scale=1.0, relative=False).analyze(np.zeros((2, 400)), target=0)
    kernel = np.asarray(model.weights[0], "float64")[:, 0]
    np.testing.assert_allclose(found, np.zeros((2, 400)), atol=1e-6 * np.max(kernel**2))
    assert np.all(found >= 0)
    # Rounding is at work: where the floor does not hold it down, it shows.
    assert np.any(found > 0)
