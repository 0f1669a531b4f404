"""Which layers are made of others, so that tracing looks into them."""

from __future__ import annotations

from typing import Any

import keras

from innvest_lite.graph.arguments import Slot
from innvest_lite.graph.behaviour import behaviour_of
from innvest_lite.graph.graph import Node
from innvest_lite.graph.plain import is_keras_own, is_plain

_whole: set[type] = set()
# Of Keras's own layers: all others are one step, and have a form of their own or none.
_MADE_OF_OTHERS = (
    *(keras.layers.Lambda, keras.layers.MultiHeadAttention, keras.layers.GroupQueryAttention),
    *(keras.layers.Attention, keras.layers.AdditiveAttention, keras.layers.Dot, keras.layers.Bidirectional),
    *(keras.layers.LSTMCell, keras.layers.GRUCell, keras.layers.SimpleRNNCell),
    *((keras.layers.ReversibleEmbedding,) if hasattr(keras.layers, "ReversibleEmbedding") else ()),
)


def is_composite(operation: Any) -> bool:
    """Whether a layer's `call` is looked into: it is one of a user's own, or one of Keras's that is made of others."""
    if not isinstance(operation, keras.Layer) or getattr(operation, "quantization_mode", None) is not None:
        return False
    if is_plain(operation, _whole):
        return False
    return is_plain(operation, _MADE_OF_OTHERS) or not is_keras_own(operation)


def keep_whole(layer_class: type) -> None:
    """Says that layers of a class are one step, whatever they are made of."""
    _whole.add(layer_class)


def is_known_whole(node: Node, inner: list) -> bool:
    """Whether a composite is known by what it does: a function of each value, a linear map without weights.

    Args:
        node: its call, as one node.
        inner: the layers and operations that it calls.
    """
    # What has a kernel mixes values by weights, and trying it takes long.
    if any(len(weight.shape) > 1 for one in inner for weight in getattr(one, "weights", ())):
        return False
    seen = behaviour_of(node)
    return seen.works and (seen.diagonal or (seen.affine and not node.weights))


def unwrapped(node: Node) -> Node:
    """A node of the layer inside a wrapper that does nothing but call it, outside of training; else the node itself."""
    inner = _inside(node.operation)
    if inner is node.operation:
        return node
    # A wrapper may take a mask, which its layer does not.
    return node.replace(
        operation=inner, inputs=node.inputs[:1], input_specs=node.input_specs[:1], arguments=((Slot(0),), {})
    )


def _inside(operation):
    if is_plain(operation, (keras.layers.SpectralNormalization,)):
        return _inside(operation.layer)
    # On the last axis alone, a dense layer does the same to each step.
    steps_alike = is_plain(operation, (keras.layers.TimeDistributed,)) and is_plain(operation.layer, (keras.layers.Dense,))
    return operation.layer if steps_alike else operation
