"""`ReverseAnalyzer`: an analyzer that is one forward and one backward sweep over a plan."""

from keras import ops

from innvest_lite import backend
from innvest_lite.analyzers import sweep
from innvest_lite.analyzers.base import Analyzer
from innvest_lite.analyzers.check import check, measured
from innvest_lite.analyzers.explained import Explained
from innvest_lite.errors import InvalidInputError, UnsupportedLayerError
from innvest_lite.inputs import is_integer, positive
from innvest_lite.rules import Gradient, anything, bind


class ReverseAnalyzer(Analyzer):
    """An analyzer that hands relevance from the output back to the input by the rules of a composite.

    Subclasses give the composite and say where the relevance starts.

    Args:
        fallback: "gradient" lets the plain gradient stand in at nodes for which the method has no rule; None (the
            default) makes them an error.

    Raises:
        UnsupportedLayerError: there is no rule for some of the nodes; the message lists them.
        InvalidInputError: there is no such fallback.
    """

    starts_from_logit = False

    def __init__(self, model, *, fallback=None, **options):
        if fallback not in (None, "gradient"):
            raise InvalidInputError(f"fallback should be None or 'gradient', but is {fallback!r}.")
        self._fallback = fallback
        super().__init__(model, **options)

    def composite(self):
        """The ordered list of (matcher, rule) of the method."""
        raise NotImplementedError

    def _set_graph(self, graph):
        super()._set_graph(graph)
        last = [(anything(), Gradient())] if self._fallback else []
        self._plan = bind(self._graph, [*self.composite(), *last], type(self).__name__)

    def plan(self):
        """What the analyzer does, node by node: a `Plan` that prints as a table."""
        return self._plan

    @property
    def rescales(self):
        """Whether relevance is kept near 1 on its way, by powers of two."""
        return any(step.rule.grows for step in self._plan.steps)

    def check(self, x, target=None, batch_size=32, *, neuron_selection=None):
        """What happens to the relevance on its way, node by node.

        Args:
            x: as in `analyze`.
            target: as in `analyze`.
            batch_size: as in `analyze`.
            neuron_selection: as in `analyze`.

        Returns:
            A `CheckReport`, which prints as a table: per node the relevance that arrived and was handed on, and where the
            difference went.
        """
        arrays, weights = self._checked(x, self._selected_target(target, neuron_selection))
        return check(self, arrays, weights, positive(batch_size, "batch_size"))

    def check_program(self, with_target):
        """The numbers of `check` as one compiled graph; `with_target` says whether it takes a target."""
        key = ("check", with_target)

        def numbers(*tensors):
            inputs = tensors[: len(self._inputs_spec.names)]
            start, swept, _ = self._swept(inputs, tensors[-1] if with_target else None, ())
            return measured(start, swept, self._graph.inputs)

        if key not in self._programs.value:
            self._programs.value[key] = backend.compiled(numbers, self._signature(with_target), self.jit_compile)
        return self._programs.value[key]

    def _kernels(self):
        """Node name -> the kernel that rules with `needs_kernel` back-project with."""
        return {}

    def _swept(self, inputs, target, keep):
        """The forward and the backward sweep: the relevance that it starts from, a `Swept`, and the logits."""
        values, calls = sweep.forward(self._plan, inputs)
        logits = values[self._graph.outputs[0]]
        weights = (
            sweep.largest(logits) if target is None else ops.broadcast_to(ops.cast(target, logits.dtype), ops.shape(logits))
        )
        start = self._start(weights, logits)
        swept = sweep.backward(self._plan, calls, start, self._kernels(), keep, self.rescales)
        return start, swept, logits

    def _start(self, weights, logits):
        """The relevance of the output, from the weights on the outputs and their values."""
        return weights * logits if self.starts_from_logit else weights

    def _explain(self, inputs, target, keep, seed=None):
        _, swept, logits = self._swept(inputs, target, keep)
        swept = sweep.undo_rescaling(swept) if self.rescales else swept
        relevance = [self._arrived(swept, value, x) for value, x in zip(self._graph.inputs, inputs, strict=True)]
        kept = [swept.relevance.get(value) for value in keep]
        missing = [value.node for value, tensor in zip(keep, kept, strict=True) if tensor is None]
        if missing:
            raise InvalidInputError(f"No relevance passes through {', '.join(missing)}; leave them out of keep.")
        return Explained(relevance, [_single(tensor) for tensor in kept], swept.exponent, logits)

    def _arrived(self, swept, value, x):
        """The relevance of an input; zeros where the output does not depend on it."""
        if value in swept.relevance:
            return _single(swept.relevance[value])
        if is_integer(x.dtype) and self._graph.consumers.get(value):
            users = ", ".join(node.name for node in self._graph.consumers[value])
            raise UnsupportedLayerError(
                f"Input {value.node!r} holds integers and feeds {users}, through which no relevance can be followed. "
                "Explain the model from the first layer that computes with floats."
            )
        return ops.zeros_like(x, dtype="float32")

    def get_config(self):
        """The model and the options, as Keras serializes them."""
        return {**super().get_config(), "fallback": self._fallback}


def _single(tensor):
    return tensor if tensor.dtype == "float64" else ops.cast(tensor, "float32")
