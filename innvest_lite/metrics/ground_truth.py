"""Scores against known truth: do maps show the positions that are known to matter, and the signal that is in them?

In: attributions as `analyze` gives them, masks of the truth and, where it is known, the signal. Out: a `GroundTruth`.
Called by users, and by `innvest-lite evaluate --truth`.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from innvest_lite.errors import InvalidInputError
from innvest_lite.metrics.scores import GroundTruth
from innvest_lite.metrics.similarity import average_ranks
from innvest_lite.metrics.transport import diagonal, distances_to, earth_movers_distance, optimal_transport
from innvest_lite.options import as_array, truth


def ground_truth(attributions: Any, masks: Any, signal: Any = None, *, emd: bool = False) -> GroundTruth:
    """Scores attributions against positions that are known to matter (Clark et al. 2024, arXiv 2306.12816).

    The scores look at magnitudes |a| of positions. Channels are summed first, with their signs, as heat maps and
    `degradation` do; Arras et al. 2022 take, among others, their largest magnitude or their squares: where you want that,
    pool before. With n of N positions in the truth:

    - `precision`: the share of the n largest |a| that lie in the truth; of ties, its expected value over a random order.
    - `mass_accuracy`: sum of |a| in the truth / sum of |a| (Arras et al. 2022, arXiv 2003.07258; Clark et al. call it
      importance mass accuracy).
    - `emd`: 1 - EMD / diagonal. The EMD is the least work, mass times distance, that makes of |a| / sum |a| an even spread
      over the truth; the diagonal is the largest distance of two positions.
    - `fni_emd`: the same where moves within the truth are free (false-negative-invariant), so that a map loses nothing by
      showing a part of the truth alone: 1 - (sum |a| d / sum |a|) / diagonal, d the distance to the nearest true position.
    - `auc`: the probability that a true position has a larger |a| than another one, ties counted half (area under the ROC).
    - `signal_correlation`: Pearson's correlation of the attribution, with its sign, and the signal, over all positions and
      channels, in -1..1; 0 for a constant attribution.

    1 is the best in all of them. A map that is 0 everywhere says nothing and gets what a constant map gets, in all scores;
    `GroundTruth.empty` says which do. **Local** scores are those of each sample. **Global** ones, which there are where all
    samples have the same truth, are those of the mean over samples of the signed maps: what all maps have in common. Leave
    out the samples that the network gets wrong, since nothing is known of what they should show.

    Args:
        attributions: numbers (samples, positions..., channels), or (samples, features) for a table, as `analyze` returns
            them. Powers of two that samples are divided by (`return_exponent`) matter to global scores alone.
        masks: True, or 1, where the truth is, else False, or 0: (samples, positions...), or of the attributions' whole
            shape, where each number, of whatever channel, is a position of its own; a last axis of 1 means all channels.
            One mask for all samples has a first axis of 1.
        signal: numbers of the attributions' shape, or with a first axis of 1 for all samples; None: no correlation.
        emd: also `emd`, which needs POT (`pip install 'innvest_lite[emd]'`), about a second for a sample of 64 x 64
            positions, and memory for positions times true positions.

    Returns:
        A `GroundTruth`, without unit. Distances are in steps of the grid of positions: those of a table depend on the order
        of its columns.

    Raises:
        InvalidInputError: shapes that do not fit, numbers that are NaN or infinite, masks of other numbers than 0 and 1, a
            mask without or with nothing but true positions, a constant signal, or emd=True without POT.

    Example:
        >>> masks = np.array([[True, True, False, False]])
        >>> scores = ground_truth([[3.0, -2.0, 0.0, 1.0], [0.0, 1.0, 1.0, 0.0]], masks)
        >>> scores.precision, scores.auc
        (array([1. , 0.5]), array([1. , 0.5]))
    """
    maps = _checked(attributions, "attributions")
    found = _checked_masks(masks, maps.shape)
    signals = None if signal is None else _checked_signal(signal, maps.shape)
    if truth(emd, "emd"):
        optimal_transport()
    local = _scored(maps, found, signals, emd)
    if (found != found[:1]).any():
        return local
    mean = _scaled(maps, together=True).mean(axis=0, keepdims=True)
    common = None if signals is None else _scaled(signals, together=True).mean(axis=0, keepdims=True)
    return dataclasses.replace(local, global_scores=_scored(mean, found[:1], common, emd))


def _scored(maps, masks, signals, emd):
    """The `GroundTruth` of checked arrays."""
    maps = _scaled(maps)
    mass = np.abs(maps.sum(axis=-1) if masks.ndim < maps.ndim else maps)
    sizes, count = mass.shape[1:], len(mass)
    empty = ~mass.reshape(count, -1).any(axis=1)
    mass[empty] = 1
    values = mass.reshape(count, -1)
    shares = values / values.sum(axis=1, keepdims=True)
    inside = np.broadcast_to(masks, mass.shape).reshape(values.shape)
    apart = np.broadcast_to(distances_to(masks), mass.shape).reshape(values.shape)
    work = (
        [earth_movers_distance(a.reshape(sizes), b.reshape(sizes)) for a, b in zip(shares, inside, strict=True)]
        if emd
        else None
    )
    return GroundTruth(
        precision=np.array([_precision(a, b) for a, b in zip(values, inside, strict=True)]),
        mass_accuracy=(shares * inside).sum(axis=1),
        fni_emd=1 - (shares * apart).sum(axis=1) / diagonal(sizes),
        auc=np.array([_auc(a, b) for a, b in zip(values, inside, strict=True)]),
        chance=inside.mean(axis=1),
        empty=empty,
        emd=None if work is None else 1 - np.array(work) / diagonal(sizes),
        signal_correlation=None if signals is None else _correlations(maps, signals),
    )


def _scaled(values, together=False):
    """Divided by a power of two, each sample or all alike: no sum overflows, and what is equal or larger stays so."""
    axes = None if together else tuple(range(1, values.ndim))
    exponents = np.frexp(np.abs(values).max(axis=axes, keepdims=True))[1]
    return np.ldexp(values, -exponents)


def _precision(values, inside):
    """The expected share of true positions among the n largest, where a random order breaks ties."""
    count = inside.sum()
    least = np.partition(values, -count)[-count]
    above, tied = values > least, values == least
    return (inside[above].sum() + (count - above.sum()) * inside[tied].mean()) / count


def _auc(values, inside):
    """The statistic of Mann and Whitney, as a share of all pairs."""
    count = inside.sum()
    return (average_ranks(values)[inside].sum() - count * (count + 1) / 2) / (count * (len(values) - count))


def _correlations(maps, signals):
    """Pearson's, per sample; 0 where the map is constant, NaN where the signal is."""
    signals = np.broadcast_to(_scaled(signals), maps.shape)
    return np.array([_correlation(a.ravel(), b.ravel()) for a, b in zip(maps, signals, strict=True)])


