"""Explanations of signals over time (1-D): the signal as a line, each step on the colour of its relevance.

In: arrays. Out: one uint8 RGB picture, drawn with Pillow. Called by users.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from innvest_lite.errors import InvalidInputError
from innvest_lite.visualize.checks import as_array, as_batch, check_size
from innvest_lite.visualize.colormaps import DEFAULT
from innvest_lite.visualize.pictures import heatmap
from innvest_lite.visualize.text import render

# The inks of channels: dark enough on white, apart from the red and the blue of the bands and, in the common kinds of
# colour blindness, from each other. After the last they begin again, dashed.
_INKS = ((30, 30, 30), (0, 128, 70), (140, 50, 190), (190, 120, 0), (0, 145, 165), (225, 40, 160))
_CASING = (255, 255, 255)
_DASH = 7
_LEGEND_GAP, _SAMPLE = 8, 22
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
    names: Sequence[str] | None = None,
) -> np.ndarray:
    """A signal as a line in front of bands in the colours of its relevance, one band per step.

    Args:
        relevance: shape `(steps,)` or `(steps, channels)`; channels are summed, as in `heatmap`.
        signal: the explained signal, `(steps,)` or `(steps, channels)`; each channel is a line of its own, in an ink of
            its own, all on one scale.
        colormap: as in `heatmap`.
        limit: as in `heatmap`.
        width: of the picture, in pixels.
        height: of the picture, in pixels.
        percentile: as in `heatmap`.
        absolute: as in `heatmap`.
        names: of the channels, for a legend below the picture; None: no legend.

    Returns:
        uint8 array `(height, width, 3)`, higher by its legend where there are names.

    Raises:
        InvalidInputError: other ranks, steps or names that differ in number, or what `heatmap` refuses.

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
    several = signal.shape[1] > 1
    for number, line in enumerate(_heights(signal).T):
        places = (np.arange(len(line)) + 0.5) / len(line) * size[0]
        points = list(zip(places, line * size[1], strict=True))
        # A single step is as broad as the picture.
        points = [(0, points[0][1]), (size[0], points[0][1])] if len(points) == 1 else points
        _draw(pen, points, number, several)
    shown = np.array(picture.resize((width, height), Image.Resampling.BOX))
    return shown if names is None else np.concatenate([shown, _legend(_checked_names(names, signal.shape[1]), width)])


def _draw(pen, points, number, cased):
    """One line in the ink of its channel; of several, on a white one, so that it is seen on bands of all colours."""
    if cased:
        pen.line(points, fill=_CASING, width=4 * _OVERSAMPLING, joint="curve")
    ink = _INKS[number % len(_INKS)]
    parts = [points] if number < len(_INKS) else _dashes(points, _DASH * _OVERSAMPLING)
    for part in parts:
        pen.line(part, fill=ink, width=2 * _OVERSAMPLING, joint="curve")


def _dashes(points: Sequence[tuple[float, float]], length: float) -> Iterator[list[tuple[float, float]]]:
    """Every other part of a line, each so long."""
    line = np.array(points, np.float64)
    ways = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
    for start in np.arange(0, ways[-1], 2 * length):
        inside = ways[(ways > start) & (ways < start + length)]
        stops = np.concatenate([[start], inside, [min(start + length, ways[-1])]])
        yield list(zip(*(np.interp(stops, ways, line[:, axis]) for axis in (0, 1)), strict=True))


def _legend(names, width):
    """The names of the channels, each behind a piece of its line, in as many rows as they need."""
    blocks = [render(name, max(width - _SAMPLE - 3 * _LEGEND_GAP, 32), "left") for name in names]
    places, x, y, height = [], _LEGEND_GAP, _LEGEND_GAP, 0
    for block in blocks:
        if x > _LEGEND_GAP and x + _SAMPLE + _LEGEND_GAP + block.width > width:
            x, y, height = _LEGEND_GAP, y + height + _LEGEND_GAP, 0
        places.append((x, y))
        x, height = x + _SAMPLE + block.width + 3 * _LEGEND_GAP, max(height, block.height)
    sheet = Image.new("RGB", (width, y + height + _LEGEND_GAP), _CASING)
    large = Image.new("RGB", (width * _OVERSAMPLING, sheet.height * _OVERSAMPLING), _CASING)
    pen = ImageDraw.Draw(large)
    for number, ((x, y), block) in enumerate(zip(places, blocks, strict=True)):
        ends = [(end * _OVERSAMPLING, (y + block.height / 2) * _OVERSAMPLING) for end in (x, x + _SAMPLE)]
        _draw(pen, ends, number, False)
    sheet.paste(large.resize(sheet.size, Image.Resampling.BOX))
    for (x, y), block in zip(places, blocks, strict=True):
        sheet.paste(block.convert("RGB"), (x + _SAMPLE + _LEGEND_GAP, y))
    return np.array(sheet)


def _checked_names(names, count):
    names = [names] if isinstance(names, str) else list(names)
    if len(names) != count:
        raise InvalidInputError(f"names has {len(names)} entries for {count} channels; give one each, or None.")
    return [str(name) for name in names]


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
