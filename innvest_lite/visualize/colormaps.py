"""Diverging colour maps: numbers from -1 to 1 become colours, with a neutral colour at exactly zero.

A map is a table of colours at equal distances from -1 to 1, with linear interpolation between them. Called by
`visualize.pictures`.
"""

from __future__ import annotations

import types

import numpy as np

from innvest_lite.errors import InvalidInputError, did_you_mean

# Both arms fall by equal steps of OKLab lightness, from 1.00 (white) to 0.38, so that equal size looks equally strong
# in either sign and in a grey print; the hues (blue 235 to 262 degrees, red 40 to 25) stay apart in the common kinds
# of colour blindness.
_BLUE_ARM = (
    *((0, 53, 157), (0, 80, 181), (2, 106, 208), (2, 133, 236)),
    *((43, 160, 255), (104, 187, 255), (155, 212, 255), (205, 234, 255)),
)
_RED_ARM = (
    *((254, 221, 210), (255, 185, 165), (253, 146, 120), (246, 104, 77)),
    *((227, 67, 47), (199, 34, 27), (167, 1, 16), (129, 0, 16)),
)
_WHITE = (255, 255, 255)

COLORMAPS = types.MappingProxyType(
    {
        "blue-white-red": (*_BLUE_ARM, _WHITE, *_RED_ARM),
        # Saturated, with exact mirror symmetry: the negated map has red and blue exchanged.
        "seismic": ((0, 0, 96), (0, 0, 255), _WHITE, (255, 0, 0), (96, 0, 0)),
        # A dark neutral colour, for dark pages and slides.
        "blue-black-red": ((120, 190, 255), (0, 90, 200), (0, 0, 0), (205, 40, 20), (255, 160, 130)),
    }
)
"""Name of a map -> its colours (red, green, blue in 0..255) at equal distances from -1 to 1."""


DEFAULT = "blue-white-red"


def colorize(values: np.ndarray, colormap: str) -> np.ndarray:
    """The colours of numbers from -1 to 1.

    Args:
        values: float array of any shape, in -1..1.
        colormap: a name in `COLORMAPS`.

    Returns:
        uint8 array `(*values.shape, 3)`.

    Raises:
        InvalidInputError: no map has that name.

    Example:
        >>> colorize(np.array([-1.0, 0.0, 1.0]), "seismic").tolist()
        [[0, 0, 96], [255, 255, 255], [96, 0, 0]]
    """
    colors = np.array(colors_of(colormap), np.float64)
    positions = np.linspace(-1, 1, len(colors))
    channels = [np.interp(values, positions, colors[:, channel]) for channel in range(3)]
    return np.rint(np.stack(channels, axis=-1)).astype(np.uint8)


def colors_of(colormap: str) -> tuple[tuple[int, int, int], ...]:
    """The colours of the map of that name.

    Raises:
        InvalidInputError: there is none; the message lists the names.
    """
    if isinstance(colormap, str) and colormap in COLORMAPS:
        return COLORMAPS[colormap]
    hint = did_you_mean(colormap, list(COLORMAPS))
    raise InvalidInputError(f"No colour map is called {colormap!r}.{hint} Choose one of {', '.join(map(repr, COLORMAPS))}.")
