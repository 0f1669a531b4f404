"""Signals and distractors that a linear readout tells apart, and a suppressor; the best weights in closed form."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from innvest_lite.datasets.checks import float32, generator, non_negative, numbers
from innvest_lite.errors import InvalidInputError
from innvest_lite.options import finite, formerly_positional, positive
from innvest_lite.tables import Brief


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class SignalDistractor(Brief):
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
    samples, noise, rng = positive(samples, "samples"), non_negative(noise, "noise"), generator(seed)
    signal, distractors = _directions(signal, distractor)
    weight = float32(_unbiased_weight(signal, distractors), "The weight")
    y = rng.uniform(-1, 1, samples).astype("float32")
    signal_part = float32(np.outer(y, signal), "The signal")
    distractor_part = float32(rng.normal(0, noise, (samples, len(distractors))) @ distractors, "The distractor")
    x = float32(np.float64(signal_part) + distractor_part, "x")
    return SignalDistractor(
        x, y, signal_part, distractor_part, signal.astype("float32"), distractors.astype("float32"), weight
    )


def _directions(signal, distractor):
    """The signal's direction, float64 (features,), and the distractors', (distractors, features)."""
    signal, distractors = numbers(signal, "signal"), np.atleast_2d(numbers(distractor, "distractor"))
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


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Suppressor(Brief):
    """What `suppressor` gives; float32 unless stated otherwise.

    Attributes:
        x: `(samples, 2)`, exactly `signal + noise`.
        y: int64 `(samples,)`, the class, 0 or 1.
        signal: `(samples, 2)`, what the class adds: plus or minus half the separation, and 0.
        noise: `(samples, 2)`, of the standard deviations that were asked for.
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
def suppressor(
    samples: int,
    correlation: float = 0.8,
    separation: float = 1.0,
    *,
    deviations: Sequence[float] = (1.0, 1.0),
    seed: int = 0,
) -> Suppressor:
    """Two Gaussian classes with a suppressor: a feature that says nothing of the class, yet helps to read it.

    x_1 = separation (y - 1/2) + n_1, x_2 = n_2, where n_1 and n_2 are normal, of standard deviations s_1 and s_2, and
    correlated. The optimal weight, separation / (s_1^2 (1 - c^2)) (1, -c s_1 / s_2), is not 0 at x_2, which cancels noise
    (Haufe et al. 2014, doi 10.1016/j.neuroimage.2013.10.067; Wilming et al. 2022, arXiv 2111.07473, and 2023, arXiv
    2306.01464). An explanation should not mark x_2.

    Args:
        samples: how many; the class of each is drawn, both with probability 1/2.
        correlation: c, above -1 and below 1.
        separation: the distance of the classes' means in x_1, above 0.
        deviations: s_1 and s_2, above 0.
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
    samples, rng = positive(samples, "samples"), generator(seed)
    correlation, separation = finite(correlation, "correlation"), non_negative(separation, "separation")
    if not abs(correlation) < 1 or separation == 0:
        raise InvalidInputError(
            "correlation should lie between -1 and 1, both excluded, and separation above 0, but they are "
            f"{correlation!r} and {separation!r}."
        )
    first, second = _deviations(deviations)
    rest = math.sqrt(1 - correlation**2)
    y = rng.integers(2, size=samples)
    signal = float32(np.outer(y - 0.5, (separation, 0)), "The signal")
    mixing = np.array([[1, correlation], [0, rest]]) * (first, second)
    noise = float32(rng.normal(size=(samples, 2)) @ mixing, "The noise")
    weight = float32(separation / rest**2 / first * np.array([1 / first, -correlation / second]), "The weight")
    return Suppressor(float32(signal + noise, "x"), y, signal, noise, np.array([True, False]), weight)


def _deviations(given):
    """Two standard deviations above 0."""
    if not isinstance(given, list | tuple) or len(given) != 2:
        raise InvalidInputError(f"deviations should be a pair of numbers above 0, but is {given!r}.")
    first, second = (non_negative(number, "deviations") for number in given)
    if first == 0 or second == 0:
        raise InvalidInputError(f"deviations should be a pair of numbers above 0, but is {given!r}.")
    return first, second
