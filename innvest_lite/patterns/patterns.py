"""`Patterns`: what a fit gives and the pattern methods take, a read-only mapping that saves to HDF5."""

import collections
import dataclasses
from collections.abc import Mapping

import numpy as np

from innvest_lite.errors import PatternMismatchError
from innvest_lite.graph.graph import table
from innvest_lite.patterns import files
from innvest_lite.patterns.estimators import LayerReport

_KIND, _VERSION = "patterns", 1


class Patterns(Mapping):
    """Layer (node) name -> pattern, in the shape of the layer's kernel, float32.

    Sums and averages have virtual kernels: `(addends, channels)` and `(taps..., channels)`.

    Args:
        arrays: name -> array.
        estimator: how they were estimated.
        fingerprints: name -> hash of the weights that they belong to.
        reports: name -> `LayerReport`.

    Example:
        >>> patterns = Patterns({"dense": np.ones((2, 1))}, "linear", {"dense": "ab"}, {})
        >>> patterns["dense"].dtype
        dtype('float32')
    """

    def __init__(self, arrays, estimator, fingerprints, reports):
        self._arrays = {name: _frozen(array) for name, array in arrays.items()}
        self.estimator = estimator
        self.fingerprints = dict(fingerprints)
        self.reports = dict(reports)

    def __getitem__(self, name):
        return self._arrays[name]

    def __iter__(self):
        return iter(self._arrays)

    def __len__(self):
        return len(self._arrays)

    def __repr__(self):
        return f"Patterns(estimator={self.estimator!r}, layers={len(self)})"

    def report(self):
        """What the data said, layer by layer: pairs, active fraction, dead and ill-conditioned units.

        Returns:
            A `Report`: a mapping from layer name to `LayerReport` that prints as a table.
        """
        return Report(self.reports)

    def save(self, path):
        """Writes an HDF5 file, to a temporary name first."""
        groups = {
            name: (
                {"fingerprint": self.fingerprints[name], **dataclasses.asdict(self.reports[name])},
                {"pattern": array},
            )
            for name, array in self.items()
        }
        files.write(path, _KIND, _VERSION, {"estimator": self.estimator}, groups)

    @classmethod
    def load(cls, path):
        """Reads what `save` wrote.

        Raises:
            CorruptFileError: the file is no pattern file, truncated, damaged, or of another version.
        """
        attributes, groups = files.read(path, _KIND, _VERSION)
        with files.well_formed(path):
            fields = [field.name for field in dataclasses.fields(LayerReport)]
            return cls(
                {name: arrays["pattern"] for name, (_, arrays) in groups.items()},
                attributes["estimator"],
                {name: attrs["fingerprint"] for name, (attrs, _) in groups.items()},
                {
                    name: LayerReport(**{field: attrs[field].item() for field in fields})
                    for name, (attrs, _) in groups.items()
                },
            )


class Report(collections.UserDict):
    """Layer name -> `LayerReport`; prints as a table."""

    def __str__(self):
        header = ("layer", "pairs", "active", "units", "dead", "ill-conditioned")
        rows = [
            (name, row.count, f"{row.active:.3f}", row.units, row.dead, row.ill_conditioned) for name, row in self.items()
        ]
        return table(header, rows)


def check_patterns(patterns, kernels, known, fingerprints):
    """Refuses patterns that do not belong to a model.

    Args:
        patterns: a mapping name -> array; a `Patterns` is also held against the weights.
        kernels: name -> kernel shape of each layer that needs a pattern.
        known: all names that patterns of this model may have.
        fingerprints: a function that gives name -> hash of the model's weights.

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
        now = fingerprints()
        problems += [
            f"{name}: fitted for other weights than the model has now"
            for name in kernels
            if patterns.fingerprints.get(name) != now[name]
        ]
    if problems:
        raise PatternMismatchError(
            "These patterns do not belong to this model:\n  " + "\n  ".join(problems) + "\nFit patterns for this model "
            "and its present weights: innvest_lite.fit_patterns(model, data)."
        )


def _frozen(array):
    array = np.array(array, "float32")
    array.flags.writeable = False
    return array
