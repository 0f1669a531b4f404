"""A transformer in NumPy, float64, and the maps of its attention by the papers' formulas, with a matrix for each block.

In: a Keras model made by `transformer`, of which only the weights are read. Nothing here imports the library.
"""

import numpy as np
from keras import layers, ops

BLOCKS, HEADS, SIZE, CLASSES = 2, 2, 3, 3
CHANNELS = HEADS * SIZE


class ClassToken(layers.Layer):
    """A learned token in front of the others."""

    def build(self, shape):
        self.token = self.add_weight(shape=(1, 1, shape[-1]), initializer="random_normal", name="token")

    def call(self, x):
        token = ops.broadcast_to(self.token, (ops.shape(x)[0], 1, x.shape[-1]))
        return ops.concatenate([token, x], axis=1)


def blocks(x, causal=False, post=False, seen=None):
    """Blocks of attention and dense layers with residual connections; normalized before, or behind them (`post`).

    `seen` says which tokens are no padding, (batch, tokens).
    """
    options = {"use_causal_mask": causal, "attention_mask": None if seen is None else seen[:, None]}
    for block in range(BLOCKS):
        one = layers.LayerNormalization(name=f"norm{block}")
        two = layers.LayerNormalization(name=f"second_norm{block}")
        attention = layers.MultiHeadAttention(HEADS, SIZE, name=f"attention{block}")
        inner = layers.Dense(7, "tanh", name=f"inner{block}")
        outer = layers.Dense(CHANNELS, name=f"outer{block}")
        if post:
            x = one(x + attention(x, x, **options))
            x = two(x + outer(inner(x)))
        else:
            y = one(x)
            x = x + attention(y, y, **options)
            x = x + outer(inner(two(x)))
    return x


def read(x, how, seen=None):
    """What the head reads: the first token, the last one, or the mean of those that are no padding."""
    if how == "mean":
        return layers.GlobalAveragePooling1D(name="read")(x, mask=seen)
    return x[:, 0] if how == "first" else x[:, -1]


class Replica:
    """The network from its first tokens on.

    Args:
        model: made with `blocks`, a Dense layer "logits" at its end.
        how: see `read`.
        causal, post: see `blocks`.
        seen: the keys that are not hidden, (batch, tokens); None: all.
    """

    def __init__(self, model, how, causal=False, post=False, seen=None):
        weights = {}
        for layer in model._flatten_layers():
            weights[layer.name] = [np.asarray(one, "float64") for one in layer.weights]
        self.weights, self.how, self.causal, self.post, self.seen = weights, how, causal, post, seen

    def norm(self, name, x):
        gamma, beta = self.weights[name]
        centred = x - x.mean(-1, keepdims=True)
        return gamma * centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-3) + beta

    def attention(self, block, x):
        """(batch, heads, queries, keys)."""
        query, query_bias, key, key_bias = self.weights[f"attention{block}"][:4]
        queries, keys = np.einsum("btc,chd->bhtd", x, query), np.einsum("btc,chd->bhtd", x, key)
        queries, keys = queries + query_bias[:, None], keys + key_bias[:, None]
        scores = queries @ keys.swapaxes(2, 3) / np.sqrt(SIZE)
        count = x.shape[1]
        visible = np.tri(count, dtype=bool) if self.causal else np.ones((count, count), bool)
        visible = visible if self.seen is None else visible & self.seen[:, None, None]
        powers = np.where(visible, np.exp(scores - scores.max(-1, keepdims=True)), 0)
        return powers / powers.sum(-1, keepdims=True)

    def run(self, x, changes=()):
        """`(logits, weights of attention of each block)`; `changes` are added to these."""
        found = []
        for block in range(BLOCKS):
            y = x if self.post else self.norm(f"norm{block}", x)
            matrix = self.attention(block, y) + (changes[block] if len(changes) else 0)
            found.append(matrix)
            value, value_bias, out, out_bias = self.weights[f"attention{block}"][4:]
            mixed = matrix @ (np.einsum("btc,chd->bhtd", y, value) + value_bias[:, None])
            x = x + np.einsum("bhtd,hdc->btc", mixed, out) + out_bias
            x = self.norm(f"norm{block}", x) if self.post else x
            y = x if self.post else self.norm(f"second_norm{block}", x)
            (inner, inner_bias), (outer, outer_bias) = self.weights[f"inner{block}"], self.weights[f"outer{block}"]
            x = x + np.tanh(y @ inner + inner_bias) @ outer + outer_bias
            x = self.norm(f"second_norm{block}", x) if self.post else x
        kernel, bias = self.weights["logits"]
        return np.einsum("bt,btc->bc", self.rows(x), x) @ kernel + bias, found

    def rows(self, x):
        """The share of each token in what is read, (batch, tokens)."""
        rows = np.zeros(x.shape[:2])
        if self.how == "mean":
            rows[:] = 1 if self.seen is None else self.seen
        else:
            rows[:, 0 if self.how == "first" else -1] = 1
        return rows / rows.sum(1, keepdims=True)

    def rollout(self, x):
        """Abnar and Zuidema 2020: row_normalize(A + I), multiplied up; the row that is read."""
        total = np.eye(x.shape[1])
        for matrix in self.run(x)[1]:
            block = matrix.mean(1) + np.eye(x.shape[1])
            total = block / block.sum(-1, keepdims=True) @ total
        return np.einsum("bt,bts->bs", self.rows(x), total)

    def gradient_weighted(self, x, target):
        """Chefer et al. 2021, equations 5 and 6, with the gradient by central differences."""
        total = np.eye(x.shape[1])
        _, matrices = self.run(x)
        for block, matrix in enumerate(matrices):
            speaking = np.maximum(self._slope(x, matrices, block, target) * matrix, 0).mean(1)
            total = total + speaking @ total
        return np.einsum("bt,bts->bs", self.rows(x), total)

    def _slope(self, x, matrices, block, target, step=1e-5):
        slope = np.zeros_like(matrices[block])
        for place in np.ndindex(slope.shape[1:]):
            ends = []
            for sign in (1, -1):
                changes = [np.zeros_like(one) for one in matrices]
                changes[block][(slice(None), *place)] = sign * step
                ends.append(self.run(x, changes)[0][np.arange(len(x)), target])
            slope[(slice(None), *place)] = (ends[0] - ends[1]) / (2 * step)
        return slope
