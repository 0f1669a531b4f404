"""Blobs of 8 x 8 pixels: a signal, a distractor that shares a blob with it, and noise; the best weights in closed form."""

from __future__ import annotations

import dataclasses

import numpy as np

from innvest_lite.datasets.checks import fraction, generator
from innvest_lite.errors import InvalidInputError
from innvest_lite.options import one_of, positive
from innvest_lite.tables import Brief

_BLOB = np.array([[0, 1, 1, 0], [1, 2, 2, 1], [1, 2, 2, 1], [0, 1, 1, 0]]) / 2
_NONE = np.zeros_like(_BLOB)
_SIGNAL = np.block([[_BLOB, _NONE], [-_BLOB, _NONE]])
_DISTRACTOR = np.block([[_BLOB, -_BLOB], [_NONE, _NONE]])
_NOISES = ("white", "correlated")


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class SuppressorBlobs(Brief):
    """What `suppressor_blobs` gives; float32 unless stated otherwise.

    Attributes:
        x: `(samples, 8, 8, 1)`, `signal + distractor + noise`, added in this order in float32.
        y: int64 `(samples,)`, the class, 0 or 1.
        signal: as x, what the class adds.
        distractor: as x, what says nothing of the class.
        noise: as x.
        masks: bool, as x, the truth: the pixels of the signal, which say something of the class by themselves.
        weight: `(8, 8, 1)`, the gradient of the log-odds of class 1, which the best classifier has: logits per unit of x.
            Its bias is 0.
    """

    x: np.ndarray
    y: np.ndarray
    signal: np.ndarray
    distractor: np.ndarray
    noise: np.ndarray
    masks: np.ndarray
    weight: np.ndarray


def suppressor_blobs(
    samples: int, signal_strength: float = 0.08, noise: str = "correlated", *, seed: int = 0
) -> SuppressorBlobs:
    """Images with suppressors: pixels that say nothing of the class, yet help to read it (Wilming et al. 2022 and 2023).

    The signal a has a blob on the left above and its negative on the left below, the distractor d one on the left above and
    its negative on the right above. With z = -1 or 1 by class, e and the noise n normal, and a strength s,
    x = s z a / norm(a) + (1 - s) / 2 e d / norm(d) + (1 - s) / 2 n / norm(n). The best classifier weighs the blob on the
    right above, as it cancels the distractor there where both blobs meet; a right explanation does not mark it
    (arXiv 2111.07473; arXiv 2306.01464).

    The papers divide by the Frobenius norms of all samples that they draw; here norm is the root of the expected sum of
    squares of one sample, so that small and large draws are of one scale. Correlated noise has a random covariance: random
    orthogonal axes, whose variances are uniform on [0, 1], plus a hundredth of the largest. It depends on the seed alone.

    Args:
        samples: how many; the class of each is drawn, both with probability 1/2.
        signal_strength: s, at least 0 and below 1; in the papers 0, 0.02, 0.04, 0.06 and 0.08.
        noise: "correlated", as in the papers, or "white".
        seed: of the random numbers.

    Returns:
        A `SuppressorBlobs`.

    Raises:
        InvalidInputError: an argument is out of range.

    Example:
        >>> data = innvest_lite.datasets.suppressor_blobs(100)
        >>> data.x.shape, int(data.masks[0].sum()), bool(np.all(data.weight[1:3, 5:7] != 0))
        ((100, 8, 8, 1), 24, True)
    """
    samples, strength = positive(samples, "samples"), fraction(signal_strength, "signal_strength")
    if strength == 1:
        raise InvalidInputError(f"signal_strength should be below 1, which leaves no noise, but is {signal_strength!r}.")
    rng = generator(seed)
    rest = (1 - strength) / 2
    pattern = strength * _SIGNAL / np.linalg.norm(_SIGNAL)
    distractor = rest * _DISTRACTOR / np.linalg.norm(_DISTRACTOR)
    axes, deviations = _noise(one_of(noise, _NOISES, "noise"), rng)
    mixing = rest / np.linalg.norm(deviations) * deviations[:, None] * axes
    y = rng.integers(2, size=samples)
    parts = (
        np.multiply.outer(2 * y - 1, pattern),
        np.multiply.outer(rng.standard_normal(samples), distractor),
        rng.standard_normal((samples, len(mixing))) @ mixing,
    )
    signal, shared, rough = (part.astype("float32").reshape(samples, *_SIGNAL.shape, 1) for part in parts)
    masks = np.repeat((_SIGNAL != 0)[None, ..., None], samples, 0)
    covariance = np.outer(distractor, distractor) + mixing.T @ mixing
    weight = 2 * np.linalg.solve(covariance, pattern.ravel()).reshape(*_SIGNAL.shape, 1)
    return SuppressorBlobs(signal + shared + rough, y, signal, shared, rough, masks, weight.astype("float32"))


def _noise(word, rng):
    """Axes, one a row, and the standard deviations of the noise along them."""
    if word == "white":
        return np.eye(_SIGNAL.size), np.ones(_SIGNAL.size)
    axes, triangle = np.linalg.qr(rng.standard_normal((_SIGNAL.size, _SIGNAL.size)))
    variances = rng.random(_SIGNAL.size)
    # With these signs, all orthogonal matrices are equally likely.
    return axes * np.sign(np.diag(triangle)), np.sqrt(variances + 0.01 * variances.max())
