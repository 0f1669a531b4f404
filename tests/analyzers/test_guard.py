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
def test_one_number_that_changed_anywhere_is_noticed(what, fitted, tmp_path, eager):
    """What looks is the same in a compiled program, as below where everything refuses."""
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


def test_weights_that_come_back_are_taken_again(fitted, eager_fits):
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


def test_two_numbers_that_are_exchanged_are_noticed(fitted, eager):
    """Sums without weights of their own would not see it: classes that change places, in kernel and bias."""
    model, analyzer = fresh(fitted)
    head = model.get_layer("head")
    head.set_weights([head.get_weights()[0][:, [1, 0, 2]], head.get_weights()[1][[1, 0, 2]]])
    with pytest.raises(PatternMismatchError, match="head"):
        analyzer.analyze(X[:2])


def test_a_file_of_an_analyzer_looks_when_it_is_first_used(fitted, tmp_path, eager):
    _, analyzer = fresh(fitted)
    analyzer.save(tmp_path / "analyzer.keras")
    loaded = keras.saving.load_model(tmp_path / "analyzer.keras")
    np.testing.assert_allclose(loaded.analyze(X[:2]), analyzer.analyze(X[:2]), rtol=1e-5, atol=1e-6)
    again = keras.saving.load_model(tmp_path / "analyzer.keras")
    change(again.model, "wide", 0, -1)
    with pytest.raises(PatternMismatchError, match="wide"):
        again.analyze(X[:2])


def test_states_of_random_numbers_and_other_outputs_are_no_weights_of_it(eager, eager_fits):
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


def test_a_large_number_hides_no_change_of_small_ones(eager, eager_fits):
    """As a sum with a variance of 1e9 in it would, whose last bit is 64."""
    data = models.normal(40, 6) * 1e5
    scaled = layers.Normalization(name="scaling")
    scaled.adapt(data)
    dense = [layers.Dense(8, activation="relu", name="hidden"), layers.Dense(3, name="head")]
    model = keras.Sequential([keras.Input((6,)), scaled, *dense])
    analyzer = PatternNet(model).fit(data, verbose=0)
    analyzer.analyze(data[:2])
    change(model, "hidden", 0, 3, 1.0001)
    with pytest.raises(PatternMismatchError, match="hidden"):
        analyzer.analyze(data[:2])


def test_a_small_change_in_a_large_kernel_is_noticed():
    """Sums of the whole kernel have no bit left for it; wherever it is, and beside a number that is none."""
    model = keras.Sequential([keras.Input((64,)), layers.Dense(2048, name="wide")])
    kernel = model.get_layer("wide").kernel
    kernel.assign(np.random.default_rng(0).normal(0, 0.1, kernel.shape))
    guard = WeightGuard([kernel], dict)
    for first in (0.1, np.nan):
        values = kernel.numpy().copy()
        values[0, 0] = first
        kernel.assign(values)
        before = np.asarray(guard.numbers())
        for row, column in [(1, 1), (30, 1_000), (63, 2_047)]:
            moved = values.copy()
            moved[row, column] += 3e-6
            kernel.assign(moved)
            assert not np.array_equal(guard.numbers(), before, equal_nan=True), (first, row, column)


@keras.saving.register_keras_serializable(package="tests")
class Exchange(layers.Layer):
    """Says by whole numbers which unit goes where."""

    def build(self, shape):
        start = keras.ops.arange(shape[-1])
        self.places = self.add_weight(
            shape=shape[-1:], dtype="int32", initializer=lambda *_, **__: start, trainable=False, name="places"
        )

    def call(self, x):
        return keras.ops.take(x, self.places, axis=-1)


def test_weights_of_whole_numbers_are_noticed(eager, eager_fits):
    innvest_lite.register_form(Exchange)(lambda node: innvest_lite.Form(node, "route"))
    dense = layers.Dense(5, activation="relu", name="hidden")
    model = keras.Sequential([keras.Input((6,)), dense, Exchange(name="exchange"), layers.Dense(3, name="head")])
    data = models.normal(40, 6)
    analyzer = PatternNet(models.randomize(model, 1)).fit(data, verbose=0)
    analyzer.analyze(data[:2])
    model.get_layer("exchange").places.assign([4, 3, 2, 1, 0])
    with pytest.raises(PatternMismatchError, match="exchange"):
        analyzer.analyze(data[:2])


