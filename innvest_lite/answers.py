"""What was explained, in words: the class, its name and its score, of each sample.

In: an analyzer, samples and a target. Out: an `Answer` for each sample, which prints as "zebra (340), probability 0.98".
`Scores` are those of all classes, from the model's own output, however its head is written. Called by the command line,
the report, `visualize.explain` and the loggers.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from innvest_lite.analyzers.binding import engine_for
from innvest_lite.errors import InvalidInputError
from innvest_lite.graph import Graph
from innvest_lite.graph.ending import ending_of
from innvest_lite.graph.passes import is_linear_part
from innvest_lite.graph.recognized import is_sigmoid, is_softmax
from innvest_lite.graph.squashing import squashes
from innvest_lite.tables import Brief, printable

if TYPE_CHECKING:
    from innvest_lite.analyzers.base import Analyzer
    from innvest_lite.analyzers.explainer import Explainer

PROBABILITY, LOGIT, OUTPUT = "probability", "logit", "output"
"""What a score may be: a probability of the model's own head; a number before any head; whatever else a model puts out."""
# From how many samples on something is said of all; shares by which scores may differ and are the same; what is nothing.
_FEW, _SAME, _SATURATED = 8, 1e-5, 1e-12
_PREPARED = "Are the samples prepared as in training?"
_UNTRAINED = f"Is it trained? {_PREPARED}"


