"""Models of text: what a token is, whatever dtype its Input has."""

import keras
import models
import numpy as np
import pytest
from comparing import offenders, refusals
from keras import layers

import innvest_lite
from innvest_lite import InvalidInputError, create_analyzer

TOKENS = np.array([[1, 2, 3, 9, 0], [4, 4, 7, 8, 2]])
METHODS = {
    **dict.fromkeys(("gradient", "input_t_gradient", "lrp.epsilon", "deep_taylor"), {}),
    "integrated_gradients": {"steps": 3},
    "smoothgrad": {"augment_by_n": 3},
    "occlusion": {"window": 1},
    "rise": {"masks": 5},
}


def text(dtype, mask=False):
    """Keras's `Input` is of float32 where nothing else is said."""
    x = keras.Input((5,), dtype=dtype)
    value = layers.Dense(4, activation="relu")(layers.Embedding(10, 3, mask_zero=mask)(x))
    model = models.randomize(keras.Model(x, layers.Dense(2, name="out")(layers.GlobalAveragePooling1D()(value))), seed=3)
    # Deep Taylor explains what is positive.
    model.get_layer("out").bias.assign([5, 5])
    return model


@pytest.mark.slow
@pytest.mark.parametrize("mask", [False, True])
def test_an_input_of_floats_is_one_of_tokens_all_the_same(mask, eager):
    def is_the_same(name):
        one, two = (create_analyzer(name, text(dtype, mask), **METHODS[name]) for dtype in ("int32", "float32"))
        found = two.analyze(TOKENS.astype("float32"), target=1)
        np.testing.assert_array_equal(found, one.analyze(TOKENS, target=1))
        assert found.shape == (2, 5) and np.any(found)

    assert offenders(is_the_same, METHODS) == {}


NO_TOKENS = {
    "too large": ([[99, 2, 3, 1, 1]], "holds 99, but the embedding knows the tokens 0 to 9"),
    "negative": ([[-1, 2, 3, 1, 1]], "holds -1, but the embedding knows the tokens 0 to 9"),
    "beyond 32 bits": ([[2**32 + 1, 2, 3, 1, 1]], "but the embedding knows"),
    "a fraction": ([[1.5, 2, 3, 1, 1]], "holds fractions, where the model takes whole numbers"),
}


@pytest.mark.parametrize("dtype", ["int32", "float32"])
def test_what_is_no_token(dtype):
    analyze = innvest_lite.Gradient(text(dtype)).analyze
    uses = {name: (lambda x=x: analyze(np.array(x)), message) for name, (x, message) in NO_TOKENS.items()}
    assert refusals(uses, InvalidInputError) == {}


@pytest.mark.parametrize("value", [1.5, 77, -1])
def test_references_and_fills_are_tokens(value):
    with pytest.raises(InvalidInputError, match="reference_inputs holds"):
        innvest_lite.IntegratedGradients(text("int32"), 3, reference_inputs=value)
    with pytest.raises(InvalidInputError, match="fill holds"):
        innvest_lite.Occlusion(text("int32"), 1, fill=value)
    with pytest.raises(InvalidInputError, match="holds"):
        innvest_lite.IntegratedGradients(text("int32"), 3, reference_inputs=np.full(5, value))


def test_numbers_that_feed_more_than_an_embedding_stay_numbers(eager):
    x = keras.Input((5,))
    value = layers.Concatenate()([layers.Flatten()(layers.Embedding(10, 3)(x)), layers.Dense(4)(x)])
    model = models.randomize(keras.Model(x, layers.Dense(2)(value)), seed=5)
    assert np.any(innvest_lite.Gradient(model).analyze(TOKENS + 0.25))
