"""Signal-estimator quality rho (Kindermans et al. 2017, arXiv 1705.05598, section 4): how much the distractor tells of y.

rho(S) = 1 - max_v corr(w'x, v'(x - S(x))). The best v is a ridge regression, whose normal equations need second moments
only; the paper found it by gradient descent. Three disjoint parts of data: estimators on the first, v on the second, rho
on the third, since rho means nothing on samples that were seen before (on its own data S_a has cov[d, y] = 0, so rho is 1).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from innvest_lite import backend
from innvest_lite.errors import InvalidInputError
from innvest_lite.forms import LinearForm
from innvest_lite.inputs import input_spec
from innvest_lite.metrics.moments import Correlation, Moments
from innvest_lite.metrics.quality import LayerQuality, SignalQuality
from innvest_lite.metrics.splits import refuse_overlap
from innvest_lite.metrics.windows import windows
from innvest_lite.options import as_array, finite, formerly_positional, one_of, positive, seed_of
from innvest_lite.patterns import fit_statistics
from innvest_lite.patterns.data import each_batch
from innvest_lite.patterns.estimators import estimate
from innvest_lite.patterns.layers import LayerStatistics
from innvest_lite.patterns.layout import Layout

ESTIMATORS = ("random", "filter", "linear", "two_component")
TARGETS = ("preactivation", "activation", "active")
# The number of neurons of a layer unless the user chooses it.
_NEURONS = 256
# Below this share of the variance of x, the rest x - S(x) of an estimator is float32 rounding.
_NOTHING = 1e-10

_log = logging.getLogger("innvest_lite")


@formerly_positional("neurons", "on")
def signal_quality(
    model: keras.Model,
    fit_data: Any,
    regress_data: Any,
    eval_data: Any,
    estimators: Sequence[str] | Mapping[str, Any] = ESTIMATORS,
    layers: Collection[str] | None = None,
    *,
    neurons: int | str | Mapping[str, Sequence[int]] | None = None,
    on: str = "preactivation",
    positions: int = 64,
    ridge: float = 1e-6,
    batch_size: int = 8,
    seed: int = 0,
    verbose: int | str = 0,
) -> SignalQuality:
    """The quality rho of signal estimators, per layer and neuron (Kindermans et al. 2017, eq. 4).

    Args:
        model: a Functional or Sequential `keras.Model`; not changed.
        fit_data: what the estimators are fitted on; sources as in `fit_patterns`.
        regress_data: other samples, for the regression of y on the rest x - S(x) of an estimator.
        eval_data: yet other samples, on which rho is evaluated.
        estimators: names: "random" (a direction of no meaning), "filter" (S_w), "linear" (S_a), "two_component" (S_a+-),
            "relu" or "relu.negative" (a+ or a- in both regimes). Or a mapping from names of your own to one of these,
            to patterns (a mapping from layer to array), or to a pair of them for the two regimes.
        layers: names of linear layers (nodes), not of a recurrent layer's steps; None: all with weights of their own.
        neurons: how many units of a layer, drawn with `seed`; None: at most 256; "all"; or a mapping from layer to indices,
            at most 256 for layers that it does not name.
        on: "preactivation": y = w'x. "activation": max(0, what the rectifier sees). "active": y, on the pairs of window
            and output where the unit is in the positive regime.
        positions: how many positions of a convolution are used per sample, drawn with `seed`, the same for all samples.
        ridge: what the regression adds to the diagonal, as a share of the mean variance of x.
        batch_size: the number of samples processed at a time.
        seed: of all random draws.
        verbose: 1 shows progress bars: of the fit, of the regression and of the evaluation.

    Returns:
        A `SignalQuality`; it prints as a table and has `to_dict()` and `plot()`.

    Raises:
        InvalidInputError: two parts of the data are the same, or an argument is not one of the above.
    """
    one_of(on, TARGETS, "on")
    if not finite(ridge, "ridge") > 0:
        raise InvalidInputError(
            f"ridge should be above 0, because the covariance of x - S(x) is singular (it does not vary along w), but is "
            f"{ridge!r}."
        )
    refuse_overlap({"fit_data": fit_data, "regress_data": regress_data, "eval_data": eval_data})
    layout, generator = Layout.of(model), np.random.default_rng(seed_of(seed))
    chosen = _chosen_layers(layout, layers)
    if isinstance(neurons, Mapping) and not set(neurons) <= set(chosen):
        raise InvalidInputError(f"neurons should name layers among {chosen}, but names {list(neurons)}.")
    inputs = input_spec(model, layout.graph)
    parts = _regimes(estimators)
    fitted = any(isinstance(part, str) and part not in ("random", "filter") for pair in parts.values() for part in pair)
    options: dict[str, Any] = {"batch_size": batch_size, "verbose": verbose, "chains": "split"}
    statistics = fit_statistics(model, fit_data, **options) if fitted else None
    estimates: _Estimates | None = _Estimates(parts, layout, statistics, generator)
    size = positive(batch_size, "batch_size")
    # Positions and neurons are drawn once, so that both passes see the same rows of the same units.
    sampled = None
    for part, data in (("regress", regress_data), ("evaluate", eval_data)):
        for batch in _shown(each_batch(data, inputs, size), part, verbose):
            if sampled is None:
                sampled = _Sampled(layout, chosen, neurons, positive(positions, "positions"), batch, generator)
                studies = {name: _Study(sampled, name, estimates, on) for name in chosen}
                # The sums of all units, the largest arrays here, are no longer needed.
                estimates = None
            for name, rows in sampled.rows(batch).items():
                getattr(studies[name], part)(*rows)
        if part == "regress":
            for study in studies.values():
                study.solve(ridge)
    quality = SignalQuality({name: study.result() for name, study in studies.items()}, on, ridge)
    few = {name: layer.floor for name, layer in quality.layers.items() if layer.floor >= 1}
    if few:
        _log.warning(
            "Too few samples for the fan-in of %s: a regression on so few rows fits anything, and rho means nothing there. "
            "Give more samples, or use more positions.",
            ", ".join(f"{name} (floor {floor:.2g})" for name, floor in few.items()),
        )
    return quality


def _shown(batches, part, verbose):
    """The batches, with a progress bar if `verbose`; their number is not known in advance."""
    bar = keras.utils.Progbar(None, unit_name=f"batch to {part}") if verbose not in (0, "auto") else None
    number = 0
    for number, batch in enumerate(batches, 1):
        yield batch
        if bar:
            bar.update(number)
    if bar:
        bar.update(number, finalize=True)


class _Estimates:
    """The patterns a+ and a- of each estimator."""

    def __init__(self, parts, layout, statistics, generator):
        self._parts, self._layout = parts, layout
        self._statistics, self._generator = statistics, generator

    @property
    def names(self):
        """The names of the estimators."""
        return tuple(self._parts)

    def of(self, estimator, layer, kernel, units):
        """`(a+, a-)` of some units of a layer, each float64 (D, units); `kernel` is theirs."""
        one, other = self._parts[estimator]
        above = self._pattern(one, layer, kernel, units)
        if other is one:
            return above, above
        below = self._pattern(other, layer, kernel, units)
        # A unit that was never in one of the regimes when the estimator was fitted has the other's pattern in both.
        known = [np.any(pattern != 0, axis=0) for pattern in (above, below)]
        return np.where(known[0], above, below), np.where(known[1], below, above)

    def _pattern(self, part, layer, kernel, units):
        if isinstance(part, str) and part == "random":
            # Divided by w'a, so that like all others it reproduces y: w'S(x) = y.
            direction = self._generator.normal(size=kernel.shape)
            along = (kernel * direction).sum(0)
            return direction / np.where(along == 0, 1, along)
        form = self._layout.patterned[layer]
        if isinstance(part, str):
            statistics = None if part == "filter" else _of_units(self._statistics.layers[layer], form, units)
            return estimate(part, statistics, kernel, (0,))[0]
        if layer not in part or np.shape(part[layer]) != form.kernel_shape:
            raise InvalidInputError(f"The estimator has no pattern of the shape {form.kernel_shape} for {layer!r}.")
        return by_unit(form, np.asarray(part[layer]))[:, units].astype("float64")


def _of_units(statistics, form, units):
    """A layer's sums for some of its units, each (D, units) or (units,): those of all units of a wide layer are large."""

    def chosen(sums):
        if sums.shape == form.unit_shape:
            return sums.reshape(-1)[units]
        flat = by_unit(form, sums)
        return flat if flat.shape[1] == 1 else flat[:, units]

    sums = vars(statistics).items()
    return LayerStatistics(**{name: chosen(value) if np.ndim(value) else value for name, value in sums})


