"""How the command line shows each method, by its name. Called by `demo`, `analysis` and `reporting`."""

from __future__ import annotations

import numpy as np

import innvest_lite
from innvest_lite.visualize.suited import as_bytes, suited

__all__ = ["as_bytes", "pictures_of"]


def pictures_of(method: str, values: np.ndarray, pixels: np.ndarray, percentile: float | None = None) -> np.ndarray:
    """Pictures of explanations.

    Args:
        method: its name, one of `innvest_lite.ANALYZERS`.
        values: explanations, `(batch, height, width, channels)` with 1 or 3 channels.
        pixels: the images that were explained, of the same shape, in 0..255.
        percentile: as in `visualize.suited.suited`.

    Returns:
        uint8 array `(batch, height, width, 3)`.
    """
    return suited(innvest_lite.ANALYZERS[method].analyzer.picture, values, pixels, percentile)
