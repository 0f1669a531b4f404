"""Colour maps: numbers from -1 to 1 become colours.

A map is a table of colours at equal distances from -1 to 1, with linear interpolation between them. Diverging maps have a
neutral colour at exactly zero; of the others, which people ask for by name, all colours stand for magnitudes where
magnitudes are shown. Called by `visualize.pictures`.
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


def _from_hex(colors: str) -> tuple[tuple[int, int, int], ...]:
    return tuple((number >> 16, number >> 8 & 255, number & 255) for number in (int(one, 16) for one in colors.split()))


# Viridis and magma by N. J. Smith and S. van der Walt, which are in the public domain (CC0): every eighth of the 256
# colours, and every sixteenth. What is interpolated between them differs by less than 2 of 255, and by less than 3.
_VIRIDIS = _from_hex(
    "440154 470d60 48186a 482374 472d7b 453681 424086 3f4989 3b528b 375a8d 33638d 2f6a8e 2c728e 297a8e "
    "26818e 23898e 21908c 1f988b 1f9f88 21a685 28ae80 31b57b 3ebc74 4cc26c 5dc963 6ece58 82d34c 96d83f "
    "abdc32 c0df24 d5e21a eae51a fde725"
)
_MAGMA = _from_hex(
    "000004 0a0822 1d1146 36106a 50127c 691c81 822681 9c2e7f b63779 cf4170 e65163 f5695c fb8761 fea571 fec387 fde0a2 fcfdbf"
)
# MATLAB's: each colour rises, stays and falls by straight lines that end at multiples of an eighth.
_JET = (
    *((0, 0, 128), (0, 0, 255), (0, 128, 255), (0, 255, 255), (128, 255, 128)),
    *((255, 255, 0), (255, 128, 0), (255, 0, 0), (128, 0, 0)),
)

COLORMAPS = types.MappingProxyType(
    {
        "blue-white-red": (*_BLUE_ARM, _WHITE, *_RED_ARM),
        # Saturated, with exact mirror symmetry: the negated map has red and blue exchanged.
        "seismic": ((0, 0, 96), (0, 0, 255), _WHITE, (255, 0, 0), (96, 0, 0)),
        # A dark neutral colour, for dark pages and slides.
        "blue-black-red": ((120, 190, 255), (0, 90, 200), (0, 0, 0), (205, 40, 20), (255, 160, 130)),
        "viridis": _VIRIDIS,
        "magma": _MAGMA,
        "jet": _JET,
    }
)
"""Name of a map -> its colours (red, green, blue in 0..255) at equal distances from -1 to 1."""

SEQUENTIAL = ("viridis", "magma", "jet")
"""The maps without a neutral colour: zero is one in the middle; where magnitudes are shown, the first colour."""

DEFAULT = "blue-white-red"


def colorize(values: np.ndarray, colormap: str, absolute: bool = False) -> np.ndarray:
    """The colours of numbers from -1 to 1.

    Args:
        values: float array of any shape, in -1..1.
        colormap: a name in `COLORMAPS`.
        absolute: whether the numbers are magnitudes, in 0..1, over which a map without a neutral colour is then spread.

    Returns:
        uint8 array `(*values.shape, 3)`.

    Raises:
        InvalidInputError: no map has that name.

    Example:
        >>> colorize(np.array([-1.0, 0.0, 1.0]), "seismic").tolist()
        [[0, 0, 96], [255, 255, 255], [96, 0, 0]]
        >>> colorize(np.array([0.0, 1.0]), "jet", absolute=True).tolist()
        [[0, 0, 128], [128, 0, 0]]
    """
    colors = np.array(colors_of(colormap), np.float64)
    positions = np.linspace(0 if absolute and colormap in SEQUENTIAL else -1, 1, len(colors))
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
