"""From an analyzer's options to its `Explainer`: when, and how. Called by `Analyzer`."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import logging
from typing import TYPE_CHECKING, Any

import keras

from innvest_lite.analyzers.explainer import Explainer, finished, rivals_of
from innvest_lite.analyzers.tokens import looked_up, refuse_computed
from innvest_lite.errors import InvalidInputError
from innvest_lite.foreign import refuse_unknown
from innvest_lite.forms.affine import with_affine_steps
from innvest_lite.forms.chains import with_chains
from innvest_lite.forms.inputs import CODES, with_token_inputs
from innvest_lite.forms.registry import form_of, forms_of
from innvest_lite.graph import Graph, passes, trace
from innvest_lite.graph.ending import OfOutputs, ended
from innvest_lite.graph.once import one_trace
from innvest_lite.graph.squashing import squashes
from innvest_lite.inputs import InputSpec, input_spec
from innvest_lite.rules import Gradient, bind
from innvest_lite.targets import Targets

if TYPE_CHECKING:
    from innvest_lite.analyzers.base import Analyzer

_log = logging.getLogger("innvest_lite")

# For how many functions, or sizes of samples, an analyzer keeps its programs.
_FUNCTIONS = 8


class BoundWhenMade(type(keras.Model)):  # type: ignore[misc]  # Keras's own metaclass
    """Completes an analyzer when the last of its `__init__`s has ended.

    What an analyzer does depends on options that subclasses set, some of them after `super().__init__()`; and a model that
    the method cannot explain is to be refused where the analyzer is made, not where it is first used.
    """

    # Type checkers and editors shall read `__init__`, and `help` shall show what it takes.
    if not TYPE_CHECKING:

        def __call__(cls, *args: Any, **options: Any) -> Any:
            """Makes an analyzer, whole; an option that there is not is refused with our word for it."""
            # The pattern methods ask for the graph twice: for the layout of their patterns, and for the plan.
            with one_trace():
                try:
                    analyzer = super().__call__(*args, **options)
                except TypeError as error:
                    # Asked only then: classes of one's own may take what their signatures do not name.
                    if "unexpected keyword argument" in str(error):
                        refuse_unknown(cls.__name__, options, options_of(cls))
                    raise
                analyzer.complete()
            return analyzer

    @property
    def __signature__(cls) -> inspect.Signature:
        """What making an analyzer takes."""
        made_by: Any = cls
        signature = inspect.signature(made_by.__init__)
        return signature.replace(parameters=list(signature.parameters.values())[1:], return_annotation=signature.empty)


def options_of(cls: type) -> list[str]:
    """The names of the options of an analyzer's class and of the classes behind it.

    A class without `**options` hands none on to the classes behind it.
    """
    found: dict[str, inspect.Parameter] = {}
    for one in cls.__mro__:
        if "__init__" in vars(one) and issubclass(type(one), BoundWhenMade):
            made_by: Any = one
            parameters = inspect.signature(made_by.__init__).parameters
            found.update(parameters)
            if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
                break
    taken = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [name for name, parameter in found.items() if parameter.kind in taken and name != "self"]


def bound(analyzer: Analyzer, function: Any = None, sizes: Any = None) -> Explainer:
    """The explainer of an analyzer's model, by the analyzer's bindings and strategy.

    Args:
        analyzer: an `Analyzer`.
        function: of the model's outputs, which gives the number that is explained; None: an output is.
        sizes: as the analyzer's `input_shape`, in its place.

    Raises:
        UnsupportedLayerError: the model cannot be explained by this method.
        InvalidInputError: an option does not fit the model.
    """
    traced = trace(analyzer.model, analyzer.input_shape_choice.value if sizes is None else sizes)
    method = type(analyzer).__name__
    # The head is looked for before anything is fused or cut further: it is to give the model's own predictions.
    whole = _selected(passes.split_activations(traced), analyzer.output_choice, function)
    heads = [tuple(form_of(node, whole) for node in head) for head in passes.heads(whole)]
    if function is None:
        _require_an_output(whole, method)
        _tell_of_squashing(whole, method, bool(heads[0]))
    rewritten = passes.rewrite(traced, analyzer.fuses_batchnorm, analyzer.splits_separable, strip=False)
    rewritten = with_affine_steps(rewritten)
    rewritten = with_chains(rewritten) if analyzer.joins_chains else rewritten
    graph = with_token_inputs(passes.strip_softmax(_selected(rewritten, analyzer.output_choice, function)))
    inputs = input_spec(analyzer.model, graph, analyzer.preprocessor)
    _tell_of_codes(graph, inputs, method, analyzer.hands_back)
    if analyzer.hands_back:
        refuse_computed(graph, inputs.kinds, method)
    forms = heads[0] if len(heads) == 1 else ()
    targets = Targets.of(graph, forms, analyzer.neuron_selection_mode)
    # Known before the analyzer is asked for its bindings, which may go by it.
    analyzer.explains_number = targets.classes == 1
    of_nodes = forms_of(graph).values()
    analyzer.has_tokens = any(form.kind == "embedding" for form in of_nodes)
    # Recurrent layers, and products in which one side weighs the other.
    analyzer.mixes_steps = any(form.kind == "recurrent" or getattr(form, "values", None) is not None for form in of_nodes)
    rivals: tuple[int | None, ...] = ()
    if function is not None:
        pairs = zip(graph.outputs, heads, strict=True)
        rivals = tuple(rivals_of(Targets.of(graph.replace(outputs=(value,)), head), head) for value, head in pairs)
        graph = ended(graph, function, [functools.partial(finished, head) for head in heads])
        _require_an_output(graph, method)
        forms, targets = (), Targets.of(graph, ())
    return Explainer(
        method=method,
        plan=bind(graph, [(_ends, Gradient()), *analyzer.bindings()] if function else analyzer.bindings(), method),
        inputs=inputs,
        targets=targets,
        head=forms,
        strategy=analyzer.strategy(graph, inputs),
        jit_compile=analyzer.jit_compile,
        guard=analyzer.guard(graph),
        rivals=rivals,
    )


def engine_for(analyzer: Analyzer, target: Any, x: Any = None) -> tuple[Explainer, Any]:
    """The explainer for a target and samples, and the target that it takes.

    Functions of the model's outputs have explainers of their own, and so have the sizes of samples, where a method has to
    know them and the model leaves them open.

    Args:
        analyzer: an `Analyzer`.
        target: as of `analyze`.
        x: samples, as of `analyze`; None: not known here.
    """
    known = analyzer.explainers.value
    sizes = None if x is None or analyzer.explainer.strategy.sized else analyzer.explainer.inputs.sizes(x)
    if sizes is None and not callable(target):
        return analyzer.explainer, target
    function, target = (target, None) if callable(target) else (analyzer.target_choice.value, target)
    key = id(function), repr(sizes)
    if key not in known:
        while len(known) >= _FUNCTIONS:
            del known[next(iter(known))]
        explainer = dataclasses.replace(bound(analyzer, function, sizes), guard=analyzer.explainer.guard)
        # With the function, whose number no other gets as long as there is this one.
        known[key] = function, explainer
    return known[key][1], target


def _selected(graph: Graph, output: str | None, function: Any) -> Graph:
    """The graph with the output of this name; all outputs, where there is no name and a function takes them."""
    return graph if output is None and function is not None else passes.select_output(graph, output)


def _ends(site: Any) -> bool:
    return isinstance(site.form.node.operation, OfOutputs)


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


def _tell_of_codes(graph: Graph, inputs: InputSpec, method: str, hands_back: bool) -> None:
    """Of several inputs, those that the method leaves out; where it leaves out all, it is an error."""
    pairs = zip(inputs.names, inputs.kinds, inputs.dtypes, strict=True)
    out = [name for name, kind, dtype in pairs if kind == CODES and (hands_back or dtype == "string")]
    if out and len(out) == len(inputs.names):
        (value, *_), dtype = graph.inputs, inputs.dtypes[0]
        why = f"{method} follows no relevance through them" if hands_back else f"{method} hides parts of numbers and tokens"
        raise looked_up(value, dtype, graph.consumers.get(value, []), why)
    if out:
        _log.warning(
            "%s leaves out %s: texts and numbers that are only looked up have no part that an explanation could be shared "
            "out to, and get zeros.",
            method,
            ", ".join(map(repr, out)),
        )


def snake_case(name: str) -> str:
    """A class name as Keras names its models: pattern_net for PatternNet."""
    return "".join("_" + letter.lower() if letter.isupper() else letter for letter in name).lstrip("_")
