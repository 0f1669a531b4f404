"""Patterns kept in bfloat16: half the memory, nearly the same explanations, in files too."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from models import assert_close, normal
from registered import model, patterns

from innvest_lite import InvalidInputError, PatternAttribution, PatternNet

X = normal(5, 9, 8, 2)
BOTH = (PatternNet, PatternAttribution)


def half(cls):
    return cls(model(), patterns=patterns(), dtype="bfloat16")


def kernels(analyzer):
    return list(analyzer.weights)[len(analyzer.model.weights) :]


@pytest.mark.parametrize("cls", BOTH)
def test_kernels_of_half_the_size_give_nearly_the_same(cls):
    assert {kernel.dtype for kernel in kernels(half(cls))} == {"bfloat16"}
    assert {kernel.dtype for kernel in kernels(cls(model(), patterns=patterns()))} == {"float32"}
    expected = cls(model(), patterns=patterns()).analyze(X)
    found = half(cls).analyze(X)
    assert found.dtype == np.float32
    assert_close(found, expected, 0.05)
    assert np.abs(found - expected).max() > 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("cls", BOTH)
def test_what_is_computed_is_float32(cls):
    """The values are those of the rounded kernels, to float32's precision."""
    rounded = {name: tf.cast(tf.cast(pattern, "bfloat16"), "float32").numpy() for name, pattern in patterns().items()}
    if cls is PatternNet:
        assert_close(half(cls).analyze(X), cls(model(), patterns=rounded).analyze(X), 1e-6)
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
    assert {kernel.dtype for kernel in kernels(loaded)} == {"bfloat16"}
    np.testing.assert_array_equal(loaded.analyze(X), expected)
    analyzer.export(tmp_path / "served")
    served = tf.saved_model.load(tmp_path / "served")
    assert_close(served.serve(X)["attributions"], expected, 1e-6)


def test_another_dtype():
    with pytest.raises(InvalidInputError, match="dtype should be one of"):
        PatternNet(model(), dtype="float16")
