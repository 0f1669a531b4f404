"""`innvest-lite analyze`: images batch by batch, to a picture and an array of each; arrays to an array; texts to a page."""

from __future__ import annotations

import argparse
import collections
import pathlib

import numpy as np

import innvest_lite
from innvest_lite.cli import arrays, exponents, models, reading, texts
from innvest_lite.cli.pictures import as_bytes, pictures_of
from innvest_lite.cli.terminal import say
from innvest_lite.errors import InvalidInputError
from innvest_lite.files import check_none_among, check_output_folder, replacing
from innvest_lite.images import find_images
from innvest_lite.visualize import overlay, save


def run(arguments: argparse.Namespace) -> int:
    """Explains all images and writes the results; returns the exit code."""
    models.check_file(arguments.model)
    out = pathlib.Path(arguments.out)
    check_output_folder(out)
    exponents.check(out)
    if arrays.is_array(arguments.images):
        return _explain_array(arguments, out)
    if texts.is_texts(arguments.images):
        return texts.explain(arguments, out)
    paths = find_images(arguments.images)
    places = _places(paths, arguments.images, out)
    results = [_with(place, ending) for place in places.values() for ending in (".npy", ".png")]
    check_none_among([*results, out / exponents.NAME], {"one of the images": paths, **models.files_read(arguments)})
    reading.check_preprocessor(arguments.preprocess)
    options = models.analyzer_options(arguments)
    model = models.load(arguments.model)
    analyzer = _analyzer(arguments, model, options)
    models.check_prepared_alike(options.get("patterns"), arguments.preprocess, model)
    batches = reading.batches_for(arguments, model, places)
    scaled = 0
    try:
        for batch in batches:
            scaled += _explain(batch, analyzer, arguments, places)
    finally:
        code = batches.report()
    _say_what_is_scaled(scaled, out)
    say(f"Wrote {len(places) - len(batches.unreadable)} explanations ({arguments.method}) to {arguments.out}")
    return code


def _analyzer(arguments, model, options):
    """The analyzer, of a model that has such a target."""
    analyzer = innvest_lite.create_analyzer(arguments.method, model, **options)
    targets = analyzer.explainer.targets
    if isinstance(arguments.target, tuple) and not targets.is_dense:
        raise InvalidInputError(
            f"--target {','.join(map(str, arguments.target))} names a position, but the model's output, of shape "
            f"{targets.shape}, has none."
        )
    return analyzer


def _explain_array(arguments, out):
    """Writes the explanations of a file of samples as one array; returns the exit code."""
    samples = arrays.read(arguments.images, arguments.preprocess)
    if arguments.overlay:
        raise InvalidInputError("--overlay is for images; for a .npy file only the values are written.")
    result = out / pathlib.Path(arguments.images).with_suffix(".npy").name
    kept = {"the file of the samples": [arguments.images], **models.files_read(arguments)}
    check_none_among([result, out / exponents.NAME], kept)
    options = models.analyzer_options(arguments)
    analyzer = _analyzer(arguments, models.load(arguments.model), options)
    out.mkdir(parents=True, exist_ok=True)
    powers = {}
    with replacing(result) as partial:
        with arrays.Writer(partial, len(samples)) as written:
            for start in range(0, len(samples), arguments.batch_size):
                values, of_batch = analyzer.analyze(
                    samples[start : start + arguments.batch_size],
                    target=arguments.target,
                    batch_size=arguments.batch_size,
                    return_exponent=True,
                )
                written.add(values)
                powers.update({str(start + place): int(power) for place, power in enumerate(of_batch) if power})
        exponents.note(out, {result.stem: powers})
    _say_what_is_scaled(len(powers), out)
    say(f"Wrote {len(samples)} explanations ({arguments.method}) to {result}")
    return 0


def _explain(batch, analyzer, arguments, places):
    """Writes the explanations of one batch; returns how many left float32's range."""
    values, powers = analyzer.analyze(
        batch.inputs, target=arguments.target, batch_size=arguments.batch_size, return_exponent=True
    )
    if arguments.overlay:
        pictures = overlay(values, as_bytes(batch.pixels))
    else:
        pictures = pictures_of(arguments.method, values, batch.pixels)
    out = pathlib.Path(arguments.out)
    out.mkdir(parents=True, exist_ok=True)
    names = [_relative(places[path], out) for path in batch.paths]
    exponents.note(out, dict(zip(names, map(int, powers), strict=True)))
    for path, value, picture in zip(batch.paths, values, pictures, strict=True):
        _write(places[path], value, picture)
    return np.count_nonzero(powers)


def _write(place, values, picture):
    """The two files of an image."""
    place.parent.mkdir(parents=True, exist_ok=True)
    # Not np.save, which does not notice where the last bytes find no room.
    with replacing(_with(place, ".npy")) as partial, arrays.Writer(partial, len(values)) as written:
        written.add(values.astype(np.float32, copy=False))
    save(picture, _with(place, ".png"))


def _with(place, ending):
    return place.with_name(place.name + ending)


def _places(paths, images, out):
    """Path of an image -> path of its results without an ending.

    Folders are mirrored. Images of one folder whose names differ only in their ending keep it: `a.png` and `a.jpg` give
    `a.png.npy` and `a.jpg.npy`.
    """
    root = pathlib.Path(images)
    reading.check_apart(out, root)
    root = root if root.is_dir() else root.parent
    relative = {path: path.relative_to(root) for path in paths}
    # Without regard to capitals: on some file systems `A.npy` and `a.npy` are one file.
    shared = collections.Counter(str(name.with_suffix("")).casefold() for name in relative.values())
    places, taken = {}, set()
    for path, name in relative.items():
        stem = name.with_suffix("")
        place = stem if shared[str(stem).casefold()] == 1 else name
        while str(place).casefold() in taken:
            place = place.with_name(place.name + "_")
        taken.add(str(place).casefold())
        places[path] = out / place
    return places


def _relative(place, out):
    """The name of a result in `exponents.json`, the same on every system."""
    return place.relative_to(out).as_posix()


def _say_what_is_scaled(count, out):
    """Says that some values had to be divided by a power of two to fit float32, if any had."""
    if count:
        say(
            f"{count} explanations are outside the range of float32: multiply the values of the .npy file by "
            f"2**exponent, with the exponents in {out / exponents.NAME}. Their direction is exact."
        )
