"""The named composites: dense layers of every kind get the rule of dense layers; rules stand at nodes that they are for."""

import keras
import numpy as np
import pytest
from comparing import assert_close
from keras import layers

from innvest_lite import LRP, InvalidInputError, create_analyzer
from innvest_lite.graph import trace
from innvest_lite.rules import AlphaBeta, Box, Epsilon, Flat, Gamma, Gradient, Pattern, ZPlus, anything, bind, kind

# The rules of the first layer, of convolutions and of dense layers, from the papers' text.
PRESETS = {
    "epsilon_plus": (ZPlus(), ZPlus(), Epsilon(1e-6)),
    "epsilon_plus_flat": (Flat(), ZPlus(), Epsilon(1e-6)),
    "epsilon_gamma_box": (Box(-3.0, 3.0, mapped=False), Gamma(0.25), Epsilon(1e-6)),
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
    twin = keras.Sequential([keras.Input((5,)), layers.Dense(3, use_bias=False)])
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


# One head, written in three ways ---------------------------------------------------------------------------------------


def headed(way):
    """A network whose head is a dense layer, or the convolution of a single position that computes the same."""
    x = keras.Input((8, 8, 3))
    features = layers.Conv2D(6, 3, activation="relu", name="body")(x)
    pooled = layers.GlobalAveragePooling2D(keepdims=way != "dense")(features)
    if way == "dense":
        return keras.Model(x, layers.Dense(3, name="head")(pooled))
    if way == "shaped":
        pooled = layers.Reshape((1, 1, 6))(layers.Flatten()(pooled))
    return keras.Model(x, layers.Flatten()(layers.Conv2D(3, 1, name="head")(pooled)))


@pytest.mark.parametrize("name", ["epsilon_plus", "epsilon_plus_flat", "epsilon_gamma_box", "epsilon_alpha2_beta1_flat"])
def test_a_convolution_of_one_position_is_a_dense_layer(name, eager):
    models_of = {way: headed(way) for way in ("dense", "pooled", "shaped")}
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=weight.shape) for weight in models_of["dense"].get_weights()]
    images, found = rng.normal(size=(3, 8, 8, 3)).astype("float32"), {}
    for way, model in models_of.items():
        model.set_weights([w.reshape(own.shape) for w, own in zip(weights, model.get_weights(), strict=True)])
        found[way] = LRP(model, name).analyze(images, target=1)
    assert_close(found["pooled"], found["dense"], 1e-5)
    assert_close(found["shaped"], found["dense"], 1e-5)


def test_by_innvestigates_names_a_convolution_is_one():
    plan = create_analyzer("lrp.sequential_preset_a", headed("pooled")).plan()
    assert type({step.node.name: step.rule for step in plan.steps}["head"]).__name__ == "AlphaBeta"


def test_flat_over_columns_is_said(caplog):
    """Every column gets the same, which no user wants to find out from the map."""
    x = keras.Input((5,))
    model = keras.Model(x, layers.Dense(2)(layers.Dense(4, activation="relu")(x)))
    heat = LRP(model, "epsilon_plus_flat").analyze(np.random.default_rng(0).normal(size=(3, 5)))
    assert np.ptp(heat, axis=1).max() < 1e-6
    assert "the same relevance, so that the map does not tell them apart" in caplog.text
    caplog.clear()
    LRP(headed("dense"), "epsilon_plus_flat")
    LRP(model, "epsilon_plus")
    assert not caplog.records


def attending():
    x = keras.Input((4, 6))
    return keras.Model(x, layers.Dense(2, name="out")(layers.Flatten()(layers.MultiHeadAttention(2, 3)(x, x))))


def recurrent():
    x = keras.Input((4, 6))
    return keras.Model(x, layers.Dense(2, name="out")(layers.SimpleRNN(3)(x)))


def of_tokens():
    x = keras.Input((4,), dtype="int32")
    return keras.Model(x, layers.Dense(2, name="out")(layers.GlobalAveragePooling1D()(layers.Embedding(5, 6)(x))))


@pytest.mark.parametrize(
    ("model", "name"),
    [
        (attending, "cp_lrp_gamma"),
        (recurrent, "cp_lrp_gamma"),
        (of_tokens, "epsilon_plus"),
        (lambda: headed("dense"), "epsilon_plus_flat"),
    ],
)
def test_without_a_name_the_network_decides(model, name):
    """A flat first layer gives all numbers of a token, or of a step, the same."""
    model = model()
    by_itself = LRP(model)
    assert str(by_itself.plan()) == str(LRP(model, name).plan())
    assert by_itself.get_config()["composite"] == "auto"
    again = LRP.from_config(by_itself.get_config())
    assert str(again.plan()) == str(by_itself.plan())
    with pytest.raises(InvalidInputError, match="takes the options"):
        LRP(model, composite_options={"alpha": 2})
