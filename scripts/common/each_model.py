"""The models of keras.applications with random weights, and a check of each, one after the other. Called by checks."""

import argparse
import subprocess
import sys

SMALLEST = {"Inception": 75, "Xception": 71, "NASNet": 32}


def names():
    """All model functions of keras.applications."""
    import keras

    return sorted(
        name for name in dir(keras.applications) if name[0].isupper() and callable(getattr(keras.applications, name))
    )


def made(name, least=0):
    """The model with random weights at its smallest input, or one of `least` pixels a side."""
    import inspect

    import keras

    keras.utils.set_random_seed(1)
    size = max(least, next((size for prefix, size in SMALLEST.items() if name.startswith(prefix)), 32))
    constructor = getattr(keras.applications, name)
    options = {"weights": None, "input_shape": (size, size, 3), "classes": 10, "include_top": True}
    if "alpha" in inspect.signature(constructor).parameters and name == "MobileNet":
        options["alpha"] = 1.0
    return constructor(**options)


def build(name):
    """The same, with data, and BatchNormalization has the statistics of random images."""
    import keras
    import numpy as np

    model = made(name)
    x = np.random.default_rng(0).normal(size=(24, *model.input_shape[1:])).astype("float32")
    norms = [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]
    momenta = [layer.momentum for layer in norms]
    for layer in norms:
        layer.momentum = 0.0
    model(x, training=True)
    for layer, momentum in zip(norms, momenta, strict=True):
        layer.momentum = momentum
    return model, x


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
