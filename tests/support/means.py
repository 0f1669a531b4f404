"""Means of random data, held against what they should be, by their standard errors."""

import numpy as np

# Standard errors that a mean may be off by: with some hundred means looked at, and fixed seeds.
ERRORS = 4.5


def assert_mean(values, expected):
    """The means along the first axis, as near as their standard errors let one hope."""
    values = np.float64(values)
    error = values.std(0) / np.sqrt(len(values))
    assert np.all(np.abs(values.mean(0) - expected) <= ERRORS * error + 1e-6), (values.mean(0), expected, error)


def assert_covariance(values, expected):
    centred = np.float64(values) - np.mean(values, 0, "float64")
    assert_mean(centred[:, :, None] * centred[:, None, :], expected)
