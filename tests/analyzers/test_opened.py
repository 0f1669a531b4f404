"""Models made of layers of one's own against the same network written flat: every method gives the same."""

import composites
import keras
import models
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

import innvest_lite
from innvest_lite.errors import UnsupportedLayerError

SAMPLES = models.normal(4, 9, 9, 2)
METHODS = (
    *("gradient", "input_t_gradient", "integrated_gradients", "smoothgrad", "guided_backprop", "occlusion", "gradcam"),
    *(
        "lrp.epsilon",
        "lrp.epsilon_plus_flat",
        "lrp.alpha_2_beta_1_IB",
        "lrp.w_square",
        "pattern.net",
        "pattern.attribution",
    ),
)


def flat():
    """The network of `composites.Net`, as a Functional model with the same weights."""
    net, _ = composites.case("net")
    x = keras.Input((9, 9, 2))
    stem = layers.Conv2D(4, 3, activation="relu", name="stem")(x)
    first = layers.Conv2D(6, 3, padding="same", use_bias=False, name="first")(stem)
    first = layers.ReLU(name="relu")(layers.BatchNormalization(name="first_bn")(first))
    second = layers.Conv2D(6, 3, padding="same", use_bias=False, name="second")(layers.Dropout(0.5, name="drop")(first))
    second = layers.BatchNormalization(name="second_bn")(second)
    both = layers.Add(name="add")([layers.Conv2D(6, 1, name="short")(stem), second])
    hidden = layers.Dense(8, activation="relu", name="hidden")(
        layers.GlobalAveragePooling2D(name="pool")(layers.ReLU(name="last")(both))
    )
    model = keras.Model(x, layers.Dense(3, activation="softmax", name="head")(hidden))
    own = {layer.name: layer for layer in net._flatten_layers(include_self=False)}
    for layer in model.layers:
        if layer.weights:
            layer.set_weights(own[layer.name].get_weights())
    return model


@pytest.fixture(scope="module")
def pair():
    return composites.case("net")[0], flat()


_QUICK = ("gradient", "integrated_gradients", "gradcam", "lrp.epsilon", "lrp.epsilon_plus_flat", "pattern.attribution")


def explained(name, model):
    analyzer = innvest_lite.create_analyzer(name, model)
    if name.startswith("pattern."):
        analyzer.fit(models.normal(96, 9, 9, 2, seed=3), verbose=0)
    return analyzer.analyze(SAMPLES)


@pytest.mark.parametrize(
    "name", [name if name in _QUICK else pytest.param(name, marks=pytest.mark.slow) for name in METHODS]
)
def test_as_written_flat(name, pair):
    one, other = (explained(name, model) for model in pair)
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-6 * np.abs(other).max())


def test_patterns_as_written_flat(pair):
    """Those of weights that no layer of Keras's own holds, too."""
    data = models.normal(96, 9, 9, 2, seed=3)
    one, other = (innvest_lite.fit_patterns(model, data, verbose=0) for model in pair)
    names = {"stem": "stem/conv", "hidden": "hidden/matmul", "head": "head", "pool": "pool"}
    names |= {name: f"block/{name}" for name in ("first", "second", "short", "add")}
    assert {names[name] for name in other} == set(one)
    for name in other:
        np.testing.assert_allclose(one[names[name]], other[name], rtol=0, atol=1e-6 * np.abs(other[name]).max())


def test_weights_that_change_are_noticed():
    """Also those that only stand among the arguments of an operation."""
    model = composites.Net(name="own")
    model(SAMPLES)
    analyzer = innvest_lite.PatternNet(models.randomize(model, seed=1)).fit(models.normal(32, 9, 9, 2), verbose=0)
    analyzer.analyze(SAMPLES)
    model.hidden.w.assign(2 * model.hidden.w)
    with pytest.raises(innvest_lite.PatternMismatchError, match="hidden/matmul"):
        analyzer.analyze(SAMPLES)


