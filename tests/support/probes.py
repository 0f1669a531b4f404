"""A layer that watches a model from within: how often it is traced, and what each evaluation sees.

So a test can ask of an analyzer what it does to a model, whatever it is made of inside.
"""

import keras
import models
import numpy as np
import tensorflow as tf


class Probe(keras.layers.Layer):
    """Hands on what it gets.

    Attributes:
        traces: how often its Python code ran: once for each program that is made of it.
        seen: the arrays that came, evaluation by evaluation.
    """

    def __init__(self, **options):
        super().__init__(**options)
        self.traces, self.seen = 0, []

    def call(self, x):
        self.traces += 1
        noted = tf.py_function(lambda value: self.seen.append(np.asarray(value)), [x], [])
        with tf.control_dependencies([noted]):
            return tf.identity(x)

    @property
    def sizes(self):
        """How many samples each evaluation saw."""
        return [len(array) for array in self.seen]


def probed(*shape, dtype="float32"):
    """`(model, probe)`: a small model on inputs of this shape, tokens for integers, with a probe at its input."""
    probe = Probe(name="probe", dtype=dtype)
    x = keras.Input(shape, dtype=dtype, name="x")
    value = probe(x)
    value = keras.layers.Embedding(9, 3, name="embedding")(value) if dtype == "int32" else value
    value = keras.layers.Dense(3, name="out")(keras.layers.Flatten(name="flat")(value))
    return models.randomize(keras.Model(x, value), seed=4), probe
