"""Looking into composite layers: from one call of a layer that is made of others to the nodes of what it calls.

Comes in: the call as one node. Goes out: an `Opened`, in the order of the calls, whose equality with the layer's own output
was seen on random numbers; or the reason why there is none. Called by `trace`.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from innvest_lite import backend
from innvest_lite.graph.arguments import Slot, leaves_of
from innvest_lite.graph.attention import is_fused_attention
from innvest_lite.graph.behaviour import FAILURES
from innvest_lite.graph.composites import is_composite, is_known_whole, unwrapped
from innvest_lite.graph.graph import Node, Spec, Value, takes_training
from innvest_lite.graph.masks import DropMask, LeaveMask, TakeMask, mask_of, with_mask
from innvest_lite.graph.merging import (
    BATCHES,
    BY_SAMPLES,
    NotOpened,
    Run,
    argument,
    counted_by,
    operation,
    places_in,
    sized,
    spec_of,
)
from innvest_lite.graph.proof import Unproven, prove
from innvest_lite.graph.recording import Place, Recording, Step, is_symbolic, reason_of
from innvest_lite.graph.repaired import repaired
from innvest_lite.graph.source import Source


@dataclasses.dataclass(frozen=True, eq=False)
class Known:
    """What is known of the model in which composites are looked into.

    Attributes:
        layers: the `id` of each of its layers: others are made anew at each call, and their names with them.
        touch: is told of each layer before it is called.
        parts: gives all layers that a layer is made of.
    """

    layers: frozenset[int]
    touch: Callable[[Any], None]
    parts: Callable[[Any], list[Any]]

    def opens(self, node: Node) -> bool:
        """Whether a node is to be looked into."""
        called = node.operation
        if is_fused_attention(called):
            return True
        return is_composite(called) and not is_known_whole(node, [called, *self.parts(called)])


@dataclasses.dataclass(frozen=True, eq=False)
class Opened:
    """What a composite's call consists of.

    Attributes:
        nodes: the calls in it.
        outputs: the values that it gives, flat.
        given: what it gives, in its structure, symbolic tensors.
        wholes: the name of each composite in it -> the value that it hands on.
        calls: how often each name was given, those before it included.
    """

    nodes: tuple[Node, ...]
    outputs: tuple[Value, ...]
    given: Any
    wholes: Mapping[str, Value]
    calls: collections.Counter[str]


def opened(call: Node, prefix: str, calls: collections.Counter[str], model: Known) -> Opened:
    """Looks into one call.

    Args:
        call: the call of a composite layer or model, as one node.
        prefix: what the names of the nodes begin with.
        calls: how often each name was given so far; it is not changed.
        model: what is known of the model.

    Raises:
        NotOpened: the call does not trace, or what it consists of does not give the same.
    """
    found = _Opening(call, prefix, calls.copy(), model, is_composite).found()
    try:
        prove(call, found.nodes, found.outputs)
    except Unproven:
        # One of the composites in it may do something else without values; then it alone stays closed.
        found = _one_level(call, prefix, calls, model)
    return found


def _one_level(call, prefix, calls, model):
    """As `opened`, with each composite inside opened and proven on its own."""
    found = _Opening(call, prefix, calls.copy(), model, lambda layer: False).found()
    prove(call, found.nodes, found.outputs)
    counts, wholes, others, nodes = found.calls, dict(found.wholes), {}, []
    for node in found.nodes:
        node = node.replace(inputs=tuple(others.get(value, value) for value in node.inputs))
        try:
            inner = opened(node, f"{node.name}/", counts, model) if model.opens(node) else None
        except NotOpened as reason:
            inner, node = None, node.replace(closed=str(reason))
        if inner is None:
            nodes.append(node)
            continue
        counts = inner.calls
        nodes.extend(inner.nodes)
        others.update(zip(node.values, inner.outputs, strict=True))
        wholes.update({**inner.wholes, node.name: inner.outputs[0]})
    outputs = tuple(others.get(value, value) for value in found.outputs)
    return Opened(tuple(nodes), outputs, found.given, {name: others.get(one, one) for name, one in wholes.items()}, counts)


class _Opening:
    """Makes nodes of two recordings of a call.

    Args:
        call, prefix, model: as of `opened`.
        calls: likewise; names are added to it.
        opens: a function of a layer: whether its `call` is looked into.
    """

    def __init__(
        self, call: Node, prefix: str, calls: collections.Counter[str], model: Known, opens: Callable[[Any], bool]
    ) -> None:
        self.call, self.prefix, self.calls, self.model, self.opens = call, prefix, calls, model, opens
        self.nodes: list[Node] = []
        self.values: dict[int, Value] = {}
        self.specs: dict[Value, Spec] = {}
        # The mask that each value carries, by its `id`, and the same values with other masks.
        self.carried: dict[Value, int | None] = {}
        self.masked: dict[tuple[Value, int | None], Value] = {}
        self.names: dict[Place, str] = {}

    def found(self) -> Opened:
        """What the call consists of, not proven."""
        self.runs = [self._run(batch) for batch in BATCHES]
        for index, value in enumerate(self.call.inputs):
            if value in self.specs:
                continue
            self._know(value, [run.tensors[index] for run in self.runs], self.runs[0].masks[index])
            if self.call.input_specs[index].mask is not None:
                masks = [run.masks[index] for run in self.runs]
                self._add(f"{value.node}/mask", TakeMask(), (value,), ((Slot(0),), {}), [masks])
        for several in self._each([run.recording.steps for run in self.runs]):
            self._step(several)
        wholes = self._each([run.recording.wholes for run in self.runs])
        outputs = self._outputs()
        self._prune(outputs)
        return Opened(tuple(self.nodes), outputs, self.runs[0].recording.outputs, self._wholes(wholes), self.calls)

    def _run(self, batch: int) -> Run:
        made: dict[Value, Any] = {}
        # The same value twice, as in self-attention, is one tensor.
        for value, spec in zip(self.call.inputs, self.call.input_specs, strict=True):
            sizes = sized(spec, batch)
            mask = None if spec.mask is None else keras.KerasTensor((*sizes[:1], *spec.mask[1:]), "bool")
            made.setdefault(value, with_mask(keras.KerasTensor(sizes, spec.dtype), mask))
        tensors = [made[value] for value in self.call.inputs]
        masks = [mask_of(tensor) for tensor in tensors]
        args, kwargs = keras.tree.map_structure(
            lambda leaf: tensors[leaf.index] if isinstance(leaf, Slot) else leaf, self.call.arguments
        )
        if takes_training(self.call.operation):
            kwargs = {**kwargs, "training": False}
        recording = Recording(self.opens, _is_kept, self.model.touch)

        def run() -> tuple[None, list[Any]]:
            with keras.StatelessScope(collect_losses=True):
                recording.run(self.call.operation, args, kwargs)
            leaves = [leaf for step in recording.steps for leaf in leaves_of(step.arguments)]
            return None, [one for one in (*leaves, *keras.tree.flatten(recording.outputs)) if keras.ops.is_tensor(one)]

        try:
            with backend.eagerly():
                _, captured = backend.recorded(run)
        except FAILURES as error:
            raise NotOpened(recording.failed or reason_of(error)) from error
        return Run(recording, tensors, masks, captured, batch)

    @staticmethod
    def _each(several: Sequence[Sequence[Any]]) -> list[tuple[Any, ...]]:
        if len({len(one) for one in several}) > 1:
            raise NotOpened(BY_SAMPLES)
        return list(zip(*several, strict=True))

    # Nodes -------------------------------------------------------------------------------------------------------------

    def _know(self, value: Value, tensors: Sequence[Any], mask: Any = None) -> None:
        """Keeps under which value the tensors of the runs stand."""
        self.values.update(dict.fromkeys(map(id, tensors), value))
        self.specs[value] = spec_of(tensors, self.runs, mask)
        self.carried[value] = None if mask is None else id(mask)

    def _add(
        self,
        name: str,
        called: Any,
        inputs: tuple[Value, ...],
        arguments: Any,
        outputs: Sequence[Sequence[Any]],
        *,
        masks: Sequence[Any] | None = None,
        closed: str = "",
    ) -> Node:
        """Adds a node; `outputs` has, for each, its tensors in the runs, and `masks` its mask in the first."""
        masks = [None] * len(outputs) if masks is None else masks
        node = Node(
            name=self._name(name),
            operation=called,
            inputs=inputs,
            arguments=arguments,
            input_specs=tuple(self.specs[value] for value in inputs),
            output_specs=tuple(spec_of(each, self.runs, mask) for each, mask in zip(outputs, masks, strict=True)),
            closed=closed,
        )
        self.nodes.append(unwrapped(node))
        for value, tensors, mask in zip(node.values, outputs, masks, strict=True):
            self._know(value, tensors, mask)
        return node

    def _step(self, steps: Sequence[Step]) -> None:
        first, inputs = steps[0], []
        arguments = [step.arguments for step in steps]
        places_in(arguments, lambda tensors: inputs.append(self._value(tensors)), lambda leaves: None)
        counted = counted_by([self.specs[value].samples for value in inputs])
        places = itertools.count()
        merged = places_in(
            arguments, lambda tensors: Slot(next(places)), lambda leaves: argument(leaves, self.runs, counted)
        )
        if first.seen is not None:
            inputs = [self._with(value, mask) for value, mask in zip(inputs, first.seen, strict=True)]
        called = repaired(operation([step.operation for step in steps], self.runs, counted))
        outputs = self._each([step.outputs for step in steps])
        if _changes_nothing(first, self.specs[inputs[0]] if len(inputs) == 1 else None):
            self.values.update(dict.fromkeys(map(id, outputs[0]), inputs[0]))
            return
        # Keras takes lists for tuples; a node's arguments are a tuple and a dict.
        name = self._prefix(first.place) + self._called(first.operation)
        self._add(
            name, called, tuple(inputs), (tuple(merged[0]), merged[1]), outputs, masks=first.masks, closed=first.closed
        )

    def _value(self, tensors: Sequence[Any]) -> Value:
        value = self.values.get(id(tensors[0]))
        if value is None or any(self.values.get(id(one)) != value for one in tensors):
            raise NotOpened("its call uses a symbolic tensor from elsewhere")
        return value

    def _with(self, value: Value, mask: Any) -> Value:
        """The value with the mask that a layer saw on it; composites leave masks, and take them off."""
        key = value, None if mask is None else id(mask)
        if key[1] == self.carried[value]:
            return value
        if key not in self.masked:
            if mask is not None and id(mask) not in self.values:
                raise NotOpened("a mask in its call comes from elsewhere")
            called: Any = DropMask() if mask is None else LeaveMask()
            inputs: tuple[Value, ...] = (value,) if mask is None else (value, self.values[id(mask)])
            spec = dataclasses.replace(self.specs[value], mask=None if mask is None else self.specs[inputs[1]].shape)
            node = Node(
                name=self._name(f"{value.node}/{'bare' if mask is None else 'mask'}"),
                operation=called,
                inputs=inputs,
                arguments=(tuple(map(Slot, range(len(inputs)))), {}),
                input_specs=tuple(self.specs[one] for one in inputs),
                output_specs=(spec,),
            )
            self.nodes.append(node)
            self.masked[key] = made = node.values[0]
            self.specs[made], self.carried[made] = spec, key[1]
        return self.masked[key]

    def _outputs(self) -> tuple[Value, ...]:
        outputs = []
        for tensors in self._each([keras.tree.flatten(run.recording.outputs) for run in self.runs]):
            if is_symbolic(tensors[0]):
                outputs.append(self._with(self._value(tensors), mask_of(tensors[0])))
            elif keras.ops.is_tensor(tensors[0]):
                outputs.append(self._source(tensors))
            elif tensors[0] is not None:
                raise NotOpened("it gives something else than tensors")
        return tuple(outputs)

    def _source(self, tensors: Sequence[Any]) -> Value:
        """What the call gives though it depends on no input. What has rows by the samples counts them by what comes in."""
        counted = counted_by([self.specs[value].samples for value in self.call.inputs])
        inputs = (self.call.inputs[counted.index],) if counted else ()
        content = argument(tensors, self.runs, dataclasses.replace(counted, index=0) if counted else None)
        inputs = inputs if getattr(content, "by_batch", False) else ()
        return self._add(f"{self.prefix}weights", Source(), inputs, ((content,), {}), [tensors]).values[0]

    def _prune(self, outputs: tuple[Value, ...]) -> None:
        needed, kept = set(outputs), []
        for node in reversed(self.nodes):
            if needed.intersection(node.values):
                needed.update(node.inputs)
                kept.append(node)
        self.nodes = kept[::-1]

    # Names -------------------------------------------------------------------------------------------------------------

    def _wholes(self, wholes: Sequence[tuple[Any, ...]]) -> dict[str, Value]:
        made = {*self.call.inputs, *(value for node in self.nodes for value in node.values)}
        found = {}
        for first, *_ in wholes:
            value = next((self.values.get(id(one)) for one in first.outputs), None)
            if first.place in self.names and value in made:
                found[self.names[first.place][:-1]] = value
        return found

    def _prefix(self, place: Place) -> str:
        """What the names of what is called at a place begin with."""
        if place.is_outermost or place.outer is None:
            return self.prefix
        if place not in self.names:
            self.names[place] = self._name(self._prefix(place.outer) + self._called(place.operation)) + "/"
        return self.names[place]

    def _called(self, called: Any) -> str:
        if isinstance(called, keras.Layer) and id(called) in self.model.layers:
            return called.name
        # Keras counts what is made anew at each call, in its name.
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(called).__name__).lower()

    def _name(self, name: str) -> str:
        self.calls[name] += 1
        return name if self.calls[name] == 1 else f"{name}#{self.calls[name]}"


def _changes_nothing(step: Step, spec: Spec | None) -> bool:
    """Whether a step only makes sure that a tensor is one, or has the dtype that it has."""
    if spec is None or type(step.operation).__module__ != "keras.src.ops.core":
        return False
    same = len(step.outputs) == 1 and keras.backend.standardize_dtype(step.outputs[0].dtype) == spec.dtype
    return type(step.operation).__name__ in ("ConvertToTensor", "Cast") and same


def _is_kept(layer: Any, arguments: Any, outputs: Any, steps: Sequence[Step]) -> bool:
    """Whether a call within another is better known as one step."""
    inputs = [leaf for leaf in keras.tree.flatten(arguments) if is_symbolic(leaf)]
    outputs = keras.tree.flatten(outputs)
    if len(inputs) != 1 or len(outputs) != 1 or not is_symbolic(outputs[0]):
        return False
    specs = [Spec((None, *one.shape[1:]), one.dtype) for one in (inputs[0], outputs[0])]
    slotted = keras.tree.map_structure(lambda leaf: Slot(0) if is_symbolic(leaf) else leaf, arguments)
    node = Node(layer.name, layer, (Value("x"),), slotted, (specs[0],), (specs[1],))
    return is_known_whole(node, [step.operation for step in steps])
