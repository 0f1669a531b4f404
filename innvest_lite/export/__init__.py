"""Explainers as files that run without this package: SavedModel, LiteRT, ONNX. Called by `Analyzer.export`.

- `served`: an analyzer as functions of named tensors: `serve`, `explain`, `predict`.
- `pictures`: pictures of explanations, and inputs made of uint8 images, inside the graph.
- `description`: what a file says of itself.
- `programs`: the StableHLO of an explanation.
- `files`: the table of formats, and writing whole files only.
"""

from __future__ import annotations

import os
from typing import Any

from innvest_lite.export.description import description, fingerprint
from innvest_lite.export.files import FORMATS, Format, check_path
from innvest_lite.export.programs import stablehlo
from innvest_lite.export.served import TARGETS, Served
from innvest_lite.tables import printable

__all__ = ["FORMATS", "TARGETS", "Format", "Served", "export", "fingerprint", "stablehlo"]


def export(
    analyzer: Any,
    filepath: str | os.PathLike[str],
    file_format: str,
    *,
    input_range: tuple[float, float] | None = None,
    verbose: bool | None = None,
    **options: Any,
) -> None:
    """Writes an analyzer; see `Analyzer.export`.

    Args:
        analyzer: an `Analyzer` that can explain.
        filepath: the file or folder to write.
        file_format: a name in `FORMATS`.
        input_range: for the description.
        verbose: True prints the path.
        **options: as in `Served`.
    """
    path = check_path(filepath, file_format)
    form = FORMATS[file_format]
    served = Served(analyzer, **options, checks=form.checks, echoes=form.echoes)
    endpoints = served.endpoints(form.endpoints)
    form.write(path, endpoints, description(served, endpoints, input_range))
    if verbose:
        print(f"Saved {type(analyzer).__name__} as {file_format} to {printable(str(filepath))}")
