"""Models of token numbers without transformers: bags, convolutions, recurrent networks, hierarchies, memory."""
# ruff: noqa: D102 (what Keras calls)

import keras
import tensorflow as tf
from keras import layers, ops

from .base import choice, listed, model, named, numbers


@model("bag of embeddings", "text", numbers(10, 40), tokens=(0,))
def bag():
    """An average of embeddings."""
    return keras.Sequential(
        [
            layers.Input((10,)),
            layers.Embedding(40, 8),
            layers.GlobalAveragePooling1D(),
            layers.Dense(8, activation="relu"),
            layers.Dense(1, activation="sigmoid"),
        ]
    )


@model("bag of embeddings, mask_zero", "text", numbers(10, 40, padded=4), tokens=(0,))
def bag_masked():
    """The pooling leaves padding out."""
    return keras.Sequential(
        [
            layers.Input((10,), dtype="int64"),
            layers.Embedding(40, 8, mask_zero=True),
            layers.GlobalAveragePooling1D(),
            layers.Dropout(0.2),
            layers.Dense(1),
        ]
    )


@model(
    "bag of words, StringLookup multi-hot in the model", "text", choice("good", "bad", "film", "plot", "new", shape=(6,))
)
def bag_of_words():
    """Words are looked up and counted."""
    inputs = keras.Input((6,), dtype="string")
    x = layers.StringLookup(vocabulary=["good", "bad", "film", "plot"], output_mode="multi_hot")(inputs)
    return keras.Model(inputs, layers.Dense(2, activation="softmax")(layers.Dense(8, activation="relu")(x)))


@model("bag of words, one-hot by ops and a maximum", "text", numbers(8, 25), tokens=(0,))
def one_hot_words():
    """Chollet's first text model with ops.one_hot."""
    inputs = keras.Input((8,), dtype="int32")
    x = ops.max(ops.one_hot(inputs, 25), axis=1)
    x = layers.Dropout(0.5)(layers.Dense(8, activation="relu")(x))
    return keras.Model(inputs, layers.Dense(1, activation="sigmoid")(x))


@model("TextCNN, three widths, maximum over time", "text", numbers(12, 40), tokens=(0,))
def text_cnn():
    """Kim 2014."""
    inputs = keras.Input((12,), dtype="int32")
    x = layers.SpatialDropout1D(0.2)(layers.Embedding(40, 10)(inputs))
    parts = []
    for width in (2, 3, 4):
        parts.append(layers.GlobalMaxPooling1D()(layers.Conv1D(6, width, activation="relu")(x)))
    x = layers.Dropout(0.5)(layers.Concatenate()(parts))
    return keras.Model(inputs, layers.Dense(4, activation="softmax")(x))


@model("TextCNN as 2D convolutions", "text", numbers(12, 40, dtype="float32"), tokens=(0,))
def text_cnn_2d():
    """An older notebook's: embeddings as an image; the input is of float32."""
    inputs = keras.Input((12,))
    x = layers.Embedding(40, 10)(inputs)
    x = layers.Reshape((12, 10, 1))(x)
    parts = []
    for size in (2, 3):
        conv = layers.Conv2D(6, kernel_size=(size, 10), kernel_initializer="he_normal", activation="tanh")(x)
        parts.append(layers.MaxPool2D(pool_size=(12 - size + 1, 1))(conv))
    x = layers.Flatten()(layers.Concatenate(axis=1)(parts))
    return keras.Model(inputs, layers.Dense(3, activation="softmax")(x))


class FastText(keras.Model):
    """Words and pairs of words in tables of their own; a sum by a mask of zeros."""

    def __init__(self, words=30, buckets=50, dim=6, classes=3):
        super().__init__()
        self.buckets = buckets
        self.words, self.pairs = layers.Embedding(words, dim), layers.Embedding(buckets, dim)
        self.out = layers.Dense(classes)

    def call(self, ids):
        hashed = (ids[:, :-1] * 31 + ids[:, 1:]) % self.buckets
        mask = ops.cast(ids != 0, "float32")[..., None]
        total = ops.sum(self.words(ids) * mask, axis=1) + ops.sum(self.pairs(hashed) * mask[:, 1:], axis=1)
        return self.out(total / (2 * ops.sum(mask, axis=1)))


@model("fastText, hashed pairs of words, subclassed", "text", numbers(9, 30, padded=3), tokens=(0,))
def fast_text():
    """Numbers of pairs are computed in the model."""
    return FastText()


