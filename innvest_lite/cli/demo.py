"""`innvest-lite demo`: the methods on the shipped digit classifier, side by side in one picture."""

from __future__ import annotations

import argparse
import pathlib
import time

import numpy as np

import innvest_lite
from innvest_lite import visualize
from innvest_lite.cli import models
from innvest_lite.cli.pictures import pictures_of
from innvest_lite.cli.terminal import say
from innvest_lite.errors import InvalidInputError

_CLASSES = 10
# One of each family that fits the model; --all takes every name that does.
FAMILIES = (
    *("input", "random", "gradient", "input_t_gradient", "deconvnet", "guided_backprop", "integrated_gradients"),
    *("smoothgrad", "gradcam", "occlusion", "rise", "lrp.epsilon", "lrp.epsilon_plus_flat", "deep_taylor"),
    *("pattern.net", "pattern.attribution"),
)


def run(arguments: argparse.Namespace) -> int:
    """Fits, explains, draws, and reports each step in a line; returns the exit code."""
    from innvest_lite.analyzers.registry import OF_ATTENTION

    start = time.perf_counter()
    digits, labels = innvest_lite.data.load_digits()
    chosen = _choose(arguments.digits, arguments.seed, len(digits))
    model = innvest_lite.data.load_model()
    say(f"Loaded {len(digits)} digits and a classifier with {model.count_params():,} parameters{_since(start)}")
    images = digits[chosen]
    predicted = model.predict(images, verbose=0).argmax(axis=-1)
    every = [name for name in innvest_lite.ANALYZERS if name not in OF_ATTENTION]
    columns = _explain(model, digits, images, every if arguments.all else FAMILIES)
    rows = [list(row) for row in zip(*columns.values(), strict=True)]
    row_labels = [f"true {true}, predicted {guess}" for true, guess in zip(labels[chosen], predicted, strict=True)]
    path = pathlib.Path(arguments.out) / "demo.png"
    visualize.save(visualize.grid(rows, row_labels, list(columns)), path)
    say(f"Wrote {path}: a row a digit, a column a method")
    say(f"Done{_since(start)}")
    return 0


def _choose(count, seed, available):
    """Which digits: the classes in turn; the first ones of each class, or with a seed random ones."""
    if count > available:
        raise InvalidInputError(f"--digits is {count}, but there are only {available} digits.")
    turns = np.arange(available).reshape(-1, _CLASSES)
    if seed is not None:
        turns = np.random.default_rng(seed).permuted(turns, axis=0)
    return turns.reshape(-1)[:count]


def _explain(model, digits, images, methods):
    """Method -> pictures of its explanations; all pattern methods share one fit on all digits."""
    start = time.perf_counter()
    patterns = innvest_lite.fit_patterns(model, digits, verbose=0)
    say(f"Fitted the patterns of {len(patterns)} layers on {len(digits)} digits{_since(start)}")
    columns = {}
    for name in methods:
        start = time.perf_counter()
        values = models.create(name, model, patterns).analyze(images)
        columns[name] = pictures_of(name, values, images * 255)
        say(f"Explained {len(images)} digits with {name}{_since(start)}")
    return columns


def _since(start):
    return f" in {time.perf_counter() - start:.1f} s"
