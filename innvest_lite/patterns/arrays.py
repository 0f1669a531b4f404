"""Large arrays a part at a time: the largest that a fit has are as large as all kernels, of which it keeps three.

`SplitArray` is a float64 array kept in float32 parts. What is computed of it is computed by blocks of rows, on all cores.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from innvest_lite.threads import in_threads

# Values that are worked on at a time: temporary arrays stay small, and Python's part of the work too.
_AT_A_TIME = 1 << 18


def blocks_of(shape: Sequence[int]) -> Iterator[slice]:
    """Slices of the first axis of an array of this shape, each of a few rows; none of an array without an axis."""
    rows = max(1, _AT_A_TIME * shape[0] // max(math.prod(shape), 1)) if shape else 1
    for start in range(0, shape[0] if shape else 0, rows):
        yield slice(start, start + rows)


def all_finite(array: Any) -> bool:
    """Whether an array, or a `SplitArray`, holds neither NaN nor infinite values."""
    if not np.ndim(array):
        return bool(np.isfinite(array))
    parts = array.parts if isinstance(array, SplitArray) else [array]

    def finite(at: Any) -> bool:
        return all(bool(np.isfinite(part[at]).all()) for part in parts)

    return all(in_threads(finite, blocks_of(array.shape)))


def dots_with(kernel: np.ndarray, arrays: Sequence[Any], fan_in: Sequence[int]) -> list[np.ndarray]:
    """`sum(kernel * array)` over the fan-in, a float64 number per unit, for each array.

    Args:
        kernel: an array of floats.
        arrays: of shapes that broadcast to the kernel's; `SplitArray` too.
        fan_in: the kernel axes over which a unit sums its inputs.
    """
    flat, axes = _flattened([kernel, *arrays], fan_in)

    def dots(at):
        weights = flat[0][at].astype("float64", copy=False)
        return [np.sum(weights * rows_of(array, at), axis=axes) for array in flat[1:]]

    found = in_threads(dots, blocks_of(flat[0].shape)) if flat[0].ndim else [dots(...)]
    # Blocks of inputs add up; blocks of units stand side by side.
    join = sum if 0 in axes or not flat[0].ndim else np.concatenate
    shape = tuple(size for axis, size in enumerate(kernel.shape) if axis not in fan_in)
    return [np.asarray(join(parts)).reshape(shape) for parts in zip(*found, strict=True)]


def combined(
    terms: Sequence[tuple[Any, np.ndarray]], shape: Sequence[int], fan_in: Sequence[int], dtype: str
) -> np.ndarray:
    """The sum of some arrays, each times a number per unit.

    Args:
        terms: `(array, number per unit)`; arrays of shapes that broadcast to `shape`.
        shape: that of a kernel.
        fan_in: its axes over which a unit sums its inputs.
        dtype: of the result; the arithmetic is float64.
    """
    result = np.zeros(shape, dtype)
    if not terms or not result.size:
        return result
    flat, _ = _flattened([result, *(array for array, _ in terms)], fan_in)
    factors, _ = _flattened([np.expand_dims(factor, tuple(fan_in)) for _, factor in terms], fan_in)
    pairs = list(zip(flat[1:], factors, strict=True))

    def combine(at):
        flat[0][at] = sum(rows_of(array, at) * rows_of(factor, at) for array, factor in pairs)

    if not result.ndim:
        return np.asarray(sum(array[...] * factor for array, factor in pairs), dtype)
    in_threads(combine, blocks_of(flat[0].shape))
    return result


def _flattened(arrays, fan_in):
    """Views of arrays that broadcast to one shape, as matrices (inputs, units) where the inputs' axes come first, and the
    axes of the inputs in them; else as they are.
    """
    fan_in = tuple(fan_in)
    if not fan_in or fan_in != tuple(range(len(fan_in))):
        return arrays, fan_in
    held = [array.held() if isinstance(array, SplitArray) else array for array in arrays]
    return [array.reshape(math.prod(array.shape[: len(fan_in)]), -1) for array in held], (0,)


def rows_of(array: Any, at: Any) -> np.ndarray:
    """Some rows of an array that broadcasts against one with these rows, float64; of a single row, that one."""
    part = array[at if at is ... or len(array) > 1 else slice(None)]
    return part.astype("float64", copy=False)


class SplitArray(np.lib.mixins.NDArrayOperatorsMixin):
    """A float64 array in float32 parts, whose sum it is; to be read like any array, an index gives a float64 array.

    A total as float32 has it and what that rounding left over are as exact as float64, and take no more memory; a sum that
    was gathered once is float32 anyway.

    Args:
        shape: of the array.
        parts: float32 arrays of this shape; none for zeros.
        device: gives further parts, which are on devices and may change; None: there are none.

    Attributes:
        shape: as given.
        dtype: float64.
        own: the parts that are on the host.
        device: as given.
    """

    dtype = np.dtype("float64")

    def __init__(
        self, shape: Sequence[int], parts: Sequence[np.ndarray] = (), device: Callable[[], list[np.ndarray]] | None = None
    ) -> None:
        self.shape, self.own, self.device = tuple(shape), list(parts), device

    @property
    def parts(self) -> list[np.ndarray]:
        """All parts, as they are now."""
        return [*self.own, *(self.device() if self.device is not None else [])]

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """The number of values."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """The bytes of the float64 array."""
        return self.size * self.dtype.itemsize

    def held(self) -> SplitArray:
        """The same, without a device: its parts are fetched once."""
        return self if self.device is None else SplitArray(self.shape, self.parts)

    def reshape(self, *shape: int) -> SplitArray:
        """The same values in another shape; views of the parts."""
        parts = [part.reshape(*shape) for part in self.parts]
        return SplitArray(parts[0].shape if parts else np.empty(self.shape, "bool").reshape(*shape).shape, parts)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, at: Any) -> np.ndarray:
        parts = [part[at] for part in self.parts]
        if not parts:
            return np.zeros(self.shape)[at]
        total = parts[0].astype("float64")
        for part in parts[1:]:
            total += part
        return total

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        held, whole = self.held(), np.empty(self.shape)

        def fill(at: Any) -> None:
            whole[at] = held[at]

        in_threads(fill, blocks_of(self.shape))
        return whole if dtype is None else whole.astype(dtype, copy=False)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        if any(isinstance(out, SplitArray) for out in options.get("out", ())):
            return NotImplemented
        plain = [np.asarray(given) if isinstance(given, SplitArray) else given for given in inputs]
        return getattr(ufunc, method)(*plain, **options)

    def __getattr__(self, name: str) -> Any:
        # What else an array has, such as `sum` and `T`. Names with an underscore are asked for by `copy` and `pickle`.
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(np.asarray(self), name)

    def __repr__(self) -> str:
        return f"SplitArray(shape={self.shape})"
