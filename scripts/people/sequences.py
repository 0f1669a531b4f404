"""Models of series without recurrence: convolutions, dilations, gates, transformers and decompositions, sounds."""
# ruff: noqa: D102 (what Keras calls)

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from .base import model, named, normal


@model("1D CNN on a series", "sequences", normal(20, 4))
def cnn_1d():
    """Human activities: convolutions, dropout, a maximum, dense."""
    return keras.Sequential(
        [
            layers.Input((20, 4)),
            layers.Conv1D(8, 3, activation="relu"),
            layers.Conv1D(8, 3, activation="relu"),
            layers.Dropout(0.5),
            layers.MaxPooling1D(2),
            layers.Flatten(),
            layers.Dense(12, activation="relu"),
            layers.Dense(4, activation="softmax"),
        ]
    )


@model("fully convolutional series classifier of keras.io", "sequences", normal(24, 1))
def series_fcn():
    """Conv1D, BatchNormalization, ReLU three times, global average."""
    x = inputs = keras.Input((24, 1))
    for _ in range(3):
        x = layers.Conv1D(filters=8, kernel_size=3, padding="same")(x)
        x = layers.BatchNormalization()(x)
        x = layers.ReLU()(x)
    gap = layers.GlobalAveragePooling1D()(x)
    return keras.Model(inputs, layers.Dense(2, activation="softmax")(gap))


@model("series transformer of keras.io, channels-first pooling", "sequences", normal(20, 1))
def series_transformer():
    """Attention on single numbers, 1x1 convolutions as feed-forward part."""
    x = inputs = keras.Input((20, 1))
    for _ in range(2):
        y = layers.MultiHeadAttention(key_dim=4, num_heads=2, dropout=0.25)(x, x)
        y = layers.LayerNormalization(epsilon=1e-6)(layers.Dropout(0.25)(y))
        res = y + x
        y = layers.Conv1D(filters=4, kernel_size=1, activation="relu")(res)
        y = layers.Conv1D(filters=x.shape[-1], kernel_size=1)(layers.Dropout(0.25)(y))
        x = layers.LayerNormalization(epsilon=1e-6)(y) + res
    x = layers.GlobalAveragePooling1D(data_format="channels_first")(x)
    x = layers.Dropout(0.4)(layers.Dense(12, activation="relu")(x))
    return keras.Model(inputs, layers.Dense(2, activation="softmax")(x))


class ResidualBlock(layers.Layer):
    """keras-tcn's: two causal, dilated convolutions, and a 1x1 one if the channels change."""

    def __init__(self, dilation_rate, filters, kernel_size=2):
        super().__init__()
        self.layers_list = []
        for _ in range(2):
            self.layers_list.append(layers.Conv1D(filters, kernel_size, dilation_rate=dilation_rate, padding="causal"))
            self.layers_list.append(layers.BatchNormalization())
            self.layers_list.append(layers.Activation("relu"))
            self.layers_list.append(layers.SpatialDropout1D(0.1))
        self.filters, self.shape_match = filters, layers.Conv1D(filters, 1, padding="same")

    def build(self, input_shape):
        self.matches = input_shape[-1] == self.filters
        if not self.matches:
            self.shape_match.build(input_shape)

    def call(self, inputs, training=None):
        x = inputs
        for layer in self.layers_list:
            x = layer(x, training=training) if isinstance(layer, layers.SpatialDropout1D) else layer(x)
        skip = inputs if self.matches else self.shape_match(inputs)
        return ops.relu(x + skip), x


@model("TCN, causal and dilated, skips summed", "sequences", normal(16, 3))
def tcn():
    """Layers that give two tensors."""
    x = inputs = keras.Input((16, 3))
    skips = []
    for rate in (1, 2, 4):
        x, skip = ResidualBlock(rate, 6)(x)
        skips.append(skip)
    x = layers.add(skips)
    x = layers.Lambda(lambda tt: tt[:, -1, :])(x)
    return keras.Model(inputs, layers.Dense(1)(x))


