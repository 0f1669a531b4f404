"""Explanations of volumes (3-D): heat maps of slices, all on one scale. Called by users."""

from __future__ import annotations

from typing import Any

import numpy as np

from innvest_lite.errors import InvalidInputError
from innvest_lite.visualize.checks import as_array, check_size
from innvest_lite.visualize.colormaps import DEFAULT
from innvest_lite.visualize.pictures import heatmap, overlay

_AXES = (0, 1, 2)


def slices(
    relevance: Any,
    volume: Any = None,
    axis: int = 0,
    count: int = 6,
    colormap: str = DEFAULT,
    limit: float | None = None,
    *,
    percentile: float = 100.0,
    absolute: bool = False,
) -> tuple[np.ndarray, list[int]]:
    """Heat maps of slices through a volume at equal distances, for `grid`.

    Args:
        relevance: shape `(depth, height, width, channels)` or `(depth, height, width)`; channels are summed.
        volume: the explained volume, of the same shape but for its channels, 1 or 3, to lay the heat maps over; None:
            heat maps alone. It is stretched as a whole to black and white, unless it is uint8.
        axis: which axis is cut, 0 (depth), 1 (height) or 2 (width).
        count: how many slices; at most one for each place of the axis.
        colormap: as in `heatmap`.
        limit: as in `heatmap`; None: the largest of all slices, also of those that are not shown.
        percentile: as in `heatmap`, of the whole volume.
        absolute: as in `heatmap`.

    Returns:
        `(pictures, places)`: uint8 `(count, height, width, 3)`, and where along the axis each was cut, a list of ints.

    Raises:
        InvalidInputError: another rank, shapes that differ, no such axis, or what `heatmap` refuses.

    Example:
        >>> pictures, places = slices(np.random.default_rng(0).normal(size=(8, 5, 4)), count=3)
        >>> pictures.shape, places
        ((3, 5, 4, 3), [0, 4, 7])
    """
    relevance = _as_volume(relevance, "relevance")
    if isinstance(axis, bool) or axis not in _AXES:
        raise InvalidInputError(f"axis is {axis!r}; expected 0 (depth), 1 (height) or 2 (width).")
    check_size(count, "count", least=1, what="slices")
    places = np.unique(np.rint(np.linspace(0, relevance.shape[axis] - 1, count)).astype(int)).tolist()
    # Laid out as one image, the whole volume has one scale.
    sheet = _sheet(relevance, axis)
    options: dict[str, Any] = {"colormap": colormap, "limit": limit, "percentile": percentile, "absolute": absolute}
    if volume is None:
        picture = heatmap(sheet, **options)
    else:
        volume = _as_volume(volume, "volume")
        if volume.shape[:3] != relevance.shape[:3]:
            raise InvalidInputError(
                f"volume has the shape {volume.shape} and relevance {relevance.shape}; expected the same depth, height and "
                "width."
            )
        picture = overlay(sheet, _sheet(volume, axis), **options)
    pictures = picture.reshape(relevance.shape[axis], -1, *picture.shape[1:])
    return pictures[places], places


def _as_volume(array, name):
    array = as_array(array, name)
    if array.ndim not in (3, 4):
        raise InvalidInputError(
            f"{name} has the shape {array.shape}; expected one volume, (depth, height, width, channels) or (depth, height, "
            "width). Cut the volumes of a batch one by one."
        )
    return array if array.ndim == 4 else array[..., None]


def _sheet(volume, axis):
    """All slices below each other: (slices * height, width, channels)."""
    cut = np.moveaxis(volume, axis, 0)
    return cut.reshape(-1, *cut.shape[2:])
