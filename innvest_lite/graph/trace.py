"""From a Keras model to a `Graph`. The only file of the package that touches Keras's private attributes.

Comes in: any Functional or Sequential model. Goes out: its calls, nested models inlined. Called by the analyzers and
the fitter. Each private attribute used here has a canary test that names it (tests/graph/test_trace.py).
"""

from __future__ import annotations

import collections
import itertools
from typing import Any

import keras

from innvest_lite.errors import UnsupportedLayerError, UnsupportedNode
from innvest_lite.graph.graph import Graph, Node, Slot, Spec, Value
from innvest_lite.graph.plain import is_plain


def trace(model: keras.Model) -> Graph:
    """The graph of a model's calls.

    Args:
        model: a Functional or a built Sequential `keras.Model`.

    Returns:
        A `Graph`; the model is not changed and none of its layers is called.

    Raises:
        UnsupportedLayerError: the model is a subclass with a `call` of its own, a Sequential that was never built, or
            has Lambda layers (also inside nested models).
    """
    function = _function_of(model)
    tracer = _Tracer()
    inputs = tuple(Value(tensor._keras_history.operation.name) for tensor in function.inputs)
    outputs = tracer.run(model, inputs)
    _refuse_lambdas(tracer.nodes)
    layers = tuple(tensor._keras_history.operation.name for tensor in function.outputs)
    return Graph(
        inputs=inputs,
        outputs=outputs,
        nodes=tuple(tracer.nodes),
        input_specs=tuple(_spec(tensor) for tensor in function.inputs),
        output_names=_keys(function) or layers,
        output_layers=layers,
        layer_values={**{node.name: node.values[0] for node in tracer.nodes}, **tracer.models},
        places=tracer.places,
    )


def _keys(function):
    """The keys of a model's outputs, in their flat order, where it gives a flat dict of them."""
    outputs = function.output
    if not isinstance(outputs, dict) or any(not hasattr(output, "shape") for output in outputs.values()):
        return ()
    return tuple(keras.tree.flatten({key: key for key in outputs}))


def is_nested(operation: Any) -> bool:
    """Whether a layer is a model with a graph of its own, which tracing inlines."""
    return isinstance(operation, keras.Model) and _keeps_keras_call(operation)


def carry_mask(layer: Any, source: Any, output: Any) -> Any:
    """Hands the Keras mask of `source` on to `output`, as `layer.__call__` would have done."""
    mask = getattr(source, "_keras_mask", None)
    if mask is not None and layer.supports_masking:
        output._keras_mask = mask
    return output


def mask_of(tensor: Any) -> Any:
    """The Keras mask of a tensor; None where it has none."""
    return getattr(tensor, "_keras_mask", None)


def copy_mask(source: Any, output: Any) -> Any:
    """Hands the Keras mask of `source`, if it has one, on to `output`."""
    mask = getattr(source, "_keras_mask", None)
    if mask is not None:
        output._keras_mask = mask
    return output


class _Tracer:
    """Collects nodes; `run` walks through one model's calls and calls itself for nested models."""

    def __init__(self):
        self.nodes = []
        self.models = {}
        self.places = {}
        self.calls = collections.Counter()

    def run(self, model, inputs, prefix="", outer=()):
        """Adds the nodes of one model, at the place `outer`, whose inputs are `inputs`; returns its output values."""
        function = _function_of(model)
        own = {id(layer): (*outer, index) for index, layer in enumerate(model.layers)}
        values = dict(zip(map(id, function.inputs), inputs, strict=True))
        for depth in sorted(function._nodes_by_depth, reverse=True):
            for node in function._nodes_by_depth[depth]:
                if node.is_input or any(id(tensor) not in values for tensor in node.input_tensors):
                    continue
                name = self._name(prefix + node.operation.name)
                taken = tuple(values[id(tensor)] for tensor in node.input_tensors)
                # An operation is not in model.layers: it gets the place of the latest of its inputs.
                latest = max((self.places.get(value.node, outer) for value in taken), default=outer)
                self.places[name] = own.get(id(node.operation), latest)
                outputs = self._add(node, name, taken, values)
                values.update(zip(map(id, node.outputs), outputs, strict=True))
        return tuple(values[id(tensor)] for tensor in function.outputs)

    def _add(self, node, name, taken, values):
        if is_nested(node.operation):
            return self._inline(node, name, values)
        # `input_tensors` lists the tensors among the arguments in the order of `keras.tree`, repetitions included.
        position = itertools.count()
        arguments = keras.tree.map_structure(
            lambda leaf: Slot(next(position)) if isinstance(leaf, keras.KerasTensor) else leaf,
            (tuple(node.arguments.args), dict(node.arguments.kwargs)),
        )
        traced = Node(
            name=name,
            operation=_unwrapped(node.operation),
            inputs=taken,
            arguments=arguments,
            input_specs=tuple(_spec(tensor) for tensor in node.input_tensors),
            output_specs=tuple(_spec(tensor) for tensor in node.outputs),
        )
        self.nodes.append(traced)
        return traced.values

    def _inline(self, node, name, values):
        function = _function_of(node.operation)
        # Only the first argument of a model's call is its input; `training` and `mask` are not.
        given = node.arguments.args[0] if node.arguments.args else node.arguments.kwargs["inputs"]
        if isinstance(given, dict) and not isinstance(function.input, dict):
            # Keras hands what a dict holds to the inputs of these names; a model whose inputs are a dict flattens both.
            given = [given[inner.name] for inner in function.inputs]
        inputs = tuple(
            self._cast(values[id(tensor)], tensor, inner, name)
            for tensor, inner in zip(keras.tree.flatten(given), function.inputs, strict=True)
        )
        outputs = self.run(node.operation, inputs, name + "/", self.places[name])
        self.models[name] = outputs[0]
        return outputs

    def _cast(self, value, tensor, inner, name):
        """A nested model casts its input to the dtype of its own Input, and gives or takes a last axis of size 1."""
        missing = len(inner.shape) - len(tensor.shape)
        if tensor.dtype == inner.dtype and not missing:
            return value
        shape = tuple(tensor.shape) if not missing else (*tensor.shape, 1) if missing > 0 else tuple(tensor.shape)[:-1]
        node = Node(
            name=self._name(f"{name}/{inner._keras_history.operation.name}"),
            operation=Cast(inner.dtype, missing),
            inputs=(value,),
            arguments=((Slot(0),), {}),
            input_specs=(_spec(tensor),),
            output_specs=(Spec(shape, inner.dtype),),
        )
        self.nodes.append(node)
        self.places[node.name] = self.places[name]
        return node.values[0]

    def _name(self, name):
        self.calls[name] += 1
        return name if self.calls[name] == 1 else f"{name}#{self.calls[name]}"


