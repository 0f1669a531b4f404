"""The Gaussian filter, against a plain convolution of padded values and against the formula of its autocovariance."""

import numpy as np
import pytest
from convolved import smooth

from innvest_lite.datasets.smoothing import filtered, gaussian_filter


@pytest.mark.parametrize("size, deviation", [(8, 3.0), (64, 10.0), (64, 1.5), (5, 0.1)])
def test_the_matrix_is_a_convolution_with_reflected_borders(size, deviation, rng):
    image = rng.normal(size=(2, size, size))
    expected = np.array([smooth(one, deviation) for one in image])
    np.testing.assert_allclose(filtered(image, gaussian_filter(size, deviation)), expected, atol=1e-14)
    single = filtered(image.astype("float32"), gaussian_filter(size, deviation))
    assert single.dtype == "float32"
    np.testing.assert_allclose(single, expected, atol=2e-6)


def test_constants_and_sums_stay():
    matrix = gaussian_filter(8, 3.0)
    np.testing.assert_allclose(matrix.sum(1), 1)
    np.testing.assert_allclose(matrix.sum(0), 1)


def test_white_noise_becomes_as_correlated_as_the_formula_says():
    """Two Gaussians of variance s^2 meet in one of 2 s^2: exp(-d^2 / (4 s^2)), away from the border."""
    matrix = gaussian_filter(200, 10.0)
    covariance = matrix @ matrix.T
    distances = np.arange(-40, 41)
    np.testing.assert_allclose(covariance[100, 60:141] / covariance[100, 100], np.exp(-(distances**2) / 400), atol=1e-4)
    np.testing.assert_allclose(covariance[100, 100], 1 / np.sqrt(4 * np.pi * 100), rtol=1e-3)