def _regimes(estimators):
    """Estimator -> its patterns in the positive regime and in the negative one, each a word or a mapping."""
    if isinstance(estimators, str | bytes) or not isinstance(estimators, Mapping | list | tuple):
        raise InvalidInputError(f"estimators should be a list of names or a mapping, but is {estimators!r}.")
    named = estimators if isinstance(estimators, Mapping) else {name: name for name in estimators}
    return {name: _parts(name, given) for name, given in named.items()}


def _parts(name, given):
    """The patterns of an estimator for the two regimes: words, or mappings from layer to array."""
    words = {"two_component": ("relu", "relu.negative")}
    if isinstance(given, str):
        one_of(given, (*ESTIMATORS, "relu", "relu.negative"), f"The estimator {name!r}")
        return words.get(given, (given, given))
    if isinstance(given, Mapping):
        return given, given
    if isinstance(given, list | tuple) and len(given) == 2:
        return tuple(_parts(name, part)[0] for part in given)
    raise InvalidInputError(f"The estimator {name!r} should be a name, patterns, or a pair of them, but is {given!r}.")


class _Sampled:
    """The windows of the chosen layers, and the values in them for a batch."""

    def __init__(self, layout, chosen, neurons, positions, batch, generator):
        self._layout, self._shapes = layout, [part.shape[1:] for part in batch]
        values = layout.values([ops.convert_to_tensor(part[:1]) for part in batch])
        self.windows, self.units = {}, {}
        for name in chosen:
            form = layout.patterned[name]
            shapes = [tuple(values[value].shape[1:]) for value in form.node.inputs]
            full = windows(form, shapes, tuple(values[form.node.values[0]].shape[1:]), positions, generator)
            self.units[name] = _chosen_units(name, math.prod(form.unit_shape), neurons, generator)
            self.windows[name] = full.of_units(self.units[name])
        signature = [backend.batch_spec(part.shape, part.dtype.name) for part in batch]
        self._program = backend.compiled(self._numbers, signature, False)

    def _numbers(self, *tensors):
        values = self._layout.values(tensors)
        found = []
        for window in self.windows.values():
            regime = values[self._layout.regime(window.form, "rectifier")]
            inputs = tuple(values[value] for value in window.form.node.inputs)
            found += [window.seen(inputs), ops.cast(window.at_positions(regime), "float32")]
        return found

    def rows(self, batch):
        """Layer -> `(x, regime)`: float64 (groups, rows, D), and float64 (rows, units), what the rectifier sees."""
        shapes = [part.shape[1:] for part in batch]
        if shapes != self._shapes:
            raise InvalidInputError(
                f"A batch has samples of shape {shapes}, but the first had {self._shapes}: positions are drawn once, so "
                "all samples should have the same size."
            )
        found = [np.asarray(part, "float64") for part in self._program(*batch)]
        pairs = zip(found[::2], found[1::2], strict=True)
        return {
            name: (np.moveaxis(x.reshape(-1, *x.shape[2:]), 1, 0), regime.reshape(-1, regime.shape[-1]))
            for name, (x, regime) in zip(self.windows, pairs, strict=True)
        }


