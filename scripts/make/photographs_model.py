"""The notebooks' classifier of photographs, notebooks/photographs.keras: `python scripts/make/photographs_model.py`.

It tells from which of ten photographs a square comes; scikit-image brings them all, so that a notebook can read them by
`skimage.data`. A network like VGG, small enough to be kept with the notebooks, for images in 0..1 of 128 x 128 pixels;
trained here on squares of 64 x 64 in three minutes (`pip install scikit-image scikit-learn`). There are no other
photographs, so it knows these by heart.
"""

import argparse
import os
import pathlib
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["KERAS_BACKEND"] = "tensorflow"
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import keras
import numpy as np
from common.older_keras import save_for_older_keras
from common.photographs import CLASSES, pieces

ROOT = pathlib.Path(__file__).resolve().parents[2]
NAMES = CLASSES[:10]  # scikit-image's
SIZE, BATCH, STEPS, SEED = 64, 32, 1500, 0
BLOCKS = ((16, 1), (32, 2), (48, 2), (64, 1))
L = keras.layers


def built(size):
    """The network for images of a size, whose weights do not depend on it."""
    x = y = keras.Input((size, size, 3), name="photograph")
    for block, (filters, convolutions) in enumerate(BLOCKS, 1):
        for number in range(1, convolutions + 1):
            options = {"padding": "same", "activation": "relu", "kernel_initializer": "he_normal"}
            y = L.Conv2D(filters, 3, name=f"block{block}_conv{number}", **options)(y)
        y = L.MaxPooling2D(name=f"block{block}_pool")(y)
    y = L.GlobalAveragePooling2D(name="average")(y)
    return keras.Model(x, L.Dense(len(NAMES), activation="softmax", name="class")(y), name="photographs")


def squares(count, seed, size=SIZE):
    """`(x, y)`: random squares of the photographs in 0..1, and which one each is of."""
    classes = np.random.default_rng([*seed, 1]).integers(len(NAMES), size=count)
    x, y = pieces(count, seed, size=size, classes=classes)
    return x / 2 + 0.5, y


class Squares(keras.utils.PyDataset):
    """New squares for each step."""

    def __len__(self):
        """One for each step."""
        return STEPS

    def __getitem__(self, index):
        """A batch."""
        return squares(BATCH, [SEED, index])


def trained():
    """The network, trained."""
    keras.utils.set_random_seed(SEED)
    model = built(SIZE)
    rate = keras.optimizers.schedules.CosineDecay(0.0, STEPS, warmup_target=3e-3, warmup_steps=100)
    model.compile(keras.optimizers.AdamW(rate, weight_decay=1e-3), "sparse_categorical_crossentropy")
    model.fit(Squares(workers=1), verbose=0)
    larger = built(2 * SIZE)
    larger.set_weights(model.get_weights())
    return larger


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "notebooks/photographs.keras")
    out = parser.parse_args().out
    model = trained()
    x, y = squares(500, [SEED, 10_000], 2 * SIZE)
    print(f"accuracy on 500 new squares: {(model.predict(x, verbose=0).argmax(1) == y).mean():.3f}")
    save_for_older_keras(model, out)
    print(f"{out}, {out.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
