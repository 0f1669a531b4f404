"""References: the samples from which a method measures. Called by `path`, `expected` and `deeplift`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from keras import ops

from innvest_lite import backend
from innvest_lite.analyzers.samples import grouped, ungrouped
from innvest_lite.errors import InvalidInputError
from innvest_lite.forms.inputs import is_integer
from innvest_lite.forms.values import values_of
from innvest_lite.graph import Value
from innvest_lite.graph.interpret import interpret
from innvest_lite.inputs import InputSpec

OPTION = "reference_inputs"


@dataclasses.dataclass(frozen=True, eq=False)
class References:
    """Samples from which a method measures.

    Attributes:
        arrays: for each input a number, an array without axes, or an array (count or 1, ...); None: 0, for tokens an
            embedding of zeros.
        option: what the option is called, for messages.
    """

    arrays: list[np.ndarray] | None = None
    option: str = OPTION

    @property
    def count(self) -> int:
        """How many there are."""
        return max((len(array) for array in self.arrays or () if array.ndim), default=1)

    @property
    def config(self) -> list | None:
        """As lists of numbers, for a file; see `from_config`."""
        return None if self.arrays is None else [array.tolist() for array in self.arrays]

    @classmethod
    def of(cls, given: Any, spec: InputSpec, several: bool = False, option: str = OPTION) -> References:
        """The references that are given.

        Args:
            given: None, a number, an array of one sample, or, where `several` may be, of samples; of models with several
                inputs, a number, or a list or a dict of these.
            spec: what the model takes.
            several: whether there may be more than one.
            option: what the option is called, for messages.

        Raises:
            InvalidInputError: names, number or shapes do not fit the inputs.
        """
        if given is None:
            return cls(None, option)
        if isinstance(given, dict):
            if set(given) != set(spec.names):
                raise InvalidInputError(f"The inputs are named {sorted(spec.names)}, {option} has {sorted(given)}.")
            given = [given[name] for name in spec.names]
        elif isinstance(given, int | float | np.number):
            given = [given] * len(spec.names)
        elif len(spec.names) == 1:
            given = [given]
        if not isinstance(given, list | tuple) or len(given) != len(spec.names):
            raise InvalidInputError(f"The model has {len(spec.names)} inputs: {option} should have one for each.")
        arrays = [
            np.zeros(())
            if spec.dtypes[place] == "string" and np.ndim(part) == 0
            else spec.sample(place, part, option, several)
            for place, part in enumerate(given)
        ]
        found = cls(arrays, option)
        if {len(array) for array in arrays if array.ndim} - {1, found.count}:
            raise InvalidInputError(f"{option} has different numbers of samples for the inputs: give the same for each.")
        return found

    def check_inputs(self, arrays: list) -> None:
        """Raises InvalidInputError where they do not fit samples: of inputs of open size, each call may bring another."""
        for array, reference in zip(arrays, self.arrays or [], strict=self.arrays is not None):
            if reference.ndim and reference.shape[1:] != array.shape[1:]:
                raise InvalidInputError(
                    f"{self.option} has the shape {reference.shape[1:]}, but the samples have {array.shape[1:]}."
                )

    def at_points(self, explainer: Any, inputs: list, points: tuple) -> list:
        """What stands at each point (`flattened`), float32 (count, ...), see `samples.grouped`.

        Args:
            explainer: the `Explainer`.
            inputs: a tensor per input.
            points: for each input, the values that stand for it, see `tokens.points_of`.
        """
        graph, arrays = explainer.graph, self.arrays or [np.zeros(())] * len(inputs)
        # What has no points stays that of the samples; at the points, it has no part.
        tensors = [
            ops.broadcast_to(ops.convert_to_tensor(reference, x.dtype), (self.count, *ops.shape(x)[1:]))
            if of_input
            else ops.repeat(x[:1], self.count, axis=0)
            for reference, x, of_input in zip(arrays, inputs, points, strict=True)
        ]
        tokens = any(is_integer(spec.dtype) for spec in graph.input_specs)
        values = (
            values_of(graph, explainer.plan.forms, tensors) if tokens else dict(zip(graph.inputs, tensors, strict=True))
        )
        found: dict[Value, Any] = {}
        for of_input, spec in zip(points, graph.input_specs, strict=True):
            # No token means nothing; an embedding of zeros does.
            nothing = is_integer(spec.dtype) and self.arrays is None
            for point in of_input:
                value = grouped(ops.cast(values[point], "float32"), graph.spec(point))
                found[point] = ops.zeros_like(value) if nothing else value
        return list(found.values())

    def rows(self, explainer: Any, inputs: list, points: tuple, values: Mapping, numbers: Any) -> dict:
        """The references of some numbers in place of samples: point -> a tensor as large as the samples' value there.

        Args:
            explainer: the `Explainer`.
            inputs: a tensor per input.
            points: as in `at_points`.
            values: of the samples, at all points; of each sample as many in a row as there are numbers.
            numbers: int32 (numbers,).
        """
        found, graph = {}, explainer.graph
        for point, origin in zip(flattened(points), self.at_points(explainer, inputs, points), strict=True):
            spec, chosen = graph.spec(point), ops.take(origin, numbers, axis=0)
            here = grouped(values[point], spec)
            times = ops.shape(here)[0] // ops.shape(chosen)[0]
            tiled = ops.tile(chosen, (times, *[1] * (len(chosen.shape) - 1)))
            found[point] = ops.cast(ungrouped(ops.reshape(tiled, ops.shape(here)), spec), values[point].dtype)
        return found

    def outputs(self, explainer: Any, inputs: list, points: tuple) -> Any:
        """The mean of the explained outputs over the references, of each sample: masks stay those of the samples.

        Args:
            explainer: the `Explainer`.
            inputs: a tensor per input.
            points: as in `at_points`.
        """
        graph, forms = explainer.graph, explainer.plan.forms
        values = values_of(graph, forms, inputs)

        def at(number: Any) -> Any:
            given = self.rows(explainer, inputs, points, values, ops.reshape(number, (1,)))
            found = interpret(graph, lambda node, taken: forms[node.name].forward(*taken), inputs, given)
            return ops.cast(found[graph.outputs[0]], "float32")

        if self.count == 1:
            return at(0)
        total = ops.zeros_like(values[graph.outputs[0]], dtype="float32")
        (total,) = backend.loop(self.count, lambda number, state: (state[0] + at(number),), (total,))
        return total / self.count


def flattened(points: tuple) -> tuple[Value, ...]:
    """The points of all inputs, one after the other, each once: several inputs may go into one embedding."""
    return tuple(dict.fromkeys(point for of_input in points for point in of_input))


def from_config(config: dict, option: str = OPTION) -> dict:
    """A config whose references of a single input stand alone, as they were given."""
    references = config[option]
    if isinstance(references, list) and len(references) == 1:
        references = references[0]
    return {**config, option: references}


class FromReferences:
    """What samplers share that measure from references; a mixin in front of `Sampler`."""

    references: References

    differs = True

    def check_inputs(self, arrays: list) -> None:
        """See `Sampler.check_inputs`."""
        self.references.check_inputs(arrays)

    def origins(self, explainer: Any, inputs: list, points: tuple) -> list:
        """See `Sampler.origins`: all references."""
        return self.references.at_points(explainer, inputs, points)

    def measured_from(self, explainer: Any, inputs: list, points: tuple) -> Any:
        """See `Sampler.measured_from`."""
        return self.references.outputs(explainer, inputs, points)
