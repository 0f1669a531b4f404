"""Transformers on token numbers: encoders, decoders, their attention, positions and norms."""
# ruff: noqa: D102 (what Keras calls)

import keras
import numpy as np
from keras import layers, ops

from .base import listed, model, named, numbers, unit

_IDS = numbers(8, 30, padded=3)


def _mask(generator):
    mask = np.ones((3, 8), "int32")
    mask[1, 5:] = 0
    return mask


class TransformerBlock(layers.Layer):
    """keras.io: text classification with transformer."""

    def __init__(self, embed_dim, num_heads, ff_dim, rate=0.1):
        super().__init__()
        self.att = layers.MultiHeadAttention(num_heads=num_heads, key_dim=embed_dim)
        self.ffn = keras.Sequential([layers.Dense(ff_dim, activation="relu"), layers.Dense(embed_dim)])
        self.layernorm1 = layers.LayerNormalization(epsilon=1e-6)
        self.layernorm2 = layers.LayerNormalization(epsilon=1e-6)
        self.dropout1 = layers.Dropout(rate)
        self.dropout2 = layers.Dropout(rate)

    def call(self, inputs):
        attn_output = self.dropout1(self.att(inputs, inputs))
        out1 = self.layernorm1(inputs + attn_output)
        return self.layernorm2(out1 + self.dropout2(self.ffn(out1)))


class TokenAndPositionEmbedding(layers.Layer):
    """keras.io: two embeddings added."""

    def __init__(self, maxlen, vocab_size, embed_dim, **kwargs):
        super().__init__()
        self.token_emb = layers.Embedding(input_dim=vocab_size, output_dim=embed_dim, **kwargs)
        self.pos_emb = layers.Embedding(input_dim=maxlen, output_dim=embed_dim)

    def call(self, x):
        positions = ops.arange(start=0, stop=ops.shape(x)[-1], step=1)
        return self.token_emb(x) + self.pos_emb(positions)


@model("transformer of keras.io, tokens and positions", "text", numbers(10, 40), tokens=(0,))
def transformer_keras_io():
    """Post-norm, average of tokens, softmax of two."""
    inputs = layers.Input(shape=(10,))
    x = TokenAndPositionEmbedding(10, 40, 16)(inputs)
    x = TransformerBlock(16, 2, 16)(x)
    x = layers.GlobalAveragePooling1D()(x)
    x = layers.Dropout(0.1)(x)
    x = layers.Dropout(0.1)(layers.Dense(10, activation="relu")(x))
    return keras.Model(inputs=inputs, outputs=layers.Dense(2, activation="softmax")(x))


@model("transformer of keras.io, float token numbers", "text", numbers(10, 40, dtype="float32"), tokens=(0,))
def transformer_floats():
    """The same blocks in a Sequential; numbers come as float32."""
    return keras.Sequential(
        [
            layers.Input((10,), dtype="float32"),
            TokenAndPositionEmbedding(10, 40, 12),
            TransformerBlock(12, 2, 16),
            TransformerBlock(12, 2, 16),
            layers.GlobalMaxPooling1D(),
            layers.Dense(3),
        ]
    )


@model("encoder with mask_zero, mask found by MultiHeadAttention", "text", _IDS, tokens=(0,))
def encoder_mask_zero():
    """Keras's own mask goes through attention and pooling."""
    inputs = keras.Input((8,), dtype="int32")
    x = layers.Embedding(30, 12, mask_zero=True)(inputs)
    for _ in range(2):
        y = layers.MultiHeadAttention(2, 6)(x, x)
        x = layers.LayerNormalization()(layers.Add()([x, y]))
        x = layers.LayerNormalization()(layers.Add()([x, layers.Dense(12)(layers.Dense(24, activation="gelu")(x))]))
    return keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling1D()(x)))


