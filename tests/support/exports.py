"""For the tests of exported analyzers: endpoints that are not written to files, and a model of images."""

import json

import keras
import models
import tensorflow as tf

from innvest_lite.export import Served
from innvest_lite.export.files import FORMATS


def served_by(analyzer, *names, **options):
    """The endpoints before they are written: those of these names, by default all."""
    defaults = {"target": "argmax", "predictions": True, "batch": None, "preprocess": None, "render": None}
    options = {**defaults, "colormap": "seismic", "checks": True, "echoes": True, **options}
    return Served(analyzer, **options).endpoints(names or FORMATS["tf_saved_model"].endpoints)


def seeds(analyzer):
    """What a random analyzer's endpoints take besides."""
    return [tf.constant(analyzer.seed, tf.int64)] if analyzer.is_random else []


def described(folder):
    """What a SavedModel says of itself."""
    return json.loads((folder / "assets.extra" / "description.json").read_text())


def image_model(channels=3):
    stack = [keras.layers.Conv2D(4, 3, activation="relu"), keras.layers.Flatten(), keras.layers.Dense(3)]
    return models.randomize(keras.Sequential([keras.Input((9, 8, channels)), *stack]), 2)


def is_compiled(traced):
    """Whether XLA compiles what a function does, behind its checks."""
    library = traced.get_concrete_function().graph.as_graph_def().library.function
    return any(function.attr["_XlaMustCompile"].b for function in library)
