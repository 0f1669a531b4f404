"""Explanations of signals over time (1-D): the signal as a line, each step on the colour of its relevance.

In: arrays. Out: one uint8 RGB picture, drawn with Pillow. Called by users.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from innvest_lite.errors import InvalidInputError
from innvest_lite.visualize.checks import as_array, as_batch, check_size
from innvest_lite.visualize.colormaps import DEFAULT
from innvest_lite.visualize.pictures import heatmap

_INK = (30, 30, 30)
# The distance of the line's extremes from the edge, as a share of the height.
_MARGIN = 0.08
_OVERSAMPLING = 4


def series(
    relevance: Any,
    signal: Any,
    colormap: str = DEFAULT,
    limit: float | None = None,
    *,
    width: int = 480,
    height: int = 120,
    percentile: float = 100.0,
    absolute: bool = False,
) -> np.ndarray:
    """A signal as a line in front of bands in the colours of its relevance, one band per step.

    Args:
        relevance: shape `(steps,)` or `(steps, channels)`; channels are summed, as in `heatmap`.
        signal: the explained signal, `(steps,)` or `(steps, channels)`; each channel is a line of its own, all on one
            scale.
        colormap: as in `heatmap`.
        limit: as in `heatmap`.
        width: of the picture, in pixels.
        height: of the picture, in pixels.
        percentile: as in `heatmap`.
        absolute: as in `heatmap`.

    Returns:
        uint8 array `(height, width, 3)`.

    Raises:
        InvalidInputError: other ranks, steps that differ in number, or what `heatmap` refuses.

    Example:
        >>> steps = np.linspace(0, 6, 50)
        >>> series(np.cos(steps), np.sin(steps), width=200, height=60).shape
        (60, 200, 3)
    """
    relevance, signal = _as_steps(relevance, "relevance"), _as_steps(signal, "signal")
    check_size(width, "width", least=16)
    check_size(height, "height", least=16)
    if len(relevance) != len(signal):
        raise InvalidInputError(f"relevance has {len(relevance)} steps and signal {len(signal)}; expected the same number.")
    bands = heatmap(relevance[None], colormap, limit, percentile=percentile, absolute=absolute)[0]
    size = (width * _OVERSAMPLING, height * _OVERSAMPLING)
    picture = Image.fromarray(bands[None]).resize(size, Image.Resampling.NEAREST)
    pen = ImageDraw.Draw(picture)
    for line in _heights(signal).T:
        places = (np.arange(len(line)) + 0.5) / len(line) * size[0]
        points = list(zip(places, line * size[1], strict=True))
        # A single step is as broad as the picture.
        pen.line(
            [(0, points[0][1]), (size[0], points[0][1])] if len(points) == 1 else points,
            fill=_INK,
            width=2 * _OVERSAMPLING,
            joint="curve",
        )
    return np.array(picture.resize((width, height), Image.Resampling.BOX))


def _as_steps(array, name):
    """A float64 array (steps, channels)."""
    array = as_array(array, name)
    if array.ndim not in (1, 2):
        raise InvalidInputError(
            f"{name} has the shape {array.shape}; expected one signal, (steps,) or (steps, channels). "
            "Draw the signals of a batch one by one."
        )
    return as_batch(array if array.ndim == 2 else array[:, None], name)[0][0, ..., 0]


def _heights(signal):
    """Where the values stand, from 0 (the top) to 1; a constant signal in the middle."""
    half = signal / 2  # the difference of two halves cannot overflow
    least, span = half.min(), half.max() - half.min()
    share = (half - least) / span if span > 0 else np.full(signal.shape, 0.5)
    return _MARGIN + (1 - share) * (1 - 2 * _MARGIN)
