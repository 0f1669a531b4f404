"""Input invariance (Kindermans et al. 2017, arXiv 1711.00867): a constant shift that the first bias absorbs.

Two models that compute the same, f2(x + shift) = f1(x), should be explained the same.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from innvest_lite.analyzers import Analyzer
from innvest_lite.analyzers.pattern import PatternAnalyzer
from innvest_lite.errors import InvalidInputError
from innvest_lite.metrics.attributions import Subject, made, vectors
from innvest_lite.metrics.copies import absorbing
from innvest_lite.metrics.drawing import axes_or_new
from innvest_lite.options import as_array
from innvest_lite.patterns.data import each_batch
from innvest_lite.tables import Tabled

METHODS = ("pattern.net", "pattern.attribution", "gradient", "input_t_gradient", "lrp.z", "integrated_gradients")
# What float32 leaves of two equal computations, relative to the largest value.
TOLERANCE = 1e-4


@dataclasses.dataclass(frozen=True, repr=False)
class InputInvariance(Tabled):
    """How far explanations change under a shift that changes nothing.

    Attributes:
        differences: method -> float64 (samples,), the largest difference relative to the largest attribution.
        logit_difference: the largest difference of the logits of the two models, relative to the largest logit.
    """

    differences: dict[str, np.ndarray]
    logit_difference: float

    @property
    def largest(self) -> dict[str, float]:
        """Method -> the largest difference over all samples."""
        return {method: float(values.max()) for method, values in self.differences.items()}

    def to_dict(self) -> dict[str, list[float]]:
        """`{method: [one a sample]}`, of plain Python values."""
        return {method: values.tolist() for method, values in self.differences.items()}

    def _parts(self) -> Iterator[tuple]:
        rows = [
            (
                method,
                f"{np.median(self.differences[method]):.2g}",
                f"{largest:.2g}",
                "yes" if largest <= TOLERANCE else "no",
            )
            for method, largest in self.largest.items()
        ]
        yield ("method", "median difference", "largest difference", "invariant"), rows

    def plot(self, axes: Any = None) -> Any:
        """The largest differences as bars on a logarithmic axis; needs matplotlib.

        Args:
            axes: a matplotlib `Axes`; None makes one.

        Returns:
            The `Axes`.
        """
        axes = axes_or_new(axes, (6, 1 + 0.4 * len(self.differences)))
        # A logarithmic axis has no 0.
        axes.barh(list(self.differences), [max(value, 1e-9) for value in self.largest.values()])
        axes.axvline(TOLERANCE, color="0.5", linestyle=":")
        axes.invert_yaxis()
        axes.set(xscale="log", xlabel="largest difference / largest attribution", title="input invariance")
        return axes


def input_invariance(
    model: keras.Model,
    x: Any,
    methods: Sequence[str] | Mapping[str, str | Callable[..., Analyzer]] = METHODS,
    shift: Any = 1.0,
    fit_data: Any = None,
    target: Any = None,
    *,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    batch_size: int = 32,
) -> InputInvariance:
    """Explains x with f1 and x + shift with f2, where f2(x + shift) = f1(x), and compares (Kindermans et al. 2017).

    Patterns are fitted for f1 on `fit_data`, and again for f2 on `fit_data + shift`. Those of the estimator "linear", a
    covariance, then are the same, which is what the paper states. Those of "relu", the default, are not: in the first
    layer, the numerator E+[x y] - E+[x] E[y] moves by shift * (E+[y] - E[y]), which only E+[y] in place of E[y] would
    cancel. `options={"pattern.net": {"estimator": "linear"}}` shows the former.

    Args:
        model: a model whose first layer is Dense or a convolution with padding "valid"; not changed.
        x: samples, an array.
        methods: names for `create_analyzer`, or a mapping from labels to names or to functions of a model.
        shift: a number, or an array that broadcasts to a sample; for convolutions constant over positions.
        fit_data: what patterns are fitted on, sources as in `fit_patterns`, held in memory; None: x.
        target: as in `analyze`; None: the largest logit of f1.
        options: method (or label) -> keyword arguments for `create_analyzer` (or the function).
        batch_size: how many samples go at a time.

    Returns:
        An `InputInvariance`; it prints as a table and has `to_dict()` and `plot()`.

    Raises:
        InvalidInputError: an argument is wrong, no bias can absorb the shift, or float32 is too coarse for it: the logits
            of the two models differ.

    Example:
        >>> found = input_invariance(model, images[:8], methods=("gradient", "lrp.z"))
        >>> found.largest["gradient"] < 1e-4 < found.largest["lrp.z"]
        True
    """
    makers = methods if isinstance(methods, Mapping) and methods else {name: name for name in _listed(methods)}
    options = _checked_options(options, makers)
    analyzers = {label: made(maker, model, **options.get(label, {})) for label, maker in makers.items()}
    first = Subject(next(iter(analyzers.values())), x, target, batch_size)
    spec, targets = first.spec, first.predicted if target is None else first.targets
    shift = _checked_shift(shift, spec)
    other = absorbing(model, shift)
    fit_data = np.concatenate([batch[0] for batch in each_batch(x if fit_data is None else fit_data, spec, batch_size)])
    moved, moved_data = (_moved(array, shift) for array in (first.arrays[0], fit_data))
    twins = {label: made(maker, other, **options.get(label, {})) for label, maker in makers.items()}
    gap = _compared_logits(first.logits, Subject(next(iter(twins.values())), moved, None, batch_size).logits)
    differences = {}
    for label, analyzer in analyzers.items():
        one = Subject(analyzer, x, targets, batch_size)
        two = Subject(twins[label], moved, targets, batch_size)
        differences[label] = _difference(_fitted(one, fit_data), _fitted(two, moved_data))
    return InputInvariance(differences, gap)


def _listed(methods):
    if not isinstance(methods, list | tuple) or not methods:
        raise InvalidInputError(f"methods should be names of analyzers, or a mapping from labels, but is {methods!r}.")
    return methods


def _checked_options(options, makers):
    options = {} if options is None else options
    if not isinstance(options, Mapping) or set(options) - set(makers):
        raise InvalidInputError(f"options should map methods, here {[*makers]}, to keyword arguments, but is {options!r}.")
    return options


def _checked_shift(shift, spec):
    """The shift in the shape of a sample, float64; axes of open size have size 1."""
    array, shape = as_array(shift, "shift"), tuple(size or 1 for size in spec.shapes[0][1:])
    if array.dtype.kind not in "fiu" or not np.isfinite(array).all():
        raise InvalidInputError(f"shift should be a number or an array of finite numbers, but is {shift!r}.")
    try:
        return np.broadcast_to(array, shape).astype("float64")
    except ValueError:
        raise InvalidInputError(f"shift should broadcast to a sample of shape {shape}, but has {array.shape}.") from None


def _moved(array, shift):
    return (array + shift).astype(array.dtype)


def _compared_logits(one, two):
    gap = float(np.abs(one - two).max() / max(np.abs(one).max(), np.finfo("float32").tiny))
    if not gap <= TOLERANCE:
        raise InvalidInputError(
            f"The logits of x and of x + shift differ by {gap:.2g} of the largest: the shift is too large for the model's "
            "precision. Take a smaller one, or a float64 model."
        )
    return gap


def _fitted(subject, data):
    """The attributions of a subject, its patterns fitted on the data where it has some."""
    if isinstance(subject.analyzer, PatternAnalyzer):
        subject.analyzer.fit(data, batch_size=subject.batch_size, verbose=0)
    return vectors(subject.explained())


def _difference(one, two):
    """Per sample, relative to the largest attribution of the first."""
    difference, largest = np.abs(one - two).max(1), np.abs(one).max(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(difference == 0, 0.0, difference / largest)
