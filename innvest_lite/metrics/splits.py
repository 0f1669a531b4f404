"""Whether parts of data that should be disjoint overlap, as far as that can be seen. Called by `signal_quality`."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Mapping
from typing import Any

import numpy as np

from innvest_lite.digests import digest
from innvest_lite.errors import InvalidInputError

# Above this share of samples that are in two parts, a warning says so; below it, data may well repeat itself.
_COMMON = 0.1

_log = logging.getLogger("innvest_lite")


def refuse_overlap(parts: Mapping[str, Any]) -> None:
    """Warns where many samples are in two parts, as far as arrays show it.

    Args:
        parts: name -> data, as for `fit_patterns`.

    Raises:
        InvalidInputError: two parts are the same object, arrays that share memory, or equal arrays.
    """
    samples = {name: _digests(data) for name, data in parts.items()}
    for (name, data), (other_name, other) in itertools.combinations(parts.items(), 2):
        if data is other or _same_array(data, other):
            raise InvalidInputError(
                f"{name} and {other_name} are the same samples, or share some: rho means nothing on samples that the "
                "estimator or the regression has seen. Split the data into three parts."
            )
        seen = set(samples[name])
        common = sum(sample in seen for sample in samples[other_name])
        if common > _COMMON * len(samples[other_name]):
            _log.warning(
                "%d of %d samples of %s are in %s too: rho is wrong on samples that the estimator or the regression has "
                "seen.",
                common,
                len(samples[other_name]),
                other_name,
                name,
            )


def _same_array(one, two):
    if not isinstance(one, np.ndarray) or not isinstance(two, np.ndarray):
        return False
    return np.shares_memory(one, two) or (one.shape == two.shape and np.array_equal(one, two))


def _digests(data):
    """A hash of each sample of an array or a tensor; none for data that comes in batches."""
    if not hasattr(data, "shape") or not hasattr(data, "__array__"):
        return []
    return [digest([sample]) for sample in np.asarray(data)]
