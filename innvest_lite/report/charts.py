"""Curves and bars as SVG within a page. Called by `page`."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from innvest_lite.errors import InvalidInputError

# Colours that stay apart in the common kinds of colour blindness (Okabe and Ito 2008), dark enough for lines on white.
_COLORS = ("#0072b2", "#d55e00", "#008060", "#a8437f", "#8a6d00", "#444444")
_DASHES = ("", "7 3", "2 3")
_FOR, _AGAINST = "#c7221b", "#0050b5"
# A chart of bars: its width, where labels end and bars may go, the height of a bar with its gap; columns that have one, and
# the letters of a label.
_BARS, _LABELS, _FROM, _TO, _ROW, _MOST, _LETTERS = 460, 186, 236, 396, 22, 12, 23
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


def bars(pairs: Sequence[tuple[str, float]], label: str) -> str:
    """An SVG of a bar for each of the numbers that count most, and one for the sum of all others.

    Args:
        pairs: `(label, number)`.
        label: what the chart is, for those who do not see it; the numbers are said behind it.

    Returns:
        A str of HTML.

    Raises:
        InvalidInputError: there are no numbers, or some are not finite.
    """
    numbers = np.array([number for _, number in pairs], "float64")
    if not numbers.size or not np.isfinite(numbers).all():
        raise InvalidInputError("Bars should be finite numbers, at least one.")
    order = np.argsort(-np.abs(numbers), kind="stable")
    # One that is left has its own name.
    most = len(numbers) if len(numbers) <= _MOST + 1 else _MOST
    shown = [(pairs[place][0], float(numbers[place])) for place in order[:most]]
    if len(numbers) > most:
        shown.append((f"{len(numbers) - most} others", float(numbers[order[most:]].sum())))
    limit = max(abs(number) for _, number in shown) or 1.0
    said = html.escape(f"{label}: " + ", ".join(f"{name} {number:+.3g}" for name, number in shown))
    middle, height = (_FROM + _TO) / 2, _ROW * len(shown)
    drawn = "".join(_bar(place, name, number / limit, number) for place, (name, number) in enumerate(shown))
    axis = f'<path d="M{middle} 0V{height}" stroke="#666"/>'
    return f'<svg viewBox="0 0 {_BARS} {height}" role="img" aria-label="{said}">{drawn}{axis}</svg>'


def _bar(place, name, share, number):
    """A label, a bar from the middle to one side, and its number behind it."""
    middle, half, top = (_FROM + _TO) / 2, (_TO - _FROM) / 2, place * _ROW
    length = abs(share) * half
    left = middle if share >= 0 else middle - length
    short = _shortened(name)
    color = _FOR if share >= 0 else _AGAINST
    side, anchor = (middle + length + 4, "start") if share >= 0 else (middle - length - 4, "end")
    return (
        f'<text x="{_LABELS}" y="{top + 15}" text-anchor="end">{html.escape(short)}</text>'
        f'<rect x="{left:.1f}" y="{top + 4}" width="{length:.1f}" height="{_ROW - 8}" fill="{color}"/>'
        f'<text x="{side:.1f}" y="{top + 15}" text-anchor="{anchor}">{number:+.3g}</text>'
    )


def _shortened(label):
    """A label as long as there is room for; of "name = value" the name is shortened."""
    if len(label) <= _LETTERS:
        return label
    name, equals, value = label.partition(" = ")
    tail = f"\u2026{equals}{value}"[: _LETTERS // 2]
    return f"{name[: _LETTERS - len(tail)]}{tail}"


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
