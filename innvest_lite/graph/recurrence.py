"""Recurrent layers: the graph of one step, and how a layer goes over its steps, forwards and backwards.

Comes in: the call of a recurrent layer, as one node. Goes out: the node with `Node.steps`, the graph of what its cell does
in one step, which was seen to give what the layer gives. Called by `trace` and by the sweep.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from innvest_lite import backend
from innvest_lite.graph.arguments import Slot, filled
from innvest_lite.graph.behaviour import FAILURES
from innvest_lite.graph.graph import Graph, Node, Spec, Value
from innvest_lite.graph.interpret import interpret
from innvest_lite.graph.masks import mask_of
from innvest_lite.graph.merging import NotOpened
from innvest_lite.graph.opening import Known, opened
from innvest_lite.graph.passes import split_activations
from innvest_lite.graph.plain import is_plain
from innvest_lite.graph.proof import prove
from innvest_lite.graph.recording import said
from innvest_lite.graph.softmaxes import with_softmaxes
from innvest_lite.graph.weighted import with_linear_maps
from innvest_lite.graph.weights import Weights

_layers = keras.layers
_CLASSES = (
    *(_layers.RNN, _layers.LSTM, _layers.GRU, _layers.SimpleRNN),
    *(_layers.ConvLSTM1D, _layers.ConvLSTM2D, _layers.ConvLSTM3D),
)
_BY_ITSELF = (
    "its states stay from one batch to the next, so that what it gives depends on what came before: build it with "
    "stateful=False and the same weights"
)


def is_recurrent(node: Node) -> bool:
    """Whether a node is the call of a recurrent layer of Keras's, whatever its cell."""
    return is_plain(node.operation, _CLASSES)


def with_steps(node: Node, known: Known) -> Node:
    """The node with the graph of one step.

    Args:
        node: the call of a recurrent layer.
        known: what is known of the model.

    Raises:
        NotOpened: the cell cannot be looked into, or its steps do not give what the layer gives.
    """
    layer = node.operation
    if layer.stateful:
        raise NotOpened(_BY_ITSELF)
    spec, dtype = node.input_specs[0], layer.compute_dtype
    if spec.dtype != dtype or spec.samples is None or spec.samples.axis != 0:
        raise NotOpened("what it takes is of another type, or has samples along another axis")
    try:
        with backend.eagerly():
            initial = layer.get_initial_state(2)
    except FAILURES as error:
        raise NotOpened(f"its states are unknown: {said(error)}") from error
    states = keras.tree.flatten(initial)
    inputs = (Value(f"{node.name}/step"), *(Value(f"{node.name}/state_{index}") for index in range(len(states))))
    specs = (Spec((None, *spec.shape[2:]), dtype), *(Spec((None, *one.shape[1:]), dtype) for one in states))
    places = iter(range(1, len(inputs)))
    arguments: Any = ((Slot(0), keras.tree.map_structure(lambda _: Slot(next(places)), initial)), {})
    call = Node(f"{node.name}/cell", layer.cell, inputs, arguments, specs, ())
    found = opened(call, f"{node.name}/", collections.Counter(value.node for value in inputs), known)
    if len(found.outputs) != len(inputs):
        raise NotOpened("its cell does not give an output and the states that it takes")
    graph = Graph(
        inputs=inputs,
        outputs=found.outputs,
        nodes=found.nodes,
        input_specs=specs,
        output_names=tuple(value.node for value in found.outputs),
        layer_values={one.name: one.values[0] for one in found.nodes},
        places={one.name: () for one in found.nodes},
    )
    steps = with_softmaxes(with_linear_maps(graph))
    stepped = node.replace(steps=steps)
    prove(node, [_Stepped(**{field.name: getattr(stepped, field.name) for field in dataclasses.fields(Node)})], node.values)
    # Afterwards: a part of a layer is not what the layer's own call gives.
    return node.replace(steps=split_activations(steps))


class _Stepped(Node):
    """A node that is evaluated as its steps, one by one."""

    def call_with(self, weights: Weights, *inputs: Any) -> tuple[Any, ...]:
        """As `Node.call_with`."""
        steps: Any = self.steps

        def one(*tensors: Any) -> list[Any]:
            values = interpret(steps, lambda node, taken: node.call_with(weights, *taken), tensors)
            return [values[value] for value in steps.outputs]

        return tuple(forwards(self, one, Given.of_node(self, inputs))[0])


