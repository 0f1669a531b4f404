"""The tetrominoes: drawn by hand, weighed as published, turned as they should be, read as well as the formula says."""

import math

import numpy as np
import pytest
from convolved import smooth, smooth_line
from maps import mask
from means import assert_covariance, assert_mean

from innvest_lite.datasets import tetrominoes
from innvest_lite.datasets.shapes import Canvas
from innvest_lite.errors import InvalidInputError

SCENARIOS, BACKGROUNDS = ("linear", "multiplicative", "rigid", "xor"), ("white", "correlated")
# Read off the papers: (size, distractors, scenario) -> for a white and for a correlated background.
STRENGTHS = {
    (8, False, "linear"): (0.18, 0.0125),
    (8, False, "multiplicative"): (0.7, 0.1),
    (8, False, "rigid"): (0.65, 0.2),
    (8, False, "xor"): (0.35, 0.15),
    (64, False, "linear"): (0.03, 0.02),
    (64, False, "multiplicative"): (0.65, 0.05),
    (64, False, "rigid"): (0.575, 0.375),
    (64, False, "xor"): (0.075, 0.03),
    (8, True, "linear"): (0.2, 0.05),
    (8, True, "multiplicative"): (0.6, 0.4),
    (8, True, "rigid"): (0.6, 0.6),
    (8, True, "xor"): (0.2, 0.2),
}
CELLS = [(*key, background) for key in STRENGTHS for background in BACKGROUNDS]
T = """
........
.#......
.##.....
.#......
........
........
........
........
"""
L = """
........
........
........
........
.....#..
.....#..
.....##.
........
"""
SQUARES = """
........
.aa..cc.
.aa..cc.
........
.....dd.
.bb..dd.
.bb.....
........
"""
TURNS = (("#. ## #.", ".#. ###", ".# ## .#", "### .#."), ("#. #. ##", "..# ###", "## .# .#", "### #.."))


