"""An explanation as the program that XLA compiles. Called by `Analyzer.stablehlo`, and by scripts, for its weights."""

from __future__ import annotations

from typing import Any

import numpy as np

from innvest_lite import backend
from innvest_lite.errors import InvalidInputError
from innvest_lite.options import positive


def stablehlo(explainer: Any, batch: Any, target: str) -> tuple[str, list[np.ndarray]]:
    """The program of an explanation for so many samples, as `Analyzer.stablehlo` gives it.

    Args:
        explainer: an `Explainer` that can explain.
        batch: the number of samples, or samples.
        target: "argmax" or "input".

    Returns:
        `(text, weights)`: StableHLO, and the arrays that it takes behind its arguments.

    Raises:
        InvalidInputError: the batch is neither a number nor samples, or there is no such target.
    """
    spec, with_target = explainer.inputs, target == "input"
    if np.ndim(batch) or isinstance(batch, list | tuple | dict):
        shapes = [array.shape for array in spec.flat(batch)]
    else:
        shapes = [(positive(batch, "batch"), *shape[1:]) for shape in spec.shapes]
    if any(None in shape for shape in shapes):
        raise InvalidInputError(f"The model leaves sizes open, {shapes}: hand samples over, analyzer.stablehlo(x).")
    signature = [backend.tensor_spec(shape, dtype) for shape, dtype in zip(shapes, spec.dtypes, strict=True)]
    if with_target:
        signature.append(backend.tensor_spec((shapes[0][0], *explainer.output.shape[1:]), "float32"))

    def explain(*tensors):
        found = explainer.explain(tensors[: len(shapes)], tensors[-1] if with_target else None)
        return [*found.relevance, found.exponent]

    return backend.stablehlo(explain, signature)
