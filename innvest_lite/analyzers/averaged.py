"""`AveragedGradient`: gradients at many altered samples, along a path (`path`) or under noise (`noise`), summed up.

Tokens have no path and no noise of their own: there, what is altered is what they are embedded as, and the result is one
number a token.
"""

from keras import ops

from innvest_lite import backend
from innvest_lite.analyzers import sweep
from innvest_lite.analyzers.explained import Explained
from innvest_lite.analyzers.looped import Looped, by_sample, no_exponent, repeated
from innvest_lite.errors import UnsupportedLayerError
from innvest_lite.forms import forms_of
from innvest_lite.inputs import is_integer


class AveragedGradient(Looped):
    """What the two families share: a loop over altered samples, and the gradient at each."""

    def _set_graph(self, graph):
        super()._set_graph(graph)
        forms = forms_of(self._graph)
        values = zip(self._graph.inputs, self._graph.input_specs, strict=True)
        self._points = [_points(self._graph, forms, value, spec) for value, spec in values]

    def _looped(self, inputs, target, keep, place, seed=None):
        index, together = place
        values, _ = sweep.forward(self._plan, inputs)
        logits = values[self._graph.outputs[0]]
        weights = self._weights(logits, target)
        many_weights = repeated(weights, together)
        flat = [point for points in self._points for point in points]
        clean = [ops.cast(values[point], "float32") for point in flat]
        origins = self._origins(inputs) or [None] * len(flat)
        many = [repeated(x, together) for x in inputs]

        def gradients(altered):
            given = {point: ops.cast(x, values[point].dtype) for point, x in zip(flat, altered, strict=True)}
            _, calls = sweep.forward(self._plan, many, given)
            swept = sweep.backward(self._plan, calls, many_weights, {}, tuple(flat))
            found = [swept.relevance.get(point) for point in flat]
            return [ops.zeros_like(x) if g is None else ops.cast(g, "float32") for g, x in zip(found, altered, strict=True)]

        def body(round_number, sums):
            draws = round_number * together + ops.arange(together, dtype="int32")
            points = enumerate(zip(clean, origins, strict=True))
            altered = [self._altered(x, origin, (number, draws, index, seed)) for number, (x, origin) in points]
            found = [by_sample(g, together) for g in gradients(altered)]
            return self._added(sums, found, draws)

        start = self._empty(clean, gradients, together)
        sums = backend.loop(self._rounds(together), body, start)
        averaged = self._average(sums, clean, origins)
        kept = self._gap(inputs, weights, logits, origins, averaged) if keep else []
        return Explained(self._folded(averaged), kept, no_exponent(inputs[0]), logits)

    def _origins(self, inputs):
        """Where the path to each point starts, with a batch axis of 1; None for methods without a path."""

    def _altered(self, x, origin, place):
        """Altered samples `(batch * together, ...)` of a point.

        Args:
            x: the clean samples.
            origin: of the path, or None.
            place: the number of the point, the numbers of the evaluations, those of the samples, and the seed.
        """
        raise NotImplementedError

    def _empty(self, clean, gradients, together):
        """The sums before the first round."""
        return [ops.zeros_like(x) for x in clean]

    def _added(self, sums, found, draws):
        """The sums after a round whose gradients, `(batch, together, ...)`, are `found`."""
        raise NotImplementedError

    def _average(self, sums, clean, origins):
        """The result at each point, from the sums."""
        raise NotImplementedError

    def _gap(self, inputs, weights, logits, origins, averaged):
        """What the sum of the result leaves unexplained, per sample, in a list of one."""
        raise NotImplementedError

    def _folded(self, averaged):
        """From points to inputs: the embeddings of a token are summed, all of their dimensions too."""
        results, rest = [], list(averaged)
        for points, spec in zip(self._points, self._graph.input_specs, strict=True):
            mine, rest = rest[: len(points)], rest[len(points) :]
            results.append(sum(ops.sum(x, axis=-1) for x in mine) if is_integer(spec.dtype) else mine[0])
        return results

    def _share(self, draws, rank):
        """1 for real evaluations, 0 for those that only fill the last round; broadcasts against (batch, together, ...)."""
        real = ops.cast(draws < self._evaluations(), "float32")
        return ops.reshape(real, (1, -1, *[1] * (rank - 2)))


def _points(graph, forms, value, spec):
    """The values that can be altered for an input: itself, or what its tokens are embedded as."""
    if not is_integer(spec.dtype):
        return [value]
    points = []
    for node in graph.consumers.get(value, ()):
        kind = forms[node.name].kind
        if node.output_specs[0].dtype == "bool":
            # A mask: it stays that of the clean sample.
            continue
        if kind not in ("embedding", "route"):
            raise UnsupportedLayerError(
                f"Input {value.node!r} holds integers and feeds {node.name} ({node.kind}): between whole "
                "numbers there is nothing to ask the model. Explain it from the first layer that computes with floats."
            )
        points += [node.values[0]] if kind == "embedding" else _points(graph, forms, node.values[0], spec)
    return points
