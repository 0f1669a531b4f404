"""Gathering the statistics of patterns: a Keras model whose `fit` is Keras's own loop.

One forward pass per batch; each linear node's sums are its VJP in the kernel (see `forms.base`). The sums are kept in
float32 on the device around a pivot, the first batch's mean of y, and flushed to float64 on the host every few dozen
steps (DESIGN, decision 7). Called by `api.fit_statistics`.
"""

import math

import keras
import numpy as np
from keras import ops

from innvest_lite import backend
from innvest_lite.errors import InvalidInputError
from innvest_lite.inputs import one_of
from innvest_lite.patterns.layout import REGIMES
from innvest_lite.patterns.statistics import LayerStatistics, PatternStatistics

FLUSH_EVERY = 32
_NEVER = -1


class PatternFitter(keras.Model):
    """Gathers a model's `PatternStatistics` in its train step.

    Args:
        layout: the `Layout` of the model.
        inputs: the `InputSpec` of the model.
        components: whether the sums over the positive regime are wanted besides those over all data.
        regime: see `Layout.regime`.
    """

    def __init__(self, layout, inputs, components=True, regime="rectifier"):
        super().__init__(name="pattern_fitter")
        self._layout, self._inputs_spec = layout, inputs
        self._regime, self._components = one_of(regime, REGIMES, "regime"), components
        self._sums = backend.Untracked({name: self._accumulators(name, form) for name, form in layout.patterned.items()})
        self._seen = self.add_weight(shape=(), dtype="int64", initializer="zeros", trainable=False, name="samples")
        self._steps = self.add_weight(shape=(), dtype="int64", initializer="zeros", trainable=False, name="steps")
        self._bad = self.add_weight(
            shape=(), dtype="int64", initializer=keras.initializers.Constant(_NEVER), trainable=False, name="bad_step"
        )
        self.statistics = PatternStatistics(
            {name: self._empty(name, form) for name, form in layout.patterned.items()}, layout.fingerprints()
        )
        self.built = True

    def _accumulators(self, name, form):
        """The device's sums of one layer: float32, but counts, which float32 could not hold."""

        def variable(kind, shape, dtype="float32"):
            return self.add_weight(
                shape=shape, dtype=dtype, initializer="zeros", trainable=False, name=f"{kind}_{name}".replace("/", "_")
            )

        sums = {
            "pivot": variable("pivot", form.unit_shape),
            "count": variable("count", (), "int64"),
            "sum_y": variable("sum_y", form.unit_shape),
            "sum_x": variable("sum_x", form.input_sums_shape),
            "sum_xy": variable("sum_xy", form.kernel_shape),
        }
        if self._components:
            sums["active"] = variable("active", form.unit_shape, "int64")
            sums["active_x"] = variable("active_x", form.kernel_shape)
            sums["active_xy"] = variable("active_xy", form.kernel_shape)
        return sums

    def _empty(self, name, form):
        units, kernel = np.zeros(form.unit_shape), np.zeros(form.kernel_shape)
        components = [units.copy(), kernel.copy(), kernel.copy()] if self._components else [np.zeros(0)] * 3
        return LayerStatistics(0, units, np.zeros(form.input_sums_shape), kernel, *components)

    def train_step(self, data):
        """Adds one batch to the sums."""
        x, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        tensors = self._checked(x)
        finite = [ops.all(ops.isfinite(tensor)) for tensor in tensors if backend.is_float(tensor)]
        bad = ops.logical_not(ops.all(ops.stack(finite))) if finite else ops.convert_to_tensor(False)
        self._bad.assign(ops.where(ops.logical_and(bad, self._bad < 0), self._steps, self._bad))
        self._gather(tensors)
        self._seen.assign_add(ops.cast(ops.shape(tensors[0])[0], "int64"))
        # A batch without samples is none: the pivot waits for the first that has some.
        self._steps.assign_add(ops.cast(ops.shape(tensors[0])[0] > 0, "int64"))
        return {"samples": self._seen.value}

    def _checked(self, x):
        """The batch in the model's order; shapes are checked while the step is traced."""
        given = [x[name] for name in self._inputs_spec.names] if isinstance(x, dict) else keras.tree.flatten(x)
        shapes = [tuple(tensor.shape) for tensor in given]
        wanted = self._inputs_spec.shapes
        if len(shapes) != len(wanted) or not all(map(_compatible, shapes, wanted)):
            raise InvalidInputError(f"A batch of the data has shape {shapes}, but the model's inputs have {list(wanted)}.")
        if any(keras.backend.standardize_dtype(tensor.dtype) == "string" for tensor in given):
            raise InvalidInputError("A batch of the data holds text, where the model takes numbers.")
        return [ops.cast(tensor, dtype) for tensor, dtype in zip(given, self._inputs_spec.dtypes, strict=True)]

    def _gather(self, tensors):
        values = self._layout.values(tensors)
        started = set()
        for name, owner in self._layout.owners.items():
            form, sums = self._layout.forms[name], self._sums.value[owner]
            inputs = tuple(values[value] for value in form.node.inputs)
            y = form.linear_part(values[form.node.values[0]])
            if owner not in started:
                started.add(owner)
                self._start(form, sums, y)
            active = values[self._layout.regime(form, self._regime)] > 0
            self._add(form, sums, inputs, y - ops.cast(form.spread(sums["pivot"].value), y.dtype), active)

    def _start(self, form, sums, y):
        """Sets the pivot in the very first step."""
        pairs = ops.size(y) // max(math.prod(form.unit_shape), 1)
        mean = form.per_unit(y) / ops.cast(ops.maximum(pairs, 1), y.dtype)
        sums["pivot"].assign(ops.where(self._steps.value > 0, sums["pivot"].value, ops.cast(mean, "float32")))

    def _add(self, form, sums, inputs, centred, active):
        """Adds one call's products; `centred` is y minus the pivot."""
        parts = {
            "count": ops.size(centred) // max(math.prod(form.unit_shape), 1),
            "sum_y": form.per_unit(centred),
            "sum_x": form.input_sums(inputs, centred),
            "sum_xy": form.vjp_kernel(inputs, centred),
        }
        if self._components:
            mask = ops.cast(active, centred.dtype)
            parts["active"] = form.per_unit(ops.cast(active, "int32"))
            parts["active_x"] = form.vjp_kernel(inputs, mask)
            parts["active_xy"] = form.vjp_kernel(inputs, mask * centred)
        for kind, part in parts.items():
            sums[kind].assign_add(ops.cast(part, sums[kind].dtype))

    def resume(self, statistics):
        """Continues after the batches of earlier statistics of the same model.

        Raises:
            PatternMismatchError: they are of another model, or of other weights.
        """
        self.statistics.merge(statistics)

    def flush(self, batches):
        """Moves the device's sums to `statistics`, in float64 and around 0 instead of the pivot.

        Args:
            batches: how many batches went into them. The device cannot tell: at the end of an iterable, TensorFlow runs
                what does not depend on the missing batch.

        Raises:
            InvalidInputError: a batch held NaN or infinite values, or a sum overflowed.
        """
        if int(self._bad.numpy()) >= 0:
            raise InvalidInputError(
                f"The data holds NaN or infinite values in batch {int(self._bad.numpy())} (counted from 0). Remove or "
                "mend those samples: one of them would spoil every pattern."
            )
        for name, sums in self._sums.value.items():
            _add_around_zero(self.statistics.layers[name], sums, self._layout.forms[name].fan_in)
            for kind, variable in sums.items():
                if kind != "pivot":
                    variable.assign(ops.zeros_like(variable))
        self.statistics.check_finite()
        self.statistics.samples += int(self._seen.numpy())
        self.statistics.batches += batches
        self._seen.assign(0)


