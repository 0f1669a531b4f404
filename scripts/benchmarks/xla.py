"""Seconds to compile and to run, with XLA and without: `python scripts/benchmarks/xla.py`."""

import functools
import os
import pathlib
import statistics
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from common.measuring import machine, parsed, timed
from common.networks import METHODS, analyzer_of, images, vgg16


def xla(batch, rounds, names):
    """Prints seconds until the first explanation, and then for each, compiled by XLA and not."""
    model, x = vgg16(), images(batch)
    print(f"VGG16 224x224, batch {batch}, {rounds} rounds: first call and steady seconds, without XLA and with it")
    for name in names:
        analyzers = [analyzer_of(name, model, jit_compile=compiled) for compiled in (False, True)]
        calls = [functools.partial(analyzer.analyze, x, batch_size=batch) for analyzer in analyzers]
        firsts = [timed(call) for call in calls]
        pairs = [tuple(map(timed, calls)) for _ in range(rounds)]
        steady = [statistics.median(seconds) for seconds in zip(*pairs, strict=True)]
        ratio = statistics.median(compiled / plain for plain, compiled in pairs)
        cells = [f"first {first:6.2f} steady {each:6.2f}" for first, each in zip(firsts, steady, strict=True)]
        print(f"{name:20s} {cells[0]}   XLA: {cells[1]}   ratio {ratio:.2f}", flush=True)


if __name__ == "__main__":
    arguments = parsed(__doc__, batch=8, rounds=7, methods=METHODS)
    machine()
    xla(arguments.batch, arguments.rounds, arguments.methods)
