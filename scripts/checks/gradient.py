"""Compares Gradient with `tf.GradientTape` on the logits of all keras.applications models (weights=None).

Usage: `python scripts/gradient_check.py [NAME ...]`. Each model runs in a process of its own, at the smallest input it
allows; a line each, exit code 1 if one is off by more than 1e-6 of the maximum. (The pattern methods: `coverage.py`.)
"""

import argparse
import os
import subprocess
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

SMALLEST = {"Inception": 75, "Xception": 71, "NASNet": 32}


def names():
    """All model functions of keras.applications."""
    import keras

    return sorted(
        name for name in dir(keras.applications) if name[0].isupper() and callable(getattr(keras.applications, name))
    )


def build(name):
    """The model with random weights at its smallest input; BatchNormalization has the statistics of random images."""
    import inspect

    import keras
    import numpy as np

    keras.utils.set_random_seed(1)
    size = next((size for prefix, size in SMALLEST.items() if name.startswith(prefix)), 32)
    constructor = getattr(keras.applications, name)
    options = {"weights": None, "input_shape": (size, size, 3), "classes": 10, "include_top": True}
    if "alpha" in inspect.signature(constructor).parameters and name == "MobileNet":
        options["alpha"] = 1.0
    model = constructor(**options)
    x = np.random.default_rng(0).normal(size=(24, size, size, 3)).astype("float32")
    norms = [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]
    momenta = [layer.momentum for layer in norms]
    for layer in norms:
        layer.momentum = 0.0
    model(x, training=True)
    for layer, momentum in zip(norms, momenta, strict=True):
        layer.momentum = momentum
    return model, x


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


def run_each(script, description, good):
    """The command line of a script that runs models one at a time, each in a process of its own: some take gigabytes.

    Args:
        script: its file.
        description: its docstring.
        good: prints the line of the model of a name, and returns whether it is good.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("models", nargs="*")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inside:
        sys.exit(not good(arguments.models[0]))
    chosen = arguments.models or names()
    bad = [name for name in chosen if subprocess.run([sys.executable, script, name, "--inside"]).returncode]
    print(f"{len(chosen) - len(bad)} of {len(chosen)} good" + (f"; bad: {', '.join(bad)}" if bad else ""))
    sys.exit(bool(bad))


if __name__ == "__main__":
    run_each(__file__, __doc__, gradient)
