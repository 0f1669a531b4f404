"""The inputs that people hand in, checked and flattened. Host side, NumPy; for the analyzers and the fitter."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from innvest_lite import backend
from innvest_lite.errors import InvalidInputError
from innvest_lite.forms import forms_of
from innvest_lite.forms.inputs import is_integer, kinds_of, vocabulary, with_token_inputs
from innvest_lite.graph import Graph
from innvest_lite.options import as_array, finite, fits, refuse_masked
from innvest_lite.preprocessing import Preprocessor
from innvest_lite.tables import Brief

ONE_SAMPLE = "One sample needs a batch axis: x[None]."
"""What messages advise where only the batch axis is missing."""


@dataclasses.dataclass(frozen=True, repr=False)
class InputSpec(Brief):
    """The inputs of a model.

    Attributes:
        names: the name of each input, in flat order.
        shapes: the shape of each, batch axis first, None where it may vary.
        dtypes: the dtype in which the analyzer computes with each.
        vocabularies: how many tokens the embedding of each knows; None for an input that feeds none.
        preprocessor: makes the inputs of what comes; None: the data comes as the model takes it.
        kinds: what each holds, one of the words of `forms.inputs.kinds_of`.
        batch: how many samples the model takes at a time, where its inputs fix that; else None.
        named: whether the model takes a dict of inputs.
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int | None, ...], ...]
    dtypes: tuple[str, ...]
    vocabularies: tuple[int | None, ...]
    preprocessor: Preprocessor | None = None
    kinds: tuple[str, ...] = ()
    batch: int | None = None
    named: bool = False

    @property
    def signature(self) -> list[Any]:
        """A `backend.tensor_spec` for each input, in flat order."""
        pairs = zip(self.shapes, self.dtypes, strict=True)
        return [backend.tensor_spec((self.batch, *shape[1:]), dtype) for shape, dtype in pairs]

    def flat(self, x: Any, finite: bool = True, unbatched: str = ONE_SAMPLE) -> list[np.ndarray]:
        """Checks `x` and returns its arrays as a list in the order of the model's inputs.

        Args:
            x: an array, or a list or dict of them.
            finite: whether to look for NaN and infinite values, which reads every number.
            unbatched: what the message advises where only the batch axis is missing.

        Raises:
            InvalidInputError: number, names, shapes or dtypes do not fit, a value is NaN or infinite, or the arrays
                have different numbers of samples.
        """
        given = self.raw(x)
        given = given if self.preprocessor is None else self._prepared(self.preprocessor(*given))
        arrays = [self._one(place, one, finite, unbatched) for place, one in enumerate(given)]
        _check_counts(arrays)
        return arrays

    def sizes(self, x: Any) -> Any:
        """The shape of a sample of `x`, as an analyzer's `input_shape` says it."""
        shapes = [tuple(array.shape[1:]) for array in self.flat(x, finite=False)]
        if len(shapes) == 1:
            return shapes[0]
        return dict(zip(self.names, shapes, strict=True)) if self.named else shapes

    def check_shapes(self, arrays: Sequence[Any]) -> None:
        """Raises InvalidInputError where the shapes of arrays, in the model's order, do not fit; no value is read."""
        if self.preprocessor is None:  # which may change the shape
            for array, name, shape in zip(arrays, self.names, self.shapes, strict=True):
                check_shape(tuple(array.shape), name, shape)
        _check_counts(arrays)

    def tensors(self, x: Any) -> list[Any]:
        """Tensors, in the order of the model's inputs and in the dtypes of the analyzer; their values are not checked.

        Raises:
            InvalidInputError: number, names or shapes do not fit.
        """
        given = self.raw(x)
        given = given if self.preprocessor is None else self._prepared(self.preprocessor.tensors(*given))
        for tensor, name, shape in zip(given, self.names, self.shapes, strict=True):
            check_shape(tuple(tensor.shape), name, shape)
        pairs = zip(given, self.dtypes, strict=True)
        return [keras.ops.convert_to_tensor(x) if dtype == "string" else keras.ops.cast(x, dtype) for x, dtype in pairs]

    def sample(self, place: int, given: Any, what: str, several: bool = False) -> np.ndarray:
        """A number, or an array of one sample with or without a batch axis, for one input, as an array of its dtype.

        Args:
            place: the number of the input.
            given: the number or the array.
            what: what it is, for messages.
            several: whether there may be more samples than one.

        Raises:
            InvalidInputError: it does not fit the input.
        """
        array, shape = as_array(given, what), self.shapes[place]
        if self.dtypes[place] == "string":
            raise InvalidInputError(f"{what} should be None for the input {self.names[place]!r}, which takes texts.")
        if array.ndim == 0:
            return self._cast(place, np.asarray(finite(given, what)), what)
        checked = self._one(place, array[None] if array.ndim < len(shape) else array, True)
        if len(checked) != 1 and not (several and len(checked)):
            wanted = "at least one sample" if several else "one sample"
            raise InvalidInputError(f"{what} should be {wanted}, but there are {len(checked)}.")
        return checked

    def fits(self, place: int, shape: Sequence[int]) -> bool:
        """Whether a shape, batch axis first, is one that an input takes."""
        return fits(shape, self.shapes[place])

    def _one(self, place, x, look, unbatched=ONE_SAMPLE):
        """One input's array, of its dtype where `look` says to read it."""
        array = _checked(x, self.names[place], self.shapes[place], unbatched, self.dtypes[place] == "string")
        return self._cast(place, array, f"Input {self.names[place]!r}") if look else array

    def _cast(self, place, array, what):
        """An array in the dtype of its input, if all its values are numbers of that dtype."""
        dtype, vocabulary = self.dtypes[place], self.vocabularies[place]
        if dtype == "string":
            return array.astype(object)
        if _is_float(array) and not np.isfinite(array).all():
            raise InvalidInputError(f"{what} holds NaN or infinite values, which cannot be explained.")
        if is_integer(dtype) and array.size:
            _check_integers(array, dtype, vocabulary, what)
        with np.errstate(over="ignore"):
            cast = array.astype(dtype, copy=False)
        if cast is not array and _is_float(cast) and not np.isfinite(cast).all():
            raise InvalidInputError(f"{what} holds values beyond the range of {dtype}, in which the model computes.")
        return cast

    def in_order(self, x: Any) -> list[Any]:
        """What is given for each input, as a list in the order of the model's inputs.

        Raises:
            InvalidInputError: names or number do not fit, or entries are masked.
        """
        for name, one in x.items() if isinstance(x, dict) else [(", ".join(self.names), x)]:
            refuse_masked(one, f"Input {name}")
        if isinstance(x, dict):
            if set(x) != set(self.names):
                raise InvalidInputError(
                    f"The model's inputs are named {sorted(self.names)}, but the data has {sorted(map(str, x))}."
                )
            return [x[name] for name in self.names]
        if len(self.names) == 1:
            one = isinstance(x, list | tuple) and len(x) == 1 and hasattr(x[0], "shape")
            return [x[0] if one and len(x[0].shape) == len(self.shapes[0]) else x]
        if not isinstance(x, list | tuple) or len(x) != len(self.names):
            came = f"{len(x)} of them" if isinstance(x, list | tuple) else type(x).__name__
            raise InvalidInputError(
                f"The model has {len(self.names)} inputs ({', '.join(self.names)}): expected a list of as many arrays, "
                f"or a dict, but got {came}."
            )
        return list(x)

    def raw(self, x: Any) -> list[Any]:
        """What is given, as a list: for each input, or the one thing that the preprocessor makes all inputs of."""
        if self.preprocessor is None or (isinstance(x, dict) and len(self.names) == 1):
            return self.in_order(x)
        refuse_masked(x, f"Input {', '.join(self.names)}")
        one = isinstance(x, list | tuple) and len(x) == 1 and hasattr(x[0], "shape") and len(x[0].shape)
        return [x[0] if one else x]

    def _prepared(self, prepared):
        if len(self.names) > 1 and not isinstance(prepared, list | tuple | dict):
            raise InvalidInputError(
                "A preprocessor that gives one array is for models with one input, but this one has "
                f"{len(self.names)}: give a list of their arrays, or a dict by their names, {list(self.names)}."
            )
        return self.in_order(prepared)

    def packed(self, x: Any, arrays: Sequence[Any]) -> Any:
        """The arrays in the structure that `x` came in; behind a preprocessor of several inputs, a dict of them."""
        if isinstance(x, dict) or (self.preprocessor is not None and len(arrays) > 1):
            return dict(zip(self.names, arrays, strict=True))
        if len(arrays) == 1:
            return type(x)(arrays) if self.in_order(x)[0] is not x else arrays[0]
        return type(x)(arrays)


