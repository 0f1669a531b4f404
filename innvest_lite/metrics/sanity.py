"""Does an explanation depend on what the model has learned? Three sanity checks.

- `randomization`: on the weights, layer by layer (Adebayo et al. 2018, arXiv 1810.03292)
- `random_logit`: on which class is explained
- `convergence`: on the relevance at the output at all (Sixt et al. 2020, arXiv 1912.09818)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from innvest_lite.analyzers import Analyzer, ReverseAnalyzer
from innvest_lite.analyzers.explainer import rivals_of
from innvest_lite.analyzers.pattern import PatternAnalyzer
from innvest_lite.errors import InvalidInputError
from innvest_lite.forms.inputs import is_integer
from innvest_lite.inputs import input_spec
from innvest_lite.metrics.attributions import Subject, checked_analyzer, made, similarities, vectors
from innvest_lite.metrics.copies import MODES, randomized, weighted_layers
from innvest_lite.metrics.drawing import axes_or_new
from innvest_lite.options import one_of, positive, seed_of
from innvest_lite.patterns import fit_patterns
from innvest_lite.tables import Tabled

PATTERNS = ("frozen", "refit")
INPUT = "(input)"
# How many inputs `convergence` draws where it gets none.
_INPUTS = 8


@dataclasses.dataclass(frozen=True, repr=False)
class Randomization(Tabled):
    """How alike explanations stay while layers lose what they have learned.

    Attributes:
        steps: "(original)", then the name of the layer that each step redraws.
        spearman: float64 (steps, samples), rank correlation with the original's maps.
        absolute_spearman: the same of magnitudes.
        ssim: float64 (steps, samples), structural similarity with the original's maps.
        mode: "cascade" or "independent".
        patterns: "frozen" or "refit".
    """

    steps: tuple[str, ...]
    spearman: np.ndarray
    absolute_spearman: np.ndarray
    ssim: np.ndarray
    mode: str
    patterns: str

    def to_dict(self) -> dict[str, dict[str, list[float]]]:
        """`{step: {"spearman": [one a sample], "absolute_spearman": [...], "ssim": [...]}}`, of plain Python values."""
        return {
            step: {name: getattr(self, name)[number].tolist() for name in _SIMILARITIES}
            for number, step in enumerate(self.steps)
        }

    def _parts(self) -> Iterator[tuple]:
        rows = [
            (step, *(f"{np.mean(getattr(self, name)[number]):.3f}" for name in _SIMILARITIES))
            for number, step in enumerate(self.steps)
        ]
        yield (f"redrawn, {self.mode} (mean over samples)", *_SIMILARITIES), rows

    def plot(self, axes: Any = None) -> Any:
        """Means over samples, a line per similarity, from the output's layer to the input's; needs matplotlib.

        Args:
            axes: a matplotlib `Axes`; None makes one.

        Returns:
            The `Axes`.
        """
        lines = {name: getattr(self, name).mean(1) for name in _SIMILARITIES}
        return _lines(self.steps, lines, f"randomization, {self.mode}", axes)


@dataclasses.dataclass(frozen=True, repr=False)
class RandomLogit(Tabled):
    """How alike the explanations of two classes are.

    Attributes:
        spearman: float64 (samples,).
        absolute_spearman: the same of magnitudes.
        ssim: float64 (samples,).
        predicted: int (samples,), the output with the largest logit, flat; of a single sigmoid unit, the class.
        other: int (samples,), the one it is compared with.
    """

    spearman: np.ndarray
    absolute_spearman: np.ndarray
    ssim: np.ndarray
    predicted: np.ndarray
    other: np.ndarray

    def to_dict(self) -> dict[str, list[Any]]:
        """Attribute -> list, one a sample."""
        return {field.name: getattr(self, field.name).tolist() for field in dataclasses.fields(self)}

    def _parts(self) -> Iterator[tuple]:
        rows = [(name, f"{getattr(self, name).mean():.3f}") for name in _SIMILARITIES]
        yield ("predicted and other class", "mean over samples"), rows


@dataclasses.dataclass(frozen=True, repr=False)
class Convergence(Tabled):
    """How alike the relevance becomes on its way from different random starts.

    Attributes:
        layers: from the output to "(input)".
        cosine: float64 (layers, samples), the mean |cosine| over pairs of starts. NaN where no relevance arrives.
    """

    layers: tuple[str, ...]
    cosine: np.ndarray

    @property
    def means(self) -> dict[str, float]:
        """Layer -> the mean over the samples that have a cosine."""
        return {name: _mean(row) for name, row in zip(self.layers, self.cosine, strict=True)}

    def to_dict(self) -> dict[str, list[float]]:
        """`{layer: [one a sample]}`."""
        return dict(zip(self.layers, self.cosine.tolist(), strict=True))

    def _parts(self) -> Iterator[tuple]:
        yield ("layer", "|cosine| (mean)"), [(name, f"{value:.3f}") for name, value in self.means.items()]

    def plot(self, axes: Any = None) -> Any:
        """Means over samples from the output to the input; needs matplotlib.

        Args:
            axes: a matplotlib `Axes`; None makes one.

        Returns:
            The `Axes`.
        """
        return _lines(self.layers, {"|cosine|": list(self.means.values())}, "convergence of random relevances", axes)


_SIMILARITIES = ("spearman", "absolute_spearman", "ssim")


def randomization(
    model: keras.Model,
    make_analyzer: str | Callable[..., Analyzer],
    x: Any,
    mode: str = "cascade",
    patterns: str = "frozen",
    layers: Collection[str] | None = None,
    *,
    fit_data: Any = None,
    target: Any = None,
    seed: int = 0,
    batch_size: int = 32,
) -> Randomization:
    """The model parameter randomization test (Adebayo et al. 2018): an explanation that stays says nothing of the model.

    It starts from the trained weights and redraws one layer at a time, from the output to the input, from the layer's own
    initializers. Maps have their channels summed and are compared with those of the trained model.

    Args:
        model: a Functional or Sequential `keras.Model`; not changed.
        make_analyzer: a name for `create_analyzer`, or a function from a model to an analyzer of it.
        x: samples, as `analyze` takes them.
        mode: "cascade": redrawn layers stay redrawn. "independent": each is the only one.
        patterns: for pattern methods. "frozen": those of the trained model, back-projected through redrawn weights.
            "refit": fitted again at every step.
        layers: names of layers to redraw, `outer/inner` in nested models; None: all that have weights.
        fit_data: what patterns are fitted on, as in `fit_patterns`; read at every step, so no generator; None: x.
        target: as in `analyze`; None: what that explains of the trained model, by default what it predicts, at every step.
        seed: of the draws.
        batch_size: how many samples go at a time.

    Returns:
        A `Randomization`; it prints as a table and has `to_dict()` and `plot()`.

    Raises:
        InvalidInputError: an argument is none of the above.

    Example:
        >>> found = randomization(model, "gradient", images[:4], layers=["classes"])
        >>> found.steps, found.spearman.shape
        (('(original)', 'classes'), (2, 4))
    """
    one_of(mode, MODES, "mode")
    one_of(patterns, PATTERNS, "patterns")
    names = _ordered(model, layers)
    source = _Source(make_analyzer, patterns, x if fit_data is None else fit_data, positive(batch_size, "batch_size"))
    original = Subject(source.original(model), x, target, batch_size)
    expected, steps, found = original.maps(), [], []
    for step, copy in randomized(model, names, mode, seed_of(seed)):
        steps.append(step)
        found.append(similarities(Subject(source.of(copy), x, original.targets, batch_size).maps(), expected))
    rows = {name: np.stack([row[name] for row in found]) for name in _SIMILARITIES}
    return Randomization(tuple(steps), **rows, mode=mode, patterns=patterns)


class _Source:
    """Makes the analyzers of a model's copies, with the patterns that the test wants."""

    def __init__(self, make_analyzer, patterns, data, batch_size):
        self._make_analyzer, self._frozen = make_analyzer, patterns == "frozen"
        self._data, self._batch_size = data, batch_size
        self._patterns = None

    def original(self, model):
        """The analyzer of the user's own model, with the patterns that frozen ones are."""
        analyzer = made(self._make_analyzer, model)
        if isinstance(analyzer, PatternAnalyzer):
            maps = {name: getattr(analyzer, name) for name in ("separable", "chains")}
            found = fit_patterns(model, self._data, analyzer.estimator, batch_size=self._batch_size, verbose=0, **maps)
            # Patterns know the weights that they belong to, and are refused by others; plain arrays are not.
            self._patterns = dict(found)
            analyzer.set_patterns(self._patterns)
        return analyzer

    def of(self, copy):
        """The analyzer of a copy."""
        analyzer = made(self._make_analyzer, copy)
        if not isinstance(analyzer, PatternAnalyzer):
            return analyzer
        if self._frozen:
            analyzer.set_patterns(self._patterns)
            return analyzer
        return analyzer.fit(self._data, batch_size=self._batch_size, verbose=0)


