"""How far mass on a grid lies from the truth: by the nearest true position, and by optimal transport.

In: masses and masks on a grid of positions, in units of its steps. Out: distances. Called by `ground_truth`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from innvest_lite.errors import InvalidInputError

# POT's own limit, 100,000, is reached by images; the network simplex ends by itself.
_MOST_STEPS = 10**9


def diagonal(sizes: Sequence[int]) -> float:
    """The distance of the two positions of a grid that lie farthest apart, in steps."""
    return math.sqrt(sum((size - 1) ** 2 for size in sizes))


def distances_to(masks: np.ndarray) -> np.ndarray:
    """The Euclidean distance from each position to the nearest true one.

    Args:
        masks: bool (samples, positions...), each with a true position.

    Returns:
        float64, in the masks' shape, in steps of the grid.
    """
    squared = _along_first(masks) ** 2
    for axis, size in enumerate(masks.shape[2:], start=2):
        squared = _also_along(squared, axis, size)
    return np.sqrt(squared)


def _along_first(masks):
    """The distance to the nearest true position on the same line of the first axis of positions; infinite without one."""
    places = np.arange(masks.shape[1], dtype="float64").reshape(-1, *[1] * (masks.ndim - 2))
    before = np.maximum.accumulate(np.where(masks, places, -np.inf), axis=1)
    behind = np.minimum.accumulate(np.where(masks, places, np.inf)[:, ::-1], axis=1)[:, ::-1]
    return np.minimum(places - before, behind - places)


def _also_along(squared, axis, size):
    """Squared distances, of which those along `axis` do not count yet: `min over j of squared[j] + (i - j)^2`."""
    lines = np.moveaxis(squared, axis, -1)
    found = np.full_like(lines, np.inf)
    places = np.arange(size)
    for place in places:
        np.minimum(found, lines[..., place : place + 1] + (places - place) ** 2, out=found)
    return np.moveaxis(found, -1, axis)


def optimal_transport() -> Any:
    """The library of optimal transport, POT, which is imported only where it is asked for.

    Raises:
        InvalidInputError: it is not installed.
    """
    try:
        import ot
    except ImportError as error:
        raise InvalidInputError(
            "The earth mover's distance needs POT, which is not installed: pip install 'innvest_lite[emd]' (or pot). Or "
            "leave emd=True out: fni_emd needs no library."
        ) from error
    return ot


def earth_movers_distance(mass: np.ndarray, mask: np.ndarray) -> float:
    """The least work, mass times Euclidean distance, that turns a mass into one spread evenly over the truth.

    Args:
        mass: float64 (positions...), at least 0, which sums to 1.
        mask: bool, in its shape, with a true position.

    Returns:
        A float, in steps of the grid.

    Raises:
        InvalidInputError: POT is not installed.
    """
    library = optimal_transport()
    start, end = np.argwhere(mass > 0), np.argwhere(mask)
    apart = np.sqrt(((start[:, None] - end) ** 2).sum(-1, dtype="float64"))
    return float(library.emd2(mass[mass > 0], np.full(len(end), 1 / len(end)), apart, numItermax=_MOST_STEPS))
