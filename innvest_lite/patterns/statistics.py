"""The sums that patterns are made of: per layer in float64, mergeable, saved as HDF5.

Gathered by the fitter, possibly in parts on many machines; an estimator turns them into patterns. All sums run over
samples and, for convolutions, positions.
"""

import dataclasses

import numpy as np

from innvest_lite.errors import InvalidInputError, PatternMismatchError
from innvest_lite.patterns import files

_KIND, _VERSION = "statistics", 1


@dataclasses.dataclass
class LayerStatistics:
    """The sums of one linear layer, with y = w'x (no bias).

    Attributes:
        count: the number of (x, y) pairs.
        sum_y: sum of y, in unit shape.
        sum_x: sum of x, broadcastable to the kernel's shape.
        sum_xy: sum of x y, in kernel shape.
        active: the number of pairs in the positive regime, in unit shape.
        active_x: sum of x over the positive regime, in kernel shape.
        active_xy: sum of x y over the positive regime, in kernel shape.
    """

    count: int
    sum_y: np.ndarray
    sum_x: np.ndarray
    sum_xy: np.ndarray
    active: np.ndarray
    active_x: np.ndarray
    active_xy: np.ndarray

    def add(self, other):
        """Adds the sums of another part of the data, in place."""
        self.count += other.count
        for field in dataclasses.fields(self)[1:]:
            mine = getattr(self, field.name)
            np.add(mine, getattr(other, field.name), out=mine)


class PatternStatistics:
    """The sums of all linear layers of a model, and of which weights they are.

    Attributes:
        layers: layer (node) name -> `LayerStatistics`.
        fingerprints: layer name -> a hash of its weights.
        samples: how many samples went in.
        batches: how many batches of this fit went in; a checkpoint continues after them.

    Example:
        >>> statistics = PatternStatistics.load("part-0.h5")
        >>> statistics.merge(PatternStatistics.load("part-1.h5")).samples
        64
        >>> patterns = statistics.patterns(model, "relu")
        >>> patterns.estimator
        'relu'
    """

    def __init__(self, layers, fingerprints, samples=0, batches=0):
        self.layers = dict(layers)
        self.fingerprints = dict(fingerprints)
        self.samples = int(samples)
        self.batches = int(batches)

    def merge(self, other):
        """Adds the sums of another part of the data, in place; any order of merging gives the same result.

        Args:
            other: the `PatternStatistics` of the same model over other data.

        Returns:
            This object.

        Raises:
            PatternMismatchError: they are of another model, or of other weights.
        """
        if self.fingerprints != other.fingerprints:
            differing = sorted(set(self.fingerprints.items()) ^ set(other.fingerprints.items()))
            raise PatternMismatchError(
                "Statistics of different models or weights cannot be merged; they differ at "
                f"{', '.join(sorted({name for name, _ in differing}))}."
            )
        if self.has_components != other.has_components:
            raise PatternMismatchError(
                "One of the statistics was gathered for the linear estimator alone, without sums of the positive regime; "
                "they cannot be merged."
            )
        for name, layer in self.layers.items():
            layer.add(other.layers[name])
        self.samples += other.samples
        self.batches += other.batches
        return self

    @property
    def has_components(self):
        """Whether the sums over the positive regime were gathered."""
        return all(layer.active_xy.size for layer in self.layers.values())

    def patterns(self, model, estimator="relu"):
        """The patterns of a model by any estimator.

        Args:
            model: the model that the statistics were gathered with.
            estimator: see `fit_patterns`.

        Returns:
            `Patterns`.

        Raises:
            PatternMismatchError: the statistics are of another model or of other weights.
            InvalidInputError: there is no such estimator, or its sums were not gathered.
        """
        # Late, because estimating needs the graph and its forms, and reading and merging files does not.
        from innvest_lite.patterns.api import patterns_of
        from innvest_lite.patterns.layout import Layout

        if estimator.startswith("relu") and not self.has_components:
            raise InvalidInputError(f"The sums for {estimator!r} were not gathered; fit_statistics gathers them.")
        layout = Layout.of(model)
        self.check_model(layout.fingerprints())
        return patterns_of(layout, self, estimator)

    def check_model(self, fingerprints):
        """Raises PatternMismatchError where the statistics are not of these weights (name -> hash)."""
        differing = {name for name, _ in set(self.fingerprints.items()) ^ set(fingerprints.items())}
        if differing:
            raise PatternMismatchError(
                f"These statistics are of another model or of other weights; they differ at {', '.join(sorted(differing))}."
            )

    def save(self, path):
        """Writes an HDF5 file, to a temporary name first; float64."""
        attributes = {"samples": self.samples, "batches": self.batches}
        groups = {
            name: ({"fingerprint": self.fingerprints[name], "count": layer.count}, _arrays(layer))
            for name, layer in self.layers.items()
        }
        files.write(path, _KIND, _VERSION, attributes, groups)

    @classmethod
    def load(cls, path):
        """Reads what `save` wrote.

        Raises:
            CorruptFileError: the file is no statistics file, truncated, damaged, or of another version.
        """
        attributes, groups = files.read(path, _KIND, _VERSION)
        with files.well_formed(path):
            layers = {name: LayerStatistics(int(attrs["count"]), **arrays) for name, (attrs, arrays) in groups.items()}
            fingerprints = {name: attrs["fingerprint"] for name, (attrs, _) in groups.items()}
            return cls(layers, fingerprints, attributes["samples"], attributes["batches"])

    def check_finite(self):
        """Raises InvalidInputError, naming the layers, where a sum is NaN or infinite."""
        broken = [name for name, layer in self.layers.items() if not _finite(layer)]
        if broken:
            raise InvalidInputError(
                f"The statistics of {', '.join(broken)} are not finite: the model's values overflow on this data. Check "
                "that the data is preprocessed as the model expects."
            )


def _arrays(layer):
    return {field.name: getattr(layer, field.name) for field in dataclasses.fields(layer)[1:]}


def _finite(layer):
    return all(np.isfinite(array).all() for array in _arrays(layer).values())
