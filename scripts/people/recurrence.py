"""Recurrent networks: LSTM, GRU, cells of one's own, convolutional ones, encoders and decoders."""
# ruff: noqa: D102 (what Keras calls)

import keras
import numpy as np
from keras import layers, ops

from .base import listed, model, normal, unit


def _padded(*shape, value=0.0):
    def inputs(generator):
        x = generator.normal(size=(3, *shape)).astype("float32")
        x[1, -3:] = value
        return x

    return inputs


@model("LSTM forecast", "recurrence", normal(12, 3))
def lstm():
    """keras.io's weather forecast."""
    inputs = layers.Input(shape=(12, 3))
    return keras.Model(inputs=inputs, outputs=layers.Dense(1)(layers.LSTM(8)(inputs)))


@model("GRU, stacked, recurrent dropout", "recurrence", normal(12, 4))
def gru_stacked():
    """Chollet's temperatures."""
    inputs = keras.Input((12, 4))
    x = layers.GRU(8, recurrent_dropout=0.5, return_sequences=True)(inputs)
    x = layers.GRU(8, recurrent_dropout=0.5, reset_after=False)(x)
    return keras.Model(inputs, layers.Dense(1)(layers.Dropout(0.5)(x)))


@model("SimpleRNN, unrolled", "recurrence", normal(8, 3))
def simple_rnn():
    """With ReLU and a softmax."""
    return keras.Sequential([layers.Input((8, 3)), layers.SimpleRNN(8, unroll=True), layers.Dense(3, activation="softmax")])


@model("BiLSTM with Conv1D and merge by sum", "recurrence", normal(16, 4))
def conv_bilstm():
    """Convolution, maximum, bidirectional."""
    return keras.Sequential(
        [
            layers.Input((16, 4)),
            layers.Conv1D(8, 3, padding="causal", activation="relu"),
            layers.MaxPooling1D(2),
            layers.Bidirectional(layers.LSTM(6, return_sequences=True), merge_mode="sum"),
            layers.Bidirectional(layers.GRU(5), merge_mode="ave"),
            layers.Dense(3),
        ]
    )


@model("Masking layer and LSTM", "recurrence", _padded(10, 4, value=-10.0))
def masking():
    """Steps of -10 are left out."""
    model = keras.Sequential()
    model.add(layers.Input((10, 4)))
    model.add(layers.Masking(mask_value=-10.0))
    model.add(layers.LSTM(8, return_sequences=True))
    model.add(layers.LSTM(8))
    model.add(layers.Dense(1, activation="sigmoid"))
    return model


class MinimalRNNCell(layers.Layer):
    """Keras's documentation: a cell of one's own."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.state_size = units

    def build(self, input_shape):
        self.kernel = self.add_weight(shape=(input_shape[-1], self.units), initializer="uniform", name="kernel")
        self.recurrent_kernel = self.add_weight(
            shape=(self.units, self.units), initializer="uniform", name="recurrent_kernel"
        )

    def call(self, inputs, states):
        prev_output = states[0]
        output = ops.tanh(ops.matmul(inputs, self.kernel) + ops.matmul(prev_output, self.recurrent_kernel))
        return output, [output]


@model("RNN of a custom cell, two stacked", "recurrence", normal(9, 3))
def custom_cell():
    """Cells in a list."""
    inputs = keras.Input((9, 3))
    x = layers.RNN([MinimalRNNCell(8), MinimalRNNCell(6)])(inputs)
    return keras.Model(inputs, layers.Dense(2)(x))


@model("LSTM by hand in a Python loop", "recurrence", normal(6, 4))
def manual_lstm():
    """Gates with dense layers, states start at zeros."""

    class ManualLSTM(keras.Model):
        def __init__(self, units=6):
            super().__init__()
            self.units = units
            self.gates, self.out = layers.Dense(4 * units), layers.Dense(3)

        def call(self, x):
            h = c = ops.zeros((ops.shape(x)[0], self.units))
            for step in range(x.shape[1]):
                z = self.gates(ops.concatenate([x[:, step], h], axis=-1))
                i, f, g, o = ops.split(z, 4, axis=-1)
                c = ops.sigmoid(f) * c + ops.sigmoid(i) * ops.tanh(g)
                h = ops.sigmoid(o) * ops.tanh(c)
            return self.out(h)

    return ManualLSTM()


@model("ConvLSTM2D on frames", "recurrence", unit(4, 10, 10, 1))
def conv_lstm():
    """keras.io's next frame, ended by a class."""
    inputs = keras.Input((4, 10, 10, 1))
    x = layers.ConvLSTM2D(4, (3, 3), padding="same", return_sequences=True, activation="relu")(inputs)
    x = layers.BatchNormalization()(x)
    x = layers.ConvLSTM2D(4, (3, 3), padding="same")(x)
    return keras.Model(inputs, layers.Dense(2, activation="softmax")(layers.GlobalAveragePooling2D()(x)))


