"""A fit without compilation, for tests of few batches."""

import pytest
import tensorflow as tf

from innvest_lite import backend


@pytest.fixture
def eager_fits(monkeypatch):
    """As `eager`, for fits: where one sees few batches, tracing its program takes longer than running its operations."""

    def program(self, function, *_):
        return lambda arguments: function(*map(tf.constant, arguments[0]))

    monkeypatch.setattr(backend.Replicas, "program", program)
