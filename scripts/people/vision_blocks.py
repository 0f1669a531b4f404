"""Blocks of vision networks that are less common: pooling, normalizations, places, capsules, distances."""
# ruff: noqa: D102 (what Keras calls)

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from .base import listed, model, normal, pixels, unit


@model("HRNet-like, two resolutions exchange", "vision", normal(16, 16, 3))
def hrnet():
    """Strided convolutions down, upsampling up, sums at each exchange."""

    def conv(x, filters, strides=1):
        x = layers.Conv2D(filters, 3, strides=strides, padding="same", use_bias=False)(x)
        return layers.BatchNormalization()(x)

    inputs = keras.Input((16, 16, 3))
    high = layers.ReLU()(conv(inputs, 6))
    low = layers.ReLU()(conv(high, 10, 2))
    for _ in range(2):
        up = layers.UpSampling2D(2, interpolation="bilinear")(conv(low, 6))
        down = conv(high, 10, 2)
        high, low = layers.ReLU()(layers.add([high, up])), layers.ReLU()(layers.add([low, down]))
    x = layers.Concatenate()([high, layers.UpSampling2D(2)(low)])
    return keras.Model(inputs, layers.Dense(4)(layers.GlobalAveragePooling2D()(x)))


@model("dilated convolutions, aggregated context", "vision", normal(20, 20, 3))
def dilated():
    """Rates 1, 2, 4 in a row."""
    model = keras.Sequential([keras.Input((20, 20, 3))])
    for rate in (1, 2, 4):
        model.add(layers.Conv2D(8, 3, padding="same", dilation_rate=rate, activation="relu"))
    model.add(layers.GlobalMaxPool2D())
    model.add(layers.Dense(3, activation="softmax"))
    return model


class DeformableSampling(layers.Layer):
    """Offsets by a convolution, then a bilinear look at the shifted places, with gathers."""

    def __init__(self):
        super().__init__()
        self.offsets = layers.Conv2D(2, 3, padding="same")

    def call(self, x):
        batch, (height, width, channels) = ops.shape(x)[0], x.shape[1:]
        rows, columns = ops.meshgrid(ops.arange(height), ops.arange(width), indexing="ij")
        grid = ops.cast(ops.stack([rows, columns], axis=-1), x.dtype)[None] + ops.tanh(self.offsets(x)) * 2
        flat = ops.reshape(x, (batch, height * width, channels))
        grid = ops.clip(grid, 0.0, float(min(height, width) - 1) - 1e-3)
        corner = ops.floor(grid)
        part = grid - corner
        corner = ops.cast(corner, "int32")
        result = 0.0
        for down in (0, 1):
            for right in (0, 1):
                index = (corner[..., 0] + down) * width + corner[..., 1] + right
                values = ops.take_along_axis(flat, ops.reshape(index, (batch, -1, 1)), axis=1)
                wr = part[..., 0] if down else 1 - part[..., 0]
                wc = part[..., 1] if right else 1 - part[..., 1]
                result += ops.reshape(values, (batch, height, width, channels)) * (wr * wc)[..., None]
        return result


@model("deformable-like sampling by gathers", "vision", normal(12, 12, 3))
def deformable():
    """A convolution of what the offsets chose."""
    inputs = keras.Input((12, 12, 3))
    x = layers.Conv2D(6, 3, padding="same", activation="relu")(inputs)
    x = layers.Conv2D(8, 3, activation="relu")(DeformableSampling()(x))
    return keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))


class WSConv2D(layers.Conv2D):
    """Standardizes its kernel in each call."""

    def call(self, inputs):
        mean = ops.mean(self.kernel, axis=(0, 1, 2), keepdims=True)
        var = ops.var(self.kernel, axis=(0, 1, 2), keepdims=True)
        fan_in = float(np.prod(self.kernel.shape[:-1]))
        kernel = (self.kernel - mean) / ops.sqrt(ops.maximum(var * fan_in, 1e-4))
        x = ops.conv(inputs, kernel, strides=self.strides, padding=self.padding)
        return x + self.bias