def _ordered(model, layers):
    """The layers to redraw, from the output to the input."""
    known = list(weighted_layers(model))
    layers = known if layers is None else [layers] if isinstance(layers, str) else layers
    if not isinstance(layers, list | tuple | set) or not layers or set(layers) - set(known):
        raise InvalidInputError(f"layers should name layers with weights, {known}, but is {layers!r}.")
    return [name for name in reversed(known) if name in layers]


def random_logit(analyzer: Analyzer, x: Any, seed: int = 0, *, batch_size: int = 32) -> RandomLogit:
    """How alike the explanations of the predicted class and of another one, drawn at random, are (Sixt et al. 2020).

    Args:
        analyzer: an analyzer, fitted where it needs that.
        x: samples, as `analyze` takes them.
        seed: of the draws.
        batch_size: how many samples go at a time.

    Returns:
        A `RandomLogit`, of maps with their channels summed.

    Raises:
        InvalidInputError: an argument is wrong, or the model has a single output, which is no sigmoid.

    Example:
        >>> random_logit(innvest_lite.Gradient(model), images[:4]).ssim.shape
        (4,)
    """
    subject, generator = Subject(analyzer, x, None, batch_size), np.random.default_rng(seed_of(seed))
    count, outputs = subject.logits.shape
    targets = subject.explainer.targets
    if targets.two_classes and not targets.is_dense:
        predicted = (subject.logits[:, 0] >= 0).astype(int)
        found = similarities(subject.maps(subject.predicted), subject.maps(-subject.predicted))
        return RandomLogit(**found, predicted=predicted, other=1 - predicted)
    if outputs < 2:
        raise InvalidInputError("random_logit compares two classes, but the model has a single output.")
    predicted = subject.logits.argmax(1)
    other = (predicted + generator.integers(1, outputs, count)) % outputs
    found = similarities(subject.maps(subject.predicted), subject.maps(subject.one_hot(other)))
    return RandomLogit(**found, predicted=predicted, other=other)


