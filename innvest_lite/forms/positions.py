"""Where the positions of an input lie in the values that are computed from it: along which axes, and for how long.

Comes in: a graph and one of its inputs. Goes out: `Value` -> `Places`. Called by the class activation maps, which draw a
value over the input. Padding, strides and pooling change how many positions there are, not along which axis they lie.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from innvest_lite import backend
from innvest_lite.forms.base import Form, LinearForm
from innvest_lite.forms.inputs import spatial_axes
from innvest_lite.graph import Graph, Node, Spec, Value, all_layers
from innvest_lite.graph.arguments import Given, StandIn, leaves_of
from innvest_lite.graph.behaviour import FAILURES, evaluated
from innvest_lite.graph.steps import Fold, Unfold


@dataclasses.dataclass(frozen=True)
class Places:
    """Along which axes of a value the positions of an input lie.

    Attributes:
        axes: for each axis of the value, the input's positions that lie along it, the slowest first; an image has the
            positions 0 (down) and 1 (across). Of a value whose rows and columns were made one axis, (0, 1).
        sizes: how many of each position there were when some were made one axis.
    """

    axes: tuple[tuple[int, ...], ...]
    sizes: Mapping[int, int] = dataclasses.field(default_factory=dict)

    @property
    def positions(self) -> tuple[int, ...]:
        """The axes with positions."""
        return tuple(axis for axis, here in enumerate(self.axes) if here)

    @property
    def channels(self) -> tuple[int, ...]:
        """All other axes but the batch."""
        return tuple(axis for axis, here in enumerate(self.axes) if axis and not here)


LOST = None
"""Of values that may hold positions, of which nobody knows where."""
_GONE = Places(())

_ATTENTION = (
    *(keras.layers.MultiHeadAttention, keras.layers.GroupQueryAttention),
    *(keras.layers.Attention, keras.layers.AdditiveAttention),
)
_PICKING = ("Take", "TakeAlongAxis", "Slice")
_RESHAPING = ("Reshape", "Flatten", "Ravel", "Squeeze", "ExpandDims")
_REDUCTIONS = ("Sum", "Mean", "Max", "Amax", "Min", "Amin", "Logsumexp")
_ALONG_AN_AXIS = ("Concatenate", "Append", "Split")
# What moves values along or between axes, as NumPy does it.
_MOVING = {
    "Permute": lambda node, array: array.transpose(0, *node.operation.dims),
    "Transpose": lambda node, array: np.transpose(array, node.operation.axes),
    "Moveaxis": lambda node, array: np.moveaxis(array, node.operation.source, node.operation.destination),
    "Swapaxes": lambda node, array: np.swapaxes(array, node.operation.axis1, node.operation.axis2),
    "Flip": lambda node, array: np.flip(array, node.operation.axis),
    "Roll": lambda node, array: np.roll(array, node.operation.shift, node.operation.axis),
    "GetItem": lambda node, array: array[_key(node)],
}


def places_of_input(graph: Graph, spec: Spec) -> Places:
    """Where the positions of an input lie in itself; of a table or of tokens, along the only axis."""
    positions, _ = spatial_axes(graph, len(spec.shape))
    return Places(tuple((positions.index(axis),) if axis in positions else () for axis in range(len(spec.shape))))


def places_of(
    graph: Graph, forms: Mapping[str, Form], source: Value, places: Places | None = None
) -> dict[Value, Places | None]:
    """Where the positions of an input, or of a value, lie in all values that are computed from it.

    Args:
        graph: a `Graph`.
        forms: node name -> form.
        source: one of its inputs, or with `places` any value.
        places: where the positions lie in `source`; None: where those of an input do.

    Returns:
        `Value` -> `Places`, or LOST where the value may hold positions that could not be followed. Values are left out
        that do not depend on the input, or whose positions were pooled, or mixed with channels, or that hold only a part
        of them.
    """
    found: dict[Value, Places | None] = {source: places or places_of_input(graph, graph.spec(source))}
    for node in graph.nodes:
        taken = [found.get(value, _GONE) for value in node.inputs]
        if all(places is _GONE for places in taken):
            continue
        for value, spec in zip(node.values, node.output_specs, strict=True):
            places = _GONE if spec.dtype == "bool" else _followed(node, forms[node.name], taken, spec)
            if places is not _GONE:
                found[value] = places
    return found


def _followed(node, form, taken, spec):
    name = type(node.operation).__name__ if is_keras(node.operation) else ""
    if isinstance(node.operation, Fold | Unfold):
        return LOST
    if name == "DotProductAttention" or (name and isinstance(node.operation, _ATTENTION)):
        # Its output stands where its queries do; keys and values are pooled.
        taken = taken[:1]
    if name in ("Einsum", "Matmul") and len(taken) == 2:
        return _multiplied(node, taken)
    if name == "Softmax" and len(taken) == 2:
        # What is masked stays where it is.
        taken = taken[:1]
    known = [(places, given) for places, given in zip(taken, node.input_specs, strict=False) if places and places.axes]
    beside = form.kind in ("sum", "product", "max", "route")
    if not known or (LOST in taken and not beside):
        return LOST if LOST in taken and len(spec.shape) > 2 else _GONE
    places, given = max(known, key=lambda each: len(each[1].shape))
    if any(other.axes != places.axes for other, _ in known):
        return _broadcast(known, spec.shape) if beside else LOST
    if name == "Stack":
        return _stacked(node, places, len(spec.shape))
    if form.kind == "embedding":
        return Places((*places.axes, ()), places.sizes)
    if name in _RESHAPING or _reshapes_by_samples(node.operation):
        return _regrouped(places, given.shape[1:], spec.shape[1:])
    if name in _PICKING:
        return LOST
    if name in _MOVING:
        return _moved(node, places, given.shape, spec.shape)
    equation = getattr(node.operation, "equation", "") if form.kind == "linear" else ""
    if equation and "." not in equation:
        return _by_letters(equation, places)
    moves = form.kind == "route" and len(node.inputs) == len(node.values) == 1
    if not name and moves and len(spec.shape) != len(given.shape) and (tiled := _tiled(node, places, given, spec)):
        return tiled
    if name in _REDUCTIONS and len(spec.shape) < len(places.axes) and _are_pairs(places):
        return _reduced(node, places)
    if len(spec.shape) != len(places.axes):
        return _GONE if len(spec.shape) < len(places.axes) and not _hides_layers(node.operation) else LOST
    return _kept(node, form, places, given.shape, spec.shape)


def _reshapes_by_samples(operation):
    """Whether an operation reshapes to a shape that counts the samples, as `(ops.shape(x)[0], -1, 8)` does."""
    inner = operation.operation if isinstance(operation, StandIn) else None
    return is_keras(inner) and type(inner).__name__ in _RESHAPING


def _by_letters(equation, places):
    """Of an EinsumDense layer: positions stay along the axes whose letters it keeps."""
    taken, output = re.match(r"(\w+),\w+->(\w+)", equation.replace(" ", "")).groups()
    axes = dict(zip(taken, places.axes, strict=True))
    kept = tuple(axes.get(letter, ()) for letter in output)
    return Places(kept, places.sizes) if any(kept) else _GONE


def _multiplied(node, taken):
    """Of a sum of products of two values: positions stay along the axes that are not summed over."""
    ranks = [len(spec.shape) for spec in node.input_specs]
    operands, output = letters_of(node, ranks)
    if LOST in taken or operands is None:
        return LOST if len(output or operands or "abc") > 2 else _GONE
    along: dict[str, tuple[int, ...]] = {}
    for letters, places in zip(operands, taken, strict=True):
        for letter, here in zip(letters, places.axes, strict=False):
            if here and along.setdefault(letter, here) != here:
                return LOST
    axes = tuple(along.get(letter, ()) for letter in output)
    sizes = {place: size for places in taken for place, size in places.sizes.items()}
    return Places(axes, sizes) if any(axes) else _GONE


def letters_of(node: Node, ranks: Sequence[int]) -> tuple[tuple[str, ...] | None, str]:
    """The axes of a matrix product or an einsum of two tensors, a letter each.

    Args:
        node: the product's `Node`.
        ranks: how many axes each operand has.

    Returns:
        `((one operand's letters, the other's), the output's)`; the pair is None where the equation does not say them.
    """
    if type(node.operation).__name__ == "Matmul":
        if min(ranks) < 2:
            return None, ""
        alphabet = "abcdefgh"[: max(ranks) - 2]
        leading = [alphabet[len(alphabet) - rank + 2 :] for rank in ranks]
        return (leading[0] + "xy", leading[1] + "yz"), alphabet + "xz"
    equation = node.operation.subscripts.replace(" ", "")
    if "->" not in equation or "." in equation:
        return None, ""
    operands, output = equation.split("->")
    return tuple(operands.split(",")), output


def _broadcast(known, shape):
    """Of values that are added or multiplied, each with positions where others have a single one."""
    axes: list[tuple[int, ...]] = [()] * len(shape)
    for places, spec in known:
        first = len(shape) - len(spec.shape)
        for axis, here in enumerate(places.axes, start=first):
            if here and axes[axis] not in ((), here):
                return LOST
            axes[axis] = axes[axis] or here
    for places, spec in known:
        first = len(shape) - len(spec.shape)
        for axis, here in enumerate(places.axes, start=first):
            if axes[axis] and not here and spec.shape[axis - first] != 1:
                return LOST
    return Places(tuple(axes), {one: size for places, _ in known for one, size in places.sizes.items()})


def _are_pairs(places):
    """Whether a value has a number for each pair of positions, as scores of attention do."""
    here = [one for axis in places.axes for one in axis]
    return len(here) > len(set(here))


def _reduced(node, places):
    """Of what sums pairs' channels, as additive attention does."""
    given = node.operation.axis
    rank = len(places.axes)
    gone = {axis % rank for axis in (range(rank) if given is None else [given] if isinstance(given, int) else given)}
    if gone.intersection(places.positions):
        return _GONE
    return Places(tuple(here for axis, here in enumerate(places.axes) if axis not in gone), places.sizes)


