"""Making an analyzer takes the same work for each layer, however many there are: calls are counted, not seconds.

Catches a loop over all nodes for each node, over all layers for each layer that is looked into, and over all that lies
before a node for each node.
"""

import gc
import sys
import weakref

import keras
import pytest

import innvest_lite
from innvest_lite.graph import trace
from innvest_lite.graph.once import one_trace

layers = keras.layers


def calls_of(function):
    """How many functions, Python's and built-in, a call of a function calls."""
    counted, before = 0, sys.getprofile()

    def count(frame, event, argument):
        nonlocal counted
        counted += event in ("call", "c_call")

    # What is collected now and then is no part of it.
    gc.collect()
    gc.disable()
    sys.setprofile(count)
    try:
        function()
    finally:
        sys.setprofile(before)
        gc.enable()
    return counted


class Block(layers.Layer):
    """A residual block whose call is looked into."""

    def __init__(self):
        super().__init__()
        self.first, self.second = layers.Dense(4, activation="relu"), layers.Dense(4)

    def call(self, x):
        return keras.ops.relu(x + self.second(self.first(x)))


def residual(x):
    y = layers.BatchNormalization()(layers.Conv2D(2, 3, padding="same", activation="relu")(x))
    return layers.ReLU()(layers.Add()([x, layers.Conv2D(2, 3, padding="same")(y)]))


def gated(x):
    y = layers.Multiply()([layers.Dense(4)(x), layers.Dense(4)(x)])
    return layers.Add()([x, y / (1 + keras.ops.mean(keras.ops.abs(y), axis=-1, keepdims=True))])


def tokens(x):
    return x + layers.Dense(4)(layers.Dense(4, activation="gelu")(layers.LayerNormalization()(x)))


NETWORKS = {
    "chain": ((4, 4, 2), lambda x: layers.Conv2D(2, 3, padding="same", activation="relu")(x)),
    "residual": ((4, 4, 2), residual),
    # Two dense layers without a rectifier between them are one linear map.
    "pairs": ((4,), lambda x: layers.Dense(4, activation="relu")(layers.Dense(4)(x))),
    "gated": ((4,), gated),
    "tokens": ((3, 4), tokens),
    "looked into": ((4,), lambda x: Block()(x)),
}


def made(name, number):
    shape, block = NETWORKS[name]
    x = taken = keras.Input(shape)
    for _ in range(number):
        x = block(x)
    return keras.Model(taken, layers.Dense(3)(layers.Flatten()(x)))


@pytest.mark.parametrize(
    "name",
    [name if name in ("residual", "tokens") else pytest.param(name, marks=pytest.mark.slow) for name in NETWORKS],
)
def test_planning_is_linear_in_layers(name):
    def making(number):
        model = made(name, number)
        return calls_of(lambda: str(innvest_lite.PatternAttribution(model).plan()))

    making(2)
    few, some, many = map(making, (6, 12, 18))
    assert some - few == pytest.approx(many - some, rel=5e-3), (few, some, many)


def test_a_graph_goes_with_its_analyzer():
    analyzer = innvest_lite.create_analyzer("pattern.attribution", made("gated", 2))
    graph = weakref.ref(analyzer.plan().graph)
    assert graph() is not None
    del analyzer
    keras.utils.clear_session()
    gc.collect()
    assert graph() is None


def test_a_model_that_changes_is_traced_again():
    model = made("pairs", 1)
    first = innvest_lite.create_analyzer("gradient", model)
    model.layers[1].activation = keras.activations.relu
    second = innvest_lite.create_analyzer("gradient", model)
    assert len(second.plan().steps) == len(first.plan().steps) + 1
    assert trace(model) is not trace(model)


def test_one_trace_is_one_for_each_shape():
    """A model of open sizes that is bound for two shapes must not get the graph of the first for both."""
    inputs = keras.Input((None, 3))
    model = keras.Model(inputs, keras.layers.Conv1D(2, 3)(inputs))
    with one_trace():
        shapes = [graph.spec(graph.outputs[0]).shape[1] for graph in (trace(model, (9, 3)), trace(model, (5, 3)))]
    assert shapes == [7, 3]
