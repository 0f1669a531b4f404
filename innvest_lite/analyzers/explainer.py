"""`Explainer`: a model and a method, bound; the engine inside an `Analyzer`.

It is frozen: what it says of a model and what it computes are functions of it and of tensors (and of the model's and the
analyzer's weights as they are then). `Analyzer.explainer` gives it; export, measures, Quantus, callbacks and `check` are
handed it instead of the analyzer's insides.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import math
from typing import Any

import numpy as np
from keras import ops

from innvest_lite import backend
from innvest_lite.analyzers.batches import Program, Ticks, is_shown, run
from innvest_lite.analyzers.explained import Explained
from innvest_lite.analyzers.guard import Unguarded, weights_of
from innvest_lite.analyzers.strategy import Round, Strategy
from innvest_lite.errors import InvalidInputError
from innvest_lite.forms import Form
from innvest_lite.forms.values import values_of
from innvest_lite.graph import Graph, Value
from innvest_lite.graph.graph import Spec
from innvest_lite.graph.recognized import is_sigmoid
from innvest_lite.inputs import InputSpec
from innvest_lite.options import positive
from innvest_lite.rules.composite import Plan
from innvest_lite.tables import Brief
from innvest_lite.targets import Targets

_log = logging.getLogger("innvest_lite")


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Explainer(Brief):
    """A model and a method, bound.

    Attributes:
        method: the name of the method, for messages.
        plan: what happens at each node; its `graph` is the model's, rewritten, from the inputs to the explained logits.
        inputs: what the model takes.
        targets: what may be explained.
        head: the softmax or sigmoid that was taken off the explained output, and what followed it; empty where there was
            none.
        strategy: how the method explains tensors.
        jit_compile: whether XLA compiles its programs.
        guard: what looks whether the weights are still those that patterns were fitted for.
        rivals: where a function of the model's outputs is explained, for each of them as `rivals_of` says; else empty.
    """

    method: str
    plan: Plan
    inputs: InputSpec
    targets: Targets
    head: tuple[Form, ...]
    strategy: Strategy
    jit_compile: bool
    guard: Any = Unguarded()
    rivals: tuple[int | None, ...] = ()

    @property
    def graph(self) -> Graph:
        """The model's graph, rewritten for the method."""
        return self.plan.graph

    @property
    def output(self) -> Spec:
        """Shape and dtype of the explained output, the logits."""
        return self.graph.spec(self.graph.outputs[0])

    @property
    def has_rivals(self) -> bool:
        """Whether outputs are classes of which one wins, so that a constant that is added to all of them says nothing."""
        return rivals_of(self.targets, self.head) is not None

    # On tensors -------------------------------------------------------------------------------------------------------

    def explain(self, inputs: Any, weights: Any = None, keep: tuple = (), *, around: Round | None = None) -> Explained:
        """The explanation of tensors.

        Args:
            inputs: a tensor per input, batch first.
            weights: weights on the outputs, in their shape or that of one row; None: what is predicted, see `Targets.at`.
            keep: values of the graph whose relevance is wanted too, see `values`.
            around: a `Round`, for methods that evaluate a sample many times or draw; None: in the order of the batch, with
                the method's own seed.

        Returns:
            An `Explained`.
        """
        return self.strategy.explain(self, inputs, weights, keep, around or self.round(inputs[0]))

    def round(self, x: Any, seed: Any = None) -> Round:
        """A `Round` for a batch on its own: samples count from 0, and as many evaluations go at a time as fill a batch."""
        together = 1 if self.inputs.batch else self.strategy.together(x.shape[0])
        return Round(together, ops.arange(ops.shape(x)[0], dtype="int32"), seed)

    def logits(self, inputs: Any) -> Any:
        """The explained output of tensors, before its softmax or sigmoid, by the forward pass alone."""
        return values_of(self.graph, self.plan.forms, inputs)[self.graph.outputs[0]]

    def predictions(self, logits: Any) -> Any:
        """What the model itself puts out, from its logits."""
        return finished(self.head, logits)

    def weights_of_classes(self, inputs: Any, classes: Any) -> Any:
        """Weights that explain a class of each sample, see `Targets.of_classes`.

        Args:
            inputs: a tensor per input.
            classes: int32 (samples,).
        """
        return self.targets.of_classes(classes, self.logits(inputs) if self.targets.is_dense else None)

    # On arrays --------------------------------------------------------------------------------------------------------

    def checked(
        self, x: Any, target: Any = None, neuron_selection: Any = None, batch_size: int = 32
    ) -> tuple[list[np.ndarray], Any]:
        """Samples and a target, checked.

        Args:
            x: samples, as `Analyzer.analyze` takes them.
            target: as there.
            neuron_selection: as there.
            batch_size: how many samples go at a time where the outputs have to be looked at: those of open size, and dense
                ones for the positions where a class wins.

        Returns:
            `(arrays, weights)`: an array per input, and float32 weights in the shape of the outputs, or None for what is
            predicted.

        Raises:
            InvalidInputError: the samples or the target do not fit the model.
        """
        selected = self.targets.selected(target, neuron_selection)
        arrays = self.inputs.flat(x)
        self.strategy.check_inputs(arrays)
        return arrays, self.weights(arrays, selected, batch_size)

    def weights(self, arrays: list, selected: Any, batch_size: int = 32) -> np.ndarray | None:
        """What `Targets.selected` gave as float32 weights in the shape of the outputs of checked arrays; None stays None.

        Raises:
            InvalidInputError: it is no target of these outputs.
        """

        def won(classes: np.ndarray) -> np.ndarray:
            signature = [*self.signature(False), backend.tensor_spec((self.inputs.batch,), "int32")]
            found = self.program("won", lambda *given: self.weights_of_classes(given[:-1], given[-1]), signature)
            return self.batched(found, [*arrays, classes], positive(batch_size, "batch_size"))[0]

        def sizes() -> tuple:
            program = self.program("logits", lambda *tensors: self.logits(tensors), self.signature(False))
            return self.batched(program, [array[:1] for array in arrays], 1)[0].shape[1:]

        return self.targets.weights(selected, len(arrays[0]), sizes, won)

    def batched(
        self, program: Any, arrays: list, batch_size: int, verbose: int | str = 0, ticks: Ticks | None = None
    ) -> list[np.ndarray]:
        """A compiled program on all samples, see `batches.run`; of a model of a fixed batch, so many at a time."""
        fixed = self.inputs.batch
        return run(program, arrays, fixed or batch_size, self.jit_compile, verbose, always=fixed is not None, ticks=ticks)

    def run(
        self, arrays: list, weights: Any = None, keep: tuple = (), batch_size: int = 32, verbose: int | str = 0
    ) -> tuple[list, list, np.ndarray, np.ndarray]:
        """The compiled explanation of all samples, batch by batch.

        Args:
            arrays: what `checked` gave.
            weights: likewise.
            keep: names of nodes, see `values`.
            batch_size: how many samples are evaluated at a time; of a method that evaluates each sample many times,
                evaluations of it count.
            verbose: 1 shows a progress bar: of batches, or of a method that evaluates each sample many times, of these
                evaluations, such as the masks of RISE; and says where it compiles first.

        Returns:
            `(relevance, kept, exponents, explained)`: an array per input and per name, int32 (samples,), 0 where values
            are not finite (which is logged as a warning), and the explained output, float (samples,), NaN where the class
            was given to a method that evaluates altered samples alone.
        """
        batch_size, count = positive(batch_size, "batch_size"), len(arrays[0])
        dtype = "float64" if "float64" in self.inputs.dtypes else "float32"
        on_arrays = self.strategy.on_arrays(self, arrays, weights, batch_size)
        if on_arrays is not None:
            self.values(tuple(keep))
            return [array.astype(dtype) for array in on_arrays[0]], [], np.zeros(count, "int32"), on_arrays[1]
        # `batch_size` bounds the evaluations that go at a time, so few samples leave room for several of each.
        at_a_time = min(max(count, 1), batch_size)
        together = 1 if self.inputs.batch else self.strategy.evenly(batch_size // at_a_time)
        ticks = self._ticks(together) if is_shown(verbose) else None
        program = self._program((weights is not None, tuple(keep), together), ticks, verbose)
        places = [np.arange(count, dtype="int32")] if self.strategy.hangs_on_place else []
        flat = [*arrays, *([] if weights is None else [weights]), *places]
        *whole, exponents, explained, finite = self.batched(program, flat, at_a_time, verbose, ticks)
        whole = [array.astype(dtype, copy=False) for array in whole]
        for array in whole:
            # NaN and infinity go through a sum.
            finite = finite & np.isfinite(array.sum(tuple(range(1, array.ndim)), dtype="float64"))
        if not finite.all():
            self._tell_of_no_numbers(finite)
            exponents = np.where(finite, exponents, 0)
        return whole[: len(arrays)], whole[len(arrays) :], exponents, explained

    def _tell_of_compiling(self, verbose: int | str) -> None:
        """That the first batch takes longer than the others."""
        words = f"{self.method} is compiled first, once for this model and these options."
        _log.info("%s", words)
        if is_shown(verbose):
            print(words)

    def _tell_of_no_numbers(self, finite: np.ndarray) -> None:
        weights = [one.path for one in weights_of(self.graph) if not np.isfinite(backend.to_numpy(one)).all()]
        cause = f"The weights {', '.join(weights[:10])} hold such values." if weights else self.strategy.no_numbers
        _log.warning(
            "%s explains nothing of %d of %d samples: their logits or explanations hold NaN or infinite values. %s",
            self.method,
            np.count_nonzero(~finite),
            len(finite),
            cause,
        )

    def logits_of(self, arrays: list, batch_size: int = 32) -> np.ndarray:
        """All outputs that can be explained, of checked arrays: float64 (samples, outputs), flat."""
        program = self.program("logits", lambda *tensors: self.logits(tensors), self.signature(False))
        (outputs,) = self.batched(program, arrays, batch_size)
        return outputs.astype("float64").reshape(len(outputs), math.prod(outputs.shape[1:]))

    def outputs_of(self, arrays: list, batch_size: int = 32) -> tuple[np.ndarray, np.ndarray]:
        """Logits and what the model itself puts out, of checked arrays: float (samples, outputs...)."""

        def both(*tensors: Any) -> Any:
            logits = self.logits(tensors)
            return logits, self.predictions(logits)

        logits, outputs = self.batched(self.program("outputs", both, self.signature(False)), arrays, batch_size)
        return logits, outputs

    def explained(self, arrays: list, weights: Any = None, batch_size: int = 32) -> np.ndarray:
        """The explained output of each sample, float64 (samples,)."""
        outputs = self.logits_of(arrays, batch_size)
        weights = self.targets.predicted(outputs) if weights is None else weights.reshape(outputs.shape)
        return (outputs * weights).sum(1)

    def measured_from(self, arrays: list, weights: Any = None, batch_size: int = 32) -> np.ndarray:
        """From what value of the explained output the method explains the difference, float64 (samples,); mostly from 0."""
        if not self.strategy.differs:
            return np.zeros(len(arrays[0]))
        outputs = self.logits_of(arrays, batch_size)
        weights = self.targets.predicted(outputs) if weights is None else weights.reshape(outputs.shape)
        before = self.program("before", lambda *given: self.strategy.measured_from(self, given), self.signature(False))
        (start,) = self.batched(before, arrays, batch_size)
        return (start.astype("float64").reshape(outputs.shape) * weights).sum(1)

    def values(self, names: tuple) -> tuple[Value, ...]:
        """The graph's values of layers or nodes by name; a layer's is what it hands on, after its activation.

        Raises:
            InvalidInputError: there is no such node, or the method keeps nothing on the way.
        """
        if names:
            self.strategy.check_keep(self.method)
        known = {**{node.name: node.values[0] for node in self.graph.nodes}, **self.graph.layer_values}
        unknown = [name for name in names if name not in known]
        if unknown:
            raise InvalidInputError(f"keep names no node of the model: {unknown}. print(analyzer.plan()) lists them.")
        return tuple(known[name] for name in names)

    # Compiled ---------------------------------------------------------------------------------------------------------

    def signature(self, with_target: bool) -> list:
        """What a compiled function takes: the inputs, then weights on the outputs; of any batch size that there can be."""
        weights = [backend.tensor_spec((self.inputs.batch, *self.output.shape[1:]), "float32")] if with_target else []
        return [*self.inputs.signature, *weights]

    def program(self, key: Any, function: Any, signature: list) -> Any:
        """A compiled function of tensors, traced once for each key (see `Program`)."""
        if key not in self._programs:
            self._programs[key] = Program(function, signature, self.jit_compile)
        return self._programs[key]

    def _ticks(self, together: int) -> Ticks | None:
        """What counts evaluations inside of a program; None where there is one for each sample, or XLA compiles it."""
        evaluations = self.strategy.evaluations()
        if evaluations < 2 or self.jit_compile:
            return None
        return self._watched.setdefault(together, Ticks(evaluations, together, self.strategy.unit))

    def _program(self, kind: tuple, ticks: Ticks | None, verbose: int | str = 0) -> Any:
        """The explanation as one compiled graph, traced once for any batch size, behind the look at the weights.

        Of a kind `(with_target, keep, together)`; what is counted inside of it makes it another program.
        """
        with_target, keep, together = kind
        key = (*kind, ticks is not None)
        if key not in self._programs:
            values = self.values(keep)
            self._tell_of_compiling(verbose)

            def explain(*tensors: Any) -> Any:
                rest = list(tensors)
                # What the program is not handed costs nothing at each call.
                index = rest.pop() if self.strategy.hangs_on_place else self.round(rest[0]).index
                weights = rest.pop() if with_target else None
                found = self.explain(rest, weights, values, around=Round(together, index, tick=ticks, lean=True))
                told = found.exponent, self._explained(found, weights), self._finite(found)
                return [*found.relevance, *found.kept, *told], self.guard.numbers()

            places = [backend.tensor_spec((self.inputs.batch,), "int32")] if self.strategy.hangs_on_place else []
            signature = [*self.signature(with_target), *places]
            self._programs[key] = Program(explain, signature, self.jit_compile)

        def guarded(*arrays: Any) -> Any:
            found, numbers = self._programs[key](*arrays)
            self.guard.check(key, numbers)
            return found

        return guarded

    def _explained(self, found: Explained, weights: Any) -> Any:
        """The explained output, float (batch,); NaN where the sample itself was not evaluated."""
        if found.finite is not None:
            return ops.full(ops.shape(found.exponent), math.nan, "float32")
        chosen = self.targets.at(found.logits, weights) * found.logits
        return ops.sum(ops.reshape(chosen, (ops.shape(chosen)[0], -1)), axis=1)

    def _finite(self, found: Explained) -> Any:
        """Whether all logits of a sample are numbers, where the explanation depends on them: bool (batch,)."""
        if found.finite is not None:
            return found.finite
        axes = tuple(range(1, len(found.logits.shape)))
        finite = ops.all(ops.isfinite(found.logits), axis=axes)
        return finite if self.strategy.depends else ops.ones_like(finite)

    @functools.cached_property
    def _programs(self) -> dict:
        return {}

    @functools.cached_property
    def _watched(self) -> dict[int, Ticks]:
        return {}

    @functools.cached_property
    def told(self) -> set:
        """What the user has been told of, so that it is said once."""
        return set()


def rivals_of(targets: Targets, head: tuple[Form, ...]) -> int | None:
    """The axis of an output along which classes lie of which one wins; None where there are none."""
    axis = -1 if targets.axis is None else targets.axis
    return None if targets.shape[axis] == 1 or (head and is_sigmoid(head[0].node)) else axis


def finished(head: tuple[Form, ...], logits: Any) -> Any:
    """What a model puts out, from its logits and the head that was taken off."""
    if len(head) < 2:
        return head[0].forward(logits)[0] if head else logits
    # What follows may have changed the shape, which the softmax must not see.
    sizes = [-1 if size is None else size for size in head[0].node.input_specs[0].shape[1:]]
    outputs = ops.reshape(ops.cast(logits, head[0].node.input_specs[0].dtype), (ops.shape(logits)[0], *sizes))
    for form in head:
        (outputs,) = form.forward(outputs)
    return outputs
