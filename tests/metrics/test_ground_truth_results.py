"""What scores against known truth become: intervals, tables, gains sample by sample, seeds; and what is refused."""

import dataclasses
import json

import numpy as np
import pytest
from scipy import stats

from innvest_lite import InvalidInputError
from innvest_lite.metrics import GroundTruth, ground_truth, ground_truth_seeds, ground_truth_table

MASK = np.array([[True, True, False, False, False, False]])
SIGNAL = np.array([[1.0, 2, 0, 0, 0, 0]])


def maps(strength, samples=40, seed=0):
    """Noise with the signal in it; of one seed, the same noise."""
    return strength * SIGNAL + np.random.default_rng(seed).normal(size=(samples, 6))


def results(seed=0, **options):
    """Two methods and a constant map, on the same samples."""
    given = {"weak": maps(0.3, seed=seed), "strong": maps(2, seed=seed), "constant": np.ones((40, 6))}
    return {name: ground_truth(values, MASK, **options) for name, values in given.items()}


# One result -----------------------------------------------------------------------------------------------------------


def test_the_scores_that_there_are():
    bare = results()["weak"]
    assert list(bare.scores) == ["precision", "mass_accuracy", "fni_emd", "auc"]
    full = results(signal=SIGNAL, emd=True)["weak"]
    assert list(full.scores) == ["precision", "mass_accuracy", "emd", "fni_emd", "auc", "signal_correlation"]
    for name, values in full.scores.items():
        assert values.dtype == "float64" and values.shape == (40,) and full.mean[name] == values.mean()


def test_intervals_are_of_means_over_samples():
    found = ground_truth(maps(0.5, 400), MASK)
    for name, values in found.scores.items():
        low, high = found.interval(name, resamples=4000)
        error = values.std() / 20
        np.testing.assert_allclose(
            [low, high], [values.mean() - 1.96 * error, values.mean() + 1.96 * error], atol=0.2 * error
        )
    assert found.interval("auc", seed=1) == found.interval("auc", seed=1) != found.interval("auc", seed=2)
    (low, high), (lower, higher) = found.interval("auc", 0.5), found.interval("auc", 0.99)
    assert lower < low < high < higher


def test_gains_are_paired():
    """A method that is better by a little on each of samples that differ much."""
    values = maps(1)
    weak = ground_truth(values, MASK)
    strong = dataclasses.replace(weak, auc=weak.auc + 0.01)
    assert strong.gain(weak, "auc") == pytest.approx((0.01, 0.01, 0.01))
    assert weak.gain(strong, "auc")[0] == pytest.approx(-0.01) and strong.interval("auc")[0] < weak.interval("auc")[1]
    other = ground_truth(maps(1, seed=1), MASK)
    gains = other.mass_accuracy - weak.mass_accuracy
    mean, low, high = other.gain(weak, "mass_accuracy", resamples=4000)
    error = gains.std() / np.sqrt(40)
    assert mean == pytest.approx(gains.mean())
    np.testing.assert_allclose([low, high], [mean - 1.96 * error, mean + 1.96 * error], atol=0.2 * error)


def test_it_prints_and_goes_to_json():
    found = ground_truth(np.r_[maps(1), np.zeros((2, 6))], MASK, SIGNAL)
    said = str(found)
    low, high = found.interval("precision")
    line = next(line for line in said.splitlines() if line.startswith("precision"))
    numbers = [found.precision.mean(), low, high, found.global_scores.precision[0]]
    assert line.split()[1:] == [f"{number:.3f}" for number in numbers]
    assert (
        "42 samples; chance is 0.333 in precision and mass_accuracy, 0.5 in auc" in said and "constant: 2 of these" in said
    )
    back = json.loads(json.dumps(found.to_dict()))
    for name, values in found.scores.items():
        np.testing.assert_array_equal(back[name], values)
        np.testing.assert_array_equal(back["global_scores"][name], found.global_scores.scores[name])
    assert back["empty"] == [False] * 40 + [True] * 2 and back["chance"] == found.chance.tolist()
    assert back["global_scores"]["global_scores"] is None
    alone = ground_truth(np.ones((2, 3)), [[1, 0, 0], [0, 0, 1]])
    assert alone.to_dict()["global_scores"] is None and "mean map" not in str(alone) and "constant:" not in str(alone)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"score": "recall"}, r"score should be one of \('precision', .*'auc'\), but is 'recall'"),
        ({"score": "emd"}, "score should be one of"),
        ({"score": "auc", "level": 1}, "level should lie between 0 and 1"),
        ({"score": "auc", "resamples": 0}, "resamples"),
        ({"score": "auc", "seed": -1}, "seed"),
    ],
)
def test_bad_intervals(options, message):
    found = results()["weak"]
    with pytest.raises(InvalidInputError, match=message):
        found.interval(**options)
    with pytest.raises(InvalidInputError, match=message):
        found.gain(found, **options)


