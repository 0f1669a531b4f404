"""Integrated gradients: the mean gradient on the straight path from a reference to the sample."""

import keras
import numpy as np
from keras import ops

from innvest_lite.analyzers import sweep
from innvest_lite.analyzers.averaged import AveragedGradient
from innvest_lite.analyzers.gradient import POSTPROCESSES, postprocessed
from innvest_lite.errors import InvalidInputError
from innvest_lite.inputs import is_integer, one_of, positive

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
        postprocess: None, "abs" or "square", done to every gradient; with one, the attributions are not complete.
        **options: as in `Analyzer`.
    """

    def __init__(self, model, steps=32, *, reference_inputs=None, rule="gauss_legendre", postprocess=None, **options):
        self.steps = positive(steps, "steps")
        self.rule = one_of(rule, _QUADRATURES, "rule")
        self.postprocess = one_of(postprocess, POSTPROCESSES, "postprocess")
        self._nodes, self._shares = (np.float32(part) for part in _QUADRATURES[rule](self.steps))
        super().__init__(model, **options)
        self._given_references = reference_inputs
        self._references = self._checked_references(reference_inputs)

    def _checked_references(self, given):
        """A number or an array of one sample for each input."""
        spec = self._inputs_spec
        if isinstance(given, dict):
            if set(given) != set(spec.names):
                raise InvalidInputError(f"The inputs are named {sorted(spec.names)}, reference_inputs has {sorted(given)}.")
            given = [given[name] for name in spec.names]
        if given is None or isinstance(given, int | float | np.number):
            given = [0 if given is None else given] * len(spec.names)
        elif len(spec.names) == 1:
            given = [given]
        if not isinstance(given, list | tuple) or len(given) != len(spec.names):
            raise InvalidInputError(f"The model has {len(spec.names)} inputs: reference_inputs should have one for each.")
        return [spec.sample(place, part, "reference_inputs") for place, part in enumerate(given)]

    def _checked(self, x, target):
        arrays, weights = super()._checked(x, target)
        for array, reference in zip(arrays, self._references, strict=True):
            if reference.ndim and reference.shape[1:] != array.shape[1:]:
                raise InvalidInputError(
                    f"reference_inputs has the shape {reference.shape[1:]}, but the samples have {array.shape[1:]}."
                )
        return arrays, weights

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

        Raises:
            InvalidInputError: as `Analyzer.analyze`; or `return_gap` comes with `keep` or `return_exponent`.
        """
        if not return_gap:
            return super().analyze(x, target, batch_size, verbose, **options)
        chosen = options.pop("neuron_selection", None)
        if options:
            raise InvalidInputError(f"return_gap goes without keep and return_exponent, and without {', '.join(options)}.")
        arrays, weights = self._checked(x, self._selected_target(target, chosen))
        results, kept, _ = self._in_batches(arrays, weights, (_GAP,), positive(batch_size, "batch_size"), verbose)
        return self._inputs_spec.packed(x, results), kept[0]

    def _evaluations(self):
        return len(self._nodes)

    def _values(self, names):
        return names if names == (_GAP,) else super()._values(names)

    def _origins(self, inputs):
        tensors = [
            ops.broadcast_to(ops.convert_to_tensor(reference, x.dtype), (1, *ops.shape(x)[1:]))
            for reference, x in zip(self._references, inputs, strict=True)
        ]
        values, _ = sweep.forward(self._plan, tensors) if self._has_tokens() else ({}, None)
        values.update(zip(self._graph.inputs, tensors, strict=True))
        found = []
        for points, spec in zip(self._points, self._graph.input_specs, strict=True):
            nothing = is_integer(spec.dtype) and self._given_references is None
            for point in points:
                value = ops.cast(values[point], "float32")
                found.append(ops.zeros_like(value) if nothing else value)
        return found

    def _has_tokens(self):
        return any(is_integer(spec.dtype) for spec in self._graph.input_specs)

    def _altered(self, x, origin, place):
        _, draws, _, _ = place
        nodes = ops.take(ops.convert_to_tensor(self._nodes), ops.minimum(draws, self._evaluations() - 1))
        nodes = ops.reshape(nodes, (1, -1, *[1] * (len(x.shape) - 1)))
        path = origin[:, None] + nodes * (x - origin)[:, None]
        return ops.reshape(path, (-1, *ops.shape(x)[1:]))

    def _added(self, sums, found, draws):
        shares = ops.take(ops.convert_to_tensor(self._shares), ops.minimum(draws, self._evaluations() - 1))
        added = []
        for total, g in zip(sums, found, strict=True):
            weights = ops.reshape(shares, (1, -1, *[1] * (len(g.shape) - 2))) * self._share(draws, len(g.shape))
            added.append(total + ops.sum(postprocessed(g, self.postprocess) * weights, axis=1))
        return added

    def _average(self, sums, clean, origins):
        return [(x - x0) * total for x, x0, total in zip(clean, origins, sums, strict=True)]

    def _gap(self, inputs, weights, logits, origins, averaged):
        flat = [point for points in self._points for point in points]
        given = {point: ops.broadcast_to(x0, ops.shape(x)) for point, x0, x in zip(flat, origins, averaged, strict=True)}
        values, _ = sweep.forward(self._plan, inputs, given)
        # The attributions are float32, whatever the model computes in.
        there, here, share = (ops.cast(x, "float32") for x in (logits, values[self._graph.outputs[0]], weights))
        return [_summed(share * (there - here)) - sum(_summed(x) for x in averaged)]

    def get_config(self):
        """The model and the options, as Keras serializes them."""
        plain = self._given_references is None
        references = None if plain else [np.asarray(reference).tolist() for reference in self._references]
        own = {"steps": self.steps, "rule": self.rule, "postprocess": self.postprocess, "reference_inputs": references}
        return {**super().get_config(), **own}

    @classmethod
    def from_config(cls, config):
        """An analyzer from `get_config`."""
        references = config["reference_inputs"]
        if isinstance(references, list) and len(references) == 1:
            references = references[0]
        return super().from_config({**config, "reference_inputs": references})


def _summed(x):
    return ops.sum(ops.reshape(x, (ops.shape(x)[0], -1)), axis=1)
