"""The networks of `sequences.py`: a vision transformer, a transformer of texts, and LSTMs, all small."""

import pathlib

import keras
from ground_truth_networks import Places
from keras import layers, ops
from sequences_tasks import LENGTH, TASKS, VOCABULARY, warped_digits


@keras.saving.register_keras_serializable(package="sequences")
class ClassToken(layers.Layer):
    """Puts a vector that is learned before all others: what the network says stands there in the end."""

    def build(self, shape):
        """Makes the vector."""
        self.vector = self.add_weight(shape=(1, 1, shape[-1]), initializer="random_normal", name="vector")

    def call(self, x):
        """(batch, positions, channels) to (batch, 1 + positions, channels)."""
        return ops.concatenate([ops.tile(self.vector, (ops.shape(x)[0], 1, 1)), x], axis=1)


@keras.saving.register_keras_serializable(package="sequences")
class MaskedPlaces(Places):
    """`Places` behind which it is still known which positions are only filled up."""

    supports_masking = True


def _block(x, heads, width):
    """A pre-norm block: attention, then two dense layers with GELU between them, each added to what it takes."""
    y = layers.LayerNormalization()(x)
    x = layers.Add()([x, layers.MultiHeadAttention(heads, width // heads)(y, y)])
    y = layers.Dense(2 * width, activation="gelu")(layers.LayerNormalization()(x))
    return layers.Add()([x, layers.Dense(width)(y)])


def vit(size, patch, classes, width, blocks):
    """Patches by a convolution, position embeddings, a class token, pre-norm blocks."""
    inputs = keras.Input((size, size, 1))
    x = layers.Conv2D(width, patch, strides=patch)(inputs)
    x = ClassToken()(layers.Reshape((-1, width))(x))
    x = Places()(x)
    for _ in range(blocks):
        x = _block(x, 4, width)
    x = layers.LayerNormalization()(x)[:, 0]
    return keras.Model(inputs, layers.Dense(classes, activation="softmax")(x))


def transformer():
    """Embeddings of words and positions, two pre-norm blocks, a mean over the words that are there."""
    inputs = keras.Input((LENGTH,), dtype="int32")
    x = MaskedPlaces()(layers.Embedding(VOCABULARY, 32, mask_zero=True)(inputs))
    for _ in range(2):
        x = _block(x, 4, 32)
    x = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(x))
    return keras.Model(inputs, layers.Dense(2, activation="softmax")(x))


def bilstm():
    """Embeddings and an LSTM each way."""
    inputs = keras.Input((LENGTH,), dtype="int32")
    x = layers.Embedding(VOCABULARY, 32, mask_zero=True)(inputs)
    x = layers.Bidirectional(layers.LSTM(24))(x)
    return keras.Model(inputs, layers.Dense(2, activation="softmax")(x))


def lstm(biased):
    """Two units and their weighted sum; with biases or without, as in Arras et al. 2019."""
    inputs = keras.Input((10, 3))
    x = layers.LSTM(2, use_bias=biased)(inputs)
    return keras.Model(inputs, layers.Dense(1, use_bias=biased)(x))


def made(network, task):
    """A network of a task, untrained."""
    if network == "vit":
        return vit(28, 7, 10, 48, 2) if task == "digits" else vit(8, 2, 2, 32, 2)
    return {
        "transformer": transformer,
        "bilstm": bilstm,
        "lstm": lambda: lstm(biased=False),
        "lstm_biased": lambda: lstm(biased=True),
    }[network]()


def trained(network, task, seed, folder):
    """A network, as it was when its loss on other samples was the lowest; kept as a file in a folder."""
    path = pathlib.Path(folder) / f"{network}_{task.replace(' ', '_')}_{seed}.keras"
    if path.exists():
        return keras.saving.load_model(path)
    keras.utils.set_random_seed(seed)
    model = made(network, task)
    _fitted(model, TASKS[task], seed, warped=task == "digits")
    path.parent.mkdir(parents=True, exist_ok=True)
    model.save(path)
    return model


def _fitted(model, task, seed, warped):
    samples, others = (task.drawn(split, seed, None) for split in ("training", "held out"))
    batch_size, steps = 64, len(samples.x) // 64
    rate = keras.optimizers.schedules.CosineDecay(task.learning_rate, task.epochs * steps)
    loss = "sparse_categorical_crossentropy" if task.classes else "mean_squared_error"
    model.compile(keras.optimizers.Adam(rate, clipnorm=1.0), loss)
    given = (warped_digits(samples, seed),) if warped else (samples.x, samples.y)
    model.fit(
        *given,
        batch_size=None if warped else batch_size,
        epochs=task.epochs,
        verbose=0,
        validation_data=(others.x, others.y),
        callbacks=[keras.callbacks.EarlyStopping(patience=max(4, task.epochs // 4), restore_best_weights=True)],
    )
