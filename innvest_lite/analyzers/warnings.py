"""What is said of explanations that say nothing, or the opposite of what they seem to. Called by `Analyzer.analyze`."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from innvest_lite.analyzers.base import Analyzer

_log = logging.getLogger("innvest_lite")


def tell(analyzer: Analyzer, relevance: list, explained: np.ndarray) -> None:
    """Warns, once, of maps of zeros, and of maps that a negative logit turned round.

    Args:
        analyzer: whose explanations they are.
        relevance: an array per input, samples first.
        explained: the explained output of each sample.
    """
    told = analyzer.explainer.told
    empty = np.all([~array.any(axis=tuple(range(1, array.ndim))) for array in relevance], axis=0)
    if empty.any() and "empty" not in told:
        told.add("empty")
        why = analyzer.zeros_mean if (explained[empty] <= 0).any() else ""
        _log.warning("The explanations of %d of %d samples are all 0%s.", empty.sum(), len(empty), why)
    negative = explained < 0
    if negative.any() and "turned" not in told and analyzer.turns_with_the_logit:
        told.add("turned")
        _log.warning(
            "%d of %d explained logits are negative, and %s starts from the logit: there, its sign is turned round, "
            "although a softmax does not see a constant that is added to all logits. Weights as target= contrast it with "
            "others; PatternAttribution and LRP's epsilon_plus_flat do not depend on it.",
            negative.sum(),
            len(negative),
            type(analyzer).__name__,
        )


def tell_of_exponents(exponents: np.ndarray) -> None:
    """Warns of explanations that come back divided by powers of two.

    Args:
        exponents: int32 `(samples,)`.
    """
    if exponents.any():
        _log.warning(
            "The explanations of %d of %d samples leave the range of float32 and come back divided by a power of two; "
            "their direction is exact. return_exponent=True says by how much.",
            np.count_nonzero(exponents),
            len(exponents),
        )