class Flush(keras.callbacks.Callback):
    """Flushes every few dozen steps and at the end, and writes a checkpoint each time.

    Args:
        checkpoint: a path, or None.
        every: how many steps lie between flushes.
    """

    def __init__(self, checkpoint=None, every=FLUSH_EVERY):
        super().__init__()
        self._checkpoint, self._every = checkpoint, every
        self._waiting = 0

    def on_train_batch_end(self, batch, logs=None):
        """Flushes when it is time."""
        self._waiting += 1
        if self._waiting == self._every:
            self._flush()

    def on_train_end(self, logs=None):
        """Flushes what is left."""
        self._flush()

    def _flush(self):
        self.model.flush(self._waiting)
        self._waiting = 0
        if self._checkpoint is not None:
            self.model.statistics.save(self._checkpoint)


def _add_around_zero(layer, sums, fan_in):
    """Adds the device's sums to a layer's: sum x (y - p) + p sum x = sum x y, exact in float64.

    In place and one sum after the other: the float64 sums of a wide layer are the largest arrays of a fit.
    """
    pivot, count = sums["pivot"].numpy().astype("float64"), int(sums["count"].numpy())
    over = np.expand_dims(pivot, fan_in)
    layer.count += count
    layer.sum_y += sums["sum_y"].numpy() + count * pivot
    pairs = [("sum_x", "sum_xy")]
    if "active" in sums:
        layer.active += sums["active"].numpy()
        pairs.append(("active_x", "active_xy"))
    for of_inputs, of_products in pairs:
        inputs = sums[of_inputs].numpy()
        np.add(getattr(layer, of_inputs), inputs, out=getattr(layer, of_inputs))
        products = getattr(layer, of_products)
        np.add(products, sums[of_products].numpy(), out=products)
        np.add(products, over * inputs, out=products)


def _compatible(shape, wanted):
    return len(shape) == len(wanted) and all(None in pair or pair[0] == pair[1] for pair in zip(shape, wanted, strict=True))
