"""`innvest-lite analyze`: images batch by batch, to a picture and an array of each; arrays and tables; texts to a page.

What was explained, class, name and score, is printed, drawn and written (`record`). Results are named after what they
explain and the method, and replace none of an earlier run unless --overwrite says so.
"""

from __future__ import annotations

import argparse
import collections
import pathlib
from typing import Any

import numpy as np

import innvest_lite
from innvest_lite.answers import Scores, answers_and_scores, checked_labels, kind_of
from innvest_lite.attributions import Attributions, checked_path
from innvest_lite.cli import arrays, defaults, exponents, models, naming, overwriting, reading, record, samples, texts
from innvest_lite.cli.pictures import drawn
from innvest_lite.cli.terminal import complain, say
from innvest_lite.errors import InvalidInputError
from innvest_lite.files import check_none_among, check_output_folder, replacing
from innvest_lite.images import load_photo
from innvest_lite.visualize import save


def run(arguments: argparse.Namespace) -> int:
    """Explains all that was given and writes the results; returns the exit code."""
    models.check_file(arguments.model)
    reading.check_there(arguments.images)
    arguments.method = models.method_of(arguments)
    out = pathlib.Path(arguments.out)
    check_output_folder(out)
    exponents.check(out)
    record.check(out)
    for kind, explain in ((reading.is_samples, samples.explain), (texts.is_texts, texts.explain)):
        if any(map(kind, arguments.images)):
            if len(arguments.images) > 1:
                raise InvalidInputError(
                    f"One file at a time, or images: {' '.join(arguments.images)} are of several kinds."
                )
            return explain(arguments, out)
    return _explain_images(arguments, out)


def _explain_images(arguments, out):
    found = reading.found(arguments.images)
    places = _places(found, arguments.images, out, models.named(arguments))
    results = [_with(place, ending) for place in places.values() for ending in (".npy", f".{arguments.format}")]
    results += [] if arguments.save is None else [checked_path(arguments.save)]
    kept = {"one of the images": found.paths, **models.files_read(arguments)}
    check_none_among([*results, *(out / name for name in (exponents.NAME, record.JSON, record.CSV))], kept)
    overwriting.refuse_existing(results, arguments)
    reading.check_preprocessor(arguments.preprocess)
    options, labels = models.analyzer_options(arguments), naming.labels(arguments.labels)
    model = models.load(arguments.model)
    shape = models.image_shape(model, arguments.size)
    prepare = models.preprocessor(arguments.preprocess, model)
    analyzer = innvest_lite.create_analyzer(
        arguments.method, model, **defaults.with_bounds(options, arguments.method, prepare, shape[-1])
    )
    truth = naming.truth_of(found, labels, _classes(analyzer))
    if truth.said:
        say(truth.said)
    if truth.labels is not None:
        checked_labels(truth.labels, _classes(analyzer) or 1)
    target = models.target_of(arguments.target, analyzer, truth.labels)
    models.check_prepared_alike(options.get("patterns"), arguments.preprocess, model)
    batches = reading.batches_for(arguments, model, places)
    task = _Task(arguments, analyzer, target, (found, truth), places)
    try:
        for batch in batches:
            task.explain(batch)
    finally:
        task.finish()
        code = batches.report()
    say(f"Wrote {len(task.rows)} explanations ({models.named(arguments)}) to {arguments.out}")
    return code


def _classes(analyzer):
    explainer = analyzer.explainer
    return explainer.targets.classes if kind_of(explainer) is not None else None


