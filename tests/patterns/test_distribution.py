"""Fits on several replicas and in several processes: the sums are those of one process."""

import functools
import json
import os
import pathlib
import socket
import subprocess
import sys

import pytest
import tensorflow as tf
from distributed import WEIGHTS, fit, samples, small
from fits import sums
from models import assert_close

import innvest_lite
from innvest_lite import PatternStatistics

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_PATHS = os.pathsep.join([str(_ROOT), str(_ROOT / "tests" / "support")])
_PATIENCE = 240
_WORKER = "import sys, distributed; distributed.fit_as_worker(*sys.argv[1:])"


@functools.cache
def whole(**options):
    return fit(small(), samples(), **options)


def assert_equal_sums(actual, expected):
    assert (actual.samples, actual.batches) == (expected.samples, expected.batches)
    expected, actual = sums(expected), sums(actual)
    assert list(actual) == list(expected)
    for name, value in expected.items():
        assert_close(actual[name], value, 1e-5)


@pytest.mark.parametrize("strategy", ["MirroredStrategy", pytest.param("OneDeviceStrategy", marks=pytest.mark.slow)])
def test_a_strategy_of_one_replica_equals_none(strategy, eager):
    """Its variables are of another kind all the same."""
    with getattr(tf.distribute, strategy)(*(["CPU:0"] if strategy == "OneDeviceStrategy" else [["CPU:0"]])).scope():
        model = small()
    actual = fit(model, samples())
    assert_equal_sums(actual, whole())
    explained = innvest_lite.PatternAttribution(model, patterns=actual.patterns()).analyze(samples()[:4])
    expected = innvest_lite.PatternAttribution(small(), patterns=whole().patterns()).analyze(samples()[:4])
    assert_close(explained, expected, 1e-4)


_ALL = ("array", "generator", "tf.data", "list", "one")


@pytest.mark.slow
@pytest.mark.parametrize("names", [("weighted",), _ALL], ids=len)
def test_two_replicas_equal_one(names, python, tmp_path):
    python("import sys, distributed; distributed.fit_on_two_replicas(sys.argv[1], sys.argv[2:])", tmp_path, *names)
    for name in names:
        found = PatternStatistics.load(tmp_path / f"{name}.h5")
        options = {"one": {"steps": 1, "batch_size": 1}, "weighted": {"sample_weight": WEIGHTS}}.get(name, {})
        assert_equal_sums(found, fit(small(), samples(), **options))


def run_workers(folder, source):
    """Starts two workers, waits for them, and returns what each wrote."""
    ports = []
    for _ in range(2):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            ports.append(free.getsockname()[1])
    workers = [f"127.0.0.1:{port}" for port in ports]
    processes = []
    for index in range(2):
        task = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
        environment = {**os.environ, "TF_CONFIG": json.dumps(task), "PYTHONPATH": _PATHS}
        command = [sys.executable, "-c", _WORKER, str(folder), source]
        processes.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True))
    try:
        errors = [process.communicate(timeout=_PATIENCE)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], "\n".join(error[-3000:] for error in errors)
    return [PatternStatistics.load(folder / f"result-{index}.h5") for index in range(2)]


@pytest.mark.slow
@pytest.mark.parametrize("source", ["array", "generator"])
def test_two_workers_equal_one_process(source, tmp_path):
    for result in run_workers(tmp_path, source):
        assert_equal_sums(result, whole())
    parts = [PatternStatistics.load(tmp_path / f"run-worker{index}-of-2.h5") for index in range(2)]
    assert sorted(part.batches for part in parts) == [2, 3]
    assert_equal_sums(parts[0].merge(parts[1]), whole())
    for index in range(2):
        assert_equal_sums(PatternStatistics.load(tmp_path / f"shard-{index}.h5"), whole(shard=(1, 2)))
