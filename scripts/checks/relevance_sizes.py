"""How large relevance grows on residual networks of random weights: no pixel should have many times the logit.

Usage: `python scripts/checks/relevance_sizes.py [--networks ResNet50 ...]`; minutes. Exits 1 where the largest |R| of a
pixel passes 10 |logit|.

ResNet50, MobileNetV2, Xception and EfficientNetB0 of `keras.applications`, 96 x 96 pixels, with weights as Keras draws them
but for BatchNormalization, whose statistics are those of the images, as after training. For each preset of LRP that the
README names, and the others for comparison.
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

A = keras.applications
NAMED = ("lrp.epsilon_plus_flat", "lrp.epsilon_plus", "DeepTaylor")
OTHERS = ("lrp.epsilon", "lrp.z_plus", "LRP gamma", "LRP epsilon_gamma_box", "lrp.sequential_preset_a_flat")
NETWORKS = ("ResNet50", "MobileNetV2", "Xception", "EfficientNetB0")
MOST = 10


def adapted(model, images):
    """The model with the moving statistics of these images, so that its values have the sizes of a trained one's."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    # One layer's statistics depend on those before it, which a single pass in training mode takes in order.
    model(images, training=True)
    return model


def made(name, model):
    """The analyzer of a name of this table."""
    if name == "DeepTaylor":
        return innvest_lite.DeepTaylor(model)
    word = name.removeprefix("LRP ")
    return innvest_lite.create_analyzer(name, model) if word == name else innvest_lite.LRP(model, word)


def main():
    """Prints a row for each network and method; 1 if a named one grows too large."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=NETWORKS)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    # Each program runs once: tracing it takes longer than evaluating it.
    tf.config.run_functions_eagerly(True)
    machine()
    rows, sound = [], True
    for network in options.networks:
        keras.utils.set_random_seed(0)
        images = np.random.default_rng(0).normal(size=(16, 96, 96, 3)).astype("float32")
        images = images * 60 + 120 if network == "EfficientNetB0" else images
        model = getattr(A, network)(weights=None, input_shape=(96, 96, 3), classes=10, classifier_activation=None)
        model = adapted(model, images)
        for name in (*NAMED, *OTHERS):
            analyzer = made(name, model)
            relevance = analyzer.analyze(images[:8])
            logits = model.predict(images[:8], verbose=0).max(1)
            sizes = np.abs(relevance).max((1, 2, 3)) / np.abs(logits)
            report = analyzer.check(images[:2])
            sound = sound and (name not in NAMED or sizes.max() < MOST)
            rows.append(
                {
                    "network": network,
                    "method": name,
                    "median max |R| / |logit|": float(np.median(sizes)),
                    "worst": float(sizes.max()),
                    "unexplained": float(report.unexplained.max()),
                }
            )
        keras.backend.clear_session()
    print(table_of(rows, ".3g"))
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
