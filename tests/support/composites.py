"""Models made of layers of one's own, as people write them: what tracing looks into. Each case is a model and a batch."""

import functools
import warnings

import keras
import models
import numpy as np
from keras import layers, ops


class Linear(layers.Layer):
    """Weights of its own, by `ops.matmul`."""

    def __init__(self, units, activation=None, **options):
        super().__init__(**options)
        self.units, self.activation = units, keras.activations.get(activation)

    def build(self, shape):
        self.w = self.add_weight(shape=(shape[-1], self.units), name="w")
        self.b = self.add_weight(shape=(self.units,), name="b")

    def call(self, x):
        return self.activation(ops.matmul(x, self.w) + self.b)


class OwnConv(layers.Conv2D):
    """A subclass that computes what its base does."""

    def call(self, x):
        return super().call(x)


class Block(layers.Layer):
    """A residual block with BatchNormalization, in which the number of channels may change."""

    def __init__(self, units, **options):
        super().__init__(**options)
        self.first = layers.Conv2D(units, 3, padding="same", use_bias=False, name="first")
        self.first_bn, self.second_bn = (
            layers.BatchNormalization(name="first_bn"),
            layers.BatchNormalization(name="second_bn"),
        )
        self.second = layers.Conv2D(units, 3, padding="same", use_bias=False, name="second")
        self.short = layers.Conv2D(units, 1, name="short")
        self.drop = layers.Dropout(0.5, name="drop")

    def call(self, x, training=None):
        value = ops.relu(self.first_bn(self.first(x), training=training))
        value = self.second_bn(self.second(self.drop(value, training=training)), training=training)
        return ops.relu(self.short(x) + value)


class Net(keras.Model):
    """A subclassed network: a convolution, a block, a head with weights of its own."""

    def __init__(self, **options):
        super().__init__(**options)
        self.stem, self.block = OwnConv(4, 3, activation="relu", name="stem"), Block(6, name="block")
        self.pool, self.hidden = layers.GlobalAveragePooling2D(name="pool"), Linear(8, "relu", name="hidden")
        self.head = layers.Dense(3, activation="softmax", name="head")

    def call(self, x, training=None):
        return self.head(self.hidden(self.pool(self.block(self.stem(x), training=training))))


class Sizes(layers.Layer):
    """Reads the number of samples off a shape, in every way that people do."""

    def build(self, shape):
        self.token = self.add_weight(shape=(1, 1, shape[-1]), name="token", initializer="random_normal")
        self.inner = layers.Dense(shape[-1], name="inner")

    def call(self, x):
        batch, steps, size = ops.shape(x)[0], x.shape[1], x.shape[2]
        first = ops.broadcast_to(self.token, (batch, 1, size))
        x = ops.concatenate([first, x, ops.zeros((batch, 1, size))], axis=1)
        x = ops.reshape(x, (batch * (steps + 2), size))
        x = ops.reshape(self.inner(x), (batch, -1, size))
        return x[:batch, :] + ops.tile(self.token, (batch, steps + 2, 1))

    def compute_output_shape(self, shape):
        return (shape[0], shape[1] + 2, shape[2])  # the oldest Keras does not find it