class _Study:
    """One layer: moments, then readouts, then correlations. Units of a group share their moments, but not on "active"."""

    def __init__(self, sampled, name, estimates, on):
        window, self.units = sampled.windows[name], sampled.units[name]
        self._on, self.fan_in = on, window.fan_in
        kernel = by_unit(window.form, backend.to_numpy(window.form.kernel()))[:, self.units].astype("float64")
        pairs = {estimator: estimates.of(estimator, name, kernel, self.units) for estimator in estimates.names}
        self._shared = len(window.places) == 1
        # (groups, D, units of a group)
        self._kernel = self._grouped(kernel)
        self._pairs = {estimator: tuple(map(self._grouped, pair)) for estimator, pair in pairs.items()}
        # Which groups and units of a group share moments: all of them, but on "active" each unit has rows of its own.
        own, first = [slice(number, number + 1) for number in range(len(self.units))], slice(0, 1)
        apart = [(first, unit) if self._shared else (unit, first) for unit in own]
        picks = apart if on == "active" else [(slice(None), slice(None))]
        self._moments = [(Moments(), groups, units) for groups, units in picks]
        self._correlations = {estimator: Correlation() for estimator in pairs}
        self._readouts, self._left_over = {}, {}

    def _grouped(self, per_unit):
        return per_unit[None] if self._shared else per_unit.T[:, :, None]

    def _columns(self, x, regime):
        """y+, y- and t, (3, groups, rows, units of a group), and the mask of the positive regime."""
        regime = regime[None] if self._shared else regime.T[:, :, None]
        y, active = x @ self._kernel, regime > 0
        target = np.maximum(regime, 0) if self._on == "activation" else y
        return np.stack([y * active, y * ~active, target]), active

    def regress(self, x, regime):
        """Adds rows to the moments."""
        columns, active = self._columns(x, regime)
        for moments, groups, units in self._moments:
            rows = active[groups, :, units][0, :, 0] if self._on == "active" else slice(None)
            seen = x[groups, rows]
            if seen.shape[1]:
                moments.add(seen, columns[:, groups, :, units][:, :, rows])

    def solve(self, ridge):
        """Makes the readouts of all estimators."""
        for estimator, (above, below) in self._pairs.items():
            readouts, left_over = np.full_like(above, np.nan), np.full_like(above[:, :1], np.nan)
            for moments, groups, units in self._moments:
                pick = groups, slice(None), units
                if moments.count > 1:
                    readouts[pick] = moments.readouts(above[pick], below[pick], ridge)
                    left_over[pick] = moments.left_over(above[pick], below[pick])[:, None]
            self._readouts[estimator], self._left_over[estimator] = readouts, left_over

    def evaluate(self, x, regime):
        """Adds rows to the correlations."""
        (positive_part, negative_part, target), active = self._columns(x, regime)
        mask = self._by_rows(active) if self._on == "active" else None
        for estimator, (above, below) in self._pairs.items():
            v = self._readouts[estimator]
            told = (
                x @ v
                - (v * above).sum(1, keepdims=True) * positive_part
                - (v * below).sum(1, keepdims=True) * negative_part
            )
            self._correlations[estimator].add(self._by_rows(told), self._by_rows(target), mask)

    @staticmethod
    def _by_rows(array):
        """(rows, units) from (groups, rows, units of a group)."""
        return np.moveaxis(array, 1, 0).reshape(array.shape[1], -1)

    def result(self):
        """The `LayerQuality`."""
        rows = int(np.median([moments.count for moments, _, _ in self._moments]))
        rho = {}
        for estimator, correlation in self._correlations.items():
            above = self._by_rows(np.abs(self._pairs[estimator][0]).max(1, keepdims=True))[0]
            # Where the rest x - S(x) is nothing, it tells nothing of y: rho is 1, and a correlation would be of rounding.
            nothing = self._by_rows(self._left_over[estimator])[0] < _NOTHING
            rho[estimator] = np.where(above > 0, np.where(nothing, 1, 1 - correlation.value()), np.nan)
        # A regression of pure noise on D inputs, from n rows, reaches a correlation of about sqrt(D / n).
        return LayerQuality(rho, math.sqrt(self.fan_in / max(rows, 1)), self.units, self.fan_in, rows)


