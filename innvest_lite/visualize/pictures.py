"""From arrays to pictures: heat maps, signals, and heat maps on their image.

The package's docstring says how an array's rank is read. All sums and quotients are float64, and values are divided
before they are added, so float16, 1e30 and 1e-38 do not overflow. A map that is drawn larger or smaller than it is
(`resized`) is clipped, then interpolated, then coloured: the picture is smooth, the relevance is not touched. Called by
users and the command line.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from PIL import Image

from innvest_lite.errors import InvalidInputError
from innvest_lite.foreign import familiar
from innvest_lite.images import as_photo
from innvest_lite.options import truth
from innvest_lite.visualize.checks import as_batch, check_colour_channels, check_size
from innvest_lite.visualize.colormaps import DEFAULT, colorize

LUMA = (0.299, 0.587, 0.114)
"""The lightness of red, green and blue (ITU-R BT.601), what Pillow's mode "L" uses."""

# Pixels of an overlay that are coloured at a time: a photograph's numbers in float64 take many times what its bytes take.
_AT_A_TIME = 1 << 18


@familiar
def heatmap(
    relevance: Any,
    colormap: str = DEFAULT,
    limit: float | None = None,
    *,
    percentile: float = 100.0,
    absolute: bool = False,
    size: tuple[int, int] | None = None,
) -> np.ndarray:
    """A diverging heat map: channels are summed, zero is neutral, and the largest |sum| gets a full colour.

    With `s = sum over channels`, the colour is that of `s / max|s|`, image by image. An all-zero map is all neutral. A few
    outliers make the rest pale: `percentile=99` gives the full colour to the largest hundredth of the values.

    Args:
        relevance: shape `(batch, height, width, channels)`, `(height, width, channels)` or `(height, width)`, any unit
            (attributions come in logits).
        colormap: "blue-white-red" (the default), "seismic" or "blue-black-red", of which the first word is negative and the
            second zero. Also "viridis", "magma" and "jet", without a neutral colour: from -limit to limit, so that zero is
            the colour in the middle, and with `absolute` from 0 to limit.
        limit: the |sum| with a full colour, in the unit of `relevance`, for all images alike; larger ones are clipped
            to it. None takes the largest of each image.
        percentile: without a limit, the percentile of |sum|, above 0 to 100, of each image that gets the full colour.
        absolute: whether |sum| is shown, in the colours of positive values alone.
        size: `(height, width)` of the picture, to which the map is enlarged or reduced smoothly (bilinear); None: that of
            the map, a pixel for each position. Only the picture is smooth: a patch of one colour is one number of the map,
            and what it shows of details finer than the map's own positions is interpolation.

    Returns:
        uint8 array `(batch, height, width, 3)`, or `(height, width, 3)` for one image.

    Raises:
        InvalidInputError: wrong rank or type, NaN or Inf, an unknown map, a limit that is not a positive number, a
            percentile out of range or beside a limit, or a size that is none.

    Example:
        >>> heatmap(np.array([[-1.0, 0.0, 1.0]]), colormap="seismic").tolist()
        [[[0, 0, 96], [255, 255, 255], [96, 0, 0]]]
    """
    batch, is_batch = as_batch(relevance, "relevance")
    strength = strength_of(batch, limit, percentile, absolute)
    if size is not None:
        strength = resized(strength, *_checked_size(size))
    pictures = colorize(strength, colormap, absolute)
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