@dataclasses.dataclass(frozen=True, eq=False)
class Given:
    """What a recurrent layer is called with.

    Attributes:
        sequences: (batch, steps, ...).
        states: the initial state, a flat list of tensors.
        mask: (batch, steps), which steps count; None: all.
    """

    sequences: Any
    states: list[Any]
    mask: Any

    @staticmethod
    def of(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Given:
        """From the arguments of a call."""
        names = ("sequences", "initial_state", "mask")
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        sequences, mask = given["sequences"], given.get("mask")
        initial: Any
        if isinstance(sequences, (list, tuple)):
            sequences, *initial = sequences
        else:
            initial = given.get("initial_state")
        mask = mask[0] if isinstance(mask, (list, tuple)) else mask
        has_none = initial is None or (isinstance(initial, list) and not initial)
        # Of a call with states besides, Keras hands no mask on that the sequences carry.
        if mask is None and (has_none or "initial_state" not in given):
            mask = mask_of(sequences)
        states = layer.get_initial_state(ops.shape(sequences)[0]) if has_none else initial
        return Given(sequences, [ops.cast(one, layer.compute_dtype) for one in keras.tree.flatten(states)], mask)

    @staticmethod
    def of_node(node: Node, inputs: Sequence[Any]) -> Given:
        """From what a node takes."""
        args, kwargs = keras.tree.map_structure(lambda leaf: filled(leaf, tuple(inputs)), node.arguments)
        return Given.of(node.operation, args, kwargs)

    def by_step(self, layer: Any) -> list[Any]:
        """Sequences and, where there is one, the mask: steps first, in the order in which the layer goes over them."""
        several = [self.sequences] if self.mask is None else [self.sequences, ops.cast(self.mask, "bool")]
        return [turned(one, layer) for one in several]


def turned(x: Any, layer: Any) -> Any:
    """Steps first in place of samples first, or the reverse; the last of them first where the layer goes backwards."""
    x = ops.swapaxes(x, 0, 1)
    return ops.flip(x, axis=0) if layer.go_backwards else x


def forwards(node: Node, one: Callable[..., Sequence[Any]], given: Given) -> tuple[list[Any], list[Any]]:
    """Goes over the steps.

    Args:
        node: the call of a recurrent layer.
        one: a step: of what comes and the states, `[output, *states]`.
        given: what the layer is called with.

    Returns:
        What the layer gives, a list; and the states before each step, steps first.
    """
    # Of a masked step, the output before it stands in, at first 0.
    layer, with_mask, count = node.operation, given.mask is not None, len(given.states)

    def body(carried: Sequence[Any], taken: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        states, before = carried[:count], carried[count]
        output, *after = one(taken[0], *states)
        if with_mask:
            kept = [_over(taken[1], x) for x in (output, *after)]
            after = [ops.where(seen, new, old) for seen, new, old in zip(kept[1:], after, states, strict=True)]
            output = ops.where(kept[0], output, before)
        shown = output
        if with_mask and layer.return_sequences and getattr(layer, "zero_output_for_mask", False):
            shown = ops.where(kept[0], output, 0)
        return [*after, output], [*states, shown]

    first = ops.zeros_like(one(given.sequences[:, 0], *given.states)[0])
    carried, seen = backend.scan(body, [*given.states, first], given.by_step(layer), [*given.states, first])
    # Keras leaves what it gives of a layer that goes backwards in the order of its steps.
    output = ops.swapaxes(seen[count], 0, 1) if layer.return_sequences else carried[count]
    return [output, *(carried[:count] if layer.return_state else [])], seen[:count]


def backwards(
    node: Node,
    one: Callable[..., tuple[list[Any], Any]],
    given: Given,
    states: Sequence[Any],
    arrived: Sequence[Any],
    more: Sequence[Any] = (),
) -> tuple[list[Any], list[Any]]:
    """Hands relevance back over the steps, the last first.

    Args:
        node: the call of a recurrent layer.
        one: a step back: of what came, the states before it, and the relevance of its output and of the states behind it,
            `([of what came, *of the states before], sums)`.
        given: what the layer was called with.
        states: the states before each step, as `forwards` gives them.
        arrived: the relevance of what the layer gives; None where none arrived.
        more: what sums begin with: over all steps, what `one` gives is added.

    Returns:
        The relevance of the sequences and of the initial states; and the sums.
    """
    layer, count, with_mask = node.operation, len(given.states), given.mask is not None
    dtype = next(one.dtype for one in arrived if one is not None)
    behind = [ops.zeros_like(x, dtype=dtype) for x in given.states]
    if layer.return_state:
        ends = zip(behind, arrived[1:], strict=True)
        behind = [none if r is None else ops.cast(r, dtype) for none, r in ends]
    taken, whole = [*given.by_step(layer), *states], arrived[0]
    if layer.return_sequences and whole is not None:
        taken.append(ops.swapaxes(ops.cast(whole, dtype), 0, 1))
    if layer.return_sequences or whole is None:
        sizes = node.output_specs[0].shape[1 + layer.return_sequences :]
        waits = ops.zeros((ops.shape(given.sequences)[0], *sizes), dtype)
    else:
        waits = ops.cast(whole, dtype)

    def body(carried: Sequence[Any], now: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        after, waiting, sums = carried[:count], carried[count], carried[count + 1 :]
        before = now[1 + with_mask : 1 + with_mask + count]
        if len(now) > 1 + with_mask + count:
            waiting = waiting + now[-1]
        (of_step, *of_states), added = one(now[0], before, waiting, after)
        of_step, *of_states = (
            ops.zeros_like(x, dtype=dtype) if r is None else ops.cast(r, dtype)
            for r, x in zip((of_step, *of_states), (now[0], *before), strict=True)
        )
        left = ops.zeros_like(waiting)
        if with_mask:
            seen = now[1]
            of_step = ops.where(_over(seen, of_step), of_step, 0)
            of_states = [ops.where(_over(seen, a), a, b) for a, b in zip(of_states, after, strict=True)]
            # What arrived at a masked step belongs to the output before it, unless it stood for nothing.
            drops = layer.return_sequences and getattr(layer, "zero_output_for_mask", False)
            left = left if drops else ops.where(_over(seen, waiting), 0, waiting)
            added = [ops.where(_over(seen, part), part, 0) for part in added]
        sums = [total + part for total, part in zip(sums, added, strict=True)]
        return [*of_states, left, *sums], [of_step]

    like = ops.zeros_like(given.sequences[:, 0], dtype=dtype)
    carried, (steps,) = backend.scan(body, [*behind, waits, *more], taken, [like], reverse=True)
    steps = ops.flip(steps, axis=0) if layer.go_backwards else steps
    return [ops.swapaxes(steps, 0, 1), *carried[:count]], carried[count + 1 :]


def _over(mask, x):
    """The mask of a step, over all that a sample has."""
    return ops.reshape(mask, (-1, *[1] * (len(x.shape) - 1)))
