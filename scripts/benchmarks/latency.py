"""How long a single small image takes: `analyze` against the plain compiled gradient, and where the microseconds go.

`python scripts/benchmarks/latency.py` takes the digits' model (28 x 28) and MobileNetV2 with random weights at `--side`
pixels, one image at a time. The plain call is one `tf.function`, compiled once for its signature: from an array to an
array, and from a tensor to a tensor. A round runs each call once, in turn; figures are medians over all rounds, in
microseconds, and medians of the ratios of the same rounds to the plain call from array to array, with the interval in
which the true median lies with a probability of 95 %.

"program" is the same compiled explanation, called with tensors and without the checks before it and behind it; what
`analyze` takes beyond it is Python: checks of the input and the target, conversion, warnings.
"""

import argparse
import functools
import os
import pathlib
import statistics
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from common.measuring import machine, timed
from race_tables import left_out

METHODS = ("gradient", "lrp.epsilon", "pattern.attribution")
PLAIN = "plain, array to array"
WARM = 20


def digits():
    """The shipped model, a digit, and digits to fit on."""
    from innvest_lite.data import load_digits, load_model

    images = load_digits()[0].astype("float32")
    return load_model(), images[:1], images


def mobilenet(side):
    """MobileNetV2 of random weights, an image of noise, and some to fit on."""
    import keras
    import numpy as np

    keras.utils.set_random_seed(0)
    model = keras.applications.MobileNetV2((side, side, 3), weights=None, classifier_activation=None)
    images = np.random.default_rng(0).normal(size=(32, side, side, 3)).astype("float32")
    return model, images[:1], images


def plain_calls(model, x):
    """Name -> the plain gradient of the largest logit, compiled for batches of any size."""
    import tensorflow as tf

    def gradient(batch):
        with tf.GradientTape() as tape:
            tape.watch(batch)
            largest = tf.reduce_max(model(batch, training=False), axis=1)
        return tape.gradient(largest, batch)

    signature = [tf.TensorSpec((None, *x.shape[1:]), tf.float32)]
    program, tensor = tf.function(gradient, input_signature=signature).get_concrete_function(), tf.constant(x)
    return {PLAIN: lambda: program(tf.constant(x)).numpy(), "plain, tensor to tensor": lambda: program(tensor)}


def our_calls(model, x, data):
    """Name -> an explanation by `analyze`, with and without a class, and its compiled program alone."""
    import innvest_lite
    from innvest_lite import backend

    calls, made, real = {}, [], backend.compiled
    for method in METHODS:
        options = {"patterns": innvest_lite.fit_patterns(model, data, verbose=0)} if method.startswith("pattern") else {}
        analyzer = innvest_lite.create_analyzer(method, model, **options)
        backend.compiled = lambda *given: made.append(real(*given)) or made[-1]
        analyzer.analyze(x)
        backend.compiled = real
        # The first; what the guard of the patterns looks with comes behind it.
        calls[f"{method}, program"] = functools.partial(made[0], backend.tensor(x))
        made.clear()
        calls[method] = functools.partial(analyzer.analyze, x)
        calls[f"{method}, class 0"] = functools.partial(analyzer.analyze, x, 0)
    return calls


def race(title, model, x, data, rounds):
    """Prints the table of a model."""
    calls = {**plain_calls(model, x), **our_calls(model, x, data)}
    for call in [*calls.values()] * WARM:
        call()
    seconds = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            seconds[name].append(timed(call))
    print(f"{title}, one image, {rounds} rounds: microseconds, and ratios to the plain call from array to array")
    for name, taken in seconds.items():
        ratios = sorted(one / plain for one, plain in zip(taken, seconds[PLAIN], strict=True))
        cut = left_out(rounds)
        spread = f"{statistics.median(ratios):.3f} ({ratios[cut]:.3f} to {ratios[-1 - cut]:.3f})"
        print(f"{name:30s} {statistics.median(taken) * 1e6:8.0f}  {spread}")


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--side", type=int, default=96, help="of MobileNetV2's images, in pixels")
    parser.add_argument("--models", nargs="+", default=("digits", "mobilenet"), choices=("digits", "mobilenet"))
    arguments = parser.parse_args()
    machine()
    if "digits" in arguments.models:
        race("digits 28x28", *digits(), arguments.rounds)
    if "mobilenet" in arguments.models:
        side = arguments.side
        race(f"MobileNetV2 {side}x{side}", *mobilenet(side), arguments.rounds)


if __name__ == "__main__":
    main()
