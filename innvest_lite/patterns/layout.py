"""What is fitted in a model: its linear nodes, which of them share weights, and which rectifier decides their regime."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, cast

import keras

from innvest_lite import backend
from innvest_lite.digests import described, digest
from innvest_lite.forms import Form, LinearForm, forms_of
from innvest_lite.forms.affine import with_affine_steps
from innvest_lite.forms.chains import with_chains
from innvest_lite.forms.joint import ChainForm
from innvest_lite.forms.steps import every_node
from innvest_lite.forms.structure import ELEMENTWISE, activation_name
from innvest_lite.forms.values import values_of
from innvest_lite.graph import Graph, Node, Value, passes, trace
from innvest_lite.options import one_of
from innvest_lite.threads import in_threads

REGIMES = ("rectifier", "own")
SEPARABLE = ("split", "joint")
CHAINS = ("joint", "split")
# Ends the name that the weights of a layer of one's own stand under, beside those of its pattern.
LAYER = " (layer)"
# Kinds of forms that the paper's networks do not have.
_BEYOND = ("sum", "product", "normalization", "matmul", "softmax", "recurrent")


class Call(NamedTuple):
    """A call of a linear layer.

    Attributes:
        form: the layer's.
        inputs: a tensor for each of its inputs.
        output: what it gives.
        decides: the tensor whose sign says whether a unit is in the positive regime, see `Layout.regime`.
        weights: how much each row of the batch counts; None: all alike.
    """

    form: LinearForm
    inputs: tuple[Any, ...]
    output: Any
    decides: Any
    weights: Any


@dataclasses.dataclass(frozen=True, eq=False)
class Layout:
    """The linear nodes of a model, BatchNormalization fused.

    Attributes:
        graph: the rewritten graph, with all outputs.
        forms: node name -> form, for all nodes, also those of one step of recurrent layers.
        owners: linear node name -> the name that its pattern stands under: that of the first node with its weights.
    """

    graph: Graph
    forms: dict[str, Form]
    owners: dict[str, str]

    @classmethod
    def of(cls, model: keras.Model, separable: str = "split", chains: str = "split", input_shape: Any = None) -> Layout:
        """The layout of a model.

        Args:
            model: a `keras.Model`.
            separable: whether a separable convolution is the two linear maps that it consists of ("split"), or their
                product, one linear map ("joint").
            chains: likewise of linear layers with no rectifier between them, see `forms.chains`.
            input_shape: as of an analyzer.
        """
        split = one_of(separable, SEPARABLE, "separable") == "split"
        # BatchNormalization is fused, because the rectifier sees the normalized value, and its sign is the regime.
        graph = with_affine_steps(passes.rewrite(trace(model, input_shape), fuse=True, split=split))
        graph = with_chains(graph) if one_of(chains, CHAINS, "chains") == "joint" else graph
        forms = {name: form for part in _parts(graph) for name, form in forms_of(part).items()}
        # A pattern belongs to the weights: all calls of a shared layer have one (docs/design.md, decision 3).
        first: dict[tuple[Any, ...], str] = {}
        linear = [form for form in forms.values() if isinstance(form, LinearForm)]
        owners = {form.name: first.setdefault(form.weights_key, form.name) for form in linear}
        return cls(graph, forms, owners)

    @functools.cached_property
    def patterned(self) -> dict[str, LinearForm]:
        """Pattern name -> the form that it belongs to (the first, where several share their weights)."""
        return {name: cast(LinearForm, self.forms[name]) for name in dict.fromkeys(self.owners.values())}

    @functools.cached_property
    def is_beyond_the_papers(self) -> bool:
        """Whether there is more than the paper's networks have: plain linear layers, rectifiers and pooling.

        Layers with one pattern for all (`chains="joint"`) count as the one linear layer that they are.
        """
        return any(map(_is_beyond_the_papers, self.forms.values()))

    def values(self, tensors: Sequence[Any]) -> dict[Value, Any]:
        """`Value` -> tensor, for all values of the graph, from a tensor per input."""
        return values_of(self.graph, self.forms, tensors)

    def calls(self, tensors: Sequence[Any], weights: Any = None, regime: str = "rectifier") -> Iterator[Call]:
        """Each call of a linear layer, those of recurrent layers with all their steps, as soon as its values are there.

        What nothing needs any more is let go, so that there are never all values of a network at once.

        Args:
            tensors: a tensor for each input.
            weights: how much each sample counts, (samples,); None: all alike.
            regime: see `regime`.
        """
        due, spent = self._schedule(regime)
        for node, values, counted in every_node(self.graph, self.forms, tensors, weights):
            for form in due.get(node.name, ()):
                inputs = tuple(values[value] for value in form.node.inputs)
                yield Call(form, inputs, values[form.node.values[0]], values[self.regime(form, regime)], counted)
                del inputs
            for value in spent.get(node.name, ()):
                del values[value]

    def _schedule(self, regime: str) -> tuple[dict[str, list[LinearForm]], dict[str, list[Value]]]:
        """Node name -> the linear forms all of whose values are there behind it, and -> the values last needed there."""
        due: dict[str, list[LinearForm]] = {}
        spent: dict[str, list[Value]] = {}
        for part in _parts(self.graph):
            places = {value: place for place, node in enumerate(part.nodes) for value in node.values}
            last = {value: place for place, node in enumerate(part.nodes) for value in (*node.inputs, *node.values)}
            for node in part.nodes:
                if node.name in self.owners:
                    form = cast(LinearForm, self.forms[node.name])
                    decides = self.regime(form, regime)
                    place = max(places[node.values[0]], places[decides])
                    due.setdefault(part.nodes[place].name, []).append(form)
                    last.update({value: max(last[value], place) for value in (*node.inputs, *node.values, decides)})
            for value, place in last.items():
                spent.setdefault(part.nodes[place].name, []).append(value)
        return due, spent

    def fingerprints(self) -> dict[str, str]:
        """Name -> a hash of weights, for all weights of the model.

        Those that a pattern belongs to stand under the pattern's name. All others decide what the patterns' layers see,
        or what becomes of their values, so they count too: slopes, normalizations that are not fused, embeddings.
        """
        return {**self.fingerprints_of_patterns(), **self.fingerprints_of_others()}

    def fingerprints_of_patterns(self) -> dict[str, str]:
        """Pattern name -> a hash of the weights that the pattern belongs to."""
        return dict(zip(self.patterned, in_threads(_fingerprint, self.patterned.values()), strict=True))

    def fingerprints_of_others(self) -> dict[str, str]:
        """Name -> the hash of a layer's weights, for layers whose weights are not those of a pattern."""
        holders = dict(self._others.values())
        return {name: digest(described(map(backend.view, holder.weights))) for name, holder in holders.items()}

    def fingerprints_at(self, nodes: Iterable[str]) -> dict[str, str]:
        """`fingerprints` of what some nodes, by name, depend on, also where it stands under another node's name."""
        nodes = tuple(nodes)
        names = {self.owners.get(node, node) for node in nodes}
        names |= {self._others[node][0] for node in nodes if node in self._others}
        return {name: text for name, text in self.fingerprints().items() if name in names}

    @functools.cached_property
    def _others(self) -> dict[str, tuple[str, Any]]:
        """Node name -> the name that other weights than a pattern's stand under, and what holds them.

        A layer that is called several times stands under the name of its first node, as a pattern does.
        """
        found: dict[str, tuple[str, Any]] = {}
        first: dict[int, str] = {}
        for node in self.graph.nodes:
            holder, name = _holder_of_others(node, self.forms[node.name])
            if getattr(holder, "weights", None):
                found[node.name] = first.setdefault(id(holder), name), holder
        return found

    def regime(self, form: Form, choice: str) -> Value:
        """The value whose sign says whether a unit of a linear node is in the positive regime (docs/design.md, decision 9).

        Args:
            form: a linear form.
            choice: "rectifier": what goes into the activation that the node's value reaches through
                normalizations, sums and dropout; the node's own value where it reaches none. "own": always that.
        """
        # A unit whose value reaches no rectifier, as in a linear bottleneck or an output, has its own sign.
        own = form.node.values[0]
        activation = None if choice == "own" else self._activation(own)
        return own if activation is None else activation.inputs[0]

    def kind(self, form: LinearForm) -> str:
        """The kind by which an estimator is chosen for a linear node, one of `estimators.KINDS`."""
        if form.kind in ("sum", "average"):
            return form.kind
        if self._activation(form.node.values[0]) is not None:
            return "rectified"
        if form.node.values[0] not in self.graph.outputs:
            return "unrectified"
        shape = form.node.output_specs[0].shape
        return "single" if all(shape[axis] == 1 for axis in form.unit_axes) else "output"

    def activation(self, form: Form) -> str:
        """The name of the activation that a linear node's value reaches; "" where it reaches none."""
        node = self._activation(form.node.values[0])
        return "" if node is None else activation_name(node) or node.kind

    @functools.cached_property
    def _consumers(self) -> dict[Value, list[Node]]:
        """Value -> the nodes that take it, in the graph and in those of one step."""
        return {value: nodes for part in _parts(self.graph) for value, nodes in part.consumers.items()}

    def _activation(self, value: Value) -> Node | None:
        """The node. Breadth first, so the nearest one; ties go to the node that comes first."""
        frontier: list[Value] = [value]
        while frontier:
            following = []
            for current in frontier:
                for node in self._consumers.get(current, ()):
                    form = self.forms[node.name]
                    if form.kind in ("rectifier", "activation"):
                        return node
                    if _is_elementwise(form, current):
                        following.append(node.values[0])
            frontier = following
        return None


