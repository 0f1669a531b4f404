"""What inputs hold: whole numbers, masks, texts, a fixed number of samples; against tapes and twins of floats."""

import logging

import keras
import numpy as np
import pytest
import tensorflow as tf
from comparing import assert_close, offenders
from keras import layers, ops
from models import normal, randomize

import innvest_lite
from innvest_lite import Gradient, UnsupportedLayerError, create_analyzer

METHODS = {
    **dict.fromkeys(("gradient", "input_t_gradient"), {}),
    "integrated_gradients": {"steps": 3},
    "smoothgrad": {"augment_by_n": 3},
    "vargrad": {"augment_by_n": 3},
    "occlusion": {"window": 2},
    "rise": {"masks": 4},
}

# Whole numbers -------------------------------------------------------------------------------------------------------

PIXELS = np.random.default_rng(0).integers(0, 256, (3, 6, 6, 3)).astype("uint8")
# What the model does with whole numbers first.
FIRST = {
    "rescaling": lambda x: layers.Rescaling(1 / 255)(x),
    "cast": lambda x: ops.cast(x, "float32") / 255,
    "moved, then cast": lambda x: ops.cast(layers.Permute((2, 1, 3))(x), "float32") / 255,
    "flipped": lambda x: layers.Rescaling(1 / 255)(layers.RandomFlip()(x)),
}


def of_pixels(first, dtype):
    x = keras.Input((6, 6, 3), dtype=dtype, name="x")
    value = layers.Flatten()(layers.Conv2D(3, 3, activation="relu")(FIRST[first](x)))
    return randomize(keras.Model(x, layers.Dense(2)(value)), 1)


@pytest.mark.parametrize(
    "first", ["moved, then cast", *(pytest.param(name, marks=pytest.mark.slow) for name in FIRST if "moved" not in name)]
)
def test_whole_numbers_are_explained_as_floats(first, eager):
    whole, floats = of_pixels(first, "uint8"), of_pixels(first, "float32")

    def is_the_same(name):
        one, other = (create_analyzer(name, model, **METHODS[name]) for model in (whole, floats))
        found = one.analyze(PIXELS)
        assert np.any(found)
        assert_close(found, other.analyze(PIXELS.astype("float32")))
        assert_close(one(PIXELS), found)

    assert offenders(is_the_same, METHODS) == {}


# What the model makes of 200 in uint8, and whether that is what it makes of 200.0.
OF_200 = {
    "minus 128": (lambda x: x - 128, 72, True),
    "128 minus": (lambda x: 128 - x, 184, False),
    "times 2": (lambda x: x * 2, 144, False),
    "a sum": (lambda x: x + x, 144, False),
    "moved, then a sum": (lambda x: (lambda y: y + y)(layers.Reshape((1, 6))(x)), 144, False),
    "255 minus, times 2": (lambda x: (255 - x) * 2, 110, True),
    "255 minus": (lambda x: 255 - x, 55, True),
}


def test_whole_numbers_that_leave_their_range_are_no_floats():
    """Of all that uint8 holds: 0 minus 128 is 128 there, too."""
    for name, (build, of_200, alike) in OF_200.items():
        x = keras.Input((6,), dtype="uint8", name="x")
        whole = build(x)
        assert np.all(np.asarray(keras.Model(x, whole)(np.full((1, 6), 200, "uint8"))) == of_200), name
        assert (np.asarray(build(np.float32(200)) if "moved" not in name else 400) == of_200) == alike, name
        model = randomize(keras.Model(x, layers.Dense(2)(layers.Flatten()(ops.cast(whole, "float32") / 255))), 1)
        if name == "255 minus":
            expected = np.tile(-model.layers[-1].get_weights()[0][:, 1] / 255, (3, 1))
            assert_close(Gradient(model).analyze(PIXELS[:, 0, :, 0], target=1), expected)
        else:
            with pytest.raises(UnsupportedLayerError, match="holds whole numbers"):
                Gradient(model).analyze(PIXELS[:, 0, :, 0])