@model("weight-standardized convolutions with GroupNormalization", "vision", normal(16, 16, 3))
def weight_standardized():
    """Big Transfer's ResNet, a subclass of Conv2D."""
    inputs = keras.Input((16, 16, 3))
    x = WSConv2D(8, 3, padding="same")(inputs)
    for _ in range(2):
        y = layers.GroupNormalization(groups=4)(x)
        y = WSConv2D(8, 3, padding="same")(layers.ReLU()(y))
        x = layers.Add()([x, y])
    x = layers.GlobalAveragePooling2D()(layers.ReLU()(layers.GroupNormalization(groups=4)(x)))
    return keras.Model(inputs, layers.Dense(4)(x))


@model("spectral normalization, critic with LeakyReLU", "vision", normal(16, 16, 3))
def spectral():
    """A GAN's discriminator."""
    return keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            layers.SpectralNormalization(layers.Conv2D(8, 4, strides=2, padding="same")),
            layers.LeakyReLU(negative_slope=0.2),
            layers.SpectralNormalization(layers.Conv2D(12, 4, strides=2, padding="same")),
            layers.LeakyReLU(negative_slope=0.2),
            layers.Flatten(),
            layers.Dropout(0.3),
            layers.Dense(1),
        ]
    )


def squash(vectors, axis=-1):
    """Sabour et al.: long vectors to length 1, short ones to 0."""
    s_squared_norm = ops.sum(ops.square(vectors), axis, keepdims=True)
    scale = s_squared_norm / (1 + s_squared_norm) / ops.sqrt(s_squared_norm + 1e-7)
    return scale * vectors


class CapsuleLayer(layers.Layer):
    """Capsules with routing by agreement."""

    def __init__(self, num_capsule, dim_capsule, routings=3, **kwargs):
        super().__init__(**kwargs)
        self.num_capsule, self.dim_capsule, self.routings = num_capsule, dim_capsule, routings

    def build(self, input_shape):
        self.W = self.add_weight(
            shape=(self.num_capsule, input_shape[1], self.dim_capsule, input_shape[2]), name="capsule_kernel"
        )

    def call(self, inputs):
        inputs_hat = ops.einsum("jide,bie->bjid", self.W, inputs)
        b = ops.zeros_like(inputs_hat[..., 0])
        for i in range(self.routings):
            c = ops.softmax(b, axis=1)
            outputs = squash(ops.einsum("bji,bjid->bjd", c, inputs_hat))
            if i < self.routings - 1:
                b += ops.einsum("bjd,bjid->bji", outputs, inputs_hat)
        return outputs


@model("CapsNet, routing by agreement, lengths as output", "vision", unit(16, 16, 1))
def capsnet():
    """Primary capsules by convolution, digit capsules, a length for each class."""
    inputs = keras.Input((16, 16, 1))
    x = layers.Conv2D(8, 5, activation="relu")(inputs)
    x = layers.Conv2D(8, 5, strides=2)(x)
    x = layers.Lambda(squash)(layers.Reshape((-1, 4))(x))
    x = CapsuleLayer(3, 6)(x)
    return keras.Model(inputs, layers.Lambda(lambda z: ops.sqrt(ops.sum(ops.square(z), -1) + 1e-7))(x))


class BlurPool(layers.Layer):
    """Anti-aliased pooling: a fixed binomial filter, strided."""

    def build(self, shape):
        filter_1d = np.array([1.0, 2.0, 1.0])
        kernel = np.outer(filter_1d, filter_1d) / 16
        self.blur = ops.convert_to_tensor(np.repeat(kernel[:, :, None, None], shape[-1], axis=2).astype("float32"))

    def call(self, x):
        x = ops.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], mode="reflect")
        return ops.depthwise_conv(x, self.blur, strides=2, padding="valid")


@model("anti-aliased pooling with a fixed blur", "vision", normal(16, 16, 3))
def blur_pool():
    """Maximum of stride 1, then the blur."""
    inputs = keras.Input((16, 16, 3))
    x = inputs
    for filters in (6, 10):
        x = layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
        x = BlurPool()(layers.MaxPooling2D(2, strides=1, padding="same")(x))
    return keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x)))


class CoordConv(layers.Layer):
    """Channels that say where a pixel is."""

    def call(self, x):
        batch, height, width = ops.shape(x)[0], x.shape[1], x.shape[2]
        rows = ops.broadcast_to(ops.linspace(-1.0, 1.0, height)[None, :, None, None], (batch, height, width, 1))
        columns = ops.broadcast_to(ops.linspace(-1.0, 1.0, width)[None, None, :, None], (batch, height, width, 1))
        return ops.concatenate([x, rows, columns], axis=-1)


