"""From a Keras model to a `Graph`. The only file of the package that touches Keras's private attributes.

Comes in: any Functional or Sequential model. Goes out: its calls, nested models inlined. Called by the analyzers and
the fitter. Each private attribute used here has a canary test that names it (tests/graph/test_trace.py).
"""

from __future__ import annotations

import collections
import inspect
import itertools
from typing import Any

import keras

from innvest_lite import backend
from innvest_lite.errors import InvalidInputError, UnsupportedLayerError, UnsupportedNode
from innvest_lite.graph.arguments import Slot
from innvest_lite.graph.behaviour import FAILURES
from innvest_lite.graph.cast import Cast
from innvest_lite.graph.composites import unwrapped
from innvest_lite.graph.graph import Graph, Node, Spec, Value
from innvest_lite.graph.keys import keys_of
from innvest_lite.graph.masks import mask_of
from innvest_lite.graph.merging import NotOpened
from innvest_lite.graph.once import remembered_within
from innvest_lite.graph.opening import Known, opened
from innvest_lite.graph.proof import prove
from innvest_lite.graph.recurrence import is_recurrent, with_steps
from innvest_lite.graph.softmaxes import with_softmaxes
from innvest_lite.graph.steps import folded, is_stepwise
from innvest_lite.graph.weighted import with_linear_maps


@remembered_within
def trace(model: keras.Model, input_shape: Any = None) -> Graph:
    """The graph of a model's calls.

    Args:
        model: a `keras.Model`. Functional and Sequential models are walked; of others, and of layers that are made of
            others, the `call` is looked into.
        input_shape: the shapes of its inputs without the batch, in their structure, for a model without a graph that was
            never called, or one of open sizes; None: its own.

    Returns:
        A `Graph`; the model is not changed. What cannot be looked into is one node, which says why (`Node.closed`).

    Raises:
        UnsupportedLayerError: it is no model, or not known what it takes.
    """
    if not isinstance(model, keras.Model):
        raise UnsupportedLayerError(f"An analyzer explains a keras.Model, but got {type(model).__name__}.")
    tracer = _Tracer(model)
    function = _function_of(model) if input_shape is None else None
    if function is None:
        return tracer.called(model, taken_by(model, input_shape))
    inputs = tuple(Value(tensor._keras_history.operation.name) for tensor in function.inputs)
    outputs = tracer.run(model, inputs)
    if tracer.unseen_masks:
        # Looked into as a whole, as when it is called, all layers see the masks that they see then.
        whole = _Tracer(model).called(model, _of_inputs(function))
        if not any(node.operation is model for node in whole.nodes):
            return whole
    layers = tuple(tensor._keras_history.operation.name for tensor in function.outputs)
    specs = tuple(_spec(tensor) for tensor in function.inputs)
    return tracer.graph(inputs, specs, outputs, keys_of(function.output) or layers, layers, function.output)


def taken_by(model: keras.Model, input_shape: Any = None) -> Any:
    """What a model takes, a nest of symbolic tensors.

    Raises:
        UnsupportedLayerError: that is not known.
    """
    function = _function_of(model)
    if function is not None:
        return _of_inputs(function, input_shape)
    if input_shape is not None:
        return _of_shapes(input_shape)
    if isinstance(model, keras.Function) or hasattr(model, "inputs"):
        # A Functional model whose class has a `call` of its own.
        return model.input
    needed = [one for one in inspect.signature(model.call).parameters.values() if one.default is one.empty]
    if sum(one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD) for one in needed) > 1:
        raise UnsupportedLayerError(
            f"Model {model.name!r} ({type(model).__name__}) is called with several arguments, which Keras's own `predict` "
            "does not do. Write its call as `call(self, inputs)`, of a list or a dict of tensors."
        )
    config = model.get_build_config() or {}
    shape = config.get("input_shape")
    if shape is None:
        raise UnsupportedLayerError(
            f"Model {model.name!r} ({type(model).__name__}) has no graph yet, because what it takes is unknown. Call it "
            "once on a batch of samples, or say what a sample is, input_shape=. (Where it was called, its `call` asks for "
            "values while Keras traces it, and no explanation can be compiled of it.)"
        )
    return _of_shapes(shape, batched=True)


def _of_inputs(function, shapes=None):
    """What a model with a graph takes, of given shapes or its own."""
    flat = iter(function.inputs)
    names = keras.tree.map_structure(lambda _: next(flat), function.input)
    if shapes is None:
        return keras.tree.map_structure(lambda one: _sized(one, one.shape[1:]), names)
    if isinstance(names, dict) and isinstance(shapes, dict):
        return {key: _sized(names[key], shapes[key]) for key in names}
    if isinstance(names, (list, tuple)):
        return [_sized(one, shape) for one, shape in zip(names, shapes, strict=True)]
    return _sized(names, shapes)


