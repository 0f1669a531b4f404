"""The tetrominoes of XAI-TRIS, with and without the distractors of PatternGAM, built from the papers' formulas."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from innvest_lite.datasets.checks import fraction, generator
from innvest_lite.datasets.shapes import Canvas
from innvest_lite.datasets.smoothing import filtered, gaussian_filter
from innvest_lite.errors import InvalidInputError
from innvest_lite.options import one_of, positive, truth
from innvest_lite.tables import Brief

_BACKGROUNDS = ("white", "correlated")
# Published signal strengths, for a white and a correlated background, by (size, distractors).
_PUBLISHED = {
    (8, False): {"linear": (0.18, 0.0125), "multiplicative": (0.7, 0.1), "rigid": (0.65, 0.2), "xor": (0.35, 0.15)},
    (64, False): {"linear": (0.03, 0.02), "multiplicative": (0.65, 0.05), "rigid": (0.575, 0.375), "xor": (0.075, 0.03)},
    (8, True): {"linear": (0.2, 0.05), "multiplicative": (0.6, 0.4), "rigid": (0.6, 0.6), "xor": (0.2, 0.2)},
}
_SCENARIOS = tuple(_PUBLISHED[8, False])
_CORRELATION = {8: 3.0, 64: 10.0}  # pixels: the filter of a correlated background
_FAINT = 0.05  # of a shape's height; what is fainter is not part of the truth
_RARE = 5  # standard deviations of the background, which one value in two million exceeds


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Tetrominoes(Brief):
    """What `tetrominoes` gives; float32 unless stated otherwise.

    Attributes:
        x: `(samples, size, size, 1)`, `signal + distractor + background`, added in this order in float32.
        y: int64 `(samples,)`, the class, 0 or 1.
        signal: as x, what the shapes add. In the scenario "multiplicative" what they take away from the rest,
            -a P (distractor + background), whose mean is 0 in both classes: the variance alone differs.
        distractor: as x, what the squares add, which say nothing of the class; 0 without distractors. In the scenario
            "multiplicative" what they take from the noise.
        background: as x, the noise.
        masks: bool, as x, the truth: which pixels say something of the class.
        signal_strength: a float, alpha.
    """

    x: np.ndarray
    y: np.ndarray
    signal: np.ndarray
    distractor: np.ndarray
    background: np.ndarray
    masks: np.ndarray
    signal_strength: float


def tetrominoes(
    samples: int,
    scenario: str = "linear",
    background: str = "white",
    *,
    distractors: bool = False,
    size: int = 8,
    signal_strength: float | None = None,
    seed: int = 0,
) -> Tetrominoes:
    """T and L, the tetrominoes of XAI-TRIS (Clark et al. 2024, arXiv 2306.12816): images of which the signal is known.

    With shapes P of height 1, noise B and a signal strength a, x = c (a P / norm(P) + (1 - a) B / norm(B)) where the
    scenario adds, and x = c (1 - a P) B where it multiplies. The scenarios, their classes 0 and 1, and what is true:

    - linear: T on the left above, against L on the right below; the pixels of both.
    - multiplicative: the same, but the shape dims the noise and adds nothing; the pixels of both.
    - rigid: T against L, both turned by any multiple of 90 degrees, anywhere; the pixels of the sample's own shape.
    - xor: both shapes at once, of the same sign against opposite signs; the pixels of both.

    The noise is white or, "correlated", filtered by a Gaussian of 3 pixels (10 where size is 64). Distractors are those of
    PatternGAM (Clark et al. 2025, "Correcting misinterpretations of additive models"): four squares D with random signs,
    two of which lie on the places of T and L. Then squares and noise weigh d = (1 - a) / 2 each: d D / norm(D) +
    d B / norm(B) stands in place of (1 - a) B / norm(B), and where the scenario multiplies, x = c (1 - a P) (1 - d D) B.

    Norm and scale: the papers divide by the Frobenius norms of all samples that they draw, and then by the largest abs(x)
    of these. Here norm is the root of the expected sum of squares of one sample, and c is 1 over the sum of the largest
    signal, the largest distractor and 5 standard deviations of the noise. So the parts have the published ratio, abs(x)
    stays below about 1, and small and large draws of all seeds are samples of one problem. For the same reason the class of
    each sample is drawn, both with probability 1/2.

    Where size is 64, a cell of a shape is 8 pixels wide (4 in rigid, there of squares too), and a Gaussian of 1.5 pixels
    smooths all shapes. Masks then hold what is brighter than 1/20 of a shape: two pixels more on each side than before the
    filter, which holds 99.8 % of the squares of the signal. (All that is not 0, as in XAI-TRIS, would go on for six pixels,
    down to 1e-5 of the shape, and be more than three times as large as the shape.)

    Args:
        samples: how many.
        scenario: "linear", "multiplicative", "rigid" or "xor".
        background: "white" or "correlated".
        distractors: whether there are squares.
        size: height and width in pixels, 8 or 64.
        signal_strength: a, in 0..1. By default the published one for this scenario, background and size: without
            distractors that of XAI-TRIS, with distractors that of PatternGAM (in rigid from its authors' settings, not the
            paper). There is none for distractors on 64 x 64 pixels. PatternGAM's without distractors, for a white and a
            correlated background, are 0.2 and 0.1 (linear), 0.6 and 0.4 (multiplicative), 0.3 and 0.3 (xor).
        seed: of the random numbers.

    Returns:
        A `Tetrominoes`.

    Raises:
        InvalidInputError: an argument is out of range, or no signal strength is published for what is asked for.

    Example:
        >>> data = innvest_lite.datasets.tetrominoes(100, "xor", "correlated", distractors=True)
        >>> data.x.shape, data.signal_strength, int(data.masks[0].sum())
        ((100, 8, 8, 1), 0.2, 8)
    """
    samples, scenario = positive(samples, "samples"), one_of(scenario, _SCENARIOS, "scenario")
    background, distractors = one_of(background, _BACKGROUNDS, "background"), truth(distractors, "distractors")
    if not isinstance(size, int | np.integer) or size not in _CORRELATION:
        raise InvalidInputError(f"size should be 8 or 64, but is {size!r}.")
    strength = _strength(signal_strength, scenario, background, distractors, int(size))
    rng = generator(seed)
    y = rng.integers(2, size=samples)
    shapes = _shapes(scenario, int(size), y, rng)
    noise = _noise(samples, int(size), background, rng)
    squares = _squares(shapes.canvas, samples, rng) if distractors else _Part(np.zeros_like(noise.images), 1.0, 0.0)
    mix = _multiplied if scenario == "multiplicative" else _added
    parts = mix(shapes.part, squares, noise, strength, (1 - strength) / 2 if distractors else 1 - strength)
    signal, distractor, rest = (part[..., None] for part in parts)
    return Tetrominoes(signal + distractor + rest, y, signal, distractor, rest, shapes.masks[..., None], strength)


@dataclasses.dataclass(frozen=True, eq=False)
class _Part:
    """Images of one part of x: float32 `(samples, size, size)`, their expected norm, and their largest magnitude."""

    images: np.ndarray
    norm: float
    peak: float


@dataclasses.dataclass(frozen=True, eq=False)
class _Shapes:
    part: _Part
    masks: np.ndarray
    canvas: Canvas


def _shapes(scenario, size, y, rng):
    """The tetrominoes of all samples, and their masks."""
    rigid = scenario == "rigid"
    canvas = Canvas(size, max(1, size // (16 if rigid else 8)))
    if rigid:
        images = canvas.turned(y, rng)
        return _Shapes(_Part(images, math.sqrt(canvas.mean_square()), 1.0), images > _FAINT, canvas)
    both = canvas.tetrominoes()
    squares = float(np.sum(both**2))
    masks = np.repeat((both > _FAINT).any(0, keepdims=True), len(y), 0)
    if scenario != "xor":
        return _Shapes(_Part(both[y], math.sqrt(squares / 2), 1.0), masks, canvas)
    first = rng.integers(2, size=len(y)) * 2 - 1
    signs = np.stack([first, first * (1 - 2 * y)], 1).astype("float32")
    return _Shapes(_Part(np.tensordot(signs, both, 1), math.sqrt(squares), 1.0), masks, canvas)


def _squares(canvas, samples, rng):
    """The distractors of all samples; signs are independent, so that the expected sum of squares has no products."""
    squares = canvas.squares()
    signs = (rng.integers(2, size=(samples, len(squares))) * 2 - 1).astype("float32")
    return _Part(np.tensordot(signs, squares, 1), float(np.sqrt(np.sum(squares**2))), 1.0)


def _noise(samples, size, background, rng):
    """Noise of which one pixel before the filter has the standard deviation 1; any other would fall out of B / |B|."""
    images = rng.standard_normal((samples, size, size), "float32")
    if background == "white":
        return _Part(images, float(size), float(_RARE))
    matrix = gaussian_filter(size, _CORRELATION[size])
    # Of the variances of rows and columns: the variance of a pixel is their product.
    variances = np.sum(matrix**2, 1)
    return _Part(filtered(images, matrix), float(variances.sum()), float(_RARE * variances.max()))


def _added(shapes, squares, noise, strength, rest):
    """The three parts of x where they are added: float32 images."""
    parts, weights = (shapes, squares, noise), (strength, rest, rest)
    weights = [weight / part.norm for weight, part in zip(weights, parts, strict=True)]
    scale = 1 / sum(weight * part.peak for weight, part in zip(weights, parts, strict=True))
    return [np.float32(scale * weight) * part.images for weight, part in zip(weights, parts, strict=True)]


def _multiplied(shapes, squares, noise, strength, rest):
    """As `_added`, where shapes and squares dim the background, or squares light it up."""
    scale = 1 / (noise.peak * (1 + rest * squares.peak))
    background = np.float32(scale) * noise.images
    distractor = np.float32(-rest) * squares.images * background
    return np.float32(-strength) * shapes.images * (distractor + background), distractor, background


def _strength(given, scenario, background, distractors, size):
    """The signal strength that was given, or else the published one."""
    if given is not None:
        return fraction(given, "signal_strength")
    if (size, distractors) not in _PUBLISHED:
        raise InvalidInputError(
            f"No signal strength is published for distractors on {size} x {size} pixels: say signal_strength=, in 0..1."
        )
    return _PUBLISHED[size, distractors][scenario][_BACKGROUNDS.index(background)]
