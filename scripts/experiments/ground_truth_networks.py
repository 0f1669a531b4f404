"""The networks of `ground_truth.py`, on images of 8 x 8 pixels: two of XAI-TRIS, and what people use today, small."""

import functools
import pathlib

import keras
import numpy as np

from innvest_lite import datasets

SIZE, TRAINING, HELD_OUT = 8, 8000, 1000
# The strengths of PatternGAM, whose table has both rows; of rigid, which it has none for, those of XAI-TRIS.
STRENGTHS = {
    ("linear", "white"): 0.2,
    ("linear", "correlated"): 0.1,
    ("multiplicative", "white"): 0.6,
    ("multiplicative", "correlated"): 0.4,
    ("xor", "white"): 0.3,
    ("xor", "correlated"): 0.3,
}
_layers = keras.layers


def data(cell, samples, seed):
    """Tetrominoes of a cell: `(scenario, background, distractors)`."""
    scenario, background, distractors = cell
    strength = None if distractors else STRENGTHS.get((scenario, background))
    return datasets.tetrominoes(samples, scenario, background, distractors=distractors, signal_strength=strength, seed=seed)


def _normalized(x):
    return _layers.BatchNormalization()(x)


def _convolution(x, filters, size=3):
    return _normalized(_layers.Conv2D(filters, size, padding="same", use_bias=False)(x))


def mlp(x):
    """Dense layers of 32, 16 and 8 units, as in XAI-TRIS."""
    x = _layers.Flatten()(x)
    for units in (32, 16, 8):
        x = _layers.Dense(units, activation="relu")(x)
    return x


def cnn(x):
    """Four times 4 filters of 2 x 2 and a maximum of 2 x 2, as in XAI-TRIS."""
    for _ in range(4):
        x = _layers.Conv2D(4, 2, padding="same", activation="relu")(x)
        x = _layers.MaxPooling2D(2, 2, padding="same")(x)
    return _layers.Flatten()(x)


def residual(x):
    """ResNet's blocks: BatchNormalization, and a ReLU behind each sum."""
    x = _layers.ReLU()(_convolution(x, 16))
    for _ in range(3):
        y = _convolution(_layers.ReLU()(_convolution(x, 16)), 16)
        x = _layers.ReLU()(_layers.Add()([x, y]))
    return _layers.Flatten()(_layers.MaxPooling2D(2)(x))


def bottleneck(x):
    """MobileNetV2's blocks: expansion, depthwise convolution, linear bottleneck, and a sum with no rectifier behind it."""
    x = _layers.ReLU(6.0)(_convolution(x, 12))
    for _ in range(3):
        y = _layers.ReLU(6.0)(_convolution(x, 48, 1))
        y = _layers.DepthwiseConv2D(3, padding="same", use_bias=False)(y)
        x = _layers.Add()([x, _convolution(_layers.ReLU(6.0)(_normalized(y)), 12, 1)])
    x = _layers.ReLU(6.0)(_convolution(x, 48, 1))
    return _layers.Flatten()(_layers.MaxPooling2D(2)(x))


@keras.saving.register_keras_serializable(package="ground_truth")
class Places(_layers.Layer):
    """Adds to each patch a vector that is learned, so that the network knows where it lies."""

    def build(self, shape):
        """Makes the vectors."""
        self.vectors = self.add_weight(shape=shape[1:], initializer="random_normal", name="vectors")

    def call(self, x):
        """(batch, patches, channels) to the same."""
        return x + self.vectors


def transformer(x):
    """Patches of 2 x 2 pixels, two blocks of attention."""
    x = _layers.Conv2D(32, 2, strides=2)(x)
    x = _layers.Reshape((16, 32))(x)
    x = Places()(x)
    for _ in range(2):
        y = _layers.LayerNormalization()(x)
        x = x + _layers.MultiHeadAttention(4, 8)(y, y)
        y = _layers.Dense(64, activation="gelu")(_layers.LayerNormalization()(x))
        x = x + _layers.Dense(32)(y)
    return _layers.Flatten()(_layers.LayerNormalization()(x))


NETWORKS = {"mlp": mlp, "cnn": cnn, "residual": residual, "bottleneck": bottleneck, "transformer": transformer}


@functools.cache
def trained(network, cell, seed, folder, outputs=2):
    """A network of a cell, trained until its loss on other samples no longer falls; kept as a file in a folder."""
    name = "_".join([network, cell[0], cell[1], "distractors" if cell[2] else "plain", str(seed), str(outputs)])
    path = pathlib.Path(folder) / f"{name}.keras"
    if path.exists():
        return keras.saving.load_model(path)
    keras.utils.set_random_seed(seed)
    samples, others = data(cell, TRAINING, 10_000 + seed), data(cell, HELD_OUT, 20_000 + seed)
    x = keras.Input((SIZE, SIZE, 1))
    model = keras.Model(x, _layers.Dense(outputs)(NETWORKS[network](x)))
    losses = keras.losses
    loss = losses.BinaryCrossentropy if outputs == 1 else losses.SparseCategoricalCrossentropy
    model.compile(keras.optimizers.Adam(2e-3), loss(from_logits=True))
    stop = keras.callbacks.EarlyStopping(patience=5, restore_best_weights=True)
    slower = keras.callbacks.ReduceLROnPlateau(patience=2, factor=0.3)
    model.fit(
        samples.x,
        samples.y,
        batch_size=64,
        epochs=40,
        verbose=0,
        validation_data=(others.x, others.y),
        callbacks=[stop, slower],
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    model.save(path)
    return model


def explained_right(model, cell, samples, seed):
    """Tetrominoes that the network gets right, at most so many, and its accuracy."""
    found = data(cell, 2 * samples, 30_000 + seed)
    logits = model.predict(found.x, verbose=0)
    predicted = logits.argmax(axis=1) if logits.shape[1] > 1 else (logits[:, 0] > 0).astype(int)
    right = np.flatnonzero(predicted == found.y)[:samples]
    return found.x[right], found.y[right], found.signal[right], found.masks[right], float((predicted == found.y).mean())
