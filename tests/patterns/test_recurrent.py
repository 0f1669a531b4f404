"""Patterns of recurrent layers against brute force: all steps of all samples as rows of a matrix."""

import keras
import numpy as np
import pytest
import recurrent_replicas as replicas
from keras import layers

import innvest_lite

STEPS, SIZE, UNITS, SAMPLES = 5, 3, 4, 300
X = np.random.default_rng(0).normal(size=(SAMPLES, STEPS, SIZE)) @ np.random.default_rng(1).normal(size=(SIZE, SIZE)) + 0.3
SEEN = np.random.default_rng(2).random((SAMPLES, STEPS)) < 0.7
SEEN[:, 0] = True


def network():
    layer = layers.LSTM(UNITS, name="layer")
    x, seen = keras.Input((STEPS, SIZE)), keras.Input((STEPS,), dtype="bool")
    model = keras.Model([x, seen], layers.Dense(2, name="out")(layer(x, mask=seen)))
    generator = np.random.default_rng(4)
    for variable in model.weights:
        variable.assign(generator.normal(size=variable.shape) * 0.5)
    return model, [np.asarray(one, "float64") for one in layer.weights]


def linear_pattern(x, y, weights):
    """cov(x, y) / var(y), a column a unit, with weights of the rows."""
    weights = weights / weights.sum()
    mean = (weights[:, None] * x).sum(0), (weights[:, None] * y).sum(0)
    covariance = (x - mean[0]).T @ (weights[:, None] * (y - mean[1]))
    return covariance / (weights[:, None] * (y - mean[1]) ** 2).sum(0)


def test_each_step_that_counts_is_a_pair():
    """Would catch hidden steps that are counted, steps and samples mixed up, and weights of the wrong row."""
    model, weights = network()
    counted = np.random.default_rng(5).random(SAMPLES).astype("float32") + 0.2
    patterns = innvest_lite.fit_patterns(
        model, [X.astype("float32"), SEEN], batch_size=64, verbose=0, sample_weight=counted, estimator="linear"
    )
    inputs, a, carried, added = replicas.LSTM(*weights, X.astype("float32").astype("float64"), SEEN).rows()
    rows = np.concatenate([counted[SEEN[:, step]] for step in range(STEPS)])
    expected = linear_pattern(inputs, a, rows)
    np.testing.assert_allclose(patterns["layer/matmul+matmul#2"], expected, rtol=2e-4, atol=2e-4 * np.abs(expected).max())
    name = next(name for name in patterns if name.startswith("layer/add"))
    for addend, found in zip((carried, added), np.moveaxis(patterns[name], 0, 0), strict=True):
        expected = [linear_pattern(addend[:, [u]], (carried + added)[:, [u]], rows)[0, 0] for u in range(UNITS)]
        np.testing.assert_allclose(np.ravel(found), expected, rtol=1e-3, atol=1e-4)


def test_pattern_net_and_attribution_go_through_the_steps(caplog):
    """With all kernels given, each is a loop over the steps with the gates as constants."""
    model, weights = network()
    fitted = innvest_lite.fit_patterns(model, [X.astype("float32"), SEEN], batch_size=64, verbose=0, estimator="linear")
    affine, cell = fitted["layer/matmul+matmul#2"], next(fitted[name] for name in fitted if name.startswith("layer/add"))
    carry, add = (np.ravel(part) for part in cell)
    some, seen = X[:6].astype("float32"), SEEN[:6]
    twin = replicas.LSTM(*weights, some.astype("float64"), seen)
    joint = np.concatenate(weights[:2])
    logits = np.asarray(model([some, seen]))

    def back(kernel, carry, add, out, inverse):
        r_h, r_c, found = (logits[:, [1]] @ out[None]), 0, []
        for t in reversed(range(STEPS)):
            here = seen[:, t, None]
            gate = (lambda one: 1 / one) if inverse else np.ones_like
            slope = (1 - np.tanh(twin.new[t]) ** 2, 1 - twin.g[t] ** 2)
            r_new = r_c + r_h * gate(twin.o[t]) * slope[0]
            r_g = r_new * add * gate(twin.i[t]) * slope[1]
            arrived = np.zeros((len(some), 4 * UNITS))
            arrived[:, 2 * UNITS : 3 * UNITS] = r_g
            r_x, r_before = np.split(arrived @ kernel.T, [SIZE], axis=1)
            found.insert(0, np.where(here, r_x, 0))
            r_c, r_h = np.where(here, r_new * carry * gate(twin.f[t]), r_c), np.where(here, r_before, r_h)
        return np.stack(found, axis=1)

    out, kernel = fitted["out"][:, 1], np.asarray(model.get_layer("out").kernel)[:, 1]
    net = innvest_lite.PatternNet(model, patterns=fitted, start="logit").analyze([some, seen], target=1)[0]
    assert "layer by patterns alone" in caplog.text
    expected = back(affine, carry, add, out, True)
    np.testing.assert_allclose(net, expected, atol=2e-4 * np.abs(expected).max())
    options = {"start": "logit", "shares": "average"}
    attribution = innvest_lite.PatternAttribution(model, patterns=fitted, **options).analyze([some, seen], target=1)[0]
    expected = back(affine * joint, carry, add, out * kernel, False)
    np.testing.assert_allclose(attribution, expected, atol=2e-4 * np.abs(expected).max())


