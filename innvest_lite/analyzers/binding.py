"""From an analyzer's options to its `Explainer`: when, and how. Called by `Analyzer`."""

from __future__ import annotations

import inspect
import logging
from typing import TYPE_CHECKING, Any

import keras

from innvest_lite.analyzers.explainer import Explainer
from innvest_lite.errors import InvalidInputError
from innvest_lite.forms.chains import with_chains
from innvest_lite.forms.inputs import CODES, with_token_inputs
from innvest_lite.forms.registry import form_of
from innvest_lite.graph import Graph, passes, trace
from innvest_lite.graph.squashing import squashes
from innvest_lite.inputs import InputSpec, input_spec
from innvest_lite.rules import bind
from innvest_lite.targets import Targets

if TYPE_CHECKING:
    from innvest_lite.analyzers.base import Analyzer

_log = logging.getLogger("innvest_lite")


class BoundWhenMade(type(keras.Model)):  # type: ignore[misc]  # Keras's own metaclass
    """Completes an analyzer when the last of its `__init__`s has ended.

    What an analyzer does depends on options that subclasses set, some of them after `super().__init__()`; and a model that
    the method cannot explain is to be refused where the analyzer is made, not where it is first used.
    """

    # Type checkers and editors shall read `__init__`, and `help` shall show what it takes.
    if not TYPE_CHECKING:

        def __call__(cls, *args: Any, **options: Any) -> Any:
            """Makes an analyzer, whole."""
            analyzer = super().__call__(*args, **options)
            analyzer.complete()
            return analyzer

    @property
    def __signature__(cls) -> inspect.Signature:
        """What making an analyzer takes."""
        made_by: Any = cls
        signature = inspect.signature(made_by.__init__)
        return signature.replace(parameters=list(signature.parameters.values())[1:], return_annotation=signature.empty)


def bound(analyzer: Analyzer) -> Explainer:
    """The explainer of an analyzer's model, by the analyzer's bindings and strategy.

    Raises:
        UnsupportedLayerError: the model cannot be explained by this method.
        InvalidInputError: an option does not fit the model.
    """
    traced, method = trace(analyzer.model, analyzer.input_shape_choice.value), type(analyzer).__name__
    # The head is looked for before anything is fused or cut further: it is to give the model's own predictions.
    whole = passes.select_output(passes.split_activations(traced), analyzer.output_choice)
    _require_an_output(whole, method)
    (head,) = passes.heads(whole)
    _tell_of_squashing(whole, method, bool(head))
    rewritten = passes.rewrite(traced, analyzer.fuses_batchnorm, analyzer.splits_separable, strip=False)
    rewritten = with_chains(rewritten) if analyzer.joins_chains else rewritten
    graph = with_token_inputs(passes.strip_softmax(passes.select_output(rewritten, analyzer.output_choice)))
    inputs = input_spec(analyzer.model, graph, analyzer.preprocessor)
    _tell_of_codes(inputs, method, analyzer.hands_back)
    forms = tuple(form_of(node, whole) for node in head)
    targets = Targets.of(graph, forms, analyzer.neuron_selection_mode)
    # Known before the analyzer is asked for its bindings, which may go by it.
    analyzer.explains_number = targets.classes == 1
    return Explainer(
        method=method,
        plan=bind(graph, analyzer.bindings(), method),
        inputs=inputs,
        targets=targets,
        head=forms,
        strategy=analyzer.strategy(graph, inputs),
        jit_compile=analyzer.jit_compile,
        guard=analyzer.guard(graph),
    )


def _require_an_output(graph: Graph, method: str) -> None:
    """Refuses outputs that have no gradient, and those that are no longer of one sample each."""
    spec, producer = graph.spec(graph.outputs[0]), graph.producer(graph.outputs[0])
    name = graph.outputs[0].node if producer is None else f"{producer.name} ({producer.kind})"
    if not keras.backend.is_float_dtype(spec.dtype):
        raise InvalidInputError(
            f"{method} explains numbers that change with the input, but the output of {name} is {spec.dtype}: explain a "
            "model that ends before it, such as before an argmax."
        )
    if not spec.shape:
        raise InvalidInputError(f"{method} explains one sample at a time, but the output of {name} is one number for all.")


def _tell_of_squashing(graph: Graph, method: str, has_head: bool) -> None:
    if has_head:
        # Of two heads, one behind the other, one comes off.
        (left,) = passes.heads(passes.strip_softmax(graph))
        node = left[0] if left else None
    else:
        node = squashes(graph)
    if node is not None:
        _log.warning(
            "%s explains what the model puts out, behind %s (%s), and not logits: there, what a class gains another loses, "
            "and gradients vanish where the model is sure.",
            method,
            node.name,
            node.kind,
        )


def _tell_of_codes(inputs: InputSpec, method: str, hands_back: bool) -> None:
    """Of several inputs, those that the method leaves out; where it leaves out all, it is an error."""
    pairs = zip(inputs.names, inputs.kinds, inputs.dtypes, strict=True)
    out = [name for name, kind, dtype in pairs if kind == CODES and (hands_back or dtype == "string")]
    if out and len(out) < len(inputs.names):
        _log.warning(
            "%s leaves out %s: texts and numbers that are only looked up have no part that an explanation could be shared "
            "out to, and get zeros.",
            method,
            ", ".join(map(repr, out)),
        )


def snake_case(name: str) -> str:
    """A class name as Keras names its models: pattern_net for PatternNet."""
    return "".join("_" + letter.lower() if letter.isupper() else letter for letter in name).lstrip("_")
