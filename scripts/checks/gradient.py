"""Compares Gradient with `tf.GradientTape` on the logits of all keras.applications models (weights=None).

Usage: `python scripts/checks/gradient.py [NAME ...]`. Each model runs in a process of its own, at the smallest input it
allows; a line each, exit code 1 if one is off by more than 1e-6 of the maximum. (The pattern methods: `patterns.py`.)
"""

import os
import pathlib
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from common.each_model import build, run_each


def logits_model(model):
    """The model up to what goes into its last softmax, cut by Keras's own means."""
    import keras

    last = model.layers[-1]
    last.activation = keras.activations.linear
    return model


def gradient(name):
    """Prints the largest deviation of Gradient from the tape, as a share of the maximum, eagerly and compiled.

    TensorFlow's graph optimizer reorders sums in a `tf.function`, by the names of its nodes among other things. So the
    compiled graphs are compared without that first, which decides, and then as everybody runs them, beside how far the
    optimizer moves the plain gradient from itself.
    """
    import numpy as np
    import tensorflow as tf

    import innvest_lite

    model, x = build(name)
    x = x[:2]
    analyzers = innvest_lite.Gradient(model), innvest_lite.Gradient(model)
    optimized, eager = analyzers[0].analyze(x), analyzers[0](tf.constant(x)).numpy()
    tf.config.optimizer.set_experimental_options({"arithmetic_optimization": False})
    compiled = analyzers[1].analyze(x)
    logits_model(model)

    def taped(batch):
        with tf.GradientTape() as tape:
            tape.watch(batch)
            largest = tf.reduce_max(model(batch, training=False), axis=1)
        return tape.gradient(largest, batch)

    signature = [tf.TensorSpec((None, *x.shape[1:]))]
    plain_compiled = tf.function(taped, input_signature=signature)(tf.constant(x)).numpy()
    tf.config.optimizer.set_experimental_options({"arithmetic_optimization": True})
    plain_optimized = tf.function(taped, input_signature=signature)(tf.constant(x)).numpy()
    plain_eager = taped(tf.constant(x)).numpy()
    largest = np.abs(plain_eager).max()

    def deviation(a, b):
        return np.abs(a - b).max() / largest

    deviations = deviation(eager, plain_eager), deviation(compiled, plain_compiled)
    good = bool(max(deviations) <= 1e-6 and np.isfinite(optimized).all() and largest > 0)
    print(
        f"{'ok ' if good else 'BAD'} {name:20s} eager {deviations[0]:.1e}, compiled {deviations[1]:.1e}, "
        f"sums reordered {deviation(optimized, plain_optimized):.1e} "
        f"(the plain gradient from itself {deviation(plain_optimized, plain_eager):.1e})",
        flush=True,
    )
    return good


if __name__ == "__main__":
    run_each(__file__, __doc__, gradient)
