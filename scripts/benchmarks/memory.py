"""Peak memory of explanations, or with `--fit` of fits, on VGG16: `python scripts/benchmarks/memory.py`.

Each figure is that of a process of its own, as Linux counts it, beside a plain gradient's process (explanations) or that of
forward passes (fits).
"""

import argparse
import json
import os
import pathlib
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from common.measuring import forget_high_water_mark, high_water_mark, in_a_process, machine, plain_gradient
from common.networks import METHODS, images, method, vgg16

WEIGHTS, KERNELS = 138_357_544 * 4 / 2**30, 138_344_128 * 4 / 2**30


def explaining(batch, names):
    """Prints each method's peak against the gradient's."""
    peaks = {name: peak(name, batch) for name in ("plain", *names)}
    plain = peaks["plain"]["explaining"]
    print(f"peak memory, batch {batch}: plain gradient {plain:.2f} GiB; the patterns are {WEIGHTS:.2f} GiB")
    for name in names:
        own = peaks[name]["explaining"] - (WEIGHTS if name.startswith("Pattern") else 0)
        all_of_it, making = peaks[name]["explaining"], f"with making the analyzer {peaks[name]['whole']:.2f} GiB"
        share = f"without patterns {own:.2f}: {own / plain:.3f} of a gradient"
        print(f"{name:20s} {all_of_it:.2f} GiB explaining, {share}; {making}")


def fitting(batch):
    """Prints the peak of fits against that of forward passes."""
    peaks = {name: peak(name, batch)["whole"] for name in ("forward", "fit", "fit-sampled", "fit-linear")}
    forward = peaks.pop("forward")
    print(f"peak memory, batch {batch}: forward passes {forward:.2f} GiB; VGG16's kernels are {KERNELS:.2f} GiB")
    for name, whole in peaks.items():
        print(f"{name:12s} {whole:.2f} GiB: {(whole - forward) / KERNELS:.2f} times the kernels more")


def peak(name, batch):
    """What `inside` printed, in a process of its own."""
    return in_a_process(__file__, "--inside", name, "--batch", batch)


def inside(name, batch):
    """Runs one method three times and prints the process's peak memory in GiB."""
    call = made(name, vgg16(), images(batch))
    whole = high_water_mark()
    forget_high_water_mark()
    for _ in range(3):
        call()
    explaining = high_water_mark()
    print(json.dumps({"explaining": explaining, "whole": max(whole, explaining)}))


def made(name, model, x):
    """The call: an explanation, three batches gathered and flushed, or three passed forward."""
    import innvest_lite

    if name == "forward":
        return lambda: model.predict(x, batch_size=len(x), verbose=0)
    if name.startswith("fit"):
        options = {"estimator": "linear" if name == "fit-linear" else "relu", "approximate": name == "fit-sampled"}
        return lambda: innvest_lite.fit_statistics(model, [x] * 3, **options, verbose=0)
    return plain_gradient(model, x) if name == "plain" else method(name, model, x)[1]


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, help="8, for fits 32")
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--fit", action="store_true", help="fits in place of explanations")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    batch = arguments.batch or (32 if arguments.fit else 8)
    if arguments.inside:
        inside(arguments.inside, batch)
        return
    machine()
    if arguments.fit:
        fitting(batch)
    else:
        explaining(batch, arguments.methods)


if __name__ == "__main__":
    main()
