"""In-domain single deletion: does an explanation rank the cells of a grid as their deletion does?

Hesse et al. 2024 (arXiv 2407.11910). In: a model that was fine-tuned with `MissingCell`, an analyzer or attributions,
samples. Out: a `SingleDeletion`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from innvest_lite import backend
from innvest_lite.analyzers import Occlusion
from innvest_lite.errors import InvalidInputError
from innvest_lite.forms.inputs import spatial_axes
from innvest_lite.graph import trace
from innvest_lite.metrics.attributions import Subject
from innvest_lite.metrics.baselines import GAIN, check_baseline, check_results, gained
from innvest_lite.metrics.intervals import bootstrap
from innvest_lite.metrics.missing import grid_of
from innvest_lite.metrics.patches import Patches
from innvest_lite.metrics.rankings import attributions_of, ranking_of, totals_of
from innvest_lite.metrics.replacements import each_step, own_sample
from innvest_lite.metrics.similarity import spearman
from innvest_lite.options import positive
from innvest_lite.tables import Tabled


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class SingleDeletion(Tabled):
    """How an explanation ranks cells, and how their deletion does.

    Attributes:
        correlations: float64 (samples,), Spearman's rank correlation of `totals` and `drops`; see `spearman` for ties.
        drops: float64 (samples, cells), by how much the explained logit falls when a cell is deleted; cells in C order.
        totals: float64 (samples, cells), the attribution summed over each cell.
        targets: float32 (samples, outputs), the weights of what was explained and watched.
        grid: how many cells lie along each axis.
        ranked_by: "signed" or "magnitude", of the attributions that were summed.
    """

    correlations: np.ndarray
    drops: np.ndarray
    totals: np.ndarray
    targets: np.ndarray
    grid: tuple[int, ...]
    ranked_by: str

    @property
    def mean(self) -> float:
        """The mean correlation."""
        return float(self.correlations.mean())

    def interval(self, level: float = 0.95, resamples: int = 2000, *, seed: int = 0) -> tuple[float, float]:
        """A percentile bootstrap interval, over samples, of the mean correlation.

        Args:
            level: of the interval, between 0 and 1.
            resamples: the number of bootstrap samples.
            seed: of the draws.

        Returns:
            `(low, high)`, two floats.

        Raises:
            InvalidInputError: a number out of range.
        """
        return bootstrap(self.correlations, level, resamples, seed)

    def gain(
        self, baseline: SingleDeletion, level: float = 0.95, resamples: int = 2000, *, seed: int = 0
    ) -> tuple[float, float, float]:
        """By how much the mean correlation exceeds another's on the same samples, with its paired bootstrap interval.

        Args:
            baseline: another `SingleDeletion` of the same samples, targets and grid.
            level: of the interval, between 0 and 1.
            resamples: the number of bootstrap samples.
            seed: of the draws.

        Returns:
            `(mean, low, high)`, three floats.

        Raises:
            InvalidInputError: a number out of range, or correlations that cannot be paired.
        """
        return gained(_gains(self, baseline), level, resamples, seed)

    def to_dict(self) -> dict[str, Any]:
        """All of it but the targets, as plain Python values."""
        return {
            "grid": list(self.grid),
            "ranked_by": self.ranked_by,
            "correlations": self.correlations.tolist(),
            "drops": self.drops.tolist(),
            "totals": self.totals.tolist(),
        }

    def _parts(self) -> Iterator[Any]:
        yield from SingleDeletionTable({"single deletion": self})._parts()


def _gains(result, baseline):
    """The differences of two results' correlations, sample by sample.

    Raises:
        InvalidInputError: they cannot be paired.
    """
    if not isinstance(baseline, SingleDeletion) or not _alike(result, baseline):
        raise InvalidInputError("baseline should be a SingleDeletion of the same samples, targets and grid.")
    return result.correlations - baseline.correlations


def _alike(result, other):
    return result.grid == other.grid and np.array_equal(result.targets, other.targets)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class SingleDeletionTable(Tabled):
    """Methods compared, the highest mean correlation first. It prints as a table.

    Attributes:
        results: name -> `SingleDeletion`.
        baseline: the name of the result that the others are compared with sample by sample, or None.
    """

    results: dict[str, SingleDeletion]
    baseline: str | None = None

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """`{name: {"correlation": mean, "low": ..., "high": ..., "ranked_by": ...}}`; 95 % intervals.

        With a baseline also "gain", "gain_low" and "gain_high": `SingleDeletion.gain` over it. "drop" is the mean fall of
        the logit, "largest_drop" that without the cell that counts most, of each sample.
        """
        found = {}
        for name, result in self.results.items():
            row = dict(zip(("correlation", "low", "high"), (result.mean, *result.interval()), strict=True))
            if self.baseline is not None:
                row |= dict(zip(GAIN, result.gain(self.results[self.baseline]), strict=True))
            drops = result.drops
            row |= {"drop": float(drops.mean()), "largest_drop": float(drops.max(axis=1).mean())}
            found[name] = {**row, "ranked_by": result.ranked_by}
        return found

    def _parts(self) -> Iterator[Any]:
        columns = {"correlation": "rank correlation", "low": "95 % from", "high": "to"}
        if self.baseline is not None:
            columns |= dict(zip(GAIN, (f"gain over {self.baseline}", "95 % of it from", "to"), strict=True))
        columns |= {"drop": "the logit falls by", "largest_drop": "at most"}
        rows = [
            (name, row["ranked_by"], *(f"{row[number]:.4f}" for number in columns)) for name, row in self.to_dict().items()
        ]
        result = next(iter(self.results.values()))
        note = f"{len(result.drops)} samples, {' x '.join(map(str, result.grid))} cells; 1 is best, 0 is chance"
        yield from ((("method", "ranked by", *columns.values()), rows), note)


def single_deletion_table(results: Mapping[str, SingleDeletion], baseline: str | None = None) -> SingleDeletionTable:
    """Compares methods by `single_deletion` (Hesse et al. 2024, arXiv 2407.11910).

    Args:
        results: name -> `SingleDeletion`, of the same samples, targets and grid.
        baseline: the name of one of them, with which the others are then compared sample by sample; or None.

    Returns:
        A `SingleDeletionTable`; print it.

    Raises:
        InvalidInputError: it is not such a mapping.
    """
    check_results(results, SingleDeletion)
    first = next(iter(results.values()))
    if not all(_alike(first, result) for result in results.values()):
        raise InvalidInputError("Only results of the same samples, targets and grid can be compared.")
    check_baseline(baseline, results)
    return SingleDeletionTable(dict(sorted(results.items(), key=lambda pair: -pair[1].mean)), baseline)


def single_deletion(
    model: keras.Model,
    analyzer_or_attributions: Any,
    x: Any,
    grid: Sequence[int] = (4, 4),
    fill: Any = 0.0,
    *,
    target: Any = None,
    rank_by: str = "auto",
    batch_size: int = 32,
    verbose: int | str = 0,
) -> SingleDeletion:
    """The rank correlation of the attribution of each cell with what its deletion alone takes from the logit.

    The in-domain single-deletion score of Hesse et al. 2024 (arXiv 2407.11910): for each sample,
    `spearman_c(sum of the attribution over cell c, y_k(x) - y_k(x with cell c filled))`, y_k being the explained logit; the
    score is the mean over samples. Only one cell is missing at a time, so that a model that was fine-tuned with
    `MissingCell`, of the same grid and fill, has seen such samples; of another model it is a single deletion outside of its
    domain. Like all removal it rewards suppressors (Haufe et al. 2024, arXiv 2409.14590), see `degradation`.

    Args:
        model: a Functional or Sequential `keras.Model` with one input and one output; not changed. What is watched is the
            logit, before a last softmax or sigmoid.
        analyzer_or_attributions: an analyzer of this model, or an array of the shape of `x`.
        x: the samples, `(samples, positions..., channels)` or without channels.
        grid: how many cells lie along each axis of positions; cell c of n begins at position floor(c size / n).
        fill: what a deleted cell becomes, a number or an array that broadcasts to a sample.
        target: as in `analyze`; None: what is predicted.
        rank_by: "signed", "magnitude" or "auto", as in `degradation`.
        batch_size: the number of samples processed at a time.
        verbose: 1 shows progress bars.

    Returns:
        A `SingleDeletion`; it prints as a table and has `correlations`, `mean`, `interval()` and `to_dict()`.

    Raises:
        InvalidInputError: the model has several inputs or outputs; an argument is not one of the above; the attributions
            have another shape than `x`, or hold NaN or infinite values.

    Example:
        >>> from innvest_lite.metrics import single_deletion
        >>> found = single_deletion(model, innvest_lite.InputTimesGradient(model), images[:8], grid=(4, 4))
        >>> found.correlations.shape, found.drops.shape
        ((8,), (8, 16))
    """
    cells, batch_size = grid_of(grid), positive(batch_size, "batch_size")
    ranked_by = ranking_of(analyzer_or_attributions, rank_by)
    traced = trace(model)
    ends = len(traced.inputs), len(traced.outputs)
    if ends != (1, 1):
        raise InvalidInputError(
            f"single_deletion needs a model with one input and one output, but this one has {ends[0]} and {ends[1]}."
        )
    # An engine without a backward pass: any model will do.
    subject = Subject(Occlusion(model), x, target, batch_size)
    (x,), weights = subject.arrays, subject.targets
    patches = _cells_of(subject.graph, x, cells)
    given = attributions_of(analyzer_or_attributions, x, weights, batch_size, verbose, "single_deletion")
    totals = totals_of(patches, given, ranked_by)
    drops = _drops(subject, patches, (x, own_sample(fill, x, subject.spec, "fill"), weights), verbose)
    targets = weights.reshape(len(weights), -1)
    return SingleDeletion(spearman(totals, drops), drops, totals, targets, cells, ranked_by)


def _cells_of(graph, x, cells):
    """The cells of the samples, as `Patches`."""
    axes, channel = spatial_axes(graph, len(x.shape))
    sizes = tuple(x.shape[axis] for axis in axes)
    if len(cells) != len(sizes) or any(count > size for count, size in zip(cells, sizes, strict=True)):
        raise InvalidInputError(
            f"grid should say how many cells lie along each axis of positions, whose sizes are {sizes}, and at most so "
            f"many; but it is {cells}."
        )
    return Patches.in_cells(axes, channel, sizes, cells)


def _drops(subject, patches, arrays, verbose):
    """By how much the watched logit falls without each cell: float64 (samples, cells)."""
    explainer = subject.explainer
    numbers = patches.on_grid(np.arange(patches.count, dtype="int32")[None])

    def logits(x, fill, weights):
        cells = patches.spread(numbers)

        def logit(step):
            # Step 0 deletes nothing.
            outputs = explainer.logits([ops.where(cells == step - 1, fill, x)])
            product = ops.cast(outputs, "float64") * ops.cast(weights, "float64")
            return ops.sum(ops.reshape(product, (ops.shape(x)[0], -1)), axis=1, keepdims=True)

        return each_step(patches.count + 1, logit, ops.shape(x)[0])

    signature = [backend.batch_spec(array.shape, array.dtype.name) for array in arrays]
    program = backend.compiled(logits, signature, explainer.jit_compile)
    (found,) = explainer.batched(program, list(arrays), subject.batch_size, verbose)
    return found[:, :1] - found[:, 1:]
