"""Images of a class's template under waves that all classes share, for a small CNN."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from innvest_lite.datasets.checks import float32, generator, non_negative
from innvest_lite.errors import InvalidInputError
from innvest_lite.options import positive
from innvest_lite.tables import Brief

_BLOBS = 3  # A template has as many.
_PIXELS = 3  # A blob's cell is at least so wide.


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class TemplateImages(Brief):
    """What `template_images` gives; float32 unless stated otherwise.

    Attributes:
        images: `(samples, size, size, 1)`: `signal + distractor` and the pixels' noise.
        labels: int64 `(samples,)`, the class of each.
        signal: `(samples, size, size, 1)`, the part of each image that is its class's template.
        distractor: `(samples, size, size, 1)`, the part that is waves.
        templates: `(classes, size, size, 1)`, of peak 1 and at least 0.
        waves: `(2 * distractors, size, size, 1)`, all that distractors are made of: first the cosines, then the sines.
    """

    images: np.ndarray
    labels: np.ndarray
    signal: np.ndarray
    distractor: np.ndarray
    templates: np.ndarray
    waves: np.ndarray


def template_images(
    samples: int,
    size: int = 28,
    classes: int = 2,
    distractors: int = 3,
    strength: float = 0.5,
    *,
    periods: Sequence[float] = (0.25, 1.0),
    noise: float = 0.5,
    seed: int = 0,
) -> TemplateImages:
    """Images for a small CNN: the template of a class, under waves that all classes share.

    A template is a sum of Gaussian blobs, at places that no other class has, times an amplitude uniform on [0.5, 1.5]. A
    distractor is a plane wave of a fixed direction and length with normal amplitudes of its cosine and its sine, so that
    all distractors together have the same standard deviation, `strength`, at every pixel: a threshold on the best pixel
    finds the class of about 77 % of the samples, and of 68 % where strength is 1. Long waves are like uneven light, which a
    filter cancels when its weights sum to 0.
    The noise keeps the classes from being told apart without cancelling the waves: a network that can leave them in its
    logits does, and no explanation of it can then be the template. Templates and waves depend on seed, size, classes,
    distractors and periods alone.

    Args:
        samples: how many; the classes come at random.
        size: height and width, in pixels.
        classes: how many, at least 2.
        distractors: how many waves, at least 1.
        strength: the standard deviation of the distractors at each pixel, in peaks of a template; at least 0.
        periods: the smallest and the largest number of periods that a wave has per image, at least 0; drawn uniformly.
        noise: the standard deviation of the independent noise of pixels, at least 0.
        seed: of the random numbers.

    Returns:
        A `TemplateImages`.

    Raises:
        InvalidInputError: an argument is out of range, or the images are too small for so many classes.

    Example:
        >>> data = innvest_lite.datasets.template_images(100, classes=4)
        >>> data.images.shape, data.templates.shape
        ((100, 28, 28, 1), (4, 28, 28, 1))
    """
    samples, classes, distractors = positive(samples, "samples"), _several(classes), positive(distractors, "distractors")
    strength, noise, rng = non_negative(strength, "strength"), non_negative(noise, "noise"), generator(seed)
    low, high = _range(periods)
    templates, waves = _templates(positive(size, "size"), classes, rng), _waves(size, distractors, low, high, rng)
    labels = rng.integers(classes, size=samples)
    signal = (rng.uniform(0.5, 1.5, (samples, 1, 1)) * templates[labels]).astype("float32")
    amplitudes = rng.normal(0, strength / math.sqrt(distractors), (samples, len(waves)))
    distractor = float32(np.tensordot(amplitudes, waves, 1), "The distractor")
    images = float32(np.float64(signal) + distractor + rng.normal(0, noise, signal.shape), "The images")
    channel = (array[..., None].astype("float32", copy=False) for array in (signal, distractor, templates, waves))
    return TemplateImages(images[..., None], labels, *channel)


def _templates(size, classes, rng):
    """A sum of blobs for each class, float64 (classes, size, size), of peak 1; each blob in a cell of its own."""
    side = math.ceil(math.sqrt(classes * _BLOBS))
    if size < side * _PIXELS:
        raise InvalidInputError(f"size should be at least {side * _PIXELS} for {classes} classes, but is {size}.")
    cells = rng.permutation(side**2)[: classes * _BLOBS]
    centres = np.stack(np.divmod(cells, side)) + 0.5 + rng.uniform(-0.25, 0.25, (2, len(cells)))
    # In cells; the width of a blob is a quarter of one.
    places = (np.arange(size) + 0.5) / size * side
    rows, columns = np.exp(-8 * (places - centres[..., None]) ** 2)
    templates = np.einsum("cbi,cbj->cij", *(axis.reshape(classes, _BLOBS, size) for axis in (rows, columns)))
    return templates / templates.max((1, 2), keepdims=True)


def _waves(size, distractors, low, high, rng):
    """Cosines and sines, float64 (2 * distractors, size, size), of `low` to `high` periods an image."""
    angles, periods = rng.uniform(0, np.pi, distractors), rng.uniform(low, high, distractors)
    places = (np.arange(size) + 0.5) / size
    down, across = (np.multiply.outer(periods * part, places) for part in (np.sin(angles), np.cos(angles)))
    phases = 2 * np.pi * (down[:, :, None] + across[:, None, :])
    return np.concatenate([np.cos(phases), np.sin(phases)])


def _range(periods):
    """The smallest and the largest number of periods."""
    if not isinstance(periods, list | tuple) or len(periods) != 2:
        raise InvalidInputError(f"periods should be a pair, the smallest and the largest number, but is {periods!r}.")
    low, high = (non_negative(number, "periods") for number in periods)
    if low > high:
        raise InvalidInputError(f"periods should be a pair, the smallest first, but is {periods!r}.")
    return low, high


def _several(classes):
    if positive(classes, "classes") < 2:
        raise InvalidInputError(f"classes should be at least 2, but is {classes}.")
    return int(classes)
