"""Properties that an explanation may have: completeness, a bounded sensitivity, sparseness.

In: an analyzer and samples, or attributions. Out: one number per sample. Called by users.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from innvest_lite.analyzers import Analyzer
from innvest_lite.errors import InvalidInputError
from innvest_lite.forms.inputs import is_integer
from innvest_lite.metrics.attributions import Subject, vectors
from innvest_lite.metrics.drawing import axes_or_new
from innvest_lite.options import as_array, finite, positive, seed_of
from innvest_lite.tables import Tabled


@dataclasses.dataclass(frozen=True, repr=False)
class Completeness(Tabled):
    """How much of what is explained the attributions add up to.

    Attributes:
        explained: float64 (samples,), the explained logit; of methods with a reference its rise from there.
        sums: float64 (samples,), the sum of all attributions.
    """

    explained: np.ndarray
    sums: np.ndarray

    @property
    def gap(self) -> np.ndarray:
        """`explained - sums`, float64 (samples,)."""
        return self.explained - self.sums

    @property
    def relative(self) -> np.ndarray:
        """`|gap| / |explained|`, float64 (samples,); where nothing is explained, 0 for no gap and else infinite."""
        return _ratio(np.abs(self.gap), np.abs(self.explained))

    def to_dict(self) -> dict[str, list[float]]:
        """`{"explained": [...], "sums": [...], "gap": [...], "relative": [...]}`, one number a sample."""
        return {name: getattr(self, name).tolist() for name in ("explained", "sums", "gap", "relative")}

    def _parts(self) -> Iterator[tuple]:
        columns = (self.explained, self.sums, self.gap, self.relative)
        rows = [(label, *(f"{how(column):.4g}" for column in columns)) for label, how in (("median", np.median), *_ENDS)]
        yield ("over samples", "explained", "sum", "gap", "relative gap"), rows

    def plot(self, axes: Any = None) -> Any:
        """Sums over what is explained, a dot per sample, with the diagonal of complete methods; needs matplotlib.

        Args:
            axes: a matplotlib `Axes`; None makes one.

        Returns:
            The `Axes`.
        """
        axes = axes_or_new(axes)
        axes.plot(self.explained, self.sums, "o")
        axes.axline((0, 0), slope=1, color="0.7")
        axes.set(xlabel="explained", ylabel="sum of the attributions", title="completeness")
        return axes


@dataclasses.dataclass(frozen=True, repr=False)
class MaxSensitivity(Tabled):
    """How far an explanation moves when the input moves a little.

    Attributes:
        values: float64 (samples,), the largest relative change found; a lower bound of the true maximum.
        radius: see `max_sensitivity`.
        samples: see `max_sensitivity`.
    """

    values: np.ndarray
    radius: float
    samples: int

    def to_dict(self) -> dict[str, Any]:
        """`{"values": [one a sample], "radius": ..., "samples": ...}`."""
        return {"values": self.values.tolist(), "radius": self.radius, "samples": self.samples}

    def _parts(self) -> Iterator[tuple]:
        rows = [(label, f"{how(self.values):.4g}") for label, how in (("median", np.median), *_ENDS)]
        yield ("over samples", f"max-sensitivity, radius {self.radius:g}, {self.samples} draws"), rows


_ENDS = (("least", np.min), ("largest", np.max))


def completeness(analyzer: Analyzer, x: Any, target: Any = None, *, batch_size: int = 32) -> Completeness:
    """Whether attributions add up to what they explain: the logit, or of methods with a reference f(x) - f(reference).

    The axiom of completeness of Sundararajan et al. 2017 (arXiv 1703.01365), conservation in Bach et al. 2015.

    Args:
        analyzer: an analyzer, fitted where it needs that.
        x: samples, as `analyze` takes them.
        target: as in `analyze`; with weights on the outputs, their weighted sum is explained.
        batch_size: how many samples go at a time.

    Returns:
        A `Completeness`, in logits.

    Raises:
        InvalidInputError: `analyzer`, `x` or `target` is wrong.

    Example:
        >>> analyzer = innvest_lite.LRP(model, "zero", composite_options={"bias": False})
        >>> completeness(analyzer, images[:8]).sums.shape
        (8,)
    """
    subject = Subject(analyzer, x, target, batch_size)
    sums = vectors(subject.explained()).sum(1)
    weights = subject.targets.reshape(subject.logits.shape)
    start = subject.explainer.measured_from(subject.arrays, subject.targets, batch_size)
    return Completeness((subject.logits * weights).sum(1) - start, sums)


def max_sensitivity(
    analyzer: Analyzer,
    x: Any,
    radius: float = 0.02,
    samples: int = 10,
    seed: int = 0,
    target: Any = None,
    *,
    batch_size: int = 32,
) -> MaxSensitivity:
    """Max-sensitivity: max over d of ||A(x + d) - A(x)|| / ||A(x)|| (Yeh et al. 2019, arXiv 1901.09392, definition 3).

    The maximum over all d with ||d||_inf <= radius is sought among uniform draws. The target stays that of x.

    Args:
        analyzer: an analyzer, fitted where it needs that.
        x: samples of floats, as `analyze` takes them.
        radius: in units of the input.
        samples: how many d are drawn for each sample.
        seed: of the draws.
        target: as in `analyze`.
        batch_size: how many samples go at a time.

    Returns:
        A `MaxSensitivity`, without unit. Where A(x) is 0 everywhere: 0 if it stays so, else infinite.

    Raises:
        InvalidInputError: an argument is wrong, or the model takes whole numbers, which cannot move a little.

    Example:
        >>> max_sensitivity(innvest_lite.Gradient(model), images[:8], samples=2).values.shape
        (8,)
    """
    subject, generator = Subject(analyzer, x, target, batch_size), np.random.default_rng(seed_of(seed))
    if any(map(is_integer, subject.spec.dtypes)):
        raise InvalidInputError("max_sensitivity moves the input a little, which whole numbers such as tokens cannot.")
    if finite(radius, "radius") <= 0:
        raise InvalidInputError(f"radius should be above 0, but is {radius!r}.")
    clean = vectors(subject.explained())
    changes = np.zeros(len(clean))
    for _ in range(positive(samples, "samples")):
        moved = [(array + generator.uniform(-radius, radius, array.shape)).astype(array.dtype) for array in subject.arrays]
        changes = np.maximum(changes, np.linalg.norm(vectors(subject.explained(arrays=moved)) - clean, axis=1))
    return MaxSensitivity(_ratio(changes, np.linalg.norm(clean, axis=1)), float(radius), int(samples))


def sparseness(attributions: Any) -> np.ndarray:
    """The Gini index of the magnitudes of each sample's attributions (Chalasani et al. 2020, arXiv 1810.06583).

    With the magnitudes v_1 <= ... <= v_d, it is 1 - 2 sum_k (v_k / sum v) (d - k + 1/2) / d.

    Args:
        attributions: what `analyze` returns: an array (samples, ...), or a list or dict of them, which count together.

    Returns:
        float64 (samples,): 0 where all magnitudes are equal (also all 0), 1 - 1/d where all but one are 0.

    Raises:
        InvalidInputError: they are no numbers, NaN or infinite, or of different numbers of samples.

    Example:
        >>> sparseness([[0.0, 0.0, 0.0, -2.0], [1.0, -1.0, 1.0, 1.0]])
        array([0.75, 0.  ])
    """
    magnitudes = np.sort(np.abs(_checked(attributions)), axis=1)
    largest = magnitudes[:, -1:]
    shares = magnitudes / np.where(largest == 0, 1, largest)
    count = shares.shape[1]
    weights = (count - np.arange(1, count + 1) + 0.5) / count
    total = shares.sum(1)
    return np.where(total == 0, 0.0, 1 - 2 * (shares @ weights) / np.where(total == 0, 1, total))


def _checked(attributions):
    parts = list(attributions.values()) if isinstance(attributions, dict) else attributions
    arrays = isinstance(parts, list | tuple) and all(hasattr(part, "shape") for part in parts)
    several = isinstance(attributions, dict) or arrays
    parts = [as_array(part, "attributions") for part in (parts if several else [parts])]
    shapes = [part.shape for part in parts]
    if not parts or any(len(shape) < 2 or 0 in shape[1:] or shape[0] != shapes[0][0] for shape in shapes):
        raise InvalidInputError(
            f"attributions should be arrays (samples, ...) of one number of samples, but have {shapes}."
        )
    if any(part.dtype.kind not in "fiu" or not np.isfinite(part).all() for part in parts):
        raise InvalidInputError("attributions should be finite numbers, but hold others.")
    return vectors([part.astype("float64") for part in parts])


def _ratio(above, below):
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(above == 0, 0.0, above / below)
