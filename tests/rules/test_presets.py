"""The named composites: dense layers of every kind get the rule of dense layers; rules stand at nodes that they are for."""

import keras
import numpy as np
import pytest
from keras import layers

from innvest_lite import LRP, InvalidInputError
from innvest_lite.graph import trace
from innvest_lite.rules import AlphaBeta, Box, Epsilon, Flat, Gamma, Gradient, Pattern, ZPlus, anything, bind, kind

# The rules of the first layer, of convolutions and of dense layers, from the papers' text.
PRESETS = {
    "epsilon_plus": (ZPlus(), ZPlus(), Epsilon(1e-6)),
    "epsilon_plus_flat": (Flat(), ZPlus(), Epsilon(1e-6)),
    "epsilon_gamma_box": (Box(-3.0, 3.0), Gamma(0.25), Epsilon(1e-6)),
    "epsilon_alpha2_beta1": (AlphaBeta(2.0, 1.0), AlphaBeta(2.0, 1.0), Epsilon(1e-6)),
    "epsilon_alpha2_beta1_flat": (Flat(), AlphaBeta(2.0, 1.0), Epsilon(1e-6)),
    "sequential_preset_a": (AlphaBeta(1.0, 0.0, "shared"), AlphaBeta(1.0, 0.0, "shared"), Epsilon(0.1)),
    "sequential_preset_b": (AlphaBeta(2.0, 1.0, "shared"), AlphaBeta(2.0, 1.0, "shared"), Epsilon(0.1)),
    "sequential_preset_a_flat": (Flat(), AlphaBeta(1.0, 0.0, "shared"), Epsilon(0.1)),
    "sequential_preset_b_flat": (Flat(), AlphaBeta(2.0, 1.0, "shared"), Epsilon(0.1)),
}


def test_an_einsum_dense_layer_is_a_dense_layer():
    """As in a transformer, whose projections are EinsumDense: not the rule of convolutions."""
    x = keras.Input((6, 4))
    value = layers.Conv1D(3, 2, activation="relu", name="convolution")(
        layers.Conv1D(3, 2, activation="relu", name="first")(x)
    )
    value = layers.EinsumDense("btd,de->bte", (4, 3), activation="relu", name="einsum")(value)
    model = keras.Model(x, layers.Dense(2, name="dense")(layers.Flatten()(value)))
    wrong = []
    for name, (first, convolutional, dense) in PRESETS.items():
        found = {step.node.name: step.rule for step in LRP(model, name).plan().steps}
        expected = {"first": first, "convolution": convolutional, "einsum": dense, "dense": dense}
        wrong += [(name, layer, found[layer]) for layer, rule in expected.items() if found[layer] != rule]
    assert wrong == []


def test_a_pattern_wants_a_kernel():
    """An average over a size that is open has none; that is said when rules are bound, not in the middle of a sweep."""
    x = keras.Input((None, 3))
    graph = trace(keras.Model(x, layers.GlobalAveragePooling1D(name="mean")(x)))
    with pytest.raises(InvalidInputError, match=r"matches only others: mean \(average\)"):
        bind(graph, [(kind("average"), Pattern()), (anything(), Gradient())], "Test")


def test_products_with_a_constant_matrix_are_dense():
    """Whichever operation makes them: each is what a Dense layer of the same kernel would be."""
    matrix, samples = np.random.default_rng(0).normal(size=(5, 3)), np.random.default_rng(1).normal(size=(4, 5))
    matrix, samples = matrix.astype("float32"), samples.astype("float32")
    x = keras.Input((5,))
    twin = keras.Sequential([keras.Input((5,)), keras.layers.Dense(3, use_bias=False)])
    twin.set_weights([matrix])
    expected = LRP(twin, "epsilon_plus").analyze(samples)
    for product in (
        lambda x: keras.ops.matmul(x, matrix),
        lambda x: keras.ops.dot(x, matrix),
        lambda x: keras.ops.tensordot(x, matrix, 1),
        lambda x: keras.ops.einsum("bi,ij->bj", x, matrix),
    ):
        found = LRP(keras.Model(x, product(x)), "epsilon_plus").analyze(samples)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
