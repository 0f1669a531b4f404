"""What stands among the arguments of a node's call, and in place of its operation, to be worked out when it is called.

A node of a Functional model has slots for tensors, and numbers. What tracing finds inside a layer's `call` has weights,
too, what the `call` makes of weights, and sizes that are counted by the samples.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from innvest_lite import backend
from innvest_lite.digests import described, digest


@dataclasses.dataclass(frozen=True)
class Slot:
    """Where a node's stored call arguments take its input number `index`."""

    index: int


class Given:
    """An argument of a call that is worked out when the node is called."""

    @property
    def variables(self) -> tuple[Any, ...]:
        """The variables that it is made of; by default none."""
        return ()

    @property
    def key(self) -> tuple[Any, ...]:
        """Equal for what is the same of the same variables."""
        return tuple(map(id, self.variables))

    @property
    def by_batch(self) -> bool:
        """Whether it depends on the number of samples."""
        return False

    def value(self, inputs: tuple[Any, ...] = ()) -> Any:
        """Its value, a tensor or a number, where the node takes these inputs."""
        raise NotImplementedError


class StandIn:
    """What stands in a node for the operation that Keras made of the call.

    Attributes:
        operation: that operation.
    """

    operation: Any


@dataclasses.dataclass(frozen=True, eq=False)
class Weight(Given):
    """A variable, read at the dtype in which the caller computes.

    Attributes:
        variable: a Keras variable.
        dtype: its dtype for the caller.
    """

    variable: Any
    dtype: str

    @property
    def variables(self) -> tuple[Any, ...]:
        """The variable."""
        return (self.variable,)

    def value(self, inputs: tuple[Any, ...] = ()) -> Any:
        """The variable as it is now, a tensor."""
        return keras.ops.cast(keras.ops.convert_to_tensor(self.variable), self.dtype)


@dataclasses.dataclass(frozen=True, eq=False)
class Batch(Given):
    """A size that is so many times the number of samples.

    Attributes:
        times: how many times.
        index: the input of the node by which samples are counted.
        axis: the axis of that along which they lie.
        rows: how many entries of it one sample has.
    """

    times: int
    index: int
    axis: int
    rows: int

    @property
    def by_batch(self) -> bool:
        """It does."""
        return True

    def value(self, inputs: tuple[Any, ...] = ()) -> Any:
        """The size: a number where it is known, else a tensor."""
        return keras.ops.shape(inputs[self.index])[self.axis] // self.rows * self.times


@dataclasses.dataclass(frozen=True, eq=False)
class Rows:
    """How the rows of a tensor, along its first axis, are counted by the samples.

    Attributes:
        batch: how many there are.
        block: how many different ones follow each other; the tensor is made of such blocks, all alike.
        each: how often each row of a block stands behind itself, where that is counted by the samples and not the blocks.
    """

    batch: Batch
    block: int
    each: bool = False

    def of(self, found: Any, inputs: tuple[Any, ...]) -> Any:
        """The tensor with as many rows as the batch asks for, from one with as many as there were when it was recorded."""
        times = self.batch.value(inputs) // self.block
        if self.each:
            return keras.ops.repeat(found[:: found.shape[0] // self.block], times, axis=0)
        return keras.ops.tile(found[: self.block], (times, *[1] * (len(found.shape) - 1)))


@dataclasses.dataclass(frozen=True, eq=False)
class FromWeights(Given):
    """A tensor that a `call` makes of weights alone, worked out anew each time.

    Attributes:
        values: gives all tensors of this kind of the same recording.
        index: which of them.
        sources: the variables that it is made of.
        rows: how its rows are counted by the samples; None where they are not.
    """

    values: Callable[[], Sequence[Any]]
    index: int
    sources: tuple[Any, ...]
    rows: Rows | None = None

    @property
    def variables(self) -> tuple[Any, ...]:
        """Its sources."""
        return self.sources

    @property
    def key(self) -> tuple[Any, ...]:
        """With its place and its numbers: several slices of one kernel are several kernels."""
        with backend.eagerly():
            numbers = backend.to_numpy(self.value())
        return (*super().key, self.index, digest(described([numbers])))

    @property
    def by_batch(self) -> bool:
        """Whether it has rows for each sample."""
        return self.rows is not None

    def value(self, inputs: tuple[Any, ...] = ()) -> Any:
        """The tensor, with as many rows as the batch asks for."""
        found = self.values()[self.index]
        return found if self.rows is None else self.rows.of(found, inputs)


@dataclasses.dataclass(frozen=True, eq=False)
class RowsOfConstant(Given):
    """A constant whose rows are counted by the samples.

    Attributes:
        constant: its value for some number of samples.
        rows: how they are counted.
    """

    constant: np.ndarray
    rows: Rows

    @property
    def by_batch(self) -> bool:
        """It does."""
        return True

    def value(self, inputs: tuple[Any, ...] = ()) -> Any:
        """As many rows as the batch asks for."""
        return self.rows.of(self.constant, inputs)


@dataclasses.dataclass(frozen=True, eq=False)
class Sized(Given, StandIn):
    """An operation with options that are counted by the samples.

    Attributes:
        operation: the operation, for one number of samples.
        options: option -> its value, with a `Given` in it.
    """

    operation: Any
    options: Mapping[str, Any]

    def value(self, inputs: tuple[Any, ...] = ()) -> Any:
        """The operation for as many samples as there are."""
        operation = copy.copy(self.operation)
        for name, value in self.options.items():
            setattr(operation, name, keras.tree.map_structure(lambda leaf: filled(leaf, inputs), value))
        return operation


def filled(leaf: Any, inputs: tuple[Any, ...]) -> Any:
    """What stands in the place of a leaf of a node's arguments when the node is called with these inputs."""
    if isinstance(leaf, Slot):
        return inputs[leaf.index]
    if isinstance(leaf, slice):
        return slice(*(filled(end, inputs) for end in (leaf.start, leaf.stop, leaf.step)))
    return leaf.value(inputs) if isinstance(leaf, Given) else leaf


def leaves_of(structure: Any) -> list[Any]:
    """All leaves of a nest, those inside of slices too."""
    found: list[Any] = []
    mapped(found.append, structure)
    return found


def mapped(function: Callable[..., Any], *structures: Any) -> Any:
    """What a function gives of the leaves of nests of the same structure, those inside of slices too, in that structure."""
    first = structures[0]
    if isinstance(first, dict):
        return {key: mapped(function, *(one[key] for one in structures)) for key in first}
    if isinstance(first, slice):
        return slice(*(mapped(function, *(getattr(one, end) for one in structures)) for end in ("start", "stop", "step")))
    if isinstance(first, list | tuple):
        parts = [mapped(function, *each) for each in zip(*structures, strict=True)]
        return type(first)(*parts) if hasattr(first, "_fields") else type(first)(parts)
    return function(*structures)
