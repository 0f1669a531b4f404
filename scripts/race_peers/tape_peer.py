"""The plain gradient as a contestant of `scripts/race.py`: one `tf.function`, one tape, no package."""

import contextlib

from benchmark import plain_gradient
from keras_models import built
from worker import serve, versions


@contextlib.contextmanager
def explaining(model, method, x):
    """The call to time; there is only one method."""
    yield plain_gradient(built(model), x)


if __name__ == "__main__":
    serve(explaining, {"gradient": ""}, versions("tensorflow", "keras"))
