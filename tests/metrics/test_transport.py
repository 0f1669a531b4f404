"""Distances to the truth, and optimal transport: against loops over all pairs, linear programming, and POT itself."""

import itertools
import math
import sys

import numpy as np
import ot
import pytest
from scipy import optimize

from innvest_lite import InvalidInputError
from innvest_lite.metrics.ground_truth import ground_truth
from innvest_lite.metrics.transport import diagonal, distances_to, earth_movers_distance

SHAPES = [(7,), (1, 5), (5, 1), (4, 3), (3, 2, 4), (2, 3, 2, 2)]


def positions(shape):
    return list(itertools.product(*map(range, shape)))


def some_truth(shape, seed, share=0.3):
    """A mask with true positions and others."""
    mask = np.random.default_rng(seed).random(shape) < share
    mask.flat[0], mask.flat[-1] = True, False
    return mask


def costs(shape, ends):
    return np.array([[math.dist(one, other) for other in ends] for one in positions(shape)])


def by_linear_programming(mass, wanted, apart):
    """The least work, by a solver that knows nothing of transport."""
    rows, columns = apart.shape
    leaves = np.kron(np.eye(rows), np.ones(columns))
    arrives = np.kron(np.ones(rows), np.eye(columns))
    found = optimize.linprog(apart.ravel(), A_eq=np.r_[leaves, arrives], b_eq=np.r_[mass, wanted])
    assert found.success
    return found.fun


@pytest.mark.parametrize("shape", SHAPES)
def test_the_nearest_true_position_is_that_of_a_loop(shape):
    masks = np.stack([some_truth(shape, seed) for seed in range(4)] + [np.arange(np.prod(shape)).reshape(shape) == 3])
    for mask, found in zip(masks, distances_to(masks), strict=True):
        true = [place for place in positions(shape) if mask[place]]
        for place in positions(shape):
            assert found[place] == pytest.approx(min(math.dist(place, other) for other in true), abs=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_diagonal_is_the_largest_distance(shape):
    assert diagonal(shape) == pytest.approx(max(math.dist(*pair) for pair in itertools.product(positions(shape), repeat=2)))


@pytest.mark.parametrize("shape", SHAPES[:5])
def test_the_earth_movers_distance_is_the_least_of_all_plans(shape):
    for seed in range(3):
        generator, mask = np.random.default_rng(seed), some_truth(shape, seed)
        mass = np.abs(generator.normal(size=shape)) * (generator.random(shape) < 0.7)
        mass.flat[-1] = 1
        mass /= mass.sum()
        # To all positions, of which the others want nothing.
        expected = by_linear_programming(mass.ravel(), (mask / mask.sum()).ravel(), costs(shape, positions(shape)))
        assert earth_movers_distance(mass, mask) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
def test_with_free_moves_in_the_truth_each_mass_goes_to_the_nearest(shape):
    """POT, told that moves within the truth cost nothing: the least way may lead through the truth."""
    for seed in range(3):
        mask, places = some_truth(shape, seed), positions(shape)
        maps = np.abs(np.random.default_rng(seed).normal(size=shape)) + 0.01
        apart = costs(shape, places)
        inside = mask.ravel()
        apart[np.ix_(inside, inside)] = 0
        for middle in range(len(places)):
            apart = np.minimum(apart, apart[:, middle, None] + apart[middle])
        wanted = inside / inside.sum()
        work = ot.emd2((maps / maps.sum()).ravel(), wanted, apart)
        expected = 1 - work / math.dist(places[0], places[-1])
        found = ground_truth(maps[None], mask[None])
        assert found.fni_emd[0] == pytest.approx(expected, abs=1e-9)


def test_by_hand():
    mask = np.array([True, False, False, False, True])
    # A half from the middle goes two steps to either side; a quarter of the even spread is missing at the first.
    assert earth_movers_distance(np.array([0.25, 0, 0.25, 0, 0.5]), mask) == pytest.approx(0.5)
    found = ground_truth(np.array([[1.0, 0, 1, 0, 2]]), mask[None], emd=True)
    assert found.emd[0] == found.fni_emd[0] == pytest.approx(1 - 0.5 / 4)
    # All of it at one true position: nothing to pay for where the rest of the truth may be left out.
    found = ground_truth(np.array([[3.0, 0, 0, 0, 0]]), mask[None], emd=True)
    assert (found.emd[0], found.fni_emd[0]) == (pytest.approx(0.5), 1)


def test_without_the_library_its_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ot", None)
    maps, masks = np.ones((1, 3)), np.array([[True, False, False]])
    with pytest.raises(InvalidInputError, match=r"needs POT, which is not installed: pip install 'innvest_lite\[emd\]'"):
        ground_truth(maps, masks, emd=True)
    assert ground_truth(maps, masks).emd is None


def test_the_solver_may_take_the_steps_that_images_need(monkeypatch):
    """POT's own limit, 100,000, ends a map of 100 x 100 positions too early, and says so: its work was 0.5 % too large."""
    solve, limits = ot.emd2, []

    def noting(*given, numItermax):
        limits.append(numItermax)
        return solve(*given, numItermax=numItermax)

    monkeypatch.setattr(ot, "emd2", noting)
    assert earth_movers_distance(np.array([0.5, 0.5]), np.array([True, False])) == 0.5
    assert limits == [10**9]
