"""`innvest-lite report`: images by methods on one HTML page."""

from __future__ import annotations

import argparse
import itertools
import logging
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

import innvest_lite
from innvest_lite import report
from innvest_lite.answers import Answer, Scores, answers_and_scores, checked_labels, kind_of
from innvest_lite.cli import evaluation, models, naming, reading, table_report
from innvest_lite.cli.terminal import complain, say, told_so_far
from innvest_lite.errors import InvalidInputError
from innvest_lite.files import check_none_among
from innvest_lite.images import load_photo
from innvest_lite.visualize.suited import as_bytes, suited

METHODS = ("gradcam", "gradient", "lrp.epsilon_plus_flat", "integrated_gradients", "pattern.net", "pattern.attribution")
"""The methods that are shown by default."""
# The larger side of a photograph on the page, in pixels.
_SIDE = 560


def run(arguments: argparse.Namespace) -> int:
    """Explains the images and writes the page; returns the exit code."""
    models.check_file(arguments.model)
    if reading.array_of(arguments.images) is not None:
        return table_report.run(arguments)
    methods = evaluation.chosen_methods(arguments, METHODS)
    out = report.checked_path(arguments.out)
    labels = naming.labels(arguments.labels)
    patterns = evaluation.given_patterns(arguments, methods)
    reading.check_preprocessor(arguments.preprocess)
    found = reading.found(arguments.images)
    check_none_among([out], {"one of the images": found.paths, **models.files_read(arguments)})
    paths = _drawn(found, arguments)
    model = models.load(arguments.model)
    watched = models.with_probabilities(model, arguments.logits)
    models.check_prepared_alike(patterns, arguments.preprocess, model)
    judge = _Judge(watched, found, labels, arguments.logits)
    read, code = _read(arguments, model, paths)
    inputs = np.concatenate([batch.inputs for batch in read])
    kept = evaluation.saved(arguments, [found.name(path) for batch in read for path in batch.paths])
    judge.look(inputs, arguments.batch_size)
    analyzers = evaluation.Analyzers(arguments, model, methods, inputs, patterns, pixels=True)
    explained = {}
    for name, analyzer in analyzers:
        given: dict[str, Any] = {"batch_size": arguments.batch_size, "return_exponent": True}
        explained[name] = *analyzer.analyze(inputs, judge.targets, **given), analyzer.picture
    patterns, left_out = analyzers.patterns, analyzers.left_out
    _check_saved(kept, inputs, judge)
    explained |= {name: (one.values, one.exponents, one.picture) for name, one in kept.items()}
    if not explained:
        raise InvalidInputError("This model supports none of the methods:\n" + "\n".join(left_out))
    samples = _samples(arguments, judge, read, explained)
    options, more = _measured(arguments, model, [name for name in methods if name in explained], inputs, patterns, kept)
    for doubt in judge.doubts:
        complain(f"warning: {doubt}")
    facts = _facts(arguments, model, samples, code, patterns, judge)
    title = f"Explanations of {pathlib.Path(arguments.model).name}"
    report.write(out, title, samples, facts=facts, warnings=[*judge.doubts, *told_so_far()], **options)
    say(f"Wrote {out}: {len(samples)} images, {len(explained)} methods")
    for message in dict.fromkeys([*left_out, *more]):
        complain(f"left out: {message}")
    return 1 if left_out else code


def _drawn(found, arguments):
    """The images that are shown: all, or at random as many of each folder as there is room for, in their order."""
    if len(found.paths) <= arguments.limit:
        return found.paths
    folders: dict[pathlib.Path, list[pathlib.Path]] = {}
    generator = np.random.default_rng(arguments.seed)
    for path in (found.paths[place] for place in generator.permutation(len(found.paths))):
        folders.setdefault(path.parent, []).append(path)
    # In another order each time, where there are more folders than images to show.
    order = generator.permutation(len(folders))
    turns = itertools.zip_longest(*([*folders.values()][place] for place in order))
    chosen = set(itertools.islice((path for turn in turns for path in turn if path is not None), arguments.limit))
    of_each = f", as many of each of the {len(folders)} folders" if len(folders) > 1 else ""
    say(
        f"{arguments.limit} of {len(found.paths)} images are shown, drawn at random{of_each}; --limit shows more, --seed "
        "others"
    )
    return tuple(path for path in found.paths if path in chosen)


