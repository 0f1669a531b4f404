"""Gathering the statistics of patterns over a whole data set: the loop, which sums of which batch, and the checkpoints.

Not `keras.Model.fit`: under a distribution strategy Keras 3.15's own loop takes the first batch of a generator to build
the model and drops it, and with several workers it fails. Its callbacks and its progress bar are used. Called by `api`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pathlib
from typing import Any

import keras
import numpy as np

from innvest_lite import backend
from innvest_lite.digests import BatchDigest
from innvest_lite.errors import InvalidInputError, PatternMismatchError
from innvest_lite.files import leftovers, locked
from innvest_lite.inputs import InputSpec
from innvest_lite.patterns.data import Source, batches, require_end
from innvest_lite.patterns.estimators import may_need_linear
from innvest_lite.patterns.gatherer import Gatherer
from innvest_lite.patterns.products import PRODUCTS
from innvest_lite.patterns.running import RunningSums
from innvest_lite.patterns.statistics import PatternStatistics, not_finite

_log = logging.getLogger("innvest_lite")

FLUSH_EVERY = 32
"""Steps between two flushes."""
FULL_SAMPLES = 1024
"""All sums are gathered of the first samples, this many or a few more; afterwards, sums that may rest on a part of the data
are gathered of every `FULL_EVERY`-th batch only."""
FULL_EVERY = 32
# Numbers that workers exchange at once, unless one array has more.
_TOGETHER = 1 << 22


class PatternFitter:
    """Gathers a model's `PatternStatistics`.

    Args:
        statistics: the sums so far; more are added in place.
        inputs: the `InputSpec` of the model.
        gatherer: the `Gatherer` of the model, empty.
        checkpoint: a path to write the statistics to at each flush, or None.

    Attributes:
        stop_training: a callback may set it, to end the fit after the batch.
    """

    def __init__(
        self,
        statistics: PatternStatistics,
        inputs: InputSpec,
        gatherer: Gatherer,
        checkpoint: str | os.PathLike[str] | None = None,
    ) -> None:
        self.statistics, self._inputs, self._gatherer, self._checkpoint = statistics, inputs, gatherer, checkpoint
        self._has_pivots = statistics.samples > 0
        self._running = RunningSums(statistics, gatherer)
        if self._has_pivots:
            self._put_pivots()
            self._settle()
        self._waiting, self._samples = 0, 0
        self.stop_training = False

    def fit(
        self,
        source: Source,
        first: int = 0,
        step: int = 1,
        limit: int | None = None,
        callbacks: Any = None,
        verbose: int | str = "auto",
        *,
        keep: bool = False,
    ) -> None:
        """Adds the batches number `first`, `first + step`, ... of a `Source`, at most `limit` of them.

        Args:
            source: the data.
            first: the number of the first batch.
            step: from one batch to the next.
            limit: how many batches; None: all that there are.
            callbacks: as in `keras.Model.fit`.
            verbose: likewise.
            keep: whether programs and sums on the device are kept for another fit.

        Raises:
            InvalidInputError: a batch does not fit the model or holds NaN, or a sum overflowed.
        """
        # Before the first batch is read, which may be costly.
        if limit is None:
            require_end(source)
        steps = source.count(first, step, limit)
        called = keras.callbacks.CallbackList(
            callbacks, add_progbar=verbose != 0, model=self, verbose=verbose, epochs=1, steps=steps
        )
        called.on_train_begin()
        called.on_epoch_begin(0)
        taken, logs = 0, {}
        with contextlib.closing(batches(source, self._inputs, first, step, limit)) as feed:
            for batch in feed:
                called.on_train_batch_begin(taken)
                self._add(batch)
                taken += 1
                logs = {"samples": self.statistics.samples + self._samples}
                # With a flush of its own at this point: pivots move to the means, and less may be gathered from here on.
                settled = self.statistics.samples < FULL_SAMPLES <= logs["samples"]
                if self._waiting == FLUSH_EVERY or settled:
                    self._flush()
                called.on_train_batch_end(taken - 1, logs)
                if self.stop_training:
                    break
        self.statistics.complete = not self.stop_training and (limit is None or taken < limit)
        if self._checkpoint is not None:
            self._flush()
        self._finish(keep)
        called.on_epoch_end(0, logs)
        called.on_train_end(logs)

    def _add(self, batch):
        """Adds one batch; an empty one changes the number of batches alone."""
        samples = len(batch.arrays[0])
        if samples and not self._has_pivots:
            self._start(batch)
        elif samples:
            before, number = self.statistics.samples + self._samples, self.statistics.batches + self._waiting
            full = before < FULL_SAMPLES or number % FULL_EVERY == 0
            self._gatherer.add(batch.arrays, batch.weights, full)
        self._samples += samples
        self._waiting += 1

    def _start(self, batch):
        """Adds the first batch, of which the pivots are."""
        self.statistics.first_batch = BatchDigest.of(batch.arrays)
        with backend.weights_stay():
            for name, kind, value in self._gatherer.first(batch.arrays, batch.weights):
                layer = self.statistics.layers[name]
                if kind == "pivot":
                    layer.pivot = value
                elif kind in PRODUCTS:
                    self._running.add(name, kind, value)
                else:
                    layer.accumulate(kind, value)
        self._has_pivots = True

    def _put_pivots(self):
        layers = self.statistics.layers.items()
        self._gatherer.put_pivots({name: layer.pivot for name, layer in layers if layer.sum_y is not None})

    def _count(self):
        """Moves the device's small sums to the statistics, and counts what came since the last time."""
        for name, kind, value in self._gatherer.take_small():
            self.statistics.layers[name].accumulate(kind, value)
        self._refuse(name for name, layer in self.statistics.layers.items() if not layer.is_finite)
        self.statistics.samples += self._samples
        self.statistics.batches += self._waiting
        self._waiting, self._samples = 0, 0

    def _flush(self):
        """Moves the device's sums to the statistics, and writes these."""
        moves = self.statistics.samples < FULL_SAMPLES and self._has_pivots
        self._count()
        self._refuse(self._running.flush(moves))
        if moves:
            self._put_pivots()
            self._settle()
        # Not before there is a sample: an empty file would be taken for a finished fit.
        if self._checkpoint is not None and (self.statistics.samples or self.statistics.parts):
            self.statistics.save(self._checkpoint)

    def _finish(self, keep):
        """Takes all sums off the device."""
        self._count()
        self._refuse(self._running.finish(keep))

    def _refuse(self, broken):
        names = list(broken)
        if names:
            raise not_finite(names)

    def _settle(self):
        """Once there are enough samples to judge, stops gathering the sums that no unit seems to need of every batch.

        The linear pattern is the fallback of units that have no sound one of the positive regime. A layer that seems to
        have such units keeps the products of every batch, as long as it has had them of every batch so far.
        """
        if self.statistics.samples < FULL_SAMPLES:
            return
        kept = []
        for name, layer in self.statistics.layers.items():
            facts = self.statistics.facts[name]
            going_on = facts.gathered.startswith("relu") and layer.linear_count == layer.count
            if going_on and (not layer.count or self._may_need_linear(name, facts.fan_in)):
                kept.append(name)
        self._gatherer.keep_linear(kept)

    def _may_need_linear(self, name, fan_in):
        return may_need_linear(self._running.held(name), self.statistics.kernels[name], fan_in)