def test_a_shared_composite_has_one_pattern():
    """The statistics of all calls are merged, as of a shared layer."""

    class Shared(keras.Model):
        def __init__(self):
            super().__init__()
            self.own, self.head = composites.Linear(4, "relu", name="own"), layers.Dense(2, name="head")

        def call(self, x):
            return self.head(self.own(self.own(x)))

    model = Shared()
    model(models.normal(2, 4))
    patterns = innvest_lite.fit_patterns(models.randomize(model, seed=1), models.normal(64, 4), verbose=0)
    assert set(patterns) == {"own/matmul", "head"}


def test_relevance_is_conserved_through_a_composite():
    """LRP-0 without biases: the sum is the logit."""

    class Bare(keras.Model):
        def __init__(self):
            super().__init__()
            self.convs = [layers.Conv2D(4, 3, padding="same", use_bias=False) for _ in range(2)]
            self.head = layers.Dense(3, use_bias=False)

        def call(self, x):
            first = ops.relu(self.convs[0](x))
            return self.head(ops.mean(ops.relu(self.convs[1](first) + first), axis=(1, 2)))

    model = Bare()
    logits = np.max(models.randomize(built(model), seed=2)(SAMPLES), axis=1)
    found = innvest_lite.LRP(model, "zero").analyze(SAMPLES)
    np.testing.assert_allclose(found.sum((1, 2, 3)), logits, rtol=1e-5)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow) for name in ("gradient", "lrp.epsilon_plus_flat")]
    + ["pattern.attribution"],
)
def test_explainers_of_opened_models_are_served(name, pair, tmp_path):
    analyzer = innvest_lite.create_analyzer(name, pair[0])
    analyzer.fit(models.normal(96, 9, 9, 2, seed=3), verbose=0)
    analyzer.export(tmp_path / "served", verbose=False)
    served = tf.saved_model.load(tmp_path / "served")
    expected = analyzer.analyze(SAMPLES)
    found = served.serve(SAMPLES)["attributions"].numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * np.abs(expected).max())


class TokensAndPlaces(layers.Layer):
    """As KerasHub's: its call leaves the mask of the tokens, of which Keras's graph does not know."""

    def __init__(self):
        super().__init__(name="both")
        self.tokens = layers.Embedding(20, 4, mask_zero=True)

    def call(self, x):
        tokens = self.tokens(x)
        found = tokens + ops.reshape(ops.arange(7.0), (1, 7, 1)) / 7
        keras.src.backend.set_keras_mask(found, tokens._keras_mask)
        return found

    def compute_output_shape(self, input_shape):
        return (*input_shape, 4)


class Masked(layers.Layer):
    """Hides what a mask on its input hides, and hands the mask on."""

    def __init__(self):
        super().__init__(name="masked")
        self.supports_masking = True
        self.dense = layers.Dense(4, activation="tanh")

    def call(self, x):
        mask = getattr(x, "_keras_mask", None)
        weights = ops.ones_like(x[..., :1]) if mask is None else ops.cast(mask, x.dtype)[..., None]
        return self.dense(x - ops.sum(x * weights, axis=1, keepdims=True) / ops.sum(weights, axis=1, keepdims=True))

    def compute_output_shape(self, input_shape):
        return input_shape


@pytest.mark.parametrize("hidden", [[1, 2, 3, 4, 5, 6, 7], [1, 2, 3, 4, 0, 0, 0]])
def test_masks_that_a_call_leaves_are_seen_behind_it(hidden):
    x = keras.Input((7,), dtype="int32")
    model = keras.Model(x, layers.Dense(2)(layers.GlobalAveragePooling1D()(Masked()(TokensAndPlaces()(x)))))
    models.randomize(model, seed=1)
    tokens = np.array([hidden], "int32")
    analyzer = innvest_lite.Gradient(model)
    np.testing.assert_allclose(analyzer.explainer.logits([tf.constant(tokens)]), model(tokens), rtol=1e-5)
    table = model.get_layer("both").tokens.embeddings
    with tf.GradientTape() as tape:
        logit = model(tokens)[:, 1]
    at_tokens = tf.convert_to_tensor(tape.gradient(logit, table.value)).numpy().sum(-1)
    expected = np.where(tokens == 0, 0, at_tokens[tokens])
    np.testing.assert_allclose(analyzer.analyze(tokens, target=1), expected, atol=1e-6)


