"""How the command line shows each method: inputs as they are, PatternNet as a signal, all else as heat maps (RISE centred).

Called by `demo` and `analysis`.
"""

import numpy as np

from innvest_lite.visualize import heatmap, project
from innvest_lite.visualize.pictures import strength_of


def pictures_of(method, values, pixels, percentile=None):
    """Pictures of explanations.

    Args:
        method: its name.
        values: explanations, `(batch, height, width, channels)` with 1 or 3 channels.
        pixels: the images that were explained, of the same shape, in 0..255.
        percentile: of a heat map's magnitudes, image by image, that gets the full colour; heat maps then have at most 255
            colours, which a PNG file holds in a byte a pixel. None: as `visualize.heatmap`.

    Returns:
        uint8 array `(batch, height, width, 3)`.
    """
    if method == "input":
        shown = as_bytes(pixels)
        return np.broadcast_to(shown, (*shown.shape[:-1], 3)).copy()
    if method == "pattern.net":
        return project(values)
    if method == "rise":  # a mean probability, above 0 everywhere: less its mean, it is how much showing a pixel adds
        values = values - values.mean(axis=(1, 2), keepdims=True)
    if percentile is None:
        return heatmap(values)
    strength = strength_of(np.asarray(values, "float64"), None, percentile, absolute=False)
    return heatmap(np.rint(127 * strength)[..., None], limit=127)


def as_bytes(pixels):
    """Numbers in 0..255 as uint8."""
    return np.rint(np.clip(pixels, 0, 255)).astype(np.uint8)