def held(checkpoint: str | os.PathLike[str] | None) -> contextlib.AbstractContextManager[bool]:
    """A context manager in which no other fit writes the checkpoint: a bool, whether that is so, and not only hoped.

    Args:
        checkpoint: a path, or None for no checkpoint.

    Raises:
        InvalidInputError: another fit writes it.
    """
    return contextlib.nullcontext(False) if checkpoint is None else locked(checkpoint)


def resumed(
    statistics: PatternStatistics, checkpoint: str | os.PathLike[str] | None, alone: bool = False
) -> PatternStatistics:
    """The statistics of a checkpoint, if there is one that belongs to the same fit; else those given.

    Args:
        statistics: empty ones, as the fit at hand would begin with.
        checkpoint: a path, or None.
        alone: whether it is certain that no other fit writes it: then what killed ones left is removed.

    Raises:
        PatternMismatchError: the file is of another model, of other weights, or of another fit.
        CorruptFileError: the file is damaged.
    """
    if checkpoint is None:
        return statistics
    for partial in leftovers(checkpoint) if alone else ():
        partial.unlink(missing_ok=True)
    if not pathlib.Path(checkpoint).exists():
        return statistics
    found = PatternStatistics.load(checkpoint)
    found.check_serves(statistics, checkpoint)
    # What the file does not decide: kernels are those of the model at hand, and the estimator the one that is asked for.
    found.kernels, found.estimator, found.batch_size = statistics.kernels, statistics.estimator, statistics.batch_size
    return found