class Cast:
    """The change of dtype and rank at the door of a nested model, as an operation."""

    def __init__(self, dtype: str, missing: int = 0) -> None:
        self.dtype, self.missing = dtype, missing

    def call(self, x: Any) -> Any:
        """`x` in the dtype of the nested model's input, with or without a last axis of size 1 as that has it."""
        x = keras.ops.cast(x, self.dtype)
        if not self.missing:
            return x
        return keras.ops.expand_dims(x, -1) if self.missing > 0 else keras.ops.squeeze(x, -1)

    __call__ = call


def _unwrapped(operation):
    """The layer inside a wrapper that does nothing but call it, outside of training; else the operation itself."""
    if is_plain(operation, (keras.layers.SpectralNormalization,)):
        return _unwrapped(operation.layer)
    # On the last axis alone, a dense layer does the same to each step.
    steps_alike = is_plain(operation, (keras.layers.TimeDistributed,)) and is_plain(operation.layer, (keras.layers.Dense,))
    return operation.layer if steps_alike else operation


def _spec(tensor):
    return Spec(tuple(tensor.shape), tensor.dtype, masked=getattr(tensor, "_keras_mask", None) is not None)


def all_layers(model: keras.Model) -> list[Any]:
    """Every layer of a model, also inside nested models and inside layers made of others."""
    return model._flatten_layers(include_self=False)


def _function_of(model):
    """The Keras object that holds a model's calls (`_nodes_by_depth`)."""
    if not isinstance(model, keras.Model):
        raise UnsupportedLayerError(
            f"An analyzer explains a keras.Model, but got {type(model).__name__}. Pass a Functional or Sequential model."
        )
    if not _keeps_keras_call(model):
        raise UnsupportedLayerError(
            f"Model {model.name!r} is of class {type(model).__name__}, whose `call` is Python code, so Keras keeps no "
            "graph of its layers to walk. Build the same computation as a Functional model: keras.Model(inputs, outputs)."
        )
    function = model._functional if isinstance(model, keras.Sequential) else model
    if function is None:
        raise UnsupportedLayerError(
            f"Sequential model {model.name!r} has no graph yet, because its input shape is unknown. Give it an "
            "`Input` as its first layer, or call `model.build(input_shape)` once."
        )
    return function


def _keeps_keras_call(model):
    """Whether the model computes its graph, and not a `call` that somebody wrote."""
    # Keras does not export the class of Functional models under a name of its own, so the name stands here.
    owner = next(cls for cls in type(model).__mro__ if "call" in vars(cls))
    return owner.__module__.startswith("keras.src.models.") and owner.__name__ in ("Functional", "Sequential")


def _refuse_lambdas(nodes):
    lambdas = [node for node in nodes if isinstance(node.operation, keras.layers.Lambda)]
    if lambdas:
        raise UnsupportedLayerError(
            "Lambda layers hold arbitrary Python code, which cannot be explained:",
            [UnsupportedNode(node.name, node.kind, "its code is arbitrary Python") for node in lambdas],
            "Replace each with the Keras layer or the keras.ops call that does the same, e.g. `x * 2` or "
            "keras.layers.Rescaling(2).",
        )