def _sized(tensor, shape):
    if len(shape) != len(tensor.shape) - 1:
        raise InvalidInputError(
            f"input_shape should be the shape of a sample, such as {tuple(tensor.shape[1:])}, but is {tuple(shape)}."
        )
    return keras.KerasTensor((None, *shape), tensor.dtype, name=tensor._keras_history.operation.name)


def _of_shapes(shapes, batched=False, name="input"):
    if isinstance(shapes, dict):
        return {key: _of_shapes(one, batched, str(key)) for key, one in shapes.items()}
    if isinstance(shapes, (list, tuple)) and shapes and all(isinstance(one, (list, tuple)) for one in shapes):
        return [_of_shapes(one, batched, f"{name}_{index}") for index, one in enumerate(shapes, 1)]
    return keras.KerasTensor((None, *(shapes[1:] if batched else shapes)), keras.config.floatx(), name=name)


def is_nested(operation: Any) -> bool:
    """Whether a layer is a model with a graph of its own, which tracing inlines."""
    return isinstance(operation, keras.Model) and _keeps_keras_call(operation)


class _Tracer:
    """Collects nodes; `run` walks through one model's calls and calls itself for nested models."""

    def __init__(self, model):
        layers = [model, *all_layers(model)]
        self.untouched = _Untouched(layers)
        self.known = Known(frozenset(map(id, layers)), self.untouched.touch, all_layers)
        self.nodes = []
        # Whether a layer's call may leave or take off a mask, of which Keras's graph does not know.
        self.unseen_masks = False
        self.models = {}
        self.places = {}
        self.calls = collections.Counter()

    def graph(self, inputs, specs, outputs, names, layers, given):
        numbers = itertools.count()
        graph = Graph(
            inputs=inputs,
            outputs=outputs,
            nodes=tuple(self.nodes),
            input_specs=specs,
            output_names=names,
            output_layers=layers,
            layer_values={**{node.name: node.values[0] for node in self.nodes}, **self.models},
            places=self.places,
            structure=keras.tree.map_structure(lambda one: None if one is None else next(numbers), given),
        )
        return with_softmaxes(with_linear_maps(graph))

    def called(self, model, given):
        """The graph of a model whose `call` is Python code."""
        tensors = keras.tree.flatten(given)
        inputs, specs = tuple(Value(tensor.name) for tensor in tensors), tuple(map(_spec, tensors))
        places = iter(range(len(tensors)))
        arguments = ((keras.tree.map_structure(lambda _: Slot(next(places)), given),), {})
        if not model.built:
            with backend.eagerly():
                model(keras.tree.map_structure(lambda one: keras.ops.zeros((1, *one.shape[1:]), one.dtype), given))
        call = Node(model.name, model, inputs, arguments, specs, ())
        self.places[model.name] = ()
        # A node may not be called as an input is.
        self.calls.update(tensor.name for tensor in tensors)
        try:
            found = self._open(call, "")
            outputs, values = found.given, found.outputs
        except NotOpened as reason:
            outputs = self._outputs(model, given, str(reason))
            flat = tuple(_spec(one) for one in keras.tree.flatten(outputs) if one is not None)
            self.nodes = [call.replace(output_specs=flat, closed=str(reason))]
            values = self.nodes[0].values
        layers = tuple(value.node for value in values)
        keys = keys_of(outputs)
        return self.graph(inputs, specs, values, keys if len(keys) == len(values) else layers, layers, outputs)

    @staticmethod
    def _outputs(model, given, reason):
        """What a model gives that cannot be looked into."""
        try:
            return backend.shapes_of(model, (given,), {})
        except FAILURES as error:
            raise UnsupportedLayerError(
                f"Model {model.name!r} ({type(model).__name__}) can only be called on tensors with values, so that it "
                f"cannot be compiled, as every explanation is: {reason}.",
                [UnsupportedNode(model.name, type(model).__name__, reason)],
                "Write what depends on values with keras.ops.where or keras.ops.cond.",
            ) from error

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
        # A nested model's own graph does not know of a mask that comes in; looked into as any layer, it does.
        if is_nested(node.operation) and not any(mask_of(tensor) is not None for tensor in node.input_tensors):
            return self._inline(node, name, values)
        # `input_tensors` lists the tensors among the arguments in the order of `keras.tree`, repetitions included.
        position = itertools.count()
        arguments = keras.tree.map_structure(
            lambda leaf: Slot(next(position)) if isinstance(leaf, keras.KerasTensor) else leaf,
            (tuple(node.arguments.args), dict(node.arguments.kwargs)),
        )
        traced = Node(
            name=name,
            operation=node.operation,
            inputs=taken,
            arguments=arguments,
            input_specs=tuple(_spec(tensor) for tensor in node.input_tensors),
            output_specs=tuple(_spec(tensor) for tensor in node.outputs),
        )
        return self._place(unwrapped(traced))

    def _place(self, node):
        """Adds a node, or what it consists of; returns the values that it gives."""
        if is_stepwise(node):
            parts = folded(node)
            try:
                prove(node, parts, parts[-1].values)
            except NotOpened as reason:
                self.nodes.append(node.replace(closed=str(reason)))
                return node.values
            fold, call, unfold = parts
            self.nodes.append(fold)
            self.places[call.name] = self.places[fold.name] = self.places[node.name]
            node = unfold.replace(inputs=self._place(call))
        elif self.known.opens(node):
            try:
                return self._open(node, f"{node.name}/").outputs
            except NotOpened as reason:
                node = node.replace(closed=str(reason))
        elif is_recurrent(node):
            try:
                node = with_steps(node, self.known)
            except NotOpened as reason:
                node = node.replace(closed=str(reason))
            finally:
                self.untouched.put_back()
        self.nodes.append(node)
        return node.values

    def _open(self, call, prefix):
        """Adds what a composite layer calls, behind its name."""
        try:
            found = opened(call, prefix, self.calls, self.known)
        finally:
            self.untouched.put_back()
        self.calls = found.calls
        specs = {value: spec for node in found.nodes for value, spec in zip(node.values, node.output_specs, strict=True)}
        pairs = zip(found.outputs, call.output_specs, strict=False)
        self.unseen_masks |= any(spec.mask is None and value in specs and specs[value].masked for value, spec in pairs)
        # Keras's attention takes the mask off what it is given: what is called later does not see it either.
        self.unseen_masks |= any(spec.masked for spec in call.input_specs)
        self.models.update({**found.wholes, call.name: found.outputs[0]})
        for index, node in enumerate(found.nodes):
            self.places[node.name] = (*self.places[call.name], index)
            if is_stepwise(node) or is_recurrent(node):
                self._place(node)
            else:
                self.nodes.append(node)
        return found

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


