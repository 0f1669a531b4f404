"""Patterns of other weights are refused wherever they would be mixed with them, wherever the weights changed."""

import keras
import models
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import innvest_lite
from innvest_lite import PatternAttribution, PatternMismatchError, PatternNet, Patterns
from innvest_lite.analyzers.guard import WeightGuard, weights_of

STALE = "weights have changed"


def network():
    """Weights of every kind that a pattern's layers depend on: many, few, fused, standing alone, slopes, a frozen head."""
    stack = [
        layers.Conv2D(4, 3, name="conv"),
        layers.BatchNormalization(name="fused"),
        layers.ReLU(),
        layers.BatchNormalization(name="alone"),
        layers.Conv2D(4, 1, name="second"),
        layers.PReLU(name="slopes"),
        layers.Flatten(),
        layers.Dense(200, activation="relu", name="wide"),
        layers.Dense(3, name="head", trainable=False),
    ]
    return models.randomize(keras.Sequential([keras.Input((6, 6, 2)), *stack]), seed=3)


X = models.normal(40, 6, 6, 2)
# A weight, and the place of the one number of it that is changed: also far behind the first ones.
CHANGES = {
    "the first kernel": ("conv", 0, 0),
    "the last number of a wide kernel": ("wide", 0, -1),
    "the middle of a wide kernel": ("wide", 0, 6_000),
    "a bias": ("second", 1, -1),
    "a fused mean": ("fused", 2, 1),
    "a gamma behind a ReLU": ("alone", 0, 2),
    "a mean behind a ReLU": ("alone", 2, 0),
    "a slope": ("slopes", 0, 17),
    "a frozen head": ("head", 0, -1),
}


def change(model, layer, weight, place, factor=1.01):
    """Multiplies one number."""
    variable = model.get_layer(layer).weights[weight]
    values = variable.numpy().copy()
    values.reshape(-1)[place] *= factor
    variable.assign(values)


@pytest.fixture(scope="module")
def fitted():
    model = network()
    return model, innvest_lite.fit_patterns(model, X, verbose=0)


def fresh(fitted):
    """A copy of the model, and an analyzer of it with its patterns, which has explained once."""
    model = network()
    model.set_weights(fitted[0].get_weights())
    analyzer = PatternAttribution(model, patterns=fitted[1])
    analyzer.analyze(X[:2])
    return model, analyzer


@pytest.mark.parametrize("what", CHANGES)
def test_one_number_that_changed_anywhere_is_noticed(what, fitted, tmp_path):
    model, analyzer = fresh(fitted)
    change(model, *CHANGES[what])
    # A normalization that is fused belongs to the layer before it.
    told = "conv" if CHANGES[what][0] == "fused" else CHANGES[what][0]
    with pytest.raises(PatternMismatchError, match=told):
        analyzer.analyze(X[:2])
    # Files of patterns know it too.
    fitted[1].save(tmp_path / "patterns.h5")
    with pytest.raises(PatternMismatchError, match=told):
        PatternNet(model, patterns=Patterns.load(tmp_path / "patterns.h5"))


def test_everything_that_would_mix_them_refuses(fitted, tmp_path):
    model, analyzer = fresh(fitted)
    analyzer.predict(X[:2], verbose=0)
    change(model, "alone", 0, 0)
    calls = {
        "analyze": lambda: analyzer.analyze(X[:2]),
        "check": lambda: analyzer.check(X[:2]),
        "call": lambda: analyzer(X[:2]),
        "call in a function": lambda: tf.function(analyzer, autograph=False)(tf.constant(X[:2])),
        "predict": lambda: analyzer.predict(X[:2], verbose=0),
        "predict_on_batch": lambda: analyzer.predict_on_batch(X[:2]),
        "save": lambda: analyzer.save(tmp_path / "stale.keras"),
        "export": lambda: analyzer.export(tmp_path / "stale"),
        "stablehlo": lambda: analyzer.stablehlo(2),
    }
    taken = []
    for what, call in calls.items():
        try:
            call()
            taken.append(what)
        except PatternMismatchError as error:
            assert STALE in str(error) and "alone" in str(error)
    assert taken == [] and not list(tmp_path.iterdir())