@model("WaveNet, gated, residual and skip connections", "sequences", normal(16, 2))
def wavenet():
    """tanh times sigmoid."""
    inputs = keras.Input((16, 2))
    x = layers.Conv1D(6, 1, padding="same")(inputs)
    skips = []
    for rate in (1, 2, 4, 8):
        filter_out = layers.Activation("tanh")(layers.Conv1D(6, 2, padding="causal", dilation_rate=rate)(x))
        gate_out = layers.Activation("sigmoid")(layers.Conv1D(6, 2, padding="causal", dilation_rate=rate)(x))
        z = layers.Conv1D(6, 1, padding="same")(layers.Multiply()([filter_out, gate_out]))
        x = layers.Add()([x, z])
        skips.append(z)
    out = layers.Activation("relu")(layers.Add()(skips))
    out = layers.Dense(1)(layers.Conv1D(8, 1, padding="same", activation="relu")(out))
    return keras.Model(inputs, layers.Lambda(lambda t: t[:, -4:, 0])(out))


class NBeatsBlock(layers.Layer):
    """Backcast and forecast from four dense layers."""

    def __init__(self, input_size, horizon, units=12):
        super().__init__()
        self.input_size, self.horizon = input_size, horizon
        self.hidden = [layers.Dense(units, activation="relu") for _ in range(4)]
        self.theta_layer = layers.Dense(input_size + horizon, activation="linear", name="theta")

    def call(self, inputs):
        x = inputs
        for layer in self.hidden:
            x = layer(x)
        theta = self.theta_layer(x)
        return theta[:, : self.input_size], theta[:, -self.horizon :]


@model("N-BEATS, double residual stacking", "sequences", normal(14))
def nbeats():
    """Bourke's notebook: subtract and add layers."""
    inputs = layers.Input(shape=(14,))
    backcast, forecast = NBeatsBlock(14, 3)(inputs)
    residuals = layers.subtract([inputs, backcast])
    for _ in range(2):
        backcast, block_forecast = NBeatsBlock(14, 3)(residuals)
        residuals = layers.subtract([residuals, backcast])
        forecast = layers.add([forecast, block_forecast])
    return keras.Model(inputs, forecast)


@model("N-BEATS, interpretable trend and seasonality", "sequences", normal(12))
def nbeats_basis():
    """Bases of polynomials and waves are constants."""
    time = np.arange(16, dtype="float32") / 16
    trend = np.stack([time**power for power in range(3)]).astype("float32")
    waves = np.concatenate([[np.sin(2 * np.pi * i * time), np.cos(2 * np.pi * i * time)] for i in (1, 2)]).astype("float32")
    x = inputs = keras.Input((12,))
    total = 0
    for basis in (trend, waves):
        h = layers.Dense(16, activation="relu")(layers.Dense(16, activation="relu")(x))
        both = ops.matmul(layers.Dense(basis.shape[0], use_bias=False)(h), basis)
        x = x - both[:, :12]
        total = total + both[:, 12:]
    return keras.Model(inputs, total)


@model("DLinear, moving average taken off", "sequences", normal(16, 3))
def dlinear():
    """Trend by an average with repeated ends; a linear map for trend and rest, channels independent."""

    class SeriesDecomposition(layers.Layer):
        def __init__(self, kernel_size=5):
            super().__init__()
            self.size = kernel_size

        def call(self, x):
            half = (self.size - 1) // 2
            front, end = ops.repeat(x[:, :1], half, axis=1), ops.repeat(x[:, -1:], half, axis=1)
            padded = ops.concatenate([front, x, end], axis=1)
            trend = ops.average_pool(padded, self.size, strides=1, padding="valid")
            return x - trend, trend

    inputs = keras.Input((16, 3))
    seasonal, trend = SeriesDecomposition()(inputs)
    seasonal = layers.Dense(4)(layers.Permute((2, 1))(seasonal))
    trend = layers.Dense(4)(layers.Permute((2, 1))(trend))
    return keras.Model(inputs, layers.Permute((2, 1))(seasonal + trend))