class BertLike(keras.Model):
    """HuggingFace's shape: a dict in, an additive mask, a pooled first token."""

    def __init__(self, vocab=30, dim=12, heads=2, depth=2):
        super().__init__()
        self.heads, self.size = heads, dim // heads
        self.word, self.position, self.segment = (layers.Embedding(n, dim) for n in (vocab, 8, 2))
        self.norm = layers.LayerNormalization(epsilon=1e-12)
        self.blocks = [
            {
                name: layers.Dense(n)
                for name, n in (("q", dim), ("k", dim), ("v", dim), ("o", dim), ("up", 24), ("down", dim))
            }
            for _ in range(depth)
        ]
        self.norms = [(layers.LayerNormalization(), layers.LayerNormalization()) for _ in range(depth)]
        self.pooler, self.classifier = layers.Dense(dim, activation="tanh"), layers.Dense(2)
        self.dropout = layers.Dropout(0.1)

    def split(self, x):
        return ops.transpose(ops.reshape(x, (ops.shape(x)[0], -1, self.heads, self.size)), (0, 2, 1, 3))

    def call(self, inputs, training=None):
        ids, mask = inputs["input_ids"], inputs["attention_mask"]
        x = self.word(ids) + self.segment(inputs["token_type_ids"]) + self.position(ops.arange(ids.shape[1]))[None]
        x = self.dropout(self.norm(x), training=training)
        bias = (1.0 - ops.cast(mask, "float32"))[:, None, None, :] * -10000.0
        for block, (first, second) in zip(self.blocks, self.norms, strict=True):
            q, k, v = (self.split(block[name](x)) for name in "qkv")
            scores = ops.matmul(q, ops.transpose(k, (0, 1, 3, 2))) / float(np.sqrt(self.size)) + bias
            y = ops.transpose(ops.matmul(ops.softmax(scores), v), (0, 2, 1, 3))
            x = first(x + block["o"](ops.reshape(y, ops.shape(x))))
            x = second(x + block["down"](ops.gelu(block["up"](x), approximate=False)))
        return self.classifier(self.dropout(self.pooler(x[:, 0]), training=training))


@model(
    "BERT-like, subclassed, dict with attention mask",
    "text",
    named(input_ids=_IDS, attention_mask=_mask, token_type_ids=lambda r: r.integers(0, 2, (3, 8), "int32")),
    tokens=("input_ids", "token_type_ids"),
)
def bert_like():
    """Attention by hand, layers in dicts."""
    return BertLike()


@model(
    "encoder with a float attention mask as input",
    "text",
    named(ids=_IDS, mask=lambda r: _mask(r).astype("float32")),
    tokens=("ids",),
)
def encoder_mask_input():
    """Pooled by the mask's mean; the mask is passed to MultiHeadAttention as booleans."""
    ids, mask = keras.Input((8,), dtype="int32", name="ids"), keras.Input((8,), name="mask")
    x = TokenAndPositionEmbedding(8, 30, 12)(ids)
    pairs = ops.cast(mask[:, None, :] * mask[:, :, None], "bool")
    for _ in range(2):
        x = layers.LayerNormalization()(x + layers.MultiHeadAttention(3, 4)(x, x, attention_mask=pairs))
        x = layers.LayerNormalization()(x + layers.Dense(12)(layers.Dense(24, activation="relu")(x)))
    pooled = ops.sum(x * mask[..., None], axis=1) / ops.clip(ops.sum(mask, axis=1, keepdims=True), 1e-9, 1e9)
    return keras.Model({"ids": ids, "mask": mask}, ops.normalize(layers.Dense(6)(pooled), axis=-1))


@model("ALBERT-like, one block used three times, factored embedding", "text", numbers(8, 30), tokens=(0,))
def albert_like():
    """Shared layers."""
    inputs = keras.Input((8,), dtype="int32")
    x = layers.Dense(12)(layers.Embedding(30, 4)(inputs))
    block = TransformerBlock(12, 2, 24)
    for _ in range(3):
        x = block(x)
    return keras.Model(inputs, layers.Dense(3, activation="softmax")(layers.Dense(12, activation="tanh")(x[:, 0])))