@model("Conv1D text classifier of keras.io", "text", numbers(24, 40), tokens=(0,))
def conv_text():
    """Strided convolutions, a maximum, a sigmoid unit."""
    inputs = keras.Input(shape=(None,), dtype="int64")
    x = layers.Embedding(40, 8)(inputs)
    x = layers.Dropout(0.5)(x)
    x = layers.Conv1D(8, 4, padding="valid", activation="relu", strides=2)(x)
    x = layers.Conv1D(8, 4, padding="valid", activation="relu", strides=2)(x)
    x = layers.GlobalMaxPooling1D()(x)
    x = layers.Dropout(0.5)(layers.Dense(8, activation="relu")(x))
    return keras.Model(inputs, layers.Dense(1, activation="sigmoid", name="predictions")(x))


@model("bidirectional LSTM of keras.io, any length", "text", numbers(11, 40), tokens=(0,))
def bidirectional_lstm():
    """Two in a row."""
    inputs = keras.Input(shape=(None,), dtype="int32")
    x = layers.Embedding(40, 8)(inputs)
    x = layers.Bidirectional(layers.LSTM(6, return_sequences=True))(x)
    x = layers.Bidirectional(layers.LSTM(6))(x)
    return keras.Model(inputs, layers.Dense(1, activation="sigmoid")(x))


