"""LRP and Deep Taylor maps of networks with their preprocessing inside and outside, which should be the same.

Usage: `python scripts/checks/preprocessing_inside.py [--networks CNN table ...]`; half an hour. Exits 1 where a correlation
is below 0.999.

A small CNN, a table, and models of `keras.applications` that carry their preprocessing (random weights, 96 x 96 pixels):
outside means the same weights in a model that was built without it, on inputs that were prepared in NumPy.
"""

import argparse
import logging
import os
import pathlib
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import keras
import numpy as np
import tensorflow as tf
from common.measuring import machine
from common.tables import table_of

import innvest_lite

L, A = keras.layers, keras.applications
SIZE = {"input_shape": (96, 96, 3), "weights": None, "classes": 5, "classifier_activation": None}
REQUIRED = 0.999


def cnn():
    """A small CNN behind `Rescaling(1 / 127.5, offset=-1)`."""
    body = keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            L.Conv2D(8, 3, activation="relu"),
            L.MaxPooling2D(),
            L.Conv2D(8, 3, activation="relu"),
            L.GlobalAveragePooling2D(),
            L.Dense(3),
        ]
    )
    x = keras.Input((32, 32, 3))
    return keras.Model(x, body(L.Rescaling(1 / 127.5, offset=-1)(x))), body, lambda x: x / 127.5 - 1


def table():
    """Two dense layers behind a `Normalization` of six columns."""
    mean, deviation = np.float32([50, 1, 0, -20, 5, 3]), np.float32([10, 2, 0.1, 5, 1, 7])
    body = keras.Sequential([keras.Input((6,)), L.Dense(16, activation="relu"), L.Dense(2)])
    x = keras.Input((6,))
    return (
        keras.Model(x, body(L.Normalization(mean=mean, variance=deviation**2)(x))),
        body,
        lambda x: (x - mean) / deviation,
    )


def mobile_net():
    """MobileNetV3Small, which takes 0..255 with its preprocessing and -1..1 without."""
    inside, outside = (A.MobileNetV3Small(include_preprocessing=include, **SIZE) for include in (True, False))
    outside.set_weights(inside.get_weights())
    return inside, outside, lambda x: x / 127.5 - 1


def conv_next():
    """ConvNeXtTiny, which standardizes its channels."""
    inside, outside = (A.ConvNeXtTiny(include_preprocessing=include, **SIZE) for include in (True, False))
    outside.set_weights(
        [weight for weight in inside.get_weights() if weight.shape != () and len(weight)][-len(outside.weights) :]
    )
    mean, deviation = np.float32([123.675, 116.28, 103.53]), np.float32([58.395, 57.12, 57.375])
    return inside, outside, lambda x: (x - mean) / deviation


def efficient_net():
    """EfficientNetB0, cut behind its preprocessing (Keras builds none without)."""
    inside = A.EfficientNetB0(**SIZE)
    stem = next(layer for layer in inside.layers if layer.name == "stem_conv_pad")
    outside = keras.Model(stem.input, inside.output)
    scaled = keras.Model(inside.input, stem.input)
    return inside, outside, lambda x: scaled.predict(x, verbose=0)


NETWORKS = {"CNN": cnn, "table": table, "MobileNetV3": mobile_net, "EfficientNetB0": efficient_net, "ConvNeXt": conv_next}
METHODS = {
    **{
        name: (lambda model, name=name: innvest_lite.create_analyzer(name, model))
        for name in innvest_lite.ANALYZERS
        if name.startswith("lrp")
    },
    **{
        f"LRP, {name}": (lambda model, name=name: innvest_lite.LRP(model, name))
        for name in ("gamma", "epsilon_gamma_box", "epsilon_alpha2_beta1", "epsilon_alpha2_beta1_flat")
    },
    "DeepTaylor": innvest_lite.DeepTaylor,
    "BoundedDeepTaylor": innvest_lite.BoundedDeepTaylor,
    "deep_taylor": lambda model: innvest_lite.create_analyzer("deep_taylor", model),
}


def main():
    """Prints a correlation for each network and method; 1 if one is too low."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=[*NETWORKS])
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    # Each program runs once: tracing it takes longer than evaluating it.
    tf.config.run_functions_eagerly(True)
    machine()
    rows, lowest = [], 1.0
    for name, made in ((name, NETWORKS[name]) for name in options.networks):
        keras.utils.set_random_seed(0)
        inside, outside, prepared = made()
        generator, shape = np.random.default_rng(0), inside.input_shape[1:]
        x = (
            generator.integers(0, 256, (2, *shape)).astype("float32")
            if len(shape) > 1
            else generator.normal(5, 20, (50, *shape))
        )
        y = prepared(x)
        logits = np.abs(inside.predict(x, verbose=0) - outside.predict(y, verbose=0)).max()
        for method, analyzer in METHODS.items():
            try:
                one, two = analyzer(inside).analyze(x), analyzer(outside).analyze(y)
            except innvest_lite.UnsupportedLayerError as error:
                rows.append({"network": name, "method": method, "correlation": f"refused: {len(error.nodes)} nodes"})
                continue
            if not np.isfinite(one).all() and not np.isfinite(two).all():
                rows.append({"network": name, "method": method, "correlation": "no numbers, in both; a warning says so"})
                continue
            # Without biases, values come near the ends of float32, and their squares would leave it.
            found = np.corrcoef(one.ravel().astype("float64"), two.ravel().astype("float64"))[0, 1]
            lowest = min(lowest, found) if found == found else -1.0
            rows.append({"network": name, "method": method, "correlation": float(found)})
        print(f"{name}: logits differ by {logits:.2g}")
    print(table_of(rows, ".5f"))
    print(f"lowest {lowest:.5f} (at least {REQUIRED})")
    return 0 if lowest >= REQUIRED else 1


if __name__ == "__main__":
    sys.exit(main())
