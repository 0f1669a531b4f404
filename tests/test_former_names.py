"""What was renamed is understood under its former name for one release, and says so where Python says such things."""

import importlib

import models
import numpy as np
import pytest

import innvest_lite
from innvest_lite import InvalidInputError, metrics
from innvest_lite.cli.parser import build_parser
from innvest_lite.patterns import files

X = models.normal(40, 6)


def fit(**options):
    return innvest_lite.fit_statistics(models.case("dense").model, X, verbose=0, **options)


@pytest.mark.slow
def test_the_kind_linear_is_rectified():
    with pytest.warns(DeprecationWarning, match="'linear' is called 'rectified' now"):
        old = fit().patterns(estimator={"linear": "filter", "output": "relu"})
    new = fit().patterns(estimator={"rectified": "filter", "output": "relu"})
    assert old.estimator == new.estimator == {"rectified": "filter", "output": "relu"}
    assert all(np.array_equal(old[name], new[name]) for name in new)
    with pytest.warns(DeprecationWarning), pytest.raises(InvalidInputError, match="both 'rectified' and its former name"):
        fit(estimator={"linear": "relu", "rectified": "relu"})


def test_files_of_the_kind_linear_are_read(tmp_path, monkeypatch):
    statistics = fit(estimator={"rectified": "relu", "output": "linear"})
    write = files.write

    def as_before(path, kind, version, attributes, groups):
        attributes["estimator"] = attributes["estimator"].replace("rectified", "linear")
        old = [(name, {**a, "kind": a["kind"].replace("rectified", "linear")}, arrays) for name, a, arrays in groups]
        write(path, kind, version, attributes, old)

    monkeypatch.setattr(files, "write", as_before)
    statistics.save(tmp_path / "old.h5")
    found = innvest_lite.PatternStatistics.load(tmp_path / "old.h5")
    assert found.estimator == statistics.estimator and found.facts == statistics.facts


@pytest.mark.slow
def test_exact_is_the_opposite_of_approximate():
    with pytest.warns(DeprecationWarning, match="exact= is called approximate= now"):
        old = fit(estimator="relu", exact=False)
    assert old.facts == fit(estimator="relu", approximate=True).facts != fit(estimator="relu").facts
    with pytest.raises(InvalidInputError, match="approximate should be True or False, but is 'yes'"):
        fit(approximate="yes")


@pytest.mark.parametrize(
    ("former", "present"),
    [
        (("fit", "m.keras", "x.npy", "--out", "p.h5", "--sampled"), ("--approximate",)),
        (("fit", "m.keras", "x.npy", "--out", "p.h5", "--steps", "3"), ("--max-batches", "3")),
        (("evaluate", "m.keras", "x.npy", "--steps", "7"), ("--max-patches", "7")),
        (("report", "m.keras", "photos", "--steps", "7"), ("--max-patches", "7")),
    ],
)
def test_options_of_commands(former, present, capsys):
    kept = former[: -len(present)]
    assert build_parser().parse_args(former) == build_parser().parse_args([*kept, *present])
    with pytest.raises(SystemExit):
        build_parser().parse_args([former[0], "--help"])
    shown = capsys.readouterr().out
    assert present[0] in shown and former[-len(present)] not in shown


@pytest.mark.parametrize(
    ("former", "present"),
    [
        ("innvest_lite.atomic.replacing", "innvest_lite.files.replacing"),
        ("innvest_lite.cli.reports.save_rows", "innvest_lite.cli.results.save_rows"),
        ("innvest_lite.graph.graph.table", "innvest_lite.tables.table"),
        ("innvest_lite.images.preprocess", "innvest_lite.scalings.preprocess"),
        ("innvest_lite.patterns.files.check_folder", "innvest_lite.files.check_output"),
    ],
)
def test_modules(former, present):
    def named(path):
        module, _, name = path.rpartition(".")
        return getattr(importlib.import_module(module), name)

    assert named(former) is named(present)


def test_arguments_by_their_place():
    """`order` of degradation, `neurons` and `on` of signal_quality stood behind the sixth argument."""
    case, x = models.case("dense"), models.normal(20, 6)
    probabilities = case.model
    expected = metrics.degradation(probabilities, None, x, 2, 2, "zero", order="random", seed=3)
    with pytest.warns(DeprecationWarning, match="degradation takes order= by name now"):
        found = metrics.degradation(probabilities, None, x, 2, 2, "zero", "random", seed=3)
    np.testing.assert_array_equal(found.curves, expected.curves)
    parts = [models.normal(30, 6, seed=seed) for seed in (1, 2, 3)]
    with pytest.warns(DeprecationWarning, match="signal_quality takes neurons=, on= by name now"):
        quality = metrics.signal_quality(case.model, *parts, ["filter"], ["first"], 2, "activation")
    assert len(quality.layers["first"].neurons) == 2
    with pytest.raises(TypeError, match="positional"):
        metrics.degradation(probabilities, None, x, 2, 2, "zero", "random", 1)


def test_seeds_by_their_place():
    with pytest.warns(DeprecationWarning, match="signal_distractor takes seed= by name now"):
        found = innvest_lite.datasets.signal_distractor(5, (1.0, 0.0), (1.0, 1.0), 1.0, 3)
    np.testing.assert_array_equal(found.x, innvest_lite.datasets.signal_distractor(5, seed=3).x)
    with pytest.warns(DeprecationWarning, match="suppressor takes seed= by name now"):
        innvest_lite.datasets.suppressor(5, 0.8, 1.0, 3)
    case = models.case("dense")
    result = metrics.degradation(case.model, None, models.normal(20, 6), 2, 2, "zero", order="random")
    with pytest.warns(DeprecationWarning, match="interval takes seed= by name now"):
        assert result.interval(0.9, 50, 3) == result.interval(0.9, 50, seed=3)