def _checked(x, name, shape, unbatched, texts=False):
    if x is None or hasattr(x, "element_spec") or callable(getattr(x, "__next__", None)):
        raise InvalidInputError(
            f"Input {name!r} should be an array of shape {shape}, but is {type(x).__name__}. For a data set, explain one "
            "batch after the other."
        )
    array = as_array(x, f"Input {name!r}")
    if texts and (array.dtype.kind not in "OSU" or not all(isinstance(text, str | bytes) for text in array.flat)):
        raise InvalidInputError(f"Input {name!r} should hold texts, but has dtype {array.dtype}.")
    if not texts and array.dtype.kind not in "fiub" and array.dtype.name != "bfloat16":
        advice = " It is no path: visualize.explain takes photographs." if array.dtype.kind in "US" else ""
        raise InvalidInputError(f"Input {name!r} should hold numbers, but has dtype {array.dtype}.{advice}")
    check_shape(array.shape, name, shape, unbatched)
    return array


def check_shape(
    given: tuple[int | None, ...], name: str, shape: tuple[int | None, ...], unbatched: str = ONE_SAMPLE
) -> None:
    """Raises InvalidInputError where a shape is not the one that the input called `name` takes.

    Args:
        given: the shape.
        name: of the input.
        shape: the one that it takes, None where it may vary.
        unbatched: what the message advises where only the batch axis is missing.
    """
    if not fits(given, shape):
        hint = f" {unbatched}" if fits((1, *given), shape) else ""
        if len(shape) == 4 and len(given) == 3 and fits((*given, 1), shape):
            hint = " Grey images need a channel axis: x[..., None]."
        raise InvalidInputError(f"Input {name!r} should have shape {shape}, but got {given}.{hint}")


