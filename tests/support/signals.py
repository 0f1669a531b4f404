"""For the tests of rho: a small model and three disjoint parts of data."""

import keras
import models
import numpy as np
from keras import layers


def small():
    x = keras.Input((5,), name="x")
    model = keras.Model(x, layers.Dense(3, name="out")(layers.Dense(4, activation="relu", name="hidden")(x)))
    return models.randomize(model, seed=4)


def parts(count=300, features=5):
    """Three disjoint parts, with correlated features."""
    generator = np.random.default_rng(5)
    mix = generator.normal(size=(features, features))
    return [(generator.normal(size=(count, features)) @ mix).astype("float32") for _ in range(3)]