@pytest.mark.parametrize("composite", ["zero", "epsilon_plus"])
def test_a_mask_that_a_call_leaves_hides_from_an_average(composite):
    """The average has the mask from the value alone, and is no plain mean to LRP either."""
    x = keras.Input((7,), dtype="int32")
    model = keras.Model(x, layers.Dense(2)(layers.GlobalAveragePooling1D()(TokensAndPlaces()(x))))
    models.randomize(model, seed=1)
    tokens = np.array([[1, 2, 3, 4, 0, 0, 0]], "int32")
    found = innvest_lite.LRP(model, composite).analyze(tokens, target=1)
    assert np.all(found[:, :4]) and not found[:, 4:].any()


def built(model):
    model(SAMPLES)
    return model


def test_gradcam_sees_inside_a_block(pair):
    one = innvest_lite.GradCAM(pair[0], layer="block/first_bn").analyze(SAMPLES)
    other = innvest_lite.GradCAM(pair[1], layer="first_bn").analyze(SAMPLES)
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-6 * np.abs(other).max())
    assert innvest_lite.GradCAM(pair[0]).layer == "block"


def test_what_cannot_be_looked_into_is_refused_with_its_reason():
    class Raw(keras.Model):
        def __init__(self):
            super().__init__(name="raw")
            self.dense = layers.Dense(3)

        def call(self, x):
            return ops.tanh(self.dense(layers.Flatten()(x))) if ops.is_tensor(x) else len(x)

    model = models.randomize(built(Raw()), seed=1)
    with pytest.raises(UnsupportedLayerError, match="(?s)could not look into raw: .*TypeError.*keras.ops") as error:
        innvest_lite.LRP(model)
    assert [(node.name, node.layer) for node in error.value.nodes] == [("raw", "Raw")]
    assert "TypeError" in error.value.nodes[0].reason
    # Methods that need the function alone explain it.
    with tf.GradientTape() as tape:
        x = ops.convert_to_tensor(SAMPLES)
        tape.watch(x)
        logit = ops.sum(ops.max(model(x), axis=1))
    expected = tape.gradient(logit, x)
    np.testing.assert_allclose(innvest_lite.Gradient(model).analyze(SAMPLES), expected, rtol=0, atol=1e-6)
    assert np.abs(innvest_lite.Occlusion(model, window=3, stride=3).analyze(SAMPLES)).max() > 0


class Places(layers.Layer):
    """Adds a table of places, as long as the text is."""

    def build(self, shape):
        self.table = self.add_weight(shape=(9, shape[-1]), name="table", initializer="random_normal")

    def call(self, x):
        return x + ops.slice(self.table, (0, 0), (ops.shape(x)[1], x.shape[2]))


def open_text():
    x = keras.Input((None,), dtype="int32", name="x")
    value = Places(name="places")(layers.Embedding(20, 6, name="tokens")(x))
    value = layers.GlobalAveragePooling1D(name="pool")(layers.Dense(4, activation="relu", name="dense")(value))
    return models.randomize(keras.Model(x, layers.Dense(2, name="out")(value)), seed=1)


def test_input_shape_fixes_what_a_model_leaves_open(tmp_path):
    """Occlusion wants to know how many tokens there are, LRP what a layer does with them."""
    model, tokens = open_text(), composites.tokens(3, 7).astype("int32")
    base = np.asarray(model(tokens))
    chosen = base.argmax(1)
    expected = np.zeros((3, 7))
    for place in range(7):
        hidden = tokens.copy()
        hidden[:, place] = 0
        expected[:, place] = (base - np.asarray(model(hidden)))[range(3), chosen]
    for options in ({"input_shape": (7,)}, {}):
        found = innvest_lite.Occlusion(model, **options).analyze(tokens)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    analyzer = innvest_lite.LRP(model, "epsilon", input_shape=(7,))
    assert "places/add" in str(analyzer.plan())
    with pytest.raises(innvest_lite.InvalidInputError, match=r"should have shape \(None, 7\)"):
        analyzer.analyze(tokens[:, :5])
    assert analyzer.get_config()["input_shape"] == (7,)


