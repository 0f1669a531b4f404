"""`innvest-lite evaluate`: compares methods on a user's model by image degradation, on demand by rho and known truth."""

from __future__ import annotations

import argparse
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

import innvest_lite
from innvest_lite.answers import scores
from innvest_lite.attributions import Attributions
from innvest_lite.cli import models, overwriting, reading, results, truths
from innvest_lite.cli.terminal import complain, say
from innvest_lite.errors import InvalidInputError, UnsupportedLayerError
from innvest_lite.files import check_none_among, check_output_folder

if TYPE_CHECKING:
    from innvest_lite.metrics import DegradationTable, SignalQuality

METHODS = (
    *("gradient", "input_t_gradient", "guided_backprop", "integrated_gradients", "lrp.epsilon"),
    *("lrp.epsilon_plus_flat", "gradcam", "pattern.net", "pattern.attribution"),
)
"""The methods that are compared by default, of images."""
OF_OTHERS = ("gradient", "input_t_gradient", "integrated_gradients", "lrp.epsilon", "pattern.net", "pattern.attribution")
"""Likewise, of samples that are no images."""
RANDOM = "random order"
_PARTS = 3


def run(arguments: argparse.Namespace) -> int:
    """Measures, prints tables, and writes them; returns the exit code."""
    models.check_file(arguments.model)
    methods = chosen_methods(arguments, METHODS if reading.array_of(arguments.data) is None else OF_OTHERS)
    out = _checked_out(arguments)
    given = given_patterns(arguments, methods)
    truth = truths.given(arguments)
    model = models.load(arguments.model)
    if reading.array_of(arguments.data) is None:
        models.check_prepared_alike(given, arguments.preprocess, model)
    samples, places, names, code = _samples(arguments, model)
    kept = saved(arguments, names)
    if arguments.signal and len(samples) < _PARTS:
        raise InvalidInputError(f"--signal divides the data into three parts, but there are only {len(samples)} samples.")
    # Before the work, since it also says where the masks do not fit.
    scores = None if truth is None else truths.Scores(truth.at(places), samples, arguments.batch_size)
    out.mkdir(parents=True, exist_ok=True)
    if not results.can_draw():
        complain("matplotlib is not installed: tables, but no plots. (pip install matplotlib)")
    _tell_of_doubts(model, samples, arguments.batch_size)
    compared, unsupported = degraded(arguments, model, methods, samples, given, scores=scores, kept=kept)
    say(compared)
    results.save_degradation(compared, out)
    if scores is not None:
        known = scores.table()
        say(known)
        results.save_ground_truth(known, out)
    if arguments.signal:
        quality = measured_signal(arguments, model, samples)
        say(f"{quality}\n1 is best; values that differ from 1 by less than the floor cannot be told from it")
        results.save_signal(quality, out)
    results.save_settings(arguments, len(samples), out)
    say(f"Wrote the tables{' and plots' if results.can_draw() else ''} to {out}")
    for message in unsupported:
        complain(f"left out: {message}")
    return 1 if unsupported else code


def _tell_of_doubts(model, samples, batch_size):
    """What the model's scores say against it, where its output is of classes."""
    found = scores(innvest_lite.Gradient(model), samples, batch_size=batch_size) if len(model.outputs) == 1 else None
    for doubt in found.doubts() if found is not None else ():
        complain(f"warning: {doubt}")


def _checked_out(arguments):
    """The folder to write to, checked before the work starts rather than after it."""
    out, written = pathlib.Path(arguments.out), [pathlib.Path(arguments.out) / name for name in results.FILES]
    check_output_folder(out)
    for given in arguments.data:
        reading.check_apart(out, pathlib.Path(given))
    samples = reading.array_of(arguments.data)
    files = reading.found(arguments.data).paths if samples is None else [samples]
    check_none_among(written, {"the data": files, **models.files_read(arguments)})
    overwriting.refuse_existing(written, arguments)
    return out


def _samples(arguments, model):
    """The samples as the model takes them, their places in DATA and names, and the exit code: 1 where some are missing."""
    samples = reading.array_of(arguments.data)
    generator = np.random.default_rng(arguments.seed)
    if samples is not None:
        array = reading.samples_of(samples, arguments, model)
        if isinstance(array, dict):
            raise InvalidInputError("evaluate is for models with one input; this one takes several columns as inputs.")
        places = _chosen(len(array), arguments.limit, generator)
        return array[places], places, [f"{pathlib.Path(samples).name}[{place}]" for place in places], 0
    reading.check_preprocessor(arguments.preprocess)
    found = reading.found(arguments.data)
    places = _chosen(len(found.paths), arguments.limit, generator)
    batches = reading.batches_for(arguments, model, [found.paths[place] for place in places])
    try:
        read = list(batches)
    finally:
        code = batches.report()
    names = [found.name(path) for batch in read for path in batch.paths]
    return np.concatenate([batch.inputs for batch in read]), places, names, code


def _chosen(count, limit, generator):
    """The indices of the samples to use: all, or `limit` random ones, in their own order."""
    return np.arange(count) if limit is None else np.sort(generator.permutation(count)[:limit])