def _check_counts(arrays):
    counts = {len(array) for array in arrays}
    if len(counts) > 1:
        raise InvalidInputError(
            f"The inputs have different numbers of samples: {sorted(counts)}. Give the same number for each."
        )


def _check_integers(array, dtype, vocabulary, what):
    """Raises where a value is not whole, does not fit the dtype, or is a token that the embedding does not know."""
    if _is_float(array) and np.any(array != np.floor(array)):
        raise InvalidInputError(f"{what} holds fractions, where the model takes whole numbers.")
    low, high = (0, 1) if dtype == "bool" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    low, high = (0, vocabulary - 1) if vocabulary else (low, high)
    outside = array[(array < low) | (array > high)]
    if outside.size:
        words = (
            "the embedding knows the tokens" if vocabulary else f"{dtype}, in which the model computes, holds the numbers"
        )
        raise InvalidInputError(f"{what} holds {outside[0]}, but {words} {low} to {high}.")


def _is_float(array):
    """Whether an array holds floats; NumPy does not count bfloat16."""
    return array.dtype.kind == "f" or array.dtype.name == "bfloat16"


def input_spec(model: keras.Model, graph: Graph, preprocessor: Preprocessor | None = None) -> InputSpec:
    """The `InputSpec` of a model: names as the keys of a dict of inputs, else as its input layers."""
    structure = getattr(model, "input", None)
    names = sorted(structure) if isinstance(structure, dict) else [value.node for value in graph.inputs]
    forms = forms_of(graph)
    dtypes = tuple(spec.dtype for spec in with_token_inputs(graph).input_specs)
    vocabularies = tuple(vocabulary(graph, forms, value) for value in graph.inputs)
    shapes = tuple((None, *spec.shape[1:]) for spec in graph.input_specs)
    batch = next((spec.shape[0] for spec in graph.input_specs if spec.shape[0] is not None), None)
    kinds, named = kinds_of(graph, forms), isinstance(structure, dict)
    return InputSpec(tuple(names), shapes, dtypes, vocabularies, preprocessor, kinds, batch, named)
