"""What a network has learned to add is a sink, also before its first dense layer; preprocessing is not.

Held against input times gradient: of a map that is affine, LRP-0 is just that, whatever is added to it.
"""

import keras
import numpy as np
import pytest
from keras import layers, ops

import innvest_lite
from innvest_lite import LRP

TOKENS = np.arange(1, 7)[None].astype("int32")


@keras.saving.register_keras_serializable(package="tests")
class Places(layers.Layer):
    """Gives what was learned for each place, and looks at no number of what it takes, as KerasHub's PositionEmbedding."""

    def build(self, shape):
        self.table = self.add_weight(shape=(9, shape[-1]), initializer="random_normal")

    def call(self, x):
        shape = ops.shape(x)
        return ops.broadcast_to(self.table[: shape[1]], shape)


def added_by_a_layer(x):
    return layers.Add()([x, Places()(x)])


def added_by_an_operation(x):
    return x + layers.Embedding(6, 8)(ops.arange(6))


def scaled_by_numpy(x):
    return x / np.sqrt(8) + layers.Embedding(6, 8)(ops.arange(6))


def waves(x):
    """Numbers that nobody learned; behind a table of words they are no preprocessing either."""
    return x + np.sin(np.arange(48.0)).reshape(6, 8).astype("float32")


@pytest.mark.parametrize("composite", ["zero", "epsilon_plus"])
@pytest.mark.parametrize("added", [added_by_a_layer, added_by_an_operation, scaled_by_numpy, waves])
@pytest.mark.parametrize("size", [6, None])
def test_places_are_a_sink(added, composite, size, eager):
    """Words that are zeros get nothing, whatever their places say."""
    if size is None and added is not added_by_a_layer:
        pytest.skip("of six places")
    x = keras.Input((size,), dtype="int32")
    words = layers.Embedding(20, 8, embeddings_initializer="zeros", name="words", trainable=False)(x)
    model = keras.Model(x, layers.Dense(2, use_bias=False)(layers.GlobalAveragePooling1D()(added(words))))
    analyzer = LRP(model, composite)
    np.testing.assert_allclose(analyzer.analyze(TOKENS, target=0), 0, atol=1e-7)
    report = analyzer.check(TOKENS, target=0)
    np.testing.assert_allclose(sum(row.bias for row in report.rows), report.start, rtol=1e-5, atol=3e-6)
    # Of words that say something, what the linear map makes of them.
    table = np.random.default_rng(0).normal(size=(20, 8)).astype("float32")
    model.get_layer("words").set_weights([table])
    if composite == "zero":
        kernel = np.asarray(model.layers[-1].kernel)[:, 0] / (np.sqrt(8) if added is scaled_by_numpy else 1)
        np.testing.assert_allclose(analyzer.analyze(TOKENS, target=0), (table[TOKENS] @ kernel) / 6, rtol=1e-4, atol=1e-6)


@keras.saving.register_keras_serializable(package="tests")
class Features(layers.Layer):
    """A vector for each number, as in an FT-Transformer: its weights are the first ones."""

    def build(self, shape):
        self.w = self.add_weight(shape=(shape[-1], 5), initializer="random_normal")
        self.b = self.add_weight(shape=(shape[-1], 5), initializer="random_normal")

    def call(self, x):
        return x[..., None] * self.w + self.b


def test_what_a_tokenizer_of_numbers_adds_is_a_sink(eager):
    x = keras.Input((4,), dtype="float64")
    flat = layers.Flatten(dtype="float64")(Features(dtype="float64")(x))
    model = keras.Model(x, layers.Dense(1, use_bias=False, dtype="float64")(flat))
    given = np.array([[1.0, 0, 0.5, -1]])
    found = LRP(model, "zero").analyze(given, target="all")
    np.testing.assert_allclose(
        found, given * np.asarray(innvest_lite.Gradient(model).analyze(given, target="all")), rtol=1e-9
    )


@keras.saving.register_keras_serializable(package="tests")
class Standardized(layers.Layer):
    """Preprocessing with what is known of the data, in variables that are not trained."""

    def build(self, shape):
        self.mean = self.add_weight(shape=(shape[-1],), initializer="ones", trainable=False)

    def call(self, x):
        return (x - self.mean) / 2.0


def test_preprocessing_hands_relevance_on_unchanged(eager):
    """A map does not depend on whether the numbers are standardized inside the model or outside."""
    x, inner = keras.Input((4,)), keras.Input((4,))
    dense = layers.Dense(2)
    inside, outside = keras.Model(x, dense(Standardized()(x))), keras.Model(inner, dense(inner))
    given = np.random.default_rng(1).normal(size=(3, 4)).astype("float32")
    of_outside = LRP(outside, "epsilon").analyze((given - 1) / 2, target=1)
    np.testing.assert_allclose(LRP(inside, "epsilon").analyze(given, target=1), of_outside, rtol=1e-5)


@pytest.mark.parametrize("attention", [layers.Attention, layers.AdditiveAttention])
def test_scores_that_a_mask_hides_go_through(attention, eager):
    """Keras takes 1e9 off them, beside which no score is seen: padding gets 0, and the others what they get without."""
    kept = []
    for length in (4, 6):
        x = keras.Input((length,), dtype="int32")
        words = layers.Embedding(9, 5, mask_zero=True, name="words")(x)
        model = keras.Model(
            x, layers.Dense(2, name="out")(layers.GlobalAveragePooling1D()(attention(name="a")([words, words])))
        )
        generator = np.random.default_rng(2)
        for variable in model.weights:
            variable.assign(generator.normal(size=variable.shape))
        given = np.array([[3, 1, 4, 2, 0, 0]])[:, :length].astype("int32")
        analyzer = LRP(model, "attn_lrp")
        kept.append(analyzer.analyze(given, target=0))
        assert analyzer.check(given, target=0).unexplained.max() < 1e-4
    np.testing.assert_allclose(kept[1][:, :4], kept[0], rtol=1e-3, atol=1e-5)
    np.testing.assert_array_equal(kept[1][:, 4:], 0)


def test_patterns_give_places_their_share(eager, eager_fits):
    """Where words and places add up, PatternAttribution shares by their sizes; else words had all of it."""
    x = keras.Input((6,), dtype="int32")
    words = layers.Embedding(20, 8, name="words")(x)
    summed = added_by_an_operation(words)
    whole = layers.Dense(2)(layers.GlobalAveragePooling1D()(layers.Dense(8, name="in", activation="relu")(summed)))
    model = keras.Model(x, whole)
    data = np.random.default_rng(3).integers(1, 20, (100, 6)).astype("int32")
    analyzer = innvest_lite.PatternAttribution(model, shares="sample").fit(data, verbose=0)
    heat, kept = analyzer.analyze(TOKENS, keep=[summed._keras_history.operation.name])
    word = np.asarray(model.get_layer("words").embeddings)[TOKENS]
    whole = np.asarray(keras.Model(x, summed)(TOKENS))
    place = whole - word
    share = np.where(whole >= 0, 1, -1) * word / (np.abs(word) + np.abs(place))
    np.testing.assert_allclose(heat, (share * next(iter(kept.values()))).sum(-1), rtol=1e-4, atol=1e-7)
