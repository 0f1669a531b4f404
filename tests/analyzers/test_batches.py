"""Batches: which shapes a compiled program sees, and that what fills up the last batch never comes out."""

import numpy as np
import pytest

from innvest_lite.analyzers.batches import run


class Recorder:
    """A program of two outputs that notes the number of samples of each call."""

    def __init__(self):
        self.sizes = []

    def __call__(self, x, y):
        assert len(x) == len(y)
        self.sizes.append(len(x))
        return [2 * x, x.sum(axis=1) + y]


@pytest.mark.parametrize(
    "samples, batch_size, pad, sizes",
    [
        (10, 4, True, [4, 4, 4]),
        (10, 4, False, [4, 4, 2]),
        (8, 4, True, [4, 4]),
        (5, 4, True, [4, 4]),
        # Fewer samples than a batch: a program of their own size is compiled anyway.
        (3, 4, True, [3]),
        (4, 4, True, [4]),
        # No sample at all goes through as one of zeros.
        (0, 4, True, [1]),
        (0, 4, False, [1]),
    ],
)
def test_sizes_of_batches_and_what_comes_out(samples, batch_size, pad, sizes):
    """A second size would make XLA compile the whole program once more."""
    rng, program = np.random.default_rng(1), Recorder()
    x, y = rng.normal(size=(samples, 3)), rng.normal(size=samples)
    doubled, summed = run(program, [x, y], batch_size, pad)
    assert program.sizes == sizes
    np.testing.assert_array_equal(doubled, 2 * x)
    np.testing.assert_array_equal(summed, x.sum(axis=1) + y)
