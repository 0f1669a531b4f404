"""A photograph beside what explains it, to show or hand on as it is: title, colour bars with numbers, names of methods.

In: an image of any size and explanations of it. Out: one uint8 RGB picture, drawn with Pillow. Called by users, and by
`pictured.explain`.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from PIL import Image

from innvest_lite.errors import InvalidInputError
from innvest_lite.foreign import familiar
from innvest_lite.options import one_of, truth
from innvest_lite.visualize.checks import as_array, as_batch, check_size
from innvest_lite.visualize.colormaps import DEFAULT
from innvest_lite.visualize.pictures import bytes_of, heatmap, limits_of, overlay, project
from innvest_lite.visualize.scales import scale
from innvest_lite.visualize.text import render

KINDS = ("overlay", "heatmap", "signal")
"""How a panel shows an explanation: over the photograph in grey, by itself, or as a signal in the input's own colours."""

_WHITE, _FRAME = (255, 255, 255), (200, 200, 200)
_MARGIN, _GAP, _BESIDE = 12, 16, 8
# The longer side of a picture: small ones are enlarged to at least so much, pixel by pixel.
_LEAST = 224
# No picture is narrower, whatever the width.
_NARROWEST, _HAIRLINE = 48, 1
# Explanations beside the photograph; more of them go below.
_IN_A_ROW = 3
_TITLE_SIZES, _NAME_SIZES = (19, 18, 17, 16, 15, 14, 13), (14, 13, 12, 11, 10)


@familiar
def panel(
    image: Any,
    relevance: Any,
    title: str | None = None,
    unit: str | Mapping[str, str] = "logits",
    colormap: str = DEFAULT,
    limit: float | None = None,
    *,
    percentile: float = 100.0,
    absolute: bool = False,
    kind: str = "overlay",
    opacity: float = 0.9,
    width: int = 1000,
) -> np.ndarray:
    """A photograph, its explanation over it, and a colour bar with numbers; of several explanations, one beside the other.

    The photograph may have any size, see `overlay`. Small images, such as digits, are enlarged without smoothing, so that
    pixels stay what they are; large ones are reduced to what fits into `width`. The number at the end of a colour bar is
    that of the full colour, in the method's unit: the largest |sum over channels| of a position of the map, or `limit`, or
    the percentile; the last two with ">" and "<", where larger ones are clipped.

    Args:
        image: the explained image: the path of a file, an image of Pillow's, or an array `(height, width, channels)` or
            `(height, width)`. uint8 is shown as it is, other types stretched, as in `overlay`.
        relevance: its explanation, as in `heatmap`, `(height, width, channels)` or `(height, width)`, also a batch of one;
            or a dict from a name to one, such as methods by name.
        title: a text above all; wrapped.
        unit: what the colour bar counts, such as "logits"; "" for nothing. Of several explanations, a dict from name to
            unit, too.
        colormap: as in `heatmap`.
        limit: as in `heatmap`.
        percentile: as in `heatmap`.
        absolute: as in `heatmap`.
        kind: "overlay"; "heatmap", the map by itself; or "signal", of 1 or 3 channels as `project` shows it, without a
            colour bar.
        opacity: as in `overlay`.
        width: of the whole in pixels, at most, at least 200. Larger values keep more of a large photograph.

    Returns:
        uint8 array `(height, width, 3)`.

    Raises:
        InvalidInputError: what `overlay` and `heatmap` refuse, an unknown kind, or a width that is none.

    Example:
        >>> heat = innvest_lite.InputTimesGradient(model).analyze(images[:1])
        >>> panel(images[0], heat[0], title="seven", percentile=99).shape
        (283, 572, 3)
    """
    check_size(width, "width", least=200)
    maps = _maps(relevance)
    units = unit if isinstance(unit, Mapping) else dict.fromkeys(maps, unit)
    how = _How(one_of(kind, KINDS, "kind"), colormap, opacity, limit, percentile, truth(absolute, "absolute"))
    bars = {name: how.bar(array, str(units.get(name, ""))) for name, array in maps.items()}
    beside = [bar(_LEAST).width + _BESIDE for bar in bars.values() if bar]
    columns = min(len(maps), _IN_A_ROW)
    room = (width - 2 * _MARGIN - columns * (_GAP + max(beside, default=0))) // (columns + 1) - 2 * _HAIRLINE
    photo = _Photo(bytes_of(image), max(room, _NARROWEST), width)
    height = photo.size[0] + 2 * _HAIRLINE
    cells = [_Cell(_framed(photo.drawn(maps[name], how)), name, bar and bar(height)) for name, bar in bars.items()]
    rows = [[None, *cells[start : start + _IN_A_ROW]] for start in range(0, len(cells), _IN_A_ROW)]
    rows[0][0] = _Cell(_framed(photo.picture))
    return _sheet(rows, title)


@dataclasses.dataclass(frozen=True, eq=False)
class _How:
    """How explanations are shown, as `panel` takes it."""

    kind: str
    colormap: str
    opacity: float
    limit: float | None
    percentile: float
    absolute: bool

    @property
    def options(self) -> dict[str, Any]:
        """For `heatmap` and `overlay`."""
        return {name: getattr(self, name) for name in ("colormap", "limit", "percentile", "absolute")}

    def bar(self, relevance: np.ndarray, unit: str) -> Callable[[int], Image.Image] | None:
        """A function of a height that makes the colour bar of one explanation; signals have none."""
        if self.kind == "signal":
            return None
        limit = float(limits_of(as_batch(relevance, "relevance")[0], self.limit, self.percentile)[0])
        clipped = self.limit is not None or self.percentile < 100
        return functools.partial(scale, limit, colormap=self.colormap, unit=unit, absolute=self.absolute, clipped=clipped)


