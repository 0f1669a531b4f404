"""Tokens that are moved before they are embedded: cut out, reshaped, joined, folded into the samples, or computed with.

The oracle is a twin that takes the tokens as they are embedded: the explanation of each stands at the place it came from.
"""

import keras
import models
import numpy as np
import pytest
from keras import layers, ops

import innvest_lite
from innvest_lite.errors import UnsupportedLayerError

TOKENS = np.random.default_rng(0).integers(0, 9, (3, 20)).astype("int32")
PLACES = np.arange(20)[None]
METHODS = {
    "gradient": {},
    "gradient, norm": {"tokens": "norm"},
    "input_t_gradient": {},
    "integrated_gradients": {"steps": 5},
    "lrp.epsilon": {},
}
MOVES = {
    "reshaped": lambda x: layers.Reshape((4, 5))(x),
    "cut": lambda x: x[:, 3:9],
    "turned": lambda x: ops.transpose(layers.Reshape((4, 5))(x), (0, 2, 1)),
    "joined": lambda x: ops.concatenate([x[:, 5:], x[:, :2]], axis=1),
    "cast": lambda x: ops.cast(x, "int64"),
    "one": lambda x: x[:, 4:5],
}
# These are enough of once.
SIMPLE = ("cast", "one")
_SOME = [name if name in ("gradient", "lrp.epsilon") else pytest.param(name, marks=pytest.mark.slow) for name in METHODS]


def network(given, moved, seed=1):
    """From moved tokens to logits, with weights by the seed."""
    keras.utils.set_random_seed(seed)
    hidden = layers.Dense(6, activation="tanh")(layers.Flatten()(layers.Embedding(9, 4)(moved)))
    return models.randomize(keras.Model(given, layers.Dense(3)(hidden)), seed)


def explained(name, model, x):
    return innvest_lite.create_analyzer(name.partition(",")[0], model, **METHODS[name]).analyze(x, target=1)


@pytest.mark.parametrize("name", _SOME)
def test_moved_tokens_are_explained_where_they_came_from(name):
    for how, move in MOVES.items():
        if how in SIMPLE and name != "input_t_gradient":
            continue
        x = keras.Input((20,), dtype="int32")
        moved = move(x)
        places, taken = (np.asarray(keras.Model(x, moved)(given)) for given in (PLACES, TOKENS))
        twin = keras.Input(moved.shape[1:], dtype="int32")
        expected = np.zeros(TOKENS.shape)
        expected[:, places.ravel()] = explained(name, network(twin, twin), taken).reshape(3, -1)
        np.testing.assert_allclose(explained(name, network(x, moved), TOKENS), expected, atol=1e-6, err_msg=how)


def test_tokens_that_are_embedded_twice():
    """What arrives at both places adds up."""
    x, twin = keras.Input((6,), dtype="int32"), keras.Input((12,), dtype="int32")
    both = explained("input_t_gradient", network(x, ops.concatenate([x, x], axis=1)), TOKENS[:, :6])
    apart = explained("input_t_gradient", network(twin, twin), np.concatenate([TOKENS[:, :6]] * 2, 1))
    np.testing.assert_allclose(both, apart[:, :6] + apart[:, 6:], atol=1e-6)


def test_two_inputs_in_one_embedding():
    """Each input has its own part, once."""
    one, two = keras.Input((6,), dtype="int32", name="one"), keras.Input((5,), dtype="int32", name="two")
    twin = keras.Input((11,), dtype="int32")
    model, expected = network([one, two], layers.Concatenate()([one, two])), network(twin, twin)
    for name in METHODS:
        found = explained(name, model, [TOKENS[:, :6], TOKENS[:, 6:11]])
        np.testing.assert_allclose(np.concatenate(found, 1), explained(name, expected, TOKENS[:, :11]), atol=1e-6)


def sentences(applied):
    """Documents of three sentences of four tokens: each sentence by the same encoder."""
    keras.utils.set_random_seed(2)
    parts = [layers.Embedding(9, 4), layers.Conv1D(5, 2, activation="tanh"), layers.GlobalAveragePooling1D()]
    encoder = keras.Sequential([keras.Input((4,), dtype="int32"), *parts])
    x = keras.Input((3, 4), dtype="int32")
    hidden = layers.Dense(4, activation="tanh")(layers.Flatten()(applied(encoder, x)))
    return models.randomize(keras.Model(x, layers.Dense(3)(hidden)), seed=3)


@pytest.mark.parametrize("name", _SOME)
def test_hierarchies(name):
    """Sentences that are folded into the samples, against the encoder called on one sentence after the other."""
    documents = TOKENS[:, :12].reshape(3, 3, 4)
    folded = sentences(lambda encoder, x: layers.TimeDistributed(encoder)(x))
    apart = sentences(lambda encoder, x: ops.stack([encoder(x[:, place]) for place in range(3)], axis=1))
    np.testing.assert_allclose(explained(name, folded, documents), explained(name, apart, documents), atol=1e-6)


