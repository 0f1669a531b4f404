"""How tokens reach one another through a network's attention, along the data flow. Called by `attention_maps`.

Comes in: a graph and its forms. Goes out: a `TokenFlow`, the steps by which each token's vector comes to hold those of
others. A step is a product in which weights of attention (queries by keys) weigh the tokens' values, or a place where
several ways of the same tokens meet: the sum of a residual connection, or heads side by side. What is done to each token by
itself is no step, nor are gates and statistics, which scale a token and hand on no other.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

from innvest_lite.analyzers.tokenwise import stay_apart
from innvest_lite.analyzers.vectors import before, elsewhere, handed_on, signal_of, starts, takes_shapes
from innvest_lite.errors import UnsupportedLayerError, UnsupportedNode
from innvest_lite.forms import Form, LinearForm
from innvest_lite.forms.attention import Matmul
from innvest_lite.forms.positions import LOST, Places, letters_of, places_of
from innvest_lite.graph import Graph, Node, Value
from innvest_lite.graph.behaviour import OPEN_SIZES
from innvest_lite.graph.graph import Samples

# Each number of what these give is made of the numbers at its place, of moved ones, or of a token's own vector.
_BY_ITSELF = ("scale", "rectifier", "activation", "sum", "product", "route", "normalization", "embedding")


@dataclasses.dataclass(frozen=True)
class Step:
    """How tokens come to hold what others held before.

    Attributes:
        sources: the numbers of the steps that this one is made of; none for the tokens as they begin.
        weights: the weights of attention, in the graph; None where several sources meet.
        queries: of the weights, the axis of the tokens that look; None where what looks is no token, as a pooling.
        keys: of the weights, the axis of the tokens that are looked at.
        beside: whether sources that meet stand side by side, as heads do, and are not summed.
    """

    sources: tuple[int, ...] = ()
    weights: Value | None = None
    queries: int | None = None
    keys: int = 0
    beside: bool = False


@dataclasses.dataclass(frozen=True, eq=False)
class TokenFlow:
    """The steps from a sequence of tokens to what reads it.

    Attributes:
        tokens: the value that all blocks begin with: the tokens, embedded, (batch, tokens, channels), or with several axes
            of tokens.
        places: which of its axes those are.
        steps: the steps, in order; the first is the tokens as they begin.
        last: the number of the step whose tokens are read.
        ends: the values in which they are read, and where the tokens lie in each.
        pooling: where attention itself reads them, its step, of which `last` is the source; else None.
    """

    tokens: Value
    places: Places
    steps: tuple[Step, ...]
    last: int
    ends: Mapping[Value, Places]
    pooling: Step | None = None

    @property
    def weights(self) -> tuple[Value, ...]:
        """The weights of attention of all steps."""
        steps = (*self.steps, *([] if self.pooling is None else [self.pooling]))
        return tuple(dict.fromkeys(step.weights for step in steps if step.weights is not None))


def token_flow(graph: Graph, forms: Mapping[str, Form], method: str) -> TokenFlow:
    """The steps by which tokens reach one another.

    Args:
        graph: the model's graph, from its inputs to the explained logits.
        forms: node name -> form.
        method: the name of the method, for messages.

    Raises:
        UnsupportedLayerError: there is no self-attention, or tokens also reach one another in a way that its weights do
            not say; the message says at which nodes, and what to do.
    """
    signal = signal_of(graph, forms)
    products = [node for node in signal if is_attention(forms[node.name])]
    if not products:
        closed = [node for node in signal if node.closed and forms[node.name].kind == "opaque"]
        raise UnsupportedLayerError(
            f"{method} finds no self-attention before the explained output: no softmax over tokens weighs the same tokens."
            + (f" It may lie inside {closed[0].name} ({closed[0].kind}): {closed[0].closed}." if closed else ""),
            [UnsupportedNode(node.name, node.kind, node.closed) for node in closed],
            "Where sizes are open, input_shape= lets more be opened; innvest_lite.IntegratedGradients(model) and "
            "innvest_lite.Occlusion(model) explain any network.",
        )
    best = None
    for start in starts(graph, forms, products[0]):
        following = _Following(graph, forms, signal, start)
        if not following.problems:
            return following.flow()
        # Of several beginnings, the one from which most attention could be followed says why.
        best = following if best is None or following.reach > best.reach else best
    problems = best.problems if best else [UnsupportedNode(node.name, node.kind, _NO_TOKENS) for node in products]
    first = problems[0]
    raise UnsupportedLayerError(
        f"{method} multiplies up the weights of self-attention from block to block, over the same tokens, and at "
        f"{first.name} ({first.layer}) {first.reason}.",
        problems,
        _ADVICE,
    )


_NO_TOKENS = "there are no tokens whose vectors it weighs"
_ADVICE = (
    "Explain the model by innvest_lite.LRP(model, 'attn_lrp'), which follows relevance through attention of any shape, or "
    "by occlusion. Where sizes are open, input_shape= lets more be followed."
)


def is_attention(form: Form) -> bool:
    """Whether a form is a product in which weights weigh values."""
    return isinstance(form, Matmul) and form.values is not None


class _Following:
    """What becomes of the tokens of one value.

    Attributes:
        problems: the nodes at which they could not be followed.
        reach: how many products of attention could be.
    """

    def __init__(self, graph: Graph, forms: Mapping[str, Form], signal: list[Node], start: Value) -> None:
        self.graph, self.forms, self.start = graph, forms, start
        rank = len(graph.spec(start).shape)
        self.whole = tuple(range(rank - 2))
        own = Places(((), *((position,) for position in self.whole), ()))
        self.places = {**places_of(graph, forms, start, own), start: own}
        self.count = _product(graph.spec(start).shape[1:-1])
        self.steps: list[Step] = [Step()]
        self.step_of: dict[Value, int] = {start: 0}
        #: Value that is a sum -> the steps of what is summed.
        self.summed: dict[Value, tuple[int, ...]] = {}
        self.ends: dict[Value, int] = {}
        self.pooling: Step | None = None
        #: Values that hold tokens no longer one by one; those that are not made of the tokens; and of these, those that are
        #: made of the same inputs.
        self.mixed: set[Value] = set()
        self.foreign: set[Value] = set(graph.inputs) - {start}
        self.past: set[Value] = before(graph, start).intersection(self.foreign)
        self.elsewhere = elsewhere(graph, forms, start)
        self.problems: list[UnsupportedNode] = []
        self.reach = 0
        for node in signal:
            if start not in node.values:
                self._follow(node)
        if graph.outputs[0] in self.step_of:
            self.ends[graph.outputs[0]] = self.step_of[graph.outputs[0]]
        self._require_one_end(signal)

    def flow(self) -> TokenFlow:
        """What was found."""
        ends = {value: self.places[value] or Places(()) for value in self.ends}
        last = next(iter(self.ends.values()))
        own = self.places[self.start] or Places(())
        return TokenFlow(self.start, own, tuple(self.steps), last, ends, self.pooling)

    def _follow(self, node: Node) -> None:
        form = self.forms[node.name]
        taken = handed_on(form)
        if takes_shapes(node):
            return
        here = [value for value in taken if value in self.step_of]
        if not here:
            self._beside(node, form)
        elif is_attention(form):
            self._attend(node, form)
        elif not all(map(self._has_tokens, node.values)):
            self._end(node, here)
        else:
            self._carry(node, form, here)

    def _beside(self, node: Node, form: Form) -> None:
        """What takes no tokens, or takes them no longer one by one."""
        taken = handed_on(form)
        if self.mixed.intersection(taken):
            self.mixed.update(node.values)
            past = self.past.intersection(taken)
            if is_attention(form):
                self._problem(node, self._why_not(node, form))
            elif past and not self.problems:
                self._problem(node, f"what is read meets {next(iter(past)).node}, which went past the tokens")
        elif self.foreign.intersection(node.inputs):
            self.foreign.update(node.values)
            if self.past.intersection(node.inputs):
                self.past.update(node.values)
            if is_attention(form):
                self._problem(node, "the values are not computed from the tokens of the other blocks")

    def _carry(self, node: Node, form: Form, here: list[Value]) -> None:
        """What does something to each token by itself, or brings ways of the same tokens together."""
        others = {*handed_on(form)}.difference(here).intersection(self.mixed | self.foreign)
        if others and self.problems:
            # What it meets could not be followed, and why has been said.
            pass
        elif others:
            what = next(iter(others)).node
            self._problem(node, f"tokens meet what is not made of each of them alone, from {what}")
        elif not self._is_by_itself(node, form):
            self._problem(node, "tokens reach one another outside of attention")
        steps = tuple(sorted({step for value in here for step in self._ways(value, form)}))
        if form.kind == "sum":
            self.summed.update(dict.fromkeys(node.values, steps))
        if len(steps) > 1:
            if form.kind not in ("sum", "route"):
                self._problem(node, f"tokens of several blocks meet in a {type(node.operation).__name__}")
            steps = (self._new(Step(steps, beside=form.kind != "sum")),)
        self.step_of.update(dict.fromkeys(node.values, steps[0]))

    def _ways(self, value: Value, form: Form) -> tuple[int, ...]:
        """The steps of which a node takes a value: (h + a) + f is h + a + f where nothing else reads h + a."""
        readers = [node for node in self.graph.consumers[value] if not takes_shapes(node)]
        if form.kind == "sum" and len(readers) == 1 and value not in self.graph.outputs:
            return self.summed.get(value, (self.step_of[value],))
        return (self.step_of[value],)

    def _attend(self, node: Node, form: Form) -> None:
        values = node.inputs[form.values]  # type: ignore[attr-defined]
        step = self._step(node, form, values)
        if step is None:
            self._problem(node, self._why_not(node, form))
            self.mixed.update(node.values)
        elif step.queries is None:
            self.ends[values] = self.step_of[values]
            self.pooling, self.mixed = step, self.mixed.union(node.values)
            self.reach += 1
        else:
            self.step_of.update(dict.fromkeys(node.values, self._new(step)))
            self.reach += 1

    def _step(self, node: Node, form: Form, values: Value) -> Step | None:
        """A product as a step; None where its weights do not say which token looks at which."""
        axes = self._axes(node, form)
        if axes is None:
            return None
        queries, keys = axes
        weights = node.inputs[1 - form.values]  # type: ignore[attr-defined]
        if queries is None and weights in self.elsewhere:
            return None
        if queries is not None and not self._has_tokens(node.values[0]):
            return None
        return Step((self.step_of[values],), weights, queries, keys)

    def _axes(self, node: Node, form: Form) -> tuple[int | None, int] | None:
        """Along which axes of the weights queries and keys lie."""
        place: int = form.values  # type: ignore[attr-defined]
        weights, spec = node.inputs[1 - place], node.input_specs[1 - place]
        operands, output = self._letters(node)
        where = self.places.get(weights)
        if operands is None or not where or spec.samples != Samples():
            return None
        summed = set(operands[0]).intersection(operands[1]).difference(output)
        tokens = [axis for axis in where.positions if self._are_all(where.axes[axis], spec.shape[axis])]
        keys = [axis for axis in tokens if operands[1 - place][axis] in summed]
        queries = [axis for axis in tokens if axis not in keys]
        if len(summed) != 1 or len(keys) != 1 or len(queries) > 1 or len(tokens) != len(where.positions):
            return None
        return (queries[0] if queries else None), keys[0]

    def _why_not(self, node: Node, form: Form) -> str:
        place: int = form.values  # type: ignore[attr-defined]
        spec = node.input_specs[1 - place]
        if spec.samples != Samples():
            return "the tokens are cut into windows"
        shown = f"(the weights have shape {spec.shape})"
        operands, output = self._letters(node)
        if operands is not None:
            sizes = dict(zip(operands[1 - place], spec.shape, strict=True))
            keys = {sizes[letter] for letter in set(operands[place]).intersection(sizes).difference(output)}
            # What heads have, the values have too, or their number is another.
            alone = {sizes[letter] for letter in set(output).intersection(sizes).difference(operands[place])}
            if alone and not alone.intersection(keys):
                return f"there are not as many keys as queries {shown}"
        return f"which token looks at which could not be followed {shown}"

    @staticmethod
    def _letters(node: Node) -> tuple[tuple[str, ...] | None, str]:
        """The axes of a product, see `letters_of`; None where it is written in another way."""
        if type(node.operation).__name__ not in ("Matmul", "Einsum"):
            return None, ""
        return letters_of(node, [len(spec.shape) for spec in node.input_specs])

    def _end(self, node: Node, here: list[Value]) -> None:
        self.ends.update({value: self.step_of[value] for value in here})
        self.mixed.update(node.values)

    def _require_one_end(self, signal: list[Node]) -> None:
        """One sequence of tokens, behind some self-attention, is read in one way."""
        ends = set(self.ends.values())
        by_name = {node.name: node for node in signal}
        poolings = [node for node in signal if self.pooling and self.pooling.weights in node.inputs]
        if len(ends) > 1 or (self.pooling and len(self.ends) > 1):
            for value in self.ends:
                if value.node in by_name:
                    self._problem(by_name[value.node], "tokens are read there and elsewhere, behind different blocks")
        elif not any(step.weights for step in self.steps) and not self.problems:
            for node in poolings:
                self._problem(node, "what looks at the tokens are not the tokens themselves")

    def _has_tokens(self, value: Value) -> bool:
        """Whether a value holds all tokens, one by one."""
        where, spec = self.places.get(value), self.graph.spec(value)
        if where is LOST or not where.positions or spec.samples is None or spec.samples.rows != 1:
            return False
        if tuple(sorted(position for here in where.axes for position in here)) != self.whole:
            return False
        return _product([spec.shape[axis] for axis in where.positions]) == self.count

    def _are_all(self, here: tuple[int, ...], size: int | None) -> bool:
        return here == self.whole and size == self.count

    def _new(self, step: Step) -> int:
        if step not in self.steps:
            self.steps.append(step)
        return self.steps.index(step)

    def _problem(self, node: Node, reason: str) -> None:
        self.problems.append(UnsupportedNode(node.name, node.kind, reason))

    def _is_by_itself(self, node: Node, form: Form) -> bool:
        """Whether a node does something to each token by itself: when one is changed, no other's output changes."""
        is_dense = isinstance(form, LinearForm) and form.kind == "linear" and len(form.kernel_shape) < 3
        if form.kind in _BY_ITSELF or is_dense:
            return True
        axes = [where.positions if (where := self.places.get(value)) else () for value in node.inputs]
        outputs = [(self.places[value] or Places(())).positions for value in node.values]
        return any(stay_apart(node, axes, outputs, size) for size in OPEN_SIZES)


def _product(sizes: Sequence[int | None]) -> int | None:
    known = [size for size in sizes if size is not None]
    return math.prod(known) if len(known) == len(sizes) else None
