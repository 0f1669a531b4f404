"""Random numbers: the published vectors of Threefry, the distributions, and what they depend on."""

import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from innvest_lite import draws

KEYS = np.array([[0, place, number] for place in range(40) for number in range(50)], "int32")


@pytest.mark.parametrize(
    "key, counter, expected",
    [
        # The known answers that come with Random123, the authors' library, for 20 rounds.
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((0xFFFFFFFF,) * 2, (0xFFFFFFFF,) * 2, (0x1CB996FC, 0xBB002BE7)),
        ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_known_answers(key, counter, expected):
    words = (ops.convert_to_tensor([word], "uint32") for word in (*key, *counter))
    assert tuple(int(word[0]) for word in draws._threefry(*words)) == expected


@pytest.mark.parametrize("shape", [(1,), (5,), (7, 5, 2)])
def test_distributions(shape):
    x = ops.convert_to_numpy(draws.uniform(shape, 3, KEYS)).astype("float64")
    deviation = 1 / np.sqrt(x.size)
    assert x.shape == (len(KEYS), *shape) and x.min() >= 0 and x.max() < 1
    assert abs(x.mean() - 1 / 2) < 4 * deviation * np.sqrt(1 / 12)
    # Every tenth has its share.
    assert np.abs(np.histogram(x, 10, (0, 1))[0] / x.size - 0.1).max() < 4 * deviation * 0.3
    x = ops.convert_to_numpy(draws.normal(shape, 3, KEYS)).astype("float64")
    assert x.shape == (len(KEYS), *shape) and np.all(np.isfinite(x))
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs((x**power).mean() - moment) < 4 * deviation * np.sqrt(variance)


def test_the_rarest_bits_are_numbers_too(monkeypatch):
    """A radius of 0 has a logarithm, and so has the largest."""
    ends = ops.convert_to_tensor([[0, 2**32 - 1]], "uint32")
    monkeypatch.setattr(draws, "_bits", lambda *_: (ends, ops.zeros_like(ends)))
    np.testing.assert_allclose(draws.normal((2,), 0, KEYS[:1]), [[0, np.sqrt(48 * np.log(2))]], rtol=1e-6)


def test_neighbours_are_unrelated():
    """Rows of neighbouring keys, neighbouring seeds, and numbers side by side in a row."""
    x, y = (ops.convert_to_numpy(draws.normal((20,), seed, KEYS)) for seed in (3, 4))
    for one, two in ((x[1:], x[:-1]), (x[50:], x[:-50]), (x[:, 1:], x[:, :-1]), (x, y)):
        assert abs(np.corrcoef(one.ravel(), two.ravel())[0, 1]) < 4 / np.sqrt(one.size)


@pytest.mark.parametrize("draw", [draws.normal, draws.uniform])
def test_a_row_depends_on_its_keys_and_the_seed(draw):
    rows = ops.convert_to_numpy(draw((3, 2), 5, KEYS))
    np.testing.assert_array_equal(ops.convert_to_numpy(draw((3, 2), 5, KEYS[::-7])), rows[::-7])
    assert len(np.unique(rows[:, 0, 0])) > 0.99 * len(rows)
    for seed in (4, 5 + 2**32, 5 + 2**63):
        assert not np.any(ops.convert_to_numpy(draw((3, 2), seed, KEYS)) == rows)


@pytest.mark.slow
def test_compiled_or_not():
    def drawn(keys):
        return draws.uniform((3, 5), 3, keys), draws.normal((3, 5), 3, keys)

    uniform, normal = drawn(KEYS)
    compiled = tf.function(drawn, jit_compile=True)(ops.convert_to_tensor(KEYS))
    np.testing.assert_array_equal(compiled[0], uniform)
    np.testing.assert_allclose(compiled[1], normal, atol=2e-6)


def test_a_shape_that_is_known_late():
    @tf.function(input_signature=[tf.TensorSpec((), "int32")])
    def late(size):
        return draws.uniform((size, 2), 3, KEYS)

    for size in (3, 5):
        np.testing.assert_array_equal(late(size), draws.uniform((size, 2), 3, KEYS))