@model("LSTM with mask_zero and additive attention", "text", numbers(9, 30, padded=3), tokens=(0,))
def lstm_attention():
    """A notebook's attention layer that honours the mask."""

    class AttentionWithContext(layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.supports_masking = True

        def build(self, input_shape):
            dim = input_shape[-1]
            self.W = self.add_weight(shape=(dim, dim), initializer="glorot_uniform", name="W_kernel")
            self.b = self.add_weight(shape=(dim,), initializer="zeros", name="bias")
            self.u = self.add_weight(shape=(dim,), initializer="glorot_uniform", name="u")

        def compute_mask(self, inputs, mask=None):
            return None

        def call(self, x, mask=None):
            uit = ops.tanh(ops.dot(x, self.W) + self.b)
            a = ops.exp(ops.sum(uit * self.u, axis=-1))
            if mask is not None:
                a *= ops.cast(mask, "float32")
            a /= ops.sum(a, axis=1, keepdims=True) + keras.backend.epsilon()
            return ops.sum(x * ops.expand_dims(a, -1), axis=1)

    inputs = keras.Input((9,), dtype="int32")
    x = layers.Embedding(30, 8, mask_zero=True)(inputs)
    x = layers.LSTM(8, return_sequences=True)(x)
    x = AttentionWithContext()(x)
    return keras.Model(inputs, layers.Dense(3, activation="softmax")(x))


@model(
    "hierarchical attention, sentences by TimeDistributed",
    "text",
    lambda r: r.integers(1, 30, (3, 4, 6), "int32"),
    tokens=(0,),
)
def hierarchical():
    """Words to sentences, sentences to a document; token numbers have two axes."""

    def attend(sequence):
        hidden = layers.Dense(6, activation="tanh")(sequence)
        weights = layers.Softmax(axis=1)(layers.Dense(1, use_bias=False)(hidden))
        return ops.sum(weights * sequence, axis=1)

    words = keras.Input((6,), dtype="int32")
    encoded = layers.Bidirectional(layers.GRU(5, return_sequences=True))(layers.Embedding(30, 6)(words))
    sentence = keras.Model(words, attend(encoded))
    document = keras.Input((4, 6), dtype="int32")
    x = layers.TimeDistributed(sentence)(document)
    x = layers.Bidirectional(layers.GRU(5, return_sequences=True))(x)
    return keras.Model(document, layers.Dense(3, activation="softmax")(attend(x)))


@model("sentence pair, shared encoder, cosine", "text", listed(numbers(8, 30, padded=2), numbers(8, 30)), tokens=(0, 1))
def sentence_pair():
    """Siamese: a GRU for both, Dot with normalize."""
    embedding, gru = layers.Embedding(30, 8, mask_zero=True), layers.GRU(8)
    one, two = keras.Input((8,), dtype="int32"), keras.Input((8,), dtype="int32")
    cosine = layers.Dot(axes=1, normalize=True)([gru(embedding(one)), gru(embedding(two))])
    return keras.Model([one, two], cosine)


@model(
    "sentence pair, |u - v| and u * v to a softmax", "text", named(a=numbers(7, 30), b=numbers(7, 30)), tokens=("a", "b")
)
def inference_pair():
    """InferSent's head, subclassed with a dict."""

    class Pair(keras.Model):
        def __init__(self):
            super().__init__()
            self.embedding = layers.Embedding(30, 8)
            self.encoder = layers.Conv1D(10, 3, activation="relu")
            self.head = keras.Sequential([layers.Dense(12, activation="tanh"), layers.Dense(3, activation="softmax")])

        def encode(self, tokens):
            return ops.max(self.encoder(self.embedding(tokens)), axis=1)

        def call(self, inputs):
            u, v = self.encode(inputs["a"]), self.encode(inputs["b"])
            return self.head(ops.concatenate([u, v, ops.abs(u - v), u * v], axis=-1))

    return Pair()


@model(
    "end-to-end memory network",
    "text",
    lambda r: [r.integers(1, 20, (3, 5, 4), "int32"), r.integers(1, 20, (3, 4), "int32")],
    tokens=(0, 1),
)
def memory_network():
    """A story of sentences and a question; two hops."""
    story, question = keras.Input((5, 4), dtype="int32"), keras.Input((4,), dtype="int32")
    a, c, b = layers.Embedding(20, 8), layers.Embedding(20, 8), layers.Embedding(20, 8)
    m, o, u = ops.sum(a(story), axis=2), ops.sum(c(story), axis=2), ops.sum(b(question), axis=1)
    hop = layers.Dense(8, use_bias=False)
    for _ in range(2):
        p = layers.Softmax()(layers.Dot(axes=(2, 1))([m, u]))
        u = hop(u) + layers.Dot(axes=(1, 1))([o, p])
    return keras.Model([story, question], layers.Dense(20, activation="softmax")(u))


@model("memory network for bAbI, permutations and LSTM", "text", listed(numbers(6, 20), numbers(4, 20)), tokens=(0, 1))
def babi():
    """The old Keras example."""
    story, question = keras.Input((6,)), keras.Input((4,))
    m = keras.Sequential([layers.Embedding(20, 8), layers.Dropout(0.3)])(story)
    c = keras.Sequential([layers.Embedding(20, 4), layers.Dropout(0.3)])(story)
    q = keras.Sequential([layers.Embedding(20, 8), layers.Dropout(0.3)])(question)
    match = layers.Activation("softmax")(layers.dot([m, q], axes=(2, 2)))
    response = layers.Permute((2, 1))(layers.add([match, c]))
    answer = layers.LSTM(8)(layers.concatenate([response, q]))
    return keras.Model([story, question], layers.Activation("softmax")(layers.Dense(20)(layers.Dropout(0.3)(answer))))


@model("TextVectorization in the model, raw strings", "text", choice("a good film", "a bad plot", "new", "good good bad"))
def text_vectorization():
    """Strings in; a vocabulary given; an average of embeddings."""
    vectorize = layers.TextVectorization(vocabulary=["good", "bad", "film", "plot", "a"], output_sequence_length=5)
    inputs = keras.Input((1,), dtype="string")
    x = layers.Embedding(vectorize.vocabulary_size(), 6)(vectorize(inputs))
    return keras.Model(inputs, layers.Dense(1, activation="sigmoid")(layers.Flatten()(x)))


@model("named entities, a class for each token", "text", numbers(8, 30, padded=3), tokens=(0,))
def tagging():
    """A tagger: BiLSTM and TimeDistributed softmax, mask passed on."""
    inputs = keras.Input((8,), dtype="int32")
    x = layers.Embedding(30, 8, mask_zero=True)(inputs)
    x = layers.Bidirectional(layers.LSTM(6, return_sequences=True, recurrent_dropout=0.1))(x)
    return keras.Model(inputs, layers.TimeDistributed(layers.Dense(4, activation="softmax"))(x))


@model("character convolutions and highway, tf.one_hot in a Lambda", "text", numbers(12, 26), tokens=(0,))
def characters():
    """One-hot by tf.one_hot inside a Lambda."""
    inputs = keras.Input((12,), dtype="int32")
    x = layers.Lambda(lambda t: tf.one_hot(tf.cast(t, tf.int32), 26), output_shape=(12, 26))(inputs)
    x = layers.MaxPooling1D(2)(layers.Conv1D(10, 3, activation="relu")(x))
    x = layers.GlobalMaxPooling1D()(layers.Conv1D(8, 3, activation="relu")(x))
    gate = layers.Dense(8, activation="sigmoid", bias_initializer=keras.initializers.Constant(-2))(x)
    x = layers.add([gate * layers.Dense(8, activation="relu")(x), (1 - gate) * x])
    return keras.Model(inputs, layers.Dense(4)(x))
