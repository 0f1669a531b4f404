"""`fit_statistics` and `fit_patterns`: from a model and data to patterns, in one call."""

from __future__ import annotations

import logging
import os
import pathlib
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import keras

from innvest_lite import backend
from innvest_lite.errors import InvalidInputError, PatternMismatchError
from innvest_lite.files import check_output
from innvest_lite.folders import ImageFolder
from innvest_lite.inputs import input_spec
from innvest_lite.options import checked_shapes, one_of, positive, shard_of, truth, truth_or
from innvest_lite.patterns import fitter
from innvest_lite.patterns.data import source_of
from innvest_lite.patterns.estimators import DEFAULT, checked_choice, chosen
from innvest_lite.patterns.gatherer import Gatherer
from innvest_lite.patterns.layers import LayerFacts, LayerStatistics
from innvest_lite.patterns.layout import REGIMES, Layout
from innvest_lite.patterns.patterns import Patterns
from innvest_lite.patterns.statistics import PatternStatistics, part_of
from innvest_lite.preprocessing import Preprocessor
from innvest_lite.tables import printable

__all__ = ["PatternFits", "fit_patterns", "fit_statistics"]

_log = logging.getLogger("innvest_lite")
# Of fewer samples, a covariance says next to nothing: its standard error is a fifth of the deviations.
_FEW = 30


def fit_patterns(
    model: keras.Model, data: Any = None, estimator: str | Mapping[str, str] = DEFAULT, **options: Any
) -> Patterns:
    """Fits the patterns of a model's linear layers (Kindermans et al. 2017, arXiv 1705.05598, section 3).

    Fit once, use in both: `PatternNet(model, patterns=...)` and `PatternAttribution(model, patterns=...)`.

    Args:
        model: a `keras.Model`; not changed.
        data: samples that the model sees in use, preprocessed as it expects: an array (also on disk: memory-mapped,
            HDF5), a tensor, a batched `tf.data.Dataset`, a `keras.utils.PyDataset`, an iterable of batches, or the path of
            a folder of images. A batch is x, (x, y), of which x is used, or (x, y, sample_weight).
        estimator: "relu" (a+, the positive regime of the two-component estimator), "relu.safe" (the same, but S_a for units
            of which w'cov is below a tenth of var[y], not just below a thousandth, and for an output of a single unit),
            "relu.rectified" (that at layers whose value reaches a rectifier, and S_a at all others, where values of both
            signs pass), "relu.negative" (a-), "linear" (S_a), or "filter" (S_w, which needs no data); or a
            dict of these by kind of layer: "rectified" (with weights, and its value reaches a rectifier), "unrectified"
            (hidden, and it does not), "output", "single" (an output of one unit, whose negative values are the other
            class), "sum", "average".
        **options: as in `fit_statistics`.

    Returns:
        `Patterns`: layer name -> float32 array in the kernel's shape, with `report()`.

    Raises:
        UnsupportedLayerError: the model has no graph.
        InvalidInputError: the data is empty, of another shape, or holds NaN; or there is no such estimator.

    Example:
        >>> import keras, numpy as np
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, name="dense")])
        >>> fit_patterns(model, np.random.randn(64, 2), verbose=0)["dense"].shape
        (2, 1)
    """
    return fit_statistics(model, data, estimator=checked_choice(estimator), **options).into_patterns()


