"""Tensors by sample, wherever the samples lie in them. Called by the sweep, which keeps them near 1, by `check` and more.

Nearly all values have them along the first axis. Inside layers that cut pictures in windows, or move heads to the front, a
sample is several rows, or lies along another axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras import ops

from innvest_lite import backend
from innvest_lite.graph import Samples, Spec

_FIRST = Samples()


def by_sample(x: Any, spec: Spec) -> Any:
    """A tensor with the samples along its first axis, and all else of them along the second: (batch, numbers).

    Args:
        x: a tensor that belongs to a value, such as its relevance.
        spec: of the value, with `samples`.
    """
    samples = spec.samples or _FIRST
    if not len(x.shape):
        return ops.reshape(x, (1, 1))
    x = ops.moveaxis(x, samples.axis, 0) if samples.axis else x
    rows = ops.shape(x)[0]
    return ops.reshape(x, (rows // samples.rows if samples.rows > 1 else rows, -1))


def grouped(x: Any, spec: Spec) -> Any:
    """A tensor with one entry a sample along its first axis; where a sample has several rows, they lie along the second."""
    samples = spec.samples or _FIRST
    x = ops.moveaxis(x, samples.axis, 0) if samples.axis else x
    if samples.rows == 1:
        return x
    sizes = ops.shape(x)
    return ops.reshape(x, (sizes[0] // samples.rows, samples.rows, *sizes[1:]))


def ungrouped(x: Any, spec: Spec) -> Any:
    """The reverse of `grouped`, of any number of samples."""
    samples = spec.samples or _FIRST
    x = ops.reshape(x, (-1, *ops.shape(x)[2:])) if samples.rows > 1 else x
    return ops.moveaxis(x, 0, samples.axis) if samples.axis else x


def scaled(tensors: Sequence[Any], specs: Sequence[Spec], factor: Any) -> list[Any]:
    """Each tensor times the factor of its sample, see `backend.times_factors`.

    Args:
        tensors: tensors that belong to values.
        specs: of these values.
        factor: float32 (batch,).
    """
    found = []
    for x, spec in zip(tensors, specs, strict=True):
        samples = spec.samples or _FIRST
        moved = ops.moveaxis(x, samples.axis, 0) if samples.axis else x
        each = ops.repeat(factor, samples.rows) if samples.rows > 1 else factor
        (moved,) = backend.times_factors([moved], [each])
        found.append(ops.moveaxis(moved, 0, samples.axis) if samples.axis else moved)
    return found
