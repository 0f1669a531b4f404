"""Running a compiled function over many samples, batch by batch. Called by the analyzers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from innvest_lite import backend


def run(
    program: Callable[..., Any],
    arrays: Sequence[np.ndarray],
    batch_size: int,
    pad: bool = False,
    verbose: int | str = 0,
    *,
    always: bool = False,
    ticks: Ticks | None = None,
) -> list[np.ndarray]:
    """Calls `program` with batches of `arrays` and joins what comes.

    Args:
        program: a compiled function of one tensor per array; its outputs have the batch first.
        arrays: arrays with the samples first.
        batch_size: how many samples go at a time.
        pad: whether a smaller last batch is filled up, so that XLA need not compile a second program.
        verbose: 1 shows a progress bar, of the batches, or of what `ticks` counts.
        always: whether every batch is filled up, of a model that takes so many samples and no others.
        ticks: what counts the evaluations inside of the program; None: it is not looked into.

    Returns:
        A list with an array for each output.
    """
    count = len(arrays[0])
    # An empty input goes through the program as one sample of zeros, of which nothing is kept.
    starts = range(0, max(count, 1), batch_size)
    bar = _bar(len(starts), verbose, ticks) if is_shown(verbose) else None
    batches = []
    for start in starts:
        parts = [array[start : start + batch_size] for array in arrays]
        size = len(parts[0])
        whole = batch_size if always or (pad and count > batch_size) else max(size, 1)
        outputs = program(*[padded(part, whole) for part in parts])
        several = outputs if isinstance(outputs, list | tuple) else [outputs]
        batches.append([np.asarray(output)[:size] for output in several])
        if bar:
            bar.add(1 if ticks is None else ticks.rest())
    return [np.concatenate(parts) if len(parts) > 1 else parts[0] for parts in zip(*batches, strict=True)]


def is_shown(verbose: int | str) -> bool:
    """Whether `verbose` asks for a progress bar; a list of explanations is short, so that "auto" does not."""
    return verbose not in (0, "auto")


def _bar(calls, verbose, ticks):
    """A bar of Keras's for so many calls of a program."""
    if ticks is None:
        return keras.utils.Progbar(calls, verbose=verbose)
    bar = keras.utils.Progbar(calls * ticks.evaluations, verbose=verbose, unit_name=ticks.unit)
    ticks.show(bar)
    return bar


class Ticks:
    """Counts what a program evaluates while it runs, where a sample is evaluated many times: `backend.loop` calls it.

    Args:
        evaluations: of each sample in a call.
        together: how many of them a round has.
        unit: what one is called.
    """

    def __init__(self, evaluations: int, together: int, unit: str) -> None:
        self.evaluations, self.together, self.unit = evaluations, together, unit
        self._bar: Any = None
        self._left = evaluations

    def show(self, bar: Any) -> None:
        """Shows what is counted from now on with this bar."""
        self._bar, self._left = bar, self.evaluations

    def __call__(self, index: int) -> None:
        """A round is done; what a second input or a last, filled round has more is not counted."""
        done = min(self.together, self._left)
        # The last ones are shown when the call is over.
        if self._bar is not None and done < self._left:
            self._left -= done
            self._bar.add(done)

    def rest(self) -> int:
        """What is left of a call that is over; counting begins anew."""
        rest, self._left = self._left, self.evaluations
        return rest


class Program:
    """A function of tensors, compiled when it is first called: once for all sizes.

    Where a layer has to know the sizes that its model leaves open, as some that enlarge have, once for each of them.

    Args:
        function: a function of tensors.
        signature: a `backend.tensor_spec` for each.
        jit_compile: whether XLA compiles it.
    """

    def __init__(self, function: Callable[..., Any], signature: Sequence[Any], jit_compile: bool) -> None:
        self._function, self._signature, self._jit_compile = function, signature, jit_compile
        self._is_open = any(None in spec.shape[1:] for spec in signature)
        self._compiled: dict[Any, Callable[..., Any]] = {}

    def __call__(self, *arrays: np.ndarray) -> Any:
        """The function's value."""
        # As tensors: a compiled function's own conversion of arrays takes several times as long.
        return (self._compiled.get(None) or self._program(arrays))(*map(backend.tensor, arrays))

    def _program(self, arrays):
        sizes = tuple(tuple(array.shape[1:]) for array in arrays)
        if None not in self._compiled and not (self._is_open and self._compiled):
            try:
                self._compiled[None] = backend.compiled(self._function, self._signature, self._jit_compile)
            except (TypeError, ValueError):
                if not self._is_open:
                    raise
        if None in self._compiled:
            return self._compiled[None]
        if sizes not in self._compiled:
            pairs = zip(self._signature, sizes, strict=True)
            signature = [backend.tensor_spec((*spec.shape[:1], *size), spec.dtype) for spec, size in pairs]
            self._compiled[sizes] = backend.compiled(self._function, signature, self._jit_compile)
        return self._compiled[sizes]


def padded(array: np.ndarray, size: int) -> np.ndarray:
    """Repeats the last sample (or zeros, or empty texts, where there is none) up to `size` samples."""
    missing = size - len(array)
    if not missing:
        return array
    nothing = "" if array.dtype == object else 0
    last = array[-1:] if len(array) else np.full((1, *array.shape[1:]), nothing, array.dtype)
    return np.concatenate([array, np.repeat(last, missing, axis=0)])
