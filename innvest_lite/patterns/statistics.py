"""The sums that patterns are made of: per layer in float64, mergeable, saved as HDF5.

Gathered by the fitter, possibly in parts on many machines; an estimator turns them into patterns. All sums run over
samples, each times its weight, and, for convolutions, positions. Sums of y and of x y are kept around a pivot near the
mean of y, which every part may choose for itself: the closer it is, the less a sum's rounding matters.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from innvest_lite.digests import BatchDigest
from innvest_lite.errors import InvalidInputError, PatternMismatchError
from innvest_lite.patterns import files
from innvest_lite.patterns.arrays import all_finite
from innvest_lite.patterns.estimators import (
    DEFAULT,
    KINDS,
    RENAMED_KINDS,
    checked_choice,
    chosen,
    estimate,
    with_present_names,
)
from innvest_lite.patterns.layers import GATHERED, LayerFacts, LayerStatistics, sums_of
from innvest_lite.patterns.patterns import UNSAID, Patterns, warn_of_dead_units
from innvest_lite.tables import brief

_KIND, _VERSION = "statistics", 3
_MOST_PARTS = 1_000_000


class PatternStatistics:
    """The sums of all linear layers of a model, and of which weights they are.

    Attributes:
        layers: layer (node) name -> `LayerStatistics`.
        facts: layer name -> `LayerFacts`.
        kernels: layer name -> the effective kernel; may be computed when it is asked for.
        settings: how the sums were gathered: "regime", "separable" and "chains", see `fit_statistics`, and "preprocess",
            the name of what prepared the images, where that is known.
        estimator: what the patterns are to be estimated by, unless said otherwise.
        samples: the number of samples.
        batches: the number of batches of this fit; a checkpoint continues after them.
        batch_size: the size of the batches that arrays were cut into; 0 where the data came in batches.
        complete: whether all of the data went in; False where there may be more.
        first_batch: the `BatchDigest` of the first batch, by which other data is recognized; None where there is none.
        other_fingerprints: layer name -> a hash of its weights, for layers without a pattern.
        parts: which parts of the data these are, such as ["3/8"]; empty where the data was not divided.

    Example:
        >>> statistics = PatternStatistics.load("part-0.h5")
        >>> statistics.merge(PatternStatistics.load("part-1.h5")).samples
        64
        >>> patterns = statistics.patterns(model, "relu")
        >>> patterns.estimator
        'relu'
    """

    def __init__(
        self,
        layers: Mapping[str, LayerStatistics],
        facts: Mapping[str, LayerFacts],
        kernels: Any,
        settings: Mapping[str, str],
        estimator: str | Mapping[str, str] = DEFAULT,
        *,
        samples: int = 0,
        batches: int = 0,
        batch_size: int = 0,
    ) -> None:
        self.layers, self.facts, self.kernels = dict(layers), dict(facts), kernels
        self.settings, self.estimator = {**UNSAID, **settings}, estimator
        self.samples, self.batches, self.batch_size = int(samples), int(batches), int(batch_size)
        self.complete = False
        self.parts: list[str] = []
        self.first_batch: BatchDigest | None = None
        self.other_fingerprints: dict[str, str] = {}

    def __repr__(self) -> str:
        return (
            f"<PatternStatistics of {len(self.layers)} layers: {self.samples} samples, estimator {brief(self.estimator)}>"
        )

    @property
    def fingerprints(self) -> dict[str, str]:
        """Layer name -> a hash of its weights, for all layers with weights, see `Layout.fingerprints`."""
        return {**{name: facts.fingerprint for name, facts in self.facts.items()}, **self.other_fingerprints}

    def merge(self, other: PatternStatistics) -> PatternStatistics:
        """Adds the sums of another part of the data, in place; any order of merging gives the same result.

        Args:
            other: the `PatternStatistics` of the same model over other data.

        Returns:
            This object.

        Raises:
            PatternMismatchError: they are of another model, of other weights, or gathered otherwise; or of the same data.
            InvalidInputError: `other` is no `PatternStatistics`.
        """
        if other is self:
            raise InvalidInputError("Statistics cannot be merged with themselves: that would count all data twice.")
        self.check_mergeable(other)
        for name, layer in self.layers.items():
            layer.add(other.layers[name], self.facts[name].fan_in)
        self.samples += other.samples
        self.batches += other.batches
        self.complete = self.complete and other.complete
        self.parts = sorted(self.parts + other.parts, key=_place)
        return self

    @property
    def missing_parts(self) -> list[str]:
        """The parts that are still missing, such as ["2/8"]; empty where the data was not divided."""
        counts = {count for _, count in map(_place, self.parts)}
        return [part for count in counts for part in _parts_of(count) if part not in self.parts]

    def check_mergeable(self, other: PatternStatistics) -> None:
        """Raises PatternMismatchError where these and the `other` statistics are not parts of one whole."""
        self.check_mergeable_weights(other)
        if self.settings != other.settings or self.facts != other.facts:
            raise PatternMismatchError(
                "Statistics that were gathered in different ways cannot be merged: "
                f"{self._way()} here, {other._way()} there."
            )
        both = [part for part in self.parts if part in other.parts]
        if both:
            raise PatternMismatchError(f"Both hold part {', '.join(both)}, which would count twice.")
        counts = {count for _, count in map(_place, self.parts + other.parts)}
        if len(counts) > 1 or bool(self.parts) != bool(other.parts):
            raise PatternMismatchError(
                f"The data was divided in different ways, {self.parts or 'not at all'} and {other.parts or 'not at all'}: "
                "some of it would count twice."
            )
        if self.samples and self._same_sums(other):
            raise PatternMismatchError(
                "Both hold exactly the same sums: they are of the same data, which would count twice."
            )

    def _same_sums(self, other):
        """Whether the sums that are cheap to compare are equal in all bits, those of y."""
        # Two parts of real data never agree in all bits of these.
        pairs = [(layer, other.layers[name]) for name, layer in self.layers.items() if layer.sum_y is not None]
        return bool(pairs) and all(
            one.count == two.count and np.array_equal(one.pivot, two.pivot) and np.array_equal(one.sum_y, two.sum_y)
            for one, two in pairs
        )

    def check_mergeable_weights(self, other: PatternStatistics) -> None:
        """Raises PatternMismatchError where these and the `other` statistics are not of the same weights."""
        if self.fingerprints != other.fingerprints:
            raise PatternMismatchError(
                "Statistics of different models or weights cannot be merged; they differ at "
                f"{_differing(self.fingerprints, other.fingerprints)}."
            )

    def check_serves(self, wanted: PatternStatistics, path: str | os.PathLike[str]) -> None:
        """Refuses to continue a fit from the file of another one.

        Args:
            wanted: empty statistics of the same model, as the fit would gather them.
            path: of the file that these were read from, for the message.

        Raises:
            PatternMismatchError: these are of another model, of other weights, or gathered otherwise.
        """
        self.check_mergeable_weights(wanted)
        enough = all(_serves(facts.gathered, wanted.facts[name].gathered) for name, facts in self.facts.items())
        if self.parts != wanted.parts:
            raise PatternMismatchError(
                f"{path} is of another part of the data, {self.parts or 'all of it'}, not {wanted.parts or 'all'}."
            )
        if self.settings != wanted.settings or not enough:
            raise PatternMismatchError(
                f"The fit cannot continue from {path}, which was gathered in another way: {self._way()} there, but "
                f"{wanted._way()} here. Choose another checkpoint."
            )

    def _way(self):
        words = ", ".join(f"{name}={value!r}" for name, value in self.settings.items())
        return f"{words}, sums for {' and '.join(sorted({facts.gathered for facts in self.facts.values()}))}"

    def patterns(self, model: Any = None, estimator: str | Mapping[str, str] | None = None) -> Patterns:
        """The patterns of the model by any estimator whose sums were gathered.

        Args:
            model: the model that the statistics were gathered with, to check that they belong to it; None: no check.
            estimator: see `fit_patterns`; None: the one that the fit was made for.

        Returns:
            `Patterns`.

        Raises:
            PatternMismatchError: the statistics are of another model or of other weights.
            InvalidInputError: there is no such estimator, or its sums were not gathered, or there is no data in them.
        """
        estimator = checked_choice(self.estimator if estimator is None else estimator)
        if model is not None:
            # Late, because reading and merging files needs neither graph nor forms.
            from innvest_lite.patterns.layout import Layout

            self.check_model(Layout.of(model, self.settings["separable"], self.settings["chains"]).fingerprints())
        return self._patterns(estimator)

    def into_patterns(self) -> Patterns:
        """The patterns as the fit was made for; each layer's sums are let go when its pattern is there."""
        return self._patterns(checked_choice(self.estimator), keep=False)

    def _patterns(self, estimator, keep=True):
        arrays, reports = {}, {}
        self._verify()
        for name, facts in self.facts.items():
            arrays[name], reports[name] = self._estimated(name, facts, chosen(estimator, facts.kind))
            if not keep:
                del self.layers[name]
        warn_of_dead_units(arrays, reports, self.facts)
        return Patterns(arrays, estimator, self.fingerprints, reports, self.settings)

    def _estimated(self, name, facts, word):
        if word not in GATHERED[facts.gathered]:
            raise InvalidInputError(
                f"The sums of {name} for {word!r} were not gathered: the fit was made for {self.estimator!r} alone. "
                "fit_statistics without estimator= gathers those of all estimators."
            )
        kernel = self.kernels[name]
        if not all_finite(kernel):
            raise InvalidInputError(f"The weights of {name} hold NaN or infinite values, so they have no pattern.")
        layer = self.layers[name] if word != "filter" else None
        if layer is not None and not layer.count:
            raise InvalidInputError("The statistics hold no sample (of a weight above 0) yet, so they have no patterns.")
        pattern, report = estimate(word, layer, kernel, facts.fan_in, "float32")
        return pattern, dataclasses.replace(report, activation=facts.activation)

    def _verify(self) -> None:
        """Makes sure that kernels which are those of a model are still those that the sums were gathered with."""
        verify = getattr(self.kernels, "verify", None)
        if verify is not None:
            verify()

    def check_model(self, fingerprints: Mapping[str, str]) -> None:
        """Raises PatternMismatchError where the statistics are not of weights with these `fingerprints` (name -> hash)."""
        if self.fingerprints != fingerprints:
            raise PatternMismatchError(
                "These statistics are of another model or of other weights; they differ at "
                f"{_differing(self.fingerprints, fingerprints)}."
            )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes an HDF5 file to `path`, to a temporary name first; float64."""
        self._verify()
        attributes = {name: getattr(self, name) for name in ("samples", "batches", "batch_size", "complete")}
        # HDF5 attributes hold numbers and text.
        attributes["first_batch"] = "" if self.first_batch is None else str(self.first_batch)
        attributes.update(estimator=files.as_text(self.estimator), parts=" ".join(self.parts))
        attributes["other_fingerprints"] = json.dumps(self.other_fingerprints)
        attributes.update({f"setting {name}": value for name, value in self.settings.items()})
        groups = ((name, _attributes(facts), self._arrays(name)) for name, facts in self.facts.items())
        files.write(path, _KIND, _VERSION, attributes, groups)

    def _arrays(self, name):
        arrays = {key: value for key, value in vars(self.layers[name]).items() if value is not None}
        # Those that a fit has still in parts become whole one after the other, as they are written.
        return {"kernel": self.kernels[name], **{key: np.float64(v) if np.isscalar(v) else v for key, v in arrays.items()}}

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> PatternStatistics:
        """The `PatternStatistics` that `save` wrote to `path`.

        Raises:
            CorruptFileError: the file is no statistics file, truncated, damaged, or of another version.
        """
        attributes, groups = files.read(path, _KIND, _VERSION)
        with files.well_formed(path):
            facts = {name: _facts(attrs) for name, (attrs, _) in groups.items()}
            kernels = {name: arrays.pop("kernel") for name, (_, arrays) in groups.items()}
            sums = {name: _plain(arrays, facts[name], kernels[name].shape) for name, (_, arrays) in groups.items()}
            settings = {
                name.removeprefix("setting "): str(value)
                for name, value in attributes.items()
                if name.startswith("setting ")
            }
            statistics = cls(
                {name: LayerStatistics(**own) for name, own in sums.items()},
                facts,
                kernels,
                settings,
                checked_choice(with_present_names(files.from_text(attributes["estimator"]))),
                **{name: _counter(attributes[name]) for name in ("samples", "batches", "batch_size")},
            )
            statistics.other_fingerprints = files.texts(attributes["other_fingerprints"])
            statistics.complete, statistics.parts = bool(attributes["complete"]), attributes["parts"].split()
            for part in statistics.parts:
                number, count = _place(part)
                if part != part_of(number - 1, count):
                    raise ValueError(f"{part!r} is no part.")
            statistics.first_batch = BatchDigest.from_text(str(attributes["first_batch"]))
            statistics.check_finite()
            return statistics

    def check_finite(self) -> None:
        """Raises InvalidInputError, naming the layers, where a sum is NaN or infinite."""
        sums = {name: [value for value in vars(layer).values() if value is not None] for name, layer in self.layers.items()}
        broken = [name for name, values in sums.items() if not all(map(all_finite, values))]
        if broken:
            raise not_finite(broken)


def not_finite(names: Sequence[str]) -> InvalidInputError:
    """The error for layers, by their names, with a sum that is NaN or infinite."""
    return InvalidInputError(
        f"The statistics of {', '.join(names)} are not finite: the model's values overflow on this data, or its "
        "weights hold NaN or infinite values. Check the weights, and that the data is preprocessed as the model "
        "expects."
    )


def _serves(there, wanted):
    """Whether sums gathered in one way (keys of `GATHERED`) are at least those of another."""
    return there in (wanted, "all") or (there, wanted) == ("relu", "relu, sampled")


def part_of(index: int, count: int) -> str:
    """The name of part number `index`, counted from 0, of `count` parts: "1/8" is the first.

    Raises:
        InvalidInputError: there is no such part, or there are too many of them to be listed.
    """
    if not 0 <= index < count <= _MOST_PARTS:
        raise InvalidInputError(f"The parts are 1/N to N/N, with N up to {_MOST_PARTS:,}, but this is {index + 1}/{count}.")
    return f"{index + 1}/{count}"


def _parts_of(count):
    return [part_of(index, count) for index in range(count)]


def _place(part):
    """`(number, count)` of a part."""
    number, count = part.split("/")
    return int(number), int(count)


def _plain(arrays, facts, kernel):
    """The sums of a file, counts as numbers.

    Raises:
        ValueError: they are not those that were gathered, or do not fit the shape of the kernel.
    """
    wanted, fan_in = sums_of(facts.gathered), facts.fan_in
    if set(arrays) != set(wanted):
        raise ValueError(f"it should hold {sorted(wanted)}, but holds {sorted(arrays)}.")
    if len(set(fan_in)) < len(fan_in) or not set(fan_in) <= set(range(len(kernel))):
        raise ValueError(f"units cannot sum over the axes {fan_in} of a kernel of shape {kernel}.")
    for name, array in arrays.items():
        per_unit = wanted[name] == "unit_shape"
        shape = np.expand_dims(array, fan_in).shape if per_unit else array.shape
        if np.broadcast_shapes(shape, kernel) != kernel or len(shape) not in (0, len(kernel)):
            raise ValueError(f"{name} has the shape {array.shape}, which does not fit a kernel of shape {kernel}.")
    return {name: float(array) if wanted[name] is None else array for name, array in arrays.items()}


def _counter(number):
    """A number of samples or batches from a file.

    Raises:
        ValueError: it is none.
    """
    if np.ndim(number) or int(number) != number or not 0 <= number < 2**62:
        raise ValueError(f"expected a number of samples or batches, but found {number!r}.")
    return int(number)


def _attributes(facts):
    return {**dataclasses.asdict(facts), "fan_in": np.array(facts.fan_in, "int64")}


def _facts(attrs):
    words = {name: str(attrs[name]) for name in ("fingerprint", "kind", "activation", "gathered")}
    words["kind"] = RENAMED_KINDS.get(words["kind"], words["kind"])
    if words["gathered"] not in GATHERED or words["kind"] not in KINDS:
        raise ValueError(f"there is no layer of the kind {words['kind']!r} of which {words['gathered']!r} was gathered.")
    fan_in = tuple(int(axis) for axis in attrs["fan_in"])
    return LayerFacts(**words, fan_in=fan_in, is_output=bool(attrs["is_output"]))


def _differing(one, other):
    """The names at which two mappings differ, as text."""
    return ", ".join(sorted({name for name, _ in set(one.items()) ^ set(other.items())}))