def _tiled(node, places, given, spec):
    """Of what cuts a picture in patches in a way of its own: where the numbers of its positions come out; else None.

    A position lies along the axis at each place of which its numbers are nearer to one another than to the next place's.
    """
    if None in (*given.shape[1:], *spec.shape[1:]) or any(len(here) > 1 for here in places.axes):
        return None
    along: dict[int, dict[int, np.ndarray]] = {}
    for axis in places.positions:
        numbers = np.arange(float(given.shape[axis])).reshape([-1 if one == axis else 1 for one in range(len(given.shape))])
        try:
            with backend.eagerly():
                numbers = evaluated(lambda x: node.call(x)[0], given.dtype, np.broadcast_to(numbers, (1, *given.shape[1:])))
        except FAILURES:
            return None
        found = [(now, index) for now in range(1, numbers.ndim) if (index := _places_along(numbers, now)) is not None]
        if len(found) != 1:
            return None
        along.setdefault(found[0][0], {})[places.axes[axis][0]] = found[0][1]
    sizes = {one: int(index.max()) + 1 for here in along.values() for one, index in here.items()}
    axes: list[tuple[int, ...]] = [()] * len(spec.shape)
    for now, here in along.items():
        axes[now] = tuple(sorted(here))
        grid = np.indices([sizes[one] for one in axes[now]]).reshape(len(here), -1)
        if not np.array_equal(grid, [here[one] for one in axes[now]]):
            return None
    return Places(tuple(axes), sizes)