class CausalSelfAttention(layers.Layer):
    """nanoGPT's: one product, a triangle of -inf."""

    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        self.c_attn, self.c_proj = layers.Dense(3 * dim), layers.Dense(dim)

    def call(self, x):
        b, t, c = ops.shape(x)
        q, k, v = ops.split(self.c_attn(x), 3, axis=-1)
        q, k, v = (ops.transpose(ops.reshape(z, (b, t, self.heads, c // self.heads)), (0, 2, 1, 3)) for z in (q, k, v))
        att = ops.matmul(q, ops.transpose(k, (0, 1, 3, 2))) * (1.0 / np.sqrt(c // self.heads))
        mask = ops.tril(ops.ones((t, t), dtype="bool"))
        att = ops.softmax(ops.where(mask, att, ops.full_like(att, -1e9)), axis=-1)
        return self.c_proj(ops.reshape(ops.transpose(ops.matmul(att, v), (0, 2, 1, 3)), (b, t, c)))


class GPT(keras.Model):
    """Pre-norm decoder; the head is the embedding, transposed; logits of the last token."""

    def __init__(self, vocab=20, dim=12, depth=2):
        super().__init__()
        self.wte, self.wpe = layers.Embedding(vocab, dim), layers.Embedding(8, dim)
        self.ln_1 = [layers.LayerNormalization() for _ in range(depth)]
        self.attn = [CausalSelfAttention(dim, 2) for _ in range(depth)]
        self.ln_2 = [layers.LayerNormalization() for _ in range(depth)]
        self.fc = [layers.Dense(4 * dim, activation="gelu") for _ in range(depth)]
        self.proj = [layers.Dense(dim) for _ in range(depth)]
        self.ln_f = layers.LayerNormalization()

    def call(self, idx):
        x = self.wte(idx) + self.wpe(ops.arange(ops.shape(idx)[1]))
        for ln_1, attn, ln_2, fc, proj in zip(self.ln_1, self.attn, self.ln_2, self.fc, self.proj, strict=True):
            x = x + attn(ln_1(x))
            x = x + proj(fc(ln_2(x)))
        x = self.ln_f(x)[:, -1, :]
        return ops.matmul(x, ops.transpose(self.wte.embeddings))


@model("GPT-like, tied head, last token", "text", numbers(8, 20), tokens=(0,))
def gpt():
    """nanoGPT in Keras."""
    return GPT()


@model("miniature GPT of keras.io, use_causal_mask", "text", numbers(8, 20), tokens=(0,))
def miniature_gpt():
    """A token's logits each."""
    inputs = layers.Input(shape=(8,), dtype="int32")
    x = TokenAndPositionEmbedding(8, 20, 12)(inputs)
    attention_output = layers.MultiHeadAttention(2, 12)(x, x, use_causal_mask=True)
    out1 = layers.LayerNormalization(epsilon=1e-6)(x + layers.Dropout(0.1)(attention_output))
    ffn = layers.Dense(12)(layers.Dense(24, activation="relu")(out1))
    x = layers.LayerNormalization(epsilon=1e-6)(out1 + ffn)
    return keras.Model(inputs, layers.Dense(20)(x))


@model("ELECTRA-like, replaced or not for each token", "text", numbers(8, 30), tokens=(0,))
def electra():
    """A sigmoid for each token, one axis taken off."""
    inputs = keras.Input((8,), dtype="int32")
    x = layers.Dense(12, name="embeddings_project")(TokenAndPositionEmbedding(8, 30, 6)(inputs))
    x = TransformerBlock(12, 2, 24)(x)
    x = layers.Dense(12, activation="gelu")(x)
    return keras.Model(inputs, layers.Activation("sigmoid")(ops.squeeze(layers.Dense(1)(x), axis=-1)))


class T5Attention(layers.Layer):
    """Relative positions in logarithmic buckets; no scale, no biases."""

    def __init__(self, dim, heads=2, buckets=6):
        super().__init__()
        self.heads, self.buckets = heads, buckets
        self.q, self.k, self.v, self.o = (layers.Dense(dim, use_bias=False) for _ in range(4))
        self.relative_attention_bias = layers.Embedding(buckets, heads)

    def bucket(self, length):
        distance = np.arange(length)[None, :] - np.arange(length)[:, None]
        half = self.buckets // 2
        size = np.minimum(np.floor(np.log2(np.abs(distance) + 1)), half - 1)
        return (np.where(distance > 0, half, 0) + size).astype("int32")

    def call(self, x):
        t, c = x.shape[1], x.shape[2]
        q, k, v = (ops.reshape(f(x), (-1, t, self.heads, c // self.heads)) for f in (self.q, self.k, self.v))
        scores = ops.einsum("bqhd,bkhd->bhqk", q, k)
        scores += ops.transpose(self.relative_attention_bias(self.bucket(t)), (2, 0, 1))[None]
        return self.o(ops.reshape(ops.einsum("bhqk,bkhd->bqhd", ops.softmax(scores), v), (-1, t, c)))


@model("T5-like encoder, relative bias, RMS norm, gated GELU", "text", numbers(8, 30), tokens=(0,))
def t5():
    """Keras's own RMSNormalization."""
    inputs = keras.Input((8,), dtype="int32")
    x = layers.Embedding(30, 12)(inputs)
    for _ in range(2):
        x = x + T5Attention(12)(layers.RMSNormalization()(x))
        y = layers.RMSNormalization()(x)
        y = layers.Multiply()([layers.Dense(24, activation="gelu", use_bias=False)(y), layers.Dense(24, use_bias=False)(y)])
        x = x + layers.Dense(12, use_bias=False)(y)
    return keras.Model(inputs, layers.Dense(2)(ops.mean(layers.RMSNormalization()(x), axis=1)))


class RMSNorm(layers.Layer):
    """Llama's norm by hand."""

    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],), initializer="ones", name="scale")

    def call(self, x):
        return x * ops.rsqrt(ops.mean(ops.square(x), axis=-1, keepdims=True) + 1e-6) * self.scale


class RotaryAttention(layers.Layer):
    """Grouped queries, rotary positions by halves, causal."""

    def __init__(self, dim, heads=4, kv_heads=2):
        super().__init__()
        self.heads, self.kv_heads, self.size = heads, kv_heads, dim // heads
        self.wq = layers.Dense(dim, use_bias=False)
        self.wk, self.wv = (layers.Dense(kv_heads * self.size, use_bias=False) for _ in range(2))
        self.wo = layers.Dense(dim, use_bias=False)

    def rotate(self, x):
        length, half = x.shape[1], self.size // 2
        angles = np.arange(length)[:, None] / 10000 ** (np.arange(half) / half)[None]
        cos, sin = (f(angles)[None, :, None, :].astype("float32") for f in (np.cos, np.sin))
        a, b = x[..., :half], x[..., half:]
        return ops.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1)

    def call(self, x):
        t = x.shape[1]
        q = self.rotate(ops.reshape(self.wq(x), (-1, t, self.heads, self.size)))
        k = self.rotate(ops.reshape(self.wk(x), (-1, t, self.kv_heads, self.size)))
        v = ops.reshape(self.wv(x), (-1, t, self.kv_heads, self.size))
        k, v = (ops.repeat(z, self.heads // self.kv_heads, axis=2) for z in (k, v))
        scores = ops.einsum("bqhd,bkhd->bhqk", q, k) * self.size**-0.5
        scores += np.triu(np.full((t, t), -1e9, "float32"), 1)
        return self.wo(ops.reshape(ops.einsum("bhqk,bkhd->bqhd", ops.softmax(scores, axis=-1), v), (-1, t, x.shape[2])))


@model("Llama-like, RoPE, RMSNorm, SwiGLU, grouped queries", "text", numbers(8, 30), tokens=(0,))
def llama():
    """Logits of the next token."""
    inputs = keras.Input((8,), dtype="int32")
    x = layers.Embedding(30, 16)(inputs)
    for _ in range(2):
        x = x + RotaryAttention(16)(RMSNorm()(x))
        y = RMSNorm()(x)
        y = ops.silu(layers.Dense(32, use_bias=False)(y)) * layers.Dense(32, use_bias=False)(y)
        x = x + layers.Dense(16, use_bias=False)(y)
    return keras.Model(inputs, layers.Dense(30, use_bias=False)(RMSNorm()(x)[:, -1]))


@model("FNet of keras.io, Fourier mixing", "text", numbers(8, 30), tokens=(0,))
def fnet():
    """The real part of fft2."""

    class FNetEncoder(layers.Layer):
        def __init__(self, embed_dim, dense_dim):
            super().__init__()
            self.dense_proj = keras.Sequential([layers.Dense(dense_dim, activation="relu"), layers.Dense(embed_dim)])
            self.layernorm_1, self.layernorm_2 = layers.LayerNormalization(), layers.LayerNormalization()

        def call(self, inputs):
            fft_result = ops.fft2((inputs, ops.zeros_like(inputs)))[0]
            proj_input = self.layernorm_1(inputs + fft_result)
            return self.layernorm_2(proj_input + self.dense_proj(proj_input))

    inputs = keras.Input((8,), dtype="int64")
    x = FNetEncoder(12, 24)(TokenAndPositionEmbedding(8, 30, 12)(inputs))
    return keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling1D()(x)))


@model(
    "translation transformer, teacher forcing, two token inputs",
    "text",
    named(encoder_inputs=_IDS, decoder_inputs=numbers(6, 25)),
    tokens=("encoder_inputs", "decoder_inputs"),
)
def translation():
    """keras.io's encoder and decoder: cross attention and a mask that is causal."""
    source = keras.Input((8,), dtype="int64", name="encoder_inputs")
    target = keras.Input((6,), dtype="int64", name="decoder_inputs")
    inputs = {"encoder_inputs": source, "decoder_inputs": target}
    x = TransformerBlock(12, 2, 24)(TokenAndPositionEmbedding(8, 30, 12)(source))
    y = TokenAndPositionEmbedding(6, 25, 12)(target)
    y = layers.LayerNormalization()(y + layers.MultiHeadAttention(2, 12)(y, y, y, use_causal_mask=True))
    y = layers.LayerNormalization()(y + layers.MultiHeadAttention(2, 12)(query=y, value=x, key=x))
    y = layers.LayerNormalization()(y + layers.Dense(12)(layers.Dense(24, activation="relu")(y)))
    return keras.Model(inputs, layers.Dense(25, activation="softmax")(layers.Dropout(0.5)(y)))


@model(
    "sinusoidal positions, scaled embedding, weights of attention as a second output",
    "text",
    numbers(8, 30),
    "logits",
    (0,),
)
def sinusoidal():
    """The Transformer tutorial's positions."""
    angles = np.arange(8)[:, None] / np.power(10000, 2 * (np.arange(12) // 2) / 12)[None]
    positions = np.where(np.arange(12) % 2, np.cos(angles), np.sin(angles)).astype("float32")
    inputs = keras.Input((8,), dtype="int32")
    x = layers.Embedding(30, 12)(inputs) * ops.sqrt(12.0) + positions[None]
    y, weights = layers.MultiHeadAttention(2, 6)(x, x, return_attention_scores=True)
    x = layers.LayerNormalization()(x + y)
    logits = layers.Dense(3, name="logits")(layers.GlobalAveragePooling1D()(x))
    return keras.Model(inputs, {"logits": logits, "attention": weights})


@model("image captions, features and tokens", "text", listed(unit(9, 10), numbers(6, 25)), tokens=(1,))
def captions():
    """Dot-product attention of tokens to an image's features."""
    image, caption = keras.Input((9, 10), name="image"), keras.Input((6,), dtype="int32", name="caption")
    features = layers.Dense(12, activation="relu")(image)
    x = layers.GRU(12, return_sequences=True)(layers.Embedding(25, 12)(caption))
    context = layers.AdditiveAttention()([x, features])
    x = layers.Concatenate()([x, context, layers.Attention(use_scale=True)([x, features])])
    return keras.Model([image, caption], layers.Dense(25)(layers.LayerNormalization()(layers.Dense(12)(x))[:, -1]))
