"""What a constant added to all logits, which a softmax does not see, does to the default map of every method.

Usage: `python scripts/checks/constants.py [--samples 40]`; minutes. Exits 1 where a map changes without a word.

The digit classifier that the package ships, with -30 .. 30 added to the biases of its last layer: the probabilities stay
what they were. For each name of `innvest_lite.ANALYZERS` that explains a class, the table has the median over digits of the
correlation of the map with the unshifted one (two maps of zeros are alike, one is like nothing else), the lowest of all
constants, and for which constants a warning was given.

A table before it compares what PatternAttribution may start from, on the 600 digits: the paper's logit, the logit less the
mean of the logits ("contrast"), the logit less its mean over the data ("centred"). A start is one factor per sample: the
map stays the paper's where the sign does.
"""

import argparse
import logging
import os
import pathlib
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import keras
import numpy as np
from common.measuring import machine
from common.tables import table_of

import innvest_lite
from innvest_lite.data import load_digits, load_model

CONSTANTS = (-30.0, -3.0, 3.0, 30.0)
# These look at no class.
# The digits' classifier has no attention.
WITHOUT_CLASS = ("input", "random", "attention.rollout", "attention.gradient_weighted")
REQUIRED = 0.99


class Said(logging.Handler):
    """Keeps what is warned of."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.messages = []

    def emit(self, record):
        """Keeps a message."""
        self.messages.append(record.getMessage())


def shifted(constant):
    """The shipped model with a constant added to all logits."""
    model = load_model()
    layer = next(layer for layer in reversed(model.layers) if layer.weights)
    layer.bias.assign_add(np.full(layer.bias.shape, constant))
    return model


def correlation(one, other):
    """Of two maps."""
    if one.any() and other.any():
        return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])
    return float(not one.any() and not other.any())


def explained(name, constant, images, digits):
    """The default map of a method, fitted where it has patterns."""
    keras.utils.set_random_seed(0)
    analyzer = innvest_lite.create_analyzer(name, shifted(constant))
    if isinstance(analyzer, innvest_lite.PatternNet | innvest_lite.PatternAttribution):
        analyzer.fit(images, verbose=0)
    return analyzer.analyze(digits)


def starts(images):
    """Rows: what may be started from, for the predicted class, the next and the last."""
    logits = innvest_lite.Gradient(load_model()).explainer.logits([images]).numpy()
    ranked, rows = np.argsort(-logits, 1), []
    for what, place in (("predicted", 0), ("second", 1), ("last", -1)):
        classes = ranked[:, place]
        logit = np.take_along_axis(logits, classes[:, None], 1)[:, 0]
        values = {
            "logit (paper)": logit,
            "contrast": logit - logits.mean(1),
            "centred": logit - logits.mean(0)[classes],
        }
        for start, value in values.items():
            kept = float(np.mean(value[logit > 0] > 0)) if np.any(logit > 0) else "-"
            above = f"{np.mean(logit > 0):.3f}"
            size = float(np.corrcoef(value, logit)[0, 1])
            row = {"class": what, "logit > 0": above, "start": start, "start > 0": float(np.mean(value > 0))}
            rows.append({**row, "of these, where logit > 0": kept, "correlation with the logit": size})
    return rows


def changes(samples, images):
    """Rows: what the constants do to each method."""
    said = Said()
    logging.getLogger("innvest_lite").addHandler(said)
    rows = []
    for name in (name for name in innvest_lite.ANALYZERS if name not in WITHOUT_CLASS):
        found, warned = {}, []
        for constant in (0.0, *CONSTANTS):
            said.messages.clear()
            found[constant] = explained(name, constant, images, images[:samples])
            warned += [constant] if said.messages else []
        medians = {
            constant: np.median([correlation(*pair) for pair in zip(found[constant], found[0.0], strict=True)])
            for constant in CONSTANTS
        }
        unsaid = [constant for constant in CONSTANTS if medians[constant] < REQUIRED and constant not in warned]
        rows.append(
            {
                "method": name,
                "lowest median correlation": float(min(medians.values())),
                "warned of": ", ".join(f"{constant:g}" for constant in warned),
                "changed and unsaid": ", ".join(f"{constant:g} ({medians[constant]:.3f})" for constant in unsaid),
            }
        )
    return rows


def main():
    """Prints both tables; 1 where a map changes and nothing is said."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=40)
    options = parser.parse_args()
    machine()
    images, _ = load_digits()
    print(table_of(starts(images), ".3f"), "\n", flush=True)
    rows = changes(options.samples, images)
    print(table_of(rows, ".4f"))
    return 1 if any(row["changed and unsaid"] for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
