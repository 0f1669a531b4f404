"""Maps of attention against the papers' formulas in NumPy, and where they lie over the input."""

import functools

import keras
import models
import numpy as np
import pytest
from attention_replicas import CHANNELS, CLASSES, HEADS, SIZE, ClassToken, Replica, blocks, read
from cam_replicas import enlarged
from comparing import assert_close, offenders
from keras import layers, ops
from loop_replicas import assert_saved

import innvest_lite
from innvest_lite import AttentionRollout, GradientWeightedAttention, InvalidInputError

BOTH = [AttentionRollout, GradientWeightedAttention]
TARGET = np.asarray([2, 0])


def ending(x, how, seen=None):
    return layers.Dense(CLASSES, name="logits")(read(x, how, seen))


@functools.cache
def text(how, causal=False, post=False, masked=False):
    """Tokens; 0 is padding where it is masked."""
    x = keras.Input((5,), dtype="int32", name="ids")
    value, words = layers.Embedding(9, CHANNELS, name="embedding")(x), ops.not_equal(x, 0) if masked else None
    model = models.randomize(keras.Model(x, ending(blocks(value, causal, post, words), how, words)), seed=4)
    ids = np.asarray([[3, 8, 1, 0, 0], [5, 2, 2, 7, 1]], "int32")
    seen = ids > 0 if masked else None
    return model, ids, Replica(model, how, causal, post, seen), model.get_layer("embedding").embeddings.numpy()[ids]


# The formulas --------------------------------------------------------------------------------------------------------

TEXTS = [
    {"how": "first"},
    {"how": "last", "causal": True},
    {"how": "mean", "masked": True, "post": True},
]


@pytest.mark.parametrize("options", TEXTS, ids=lambda options: "-".join(map(str, options)))
def test_against_the_papers(options, eager):
    """The wrong row, heads summed, a missing identity, a block left out, or a gradient that a later block's lacks."""
    model, ids, replica, tokens = text(**options)
    tokens = tokens.astype("float64")
    heat = AttentionRollout(model).analyze(ids)
    assert_close(heat, replica.rollout(tokens))
    np.testing.assert_allclose(heat.sum(1), 1, rtol=1e-5)
    weighted = GradientWeightedAttention(model).analyze(ids, target=TARGET)
    assert_close(weighted, replica.gradient_weighted(tokens, TARGET), 1e-4)
    if options.get("masked"):
        assert not heat[0, 3:].any() and not weighted[0, 3:].any() and heat[0, :3].all()


def test_the_replica_is_the_model():
    model, ids, replica, tokens = text("mean", masked=True, post=True)
    assert_close(model(ids), replica.run(tokens.astype("float64"))[0])


def test_planted_errors():
    """Heads summed, and the smallest head in place of the mean, are caught."""
    model, ids, replica, tokens = text("first")

    class Summed(AttentionRollout):
        def weighed(self, weights, gradient):
            return HEADS * weights

    class Smallest(AttentionRollout):
        def weighed(self, weights, gradient):
            return ops.broadcast_to(ops.min(weights, axis=1, keepdims=True), ops.shape(weights))

    for wrong in (Summed, Smallest):
        with pytest.raises(AssertionError, match="differs by"):
            assert_close(wrong(model)(ids), replica.rollout(tokens.astype("float64")))


# Over the input ------------------------------------------------------------------------------------------------------


@functools.cache
def looking_at_bright_patches():
    """Patches of 4 x 4, a class token that looks at the brightest: one head, by weights that are set."""
    x = keras.Input((8, 12, 1), name="image")
    value = layers.Conv2D(2, 4, strides=4, name="patches")(x)
    value = ClassToken(name="class_token")(layers.Reshape((6, 2), name="grid")(value))
    value = value + layers.MultiHeadAttention(1, 2, name="attention")(value, value)
    model = keras.Model(x, layers.Dense(2, name="logits")(value[:, 0]))
    zeros = [np.zeros(weight.shape) for weight in model.weights]
    model.set_weights(zeros)
    # Brightness is the first channel; all queries are (5, 0), so that a score is five times the brightness.
    model.get_layer("patches").kernel.assign(np.full((4, 4, 1, 2), [1 / 16, 0.0]))
    (_, query_bias, key, _, value_kernel, _, out, _) = model.get_layer("attention").weights
    query_bias.assign([[5.0 * np.sqrt(2), 0.0]])
    for kernel in (key, value_kernel, out):
        kernel.assign(np.reshape(np.eye(2), kernel.shape))
    model.get_layer("logits").kernel.assign(np.eye(2))
    return model