def test_paths_of_hierarchies_are_complete():
    """By sample: rows of the samples next to each other would be altered by one another's share."""
    documents = TOKENS[:, :12].reshape(3, 3, 4)
    folded = sentences(lambda encoder, x: layers.TimeDistributed(encoder)(x))
    found, gap = innvest_lite.IntegratedGradients(folded, steps=64).analyze(documents, target=1, return_gap=True)
    np.testing.assert_allclose(gap, 0, atol=1e-6)
    one = innvest_lite.IntegratedGradients(folded, steps=64).analyze(documents[:1], target=1)
    np.testing.assert_allclose(found[:1], one, atol=1e-7)


def test_occlusion_hides_tokens_and_not_sentences():
    """A token input of rows has no channels."""
    documents = TOKENS[:, :12].reshape(3, 3, 4)
    model = sentences(lambda encoder, x: layers.TimeDistributed(encoder)(x))
    found = innvest_lite.Occlusion(model).analyze(documents, target=0)
    hidden = documents.copy()
    hidden[:, 1, 2] = 0
    effect = model.predict(documents, verbose=0)[:, 0] - model.predict(hidden, verbose=0)[:, 0]
    np.testing.assert_allclose(found[:, 1, 2], effect, atol=1e-6)


class Pairs(keras.Model):
    """Embeds tokens, and pairs of them by a number that it computes."""

    def __init__(self):
        super().__init__()
        self.tokens, self.pairs, self.out = layers.Embedding(9, 4), layers.Embedding(20, 4), layers.Dense(2)

    def call(self, x):
        pairs = (x[:, :-1] * 31 + x[:, 1:]) % 20
        return self.out(ops.sum(self.tokens(x), axis=1) + ops.sum(self.pairs(pairs), axis=1))


def test_numbers_computed_of_tokens_are_refused():
    """A gradient through them is 31 times too large for some tokens, and means nothing for any."""
    model = Pairs()
    model(TOKENS)
    for name in ("gradient", "integrated_gradients", "lrp.epsilon"):
        with pytest.raises(UnsupportedLayerError, match=r"computes of them(.|\n)*Embedding: (.|\n)*by occlusion"):
            innvest_lite.create_analyzer(name, model)
    found = innvest_lite.Occlusion(model).analyze(TOKENS, target=0)
    hidden = TOKENS.copy()
    hidden[:, 4] = 0
    np.testing.assert_allclose(found[:, 4], (model(TOKENS) - model(hidden))[:, 0], atol=1e-6)


def test_both_halves_of_a_split():
    """All outputs of what moves tokens are followed, not the first alone."""
    x, twin = keras.Input((20,), dtype="int32"), keras.Input((20,), dtype="int32")

    def halves(given, one, other):
        keras.utils.set_random_seed(4)
        embedding = layers.Embedding(9, 4)
        joined = ops.concatenate([ops.mean(embedding(one), 1), ops.max(embedding(other), 1)], axis=-1)
        return models.randomize(keras.Model(given, layers.Dense(3)(joined)), 4)

    split, cut = halves(x, *ops.split(x, 2, axis=1)), halves(twin, twin[:, :10], twin[:, 10:])
    for name in METHODS:
        found = explained(name, split, TOKENS)
        assert found[:, 10:].any()
        np.testing.assert_allclose(found, explained(name, cut, TOKENS), atol=1e-6, err_msg=name)


COMPUTED = {
    "next": lambda x: x + 1,
    "clipped": lambda x: ops.clip(x, 0, 5),
    "pairs": lambda x: (x[:, 1:] * 3 + x[:, :-1]) % 9,
    "chosen": lambda x: ops.where(x > 5, x, x + 1),
}


@pytest.mark.parametrize("how", COMPUTED)
def test_tokens_that_are_computed_for_the_only_embedding(how):
    x = keras.Input((20,), dtype="int32")
    embedded = layers.Flatten()(layers.Embedding(12, 4)(COMPUTED[how](x)))
    model = models.randomize(keras.Model(x, layers.Dense(3)(embedded)), 5)
    for name in METHODS:
        with pytest.raises(UnsupportedLayerError, match=r"(?s)computes of them.*by occlusion"):
            explained(name, model, TOKENS)
    found = innvest_lite.Occlusion(model).analyze(TOKENS, target=0)
    hidden = TOKENS.copy()
    hidden[:, 4] = 0
    np.testing.assert_allclose(found[:, 4], np.asarray(model(TOKENS) - model(hidden))[:, 0], atol=1e-6)