@dataclasses.dataclass(frozen=True)
class Answer:
    """What was explained of a sample.

    Attributes:
        index: the number of the class; None where no single class was explained (a weighting, "all", a regression).
        name: its name in words: a label, "class 3", "all outputs", "the output".
        score: the model's number for it.
        unit: what the number is, "probability", "logit" or "output".
        logit: what the explanation starts from, in logits.
        share: of logits of classes, what their softmax makes of the score; else None.
    """

    index: int | None
    name: str
    score: float
    unit: str
    logit: float
    share: float | None = None

    def __str__(self) -> str:
        named = f" ({self.index})" if self.index is not None and self.name != _unnamed(self.index) else ""
        return f"{printable(self.name)}{named}, {self.said}"

    @property
    def said(self) -> str:
        """The score and its unit as they are read: "probability 0.98", "logit 6.24 (softmax 0.98)"."""
        more = "" if self.share is None else f" (softmax {_short(self.share)})"
        return f"{self.unit} {_short(self.score)}{more}"

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON takes them."""
        return {"class": self.index, "name": self.name, "score": self.score, "unit": self.unit, "logit": self.logit}


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Scores(Brief):
    """The scores of all classes.

    Attributes:
        values: float64 `(samples, classes)`; of one sigmoid unit, two columns, of the classes 0 and 1.
        unit: "probability", "logit" or "output".
        exclusive: whether one class wins, as behind a softmax; not so of several sigmoids (many labels at once).
        labels: a name for each class, or None.
        logits: float64 `(samples, classes)`, by which classes are ordered; None: by `values`.
    """

    values: np.ndarray
    unit: str
    exclusive: bool
    labels: tuple[str, ...] | None = None
    logits: np.ndarray | None = None

    @property
    def predicted(self) -> np.ndarray:
        """The class with the largest logit, int64 `(samples,)`."""
        return self._order.argmax(1)

    @property
    def _order(self) -> np.ndarray:
        return self.values if self.logits is None else self.logits

    def misses(self, sample: int, true: int) -> bool:
        """Whether a sample is predicted to be of another class than `true`; of many labels at once, not of it, too."""
        return int(self.predicted[sample]) != true if self.exclusive else bool(self.probabilities[sample, true] <= 0.5)

    def name(self, index: int) -> str:
        """The name of a class."""
        return _unnamed(index) if self.labels is None else self.labels[index]

    @functools.cached_property
    def probabilities(self) -> np.ndarray:
        """`values` as probabilities, float64 `(samples, classes)`: of logits their softmax; outputs as they are."""
        if self.unit != LOGIT:
            return self.values
        powers = np.exp(self.values - self.values.max(1, keepdims=True))
        return powers / powers.sum(1, keepdims=True)

    def doubts(self) -> list[str]:
        """What speaks against trusting the model, or the way in which the samples were prepared, as sentences.

        Of at least eight samples: that all have the same scores, that none of the classes is preferred, or that all
        probabilities are 0 or 1 to twelve digits.
        """
        shares = self.probabilities
        count, classes = shares.shape
        if self.unit == OUTPUT:
            return []
        largest, others = shares.max(1), np.sort(shares, 1)[:, -2]
        if count and self.exclusive and largest.max() < 1.02 / classes:
            return [f"The model prefers no class: all have the same probability. {_UNTRAINED}"]
        if count < _FEW:
            return []
        # Of one class, probabilities may be the same where logits are not.
        if np.ptp(self._order, 0).max() <= _SAME * max(np.abs(self._order).max(), _SAME):
            return [f"The model says the same of all {count} samples. {_UNTRAINED}"]
        if self.exclusive and largest.max() < (1.5 / classes if classes > 2 else 0.55):
            return [
                f"The model prefers no class: the largest probability of {count} samples is {largest.max():.2f}, that of "
                f"chance {1 / classes:.2f}. {_UNTRAINED}"
            ]
        if self.exclusive and others.max() < _SATURATED:
            return [
                f"The model is saturated: for each of {count} samples one class has a probability of 1, all others less "
                f"than 1e-12. {_PREPARED} Measures by probability hardly see a change there."
            ]
        return []

    def likeliest(self, sample: int, count: int) -> tuple[tuple[str, float], ...]:
        """`(name, probability)` of the classes with the largest scores, in falling order.

        Args:
            sample: which.
            count: how many at most; of many labels at once, all beyond one half are among them.
        """
        shares = self.probabilities[sample]
        count = count if self.exclusive else max(count, int((shares > 0.5).sum()))
        # Probabilities may be the same to the last digit where logits are not.
        best = np.argsort(-self._order[sample], kind="stable")[:count]
        return tuple((self.name(int(place)), float(shares[place])) for place in best)


def answers(
    analyzer: Analyzer, x: Any, target: Any = None, labels: Sequence[str] | None = None, batch_size: int = 32
) -> list[Answer]:
    """What `analyzer.analyze(x, target)` explains.

    Args:
        analyzer: an `Analyzer`.
        x: samples, as of `analyze`.
        target: as of `analyze`.
        labels: a name for each class; None: they are named by number.
        batch_size: samples at a time.

    Returns:
        A list of `Answer`, one for each sample.

    Raises:
        InvalidInputError: the samples, the target or the labels do not fit the model.

    Example:
        >>> labels = [f"digit {number}" for number in range(10)]
        >>> print(answers(innvest_lite.Gradient(model), images[1:2], labels=labels)[0])
        digit 1 (1), probability > 0.999
    """
    return answers_and_scores(analyzer, x, target, labels, batch_size)[0]


def answers_and_scores(
    analyzer: Analyzer, x: Any, target: Any = None, labels: Sequence[str] | None = None, batch_size: int = 32
) -> tuple[list[Answer], Scores | None]:
    """`answers` and `scores` in one forward pass; None in place of scores where the output is none of classes."""
    explainer, plain = engine_for(analyzer, target, x)
    arrays, weights = explainer.checked(x, plain, batch_size=batch_size)
    logits, outputs = explainer.outputs_of(arrays, batch_size)
    flat = logits.reshape(len(logits), math.prod(logits.shape[1:]))
    found = scores_of(explainer, logits, outputs, labels)
    # Weights that name what is predicted or was asked for; a class that they name alone is one.
    chosen = explainer.targets.predicted(flat) if weights is None else weights.reshape(flat.shape)
    values = (flat * chosen).sum(1)
    if found is None:
        return [_of_the_whole(explainer, plain, value) for value in values], None
    pairs = enumerate(zip(chosen, values, strict=True))
    return [_of_one(found, row, sample, value) for sample, (row, value) in pairs], found


def scores(analyzer: Analyzer, x: Any, labels: Sequence[str] | None = None, batch_size: int = 32) -> Scores | None:
    """The scores of all classes, or None where the model's output is none of classes: one number, or dense.

    Args:
        analyzer: any `Analyzer` of the model.
        x: samples, as of `analyze`.
        labels: a name for each class.
        batch_size: samples at a time.

    Raises:
        InvalidInputError: the samples or the labels do not fit the model.
    """
    explainer = analyzer.explainer
    return scores_of(explainer, *explainer.outputs_of(explainer.inputs.flat(x), batch_size), labels)


def kind_of(explainer: Explainer) -> tuple[str, bool] | None:
    """What the scores of a model are, and whether one class wins; None where its output is none of classes.

    By its head: a softmax, sigmoids, or none, where several numbers without a bound are logits.
    """
    targets, head = explainer.targets, explainer.head
    if targets.is_dense or (targets.classes or 1) < 2:
        return None
    if head:
        exclusive = targets.two_classes or not is_sigmoid(head[0].node)
        sure = targets.two_classes or is_sigmoid(head[0].node) or is_softmax(head[0].node)
        return (PROBABILITY if sure and len(head) == 1 else OUTPUT), exclusive
    return (LOGIT if not _is_made_of_shares(explainer.graph) else OUTPUT), True


def _is_made_of_shares(graph: Graph) -> bool:
    """Whether a softmax, a sigmoid, or anything else with bounds lies between the last weights and the output.

    A mean of softmaxes, one times a gate, one times 100: none of them is a logit, and its softmax no probability.
    """
    if squashes(graph) is not None:
        return True
    waiting, seen = [graph.outputs[0]], set()
    while waiting:
        node = graph.producer(waiting.pop())
        if node is None or node.name in seen:
            continue
        seen.add(node.name)
        if is_softmax(node) or is_sigmoid(node):
            return True
        normalizes = type(node.operation).__name__ == "BatchNormalization"
        if normalizes or not is_linear_part(node):
            waiting.extend(node.inputs)
    return False


def scores_of(
    explainer: Explainer, logits: np.ndarray, outputs: np.ndarray, labels: Sequence[str] | None = None
) -> Scores | None:
    """`scores` of the logits and of what the model put out, both `(samples, ...)`."""
    kind = kind_of(explainer)
    if kind is None:
        if labels is not None and not explainer.targets.is_dense:
            raise InvalidInputError(f"There are {len(labels)} labels, but the model's output is one number, of no class.")
        return None
    values = np.asarray(outputs, "float64").reshape(len(outputs), math.prod(outputs.shape[1:]))
    order = np.asarray(logits, "float64").reshape(len(logits), math.prod(logits.shape[1:]))
    if explainer.targets.two_classes:
        values, order = np.hstack([1 - values, values]), np.hstack([-order, order])
    named = None if labels is None else checked_labels(labels, values.shape[1])
    if kind == (OUTPUT, True) and len(values) and values.min() >= 0 and np.abs(values.sum(1) - 1).max() < 1e-3:
        # Behind a softmax, what only casts or moves.
        kind = PROBABILITY, True
    return Scores(values, *kind, named, order)


def checked_labels(labels: Sequence[str], classes: int) -> tuple[str, ...]:
    """The labels as a tuple, one for each class.

    Raises:
        InvalidInputError: there are more or fewer of them.
    """
    if isinstance(labels, Mapping):
        labels = ordered_labels(labels)
    labels = labels if isinstance(labels, str) else list(labels)
    if isinstance(labels, str) or len(labels) != classes:
        given = repr(labels) if isinstance(labels, str) else f"{len(labels)} classes"
        raise InvalidInputError(f"The labels name {given}, but the model has {classes}; give a name for each, in order.")
    return tuple(map(str, labels))


def ordered_labels(labels: Mapping[Any, Any]) -> list[Any]:
    """The names of a dict from number to name, or from name to number, as `class_indices` of Keras's generators.

    Raises:
        InvalidInputError: it does not number the classes from 0, each once.
    """
    # Folders may have numbers for names: where all values are numbers, they are those of the classes.
    by_name = all(isinstance(value, int) and not isinstance(value, bool) for value in labels.values())
    pairs = [(value, key) for key, value in labels.items()] if by_name else list(labels.items())
    numbered = {int(number): name for number, name in pairs if str(number).isdecimal()}
    if sorted(numbered) != list(range(len(labels))):
        raise InvalidInputError("Labels in a dict should number the classes from 0, each once.")
    return [numbered[number] for number in range(len(labels))]


def _of_one(found, row, sample, value):
    """The answer for weights on the classes."""
    two_classes = len(row) == 1
    named = np.flatnonzero(row)
    if len(named) != 1 or abs(row[named[0]]) != 1 or (row[named[0]] < 0 and not two_classes):
        every = "all outputs" if (row == 1).all() and len(row) > 1 else "weighted outputs"
        return Answer(None, every, float(value), LOGIT, float(value))
    index = int(row[0] > 0) if two_classes else int(named[0])
    share = float(found.probabilities[sample, index]) if found.unit == LOGIT else None
    return Answer(index, found.name(index), float(found.values[sample, index]), found.unit, float(value), share)


def _of_the_whole(explainer, target, value):
    """The answer for outputs that are of no class, or dense."""
    if ending_of(explainer.graph) is not None:
        return Answer(None, "a function of the outputs", float(value), OUTPUT, float(value))
    if not explainer.targets.is_dense:
        return Answer(None, "the output", float(value), OUTPUT if not explainer.head else LOGIT, float(value))
    name = f"class {int(target)} where it wins" if isinstance(target, int | np.integer) else "the target"
    return Answer(None, "the largest value" if target is None else name, float(value), LOGIT, float(value))


def _unnamed(index):
    return f"class {index}"


def _short(score):
    """A number as it is read: with two digits behind the point, or where it is small, large or nearly 1 what counts."""
    if 0.995 <= score < 1:
        return f"{score:.3f}" if score < 0.9995 else "> 0.999"
    return f"{score:.2f}" if 0.005 <= abs(score) < 1000 or score == 0 else f"{score:.3g}"