# Masks ---------------------------------------------------------------------------------------------------------------


def with_mask(kind, additive=False):
    """`(model, x, rest)`: features or tokens with a mask of integers; `rest` maps what can be altered to the logits."""
    mask = keras.Input((6,), dtype="int32", name="mask")
    given = keras.Input((6,), dtype="int32", name="tokens") if kind == "tokens" else keras.Input((6, 8), name="features")
    embedding, attention = layers.Embedding(20, 8), layers.MultiHeadAttention(2, 4)
    pool, out = layers.GlobalAveragePooling1D(), layers.Dense(2)

    def rest(h, m):
        if additive:
            h = h + ops.expand_dims((1 - ops.cast(m, "float32")) * -10.0, -1)
            return out(pool(ops.tanh(h)))
        return out(pool(attention(h, h, attention_mask=ops.expand_dims(ops.cast(m, "bool"), 1))))

    model = randomize(keras.Model([given, mask], rest(embedding(given) if kind == "tokens" else given, mask)), 2)
    hidden = np.array([[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1]], "int32")
    x = np.array([[1, 2, 3, 4, 0, 0], [9, 8, 7, 6, 5, 4]], "int32") if kind == "tokens" else normal(2, 6, 8)
    point = embedding(x).numpy() if kind == "tokens" else x
    return model, [x, hidden], lambda h: rest(h, tf.constant(hidden)), point


@pytest.mark.parametrize("kind, additive", [("tokens", False), ("floats", False), ("tokens", True)])
def test_masks_get_zeros_and_the_rest_is_explained(kind, additive, eager):
    model, x, rest, point = with_mask(kind, additive)
    with tf.GradientTape() as tape:
        h = tf.constant(point)
        tape.watch(h)
        total = tf.reduce_sum(tf.reduce_max(rest(h), 1))
    expected = tape.gradient(total, h).numpy()
    found, zeros = Gradient(model).analyze(x)
    assert_close(found, expected.sum(-1) if kind == "tokens" else expected)

    def leaves_the_mask(name):
        found, zeros = create_analyzer(name, model, **METHODS[name]).analyze(x)
        assert found.shape == x[0].shape and np.any(found)
        assert zeros.shape == x[1].shape and not np.any(zeros)

    assert offenders(leaves_the_mask, METHODS) == {}


# Texts and lookups ---------------------------------------------------------------------------------------------------


def with_texts(dtype="string"):
    """A column of words (or numbers) that are looked up, and three numbers."""
    column, numbers = keras.Input((1,), dtype=dtype, name="column"), keras.Input((3,), name="numbers")
    if dtype == "string":
        looked_up = layers.StringLookup(vocabulary=["red", "blue"], output_mode="one_hot")(column)
    else:
        looked_up = layers.IntegerLookup(vocabulary=[3, 5], output_mode="one_hot")(column)
    value = layers.Dense(4, activation="tanh")(layers.Concatenate()([looked_up, numbers]))
    model = randomize(keras.Model([column, numbers], layers.Dense(2)(value)), 3)
    words = np.array([["red"], ["blue"]], dtype=object) if dtype == "string" else np.array([[3], [5]])
    return model, [words, normal(2, 3)]


@pytest.mark.parametrize("dtype", ["string", "int64"])
def test_numbers_beside_what_is_looked_up_are_explained(dtype, caplog, eager):
    model, x = with_texts(dtype)
    with tf.GradientTape() as tape:
        numbers = tf.constant(x[1])
        tape.watch(numbers)
        total = tf.reduce_sum(tf.reduce_max(model([tf.constant(x[0]), numbers]), 1))
    with caplog.at_level(logging.WARNING, "innvest_lite"):
        zeros, found = Gradient(model).analyze(x)
    assert "leaves out 'column'" in caplog.text and len(caplog.records) == 1
    assert_close(found, tape.gradient(total, numbers).numpy())
    assert zeros.shape == (2, 1) and not zeros.any() and zeros.dtype == np.float32
    for name in ("input_t_gradient", "integrated_gradients", "smoothgrad", "occlusion"):
        zeros, found = create_analyzer(name, model, **METHODS[name]).analyze(x)
        assert np.any(found), name
        # Whole numbers can be hidden; texts cannot.
        assert not np.any(zeros) or (dtype != "string" and name == "occlusion"), name


