"""The plain gradient as a contestant of `scripts/benchmarks/race.py`: one `tf.function`, one tape, no package."""

import contextlib

import keras
import tensorflow as tf
from common.measuring import plain_gradient
from keras_models import built
from worker import serve


@contextlib.contextmanager
def explaining(model, method, x):
    """The call to time; there is only one method."""
    yield plain_gradient(built(model), x)


if __name__ == "__main__":
    serve(explaining, {"gradient": ""}, {"tensorflow": tf.__version__, "keras": keras.__version__})
