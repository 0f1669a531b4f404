"""A small dense model, data for it and fits of it, for the tests of what goes into a fit and what comes out."""

import functools

import models
from loading import load_script
from models import assert_close

import innvest_lite.patterns

SAMPLES = 40


def dense():
    return models.case("dense").model


@functools.cache
def data():
    return models.normal(SAMPLES, 6, seed=11)


@functools.cache
def fitted(estimator="relu.rectified"):
    return innvest_lite.fit_patterns(dense(), data(), estimator, batch_size=8, verbose=0)


def fit(model, source, **options):
    return innvest_lite.fit_patterns(model, source, verbose=0, **{"batch_size": 8, **options})


@functools.cache
def _programs(estimator):
    return innvest_lite.patterns.PatternFits(dense(), estimator)


def fit_dense(source, estimator="relu.rectified", **options):
    """As `fit` of the dense model, with programs that are traced once for all tests: for what hangs on the data alone."""
    return _programs(estimator)(source, verbose=0, **{"batch_size": 8, **options})


def statistics(source, model=None, **options):
    return innvest_lite.fit_statistics(model or dense(), source, verbose=0, **{"batch_size": 8, **options})


def assert_same(actual, expected, tolerance=1e-5):
    assert list(actual) == list(expected)
    for name in expected:
        assert_close(actual[name], expected[name], tolerance)


sums = load_script("common/sums").sums_around_zero
