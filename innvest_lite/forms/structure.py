"""The forms without a kernel: diagonal maps, activations, maxima, products, and what only moves values.

These need no class of their own: a rule uses their kind, their forward value and its VJP.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from innvest_lite import backend
from innvest_lite.forms.base import Form
from innvest_lite.graph import Graph, Node
from innvest_lite.graph.behaviour import GRID, behaviour_of
from innvest_lite.graph.masks import carry_mask
from innvest_lite.graph.once import once
from innvest_lite.graph.passes import IDLE, keeps_order
from innvest_lite.graph.plain import is_plain
from innvest_lite.graph.recognized import curves, is_softmax, same_curve

_layers = keras.layers

# Layers that the oldest Keras does not have.
_ADAPTIVE_MAXIMA = ("AdaptiveMaxPooling1D", "AdaptiveMaxPooling2D", "AdaptiveMaxPooling3D")

ROUTES = (
    *(_layers.Flatten, _layers.Reshape, _layers.Permute, _layers.RepeatVector),
    *(_layers.ZeroPadding1D, _layers.ZeroPadding2D, _layers.ZeroPadding3D),
    *(_layers.Cropping1D, _layers.Cropping2D, _layers.Cropping3D, _layers.Concatenate),
    *(_layers.UpSampling1D, _layers.UpSampling2D, _layers.UpSampling3D),
)
ELEMENTWISE = (
    *IDLE,
    # Augmentations do nothing outside of training either.
    *(cls for name, cls in vars(_layers).items() if name.startswith("Random")),
)
# BatchNormalization outside of training: its statistics are constants.
SCALES = (_layers.BatchNormalization, _layers.Rescaling, _layers.Normalization)
ACTIVATIONS = (_layers.Activation, _layers.ReLU, _layers.LeakyReLU, _layers.ELU)
MAXIMA = (
    *(_layers.MaxPooling1D, _layers.MaxPooling2D, _layers.MaxPooling3D),
    *(_layers.GlobalMaxPooling1D, _layers.GlobalMaxPooling2D, _layers.GlobalMaxPooling3D),
    *(_layers.Maximum, _layers.Minimum),
    *(cls for name in _ADAPTIVE_MAXIMA if (cls := getattr(_layers, name, None)) is not None),
)


@dataclasses.dataclass(frozen=True, eq=False)
class Activation(Form):
    """A function of one value at a time, or one that was taken for it.

    Attributes:
        constant: whether it gives something else than 0 for 0, which then is no contribution of its input.
    """

    constant: bool = False

    def forward(self, *inputs: Any) -> tuple[Any, ...]:
        """As the model computes it; of a layer that was cut in two, the activation of the linear part's value."""
        if self.node.part != "activation":
            return self.node.call(*inputs)
        layer = self.node.operation
        return (carry_mask(layer, inputs[0], layer.activation(inputs[0])),)


@dataclasses.dataclass(frozen=True, eq=False)
class Softmax(Activation):
    """A softmax.

    Attributes:
        axes: along which it sums to 1, counted from the first.
    """

    axes: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True, eq=False)
class Mixture(Form):
    """A linear map without weights (plus a constant): means, interpolation, products with what is constant.

    Attributes:
        monotone: whether none of its coefficients is negative.
    """

    monotone: bool = False


@dataclasses.dataclass(frozen=True, eq=False)
class Product(Form):
    """An elementwise product: one input carries the signal, the others gate it.

    Attributes:
        signal: the index of the input that carries the signal; None where nothing tells which one does.
        divides: whether the other input is a divisor.
        squashed: whether a gate comes out of a squashing activation.
    """

    signal: int | None = None
    divides: bool = False
    squashed: bool = False

    def affine(self, *inputs: Any) -> Callable[..., tuple[Any, ...]]:
        """The product as a map of its signal, with the gates that these inputs have."""
        place = self.signal
        if place is None:
            return self.forward
        return lambda *given: self.forward(*inputs[:place], given[place], *inputs[place + 1 :])


