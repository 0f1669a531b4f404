"""How the command line shows each method, by its name. Called by `demo`, `analysis` and `reporting`."""

from __future__ import annotations

import numpy as np

import innvest_lite
from innvest_lite.visualize import overlay, panel
from innvest_lite.visualize.suited import KINDS, as_bytes, centred, suited

__all__ = ["as_bytes", "drawn", "pictures_of"]


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


def drawn(
    method: str,
    values: np.ndarray,
    pixels: np.ndarray | None,
    photo: np.ndarray | None,
    *,
    style: str,
    title: str,
    colormap: str,
    unit: str = "",
) -> np.ndarray:
    """The picture of one explanation.

    Args:
        method: its name.
        values: the explanation, `(height, width, channels)`.
        pixels: the image as the model's size has it, in 0..255, of the same shape.
        photo: the photograph, uint8 `(height, width, 3)`, of any size.
        style: "plain", the map alone; "overlay", the map on the photograph; "panel", both beside each other, with title.
        title: of a panel.
        colormap: of maps.
        unit: what the method's attributions are counted in.

    Returns:
        uint8 array `(height, width, 3)`.
    """
    if style == "plain":
        return pictures_of(method, values[None], pixels[None] if pixels is not None else None)[0]
    shown = innvest_lite.ANALYZERS[method].analyzer.picture
    values = centred(shown, values)
    if style == "overlay":
        return overlay(values, photo, colormap)
    return panel(photo, {method: values}, title, unit, colormap, kind=KINDS[shown])
