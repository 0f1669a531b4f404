"""Tokens that an embedding does not know are refused, the last that it knows is explained.

TensorFlow gives zeros or the last row for an unknown token, so that its explanation would be one of nothing.
"""

import keras
import models
import numpy as np
import pytest
from keras import layers

from innvest_lite import InvalidInputError, Occlusion


def text(*sizes, moved=False):
    """A model of five tokens that go into embeddings of these sizes, on the way through a Reshape."""
    x = keras.Input((5,), dtype="int32", name="x")
    tokens = layers.Reshape((5,))(x) if moved else x
    embedded = [layers.Embedding(size, 3)(tokens) for size in sizes]
    value = layers.Add()(embedded) if len(embedded) > 1 else embedded[0]
    return models.randomize(keras.Model(x, layers.Dense(2)(layers.Flatten()(value))), seed=3)


@pytest.mark.parametrize("sizes, moved", [((7,), False), ((7,), True), ((7, 12), False), ((12, 7), True)])
def test_a_token_counts_from_zero_to_one_less_than_the_smallest_vocabulary(sizes, moved):
    analyzer = Occlusion(text(*sizes, moved=moved), 1)
    for token in (7, 8, 11, 12):
        with pytest.raises(InvalidInputError, match=f"holds {token}, but the embedding knows the tokens 0 to 6"):
            analyzer.analyze(np.array([[1, 2, token, 4, 5]]))
    found = analyzer.analyze(np.array([[6, 1, 6, 1, 6]]), target=0)
    assert found.shape == (1, 5) and np.all(found != 0)
