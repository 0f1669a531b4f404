"""How alike two attribution maps are: Spearman's rank correlation and structural similarity, in float64 NumPy.

In: arrays with the samples first. Out: one number per sample. Called by the sanity checks.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from innvest_lite.errors import InvalidInputError
from innvest_lite.options import as_array, finite, positive

# The constants of Wang et al. 2004, in shares of the data range.
_LUMINANCE, _CONTRAST = 0.01, 0.03


def spearman(one: Any, two: Any) -> np.ndarray:
    """Spearman's rank correlation of each pair of samples (doi 10.2307/1412159); ties get the mean of their ranks.

    Args:
        one: an array (samples, ...), each sample a map of any shape.
        two: another of the same shape.

    Returns:
        float64 (samples,), from -1 to 1. A constant map ranks nothing: 0 against a map that is not constant, and 1
        against one that is. NaN where a map holds NaN or infinite values.

    Raises:
        InvalidInputError: the shapes differ, or a map is empty.

    Example:
        >>> spearman([[1.0, 2.0, 3.0]], [[10.0, 30.0, 20.0]])
        array([0.5])
    """
    one, two = (array.reshape(len(array), -1) for array in _pair(one, two))
    return np.array([_correlation(a, b) for a, b in zip(one, two, strict=True)], "float64")


def average_ranks(values: Any) -> np.ndarray:
    """The ranks of the values of a vector, from 1; equal values get the mean of the ranks that they take up.

    Args:
        values: a vector.

    Returns:
        float64, in its shape.

    Example:
        >>> average_ranks([3.0, 1.0, 3.0])
        array([2.5, 1. , 2.5])
    """
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[places.ravel()]


def ssim(one: Any, two: Any, data_range: float | None = None, window: int = 7) -> np.ndarray:
    """Structural similarity of each pair of maps (Wang et al. 2004, equation 13): its mean over sliding windows.

    Means, variances and covariances are those of a uniform window, unbiased; windows lie inside the map. A map with a
    single axis (a table, tokens, a sequence) has one window over all of it. The similarity is a product of one of means and
    one of covariances: a map and its negative may be rated alike where both factors are negative. Spearman's
    correlation tells them apart.

    Args:
        one: an array (samples, positions...), no channels.
        two: another of the same shape.
        data_range: the distance from the least to the largest value possible. None: each map is divided by its own largest
            magnitude first, so that its scale does not matter but its zero does, and the range is 2.
        window: the edge of a window; along an axis that is shorter, the axis.

    Returns:
        float64 (samples,), at most 1; 1 for equal maps, also constant ones. NaN where a map holds NaN or infinite values.

    Raises:
        InvalidInputError: the shapes differ, a map is empty, or an option is out of range.

    Example:
        >>> ssim([[[0.0, 1.0], [2.0, 3.0]]], [[[0.0, 2.0], [4.0, 6.0]]])
        array([1.])
    """
    one, two = _pair(one, two)
    if data_range is None:
        one, two, data_range = _scaled(one), _scaled(two), 2.0
    if finite(data_range, "data_range") <= 0:
        raise InvalidInputError(f"data_range should be above 0, but is {data_range!r}.")
    edge = positive(window, "window")
    edges = [min(edge, size) for size in one.shape[1:]] if one.ndim > 2 else one.shape[1:]
    local = _similarity_of_windows(one, two, edges, data_range)
    return local.reshape(len(one), -1).mean(1)


def _similarity_of_windows(one, two, edges, data_range):
    count = np.prod(edges)
    unbiased = count / max(count - 1, 1)
    first, second = (data_range * share for share in (_LUMINANCE, _CONTRAST))
    mean, other = _means(one, edges), _means(two, edges)
    variances = unbiased * (_means(one**2, edges) - mean**2 + _means(two**2, edges) - other**2)
    covariance = unbiased * (_means(one * two, edges) - mean * other)
    above = (2 * mean * other + first**2) * (2 * covariance + second**2)
    return above / ((mean**2 + other**2 + first**2) * (variances + second**2))


def _means(maps, edges):
    """The means of all windows, one axis after the other."""
    for axis, edge in enumerate(edges, start=1):
        maps = np.lib.stride_tricks.sliding_window_view(maps, edge, axis).mean(-1)
    return maps


def _scaled(maps):
    largest = np.abs(maps).max(tuple(range(1, maps.ndim)), keepdims=True)
    with np.errstate(invalid="ignore"):
        return maps / np.where(largest == 0, 1, largest)


def _correlation(one, two):
    if not (np.isfinite(one).all() and np.isfinite(two).all()):
        return np.nan
    one, two = (ranks - ranks.mean() for ranks in map(average_ranks, (one, two)))
    constant = not one.any(), not two.any()
    if any(constant):
        return float(all(constant))
    return np.clip(one @ two / np.sqrt((one @ one) * (two @ two)), -1, 1)


def _pair(one, two):
    one, two = (as_array(given, "A map") for given in (one, two))
    if one.shape != two.shape or one.ndim < 2 or not all(one.shape[1:]):
        raise InvalidInputError(
            f"Maps should be two arrays of one shape (samples, positions...), but have {one.shape} and {two.shape}."
        )
    return one.astype("float64"), two.astype("float64")
