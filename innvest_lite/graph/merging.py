"""What is the same in two recordings of a call, of different numbers of samples, and what is counted by the samples.

A layer's `call` may read the number of samples off a shape and use it: `ops.reshape(x, (batch, -1, 16))`. Recorded with one
number it would be right for that number alone. Called by `opening`.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from innvest_lite import backend
from innvest_lite.graph.arguments import Batch, FromWeights, Given, Rows, RowsOfConstant, Sized, Weight, mapped
from innvest_lite.graph.graph import Samples, Spec
from innvest_lite.graph.recording import Recording, is_symbolic
from innvest_lite.graph.weights import random_weights

BATCHES = (5, 7)
"""Numbers of samples that hardly a layer has for a size of its own."""
BY_SAMPLES = "what its call does depends on the number of samples in a way that could not be followed"


class NotOpened(Exception):
    """A composite cannot be looked into; the text says why, as the end of a sentence."""


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """A recording of a call.

    Attributes:
        recording: a `Recording`.
        tensors: the symbolic tensors that the call took.
        masks: the mask of each, None where it had none.
        captured: the tensors that it made of weights alone.
        batch: the number of samples.
    """

    recording: Recording
    tensors: list[Any]
    masks: list[Any]
    captured: backend.Captured
    batch: int

    @functools.cached_property
    def with_other_weights(self) -> list[np.ndarray]:
        """The captured tensors as they are with random weights."""
        with backend.eagerly(), backend.with_weights(random_weights(self.captured.all_variables()).others):
            return [backend.to_numpy(value) for value in self.captured.values()]


@dataclasses.dataclass(frozen=True)
class Counted:
    """By what a node counts samples: its input number `index`, in which they lie so."""

    index: int
    samples: Samples


def spec_of(tensors: Sequence[Any], runs: Sequence[Run], mask: Any = None) -> Spec:
    """The `Spec` of a value that has a tensor in each run, and a mask in the first."""
    sizes = zip(*(one.shape for one in tensors), strict=True)
    shape = tuple(several[0] if len(set(several)) == 1 else None for several in sizes)
    return Spec(
        shape=shape,
        dtype=keras.backend.standardize_dtype(tensors[0].dtype),
        mask=None if mask is None else (shape[0], *mask.shape[1:]),
        samples=samples_of(tensors, runs),
    )


def samples_of(tensors: Sequence[Any], runs: Sequence[Run]) -> Samples | None:
    """Where the samples lie in a tensor; None where no axis, or more than one, is counted by them."""
    sizes = list(zip(*(one.shape for one in tensors), strict=True))
    axes = [axis for axis, several in enumerate(sizes) if len(set(several)) > 1]
    rows = _times(sizes[axes[0]], runs) if len(axes) == 1 else None
    return Samples(axes[0], rows) if rows else None


def sized(spec: Spec, batch: int) -> tuple[int | None, ...]:
    """The shape of a value where there are so many samples."""
    shape = list(spec.shape)
    if spec.samples is not None and shape and shape[spec.samples.axis] is None:
        shape[spec.samples.axis] = batch * spec.samples.rows
    return tuple(shape)


def counted_by(samples: Sequence[Samples | None]) -> Counted | None:
    """By what a node counts samples in whose inputs they lie so; None where in none of them."""
    return next((Counted(index, known) for index, known in enumerate(samples) if known), None)


def argument(leaves: Sequence[Any], runs: Sequence[Run], counted: Counted | None) -> Any:
    """What is no symbolic tensor among the arguments of a call, a leaf of each run, as one.

    Raises:
        NotOpened: the leaves differ in a way that could not be followed.
    """
    first = leaves[0]
    if isinstance(first, Weight):
        return first
    if keras.ops.is_tensor(first):
        return _of_weights(leaves, runs, counted)
    if isinstance(first, np.ndarray):
        rows = _rows(leaves, runs, counted)
        return first if rows is None else RowsOfConstant(first, rows)
    if isinstance(first, int | np.integer) and not isinstance(first, bool) and first != leaves[1]:
        return _size(leaves, runs, counted)
    if isinstance(first, float | str | np.generic) and first != leaves[1]:
        raise NotOpened(BY_SAMPLES)
    return first


def operation(several: Sequence[Any], runs: Sequence[Run], counted: Counted | None) -> Any:
    """The operation of a call that is counted by the samples where its options are, from that of each run.

    Raises:
        NotOpened: they differ in a way that could not be followed.
    """
    first = several[0]
    if any(type(one) is not type(first) for one in several):
        raise NotOpened(BY_SAMPLES)
    if isinstance(first, keras.Layer):
        return first
    options = {}
    for name in vars(first):
        if name.startswith("_") or name == "name":
            continue
        merged = _merged([getattr(one, name) for one in several], lambda *leaves: argument(leaves, runs, counted))
        if any(isinstance(leaf, Given) for leaf in keras.tree.flatten(merged)):
            options[name] = merged
    return _sized(first, options) if options else first


def _merged(structures: Sequence[Any], function: Callable[..., Any]) -> Any:
    try:
        return mapped(function, *structures)
    except (ValueError, KeyError) as error:
        raise NotOpened(BY_SAMPLES) from error


def _sized(first, options):
    shape = options.get("newshape", ())
    counted = [isinstance(one, Given) for one in shape]
    if len(options) == 1 and sum(counted) == 1 and -1 not in [one for one in shape if isinstance(one, int)]:
        # As people write it by hand, which is a static shape for everything behind it.
        other = copy.copy(first)
        other.newshape = tuple(-1 if isinstance(one, Given) else one for one in shape)
        return other
    return Sized(first, options)


def _times(sizes, runs):
    """So many times the number of samples sizes are; None where they are not."""
    times = {size / run.batch for size, run in zip(sizes, runs, strict=True) if size}
    return int(min(times)) if len(times) == 1 and min(times) == int(min(times)) else None


def _size(sizes, runs, counted):
    times = _times(sizes, runs)
    if counted is None or times is None:
        raise NotOpened(BY_SAMPLES)
    return Batch(times, counted.index, counted.samples.axis, counted.samples.rows)


def _rows(arrays, runs, counted):
    """How the rows of what is the same but for the number of samples are counted by them; None where they are not."""
    if arrays[0].shape == arrays[1].shape:
        if not all(_alike(arrays[0], array) for array in arrays):
            raise NotOpened(BY_SAMPLES)
        return None
    if len({array.shape[1:] for array in arrays}) > 1 or not all(array.ndim for array in arrays):
        raise NotOpened(BY_SAMPLES)
    batch = _size([len(array) for array in arrays], runs, counted)
    pairs = list(zip(arrays, runs, strict=True))
    # (samples, rows): blocks of rows behind each other; (rows, samples): each row as often as there are samples.
    if all(
        _alike(blocks, blocks[:1]) for blocks in (array.reshape(run.batch, -1, *array.shape[1:]) for array, run in pairs)
    ):
        block, each = batch.times, False
    elif all(
        _alike(rows, rows[:, :1]) for rows in (array.reshape(-1, run.batch, *array.shape[1:]) for array, run in pairs)
    ):
        block, each = batch.times, True
    else:
        raise NotOpened(BY_SAMPLES)
    firsts = [array[:: run.batch] if each else array[:block] for array, run in pairs]
    if not all(_alike(firsts[0], other) for other in firsts):
        raise NotOpened(BY_SAMPLES)
    return Rows(batch, block, each)


def _alike(one, other):
    exact = one.dtype.kind not in "fV"
    return bool(np.all(one == other)) if exact else bool(np.allclose(one, other, rtol=1e-5, atol=1e-6, equal_nan=True))


def _of_weights(tensors, runs, counted):
    indices = [run.captured.index(one) for run, one in zip(runs, tensors, strict=True)]
    constants = [run.captured.constant(index) for run, index in zip(runs, indices, strict=True)]
    if constants[0] is not None and constants[1] is not None:
        rows = _rows(constants, runs, counted)
        return constants[0] if rows is None else RowsOfConstant(constants[0], rows)
    # Of other weights: a table of zeros is alike however it is read.
    others = [run.with_other_weights[index] for run, index in zip(runs, indices, strict=True)]
    captured = runs[0].captured
    return FromWeights(captured.values, indices[0], captured.variables(indices[0]), _rows(others, runs, counted))


def places_in(arguments: Sequence[Any], slot: Callable[[Sequence[Any]], Any], other: Callable[[Sequence[Any]], Any]) -> Any:
    """The arguments of a call, of each run, as one nest: `slot` of symbolic tensors, `other` of all else.

    Raises:
        NotOpened: the nests differ.
    """
    return _merged(arguments, lambda *leaves: (slot if is_symbolic(leaves[0]) else other)(leaves))
