"""Which form a node gets: one table for layers, one for `keras.ops` operations, and `register_form` for a user's own.

A subclass of a Keras layer counts as that layer as long as it keeps its `call`. What is in no table is tried: a function of
each value, a linear map without weights; whatever is left is "opaque": it has a gradient, but no rule that needs to know
what it computes can be used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import keras

from innvest_lite.errors import InvalidInputError
from innvest_lite.forms import joint, linear, normalization, operations, structure, virtual
from innvest_lite.forms.base import Form
from innvest_lite.graph import Graph, Node
from innvest_lite.graph.composites import keep_whole
from innvest_lite.graph.once import once
from innvest_lite.graph.plain import is_plain
from innvest_lite.graph.weighted import Linear, LookUp

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
        keep_whole(layer_class)
        return builder

    return register


@once
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
        return structure.tried_form(node)
    if node.steps is not None:
        return Form(node, "recurrent")
    operation = node.operation
    if isinstance(operation, joint.Chain):
        return joint.chain(node)
    if isinstance(operation, joint.Affine):
        return joint.affine(node)
    if isinstance(operation, Linear):
        return linear.of_weights(node)
    if isinstance(operation, LookUp):
        return Form(node, "embedding")
    if not isinstance(operation, keras.Layer):
        return operations.form_of_operation(node, graph)
    for cls in type(operation).__mro__:
        # A subclass with a `call` of its own may compute anything.
        if cls in _BUILDERS and is_plain(operation, (cls,)):
            return _built(_BUILDERS[cls], node)
        if cls in virtual.SUMS and is_plain(operation, (cls,)):
            return virtual.weighted_sum(node, graph, virtual.SUMS[cls](node))
    if is_plain(operation, (keras.layers.Multiply,)):
        return structure.product(node, graph)
    name = f"{type(operation).__module__}.{type(operation).__name__}"
    if name == _SCALED_SUM:
        return virtual.weighted_sum(node, graph, [1.0, operation.scale])
    return Form(node, "scale") if name == _LAYER_SCALE else _by_behaviour(node)


def _by_behaviour(node):
    """The form of a layer that no table knows, by what it does, if that can be all that there is to it."""
    # What depends on weights is not said by trying, unless it is a function of each value: two weights may cancel.
    if node.weights and not _may_be_diagonal(node):
        return Form(node, "opaque")
    form = structure.tried_form(node)
    diagonal = form.kind in ("scale", "activation", "rectifier")
    return form if diagonal or not node.weights else Form(node, "opaque")


def _may_be_diagonal(node):
    same = node.input_specs and node.input_specs[0].shape == node.output_specs[0].shape
    return same and not type(node.operation).__module__.startswith("keras.src.")


def _built(builder, node):
    form = builder(node)
    if not isinstance(form, Form):
        raise InvalidInputError(f"The form of {node.name} ({node.kind}) should be a Form, but its function gave {form!r}.")
    return form


def _of_kind(kind):
    return lambda node: Form(node, kind)


# Layers that keras.applications defines for itself and Keras does not export.
_LAYER_SCALE = "keras.src.applications.convnext.LayerScale"
_SCALED_SUM = "keras.src.applications.inception_resnet_v2.CustomScaleLayer"

_BUILDERS.update(
    {
        **linear.LAYERS,
        **virtual.LAYERS,
        **dict.fromkeys((*structure.ROUTES, *structure.ELEMENTWISE), _of_kind("route")),
        **dict.fromkeys(structure.SCALES, _of_kind("scale")),
        **dict.fromkeys(structure.MAXIMA, _of_kind("max")),
        **normalization.LAYERS,
        **dict.fromkeys(structure.ACTIVATIONS, structure.tried_form),
        keras.layers.PReLU: lambda node: structure.Activation(node, "activation"),
        keras.layers.UpSampling2D: structure.upsampling,
        keras.layers.CenterCrop: structure.center_crop,
        keras.layers.RandomCrop: structure.random_crop,
        keras.layers.Embedding: _of_kind("embedding"),
        keras.layers.Softmax: structure.softmax,
    }
)
