"""What patches are ranked by: an explanation, checked, and whether its values or their magnitudes are summed.

Called by `degradation` and `single_deletion`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from innvest_lite.attributions import Attributions
from innvest_lite.errors import InvalidInputError
from innvest_lite.metrics.patches import Patches
from innvest_lite.options import as_array, one_of
from innvest_lite.preprocessing import refuse_preprocessor

RANKINGS = ("auto", "signed", "magnitude")


def ranking_of(given: Any, rank_by: str) -> str:
    """What "auto" stands for: "magnitude" for an analyzer whose sign says neither for nor against; else "signed".

    Raises:
        InvalidInputError: `rank_by` is no word of `RANKINGS`.
    """
    if one_of(rank_by, RANKINGS, "rank_by") != "auto":
        return rank_by
    return "signed" if getattr(given, "sign_tells", True) else "magnitude"


def totals_of(patches: Patches, attributions: np.ndarray, ranked_by: str) -> np.ndarray:
    """What each patch is ranked by: float64 (samples, patches), sums of values or of magnitudes."""
    # In float64, where whole numbers too have magnitudes: that of the int8 -128 is -128.
    return patches.totals(np.abs(attributions.astype("float64")) if ranked_by == "magnitude" else attributions)


def attributions_of(
    given: Any, x: np.ndarray, target: Any, batch_size: int, verbose: int | str, measure: str
) -> np.ndarray:
    """The attributions, checked, of the shape of `x`.

    Args:
        given: an analyzer, or the attributions.
        x: the samples.
        target: what the analyzer is to explain.
        batch_size: how many samples it explains at a time.
        verbose: 1 shows a progress bar.
        measure: who asks, for messages.

    Raises:
        InvalidInputError: it is neither, or the attributions are no finite numbers of the samples' shape.
    """
    if isinstance(given, str | type | None):
        raise InvalidInputError(
            f"An analyzer or attributions are expected, not {given!r}: make an analyzer with create_analyzer(name, model), "
            "or from its class."
        )
    if isinstance(given, Attributions):
        given = given.values
    if callable(getattr(given, "analyze", None)):
        refuse_preprocessor(given, measure)
        given = given.analyze(x, target=target, batch_size=batch_size, verbose=verbose)
    array = as_array(given, "The attributions")
    if array.shape != x.shape or array.dtype.kind not in "fiub":
        raise InvalidInputError(
            f"The attributions should be numbers of the samples' shape {x.shape}, but are {array.dtype} of shape "
            f"{array.shape}."
        )
    if not np.isfinite(array).all():
        raise InvalidInputError("The attributions hold NaN or infinite values, which cannot be ordered.")
    return array
