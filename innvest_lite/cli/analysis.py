"""`innvest-lite analyze`: explains images batch by batch, to a picture and an array of each; arrays, to an array."""

from __future__ import annotations

import argparse
import collections
import json
import pathlib

import numpy as np

import innvest_lite
from innvest_lite.cli import arrays, models, reading
from innvest_lite.cli.pictures import as_bytes, pictures_of
from innvest_lite.errors import InvalidInputError
from innvest_lite.files import check_not_among, replacing
from innvest_lite.images import find_images
from innvest_lite.visualize import overlay, save


def run(arguments: argparse.Namespace) -> int:
    """Explains all images and writes the results; returns the exit code."""
    models.check_file(arguments.model)
    if arrays.is_array(arguments.images):
        return _explain_array(arguments)
    places = _places(find_images(arguments.images), arguments.images, pathlib.Path(arguments.out))
    reading.check_preprocessor(arguments.preprocess)
    options = models.analyzer_options(arguments)
    model = models.load(arguments.model)
    analyzer = _analyzer(arguments, model, options)
    models.check_prepared_alike(options.get("patterns"), arguments.preprocess, model)
    batches = reading.batches_for(arguments, model, places)
    exponents = {}
    try:
        for batch in batches:
            exponents.update(_explain(batch, analyzer, arguments, places))
    finally:
        code = batches.report()
    _note_exponents(exponents, arguments.out)
    print(f"Wrote {len(places) - len(batches.unreadable)} explanations ({arguments.method}) to {arguments.out}")
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


def _explain_array(arguments):
    """Writes the explanations of a file of samples as one array; returns the exit code."""
    samples = arrays.read(arguments.images, arguments.preprocess)
    if arguments.overlay:
        raise InvalidInputError("--overlay is for images; for a .npy file only the values are written.")
    out, name = pathlib.Path(arguments.out), pathlib.Path(arguments.images).name
    check_not_among(out / name, {"the file of the samples": arguments.images})
    options = models.analyzer_options(arguments)
    analyzer = _analyzer(arguments, models.load(arguments.model), options)
    out.mkdir(parents=True, exist_ok=True)
    exponents, size = {}, arguments.batch_size
    with replacing(out / name) as partial:
        result = None
        for start in range(0, len(samples), size):
            values, powers = analyzer.analyze(
                samples[start : start + size], target=arguments.target, batch_size=size, return_exponent=True
            )
            if result is None:
                shape = (len(samples), *values.shape[1:])
                result = np.lib.format.open_memmap(partial, "w+", values.dtype, shape)
            result[start : start + size] = values
            exponents.update({str(start + place): int(power) for place, power in enumerate(powers) if power})
        result.flush()
    _note_exponents(exponents, arguments.out)
    print(f"Wrote {len(samples)} explanations ({arguments.method}) to {out / name}")
    return 0


def _explain(batch, analyzer, arguments, places):
    """Writes the explanations of one batch; returns result -> power of two, where one left float32's range."""
    values, exponents = analyzer.analyze(
        batch.inputs, target=arguments.target, batch_size=arguments.batch_size, return_exponent=True
    )
    if arguments.overlay:
        pictures = overlay(values, as_bytes(batch.pixels))
    else:
        pictures = pictures_of(arguments.method, values, batch.pixels)
    for path, value, picture in zip(batch.paths, values, pictures, strict=True):
        _write(places[path], value, picture)
    scaled = zip(batch.paths, exponents, strict=True)
    return {_relative(places[path], arguments.out): int(exponent) for path, exponent in scaled if exponent}


def _write(place, values, picture):
    """The two files of an image."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with replacing(place.with_name(place.name + ".npy")) as partial, partial.open("wb") as stream:
        np.save(stream, values.astype(np.float32, copy=False), allow_pickle=False)
    save(picture, place.with_name(place.name + ".png"))


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
        picture = places[path].with_name(places[path].name + ".png")
        check_not_among(picture, {"the image that it would explain": path})
    return places


def _relative(place, out):
    """The name of a result in `exponents.json`, the same on every system."""
    return place.relative_to(out).as_posix()


def _note_exponents(exponents, out):
    """Writes which values had to be divided by a power of two to fit float32, if any."""
    if not exponents:
        return
    file = pathlib.Path(out) / "exponents.json"
    file.write_text(json.dumps(exponents, indent=1, sort_keys=True) + "\n")
    print(
        f"{len(exponents)} explanations are outside the range of float32: multiply the values of the .npy file by "
        f"2**exponent, with the exponents in {file}. Their direction is exact."
    )
