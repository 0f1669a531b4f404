"""What it costs to look whether a model's weights changed: `python scripts/benchmarks/guard.py [--batch 1] [--rounds 41]`.

Every explanation by patterns sums up all weights of the model. Here PatternAttribution explains with and without that, in
turn, and each round gives one share of the explanation's time. Networks of keras.applications with random weights.
"""

import argparse
import dataclasses
import os
import pathlib
import statistics
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import keras
import numpy as np
from common.measuring import machine, timed

import innvest_lite
from innvest_lite.analyzers.guard import Unguarded
from innvest_lite.patterns.layout import Layout


def shares(name, batch, rounds):
    """What the look adds to each of the rounds, as a share of the explanation without it; seconds of that."""
    model = getattr(keras.applications, name)(weights=None)
    kernels = {name: np.asarray(form.kernel()) for name, form in Layout.of(model).patterned.items()}
    analyzer = innvest_lite.PatternAttribution(model, patterns=kernels)
    guarded = analyzer.explainer
    unguarded = dataclasses.replace(guarded, guard=Unguarded())
    x = np.random.default_rng(0).normal(size=(batch, *model.input_shape[1:])).astype("float32")
    calls = [lambda explainer=explainer: explainer.run([x]) for explainer in (unguarded, guarded)]
    for call in calls:
        call()
    found, seconds = [], []
    for number in range(rounds):
        # Which goes first changes from round to round: a machine that slows down slows down both.
        order = calls if number % 2 else calls[::-1]
        times = dict(zip(map(id, order), map(timed, order), strict=True))
        plain, looking = (times[id(call)] for call in calls)
        found.append(looking / plain - 1)
        seconds.append(plain)
    return found, seconds


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=41)
    parser.add_argument("--models", nargs="+", default=["MobileNetV2"], help="of keras.applications")
    arguments = parser.parse_args()
    machine()
    for name in arguments.models:
        found, seconds = shares(name, arguments.batch, arguments.rounds)
        low, middle, high = np.quantile(found, [0.25, 0.5, 0.75])
        rest = f"an explanation of {1e3 * statistics.median(seconds):.0f} ms"
        print(
            f"{name}, batch {arguments.batch}, {arguments.rounds} rounds: the look adds {100 * middle:.1f} % to {rest} "
            f"(quartiles {100 * low:.1f} to {100 * high:.1f} %)"
        )


if __name__ == "__main__":
    main()