def _places_along(numbers, axis):
    """The place of each entry of an axis among those of different numbers; None where these do not rise along it."""
    rows = np.moveaxis(numbers, axis, 0).reshape(numbers.shape[axis], -1)
    middles, index = np.unique(rows.mean(1), return_inverse=True)
    steps = np.diff(middles)
    return index if len(steps) and np.allclose(steps, steps[0]) and np.ptp(rows, axis=1).max() < steps[0] else None


def _kept(node, form, places, before, after):
    """Of what keeps the axes: positions stay, unless a dense layer mixes them."""
    if pools_everything(node.operation) and all(after[axis] == 1 for axis in places.positions):
        return _GONE
    if form.kind == "linear" and isinstance(form, LinearForm) and set(form.unit_axes) & set(places.positions):
        return _GONE
    if any(len(places.axes[axis]) > 1 and after[axis] != before[axis] for axis in places.positions):
        return LOST
    along = node.operation.axis if type(node.operation).__name__ in _ALONG_AN_AXIS else None
    return LOST if isinstance(along, int) and along % len(after) in places.positions else places


def _regrouped(places, before, after):
    """Of what reads the same numbers in the same order with other axes."""
    if None in before or None in after:
        return LOST if len(after) > 1 else _GONE
    if math.prod(before) != math.prod(after):
        # Samples are cut, as in windows.
        return LOST
    if len(before) == 1 and max(after) < before[0]:
        # Of a flat input nobody knows which numbers are rows, columns and channels of a picture.
        return LOST
    sizes, parts, axes = dict(places.sizes), [], [()]
    for here, size in zip(places.axes[1:], before, strict=True):
        parts += [(sizes[one], one) for one in here] if len(here) > 1 else [(size, here[0] if here else None)]
    parts = [part for part in parts if part[0] > 1]
    for size in after:
        here = []
        while size > 1:
            many, one = parts.pop(0)
            if many > size and not many % size:
                # Of positions that are cut, the coarse ones; the fine ones are channels.
                parts.insert(0, (many // size, None))
                many = size
            if size % many:
                return LOST
            size //= many
            here.append(one)
            if one is not None:
                sizes[one] = many
        if None in here and any(one is not None for one in here):
            return _GONE
        axes.append(() if None in here else tuple(here))
    return Places(tuple(axes), sizes) if any(axes) else _GONE


def _stacked(node, places, rank):
    """Of values that stand side by side along an axis of their own, such as channels that a preprocessing reorders."""
    axes = list(places.axes)
    axes.insert(node.operation.axis % rank, ())
    return Places(tuple(axes), places.sizes) if axes[0] == () and node.operation.axis % rank else LOST


def _moved(node, places, before, after):
    """Of what moves values: each position's numbers, which must rise along one axis as they did."""
    if len(node.inputs) > 1 or any(isinstance(leaf, Given) for leaf in leaves_of(node.arguments)):
        return LOST
    # What was moved to the front is no axis of samples.
    shape = [2 if before[0] is None else before[0]] + [7 if size is None else size for size in before[1:]]
    axes = [()] * len(after)
    for axis in places.positions:
        numbers = np.arange(shape[axis]).reshape([-1 if other == axis else 1 for other in range(len(shape))])
        moved = _MOVING[type(node.operation).__name__](node, np.broadcast_to(numbers, shape))
        for now in range(moved.ndim):
            steps = np.diff(moved[tuple(slice(None) if other == now else slice(1) for other in range(moved.ndim))].ravel())
            if np.any(steps <= 0) and np.any(steps):
                return LOST
            if np.any(steps):
                axes[now] = places.axes[axis]
    wanted = [places.axes[axis] for axis in places.positions if before[axis] != 1]
    if sorted(filter(None, axes)) != sorted(wanted):
        return LOST
    return Places(tuple(axes), places.sizes) if wanted else _GONE


def _key(node):
    (_, *rest), named = node.arguments
    key = named.get("key", *rest)
    return tuple(key) if isinstance(key, list) else key


def is_keras(operation: Any) -> bool:
    """Whether a layer or an operation is of a class of Keras's own."""
    return type(operation).__module__.startswith("keras.src.")


def pools_everything(operation: Any) -> bool:
    """Whether a layer or an operation takes one number of all positions, whatever their number."""
    name = type(operation).__name__
    return is_keras(operation) and (name in _REDUCTIONS or name.startswith(("Global", "Adaptive")))


def _hides_layers(operation: Any) -> bool:
    """Whether feature maps may be computed inside a layer: it is made of others with weights, or has kernels of its own."""
    if not isinstance(operation, keras.Layer) or (is_keras(operation) and not _applies_another(operation)):
        return False
    return any(layer.weights for layer in all_layers(operation)) or any(len(w.shape) > 2 for w in operation.weights)


def _applies_another(operation):
    return isinstance(operation, keras.layers.TimeDistributed)