def test_a_series_of_series_is_weighted_sample_by_sample():
    """Each sample is several to the inner layer: with weights of 0 the rest must be as if they were not there."""
    x = keras.Input((2, STEPS, SIZE))
    model = keras.Model(
        x, layers.Dense(2, name="out")(layers.Flatten()(layers.TimeDistributed(layers.GRU(3, name="gru"))(x)))
    )
    both = X[:200].reshape(100, 2, STEPS, SIZE).astype("float32")
    weights = np.repeat(np.array([1, 0], "float32"), 50)
    given = {"batch_size": 100, "verbose": 0, "estimator": "linear"}
    weighted = innvest_lite.fit_patterns(model, both, sample_weight=weights, **given)
    alone = innvest_lite.fit_patterns(model, both[:50], **given)
    assert any("gru" in name for name in alone)
    for name, pattern in alone.items():
        np.testing.assert_allclose(weighted[name], pattern, rtol=1e-3, atol=1e-4 * np.abs(pattern).max())


def test_shares_of_the_sample_say_nothing_of_patterns_alone(caplog):
    model, _ = network()
    analyzer = innvest_lite.PatternAttribution(model).fit([X.astype("float32"), SEEN], batch_size=100, verbose=0)
    given = [X[:4].astype("float32"), SEEN[:4]]
    found, hides = analyzer.analyze(given)
    assert "patterns alone" not in caplog.text
    assert not np.any(found[~SEEN[:4]]) and not np.any(hides) and np.any(found)
    report = analyzer.check(given)
    assert report.unexplained.max() < 1e-4


@pytest.mark.slow
def test_files_and_served_models_say_the_same(tmp_path):
    model, _ = network()
    given = [X[:5].astype("float32"), SEEN[:5]]
    analyzer = innvest_lite.PatternAttribution(model).fit([X.astype("float32"), SEEN], batch_size=100, verbose=0)
    expected = analyzer.analyze(given, target=1)[0]
    analyzer.save(tmp_path / "saved.keras")
    again = keras.saving.load_model(tmp_path / "saved.keras")
    np.testing.assert_allclose(again.analyze(given, target=1)[0], expected, rtol=1e-6, atol=1e-7)
    analyzer.patterns.save(tmp_path / "patterns.h5")
    loaded = innvest_lite.Patterns.load(tmp_path / "patterns.h5")
    np.testing.assert_allclose(
        innvest_lite.PatternAttribution(model, patterns=loaded).analyze(given, target=1)[0], expected, rtol=1e-6, atol=1e-7
    )
    # Of other weights of the cell, they are refused.
    layer = model.get_layer("layer")
    layer.set_weights([one * 1.5 for one in layer.get_weights()])
    with pytest.raises(innvest_lite.PatternMismatchError):
        innvest_lite.PatternAttribution(model, patterns=loaded)


def test_each_slice_of_a_kernel_has_its_own_pattern():
    """Gates that are computed one by one from slices of one kernel; taken for one, they would have a mean of all."""
    x = keras.Input((STEPS, SIZE))
    model = keras.Model(
        x, layers.Dense(2, name="out")(layers.RNN(layers.LSTMCell(UNITS, implementation=1), name="layer")(x))
    )
    generator = np.random.default_rng(4)
    for variable in model.weights:
        variable.assign(generator.normal(size=variable.shape) * 0.5)
    data = X.astype("float32")
    patterns = innvest_lite.fit_patterns(model, data, batch_size=64, verbose=0, estimator="linear")
    weights = [np.asarray(one, "float64") for one in model.get_layer("layer").weights]
    inputs, a, _, _ = replicas.LSTM(*weights, data.astype("float64")).rows()
    expected = np.split(linear_pattern(inputs, a, np.ones(len(a))), 4, axis=1)
    found = [pattern for name, pattern in patterns.items() if "matmul" in name]
    assert len(found) == 4
    for pattern in expected:
        assert min(np.abs(one - pattern).max() for one in found) < 1e-3 * np.abs(pattern).max()


def test_a_gru_that_resets_before_is_fitted():
    """Its slices differ in shape."""
    x = keras.Input((STEPS, SIZE))
    model = keras.Model(x, layers.Dense(2, name="out")(layers.GRU(UNITS, reset_after=False, name="layer")(x)))
    analyzer = innvest_lite.PatternAttribution(model).fit(X.astype("float32"), batch_size=100, verbose=0)
    assert analyzer.check(X[:4].astype("float32")).unexplained.max() < 1e-4