def fit_statistics(
    model: keras.Model,
    data: Any,
    *,
    estimator: str | Mapping[str, str] | None = None,
    batch_size: int = 32,
    steps: int | None = None,
    sample_weight: Any = None,
    preprocess: str | Callable[[Any], Any] = "none",
    approximate: bool = False,
    regime: str = "rectifier",
    separable: str = "split",
    chains: str = "split",
    shard: tuple[int, int] = (0, 1),
    checkpoint: str | os.PathLike[str] | None = None,
    verbose: int | str = "auto",
    callbacks: Any = None,
    jit_compile: bool | str = "auto",
    preprocessor: Any = None,
    input_shape: Any = None,
    exact: bool | None = None,
) -> PatternStatistics:
    """Gathers the sums behind the patterns: for data in parts, on many machines, to be merged.

    Args:
        model: a `keras.Model`; not changed. Made in the scope of a `tf.distribute` strategy, its
            batches are divided among the replicas; of n workers each takes every n-th batch, and all of them end with
            the sums over the whole data.
        data: see `fit_patterns`.
        estimator: gather the sums that this one needs, see `fit_patterns`; None: those of all estimators, which costs one
            more product per batch (`patterns()` then uses the default).
        batch_size: for arrays and images.
        steps: how many batches to use; None: all.
        sample_weight: for arrays, how much each sample counts, shape (samples,).
        preprocess: for a folder of images, see `innvest_lite.images.preprocess`.
        approximate: for "relu" and "relu.safe", take the mean of x over the positive regime from a part of the data (the
            first 1,024 samples and every 32nd batch), which saves one of two products a batch; the error is of second
            order.
        regime: "rectifier" or "own" (docs/design.md, decision 9).
        separable: whether separable convolutions are two linear maps ("split") or one ("joint").
        chains: whether linear layers behind each other, with no rectifier between them and a dense one at the end, are one
            linear map ("joint", as analyzers fit by themselves), where that costs no more, or several ("split").
        shard: `(index, count)`: take every `count`-th batch, beginning with number `index`, counted from 0: `(0, 8)` is the
            first of eight parts, on the command line `--shard 1/8`. A part may be empty.
        checkpoint: a path to write the sums to every few dozen steps and at the end. Where the file exists, the fit
            continues after the batches in it; a file that covers all of the data gives its result at once, so use a new
            path for new data. With several workers, each writes a file of its own beside it.
        verbose: as in `keras.Model.fit`.
        callbacks: as in `keras.Model.fit`; the batch hooks and those of one epoch are called.
        jit_compile: as in an analyzer.
        preprocessor: as in an analyzer, for data of any kind.
        input_shape: as in an analyzer.
        exact: the former name of `approximate`, with the opposite meaning.

    Returns:
        `PatternStatistics`, from which `patterns()` gives the patterns.

    Raises:
        As `fit_patterns` does.
    """
    choices = {"approximate": approximate, "exact": exact, "regime": regime, "separable": separable, "chains": chains}
    fits = _Fits(model, estimator, **choices, jit_compile=jit_compile, preprocessor=preprocessor, input_shape=input_shape)
    options = {"batch_size": batch_size, "steps": steps, "sample_weight": sample_weight, "preprocess": preprocess}
    return fits.fit(data, **options, shard=shard, checkpoint=checkpoint, verbose=verbose, callbacks=callbacks)


class PatternFits:
    """`fit_patterns` for one model many times, as while it trains: its programs are traced once and kept.

    The sums stay on the device, too: up to three times the size of the kernels.

    Args:
        model: as in `fit_patterns`; its weights may change between fits.
        estimator: as in `fit_patterns`.
        **options: `approximate`, `regime`, `separable`, `chains`, `jit_compile`, `preprocessor`, `input_shape`, as in
            `fit_statistics`.

    Example:
        >>> import keras, numpy as np
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, name="dense")])
        >>> fits, x = PatternFits(model, "linear"), np.random.randn(64, 2)
        >>> before = fits(x, verbose=0)["dense"]
        >>> model.set_weights([-weight for weight in model.get_weights()])  # as training changes them
        >>> np.allclose(fits(x, verbose=0)["dense"], -before, rtol=1e-3)
        True
    """

    def __init__(self, model: keras.Model, estimator: str | Mapping[str, str] = DEFAULT, **options: Any) -> None:
        self._fits = _Fits(model, checked_choice(estimator), **options)

    def __call__(self, data: Any, **options: Any) -> Patterns:
        """The `Patterns` of the model as it is now; further arguments as in `fit_statistics`."""
        return self._fits.fit(data, **options, keep=True).patterns()