@pytest.mark.parametrize("output", ["one", "two"])
@pytest.mark.parametrize("shared", [layers.PReLU, layers.BatchNormalization])
def test_a_layer_that_two_outputs_share_is_noticed_behind_both(shared, output, eager, eager_fits):
    """Its weights stand under the name of its first call, which may lead to the other output."""
    x, layer = keras.Input((6,), name="x"), shared(name="shared")
    ends = [layers.Dense(2, name=name)(layer(layers.Dense(5, activation="relu")(x))) for name in ("one", "two")]
    model, data = models.randomize(keras.Model(x, ends), 1), models.normal(40, 6)
    analyzer = PatternAttribution(model, output=output).fit(data, verbose=0)
    analyzer.analyze(data[:2])
    change(model, "shared", 0, 0, 1.5)
    with pytest.raises(PatternMismatchError, match="shared"):
        analyzer.analyze(data[:2])


def test_a_model_of_which_an_analyzer_is_a_part_comes_back_from_a_file(fitted, tmp_path, eager):
    """Keras asks for the analyzer's shapes before it loads weights; what then explains looks all the same."""
    _, analyzer = fresh(fitted)
    x = keras.Input((6, 6, 2), name="x")
    whole = keras.Model(x, layers.Flatten()(analyzer(x)))
    expected = analyzer.analyze(X[:2]).reshape(2, -1)
    whole.save(tmp_path / "whole.keras")
    loaded = keras.saving.load_model(tmp_path / "whole.keras")
    inner = next(layer for layer in loaded.layers if isinstance(layer, PatternAttribution))
    np.testing.assert_allclose(loaded(X[:2]), expected, rtol=1e-5, atol=1e-6)
    change(inner.model, "conv", 0, 0)
    with pytest.raises(PatternMismatchError, match="conv"):
        loaded(X[:2])


def test_a_config_alone_has_no_patterns(fitted, eager):
    """Of the same model, whose hashes fit: kernels that were never loaded are no explanation."""
    model, analyzer = fresh(fitted)
    other = PatternAttribution.from_config({**analyzer.get_config(), "model": model})
    for use in (other.analyze, other):
        with pytest.raises(innvest_lite.NotFittedError, match="config"):
            use(X[:2])
    other.set_weights(analyzer.get_weights())
    np.testing.assert_array_equal(other.analyze(X[:2]), analyzer.analyze(X[:2]))


def test_weights_that_go_back_behind_a_fit_are_noticed(fitted, eager, eager_fits):
    """As where averaged weights are put in for the fit alone: those before it were known, to the patterns before it."""
    model, analyzer = fresh(fitted)
    before = model.get_weights()
    change(model, "conv", 0, 0)
    analyzer.set_patterns(innvest_lite.fit_patterns(model, X, verbose=0))
    model.set_weights(before)
    with pytest.raises(PatternMismatchError, match="conv"):
        analyzer.analyze(X[:2])


def test_the_programs_of_the_explainer_look_themselves(fitted):
    """Each batch does, and again: weights may change while samples are explained."""
    model, analyzer = fresh(fitted)
    explainer = analyzer.explainer
    arrays, _ = explainer.checked(X[:4])
    explainer.run(arrays, batch_size=2)
    change(model, "alone", 2, 0)
    for _ in range(2):
        with pytest.raises(PatternMismatchError, match="alone"):
            explainer.run(arrays, batch_size=2)


def test_numbers_of_a_large_weight_that_are_exchanged_are_noticed(eager, eager_fits):
    """Within one of the blocks that are summed up, where sums alone would be the same."""
    stack = [layers.Dense(256, activation="relu", name="large"), layers.Dense(2, name="out")]
    model, data = models.randomize(keras.Sequential([keras.Input((80,)), *stack]), 4), models.normal(60, 80)
    analyzer = PatternNet(model).fit(data, verbose=0)
    analyzer.analyze(data[:2])
    kernel, bias = model.get_layer("large").get_weights()
    kernel[7, [20, 21]] = kernel[7, [21, 20]]
    model.get_layer("large").set_weights([kernel, bias])
    with pytest.raises(PatternMismatchError, match="large"):
        analyzer.analyze(data[:2])
