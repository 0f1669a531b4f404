"""`Patterns`: what a fit gives and the pattern methods take, a read-only mapping that saves to HDF5."""

from __future__ import annotations

import collections
import csv
import dataclasses
import html
import io
import json
import logging
import math
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from innvest_lite.errors import InvalidInputError, PatternMismatchError
from innvest_lite.files import replacing
from innvest_lite.options import as_array
from innvest_lite.patterns import files
from innvest_lite.patterns.arrays import all_finite
from innvest_lite.patterns.estimators import LayerReport, with_present_names
from innvest_lite.patterns.layers import LayerFacts
from innvest_lite.tables import Tabled, brief, csv_cell, printable

_KIND, _VERSION = "patterns", 3
UNSAID = {"regime": "rectifier", "separable": "split", "chains": "split"}
"""How patterns were fitted of which it is not said: as all were before there was the choice."""

_log = logging.getLogger("innvest_lite")


class Patterns(Mapping[str, np.ndarray]):
    """Layer (node) name -> pattern, in the shape of the layer's kernel, float32.

    Sums and averages have virtual kernels: `(addends, channels)` and `(taps..., channels)`.

    Args:
        arrays: name -> array.
        estimator: how they were estimated.
        fingerprints: name -> hash of the weights that they belong to; layers without a pattern count too.
        reports: name -> `LayerReport`.
        settings: how they were fitted: "regime", "separable" and "chains", see `fit_statistics`, and "preprocess", the
            name of what prepared the images, where that is known.

    Raises:
        InvalidInputError: an array holds NaN, infinite or masked values, or none that are numbers.

    Example:
        >>> patterns = Patterns({"dense": np.ones((2, 1))}, "linear", {"dense": "ab"}, {})
        >>> patterns["dense"].dtype
        dtype('float32')
    """

    def __init__(
        self,
        arrays: Mapping[str, Any],
        estimator: str | Mapping[str, str],
        fingerprints: Mapping[str, str],
        reports: Mapping[str, LayerReport],
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self._arrays = {name: _frozen(array, name) for name, array in arrays.items()}
        self.estimator = estimator
        self.fingerprints = dict(fingerprints)
        self.reports = dict(reports)
        self.settings = {**UNSAID, **(settings or {})}

    def __getitem__(self, name: str) -> np.ndarray:
        return self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __repr__(self) -> str:
        return f"Patterns(estimator={brief(self.estimator)}, layers={len(self)})"

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(repr(self))}</p>{self.report()._repr_html_()}"

    def report(self) -> Report:
        """What the data told, layer by layer: pairs, active share, dead and ill-conditioned units.

        Returns:
            A `Report`: a mapping from layer name to `LayerReport` that prints as a table.
        """
        return Report(self.reports)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes an HDF5 file to `path`, to a temporary name first."""
        groups = (
            (
                name,
                {"fingerprint": self.fingerprints[name], **dataclasses.asdict(self.reports[name])},
                {"pattern": array},
            )
            for name, array in self.items()
        )
        others = {name: text for name, text in self.fingerprints.items() if name not in self}
        attributes = {"estimator": files.as_text(self.estimator), "other_fingerprints": json.dumps(others)}
        files.write(path, _KIND, _VERSION, {**attributes, **self.settings}, groups)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Patterns:
        """The `Patterns` that `save` wrote to `path`.

        Raises:
            CorruptFileError: the file is no pattern file, truncated, damaged, or of another version.
        """
        attributes, groups = files.read(path, _KIND, _VERSION)
        with files.well_formed(path):
            return cls(
                {name: arrays["pattern"] for name, (_, arrays) in groups.items()},
                with_present_names(files.from_text(attributes["estimator"])),
                {
                    **{name: attrs["fingerprint"] for name, (attrs, _) in groups.items()},
                    **files.texts(attributes["other_fingerprints"]),
                },
                {name: _report(attrs, arrays["pattern"].size) for name, (attrs, arrays) in groups.items()},
                {
                    name: str(attributes[name])
                    for name in ("regime", "separable", "chains", "preprocess")
                    if name in attributes
                },
            )


def _report(attrs, size):
    """A `LayerReport` from the attributes of a file, of a pattern of so many values.

    Raises:
        ValueError: the numbers cannot be those of such a pattern.
    """
    values = {field.name: attrs[field.name] for field in dataclasses.fields(LayerReport)}
    report = LayerReport(**{name: value.item() if hasattr(value, "item") else value for name, value in values.items()})
    counts = (report.units, report.dead, report.ill_conditioned)
    if not all(type(number) is int and 0 <= number <= size for number in counts) or size % max(report.units, 1):
        raise ValueError(f"units, dead and ill-conditioned units are {counts}, of a pattern of {size} values.")
    if report.dead + report.ill_conditioned > report.units:
        raise ValueError(f"of units, dead and ill-conditioned ones there are {counts}.")
    # Rounding may leave a little more than all; NaN is for what was not gathered.
    shares = (report.count >= 0, math.isfinite(report.count), not (report.active < 0 or report.active > 1.001))
    if not all(shares) or not isinstance(report.estimator, str) or not isinstance(report.activation, str):
        raise ValueError(f"the pattern rests on {report.count!r} pairs, of which {report.active!r} are active.")
    return report


class Report(Tabled, collections.UserDict[str, LayerReport]):
    """Layer name -> `LayerReport`; prints as a table, and `to_csv` gives the same as CSV."""

    _HEADER = ("layer", "pairs", "active", "units", "dead", "ill-conditioned", "estimator", "note")

    def _rows(self):
        for name, row in self.items():
            numbers = (f"{row.count:.15g}", f"{row.active:.3f}", row.units, row.dead, row.ill_conditioned)
            yield (name, *numbers, row.estimator, row.note)

    def to_csv(self, path: str | os.PathLike[str] | None = None) -> str | None:
        """The table as comma-separated values; names that would be formulas are marked, see `tables.csv_cell`.

        Args:
            path: a file to write; None: the text is returned.

        Returns:
            The text, or None.
        """
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerows(map(csv_cell, row) for row in (self._HEADER, *self._rows()))
        if path is None:
            return text.getvalue()
        with replacing(path) as partial:
            pathlib.Path(partial).write_text(text.getvalue(), encoding="utf-8")
        return None

    def doubtful(self, share: float = 0.1) -> list[str]:
        """A sentence about each layer in which too many units are dead or ill-conditioned.

        Args:
            share: how many are too many, as a share of the units, from 0 to 1.

        Returns:
            A list of texts, one a layer.
        """
        return [
            f"{printable(name)}: of {row.units} units, {_counted(row)}. Fit on more, or more varied, samples, or rely on "
            "a method without patterns."
            for name, row in self.items()
            if row.dead + row.ill_conditioned > share * row.units
        ]

    def _parts(self) -> Iterator[tuple]:
        yield self._HEADER, self._rows()

    def __repr__(self) -> str:
        return f"Report({brief(dict(self))})"


_SILENT = {"relu": "were never positive", "relu.safe": "were never positive", "relu.negative": "were never negative"}


def warn_of_dead_units(
    arrays: Mapping[str, np.ndarray], reports: Mapping[str, LayerReport], facts: Mapping[str, LayerFacts]
) -> None:
    """Warns of layers through which nothing passes, and of outputs that cannot be explained.

    Args:
        arrays: layer name -> pattern.
        reports: layer name -> `LayerReport`.
        facts: layer name -> what is known of it, a `statistics.LayerFacts`.
    """
    dead = [name for name, report in reports.items() if report.units and report.dead == report.units]
    if dead:
        _log.warning(
            "No unit of %s was ever active and varied on this data, so no signal passes there and explanations are 0. Fit "
            "on more, and more varied, samples, preprocessed as the model expects.",
            ", ".join(dead),
        )
    for name in (name for name in arrays if name not in dead and facts[name].is_output):
        silent = np.flatnonzero(~np.any(arrays[name], axis=facts[name].fan_in))
        if silent.size:
            _log.warning(
                "Outputs %s of %s %s on this data, so their patterns, and explanations of them, are 0. "
                "Fit on samples of every class.",
                ", ".join(map(str, silent[:10])) + (", ..." if silent.size > 10 else ""),
                name,
                _SILENT.get(reports[name].estimator, "never varied"),
            )


def check_patterns(
    patterns: Mapping[str, Any],
    kernels: Mapping[str, tuple[int, ...]],
    known: Iterable[str],
    fingerprints: Mapping[str, str],
) -> None:
    """Refuses patterns that do not belong to a model.

    Args:
        patterns: a mapping name -> array; a `Patterns` is also held against the weights.
        kernels: name -> kernel shape of each layer that needs a pattern.
        known: all names that patterns of this model may have.
        fingerprints: name -> hash, of all of the model's weights on which the explanation depends.

    Raises:
        PatternMismatchError: a name is missing or unknown, a shape is another, or the weights have changed.
    """
    problems = [f"{name}: missing" for name in kernels if name not in patterns]
    problems += [f"{name}: the model has no such layer" for name in patterns if name not in known]
    problems += [
        f"{name}: the kernel has shape {shape}, the pattern {np.shape(patterns[name])}"
        for name, shape in kernels.items()
        if name in patterns and np.shape(patterns[name]) != shape
    ]
    if isinstance(patterns, Patterns) and not problems:
        problems += [
            f"{name}: fitted for other weights than the model has now"
            for name, now in fingerprints.items()
            if patterns.fingerprints.get(name) != now
        ]
    if problems:
        raise PatternMismatchError(
            "These patterns do not belong to this model:\n  " + "\n  ".join(problems) + "\nFit patterns for this model "
            "and its present weights: innvest_lite.fit_patterns(model, data)."
        )


def as_pattern(given: Any, name: str) -> np.ndarray:
    """A pattern as float32, which may be `given` itself.

    Args:
        given: an array of numbers.
        name: of its layer.

    Raises:
        InvalidInputError: it holds NaN, infinite or masked values, or none that are numbers.
    """
    array = as_array(given, f"The pattern of {name}")
    if array.dtype.kind not in "fiub" and array.dtype.name != "bfloat16":
        raise InvalidInputError(f"The pattern of {name} should hold numbers, but has dtype {array.dtype}.")
    with np.errstate(over="ignore"):
        array = array.astype("float32", copy=False)
    if not all_finite(array):
        raise InvalidInputError(
            f"The pattern of {name} holds NaN or infinite values, or some beyond the range of float32, so that it explains "
            "nothing. Fit again, with data and weights that are finite."
        )
    return array


def _frozen(array, name):
    # A read-only copy: analyzers share the arrays, and an edit would not change their compiled programs. Estimates come
    # frozen already.
    given, array = array, as_pattern(array, name)
    if array is not given or array.base is not None or array.flags.writeable:
        array = np.array(array)
        array.flags.writeable = False
    return array


def _counted(row):
    """Dead and ill-conditioned units in words; what there is none of is not named."""
    dead = f"{row.dead} {'was' if row.dead == 1 else 'were'} never active"
    ill = f"{row.ill_conditioned} {'has' if row.ill_conditioned == 1 else 'have'} an ill-conditioned pattern"
    return ", and ".join(words for number, words in ((row.dead, dead), (row.ill_conditioned, ill)) if number)
