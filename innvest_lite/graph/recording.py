"""Watching a layer's `call` on symbolic tensors: which layers and operations it calls, in order, and with what.

Comes in: a layer or model made of Keras layers and `keras.ops`, and symbolic arguments. Goes out: a `Recording`, from which
`opening` makes nodes. Keras's own `__call__` still does its part of each call (dtypes, masks, training, building), so that
what is recorded is what the layer does.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

from innvest_lite import backend
from innvest_lite.graph.arguments import Weight
from innvest_lite.graph.attention import attention, is_fused_attention
from innvest_lite.graph.behaviour import FAILURES
from innvest_lite.graph.masks import mask_of
from innvest_lite.scoped import Scoped

_watched = Scoped()
# Keras is changed for the time of a recording; of two in two threads, one would put back the other's changes.
_one_at_a_time = threading.RLock()


@dataclasses.dataclass(frozen=True, eq=False)
class Place:
    """Where something is called: inside the call of a composite layer, which stands inside others.

    Attributes:
        operation: the composite; None outside of all.
        outer: the `Place` of its own call; None outside of all.
    """

    operation: Any = None
    outer: Place | None = None

    @property
    def is_outermost(self) -> bool:
        """Whether it is the call that is looked into, or outside of it."""
        return self.outer is None or self.outer.operation is None


@dataclasses.dataclass(frozen=True, eq=False)
class Step:
    """One call of a layer or an operation that was not looked into.

    Attributes:
        operation: what was called.
        arguments: `(args, kwargs)`, with symbolic tensors and tensors among them, a `Weight` in place of each variable.
        outputs: the symbolic tensors that it gave, flat.
        masks: the mask of each as it was then; some layers take the masks off what they are given.
        place: in whose call.
        seen: of a layer, for each symbolic tensor among the arguments the mask that it had; None: of an operation, which
            sees no masks.
        closed: why a composite was not looked into; "" for all else.
    """

    operation: Any
    arguments: tuple[tuple[Any, ...], dict[str, Any]]
    outputs: list[Any]
    masks: list[Any]
    place: Place
    seen: list[Any] | None = None
    closed: str = ""


@dataclasses.dataclass(frozen=True, eq=False)
class Whole:
    """A composite that was looked into.

    Attributes:
        place: its own.
        outputs: the symbolic tensors that it gave, flat.
    """

    place: Place
    outputs: list[Any]


class Recording:
    """What one outermost call did.

    Args:
        opens: a function of a layer: whether its `call` is looked into. The outermost is.
        keeps: a function of a call inside, `(layer, arguments, outputs, steps)`, with the steps that it consists of:
            whether it is better known as one.
        touch: is told of each layer before it is called.

    Attributes:
        steps: each `Step`, in the order in which they ended.
        wholes: each `Whole`, likewise.
        outputs: what the outermost call gave, in its structure.
        failed: why the outermost call raised; "" where it did not.
    """

    def __init__(self, opens: Callable[[Any], bool], keeps: Callable[..., bool], touch: Callable[[Any], None]) -> None:
        self.steps: list[Step] = []
        self.wholes: list[Whole] = []
        self.outputs: Any = None
        self.failed = ""
        self._opens, self._keeps, self._touch, self._place = opens, keeps, touch, Place()
        # Of the calls that are being made, by the layer's `id`: why one is not looked into; of others what they gave.
        self._closed: dict[int, str] = {}
        self._opened: dict[int, tuple[Any, ...]] = {}

    def run(self, operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Calls a layer or model and writes down what it does; raises what its `call` raises."""
        with _one_at_a_time, _changed_keras(), _watched.holds(self), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.outputs = operation(*args, **kwargs)

    # What Keras is changed to call --------------------------------------------------------------------------------------

    def called(self, layer: Any, call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A layer is called with symbolic tensors; `call` is Keras's own `__call__`."""
        self._touch(layer)
        seen = [mask_of(leaf) for leaf in keras.tree.flatten((args, kwargs)) if is_symbolic(leaf)]
        outputs = call(layer, *args, **kwargs)
        if id(layer) in self._opened:
            place, given, tensors = self._opened.pop(id(layer))
            self.wholes.append(Whole(place, tensors))
            return given
        self._note(layer, (args, kwargs), outputs, seen, self._closed.pop(id(layer), ""))
        return outputs

    def inferred(self, layer: Any, infer: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The inside of a layer's call: looked into, or only asked for the shapes of what it gives."""
        outer = self._place
        if outer.operation is not None and not self._opens(layer):
            return self._shapes(layer, infer, args, kwargs)
        steps, wholes = len(self.steps), len(self.wholes)
        place = self._place = Place(layer, outer)
        try:
            outputs = layer.call(*args, **kwargs)
        except FAILURES as error:
            if place.is_outermost:
                self.failed = reason_of(error)
                raise
            del self.steps[steps:], self.wholes[wholes:]
            self._closed[id(layer)] = reason_of(error)
            return self._shapes(layer, infer, args, kwargs)
        finally:
            self._place = outer
        if not place.is_outermost and self._is_kept(layer, (args, kwargs), outputs, self.steps[steps:]):
            del self.steps[steps:], self.wholes[wholes:]
            return outputs
        tensors = [one for one in keras.tree.flatten(outputs) if is_symbolic(one)]
        self._opened[id(layer)] = place, outputs, tensors
        # Keras only takes symbolic tensors for outputs, though a `call` may give None, or what depends on weights alone.
        return outputs if len(tensors) == len(keras.tree.flatten(outputs)) else tensors

    def operated(self, operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """An operation is called with symbolic tensors."""
        if is_fused_attention(operation):
            steps, outer = len(self.steps), self._place
            self._place = Place(operation, outer)
            try:
                return attention(operation, args, kwargs)
            except FAILURES:
                # Where sizes are open, it stays one step.
                del self.steps[steps:]
            finally:
                self._place = outer
        with _watched.holds(None):
            try:
                outputs = operation.compute_output_spec(*args, **kwargs)
            except ValueError:
                # Keras refuses what TensorFlow computes, such as the kernels of grouped convolutions.
                outputs = backend.shapes_of(operation.call, args, kwargs)
        self._note(operation, (args, kwargs), outputs)
        return outputs

    def _is_kept(self, layer, arguments, outputs, steps):
        with _watched.holds(None):
            return self._keeps(layer, arguments, outputs, steps)

    def _shapes(self, layer, infer, args, kwargs):
        """The symbolic tensors that a layer gives, as Keras infers them; where it forgets sizes, as TensorFlow does."""
        with _watched.holds(None):
            outputs = infer(layer, *args, **kwargs)
            if _has_open_sizes(outputs) and not _has_open_sizes((args, kwargs)):
                outputs = backend.shapes_of(layer.call, args, kwargs)
        return outputs

    def _note(self, operation, arguments, outputs, seen=None, closed=""):
        flat = [one for one in keras.tree.flatten(outputs) if is_symbolic(one)]
        self.steps.append(
            Step(
                operation,
                keras.tree.map_structure(_read, arguments),
                flat,
                list(map(mask_of, flat)),
                self._place,
                seen,
                closed,
            )
        )


def _read(leaf):
    """A leaf of the arguments; in the scope of the caller, which says to what dtype variables are cast."""
    if isinstance(leaf, keras.Variable):
        return Weight(leaf, keras.backend.standardize_dtype(keras.ops.convert_to_tensor(leaf).dtype))
    if not keras.ops.is_tensor(leaf):
        return leaf
    tensor = keras.ops.convert_to_tensor(leaf)
    known = backend.known(tensor)
    return tensor if known is None else known


def reason_of(error: BaseException) -> str:
    """What a user's code raised on tensors without values, as the end of a sentence of one line."""
    if any(words in str(error) for words in _OF_OTHERS):
        return "its call uses functions of TensorFlow or NumPy in place of keras.ops"
    return f"its call raises, on tensors without values, {said(error)}"


_OF_OTHERS = ("cannot be used as input to a TensorFlow function", "convert it to a NumPy array")


def said(error: BaseException) -> str:
    """An error in one line."""
    text = str(error).strip().splitlines()
    return type(error).__name__ + (f": {text[0][:200]}" if text else "")


def is_symbolic(leaf: Any) -> bool:
    """Whether something is a tensor of Keras's without a value."""
    return isinstance(leaf, keras.KerasTensor)


def _has_open_sizes(structure):
    return any(is_symbolic(leaf) and None in leaf.shape for leaf in keras.tree.flatten(structure))


_OPERATORS = tuple(
    f"__{name}__"
    for name in (*("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul"), *("lt", "le", "gt", "ge"))
)


@contextlib.contextmanager
def _changed_keras() -> Iterator[None]:
    """For a time, calls of layers and operations in this thread go to the recording that watches it."""
    call, infer, operate = keras.Layer.__call__, keras.Layer.symbolic_call, keras.Operation.symbolic_call
    add_loss = keras.Layer.add_loss

    def layer_call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        by = _watched.value
        if by is None or not any(map(is_symbolic, keras.tree.flatten((args, kwargs)))):
            return call(layer, *args, **kwargs)
        return by.called(layer, call, args, kwargs)

    def layer_infer(layer: Any, *args: Any, **kwargs: Any) -> Any:
        by = _watched.value
        return infer(layer, *args, **kwargs) if by is None else by.inferred(layer, infer, args, kwargs)

    def operation_symbolic(operation: Any, *args: Any, **kwargs: Any) -> Any:
        by = _watched.value
        return operate(operation, *args, **kwargs) if by is None else by.operated(operation, args, kwargs)

    def layer_add_loss(layer: Any, loss: Any) -> None:
        # Keras takes no symbolic tensors for losses, which are no part of what a layer gives.
        if _watched.value is None or not any(map(is_symbolic, keras.tree.flatten(loss))):
            add_loss(layer, loss)

    reflected = tuple(f"__r{name[2:]}" for name in _OPERATORS if hasattr(keras.KerasTensor, f"__r{name[2:]}"))
    changed = [
        (keras.Layer, "__call__", layer_call),
        (keras.Layer, "symbolic_call", layer_infer),
        (keras.Operation, "symbolic_call", operation_symbolic),
        *((keras.Variable, name, _left_to_the_other(getattr(keras.Variable, name))) for name in _OPERATORS),
        # Else NumPy, as the first of two, asks a symbolic tensor for values.
        (keras.KerasTensor, "__array_ufunc__", None),
        *((keras.KerasTensor, name, _with_numbers(getattr(keras.KerasTensor, name))) for name in (*_OPERATORS, *reflected)),
        (keras.Layer, "add_loss", layer_add_loss),
    ]
    before = [(owner, name, name in vars(owner), vars(owner).get(name)) for owner, name, _ in changed]
    filtered = keras.config.is_traceback_filtering_enabled()
    # Else Keras writes its own words around those of what a call raises.
    keras.config.disable_traceback_filtering()
    for owner, name, method in changed:
        setattr(owner, name, method)
    try:
        yield
    finally:
        for owner, name, had, method in before:
            setattr(owner, name, method) if had else delattr(owner, name)
        if filtered:
            keras.config.enable_traceback_filtering()


def _with_numbers(method):
    """TensorFlow takes NumPy's numbers for numbers of the tensor's dtype, where Keras takes them for float64."""

    def operate(tensor: Any, other: Any) -> Any:
        return method(tensor, other.astype(tensor.dtype) if isinstance(other, np.generic | np.ndarray) else other)

    return operate


def _left_to_the_other(method):
    """Keras's variables, as the first of two, only take tensors that have values; a symbolic tensor takes variables."""

    def operate(variable: Any, other: Any) -> Any:
        return NotImplemented if is_symbolic(other) else method(variable, other)

    return operate