@model("reversible instance normalization and patches of a series", "sequences", normal(16, 2))
def patch_tst():
    """PatchTST: normalized by its own statistics, forecast, scaled back."""
    inputs = keras.Input((16, 2))
    mean = ops.mean(inputs, axis=1, keepdims=True)
    std = ops.sqrt(ops.var(inputs, axis=1, keepdims=True) + 1e-5)
    x = ops.transpose((inputs - mean) / std, (0, 2, 1))
    x = layers.Dense(8)(ops.reshape(x, (-1, 4, 4)))
    x = x + layers.Embedding(4, 8)(ops.arange(4))
    x = layers.LayerNormalization()(x + layers.MultiHeadAttention(2, 4)(x, x))
    x = ops.reshape(layers.Dense(3)(layers.Flatten()(x)), (-1, 2, 3))
    return keras.Model(inputs, ops.transpose(x, (0, 2, 1)) * std + mean)


@model(
    "Temporal Fusion-like, static context, LSTM and gates",
    "sequences",
    named(past=normal(10, 4), future=normal(3, 2), static=normal(5)),
)
def temporal_fusion():
    """Gated skips around an LSTM whose first state is the static context; attention; quantiles."""
    past, future = keras.Input((10, 4), name="past"), keras.Input((3, 2), name="future")
    static = keras.Input((5,), name="static")

    def gated_skip(x, skip):
        value, gate = layers.Dense(8)(x), layers.Dense(8, activation="sigmoid")(x)
        return layers.LayerNormalization()(layers.Add()([skip, value * gate]))

    context = layers.Dense(8, activation="elu")(static)
    states = [layers.Dense(8, activation="tanh")(context), layers.Dense(8)(context)]
    embedded = layers.TimeDistributed(layers.Dense(8))(past)
    encoded, h, c = layers.LSTM(8, return_sequences=True, return_state=True)(embedded, initial_state=states)
    future_embedded = layers.TimeDistributed(layers.Dense(8))(future)
    decoded = layers.LSTM(8, return_sequences=True)(future_embedded, initial_state=[h, c])
    series = gated_skip(
        layers.Concatenate(axis=1)([encoded, decoded]), layers.Concatenate(axis=1)([embedded, future_embedded])
    )
    enriched = layers.ELU()(layers.Dense(8)(series) + layers.Dense(8, use_bias=False)(layers.RepeatVector(13)(context)))
    attended = gated_skip(layers.MultiHeadAttention(2, 4)(enriched, enriched, use_causal_mask=True), enriched)
    return keras.Model(
        {"past": past, "future": future, "static": static}, layers.TimeDistributed(layers.Dense(3))(attended[:, -3:])
    )


class ProbSparseAttention(layers.Layer):
    """Informer: only the queries that stand out attend, the others take the mean."""

    def __init__(self, dim, top=4):
        super().__init__()
        self.top, self.dim = top, dim
        self.q, self.k, self.v = layers.Dense(dim), layers.Dense(dim), layers.Dense(dim)

    def call(self, x):
        q, k, v = self.q(x), self.k(x), self.v(x)
        scores = ops.matmul(q, ops.transpose(k, (0, 2, 1))) / np.sqrt(self.dim).astype("float32")
        sparsity = ops.max(scores, axis=-1) - ops.mean(scores, axis=-1)
        _, index = ops.top_k(sparsity, self.top)
        chosen = ops.max(ops.one_hot(index, x.shape[1], dtype=x.dtype), axis=1)[..., None]
        attended = ops.matmul(ops.softmax(scores, axis=-1), v)
        return chosen * attended + (1 - chosen) * ops.mean(v, axis=1, keepdims=True)


@model("Informer-like, sparse attention and distilling", "sequences", normal(16, 3))
def informer():
    """A convolution with ELU and a maximum halves the series."""
    inputs = keras.Input((16, 3))
    x = layers.Conv1D(8, 3, padding="same")(inputs)
    for _ in range(2):
        x = layers.LayerNormalization()(x + ProbSparseAttention(8)(x))
        x = layers.MaxPooling1D(3, 2, padding="same")(layers.ELU()(layers.Conv1D(8, 3, padding="same")(x)))
    return keras.Model(inputs, layers.Dense(4)(layers.Flatten()(x)))