class Windows(layers.Layer):
    """Cuts pictures in windows, and looks at them as a batch of more samples, heads first."""

    def __init__(self, **options):
        super().__init__(**options)
        self.qkv, self.out = layers.Dense(12, name="qkv"), layers.Dense(4, name="out")

    def call(self, x):
        height, width, channels = x.shape[1:]
        parts = ops.reshape(x, (-1, height // 2, 2, width // 2, 2, channels))
        parts = ops.reshape(ops.transpose(parts, (0, 1, 3, 2, 4, 5)), (-1, 4, channels))
        qkv = ops.transpose(ops.reshape(self.qkv(parts), (ops.shape(parts)[0], 4, 3, 2, 2)), (2, 0, 3, 1, 4))
        q, k, v = qkv[0], qkv[1], qkv[2]
        seen = ops.matmul(ops.softmax(ops.matmul(q, ops.transpose(k, (0, 1, 3, 2))) * 0.7), v)
        parts = self.out(ops.reshape(ops.transpose(seen, (0, 2, 1, 3)), (-1, 4, 4)))
        parts = ops.reshape(parts, (-1, height // 2, width // 2, 2, 2, 4))
        return ops.reshape(ops.transpose(parts, (0, 1, 3, 2, 4, 5)), (-1, height, width, 4))


class TokenAndPosition(layers.Layer):
    """Embeddings of tokens and of their places, with the mask of the first."""

    def __init__(self, mask_zero=True, **options):
        super().__init__(**options)
        self.tokens = layers.Embedding(20, 6, mask_zero=mask_zero, name="tokens")
        self.places = layers.Embedding(9, 6, name="places")

    def call(self, x):
        return self.tokens(x) + self.places(ops.arange(x.shape[1]))

    def compute_mask(self, x, previous_mask=None):
        return self.tokens.compute_mask(x)


class Encoder(layers.Layer):
    """A transformer's block."""

    def __init__(self, **options):
        super().__init__(**options)
        dtype = self.dtype_policy
        self.attention = layers.MultiHeadAttention(2, 3, dropout=0.1, name="attention", dtype=dtype)
        self.norm = layers.LayerNormalization(name="norm", dtype=dtype)
        self.wide = layers.Dense(12, activation="gelu", name="wide", dtype=dtype)
        self.narrow = layers.Dense(6, name="narrow", dtype=dtype)
        self.supports_masking = True

    def call(self, x, training=None, mask=None):
        seen = None if mask is None else mask[:, None, :]
        x = self.norm(x + self.attention(x, x, attention_mask=seen, training=training))
        return x + self.narrow(self.wide(x))


class Scale(layers.Layer):
    """A weight comes first in a product, a number of it in another."""

    def build(self, shape):
        self.gamma = self.add_weight(shape=(shape[-1],), name="gamma", initializer="random_normal")
        self.inner = layers.Dense(shape[-1], name="inner")

    def call(self, x):
        return self.gamma * self.inner(x) - self.gamma[0] / (2.0 + ops.tanh(x)) + ops.sqrt(ops.abs(self.gamma)) * x


class Pair(layers.Layer):
    """Takes two tensors, gives a dict with nothing in one place."""

    def __init__(self, **options):
        super().__init__(**options)
        self.left, self.right = layers.Dense(4, name="left"), layers.Dense(4, name="right")

    def call(self, x, other=None):
        return {"sum": self.left(x) + self.right(other), "none": None, "product": self.left(other) * x[:, :1]}


class Named(keras.Model):
    """Takes and gives dicts."""

    def __init__(self, **options):
        super().__init__(**options)
        self.pair = Pair(name="pair")
        self.nested = keras.Sequential([keras.Input((4,)), layers.Dense(3, activation="tanh", name="deep")], name="nested")

    def call(self, inputs):
        found = self.pair(inputs["one"], other=inputs["two"])
        return {"z": self.nested(found["sum"]), "a": layers.Flatten()(found["product"])}


class Table(layers.Layer):
    """Gives what depends on weights alone, one row a sample."""

    def build(self, shape):
        self.table = self.add_weight(shape=(5, shape[-1]), name="table", initializer="random_normal")

    def call(self, x):
        return ops.broadcast_to(self.table * 2.0, (ops.shape(x)[0], 5, x.shape[-1]))


class Odds(layers.Layer):
    """NumPy first, comparisons, a loss of its own, sizes as NumPy's numbers, a table tiled by the samples."""

    def build(self, shape):
        self.table = self.add_weight(shape=(shape[1], shape[2]), name="table", initializer="zeros")
        self.least = self.add_weight(shape=(shape[2],), name="least")
        self.dense = layers.Dense(shape[2], name="dense")
        self.dense.build(shape)

    def call(self, x):
        batch, steps, size = ops.shape(x)[0], x.shape[1], x.shape[2]
        self.add_loss(ops.mean(x))
        rows = ops.reshape(x, (batch * steps, size)) + ops.tile(self.table, (batch, 1))
        rows = ops.where(self.least < rows, rows, np.sqrt(3.0) * rows) + ops.repeat(self.table[:1], batch * steps, axis=0)
        value = self.dense(ops.reshape(rows, (-1, steps, size)))
        return np.arange(size) * value


class Normalized(layers.Layer):
    """A wrapper around a layer, and a logarithm of what comes in."""

    def __init__(self, **options):
        super().__init__(**options)
        self.inner = layers.SpectralNormalization(layers.Dense(4, name="dense"), name="wrapped")

    def call(self, x):
        return self.inner(ops.log(ops.abs(x) + 0.1))


def functional(layer, *shape):
    """A model of one layer, with a head."""
    x = keras.Input(shape, name="x")
    return keras.Model(x, layers.Dense(3, name="out")(layers.Flatten(name="flat")(layer(x))))


def _net():
    return Net(name="net"), models.normal(3, 9, 9, 2)


def _sizes():
    return functional(Sizes(name="sizes"), 4, 3), models.normal(3, 4, 3)


def _windows():
    return functional(Windows(name="windows"), 4, 6, 3), models.normal(3, 4, 6, 3)


def _scale():
    return functional(Scale(name="scale"), 5), models.normal(3, 5)


def _named():
    return Named(name="named"), {"one": models.normal(3, 4), "two": models.normal(3, 4, seed=1)}


def _tokens():
    x = keras.Input((7,), name="x")
    value = Encoder(name="encoder")(TokenAndPosition(name="embedded")(x))
    return keras.Model(x, layers.Dense(3, name="out")(layers.GlobalAveragePooling1D(name="pool")(value))), tokens(3, 7)


def tokens(*shape):
    """Numbers of tokens, of which some are padding."""
    return np.random.default_rng(0).integers(0, 20, shape).astype("float32")


def _lambda():
    layer = layers.Lambda(lambda x: ops.softmax(x * 2 + 1) * ops.mean(x, axis=-1, keepdims=True), name="mix")
    return functional(layer, 5), models.normal(3, 5)


def _twice():
    x = keras.Input((4, 4, 6), name="x")
    block = Block(6, name="block")
    return keras.Model(x, layers.GlobalAveragePooling2D(name="pool")(block(block(x)))), models.normal(3, 4, 4, 6)


def _attention(make):
    x, y = keras.Input((5, 6), name="x"), keras.Input((4, 6), name="y")
    value = make(x, y)
    return keras.Model([x, y], layers.GlobalAveragePooling1D(name="pool")(value)), [
        models.normal(3, 5, 6),
        models.normal(3, 4, 6),
    ]


def _table():
    x = keras.Input((4,), name="x")
    value = ops.einsum("bsd,bd->bs", Table(name="table")(x), x)
    return keras.Model(x, layers.Dense(2, name="out")(value)), models.normal(3, 4)


def _nested_mask():
    """A mask comes into a nested model, whose own graph does not know of it."""
    inner_x = keras.Input((7, 6), name="inner_x")
    value = layers.TimeDistributed(layers.Dense(5, name="each"), name="steps")(layers.Dropout(0.2, name="drop")(inner_x))
    inner = keras.Model(inner_x, layers.GlobalAveragePooling1D(name="pool")(value), name="inner")
    x = keras.Input((7,), dtype="int32", name="x")
    value = inner(layers.Embedding(20, 6, mask_zero=True, name="tokens")(x))
    return keras.Model(x, layers.Dense(2, name="out")(value)), tokens(3, 7).astype("int32")


def _mixed():
    x = keras.Input((7, 6), name="x")
    value = Encoder(name="encoder", dtype="mixed_float16")(x)
    value = Linear(4, "relu", name="linear", dtype="mixed_float16")(value)
    return keras.Model(x, layers.Dense(2, name="out", dtype="float32")(layers.Flatten(name="flat")(value))), models.normal(
        3, 7, 6
    )


CASES = {
    "net": _net,
    "sizes": _sizes,
    "windows": _windows,
    "scale": _scale,
    "named": _named,
    "tokens": _tokens,
    "lambda": _lambda,
    "twice": _twice,
    "heads": lambda: _attention(lambda x, y: layers.MultiHeadAttention(2, 3, name="heads")(x, y)),
    "itself": lambda: _attention(lambda x, y: layers.MultiHeadAttention(2, 3, name="itself")(x, x) + y[:, :1]),
    "grouped": lambda: _attention(lambda x, y: layers.GroupQueryAttention(3, 4, 2, name="grouped")(x, y)),
    "attention": lambda: _attention(lambda x, y: layers.Attention(use_scale=True, name="attention")([x, y])),
    "additive": lambda: _attention(lambda x, y: layers.AdditiveAttention(name="additive")([x, y])),
    "dot": lambda: _attention(lambda x, y: layers.Dot((2, 2), normalize=True, name="dot")([x, y])),
    "steps": lambda: (
        functional(layers.TimeDistributed(layers.Conv2D(3, 2, name="conv"), name="steps"), 4, 5, 5, 2),
        models.normal(3, 4, 5, 5, 2),
    ),
    "table": _table,
    "odds": lambda: (functional(Odds(name="odds"), 4, 3), models.normal(3, 4, 3)),
    "normalized": lambda: (functional(Normalized(name="normalized"), 5), models.normal(3, 5)),
    "nested mask": _nested_mask,
    "mixed": _mixed,
}


@functools.cache
def case(name):
    """`(model, x)`: the model with random weights, and a batch of three samples."""
    keras.utils.set_random_seed(0)
    with warnings.catch_warnings():
        # Keras says of some that masks end in them.
        warnings.simplefilter("ignore")
        model, x = CASES[name]()
        model(x)
    return models.randomize(model, seed=1), x
