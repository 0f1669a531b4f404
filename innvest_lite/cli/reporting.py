"""`innvest-lite report`: images by methods on one HTML page."""

from __future__ import annotations

import argparse
import pathlib

import numpy as np

import innvest_lite
from innvest_lite import report
from innvest_lite.cli import arrays, evaluation, models, reading
from innvest_lite.cli.pictures import as_bytes, pictures_of
from innvest_lite.cli.terminal import complain, say
from innvest_lite.errors import InvalidInputError, UnsupportedLayerError
from innvest_lite.files import check_none_among
from innvest_lite.images import find_images

METHODS = ("gradient", "lrp.epsilon_plus_flat", "integrated_gradients", "pattern.net", "pattern.attribution")
"""The methods that are shown by default."""


def run(arguments: argparse.Namespace) -> int:
    """Explains the images and writes the page; returns the exit code."""
    models.check_file(arguments.model)
    if arrays.is_array(arguments.images):
        raise InvalidInputError(
            "A report shows images, from a folder or an image file. For a .npy file use analyze or evaluate."
        )
    methods = models.known_methods(arguments.methods or METHODS)
    out = report.checked_path(arguments.out)
    labels = _labels(arguments.labels)
    patterns = evaluation.given_patterns(arguments, methods)
    reading.check_preprocessor(arguments.preprocess)
    paths = find_images(arguments.images)
    check_none_among([out], {"one of the images": paths, **models.files_read(arguments)})
    if len(paths) > arguments.limit:
        say(f"The first {arguments.limit} of {len(paths)} images are shown; use --limit for more")
        paths = paths[: arguments.limit]
    model = models.load(arguments.model)
    watched = models.with_softmax(model) if arguments.logits else model
    _check_labels(labels, watched)
    models.check_prepared_alike(patterns, arguments.preprocess, model)
    read, code = _read(arguments, model, paths)
    inputs = np.concatenate([batch.inputs for batch in read])
    explained, left_out, patterns = _explained(arguments, model, methods, inputs, patterns)
    samples = _samples(arguments, watched, read, inputs, explained, labels)
    options, more = _measured(arguments, model, [name for name in methods if name in explained], inputs, patterns)
    facts = _facts(arguments, model, samples, code, patterns)
    title = f"Explanations of {pathlib.Path(arguments.model).name}"
    report.write(out, title, samples, facts=facts, **options)
    say(f"Wrote {out}: {len(samples)} images, {len(explained)} methods")
    if not any(sample.classes for sample in samples):
        say("The outputs are not probabilities of classes, so none are shown. If the model ends in logits, use --logits.")
    for message in dict.fromkeys([*left_out, *more]):
        complain(f"left out: {message}")
    return 1 if left_out else code


def _labels(path):
    """The names of the classes, or None."""
    if path is None:
        return None
    try:
        return pathlib.Path(path).read_text(encoding="utf-8-sig").rstrip("\n").split("\n")
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"--labels {path!r} is not text in UTF-8: {error}.") from error


def _facts(arguments, model, samples, code, patterns):
    """The sentences about the page as a whole."""
    said = [f"{model.name}, {len(samples)} images, prepared by {arguments.preprocess!r}."]
    said += ["Some images could not be read and are left out."] if code else []
    said.append(f"Each explanation is of the {'predicted class' if _is_of_two_classes(model) else 'largest output'}.")
    if patterns is not None:
        source = pathlib.Path(arguments.patterns).name if arguments.patterns else "fitted on these images themselves"
        said.append(f"Patterns: {source}.")
    return " ".join(said)


def _check_labels(labels, model):
    """Checks, before the work starts, that there is a label for each output."""
    if len(model.outputs) != 1:
        raise InvalidInputError(f"A report needs a model with one output, but this one has {len(model.outputs)}.")
    classes = 2 if _is_of_two_classes(model) else model.output_shape[-1]
    if labels is not None and len(labels) != classes:
        raise InvalidInputError(f"--labels names {len(labels)} classes, but the model has {classes}.")


def _is_of_two_classes(model):
    """Whether the model's only output is one sigmoid unit."""
    return innvest_lite.Gradient(model).explainer.targets.two_classes


def _read(arguments, model, paths):
    """The batches of all images, and the exit code: 1 where some could not be read."""
    batches = reading.batches_for(arguments, model, paths)
    try:
        read = list(batches)
    finally:
        code = batches.report()
    return read, code


def _explained(arguments, model, methods, inputs, patterns):
    """Method -> explanations and exponents; a message for each method that is not supported; patterns, where needed."""
    found, left_out = {}, []
    for number, name in enumerate(methods, 1):
        say(f"{name}, {number} of {len(methods)}")
        try:
            if models.needs_patterns(name) and patterns is None:
                patterns = evaluation.fitted(arguments, model, inputs)
            analyzer = models.create(name, model, patterns)
        except UnsupportedLayerError as error:
            left_out.append(f"{name}: {error}")
            continue
        found[name] = analyzer.analyze(inputs, batch_size=arguments.batch_size, return_exponent=True)
    if not found:
        raise InvalidInputError("This model supports none of the methods:\n" + "\n".join(left_out))
    return found, left_out, patterns


def _samples(arguments, watched, read, inputs, explained, labels):
    """A `report.Sample` for each image."""
    pixels = np.concatenate([batch.pixels for batch in read])
    paths = [path for batch in read for path in batch.paths]
    root = pathlib.Path(arguments.images)
    outputs = watched.predict(inputs, batch_size=arguments.batch_size, verbose=0)
    if outputs.ndim == 2 and _is_of_two_classes(watched):
        outputs = np.hstack([1 - outputs, outputs])
    pictures = {name: pictures_of(name, values, pixels, arguments.percentile) for name, (values, _) in explained.items()}
    sums = {name: _sums(values, exponents) for name, (values, exponents) in explained.items()}
    images = np.broadcast_to(as_bytes(pixels), (*pixels.shape[:-1], 3))
    return [
        report.Sample(
            name=path.relative_to(root).as_posix() if root.is_dir() else path.name,
            image=images[place],
            classes=_likeliest(outputs[place], arguments.top, labels),
            pictures={name: found[place] for name, found in pictures.items()},
            values={name: found[place] for name, found in sums.items()},
        )
        for place, path in enumerate(paths)
    ]


def _sums(values, exponents):
    """Sums over channels, float64, in the method's unit; images whose values leave float64 stay divided by 2**exponent."""
    scaled = values.sum(axis=-1, dtype="float64")
    with np.errstate(over="ignore"):
        true = np.ldexp(scaled, exponents[:, None, None])
    fits = np.isfinite(true).all(axis=(1, 2), keepdims=True)
    if not fits.all():
        say("Some values are outside the range of float64: the page shows them divided by a power of two for each image.")
    return np.where(fits, true, scaled)


def _likeliest(outputs, count, labels):
    """`(name, probability)` of the most likely classes; empty for outputs that are not probabilities of classes."""
    if outputs.ndim != 1 or len(outputs) < 2 or outputs.min() < 0 or abs(outputs.sum() - 1) > 1e-2:
        return ()
    best = np.argsort(-outputs, kind="stable")[:count]
    return tuple((f"class {place}" if labels is None else labels[place], float(outputs[place])) for place in best)


def _measured(arguments, model, methods, inputs, patterns):
    """The measures that the page shows, and a message for each method that is not supported."""
    options, left_out = {}, []
    if arguments.degradation:
        compared, left_out = evaluation.degraded(arguments, model, methods, inputs, patterns)
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
