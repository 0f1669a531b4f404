"""The Gaussian filter of images, as a matrix that works on rows and on columns alike; NumPy alone."""

from __future__ import annotations

import numpy as np

_TRUNCATION = 4  # standard deviations, behind which a kernel ends


def gaussian_filter(size: int, deviation: float) -> np.ndarray:
    """The matrix F of a Gaussian filter of `size` values, so that F @ image @ F.T is the image, filtered.

    The kernel exp(-k^2 / (2 deviation^2)) is cut off behind 4 standard deviations and sums to 1. Beyond the border stands
    the reflection of what lies within, the edge's pixel twice, so that a constant image stays as it is. These are SciPy's
    defaults, with which the data of XAI-TRIS is made.

    Args:
        size: of both sides of an image.
        deviation: of the kernel, in pixels.

    Returns:
        float64 `(size, size)`; each row sums to 1.
    """
    reach = int(_TRUNCATION * deviation + 0.5)
    steps = np.arange(-reach, reach + 1)
    kernel = np.exp(-(steps**2) / (2 * deviation**2))
    # Where a pixel beyond the border comes from: reflections repeat after two sizes.
    source = (np.arange(size)[:, None] + steps) % (2 * size)
    source = np.minimum(source, 2 * size - 1 - source)
    matrix = np.zeros((size, size))
    np.add.at(matrix, (np.arange(size)[:, None], source), kernel / kernel.sum())
    return matrix


def filtered(images: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Images `(..., size, size)`, filtered along rows and columns by a matrix, in their own dtype."""
    matrix = matrix.astype(images.dtype)
    return matrix @ images @ matrix.T