def _parts(graph):
    """The graph, and those of one step of its recurrent layers."""
    yield graph
    for node in graph.every_node:
        if node.steps is not None:
            yield node.steps


def _is_beyond_the_papers(form):
    if form.kind in _BEYOND or form.node.batchnorm is not None:
        return True
    if isinstance(form.node.operation, keras.layers.BatchNormalization):
        return True
    # A kernel that sees one channel, or a group of them.
    return form.kind == "linear" and not form.units_share_inputs


def _is_elementwise(form: Form, value: Value) -> bool:
    """Whether a node changes a value's numbers but not which unit is which."""
    # A sum that broadcasts the value spreads one unit over many positions.
    specs = zip(form.node.inputs, form.node.input_specs, strict=True)
    if any(source == value and spec.shape != form.node.output_specs[0].shape for source, spec in specs):
        return False
    return form.kind in ("scale", "normalization", "sum") or isinstance(form.node.operation, ELEMENTWISE)


def _holder_of_others(node, form):
    """What of a node holds weights that are not those of its pattern, and the name that they stand under."""
    if node.part == "activation":
        # The node's operation is the layer before it; its activation may be a layer with slopes of its own.
        return getattr(node.operation, "activation", None), node.name
    if not isinstance(form, LinearForm):
        return node.operation, node.name
    # Keras's own linear layers have a kernel and a bias. One's own may have more, of which the form does not tell.
    # The pattern of a chain belongs to all weights of its layers.
    whole = passes.is_linear_part(node) or isinstance(form, ChainForm)
    return (None if whole else node.operation), f"{node.name}{LAYER}"


def _fingerprint(form):
    """A hash of the weights of a linear form."""
    weights, options = form.fingerprinted()
    arrays = (None if weight is None else backend.view(weight) for weight in weights)
    return digest([*options, *described(arrays)])