def test_weights_that_come_back_are_taken_again(fitted):
    model, analyzer = fresh(fitted)
    expected, before = analyzer.analyze(X[:3]), model.get_weights()
    change(model, "conv", 0, 0)
    with pytest.raises(PatternMismatchError):
        analyzer.analyze(X[:3])
    model.set_weights(before)
    np.testing.assert_array_equal(analyzer.analyze(X[:3]), expected)
    change(model, "conv", 0, 0)
    analyzer.fit(X, verbose=0)
    assert np.isfinite(analyzer.analyze(X[:3])).all()


def test_two_numbers_that_are_exchanged_are_noticed(fitted):
    """Sums without weights of their own would not see it: classes that change places, in kernel and bias."""
    model, analyzer = fresh(fitted)
    head = model.get_layer("head")
    head.set_weights([head.get_weights()[0][:, [1, 0, 2]], head.get_weights()[1][[1, 0, 2]]])
    with pytest.raises(PatternMismatchError, match="head"):
        analyzer.analyze(X[:2])


def test_a_file_of_an_analyzer_looks_when_it_is_first_used(fitted, tmp_path):
    _, analyzer = fresh(fitted)
    analyzer.save(tmp_path / "analyzer.keras")
    loaded = keras.saving.load_model(tmp_path / "analyzer.keras")
    np.testing.assert_allclose(loaded.analyze(X[:2]), analyzer.analyze(X[:2]), rtol=1e-5, atol=1e-6)
    again = keras.saving.load_model(tmp_path / "analyzer.keras")
    change(again.model, "wide", 0, -1)
    with pytest.raises(PatternMismatchError, match="wide"):
        again.analyze(X[:2])


def test_states_of_random_numbers_and_other_outputs_are_no_weights_of_it():
    x = keras.Input((6,), name="x")
    value = layers.Dropout(0.5, seed=1, name="drop")(layers.Dense(5, activation="relu", name="shared")(x))
    outputs = [layers.Dense(3, name="explained")(value), layers.Dense(2, name="other")(value)]
    model, data = models.randomize(keras.Model(x, outputs), 1), models.normal(40, 6)
    analyzer = PatternNet(model, output="explained").fit(data, verbose=0)
    expected = analyzer.analyze(data[:2])
    model(data, training=True)
    change(model, "other", 0, 0, 2.0)
    np.testing.assert_array_equal(analyzer.analyze(data[:2]), expected)
    change(model, "explained", 0, 0, 2.0)
    with pytest.raises(PatternMismatchError, match="explained"):
        analyzer.analyze(data[:2])


def test_sums_that_round_otherwise_are_no_alarm():
    """What a program sums up may differ in its last bits from run to run; exact hashes decide."""
    model = network()
    hashes = {"conv": "a"}
    guard = WeightGuard(weights_of(PatternNet(model).explainer.graph), lambda: hashes)
    guard.remember({"conv": "a"})
    guard.check("program", np.ones(3))
    guard.check("program", np.ones(3) + 1e-7)
    hashes["conv"] = "b"
    guard.check("program", np.ones(3) + 1e-7)  # the weights themselves are the same
    change(model, "conv", 0, 0)
    with pytest.raises(PatternMismatchError, match="conv"):
        guard.check("program", np.ones(3) + 1e-6)


def test_the_sums_are_weighted_sums_of_all_numbers():
    """Against NumPy: each of the numbers counts, and none of them nearly not."""
    model = network()
    guard = WeightGuard(model.weights, dict)
    before = np.asarray(guard.numbers())
    for variable in model.weights:
        values = variable.numpy().copy()
        for place in (0, values.size // 2, values.size - 1):
            moved = values.copy()
            moved.reshape(-1)[place] += 1
            variable.assign(moved)
            difference = np.asarray(guard.numbers()) - before
            assert np.abs(difference).max() > 0.2, (variable.path, place)
        variable.assign(values)
    np.testing.assert_array_equal(guard.numbers(), before)
