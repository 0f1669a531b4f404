"""`innvest-lite demo`: the methods on the shipped digit classifier, side by side in one picture.

The first digit is one that the model gets wrong, explained twice: why what it says, and why what it is. Model, patterns and
digits are left in the folder, for the command that is printed last.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import pathlib
import shlex
import time
from typing import Any

import numpy as np
from PIL import Image

import innvest_lite
from innvest_lite import visualize
from innvest_lite.cli import demo_sheet, models
from innvest_lite.cli.pictures import as_bytes, pictures_of
from innvest_lite.cli.terminal import say
from innvest_lite.errors import InvalidInputError
from innvest_lite.export import fingerprint

_CLASSES = 10
# One of each family that fits the model; --all takes every name that does.
FAMILIES = tuple(name for members in demo_sheet.GROUPS.values() for name in members)


@dataclasses.dataclass(frozen=True, eq=False)
class _Digits:
    """The shipped digits, and what the model says of them.

    Attributes:
        images: float32 (samples, 28, 28, 1).
        labels: int64 (samples,).
        probabilities: (samples, 10).
    """

    images: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray

    @property
    def predicted(self):
        """The predicted classes."""
        return self.probabilities.argmax(axis=1)

    @property
    def contested(self) -> int:
        """The wrong prediction that is nearest to being right; where all are right, the least sure one."""
        of_true = self.probabilities[np.arange(len(self.labels)), self.labels]
        wrong = self.predicted != self.labels
        return int(np.where(wrong, of_true, -1).argmax() if wrong.any() else of_true.argmin())

    def rival(self, place: int) -> int:
        """What a digit is, where the model says otherwise; else the class that the model finds next likely."""
        true, (second, first) = self.labels[place], self.probabilities[place].argsort()[-2:]
        return int(second if true == first else true)

    def said(self, place: int) -> str:
        """What a digit is and what it is taken for."""
        true, guess = self.labels[place], self.predicted[place]
        wrong = "" if true == guess else "wrong: "
        return f"{wrong}true {true}, predicted {guess} ({_probability(self.probabilities[place, guess])})"


def run(arguments: argparse.Namespace) -> int:
    """Fits, explains, draws, and reports each step in a line; returns the exit code."""
    from innvest_lite.analyzers.registry import OF_ATTENTION, ON_ARRAYS

    start = time.perf_counter()
    out, model = pathlib.Path(arguments.out), innvest_lite.data.load_model()
    _check_folder(out, model)
    images, labels = innvest_lite.data.load_digits()
    digits = _Digits(images, labels, model.predict(images, batch_size=100, verbose=0))
    chosen = _choose(arguments.digits, arguments.seed, digits)
    wrong = int((digits.predicted != labels).sum())
    say(f"Loaded {len(images)} digits and a classifier with {model.count_params():,} parameters{_since(start)}")
    say(f"It gets {wrong} of them wrong; shown first: {digits.said(chosen[0])}")
    patterns = _fit(model, images)
    without = () if importlib.util.find_spec("shap") else ON_ARRAYS
    every = [name for name in innvest_lite.ANALYZERS if name not in (*OF_ATTENTION, *without)]
    if arguments.all and without:
        say(f"Left out {', '.join(without)}, which needs: pip install 'innvest_lite[shap]'")
    families = demo_sheet.grouped(every if arguments.all else FAMILIES)
    # The contested digit twice.
    shown = np.concatenate([chosen[:1], chosen])
    targets = np.concatenate([[digits.predicted[chosen[0]], digits.rival(chosen[0])], digits.predicted[chosen[1:]]])
    columns = _explain(model, patterns, images[shown], targets, [name for some in families.values() for name in some])
    path = out / "demo.png"
    visualize.save(demo_sheet.sheet(list(zip(*columns, strict=True)), _row_labels(digits, shown, targets), families), path)
    say(f"Wrote {path}: a row a digit, a column a method, and below what the colours mean")
    _leave(out, model, patterns, digits, chosen)
    say(f"Done{_since(start)}")
    say(f"\nNext, the same on a page of its own, to be opened in a browser:\n\n  {_next(out)}")
    return 0


def _check_folder(out, model):
    """Refuses a folder in which files of somebody else's have the names of ours."""
    ours = out / "model.keras"
    if ours.exists() and fingerprint(models.load(ours)) == fingerprint(model):
        return
    for path in (ours, out / "patterns.h5"):
        if path.exists():
            raise InvalidInputError(f"There is {path} already, which is not the demo's; choose another folder as --out.")


def _choose(count, seed, digits):
    """Which digits: the contested one, then the classes in turn, the first ones of each, or with a seed random ones."""
    available, contested = len(digits.labels), digits.contested
    if count > available:
        raise InvalidInputError(f"--digits is {count}, but there are only {available} digits.")
    turns = np.arange(available).reshape(-1, _CLASSES)
    if seed is not None:
        turns = np.random.default_rng(seed).permuted(turns, axis=0)
    # In its class's first turn, so that the first ten are of all classes.
    column = turns[:, digits.labels[contested]]
    place = int(np.flatnonzero(column == contested)[0])
    column[[0, place]] = column[[place, 0]]
    others = turns.reshape(-1)
    return np.concatenate([[contested], others[others != contested]])[:count]


def _row_labels(digits, shown, targets):
    """What stands beside each row; of the first two also what they explain."""
    labels = [digits.said(place) for place in shown]
    for row, ending in ((0, ""), (1, f" ({_probability(digits.probabilities[shown[1], targets[1]])})")):
        labels[row] += f"\nWhy {targets[row]}{ending}?"
    return labels


def _probability(value):
    """Two places; what is nearly sure is not called sure."""
    return "> 0.99" if value > 0.995 else f"{value:.2f}"


def _fit(model, images):
    start = time.perf_counter()
    patterns = innvest_lite.fit_patterns(model, images, verbose=0)
    say(f"Fitted the patterns of {len(patterns)} layers on {len(images)} digits{_since(start)}")
    return patterns


def _explain(model, patterns, images, targets, methods):
    """For each method, pictures of its explanations."""
    columns = []
    for name in methods:
        start = time.perf_counter()
        values = models.create(name, model, patterns).analyze(images, target=targets)
        columns.append(pictures_of(name, values, images * 255))
        say(f"Explained {len(images) - 1} digits with {name}{_since(start)}")
    return columns


def _leave(out: pathlib.Path, model: Any, patterns: Any, digits: _Digits, chosen: np.ndarray) -> None:
    """Writes model, patterns and digits; these into a folder for each class, from which a report knows what is true."""
    model.save(out / "model.keras")
    patterns.save(out / "patterns.h5")
    for label in range(_CLASSES):
        (out / "digits" / str(label)).mkdir(parents=True, exist_ok=True)
    for place in chosen:
        pixels = as_bytes(digits.images[place, ..., 0] * 255)
        Image.fromarray(pixels).save(out / "digits" / str(digits.labels[place]) / f"{place:03d}.png")
    say(f"Wrote the model, its patterns and the {len(chosen)} digits into {out}")


def _next(out: pathlib.Path) -> str:
    """The command to type next."""
    words = ["innvest-lite", "report", out / "model.keras", out / "digits", "--preprocess", "unit"]
    words += ["--patterns", out / "patterns.h5", "--out", out / "report.html"]
    return shlex.join(map(str, words))


def _since(start):
    return f" in {time.perf_counter() - start:.1f} s"
