"""From arrays to pictures: heat maps, signals, and heat maps on their image.

The package's docstring says how an array's rank is read. All sums and quotients are float64, and values are divided
before they are added, so float16, 1e30 and 1e-38 do not overflow. Called by users and the command line.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from innvest_lite.errors import InvalidInputError
from innvest_lite.options import truth
from innvest_lite.visualize.checks import as_batch, check_colour_channels
from innvest_lite.visualize.colormaps import DEFAULT, colorize

LUMA = (0.299, 0.587, 0.114)
"""The lightness of red, green and blue (ITU-R BT.601), what Pillow's mode "L" uses."""


def heatmap(
    relevance: Any,
    colormap: str = DEFAULT,
    limit: float | None = None,
    *,
    percentile: float = 100.0,
    absolute: bool = False,
) -> np.ndarray:
    """A diverging heat map: channels are summed, zero is neutral, and the largest |sum| gets a full colour.

    With `s = sum over channels`, the colour is that of `s / max|s|`, image by image. An all-zero map is all neutral. A few
    outliers make the rest pale: `percentile=99` gives the full colour to the largest hundredth of the values.

    Args:
        relevance: shape `(batch, height, width, channels)`, `(height, width, channels)` or `(height, width)`, any unit
            (attributions come in logits).
        colormap: "blue-white-red" (the default), "seismic" or "blue-black-red"; the first name is negative.
        limit: the |sum| with a full colour, in the unit of `relevance`, for all images alike; larger ones are clipped
            to it. None takes the largest of each image.
        percentile: without a limit, the percentile of |sum|, above 0 to 100, of each image that gets the full colour.
        absolute: whether |sum| is shown, in the colours of positive values alone.

    Returns:
        uint8 array `(batch, height, width, 3)`, or `(height, width, 3)` for one image.

    Raises:
        InvalidInputError: wrong rank or type, NaN or Inf, an unknown map, a limit that is not a positive number, or a
            percentile out of range or beside a limit.

    Example:
        >>> heatmap(np.array([[-1.0, 0.0, 1.0]]), colormap="seismic").tolist()
        [[[0, 0, 96], [255, 255, 255], [96, 0, 0]]]
    """
    batch, is_batch = as_batch(relevance, "relevance")
    pictures = colorize(strength_of(batch, limit, percentile, absolute), colormap)
    return pictures if is_batch else pictures[0]


def project(signal: Any) -> np.ndarray:
    """A signal as an image with its colours: `x / (2 max|x|) + 1/2`, image by image, so zero is mid-grey.

    This is how Kindermans et al. 2017 (arXiv 1705.05598) show PatternNet. An all-zero signal is all mid-grey.

    Args:
        signal: shape `(batch, height, width, channels)`, `(height, width, channels)` or `(height, width)`, with 1 or 3
            channels, in the unit of the model's input. One channel is shown grey.

    Returns:
        uint8 array `(batch, height, width, 3)`, or `(height, width, 3)` for one image; 128 where the signal is zero.

    Raises:
        InvalidInputError: another number of channels, wrong rank or type, NaN or Inf.

    Example:
        >>> project(np.array([[-2.0, 0.0, 1.0]]))[..., 0].tolist()
        [[0, 128, 191]]
    """
    batch, is_batch = as_batch(signal, "signal")
    check_colour_channels(batch, "signal", "Choose channels, as in signal[..., :3], or show their sum with heatmap.")
    pictures = _to_bytes(batch / _largest(batch) / 2 + 0.5)
    pictures = np.broadcast_to(pictures, (*pictures.shape[:-1], 3)).copy()
    return pictures if is_batch else pictures[0]


def channels(signal: Any) -> np.ndarray:
    """A picture for each channel of a signal, zero mid-grey, all channels of an image on one scale.

    Args:
        signal: shape `(batch, height, width, channels)`, `(height, width, channels)` or `(height, width)`, any number of
            channels, any unit: PatternNet's signals, for instance, or relevance kept inside a network.

    Returns:
        uint8 array `(batch, channels, height, width, 3)`, or `(channels, height, width, 3)` for one image.

    Raises:
        InvalidInputError: wrong rank or type, NaN or Inf.

    Example:
        >>> channels(np.array([[[-1.0, 1.0]]]))[..., 0].tolist()
        [[[0]], [[255]]]
    """
    batch, is_batch = as_batch(signal, "signal")
    shown = np.moveaxis(_to_bytes(batch / _largest(batch) / 2 + 0.5), -1, 1)
    pictures = np.repeat(shown[..., None], 3, axis=-1)
    return pictures if is_batch else pictures[0]


