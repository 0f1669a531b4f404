"""Statistics in parts: merged, continued from a checkpoint, refused where they do not belong together."""

import os
import subprocess
import sys

import keras
import models
import numpy as np
import pytest
from fits import SAMPLES, assert_same, data, dense, fit, fit_dense, fitted, statistics, sums

from innvest_lite import PatternStatistics
from innvest_lite.errors import InvalidInputError, PatternMismatchError
from innvest_lite.files import leftovers, locked, replacing
from innvest_lite.patterns import fitter


def test_merged_shards_in_any_order_equal_one_pass(tmp_path, eager_fits):
    whole = sums(statistics(data()))
    for index, cut in enumerate([slice(0, 5), slice(5, 23), slice(23, SAMPLES)]):
        statistics(data()[cut]).save(tmp_path / f"{index}.h5")
    for order in ((0, 1, 2), (2, 0, 1), (1, 2, 0)):
        first, *others = (PatternStatistics.load(tmp_path / f"{index}.h5") for index in order)
        for other in others:
            assert first.merge(other) is first
        assert first.samples == SAMPLES
        assert_same(sums(first), whole, 1e-6)


def test_statistics_give_every_estimator(eager_fits):
    gathered = statistics(data())
    for estimator in ("relu", "linear", "relu.negative"):
        assert_same(gathered.patterns(dense(), estimator), fitted(estimator))
    assert gathered.patterns(dense()).estimator == "relu.rectified"
    with pytest.raises(PatternMismatchError):
        gathered.patterns(models.build("dense", seed=99))


def test_a_checkpoint_continues(feed, tmp_path):
    path = tmp_path / "part.h5"
    statistics(data(), steps=2, checkpoint=path)
    assert (PatternStatistics.load(path).samples, PatternStatistics.load(path).batches) == (16, 2)
    # The steps are those of the whole fit, not of what is left of it.
    assert statistics(data(), steps=3, checkpoint=path).batches == 3
    assert_same(fit_dense(data(), checkpoint=path), fitted())
    assert PatternStatistics.load(path).samples == SAMPLES
    # All is done, so nothing is read or added any more.
    assert_same(fit_dense(data(), checkpoint=path), fitted())
    for source in ("tf.data", "PyDataset", "generator", "list"):
        path = tmp_path / f"{source}.h5"
        fit_dense(data(), steps=2, checkpoint=path)
        assert_same(fit_dense(feed(source, data()), checkpoint=path), fitted())


def test_a_checkpoint_of_other_sums_or_weights_is_refused(tmp_path):
    fit_dense(data(), estimator="linear", checkpoint=tmp_path / "linear.h5", steps=1)
    with pytest.raises(PatternMismatchError, match="sums for linear there, .*sums for linear and relu here"):
        fit_dense(data(), checkpoint=tmp_path / "linear.h5")
    fit_dense(data(), checkpoint=tmp_path / "relu.h5", steps=1)
    with pytest.raises(PatternMismatchError, match="different models or weights cannot be merged; they differ at .*first"):
        fit(models.build("dense", seed=99), data(), checkpoint=tmp_path / "relu.h5")


@pytest.mark.slow
def test_statistics_of_different_models_are_not_merged(eager_fits):
    model = models.build("dense")
    one, kept = statistics(data(), model), sums(statistics(data(), model))
    model.get_layer("second").bias.assign(np.ones(5))
    with pytest.raises(PatternMismatchError, match="cannot be merged; they differ at second\\.$"):
        one.merge(statistics(data(), model))
    with pytest.raises(PatternMismatchError, match="differ at .*conv"):
        one.merge(statistics(models.normal(8, 5, 2), models.case("sequential").model))
    assert_same(sums(one), kept, 0)


# Checkpoints ---------------------------------------------------------------------------------------------------------

SOURCES = ("array", "list", "generator", "tf.data", "PyDataset")


@pytest.mark.parametrize("source", SOURCES)
def test_a_finished_checkpoint_counts_its_batches_and_says_that_nothing_was_added(source, feed, tmp_path, caplog):
    path, x = tmp_path / "part.h5", data()[:32]
    first = fit_dense(feed(source, x), checkpoint=path)
    assert (PatternStatistics.load(path).samples, PatternStatistics.load(path).batches) == (32, 4)
    assert "nothing was added" not in caplog.text
    again = fit_dense(feed(source, x), checkpoint=path)
    assert f"{path} already holds all 4 batches" in caplog.text and "nothing was added" in caplog.text
    assert (PatternStatistics.load(path).samples, PatternStatistics.load(path).batches) == (32, 4)
    for name in first:
        np.testing.assert_array_equal(again[name], first[name])


class LostError(Exception):
    """The machine is gone."""


