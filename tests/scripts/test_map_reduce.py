"""The example of a map-reduce: its parts, gone on from and merged, are the whole."""

import numpy as np
import pytest
from command_line import MODEL, small_model
from loading import load_script
from models import assert_close

import innvest_lite
from innvest_lite.data import load_digits


@pytest.fixture
def script():
    return load_script("examples/map_reduce")


# Quick is that merged parts are the whole, in the tests of `fit` and `merge`.
@pytest.mark.slow
def test_the_parts_are_the_whole(script, tmp_path, monkeypatch, capsys):
    x = load_digits()[0][:40]
    np.save(tmp_path / "x.npy", x)
    paths = []

    def here(task, parts):
        # Each twice, as an engine does that takes a part for lost; the second finds the first one's file.
        paths.extend(task(index) for index in [*range(parts), *range(parts)])
        return paths[:parts]

    monkeypatch.setitem(script.ENGINES, "processes", here)
    script.main([str(MODEL), str(tmp_path / "x.npy"), str(tmp_path / "p.h5"), "--parts", "2"])
    assert "40 samples in 2 parts" in capsys.readouterr().out
    expected = innvest_lite.fit_patterns(small_model(), x, verbose=0)
    actual = innvest_lite.Patterns.load(tmp_path / "p.h5")
    for name in expected:
        assert_close(actual[name], expected[name], 1e-5)
    assert paths[:2] == paths[2:]
