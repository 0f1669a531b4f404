"""Where attention cannot be multiplied up, which is refused with the nodes, the reason and a way out."""

import keras
import models
import pytest
from comparing import refusals
from keras import layers, ops

import innvest_lite
from innvest_lite import AttentionRollout, InvalidInputError, UnsupportedLayerError


def ended(inputs, value):
    pooled = layers.GlobalAveragePooling1D(name="pooled")(value) if len(value.shape) > 2 else value
    return keras.Model(inputs, layers.Dense(2, name="logits")(pooled))


def attention(name, size=4):
    return layers.MultiHeadAttention(2, size, name=name)


def series(steps=8, channels=4, name="series"):
    return keras.Input((steps, channels), name=name)


def plain():
    x = series()
    return ended(x, layers.Dense(3, name="dense")(x))


def fewer_keys():
    """As in Pyramid Vision Transformer and SegFormer."""
    x = series()
    return ended(x, x + attention("mha")(x, layers.Conv1D(4, 2, 2, name="reduced")(x)))


def windows():
    """As in Swin."""
    x = series()
    cut = ops.reshape(x, (-1, 2, 4))
    return ended(x, x + ops.reshape(attention("mha")(cut, cut), (-1, 8, 4)))


class Windows(layers.Layer):
    """Attention in each half."""

    def build(self, shape):
        self.attention = attention("inner")
        self.attention.build((None, 4, 4), (None, 4, 4))

    def call(self, x):
        cut = ops.reshape(x, (-1, 4, 4))
        return x + ops.reshape(self.attention(cut, cut), (-1, 8, 4))


def windows_of_a_layer():
    x = series()
    return ended(x, Windows(name="windows")(x))


def mixed_between():
    x = series()
    value = layers.Conv1D(4, 3, padding="same", name="between")(x + attention("one")(x, x))
    return ended(x, value + attention("two")(value, value))


def mixed_by_zeros():
    """A convolution whose weights are 0 until it is trained."""
    model = mixed_between()
    model.get_layer("between").kernel.assign(0 * model.get_layer("between").kernel)
    return model


def context_added():
    x = series()
    value = x + attention("one")(x, x)
    value = layers.Add(name="context")([value, layers.GlobalAveragePooling1D(keepdims=True, name="all")(value)])
    return ended(x, value + attention("two")(value, value))


def two_sequences():
    x, other = series(name="x"), series(6, name="other")
    value = x + attention("one")(x, x)
    return ended([x, other], value + attention("cross")(value, other))


def two_ends():
    x = series()
    one = x + attention("one")(x, x)
    two = one + attention("two")(one, one)
    ends = [layers.GlobalAveragePooling1D(name=f"pool{number}")(value) for number, value in enumerate((one, two))]
    return keras.Model(x, layers.Dense(2, name="logits")(layers.Concatenate(name="ends")(ends)))


def class_attention():
    """As in CaiT: the last block's only query is a token of its own."""
    x = series()
    value = x + attention("one")(x, x)
    first = value[:, :1]
    return ended(x, (first + attention("last")(first, value))[:, 0])


def tokens_of_columns():
    """As in TabTransformer: each token is an input of its own."""
    columns = [keras.Input((1,), name=name) for name in "abc"]
    tokens = [layers.Reshape((1, 4), name=f"row_{c.name}")(layers.Dense(4, name=f"of_{c.name}")(c)) for c in columns]
    value = layers.Concatenate(axis=1, name="tokens")(tokens)
    return ended(columns, value + attention("mha")(value, value))


def two_pictures():
    one, other = series(name="one"), series(name="other")
    value = layers.Add(name="both")([one, other])
    return ended([one, other], value + attention("mha")(value, value))


NO_RULE = {
    plain: "finds no self-attention(.|\\n)*IntegratedGradients",
    fewer_keys: "not as many keys as queries .*8, 4",
    windows: "at mha.* which token looks at which could not be followed|went past the tokens",
    windows_of_a_layer: "at windows/inner.* the tokens are cut into windows(.|\\n)*attn_lrp",
    mixed_between: r"at between \(Conv1D\) tokens reach one another outside of attention",
    mixed_by_zeros: "at between .* tokens reach one another outside of attention",
    context_added: "at context .* tokens meet what is not made of each of them alone, from all",
    two_sequences: "at cross.* the values are not computed from the tokens of the other blocks",
    two_ends: "tokens are read there and elsewhere",
    class_attention: "not as many keys as queries .*1, 8|tokens are read there and elsewhere",
    tokens_of_columns: "could not follow them to positions of an input.*attn_lrp",
}


QUICK = (plain, fewer_keys, windows_of_a_layer, mixed_by_zeros, two_sequences)


def uses(builders):
    return {build.__name__: (lambda build=build: AttentionRollout(build()), NO_RULE[build]) for build in builders}


def test_what_is_no_rollout_is_refused_with_the_reason():
    assert refusals(uses(QUICK), UnsupportedLayerError) == {}


@pytest.mark.slow
def test_more_that_is_no_rollout():
    assert refusals(uses([build for build in NO_RULE if build not in QUICK]), UnsupportedLayerError) == {}


def test_the_ways_out_go():
    """What the messages advise."""
    x = models.normal(2, 8, 4)
    assert innvest_lite.LRP(fewer_keys(), "attn_lrp")(x).shape == x.shape
    assert innvest_lite.LRP(mixed_between(), "attn_lrp")(x).shape == x.shape


def test_the_nodes_are_listed():
    try:
        AttentionRollout(mixed_between())
    except UnsupportedLayerError as error:
        assert [node.name for node in error.nodes] == ["between"]


def test_of_several_sequences_one_is_named():
    use = {
        "two": (
            lambda: AttentionRollout(two_pictures()),
            "this model has several with tokens: say input='one' or input='other'",
        )
    }
    assert refusals(use, InvalidInputError) == {}
    found = AttentionRollout(two_pictures(), input="other")([models.normal(2, 8, 4), models.normal(2, 8, 4)])
    assert not found[0].numpy().any() and found[1].numpy().all()