@pytest.mark.parametrize("method", BOTH)
def test_a_map_is_largest_at_the_patch_that_is_looked_at(method):
    """The class token left in, patches shifted by one, or the grid on its side."""
    brightness = np.asarray([[0.1, 0.4, 0.2], [0.0, 0.3, 1.0]])
    x = np.repeat(np.repeat(brightness, 4, 0), 4, 1)[None, :, :, None].astype("float32")
    heat = np.asarray(method(looking_at_bright_patches())(x, target=0))
    powers = np.exp(5 * np.append(0, brightness))
    row = (powers / powers.sum())[1:].reshape(2, 3)
    # The logit is the sum of A times brightness; half of a row is the residual connection's.
    expected = row / 2 if method is AttentionRollout else brightness * row
    assert_close(heat[..., 0], enlarged(expected[None], (8, 12)))
    assert np.unravel_index(heat[0, ..., 0].argmax(), (8, 12)) >= (4, 8)


def test_series_have_a_number_a_step_and_tokens_that_are_added_have_none(eager):
    x = keras.Input((4, 3), name="series")
    value = ClassToken(name="class_token")(layers.Dense(CHANNELS, name="embedding")(x))
    # A register in front of both: where one layer's tokens went, the next one's numbers say.
    value = ClassToken(name="register")(value)
    model = models.randomize(keras.Model(x, ending(blocks(value), "first")), seed=2)
    series = models.normal(2, 4, 3)
    tokens = keras.Model(x, value).predict(series, verbose=0).astype("float64")
    heat = AttentionRollout(model).analyze(series)
    expected = Replica(model, "first").rollout(tokens)[:, 2:]
    assert_close(heat, np.repeat(expected[..., None] / 3, 3, axis=-1))


class Patches(layers.Layer):
    """As keras.io cuts images."""

    def call(self, images):
        patches = ops.image.extract_patches(images, size=2)
        return ops.reshape(patches, (ops.shape(images)[0], 6, 8))


def test_patches_of_a_layer_of_ones_own_lie_where_they_were_cut(eager):
    x = keras.Input((4, 6, 2), name="image")
    value = layers.Dense(CHANNELS, name="embedding")(Patches(name="cut")(x))
    flat = layers.Flatten(name="flat")(blocks(value))
    model = models.randomize(keras.Model(x, layers.Dense(CLASSES, name="logits")(flat)), seed=2)
    images = models.normal(2, 4, 6, 2)
    tokens = keras.Model(x, value).predict(images, verbose=0).astype("float64")
    # All tokens are read, as in a mean; the replica's logits do not matter here.
    replica = Replica(model, "mean")
    replica.weights["logits"] = [np.zeros((CHANNELS, CLASSES)), np.zeros(CLASSES)]
    heat = AttentionRollout(model).analyze(images)
    assert_close(heat.sum(-1), enlarged(replica.rollout(tokens).reshape(2, 2, 3), (4, 6)))


# Ways of writing it --------------------------------------------------------------------------------------------------


def softmax(scores):
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


class Written(layers.Layer):
    """Attention with one kernel (channels, 3, heads, size), written in several ways."""

    def __init__(self, how, **options):
        super().__init__(**options)
        self.how = how

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], 3, HEADS, SIZE), name="kernel")

    def call(self, x):
        return getattr(self, self.how)(x, x.shape[1], SIZE**-0.5)

    def einsum(self, x, count, scale):
        query, key, value = (ops.einsum("btc,chd->bthd", x, self.kernel[:, index]) for index in range(3))
        scores = ops.einsum("bthd,bshd->bhts", query * scale, key)
        powers = ops.exp(scores - ops.max(scores, axis=-1, keepdims=True))
        weights = powers / ops.sum(powers, axis=-1, keepdims=True)
        return ops.reshape(ops.einsum("bhts,bshd->bthd", weights, value), (-1, count, CHANNELS))

    def matmul(self, x, count, scale):
        joint = ops.matmul(x, ops.reshape(self.kernel, (-1, 3 * CHANNELS)))
        joint = ops.transpose(ops.reshape(joint, (-1, count, 3, HEADS, SIZE)), (2, 0, 3, 1, 4))
        query, key, value = joint[0], joint[1], joint[2]
        weights = ops.softmax(ops.matmul(query, ops.transpose(key, (0, 1, 3, 2))) * scale, axis=-1)
        return ops.reshape(ops.transpose(ops.matmul(weights, value), (0, 2, 1, 3)), (-1, count, CHANNELS))

    def fused(self, x, count, scale):
        parts = (ops.einsum("btc,chd->bthd", x, self.kernel[:, index]) for index in range(3))
        return ops.reshape(ops.dot_product_attention(*parts), (-1, count, CHANNELS))

    def keys_first(self, x, count, scale):
        query, key, value = (ops.einsum("btc,chd->bthd", x, self.kernel[:, index]) for index in range(3))
        weights = ops.softmax(ops.einsum("bshd,bthd->bhst", key, query) * scale, axis=2)
        return ops.reshape(ops.einsum("bhst,bshd->bthd", weights, value), (-1, count, CHANNELS))

    def apart(self, x, count, scale):
        heads = []
        for head in range(HEADS):
            query, key, value = (ops.matmul(x, self.kernel[:, index, head]) for index in range(3))
            weights = ops.softmax(ops.matmul(query, ops.swapaxes(key, 1, 2)) * scale, axis=-1)
            heads.append(ops.matmul(weights, value))
        return ops.concatenate(heads, axis=-1)


