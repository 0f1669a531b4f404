"""What is explained: a target in the user's words becomes weights on the model's outputs.

In: `target=`, as `Analyzer.analyze` and the measures take it. Out: weights in the shape of the output. Called by the
analyzers, through their `Explainer`, and by the measures.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from keras import ops

from innvest_lite import backend
from innvest_lite.errors import InvalidInputError
from innvest_lite.forms import Form
from innvest_lite.forms.inputs import class_axis
from innvest_lite.functions import refuse_function
from innvest_lite.graph import Graph
from innvest_lite.graph.recognized import is_sigmoid
from innvest_lite.options import as_array, fits

SELECTION_MODES = ("max_activation", "index", "all")


@dataclasses.dataclass(frozen=True)
class Unit:
    """iNNvestigate's `neuron_selection`: the number of a unit, where a target would be that of a class."""

    number: Any


@dataclasses.dataclass(frozen=True, eq=False)
class Asked:
    """What a target asks for; one of these.

    Attributes:
        everything: the sum of all outputs.
        classes: whole numbers (samples,) or one for all: these classes, or units.
        units: whether `classes` are numbers of units.
        region: of dense outputs, where they are summed: booleans, or a tuple of ints, one position; None: where each wins.
        weights: weights in the shape of the output.
    """

    everything: bool = False
    classes: Any = None
    units: bool = False
    region: Any = None
    weights: Any = None


