"""For the tests of image degradation: small models that treat their positions unequally, heat, and a stand-in analyzer."""

import keras
import models
import numpy as np
from keras import layers


def model_of(shape, data_format=None, head="softmax", units=3, dtype="float32"):
    """A small model and samples for it, `(model, x)`."""
    x = keras.Input(shape, name="x", dtype=dtype)
    value = layers.Embedding(9, 3, name="embedding")(x) if dtype == "int32" else x
    if data_format:
        value = layers.Conv2D(3, 2, activation="relu", data_format=data_format, name="conv")(value)
    value = layers.Dense(6, activation="tanh", name="hidden")(layers.Flatten(name="flat")(value))
    model = models.randomize(keras.Model(x, layers.Dense(units, activation=head, name="out")(value)), seed=4)
    # Probabilities that move.
    model.get_layer("out").kernel.assign(3 * model.get_layer("out").kernel)
    return model, models.data_for(model, 5)


def heat_for(x, seed=8):
    return np.random.default_rng(seed).normal(size=x.shape).astype("float32")


class Recorder:
    """Stands for an analyzer: what it was asked, and an answer."""

    def __init__(self, heat):
        self.heat = heat

    def analyze(self, x, target=None, **options):
        self.x, self.target = x, target
        return self.heat