def drawn(text, size, letter="#"):
    """A drawing of 8 x 8 as an image: itself, or enlarged and smoothed."""
    image = mask(text, letter).astype("float64")
    return image if size == 8 else smooth(np.kron(image, np.ones((size // 8, size // 8))), 1.5)


def normal(number):
    """How likely a standard normal number is below another."""
    return (1 + math.erf(number / math.sqrt(2))) / 2


def signed_squares(distractor, size):
    """The squares with the signs that they have in their middles, of height 1, and these signs, (samples, 4)."""
    squares = np.stack([drawn(SQUARES, size, letter) for letter in "abcd"])
    middles = [np.unravel_index(square.argmax(), square.shape) for square in squares]
    signs = np.stack([np.sign(distractor[:, row, column, 0]) for row, column in middles], 1)
    return np.tensordot(signs, squares, 1), signs


def squares_of(part):
    return (np.float64(part) ** 2).sum((1, 2, 3))[:, None]


@pytest.mark.parametrize("size, distractors, scenario, background", CELLS)
def test_the_published_cells(size, distractors, scenario, background):
    count = 4000 if size == 8 else 100
    data = tetrominoes(count, scenario, background, distractors=distractors, size=size, seed=2)
    assert data.signal_strength == STRENGTHS[size, distractors, scenario][BACKGROUNDS.index(background)]
    assert data.x.shape == data.masks.shape == (count, size, size, 1) and data.masks.dtype == bool
    np.testing.assert_array_equal(data.x, data.signal + data.distractor + data.background)
    assert data.distractor.any() == distractors
    assert_mean(data.y[:, None], 0.5)
    # As if divided by the largest number of the whole set, but for how many are drawn.
    assert 0.5 < np.abs(data.x).max() < 1.1
    if scenario != "multiplicative":
        weight, rest = data.signal_strength, (1 - data.signal_strength) / (1 + distractors)
        assert_mean(squares_of(data.signal) / weight**2 - squares_of(data.background) / rest**2, 0)
        if distractors:
            assert_mean(squares_of(data.distractor) / rest**2 - squares_of(data.background) / rest**2, 0)
    # The background says nothing of the class.
    assert_mean((data.y - 0.5)[:, None] * data.background[:, :: size // 4, :: size // 4, 0].reshape(count, -1), 0)


@pytest.mark.parametrize("size", [8, 64])
def test_the_fixed_shapes_are_those_that_are_drawn(size):
    data = tetrominoes(40, size=size, signal_strength=0.5, distractors=True)
    shapes = np.stack([drawn(T, size), drawn(L, size)])
    peak = data.signal.max() / shapes.max()
    np.testing.assert_allclose(data.signal[..., 0], peak * shapes[data.y], atol=1e-6)
    np.testing.assert_array_equal(data.masks, np.broadcast_to((shapes > 0.05).any(0)[..., None], data.x.shape))
    assert data.masks[0].sum() == (8 if size == 8 else 862)
    squares, signs = signed_squares(data.distractor, size)
    assert set(signs.ravel()) == {-1, 1}
    np.testing.assert_allclose(data.distractor[..., 0], data.distractor.max() / squares.max() * squares, atol=1e-6)


def test_squares_have_independent_signs():
    data = tetrominoes(4000, distractors=True, seed=3)
    _, signs = signed_squares(data.distractor, 8)
    assert_mean(signs, 0)
    assert_covariance(signs, np.eye(4))
    assert_mean(signs * (data.y - 0.5)[:, None], 0)


@pytest.mark.parametrize("size", [8, 64])
@pytest.mark.parametrize("distractors", [False, True])
def test_multiplication_dims_the_background_where_the_shape_is(size, distractors):
    data = tetrominoes(60, "multiplicative", size=size, distractors=distractors, signal_strength=0.6, seed=1)
    shapes = np.stack([drawn(T, size), drawn(L, size)])[data.y]
    around = data.background + data.distractor
    np.testing.assert_allclose(data.x[..., 0], (1 - 0.6 * shapes) * around[..., 0], atol=2e-6)
    change = np.float64(data.distractor) / data.background
    squares, _ = signed_squares(change, size)
    np.testing.assert_allclose(change[..., 0], distractors * 0.2 * squares, atol=1e-5)
    if size == 8:
        many = tetrominoes(20_000, "multiplicative", signal_strength=0.6, seed=1)
        pixel, label = np.float64(many.x[:, 2, 2, 0]), many.y == 0
        assert_mean(pixel[label][:, None], 0)
        assert_mean(pixel[label][:, None] ** 2, 0.4**2 * np.mean(pixel[~label] ** 2))


# Scale


def test_the_scale_is_that_of_the_formula():
    """The peak of the signal and of a square, and five standard deviations of a pixel's noise, sum to 1."""
    data = tetrominoes(4000, signal_strength=0.2, distractors=True)
    signal, square, noise = 0.2 / math.sqrt(4), 0.4 / math.sqrt(16), 0.4 / 8
    total = signal + square + 5 * noise
    np.testing.assert_allclose([data.signal.max(), data.distractor.max()], [signal / total, square / total], rtol=1e-6)
    assert_covariance(data.background[..., 0].reshape(4000, -1)[:, :9], (noise / total) ** 2 * np.eye(9))
    plain = tetrominoes(4000, "multiplicative", signal_strength=0.2)
    assert_covariance(plain.background[:, 0, :3, 0], np.eye(3) / 25)


@pytest.mark.parametrize("scenario", ["linear", "rigid", "xor"])
@pytest.mark.parametrize("background", BACKGROUNDS)
def test_all_draws_are_of_one_scale(scenario, background):
    one, other = (tetrominoes(count, scenario, background, seed=count) for count in (30, 300))
    np.testing.assert_array_equal(np.unique(np.abs(one.signal)), np.unique(np.abs(other.signal)))


def test_strengths_at_the_ends():
    silent, alone = (tetrominoes(9, "rigid", "correlated", signal_strength=strength) for strength in (0, 1))
    assert not silent.signal.any() and silent.x.any() and silent.masks.any()
    np.testing.assert_array_equal(alone.x, alone.signal)
    assert alone.x.max() == 1


# Correlated backgrounds


@pytest.mark.parametrize("size, deviation", [(8, 3.0), (64, 10.0)])
def test_the_correlated_background_is_filtered_white_noise(size, deviation):
    """Its covariance is that of a filter of impulses, written again, in proportion to a signal of known weight."""
    data = tetrominoes(600, background="correlated", size=size, signal_strength=0.5, seed=5)
    filters = np.stack([smooth_line(row, deviation) for row in np.eye(size)], 1)
    covariance = filters @ filters.T
    some = np.arange(0, size, size // 8)
    shape = math.sqrt(np.mean([np.sum(drawn(text, size) ** 2) for text in (T, L)]))
    unit = data.signal.max() / max(drawn(T, size).max(), drawn(L, size).max()) * shape / np.trace(covariance)
    row = data.background[:, size // 2, :, 0][:, some]
    expected = unit**2 * covariance[size // 2, size // 2] * covariance[np.ix_(some, some)]
    assert_covariance(row, expected)
    column = data.background[:, :, 0, 0][:, some]
    assert_covariance(column, unit**2 * covariance[0, 0] * covariance[np.ix_(some, some)])
    # The peak of the signal, and five standard deviations of the strongest pixel, sum to 1.
    total = 5 * unit * covariance.diagonal().max() + unit * np.trace(covariance) / shape
    assert total == pytest.approx(1, rel=1e-5)


def test_rows_are_independent():
    data = tetrominoes(4000, "xor", "correlated", seed=7)
    for part in (data.y[:, None] - 0.5, data.background[:, 3, 3], data.signal[:, 2, 1]):
        assert_mean(part[1:] * part[:-1], 0)


# What can be read


def test_the_best_linear_classifier_is_as_good_as_the_formula():
    """Of white noise, the difference of the shapes is the best weight; half its length, in deviations, is what it reads."""
    data = tetrominoes(20_000, signal_strength=0.15, seed=3)
    weight = mask(L).astype(float) - mask(T)
    right = ((data.x[..., 0] * weight).sum((1, 2)) > 0) == data.y
    expected = normal(0.15 / 2 * math.sqrt(8) / 2 / (0.85 / 8))
    assert 0.8 < expected < 0.9
    assert_mean(right[:, None], expected)


@pytest.mark.parametrize("background", BACKGROUNDS)
def test_no_linear_classifier_reads_xor_and_the_product_does(background):
    data = tetrominoes(8000, "xor", background, signal_strength=0.15, seed=4)
    x = np.float64(data.x).reshape(len(data.x), -1)
    for label in (0, 1):
        # The same mean in both classes at every pixel, so that no weight has anything to hold on to.
        assert_mean(x[data.y == label], 0)
    train, test = np.arange(8000).reshape(2, -1)
    weight = np.linalg.lstsq(np.column_stack([x, np.ones(len(x))])[train], data.y[train] - 0.5, rcond=None)[0]
    assert_mean(((x[test] @ weight[:-1] + weight[-1] > 0) == data.y[test])[:, None], 0.5)
    shapes = [mask(T).ravel(), mask(L).ravel()]
    product = np.prod([x[:, shape].sum(1) for shape in shapes], 0)
    if background == "white":
        # Each sign is found with this probability; two wrong ones make a right one.
        single = normal(0.15 / math.sqrt(8) * 2 / (0.85 / 8))
        assert_mean(((product < 0) == data.y)[:, None], single**2 + (1 - single) ** 2)
    signs = [np.sign(np.float64(data.signal).reshape(len(x), -1)[:, shape]) for shape in shapes]
    assert all(np.ptp(sign, 1).max() == 0 for sign in signs)
    np.testing.assert_array_equal(signs[0][:, 0] * signs[1][:, 0], 1 - 2 * data.y)
    assert_mean(np.stack([sign[:, 0] for sign in signs], 1), 0)


# Turned shapes


def cut(picture):
    """The smallest part of a boolean picture that has all of it, and its corner."""
    rows, columns = np.flatnonzero(picture.any(1)), np.flatnonzero(picture.any(0))
    return picture[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], (rows[0], columns[0])


def test_turned_shapes_are_turned_and_go_everywhere():
    data = tetrominoes(8000, "rigid", seed=6)
    assert np.ptp(data.signal[data.masks]) == 0 and not data.signal[~data.masks].any()
    found = {}
    for picture, label in zip(data.masks[..., 0], data.y, strict=True):
        part, corner = cut(picture)
        found.setdefault((label, *map(tuple, part)), []).append(corner)
    expected = {(label, *map(tuple, mask(text))) for label in (0, 1) for text in TURNS[label]}
    assert set(found) == expected and len(expected) == 8
    for (_, *rows), corners in found.items():
        room = np.array([9 - len(rows), 9 - len(rows[0])])
        assert len(set(corners)) == 42 == room.prod()
        assert_mean(np.float64(corners), (room - 1) / 2)
        assert_mean(np.float64(corners) ** 2, (room - 1) * (2 * room - 1) / 6)
    assert_mean(np.array([len(corners) / 1000 for corners in found.values()])[:, None], 1)


def test_turned_shapes_of_64_pixels_are_drawn_in_cells_of_four_and_smoothed():
    data = tetrominoes(60, "rigid", size=64, signal_strength=1, seed=1)
    # A reflecting filter keeps the sum: four cells of 16 pixels.
    unit = data.signal.sum((1, 2, 3), dtype="float64") / 64
    np.testing.assert_allclose(unit, unit[0], rtol=1e-5)
    np.testing.assert_array_equal(data.masks, data.signal > 0.05 * unit[0])
    # What masks leave out.
    assert np.all(squares_of(np.where(data.masks, data.signal, 0)) > 0.998 * squares_of(data.signal))
    pictures = np.float64(data.signal[..., 0]) / unit[0]
    inside = [k for k, picture in enumerate(data.masks[..., 0]) if not framed(picture, 8)]
    assert len(inside) > 15
    turns = [placed_again(pictures[k], data.y[k]) for k in inside[:15]]
    assert set(turns) == {0, 1, 2, 3}
    # Some touch the border, where the filter reflects them.
    assert any(framed(picture, 1) for picture in data.masks[..., 0])


def framed(picture, width):
    """Whether something of a picture is near its border."""
    return picture.sum() != picture[width:-width, width:-width].sum()


def placed_again(picture, label):
    """Which turned shape a picture is: each is drawn where the picture's centre of gravity is, and smoothed again."""
    centre = np.array([(picture * axis).sum() / picture.sum() for axis in np.indices(picture.shape)])
    for turn, text in enumerate(TURNS[label]):
        shape = np.kron(mask(text), np.ones((4, 4)))
        own = np.array([(shape * axis).sum() / shape.sum() for axis in np.indices(shape.shape)])
        row, column = np.rint(centre - own).astype(int)
        image = np.zeros_like(picture)
        image[row : row + len(shape), column : column + shape.shape[1]] = shape
        if np.allclose(smooth(image, 1.5), picture, atol=1e-5):
            return turn
    raise AssertionError("No turned shape looks like this.")


@pytest.mark.parametrize("size, cell", [(8, 1), (16, 4)])
def test_the_expected_norm_of_turned_shapes_is_that_of_all_places(size, cell):
    """Near the border the filter reflects a shape onto itself, so that places differ."""
    sums = []
    for text in (TURNS[0][1], TURNS[1][1]):
        shape = np.kron(mask(text), np.ones((cell, cell)))
        images = np.zeros((*(size + 1 - np.array(shape.shape)), size, size))
        for row, column in np.ndindex(images.shape[:2]):
            images[row, column, row : row + len(shape), column : column + shape.shape[1]] = shape
        smoothed = images if cell == 1 else np.array([smooth(image, 1.5) for image in images.reshape(-1, size, size)])
        sums.append((smoothed**2).sum() / math.prod(images.shape[:2]))
    assert Canvas(size, cell).mean_square() == pytest.approx(np.mean(sums), rel=1e-12)


@pytest.mark.parametrize(
    "options, match",
    [
        ({"scenario": "LIN"}, r"scenario should be one of \('linear', 'multiplicative', 'rigid', 'xor'\), but is 'LIN'"),
        ({"scenario": None}, "scenario should be one of"),
        ({"background": "corr"}, r"background should be one of \('white', 'correlated'\)"),
        ({"distractors": 1}, "distractors should be True or False"),
        ({"size": 16}, "size should be 8 or 64, but is 16"),
        ({"size": 8.0}, r"size should be 8 or 64, but is 8\.0"),
        ({"size": "8"}, "size should be 8 or 64"),
        ({"size": [8]}, "size should be 8 or 64"),
        ({"signal_strength": 1.1}, r"signal_strength should be a number in 0\.\.1, but is 1\.1"),
        ({"signal_strength": -0.1}, "signal_strength should be a number in"),
        ({"signal_strength": np.nan}, "signal_strength should be a number"),
        ({"signal_strength": "strong"}, "signal_strength should be a number"),
        ({"distractors": True, "size": 64}, "No signal strength is published for distractors on 64 x 64 pixels"),
    ],
)
def test_bad_tetrominoes(options, match):
    with pytest.raises(InvalidInputError, match=match):
        tetrominoes(10, **options)