class _Fits:
    """Fits of one model with the same choices, which share their compiled programs."""

    def __init__(
        self,
        model,
        estimator,
        *,
        approximate=False,
        regime="rectifier",
        separable="split",
        chains="split",
        jit_compile="auto",
        preprocessor=None,
        input_shape=None,
        exact=None,
    ):
        self._estimator, self._approximate = estimator, _approximate(approximate, exact)
        self._layout = Layout.of(model, separable, chains, checked_shapes(input_shape))
        self._settings = {"regime": one_of(regime, REGIMES, "regime"), "separable": separable, "chains": chains}
        jit_compile = truth_or(jit_compile, "auto", "jit_compile")
        self._jit_compile = backend.has_accelerator() if jit_compile == "auto" else bool(jit_compile)
        self._inputs = input_spec(model, self._layout.graph, Preprocessor.of(preprocessor))
        self._replicas = backend.Replicas.of(model)
        self._gatherer = None

    def fit(
        self,
        data,
        *,
        batch_size=32,
        steps=None,
        sample_weight=None,
        preprocess="none",
        shard=(0, 1),
        checkpoint=None,
        verbose="auto",
        callbacks=None,
        keep=False,
    ):
        """The `PatternStatistics` of data, see `fit_statistics`; `keep` says whether another fit follows."""
        steps = None if steps is None else positive(steps, "steps")
        prepared = _prepared_by(data, preprocess, self._inputs.preprocessor)
        settings = self._settings if prepared is None else {**self._settings, "preprocess": prepared}
        statistics = _empty(self._layout, self._estimator, self._approximate, dict(settings))
        if all(facts.gathered == "nothing" for facts in statistics.facts.values()):
            return statistics
        if data is None:
            raise InvalidInputError("Patterns are fitted on data: pass samples like those that the model is used on.")
        shard, replicas = shard_of(shard), self._replicas
        if getattr(batch_size, "ndim", 0) or isinstance(batch_size, list | tuple):
            raise InvalidInputError("Patterns need no labels: pass samples alone. What follows them is the batch size.")
        size = positive(batch_size, "batch_size")
        source = source_of(data, self._inputs, size, sample_weight=sample_weight, preprocess=preprocess)
        statistics.batch_size = source.batch_size
        # Written to the file, so that `merge` notices a part that is missing or that would count twice.
        statistics.parts = [part_of(*shard)] if shard[1] > 1 else []
        checkpoint = _checkpoint(checkpoint, replicas)
        with fitter.held(checkpoint) as alone:
            statistics = fitter.resumed(statistics, checkpoint, alone)
            # The batches of a shard are divided among the workers.
            first, step = shard[0] + shard[1] * replicas.worker, shard[1] * replicas.workers
            if statistics.batches:
                fitter.check_place(statistics, source, self._inputs, first, step, checkpoint)
                if verbose:
                    print(f"{printable(str(checkpoint))} holds {statistics.batches} batches; the fit continues after them.")
            if _wants_more(statistics, steps, checkpoint):
                gathering = fitter.PatternFitter(statistics, self._inputs, self._gatherer_for(statistics), checkpoint)
                done = statistics.batches
                left = None if steps is None else steps - done
                gathering.fit(source, first + step * done, step, left, callbacks, verbose, keep=keep)
                if done and statistics.batches == done:
                    _say_that_nothing_was_added(statistics, checkpoint)
        statistics = fitter.summed_over_workers(statistics, replicas)
        if not statistics.parts:
            # A part may be empty: of 60 images in batches of 32, the third of three is.
            fitter.need_samples(statistics)
            if statistics.samples < _FEW:
                _log.warning(
                    "Patterns were fitted on %d samples. They are covariances of what units see: take some hundred.",
                    statistics.samples,
                )
        return statistics

    def _gatherer_for(self, statistics):
        """The gatherer of all fits, empty."""
        gathered = {name: facts.gathered for name, facts in statistics.facts.items()}
        # A fit that went on from a checkpoint gathers what that holds, which may be more.
        if self._gatherer is None or self._gatherer.gathered != gathered:
            arguments = self._layout, self._inputs, gathered, self._settings["regime"], self._replicas, self._jit_compile
            self._gatherer = Gatherer(*arguments)
        else:
            self._gatherer.begin()
        return self._gatherer