def test_however_attention_is_written(eager):
    """Weights missed or turned round, heads that stand side by side added up."""
    x = models.normal(2, 5, 4)
    generator = np.random.default_rng(3)
    kernel, head = generator.normal(size=(4, 3, HEADS, SIZE)), generator.normal(size=(CHANNELS, 2))
    query, key, value = np.moveaxis(np.einsum("btc,cihd->bihtd", x, kernel), 1, 0)
    weights = softmax(query @ key.swapaxes(2, 3) / np.sqrt(SIZE))
    # The mean over five tokens is read: a weight's slope is what its value says for the class.
    slope = np.einsum("bhsd,hd->bhs", value, head[:, 1].reshape(HEADS, SIZE))[:, :, None] / 5
    # There is no residual connection here, and so no identity.
    rollout, weighted = (one.mean((1, 2)) for one in (weights, np.maximum(slope * weights, 0)))

    def is_found(how):
        series = keras.Input((5, 4), name="series")
        attention = Written(how, name="attention")
        mean = layers.GlobalAveragePooling1D(name="mean")(attention(series))
        model = keras.Model(series, layers.Dense(2, name="logits")(mean))
        attention.kernel.assign(kernel)
        model.get_layer("logits").kernel.assign(head)
        assert_close(AttentionRollout(model).analyze(x).sum(-1), rollout)
        assert_close(GradientWeightedAttention(model).analyze(x, target=1).sum(-1), weighted)

    assert offenders(is_found, ("einsum", "matmul", "fused", "keys_first", "apart")) == {}


# Attention and a dense layer beside one another, as in GPT-J, PaLM and ViT-22B: h the tokens, a what they saw, f the layer.
SUMS = {
    "h+a+f": lambda h, a, f: layers.Add(name="sum")([h, a, f]),
    "(h+a)+f": lambda h, a, f: (h + a) + f,
    "h+(a+f)": lambda h, a, f: h + (a + f),
    "(f+h+h)+a": lambda h, a, f: layers.Add(name="sum")([f, h, h]) + a,
}


def one_block(joined, ended):
    """A block whose attention has no weights of its own; and its weights of attention in NumPy."""
    series = keras.Input((5, 4), name="series")
    seen = layers.Attention(name="attention")([series, series])
    value = joined(series, seen, layers.Dense(4, "tanh", name="dense")(series))
    model = models.randomize(keras.Model(series, layers.Dense(2, name="logits")(ended(value))), seed=3)
    x = models.normal(2, 5, 4)
    wide = x.astype("float64")
    return model, x, softmax(wide @ wide.swapaxes(1, 2))


def test_the_order_of_a_sum_says_nothing(eager):
    """A residual connection counted twice because two sums are written in place of one."""

    def is_one_sum(how):
        model, x, weights = one_block(SUMS[how], layers.GlobalAveragePooling1D(name="mean"))
        assert_close(AttentionRollout(model).analyze(x).sum(-1), ((weights + np.eye(5)) / 2).mean(1))
        slope = x.astype("float64") @ model.get_layer("logits").kernel.numpy()[:, 1] / 5
        weighted = np.eye(5) + np.maximum(weights * slope[:, None], 0)
        assert_close(GradientWeightedAttention(model).analyze(x, target=1).sum(-1), weighted.mean(1))

    assert offenders(is_one_sum, SUMS) == {}


def test_a_token_that_is_read_twice_counts_once(eager):
    """The first token's row added to the mean of all rows, in which it is."""
    mean = layers.GlobalAveragePooling1D(name="mean")
    first = layers.Dense(4, name="first")
    model, x, weights = one_block(SUMS["h+a+f"], lambda value: mean(value) + first(value)[:, 0])
    assert_close(AttentionRollout(model).analyze(x).sum(-1), ((weights + np.eye(5)) / 2).mean(1))


