"""Networks set by hand: they do what is said, and what their masks leave out changes nothing, to the last bit."""

import random

import keras
import numpy as np
import pytest

import innvest_lite
from innvest_lite.datasets import cancelled_channel, coloured_squares, two_places
from innvest_lite.errors import InvalidInputError

RED, WHITE = (1, 0, 0), (1, 1, 1)
OPERATIONS = {"and": np.logical_and, "or": np.logical_or, "xor": np.logical_xor}
SQUARES = [(coloured_squares, {}), (coloured_squares, {"detectors": 2, "size": 12}), (cancelled_channel, {"size": 11})]


def output(known, x):
    return np.asarray(known.model(np.float32(x)))[:, 0]


def windows(channel):
    """All windows of 3 x 3 pixels: (samples, rows, columns, 9)."""
    return np.lib.stride_tricks.sliding_window_view(channel, (3, 3), axis=(1, 2)).reshape(
        *np.array(channel.shape) - (0, 2, 2), 9
    )


def values(rng, shape):
    """Random numbers in 0..1 that no sum rounds."""
    return np.float32(rng.integers(257, size=shape) / 256)


def changed(x, place, value):
    """A copy of one sample per row of `place`, an index of (row, column), with that pixel at a value."""
    copies = np.repeat(x[None], len(place), 0)
    copies[np.arange(len(place)), place[:, 0], place[:, 1]] = value
    return copies