class _Photo:
    """A photograph, and the picture made of it: enlarged by a whole number, or reduced, to the room that there is."""

    def __init__(self, pixels: np.ndarray, width: int, height: int) -> None:
        self.pixels = pixels
        share = min(width / pixels.shape[1], height / pixels.shape[0])
        self.times = max(1, min(int(share), math.ceil(_LEAST / max(pixels.shape[:2]))))
        self.size = tuple(max(1, round(side * (self.times if share >= 1 else share))) for side in pixels.shape[:2])
        self.picture = self._enlarged(pixels) if share >= 1 else self._reduced(pixels)

    def drawn(self, relevance: np.ndarray, how: _How) -> np.ndarray:
        """One explanation in the size of the picture; of small images of its own size pixel by pixel, else smooth."""
        if relevance.shape[:2] == self.pixels.shape[:2] and self.times > 1:
            return self._enlarged(_drawn(relevance, self.pixels, how))
        return _drawn(relevance, self.picture, how)

    def _enlarged(self, pixels):
        return pixels.repeat(self.times, axis=0).repeat(self.times, axis=1)

    def _reduced(self, pixels):
        return np.asarray(Image.fromarray(pixels).resize(self.size[::-1], Image.Resampling.BILINEAR))


def _drawn(relevance, picture, how):
    """One explanation in the size of a picture."""
    if how.kind == "overlay":
        return overlay(np.atleast_3d(relevance), picture, opacity=how.opacity, **how.options)
    if how.kind == "heatmap":
        return heatmap(relevance, size=picture.shape[:2], **how.options)
    shown = Image.fromarray(project(relevance))
    return np.asarray(shown.resize(picture.shape[1::-1], Image.Resampling.BILINEAR))


@dataclasses.dataclass(frozen=True, eq=False)
class _Cell:
    """A picture with its name above it and its colour bar beside it."""

    picture: Image.Image
    name: str = ""
    bar: Image.Image | None = None

    @property
    def width(self) -> int:
        """Of the picture and the bar."""
        return self.picture.width + (self.bar.width + _BESIDE if self.bar else 0)

    @property
    def height(self) -> int:
        """Of the picture and the bar."""
        return max(self.picture.height, self.bar.height if self.bar else 0)

    @functools.cached_property
    def label(self) -> Image.Image | None:
        """The name, as wide as the picture at most."""
        return render(self.name, self.picture.width, "center", _NAME_SIZES) if self.name else None

    @property
    def above(self) -> int:
        """What the name takes above the picture."""
        return self.label.height + _BESIDE if self.label else 0

    def paste(self, sheet: Image.Image, x: int, y: int) -> None:
        """Puts all of it on the sheet, the left upper corner of the picture at (x, y)."""
        sheet.paste(self.picture, (x, y))
        if self.label:
            sheet.paste(self.label.convert("RGB"), (x + (self.picture.width - self.label.width) // 2, y - self.above))
        if self.bar:
            sheet.paste(self.bar, (x + self.picture.width + _BESIDE, y))


def _sheet(rows, title):
    """All rows of cells, or None, below a title; each cell below its name."""
    widths = [max(row[place].width for row in rows if len(row) > place and row[place]) for place in range(len(rows[0]))]
    width = sum(widths) + _GAP * (len(widths) - 1) + 2 * _MARGIN
    above = render(title, width - 2 * _MARGIN, "center", _TITLE_SIZES) if title else None
    tops = [max(cell.above for cell in row if cell) for row in rows]
    heights = [top + max(cell.height for cell in row if cell) for top, row in zip(tops, rows, strict=True)]
    height = sum(heights) + _GAP * (len(rows) - 1) + 2 * _MARGIN + (above.height + _MARGIN if above else 0)
    sheet, y = Image.new("RGB", (width, height), _WHITE), _MARGIN
    if above:
        sheet.paste(above.convert("RGB"), ((width - above.width) // 2, y))
        y += above.height + _MARGIN
    for row, top, down in zip(rows, tops, heights, strict=True):
        for place, cell in enumerate(row):
            if cell:
                cell.paste(sheet, _MARGIN + sum(widths[:place]) + _GAP * place, y + top)
        y += down + _GAP
    return np.array(sheet)


def _framed(picture):
    """A picture with a hairline round it: a heat map is white where nothing is relevant."""
    height, width = picture.shape[:2]
    framed = Image.new("RGB", (width + 2 * _HAIRLINE, height + 2 * _HAIRLINE), _FRAME)
    framed.paste(Image.fromarray(picture), (_HAIRLINE, _HAIRLINE))
    return framed


def _maps(relevance):
    """Name -> one explanation, (height, width) or (height, width, channels)."""
    given = dict(relevance) if isinstance(relevance, Mapping) else {"": relevance}
    if not given:
        raise InvalidInputError("relevance is an empty dict; expected an explanation by its name.")
    return {str(name): _one(array, f"relevance[{name!r}]" if name else "relevance") for name, array in given.items()}


def _one(array, name):
    array = as_array(array, name)
    as_batch(array, name)
    if array.ndim == 4 and len(array) > 1:
        raise InvalidInputError(f"{name} has the shape {array.shape}; expected one explanation. Show a batch one by one.")
    return array[0] if array.ndim == 4 else array
