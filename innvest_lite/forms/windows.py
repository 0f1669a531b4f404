"""Which part of an input a network looks at, where it begins with cropping. Called by the class activation maps."""

from __future__ import annotations

from collections.abc import Mapping

import keras
import numpy as np

from innvest_lite import backend
from innvest_lite.forms.base import Form
from innvest_lite.forms.positions import Places
from innvest_lite.graph import Graph, Node, Value
from innvest_lite.graph.behaviour import FAILURES, evaluated

WHOLE = (0.0, 1.0)
"""The window of what is not cropped."""


def windows_of(graph: Graph, forms: Mapping[str, Form], source: Value, places: Places) -> tuple[tuple[float, float], ...]:
    """The part of an input that is left where a network begins with crops, also between resizings.

    Args:
        graph: a `Graph`.
        forms: node name -> form.
        source: one of its inputs.
        places: where the input's positions lie in itself.

    Returns:
        For each position of the input (start, end), from 0 to 1; all of it where its size is open.
    """
    windows = [WHOLE] * len(places.positions)
    while len(takers := graph.consumers.get(source, [])) == 1:
        node = takers[0]
        if len(node.inputs) != 1 or len(node.values) != 1 or forms[node.name].kind not in ("route", "scale", "average"):
            break
        if forms[node.name].kind != "scale":
            kept = _kept(node, places.positions)
            if kept is None:
                break
            windows = [
                (start + (end - start) * low, start + (end - start) * high)
                for (start, end), (low, high) in zip(windows, kept, strict=True)
            ]
        source = node.values[0]
    return tuple(windows)


def _kept(node: Node, axes: tuple[int, ...]) -> list[tuple[float, float]] | None:
    """What a node keeps along some axes; None where numbers that rise along one do not come out rising along it."""
    (taken,), (given,) = node.input_specs, node.output_specs
    if len(taken.shape) != len(given.shape) or None in taken.shape[1:] or not keras.backend.is_float_dtype(taken.dtype):
        return None
    kept = []
    for axis in axes:
        size = taken.shape[axis] or 0
        # From 1, so that what is padded, 0, is told apart.
        numbers = np.arange(1.0, size + 1).reshape([size if other == axis else 1 for other in range(len(taken.shape))])
        try:
            with backend.eagerly():
                seen = evaluated(node.call, taken.dtype, np.broadcast_to(numbers, (1, *taken.shape[1:])))
        except FAILURES:
            return None
        line = seen.max(axis=tuple(other for other in range(seen.ndim) if other != axis), keepdims=True)
        rises = np.diff(line[line > 0])
        if not len(rises) or rises.min() < 0 or not np.allclose(np.where(seen > 0, seen, line), line, atol=1e-3):
            return None
        kept.append(_ends(line[line > 0], rises, size))
    return kept


def _ends(line: np.ndarray, rises: np.ndarray, size: int) -> tuple[float, float]:
    """(start, end), from 0 to 1, of positions counted from 1."""
    if rises.mean() < 1 and np.all(line == np.round(line)):
        # Repeated, not interpolated.
        start, end = line[0] - 1, line[-1]
    else:
        # Interpolation repeats its ends: the steps between show how much a position covers.
        centre, half = (line[0] + line[-1] - 1) / 2, np.median(rises) * len(line) / 2
        start, end = centre - half, centre + half
    return max(float(start) / size, 0.0), min(float(end) / size, 1.0)
