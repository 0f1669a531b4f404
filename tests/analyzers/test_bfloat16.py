"""Patterns kept in bfloat16: half the memory, nearly the same explanations, in files too."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from comparing import assert_close
from models import normal
from registered import model, patterns

from innvest_lite import InvalidInputError, PatternAttribution, PatternNet

X = normal(5, 9, 8, 2)
BOTH = (PatternNet, PatternAttribution)


def half(cls):
    return cls(model(), patterns=patterns(), dtype="bfloat16")


def in_half(analyzer):
    """How many of an analyzer's weights, the model's among them, are kept in bfloat16."""
    return [variable.dtype for variable in analyzer.weights].count("bfloat16")


@pytest.mark.parametrize("cls", BOTH)
def test_kernels_of_half_the_size_give_nearly_the_same(cls):
    plain = cls(model(), patterns=patterns())
    assert in_half(half(cls)) == len(patterns()) and in_half(plain) == 0
    expected, found = (np.asarray(analyzer(X)) for analyzer in (plain, half(cls)))
    assert found.dtype == np.float32
    assert_close(found, expected, 0.05)
    assert np.abs(found - expected).max() > 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("cls", BOTH)
def test_what_is_computed_is_float32(cls):
    """The values are those of the rounded kernels, to float32's precision."""
    rounded = {name: tf.cast(tf.cast(pattern, "bfloat16"), "float32").numpy() for name, pattern in patterns().items()}
    if cls is PatternNet:
        assert_close(half(cls)(X), cls(model(), patterns=rounded)(X), 1e-6)
    for name, pattern in half(cls).patterns.items():
        assert pattern.dtype == np.float32
        assert_close(pattern, patterns()[name], 0.01)


@pytest.mark.slow
@pytest.mark.parametrize("cls", BOTH)
def test_saved_and_exported(cls, tmp_path):
    analyzer = half(cls)
    expected = analyzer.analyze(X)
    analyzer.save(tmp_path / "half.keras")
    loaded = keras.saving.load_model(tmp_path / "half.keras")
    assert in_half(loaded) == len(patterns())
    np.testing.assert_array_equal(loaded.analyze(X), expected)
    analyzer.export(tmp_path / "served")
    served = tf.saved_model.load(tmp_path / "served")
    assert_close(served.serve(X)["attributions"], expected, 1e-6)


def test_another_dtype():
    with pytest.raises(InvalidInputError, match="dtype should be one of"):
        PatternNet(model(), dtype="float16")
