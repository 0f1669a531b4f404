"""What a method takes for the bounds of a pixel, and for what is absent of a table, where nobody says."""

from __future__ import annotations

from typing import Any

import numpy as np

import innvest_lite
from innvest_lite.cli.terminal import say
from innvest_lite.images import preprocess


def with_bounds(options: dict[str, Any], method: str, prepare: Any, channels: int) -> dict[str, Any]:
    """The options of a method, with the least and the largest value of a pixel where it wants them and nobody says.

    Args:
        options: that were given.
        method: its name.
        prepare: the preprocessor, a name or a function.
        channels: of the images.
    """
    known = innvest_lite.ANALYZERS.get(method)
    bounded = known is not None and issubclass(known.analyzer, innvest_lite.BoundedDeepTaylor)
    if not bounded or {"low", "high"} & set(options):
        return options
    ends = np.stack([np.zeros((1, 1, channels)), np.full((1, 1, channels), 255.0)])
    prepared = preprocess(ends, prepare).reshape(2, -1)
    return {**options, "low": prepared.min(0).tolist(), "high": prepared.max(0).tolist()}


def with_reference(options: dict[str, Any], method: str, found: Any) -> dict[str, Any]:
    """The options of a method, with the mean of each column for what is absent, where it wants that and nobody says.

    A row of zeros, the default elsewhere, is often none that there could be: no age, no weight.

    Args:
        options: that were given.
        method: its name.
        found: the table, an array `(rows, columns)` of floats; other samples have no such reference.
    """
    is_table = isinstance(found, np.ndarray) and found.ndim == 2 and len(found) > 1 and found.dtype.kind == "f"
    wanted = _absent(options, method) if is_table else []
    if not wanted:
        return options
    say(f"What {method} takes for absent is the mean of each column of the table; --option {wanted[0]}=0 takes zeros")
    return {**options, wanted[0]: found.mean(0, dtype="float64").astype("float32")}


def tell_of_zeros(options: dict[str, Any], method: str, model: Any) -> None:
    """Says what is taken for absent where there is no table whose mean would be.

    Args:
        options: that were given.
        method: its name.
        model: the model.
    """
    wanted = _absent(options, method)
    is_table = len(model.inputs) == 1 and len(model.inputs[0].shape) == 2 and "float" in model.inputs[0].dtype
    if wanted and is_table:
        say(
            f"What {method} takes for absent is 0 in each column, where analyze takes the mean of the table: say "
            f"--option {wanted[0]}=A,B,C with a number for each column"
        )


def _absent(options, method):
    """The options of a method that say what is absent, if none of them was given."""
    from innvest_lite.analyzers.binding import options_of

    known = innvest_lite.ANALYZERS.get(method)
    taken = [] if known is None else options_of(known.analyzer)
    wanted = [name for name in ("reference_inputs", "background", "fill") if name in taken]
    return [] if set(wanted) & set(options) else wanted
