"""Scores against known truth: by hand, by loops over positions, pairs and orders; chance; and what is refused."""

import itertools
import math

import numpy as np
import pytest

from innvest_lite import InvalidInputError
from innvest_lite.metrics import ground_truth

# By hand --------------------------------------------------------------------------------------------------------------

TRUTH = np.array([[True, True, False, False, False]])


def scores_of(values, masks=TRUTH, **options):
    found = ground_truth(np.atleast_2d(np.asarray(values, "float64")), masks, **options)
    return {name: score[0] for name, score in found.scores.items()}


@pytest.mark.parametrize(
    "values, precision, mass, auc, nearest",
    [
        ([3, -1, 0, 0, 0], 1, 1, 1, 1),
        # The second place is for one of four ties, of which two are true.
        ([0, 0, 0, 0, 5], (2 / 4) / 2, 0, 2 / 6, 1 - 3 / 4),
        ([1, 0, 1, 0, 0], 0.5, 0.5, (2 + 2 * 0.5 + 0.5) / 6, 1 - 0.5 / 4),
        ([2, 0, 0, -6, 0], 0.5, 0.25, (2 + 2 * 0.5) / 6, 1 - 0.75 * 2 / 4),
        # One of the four ties is taken, of which one is true.
        ([4, 1, 1, 1, 1], (1 + 1 / 4) / 2, 5 / 8, (3 + 1.5) / 6, 1 - (1 + 2 + 3) / 8 / 4),
        ([1, 1, 1, 1, 1], 2 / 5, 2 / 5, 0.5, 1 - 6 / 5 / 4),
        ([0, 0, 0, 0, 0], 2 / 5, 2 / 5, 0.5, 1 - 6 / 5 / 4),
    ],
)
def test_by_hand(values, precision, mass, auc, nearest):
    expected = {"precision": precision, "mass_accuracy": mass, "auc": auc, "fni_emd": nearest}
    assert scores_of(values) == pytest.approx(expected)


def test_a_map_without_anything_counts_as_constant_and_is_told():
    masks = np.array([[True, False, False], [False, True, True]])
    found = ground_truth(np.array([[0.0, 0, 0], [0, 1, 0]]), masks, np.array([[1.0, 0, 0]]), emd=True)
    constant = ground_truth(np.full((2, 3), 7.0), masks, np.array([[1.0, 0, 0]]), emd=True)
    assert found.empty.tolist() == [True, False] and not constant.empty.any()
    for name, values in found.scores.items():
        assert values[0] == pytest.approx(constant.scores[name][0]), name
    assert found.signal_correlation[0] == 0


def test_the_signal_has_a_sign():
    signal = np.array([[1.0, 2, 0, 0, 0]])
    assert scores_of([2, 4, 0, 0, 0], signal=signal)["signal_correlation"] == pytest.approx(1)
    assert scores_of([-2, -4, 0, 0, 0], signal=signal)["signal_correlation"] == pytest.approx(-1)
    # Of magnitudes alone, the other scores cannot tell.
    assert scores_of([-2, -4, 0, 0, 0])["precision"] == 1


# By loops -------------------------------------------------------------------------------------------------------------

SHAPES = {"table": (6,), "series": (7, 2), "image": (4, 5, 3), "volume": (3, 2, 4, 1)}


def slowly(values, inside):
    """Precision over all orders of the ties, mass, and AUC over all pairs, of flat lists."""
    count = sum(inside)
    order = sorted(range(len(values)), key=lambda place: -values[place])
    cut = values[order[count - 1]]
    sure = [place for place in order if values[place] > cut]
    tied = [place for place in order if values[place] == cut]
    choices = list(itertools.combinations(tied, count - len(sure)))
    hits = [sum(inside[place] for place in (*sure, *choice)) for choice in choices]
    pairs = [
        (a, b) for a, i in zip(values, inside, strict=True) for b, j in zip(values, inside, strict=True) if i and not j
    ]
    return {
        "precision": sum(hits) / len(hits) / count,
        "mass_accuracy": sum(a for a, i in zip(values, inside, strict=True) if i) / sum(values),
        "auc": sum(1.0 if a > b else 0.5 if a == b else 0.0 for a, b in pairs) / len(pairs),
    }