@model("coordinate channels, soft argmax of places", "vision", normal(12, 12, 3))
def coord_conv():
    """Where the channels are on, by a softmax over places."""

    def soft_argmax(x):
        weights = ops.softmax(ops.reshape(x, (-1, 144, 4)), axis=1)
        grid = ops.stack(ops.meshgrid(ops.linspace(0.0, 1.0, 12), ops.linspace(0.0, 1.0, 12)), axis=-1)
        return ops.reshape(ops.einsum("bpc,pd->bcd", weights, ops.reshape(grid, (144, 2))), (-1, 8))

    inputs = keras.Input((12, 12, 3))
    x = layers.Conv2D(8, 3, padding="same", activation="relu")(CoordConv()(inputs))
    x = layers.Lambda(soft_argmax)(layers.Conv2D(4, 3, padding="same")(x))
    return keras.Model(inputs, layers.Dense(2)(x))


class GeM(layers.Layer):
    """Generalized mean pooling with a power that is learned."""

    def __init__(self, p=3.0, eps=1e-6):
        super().__init__()
        self.init_p, self.eps = p, eps

    def build(self, shape):
        self.p = self.add_weight(shape=(1,), initializer=keras.initializers.Constant(self.init_p), name="p")

    def call(self, x):
        x = ops.power(ops.maximum(x, self.eps), self.p)
        return ops.power(ops.mean(x, axis=[1, 2]), 1.0 / self.p)


class ArcMarginProduct(layers.Layer):
    """Cosine logits, scaled."""

    def __init__(self, n_classes, s=16.0):
        super().__init__()
        self.n_classes, self.s = n_classes, s

    def build(self, shape):
        self.W = self.add_weight(shape=(shape[-1], self.n_classes), initializer="glorot_uniform", name="W")

    def call(self, x):
        return ops.matmul(ops.normalize(x, axis=1), ops.normalize(self.W, axis=0)) * self.s


@model("GeM pooling and cosine logits", "vision", normal(20, 20, 3))
def gem():
    """Retrieval on Kaggle: generalized mean, embedding, ArcFace head without labels."""
    inputs = keras.Input((20, 20, 3))
    x = layers.Conv2D(8, 3, strides=2, activation="relu")(inputs)
    x = layers.Conv2D(12, 3, activation="relu")(x)
    x = layers.BatchNormalization()(layers.Dense(10)(GeM()(x)))
    return keras.Model(inputs, ArcMarginProduct(5)(x))


@model("attention pooling over places", "vision", normal(16, 16, 3))
def attention_pooling():
    """A softmax over places weighs the features; a notebook's 'attention' head with rescaling by the mask's mean."""
    inputs = keras.Input((16, 16, 3))
    features = layers.BatchNormalization()(layers.Conv2D(12, 3, padding="same", activation="relu")(inputs))
    attn = layers.Conv2D(8, 1, activation="relu")(features)
    attn = layers.Conv2D(1, 1, activation="sigmoid")(attn)
    mask = layers.Conv2D(12, 1, use_bias=False, kernel_initializer="ones", trainable=False)(attn)
    gap_features = layers.GlobalAveragePooling2D()(layers.multiply([mask, features]))
    gap_mask = layers.GlobalAveragePooling2D()(mask)
    gap = layers.Lambda(lambda x: x[0] / x[1], name="RescaleGAP")([gap_features, gap_mask])
    return keras.Model(inputs, layers.Dense(4, activation="softmax")(layers.Dropout(0.5)(gap)))


