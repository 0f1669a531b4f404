"""Times a subclassed network against the same one written flat: `python scripts/benchmarks/inlined.py`.

A residual network of about 200 layers, whose blocks are layers of one's own, and its twin as a Functional model with the
same weights, are traced and explained. A round runs both in turn; figures are medians over rounds, ratios those of the
same round.
"""

import argparse
import functools
import os
import pathlib
import statistics
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import keras
import numpy as np
from common.measuring import machine, spread, timed
from keras import layers, ops

import innvest_lite
from innvest_lite.graph import trace

METHODS = ("gradient", "lrp.epsilon_plus", "pattern.attribution")


class Block(layers.Layer):
    """A residual block."""

    def __init__(self, channels, **options):
        super().__init__(**options)
        self.convs = [layers.Conv2D(channels, 3, padding="same", use_bias=False) for _ in range(2)]
        self.norms = [layers.BatchNormalization() for _ in range(2)]

    def call(self, x, training=None):
        """`x` and two convolutions of it."""
        value = ops.relu(self.norms[0](self.convs[0](x), training=training))
        return ops.relu(x + self.norms[1](self.convs[1](value), training=training))


class Network(keras.Model):
    """A stem, blocks, and a head."""

    def __init__(self, channels, blocks):
        super().__init__()
        self.stem = layers.Conv2D(channels, 3, padding="same")
        self.blocks = [Block(channels) for _ in range(blocks)]
        self.head = layers.Dense(10)

    def call(self, x, training=None):
        """The logits."""
        x = self.stem(x)
        for block in self.blocks:
            x = block(x, training=training)
        return self.head(ops.mean(x, axis=(1, 2)))


def flat(network, shape):
    """The same network as a Functional model."""
    x = value = keras.Input(shape)
    made = []

    def like(layer):
        made.append((type(layer).from_config(layer.get_config() | {"name": f"layer_{len(made)}"}), layer))
        return made[-1][0]

    value = like(network.stem)(value)
    for block in network.blocks:
        first = layers.Activation("relu")(like(block.norms[0])(like(block.convs[0])(value)))
        second = like(block.norms[1])(like(block.convs[1])(first))
        value = layers.Activation("relu")(layers.Add()([value, second]))
    model = keras.Model(x, like(network.head)(layers.GlobalAveragePooling2D()(value)))
    for layer, given in made:
        layer.set_weights(given.get_weights())
    return model


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=33)
    parser.add_argument("--channels", type=int, default=32)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    machine()
    x = np.random.default_rng(0).normal(size=(arguments.batch, arguments.size, arguments.size, 3)).astype("float32")
    network = Network(arguments.channels, arguments.blocks)
    network(x)
    twin = flat(network, x.shape[1:])
    print(f"{len(trace(network).nodes)} nodes; largest difference of the two: {np.abs(network(x) - twin(x)).max():.1g}")
    pairs = [(timed(lambda: trace(network)), timed(lambda: trace(twin))) for _ in range(arguments.rounds)]
    inside, outside = (statistics.median(times) for times in zip(*pairs, strict=True))
    print(f"trace: {inside:.2f} s looking into {arguments.blocks} blocks, {outside:.2f} s flat")
    for name in METHODS:
        analyzers = [innvest_lite.create_analyzer(name, model) for model in (network, twin)]
        if name.startswith("pattern."):
            analyzers = [analyzer.fit(x, verbose=0) for analyzer in analyzers]
        one, other = (analyzer.analyze(x) for analyzer in analyzers)
        off = np.abs(one - other).max() / np.abs(other).max()
        ratios = []
        for _ in range(arguments.rounds):
            seconds = [timed(functools.partial(analyzer.analyze, x)) for analyzer in analyzers]
            ratios.append(seconds[0] / seconds[1])
        print(f"{name:20s} {spread(ratios, 'of the flat one')}, off by {off:.1g} of the largest value")


if __name__ == "__main__":
    main()
