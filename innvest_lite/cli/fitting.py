"""`innvest-lite fit` and `merge`: the patterns of a model from images or arrays, read batch by batch, or in parts."""

from __future__ import annotations

import argparse
import pathlib
import sys

import innvest_lite
from innvest_lite.cli import arrays, models, reading
from innvest_lite.errors import InvalidInputError
from innvest_lite.files import check_not_among, check_output
from innvest_lite.images import find_images
from innvest_lite.patterns.estimators import DEFAULT


def run(arguments: argparse.Namespace) -> int:
    """Fits, prints the report of each layer, and saves; returns the exit code."""
    models.check_file(arguments.model)
    out = pathlib.Path(arguments.out)
    checkpoint = {"the checkpoint": arguments.checkpoint} if arguments.checkpoint else {}
    check_output(out, keep={"the model's own file": arguments.model, **checkpoint})
    data = _data(arguments)
    model = models.load(arguments.model)
    options = {"estimator": arguments.estimator or DEFAULT, "approximate": arguments.approximate, "steps": arguments.steps}
    options.update(checkpoint=arguments.checkpoint, batch_size=arguments.batch_size)
    # A moving progress bar only on a terminal; in a file its last line is enough.
    options.update(shard=arguments.shard or (0, 1), verbose=1 if sys.stdout.isatty() else 2)
    if not isinstance(data, list):
        return _saved(innvest_lite.fit_statistics(model, data, **options), out, arguments.shard)
    shape = models.image_shape(model, arguments.size)
    prepared = models.preprocessor(arguments.preprocess, model)
    images = innvest_lite.ImageFolder(data, shape, prepared, arguments.batch_size)
    try:
        statistics = innvest_lite.fit_statistics(model, images, **options)
    except InvalidInputError as error:
        if len(images.unreadable) == len(images.paths):
            raise InvalidInputError(f"None of the {len(images.paths)} images can be read.") from error
        raise
    finally:
        code = reading.report(images.unreadable, len(images.paths))
    return _saved(statistics, out, arguments.shard) or code


def merge(arguments: argparse.Namespace) -> int:
    """Adds up the parts and estimates the patterns, or writes the sums; returns the exit code."""
    out = pathlib.Path(arguments.out)
    paths = arguments.parts
    check_output(out)
    for path in paths:
        check_not_among(out, {"one of the parts": path})
    merged = innvest_lite.PatternStatistics.load(paths[0])
    for path in paths[1:]:
        merged.merge(innvest_lite.PatternStatistics.load(path))
    missing = merged.missing_parts
    if missing and not arguments.partial:
        raise InvalidInputError(f"Parts are missing: {', '.join(missing)}. Add them, or use --partial to do without.")
    if not merged.complete and not arguments.partial:
        raise InvalidInputError("Some part was cut short by --max-batches or an interruption: finish it, or add --partial.")
    if arguments.statistics:
        merged.save(out)
        print(f"Saved the sums of {merged.samples} samples to {out}")
        return 0
    merged.estimator = arguments.estimator or merged.estimator
    return _saved(merged, out, None)


def _saved(statistics, out, shard):
    """Writes the patterns, or, for one part of several, the sums."""
    if shard:
        statistics.save(out)
        number, count = shard[0] + 1, shard[1]
        print(f"Saved the sums of part {number} of {count}, {statistics.samples} samples, to {out}")
        print("When all parts are there: innvest-lite merge PART... --out patterns.h5")
        return 0
    patterns = statistics.patterns()
    patterns.save(out)
    print(patterns.report())
    for message in patterns.report().doubtful():
        print(message)
    print(f"Saved the patterns of {len(patterns)} layers to {out}")
    return 0


def _data(arguments):
    """An array, or the paths of images."""
    if arrays.is_array(arguments.data):
        return arrays.read(arguments.data, arguments.preprocess)
    reading.check_preprocessor(arguments.preprocess)
    return find_images(arguments.data)
