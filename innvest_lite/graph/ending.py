"""A function of a model's outputs at the end of its graph, so that what it gives is the output.

Comes in: a graph that ends at logits, what follows each of them, and the function. Goes out: the graph with one node more.
Called by `analyzers.binding`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from innvest_lite import backend
from innvest_lite.errors import InvalidInputError
from innvest_lite.graph.arguments import Slot
from innvest_lite.graph.behaviour import FAILURES, OPEN_SIZES, near
from innvest_lite.graph.graph import Graph, Node, Spec

NAME = "target"
# With how many samples a function is tried.
_SAMPLES = 5


@dataclasses.dataclass(frozen=True, eq=False)
class OfOutputs:
    """A function of a model's outputs, as an operation on the logits from which these are made.

    Attributes:
        function: gives a number for each sample, of the outputs in the model's structure.
        finished: for each output, a function that makes it of its logits.
        structure: the outputs' structure, a nest of their numbers.
    """

    function: Callable[[Any], Any]
    finished: Sequence[Callable[[Any], Any]]
    structure: Any

    def __call__(self, *logits: Any) -> Any:
        """The number of each sample, (samples, 1)."""
        outputs = [finish(one) for finish, one in zip(self.finished, logits, strict=True)]
        given = keras.tree.map_structure(lambda place: None if place is None else outputs[place], self.structure)
        found = self.function(given)
        shape = tuple(getattr(found, "shape", ()))
        if not keras.ops.is_tensor(found) and not isinstance(found, keras.KerasTensor):
            raise InvalidInputError(f"A target that is a function should give a tensor, but {self} gave {found!r}.")
        if len(shape) not in (1, 2) or shape[1:] not in ((), (1,)):
            raise InvalidInputError(
                f"A target that is a function should give one number for each sample, shape (samples,), but {self} gave "
                f"shape {shape}."
            )
        return keras.ops.reshape(found, (-1, 1))

    call = __call__

    def __str__(self) -> str:
        return getattr(self.function, "__qualname__", type(self.function).__name__)


def ended(graph: Graph, function: Callable[[Any], Any], finished: Sequence[Callable[[Any], Any]]) -> Graph:
    """The graph whose output is a function of the outputs: (samples, 1).

    Args:
        graph: a `Graph`, whose outputs are logits.
        function: gives a number for each sample, of the outputs in the model's structure.
        finished: for each output, a function that makes it of its logits.

    Raises:
        InvalidInputError: the function does not take these outputs, or does not give one number for each sample.
    """
    specs = tuple(map(graph.spec, graph.outputs))
    operation = OfOutputs(function, finished, graph.structure)
    symbols = [keras.KerasTensor((spec.shape[0] or _SAMPLES, *spec.shape[1:]), spec.dtype) for spec in specs]
    try:
        found = backend.shapes_of(operation, tuple(symbols), {})
    except InvalidInputError:
        raise
    except FAILURES as error:
        described = ", ".join(f"{name}: {spec.shape}" for name, spec in zip(graph.output_names, specs, strict=True))
        raise InvalidInputError(
            f"The function {operation} does not take the model's outputs ({described}): {error}"
        ) from error
    if found.shape[0] != symbols[0].shape[0]:
        raise InvalidInputError(
            f"A target that is a function should give one number for each sample: of {symbols[0].shape[0]} samples, "
            f"{operation} gave {'an unknown number' if found.shape[0] is None else found.shape[0]}."
        )
    if _mixes(operation, symbols):
        raise InvalidInputError(
            f"A target that is a function should give the number of each sample by its own outputs, but what {operation} "
            "gives of one sample changes with the others: reduce over all axes but the first."
        )
    taken = {node.name for node in graph.nodes} | {value.node for value in graph.inputs}
    name = next(name for name in (NAME, *(f"{NAME}#{count}" for count in range(2, len(taken) + 3))) if name not in taken)
    node = Node(
        name=name,
        operation=operation,
        inputs=graph.outputs,
        arguments=(tuple(map(Slot, range(len(specs)))), {}),
        input_specs=specs,
        output_specs=(Spec((specs[0].shape[0], 1), keras.backend.standardize_dtype(found.dtype)),),
    )
    # Behind all layers.
    places = {**graph.places, name: (1 + max((place[0] for place in graph.places.values() if place), default=0),)}
    ending = {"nodes": (*graph.nodes, node), "outputs": node.values, "output_names": (name,), "structure": 0}
    return graph.replace(**ending, places=places)


def _mixes(operation, symbols):
    """Whether the number of the first sample changes with the others, seen on random numbers."""
    generator = np.random.default_rng(0)
    shapes = [tuple(OPEN_SIZES[0] if size is None else size for size in one.shape) for one in symbols]
    given = [generator.normal(size=shape) for shape in shapes]
    others = [np.concatenate([one[:1], generator.normal(size=one[1:].shape)]) for one in given]
    with backend.eagerly():
        try:
            found, again = (
                backend.to_numpy(
                    operation(*(keras.ops.cast(one, like.dtype) for one, like in zip(values, symbols, strict=True)))
                )
                for values in (given, others)
            )
        except FAILURES:
            # Where sizes are open, these may be none that it takes.
            return False
    return not near(np.concatenate([again[:1], found[1:]]), found, 1e-5)


def ending_of(graph: Graph) -> Node | None:
    """The node of a function of the model's outputs; None where an output itself is explained."""
    node = graph.producer(graph.outputs[0])
    return node if node is not None and isinstance(node.operation, OfOutputs) else None
