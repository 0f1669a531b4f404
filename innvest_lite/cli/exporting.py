"""`innvest-lite export`: a method for a model as a SavedModel, a LiteRT or an ONNX file."""

from __future__ import annotations

import argparse
import pathlib

import innvest_lite
from innvest_lite.cli import defaults, models, reading
from innvest_lite.cli.quiet import converting
from innvest_lite.files import check_none_among, check_not_inside

_FORMAT_OF = {".tflite": "litert", ".onnx": "onnx"}


def run(arguments: argparse.Namespace) -> int:
    """Writes the file; returns the exit code."""
    models.check_file(arguments.model)
    arguments.method = models.method_of(arguments)
    out = pathlib.Path(arguments.out)
    kept = models.files_read(arguments)
    check_none_among([out], kept)
    check_not_inside(out, {what: path for what, (path,) in kept.items()})
    if arguments.preprocess is not None:
        reading.check_preprocessor(arguments.preprocess)
    options = models.analyzer_options(arguments)
    model = models.load(arguments.model)
    analyzer = innvest_lite.create_analyzer(arguments.method, model, **options)
    defaults.tell_of_zeros(options, arguments.method, model)
    if arguments.preprocess is not None:
        models.check_prepared_alike(options.get("patterns"), arguments.preprocess, model)
    with converting():
        analyzer.export(
            out,
            format=arguments.format or _FORMAT_OF.get(out.suffix.lower(), "tf_saved_model"),
            target=arguments.target,
            predictions=not arguments.no_predictions,
            batch=arguments.batch,
            preprocess=models.preprocessor(arguments.preprocess, model),
            render=arguments.render,
            colormap=arguments.colormap,
            input_range=arguments.input_range,
            verbose=True,
        )
    return 0