@model("next frames, ConvLSTM2D and Conv3D", "recurrence", unit(3, 8, 8, 1))
def next_frames():
    """A frame for each frame."""
    model = keras.Sequential([keras.Input((3, 8, 8, 1))])
    model.add(layers.ConvLSTM2D(4, 3, padding="same", return_sequences=True))
    model.add(layers.LayerNormalization())
    model.add(layers.Conv3D(1, (3, 3, 3), activation="sigmoid", padding="same"))
    return model


@model("video, TimeDistributed CNN and LSTM", "recurrence", unit(4, 12, 12, 3))
def time_distributed_cnn():
    """A nested CNN for each frame."""
    cnn = keras.Sequential(
        [
            layers.Input((12, 12, 3)),
            layers.Conv2D(6, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.BatchNormalization(),
            layers.Conv2D(8, 3, activation="relu"),
            layers.GlobalMaxPool2D(),
        ]
    )
    model = keras.Sequential([layers.Input((4, 12, 12, 3)), layers.TimeDistributed(cnn), layers.GRU(8)])
    model.add(layers.Dense(12, activation="relu"))
    model.add(layers.Dropout(0.5))
    model.add(layers.Dense(4, activation="softmax"))
    return model


@model("attention over LSTM states, Luong", "recurrence", normal(10, 3))
def lstm_attention():
    """The last state asks all states."""
    inputs = keras.Input((10, 3))
    states, last, _ = layers.LSTM(8, return_sequences=True, return_state=True)(inputs)
    score = layers.Dot(axes=[1, 2])([last, layers.Dense(8, use_bias=False)(states)])
    weights = layers.Activation("softmax", name="attention_weight")(score)
    context = layers.Dot(axes=[1, 1])([states, weights])
    vector = layers.Dense(8, use_bias=False, activation="tanh")(layers.Concatenate()([context, last]))
    return keras.Model(inputs, layers.Dense(1)(vector))


@model("attention over LSTM states by Permute and RepeatVector", "recurrence", normal(8, 3))
def attention_permute():
    """An old notebook's."""
    inputs = keras.Input((8, 3))
    activations = layers.Bidirectional(layers.LSTM(4, return_sequences=True))(inputs)
    attention = layers.Flatten()(layers.Dense(1, activation="tanh")(activations))
    attention = layers.Activation("softmax")(attention)
    attention = layers.Permute([2, 1])(layers.RepeatVector(8)(attention))
    sent = layers.Multiply()([activations, attention])
    sent = layers.Lambda(lambda xin: ops.sum(xin, axis=-2), output_shape=(8,))(sent)
    return keras.Model(inputs, layers.Dense(2, activation="softmax")(sent))


@model("seq2seq with teacher forcing, one-hot characters", "recurrence", listed(unit(7, 5), unit(6, 5)))
def seq2seq():
    """keras.io's character-level translation."""
    encoder_inputs = keras.Input(shape=(None, 5))
    _, state_h, state_c = layers.LSTM(8, return_state=True)(encoder_inputs)
    decoder_inputs = keras.Input(shape=(None, 5))
    decoder_lstm = layers.LSTM(8, return_sequences=True, return_state=True)
    decoder_outputs, _, _ = decoder_lstm(decoder_inputs, initial_state=[state_h, state_c])
    decoder_outputs = layers.Dense(5, activation="softmax")(decoder_outputs)
    return keras.Model([encoder_inputs, decoder_inputs], decoder_outputs)


@model("LSTM autoencoder, RepeatVector, error per sample", "recurrence", normal(8, 2))
def lstm_autoencoder():
    """Anomalies of series: the mean absolute error as output."""
    inputs = keras.Input((8, 2))
    x = layers.RepeatVector(8)(layers.LSTM(6)(inputs))
    x = layers.TimeDistributed(layers.Dense(2))(layers.LSTM(6, return_sequences=True)(x))
    return keras.Model(inputs, ops.mean(ops.abs(inputs - x), axis=(1, 2))[:, None])


@model("autoregressive forecast, cell called step by step", "recurrence", normal(6, 2))
def feedback():
    """TensorFlow's tutorial: warm-up, then predictions go in again."""

    class FeedBack(keras.Model):
        def __init__(self, units=8, out_steps=3):
            super().__init__()
            self.out_steps = out_steps
            self.lstm_cell = layers.LSTMCell(units)
            self.lstm_rnn = layers.RNN(self.lstm_cell, return_state=True)
            self.dense = layers.Dense(2)

        def call(self, inputs, training=None):
            x, *state = self.lstm_rnn(inputs)
            predictions = [self.dense(x)]
            for _ in range(1, self.out_steps):
                x, state = self.lstm_cell(predictions[-1], states=state, training=training)
                predictions.append(self.dense(x))
            return ops.transpose(ops.stack(predictions), [1, 0, 2])

    return FeedBack()


@model("LSTNet-like, highway of an autoregression beside", "recurrence", normal(12, 3))
def lstnet():
    """CNN, GRU, skip-GRU by reshape, a linear part added."""
    inputs = keras.Input((12, 3))
    c = layers.Conv1D(6, 3, activation="relu", padding="causal")(inputs)
    r = layers.GRU(6, activation="relu")(c)
    s = ops.reshape(ops.transpose(ops.reshape(c, (-1, 3, 4, 6)), (0, 2, 1, 3)), (-1, 3, 6))
    s = ops.reshape(layers.GRU(3)(s), (-1, 12))
    res = layers.Dense(3)(layers.Concatenate()([r, s]))
    z = layers.Dense(1)(ops.reshape(ops.transpose(inputs[:, -4:, :], (0, 2, 1)), (-1, 4)))
    return keras.Model(inputs, layers.add([res, ops.reshape(z, (-1, 3))]))


@model("state-space layer by a Toeplitz kernel", "recurrence", normal(8, 4))
def state_space():
    """A diagonal linear recurrence by powers and a Toeplitz matrix, gated, as in S4D and Mamba's kin."""

    class DiagonalSSM(layers.Layer):
        def __init__(self, dim):
            super().__init__()
            self.decay = self.add_weight(shape=(dim,), initializer="ones", name="decay")
            self.inp, self.gate, self.out = layers.Dense(dim), layers.Dense(dim), layers.Dense(dim)

        def call(self, x):
            length = x.shape[1]
            lag = np.arange(length)[:, None] - np.arange(length)[None, :]
            keep = (lag >= 0).astype("float32")[..., None]
            kernel = ops.power(ops.sigmoid(self.decay), np.maximum(lag, 0).astype("float32")[..., None]) * keep
            h = ops.einsum("tsd,bsd->btd", kernel, self.inp(x))
            return x + self.out(h * ops.silu(self.gate(x)))

    inputs = keras.Input((8, 4))
    x = layers.Dense(6)(inputs)
    for _ in range(2):
        x = DiagonalSSM(6)(layers.LayerNormalization()(x))
    return keras.Model(inputs, layers.Dense(2)(x[:, -1]))