def _correlation(one, signal):
    # Not by the deviations: those of a constant need not be exactly 0.
    if not np.ptp(signal):
        return np.nan
    if not np.ptp(one):
        return 0.0
    one, signal = one - one.mean(), signal - signal.mean()
    return np.clip(one @ signal / np.sqrt((one @ one) * (signal @ signal)), -1, 1)


def _checked(given, name):
    """Finite numbers (samples, ...), as float64."""
    array = as_array(given, name)
    if array.ndim < 2 or not array.size:
        raise InvalidInputError(
            f"{name} should be numbers (samples, positions..., channels), but have shape {array.shape}."
        )
    if array.dtype.kind not in "fiu":
        raise InvalidInputError(f"{name} should be numbers, but are of type {array.dtype}.")
    if not np.isfinite(array).all():
        raise InvalidInputError(f"{name} should be finite, but hold NaN or infinite values.")
    return array.astype("float64")


def _checked_signal(given, shape):
    """Signals (samples or 1, positions..., channels), of which none is constant."""
    signals = _checked(given, "signal")
    if signals.shape[1:] != shape[1:] or len(signals) not in (1, shape[0]):
        raise InvalidInputError(
            f"signal should have the attributions' shape {shape}, or a first axis of 1, but has {signals.shape}."
        )
    constant = np.flatnonzero(np.ptp(signals.reshape(len(signals), -1), axis=1) == 0)
    if constant.size:
        raise InvalidInputError(
            f"The signal of sample {constant[0]} is constant: nothing correlates with it. Leave it out."
        )
    return signals


def _checked_masks(given, shape):
    """Masks as booleans (samples or 1, positions...), with the last axis of the attributions or without it."""
    masks = as_array(given, "masks")
    if masks.ndim == len(shape) > 2 and masks.shape[-1] == 1:
        masks = masks[..., 0]
    whole = masks.shape[1:] == shape[1:] or (len(shape) > 2 and masks.shape[1:] == shape[1:-1])
    if not masks.ndim or not whole or len(masks) not in (1, shape[0]):
        raise InvalidInputError(
            f"masks should have the attributions' shape {shape}, or that without the channels; one mask for all samples "
            f"a first axis of 1, as masks[None]; but has {np.shape(given)}."
        )
    if masks.dtype.kind not in "bfiu" or not np.isin(masks, (0, 1)).all():
        raise InvalidInputError("masks should be True and False, or 1 and 0, but hold something else.")
    masks = masks.astype(bool)
    flat = masks.reshape(len(masks), -1)
    for wrong, what in ((~flat.any(axis=1), "no position"), (flat.all(axis=1), "every position")):
        if wrong.any():
            raise InvalidInputError(
                f"The mask of sample {np.flatnonzero(wrong)[0]} has {what} in the truth: there is nothing to score. Leave "
                "the sample out."
            )
    return masks