@pytest.mark.parametrize("detectors", [1, 2, 4])
@pytest.mark.parametrize("size", [5, 16])
def test_red_squares_are_counted(detectors, size):
    known = coloured_squares(60, size, detectors, seed=1)
    np.testing.assert_array_equal(output(known, known.x), known.y[:, 0])
    red = np.all(known.x == RED, -1)
    squares = windows(red).all(-1)
    np.testing.assert_array_equal(squares.sum((1, 2)), known.y[:, 0])
    np.testing.assert_array_equal(known.masks, np.repeat(red[..., None], 3, -1))
    # There are squares of all colours, red ones more often than others, and three pixels apart.
    share = red[:, ::5].mean()
    assert size == 5 or np.all(known.x == WHITE, -1).mean() > 0.02
    assert 0.3 < squares.mean() * squares[0].size / (size // 5) ** 2 / 0.3 < 1.7 and 0 < share < 0.3


def test_detectors_that_are_alike_change_nothing():
    one, two = coloured_squares(20, seed=1), coloured_squares(20, detectors=2, seed=1)
    np.testing.assert_array_equal(one.x, two.x)
    x = values(np.random.default_rng(0), (50, 16, 16, 3))
    x[:, 3:6, 3:6] = RED
    np.testing.assert_array_equal(output(one, x), output(two, x))
    assert output(one, x).min() >= 1
    assert [len(np.transpose(known.model.get_weights()[2], (3, 0, 1, 2))) for known in (one, two)] == [1, 2]


@pytest.mark.parametrize("size", [5, 16])
def test_bright_squares_of_the_first_channel_are_counted(size):
    known = cancelled_channel(60, size, seed=1)
    np.testing.assert_array_equal(output(known, known.x), known.y[:, 0])
    bright = known.x[..., 0] == 1
    np.testing.assert_array_equal(windows(bright).all(-1).sum((1, 2)), known.y[:, 0])
    np.testing.assert_array_equal(known.masks, np.stack([bright, np.zeros_like(bright)], -1))
    assert (known.x[..., 1] == 1).any() and not np.array_equal(known.x[..., 1] == 1, bright)


@pytest.mark.parametrize("make, options", SQUARES)
def test_no_pixel_outside_counts_and_every_one_inside_does(make, options, rng):
    known = make(40, seed=2, **options)
    samples = [known.y[:, 0].argmin(), known.y[:, 0].argmax(), 0]
    assert known.y[samples[0]] == 0 or make is cancelled_channel
    for x, mask, y in zip(known.x[samples], known.masks[samples], known.y[samples, 0], strict=True):
        outside, inside = np.argwhere(~mask.any(-1)), np.argwhere(mask)
        # The colour that is looked for is the one most likely to matter.
        for value in (np.eye(x.shape[-1])[0], np.ones(x.shape[-1]), 0, values(rng, (len(outside), x.shape[-1]))):
            np.testing.assert_array_equal(output(known, changed(x, outside, value)), y)
        less = np.repeat(x[None], len(inside), 0)
        less[(np.arange(len(inside)), *inside.T)] = 0.5
        # With oneDNN, TensorFlow's convolution of no samples at all has a wrong shape.
        assert not len(inside) or np.array_equal(output(known, less), np.full(len(inside), y - 0.5))
        # Everything outside at once, as long as no other square comes about.
        random_one = np.where(mask, x, values(rng, x.shape) * 0.25)
        assert output(known, random_one[None])[0] == y


def test_the_second_channel_cancels_out_whatever_it_holds(rng):
    known = cancelled_channel(30, seed=3)
    for channel in (values(rng, (30, 16, 16)), np.ones((30, 16, 16)), rng.integers(-1024, 1024, (30, 16, 16)) / 256):
        x = known.x.copy()
        x[..., 1] = channel
        np.testing.assert_array_equal(output(known, x), known.y[:, 0])
    # What cancels is there: the filters that see it are not 0.
    filters = known.model.layers[0](known.x)
    assert np.asarray(filters)[..., 1:].min() > 0


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("size", [8, 12, 16])
def test_two_places_are_looked_at_and_no_others(operation, size, rng):
    known = two_places(64, operation, size, seed=1)
    first, second = {8: ((0, 0), (4, 4)), 12: ((0, 0), (4, 8)), 16: ((4, 4), (8, 12))}[size]
    patches = [known.x[:, row : row + 4, column : column + 4, 0].mean((1, 2)) for row, column in (first, second)]
    one, other = (patch > 0.3 for patch in patches)
    assert len({*zip(one.tolist(), other.tolist(), strict=True)}) == 4
    said = output(known, known.x)
    np.testing.assert_array_equal(known.y[:, 0], said)
    np.testing.assert_array_equal(said > 0.5, OPERATIONS[operation](one, other))
    # Not too near to a half, nor to where a unit begins.
    assert np.abs(said - 0.5).min() > 0.1 and np.abs(sum(patches) - 1).min() > 0.1
    mask = np.zeros((size, size, 1), bool)
    for row, column in (first, second):
        mask[row : row + 4, column : column + 4] = True
    np.testing.assert_array_equal(known.masks, np.broadcast_to(mask, known.x.shape))
    elsewhere = np.where(known.masks, known.x, rng.normal(0, 100, known.x.shape))
    np.testing.assert_array_equal(output(known, elsewhere), said)
    for row, column in np.argwhere(mask[..., 0]):
        x = known.x.copy()
        x[:, row, column] = 1
        assert np.any(output(known, x) != said)


def test_redundant_evidence_has_no_gradient(eager):
    known = two_places(40, "or")
    gradient = np.abs(innvest_lite.Gradient(known.model).analyze(known.x))
    both = known.y[:, 0] == 1
    assert both.any() and not gradient[both].any()
    np.testing.assert_array_equal(gradient[~both] != 0, known.masks[~both])


@pytest.mark.parametrize("make, options", [*SQUARES, (two_places, {})])
def test_the_gradient_is_not_0_where_the_masks_are_and_only_there(make, options, eager):
    known = make(8, seed=4, **options)
    heat = innvest_lite.Gradient(known.model).analyze(known.x)
    np.testing.assert_array_equal(heat != 0, known.masks)


def test_rules_that_treat_signs_in_two_ways_mark_what_cancels(eager):
    known = cancelled_channel(4, seed=4)
    heat = innvest_lite.create_analyzer("lrp.z_plus", known.model).analyze(known.x)
    assert np.abs(heat[..., 1]).sum() > 0.1 * np.abs(heat).sum()


@pytest.mark.parametrize("make", [coloured_squares, cancelled_channel, two_places])
def test_the_globals_of_keras_are_neither_used_nor_moved(make):
    random.seed(1)
    before = random.getstate()
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    keras.config.set_image_data_format("channels_first")
    try:
        known = make(10)
        np.testing.assert_array_equal(output(known, known.x), known.y[:, 0])
    finally:
        keras.config.set_dtype_policy(policy)
        keras.config.set_image_data_format("channels_last")
    assert random.getstate() == before


@pytest.mark.parametrize(
    "make, options, match",
    [
        (coloured_squares, {"size": 4}, "size should be at least 5, but is 4"),
        (coloured_squares, {"size": 9.0}, "size should be a whole number"),
        (coloured_squares, {"detectors": 0}, "detectors should be a whole number of at least 1"),
        (cancelled_channel, {"size": 1}, "size should be at least 5"),
        (two_places, {"size": 10}, "size should be a multiple of 4, and at least 8, but is 10"),
        (two_places, {"size": 4}, "and at least 8, but is 4"),
        (two_places, {"operation": "nand"}, r"operation should be one of \('and', 'or', 'xor'\), but is 'nand'"),
        (two_places, {"operation": None}, "operation should be one of"),
    ],
)
def test_bad_networks(make, options, match):
    with pytest.raises(InvalidInputError, match=match):
        make(10, **options)
