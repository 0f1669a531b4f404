"""What holds for all tests: warnings are errors, every test starts from the same seed, and `python` is a new process."""

import os
import pathlib
import subprocess
import sys
import warnings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

with warnings.catch_warnings():
    # What third parties warn of while they are imported is theirs.
    warnings.simplefilter("ignore")
    import keras
    import pytest
    import tensorflow as tf

_ROOT = pathlib.Path(__file__).resolve().parent.parent
# The compiler's way to say "interrupted": no test takes longer.
_PATIENCE = 300


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
    keras.utils.set_random_seed(0)


@pytest.fixture(scope="session")
def python():
    """A function that runs code in a new Python process and returns what it printed; it fails if the process does."""

    def run(code, *arguments):
        environment = {**os.environ, "PYTHONPATH": str(_ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
        command = [sys.executable, "-c", code, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=_PATIENCE)
        assert done.returncode == 0, f"exit {done.returncode}\n{done.stderr[-3000:]}"
        return done.stdout

    return run


@pytest.fixture(scope="session")
def tape_gradient():
    """A function: (gradient, value) of `weight * function(x)`, summed, by an eager tape, not by the library."""

    def gradient(function, x, weight):
        tensors = [tf.convert_to_tensor(array) for array in (x if isinstance(x, list) else [x])]
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            value = function(tensors if isinstance(x, list) else tensors[0])
            total = tf.reduce_sum(value * tf.cast(weight, value.dtype))
        gradients = [None if g is None else g.numpy() for g in tape.gradient(total, tensors)]
        return (gradients if isinstance(x, list) else gradients[0]), value.numpy()

    return gradient