def activation_name(node: Node) -> str | None:
    """The name of the function of Keras's that a node computes ("relu", "silu"), whatever it is called; else None."""
    values = behaviour_of(node).values
    if values is None:
        return "softmax" if is_softmax(node) else None
    known = next((name for name, curve in curves().items() if same_curve(values, curve)), None)
    # Whatever its slope.
    slope = -values[GRID == -1][0]
    leaky = known is None and np.isfinite(slope) and same_curve(values, np.where(GRID > 0, GRID, slope * GRID))
    return "leaky_relu" if leaky else known


def tried_form(node: Node) -> Form:
    """The form of what takes one tensor and no table knows, by what it does; opaque where that is none of the kinds."""
    if is_softmax(node):
        return softmax(node)
    seen = behaviour_of(node, try_layers=True)
    if not seen.works or seen.is_flat:
        return Activation(node, "opaque")
    if seen.diagonal:
        # What weights make of 0 is looked at when it is needed.
        weighted = node.part != "activation" and bool(node.weights)
        return Activation(node, _kind_of_one_value(seen), constant=seen.constant or weighted)
    if not seen.affine:
        return Activation(node, "opaque")
    # What is copied and moved takes its relevance along; a constant that is added has a share of its own.
    return Form(node, "route") if seen.moves and not seen.constant else Mixture(node, "average", monotone=seen.monotone)


def _kind_of_one_value(seen):
    if seen.is_identity:
        return "route"
    if seen.affine:
        return "scale"
    if seen.is_rectifier:
        return "rectifier"
    # What is infinite or nothing at 0 (1 / x, log) has no contribution of its input.
    at_zero = 0.0 if seen.values is None else seen.values[GRID == 0][0]
    return "activation" if np.isfinite(at_zero) else "opaque"


def softmax(node: Node) -> Softmax:
    """The form of a node that is a softmax."""
    return Softmax(node, "softmax", axes=softmax_axes(node))


def is_masked_softmax(node: Node) -> bool:
    """Whether a node is Keras's softmax with a mask beside its logits."""
    return is_plain(node.operation, (keras.layers.Softmax,)) and len(node.inputs) == 2


def softmax_axes(node: Node) -> tuple[int, ...]:
    """The axes along which a softmax sums to 1."""
    shape, axis = node.input_specs[0].shape, getattr(node.operation, "axis", None)
    if node.part != "activation" and axis is not None:
        return tuple(sorted(one % len(shape) for one in np.atleast_1d(axis).tolist()))
    sizes = (2, *(7 if size is None else size for size in shape[1:]))
    with backend.eagerly():
        logits = keras.ops.convert_to_tensor(np.random.default_rng(0).normal(size=sizes), node.input_specs[0].dtype)
        found = backend.to_numpy(keras.ops.cast(Activation(node, "activation").forward(logits)[0], "float64"))
    axes = [axis for axis in range(1, len(sizes)) if np.allclose(found.sum(axis), 1, atol=3e-2)]
    return (axes[-1] if axes else len(sizes) - 1,)


def random_crop(node: Node) -> Form:
    """The form of a RandomCrop: a route where it has nothing to do.

    Outside of training some versions of Keras resize, and some hand images on as they are, of another shape than they say.
    """
    same = node.input_specs[0].shape == node.output_specs[0].shape
    return Form(node, "route" if same else "opaque")


def center_crop(node: Node) -> Form:
    """The form of a CenterCrop: a route, unless it has to enlarge what is smaller than the crop."""
    layer, shape = node.operation, node.input_specs[0].shape
    first = len(shape) - 2 if layer.data_format == "channels_first" else len(shape) - 3
    sizes = zip(shape[first : first + 2], (layer.height, layer.width), strict=True)
    fits = all(size is not None and size >= wanted for size, wanted in sizes)
    return Form(node, "route") if fits else tried_form(node)