# Methods compared -----------------------------------------------------------------------------------------------------


def test_the_table_has_the_best_first():
    found = results(signal=SIGNAL)
    table = ground_truth_table(found)
    assert list(table.results) == list(table.to_dict()) == ["strong", "weak", "constant"]
    rows = json.loads(json.dumps(table.to_dict()))
    for name, result in found.items():
        for score, values in result.scores.items():
            low, high = result.interval(score)
            assert rows[name]["local"][score] == {"mean": values.mean(), "low": low, "high": high}
            assert rows[name]["global"][score] == {"mean": result.global_scores.scores[score][0]}
    low, high = found["strong"].interval("auc")
    said = str(table)
    assert f"{found['strong'].auc.mean():.3f} ({low:.3f} to {high:.3f})" in said and "gain" not in said
    assert [line.split()[0] for line in said.splitlines()[2:5]] == ["strong", "weak", "constant"]
    assert "40 samples; chance is 0.333" in said and "bootstrap over samples" in said


def test_the_table_compares_with_a_baseline():
    found = results()
    table = ground_truth_table(found, baseline="constant")
    rows = table.to_dict()
    for name, result in found.items():
        for score in result.scores:
            numbers = rows[name]["local"][score]
            assert (numbers["gain"], numbers["gain_low"], numbers["gain_high"]) == result.gain(found["constant"], score)
            difference = result.global_scores.mean[score] - found["constant"].global_scores.mean[score]
            assert rows[name]["global"][score]["gain"] == pytest.approx(difference)
    said = str(table)
    assert "local, gain over constant" in said and "global, gain over constant" in said


def test_without_one_truth_nothing_is_global():
    masks = MASK.repeat(40, 0)
    masks[0] = ~masks[0]
    table = ground_truth_table({"one": ground_truth(maps(1), masks), "two": ground_truth(maps(2), masks)}, baseline="one")
    assert table.to_dict()["one"]["global"] is None and "global" not in str(table)
    few = ground_truth(maps(1, 5), MASK)
    mixed = ground_truth_table({"one": ground_truth(maps(1), masks), "few": few})
    assert mixed.to_dict()["few"]["global"] is None and "5 to 40 samples; chance is 0.333 to 0.342" in str(mixed)


def test_maps_without_anything_are_counted_in_the_table():
    table = ground_truth_table({"none": ground_truth(np.zeros((3, 6)), MASK), "some": ground_truth(maps(1, 3), MASK)})
    assert "maps that are 0 everywhere and count as constant: 3 of none" in str(table)
    assert "0 everywhere" not in str(ground_truth_table({"some": ground_truth(maps(1, 3), MASK)}))


FEW, OTHER = ground_truth(maps(1, 3), MASK), ground_truth(maps(1), ~MASK)


@pytest.mark.parametrize(
    "given, options, message",
    [
        ({}, {}, "at least one name"),
        ([FEW], {}, "should map"),
        ({"a": 1}, {}, "should map"),
        ({"a": FEW}, {"baseline": "b"}, r"baseline should be one of \['a'\], but is 'b'"),
        ({"a": results()["weak"], "b": FEW}, {"baseline": "b"}, "of the same samples"),
        ({"a": results()["weak"], "b": OTHER}, {"baseline": "b"}, "of the same samples"),
        ({"a": results()["weak"], "b": results(emd=True)["weak"]}, {}, "Only the same scores can be compared"),
    ],
)
def test_bad_comparisons(given, options, message):
    with pytest.raises(InvalidInputError, match=message):
        ground_truth_table(given, **options)


def test_gains_need_a_result():
    with pytest.raises(InvalidInputError, match="baseline should be a GroundTruth, but is None"):
        FEW.gain(None, "auc")


