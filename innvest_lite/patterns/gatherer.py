"""The part of a fit that runs on the device: a forward pass per batch, and each linear layer's sums as VJPs in its kernel.

The first batch is worked off operation by operation: it finds the pivots on the way, and where there is no second one,
nothing is ever traced. All others go through one program, which keeps float32 sums around the pivots, per replica;
`running` adds them up on the host every few dozen steps.
"""

from __future__ import annotations

import functools
import gc
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from keras import ops

from innvest_lite import backend
from innvest_lite.forms.base import as_dtype, shaped
from innvest_lite.inputs import InputSpec
from innvest_lite.patterns.layers import sums_of
from innvest_lite.patterns.layout import Call, Layout
from innvest_lite.patterns.products import PRODUCTS, Added, added, parts_of, units_of

# What is gathered of each batch, and what of some batches only: see `statistics.LayerStatistics`.
_LINEAR, _REGIME = ("sum_x", "sum_xy"), ("active_xy", "active_x")
_OF_EVERY_BATCH = {
    "all": (*_LINEAR, *_REGIME),
    "relu": _REGIME,
    "relu, sampled": ("active_xy",),
    "linear": _LINEAR,
}
# The small sums: their rows in one variable, and the product whose batches they count.
_ROWS = {"sum_y": None, "linear_y": "sum_xy", "active": None, "active_count": "active_x"}
_COUNTS = {"count": None, "linear_count": "sum_xy"}


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
        names: the names of the layers of which there are sums, in order.
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
        self.gathered, self._replicas, self._jit_compile = dict(gathered), replicas, jit_compile
        self.names = [name for name, word in gathered.items() if word != "nothing"]
        self._forms = {name: layout.patterned[name] for name in self.names}
        self._sizes = [units_of(self._forms[name]) for name in self.names]
        self._pivots: dict[str, np.ndarray] = {}
        self._kept: frozenset[str] = frozenset()
        self._programs: dict[bool, Any] = {}
        self._rows: int | None = None
        self._small: tuple[Any, ...] = ()
        self._products: dict[tuple[str, str], Any] = {}

    def begin(self) -> None:
        """Prepares another fit: sums left by one that was interrupted are cleared."""
        for variable in (*self._small, *self._products.values()):
            self._put(variable, None)
        self._kept = frozenset()

    @property
    def has_sums(self) -> bool:
        """Whether there are sums on the device yet."""
        return bool(self._small)

    def kinds(self, name: str) -> list[str]:
        """The sums of a layer that are of its kernel's size."""
        known = sums_of(self.gathered[name])
        return [kind for kind in PRODUCTS if kind in known]

    # The first batch ----------------------------------------------------------------------------------------------------

    def first(self, arrays: Sequence[np.ndarray], weights: np.ndarray | None) -> Iterator[tuple[str, str, np.ndarray]]:
        """Works off the first batch, and finds the pivots: the means of y over it.

        Args:
            arrays: an array for each input, of at least one sample.
            weights: float32 (samples,), or None.

        Returns:
            A generator of `(pattern name, name of the sum, array)`; "pivot" is among the names. To be used within
            `backend.weights_stay`.
        """
        # What is too much for one replica comes to it in parts.
        parts = min(self._replicas.count, len(arrays[0]))
        self._pivots = {}
        for rows in np.array_split(np.arange(len(arrays[0])), parts):
            part = slice(rows[0], rows[-1] + 1)
            tensors = [ops.convert_to_tensor(array[part]) for array in arrays]
            counted = None if weights is None else ops.convert_to_tensor(weights[part])
            for call in self._layout.calls(tensors, counted, self._regime):
                name = self._layout.owners[call.form.name]
                if name not in self._forms:
                    continue
                if name not in self._pivots:
                    self._pivots[name] = _mean(call)
                    yield name, "pivot", np.float64(self._pivots[name])
                for each in parts_of(call):
                    yield from self._of_call(name, each)

    def _of_call(self, name, call):
        """`(name, name of the sum, array)` of all that a call adds, one after the other."""
        found, known = self._added(name, call, ops.convert_to_tensor(self._pivots[name])), sums_of(self.gathered[name])
        pairs = int(found.size) / units_of(call.form) * (1 if found.weight is None else float(found.weight))
        small = {"count": pairs, "linear_count": pairs, "sum_y": found.sum_y, "linear_y": found.sum_y}
        if found.active is not None:
            small |= {"active": found.active, "active_count": found.active}
        for kind, value in small.items():
            if kind in known:
                yield name, kind, np.asarray(value, "float64")
        for kind, product in found.products.items():
            yield name, kind, backend.view(product())

    def _added(self, name: str, call: Call, pivot: Any) -> Added:
        known = sums_of(self.gathered[name])
        return added(call, pivot, "sum_xy" in known, "active_xy" in known)

    # All others ---------------------------------------------------------------------------------------------------------

    def put_pivots(self, pivots: Mapping[str, np.ndarray]) -> None:
        """Sets the pivot of every layer, by name; the sums must be empty, or moved with them."""
        self._pivots = {name: np.asarray(pivots[name], "float32") for name in self.names}

    def keep_linear(self, names: Collection[str]) -> None:
        """Sets the layers whose products for the linear estimator are gathered of every batch, not of some only."""
        self._kept = frozenset(names)

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
        pivots = np.concatenate([self._pivots[name].reshape(-1) for name in self.names])
        wanted = np.array([[kind in self._wanted(name, full) for name in self.names] for kind in PRODUCTS])
        self._program(padded or weights is not None)([[*part, pivots, wanted] for part in parts])

    def _wanted(self, name, full):
        kept = _LINEAR if name in self._kept else ()
        return PRODUCTS if full else (*_OF_EVERY_BATCH[self.gathered[name]], *kept)

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

    def _program(self, with_weights):
        if not self._small:
            self._make_sums()
        if with_weights not in self._programs:
            signature = self._inputs.signature
            signature += [backend.tensor_spec((None,), "float32")] if with_weights else []
            signature += [backend.tensor_spec((sum(self._sizes),), "float32")]
            signature += [backend.tensor_spec((len(PRODUCTS), len(self.names)), "bool")]
            step = functools.partial(self._step, with_weights)
            # The batch size stays open in the signature; XLA compiles for each size that occurs.
            self._programs[with_weights] = self._replicas.program(step, signature, self._jit_compile)
        return self._programs[with_weights]

    def _make_sums(self):
        """Makes the device's sums: float32, but for counts and small ones, which are float64 and in one variable each."""
        variable, names = self._replicas.variable, self.names
        self._small = variable((len(_ROWS), sum(self._sizes)), "float64"), variable((len(_COUNTS), len(names)), "float64")
        for name in names:
            shapes = sums_of(self.gathered[name])
            for kind in self.kinds(name):
                shape: Any = shapes[kind]
                self._products[name, kind] = variable(getattr(self._forms[name], shape), "float32")

    def _step(self, with_weights, *tensors):
        """Adds the products of a batch to the sums."""
        with backend.weights_stay():
            self._add_batch(with_weights, tensors)

    def _add_batch(self, with_weights, tensors):
        *given, pivots, wanted = tensors
        weights = given.pop() if with_weights else None
        cut = zip(self.names, backend.split(pivots, self._sizes), strict=True)
        each = {name: shaped(part, self._forms[name].unit_shape) for name, part in cut}
        found: dict[str, list[Added]] = {name: [] for name in self.names}
        asked = {kind: ops.unstack(row) for kind, row in zip(PRODUCTS, ops.unstack(wanted), strict=True)}
        numbers = {name: number for number, name in enumerate(self.names)}
        calls, done = iter(self._layout.calls(given, weights, self._regime)), None
        while True:
            # A layer at a time: TensorFlow would run ahead, and hold the values of all layers at once.
            with backend.after(done):
                call = next(calls, None)
                if call is None:
                    break
                name = self._layout.owners[call.form.name]
                if name not in self._forms:
                    continue
            conditions, parts = {kind: row[numbers[name]] for kind, row in asked.items()}, iter(parts_of(call))
            while True:
                with backend.after(done):
                    part = next(parts, None)
                    if part is None:
                        break
                    found[name].append(self._added(name, part, each[name]))
                done = self._add_products(name, found[name][-1].products, conditions, done)
        self._add_small(found, wanted)

    def _add_products(self, name, products, conditions, done):
        """Adds the products of a call, one after the other: each is as large as the kernel. Gives the last operation."""
        always = _OF_EVERY_BATCH[self.gathered[name]]
        groups: dict[str, list[str]] = {}
        for kind in products:
            # Both sums of all pairs are wanted of the same batches.
            groups.setdefault("" if kind in always else _LINEAR[0] if kind in _LINEAR else kind, []).append(kind)
        for condition, kinds in groups.items():

            def act(kinds=kinds, done=done):
                for kind in kinds:
                    with backend.after(done):
                        done = self._products[name, kind].assign_add(as_dtype(products[kind](), "float32"))
                return done

            if condition:
                with backend.after(done):
                    done = backend.when(conditions[condition], lambda act=act: act(done=None))
            else:
                done = act()
        return done

    def _add_small(self, found, wanted):
        """Adds all counts and sums of a few numbers a unit."""
        units, counts = self._small
        owners = np.repeat(np.arange(len(self.names)), self._sizes)
        shares = ops.cast(wanted, "float64")
        share = dict(zip(PRODUCTS, ops.unstack(shares), strict=True))
        nothing = {name: np.zeros(size) for name, size in zip(self.names, self._sizes, strict=True)}

        def joined(kind):
            return ops.concatenate([_flat(found[name], kind, nothing[name]) for name in self.names])

        rows = {"sum_y": joined("sum_y"), "active": joined("active")}
        rows |= {"linear_y": rows["sum_y"], "active_count": rows["active"]}
        pairs = ops.stack([_pairs(calls, size) for calls, size in zip(found.values(), self._sizes, strict=True)])
        kinds = _ROWS.items()
        units.assign_add(ops.stack([rows[row] * (ops.take(share[of], owners) if of else 1) for row, of in kinds]))
        counts.assign_add(ops.stack([pairs * (share[of] if of else 1) for of in _COUNTS.values()]))

    def take_small(self) -> Iterator[tuple[str, str, np.ndarray]]:
        """Empties the small sums.

        Returns:
            A generator of `(pattern name, name of the sum, float64 array)`.
        """
        if not self._small:
            return
        units, counts = (self._taken(variable) for variable in self._small)
        ends = np.cumsum([0, *self._sizes])
        for number, name in enumerate(self.names):
            known = sums_of(self.gathered[name])
            for kind, row in zip(_ROWS, units, strict=True):
                if kind in known:
                    yield name, kind, row[ends[number] : ends[number + 1]].reshape(self._forms[name].unit_shape)
            for kind, row in zip(_COUNTS, counts, strict=True):
                yield name, kind, row[number]

    def _taken(self, variable):
        values = [backend.to_numpy(part) for part in self._replicas.parts(variable)]
        self._put(variable, None)
        return np.sum(values, axis=0)

    def look(self, name: str, kind: str) -> list[np.ndarray]:
        """A product's sums, one for each replica, without a copy where the device's memory is the host's."""
        variable = self._products.get((name, kind))
        return [] if variable is None else [backend.view(part) for part in self._replicas.parts(variable)]

    def put(self, name: str, kind: str, value: np.ndarray | None) -> None:
        """Gives a product's sum another value; None: 0."""
        if not self._small:
            self._make_sums()
        self._put(self._products[name, kind], value)

    def _put(self, variable, value):
        for part in self._replicas.parts(variable):
            part.assign(ops.zeros(part.shape, part.dtype) if value is None else value)
            value = None

    def stop(self) -> None:
        """Frees the programs, behind which the sums can be dropped one by one."""
        if self._programs:
            self._programs.clear()
            # TensorFlow's graphs hold the sums in reference cycles.
            gc.collect()

    def drop(self, name: str, kind: str) -> None:
        """Frees a product's sum; behind the last one, there are none."""
        self._products.pop((name, kind), None)
        if not self._products:
            self._small = ()


def _mean(call):
    """The mean of y over a batch, float32, in unit shape: a pivot need only be near the mean."""
    y = call.form.linear_part(call.output)
    return np.float32(backend.to_numpy(call.form.per_unit(y)) / max(int(backend.size(y)) // units_of(call.form), 1))


def _flat(calls, kind, nothing):
    """A small sum of all calls of a layer, as a vector."""
    values = [value for call in calls if (value := getattr(call, kind)) is not None]
    if not values:
        return ops.convert_to_tensor(nothing)
    return as_dtype(shaped(sum(values[1:], values[0]), nothing.shape), "float64")


def _pairs(calls, units):
    """The pairs of all calls of a layer, each counted by its weight."""
    found = [ops.cast(call.size, "float64") * (1 if call.weight is None else call.weight) for call in calls]
    return sum(found[1:], found[0]) / units