def convergence(
    analyzer: Analyzer, x: Any = None, seed: int = 0, samples: int = 8, layers: Collection[str] | None = None
) -> Convergence:
    """Whether relevance forgets where it started: |cosine| between propagated random starts (Sixt et al. 2020).

    Normal random relevances are put at the explained output and go back through the analyzer's own rules. Where the
    product of the reverse maps tends to rank 1, the cosine tends to 1, and the output no longer counts. At the output,
    |cosine| of independent starts is about sqrt(2 / (pi outputs)).

    Args:
        analyzer: an analyzer with a backward sweep of its own, fitted where it needs that.
        x: samples, as `analyze` takes them; None: eight normal ones.
        seed: of the starts.
        samples: how many starts there are for each x, at least 2.
        layers: names to look at, as for `keep` in `analyze`; None: all with weights that relevance passes.

    Returns:
        A `Convergence`, from the output to the input; it prints as a table and has `to_dict()` and `plot()`.

    Raises:
        InvalidInputError: an argument is wrong.

    Example:
        >>> convergence(innvest_lite.Gradient(model), images[:2]).layers
        ('classes', 'hidden', 'conv2_2', 'conv2_1', 'conv1_2', 'conv1_1', '(input)')
    """
    checked_analyzer(analyzer, ReverseAnalyzer)
    starts = positive(samples, "samples")
    if starts < 2:
        raise InvalidInputError("samples should be at least 2: the starts are compared in pairs.")
    generator = np.random.default_rng(seed_of(seed))
    subject = Subject(analyzer, _drawn(analyzer, generator) if x is None else x)
    layers = [layers] if isinstance(layers, str) else layers
    if not isinstance(layers, list | tuple | None):
        raise InvalidInputError(f"layers should be names of layers, but is {layers!r}.")
    names = _passed(subject) if layers is None else list(layers)
    rows = [_cosines(subject, number, names, generator, starts) for number in range(len(subject.arrays[0]))]
    return Convergence((*names, INPUT), np.array(rows).T)


