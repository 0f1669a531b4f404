"""Drawing a map over an input: from a value's positions to the input's. Called by `cam` and `attention_maps`."""

from __future__ import annotations

from typing import Any

from keras import ops

from innvest_lite.analyzers.feature_maps import FeatureMaps
from innvest_lite.forms.positions import Places
from innvest_lite.forms.windows import WHOLE


def in_order(heat: Any, places: Places, count: int) -> Any:
    """A map (batch, ...) over a value's positions with an axis for each of the input's `count` positions, in their order.

    Along a position that the value does not have, the map is the same everywhere, and its axis has the size 1.

    Args:
        heat: a map (batch, ...) with an axis for each of the value's axes with positions, in their order.
        places: where the input's positions lie in the value.
        count: how many positions the input has.

    Returns:
        A tensor (batch, ...) of `count` axes more.
    """
    order = [one for axis in places.positions for one in places.axes[axis]]
    missing = [one for one in range(count) if one not in order]
    if missing or len(order) > len(places.positions):
        sizes: list[Any] = []
        for number, axis in enumerate(places.positions, start=1):
            here = places.axes[axis]
            sizes += [ops.shape(heat)[number]] if len(here) == 1 else [places.sizes[one] for one in here]
        heat = ops.reshape(heat, (-1, *sizes, *[1] * len(missing)))
    order += missing
    return heat if order == sorted(order) else ops.transpose(heat, (0, *(order.index(one) + 1 for one in range(count))))


def over_input(heat: Any, x: Any, maps: FeatureMaps) -> Any:
    """Interpolates a map to the input's positions, see `over_positions`, and spreads it evenly over its channels.

    Args:
        heat: as `in_order` gives it.
        x: the input, a tensor.
        maps: what the map is of, and how it lies over the input.

    Returns:
        A float32 tensor in the input's shape.
    """
    heat = over_positions(heat, x, maps)
    for axis in maps.over.channels:
        heat = ops.expand_dims(heat / ops.cast(ops.shape(x)[axis], heat.dtype), axis)
    return ops.broadcast_to(heat, ops.shape(x))


def over_positions(heat: Any, x: Any, maps: FeatureMaps) -> Any:
    """Interpolates a map to the input's positions, 0 where they are cropped.

    Args:
        heat: as `in_order` gives it.
        x: the input, a tensor.
        maps: what the map is of, and how it lies over the input.

    Returns:
        A float32 tensor (batch, ...) with an axis for each of the input's positions.
    """
    for number, (axis, window) in enumerate(zip(maps.over.positions, maps.windows, strict=True), start=1):
        size = ops.shape(x)[axis]
        if window == WHOLE:
            heat = _resized(heat, size, number)
        else:
            start, end = (round(part * size) for part in window)
            margins = [(start, size - end) if other == number else (0, 0) for other in range(len(heat.shape))]
            heat = ops.pad(_resized(heat, end - start, number), margins)
    return heat


def _resized(heat: Any, size: Any, axis: int) -> Any:
    """Linear interpolation along one axis, between the middles of positions."""
    count = ops.shape(heat)[axis]
    scale = ops.cast(count, "float32") / ops.cast(size, "float32")
    places = (ops.cast(ops.arange(size), "float32") + 0.5) * scale - 0.5
    places = ops.clip(places, 0.0, ops.cast(count - 1, "float32"))
    matrix = ops.relu(1 - ops.abs(places[:, None] - ops.cast(ops.arange(count), "float32")[None]))
    return ops.moveaxis(ops.matmul(ops.moveaxis(heat, axis, -1), ops.transpose(matrix)), -1, axis)
