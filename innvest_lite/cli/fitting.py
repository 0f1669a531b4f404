"""`innvest-lite fit` and `merge`: the patterns of a model from images or arrays, read batch by batch, or in parts."""

from __future__ import annotations

import argparse
import pathlib
import sys
from typing import Any

import innvest_lite
from innvest_lite.cli import arrays, models, overwriting, reading, texts
from innvest_lite.cli.terminal import say
from innvest_lite.errors import InvalidInputError
from innvest_lite.files import check_none_among, check_output
from innvest_lite.patterns.estimators import DEFAULT
from innvest_lite.preprocessing import Preprocessor

# Missing parts that a message names.
_NAMED = 20


def run(arguments: argparse.Namespace) -> int:
    """Fits, prints the report of each layer, and saves; returns the exit code."""
    models.check_file(arguments.model)
    out, checkpoint = pathlib.Path(arguments.out), arguments.checkpoint
    check_output(out, keep={"the checkpoint": checkpoint} if checkpoint else None)
    lines = texts.read(*arguments.data) if [*map(texts.is_texts, arguments.data)] == [True] else None
    samples = reading.array_of(arguments.data)
    data = list(reading.found(arguments.data).paths) if samples is None else [samples]
    check_none_among([out, checkpoint] if checkpoint else [out], {"the data": data, **models.files_read(arguments)})
    overwriting.refuse_existing([out], arguments)
    if samples is None and lines is None:
        reading.check_preprocessor(arguments.preprocess)
    elif samples is not None and arrays.is_array(samples):
        arrays.read(samples, arguments.preprocess)
    model = models.load(arguments.model)
    options = {"estimator": arguments.estimator or DEFAULT, "approximate": arguments.approximate, "steps": arguments.steps}
    options.update(checkpoint=arguments.checkpoint, batch_size=arguments.batch_size)
    # A moving progress bar only on a terminal; in a file its last line is enough.
    options.update(shard=arguments.shard or (0, 1), verbose=1 if sys.stdout.isatty() else 2)
    if lines is not None:
        preprocessor, model = texts.reading(model)
        prepare: Any = Preprocessor.of(preprocessor)
        return _saved(innvest_lite.fit_statistics(model, prepare(lines), **options), out, arguments.shard)
    if samples is not None:
        found = reading.samples_of(samples, arguments, model)
        return _saved(innvest_lite.fit_statistics(model, found, **options), out, arguments.shard)
    shape = models.image_shape(model, arguments.size)
    prepared = models.preprocessor(arguments.preprocess, model)
    models.tell_of_own_scaling(arguments.preprocess, model)
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
    check_none_among([out], {"one of the parts": paths})
    merged = innvest_lite.PatternStatistics.load(paths[0])
    for path in paths[1:]:
        merged.merge(innvest_lite.PatternStatistics.load(path))
    missing = merged.missing_parts
    if missing and not arguments.partial:
        named = ", ".join(missing[:_NAMED]) + (f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else "")
        raise InvalidInputError(f"Parts are missing: {named}. Add them, or use --partial to do without.")
    if not merged.complete and not arguments.partial:
        raise InvalidInputError("Some part was cut short by --max-batches or an interruption: finish it, or add --partial.")
    if arguments.statistics:
        merged.save(out)
        say(f"Saved the sums of {merged.samples} samples to {out}")
        return 0
    merged.estimator = arguments.estimator or merged.estimator
    return _saved(merged, out, None)


def _saved(statistics, out, shard):
    """Writes the patterns, or, for one part of several, the sums."""
    if shard:
        statistics.save(out)
        number, count = shard[0] + 1, shard[1]
        say(f"Saved the sums of part {number} of {count}, {statistics.samples} samples, to {out}")
        say("When all parts are there: innvest-lite merge PART... --out patterns.h5")
        return 0
    patterns = statistics.patterns()
    patterns.save(out)
    say(patterns.report())
    for message in patterns.report().doubtful():
        say(message)
    say(f"Saved the patterns of {len(patterns)} layers to {out}")
    return 0
