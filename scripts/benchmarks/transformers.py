"""Times explanations of attention and of recurrence against plain gradients: `python scripts/benchmarks/transformers.py`.

KerasHub's ViT-B/16 (images of 224x224, 1000 classes), and an LSTM and a GRU over 200 steps, all of random weights. A round
runs the gradient and every method once, in turn; figures are medians of ratios to the gradient of the same round. Of
memory (`--memory`) it is what tensors take at most while a process of each method's own explains, beside the weights and
patterns. Exit code 1 where a ratio is above its limit: 1.3 of time and memory for the ViT, 2.5 of time for LSTM and GRU.
"""

import argparse
import functools
import json
import os
import pathlib
import statistics
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import keras
import numpy as np
from common.measuring import against, in_a_process, machine, plain_gradient, spread, tensors_while
from keras import layers

METHODS = ("gradient", "lrp.epsilon", "lrp.attn_lrp", "lrp.cp_lrp")
STEPS, FEATURES, UNITS = 200, 32, 128


def vit():
    """ViT-B/16 (Dosovitskiy et al. 2021, arXiv 2010.11929), and what it takes."""
    import keras_hub

    sizes = {"num_layers": 12, "num_heads": 12, "hidden_dim": 768, "mlp_dim": 3072}
    backbone = keras_hub.models.ViTBackbone(image_shape=(224, 224, 3), patch_size=16, **sizes)
    return keras_hub.models.ViTImageClassifier(backbone, num_classes=1000, activation=None), (224, 224, 3)


def recurrent(layer):
    """A recurrent layer whose last output a dense layer reads, and what it takes."""
    shape = (STEPS, FEATURES)
    return keras.Sequential([keras.Input(shape), layer(UNITS), layers.Dense(10)]), shape


# Name -> what builds it, the batch, the limits of time and of memory. The methods by patterns do without recurrent layers.
NETWORKS = {
    "ViT-B/16": (vit, 8, 1.3, 1.3, (*METHODS, "pattern.attribution")),
    "LSTM": (functools.partial(recurrent, layers.LSTM), 32, 2.5, float("inf"), METHODS),
    "GRU": (functools.partial(recurrent, layers.GRU), 32, 2.5, float("inf"), METHODS),
}


def call_of(name, model, x):
    """A call that explains `x` by a method of this name, or by the plain gradient."""
    import innvest_lite
    from innvest_lite.patterns.layout import Layout

    if name == "plain":
        return plain_gradient(model, x)
    options = {}
    if name.startswith("pattern."):
        # Kernels cost what fitted patterns cost.
        options["patterns"] = {owner: form.kernel().numpy() for owner, form in Layout.of(model).patterned.items()}
    analyzer = innvest_lite.create_analyzer(name, model, **options)
    return lambda: analyzer.analyze(x, batch_size=len(x))


def made(network, batch):
    """The network, and noise."""
    keras.utils.set_random_seed(0)
    model, shape = NETWORKS[network][0]()
    return model, np.random.default_rng(0).normal(size=(batch, *shape)).astype("float32")


def times(network, batch, rounds, names):
    """Prints each method's ratio of time to the gradient's, and says which are above the limit."""
    model, x = made(network, batch)
    baseline, calls = call_of("plain", model, x), {name: call_of(name, model, x) for name in names}
    for call in (baseline, *calls.values()):
        call()
    ratios, seconds = against(baseline, calls, rounds)
    print(f"{network}, batch {batch}, {rounds} rounds; plain gradient: median {statistics.median(seconds):.2f} s")
    for name, values in ratios.items():
        print(f"{name:20s} time {spread(values, 'of a gradient')}", flush=True)
    return [name for name, values in ratios.items() if statistics.median(values) > NETWORKS[network][2]]


def memory(network, batch, names):
    """Prints each method's ratio of memory to the gradient's, and says which are above the limit."""
    peaks = {}
    for name in ("plain", *names):
        peaks[name] = in_a_process(__file__, "--inside", name, "--networks", network, "--batch", batch)
    plain, limit = peaks.pop("plain")["explaining"], NETWORKS[network][3]
    print(f"{network}, batch {batch}; plain gradient: {plain:.2f} GiB beside its weights")
    for name, peak in peaks.items():
        making = f"making the analyzer: {peak['making']:.2f} GiB"
        print(f"{name:20s} memory {peak['explaining'] / plain:.3f} of a gradient ({peak['explaining']:.2f} GiB; {making})")
    return [name for name, peak in peaks.items() if peak["explaining"] > limit * plain]


def inside(network, batch, name):
    """Prints the GiB that explaining takes at most, and that making the analyzer takes, beside weights and patterns."""
    (model, x), calls = made(network, batch), []
    making = tensors_while(lambda: calls.append(call_of(name, model, x)))
    explaining = tensors_while(lambda: [calls[0]() for _ in range(2)])
    print(json.dumps({"explaining": explaining, "making": making}))


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS)
    parser.add_argument("--methods", nargs="+")
    parser.add_argument("--batch", type=int, help="8, for recurrence 32")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--memory", action="store_true", help="memory in place of time")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inside:
        return inside(arguments.networks[0], arguments.batch, arguments.inside)
    machine()
    above = []
    for network in arguments.networks:
        batch, names = arguments.batch or NETWORKS[network][1], arguments.methods or NETWORKS[network][-1]
        above += memory(network, batch, names) if arguments.memory else times(network, batch, arguments.rounds, names)
    return bool(above)


if __name__ == "__main__":
    sys.exit(main())