def slow_correlation(one, other):
    mean, than = sum(one) / len(one), sum(other) / len(other)
    both = sum((a - mean) * (b - than) for a, b in zip(one, other, strict=True))
    return both / math.sqrt(sum((a - mean) ** 2 for a in one) * sum((b - than) ** 2 for b in other))


@pytest.mark.parametrize("integers", [False, True], ids=["floats", "ties"])
@pytest.mark.parametrize("kind", SHAPES)
def test_all_shapes_are_scored_as_by_a_loop(kind, integers):
    generator, shape = np.random.default_rng(len(kind)), SHAPES[kind]
    maps = generator.normal(size=(5, *shape)) if not integers else generator.integers(-2, 3, (5, *shape))
    grid = shape[:-1] if len(shape) > 1 else shape
    masks = generator.random((5, *grid)) < 0.4
    masks.reshape(5, -1)[:, 0], masks.reshape(5, -1)[:, -1] = True, False
    signal = generator.normal(size=maps.shape)
    found = ground_truth(maps, masks, signal)
    for place in range(5):
        summed = [
            abs(sum(maps[place][each].tolist())) if len(shape) > 1 else abs(maps[place][each]) for each in np.ndindex(grid)
        ]
        summed = [round(float(value), 12) for value in summed]
        expected = slowly(summed, masks[place].ravel().tolist())
        expected["signal_correlation"] = slow_correlation(maps[place].ravel().tolist(), signal[place].ravel().tolist())
        for name, value in expected.items():
            assert found.scores[name][place] == pytest.approx(value, abs=1e-9), (name, place)
        assert found.chance[place] == masks[place].mean()


def test_masks_with_channels_make_each_number_a_position():
    generator = np.random.default_rng(0)
    maps = generator.normal(size=(3, 4, 2))
    masks = generator.random(maps.shape) < 0.5
    masks[:, 0], masks[:, 1] = True, False
    whole = ground_truth(maps, masks)
    flat = ground_truth(maps.reshape(3, 8), masks.reshape(3, 8))
    for name in ("precision", "mass_accuracy", "auc"):
        np.testing.assert_allclose(whole.scores[name], flat.scores[name])
    # A last axis of 1 is one truth for all channels.
    summed, without = (ground_truth(maps, given) for given in (masks[..., :1], masks[..., 0]))
    assert summed.to_dict() == without.to_dict() and not np.allclose(summed.auc, whole.auc)


def test_channels_are_summed_with_their_signs():
    found = ground_truth(np.array([[[5.0, -5], [1, 0], [0, 0]]]), np.array([[False, True, False]]))
    assert found.precision[0] == found.mass_accuracy[0] == 1


def test_one_mask_and_one_signal_for_all_samples():
    generator = np.random.default_rng(0)
    maps, signal = generator.normal(size=(4, 3, 3, 1)), generator.normal(size=(1, 3, 3, 1))
    mask = np.eye(3)[None]
    one = ground_truth(maps, mask, signal, emd=True)
    many = ground_truth(maps, mask.repeat(4, 0).astype(bool), signal.repeat(4, 0), emd=True)
    assert one.to_dict() == many.to_dict()
    for place in range(4):
        alone = ground_truth(maps[place : place + 1], mask, signal, emd=True)
        for name, values in alone.scores.items():
            assert one.scores[name][place] == pytest.approx(values[0]), name


# What does not matter, and chance --------------------------------------------------------------------------------------


def test_scores_follow_samples_and_positions():
    generator = np.random.default_rng(0)
    maps, masks = generator.integers(-3, 4, (6, 9)), generator.random((6, 9)) < 0.4
    masks[:, 0], masks[:, 1] = True, False
    found = ground_truth(maps, masks)
    samples, places = generator.permutation(6), generator.permutation(9)
    mixed = ground_truth(maps[samples][:, places], masks[samples][:, places])
    for name in ("precision", "mass_accuracy", "auc"):
        np.testing.assert_allclose(mixed.scores[name], found.scores[name][samples])
    # Distances know the grid: they stay where it is only turned over.
    turned = ground_truth(maps[:, ::-1], masks[:, ::-1], emd=True)
    np.testing.assert_allclose(turned.fni_emd, found.fni_emd)
    np.testing.assert_allclose(turned.emd, ground_truth(maps, masks, emd=True).emd)