def chosen_methods(arguments: argparse.Namespace, default: Sequence[str]) -> list[str]:
    """The methods that were named; those by default where none was, nor saved attributions given."""
    return models.known_methods(arguments.methods or ([] if arguments.attributions else default))


def saved(arguments: argparse.Namespace, names: Sequence[str]) -> dict[str, Attributions]:
    """What --attributions names, of the samples of these names, by method; of one method twice also by file.

    Raises:
        InvalidInputError: a file lacks a sample.
        CorruptFileError: a file is damaged.
    """
    found: dict[str, Attributions] = {}
    for path in arguments.attributions:
        part = Attributions.load(path).at(names)
        taken = part.method in found or part.method in (arguments.methods or ())
        found[f"{part.method} ({pathlib.Path(path).name})" if taken else part.method] = part
    return found


def given_patterns(arguments: argparse.Namespace, methods: Sequence[str]) -> innvest_lite.Patterns | None:
    """The patterns of --patterns, or None; read before the work starts."""
    if arguments.patterns and not any(map(models.needs_patterns, methods)):
        raise InvalidInputError("None of the methods uses patterns; remove --patterns.")
    return innvest_lite.Patterns.load(arguments.patterns) if arguments.patterns else None


def degraded(
    arguments: argparse.Namespace,
    model: Any,
    methods: Sequence[str],
    samples: np.ndarray,
    patterns: innvest_lite.Patterns | None,
    *,
    scores: truths.Scores | None = None,
    kept: Mapping[str, Attributions] | None = None,
) -> tuple[DegradationTable, list[str]]:
    """A `DegradationTable` of the methods and the random order, and a message for each method that is not supported.

    Where there are `scores`, those of each method are added to them: one analyzer at a time, which may hold as much as the
    model does. `kept` are explanations that were saved.
    """
    from innvest_lite.metrics import degradation, degradation_table

    names = ("patch", "steps", "replace", "order", "rank_by", "batch_size", "seed")
    options = {name: getattr(arguments, name) for name in names}
    watched = models.with_probabilities(model, arguments.logits, regression_fails=True)
    say(f"{RANDOM}, {len(samples)} samples")
    found = {RANDOM: degradation(watched, None, samples, **{**options, "order": "random"}, verbose=1)}
    analyzers = Analyzers(arguments, model, methods, samples, patterns)
    for name, analyzer in analyzers:
        found[name] = degradation(watched, analyzer, samples, **options, verbose=1)
        if scores is not None:
            scores.add(name, analyzer)
    for name, part in (kept or {}).items():
        say(f"{name}, as saved")
        found[name] = degradation(watched, part, samples, **options, verbose=1)
        others = 0 if part.targets is None else int((part.targets != found[RANDOM].classes).sum())
        if others:
            complain(f"warning: {name} explains another class than is predicted of {others} of {len(samples)} samples.")
        if scores is not None:
            scores.add(name, part.values)
    return degradation_table(found, baseline=RANDOM), analyzers.left_out


class Analyzers:
    """Pairs (name, analyzer) of several methods, one after the other; what is not supported is left out.

    Args:
        arguments: of the command.
        model: the model.
        methods: the names.
        samples: on which patterns are fitted, when the first method wants some, and which know what is absent of a table.
        patterns: that were given, or None.
        pixels: whether samples are made of images by the command's preprocessor, which knows their bounds.

    Attributes:
        patterns: those that are used, once some are.
        left_out: a message for each method that the model does not support.
    """

    def __init__(
        self,
        arguments: argparse.Namespace,
        model: Any,
        methods: Sequence[str],
        samples: np.ndarray,
        patterns: innvest_lite.Patterns | None,
        *,
        pixels: bool = False,
    ) -> None:
        self.patterns, self.left_out = patterns, list[str]()
        self._arguments, self._model, self._methods, self._samples = arguments, model, methods, samples
        self._prepare = models.preprocessor(arguments.preprocess, model) if pixels else None

    def __iter__(self) -> Iterator[tuple[str, innvest_lite.Analyzer]]:
        for number, name in enumerate(self._methods, 1):
            say(f"{name}, {number} of {len(self._methods)}")
            try:
                if models.needs_patterns(name) and self.patterns is None:
                    self.patterns = self._fitted()
                analyzer = models.create(name, self._model, self.patterns, self._prepare, self._samples)
            except UnsupportedLayerError as error:
                self.left_out.append(f"{name}: {error}")
                continue
            yield name, analyzer

    def _fitted(self):
        """Patterns fitted on the samples themselves."""
        count = len(self._samples)
        say(f"Fitting the patterns on the {count} samples themselves; use --patterns for patterns fitted on other data")
        return innvest_lite.fit_patterns(self._model, self._samples, batch_size=self._arguments.batch_size, verbose=1)


def measured_signal(arguments: argparse.Namespace, model: Any, samples: np.ndarray) -> SignalQuality:
    """The `SignalQuality` on three random parts of the samples."""
    from innvest_lite.metrics import signal_quality

    say("Signal estimators (rho): a third of the samples each for fitting, regression and evaluation")
    order = np.random.default_rng(arguments.seed).permutation(len(samples))
    parts = [samples[part] for part in np.array_split(order, _PARTS)]
    return signal_quality(model, *parts, batch_size=arguments.batch_size, seed=arguments.seed, verbose=1)
