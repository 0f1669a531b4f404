"""What holds for all tests: processes, warnings are errors, the same seed; a new process, data sources."""

import gc
import importlib
import os
import pathlib
import subprocess
import sys
import warnings

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# TensorFlow leaves oneDNN off on processors without instructions for neural networks, and has no convolution of channels
# first on a CPU without it.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
if "PYTEST_XDIST_WORKER" in os.environ:
    # There is a worker for each core: threads for all cores in each of them would wait for one another.
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")

_ROOT = pathlib.Path(__file__).resolve().parent.parent
_PATHS = os.pathsep.join(map(str, (_ROOT, _ROOT / "tests" / "support")))
# Seconds.
_PATIENCE = 300
# So many files are run without workers.
_FEW = 3


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config):
    """Keeps a run of a few files in this process: a worker takes longer to start than most files take to run."""
    named = {argument.partition("::")[0] for argument in config.args}
    alone = len(named) <= _FEW and all(map(os.path.isfile, named))
    return 0 if alone else None


def pytest_collectstart():
    """Imports TensorFlow before the first test file does; the process that only hands out tests collects none."""
    with warnings.catch_warnings():
        # What third parties warn of while they are imported is theirs.
        warnings.simplefilter("ignore")
        importlib.import_module("keras")
        importlib.import_module("tensorflow")


def pytest_collection_finish():
    """Takes what the imports made, millions of objects that stay, out of the garbage collector's sight.

    A fit ends with a collection, which would look at all of them again each time: half of a small fit's time.
    """
    gc.collect()
    gc.freeze()


def pytest_configure(config):
    """Makes warnings errors; what stands later wins."""
    config.addinivalue_line("filterwarnings", "error")
    # Modules that third parties import late, inside a test.
    for module in ("tensorflow", "keras.src.backend", "google", "jupyter", "nbformat", "zmq", "tornado", "matplotlib"):
        config.addinivalue_line("filterwarnings", f"ignore::DeprecationWarning:{module}.*")
    # Files that TensorFlow opens and forgets are found whenever the garbage collector comes by.
    config.addinivalue_line("filterwarnings", "ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(autouse=True)
def same_seed():
    """Python's, NumPy's and Keras's global generators start the same way in every test."""
    import keras

    keras.utils.set_random_seed(0)


@pytest.fixture(scope="session")
def python():
    """A function that runs code in a new Python process and returns what it printed; it fails if the process does."""

    def run(code, *arguments):
        environment = {**os.environ, "PYTHONPATH": _PATHS, "TF_CPP_MIN_LOG_LEVEL": "3"}
        command = [sys.executable, "-c", code, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=_PATIENCE)
        assert done.returncode == 0, f"exit {done.returncode}\n{done.stderr[-3000:]}"
        return done.stdout

    return run


@pytest.fixture
def exported(tmp_path):
    """A function that exports an analyzer and loads it as somebody else would."""
    import tensorflow as tf

    # What is loaded owns the variables of its functions, also where a test keeps one of these alone.
    kept = []

    def run(analyzer, **options):
        analyzer.export(tmp_path / "served", **options)
        kept.append(tf.saved_model.load(tmp_path / "served"))
        return kept[-1]

    return run


@pytest.fixture(scope="session")
def feed():
    """A function: samples as one of the data sources that a fit takes, see `feeds.SOURCES`."""
    from feeds import SOURCES

    return lambda source, x: SOURCES[source](x)


@pytest.fixture
def eager(monkeypatch):
    """No compilation: where a program runs once, tracing it takes longer than running its operations one by one."""
    import tensorflow as tf

    from innvest_lite import backend

    evaluated = lambda function, *_: lambda *arrays: function(*map(tf.constant, arrays))  # noqa: E731
    monkeypatch.setattr(backend, "compiled", evaluated)
