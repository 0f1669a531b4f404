"""Which input values a unit of a linear node sees at a position: the windows from which second moments are made.

A linear form is linear in its kernel, and each entry of the kernel multiplies one input value per position. The VJP in x
of one position, with the numbers 1, 2, ... as the kernel, therefore shows which input each entry multiplies. No form needs
code of its own for this.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from innvest_lite.forms import LinearForm

# The largest number of values in one VJP, to bound its memory.
_AT_ONCE = 2**24


@dataclasses.dataclass(frozen=True, eq=False)
class Windows:
    """Sampled positions of a linear node, and what its units see there.

    Attributes:
        form: the linear form.
        positions: int (positions,), flat indices into the output's axes without units.
        places: int32 (groups, positions, fan-in), indices into the flat inputs of a sample; one past the end for padding.
        factors: float32 of that shape, the weight of each value: 1, except where an average has fewer taps at a border.
        group_of: int (units,), the group of each unit: the units of a group see the same inputs.
        units: int (units,), which units of the form these are, flat in the kernel's order.
    """

    form: LinearForm
    positions: np.ndarray
    places: np.ndarray
    factors: np.ndarray
    group_of: np.ndarray
    units: np.ndarray

    @property
    def fan_in(self) -> int:
        """How many inputs a unit sums."""
        return self.places.shape[-1]

    def of_units(self, units: np.ndarray) -> Windows:
        """The same positions, for some units alone."""
        group_of = self.group_of[units]
        if len(self.places) == 1:
            return dataclasses.replace(self, units=units, group_of=group_of)
        return dataclasses.replace(
            self, places=self.places[group_of], factors=self.factors[group_of], group_of=np.arange(len(units)), units=units
        )

    def seen(self, inputs: Sequence[Any]) -> Any:
        """What each group sees in a batch, float32 (batch, positions, groups, fan-in), as a tensor."""
        flat = [ops.reshape(ops.cast(x, "float32"), (ops.shape(x)[0], math.prod(x.shape[1:]))) for x in inputs]
        flat = ops.concatenate([*flat, ops.zeros_like(flat[0][:, :1])], axis=1)
        groups, positions, fan_in = self.places.shape
        order = np.moveaxis(self.places, 0, 1).reshape(-1)
        seen = ops.reshape(ops.take(flat, order, axis=1), (-1, positions, groups, fan_in))
        return seen if np.all(self.factors == 1) else seen * np.moveaxis(self.factors, 0, 1)

    def at_positions(self, value: Any) -> Any:
        """A value of the shape of the node's output, (batch, positions, units), as a tensor."""
        axes = _position_axes(self.form, len(value.shape))
        flat = ops.transpose(value, (0, *axes, *self.form.unit_axes))
        units = math.prod(self.form.unit_shape)
        flat = ops.reshape(flat, (-1, math.prod(value.shape[axis] for axis in axes), units))
        return ops.take(ops.take(flat, self.positions.astype("int32"), axis=1), self.units.astype("int32"), axis=2)


def windows(
    form: LinearForm,
    input_shapes: Sequence[tuple[int, ...]],
    output_shape: tuple[int, ...],
    count: int,
    generator: np.random.Generator,
) -> Windows:
    """Samples positions of a linear node.

    Args:
        form: a `LinearForm`.
        input_shapes: the shapes of the node's inputs, without the batch axis.
        output_shape: that of its output, without the batch axis.
        count: how many positions at most.
        generator: a NumPy `Generator`.

    Returns:
        `Windows`.
    """
    sizes = [output_shape[axis - 1] for axis in _position_axes(form, len(output_shape) + 1)]
    total = math.prod(sizes)
    positions = np.arange(total) if total <= count else np.sort(generator.choice(total, count, replace=False))
    look = _Look(form, input_shapes, output_shape, sizes)
    group_of, apart = (np.zeros(math.prod(form.unit_shape), int), True) if form.units_share_inputs else look.groups()
    firsts = np.array([np.flatnonzero(group_of == group)[0] for group in range(group_of.max() + 1)])
    together = [firsts] if apart else [np.array([unit]) for unit in firsts]
    found = [look.places(positions, units) for units in together]
    places, factors = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return Windows(form, positions, places.astype("int32"), factors.astype("float32"), group_of, np.arange(len(group_of)))