class _Untouched:
    """Takes the nodes that Keras makes of calls with symbolic tensors off the layers, and gives back what calls change.

    That is losses, and attributes: counters that a `call` counts on, and tensors that it keeps.
    """

    def __init__(self, layers):
        self.counts = {}
        self.attributes = {}
        self.losses = [(layer, list(layer._losses), set(layer._loss_ids)) for layer in layers if layer._losses]

    def touch(self, layer):
        """Counts the nodes of a layer that is about to be called."""
        self.counts.setdefault(id(layer), (layer, len(layer._inbound_nodes), len(layer._outbound_nodes)))
        if layer.built:
            self.attributes.setdefault(id(layer), (layer, dict(vars(layer))))

    def put_back(self):
        for layer, inbound, outbound in self.counts.values():
            del layer._inbound_nodes[inbound:], layer._outbound_nodes[outbound:]
        for layer, before in self.attributes.values():
            # Not by setattr, which makes Keras track what is set.
            now = vars(layer)
            for name in [name for name in now if name not in before]:
                del now[name]
            now.update(before)
        for layer, losses, numbers in self.losses:
            layer._losses[:] = losses
            layer._loss_ids.clear()
            layer._loss_ids.update(numbers)
        # Else each composite would put back all layers of those before it.
        self.counts.clear()
        self.attributes.clear()


def _spec(tensor):
    mask = mask_of(tensor)
    return Spec(tuple(tensor.shape), tensor.dtype, None if mask is None else tuple(mask.shape))


def all_layers(model: Any) -> list[Any]:
    """Every layer of a model or of a layer, also inside nested models and inside layers made of others."""
    return model._flatten_layers(include_self=False)


def part_behind(model: keras.Model, layer: keras.Layer) -> keras.Model:
    """The part of a model behind the layer that takes its only input, with the same layers.

    Raises:
        InvalidInputError: the model is no Functional or Sequential one that begins so, or ends there.
    """
    function = _function_of(model)
    calls = [] if function is None else [node for nodes in function._nodes_by_depth.values() for node in nodes]
    users = [node for node in calls if any(tensor is function.inputs[0] for tensor in node.input_tensors)]
    if len(users) != 1 or users[0].operation is not layer or users[0].outputs[0] in function.outputs:
        raise InvalidInputError(
            f"The model {model.name!r} does not begin with {layer.name!r} alone, or ends there: what lies before it, or "
            "beside it, would be lost."
        )
    return keras.Model(users[0].outputs[0], function.output, name=model.name)


def _function_of(model):
    """The Keras object that holds a model's calls (`_nodes_by_depth`); None where Keras keeps none."""
    if not _keeps_keras_call(model):
        return None
    return model._functional if isinstance(model, keras.Sequential) else model


def _keeps_keras_call(model):
    """Whether the model computes its graph, and not a `call` that somebody wrote."""
    # Keras does not export the class of Functional models under a name of its own, so the name stands here.
    owner = next(cls for cls in type(model).__mro__ if "call" in vars(cls))
    return owner.__module__.startswith("keras.src.models.") and owner.__name__ in ("Functional", "Sequential")
