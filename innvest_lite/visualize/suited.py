"""Which picture suits a method, and explanations drawn so: inputs as they are, signals as signals, all else as heat maps.

Called by the command line and the callback, with `Analyzer.picture`.
"""

from __future__ import annotations

import types

import numpy as np

from innvest_lite.visualize.pictures import heatmap, project, strength_of

PICTURES = ("heatmap", "centred heatmap", "signal", "image")
"""What an explanation may be shown as: contributions of either sign; the same less their mean; a signal in the input's own
space; the input itself."""


KINDS = types.MappingProxyType({"heatmap": "overlay", "centred heatmap": "overlay", "signal": "signal", "image": "signal"})
"""One of `PICTURES` -> how `visualize.panel` shows it, its `kind=`."""


def centred(picture: str, values: np.ndarray) -> np.ndarray:
    """Values as a panel draws them: less the mean over positions where the picture is a centred heat map.

    Args:
        picture: one of `PICTURES`.
        values: one explanation, `(positions..., channels)`.
    """
    return values - values.mean(axis=tuple(range(values.ndim - 1))) if picture == "centred heatmap" else values


def suited(
    picture: str, values: np.ndarray, pixels: np.ndarray | None = None, percentile: float | None = None
) -> np.ndarray:
    """Pictures of explanations.

    Args:
        picture: one of `PICTURES`, as `Analyzer.picture` says.
        values: explanations, `(batch, height, width, channels)`; a signal has 1 or 3 channels.
        pixels: for "image", the images that were explained, in 0..255, `(batch, height, width, 1 or 3)`.
        percentile: of a heat map's magnitudes, image by image, that gets the full colour; heat maps then have at most 255
            colours, which a PNG file holds in a byte a pixel. None: as `visualize.heatmap`.

    Returns:
        uint8 array `(batch, height, width, 3)`.
    """
    if picture == "image":
        shown = as_bytes(pixels)
        return np.broadcast_to(shown, (*shown.shape[:-1], 3)).copy()
    if picture == "signal":
        return project(values)
    if picture == "centred heatmap":
        values = values - values.mean(axis=(1, 2), keepdims=True)
    if percentile is None:
        return heatmap(values)
    strength = strength_of(np.asarray(values, "float64"), None, percentile, absolute=False)
    # 127 steps on either side of 0 and 0 itself: the 255 colours.
    return heatmap(np.rint(127 * strength)[..., None], limit=127)


def as_bytes(pixels: np.ndarray) -> np.ndarray:
    """Numbers in 0..255 as uint8."""
    return np.rint(np.clip(pixels, 0, 255)).astype(np.uint8)