class _Look:
    """Finds out which inputs of a form the entries of its kernel multiply."""

    def __init__(self, form, input_shapes, output_shape, sizes):
        self.form, self.input_shapes, self.sizes = form, input_shapes, sizes
        self.fan_in = math.prod(form.kernel_shape[axis] for axis in form.fan_in)
        # Where all units see the same inputs, one of them is enough.
        self.unit_shape = tuple(1 if form.units_share_inputs else size for size in form.unit_shape)
        shared = form.unit_axes if form.units_share_inputs else ()
        self.output_shape = [1 if axis in shared else size for axis, size in enumerate(output_shape, start=1)]
        self.end = sum(math.prod(shape) for shape in input_shapes)
        values = max(math.prod(self.output_shape), self.end)
        self.at_once = max(1, _AT_ONCE // values)

    def places(self, positions, units):
        """The input of each entry, and its weight: two arrays (units, positions, fan-in), for units that share no input."""
        numbers = np.zeros((self.fan_in, math.prod(self.unit_shape)))
        numbers[:, units] = 1 + np.arange(self.fan_in)[:, None] + self.fan_in * np.arange(len(units))
        found = np.full((len(positions), len(units) * self.fan_in), self.end)
        factors = np.ones(found.shape)
        for start in range(0, len(positions), self.at_once):
            rows, columns, which, counts = self._numbers(
                numbers, positions[start : start + self.at_once, None], units[None]
            )
            found[start + rows, which - 1] = columns
            factors[start + rows, which - 1] = counts
        shape = (len(positions), len(units), self.fan_in)
        return tuple(np.moveaxis(array.reshape(shape), 1, 0) for array in (found, factors))

    def groups(self):
        """The group of each unit, and whether no two groups share an input; judged at the position in the middle."""
        units = np.arange(math.prod(self.unit_shape))
        middle = np.ravel_multi_index([size // 2 for size in self.sizes], self.sizes) if self.sizes else 0
        numbers = np.broadcast_to(1 + np.arange(self.fan_in)[:, None], (self.fan_in, len(units)))
        seen = [None] * len(units)
        for start in range(0, len(units), self.at_once):
            some = units[start : start + self.at_once]
            rows, columns, which, _ = self._numbers(numbers, np.full((len(some), 1), middle), some[:, None])
            for row, unit in enumerate(some):
                order = np.argsort(which[rows == row])
                seen[unit] = (*which[rows == row][order], -1, *columns[rows == row][order])
        names = {key: number for number, key in enumerate(dict.fromkeys(seen))}
        columns = [column for key in names for column in key[key.index(-1) + 1 :]]
        return np.array([names[key] for key in seen]), len(columns) == len(set(columns))

    def _numbers(self, numbers, positions, units):
        """Which entries multiply which input values: the row, the value, the entry's number, its weight."""
        ones, found = (self._handed_back(kernel, positions, units) for kernel in (np.sign(numbers), numbers))
        rows, columns = np.nonzero(found)
        counts = ones[rows, columns]
        return rows, columns, np.rint(found[rows, columns] / counts).astype(int), counts

    def _handed_back(self, kernel, positions, units):
        """The VJP in x, (rows, values): a row's cotangent has ones at its positions and units, and zeros elsewhere."""
        form, rows = self.form, len(positions)
        order = (*form.fan_in, *(axis for axis in range(len(form.kernel_shape)) if axis not in form.fan_in))
        shape = *(form.kernel_shape[axis] for axis in form.fan_in), *self.unit_shape
        kernel = kernel.astype("float64").reshape(shape).transpose(np.argsort(order))
        cotangent = np.zeros((rows, math.prod(self.sizes), math.prod(self.unit_shape)))
        cotangent[np.arange(rows)[:, None], positions, units] = 1
        sizes = [self.output_shape[axis - 1] for axis in form.unit_axes]
        axes = _position_axes(form, len(self.output_shape) + 1)
        cotangent = cotangent.reshape(rows, *self.sizes, *sizes).transpose(np.argsort((0, *axes, *form.unit_axes)))
        inputs = tuple(ops.zeros((rows, *shape), "float64") for shape in self.input_shapes)
        found = form.vjp_inputs(inputs, ops.convert_to_tensor(kernel), ops.convert_to_tensor(cotangent))
        return np.concatenate([ops.convert_to_numpy(x).reshape(rows, -1) for x in found], axis=1)


def _position_axes(form, rank):
    """The output axes along which positions lie."""
    return tuple(axis for axis in range(1, rank) if axis not in form.unit_axes)
