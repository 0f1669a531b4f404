"""What `visualize` and `images` do with arrays, with tensors inside an exported graph: uint8 images in, pictures out."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from innvest_lite.visualize.colormaps import colors_of
from innvest_lite.visualize.pictures import LUMA

# As `visualize.overlay` has it by default.
_OPACITY = 0.9


def heatmap(relevance: Any, image: Any, colormap: str) -> Any:
    """As `visualize.heatmap`: uint8 (batch, height, width, 3) of relevance (batch, height, width, channels)."""
    return _to_bytes(_colors(_signed_strength(relevance), colormap))


def signal(relevance: Any, image: Any, colormap: str) -> Any:
    """As `visualize.project`, for 1 or 3 channels."""
    shown = relevance / _largest(relevance) / 2 + 0.5
    return _to_bytes(255 * ops.broadcast_to(shown, (*ops.shape(shown)[:-1], 3)))


def overlay(relevance: Any, image: Any, colormap: str) -> Any:
    """As `visualize.overlay`, on an image of 1 or 3 channels: uint8, or floats, which are stretched."""
    strength = _signed_strength(relevance)
    weight = _OPACITY * ops.minimum(1.0, 2 * ops.abs(strength))[..., None]
    grey = _grey(image)[..., None]
    return _to_bytes((1 - weight) * 255 * grey + weight * _colors(strength, colormap))


RENDERERS = {"heatmap": heatmap, "signal": signal, "overlay": overlay}
"""Name -> a function of relevance, the image and the name of a colour map."""


def _signed_strength(relevance):
    means = ops.sum(relevance / relevance.shape[-1], axis=-1, keepdims=True)
    return (means / _largest(means))[..., 0]


def _largest(x):
    """The largest magnitude of each sample; 1 where all are 0."""
    largest = ops.max(ops.abs(x), axis=(1, 2, 3), keepdims=True)
    return ops.where(largest > 0, largest, ops.ones_like(largest))


def _colors(strength, colormap):
    """Colours in 0..255, float32, of numbers from -1 to 1: linear between the colours of the map."""
    colors = np.array(colors_of(colormap), "float32")
    place = (strength + 1) / 2 * (len(colors) - 1)
    low = ops.floor(ops.clip(place, 0.0, len(colors) - 2.0))
    share = (place - low)[..., None]
    # What is no number must not become a place beyond the table.
    index, table = ops.clip(ops.cast(low, "int32"), 0, len(colors) - 2), ops.convert_to_tensor(colors)
    return (1 - share) * ops.take(table, index, axis=0) + share * ops.take(table, index + 1, axis=0)


def _grey(image):
    """The image's lightness in 0..1: (batch, height, width)."""
    is_bytes = image.dtype == "uint8"
    image = ops.cast(image, "float32")
    grey = image[..., 0] if image.shape[-1] == 1 else ops.sum(image * np.array(LUMA, "float32"), axis=-1)
    if is_bytes:
        return grey / 255
    least, largest = (reduce(grey, axis=(1, 2), keepdims=True) for reduce in (ops.min, ops.max))
    span = largest - least
    flat = ops.equal(span, 0)
    return ops.where(flat, ops.full_like(grey, 0.5), (grey - least) / ops.where(flat, ops.ones_like(span), span))


def _to_bytes(values):
    return ops.cast(ops.clip(ops.round(values), 0.0, 255.0), "uint8")
