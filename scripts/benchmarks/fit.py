"""What a fit's steps cost, against the forward pass of the same rounds: `python scripts/benchmarks/fit.py`.

A step adds one batch of images to the sums of VGG16; of some batches ("full") more is gathered than of the others ("lean").
What that makes of a whole fit is computed.
"""

import collections
import functools
import os
import pathlib
import statistics
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from common.measuring import machine, parsed, spread, timed
from common.networks import flush_of, gatherer, images, vgg16


def fitting(batch, rounds):
    """Prints the ratios of both kinds of steps, exact and not."""
    import tensorflow as tf

    from innvest_lite import backend

    model, x = vgg16(), images(batch)
    forward = tf.function(lambda batch: model(batch, training=False))
    pixels = tf.constant(x)
    steps, flushes = {}, {}
    for exact in (True, False):
        gathering = gatherer(model, exact)
        with backend.weights_stay():
            collections.deque(gathering.first([x], None), maxlen=0)
        flushes[exact] = flush_of(model, gathering)
        for full in (True, False):
            steps[exact, full] = functools.partial(gathering.add, [x], None, full)
    calls = {"forward": lambda: forward(pixels).numpy(), **steps}
    ratios = {key: [] for key in steps}
    for call in calls.values():
        call()
    for _ in range(rounds):
        plain = timed(calls["forward"])
        for key, call in steps.items():
            ratios[key].append(timed(call) / plain)
    print(f"VGG16 224x224, batch {batch}, {rounds} rounds; forward pass: {plain:.2f} s in the last")
    for exact in (True, False):
        flush = timed(flushes[exact]) / plain
        print(f"approximate={not exact}")
        print_fit({full: ratios[exact, full] for full in (True, False)}, flush, batch)


def print_fit(ratios, flush, batch):
    """Prints what steps and flushes make of whole fits."""
    from innvest_lite.patterns.fitter import FLUSH_EVERY, FULL_EVERY, FULL_SAMPLES

    lean, full = statistics.median(ratios[False]), statistics.median(ratios[True])
    print(f"  lean step  {spread(ratios[False], 'of a forward pass')}")
    print(f"  full step  {spread(ratios[True])}")
    for samples in (10_000, 100_000, 1_000_000):
        number = samples / batch
        first = FULL_SAMPLES / batch
        every = first + (number - first) / FULL_EVERY
        whole = (every * full + (number - every) * lean) / number + flush / FLUSH_EVERY
        print(f"  a fit of {samples:,} images: {whole:.3f} per batch, with the flushes ({flush:.2f} each)")


if __name__ == "__main__":
    arguments = parsed(__doc__, batch=32, rounds=7)
    machine()
    fitting(arguments.batch, arguments.rounds)
