"""The kinds of data that a fit takes."""

import keras
import numpy as np
import tensorflow as tf


class Batches(keras.utils.PyDataset):
    """Batches of eight, with labels."""

    def __init__(self, x):
        super().__init__()
        self.x = x

    def __len__(self):
        return -(-len(self.x) // 8)

    def __getitem__(self, index):
        batch = self.x[8 * index : 8 * index + 8]
        return batch, np.zeros(len(batch))


def batches(x):
    return [x[start : start + 8] for start in range(0, len(x), 8)]


SOURCES = {
    "array": lambda x: x,
    "float64": lambda x: x.astype("float64"),
    "tensor": tf.constant,
    "tf.data": lambda x: tf.data.Dataset.from_tensor_slices(x).batch(8),
    "tf.data with labels": lambda x: tf.data.Dataset.from_tensor_slices((x, np.zeros(len(x)))).batch(8),
    "PyDataset": Batches,
    "generator": lambda x: (batch for batch in batches(x)),
    "generator of pairs": lambda x: ((batch, np.zeros(len(batch))) for batch in batches(x)),
    "list": batches,
    "list of pairs": lambda x: [(batch, np.zeros(len(batch))) for batch in batches(x)],
    "pair of arrays": lambda x: (x, np.zeros(len(x))),
    "dict": lambda x: {"x": x},
}
