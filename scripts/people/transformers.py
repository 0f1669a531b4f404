"""Vision transformers and their kin, in several ways of writing them."""
# ruff: noqa: D102 (what Keras calls)

import keras
import numpy as np
from keras import layers, ops

from .base import model, normal, unit


class Patches(layers.Layer):
    """keras.io: patches by ops.image.extract_patches."""

    def __init__(self, patch_size):
        super().__init__()
        self.patch_size = patch_size

    def call(self, images):
        batch_size, height, width, channels = ops.shape(images)
        patches = ops.image.extract_patches(images, size=self.patch_size)
        count = (height // self.patch_size) * (width // self.patch_size)
        return ops.reshape(patches, (batch_size, count, self.patch_size * self.patch_size * channels))


class PatchEncoder(layers.Layer):
    """keras.io: a projection and an embedding of positions."""

    def __init__(self, num_patches, projection_dim):
        super().__init__()
        self.num_patches = num_patches
        self.projection = layers.Dense(units=projection_dim)
        self.position_embedding = layers.Embedding(input_dim=num_patches, output_dim=projection_dim)

    def call(self, patch):
        positions = ops.expand_dims(ops.arange(start=0, stop=self.num_patches, step=1), axis=0)
        return self.projection(patch) + self.position_embedding(positions)


def mlp(x, hidden_units, dropout_rate):
    """keras.io's dense layers with GELU."""
    for units in hidden_units:
        x = layers.Dense(units, activation=keras.activations.gelu)(x)
        x = layers.Dropout(dropout_rate)(x)
    return x


@model("ViT of keras.io, flattened representation", "attention", normal(24, 24, 3))
def vit_keras_io():
    """Patches and encoder as layers, MultiHeadAttention."""
    inputs = keras.Input(shape=(24, 24, 3))
    encoded_patches = PatchEncoder(9, 12)(Patches(8)(inputs))
    for _ in range(2):
        x1 = layers.LayerNormalization(epsilon=1e-6)(encoded_patches)
        attention_output = layers.MultiHeadAttention(num_heads=2, key_dim=12, dropout=0.1)(x1, x1)
        x2 = layers.Add()([attention_output, encoded_patches])
        x3 = layers.LayerNormalization(epsilon=1e-6)(x2)
        x3 = mlp(x3, hidden_units=[24, 12], dropout_rate=0.1)
        encoded_patches = layers.Add()([x3, x2])
    representation = layers.LayerNormalization(epsilon=1e-6)(encoded_patches)
    representation = layers.Dropout(0.5)(layers.Flatten()(representation))
    features = mlp(representation, hidden_units=[16], dropout_rate=0.5)
    return keras.Model(inputs=inputs, outputs=layers.Dense(4)(features))


class ClassToken(layers.Layer):
    """A learned token in front, positions added."""

    def build(self, shape):
        self.cls = self.add_weight(shape=(1, 1, shape[-1]), initializer="zeros", name="cls")
        self.pos = self.add_weight(shape=(1, shape[1] + 1, shape[-1]), initializer="random_normal", name="pos")

    def call(self, x):
        cls = ops.broadcast_to(self.cls, (ops.shape(x)[0], 1, x.shape[-1]))
        return ops.concatenate([cls, x], axis=1) + self.pos


@model("ViT, class token, patches by convolution", "attention", normal(32, 32, 3))
def vit_class_token():
    """The paper's, with a head on the first token."""
    inputs = keras.Input((32, 32, 3))
    x = layers.Conv2D(16, 8, strides=8, padding="valid", name="embedding")(inputs)
    x = layers.Reshape((x.shape[1] * x.shape[2], 16))(x)
    x = ClassToken(name="class_token")(x)
    for _ in range(2):
        y = layers.LayerNormalization(epsilon=1e-6)(x)
        x = layers.Add()([x, layers.MultiHeadAttention(4, 4)(y, y)])
        y = layers.LayerNormalization(epsilon=1e-6)(x)
        x = layers.Add()([x, layers.Dense(16)(layers.Dense(32, activation="gelu")(y))])
    x = layers.LayerNormalization(epsilon=1e-6)(x)
    x = layers.Lambda(lambda v: v[:, 0], name="ExtractToken")(x)
    return keras.Model(inputs, layers.Dense(5, name="head")(x))


class Attention(layers.Layer):
    """timm's attention: one qkv, heads by reshape and transpose."""

    def __init__(self, dim, num_heads=2):
        super().__init__()
        self.num_heads, self.scale = num_heads, (dim // num_heads) ** -0.5
        self.qkv, self.proj = layers.Dense(dim * 3), layers.Dense(dim)

    def call(self, x):
        n, c = x.shape[1], x.shape[2]
        qkv = ops.reshape(self.qkv(x), (-1, n, 3, self.num_heads, c // self.num_heads))
        qkv = ops.transpose(qkv, (2, 0, 3, 1, 4))
        q, k, v = qkv[0], qkv[1], qkv[2]
        attn = ops.softmax(ops.matmul(q, ops.transpose(k, (0, 1, 3, 2))) * self.scale, axis=-1)
        x = ops.transpose(ops.matmul(attn, v), (0, 2, 1, 3))
        return self.proj(ops.reshape(x, (-1, n, c)))


class Block(layers.Layer):
    """Pre-norm attention and perceptron."""

    def __init__(self, dim, attention=Attention):
        super().__init__()
        self.norm1, self.norm2 = layers.LayerNormalization(epsilon=1e-6), layers.LayerNormalization(epsilon=1e-6)
        self.attn = attention(dim)
        self.mlp = keras.Sequential([layers.Dense(dim * 2, activation="gelu"), layers.Dropout(0.1), layers.Dense(dim)])

    def call(self, x, training=None):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x), training=training)


class VisionTransformer(keras.Model):
    """Subclassed, global average of tokens."""

    def __init__(self, dim=12, depth=2, num_classes=4):
        super().__init__()
        self.patch_embed = layers.Conv2D(dim, 4, strides=4)
        self.pos_embed = self.add_weight(shape=(1, 16, dim), initializer="random_normal", name="pos_embed")
        self.blocks = [Block(dim) for _ in range(depth)]
        self.norm, self.head = layers.LayerNormalization(), layers.Dense(num_classes)

    def call(self, x, training=None):
        x = self.patch_embed(x)
        x = ops.reshape(x, (ops.shape(x)[0], -1, ops.shape(x)[-1])) + self.pos_embed
        for blk in self.blocks:
            x = blk(x, training=training)
        return self.head(ops.mean(self.norm(x), axis=1))


@model("ViT, subclassed, qkv by hand, average of tokens", "attention", normal(16, 16, 3))
def vit_subclassed():
    """As ported from PyTorch."""
    return VisionTransformer()


class EinsumAttention(layers.Layer):
    """Weights of shape (dim, heads, size), all products by einsum."""

    def __init__(self, dim, heads=2):
        super().__init__()
        self.dim, self.heads = dim, heads

    def build(self, shape):
        size = self.dim // self.heads
        self.wq, self.wk, self.wv = (
            self.add_weight(shape=(self.dim, self.heads, size), name=f"{name}_kernel") for name in ("query", "key", "value")
        )
        self.wo = self.add_weight(shape=(self.heads, size, self.dim), name="out_kernel")

    def call(self, x):
        q = ops.einsum("btd,dhk->bthk", x, self.wq)
        k = ops.einsum("btd,dhk->bthk", x, self.wk)
        v = ops.einsum("btd,dhk->bthk", x, self.wv)
        logits = ops.einsum("bthk,bshk->bhts", q, k) / np.sqrt(self.dim / self.heads)
        out = ops.einsum("bhts,bshk->bthk", ops.softmax(logits, axis=-1), v)
        return ops.einsum("bthk,hkd->btd", out, self.wo)


@model("ViT, attention by einsum, custom layers in Functional", "attention", normal(16, 16, 3))
def vit_einsum():
    """Patches by reshape and transpose; a softmax head."""
    inputs = keras.Input((16, 16, 3))
    x = ops.reshape(inputs, (-1, 4, 4, 4, 4, 3))
    x = ops.reshape(ops.transpose(x, (0, 1, 3, 2, 4, 5)), (-1, 16, 48))
    x = layers.Dense(12)(x)
    x = Block(12, EinsumAttention)(Block(12, EinsumAttention)(x))
    x = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(x))
    return keras.Model(inputs, layers.Dense(4, activation="softmax")(x))


def window_partition(x, size):
    """keras.io's Swin: windows by reshape and transpose."""
    _, height, width, channels = x.shape
    x = ops.reshape(x, (-1, height // size, size, width // size, size, channels))
    x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
    return ops.reshape(x, (-1, size * size, channels))


def window_reverse(windows, size, height, width, channels):
    """The way back."""
    x = ops.reshape(windows, (-1, height // size, width // size, size, size, channels))
    x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
    return ops.reshape(x, (-1, height, width, channels))


class WindowAttention(layers.Layer):
    """Attention in windows with a table of relative biases and a mask of shifted windows."""

    def __init__(self, dim, window_size, num_heads):
        super().__init__()
        self.dim, self.window_size, self.num_heads = dim, window_size, num_heads
        self.scale = (dim // num_heads) ** -0.5
        self.qkv, self.proj = layers.Dense(dim * 3), layers.Dense(dim)
        coords = np.stack(np.meshgrid(np.arange(window_size), np.arange(window_size), indexing="ij")).reshape(2, -1)
        relative = (coords[:, :, None] - coords[:, None, :]).transpose(1, 2, 0) + window_size - 1
        self.index = (relative[..., 0] * (2 * window_size - 1) + relative[..., 1]).reshape(-1)

    def build(self, shape):
        count = (2 * self.window_size - 1) ** 2
        self.table = self.add_weight(shape=(count, self.num_heads), initializer="zeros", name="relative_bias")

    def call(self, x, mask=None):
        _, size, channels = x.shape
        qkv = ops.reshape(self.qkv(x), (-1, size, 3, self.num_heads, channels // self.num_heads))
        q, k, v = ops.unstack(ops.transpose(qkv, (2, 0, 3, 1, 4)), axis=0)
        attn = (q * self.scale) @ ops.transpose(k, (0, 1, 3, 2))
        bias = ops.reshape(ops.take(self.table, self.index, axis=0), (size, size, -1))
        attn = attn + ops.expand_dims(ops.transpose(bias, (2, 0, 1)), axis=0)
        if mask is not None:
            windows = mask.shape[0]
            attn = ops.reshape(attn, (-1, windows, self.num_heads, size, size)) + mask[None, :, None]
            attn = ops.reshape(attn, (-1, self.num_heads, size, size))
        x = ops.transpose(ops.softmax(attn, axis=-1) @ v, (0, 2, 1, 3))
        return self.proj(ops.reshape(x, (-1, size, channels)))


class SwinBlock(layers.Layer):
    """Windows, rolled for every other block."""

    def __init__(self, dim, side, window, shift):
        super().__init__()
        self.side, self.window, self.shift, self.dim = side, window, shift, dim
        self.norm1, self.norm2 = layers.LayerNormalization(), layers.LayerNormalization()
        self.attn = WindowAttention(dim, window, 2)
        self.mlp = keras.Sequential([layers.Dense(2 * dim, activation="gelu"), layers.Dense(dim)])
        self.attn_mask = None
        if shift:
            regions = np.zeros((1, side, side, 1), "float32")
            cuts = (slice(0, -window), slice(-window, -shift), slice(-shift, None))
            for count, (rows, columns) in enumerate((a, b) for a in cuts for b in cuts):
                regions[:, rows, columns, :] = count
            parts = regions.reshape(side // window, window, side // window, window).transpose(0, 2, 1, 3)
            parts = parts.reshape(-1, window * window)
            self.attn_mask = np.where(parts[:, None] != parts[:, :, None], -100.0, 0.0).astype("float32")

    def call(self, x):
        skip, side = x, self.side
        x = ops.reshape(self.norm1(x), (-1, side, side, self.dim))
        if self.shift:
            x = ops.roll(x, shift=[-self.shift, -self.shift], axis=[1, 2])
        x = self.attn(window_partition(x, self.window), mask=self.attn_mask)
        x = window_reverse(x, self.window, side, side, self.dim)
        if self.shift:
            x = ops.roll(x, shift=[self.shift, self.shift], axis=[1, 2])
        x = skip + ops.reshape(x, (-1, side * side, self.dim))
        return x + self.mlp(self.norm2(x))


@model("Swin, shifted windows with mask, patch merging", "attention", normal(16, 16, 3))
def swin():
    """keras.io's, one pair of blocks, then merging."""
    inputs = keras.Input((16, 16, 3))
    x = layers.Reshape((64, 8))(layers.Conv2D(8, 2, strides=2)(inputs))
    x = SwinBlock(8, 8, 4, 0)(x)
    x = SwinBlock(8, 8, 4, 2)(x)
    x = ops.reshape(x, (-1, 8, 8, 8))
    parts = [x[:, i::2, j::2, :] for i in (0, 1) for j in (0, 1)]
    x = layers.Dense(12, use_bias=False)(ops.reshape(ops.concatenate(parts, axis=-1), (-1, 16, 32)))
    x = layers.GlobalAveragePooling1D()(x)
    return keras.Model(inputs, layers.Dense(5, activation="softmax")(x))


@model("ConvMixer", "vision", unit(16, 16, 3))
def conv_mixer():
    """keras.io: GELU before BatchNormalization, a residual depthwise convolution."""

    def activation_block(x):
        return layers.BatchNormalization()(layers.Activation("gelu")(x))

    inputs = keras.Input((16, 16, 3))
    x = layers.Rescaling(scale=2.0, offset=-1.0)(inputs)
    x = activation_block(layers.Conv2D(12, kernel_size=2, strides=2)(x))
    for _ in range(3):
        x0 = x
        x = layers.Add()([activation_block(layers.DepthwiseConv2D(kernel_size=5, padding="same")(x)), x0])
        x = activation_block(layers.Conv2D(12, kernel_size=1)(x))
    x = layers.GlobalAvgPool2D()(x)
    return keras.Model(inputs, layers.Dense(4, activation="softmax")(x))


class SequencePooling(layers.Layer):
    """CCT: a softmax over tokens weighs them."""

    def __init__(self):
        super().__init__()
        self.attention = layers.Dense(1)

    def call(self, x):
        attention_weights = ops.softmax(self.attention(x), axis=1)
        attention_weights = ops.transpose(attention_weights, axes=(0, 2, 1))
        return ops.squeeze(ops.matmul(attention_weights, x), -2)


@model("compact convolutional transformer", "attention", normal(16, 16, 3))
def cct():
    """A convolutional tokenizer, stochastic depth, sequence pooling."""
    inputs = keras.Input((16, 16, 3))
    tokenizer = keras.Sequential(
        [
            layers.Conv2D(12, 3, padding="valid", use_bias=False, activation="relu"),
            layers.ZeroPadding2D(1),
            layers.MaxPooling2D(3, 2, "same"),
        ]
    )
    x = layers.Reshape((-1, 12))(tokenizer(inputs))
    x = x + layers.Embedding(x.shape[1], 12)(ops.arange(0, x.shape[1]))
    for _ in range(2):
        x1 = layers.LayerNormalization(epsilon=1e-5)(x)
        attention_output = layers.MultiHeadAttention(num_heads=2, key_dim=12, dropout=0.1)(x1, x1)
        x2 = layers.Add()([layers.Dropout(0.1, noise_shape=(None, 1, 1))(attention_output), x])
        x3 = mlp(layers.LayerNormalization(epsilon=1e-5)(x2), [12, 12], 0.1)
        x = layers.Add()([x3, x2])
    x = SequencePooling()(layers.LayerNormalization(epsilon=1e-5)(x))
    return keras.Model(inputs, layers.Dense(3)(x))