def test_texts_as_numpy_has_them(eager):
    model, (words, numbers) = with_texts()
    expected = Gradient(model).analyze([words, numbers])[1]
    np.testing.assert_array_equal(Gradient(model).analyze([words.astype("U4"), numbers])[1], expected)
    assert [part.shape for part in Gradient(model).analyze([words[:0], numbers[:0]])] == [(0, 1), (0, 3)]
    with pytest.raises(innvest_lite.InvalidInputError, match="'column' should hold texts, but has dtype float64"):
        Gradient(model).analyze([np.ones((2, 1)), numbers])


def test_a_model_of_texts_alone_is_refused():
    words = keras.Input((1,), dtype="string", name="words")
    model = keras.Model(words, layers.Dense(2)(layers.StringLookup(vocabulary=["red"], output_mode="one_hot")(words)))
    with pytest.raises(UnsupportedLayerError, match=r"holds texts(.|\n)*: string_lookup(.|\n)*texts\.split"):
        Gradient(model).analyze(np.array([["red"]], dtype=object))
    with pytest.raises(UnsupportedLayerError, match=r"holds texts(.|\n)*: string_lookup"):
        create_analyzer("integrated_gradients", model)


# A fixed number of samples -------------------------------------------------------------------------------------------


def of_four():
    """The batch stands in the graph: of any other number of samples, `reshape` is an error."""
    x = keras.Input(batch_shape=(4, 6), name="x")
    value = layers.Dense(3)(ops.reshape(layers.Dense(8, activation="relu")(x), (4, 8)))
    return randomize(keras.Model(x, value), 5)


@pytest.mark.parametrize("name", METHODS)
def test_a_fixed_number_of_samples_is_filled_up(name, eager):
    model = of_four()
    free = keras.Sequential([keras.Input((6,)), layers.Dense(8, activation="relu"), layers.Dense(3)])
    free.set_weights(model.get_weights())
    x = normal(6, 6)
    one, other = (create_analyzer(name, each, **METHODS.get(name, {})) for each in (model, free))
    for count in (6, 3):
        assert_close(one.analyze(x[:count], batch_size=5), other.analyze(x[:count]))
    if name == "gradient":
        assert_close(one.check(x).start, other.check(x).start)


# Names ---------------------------------------------------------------------------------------------------------------


def test_names_with_a_leading_underscore(exported):
    x = keras.Input((4,), name="_x")
    value = layers.Dense(3, activation="relu", name="_hidden")(x)
    outputs = [layers.Dense(2, name="_one")(value), layers.Dense(2, name="_two")(value)]
    model, data = randomize(keras.Model(x, outputs), 6), normal(3, 4)
    analyzer = innvest_lite.LRP(model, "epsilon", output="_two")
    heat, kept = analyzer.analyze(data, keep=["_hidden"])
    assert list(kept) == ["_hidden"] and kept["_hidden"].shape == (3, 3)
    assert {row.node for row in analyzer.check(data).rows} >= {"_hidden", "_two"}
    assert_close(exported(analyzer).serve(data)["attributions"], heat)


def test_inputs_with_a_leading_underscore(exported):
    a, b = keras.Input((4,), name="_a"), keras.Input((4,), name="__b")
    model = randomize(keras.Model([a, b], layers.Dense(2, name="_out")(layers.Concatenate(name="_both")([a, b]))), 6)
    data = [normal(3, 4), normal(3, 4, seed=2)]
    for given in (data, dict(zip(("_a", "__b"), data, strict=True))):
        assert len(Gradient(model).analyze(given)) == 2
    results = exported(Gradient(model)).serve(*data)
    found = [tensor for name, tensor in results.items() if name.startswith("attributions")]
    assert len(found) == 2


# Two precisions ------------------------------------------------------------------------------------------------------


