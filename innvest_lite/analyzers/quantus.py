"""An analyzer as the `explain_func` of Quantus (Hedstroem et al. 2023, JMLR 24), which is not imported here.

Quantus calls `explain_func(model=, inputs=, targets=, **explain_func_kwargs)` and wants an array of the shape of
`inputs`. Its model need not be the analyzer's: randomization tests hand copies whose weights they shuffle in place, one
after the other. Called by `Analyzer.as_explain_func`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import keras
import numpy as np

from innvest_lite import backend
from innvest_lite.errors import InvalidInputError
from innvest_lite.forms.inputs import spatial_axes
from innvest_lite.graph import trace
from innvest_lite.graph.trace import Cast
from innvest_lite.options import as_array
from innvest_lite.preprocessing import refuse_preprocessor

if TYPE_CHECKING:
    from innvest_lite.analyzers.base import Analyzer

# What Quantus documents for an explain_func, and what changes nothing here: how its own explanations are made.
_IGNORED = ("device", "softmax", "method", "attributor", "xai_lib", "xai_lib_kwargs")


def explain_func(analyzer: Analyzer) -> Callable[..., np.ndarray]:
    """The function for Quantus; see `Analyzer.as_explain_func`."""
    names = analyzer.explainer.inputs.names
    if len(names) != 1:
        raise InvalidInputError(f"Quantus hands one array of inputs, but the model has several: {', '.join(names)}.")
    refuse_preprocessor(analyzer, "Quantus")
    latest = {"model": analyzer.model, "analyzer": analyzer}

    def explain(model, inputs, targets, **kwargs):
        """The explanation of `inputs`, in their shape; `Analyzer.as_explain_func` says what it takes."""
        _check_options(kwargs)
        chosen = _analyzer_for(analyzer, _unwrapped(model), latest)
        array = as_array(inputs, "inputs")
        targets = _checked_targets(targets, array.shape[:1])
        if not _is_channels_first(chosen, array, kwargs.get("channel_first")):
            return chosen.analyze(array, target=targets)
        return np.moveaxis(chosen.analyze(np.moveaxis(array, 1, -1), target=targets), -1, 1)

    return explain


def _check_options(options):
    unknown = sorted(set(options) - {*_IGNORED, "channel_first"})
    if unknown:
        raise InvalidInputError(
            f"The explain function has no options {unknown}; Quantus's channel_first is heeded, and {', '.join(_IGNORED)} "
            "are ignored. Options of the method go to the analyzer, and the result has the shape of the inputs."
        )


def _unwrapped(model):
    """The Keras model within Quantus's wrapper, or the model itself; None for None."""
    get_model = getattr(model, "get_model", None)
    model = get_model() if callable(get_model) else model
    if not isinstance(model, keras.Model | None):
        raise InvalidInputError(f"model should be a Keras model, Quantus's wrapper of one, or None, but is {type(model)}.")
    return model


def _analyzer_for(analyzer, model, latest):
    """The analyzer, or the same for another model, which `latest` holds as long as Quantus comes back with that model."""
    if model is None or model is analyzer.model:
        return analyzer
    if latest["model"] is model:
        return latest["analyzer"]
    made = analyzer.for_model(model)
    # A copy for which the analyzer itself would do has to be looked at each time: its weights may be shuffled next.
    if made is not analyzer:
        latest.update(model=model, analyzer=made)
    return made


def _checked_targets(targets, shape):
    """None, or integers (samples,)."""
    if targets is None:
        return None
    array = as_array(targets, "targets")
    # Labels as Keras gives them.
    array = array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
    if array.dtype.kind not in "iu" or array.shape != shape:
        raise InvalidInputError(
            f"targets should be None or whole numbers of shape {shape}, one for each of the inputs, but got {array.dtype} "
            f"of shape {array.shape}."
        )
    return array


def _is_channels_first(analyzer, array, said):
    """Whether the channels of a model that has them last come first; `said` decides where the shape leaves it open."""
    explainer = analyzer.explainer
    if array.ndim < 3 or spatial_axes(explainer.graph, array.ndim)[1] != array.ndim - 1:
        return False
    samples, channels, *places = array.shape
    first, last = (explainer.inputs.fits(0, shape) for shape in ((samples, *places, channels), array.shape))
    return first and (said is True or not last)


def is_copy(model: keras.Model, other: keras.Model) -> bool:
    """Whether two models make the same calls in the same order, but for the names of layers, with the same weights."""
    if _recipe(trace(model)) != _recipe(trace(other)):
        return False
    weights, others = model.get_weights(), other.get_weights()
    return len(weights) == len(others) and all(map(np.array_equal, weights, others))


def _recipe(graph):
    """What a graph computes but for its weights; values by the number of the node that makes them."""
    numbers = {name: number for number, name in enumerate((*(value.node for value in graph.inputs), *graph.node_of))}
    calls = [
        (
            type(node.operation),
            _comparable(_options(node.operation)),
            _comparable(_arguments(node)),
            [(numbers[value.node], value.index) for value in node.inputs],
        )
        for node in graph.nodes
    ]
    return graph.input_specs, calls, [(numbers[value.node], value.index) for value in graph.outputs]


def _options(operation):
    config = {"dtype": operation.dtype} if isinstance(operation, Cast) else operation.get_config()
    return {key: value for key, value in config.items() if key not in ("name", "trainable")}


def _arguments(node):
    """What a call is given besides tensors: numbers, slices, axes. `Node.call` decides on `training` itself."""
    positional, named = node.arguments
    return positional, {key: value for key, value in named.items() if key != "training"}


def _comparable(structure):
    """A structure whose arrays `==` compares as a whole."""
    return keras.tree.map_structure(lambda leaf: _plain(leaf) if hasattr(leaf, "shape") else leaf, structure)


def _plain(array):
    array = backend.to_numpy(array)
    return array.shape, array.dtype.name, array.tobytes()
