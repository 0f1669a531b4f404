"""Data whose ground truth is known: which part of each sample speaks of the class, and which part only disturbs.

From a seed, by NumPy alone, to a frozen record of float32 arrays. Called by users and by tests that ask whether an
explanation shows the signal or the weights. Rows are independent: a slice of a draw is a test set of the same problem.
Data that the package ships, of handwritten digits, is in `innvest_lite.data`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from innvest_lite.errors import InvalidInputError
from innvest_lite.options import as_array, finite, formerly_positional, positive, seed_of

_BLOBS = 3  # A template has as many.
_PIXELS = 3  # A blob's cell is at least so wide.


@dataclasses.dataclass(frozen=True, eq=False)
class SignalDistractor:
    """What `signal_distractor` gives; all float32.

    Attributes:
        x: `(samples, features)`, exactly `signal + distractor`.
        y: `(samples,)`, what a readout should find, in -1..1.
        signal: `(samples, features)`, the part of x that follows y.
        distractor: `(samples, features)`, the part that says nothing of y.
        signal_direction: `(features,)`, a_s.
        distractor_directions: `(distractors, features)`, one a_d a row.
        weight: `(features,)`, the shortest w with w'a_s = 1 and w'a_d = 0, so that w'x = y without noise.
    """

    x: np.ndarray
    y: np.ndarray
    signal: np.ndarray
    distractor: np.ndarray
    signal_direction: np.ndarray
    distractor_directions: np.ndarray
    weight: np.ndarray


@formerly_positional("seed")
def signal_distractor(
    samples: int, signal: Any = (1.0, 0.0), distractor: Any = (1.0, 1.0), noise: float = 1.0, *, seed: int = 0
) -> SignalDistractor:
    """The toy of Kindermans et al. 2017 (arXiv 1705.05598, section 2), with any number of features and distractors.

    x = a_s y + a_d e, y uniform on [-1, 1], e normal. The weight of a linear readout has to cancel the distractors, so it
    does not point along the signal.

    Args:
        samples: how many.
        signal: a_s, a number per feature.
        distractor: a_d, a number per feature; or a matrix of one distractor a row, each with an e of its own.
        noise: the standard deviation of e, at least 0.
        seed: of the random numbers.

    Returns:
        A `SignalDistractor`.

    Raises:
        InvalidInputError: an argument is out of range, shapes do not fit, or the signal lies in the span of the
            distractors, so that no linear readout can tell them apart.

    Example:
        >>> data = innvest_lite.datasets.signal_distractor(100)
        >>> data.x.shape, data.weight
        ((100, 2), array([ 1., -1.], dtype=float32))
    """
    samples, noise, rng = positive(samples, "samples"), _non_negative(noise, "noise"), _generator(seed)
    signal, distractors = _directions(signal, distractor)
    weight = _float32(_unbiased_weight(signal, distractors), "The weight")
    y = rng.uniform(-1, 1, samples).astype("float32")
    signal_part = _float32(np.outer(y, signal), "The signal")
    distractor_part = _float32(rng.normal(0, noise, (samples, len(distractors))) @ distractors, "The distractor")
    x = _float32(np.float64(signal_part) + distractor_part, "x")
    return SignalDistractor(
        x, y, signal_part, distractor_part, signal.astype("float32"), distractors.astype("float32"), weight
    )


def _directions(signal, distractor):
    """The signal's direction, float64 (features,), and the distractors', (distractors, features)."""
    signal, distractors = _numbers(signal, "signal"), np.atleast_2d(_numbers(distractor, "distractor"))
    if signal.ndim != 1 or not signal.any():
        raise InvalidInputError(
            f"signal should be one direction, a number per feature, not all 0, but has shape {signal.shape}"
            f"{' and only zeros' if signal.ndim == 1 else ''}."
        )
    if distractors.ndim != 2 or not distractors.size or distractors.shape[1] != len(signal):
        raise InvalidInputError(
            f"distractor should have shape {signal.shape} or (distractors, {len(signal)}), as signal has {len(signal)} "
            f"features, but has {np.shape(distractor)}."
        )
    return signal, distractors


def _unbiased_weight(signal, distractors):
    """The shortest w with w'a_s = 1 and w'a_d = 0: the signal without its share in the span of the distractors."""
    # Of one length, so that a weak distractor is not taken for a rounding error of a strong one.
    lengths = np.linalg.norm(distractors, axis=1, keepdims=True)
    units = np.divide(distractors, lengths, out=np.zeros_like(distractors), where=lengths > 0)
    _, sizes, basis = np.linalg.svd(units, full_matrices=False)
    basis = basis[sizes > 1e-6]
    scaled = signal / np.linalg.norm(signal)
    rest = scaled - (basis @ scaled) @ basis
    if np.linalg.norm(rest) < 1e-6:
        raise InvalidInputError(
            "The signal lies in the span of the distractors, so that no weight has w'a_s = 1 and w'a_d = 0. Choose "
            "directions that are linearly independent."
        )
    return rest / (rest @ signal)


@dataclasses.dataclass(frozen=True, eq=False)
class Suppressor:
    """What `suppressor` gives; float32 unless stated otherwise.

    Attributes:
        x: `(samples, 2)`, exactly `signal + noise`.
        y: int64 `(samples,)`, the class, 0 or 1.
        signal: `(samples, 2)`, what the class adds: plus or minus half the separation, and 0.
        noise: `(samples, 2)`, of variance 1.
        informative: bool `(2,)`, which features say something of the class by themselves.
        weight: `(2,)`, the gradient of the log-odds of class 1, which the best classifier has: logits per unit of x. Its
            bias is 0.
    """

    x: np.ndarray
    y: np.ndarray
    signal: np.ndarray
    noise: np.ndarray
    informative: np.ndarray
    weight: np.ndarray


@formerly_positional("seed")
def suppressor(samples: int, correlation: float = 0.8, separation: float = 1.0, *, seed: int = 0) -> Suppressor:
    """Two Gaussian classes with a suppressor: a feature that says nothing of the class, yet helps to read it.

    x_1 = separation (y - 1/2) + n_1, x_2 = n_2, where n_1 and n_2 are normal of variance 1 and correlated. The optimal
    weight, separation / (1 - c^2) (1, -c), is not 0 at x_2, which cancels noise (Haufe et al. 2014, doi
    10.1016/j.neuroimage.2013.10.067; Wilming et al. 2022, arXiv 2111.07473). An explanation should not mark x_2.

    Args:
        samples: how many; the class of each is drawn, both with probability 1/2.
        correlation: c, above -1 and below 1.
        separation: the distance of the classes' means in x_1, above 0.
        seed: of the random numbers.

    Returns:
        A `Suppressor`.

    Raises:
        InvalidInputError: an argument is out of range.

    Example:
        >>> data = innvest_lite.datasets.suppressor(100, correlation=0.5, separation=3.0)
        >>> data.informative, data.weight
        (array([ True, False]), array([ 4., -2.], dtype=float32))
    """
    samples, rng = positive(samples, "samples"), _generator(seed)
    correlation, separation = finite(correlation, "correlation"), _non_negative(separation, "separation")
    if not abs(correlation) < 1 or separation == 0:
        raise InvalidInputError(
            "correlation should lie between -1 and 1, both excluded, and separation above 0, but they are "
            f"{correlation!r} and {separation!r}."
        )
    rest = math.sqrt(1 - correlation**2)
    y = rng.integers(2, size=samples)
    signal = _float32(np.outer(y - 0.5, (separation, 0)), "The signal")
    noise = (rng.normal(size=(samples, 2)) @ np.array([[1, correlation], [0, rest]])).astype("float32")
    weight = _float32(separation / rest**2 * np.array([1, -correlation]), "The weight")
    return Suppressor(signal + noise, y, signal, noise, np.array([True, False]), weight)


@dataclasses.dataclass(frozen=True, eq=False)
class TemplateImages:
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
    strength, noise, rng = _non_negative(strength, "strength"), _non_negative(noise, "noise"), _generator(seed)
    low, high = _range(periods)
    templates, waves = _templates(positive(size, "size"), classes, rng), _waves(size, distractors, low, high, rng)
    labels = rng.integers(classes, size=samples)
    signal = (rng.uniform(0.5, 1.5, (samples, 1, 1)) * templates[labels]).astype("float32")
    amplitudes = rng.normal(0, strength / math.sqrt(distractors), (samples, len(waves)))
    distractor = _float32(np.tensordot(amplitudes, waves, 1), "The distractor")
    images = _float32(np.float64(signal) + distractor + rng.normal(0, noise, signal.shape), "The images")
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


def _generator(seed):
    return np.random.default_rng(seed_of(seed))


def _range(periods):
    """The smallest and the largest number of periods."""
    if not isinstance(periods, list | tuple) or len(periods) != 2:
        raise InvalidInputError(f"periods should be a pair, the smallest and the largest number, but is {periods!r}.")
    low, high = (_non_negative(number, "periods") for number in periods)
    if low > high:
        raise InvalidInputError(f"periods should be a pair, the smallest first, but is {periods!r}.")
    return low, high


def _several(classes):
    if positive(classes, "classes") < 2:
        raise InvalidInputError(f"classes should be at least 2, but is {classes}.")
    return int(classes)


def _non_negative(number, name):
    """An option of at least 0 that float32 can hold, as a float."""
    if not 0 <= finite(number, name) <= float(np.finfo("float32").max):
        raise InvalidInputError(f"{name} should be a number of at least 0 within float32's range, but is {number!r}.")
    return float(number)


def _numbers(given, name):
    """An array of finite numbers that float32 can hold, as float64."""
    array = as_array(given, name)
    if array.dtype.kind not in "fiu" or not array.size:
        raise InvalidInputError(f"{name} should hold numbers, but has dtype {array.dtype} and shape {array.shape}.")
    return _float32(array, name).astype("float64")


def _float32(array, name):
    with np.errstate(over="ignore"):
        cast = array.astype("float32")
    if not np.isfinite(cast).all():
        raise InvalidInputError(f"{name} has values that are not finite, or leave the range of float32.")
    return cast
