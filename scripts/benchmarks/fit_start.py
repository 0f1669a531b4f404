"""From the first batch to patterns, nothing traced before: `python scripts/benchmarks/fit_start.py`.

Each figure is that of a process of its own, in which the model has predicted once. Beside the fit of one batch stand the
work that there is to it: a lean step (what most batches of a long fit cost), and reading and writing the sums once.
`--only-fit` leaves these out, for other versions of this package.
"""

import argparse
import json
import os
import pathlib
import statistics
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import common.measuring as measuring
from common.measuring import in_a_process, machine, timed
from common.networks import gatherer, images, vgg16

BATCHES = {"VGG16": 8, "MobileNetV2": 32}
STEPS = 5


def network(name):
    """`(model, batch)`: VGG16 and images of 224 x 224, MobileNetV2 and images of 96 x 96."""
    import keras

    if name == "VGG16":
        return vgg16(), images(BATCHES[name])
    keras.utils.set_random_seed(0)
    return keras.applications.MobileNetV2(input_shape=(96, 96, 3), weights=None), images(BATCHES[name], 96) / 50


def inside(name, only_fit):
    """Prints the seconds of one process."""
    import innvest_lite

    model, x = network(name)
    seconds = {"predict, first call": timed(lambda: model.predict(x, batch_size=len(x), verbose=0))}
    began, cpu = time.perf_counter(), time.process_time()
    innvest_lite.fit_patterns(model, x, verbose=0)
    seconds |= {"fit": time.perf_counter() - began, "fit, on all cores": time.process_time() - cpu}
    if not only_fit:
        seconds |= work(model, x)
    print(json.dumps(seconds))


def work(model, x):
    """Seconds of the steps that were not traced before, of a lean step behind that, and of copying the sums."""
    import numpy as np

    from innvest_lite import backend

    gathering = gatherer(model, exact=True)
    with backend.weights_stay():
        sums = [np.array(value) for _, _, value in gathering.first([x], None)]
    second = timed(lambda: gathering.add([x], None, True))
    lean = measuring.median(lambda: gathering.add([x], None, False), STEPS)
    copied = measuring.median(lambda: [np.copyto(value, 1) or value.sum() for value in sums], STEPS)
    return {"second batch": second, "lean step": lean, "sums": copied}


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--networks", nargs="+", default=list(BATCHES), choices=BATCHES)
    parser.add_argument("--only-fit", action="store_true")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inside:
        inside(arguments.inside, arguments.only_fit)
        return
    machine()
    for name in arguments.networks:
        options = ["--only-fit"] if arguments.only_fit else []
        found = [in_a_process(__file__, "--inside", name, *options) for _ in range(arguments.rounds)]
        median = {key: statistics.median(one[key] for one in found) for key in found[0]}
        spread = [one["fit"] for one in found]
        print(f"{name}, one batch of {BATCHES[name]}, medians of {arguments.rounds} processes")
        for key, value in median.items():
            print(f"  {key:20s} {value:6.2f} s")
        if not arguments.only_fit:
            ratios = [(one["fit"] - one["sums"]) / one["lean step"] for one in found]
            least, most = min(ratios), max(ratios)
            print(f"  besides the sums     {statistics.median(ratios):6.2f} lean steps (min {least:.2f}, max {most:.2f})")
        print(f"  the fit              {min(spread):.2f} to {max(spread):.2f} s", flush=True)


if __name__ == "__main__":
    main()