def product(node: Node, graph: Graph) -> Form:
    """The form of an elementwise product.

    A gate is an input that is broadcast, or that comes out of a squashing activation; of two such, the one that is never
    negative, as a sigmoid beside a tanh. Where none is, a gate is what comes out of any other activation, as in a gated
    layer, or what is computed from another input, as in a squeeze-and-excitation block of one position.
    """
    inputs = range(len(node.inputs))
    signals = [index for index in inputs if not _is_broadcast(node, index)]
    ranges = [_range(graph, value) for value in node.inputs]
    small = {index for index in inputs if ranges[index] is not None and max(map(abs, ranges[index])) <= 1 + 1e-6}
    squashed, bounded = small.difference(signals), small.intersection(signals)
    if bounded.issuperset(signals):
        bounded = {index for index in bounded if ranges[index][0] >= -1e-6}
    signals = [index for index in signals if index not in bounded]
    if len(signals) > 1:
        signals = [index for index in signals if not _is_activated(graph, node.inputs[index])] or signals
    if len(signals) > 1:
        taken = node.inputs
        signals = [i for i in signals if not _comes_from(graph, taken[i], {taken[j] for j in signals if j != i})]
    return Product(node, "product", signal=signals[0] if len(signals) == 1 else None, squashed=bool(squashed | bounded))


def quotient(node: Node, graph: Graph) -> Form:
    """The form of one value divided by another: the divisor is a gate, as a normalization's statistic is a constant."""
    follows = node.inputs[0] in _from_inputs(graph)
    # What is broadcast is shared out to several places, which no gate does.
    same = tuple(node.input_specs[0].shape[1:]) == tuple(node.output_specs[0].shape[1:])
    return Product(node, "product", signal=0, divides=True) if follows and same else Form(node, "opaque")


def _is_broadcast(node, index):
    shape, whole = node.input_specs[index].shape, node.output_specs[0].shape
    return tuple(shape[1:]) != tuple(whole[1:])


def _is_activated(graph, value):
    """Whether a value comes straight out of a function of one value that is not affine."""
    node = graph.producer(value)
    seen = None if node is None else behaviour_of(node)
    return seen is not None and seen.diagonal and not seen.affine


def _range(graph, value):
    """The least and the largest number that a value can be, as far as that is known: where it was squashed; else None."""
    node = graph.producer(value)
    if node is None:
        return None
    if is_softmax(node):
        return 0.0, 1.0
    if keeps_order(node):
        return _range(graph, node.inputs[0])
    seen = behaviour_of(node)
    if seen.is_bounded:
        return float(np.nanmin(seen.values)), float(np.nanmax(seen.values))
    inner = _range(graph, node.inputs[0]) if seen.affine and seen.values is not None else None
    if inner is None:
        return None
    # Such as one less a gate.
    start, one = (float(seen.values[number == GRID][0]) for number in (0, 1))
    return tuple(sorted(start + (one - start) * end for end in inner))


def is_constant(node: Node) -> bool:
    """Whether a node gives the same number everywhere, in the shape of what it takes."""
    return type(node.operation).__name__ in _CONSTANTS and type(node.operation).__module__.startswith("keras.src.ops.")


_CONSTANTS = ("ZerosLike", "OnesLike", "FullLike", "EmptyLike")


@once
def _from_inputs(graph):
    """The inputs of a graph, and all values that are computed from them."""
    reached = set(graph.inputs)
    for node in graph.nodes:
        if reached.intersection(node.inputs) and not is_constant(node):
            reached.update(node.values)
    return reached


def _comes_from(graph, value, others):
    """Whether a value is computed from one of some others."""
    producers = [graph.producer(other) for other in others]
    # Only what stands behind the first of them is looked at: all before it would be the whole network for each product.
    first = min(-1 if node is None else graph.order[node.name] for node in producers)
    waiting, seen = [value], set()
    while waiting:
        producer = graph.producer(waiting.pop())
        if producer is None or graph.order[producer.name] <= first or is_constant(producer):
            continue
        new = set(producer.inputs) - seen
        if new & others:
            return True
        seen |= new
        waiting += new
    return False


def upsampling(node: Node) -> Form:
    """A copy of values where it repeats them; means of them where it interpolates."""
    interpolation = getattr(node.operation, "interpolation", "nearest")
    return Form(node, "route") if interpolation == "nearest" else tried_form(node)