def check_place(
    statistics: PatternStatistics,
    source: Source,
    inputs: InputSpec,
    first: int,
    step: int,
    checkpoint: str | os.PathLike[str],
) -> None:
    """Makes sure that the batches in a checkpoint are the first batches of the data with which the fit continues.

    As far as this can be checked: data that cannot be indexed is not read.

    Args:
        statistics: those of the checkpoint.
        source: the `Source` of the data.
        inputs: the model's `InputSpec`.
        first: the number of the first batch of this fit's share.
        step: from one batch of the share to the next.
        checkpoint: the path, for messages.

    Raises:
        PatternMismatchError: the data is cut into batches of another size, so that the fit would continue at a wrong place.
    """
    if source.read is None or (source.length is not None and first >= source.length):
        return
    (batch,) = batches(source, inputs, first, step, 1)
    now = BatchDigest.of(batch.arrays)
    if statistics.first_batch in (None, now):
        return
    samples = source.samples(first, step, statistics.batches)
    elsewhere = samples != statistics.samples if samples is not None else statistics.first_batch.samples != now.samples
    if elsewhere and not statistics.complete:
        raise PatternMismatchError(
            f"{checkpoint} holds {statistics.samples} samples in {statistics.batches} batches, the first of "
            f"{statistics.first_batch.samples}; with batches of {now.samples} the fit "
            "would continue at another place of the data. Use the batch size that it was made with, or another checkpoint."
        )
    _log.warning(
        "The first batch of the data differs from the one that %s began with. If this is other data, the patterns will "
        "rest on both: choose another checkpoint for it.",
        checkpoint,
    )


def summed_over_workers(statistics: PatternStatistics, replicas: backend.Replicas) -> PatternStatistics:
    """The statistics of all processes of a MultiWorkerMirroredStrategy together, the same in each; in place."""
    if replicas.workers == 1:
        return statistics
    layers = {name: layer for name, layer in statistics.layers.items() if layer.sum_y is not None}
    counters = np.array([statistics.samples, statistics.batches], "float64")
    small = [array for layer in layers.values() for array in (layer.count, layer.count * layer.pivot + layer.sum_y)]
    (samples, batches), *means = _totals(replicas, [counters, *small])
    for (name, layer), count, total in zip(layers.items(), means[::2], means[1::2], strict=True):
        # Each worker has pivots of its own; sums can only be added around a common one. The tiny number is for no samples.
        layer.move(total / max(float(count), 1e-300), statistics.facts[name].fan_in)
    places = [(layer, kind) for layer in layers.values() for kind, _ in layer.items()]
    totals = _totals(replicas, [getattr(layer, kind) for layer, kind in places])
    for (layer, kind), total in zip(places, totals, strict=True):
        setattr(layer, kind, total if total.ndim else float(total))
    statistics.samples, statistics.batches = int(samples), int(batches)
    return statistics


def _totals(replicas, arrays):
    """The sums of float64 arrays over all processes, of small ones many in one exchange: each takes its round trips."""
    found, first = [], 0
    while first < len(arrays):
        end, size = first + 1, np.size(arrays[first])
        while end < len(arrays) and size + np.size(arrays[end]) <= _TOGETHER:
            size += np.size(arrays[end])
            end += 1
        # Not all at once: those that a fit left in parts become whole here.
        together = [np.asarray(array, "float64") for array in arrays[first:end]]
        if len(together) == 1:
            # As it is: of a large one, a copy would count.
            found.append(replicas.total(together[0]))
        else:
            total = replicas.total(np.concatenate([array.reshape(-1) for array in together]))
            parts = np.split(total, np.cumsum([array.size for array in together])[:-1])
            found += [part.reshape(array.shape) for part, array in zip(parts, together, strict=True)]
        first = end
    return found


def need_samples(statistics: PatternStatistics) -> None:
    """Raises InvalidInputError where no sample went in."""
    if not statistics.samples:
        raise InvalidInputError("The data set is empty: it gave no sample.")
