"""Which form a node gets: one table for layers, one for `keras.ops` operations, and `register_form` for a user's own.

A subclass of a Keras layer counts as that layer as long as it keeps its `call`; whatever is not in the tables is
"opaque": it has a gradient, but no rule that needs to know what it computes can be used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import keras

from innvest_lite.errors import InvalidInputError
from innvest_lite.forms import linear, normalization, structure, virtual
from innvest_lite.forms.base import Form
from innvest_lite.graph import Graph, Node, Slot
from innvest_lite.graph.passes import is_plain

_Builder = TypeVar("_Builder", bound=Callable[[Node], Form])

_BUILDERS: dict[type, Callable[[Node], Form]] = {}


def register_form(layer_class: type) -> Callable[[_Builder], _Builder]:
    """Decorator: says which form layers of your class `layer_class` have.

    The decorated function takes the graph node (its layer is `node.operation`) and returns a `Form`, e.g.
    `Form(node, "scale")` for an elementwise linear layer, or a `LinearForm` of your own.

    Raises:
        InvalidInputError: it is not a class of layers.

    Example:
        >>> import keras
        >>> class Half(keras.Layer):
        ...     def call(self, x):
        ...         return x / 2
        >>> @register_form(Half)
        ... def half(node):
        ...     return Form(node, "scale")
    """
    if not isinstance(layer_class, type) or not issubclass(layer_class, keras.Layer):
        raise InvalidInputError(f"register_form takes a class of Keras layers, but got {layer_class!r}.")

    def register(builder: _Builder) -> _Builder:
        _BUILDERS[layer_class] = builder
        return builder

    return register


def forms_of(graph: Graph) -> dict[str, Form]:
    """Node name -> form, for every node of a graph."""
    return {node.name: form_of(node, graph) for node in graph.nodes}


def form_of(node: Node, graph: Graph) -> Form:
    """The form of one node.

    Args:
        node: a `Node`.
        graph: the `Graph` that it is in.

    Returns:
        A `Form`; "opaque" where nothing is known of its layer.
    """
    if node.part == "activation":
        return structure.activation(node)
    if not isinstance(node.operation, keras.Layer):
        return _operation_form(node, graph)
    for cls in type(node.operation).__mro__:
        if cls in _BUILDERS:
            # A subclass with a `call` of its own may compute anything.
            return _built(_BUILDERS[cls], node) if is_plain(node.operation, (cls,)) else Form(node, "opaque")
    if isinstance(node.operation, keras.layers.Multiply):
        return structure.product(node, graph)
    qualified = f"{type(node.operation).__module__}.{type(node.operation).__name__}"
    return _BY_NAME.get(qualified, _opaque)(node)


def _built(builder, node):
    form = builder(node)
    if not isinstance(form, Form):
        raise InvalidInputError(f"The form of {node.name} ({node.kind}) should be a Form, but its function gave {form!r}.")
    return form


def _opaque(node):
    return Form(node, "opaque")


def _of_kind(kind):
    return lambda node: Form(node, kind)


# Layers that keras.applications defines for itself and Keras does not export.
_BY_NAME = {
    "keras.src.applications.convnext.LayerScale": _of_kind("scale"),
    "keras.src.applications.inception_resnet_v2.CustomScaleLayer": (
        lambda node: virtual.weighted_sum(node, [1.0, node.operation.scale])
    ),
}

_BUILDERS.update(
    {
        **linear.LAYERS,
        **virtual.LAYERS,
        **dict.fromkeys((*structure.ROUTES, *structure.ELEMENTWISE), _of_kind("route")),
        **dict.fromkeys(structure.SCALES, _of_kind("scale")),
        **dict.fromkeys(structure.MAXIMA, _of_kind("max")),
        **normalization.LAYERS,
        **dict.fromkeys(structure.ACTIVATIONS, structure.activation),
        keras.layers.UpSampling2D: structure.upsampling,
        keras.layers.Activation: structure.activation,
        keras.layers.ReLU: structure.activation,
        keras.layers.Embedding: _of_kind("embedding"),
    }
)

# keras.ops operations by class name, which is all that Keras tells of them.
_ROUTE_OPERATIONS = (
    *("Cast", "GetItem", "Reshape", "Ravel", "Transpose", "Moveaxis", "Swapaxes", "Squeeze", "ExpandDims", "Identity"),
    *("Concatenate", "Stack", "Split", "Flip", "Pad", "Repeat", "Take", "Slice", "BroadcastTo", "Unstack"),
)
_SUM_WEIGHTS = {"Add": (1.0, 1.0), "Subtract": (1.0, -1.0)}
_MAX_OPERATIONS = ("MaxPool", "Max", "Maximum")


def _operation_form(node, graph):
    name = type(node.operation).__name__
    # What gives truth values, such as the mask of an embedding, carries no relevance.
    if name in _ROUTE_OPERATIONS or all(spec.dtype == "bool" for spec in node.output_specs):
        return Form(node, "route")
    if name in _MAX_OPERATIONS:
        return Form(node, "max")
    if name in _SUM_WEIGHTS or name in ("Multiply", "Divide", "TrueDivide", "Negative"):
        return _arithmetic_form(node, graph, name)
    return structure.activation(node)


def _arithmetic_form(node, graph, name):
    """`x + y` is a sum, `x * y` a product; with a constant in place of y, both are diagonal maps of x."""
    if len(node.inputs) == 1:
        # A constant that broadcasts the input to a larger shape copies it, and is no diagonal map.
        same_shape = node.input_specs[0].shape[1:] == node.output_specs[0].shape[1:]
        # constant / x is not linear in x, unlike x / constant.
        divides = name in ("Divide", "TrueDivide") and not isinstance(node.arguments[0][0], Slot)
        return Form(node, "scale" if same_shape and not divides else "opaque")
    if name in _SUM_WEIGHTS:
        return virtual.weighted_sum(node, _SUM_WEIGHTS[name])
    return structure.product(node, graph) if name == "Multiply" else Form(node, "opaque")
