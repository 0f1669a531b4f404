"""`fit_statistics` and `fit_patterns`: from a model and data to patterns, in one call."""

import gc
import logging
import os
import warnings

import numpy as np

from innvest_lite import backend
from innvest_lite.errors import InvalidInputError
from innvest_lite.inputs import input_spec, one_of, positive
from innvest_lite.patterns import files
from innvest_lite.patterns.data import fit_arguments
from innvest_lite.patterns.estimators import ESTIMATORS, estimate
from innvest_lite.patterns.fitter import Flush, PatternFitter
from innvest_lite.patterns.layout import Layout
from innvest_lite.patterns.patterns import Patterns
from innvest_lite.patterns.statistics import PatternStatistics

__all__ = ["fit_patterns", "fit_statistics"]

_log = logging.getLogger("innvest_lite")


def fit_patterns(model, data=None, estimator="relu", **options):
    """Fits the patterns of a model's linear layers (Kindermans et al. 2017, arXiv 1705.05598, section 3).

    Fit once, use in both: `PatternNet(model, patterns=...)` and `PatternAttribution(model, patterns=...)`.

    Args:
        model: a Functional or Sequential `keras.Model`; not changed.
        data: samples that the model sees in use, preprocessed as it expects: an array, a tensor, a batched
            `tf.data.Dataset`, a `keras.utils.PyDataset`, or an iterable of batches; of `(x, y)` batches x is used.
        estimator: "relu" (a+, the positive regime of the two-component estimator), "relu.negative" (a-), "linear" (S_a),
            or "filter" (S_w, which needs no data).
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
    one_of(estimator, ESTIMATORS, "estimator")
    layout = Layout.of(model)
    if estimator == "filter":
        return patterns_of(layout, None, estimator)
    statistics = _gathered(model, layout, data, components=estimator != "linear", **options)
    return patterns_of(layout, statistics, estimator)


def fit_statistics(model, data, **options):
    """Gathers the sums behind the patterns: for data in parts, on many machines, to be merged.

    Args:
        model: a Functional or Sequential `keras.Model`; not changed.
        data: see `fit_patterns`.
        **options: `batch_size` (32, for arrays); `steps`, how many batches to take (None: all); `checkpoint`, a path to
            write the sums to every few dozen steps and at the end; where it exists, the fit goes on after the batches
            in it, so a finished file gives its patterns again and new data wants a new path; `verbose` and `callbacks`, as
            in `keras.Model.fit`; `regime`, "rectifier" or "own" (DESIGN, decision 9); `jit_compile`, as in an analyzer.

    Returns:
        `PatternStatistics`, from which `patterns(model, estimator)` gives every estimator.
    """
    return _gathered(model, Layout.of(model), data, components=True, **options)


_SILENT = {"relu": "were never positive", "relu.negative": "were never negative"}


def _warn_of_dead_units(layout, arrays, reports, estimator):
    dead = [name for name, report in reports.items() if report.units and report.dead == report.units]
    if dead:
        _log.warning(
            "No unit of %s was ever active and varied on this data, so nothing passes there and explanations are 0. Fit on "
            "more, and more varied, samples, preprocessed as the model expects.",
            ", ".join(dead),
        )
    for name in (name for name in arrays if name not in dead):
        if layout.forms[name].node.values[0] not in layout.graph.outputs:
            continue
        silent = np.flatnonzero(~np.any(arrays[name], axis=layout.forms[name].fan_in))
        if silent.size:
            _log.warning(
                "Outputs %s of %s %s on this data, so their patterns, and explanations of them, are 0. "
                "Fit on samples of every class.",
                ", ".join(map(str, silent[:10])) + (", ..." if silent.size > 10 else ""),
                name,
                _SILENT.get(estimator, "never varied"),
            )


def patterns_of(layout, statistics, estimator):
    """The patterns of a model from its statistics (None for "filter")."""
    one_of(estimator, ESTIMATORS, "estimator")
    arrays, reports = {}, {}
    for name, form in layout.patterned.items():
        kernel = backend.to_numpy(form.kernel()).astype("float64")
        layer = statistics.layers[name] if statistics else None
        arrays[name], reports[name] = estimate(estimator, layer, kernel, form.fan_in)
        arrays[name] = arrays[name].astype("float32")
    _warn_of_dead_units(layout, arrays, reports, estimator)
    fingerprints = statistics.fingerprints if statistics else layout.fingerprints()
    return Patterns(arrays, estimator, fingerprints, reports)


def _gathered(model, layout, data, **options):
    """The `PatternStatistics`."""
    statistics = _fitted(model, layout, data, **options)
    # The fitter, its callbacks and its compiled step refer to each other: without this, sums as large as three kernels
    # live on.
    gc.collect()
    return statistics


def _fitted(
    model,
    layout,
    data,
    *,
    components,
    batch_size=32,
    steps=None,
    checkpoint=None,
    verbose="auto",
    callbacks=None,
    regime="rectifier",
    jit_compile="auto",
):
    batch_size = positive(batch_size, "batch_size")
    steps = None if steps is None else positive(steps, "steps")
    if data is None:
        raise InvalidInputError("Patterns are fitted on data: pass samples that the model sees in use.")
    inputs = input_spec(model, layout.graph)
    fitter = PatternFitter(layout, inputs, components, regime)
    fitter.compile(optimizer=None, jit_compile=backend.has_accelerator() if jit_compile == "auto" else jit_compile)
    if checkpoint is not None:
        files.check_folder(checkpoint)
    if checkpoint is not None and os.path.exists(checkpoint):
        fitter.resume(PatternStatistics.load(checkpoint))
    done = fitter.statistics.batches
    left = None if steps is None else steps - done
    if left is None or left > 0:
        arguments = fit_arguments(data, inputs, batch_size, skip=done)
        callbacks = [Flush(checkpoint), *(callbacks or ())]
        if arguments is not None:
            with warnings.catch_warnings():
                if steps is None:
                    # Of an iterable, Keras cannot know that its end is the end.
                    warnings.filterwarnings("ignore", message="Your input ran out of data")
                fitter.fit(**arguments, steps_per_epoch=left, shuffle=False, callbacks=callbacks, verbose=verbose)
    if done and fitter.statistics.batches == done:
        _log.warning(
            "%s already holds %d batches, and the data (or steps=) has no more: nothing was added. A fit on other data "
            "wants a checkpoint of its own.",
            checkpoint,
            done,
        )
    if not fitter.statistics.samples:
        raise InvalidInputError("The data set is empty: it gave no sample.")
    return fitter.statistics
