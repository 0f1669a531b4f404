"""Integrated gradients: the mean gradient on the straight path from a reference to the sample."""

import keras
import numpy as np
from keras import ops

from innvest_lite.analyzers import sweep
from innvest_lite.analyzers.averaged import AveragedGradient
from innvest_lite.errors import InvalidInputError
from innvest_lite.inputs import is_integer, positive

_GAP = "completeness gap"


def _gauss_legendre(steps):
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    return (nodes + 1) / 2, weights / 2


def _trapezoid(steps):
    if steps < 2:
        raise InvalidInputError("The trapezoid rule needs at least 2 steps.")
    weights = np.full(steps, 1 / (steps - 1))
    weights[[0, -1]] /= 2
    return np.linspace(0, 1, steps), weights


_QUADRATURES = {
    "gauss_legendre": _gauss_legendre,
    "left": lambda steps: (np.arange(steps) / steps, np.full(steps, 1 / steps)),
    "trapezoid": _trapezoid,
}


@keras.saving.register_keras_serializable(package="innvest_lite")
class IntegratedGradients(AveragedGradient):
    """Integrated gradients (Sundararajan et al. 2017, arXiv 1703.01365): (x - x0) times the mean gradient from x0 to x.

    Unit: logits; the attributions sum to f(x) - f(x0) but for the error of the quadrature, the completeness gap.

    Args:
        model: a Functional or Sequential `keras.Model`.
        steps: how many gradients are taken on the path.
        reference_inputs: x0: a number, an array of one sample's shape, or a list of them for several inputs. For tokens,
            token numbers; None means 0, for tokens an embedding of zeros.
        rule: where on the path: "gauss_legendre" (converges fastest), "left" (left Riemann sum, iNNvestigate's),
            "trapezoid".
        **options: as in `Analyzer`.
    """

    def __init__(self, model, steps=32, *, reference_inputs=None, rule="gauss_legendre", **options):
        self.steps = positive(steps, "steps")
        if rule not in _QUADRATURES:
            raise InvalidInputError(f"rule should be one of {tuple(_QUADRATURES)}, but is {rule!r}.")
        self.rule = rule
        self._nodes, self._shares = (np.float32(part) for part in _QUADRATURES[rule](self.steps))
        super().__init__(model, **options)
        scalar = reference_inputs is not None and np.ndim(_first(reference_inputs)) == 0
        self._reference_choice = float(reference_inputs) if scalar else reference_inputs
        self._references = self._checked_references(reference_inputs)

    def _checked_references(self, given):
        spec = self._inputs_spec
        if isinstance(self._reference_choice, float | None):
            number = self._reference_choice or 0.0
            shapes = [(1, *(size or 1 for size in shape[1:])) for shape in spec.shapes]
            return [np.full(shape, number, dtype) for shape, dtype in zip(shapes, spec.dtypes, strict=True)]
        several = len(spec.names) > 1
        parts = [given[name] for name in spec.names] if isinstance(given, dict) else given if several else [given]
        arrays = [np.asarray(part) for part in parts]
        ranks = [len(shape) for shape in spec.shapes]
        arrays = [array[None] if array.ndim < rank else array for array, rank in zip(arrays, ranks, strict=True)]
        checked = spec.flat(arrays if several else arrays[0])
        if len(checked[0]) != 1:
            raise InvalidInputError(f"reference_inputs should be one sample, but there are {len(checked[0])}.")
        return checked

    def analyze(self, x, target=None, batch_size=32, verbose=0, *, return_gap=False, **options):
        """As `Analyzer.analyze`.

        Args:
            x: as in `Analyzer.analyze`.
            target: as in `Analyzer.analyze`.
            batch_size: how many samples are evaluated at a time.
            verbose: 1 shows a progress bar.
            return_gap: whether to return the completeness gap too.
            **options: as in `Analyzer.analyze`.

        Returns:
            As `Analyzer.analyze`; with `return_gap`, also float32 (samples,), f(x) - f(x0) minus the sum of the
            attributions, in logits.
        """
        if not return_gap:
            return super().analyze(x, target, batch_size, verbose, **options)
        if options.pop("keep", ()) or options.pop("return_exponent", False):
            raise InvalidInputError("return_gap goes without keep and return_exponent.")
        arrays, weights = self._checked(x, self._selected_target(target, options.pop("neuron_selection", None)))
        results, kept, _ = self._in_batches(arrays, weights, (_GAP,), positive(batch_size, "batch_size"), verbose)
        return self._inputs_spec.packed(x, results), kept[0]

    def _evaluations(self):
        return len(self._nodes)

    def _values(self, names):
        return names if names == (_GAP,) else super()._values(names)

    def _reference_values(self):
        """X0 at each point, with a batch axis of 1."""
        tensors = [ops.convert_to_tensor(array) for array in self._references]
        values, _ = sweep.forward(self._plan, tensors) if self._has_tokens() else ({}, None)
        values.update(zip(self._graph.inputs, tensors, strict=True))
        found = []
        for points, spec in zip(self._points, self._graph.input_specs, strict=True):
            tokens = is_integer(spec.dtype)
            for point in points:
                value = ops.cast(values[point], "float32")
                found.append(ops.zeros_like(value) if tokens and self._reference_choice is None else value)
        return found

    def _has_tokens(self):
        return any(is_integer(spec.dtype) for spec in self._graph.input_specs)

    def _altered(self, x, position, draws, index):
        together = draws.shape[0]
        nodes = ops.take(ops.convert_to_tensor(self._nodes), ops.minimum(draws, self._evaluations() - 1))
        nodes = ops.reshape(nodes, (1, together, *[1] * (len(x.shape) - 1)))
        reference = self._reference_values()[position]
        path = reference[:, None] + nodes * (x - reference)[:, None]
        return ops.reshape(path, (-1, *ops.shape(x)[1:]))

    def _added(self, sums, found, draws):
        shares = ops.take(ops.convert_to_tensor(self._shares), ops.minimum(draws, self._evaluations() - 1))
        added = []
        for total, g in zip(sums, found, strict=True):
            weights = ops.reshape(shares, (1, -1, *[1] * (len(g.shape) - 2))) * self._share(draws, len(g.shape))
            added.append(total + ops.sum(g * weights, axis=1))
        return added

    def _average(self, sums, clean):
        references = self._reference_values()
        return [(x - x0) * total for x, x0, total in zip(clean, references, sums, strict=True)]

    def _kept(self, keep, averaged, inputs, weights, logits):
        if not keep:
            return []
        flat = [point for points in self._points for point in points]
        given = {
            point: ops.broadcast_to(x0, (ops.shape(x)[0], *ops.shape(x0)[1:]))
            for point, x0, x in zip(flat, self._reference_values(), averaged, strict=True)
        }
        values, _ = sweep.forward(self._plan, inputs, given)
        rise = _summed(weights * (logits - values[self._graph.outputs[0]]))
        return [rise - sum(_summed(x) for x in averaged)]

    def get_config(self):
        """The model and the options, as Keras serializes them."""
        references = self._reference_choice
        if not isinstance(references, float | None):
            references = [array.tolist() for array in self._references]
        return {**super().get_config(), "steps": self.steps, "rule": self.rule, "reference_inputs": references}

    @classmethod
    def from_config(cls, config):
        """An analyzer from `get_config`."""
        references = config["reference_inputs"]
        if isinstance(references, list) and len(references) == 1:
            references = references[0]
        return super().from_config({**config, "reference_inputs": references})


def _summed(x):
    return ops.sum(ops.reshape(x, (ops.shape(x)[0], -1)), axis=1)


def _first(given):
    """What tells a number from an array, or from several."""
    return next(iter(given.values())) if isinstance(given, dict) else given[0] if isinstance(given, list | tuple) else given
