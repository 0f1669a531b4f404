"""Mixers and other models of tokens and sets: CaiT, MLP-Mixer, gMLP, MobileViT, Perceiver, linear attention."""
# ruff: noqa: D102 (what Keras calls)

import keras
from keras import layers, ops

from .base import listed, model, named, normal, numbers, unit


class TalkingHeadAttention(layers.Layer):
    """CaiT: heads are mixed before and after the softmax."""

    def __init__(self, dim, heads):
        super().__init__()
        self.heads, self.scale = heads, (dim // heads) ** -0.5
        self.qkv, self.proj = layers.Dense(3 * dim), layers.Dense(dim)
        self.proj_l, self.proj_w = layers.Dense(heads), layers.Dense(heads)

    def call(self, x):
        b, n, c = ops.shape(x)[0], x.shape[1], x.shape[2]
        qkv = ops.transpose(ops.reshape(self.qkv(x), (b, n, 3, self.heads, c // self.heads)), (2, 0, 3, 1, 4))
        q, k, v = qkv[0] * self.scale, qkv[1], qkv[2]
        attn = ops.matmul(q, ops.swapaxes(k, -2, -1))
        attn = ops.transpose(self.proj_l(ops.transpose(attn, (0, 2, 3, 1))), (0, 3, 1, 2))
        attn = ops.softmax(attn, -1)
        attn = ops.transpose(self.proj_w(ops.transpose(attn, (0, 2, 3, 1))), (0, 3, 1, 2))
        return self.proj(ops.reshape(ops.transpose(ops.matmul(attn, v), (0, 2, 1, 3)), (b, n, c)))


class ScaledResidual(layers.Layer):
    """x plus gamma times what an inner layer makes of the normalized x."""

    def __init__(self, inner, dim):
        super().__init__()
        self.norm, self.inner = layers.LayerNormalization(epsilon=1e-6), inner
        self.gamma = self.add_weight(shape=(dim,), initializer=keras.initializers.Constant(1e-5), name="gamma")

    def call(self, x):
        return x + self.gamma * self.inner(self.norm(x))


class ClassAttention(layers.Layer):
    """The class token alone asks."""

    def __init__(self, dim):
        super().__init__()
        self.cls = self.add_weight(shape=(1, 1, dim), initializer="random_normal", name="cls_token")
        self.q, self.k, self.v = layers.Dense(dim), layers.Dense(dim), layers.Dense(dim)
        self.dim = dim

    def call(self, x):
        cls = ops.tile(self.cls, (ops.shape(x)[0], 1, 1))
        u = ops.concatenate([cls, x], axis=1)
        attn = ops.softmax(ops.matmul(self.q(cls) * self.dim**-0.5, ops.transpose(self.k(u), (0, 2, 1))))
        return ops.squeeze(cls + ops.matmul(attn, self.v(u)), axis=1)


@model("CaiT, LayerScale, talking heads, class attention", "attention", normal(16, 16, 3))
def cait():
    """Two blocks without a class token, then attention of it."""
    inputs = keras.Input((16, 16, 3))
    x = layers.Reshape((16, 12))(layers.Conv2D(12, 4, strides=4)(inputs))
    for _ in range(2):
        x = ScaledResidual(TalkingHeadAttention(12, 2), 12)(x)
        x = ScaledResidual(keras.Sequential([layers.Dense(24, activation="gelu"), layers.Dense(12)]), 12)(x)
    return keras.Model(inputs, layers.Dense(4)(layers.LayerNormalization()(ClassAttention(12)(x))))


class MLPMixerLayer(layers.Layer):
    """keras.io: perceptrons over patches and over channels."""

    def __init__(self, num_patches, hidden_units, dropout_rate):
        super().__init__()
        self.mlp1 = keras.Sequential(
            [
                layers.Dense(units=num_patches, activation="gelu"),
                layers.Dense(units=num_patches),
                layers.Dropout(rate=dropout_rate),
            ]
        )
        self.mlp2 = keras.Sequential(
            [layers.Dense(units=hidden_units, activation="gelu"), layers.Dense(units=hidden_units)]
        )
        self.normalize = layers.LayerNormalization(epsilon=1e-6)

    def build(self, input_shape):
        return super().build(input_shape)

    def call(self, inputs):
        x = self.normalize(inputs)
        x_channels = ops.transpose(x, axes=(0, 2, 1))
        mlp1_outputs = ops.transpose(self.mlp1(x_channels), axes=(0, 2, 1))
        x = mlp1_outputs + inputs
        return x + self.mlp2(self.normalize(x))


@model("MLP-Mixer, one normalization used twice", "attention", normal(16, 16, 3))
def mlp_mixer():
    """keras.io's layer, in Sequential."""
    inputs = keras.Input((16, 16, 3))
    x = layers.Dense(12)(layers.Reshape((16, 48))(inputs))
    x = keras.Sequential([MLPMixerLayer(16, 12, 0.1) for _ in range(2)])(x)
    return keras.Model(inputs, layers.Dense(3)(layers.Dropout(0.2)(layers.GlobalAveragePooling1D()(x))))


class GMLPLayer(layers.Layer):
    """keras.io's gMLP: a spatial gating unit."""

    def __init__(self, num_patches, dim):
        super().__init__()
        self.channel_projection1 = keras.Sequential([layers.Dense(units=dim * 2, activation="gelu")])
        self.channel_projection2 = layers.Dense(units=dim)
        self.spatial_projection = layers.Dense(units=num_patches, bias_initializer="Ones")
        self.normalize1 = layers.LayerNormalization(epsilon=1e-6)
        self.normalize2 = layers.LayerNormalization(epsilon=1e-6)

    def spatial_gating_unit(self, x):
        u, v = ops.split(x, indices_or_sections=2, axis=2)
        v = ops.transpose(self.normalize2(v), axes=(0, 2, 1))
        v = ops.transpose(self.spatial_projection(v), axes=(0, 2, 1))
        return u * v

    def call(self, inputs):
        x = self.channel_projection1(self.normalize1(inputs))
        return inputs + self.channel_projection2(self.spatial_gating_unit(x))


@model("gMLP on tokens", "text", numbers(9, 30), tokens=(0,))
def gmlp():
    """Embeddings, gates over places."""
    inputs = keras.Input((9,), dtype="int32")
    x = layers.Embedding(30, 12)(inputs)
    for _ in range(2):
        x = GMLPLayer(9, 12)(x)
    return keras.Model(inputs, layers.Dense(2, activation="softmax")(layers.GlobalAveragePooling1D()(x)))


@model("Vision Permutator", "attention", unit(16, 16, 3))
def permutator():
    """Dense layers along height, width and channels, weighed by a softmax."""

    def weighted_permute(x, segments=3):
        _, h, w, c = x.shape
        depth = c // segments
        x_h = ops.transpose(ops.reshape(x, (-1, h, w, segments, depth)), (0, 3, 2, 1, 4))
        x_h = layers.Dense(h * depth)(ops.reshape(x_h, (-1, segments, w, h * depth)))
        x_h = ops.transpose(ops.reshape(x_h, (-1, segments, w, h, depth)), (0, 3, 2, 1, 4))
        x_h = ops.reshape(x_h, (-1, h, w, c))
        x_w = ops.transpose(ops.reshape(x, (-1, h, w, segments, depth)), (0, 1, 3, 2, 4))
        x_w = layers.Dense(w * depth)(ops.reshape(x_w, (-1, h, segments, w * depth)))
        x_w = ops.transpose(ops.reshape(x_w, (-1, h, segments, w, depth)), (0, 1, 3, 2, 4))
        x_w = ops.reshape(x_w, (-1, h, w, c))
        x_c = layers.Dense(c)(x)
        a = layers.GlobalAveragePooling2D()(x_h + x_w + x_c)
        a = ops.softmax(ops.reshape(layers.Dense(3 * c)(layers.Dense(4, activation="gelu")(a)), (-1, 3, 1, 1, c)), axis=1)
        return layers.Dense(c)(x_h * a[:, 0] + x_w * a[:, 1] + x_c * a[:, 2])

    inputs = keras.Input((16, 16, 3))
    x = layers.Conv2D(12, 4, strides=4)(inputs)
    x = x + weighted_permute(layers.LayerNormalization()(x), segments=3)
    x = x + layers.Dense(12)(layers.Dense(24, activation="gelu")(layers.LayerNormalization()(x)))
    return keras.Model(inputs, layers.Dense(4)(layers.GlobalAveragePooling2D()(layers.LayerNormalization()(x))))


@model("MobileViT block, unfold and fold", "attention", normal(16, 16, 3))
def mobile_vit():
    """keras.io: local convolutions, attention among patches, fusion."""
    inputs = keras.Input((16, 16, 3))
    x = layers.Conv2D(8, 3, strides=2, padding="same", activation="swish")(inputs)
    local = layers.Conv2D(8, 3, padding="same", activation="swish")(x)
    local = layers.Conv2D(12, 1, activation="swish")(local)
    tokens = layers.Reshape((4, 16, 12))(local)
    for _ in range(2):
        x1 = layers.LayerNormalization(epsilon=1e-6)(tokens)
        tokens = layers.Add()([layers.MultiHeadAttention(num_heads=2, key_dim=12)(x1, x1), tokens])
        x3 = layers.Dense(12)(layers.Dense(24, activation="swish")(layers.LayerNormalization(epsilon=1e-6)(tokens)))
        tokens = layers.Add()([x3, tokens])
    folded = layers.Conv2D(8, 1, activation="swish")(layers.Reshape((8, 8, 12))(tokens))
    x = layers.Conv2D(8, 3, padding="same", activation="swish")(layers.Concatenate()([x, folded]))
    return keras.Model(inputs, layers.Dense(4, activation="softmax")(layers.GlobalAvgPool2D()(x)))


class Perceiver(keras.Model):
    """keras.io: a latent array asks the data, then itself; modules are shared between rounds."""

    def __init__(self, latents=4, dim=12, iterations=2):
        super().__init__()
        self.iterations = iterations
        self.latent_array = self.add_weight(shape=(latents, dim), initializer="random_normal", name="latent")
        self.encoder = layers.Dense(dim)
        self.position = layers.Embedding(16, dim)
        self.cross_attention = layers.MultiHeadAttention(1, dim)
        self.self_attention = layers.MultiHeadAttention(2, dim // 2)
        self.norms = [layers.LayerNormalization(epsilon=1e-6) for _ in range(3)]
        self.ffn = keras.Sequential([layers.Dense(2 * dim, activation="gelu"), layers.Dense(dim)])
        self.pool, self.head = layers.GlobalAveragePooling1D(), layers.Dense(3)

    def call(self, inputs):
        x = ops.reshape(inputs, (-1, 16, 48))
        data = self.norms[0](self.encoder(x) + self.position(ops.arange(16)))
        latent = ops.repeat(ops.expand_dims(self.latent_array, 0), ops.shape(inputs)[0], axis=0)
        for _ in range(self.iterations):
            latent = latent + self.cross_attention(self.norms[1](latent), data)
            latent = latent + self.self_attention(latent, latent)
            latent = latent + self.ffn(self.norms[2](latent))
        return self.head(self.pool(latent))


@model("Perceiver, cross attention of latents, shared in a loop", "attention", normal(16, 16, 3))
def perceiver():
    """Subclassed."""
    return Perceiver()


class LinearAttention(layers.Layer):
    """Kernelized attention: phi(x) = elu(x) + 1, sums before products."""

    def __init__(self, dim):
        super().__init__()
        self.q, self.k, self.v, self.o = (layers.Dense(dim, use_bias=False) for _ in range(4))

    def call(self, x):
        q, k, v = ops.elu(self.q(x)) + 1.0, ops.elu(self.k(x)) + 1.0, self.v(x)
        kv = ops.einsum("bnd,bne->bde", k, v)
        z = 1.0 / (ops.einsum("bnd,bd->bn", q, ops.sum(k, axis=1)) + 1e-6)
        return self.o(ops.einsum("bnd,bde,bn->bne", q, kv, z))


@model("linear attention on a series", "attention", normal(12, 5))
def linear_attention():
    """Two blocks."""
    inputs = keras.Input((12, 5))
    x = layers.Dense(10)(inputs)
    for _ in range(2):
        x = x + LinearAttention(10)(layers.LayerNormalization()(x))
    return keras.Model(inputs, layers.Dense(3)(x[:, -1, :]))


@model("external attention transformer", "attention", normal(16, 16, 3))
def eanet():
    """keras.io: attention to a learned memory, doubly normalized."""

    def external_attention(x, dim, heads=2):
        n = x.shape[1]
        y = ops.transpose(ops.reshape(layers.Dense(dim * 2)(x), (-1, n, heads, dim)), (0, 2, 1, 3))
        attn = layers.Softmax(axis=2)(layers.Dense(6)(y))
        attn = layers.Lambda(lambda t: ops.divide(t, ops.convert_to_tensor(1e-9) + ops.sum(t, axis=-1, keepdims=True)))(
            attn
        )
        y = ops.reshape(ops.transpose(layers.Dense(dim)(attn), (0, 2, 1, 3)), (-1, n, dim * heads))
        return layers.Dense(dim)(y)

    inputs = keras.Input((16, 16, 3))
    x = layers.Reshape((16, 10))(layers.Conv2D(10, 4, 4)(inputs))
    for _ in range(2):
        x = layers.add([x, external_attention(layers.LayerNormalization(epsilon=1e-5)(x), 10)])
        x = layers.add([x, layers.Dense(10)(layers.Dense(20, activation="gelu")(layers.LayerNormalization()(x)))])
    return keras.Model(inputs, layers.Dense(3, activation="softmax")(layers.GlobalAveragePooling1D()(x)))


@model("deep sets with a mask, mean of what is there", "attention", named(points=normal(7, 4), mask=unit(7)))
def deep_sets():
    """The mask is an input of numbers between 0 and 1, compared with 0.3."""
    points, mask = keras.Input((7, 4), name="points"), keras.Input((7,), name="mask")
    keep = ops.cast(mask > 0.3, "float32")[..., None]
    x = layers.Dense(12, activation="relu")(layers.Dense(12, activation="relu")(points))
    pooled = ops.sum(x * keep, axis=1) / ops.maximum(ops.sum(keep, axis=1), 1.0)
    return keras.Model({"points": points, "mask": mask}, layers.Dense(3)(layers.Dense(8, activation="relu")(pooled)))


@model("set transformer, induced points and pooling by seeds", "attention", normal(8, 4))
def set_transformer():
    """MAB, ISAB and PMA as layers."""

    class MAB(layers.Layer):
        def __init__(self, dim):
            super().__init__()
            self.attention = layers.MultiHeadAttention(2, dim // 2)
            self.ln0, self.ln1 = layers.LayerNormalization(), layers.LayerNormalization()
            self.ff = layers.Dense(dim, activation="relu")

        def call(self, x, y):
            h = self.ln0(x + self.attention(x, y))
            return self.ln1(h + self.ff(h))

    class Induced(layers.Layer):
        def __init__(self, dim, points, pool=False):
            super().__init__()
            self.pool = pool
            self.inducing = self.add_weight(shape=(1, points, dim), initializer="random_normal", name="inducing_points")
            self.mab1, self.mab2 = MAB(dim), None if pool else MAB(dim)

        def call(self, x):
            seeds = ops.tile(self.inducing, [ops.shape(x)[0], 1, 1])
            h = self.mab1(seeds, x)
            return h if self.pool else self.mab2(x, h)

    inputs = keras.Input((8, 4))
    x = layers.Dense(8)(inputs)
    x = Induced(8, 3)(x)
    x = layers.Flatten()(Induced(8, 1, pool=True)(x))
    return keras.Model(inputs, layers.Dense(3)(x))


@model("attention MIL, gated, bag as a list of instances", "attention", listed(*[unit(14, 14) for _ in range(3)]))
def attention_mil():
    """keras.io: an instance is an input; tanh and sigmoid gates make the weights."""

    class MILAttentionLayer(layers.Layer):
        def __init__(self, weight_params_dim):
            super().__init__()
            self.dim = weight_params_dim

        def build(self, input_shape):
            self.v_weight_params = self.add_weight(shape=(input_shape[0][1], self.dim), name="v")
            self.w_weight_params = self.add_weight(shape=(self.dim, 1), name="w")
            self.u_weight_params = self.add_weight(shape=(input_shape[0][1], self.dim), name="u")

        def call(self, inputs):
            instances = [self.compute_attention_scores(instance) for instance in inputs]
            alpha = ops.softmax(ops.stack(instances), axis=0)
            return [alpha[i] for i in range(alpha.shape[0])]

        def compute_attention_scores(self, instance):
            original = instance
            instance = ops.tanh(ops.tensordot(instance, self.v_weight_params, axes=1))
            instance = instance * ops.sigmoid(ops.tensordot(original, self.u_weight_params, axes=1))
            return ops.tensordot(instance, self.w_weight_params, axes=1)

    dense_1, dense_2 = layers.Dense(16, activation="relu"), layers.Dense(8, activation="relu")
    inputs = [layers.Input((14, 14)) for _ in range(3)]
    embeddings = [dense_2(dense_1(layers.Flatten()(x))) for x in inputs]
    alpha = MILAttentionLayer(weight_params_dim=6)(embeddings)
    multiplied = [layers.multiply([alpha[i], embeddings[i]]) for i in range(len(alpha))]
    return keras.Model(inputs, layers.Dense(2, activation="softmax")(layers.concatenate(multiplied, axis=1)))
