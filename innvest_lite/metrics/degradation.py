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
from innvest_lite.forms.inputs import is_integer, spatial_axes, with_token_inputs
from innvest_lite.forms.values import values_of
from innvest_lite.graph import passes, trace
from innvest_lite.inputs import input_spec
from innvest_lite.metrics.curves import Degradation
from innvest_lite.metrics.patches import Patches
from innvest_lite.options import as_array, formerly_positional, one_of, positive, seed_of
from innvest_lite.preprocessing import refuse_preprocessor
from innvest_lite.targets import Targets

ORDERS = ("most", "least", "random")
REPLACEMENTS = ("patch_mean", "image_mean", "zero")

_log = logging.getLogger("innvest_lite")


@formerly_positional("order")
def degradation(
    model: keras.Model,
    analyzer_or_attributions: Any,
    x: Any,
    patch: int = 9,
    steps: int = 100,
    replace: str | np.ndarray | Callable[[np.ndarray], np.ndarray] = "patch_mean",
    *,
    order: str = "most",
    target: Any = None,
    batch_size: int = 32,
    seed: int = 0,
    verbose: int | str = 0,
) -> Degradation:
    """Replaces patch after patch, in the order of their attribution, and records the probability of a class.

    Kindermans et al. 2017 (arXiv 1705.05598), section 5, after Samek et al. 2017 (arXiv 1509.06321). Patches are
    ordered by the sum of their attribution over positions and channels; of equal ones, the first in the input is first.
    All channels of a patch are replaced together.

    Args:
        model: a Functional or Sequential `keras.Model` with one input and one output of probabilities, `(batch, classes)`,
            or `(batch, 1)` for two classes; not changed.
        analyzer_or_attributions: an analyzer, whose `analyze` explains the recorded class (of a single output, the
            weight is -1 for class 0); or an array of the shape of `x`. Order "random" ignores it.
        x: the samples: images, series, volumes, or tables, whose patches are of so many features.
        patch: how many positions a patch has along each axis; at the far border it may have fewer.
        steps: how many patches are replaced, one after the other; at most all.
        replace: what a patch becomes: "patch_mean", its own mean per channel; "image_mean", the sample's mean per channel;
            "zero"; an array that broadcasts to a sample; or a callable that takes the whole array of samples and gives
            their replacements, in the same shape.
        order: "most", the largest attribution first; "least", the smallest first; "random", drawn per sample with `seed`.
        target: the class to record, or one per sample; None: the class predicted at first.
        batch_size: the number of samples processed at a time.
        seed: of the order "random".
        verbose: 1 shows progress bars.

    Returns:
        A `Degradation`; its curves are float64 `(samples, steps + 1)`, probabilities, with `steps` cut to the number of
        patches. It prints as a table and has `area_over_curve`, `interval()`, `to_dict()` and `plot()`.

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
    patch, steps, batch_size = positive(patch, "patch"), positive(steps, "steps"), positive(batch_size, "batch_size")
    watched = _Watched(model)
    x = watched.samples(x)
    patches = watched.patches(x, patch)
    if patches.count == 1:
        _log.warning("Patch %d covers the whole input, so there is no order of patches to measure: make it smaller.", patch)
    fill = _fill(replace, x, patches, watched.inputs)
    classes = watched.classes(x, target, batch_size)
    if order == "random":
        ranks = _random_ranks(len(x), patches.count, seed_of(seed))
    else:
        explained = watched.weights(classes)
        given = _attributions(analyzer_or_attributions, x, explained, batch_size, verbose)
        ranks = _ranks(patches.totals(given), order)
    steps = min(steps, patches.count)
    arrays = [x, fill, patches.on_grid(ranks), classes]
    program = watched.program(patches, steps, arrays)
    fixed = watched.inputs.batch
    (curves,) = run(program, arrays, fixed or batch_size, backend.has_accelerator(), verbose, always=fixed is not None)
    return Degradation(curves, classes, order, patch)


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
        return Patches(axes, channel, sizes, min(patch, max(sizes, default=1)))

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

    def program(self, patches, steps, arrays):
        """All steps of a batch as one compiled loop: float64 (batch, steps + 1)."""

        def curves(x, fill, ranks, classes):
            ranks = patches.spread(ranks)
            # One value a patch, or one a position, or one a sample.
            by_patch = tuple(fill.shape[axis] for axis in patches.axes) == patches.grid
            fill = patches.spread(fill) if by_patch else fill

            def body(step, state):
                probabilities = self._probabilities(ops.where(ranks < step, fill, x))
                followed = ops.take_along_axis(probabilities, classes[:, None], axis=1)
                return (ops.where(ops.arange(steps + 1, dtype="int32") == step, followed, state[0]),)

            # All steps in one program: only ranks and samples go to the device, not an altered copy for each step.
            start = ops.zeros((ops.shape(x)[0], steps + 1), "float64")
            return backend.loop(steps + 1, body, (start,))[0]

        return backend.compiled(curves, [_spec(array) for array in arrays], backend.has_accelerator())


def _spec(array):
    return backend.batch_spec(array.shape, array.dtype.name)


def _fill(replace, x, patches, inputs):
    """The replacement of patches: of the dtype and rank of `x`; along positions as long as the input, as the grid, or 1."""
    if not isinstance(replace, str):
        return _own_images(replace, x, inputs) if callable(replace) else _own_sample(replace, x, inputs)
    one_of(replace, REPLACEMENTS, "replace")
    if replace == "zero":
        return np.zeros((len(x), *[1] * (x.ndim - 1)), x.dtype)
    if is_integer(x.dtype.name):
        raise InvalidInputError(f"The model takes whole numbers, whose mean is not one: replace should not be {replace!r}.")
    if replace == "patch_mean":
        return patches.means(x).astype(x.dtype)
    return x.mean(axis=patches.axes, keepdims=True, dtype="float64").astype(x.dtype)


def _own_sample(replace, x, inputs):
    array, expected = as_array(replace, "replace"), x.shape[1:]
    if array.dtype.kind not in "fiub" or not _broadcasts(array.shape, expected):
        raise InvalidInputError(
            f"replace should be one of {REPLACEMENTS}, an array that broadcasts to a sample of shape {expected}, or a "
            f"callable, but is {array.dtype} of shape {array.shape} ({type(replace).__name__})."
        )
    return np.broadcast_to(_like_samples(np.broadcast_to(array, expected)[None], inputs), x.shape)


def _broadcasts(shape, expected):
    try:
        return np.broadcast_shapes(shape, expected) == expected
    except ValueError:
        return False


def _own_images(replace, x, inputs):
    # A copy: what the callable does to its argument must not reach the samples.
    images = _like_samples(replace(x.copy()), inputs)
    if images.shape != x.shape:
        raise InvalidInputError(
            f"The array that replace returns should have the samples' shape {x.shape}, but has {images.shape}."
        )
    return images


def _like_samples(images, inputs):
    """Replacements, checked as the samples are and of their dtype."""
    try:
        return inputs.flat(images)[0]
    except InvalidInputError as error:
        raise InvalidInputError(f"What replace returns should be valid samples of the model. {error}") from error


def _attributions(given, x, target, batch_size, verbose):
    """The attributions, checked, of the shape of `x`."""
    if given is None:
        raise InvalidInputError('Only order="random" needs no analyzer or attributions; None was given.')
    if isinstance(given, str | type):
        raise InvalidInputError(
            f"An analyzer or attributions are expected, not {given!r}: make an analyzer with create_analyzer(name, model), "
            "or from its class."
        )
    if callable(getattr(given, "analyze", None)):
        refuse_preprocessor(given, "degradation")
        given = given.analyze(x, target=target, batch_size=batch_size, verbose=verbose)
    array = as_array(given, "The attributions")
    if array.shape != x.shape or array.dtype.kind not in "fiub":
        raise InvalidInputError(
            f"The attributions should be numbers of the samples' shape {x.shape}, but are {array.dtype} of shape "
            f"{array.shape}."
        )
    if not np.isfinite(array).all():
        raise InvalidInputError("The attributions hold NaN or infinite values, which cannot be ordered.")
    return array


def _ranks(totals, order):
    """The place of each patch in the order: int32 (samples, patches)."""
    # Stable, so that equal patches have one order on every platform; the second argsort inverts the permutation.
    first_to_last = np.argsort(-totals if order == "most" else totals, axis=1, kind="stable")
    return np.argsort(first_to_last, axis=1).astype("int32")


def _random_ranks(samples, count, seed):
    ranks = np.tile(np.arange(count, dtype="int32"), (samples, 1))
    return np.random.default_rng(seed).permuted(ranks, axis=1)
