"""Colour bars with numbers, beside the pictures of `panels`, as images of Pillow's."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from innvest_lite.visualize.colormaps import colorize
from innvest_lite.visualize.text import render

_WHITE, _INK = (255, 255, 255), (60, 60, 60)
_BAR, _TICK, _SPACE = 14, 4, 3
# What is wider is wrapped.
_WIDTH = 96
_SIZES = (13, 12, 11, 10)
# With fewer pixels a bar has numbers at its ends and at zero alone.
_ROOM_FOR_HALVES = 130


def number(value: float) -> str:
    """A number as it is read: with three digits that count."""
    return f"{value:.3g}".replace("e+0", "e").replace("e-0", "e-").replace("e+", "e")


def scale(limit: float, height: int, *, colormap: str, unit: str, absolute: bool, clipped: bool) -> Image.Image:
    """A colour bar, upright, with its numbers at the right and the unit below.

    Args:
        limit: the number at its end.
        height: of the picture beside which it stands, in pixels; with its unit it may be higher.
        colormap: a name in `COLORMAPS`.
        unit: in words; "" for none.
        absolute: whether it begins at 0, for magnitudes.
        clipped: whether there may be numbers beyond its end.
    """
    name = render(unit, _WIDTH, "left", _SIZES) if unit else None
    above = render("0", _WIDTH, "left", _SIZES).height // 2
    length = max(height - 2 * above - (name.height + 2 * _SPACE if name else 0), 48)
    labels = {place: render(text, _WIDTH, "left", _SIZES) for place, text in _labels(limit, length, absolute, clipped)}
    left = _BAR + _TICK + _SPACE
    width = max([left + max(label.width for label in labels.values()), name.width if name else 0])
    sheet = Image.new("RGB", (width, max(height, length + 2 * above + (name.height + 2 * _SPACE if name else 0))), _WHITE)
    shares = np.linspace(1, 0 if absolute else -1, length)
    colors = colorize(shares, colormap, absolute)
    sheet.paste(Image.fromarray(np.repeat(colors[:, None], _BAR, axis=1)), (0, above))
    pen = ImageDraw.Draw(sheet)
    pen.rectangle((0, above, _BAR - 1, above + length - 1), outline=(170, 170, 170))
    for place, label in labels.items():
        y = above + round(place * (length - 1))
        pen.line((_BAR, y, _BAR + _TICK - 1, y), fill=_INK)
        sheet.paste(label.convert("RGB"), (left, y - label.height // 2))
    if name:
        sheet.paste(name.convert("RGB"), (0, sheet.height - name.height))
    return sheet


def _labels(limit, length, absolute, clipped):
    """`(place from the top, text)` of the numbers."""
    ends = (1.0, 0.0) if absolute else (1.0, -1.0)
    shares = np.linspace(*ends, 5 if length >= _ROOM_FOR_HALVES and not absolute else 3)
    for place, share in zip(np.linspace(0, 1, len(shares)), shares, strict=True):
        beyond = {1.0: "> ", -1.0: "< "}.get(share, "") if clipped else ""
        yield place, beyond + number(share * limit)