@pytest.mark.parametrize("factor", [-1, 3, 2.0**-1000, 2.0**1000])
def test_scale_and_sign_do_not_matter(factor):
    generator = np.random.default_rng(0)
    maps, masks, signal = generator.normal(size=(4, 5, 2)), generator.random((1, 5)) < 0.5, generator.normal(size=(4, 5, 2))
    found = ground_truth(maps, masks, signal).scores
    scaled = ground_truth(maps * factor, masks, signal * factor).scores
    for name, values in found.items():
        np.testing.assert_allclose(scaled[name], values, rtol=1e-12, err_msg=name)
    largest = np.finfo("float64").max
    assert ground_truth(np.full((2, 3, 2), largest), [[1, 0, 0]]).mass_accuracy == pytest.approx([1 / 3, 1 / 3])


def test_values_that_differ_in_their_last_bit_are_no_ties():
    generator = np.random.default_rng(0)
    values = generator.uniform(0.5, 4, 200)
    maps = np.stack([values, np.nextafter(values, 9)], axis=1)
    largest = np.full((200, 1), 1 / 3 * 14)
    found = ground_truth(np.hstack([maps, largest]), np.array([[False, True, False]]))
    np.testing.assert_array_equal(found.auc, 0.5)


def test_random_maps_get_chance():
    """The mean over 2000 maps, within four standard errors."""
    generator = np.random.default_rng(0)
    masks = np.zeros((1, 8, 8), bool)
    masks[0, 1:4, 1] = masks[0, 2, 2] = masks[0, 4:7, 5] = masks[0, 6, 6] = True
    found = ground_truth(generator.normal(size=(2000, 8, 8, 1)), masks)
    constant = ground_truth(np.ones((1, 8, 8, 1)), masks)
    assert found.chance[0] == constant.precision[0] == constant.mass_accuracy[0] == 8 / 64
    for name in ("precision", "mass_accuracy", "auc", "fni_emd"):
        values = found.scores[name]
        assert abs(values.mean() - constant.scores[name][0]) < 4 * values.std() / np.sqrt(2000), name
    # n = 8 of 64 without replacement: the standard error of a hypergeometric share.
    error = math.sqrt(1 / 8 * 7 / 8 * (56 / 63) / 8 / 2000)
    assert abs(found.precision.mean() - 1 / 8) < 4 * error
    assert abs(found.precision.std() - error * math.sqrt(2000)) < 0.1 * error * math.sqrt(2000)


# Global ---------------------------------------------------------------------------------------------------------------


def test_global_scores_are_those_of_the_mean_of_signed_maps():
    generator = np.random.default_rng(0)
    maps, masks = generator.normal(size=(20, 4, 4, 2)), generator.random((1, 4, 4)) < 0.4
    signal = generator.normal(size=maps.shape)
    found = ground_truth(maps, masks, signal, emd=True).global_scores
    expected = ground_truth(maps.mean(0)[None], masks, signal.mean(0)[None], emd=True)
    assert found.global_scores is None and found.scores.keys() == expected.scores.keys()
    for name, values in expected.scores.items():
        assert found.scores[name].shape == (1,)
        np.testing.assert_allclose(found.scores[name], values, rtol=1e-9, err_msg=name)


def test_what_changes_its_sign_between_samples_is_lost_in_global_scores():
    maps = np.array([[2.0, 5, 0], [2.0, -5, 0]])
    found = ground_truth(maps, [[1, 0, 0]], [[1.0, 0, 0]])
    assert found.precision.tolist() == [0, 0] and found.global_scores.precision.tolist() == [1]
    assert ground_truth(maps[:, 1:], [[1, 0]]).global_scores.empty.tolist() == [True]
    # A signal that cancels leaves nothing to correlate with.
    opposite = np.array([[1.0, 0, 0], [-1, 0, 0]])
    found = ground_truth(maps, [[1, 0, 0]], opposite)
    assert np.isnan(found.global_scores.signal_correlation[0]) and np.isfinite(found.signal_correlation).all()


def test_there_are_no_global_scores_where_the_truth_differs():
    maps = np.ones((2, 3))
    assert ground_truth(maps, [[1, 0, 0], [0, 1, 0]]).global_scores is None
    assert ground_truth(maps, [[1, 0, 0], [1, 0, 0]]).global_scores is not None