class _Task:
    """The explanations of one run, batch by batch."""

    def __init__(
        self,
        arguments: argparse.Namespace,
        analyzer: Any,
        target: Any,
        known: tuple[reading.Found, naming.Truth],
        places: dict,
    ) -> None:
        self.rows: list[dict] = []
        self._scores: list[Scores] = []
        self._parts: list[Attributions] = []
        self._arguments, self._analyzer, self._target, self._out = arguments, analyzer, target, pathlib.Path(arguments.out)
        (self._found, self._truth), self._places, self._scaled = known, places, 0

    def explain(self, batch: reading.Batch) -> None:
        """Writes the explanations of one batch."""
        given: dict[str, Any] = {"target": self._target, "batch_size": self._arguments.batch_size}
        values, powers = self._analyzer.analyze(batch.inputs, return_exponent=True, **given)
        said, found = answers_and_scores(self._analyzer, batch.inputs, labels=self._truth.labels, **given)
        self._scores += [] if found is None else [found]
        self._keep(batch, values, powers, said)
        self._out.mkdir(parents=True, exist_ok=True)
        names = [self._places[path].relative_to(self._out).as_posix() for path in batch.paths]
        exponents.note(self._out, dict(zip(names, map(int, powers), strict=True)))
        self._scaled += int(np.count_nonzero(powers))
        for number, (path, name) in enumerate(zip(batch.paths, names, strict=True)):
            true, correct = self._true(path), self._is_correct(found, number, path)
            miss = f" (true: {true})" if true is not None and true != said[number].name else ""
            title = f"{self._found.name(path)}: {said[number]}{miss}"
            picture = drawn(
                self._arguments.method,
                values[number],
                batch.pixels[number],
                None if self._arguments.plain else load_photo(path),
                style=_style(self._arguments),
                title=title,
                colormap=self._arguments.colormap,
                unit=self._analyzer.unit,
            )
            self._write(self._places[path], values[number], picture)
            files: dict[str, Any] = {"values": f"{name}.npy", "picture": f"{name}.{self._arguments.format}"}
            known: dict[str, Any] = {"target": self._arguments.target, "true": true, "correct": correct}
            self.rows.append(
                record.row(self._found.name(path), models.named(self._arguments), said[number], **known, **files)
            )

    def _keep(self, batch, values, powers, said):
        """What --save writes at the end."""
        if self._arguments.save is not None:
            names = tuple(self._found.name(path) for path in batch.paths)
            self._parts.append(models.attributions(self._arguments, self._analyzer, names, values, powers, said))

    def finish(self) -> None:
        """Writes and prints what was explained so far."""
        if self._parts:
            Attributions.joined(self._parts).save(self._arguments.save)
        if self.rows:
            record.note(self._out, self.rows)
            record.show(self.rows, self._out)
        for doubt in record.doubts(self._scores):
            complain(f"warning: {doubt}")
        exponents.say_what_is_scaled(self._scaled, self._out)

    def _is_correct(self, found, number, path):
        """Whether what is predicted is the true class; None where that is not known, or another class was asked for."""
        true = self._truth.classes.get(path)
        asked = self._target is not None or self._analyzer.neuron_selection_mode != "max_activation"
        return None if true is None or found is None or asked else not found.misses(number, true)

    def _true(self, path):
        number = self._truth.classes.get(path)
        return None if number is None else self._truth.labels[number]

    def _write(self, place, values, picture):
        """The two files of an image."""
        place.parent.mkdir(parents=True, exist_ok=True)
        # Not np.save, which does not notice where the last bytes find no room.
        with replacing(_with(place, ".npy")) as partial, arrays.Writer(partial, len(values)) as written:
            written.add(values.astype(np.float32, copy=False))
        save(picture, _with(place, f".{self._arguments.format}"))


def _style(arguments):
    return "plain" if arguments.plain else "overlay" if arguments.overlay else "panel"


def _with(place, ending):
    return place.with_name(place.name + ending)


def _places(found, given, out, method):
    """Path of an image -> path of its results without an ending: the image's name and the method's.

    Folders are mirrored. Images of one folder whose names differ only in their ending keep it: `a.png` and `a.jpg` give
    `a.png.gradient.npy` and `a.jpg.gradient.npy`.
    """
    for one in given:
        reading.check_apart(out, pathlib.Path(one))
    relative = {path: path.relative_to(found.root) for path in found.paths}
    # Without regard to capitals: on some file systems `A.npy` and `a.npy` are one file.
    shared = collections.Counter(str(name.with_suffix("")).casefold() for name in relative.values())
    places, taken = {}, set()
    for path, name in relative.items():
        stem = name.with_suffix("")
        place = stem if shared[str(stem).casefold()] == 1 else name
        while str(place).casefold() in taken:
            place = place.with_name(place.name + "_")
        taken.add(str(place).casefold())
        places[path] = out / place.with_name(f"{place.name}.{method}")
    return places
