"""The part of a fit that runs on the device: a forward pass per batch, and each linear layer's sums as VJPs in its kernel.

Comes in: batches. Goes out: float32 sums around the pivots, per replica, which `fitter` moves to float64 on the host
every few dozen steps.
"""

from __future__ import annotations

import functools
import gc
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from keras import ops

from innvest_lite import backend
from innvest_lite.forms.base import weighted
from innvest_lite.inputs import InputSpec
from innvest_lite.patterns.layers import sums_of
from innvest_lite.patterns.layout import Layout

# What is gathered of each batch, and what of some batches only: see `statistics.LayerStatistics`.
_ALL = frozenset({"linear", "active_xy", "active_x"})
_OF_EVERY_BATCH = {
    "all": _ALL,
    "relu": frozenset({"active_xy", "active_x"}),
    "relu, sampled": frozenset({"active_xy"}),
    "linear": frozenset({"linear"}),
}
_OF_FULL_BATCHES = {**_OF_EVERY_BATCH, "relu": _ALL, "relu, sampled": _ALL}
# How many samples of the first batch the first pivot is the mean of; any number near the mean serves.
_FOR_THE_PIVOT = 8


class Gatherer:
    """Adds batches to the sums of a model's linear layers.

    Args:
        layout: the `Layout` of the model.
        inputs: the `InputSpec` of the model.
        gathered: pattern name -> a key of `layers.GATHERED`.
        regime: see `Layout.regime`.
        replicas: `backend.Replicas` to work on.
        jit_compile: whether XLA compiles the step.

    Attributes:
        gathered: as given.
    """

    def __init__(
        self,
        layout: Layout,
        inputs: InputSpec,
        gathered: Mapping[str, str],
        regime: str,
        replicas: backend.Replicas,
        jit_compile: bool,
    ) -> None:
        self._layout, self._inputs, self._regime = layout, inputs, regime
        self.gathered = dict(gathered)
        self._replicas, self._jit_compile = replicas, jit_compile
        words = {name: word for name, word in gathered.items() if word != "nothing"}
        self._sums = {name: self._accumulators(layout.patterned[name], word) for name, word in words.items()}
        self._programs: dict[Any, Any] = {}
        self._rows: int | None = None
        self._with_linear: frozenset[str] = frozenset()

    def _accumulators(self, form, word):
        """The sums of one layer: float32, but for counts, which float32 could not hold."""
        shapes = {name: getattr(form, shape) if shape else () for name, shape in sums_of(word).items()}
        wide = ("count", "linear_count", "active", "active_count")
        return {
            name: self._replicas.variable(shape, "float64" if name in wide else "float32") for name, shape in shapes.items()
        }

    def begin(self) -> None:
        """Prepares another fit: sums left by one that was interrupted are cleared."""
        for variables in self._sums.values():
            for part in (part for variable in variables.values() for part in self._replicas.parts(variable)):
                part.assign(ops.zeros(part.shape, part.dtype))
        self.keep_linear(())

    def pivots(self, arrays: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """Pattern name -> the mean of y over some samples, float64: a first pivot."""
        some = [ops.convert_to_tensor(array[:_FOR_THE_PIVOT]) for array in arrays]
        means = {}
        for form, values, _ in self._layout.calls(some):
            owner = self._layout.owners[form.name]
            # The first call of a shared layer is enough: a pivot need only be near the mean.
            if owner in self._sums and owner not in means:
                y = form.centred(values[form.node.values[0]], ops.zeros(form.unit_shape))
                means[owner] = backend.to_numpy(form.per_unit(y)).astype("float64") / max(int(_positions(y, form)), 1)
        return means

    def put_pivots(self, pivots: Mapping[str, np.ndarray]) -> None:
        """Sets the pivot of every layer, by name; the sums must be empty."""
        for name, pivot in pivots.items():
            for part in self._replicas.parts(self._sums[name]["pivot"]):
                part.assign(np.asarray(pivot, "float32"))

    def keep_linear(self, names: Collection[str]) -> None:
        """Sets the layers whose products for the linear estimator are gathered of every batch, not of some only."""
        if self._with_linear != frozenset(names):
            self._with_linear = frozenset(names)
            self._programs.clear()

    def add(self, arrays: Sequence[np.ndarray], weights: np.ndarray | None, full: bool) -> None:
        """Adds one batch.

        Args:
            arrays: an array for each input, of at least one sample.
            weights: float32 (samples,), or None.
            full: whether to gather also the sums that are gathered of some batches only.
        """
        # TensorFlow's own kernels take any number of samples; XLA and replicas want batches of one size.
        padded = self._jit_compile or self._replicas.distributed
        parts = self._padded(arrays, weights) if padded else [[*arrays, *([] if weights is None else [weights])]]
        self._program(full, padded or weights is not None)(parts)

    def _padded(self, arrays, weights):
        """The batch as a part for each replica, all of one size: filled with copies of a sample that have the weight 0.

        For a smaller last batch XLA would compile a second program.
        """
        count, samples = self._replicas.count, len(arrays[0])
        self._rows = max(self._rows or 0, -(-samples // count))
        missing = self._rows * count - samples
        weights = np.ones(samples, "float32") if weights is None else weights
        whole = [np.concatenate([array, np.repeat(array[:1], missing, axis=0)]) if missing else array for array in arrays]
        whole.append(np.concatenate([weights, np.zeros(missing, "float32")]))
        return [[array[start * self._rows : (start + 1) * self._rows] for array in whole] for start in range(count)]

    def _program(self, full, with_weights):
        key = full, with_weights
        if key not in self._programs:
            signature = self._inputs.signature
            signature += [backend.tensor_spec((None,), "float32")] if with_weights else []
            step = functools.partial(self._step, full, with_weights)
            # The batch size stays open in the signature; XLA compiles for each size that occurs.
            self._programs[key] = self._replicas.program(step, signature, self._jit_compile)
        return self._programs[key]

    def _step(self, full, with_weights, *tensors):
        """Adds the products of a batch to the sums."""
        weights = tensors[-1] if with_weights else None
        for owner, products in self.added(tensors[: len(self._inputs.names)], full, weights):
            sums, done = self._sums[owner], None
            for name, product in products.items():
                # One after the other: each is as large as the kernel, and TensorFlow would hold all of them at once.
                with backend.after(done):
                    done = sums[name].assign_add(ops.cast(product(), sums[name].dtype))

    def added(
        self, tensors: Sequence[Any], full: bool = True, weights: Any = None
    ) -> Iterator[tuple[str, dict[str, Callable[[], Any]]]]:
        """What a batch adds to the sums, call by call.

        Args:
            tensors: a tensor for each input.
            full: as in `add`.
            weights: as in `add`, a tensor.

        Returns:
            A generator of `(pattern name, sums)`; sums: name -> a function that computes what is to be added.
        """
        for form, values, counted in self._layout.calls(tensors, weights):
            owner = self._layout.owners[form.name]
            if owner not in self._sums:
                continue
            inputs = tuple(values[value] for value in form.node.inputs)
            active = values[self._layout.regime(form, self._regime)] > 0
            centred = form.centred(values[form.node.values[0]], ops.convert_to_tensor(self._sums[owner]["pivot"]))
            yield owner, _products(form, self._kinds(owner, full), inputs, centred, active, counted)

    def _kinds(self, owner, full):
        word = self.gathered[owner]
        if full:
            return _OF_FULL_BATCHES[word]
        return _OF_EVERY_BATCH[word] | ({"linear"} if owner in self._with_linear else set())

    def take(self) -> Iterator[tuple[str, str, np.ndarray]]:
        """Empties the sums.

        Returns:
            A generator of `(pattern name, name of the sum, array)`, one sum and replica after the other.
        """
        for name, variables in self._sums.items():
            for kind in (kind for kind in variables if kind != "pivot"):
                for replica in range(self._replicas.count):
                    yield name, kind, self._taken(variables[kind], replica)

    def _taken(self, variable, replica):
        part = self._replicas.parts(variable)[replica]
        value = backend.to_numpy(part)
        part.assign(ops.zeros(part.shape, part.dtype))
        return value

    def release(self) -> None:
        """Frees the sums, the largest tensors of a fit."""
        self._programs.clear()
        self._sums.clear()
        # TensorFlow's graphs hold them in reference cycles; the next fit may begin before the collector runs.
        gc.collect()


def _products(form, kinds, inputs, centred, active, weights):
    """Functions that give the sums of one call, by the names of `layers.LayerStatistics`."""
    weights = None if weights is None else ops.reshape(weights, (-1, *[1] * (len(centred.shape) - 1)))
    # Sums of y less the pivot: of y itself, float32 would lose the variance of units whose mean is large
    # (docs/design.md, decision 7).
    heavy = weighted(centred, weights)
    pairs = ops.cast(_positions(centred, form), "float64")
    if weights is not None:
        pairs = pairs * ops.mean(ops.cast(weights, "float64"))
    sum_y = form.per_unit(heavy)
    parts = {"count": lambda: pairs, "sum_y": lambda: sum_y}
    if "linear" in kinds:
        parts.update(linear_count=lambda: pairs, linear_y=lambda: sum_y)
        parts.update(sum_x=lambda: form.input_sums(inputs, centred, weights), sum_xy=lambda: form.vjp_kernel(inputs, heavy))
    if "active_xy" in kinds:
        mask = weighted(ops.cast(active, centred.dtype), weights)
        # Of integers, or in float64: what is left of all pairs, the negative regime, may be a few.
        count = form.per_unit(ops.cast(active, "int32") if weights is None else ops.cast(mask, "float64"))
        parts["active"] = lambda: count
        parts["active_xy"] = lambda: form.vjp_kernel(inputs, ops.where(active, heavy, ops.zeros((), heavy.dtype)))
        if "active_x" in kinds:
            parts.update(active_count=lambda: count, active_x=lambda: form.vjp_kernel(inputs, mask))
    return parts


def _positions(values, form):
    """How many pairs a unit has in a batch: samples times positions."""
    return ops.size(values) // max(math.prod(form.unit_shape), 1)
