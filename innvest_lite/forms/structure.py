"""The forms without a kernel: diagonal maps, activations, maxima, products, and what only moves values.

These need no class of their own: a rule uses their kind, their forward value and its VJP.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import keras

from innvest_lite.forms.base import Form
from innvest_lite.graph import Graph, Node
from innvest_lite.graph.trace import carry_mask

_layers = keras.layers

ROUTES = (
    *(_layers.Flatten, _layers.Reshape, _layers.Permute, _layers.RepeatVector),
    *(_layers.ZeroPadding1D, _layers.ZeroPadding2D, _layers.ZeroPadding3D),
    *(_layers.Cropping1D, _layers.Cropping2D, _layers.Cropping3D, _layers.Concatenate),
    *(_layers.UpSampling1D, _layers.UpSampling2D, _layers.UpSampling3D),
)
ELEMENTWISE = (
    *(_layers.Dropout, _layers.SpatialDropout1D, _layers.SpatialDropout2D, _layers.SpatialDropout3D),
    *(_layers.AlphaDropout, _layers.GaussianDropout, _layers.GaussianNoise, _layers.ActivityRegularization),
    _layers.Identity,
    # Augmentations do nothing outside training.
    *(_layers.RandomFlip, _layers.RandomRotation, _layers.RandomZoom, _layers.RandomTranslation),
    *(_layers.RandomContrast, _layers.RandomBrightness),
)
# BatchNormalization outside of training: its statistics are constants.
SCALES = (_layers.BatchNormalization, _layers.Rescaling, _layers.Normalization)
ACTIVATIONS = (_layers.LeakyReLU, _layers.PReLU, _layers.ELU)
MAXIMA = (
    *(_layers.MaxPooling1D, _layers.MaxPooling2D, _layers.MaxPooling3D),
    *(_layers.GlobalMaxPooling1D, _layers.GlobalMaxPooling2D, _layers.GlobalMaxPooling3D, _layers.Maximum),
)
# Activation functions that see one value at a time; softmax, which does not, is opaque.
# relu6 too: it has the same regime, the sign of its input.
RECTIFIERS = ("relu", "relu6")
_SMOOTH = (
    *("celu", "elu", "exponential", "gelu", "glu", "hard_shrink", "hard_sigmoid", "hard_silu", "hard_tanh"),
    *("leaky_relu", "log_sigmoid", "mish", "selu", "sigmoid", "silu", "soft_shrink", "softplus", "softsign"),
    *("sparse_plus", "sparse_sigmoid", "squareplus", "tanh", "tanh_shrink", "threshold"),
)
# Bounded functions: what they give scales a signal rather than carries one.
GATES = ("sigmoid", "hard_sigmoid", "softmax", "tanh")


@dataclasses.dataclass(frozen=True, eq=False)
class ActivationPart(Form):
    """The activation of a layer that was cut in two."""

    def forward(self, *inputs: Any) -> tuple[Any, ...]:
        """The activation of the linear part's value."""
        layer = self.node.operation
        return (carry_mask(layer, inputs[0], layer.activation(inputs[0])),)


@dataclasses.dataclass(frozen=True, eq=False)
class Product(Form):
    """An elementwise product: one input carries the signal, the others gate it.

    Attributes:
        signal: the index of the input that carries the signal; None where nothing tells which one does.
    """

    signal: int | None = None


def activation_name(node: Node) -> str | None:
    """The Keras name of a node's activation function ("relu", "silu"); None if the node is not an activation."""
    operation = node.operation
    if isinstance(operation, _layers.ReLU):
        plain = not operation.negative_slope and not operation.threshold
        return "relu" if plain else "leaky_relu"
    if node.part == "activation" or isinstance(operation, _layers.Activation):
        function = operation.activation
        if isinstance(function, keras.Layer):
            return activation_name(node.replace(operation=function, part=""))
        return getattr(function, "__name__", None)
    if isinstance(operation, ACTIVATIONS):
        return "leaky_relu"
    if isinstance(operation, keras.Layer) or node.part:
        return None
    name = type(operation).__name__
    return _OPERATION_NAMES.get(name.lower())


_OPERATION_NAMES = {name.replace("_", ""): name for name in (*RECTIFIERS, *_SMOOTH, "softmax")}


def activation(node: Node) -> Form:
    """The form of an activation node: "rectifier", "activation", a route where it is the identity, else opaque."""
    name = activation_name(node)
    kind = "opaque"
    if name in RECTIFIERS:
        kind = "rectifier"
    elif name == "linear":
        kind = "route"
    elif name in _SMOOTH:
        kind = "activation"
    return (ActivationPart if node.part == "activation" else Form)(node, kind)


def product(node: Node, graph: Graph) -> Form:
    """The form of an elementwise product.

    A gate is an input that comes out of a squashing activation, or that is broadcast; where neither decides, one that is
    computed from another input, as in a squeeze-and-excitation block of one position.
    """
    inputs = range(len(node.inputs))
    signals = [index for index in inputs if not _is_gate(node, graph, index)]
    if len(signals) > 1:
        behind = [_ancestors(graph, value) for value in node.inputs]
        signals = [i for i in signals if not any(node.inputs[j] in behind[i] for j in signals if j != i)]
    return Product(node, "product", signal=signals[0] if len(signals) == 1 else None)


def _is_gate(node, graph, index):
    shape, whole = node.input_specs[index].shape, node.output_specs[0].shape
    if tuple(shape[1:]) != tuple(whole[1:]):
        return True
    producer = graph.producer(node.inputs[index])
    return producer is not None and activation_name(producer) in GATES


def _ancestors(graph, value):
    """All values from which a value is computed."""
    found, waiting = set(), [value]
    while waiting:
        producer = graph.producer(waiting.pop())
        new = set(producer.inputs) - found if producer is not None else set()
        found |= new
        waiting += new
    return found


def upsampling(node: Node) -> Form:
    """A copy of values where it repeats them; opaque where it interpolates."""
    interpolation = getattr(node.operation, "interpolation", "nearest")
    return Form(node, "route" if interpolation == "nearest" else "opaque")
