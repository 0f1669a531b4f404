"""Curves as SVG within a page. Called by `page`."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

import numpy as np

from innvest_lite.errors import InvalidInputError

# Colours that stay apart in the common kinds of colour blindness (Okabe and Ito 2008), dark enough for lines on white.
_COLORS = ("#0072b2", "#d55e00", "#008060", "#a8437f", "#8a6d00", "#444444")
_DASHES = ("", "7 3", "2 3")
_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 480, 300, 44, 40, 30


def lines(curves: Mapping[str, Any], across: str, up: str) -> str:
    """An SVG of curves over the steps 0, 1, ..., with a legend below it.

    Args:
        curves: name -> values, all of one length.
        across: the label of the horizontal axis.
        up: the label of the vertical axis.

    Returns:
        A str of HTML.

    Raises:
        InvalidInputError: curves are empty, not finite, or of different lengths.
    """
    curves = {name: np.asarray(values, "float64") for name, values in curves.items()}
    lengths = {len(values) for values in curves.values()}
    if len(lengths) != 1 or 0 in lengths or not all(np.isfinite(values).all() for values in curves.values()):
        raise InvalidInputError("Curves should be finite numbers, all of one length, of at least one value.")
    count = max(len(next(iter(curves.values()))) - 1, 1)
    low = min(0.0, min(values.min() for values in curves.values()))
    high = max(values.max() for values in curves.values())
    high = high if high > low else low + 1
    drawn = [_line(values, count, low, high, _style(place)) for place, values in enumerate(curves.values())]
    legend = [_entry(name, _style(place)) for place, name in enumerate(curves)]
    label = html.escape(f"{up} by {across}: {', '.join(curves)}")
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">{_frame(count, low, high, across, up)}'
        f'{"".join(drawn)}</svg><ul class="legend">{"".join(legend)}</ul>'
    )


def _style(place):
    """Colour and dashes of the curve at a place."""
    return _COLORS[place % len(_COLORS)], _DASHES[place // len(_COLORS) % len(_DASHES)]


def _x(step, count):
    return _LEFT + step / count * (_WIDTH - _LEFT - 10)


def _y(value, low, high):
    return _TOP + (high - value) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)


def _line(values, count, low, high, style):
    points = " ".join(f"{_x(step, count):.1f},{_y(value, low, high):.1f}" for step, value in enumerate(values))
    color, dash = style
    return f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="2" stroke-dasharray="{dash}"/>'


def _entry(name, style):
    color, dash = style
    key = f'<line x1="0" y1="6" x2="28" y2="6" stroke="{color}" stroke-width="3" stroke-dasharray="{dash}"/>'
    return f'<li><svg viewBox="0 0 28 12" width="28" height="12" aria-hidden="true">{key}</svg> {html.escape(name)}</li>'


def _frame(count, low, high, across, up):
    """Axes, with numbers at their ends."""
    left, right, top, bottom = _LEFT, _x(count, count), _TOP, _y(low, low, high)
    axes = f'<path d="M{left} {top}V{bottom}H{right}" fill="none" stroke="#666"/>'
    texts = [
        (left - 6, top + 10, "end", f"{high:.2g}"),
        (left - 6, bottom, "end", f"{low:.2g}"),
        (left, bottom + 17, "middle", "0"),
        (right, bottom + 17, "end", str(count)),
        ((left + right) / 2, bottom + 34, "middle", across),
        (2, top - 14, "start", up),
    ]
    return axes + "".join(
        f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}">{html.escape(text)}</text>' for x, y, anchor, text in texts
    )
