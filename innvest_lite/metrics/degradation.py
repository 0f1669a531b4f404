"""Image degradation: how fast a class's probability falls when what an explanation points at is replaced.

Kindermans et al. 2017 (arXiv 1705.05598), section 5; Samek et al. 2017 (arXiv 1509.06321). In: a model, an analyzer or
attributions, samples. Out: a `Degradation` (`curves`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from innvest_lite import backend
from innvest_lite.analyzers.batches import run
from innvest_lite.errors import InvalidInputError
from innvest_lite.forms import forms_of
from innvest_lite.forms.inputs import spatial_axes, with_token_inputs
from innvest_lite.forms.values import values_of
from innvest_lite.graph import passes, trace
from innvest_lite.inputs import input_spec
from innvest_lite.metrics.curves import Degradation
from innvest_lite.metrics.patches import Patches
from innvest_lite.metrics.rankings import attributions_of, ranking_of, totals_of
from innvest_lite.metrics.replacements import each_step, fill_of
from innvest_lite.options import as_array, formerly_positional, one_of, positive, seed_of
from innvest_lite.targets import Targets

ORDERS = ("most", "least", "random", "both")

# The side of a patch of images and series.
_PATCH = 9
# By how much a mean probability has to fall.
_LITTLE = 0.01

_log = logging.getLogger("innvest_lite")


@formerly_positional("order")
def degradation(
    model: keras.Model,
    analyzer_or_attributions: Any,
    x: Any,
    patch: int | None = None,
    steps: int = 100,
    replace: str | np.ndarray | Callable[[np.ndarray], np.ndarray] | None = None,
    *,
    order: str = "most",
    rank_by: str = "auto",
    target: Any = None,
    batch_size: int = 32,
    seed: int = 0,
    verbose: int | str = 0,
) -> Degradation:
    """Replaces patch after patch, in the order of their attribution, and records the probability of a class.

    Kindermans et al. 2017 (arXiv 1705.05598), section 5, after Samek et al. 2017 (arXiv 1509.06321). All channels of a
    patch are replaced together; of patches that rank alike, the first in the input is first.

    *What is ranked.* A patch counts for what it contributes, summed over positions and channels ("signed"). Signals, in
    units of the input, and gradients have a sign that says neither for nor against a class: where the evidence is dark,
    PatternNet's signal is large and negative. They are ranked by their magnitudes ("magnitude"), as Samek et al. rank
    gradients by norms over channels; PatternNet's paper degrades by attributions alone. Gradient times signal would be in
    logits too, but it is another method, which borrows the gradient, and it cancels within a patch; whoever wants it hands
    in that product.

    *What it cannot tell.* Removal rewards suppressors, which say nothing of the class and only cancel noise: the network
    needs them, so that marking them makes the probability fall (Haufe et al. 2024, arXiv 2409.14590). And images with
    patches replaced are unlike those of the training; `single_deletion` does without.

    Args:
        model: a Functional or Sequential `keras.Model` with one input and one output of probabilities, `(batch, classes)`,
            or `(batch, 1)` for two classes; not changed.
        analyzer_or_attributions: an analyzer, whose `analyze` explains the recorded class (of a single output, the
            weight is -1 for class 0); or an array of the shape of `x`. Order "random" ignores it.
        x: the samples: images, series, volumes, or tables, whose patches are of so many features.
        patch: how many positions a patch has along each axis; at the far border it may have fewer. None: 9, of tables 1, a
            column.
        steps: how many patches are replaced, one after the other; at most all.
        replace: what a patch becomes: "patch_mean", its own mean per channel; "image_mean", the sample's mean per channel;
            "data_mean", the mean of all samples at each position; "zero"; an array that broadcasts to a sample; or a
            callable that takes the whole array of samples and gives their replacements, in the same shape. None:
            "patch_mean", of tables "data_mean".
        order: "most", what ranks highest first; "least", what ranks lowest first; "both", one after the other, for the area
            between the curves; "random", drawn per sample with `seed`.
        rank_by: "signed", "magnitude", or "auto": by magnitude for analyzers whose `sign_tells` is False (PatternNet, the
            input itself, gradients, DeConvNet, Guided BackProp), signed for all others and for arrays.
        target: the class to record, or one per sample; None: the class predicted at first.
        batch_size: the number of samples processed at a time.
        seed: of the order "random".
        verbose: 1 shows progress bars.

    Returns:
        A `Degradation`; its curves are float64 `(samples, steps + 1)`, probabilities, with `steps` cut to the number of
        patches. It prints as a table and has `area_over_curve`, `interval()`, `to_dict()` and `plot()`; of order "both"
        also `area_between`.

    Raises:
        InvalidInputError: the model has several inputs or outputs or does not give probabilities; an argument is not one of
            the above; the attributions have another shape than `x`, or hold NaN or infinite values.

    Example:
        >>> from innvest_lite.metrics import degradation
        >>> found = degradation(model, innvest_lite.InputTimesGradient(model), images[:8], patch=4, steps=10)
        >>> found.curves.shape, found.area_over_curve.shape
        ((8, 11), (8,))
    """
    one_of(order, ORDERS, "order")
    ranked_by = ranking_of(analyzer_or_attributions, rank_by)
    steps, batch_size = positive(steps, "steps"), positive(batch_size, "batch_size")
    watched = _Watched(model)
    x = watched.samples(x)
    is_table = x.ndim == 2 and x.dtype.kind == "f"
    patch = positive((1 if is_table else _PATCH) if patch is None else patch, "patch")
    replace = ("data_mean" if is_table else "patch_mean") if replace is None else replace
    if is_table and patch > 1:
        _log.warning(
            "Patches of %d mix columns of a table that have nothing to do with each other: patch=1 replaces one by one.",
            patch,
        )
    patches = watched.patches(x, patch)
    if patches.count == 1:
        _log.warning("Patch %d covers the whole input, so there is no order of patches to measure: make it smaller.", patch)
    fill = fill_of(replace, x, patches, watched.inputs)
    classes = watched.classes(x, target, batch_size)
    if order == "random":
        ranks = [_random_ranks(len(x), patches.count, seed_of(seed))]
    else:
        if analyzer_or_attributions is None:
            raise InvalidInputError('Only order="random" needs no analyzer or attributions; None was given.')
        explained = watched.weights(classes)
        given = attributions_of(analyzer_or_attributions, x, explained, batch_size, verbose, "degradation")
        totals = totals_of(patches, given, ranked_by)
        ranks = [_ranks(totals, one) for one in (("most", "least") if order == "both" else (order,))]
    found = watched.curves(patches, min(steps, patches.count), (x, fill, classes), ranks, batch_size, verbose)
    if order in ("most", "both"):
        _tell_of_little(found[0].mean(0), patches.count)
    return Degradation(found[0], classes, order, patch, None if order == "random" else ranked_by, *found[1:])


def _tell_of_little(curve, count):
    """Warns where the mean probability hardly moves, whatever is replaced."""
    moved = curve[0] - curve.min()
    if moved < _LITTLE:
        _log.warning(
            "The mean probability falls by %.4f from %.4f while %d of %d patches are replaced: such curves hardly tell "
            "methods apart. Replace more (steps=), larger patches, or by something else; or the model does not look there.",
            moved,
            curve[0],
            len(curve) - 1,
            count,
        )


class _Watched:
    """A model whose probabilities are recorded."""

    def __init__(self, model):
        self._graph = with_token_inputs(trace(model))
        ends = len(self._graph.inputs), len(self._graph.outputs)
        if ends != (1, 1):
            raise InvalidInputError(
                f"degradation needs a model with one input and one output, but this one has {ends[0]} and {ends[1]}."
            )
        self.inputs = input_spec(model, self._graph)
        # Cut, as forms want it: a layer with its activation is two of them.
        self._cut = passes.split_activations(self._graph)
        self._forms = forms_of(self._cut)
        self._outputs = self._count_outputs(model)

    @staticmethod
    def _count_outputs(model):
        shape = tuple(model.outputs[0].shape)
        if len(shape) != 2 or shape[1] is None:
            raise InvalidInputError(f"The model's output should have shape (batch, classes), but has {shape}.")
        return shape[1]

    def samples(self, x):
        """The checked array of the samples."""
        (array,) = self.inputs.flat(x)
        if not array.size:
            raise InvalidInputError(f"x should hold at least one sample, but has shape {array.shape}.")
        return array

    def patches(self, x, patch):
        """The `Patches` of the samples."""
        axes, channel = spatial_axes(self._graph, len(x.shape))
        sizes = tuple(x.shape[axis] for axis in axes)
        return Patches.of_size(axes, channel, sizes, min(patch, max(sizes, default=1)))

    def classes(self, x, target, batch_size):
        """The recorded class of each sample: int64 (samples,)."""
        given = None if target is None else as_array(target, "The target")
        # Labels as Keras gives them.
        given = given[:, 0] if given is not None and given.ndim == 2 and given.shape[1] == 1 else given
        if given is not None and (given.dtype.kind not in "iu" or given.ndim > 1):
            raise InvalidInputError(f"target should be None, a class, or one class per sample, but is {target!r}.")
        # Before anything is computed.
        wanted = Targets((None, max(self._outputs, 2))).weights(given, len(x))
        program = backend.compiled(self._probabilities, [_spec(x)], backend.has_accelerator())
        fixed = self.inputs.batch
        (probabilities,) = run(program, [x], fixed or batch_size, backend.has_accelerator(), always=fixed is not None)
        strange = probabilities[~((probabilities >= 0) & (probabilities <= 1))]
        if strange.size:
            raise InvalidInputError(
                f"The model's outputs should be probabilities, but one is {strange[0]:.4g}. Add a softmax (or, for a "
                "single output, a sigmoid) after its logits; on the command line, --logits does so."
            )
        return (probabilities if wanted is None else wanted).argmax(axis=1)

    def weights(self, classes):
        """The recorded classes as an analyzer's target: of a single output, its logit or the negative of it."""
        return classes if self._outputs > 1 else (2.0 * classes - 1).astype("float32")[:, None]

    def _probabilities(self, x):
        """Float64 (batch, classes)."""
        values = values_of(self._cut, self._forms, [x])
        outputs = ops.cast(values[self._cut.outputs[0]], "float64")
        # A single sigmoid is the probability of class 1; float64 keeps 1 - p where p is tiny.
        return outputs if self._outputs > 1 else ops.concatenate([1 - outputs, outputs], axis=1)

    def curves(self, patches, steps, samples, orders, batch_size, verbose):
        """The recorded probability for each of several `ranks`: float64 arrays (samples, steps + 1)."""
        x, fill, classes = samples
        found, program, fixed = [], None, self.inputs.batch
        for ranks in orders:
            arrays = [x, fill, patches.on_grid(ranks), classes]
            program = program or self._program(patches, steps, arrays)
            found += run(program, arrays, fixed or batch_size, backend.has_accelerator(), verbose, always=fixed is not None)
        return found

    def _program(self, patches, steps, arrays):
        """All steps of a batch as one compiled loop: float64 (batch, steps + 1)."""

        def curves(x, fill, ranks, classes):
            ranks = patches.spread(ranks)
            # One value a patch, or one a position, or one a sample.
            by_patch = tuple(fill.shape[axis] for axis in patches.axes) == patches.grid
            fill = patches.spread(fill) if by_patch else fill

            def probability(step):
                probabilities = self._probabilities(ops.where(ranks < step, fill, x))
                return ops.take_along_axis(probabilities, classes[:, None], axis=1)

            # All steps in one program: only ranks and samples go to the device, not an altered copy for each step.
            return each_step(steps + 1, probability, ops.shape(x)[0])

        return backend.compiled(curves, [_spec(array) for array in arrays], backend.has_accelerator())


def _spec(array):
    return backend.batch_spec(array.shape, array.dtype.name)


def _ranks(totals, order):
    """The place of each patch in the order: int32 (samples, patches)."""
    # Stable, so that equal patches have one order on every platform; the second argsort inverts the permutation.
    first_to_last = np.argsort(-totals if order == "most" else totals, axis=1, kind="stable")
    return np.argsort(first_to_last, axis=1).astype("int32")


def _random_ranks(samples, count, seed):
    ranks = np.tile(np.arange(count, dtype="int32"), (samples, 1))
    return np.random.default_rng(seed).permuted(ranks, axis=1)
