"""Explainers as files that run without this package: SavedModel, LiteRT, ONNX. Called by `Analyzer.export`.

- `served`: an analyzer as functions of named tensors: `serve`, `explain`, `predict`.
- `pictures`: pictures of explanations, and inputs made of uint8 images, inside the graph.
- `description`: what a file says of itself.
- `programs`: the StableHLO of an explanation.
- `files`: the formats, and writing whole files only.
"""

from innvest_lite.errors import InvalidInputError, did_you_mean
from innvest_lite.export.description import description, fingerprint
from innvest_lite.export.files import ENDPOINTS, FORMATS, check_path, write
from innvest_lite.export.programs import stablehlo
from innvest_lite.export.served import TARGETS, Served
from innvest_lite.visualize.colormaps import DEFAULT

__all__ = ["FORMATS", "TARGETS", "Served", "completed", "export", "fingerprint", "stablehlo"]


_DEFAULTS = {"preprocess": None, "render": None, "colormap": DEFAULT, "input_range": None, "verbose": None}


def completed(options):
    """The further options of `Analyzer.export`, with what was left out; raises InvalidInputError for an unknown one."""
    unknown = sorted(set(options) - set(_DEFAULTS))
    if unknown:
        raise InvalidInputError(f"export has no option {unknown[0]!r}.{did_you_mean(unknown[0], list(_DEFAULTS))}")
    return {**_DEFAULTS, **options}


def export(analyzer, filepath, file_format, *, input_range=None, verbose=None, **options):
    """Writes an analyzer; see `Analyzer.export`.

    Args:
        analyzer: an `Analyzer`.
        filepath: the file or folder to write.
        file_format: a name in `FORMATS`.
        input_range: for the description.
        verbose: True prints the path.
        **options: as in `Served`.
    """
    path = check_path(filepath, file_format)
    served = Served(analyzer, **options, checks=file_format == "tf_saved_model", echoes=file_format != "onnx")
    endpoints = served.endpoints(ENDPOINTS[file_format])
    write(endpoints, path, file_format, description(served, endpoints, input_range))
    if verbose:
        print(f"Saved {type(analyzer).__name__} as {file_format} to {filepath}")