class _Judge:
    """What the model says of images, and what their folders say."""

    def __init__(self, model: Any, found: reading.Found, labels: Any, logits: bool) -> None:
        if len(getattr(model, "outputs", None) or ()) != 1:
            raise InvalidInputError("A report needs a model with one output, but this one has another number of them.")
        self._analyzer, self._found = innvest_lite.Gradient(model), found
        explainer = self._analyzer.explainer
        kind = kind_of(explainer)
        classes = explainer.targets.classes if kind is not None else None
        if labels is not None:
            checked_labels(labels, classes or 1)
        self._answers: list[Answer] = []
        self._scores: Scores | None = None
        self._of_one_logit = logits and explainer.targets.two_classes
        self.truth = naming.truth_of(found, labels, classes)
        self.many_at_once = kind is not None and not kind[1]
        if self.truth.said:
            say(self.truth.said)

    def name(self, path: pathlib.Path) -> str:
        """What an image is called."""
        return self._found.name(path)

    def look(self, inputs: np.ndarray, batch_size: int) -> None:
        """Asks the model about the images, once for all that is said of them."""
        given: dict[str, Any] = {"labels": self.truth.labels, "batch_size": batch_size}
        self._answers, self._scores = answers_and_scores(self._analyzer, inputs, **given)

    @property
    def doubts(self) -> list[str]:
        """What speaks against the model, see `Scores.doubts`."""
        return [] if self._scores is None else self._scores.doubts()

    def said(self, paths: Sequence[pathlib.Path], top: int) -> list[dict]:
        """For each image the fields of a `report.Sample` that say what it is taken for and what it is."""
        if self._scores is None:
            return [{"classes": (), "said": str(one)} for one in self._answers]
        return [self._judged(self._scores, place, path, top) for place, path in enumerate(paths)]

    @property
    def targets(self) -> Any:
        """What is explained, where that is not what methods explain by themselves: of one logit, the predicted side."""
        if self._scores is None or not self._of_one_logit:
            return None
        return (2.0 * self._scores.predicted - 1).astype("float32")[:, None]

    def misnamed(self, saved: Any) -> int:
        """Of how many images saved explanations are of another class than the predicted one."""
        if self._scores is None or saved.targets is None:
            return 0
        return int((saved.targets != self._scores.predicted).sum())

    def _judged(self, found, place, path, top):
        true = self.truth.classes.get(path)
        known = {} if true is None else {"true": found.name(true), "wrong": found.misses(place, true)}
        return {"classes": found.likeliest(place, top), **known}


def _facts(arguments, model, samples, code, patterns, judge):
    """The sentences about the page as a whole."""
    said = [f"{model.name}, {len(samples)} images, prepared by {arguments.preprocess!r}."]
    said += ["Some images could not be read and are left out."] if code else []
    said.append(f"Each explanation is of the {'predicted class' if judge.truth.labels else 'largest output'}.")
    said += ["The classes do not exclude each other: each has a probability of its own."] if judge.many_at_once else []
    said += [f"{judge.truth.said}."] if judge.truth.said else []
    if patterns is not None:
        source = pathlib.Path(arguments.patterns).name if arguments.patterns else "fitted on these images themselves"
        said.append(f"Patterns: {source}.")
    return " ".join(said)


def _check_saved(kept, inputs, judge):
    """Refuses saved explanations of other shapes, and says where they are of another class than is predicted."""
    for name, one in kept.items():
        if one.values.ndim != 4 or one.values.shape[:-1] != inputs.shape[:-1]:
            raise InvalidInputError(
                f"The attributions by {name} have the shape {one.values.shape}, and the images {inputs.shape}: they are "
                "of others."
            )
        others = judge.misnamed(one)
        if others:
            logging.getLogger("innvest_lite").warning(
                "The maps of %s are of another class than the predicted one for %d of %d images.", name, others, len(inputs)
            )


def _read(arguments, model, paths):
    """The batches of all images, and the exit code: 1 where some could not be read."""
    batches = reading.batches_for(arguments, model, paths)
    try:
        read = list(batches)
    finally:
        code = batches.report()
    return read, code


def _samples(arguments, judge, read, explained):
    """A `report.Sample` for each image."""
    pixels = np.concatenate([batch.pixels for batch in read])
    paths = [path for batch in read for path in batch.paths]
    pictures = {
        name: suited(picture, values, pixels, arguments.percentile) for name, (values, _, picture) in explained.items()
    }
    sums = {name: _sums(values, exponents) for name, (values, exponents, _) in explained.items()}
    return [
        report.Sample(
            name=judge.name(path),
            image=_photo(path, pixels[place]),
            pictures={name: found[place] for name, found in pictures.items()},
            values={name: found[place] for name, found in sums.items()},
            **said,
        )
        for place, (path, said) in enumerate(zip(paths, judge.said(paths, arguments.top), strict=True))
    ]


def _photo(path, pixels):
    """The photograph as large as the page shows it, or, where the model sees more of it or it is small, its pixels."""
    photo = Image.fromarray(load_photo(path))
    if max(photo.size) <= max(pixels.shape[:2]):
        return np.broadcast_to(as_bytes(pixels), (*pixels.shape[:-1], 3)).copy()
    photo.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    return np.asarray(photo)


def _sums(values, exponents):
    """Sums over channels, float64, in the method's unit; images whose values leave float64 stay divided by 2**exponent."""
    scaled = values.sum(axis=-1, dtype="float64")
    with np.errstate(over="ignore"):
        true = np.ldexp(scaled, exponents[:, None, None])
    fits = np.isfinite(true).all(axis=(1, 2), keepdims=True)
    if not fits.all():
        say("Some values are outside the range of float64: the page shows them divided by a power of two for each image.")
    return np.where(fits, true, scaled)


def _measured(arguments, model, methods, inputs, patterns, kept):
    """The measures that the page shows, and a message for each method that is not supported."""
    options, left_out = {}, []
    if arguments.degradation:
        compared, left_out = evaluation.degraded(arguments, model, methods, inputs, patterns, kept=kept)
        options["curves"] = {name: result.mean for name, result in compared.results.items()}
    if arguments.signal:
        quality = evaluation.measured_signal(arguments, model, inputs)
        options["rows"] = [
            {
                "layer": name,
                **{word: _rated(rho, layer.floor) for word, rho in layer.rho.items()},
                "floor": float(layer.floor),
            }
            for name, layer in quality.layers.items()
        ]
    return options, left_out


def _rated(rho, floor):
    """The median of rho; a text instead where there are too few samples for the fan-in."""
    return float(np.median(rho)) if floor < 1 else "too few images"
