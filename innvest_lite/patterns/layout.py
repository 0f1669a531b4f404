"""What there is to fit in a model: its linear nodes, which of them share weights, and whose ReLU is their regime."""

import dataclasses
import functools
import hashlib

import keras
import numpy as np

from innvest_lite import backend
from innvest_lite.forms import Form, LinearForm, forms_of
from innvest_lite.forms.structure import ELEMENTWISE, activation_name
from innvest_lite.graph import Graph, Value, passes, trace
from innvest_lite.inputs import one_of

REGIMES = ("rectifier", "own")
SEPARABLE = ("split", "joint")
_SPOT = 64


@dataclasses.dataclass(frozen=True, eq=False)
class Layout:
    """The linear nodes of a model, BatchNormalization fused.

    Attributes:
        graph: the rewritten graph, with all outputs.
        forms: node name -> form, for all nodes.
        owners: linear node name -> the name that its pattern stands under: that of the first node with its weights.
    """

    graph: Graph
    forms: dict
    owners: dict

    @classmethod
    def of(cls, model, separable="split"):
        """The layout of a model.

        Args:
            model: a Functional or Sequential `keras.Model`.
            separable: whether separable convolutions are taken as the two maps that they are made of ("split"), or as
                the one that these make ("joint").
        """
        split = one_of(separable, SEPARABLE, "separable") == "split"
        graph = passes.rewrite(trace(model), fuse=True, split=split)
        forms = forms_of(graph)
        first = {}
        linear = [form for form in forms.values() if isinstance(form, LinearForm)]
        owners = {form.name: first.setdefault(form.weights_key, form.name) for form in linear}
        return cls(graph, forms, owners)

    @functools.cached_property
    def patterned(self):
        """Pattern name -> the form that it belongs to (the first, where several share their weights)."""
        return {name: self.forms[name] for name in dict.fromkeys(self.owners.values())}

    def values(self, tensors):
        """`Value` -> tensor, for all values of the graph, from a tensor per input."""
        values = dict(zip(self.graph.inputs, tensors, strict=True))
        for node in self.graph.nodes:
            outputs = self.forms[node.name].forward(*(values[value] for value in node.inputs))
            values.update(zip(node.values, outputs, strict=True))
        return values

    def fingerprints(self):
        """Pattern name -> a hash of the weights that it belongs to."""
        return {name: self.fingerprint(name) for name in self.patterned}

    def fingerprint(self, name):
        """The hash of one of them."""
        return _fingerprint(self.patterned[name])

    def spots(self):
        """A tensor per pattern: some numbers of each of its weights, enough to see that training has changed them."""
        return [_spot(form) for form in self.patterned.values()]

    def regime(self, form, choice):
        """The value whose sign says whether a unit of a linear node is in the positive regime (docs/design.md, decision 9).

        Args:
            form: a linear form.
            choice: "rectifier": what goes into the activation that the node's value reaches through
                BatchNormalization, sums and dropout; the node's own value where it reaches none. "own": always that.
        """
        own = form.node.values[0]
        activation = None if choice == "own" else self._activation(own)
        return own if activation is None else activation.inputs[0]

    def kind(self, form):
        """What a linear node is to a choice of estimators, one of `estimators.KINDS`."""
        if form.kind in ("sum", "average"):
            return form.kind
        if self._activation(form.node.values[0]) is not None:
            return "linear"
        return "output" if form.node.values[0] in self.graph.outputs else "unrectified"

    def activation(self, form):
        """The name of the activation that a linear node's value reaches; "" where it reaches none."""
        node = self._activation(form.node.values[0])
        return "" if node is None else activation_name(node) or node.kind

    def _activation(self, value):
        """The node. Breadth first, so the nearest one; ties go to the node that comes first."""
        frontier: list[Value] = [value]
        while frontier:
            following = []
            for current in frontier:
                for node in self.graph.consumers.get(current, ()):
                    form = self.forms[node.name]
                    if form.kind in ("rectifier", "activation"):
                        return node
                    if _is_elementwise(form):
                        following.append(node.values[0])
            frontier = following
        return None


def _is_elementwise(form: Form):
    """Whether a node changes a value's numbers but not which unit is which."""
    if form.node.input_specs[0].shape != form.node.output_specs[0].shape:
        return False
    return form.kind in ("scale", "sum") or isinstance(form.node.operation, ELEMENTWISE)


def _spot(form):
    weights = [form.raw_kernel(), form.raw_bias()]
    if form.node.batchnorm is not None:
        weights += form.node.batchnorm.weights
    flat = [keras.ops.reshape(weight, (-1,))[:_SPOT] for weight in weights if weight is not None]
    return keras.ops.concatenate([keras.ops.cast(part, "float32") for part in flat])


def _fingerprint(form):
    """A hash of the weights of a linear form; of the raw ones, so that it is the same on every machine."""
    digest = hashlib.blake2b(digest_size=16)
    weights = [form.raw_kernel(), form.raw_bias()]
    batchnorm = form.node.batchnorm
    if batchnorm is not None:
        weights += [batchnorm.moving_mean, batchnorm.moving_variance, batchnorm.gamma, batchnorm.beta]
        digest.update(repr(batchnorm.epsilon).encode())
    for weight in weights:
        array = np.zeros(0) if weight is None else np.ascontiguousarray(backend.view(weight))
        digest.update(repr((array.shape, str(array.dtype))).encode())
        digest.update(array.view(np.uint8).data if array.size and array.ndim else array.tobytes())
    return digest.hexdigest()
