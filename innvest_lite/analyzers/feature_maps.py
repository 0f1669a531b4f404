"""Which feature maps a class activation map looks at, and over which input it is drawn. Called by `cam`.

By data flow: the last value that still has positions and behind which nothing has, which is what the network's last
pooling over positions takes, be it a layer, a mean, or a Flatten.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Mapping

import keras

from innvest_lite.errors import InvalidInputError, UnsupportedLayerError
from innvest_lite.forms import Form, LinearForm, forms_of
from innvest_lite.forms.inputs import MASK
from innvest_lite.forms.positions import LOST, Places, is_keras, places_of, places_of_input, pools_everything
from innvest_lite.forms.windows import windows_of
from innvest_lite.graph import Graph, Node, Value
from innvest_lite.inputs import InputSpec

_log = logging.getLogger("innvest_lite")


@dataclasses.dataclass(frozen=True, eq=False)
class FeatureMaps:
    """A value, and how it lies over an input.

    Attributes:
        value: the feature maps in the graph.
        name: of the layer that hands them on.
        places: where the input's positions lie in the value.
        input: the number of the input.
        over: where the input's positions lie in itself.
        windows: for each position of the input, the part that a network that begins with a crop looks at, from 0 to 1.
    """

    value: Value
    name: str
    places: Places
    input: int
    over: Places
    windows: tuple[tuple[float, float], ...]


def feature_maps(graph: Graph, inputs: InputSpec, layer: str | None, input: str | None, method: str) -> FeatureMaps:
    """The feature maps that a class activation map looks at.

    Args:
        graph: the model's graph, from its inputs to the explained logits.
        inputs: what the model takes.
        layer: the name of the layer whose output they are; None: what the last pooling over positions takes.
        input: the name of the input to draw over; None: the only one whose positions the feature maps have.
        method: the name of the method, for messages.

    Raises:
        UnsupportedLayerError: there are no such feature maps; the message says why, and what to do.
        InvalidInputError: there is no such layer or input, the layer's output has no positions, or several inputs could
            be drawn over.
    """
    if input is not None and input not in inputs.names:
        raise InvalidInputError(f"input={input!r} names no input of the model; they are {', '.join(inputs.names)}.")
    forms, found, problems = forms_of(graph), [], []
    # A map over a mask says nothing, and what is behind it is behind what it hides, too.
    shown = [number for number, kind in enumerate(inputs.kinds) if kind != MASK] or range(len(inputs.names))
    for number in shown if input is None else [inputs.names.index(input)]:
        walk = _Walk(graph, forms, number, inputs.names[number], method)
        try:
            found.append(walk.last() if layer is None else walk.named(layer))
        except _Nowhere as error:
            problems.append((len(inputs.shapes[number]), error.why))
    if not found:
        # Of several inputs, the one that is most like a picture says why.
        raise max(problems, key=lambda problem: problem[0])[1]
    if len(found) > 1:
        names = " or ".join(f"input={inputs.names[maps.input]!r}" for maps in found)
        raise InvalidInputError(f"{method} draws over one input, and this model has several with positions: say {names}.")
    return found[0]


class _Nowhere(Exception):  # noqa: N818 - it does not leave this file
    """There are no feature maps over an input; `why` is the error to raise where no other input has some."""

    def __init__(self, why: Exception) -> None:
        super().__init__(str(why))
        self.why = why


class _Walk:
    """The search along the data flow from one input."""

    def __init__(self, graph: Graph, forms: Mapping[str, Form], number: int, name: str, method: str) -> None:
        self.graph, self.forms, self.number, self.name, self.method = graph, forms, number, name, method
        self.source = graph.inputs[number]
        self.places = places_of(graph, forms, self.source)

    def named(self, layer: str) -> FeatureMaps:
        """The output of a layer."""
        known = {**{node.name: node.values[0] for node in self.graph.nodes}, **self.graph.layer_values}
        inner = [name for name in known if name.endswith(f"/{layer}") and self.graph.producer(known[name]) is not None]
        if layer not in known and len(inner) == 1:
            # In a nested model, which may be said too.
            layer = inner[0]
        if layer not in known or self.graph.producer(known[layer]) is None:
            more = f"; in nested models there are {', '.join(map(repr, inner))}" if inner else ""
            raise InvalidInputError(f"layer={layer!r} names no layer of the model{more}.")
        value = known[layer]
        places, spec = self.places.get(value), self.graph.spec(value)
        if places is LOST and len(spec.shape) == len(self._own().axes) > 2 and self._reaches(value):
            # What the user names is taken to lie as the input does.
            places = self._own()
        if not places or not places.positions or not places.channels:
            raise _Nowhere(
                InvalidInputError(f"The output of {layer!r} has shape {spec.shape}, without the input's positions.")
            )
        return self._maps(value, layer, places)

    def last(self) -> FeatureMaps:
        """What the last pooling over positions takes."""
        self._require_an_end()
        ends: dict[Value, list[Node]] = {}
        for value, node in self._ends():
            ends.setdefault(self._before_pooling(value, node), []).append(node)
        value = self._last_of(list(ends))
        if value == self.source:
            end = ends[value][0]
            raise self._nowhere(f"No feature maps lie between the input {self.name!r} and {end.name!r} ({end.kind})")
        past = [other for other in ends if other != value]
        if past:
            _log.warning(
                "%s looks at the output of %s; what reaches the model's output from %s past it is not in the map.",
                self.method,
                self._name_of(value),
                ", ".join(map(self._name_of, past)),
            )
        if self._is_single(value):
            _log.warning(
                "%s looks at the output of %s, which has a single position for inputs of this size: the map is the same "
                "everywhere.",
                self.method,
                self._name_of(value),
            )
        return self._maps(value, self._name_of(value), self.places[value] or Places(()))

    def _maps(self, value: Value, name: str, places: Places) -> FeatureMaps:
        own = self._own()
        return FeatureMaps(value, name, places, self.number, own, windows_of(self.graph, self.forms, self.source, own))

    def _own(self) -> Places:
        return places_of_input(self.graph, self.graph.spec(self.source))

    def _has(self, value: Value) -> bool:
        places = self.places.get(value)
        return places is not None and bool(places.positions)

    def _reaches(self, value: Value) -> bool:
        return value == self.source or value in self._behind({self.source})

    def _behind(self, values: set[Value]) -> set[Value]:
        """All values that are computed from some."""
        found = set(values)
        for node in self.graph.nodes:
            if found.intersection(node.inputs):
                found.update(node.values)
        return found - values

    def _require_an_end(self) -> None:
        """Refuses outputs that have positions themselves."""
        output = self.graph.outputs[0]
        if self._has(output):
            raise self._nowhere(
                f"The explained output has shape {self.graph.spec(output).shape}, with positions of its own, so that no "
                "pooling ends the feature maps"
            )

    def _ends(self) -> Iterator[tuple[Value, Node]]:
        """The values with positions and the nodes that take them, behind which nothing has positions."""
        ahead: set[str] = set()
        for node in reversed(self.graph.nodes):
            following = [name.name for value in node.values for name in self.graph.consumers.get(value, ())]
            if any(map(self._has, node.values)) or ahead.intersection(following):
                ahead.add(node.name)
        for node in self.graph.nodes:
            masks = all(spec.dtype == "bool" for spec in node.output_specs)
            if node.name in ahead or masks:
                continue
            for value in dict.fromkeys(node.inputs):
                if self._has(value):
                    self._require_nothing_behind(value, node)
                    yield value, node

    def _require_nothing_behind(self, value: Value, node: Node) -> None:
        """Refuses an end behind which there may be feature maps, whose positions cannot be followed."""
        behind = {*node.values, *self._behind(set(node.values))}
        for later in self.graph.nodes:
            if not behind.intersection(later.values):
                continue
            lost = any(made in self.places and self.places[made] is LOST for made in later.values)
            if lost or _convolves(self.forms[later.name]):
                raise self._nowhere(
                    f"Behind {self._name_of(value)!r}, {later.name!r} ({later.kind}) takes some positions alone, or may "
                    "hold feature maps whose positions cannot be followed to the input's"
                )

    def _before_pooling(self, value: Value, end: Node) -> Value:
        """What feature maps a value with positions is: the value itself where `end` pools them.

        Where a network flattens, the last convolution's activation: what the last pooling before that takes. What has a
        single position is pooled, or convolved with a kernel as large as the map. The input where nothing computes any.
        """
        flattens, best = not _pools(self.forms[end.name]), value
        while (node := self.graph.producer(value)) is not None:
            taken = [each for each in node.inputs if self._has(each)]
            pools = (
                self.forms[node.name].kind in ("max", "average") and node.output_specs[0].shape != node.input_specs[0].shape
            )
            single, bare = flattens and self._is_single(value), not self._has_channels(value)
            back = single or bare or (flattens and pools)
            if len(taken) != 1 or not (back or self.forms[node.name].kind == "route"):
                break
            value = taken[0]
            best = value if back else best
            if single and pools and not self._is_single(value):
                break
        return best if self._has_channels(best) and self._is_computed(best) else self.source

    def _is_computed(self, value: Value) -> bool:
        """Whether a value is more than the input, scaled and moved."""
        needed, kinds = {value}, set()
        for node in reversed(self.graph.nodes):
            if needed.intersection(node.values):
                needed.update(node.inputs)
                kinds.add(self.forms[node.name].kind)
        return bool(kinds & {"linear", "opaque", "embedding", "matmul", "softmax", "recurrent"})

    def _has_channels(self, value: Value) -> bool:
        places = self.places[value]
        return places is not None and bool(places.channels)

    def _is_single(self, value: Value) -> bool:
        """Whether a value has one position."""
        places, shape = self.places[value], self.graph.spec(value).shape
        return places is not None and all(shape[axis] == 1 for axis in places.positions)

    def _last_of(self, values: list[Value]) -> Value:
        """The value that is computed from all others."""
        for value in values:
            if all(value in self._behind({other}) for other in values if other != value):
                return value
        if not values:
            raise self._nowhere(f"The explained output does not depend on positions of the input {self.name!r}")
        raise self._nowhere(f"The network pools {', '.join(map(self._name_of, values))} side by side")

    def _name_of(self, value: Value) -> str:
        """The name of the layer that hands a value on; the innermost of nested models and of layers made of others."""
        names = [name for name, given in self.graph.layer_values.items() if given == value]
        node = self.graph.producer(value)
        # What a composite layer ends with, if that is no layer, has the composite's name.
        wholes = [name for name in names if value.node.startswith(f"{name}/")]
        if node is not None and not isinstance(node.operation, keras.Layer) and wholes:
            return max(wholes, key=len)
        return value.node if value.node in names or not names else names[0]

    def _nowhere(self, why: str) -> _Nowhere:
        found = f"{self.method} looks at what the last pooling over positions takes, and found none: {why}."
        advice = "Name a layer whose output has the input's positions: layer=..."
        if not any(map(self._has_maps, self.graph.nodes)):
            advice = "No layer has feature maps, positions and channels: take gradient or lrp.epsilon for such a network."
        return _Nowhere(UnsupportedLayerError(f"{found} {advice}"))

    def _has_maps(self, node: Node) -> bool:
        """Whether a node hands on feature maps that `layer=` could name."""
        return any((places := self.places.get(value)) and places.positions and places.channels for value in node.values)


def _pools(form: Form) -> bool:
    """Whether a node that ends positions takes a mean, a maximum or the like of them, as global pooling does."""
    operation = form.node.operation
    return form.kind in ("average", "max") or pools_everything(operation) or not is_keras(operation)


def _convolves(form: Form) -> bool:
    """Whether a node is a convolution with more than one position."""
    if form.kind != "linear" or not isinstance(form, LinearForm) or len(form.kernel_shape) < 3:
        return False
    shape = form.node.output_specs[0].shape
    return any(size != 1 for axis, size in enumerate(shape) if axis and axis not in form.unit_axes)