def test_samples_far_apart_in_size_do_not_overflow_in_the_mean():
    found = ground_truth(np.array([[1e308, 0, 0], [1e308, 1e308, 0], [1e-308, 0, 1e-308]]), [[1, 0, 0]]).global_scores
    assert found.mass_accuracy[0] == pytest.approx(2 / 3)


# What is refused ------------------------------------------------------------------------------------------------------

IMAGES = np.ones((3, 4, 5, 2))
MASKS = np.tile(np.arange(5) < 2, (3, 4, 1))


@pytest.mark.parametrize(
    "maps, message",
    [
        (np.ones(3), r"attributions should be numbers \(samples, positions..., channels\), but have shape \(3,\)"),
        (np.ones((0, 4)), r"have shape \(0, 4\)"),
        (np.full((3, 4, 5, 2), np.nan), "attributions should be finite, but hold NaN or infinite"),
        (np.full((3, 4, 5, 2), np.inf), "attributions should be finite, but hold NaN or infinite"),
        (np.full((3, 4, 5, 2), "a"), "attributions should be numbers, but are of type <U1"),
        ({"x": IMAGES}, "attributions should be numbers"),
        ([[1, 2], [3]], "attributions cannot be read as an array"),
    ],
    ids=str,
)
def test_bad_attributions(maps, message):
    with pytest.raises(InvalidInputError, match=message):
        ground_truth(maps, MASKS)


def changed(place, value):
    masks = MASKS.copy()
    masks[place] = value
    return masks


@pytest.mark.parametrize(
    "masks, message",
    [
        (MASKS[:2], r"attributions' shape \(3, 4, 5, 2\), or that without the channels; .* but has \(2, 4, 5\)"),
        (MASKS[0], r"one mask for all samples a first axis of 1, as masks\[None\]; but has \(4, 5\)"),
        (MASKS[:, :3], r"has \(3, 3, 5\)"),
        (MASKS[..., None].repeat(3, -1), r"has \(3, 4, 5, 3\)"),
        (True, r"has \(\)"),
        (MASKS * 2, "should be True and False, or 1 and 0"),
        (MASKS * 0.5, "should be True and False, or 1 and 0"),
        (np.where(MASKS, 1, np.nan), "should be True and False, or 1 and 0"),
        (MASKS.astype(str), "should be True and False, or 1 and 0"),
        (
            changed(1, False),
            "The mask of sample 1 has no position in the truth: there is nothing to score. Leave the sample out",
        ),
        (changed(2, True), "The mask of sample 2 has every position in the truth"),
    ],
)
def test_bad_masks(masks, message):
    with pytest.raises(InvalidInputError, match=message):
        ground_truth(IMAGES, masks)


def test_masks_of_a_table_have_its_shape():
    for masks in (np.ones(3), np.ones((3, 1))):
        with pytest.raises(InvalidInputError, match="masks should have the attributions' shape"):
            ground_truth(np.ones((3, 4)), masks)


@pytest.mark.parametrize(
    "signal, message",
    [
        (IMAGES[..., 0], r"signal should have the attributions' shape \(3, 4, 5, 2\), or .* has \(3, 4, 5\)"),
        (IMAGES[:2], r"has \(2, 4, 5, 2\)"),
        (IMAGES * np.nan, "signal should be finite, but hold NaN or infinite"),
        (IMAGES * np.arange(3)[:, None, None, None], "The signal of sample 0 is constant"),
        (IMAGES > 0, "signal should be numbers, but are of type bool"),
        (3, r"signal should be numbers .* shape \(\)"),
    ],
)
def test_bad_signals(signal, message):
    with pytest.raises(InvalidInputError, match=message):
        ground_truth(IMAGES, MASKS, signal)


def test_bad_options():
    with pytest.raises(InvalidInputError, match="emd should be True or False, but is 'yes'"):
        ground_truth(IMAGES, MASKS, emd="yes")


def test_nothing_of_the_caller_is_changed():
    maps, masks, signal = np.zeros((2, 3)), np.array([[1.0, 0, 0], [0, 1, 1]]), np.array([[1.0, 2, 3]])
    kept = [array.copy() for array in (maps, masks, signal)]
    ground_truth(maps, masks, signal, emd=True)
    for array, before in zip((maps, masks, signal), kept, strict=True):
        np.testing.assert_array_equal(array, before)