def test_padding_that_looks_at_nothing_hands_on_nothing(eager):
    """0 / 0 in the row of a query whose weights are set to 0, and from there NaN in all tokens of the next block."""
    here = np.asarray([1, 1, 1, 0, 1], "float32")
    looks, hidden = here[:, None], 1e9 * (here - 1)
    series = keras.Input((5, 4), name="series")
    x = models.normal(2, 5, 4)
    value, tokens, total = series, x.astype("float64"), np.eye(5)
    for block in range(2):
        scores = ops.matmul(value, ops.swapaxes(value, 1, 2))
        heads = [ops.softmax(scores * scale + hidden) * looks for scale in (0.5, 1)]
        value = layers.Concatenate(name=f"heads{block}")([ops.matmul(weights, value) for weights in heads])
        scores = tokens @ tokens.swapaxes(1, 2)
        rows = [softmax(scores * scale + hidden) * looks for scale in (0.5, 1)]
        tokens = np.concatenate([weights @ tokens for weights in rows], axis=-1)
        total = sum(rows) / 2 @ total
    mean = layers.GlobalAveragePooling1D(name="mean")(value)
    model = models.randomize(keras.Model(series, layers.Dense(2, name="logits")(mean)), seed=3)
    assert_close(AttentionRollout(model).analyze(x).sum(-1), total.mean(1))


KERAS = {
    "Attention": lambda x: layers.Attention(name="a")([x, x]),
    "AdditiveAttention": lambda x: layers.AdditiveAttention(name="a")([x, x]),
    "GroupQueryAttention": lambda x: layers.GroupQueryAttention(3, 4, 1, name="a")(x, x),
}


def test_layers_of_keras_in_a_nested_model(eager):
    x = models.normal(2, 5, 4)

    def is_the_layers(name):
        series = keras.Input((5, 4), name="series")
        inner = keras.Model(series, KERAS[name](series) + series, name="inner")
        model = models.randomize(keras.Model(series, layers.Dense(2, name="logits")(inner(series)[:, 1])), seed=3)
        scores = {"return_attention_scores": True}
        given = (x, x) if name == "GroupQueryAttention" else ([x, x],)
        weights = inner.get_layer("a")(*given, **scores)[1].numpy()
        weights = weights.mean(1) if weights.ndim == 4 else weights
        expected = (weights[:, 1] + np.eye(5)[1]) / 2
        assert_close(AttentionRollout(model).analyze(x).sum(-1), expected)

    assert offenders(is_the_layers, KERAS) == {}


def test_attention_that_pools_reads_the_tokens(eager):
    x = keras.Input((5, 3), name="series")
    value = blocks(layers.Dense(CHANNELS, name="embedding")(x))
    share = layers.Softmax(axis=1, name="share")(layers.Dense(1, name="scores")(value))
    pooled = ops.squeeze(ops.matmul(ops.swapaxes(share, 1, 2), value), axis=1)
    model = models.randomize(keras.Model(x, layers.Dense(CLASSES, name="logits")(pooled)), seed=2)
    series = models.normal(2, 5, 3)
    tokens, shares = (one.numpy() for one in keras.Model(x, [model.get_layer("embedding").output, share])(series))
    replica = Replica(model, "mean")
    replica.rows = lambda _: shares[..., 0]
    assert_close(AttentionRollout(model).analyze(series).sum(-1), replica.rollout(tokens.astype("float64")))


# Inputs --------------------------------------------------------------------------------------------------------------


def test_of_tokens_and_segments_the_tokens_are_drawn_over(eager):
    ids, kinds = (keras.Input((4,), dtype="int32", name=name) for name in ("ids", "kinds"))
    value = layers.Embedding(9, CHANNELS, name="words")(ids) + layers.Embedding(2, CHANNELS, name="segments")(kinds)
    model = models.randomize(keras.Model([ids, kinds], ending(blocks(value), "first")), seed=2)
    x = [np.asarray([[1, 2, 3, 4]], "int32"), np.asarray([[0, 0, 1, 1]], "int32")]
    words, segments = AttentionRollout(model).analyze(x)
    assert words.all() and not segments.any()
    other = AttentionRollout(model, input="kinds").analyze(x)
    np.testing.assert_array_equal(other[1], words)
    with pytest.raises(InvalidInputError, match="input='types' names no input of the model; they are ids, kinds"):
        AttentionRollout(model, input="types")
    with pytest.raises(InvalidInputError, match="input should be the name of an input, but is 1"):
        AttentionRollout(model, input=1)


# Files ---------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("method", BOTH)
def test_files_batches_and_serving(method, tmp_path, exported):
    model, ids, _, _ = text("first")
    analyzer = method(model, input="ids")
    assert_saved(analyzer, ids, tmp_path)
    heat = analyzer.analyze(ids, target=TARGET, batch_size=1)
    assert_close(heat, analyzer.analyze(ids, target=TARGET))
    served = exported(analyzer, target="input", predictions=False).serve(ids, TARGET.astype("int32"))
    assert_close(served["attributions"], heat)
    assert isinstance(analyzer, innvest_lite.ReverseAnalyzer) and analyzer.get_config()["input"] == "ids"