# Seeds ----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tables():
    return [ground_truth_table(results(seed, signal=SIGNAL)) for seed in range(5)]


@pytest.mark.parametrize("scope", ["local", "global"])
def test_each_seed_counts_once(tables, scope):
    joined = ground_truth_seeds(tables, baseline="constant")
    rows = joined.to_dict()
    for name in ("weak", "strong", "constant"):
        for score in ("precision", "mass_accuracy", "fni_emd", "auc", "signal_correlation"):
            each = [table.results[name] for table in tables]
            each = [(result if scope == "local" else result.global_scores).scores[score].mean() for result in each]
            np.testing.assert_allclose(joined.values(name, score, scope), each)
            row = rows[name][scope][score]
            assert row["mean"] == pytest.approx(np.mean(each))
            error = stats.sem(each)
            if error > 1e-12:
                expected = stats.t.interval(0.95, 4, loc=np.mean(each), scale=error)
                assert (row["low"], row["high"]) == pytest.approx(expected)
                assert joined.interval(name, score, scope) == pytest.approx(expected)
                wide = stats.t.interval(0.99, 4, loc=np.mean(each), scale=error)
                assert joined.interval(name, score, scope, 0.99) == pytest.approx(wide)


def test_gains_over_seeds_are_paired(tables):
    joined = ground_truth_seeds(tables, baseline="weak")
    gains = joined.values("strong", "auc") - joined.values("weak", "auc")
    expected = (gains.mean(), *stats.t.interval(0.95, 4, loc=gains.mean(), scale=stats.sem(gains)))
    assert joined.gain("strong", "auc") == pytest.approx(expected)
    row = joined.to_dict()["strong"]["local"]["auc"]
    assert (row["gain"], row["gain_low"], row["gain_high"]) == pytest.approx(expected)
    assert joined.gain("weak", "auc", "global") == (0, 0, 0)


def test_seeds_print_as_tables(tables):
    joined = ground_truth_seeds(tables, baseline="constant")
    said = str(joined)
    assert "5 seeds; 95 % intervals are Student's t over seeds" in said
    assert [line.split()[0] for line in said.splitlines()[2:5]] == list(joined.to_dict()) == ["strong", "weak", "constant"]
    row = joined.to_dict()["strong"]["global"]["auc"]
    assert f"{row['mean']:.3f} ({row['low']:.3f} to {row['high']:.3f})" in said
    assert "gain over constant" in said and "gain" not in str(ground_truth_seeds(tables))
    json.dumps(joined.to_dict())


def test_seeds_whose_truth_differs_have_nothing_global():
    masks = MASK.repeat(40, 0)
    masks[0] = ~masks[0]
    joined = ground_truth_seeds([ground_truth_table({"one": ground_truth(maps(1, seed=seed), masks)}) for seed in (0, 1)])
    assert joined.to_dict()["one"]["global"] is None and "global" not in str(joined)
    with pytest.raises(InvalidInputError, match='nothing "global": the truth differs'):
        joined.values("one", "auc", "global")


def test_bad_seeds(tables):
    other = ground_truth_table({"weak": tables[0].results["weak"]})
    bare = ground_truth_table(results())
    for given, options, message in (
        (tables[:1], {}, "at least two GroundTruthTables"),
        (tables[0], {}, "at least two GroundTruthTables"),
        ([*tables, tables[0].results["weak"]], {}, "at least two GroundTruthTables"),
        ([*tables, other], {}, "should be of the same methods"),
        ([*tables, bare], {}, "Only the same scores"),
        (tables, {"baseline": "none"}, "baseline should be one of"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            ground_truth_seeds(given, **options)
    joined = ground_truth_seeds(tables)
    for given, message in (
        (("other", "auc"), "name should be one of"),
        (("weak", "emd"), "score should be one of"),
        (("weak", "auc", "mean"), "scope should be one of"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            joined.values(*given)
    with pytest.raises(InvalidInputError, match="There is no baseline to compare with"):
        joined.gain("weak", "auc")
    with pytest.raises(InvalidInputError, match="level should lie"):
        joined.interval("weak", "auc", level=2)


def test_results_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        FEW.auc = None
    assert isinstance(FEW, GroundTruth)