QUICK = ("integrated_gradients", "occlusion", "lrp.z_plus", "gradcam")
SLOW = [name for name in (*METHODS, "lrp.epsilon", "lrp.alpha_2_beta_1", "deep_taylor") if name not in QUICK]


@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_float64_beside_float32(name, eager):
    """What stands behind wider layers is widened."""

    def made(*dtypes):
        x = keras.Input((6, 6, 1))
        value = layers.Conv2D(3, 3, activation="relu", dtype=dtypes[0])(x)
        value = layers.Flatten(dtype=dtypes[1])(layers.Conv2D(2, 3, activation="relu", dtype=dtypes[1])(value))
        value = layers.Dense(4, activation="relu", dtype=dtypes[2])(value)
        return randomize(keras.Model(x, layers.Dense(2, dtype=dtypes[3])(value)), 7)

    x, plain = normal(3, 6, 6, 1), made(*["float32"] * 4)
    expected = create_analyzer(name, plain, **METHODS.get(name, {})).analyze(x)
    for dtypes in (("float32", "float32", "float32", "float64"), ("float32", "float64", "float32", "float64")):
        found = create_analyzer(name, made(*dtypes), **METHODS.get(name, {})).analyze(x)
        assert found.dtype == np.float32
        assert_close(found, expected)


# Tokens --------------------------------------------------------------------------------------------------------------


def normalized(positions=False):
    """Layer normalization behind the embedding; `(model, embedding, rest)`."""
    x = keras.Input((8,), dtype="int32")
    embedding, norm, other = layers.Embedding(30, 16), layers.LayerNormalization(), layers.Embedding(8, 16)
    embedded = embedding(x)
    summed = embedded + other(ops.arange(8)) if positions else embedded
    tail = layers.Dense(2)(layers.Flatten()(layers.Dense(5, activation="tanh")(norm(summed))))
    model = keras.Model(x, tail)
    return model, embedding, keras.Model(embedded, tail)


@pytest.mark.parametrize("positions", [False, True])
@pytest.mark.parametrize("name", ["gradient", "smoothgrad", "input_t_gradient"])
def test_sums_that_are_0_by_construction_are_said(name, positions, caplog, eager):
    model, *_ = normalized(positions)
    with caplog.at_level(logging.WARNING, "innvest_lite"):
        create_analyzer(name, model).analyze(np.ones((1, 8), "int32"), batch_size=64)
    said = name != "input_t_gradient"
    assert len(caplog.records) == said and ("sums to 0" in caplog.text) == said


def test_the_norm_of_a_tokens_gradient(caplog, eager):
    model, embedding, rest = normalized()
    tokens = np.random.default_rng(0).integers(1, 30, (2, 8)).astype("int32")
    with tf.GradientTape() as tape:
        point = tf.Variable(embedding(tokens))
        total = tf.reduce_sum(tf.reduce_max(rest(point), 1))
    gradient = tape.gradient(total, point).numpy()
    assert np.abs(gradient.sum(-1)).max() < 1e-5 < np.abs(gradient).max()
    with caplog.at_level(logging.WARNING, "innvest_lite"):
        found = Gradient(model, tokens="norm").analyze(tokens)
        assert_close(found, np.linalg.norm(gradient, axis=-1))
        assert_close(Gradient(model, tokens="norm", postprocess="square").analyze(tokens), (gradient**2).sum(-1))
        quiet = innvest_lite.SmoothGrad(model, 2, noise_scale=0.0, tokens="norm").analyze(tokens)
    assert_close(quiet, np.linalg.norm(gradient, axis=-1))
    assert not caplog.records


def test_no_word_where_tokens_have_a_gradient(caplog):
    x = keras.Input((8,), dtype="int32")
    value = layers.LayerNormalization()(layers.Dense(4)(layers.Embedding(30, 6)(x)))
    with caplog.at_level(logging.WARNING, "innvest_lite"):
        Gradient(keras.Model(x, layers.Dense(2)(layers.Flatten()(value))))
    assert not caplog.records
