"""A traced function rewritten with operations that the portable formats have: `lowered`.

LiteRT and ONNX know forward operations, not TensorFlow's own gradient kernels. Each of those is a few forward operations
(`forward_forms`). Everything else is copied as it is, and weights become constants. Called by `formats`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf
from tensorflow.python.framework.function_def_to_graph import function_def_to_graph

from innvest_lite.backend.forward_forms import FORWARD_FORMS


def lowered(concrete: Any) -> Callable[..., Any]:
    """A function of tensors that computes the same as a concrete function, to be traced again.

    An operation that cannot be rewritten, or not for shapes that are open, is copied unchanged; the converter of the new
    graph then reports it.

    Args:
        concrete: a `tf.types.experimental.ConcreteFunction`.

    Returns:
        A function that takes the arguments of `concrete`, flat, and returns its flat outputs.
    """
    graph = concrete.graph
    variables = {id(variable.handle): variable for variable in graph.variables}
    captured = {id(inside): outside for outside, inside in graph.captures}

    def function(*arguments):
        # Variables stay what they are until they are read; other tensors from outside are constants.
        known = {
            inside: variables[id(outside)] if id(outside) in variables else tf.constant(outside.numpy())
            for inside, outside in captured.items()
        }
        own = [tensor for tensor in graph.inputs if id(tensor) not in captured]
        known.update((id(tensor), given) for tensor, given in zip(own, arguments, strict=True))
        return _evaluated(graph, graph.outputs, known)

    return function


def _evaluated(graph, outputs, known):
    """The values of `outputs` of a graph, each operation made anew in the graph that is being traced.

    Args:
        graph: a `FuncGraph`.
        outputs: some of its tensors.
        known: the id of a tensor of the graph -> its value: a tensor, or a variable for a resource.
    """
    known = dict(known)
    for operation in _in_order(outputs, known):
        inputs = [known[id(tensor)] for tensor in operation.inputs]
        results = _made(graph, operation, inputs)
        known.update((id(tensor), result) for tensor, result in zip(operation.outputs, results, strict=True))
    return [known[id(tensor)] for tensor in outputs]


def _in_order(outputs, known):
    """The operations that the outputs need, each behind those that it needs itself."""
    order, seen, stack = [], set(), [(tensor.op, False) for tensor in reversed(outputs) if id(tensor) not in known]
    while stack:
        operation, ready = stack.pop()
        if ready:
            order.append(operation)
        elif operation not in seen:
            seen.add(operation)
            stack.append((operation, True))
            stack.extend((tensor.op, False) for tensor in operation.inputs if id(tensor) not in known)
    return order


def _made(graph, operation, inputs):
    """The outputs of one operation, in the form that the portable formats have."""
    kind = operation.type
    if kind == "ReadVariableOp":
        return [_constant(inputs[0])]
    if kind in ("While", "StatelessWhile"):
        return _loop(graph, operation, inputs)
    if kind in ("PartitionedCall", "StatefulPartitionedCall"):
        inner = _function(graph, operation.get_attr("f").name)
        return _evaluated(inner, inner.outputs, _bound(inner, inputs))
    results = FORWARD_FORMS[kind](operation, *inputs) if kind in FORWARD_FORMS else None
    return _copied(operation, inputs) if results is None else results


def _constant(variable):
    # Its value is read now, outside of the graph that is being traced.
    with tf.init_scope():
        value = variable.numpy()
    return tf.constant(value)


def _copied(operation, inputs):
    attributes = {name: value for name, value in operation.node_def.attr.items() if not name.startswith("_")}
    dtypes = [tensor.dtype for tensor in operation.outputs]
    made = tf.compat.v1.get_default_graph().create_op(operation.type, inputs, dtypes, attrs=attributes)
    return made.outputs


def _function(graph, name):
    """The graph of a function by name."""
    definition = graph._get_function(name)
    inner = getattr(definition, "graph", None)
    return inner if inner is not None else function_def_to_graph(definition.function_def)


def _bound(graph, values):
    return {id(tensor): value for tensor, value in zip(graph.inputs, values, strict=True)}


def _loop(graph, operation, inputs):
    """A loop; values that its body returns unchanged are not part of its state, and stay outside."""
    condition, body = (_function(graph, operation.get_attr(name).name) for name in ("cond", "body"))
    state = [place for place, tensor in enumerate(body.outputs) if not _is_same(tensor, body.inputs[place])]

    def whole(changed):
        values = list(inputs)
        for place, value in zip(state, changed, strict=True):
            values[place] = value
        return values

    results = tf.while_loop(
        lambda *changed: _evaluated(condition, condition.outputs, _bound(condition, whole(changed)))[0],
        lambda *changed: _evaluated(body, [body.outputs[place] for place in state], _bound(body, whole(changed))),
        [inputs[place] for place in state],
        shape_invariants=[operation.outputs[place].shape for place in state],
        parallel_iterations=1,
    )
    return whole(results)


def _is_same(tensor, source):
    while tensor.op.type == "Identity":
        tensor = tensor.op.inputs[0]
    return tensor is source
