"""What an exported file says of itself, as JSON: method, model, versions, what goes in and what comes out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

import innvest_lite
from innvest_lite import backend
from innvest_lite.digests import described, digest
from innvest_lite.errors import InvalidInputError
from innvest_lite.images import preprocess
from innvest_lite.options import is_number
from innvest_lite.preprocessing import Preprocessor

if TYPE_CHECKING:
    from innvest_lite.export.served import Served

_FORMAT = 1


def description(served: Served, endpoints: Mapping[str, Any], input_range: tuple[float, float] | None) -> str:
    """The text of the description.

    Args:
        served: a `Served`.
        endpoints: what it gave.
        input_range: `(low, high)` of the model's input, or None: that of the preprocessing, where there is one.
    """
    analyzer = served.analyzer
    facts = {
        "format": _FORMAT,
        "method": type(analyzer).__name__,
        "options": _options(analyzer),
        "model": {"name": analyzer.model.name, "fingerprint": fingerprint(analyzer.model)},
        "classes": analyzer.explainer.targets.classes,
        "input_range": input_range_of(served.preprocessor, input_range),
        "preprocess": served.preprocessor and served.preprocessor.name,
        "render": served.render and {"kind": served.render, "colormap": served.colormap},
        "signatures": {name: _signature(traced) for name, traced in endpoints.items()},
        "versions": {"innvest_lite": innvest_lite.__version__, "keras": keras.__version__, "tensorflow": backend.VERSION},
    }
    return json.dumps(facts, indent=2, default=_plain) + "\n"


def fingerprint(model: keras.Model) -> str:
    """A hash of all weights of a model, the same on every machine."""
    return digest(described(map(backend.view, model.weights)))


def input_range_of(preprocessor: Preprocessor | None, given: Any) -> list[float] | None:
    """`[low, high]` of what the model takes, or None where nobody says.

    Raises:
        InvalidInputError: what is given is no range.
    """
    if given is not None:
        pair = list(given) if isinstance(given, tuple | list) else []
        if len(pair) != 2 or not all(map(is_number, pair)) or not pair[0] < pair[1]:
            raise InvalidInputError(f"input_range should be (low, high), two finite numbers, but is {given!r}.")
        return [float(number) for number in pair]
    if preprocessor is None or not isinstance(preprocessor.given, str):
        return None
    channels = 1 if preprocessor.given in ("none", "unit") else 3
    ends = preprocess(np.broadcast_to(np.array([0, 255])[:, None, None], (2, 1, channels)), preprocessor.given)
    return [float(ends.min()), float(ends.max())]


def _options(analyzer):
    """The options that the analyzer was made with; what is large is left out."""
    config = {**analyzer.get_config(), "preprocessor": analyzer.preprocessor and analyzer.preprocessor.name}
    return {name: value for name, value in config.items() if name not in ("model", "fitted", "name", "jit_compile")}


def _signature(traced):
    outputs = traced.get_concrete_function().structured_outputs
    return {
        "inputs": {spec.name: _spec(spec) for spec in traced.input_signature},
        "outputs": {name: _spec(tensor) for name, tensor in outputs.items()},
    }


def _spec(tensor):
    return {"shape": list(tensor.shape), "dtype": tensor.dtype.name}


def _plain(value):
    return value.tolist() if hasattr(value, "tolist") else repr(value)