def _drawn(analyzer, generator):
    """Normal samples in the structure of the model's inputs."""
    spec = input_spec(analyzer.model, analyzer.plan().graph)
    if any(map(is_integer, spec.dtypes)) or any(None in shape[1:] for shape in spec.shapes):
        raise InvalidInputError("The model's inputs are tokens or of open size, which cannot be drawn: give x.")
    arrays = [generator.normal(size=(_INPUTS, *s[1:])).astype(d) for s, d in zip(spec.shapes, spec.dtypes, strict=True)]
    return arrays[0] if len(arrays) == 1 else dict(zip(spec.names, arrays, strict=True))


def _passed(subject):
    """Layers with weights at whose output relevance arrives, from the explained output on.

    Whether a rule hands relevance to an input (a gate gets none) only the rule knows: one sample is swept to see.
    """
    one = [ops.convert_to_tensor(array[:1]) for array in subject.arrays]
    explainer = subject.explainer
    _, swept, _ = explainer.strategy.swept(explainer, one, None)
    nodes = [passage.call.form.node for passage in swept.passages]
    reached = {
        value
        for node, passage in zip(nodes, swept.passages, strict=True)
        for value, relevance in zip(node.values, passage.arrived, strict=True)
        if relevance is not None
    }
    own, values = weighted_layers(subject.analyzer.model), subject.graph.layer_values
    passing = [name for name in own if any(own[name] is node.operation for node in nodes)]
    return [name for name in reversed(passing) if values.get(name) in reached]


def _cosines(subject, number, names, generator, starts):
    """The mean |cosine| of one sample at each layer and at the input."""
    weights = _starts(subject, number, generator, starts)
    one = [np.repeat(array[number : number + 1], starts, axis=0) for array in subject.arrays]
    options = {"target": weights, "batch_size": starts, "return_exponent": True}
    found, *kept, _ = subject.analyzer.analyze(subject.spec.packed(subject.x, one), keep=names, **options)
    inputs = vectors(subject.spec.in_order(found))
    at_layers = [kept[0][name] for name in names] if kept else []
    return [_mean_cosine(part.reshape(starts, -1)) for part in (*at_layers, inputs)]


def _starts(subject, number, generator, starts):
    """Weights on the outputs that make the relevance there normal; methods that start from the logit multiply by it."""
    weights = generator.normal(size=(starts, subject.logits.shape[1]))
    if subject.analyzer.starts_from_logit:
        shape = (1, *subject.explainer.output.shape[1:])
        logits, first = subject.logits[number].reshape(shape), weights[0].reshape(shape)
        axis = rivals_of(subject.explainer.targets, subject.explainer.head)
        values = np.asarray(subject.explainer.strategy.starting_values(axis, logits, first)).reshape(-1)
        weights /= np.where(values == 0, 1, values)
    return weights.astype("float32").reshape(starts, *subject.explainer.output.shape[1:])


def _mean_cosine(rows):
    """The mean |cosine| over pairs of rows; NaN if fewer than two are not 0."""
    rows = rows.astype("float64") / np.maximum(np.abs(rows).max(1, keepdims=True), np.finfo("float32").tiny)
    rows = rows[rows.any(1)]
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return _mean(np.abs(rows @ rows.T)[np.triu_indices(len(rows), 1)])


def _mean(values):
    values = values[np.isfinite(values)]
    return float(values.mean()) if values.size else float("nan")


def _lines(places, lines, title, axes):
    axes = axes_or_new(axes, (1 + 0.6 * len(places), 4))
    for label, values in lines.items():
        axes.plot(np.arange(len(places)), values, "o-", label=label)
    axes.set_xticks(np.arange(len(places)), places, rotation=60, ha="right")
    axes.set(ylim=(min(-0.05, axes.get_ylim()[0]), 1.05), title=title)
    axes.legend()
    return axes