@dataclasses.dataclass(frozen=True)
class Targets:
    """What may be explained of an output.

    Attributes:
        shape: the output's shape, batch first, None where it may vary.
        mode: what is explained where nobody says, a word of `SELECTION_MODES` (iNNvestigate's `neuron_selection_mode`).
        two_classes: whether a single unit behind a sigmoid stands for two classes: 1, whose logit is the unit's z, and 0,
            whose logit is -z.
        axis: of a dense output, (batch, positions..., classes) or with the classes first, that of the classes; else None.
    """

    shape: tuple[int | None, ...]
    mode: str = "max_activation"
    two_classes: bool = False
    axis: int | None = None

    @classmethod
    def of(cls, graph: Graph, head: tuple[Form, ...], mode: str = "max_activation") -> Targets:
        """What may be explained of a graph's only output.

        Args:
            graph: a `Graph` that ends at the logits.
            head: the forms that were taken off, see `Explainer`.
            mode: see above.
        """
        shape = (None, *graph.spec(graph.outputs[0]).shape[1:])
        axis = class_axis(graph, head) if len(shape) > 2 and math.prod(size or 0 for size in shape[1:]) != 1 else None
        units = math.prod(size or 0 for size in shape[1:]) if axis is None else shape[axis]
        return cls(shape, mode, bool(head) and units == 1 and is_sigmoid(head[0].node), axis)

    @property
    def is_dense(self) -> bool:
        """Whether there is a class at each of many positions."""
        return self.axis is not None

    @property
    def classes(self) -> int | None:
        """How many classes one number may name; None where a number names none."""
        if self.two_classes:
            return 2
        return self.shape[self.axis] if self.axis is not None else self._units()

    def _units(self):
        """How many units one number may name, of an output that is not dense."""
        single = None not in self.shape[1:] and math.prod(size or 0 for size in self.shape[1:]) == 1
        return 1 if single else self.shape[1] if len(self.shape) == 2 else None

    def selected(self, target: Any, neuron_selection: Any = None) -> Any:
        """The target, said in our word or in iNNvestigate's, or what the mode stands for; None for the predicted output.

        Raises:
            InvalidInputError: both words were used, or none where the mode asks for one, or it is a function.
        """
        refuse_function(target)
        if neuron_selection is not None:
            if target is not None or self.mode != "index":
                found = f"here the mode is {self.mode!r}. Say analyze(x, target=...) instead."
                raise InvalidInputError(
                    f"neuron_selection goes with neuron_selection_mode='index' and without target; {found}"
                )
            return Unit(neuron_selection) if self.two_classes and not self.is_dense else neuron_selection
        if target is None and self.mode == "index":
            raise InvalidInputError("neuron_selection_mode is 'index': say which, with neuron_selection=.")
        return "all" if target is None and self.mode == "all" else target

    # What is asked ----------------------------------------------------------------------------------------------------

    def asked(self, target: Any, count: int | None) -> Asked:
        """What a selected target asks for, checked as far as its values are known.

        Args:
            target: what `selected` gave, but None; arrays may be tensors.
            count: the number of samples; None where it is not known yet.

        Raises:
            InvalidInputError: it is no target, or names a class that the model does not have.
        """
        if isinstance(target, str):
            if target != "all":
                raise InvalidInputError(f"The target {target!r} is unknown; the only word for one is 'all'.")
            return Asked(everything=True)
        if isinstance(target, Unit):
            return Asked(classes=self._named(_labels(target.number, "The target"), count, 1), units=True)
        if self.is_dense and isinstance(target, tuple):
            return self._placed(target, count)
        array = _labels(target, "The target")
        if _is_whole(array) and len(array.shape) < 2:
            return Asked(classes=self._named(array, count, self.classes))
        return Asked(weights=array)

    def _placed(self, target, count):
        """(class, mask) or (row, column, class) of a dense output."""
        *place, last = target
        if len(target) == 2 and len(getattr(last, "shape", np.shape(last))) > 0:
            region = last if ops.is_tensor(last) else as_array(last, "The target's mask")
            expected = tuple(size for axis, size in enumerate(self.shape) if axis not in (0, self.axis))
            shapes = (expected, (count, *expected))
            if not _is_bool(region) or not any(fits(region.shape, shape) for shape in shapes):
                raise InvalidInputError(
                    f"A target (class, mask) of this model has a mask of booleans of shape {expected}, or one for each "
                    f"sample, {(count, *expected)}; got {getattr(region, 'dtype', '')} of shape {tuple(region.shape)}."
                )
            return Asked(classes=self._named(_labels(place[0], "The target"), count, self.classes), region=region)
        if len(target) != len(self.shape) - 1 or not all(isinstance(n, int | np.integer) for n in target):
            raise InvalidInputError(
                f"A tuple names a class and where: (class, mask), or for one position of this model's output {self.shape} "
                f"{len(self.shape) - 1} whole numbers, the class last; got {target!r}. A class for each sample is a list."
            )
        return Asked(classes=self._named(np.asarray(last), count, self.classes), region=tuple(map(int, place)))

    def _named(self, numbers, count, classes):
        """Whole numbers, if they name classes (or units) that there are."""
        if classes is None:
            raise InvalidInputError(
                f"The model's output has shape {self.shape}, where one int names no output: give an array of weights of "
                "its shape."
            )
        if len(numbers.shape) == 1 and count is not None and numbers.shape[0] not in (count, None):
            raise InvalidInputError(
                f"Got {numbers.shape[0]} targets for {count} samples; give one for each, or a single int."
            )
        known = numbers if isinstance(numbers, np.ndarray) else backend.known(numbers)
        flat = np.zeros(0) if known is None else np.atleast_1d(known)
        outside = flat[(flat < 0) | (flat >= classes)]
        if outside.size:
            has = f"the classes 0 to {classes - 1}" if self.two_classes and classes == 2 else f"outputs 0 to {classes - 1}"
            raise InvalidInputError(f"Target {int(outside[0])} is out of range: the model has {has}.")
        return numbers

    # On arrays --------------------------------------------------------------------------------------------------------

    def weights(
        self,
        target: Any,
        count: int,
        sizes: Callable[[], tuple] | None = None,
        won: Callable | None = None,
    ) -> np.ndarray | None:
        """A selected target as float32 weights in the shape of the outputs; None, what is predicted, stays None.

        Args:
            target: what `selected` gave.
            count: the number of samples.
            sizes: gives the output's sizes behind the batch, where the model leaves some open.
            won: gives the weights of `of_classes` for int32 (samples,), of dense outputs.

        Raises:
            InvalidInputError: it is no target of these outputs.
        """
        if target is None:
            return None
        # One class, as most say it: to look at all that a target can be takes as long as some networks.
        if type(target) is int and self.axis is None and None not in self.shape[1:] and target in range(self.classes or 0):
            return _one_hot(np.full(count, target), (count, *self.shape[1:]), self.two_classes)
        asked = self.asked(target, count)
        if asked.classes is not None and self.is_dense and asked.region is None and won is not None:
            return won(np.broadcast_to(asked.classes, (count,)).astype("int32"))
        open_size = None in self.shape[1:]
        shape: tuple[Any, ...] = (count, *(sizes() if open_size and sizes is not None else self.shape[1:]))
        if None in shape:
            raise InvalidInputError(f"The model's output has no fixed shape ({self.shape}): only target=None is possible.")
        if asked.everything:
            return np.ones(shape, "float32")
        if asked.weights is not None:
            return self._checked_weights(asked.weights, count, shape)
        classes = np.broadcast_to(asked.classes, (count,)).astype("int32")
        if asked.region is None:
            return _one_hot(classes, shape, self.two_classes and not asked.units)
        return backend.to_numpy(self._over(self._region(asked.region, shape), classes))

    def _region(self, region, shape):
        """A region as float32 (samples, positions...)."""
        positions = tuple(size for axis, size in enumerate(shape) if axis != self.axis)
        if isinstance(region, tuple):
            for number, size in zip(region, positions[1:], strict=True):
                if not 0 <= number < size:
                    raise InvalidInputError(f"The position {region} is outside the output, which has {positions[1:]}.")
            found = np.zeros(positions, "float32")
            place = (slice(None), *region)
            found[place] = 1
            return found
        if region.shape not in (positions, positions[1:]):
            raise InvalidInputError(f"The mask has shape {region.shape}, but the output's positions are {positions[1:]}.")
        return np.broadcast_to(region, positions).astype("float32")

    def _checked_weights(self, array, count, shape):
        if array.shape != shape or array.dtype.kind not in "fiub" or (array.dtype.kind == "b" and self._units() == 1):
            more = ", (class, mask), (row, column, class)" if self.is_dense else ""
            words = f"A target is None, an int, {count} ints, 'all'{more}, or weights of shape {shape}"
            raise InvalidInputError(f"{words}; got {array.dtype} of shape {array.shape}.")
        with np.errstate(over="ignore"):
            weights = array.astype("float32")
        if not np.isfinite(weights).all():
            raise InvalidInputError("The target weights hold NaN or infinite values, or some beyond the range of float32.")
        if self.two_classes and not self.is_dense and np.isin(weights, (0, 1)).all() and not weights.all():
            raise InvalidInputError(
                "Floats are weights, of which 0 explains nothing. Labels are whole numbers: y.astype(int)."
            )
        return weights

    def predicted(self, logits: np.ndarray) -> np.ndarray:
        """Weights float32 (samples, outputs), flat, that name what is predicted, from logits of that shape; see `at`."""
        if self.two_classes and not self.is_dense:
            return np.where(logits >= 0, 1, -1).astype("float32")
        weights = np.zeros(logits.shape, "float32")
        weights[np.arange(len(weights)), logits.argmax(1)] = 1
        return weights

    # On tensors -------------------------------------------------------------------------------------------------------

    def at(self, logits: Any, weights: Any) -> Any:
        """Weights in the shape and dtype of logits: those given, or for None those that name what is predicted.

        That is the largest logit of each sample, and of one unit that stands for two classes the sign of its logit, 1 or -1
        (1 for a logit of 0).
        """
        if weights is not None:
            return ops.broadcast_to(ops.cast(weights, logits.dtype), ops.shape(logits))
        if self.two_classes and not self.is_dense:
            return ops.cast(ops.where(logits >= 0, 1.0, -1.0), logits.dtype)
        # Keras has no argmax whose ties and NaN are the same under XLA, so the backend's own is taken.
        flat = ops.reshape(logits, (ops.shape(logits)[0], -1))
        one_hot = ops.one_hot(backend.argmax(flat), flat.shape[-1] or ops.shape(flat)[-1], dtype=logits.dtype)
        return ops.reshape(one_hot, ops.shape(logits))

    def largest(self, logits: Any) -> Any:
        """What `at` explains without weights, int32 (samples,): the number of the class, of dense outputs of the value."""
        flat = ops.reshape(logits, (ops.shape(logits)[0], -1))
        return ops.cast(flat[:, 0] >= 0, "int32") if self.two_classes and not self.is_dense else backend.argmax(flat)

    def of_classes(self, classes: Any, logits: Any = None) -> Any:
        """Weights float32 that explain a class of each sample.

        Of a dense output they sum the class over the positions where it wins, and, where it wins nowhere in a sample, over
        all of that sample's positions.

        Args:
            classes: int32 (samples,).
            logits: the outputs, which are looked at where they are dense.
        """
        if not self.is_dense:
            if self.two_classes:
                return ops.reshape(2 * ops.cast(classes, "float32") - 1, (-1, *[1] * (len(self.shape) - 1)))
            return ops.reshape(ops.one_hot(classes, self.classes, dtype="float32"), (-1, *self.shape[1:]))
        by_class = ops.moveaxis(logits, self.axis, -1)
        winners = ops.cast(by_class[..., 0] >= 0, "int32") if self.two_classes else backend.argmax(by_class)
        rank = len(self.shape) - 1
        mine = ops.cast(ops.equal(winners, ops.reshape(ops.cast(classes, "int32"), (-1, *[1] * (rank - 1)))), "float32")
        anywhere = ops.max(mine, axis=tuple(range(1, rank)), keepdims=True)
        return self._over(ops.maximum(mine, 1 - anywhere), classes)

    def _over(self, region, classes):
        """Weights that sum a class of each sample over a region, float32 (samples, positions...)."""
        if self.two_classes:
            named = ops.reshape(2 * ops.cast(classes, "float32") - 1, (-1, 1))
        else:
            named = ops.one_hot(classes, self.classes, dtype="float32")
        named = ops.reshape(named, (-1, *[1] * (len(self.shape) - 2), named.shape[-1]))
        return ops.moveaxis(ops.expand_dims(region, -1) * named, -1, self.axis)

    def tensor(self, target: Any, x: Any, logits: Callable[[], Any]) -> Any:
        """The weights of what an analyzer's `call` takes, where Keras has made tensors of arrays.

        Args:
            target: what `selected` gave, or tensors in the place of its arrays. Of whole numbers the values are looked at
                where they are known; inside a `tf.function` they are not, and one that is out of range explains nothing.
            x: a tensor of samples, batch first.
            logits: gives the outputs for these samples; asked for dense outputs and open sizes alone.

        Returns:
            None, or a tensor in the shape of the outputs, or of one row that stands for all samples.

        Raises:
            InvalidInputError: it is no target of these outputs.
        """
        if target is None:
            return None
        asked, count = self.asked(target, x.shape[0]), ops.shape(x)[:1]
        looks = self.is_dense or None in self.shape[1:]
        outputs = logits() if looks and asked.weights is None else None
        if asked.weights is not None:
            return self._weights_of_tensor(asked.weights, x.shape[0])
        if asked.everything:
            return ops.ones((1, *self.shape[1:]), "float32") if outputs is None else ops.ones_like(outputs, dtype="float32")
        classes = ops.cast(ops.broadcast_to(ops.convert_to_tensor(asked.classes), count), "int32")
        if asked.units:
            return ops.ones((1, *self.shape[1:]), "float32")
        if asked.region is None:
            return self.of_classes(classes, outputs)
        return self._over(self._region_of(asked.region, outputs), classes)

    def _region_of(self, region, logits):
        """A region as float32 (samples, positions...), of outputs whose sizes may not be known yet."""
        positions = [size for axis, size in enumerate(ops.shape(logits)) if axis != self.axis]
        if not isinstance(region, tuple):
            return ops.broadcast_to(ops.cast(region, "float32"), positions)
        if all(isinstance(size, int) for size in positions[1:]):
            return ops.convert_to_tensor(self._region(region, [1, *ops.shape(logits)[1:]]))
        found = ops.ones(positions, "float32")
        for axis, (number, size) in enumerate(zip(region, positions[1:], strict=True), 1):
            here = ops.cast(ops.equal(ops.arange(size, dtype="int32"), number), "float32")
            found = found * ops.reshape(here, [1] * axis + [-1] + [1] * (len(positions) - axis - 1))
        return found

    def _weights_of_tensor(self, weights, count):
        if ops.is_tensor(weights):
            if not fits(weights.shape, self.shape) or _is_bool(weights):
                words = f"A target is None, whole numbers, 'all', or weights of shape {self.shape}"
                raise InvalidInputError(f"{words}; got {weights.dtype} of shape {tuple(weights.shape)}.")
            return ops.cast(weights, "float32")
        shape = tuple(given if size is None else size for size, given in zip(self.shape, weights.shape, strict=False))
        return ops.convert_to_tensor(self._checked_weights(weights, count, (count or len(weights), *shape[1:])))


def _labels(given, what):
    """An array or a tensor; labels as Keras gives them, (samples, 1), as (samples,)."""
    # In this order: whether an int is a tensor takes longer to find out than all else here.
    plain = isinstance(given, int | list | tuple | np.ndarray) or not ops.is_tensor(given)
    array = as_array(given, what) if plain else given
    if _is_whole(array) and len(array.shape) == 2 and array.shape[1] == 1:
        return array[:, 0]
    return array


def _is_whole(array):
    """Whether an array or a tensor holds whole numbers; truth values are none."""
    # The name of a NumPy dtype is made anew each time.
    return array.dtype.kind in "iu" if isinstance(array, np.ndarray) else array.dtype.name.startswith(("int", "uint"))


def _is_bool(array):
    return getattr(getattr(array, "dtype", None), "name", None) == "bool"


def _one_hot(classes, shape, signed):
    """Weights of this shape that name one unit of each sample; of one that stands for two classes, 1 or -1."""
    if signed:
        return (2 * classes - 1).astype("float32").reshape(shape)
    weights = np.zeros((len(classes), math.prod(shape[1:])), "float32")
    weights[np.arange(len(classes)), classes] = 1
    return weights.reshape(shape)
