"""Times explanations against a plain TensorFlow gradient: `python scripts/benchmarks/analyze.py`, and with `--lrp` LRP's.

The machine may be shared and noisy, so a round runs the gradient and every method once, in turn, and the figure is the
median over rounds of the ratio to the gradient of the same round. VGG16 has random weights.
"""

import argparse
import os
import pathlib
import statistics
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from common.measuring import against, machine, plain_gradient, spread
from common.networks import METHODS, images, method, vgg16

# LRP by the name of its composite.
LRP_METHODS = (
    *("epsilon", "alpha1_beta0", "z_plus", "DeepTaylor", "sequential_preset_a"),
    *("alpha2_beta1", "sequential_preset_b", "gamma"),
)


def analyze(batch, rounds, names):
    """Prints the ratio of each method to the gradient, and whether a later batch traced again."""
    model, x = vgg16(), images(batch)
    baseline = plain_gradient(model, x)
    pairs = {name: method(name, model, x) for name in names}
    calls = {name: call for name, (_, call) in pairs.items()}
    for call in (baseline, *calls.values()):
        call()
    ratios, seconds = against(baseline, calls, rounds)
    print(f"VGG16 224x224, batch {batch}, {rounds} rounds; plain gradient: median {statistics.median(seconds):.2f} s")
    for name, values in ratios.items():
        traced = f"traced {pairs[name][0]():g} time(s) over {rounds + 1} batches"
        print(f"{name:20s} {spread(values, 'of a gradient')}, {traced}")


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--lrp", action="store_true", help="the composites of LRP in place of the other methods")
    parser.add_argument("--methods", nargs="+", help="of these alone; a class of the package or a composite of LRP")
    arguments = parser.parse_args()
    machine()
    analyze(arguments.batch, arguments.rounds, arguments.methods or (LRP_METHODS if arguments.lrp else METHODS))


if __name__ == "__main__":
    main()