@pytest.mark.parametrize("shape", [7, (7, 0), (7.5,), "7", {}, [(7,), "x"]])
def test_input_shapes_that_are_none(shape):
    with pytest.raises(innvest_lite.InvalidInputError, match="input_shape should be the shape of a sample"):
        innvest_lite.Gradient(open_text(), input_shape=shape)


def test_patterns_of_a_given_size():
    """The layers that are looked into have patterns, whoever fits them."""
    tokens = composites.tokens(60, 7).astype("int32")
    model = open_text()
    analyzer = innvest_lite.PatternNet(model, input_shape=(7,)).fit(tokens, verbose=0)
    patterns = innvest_lite.fit_patterns(model, tokens, verbose=0, input_shape=(7,))
    assert set(patterns) == {"dense", "pool", "out"}
    again = innvest_lite.PatternNet(model, patterns=patterns, input_shape=(7,), chains=analyzer.chains)
    assert analyzer.analyze(tokens[:3]).shape == again.analyze(tokens[:3]).shape == (3, 7)


def test_patterns_go_with_other_sizes(eager, eager_fits):
    """It would catch a hash of a mean that is part of a gate, and has no pattern in use: its kernel goes by the length."""
    x = keras.Input((None, 4))
    value = layers.Dense(6)(x)
    value = value * ops.rsqrt(ops.mean(ops.square(value), axis=-1, keepdims=True) + 1e-6)
    model = keras.Model(x, layers.Dense(2)(value))
    samples = models.normal(40, 5, 4)
    first = innvest_lite.PatternAttribution(model, input_shape=(3, 4), target=lambda y: y[:, 0, 0])
    short = first.fit(samples[:, :3], verbose=0).analyze(samples[:4, :3])
    longer = innvest_lite.PatternAttribution(
        model, input_shape=(5, 4), target=lambda y: y[:, 0, 0], patterns=first.patterns
    ).analyze(samples[:4])
    # What the first position gives depends on that alone.
    np.testing.assert_allclose(longer[:, :3], short, rtol=0, atol=1e-6 * np.abs(short).max())
    assert not longer[:, 3:].any() and short[:, 0].any()


def test_batchnorm_is_fused_where_sizes_stay_open():
    """How many outputs there are, which decides how its factors are multiplied, is not known there."""
    inputs = keras.Input((None, None, 3))
    x = layers.BatchNormalization()(layers.Conv2D(40, 3, use_bias=False)(inputs))
    model = keras.Model(inputs, layers.Dense(2)(layers.GlobalMaxPooling2D()(layers.ReLU()(x))))
    models.randomize(model, 5)
    images = models.normal(2, 7, 6, 3)
    found = innvest_lite.PatternNet(model).explainer.logits([images])
    np.testing.assert_allclose(found, model(images), rtol=1e-5, atol=1e-6)


def test_attention_takes_the_mask_off_what_it_is_given():
    """In Keras, so that a sum beside it, and all behind, no longer see it; `predict` is what is explained."""
    x = keras.Input((7,), dtype="int32")
    value = layers.Embedding(20, 6, mask_zero=True)(x)
    for _ in range(2):
        attended = layers.MultiHeadAttention(2, 3)(value, value)
        value = layers.LayerNormalization()(layers.Add()([value, attended]))
    model = models.randomize(keras.Model(x, layers.Dense(2)(layers.GlobalAveragePooling1D()(value))), seed=2)
    tokens = np.array([[1, 2, 3, 4, 0, 0, 0], [5, 6, 7, 8, 9, 10, 11]], "int32")
    analyzer = innvest_lite.Occlusion(model)
    expected = model.predict(tokens, verbose=0)
    np.testing.assert_allclose(analyzer.explainer.logits([tf.constant(tokens)]), expected, atol=1e-5)
    hidden = tokens.copy()
    hidden[:, 1] = 0
    effect = expected[:, 1] - model.predict(hidden, verbose=0)[:, 1]
    np.testing.assert_allclose(analyzer.analyze(tokens, target=1)[:, 1], effect, atol=1e-5)