class LogMelSpectrogram(layers.Layer):
    """Frames, a Fourier transform, a mel matrix and a logarithm, by tf.signal."""

    def __init__(self, bins=10):
        super().__init__()
        self.bins = bins

    def build(self, shape):
        self.mel = tf.signal.linear_to_mel_weight_matrix(self.bins, 33, 8000, 60.0, 3800.0)

    def call(self, waveforms):
        spectrograms = tf.signal.stft(waveforms, frame_length=64, frame_step=32)
        magnitude = tf.abs(spectrograms)
        mel = tf.matmul(tf.square(magnitude), self.mel)
        return tf.math.log(mel + 1e-3)[..., None]


@model("sound, log-mel by tf.signal in the model, 2D CNN", "sequences", lambda r: r.normal(size=(3, 512)).astype("float32"))
def log_mel():
    """Waveforms in, classes out."""
    inputs = keras.Input((512,))
    x = LogMelSpectrogram()(inputs)
    x = layers.BatchNormalization(axis=2)(x)
    x = layers.Conv2D(6, 3, padding="same", activation="relu")(x)
    x = layers.MaxPool2D((2, 2))(x)
    x = layers.Conv2D(8, 3, padding="same", activation="relu")(x)
    x = layers.GlobalMaxPooling2D()(x)
    return keras.Model(inputs, layers.Dense(5, activation="softmax")(x))


@model("sound, MelSpectrogram layer", "sequences", normal(512))
def mel_layer():
    """Keras's own layer, then 1D convolutions over time."""
    inputs = keras.Input((512,))
    x = layers.MelSpectrogram(fft_length=64, sequence_stride=32, sampling_rate=8000, num_mel_bins=10, min_freq=60)(inputs)
    x = layers.Permute((2, 1))(x)
    x = layers.Conv1D(8, 3, activation="relu")(layers.LayerNormalization()(x))
    return keras.Model(inputs, layers.Dense(4)(layers.GlobalAveragePooling1D()(x)))


@model("raw sound, strided 1D ResNet", "sequences", normal(256, 1))
def raw_sound():
    """keras.io's speaker recognition: residual blocks of Conv1D."""
    x = inputs = keras.Input((256, 1))
    for filters, count in ((4, 2), (6, 2), (8, 3)):
        s = layers.Conv1D(filters, 1, padding="same")(x)
        for _ in range(count - 1):
            x = layers.Activation("relu")(layers.Conv1D(filters, 3, padding="same")(x))
        x = layers.Conv1D(filters, 3, padding="same")(x)
        x = layers.MaxPool1D(pool_size=2, strides=2)(layers.Activation("relu")(layers.Add()([x, s])))
    x = layers.Flatten()(layers.AveragePooling1D(pool_size=3, strides=3)(x))
    return keras.Model(inputs, layers.Dense(3, activation="softmax", name="output")(layers.Dense(12, activation="relu")(x)))


@model("EEGNet, temporal and depthwise spatial convolutions", "sequences", normal(6, 32, 1))
def eegnet():
    """Depthwise over electrodes, separable over time, max-norm constraints."""
    inputs = keras.Input((6, 32, 1))
    x = layers.BatchNormalization()(layers.Conv2D(4, (1, 8), padding="same", use_bias=False)(inputs))
    x = layers.DepthwiseConv2D(
        (6, 1), use_bias=False, depth_multiplier=2, depthwise_constraint=keras.constraints.MaxNorm(1.0)
    )(x)
    x = layers.Activation("elu")(layers.BatchNormalization()(x))
    x = layers.SpatialDropout2D(0.25)(layers.AveragePooling2D((1, 4))(x))
    x = layers.BatchNormalization()(layers.SeparableConv2D(8, (1, 4), use_bias=False, padding="same")(x))
    x = layers.Flatten()(layers.AveragePooling2D((1, 4))(layers.Activation("elu")(x)))
    return keras.Model(inputs, layers.Softmax(name="softmax")(layers.Dense(3, kernel_constraint="max_norm")(x)))