def overlay(
    relevance: Any,
    image: Any,
    colormap: str = DEFAULT,
    limit: float | None = None,
    opacity: float = 0.9,
    *,
    percentile: float = 100.0,
    absolute: bool = False,
) -> np.ndarray:
    """A heat map over the image in grey: a pixel takes on as much colour as its relevance is large.

    The weight of the colour is `opacity * min(1, 2 |s| / max|s|)`, so where nothing is relevant the plain image shows.

    Args:
        relevance: as in `heatmap`.
        image: the explained image, of the same rank and size as `relevance`, with 1 or 3 channels. uint8 is shown as it
            is, 0 black and 255 white; all other types are stretched, each image's least value black and its largest
            white (a constant image is mid-grey). Three channels are read as red, green, blue.
        colormap: as in `heatmap`.
        limit: as in `heatmap`.
        opacity: the weight of the strongest colour, 0 (image alone) to 1.
        percentile: as in `heatmap`.
        absolute: as in `heatmap`.

    Returns:
        uint8 array `(batch, height, width, 3)`, or `(height, width, 3)` for one image.

    Raises:
        InvalidInputError: as in `heatmap`; sizes that differ; an image without 1 or 3 channels; an opacity outside
            0..1.

    Example:
        >>> overlay(np.zeros((1, 2)), np.array([[0, 255]], np.uint8))[..., 0].tolist()
        [[0, 255]]
    """
    batch, is_batch = as_batch(relevance, "relevance")
    if isinstance(opacity, str) or not 0 <= opacity <= 1:
        raise InvalidInputError(f"opacity is {opacity!r}; expected a number from 0 (image alone) to 1.")
    strength = strength_of(batch, limit, percentile, absolute)
    weight = opacity * np.minimum(1, 2 * np.abs(strength))[..., None]
    grey = _grey(image, np.shape(relevance))[..., None]
    pictures = _to_bytes((1 - weight) * grey + weight * (colorize(strength, colormap) / 255))
    return pictures if is_batch else pictures[0]


def strength_of(batch: np.ndarray, limit: float | None, percentile: float, absolute: bool) -> np.ndarray:
    """The sum over channels in units of the limit, clipped to -1..1: float64 (batch, height, width)."""
    absolute, strength = truth(absolute, "absolute"), _signed_strength(batch, limit, percentile)
    return np.abs(strength) if absolute else strength


def _signed_strength(batch, limit, percentile):
    if isinstance(percentile, (str, bool)) or not np.isscalar(percentile) or not 0 < percentile <= 100:
        raise InvalidInputError(f"percentile is {percentile!r}; expected a number above 0, up to 100.")
    if limit is not None and percentile != 100:
        raise InvalidInputError(f"limit is {limit!r} and percentile {percentile!r}; give one of the two.")
    channels = batch.shape[-1]
    means = (batch / channels).sum(axis=-1)  # a mean cannot overflow where a sum could
    if limit is None:
        return np.clip(means / _scale(means, percentile), -1, 1)
    if isinstance(limit, (str, bool)) or not np.isscalar(limit) or not 0 < limit < np.inf:
        raise InvalidInputError(
            f"limit is {limit!r}; expected one positive, finite number in the unit of relevance, or None for the "
            "largest value of each image."
        )
    bound = max(float(limit) / channels, np.finfo(np.float64).tiny)
    return np.clip(means, -bound, bound) / bound


def _scale(means, percentile):
    """The percentile of the magnitudes of each image, with axes kept; the largest where that is zero."""
    scale = np.percentile(np.abs(means), percentile, axis=(1, 2), keepdims=True)
    return np.where(scale > 0, scale, _largest(means))


def _largest(batch):
    """The largest absolute value of each image, with axes kept; 1 where an image is all zero."""
    largest = np.abs(batch).max(axis=tuple(range(1, batch.ndim)), keepdims=True)
    return np.where(largest > 0, largest, 1.0)


def _grey(image, shape):
    """The image's lightness in 0..1, float64 (batch, height, width), checked against the relevance's shape."""
    batch, _ = as_batch(image, "image")
    check_colour_channels(batch, "image", "Pass the image that was explained, before any channel was added.")
    if np.ndim(image) != len(shape) or _places(np.shape(image)) != _places(shape):
        raise InvalidInputError(
            f"image has the shape {np.shape(image)} and relevance {shape}; expected the same rank, batch, height and "
            "width. Pass the image that was explained, resized as the model saw it."
        )
    lightness = batch[..., 0] if batch.shape[-1] == 1 else batch @ LUMA
    return lightness / 255 if np.asarray(image).dtype == np.uint8 else _stretch(lightness)


def _places(shape):
    """An array's shape without its channels."""
    return shape if len(shape) == 2 else shape[:-1]


def _stretch(lightness):
    """Each image's least value becomes 0 and its largest 1; a constant image becomes 1/2."""
    half = lightness / 2  # the difference of two halves cannot overflow
    least = half.min(axis=(1, 2), keepdims=True)
    span = half.max(axis=(1, 2), keepdims=True) - least
    return np.where(span > 0, (half - least) / np.where(span > 0, span, 1.0), 0.5)


def _to_bytes(values):
    """Numbers from 0 to 1 as uint8, rounded to the nearest (1/2 becomes 128)."""
    return np.rint(255 * values).astype(np.uint8)
