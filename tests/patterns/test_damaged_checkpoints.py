"""Checkpoints outlive what happens to processes and disks: SIGKILL at any moment, flipped bits, truncated files."""

import multiprocessing
import os
import signal
import time

import numpy as np
import pytest
from fits import assert_same, sums
from models import normal

from innvest_lite import PatternStatistics
from innvest_lite.errors import CorruptFileError

_BATCHES, _SIZE, _EVERY = 60, 4, 3
_KILLS = 10
_PATIENCE = 120


def _data():
    return normal(_BATCHES * _SIZE, 6, seed=23)


def _batches(counter=None):
    """The data in batches, counted as they are read; slowly, so that there are moments to be killed at."""
    x = _data()
    for start in range(0, len(x), _SIZE):
        if counter is not None:
            counter.value += 1
            time.sleep(0.004)
        yield x[start : start + _SIZE]


def _fit(checkpoint, counter=None):
    import fits

    from innvest_lite.patterns import fitter

    fitter.FLUSH_EVERY = _EVERY
    return fits.statistics(_batches(counter), checkpoint=checkpoint)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    return _fit(tmp_path_factory.mktemp("whole") / "run.h5")


@pytest.fixture(scope="module")
def processes():
    """Processes that have TensorFlow imported, and nothing of it running, when they start."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tensorflow", "keras", "fits", "innvest_lite.patterns"])
    return context


@pytest.mark.slow
def test_a_killed_fit_goes_on(uninterrupted, processes, tmp_path):
    generator = np.random.default_rng(24)
    kept = []
    for number, moment in enumerate(np.sort(generator.integers(1, _BATCHES, _KILLS))):
        path = tmp_path / f"{number}.h5"
        counter = processes.Value("i", 0, lock=False)
        process = processes.Process(target=_fit, args=(path, counter))
        process.start()
        deadline = time.monotonic() + _PATIENCE
        while counter.value < moment and process.is_alive() and time.monotonic() < deadline:
            time.sleep(0.0005)
        time.sleep(generator.uniform(0, 0.02))
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert process.exitcode == -signal.SIGKILL, "it had ended already"
        batches = PatternStatistics.load(path).batches if path.exists() else 0
        kept.append(batches)
        assert batches % _EVERY == 0
        assert batches >= moment - _EVERY - 4, "more was lost than the batches since the last flush, and those read ahead"
        resumed = _fit(path)
        assert (resumed.samples, resumed.batches, resumed.complete) == (_BATCHES * _SIZE, _BATCHES, True)
        assert_same(sums(resumed), sums(uninterrupted), 1e-6)
        assert_same(sums(PatternStatistics.load(path)), sums(uninterrupted), 1e-6)
    assert len(set(kept)) > 3, "the moments were no moments in between"
    assert {file.suffix for file in tmp_path.iterdir()} == {".h5"}, "what the killed left behind is gone"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("damaged") / "run.h5"
    _fit(path)
    return path.read_bytes()


def _refused(path, content):
    path.write_bytes(content)
    with pytest.raises(CorruptFileError):
        PatternStatistics.load(path)
    with pytest.raises(CorruptFileError):
        _fit(path)
    assert path.read_bytes() == content, "what was refused was changed"


@pytest.mark.slow
def test_every_flipped_bit_is_seen(checkpoint, tmp_path):
    generator = np.random.default_rng(25)
    # Half of them in the first block, which holds the checksum itself.
    places = np.concatenate([generator.integers(0, 512, 50), generator.integers(512, len(checkpoint), 50)])
    for place in places:
        content = bytearray(checkpoint)
        content[place] ^= 1 << generator.integers(8)
        _refused(tmp_path / "run.h5", bytes(content))


def test_every_truncation_is_seen(checkpoint, tmp_path):
    lengths = np.random.default_rng(26).integers(1, len(checkpoint), 18)
    for length in (0, *lengths, len(checkpoint) - 1):
        _refused(tmp_path / "run.h5", checkpoint[:length])
    _refused(tmp_path / "run.h5", checkpoint + b"\0")