def _prepared_by(data, preprocess, preprocessor):
    """The name of the preprocessor of the data; None where it is not known."""
    if preprocessor is None and isinstance(data, ImageFolder):
        preprocessor = Preprocessor.of(data.preprocess)
    elif preprocessor is None and isinstance(data, str | os.PathLike):
        preprocessor = Preprocessor.of(preprocess)
    return None if preprocessor is None else preprocessor.name


def _empty(layout, estimator, approximate, settings):
    """Statistics of no data."""
    hashes = layout.fingerprints_of_patterns()
    facts = {name: _facts(layout, hashes[name], form, estimator, approximate) for name, form in layout.patterned.items()}
    layers = {name: LayerStatistics.empty(form, facts[name].gathered) for name, form in layout.patterned.items()}
    statistics = PatternStatistics(
        layers, facts, _Kernels(layout, facts), settings, DEFAULT if estimator is None else estimator
    )
    statistics.other_fingerprints = layout.fingerprints_of_others()
    return statistics


def _facts(layout, fingerprint, form, estimator, approximate):
    kind = layout.kind(form)
    return LayerFacts(
        fingerprint=fingerprint,
        kind=kind,
        activation=layout.activation(form),
        fan_in=tuple(form.fan_in),
        is_output=form.node.values[0] in layout.graph.outputs,
        gathered=_gathered(None if estimator is None else chosen(checked_choice(estimator), kind), approximate),
    )


def _approximate(approximate, exact):
    """`approximate`, checked; where `exact` is given, what that meant."""
    approximate = truth(approximate, "approximate")
    if exact is not None:
        truth(exact, "exact")
        warnings.warn("exact= is called approximate= now, with the opposite meaning.", DeprecationWarning, stacklevel=4)
    return approximate if exact is None else not exact


def _gathered(word, approximate):
    """Which sums an estimator needs, a key of `layers.GATHERED`."""
    if word in ("relu", "relu.safe"):
        return "relu, sampled" if approximate else "relu"
    return {None: "all", "relu.negative": "all", "filter": "nothing"}.get(word, word)


class _Kernels:
    """The kernels of a model's layers, by pattern name, computed when they are asked for."""

    def __init__(self, layout, facts):
        self._layout, self._facts = layout, facts

    def __getitem__(self, name):
        return backend.view(self._layout.patterned[name].kernel())

    def verify(self):
        """Raises PatternMismatchError where the model's weights are no longer those of the fit."""
        now = self._layout.fingerprints_of_patterns()
        changed = [name for name, facts in self._facts.items() if now[name] != facts.fingerprint]
        if changed:
            raise PatternMismatchError(
                f"The weights of {', '.join(changed)} have changed since the statistics were gathered: fit again."
            )


def _checkpoint(path, replicas):
    """The path of this process's checkpoint."""
    if path is None:
        return None
    check_output(path)
    path = pathlib.Path(path)
    # Workers may share a disk.
    if replicas.workers == 1:
        return path
    return path.with_name(f"{path.stem}-worker{replicas.worker}-of-{replicas.workers}{path.suffix}")


def _wants_more(statistics, steps, checkpoint):
    """Whether there may be batches that a checkpoint does not hold yet."""
    more = not statistics.complete and (steps is None or statistics.batches < steps)
    if not more:
        _say_that_nothing_was_added(statistics, checkpoint)
    return more


def _say_that_nothing_was_added(statistics, checkpoint):
    _log.warning(
        "%s already holds all %d batches: nothing was added. For a fit on other data, choose another checkpoint.",
        checkpoint,
        statistics.batches,
    )