class Lose(keras.callbacks.Callback):
    """Ends a fit in the middle, after so many batches."""

    def __init__(self, batches):
        super().__init__()
        self._batches = batches

    def on_train_batch_end(self, batch, logs=None):
        if batch + 1 == self._batches:
            raise LostError


_QUICK = ("generator", 3, 2)
_ALL = [(source, *at) for source in SOURCES for at in ((1, 0), (2, 2), (3, 2), (4, 4))]
_SLOW = [pytest.param(*case, marks=pytest.mark.slow) for case in _ALL if case != _QUICK]


@pytest.mark.parametrize("source, lost, kept", [_QUICK, *_SLOW])
def test_an_interrupted_fit_goes_on_after_its_last_flush(source, lost, kept, feed, tmp_path, monkeypatch, eager_fits):
    monkeypatch.setattr(fitter, "FLUSH_EVERY", 2)
    path = tmp_path / "part.h5"
    with pytest.raises(LostError):
        statistics(feed(source, data()), checkpoint=path, callbacks=[Lose(lost)])
    assert path.exists() == bool(kept)
    assert not kept or PatternStatistics.load(path).batches == kept
    other = data().copy()
    other[: 8 * kept] = 99  # what is in the file already is not read again
    resumed = statistics(feed(source, other), checkpoint=path)
    assert (resumed.samples, resumed.batches) == (SAMPLES, 5)
    assert_same(sums(resumed), sums(statistics(data())), 1e-6)
    assert_same(sums(PatternStatistics.load(path)), sums(resumed), 0)


@pytest.mark.parametrize(
    "place, error, message",
    [
        ("", IsADirectoryError, r"is a folder; name a file in it, such as .*patterns\.h5"),
        ("missing/part.h5", FileNotFoundError, "There is no folder .*missing to write part.h5 to"),
    ],
)
def test_a_checkpoint_that_cannot_be_written_is_refused_before_data_is_read(place, error, message, tmp_path):
    read = []
    with pytest.raises(error, match=message):
        fit_dense((read.append(0) or data()[:8] for _ in range(4)), checkpoint=tmp_path / place)
    assert not read and not os.listdir(tmp_path)


# Two fits, one checkpoint ----------------------------------------------------------------------------------------------
def test_two_fits_do_not_write_one_checkpoint(tmp_path):
    """The second comes while the first writes; it is refused, and the first one's partial file is left alone."""
    path, seen = tmp_path / "run.h5", []

    def batches():
        yield data()[:8]
        with replacing(path) as partial:
            partial.write_text("half of a checkpoint, as the first fit writes it")
            for name in (path, tmp_path / "link.h5", tmp_path / "." / ".." / tmp_path.name / "run.h5"):
                with pytest.raises(InvalidInputError, match="run.h5 is being written by another process or fit: wait"):
                    statistics(data(), checkpoint=name)
            assert partial.read_text().startswith("half")
            seen.append(fit_dense(data(), checkpoint=tmp_path / "run.h6"))
            assert partial.exists(), "another checkpoint's fit leaves it alone, too"
        path.unlink()
        yield data()[8:]

    os.symlink(path, tmp_path / "link.h5")
    assert statistics(batches(), checkpoint=path).samples == SAMPLES
    assert_same(seen[0], fitted("relu.rectified"))
    assert {file.name for file in tmp_path.iterdir()} == {"run.h5", "run.h6", "link.h5"}, "no lock remains"


HOLDER = """
import sys
from innvest_lite.files import locked
with locked(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_another_process_is_noticed_and_a_killed_one_holds_nothing(tmp_path):
    path = tmp_path / "run.h5"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], env=environment, **streams) as holder:
        assert holder.stdout.readline() == "held\n"
        (tmp_path / f".run.h5-{'0' * 32}.partial").write_text("its")
        with pytest.raises(InvalidInputError, match="another process"):
            statistics(data(), checkpoint=path)
        assert len(leftovers(path)) == 1
        holder.kill()
        holder.wait()
        assert [file.name for file in tmp_path.iterdir() if file.suffix != ".partial"] == [".run.h5-lock"]
        assert statistics(data(), checkpoint=path).samples == SAMPLES
    assert os.listdir(tmp_path) == ["run.h5"], "what the killed one left is gone"


def test_where_there_are_no_locks_nothing_is_taken_away(tmp_path, monkeypatch):
    import fcntl

    def fail(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", fail)
    (tmp_path / f".run.h5-{'0' * 32}.partial").write_text("another's, perhaps")
    assert statistics(data(), checkpoint=tmp_path / "run.h5").samples == SAMPLES
    assert leftovers(tmp_path / "run.h5")


def test_locks_follow_one_another(tmp_path):
    for _ in range(3):
        with locked(tmp_path / "a") as first, locked(tmp_path / "b") as second:
            assert first and second
            with pytest.raises(InvalidInputError), locked(tmp_path / "a"):
                pass
    assert not list(tmp_path.iterdir())
