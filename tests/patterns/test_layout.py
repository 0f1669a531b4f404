"""Which layers share a pattern, and which weights a pattern belongs to."""

import keras
import models
import numpy as np
from keras import layers

import innvest_lite
from innvest_lite.patterns.layout import Layout


def linear_pattern(x, kernel):
    """cov[x, y] / w'cov[x, y] of y = w'x, in float64."""
    x = x.astype("float64") - x.astype("float64").mean(0)
    covariance = x.T @ (x @ kernel)
    return covariance / (kernel * covariance).sum(0)


def test_a_layer_before_two_batch_normalizations_has_two_patterns():
    """Fused, its weights are w times the one's scale and w times the other's: one pattern cannot have w'a = 1 for both."""
    one, two = keras.Input((5,), name="one"), keras.Input((5,), name="two")
    shared = layers.Dense(4, name="shared")
    norms = [layers.BatchNormalization(name=name, epsilon=0.01) for name in ("first", "second")]
    values = [layers.ReLU()(norm(shared(x))) for norm, x in zip(norms, (one, two), strict=True)]
    model = models.randomize(keras.Model([one, two], layers.Dense(2, name="out")(layers.Concatenate()(values))), seed=11)
    given = [models.normal(60, 5, seed=12), models.normal(60, 5, seed=13)]
    patterns = innvest_lite.fit_patterns(model, given, "linear", verbose=0)
    # Which call is called "shared#2" is another matter.
    names = {node.inputs[0].node: node.name for node in Layout.of(model).graph.nodes if node.operation is shared}
    for name, norm, x in zip((names["one"], names["two"]), norms, given, strict=True):
        scale = np.asarray(norm.gamma, "float64") / np.sqrt(np.asarray(norm.moving_variance, "float64") + 0.01)
        expected = linear_pattern(x, np.asarray(shared.kernel, "float64") * scale)
        np.testing.assert_allclose(patterns[name], expected, rtol=1e-4, atol=1e-5)


def test_a_fingerprint_changes_with_everything_that_the_layer_computes_with():
    """Else patterns of another network would be taken for this one's."""

    def model(epsilon=1e-3):
        x = keras.Input((5,))
        value = layers.BatchNormalization(epsilon=epsilon, name="norm")(layers.Dense(4, name="dense")(x))
        return models.randomize(keras.Model(x, layers.Dense(2, name="out")(layers.ReLU()(value))), seed=14)

    known = Layout.of(model()).fingerprints()
    assert Layout.of(model()).fingerprints() == known
    assert Layout.of(model(epsilon=2e-3)).fingerprints()["dense"] != known["dense"]
    weights = [("dense", "kernel"), ("dense", "bias")]
    weights += [("norm", name) for name in ("gamma", "beta", "moving_mean", "moving_variance")]
    for layer, weight in weights:
        other = model()
        variable = getattr(other.get_layer(layer), weight)
        values = np.asarray(variable).copy()
        values.flat[-1] += 1e-3
        variable.assign(values)
        found = Layout.of(other).fingerprints()
        assert found["dense"] != known["dense"] and found["out"] == known["out"], (layer, weight)
