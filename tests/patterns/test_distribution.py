"""Fits on several replicas and in several processes: the sums are those of one process."""

import json
import os
import pathlib
import socket
import subprocess
import sys

import keras
import numpy as np
import pytest
from fits import sums
from models import assert_close, normal, randomize

import innvest_lite
from innvest_lite import PatternStatistics

_TESTS = pathlib.Path(__file__).resolve().parent
_PATHS = os.pathsep.join([str(_TESTS.parents[1]), str(_TESTS.parent / "support")])
_PATIENCE = 240
_SAMPLES = 37  # no multiple of anything: the last batch is too small for two replicas


def small(seed=3):
    """A model with a convolution, BatchNormalization and a sum, from weights that every process can make."""
    x = keras.Input((6, 6, 2), name="x")
    value = keras.layers.BatchNormalization(name="norm")(keras.layers.Conv2D(4, 3, padding="same", name="conv")(x))
    value = keras.layers.ReLU()(keras.layers.Add(name="add")([value, keras.layers.Conv2D(4, 1, name="skip")(x)]))
    value = keras.layers.GlobalAveragePooling2D(name="pool")(value)
    return randomize(keras.Model(x, keras.layers.Dense(3, activation="softmax", name="out")(value)), seed)


def samples():
    return normal(_SAMPLES, 6, 6, 2, seed=5)


def batches_of(x, size=8):
    return [x[start : start + size] for start in range(0, len(x), size)]


def sources(x):
    """The same batches as every kind of source."""
    import tensorflow as tf

    return {
        "array": x,
        "generator": iter(batches_of(x)),
        "tf.data": tf.data.Dataset.from_tensor_slices(x).batch(8),
        "list": batches_of(x),
    }


_MIRRORED = """
import sys
import tensorflow as tf
cpu, two = tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(cpu, two)
sys.path.insert(0, sys.argv[1])
import test_distribution as here
import innvest_lite
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
assert strategy.num_replicas_in_sync == 2
with strategy.scope():
    model = here.small()
for name, data in here.sources(here.samples()).items():
    # Outside the scope: the model knows its strategy.
    innvest_lite.fit_statistics(model, data, batch_size=8, verbose=0).save(f"{sys.argv[2]}/{name}.h5")
import numpy as np
weights = np.arange(len(here.samples())) % 3
weighted = innvest_lite.fit_statistics(model, here.samples(), batch_size=8, sample_weight=weights, verbose=0)
weighted.save(f"{sys.argv[2]}/weighted.h5")
with strategy.scope():
    # Fewer samples than replicas.
    innvest_lite.fit_statistics(model, here.samples()[:1], batch_size=1, verbose=0).save(f"{sys.argv[2]}/one.h5")
print("fitted")
"""

_WORKER = """
import sys
import tensorflow as tf
strategy = tf.distribute.MultiWorkerMirroredStrategy()
sys.path.insert(0, sys.argv[1])
import test_distribution as here
import innvest_lite
with strategy.scope():
    model = here.small()
data = here.sources(here.samples())[sys.argv[3]]
path = f"{sys.argv[2]}/run.h5"
statistics = innvest_lite.fit_statistics(model, data, batch_size=8, checkpoint=path, verbose=0)
statistics.save(f"{sys.argv[2]}/result-{strategy.cluster_resolver.task_id}.h5")
shard = innvest_lite.fit_statistics(model, here.samples(), batch_size=8, shard=(1, 2), verbose=0)
shard.save(f"{sys.argv[2]}/shard-{strategy.cluster_resolver.task_id}.h5")
"""


def whole(**options):
    return innvest_lite.fit_statistics(small(), samples(), batch_size=8, verbose=0, **options)


def assert_equal_sums(actual, expected):
    assert (actual.samples, actual.batches) == (expected.samples, expected.batches)
    expected, actual = sums(expected), sums(actual)
    assert list(actual) == list(expected)
    for name, value in expected.items():
        assert_close(actual[name], value, 1e-5)


@pytest.mark.parametrize("strategy", ["MirroredStrategy", "OneDeviceStrategy"])
def test_a_strategy_of_one_replica_equals_none(strategy):
    """Its variables are of another kind all the same."""
    import tensorflow as tf

    with getattr(tf.distribute, strategy)(*(["CPU:0"] if strategy == "OneDeviceStrategy" else [["CPU:0"]])).scope():
        model = small()
    actual = innvest_lite.fit_statistics(model, samples(), batch_size=8, verbose=0)
    assert_equal_sums(actual, whole())
    explained = innvest_lite.PatternAttribution(model, patterns=actual.patterns()).analyze(samples()[:4])
    expected = innvest_lite.PatternAttribution(small(), patterns=whole().patterns()).analyze(samples()[:4])
    assert_close(explained, expected, 1e-4)


def test_two_replicas_equal_one(python, tmp_path):
    assert "fitted" in python(_MIRRORED, _TESTS, tmp_path)
    for name in sources(samples()):
        assert_equal_sums(PatternStatistics.load(tmp_path / f"{name}.h5"), whole())
    one = innvest_lite.fit_statistics(small(), samples()[:1], verbose=0)
    assert_equal_sums(PatternStatistics.load(tmp_path / "one.h5"), one)
    weights = np.arange(_SAMPLES) % 3
    assert_equal_sums(PatternStatistics.load(tmp_path / "weighted.h5"), whole(sample_weight=weights))


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
        command = [sys.executable, "-c", _WORKER, str(_TESTS), str(folder), source]
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