def by_unit(form: LinearForm, kernel: np.ndarray) -> np.ndarray:
    """A kernel-shaped array as (D, units), the units flat in the kernel's order; (D, 1) where all units share one entry."""
    first = np.moveaxis(kernel, form.fan_in, range(len(form.fan_in)))
    return first.reshape(math.prod(first.shape[: len(form.fan_in)]), -1)


def _chosen_layers(layout, layers):
    # What recurrent layers do in a step is left out: its values are not those of a sample.
    known = {name: form for name, form in layout.patterned.items() if name in layout.graph.node_of}
    if layers is None:
        layers = [name for name, form in known.items() if form.kind == "linear"]
        if not layers:
            raise InvalidInputError("The model has no linear layer with weights of its own, for which rho is defined.")
        return layers
    layers = [layers] if isinstance(layers, str) else layers
    if not isinstance(layers, list | tuple | set):
        raise InvalidInputError(f"layers should be names of layers, but is {layers!r}.")
    layers = list(layers)
    unknown = [name for name in layers if not isinstance(name, str) or name not in known]
    if unknown or not layers:
        raise InvalidInputError(f"layers should name linear layers of the model, not {unknown}; it has {[*known]}.")
    return layers


def _chosen_units(name, count, neurons, generator):
    """Indices of units, flat in the kernel's order."""
    if isinstance(neurons, Mapping) and name in neurons:
        chosen = np.atleast_1d(as_array(neurons[name], f"neurons[{name!r}]"))
        if chosen.dtype.kind not in "iu" or chosen.ndim != 1 or not chosen.size or np.any((chosen < 0) | (chosen >= count)):
            raise InvalidInputError(f"neurons[{name!r}] should be indices from 0 to {count - 1}, but is {neurons[name]!r}.")
        return chosen
    default = neurons is None or isinstance(neurons, Mapping)
    wanted = count if neurons == "all" else positive(_NEURONS if default else neurons, "neurons")
    return np.arange(count) if wanted >= count else np.sort(generator.choice(count, wanted, replace=False))