@model("spatial pyramid pooling", "vision", normal(16, 16, 3))
def pyramid_pooling():
    """Maxima over the whole, quarters and sixteenths."""
    inputs = keras.Input((16, 16, 3))
    x = layers.Conv2D(8, 3, padding="same", activation="relu")(inputs)
    levels = [layers.Flatten()(layers.MaxPooling2D(16 // bins)(x)) for bins in (1, 2, 4)]
    return keras.Model(inputs, layers.Dense(5, activation="softmax")(layers.Concatenate()(levels)))


@model("siamese, shared encoder and Euclidean distance", "vision", listed(unit(16, 16, 1), unit(16, 16, 1)))
def siamese():
    """keras.io: contrastive, a distance by Lambda and a sigmoid."""

    def euclidean_distance(vects):
        x, y = vects
        sum_square = ops.sum(ops.square(x - y), axis=1, keepdims=True)
        return ops.sqrt(ops.maximum(sum_square, keras.backend.epsilon()))

    x = inputs = keras.Input((16, 16, 1))
    x = layers.BatchNormalization()(x)
    x = layers.AveragePooling2D(2)(layers.Conv2D(4, 5, activation="tanh")(x))
    x = layers.BatchNormalization()(layers.Flatten()(x))
    embedding = keras.Model(inputs, layers.Dense(10, activation="tanh")(x))
    one, two = keras.Input((16, 16, 1)), keras.Input((16, 16, 1))
    merged = layers.Lambda(euclidean_distance, output_shape=(1,))([embedding(one), embedding(two)])
    output = layers.Dense(1, activation="sigmoid")(layers.BatchNormalization()(merged))
    return keras.Model([one, two], output)


@model(
    "triplet, distances of anchor, positive, negative",
    "vision",
    listed(unit(12, 12, 3), unit(12, 12, 3), unit(12, 12, 3)),
)
def triplet():
    """keras.io: a layer gives both distances of a shared network."""

    class DistanceLayer(layers.Layer):
        def call(self, anchor, positive, negative):
            ap = ops.sum(tf.square(anchor - positive), -1)
            an = ops.sum(tf.square(anchor - negative), -1)
            return ops.stack([ap, an], axis=-1)

    encoder = keras.Sequential(
        [
            layers.Conv2D(6, 3, activation="relu"),
            layers.Flatten(),
            layers.Dense(8, activation="relu"),
            layers.BatchNormalization(),
            layers.Dense(6),
            layers.Lambda(lambda t: ops.normalize(t, axis=-1)),
        ],
        name="Embedding",
    )
    parts = [keras.Input((12, 12, 3), name=name) for name in ("anchor", "positive", "negative")]
    return keras.Model(parts, DistanceLayer()(*[encoder(part) for part in parts]))


@model("3D convolutions on volumes", "vision", normal(12, 12, 8, 1))
def volumes():
    """keras.io: CT scans."""
    inputs = keras.Input((12, 12, 8, 1))
    x = layers.Conv3D(filters=6, kernel_size=3, activation="relu")(inputs)
    x = layers.BatchNormalization()(layers.MaxPool3D(pool_size=2)(x))
    x = layers.Conv3D(8, 2, activation="relu")(x)
    x = layers.GlobalAveragePooling3D()(x)
    x = layers.Dropout(0.3)(layers.Dense(8, activation="relu")(x))
    return keras.Model(inputs, layers.Dense(1, activation="sigmoid")(x), name="3dcnn")


@model("channels first by a transpose before and after", "vision", normal(3, 16, 16))
def channels_first():
    """Data of PyTorch's order, permuted in the model."""
    return keras.Sequential(
        [
            keras.Input((3, 16, 16)),
            layers.Permute((2, 3, 1)),
            layers.Conv2D(8, 3, strides=2, activation="relu"),
            layers.Conv2D(8, 3, activation="relu"),
            layers.Permute((3, 1, 2)),
            layers.GlobalAveragePooling2D(data_format="channels_first"),
            layers.Dense(4),
        ]
    )


@model("transfer learning, nested frozen base, resizing inside", "vision", pixels(20, 24, 3))
def transfer():
    """A base of keras.applications' kind as one layer, called with training=False."""
    base_in = keras.Input((32, 32, 3))
    x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False)(base_in)
    x = layers.Activation("swish")(layers.BatchNormalization()(x))
    base = keras.Model(base_in, layers.Conv2D(12, 3, strides=2, activation="relu")(x), name="base")
    base.trainable = False
    inputs = keras.Input((20, 24, 3))
    x = layers.Resizing(32, 32)(inputs)
    x = layers.Rescaling(scale=1 / 127.5, offset=-1)(x)
    x = base(x, training=False)
    x = layers.Dropout(0.2)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, layers.Dense(5)(x))