@familiar
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

    The image may have any size: the photograph that was resized for the model, of 1200 x 800 pixels with a map of 224 x
    224, say, gives a picture of 1200 x 800. The sum over channels is clipped to the limit and enlarged or reduced smoothly
    (bilinear) to the image's size, as `images.load_image` resized the image, without keeping proportions; then it is
    coloured. Relevance itself is not changed, and what the picture shows of details finer than the map's own positions is
    interpolation. At the same size nothing is interpolated.

    Args:
        relevance: as in `heatmap`.
        image: the explained image: an array of the same rank as `relevance`, with 1 or 3 channels, of any height and width;
            or, for one map, the path of an image or an image of Pillow's, as `images.as_photo` takes them. uint8 is shown
            as it is, 0 black and 255 white; all other types are stretched, each image's least value black and its largest
            white (a constant image is mid-grey). Three channels are read as red, green, blue.
        colormap: as in `heatmap`.
        limit: as in `heatmap`.
        opacity: the weight of the strongest colour, 0 (image alone) to 1.
        percentile: as in `heatmap`.
        absolute: as in `heatmap`.

    Returns:
        uint8 array `(batch, height, width, 3)`, or `(height, width, 3)` for one image, of the size of `image`.

    Raises:
        InvalidInputError: as in `heatmap`; another rank or number of images; an image without 1 or 3 channels, or that
            cannot be read; an opacity outside 0..1.

    Example:
        >>> overlay(np.zeros((1, 2)), np.array([[0, 255]], np.uint8))[..., 0].tolist()
        [[0, 255]]
        >>> overlay(np.ones((7, 7)), "photos/bird.png").shape
        (28, 28, 3)
    """
    batch, is_batch = as_batch(relevance, "relevance")
    if isinstance(opacity, str) or not 0 <= opacity <= 1:
        raise InvalidInputError(f"opacity is {opacity!r}; expected a number from 0 (image alone) to 1.")
    strength = strength_of(batch, limit, percentile, absolute)
    image = _image_of(image, np.shape(relevance))
    strength = resized(strength, *image.shape[1:3])
    pictures = np.empty((*strength.shape, 3), np.uint8)
    for number, shown in enumerate(pictures):
        _lay(shown, strength[number], image[number], opacity, lambda part: colorize(part, colormap, absolute))
    return pictures if is_batch else pictures[0]


def _lay(shown, strength, image, opacity, colors):
    """Fills one picture, some rows at a time."""
    stretch = (lambda grey: grey / 255) if image.dtype == np.uint8 else _stretching(_lightness(image))
    rows = max(1, _AT_A_TIME // strength.shape[1])
    for start in range(0, len(strength), rows):
        part = strength[start : start + rows]
        grey = stretch(_lightness(image[start : start + rows]))[..., None]
        weight = opacity * np.minimum(1, 2 * np.abs(part))[..., None]
        shown[start : start + rows] = _to_bytes((1 - weight) * grey + weight * (colors(part) / 255))


def resized(strength: np.ndarray, height: int, width: int) -> np.ndarray:
    """Maps of numbers from -1 to 1 in another size, interpolated bilinearly; the same array where they have it.

    Bilinear: no number leaves the range of its neighbours, so that no rim of the other sign is drawn round a spot.

    Args:
        strength: float `(batch, height, width)`.
        height: pixels.
        width: pixels.

    Returns:
        float array `(batch, height, width)`.
    """
    if strength.shape[1:] == (height, width):
        return strength
    maps = [Image.fromarray(one.astype(np.float32)) for one in strength]
    return np.stack([np.asarray(one.resize((width, height), Image.Resampling.BILINEAR)) for one in maps])


def strength_of(batch: np.ndarray, limit: float | None, percentile: float, absolute: bool) -> np.ndarray:
    """The sum over channels in units of the limit, clipped to -1..1: float64 (batch, height, width)."""
    absolute, strength = truth(absolute, "absolute"), _signed_strength(batch, limit, percentile)
    return np.abs(strength) if absolute else strength


def _signed_strength(batch, limit, percentile):
    means, bound = _means(batch), _bounds(batch, limit, percentile)
    return np.clip(means, -bound, bound) / bound


def limits_of(batch: np.ndarray, limit: float | None, percentile: float) -> np.ndarray:
    """The |sum over channels| that has the full colour, of each image: float64 (batch,), in the unit of the relevance."""
    return _bounds(batch, limit, percentile).reshape(-1) * np.ones(len(batch)) * batch.shape[-1]


def _means(batch):
    """Over channels: float64 (batch, height, width). A mean cannot overflow where a sum could."""
    return (batch / batch.shape[-1]).sum(axis=-1)


def _bounds(batch, limit, percentile):
    """The |mean over channels| that has the full colour, with axes kept."""
    if isinstance(percentile, (str, bool)) or not np.isscalar(percentile) or not 0 < percentile <= 100:
        raise InvalidInputError(f"percentile is {percentile!r}; expected a number above 0, up to 100.")
    if limit is not None and percentile != 100:
        raise InvalidInputError(f"limit is {limit!r} and percentile {percentile!r}; give one of the two.")
    if limit is None:
        return _scale(_means(batch), percentile)
    if isinstance(limit, (str, bool)) or not np.isscalar(limit) or not 0 < limit < np.inf:
        raise InvalidInputError(
            f"limit is {limit!r}; expected one positive, finite number in the unit of relevance, or None for the "
            "largest value of each image."
        )
    return np.full((1, 1, 1), max(float(limit) / batch.shape[-1], np.finfo(np.float64).tiny))


def _scale(means, percentile):
    """The percentile of the magnitudes of each image, with axes kept; the largest where that is zero."""
    scale = np.percentile(np.abs(means), percentile, axis=(1, 2), keepdims=True)
    return np.where(scale > 0, scale, _largest(means))


def _largest(batch):
    """The largest absolute value of each image, with axes kept; 1 where an image is all zero."""
    largest = np.abs(batch).max(axis=tuple(range(1, batch.ndim)), keepdims=True)
    return np.where(largest > 0, largest, 1.0)


def _checked_size(size):
    """A size (height, width), checked."""
    if not isinstance(size, tuple | list) or len(size) != 2:
        raise InvalidInputError(f"size is {size!r}; expected (height, width) in pixels, or None for that of the map.")
    for side, name in zip(size, ("height", "width"), strict=True):
        check_size(side, f"The {name} in size", least=1)
    return tuple(size)


def bytes_of(image: Any) -> np.ndarray:
    """One image as it is shown: uint8 as it is, other types stretched from black to white, `(height, width, 3)`.

    Args:
        image: as in `overlay`: a path, an image of Pillow's, or an array `(height, width)` or `(height, width, 1 or 3)`.

    Raises:
        InvalidInputError: it is none of these.
    """
    if isinstance(image, str | os.PathLike | Image.Image):
        return as_photo(image)
    batch, is_batch = as_batch(image, "image", keep_bytes=True)
    check_colour_channels(batch, "image", "Pass the image that was explained, before any channel was added.")
    if is_batch and len(batch) > 1:
        raise InvalidInputError(
            f"image has the shape {np.shape(image)}; expected one image. Pass those of a batch one by one."
        )
    one = batch[0] if batch.dtype == np.uint8 else _to_bytes(_stretching(batch[0])(batch[0]))
    return np.repeat(one, 3, axis=2) if one.shape[2] == 1 else one


def _image_of(image, shape):
    """The image under a map of that shape, as a batch (batch, height, width, 1 or 3): uint8, or float64."""
    is_file = isinstance(image, str | os.PathLike | Image.Image)
    if is_file:
        batch, rank = as_photo(image)[None], len(shape)
    else:
        batch, rank = as_batch(image, "image", keep_bytes=True)[0], np.ndim(image)
    check_colour_channels(batch, "image", "Pass the image that was explained, before any channel was added.")
    if rank != len(shape) or (rank == 4 and len(batch) != shape[0]):
        found = f"is one photograph, {batch.shape[1:]}," if is_file else f"has the shape {np.shape(image)}"
        raise InvalidInputError(
            f"image {found} and relevance {shape}; expected the same rank, and as many images as maps. Height "
            "and width may differ. Pass the image that was explained, or, of a batch, one by one: relevance[0]."
        )
    return batch


def _lightness(image):
    """The lightness of red, green and blue, or of grey: float64, without the channels' axis."""
    return image[..., 0].astype(np.float64) if image.shape[-1] == 1 else image @ np.array(LUMA)


def _stretching(lightness):
    """A function of lightness after which the image's least value is 0 and its largest 1; 1/2 where it is constant."""
    # The difference of two halves cannot overflow.
    least, span = lightness.min() / 2, lightness.max() / 2 - lightness.min() / 2
    return (lambda grey: (grey / 2 - least) / span) if span > 0 else (lambda grey: np.full(grey.shape, 0.5))


def _to_bytes(values):
    """Numbers from 0 to 1 as uint8, rounded to the nearest (1/2 becomes 128)."""
    return np.rint(255 * values).astype(np.uint8)
