"""Chains of linear layers: one linear map, with the pattern of the network that they collapse to.

Layer by layer, the explanation of a deep linear network is no pattern of it (cosine 0.95, 0.79 with BatchNormalization).
"""

import keras
import models
import numpy as np
import pytest
from keras import layers
from untraced import eager_fits  # noqa: F401  (a fixture)

import innvest_lite
from innvest_lite import InvalidInputError, PatternMismatchError
from innvest_lite.patterns import Patterns
from innvest_lite.patterns.layout import Layout

pytestmark = pytest.mark.usefixtures("eager", "eager_fits")


def dense_chain():
    """Dense layers with BatchNormalization and Dropout between, on 12 numbers."""
    x = keras.Input((12,))
    y = layers.BatchNormalization(epsilon=0.01)(layers.Dense(9)(x))
    y = layers.Dropout(0.5)(layers.Dense(6, name="middle")(y))
    return keras.Model(x, layers.Dense(3)(y))


def convolutional_chain():
    """Convolutions whose zeros at the border lie between them, BatchNormalization of both kinds, pooling, and a head."""
    x = keras.Input((6, 6, 2))
    y = layers.BatchNormalization()(layers.Conv2D(4, 3, padding="same")(x))
    y = layers.BatchNormalization()(layers.ZeroPadding2D(1)(layers.DepthwiseConv2D(2, padding="same")(y)))
    y = layers.AveragePooling2D(2)(layers.Conv2D(3, 3, strides=2, padding="same", name="middle")(y))
    return keras.Model(x, layers.Dense(3, activation="softmax")(layers.Flatten()(y)))


CHAINS = {"dense": dense_chain, "convolutional": convolutional_chain}


def correlated(shape, samples=400):
    """Samples (samples, *shape) whose values depend on each other."""
    rng, size = np.random.default_rng(3), int(np.prod(shape))
    mixing = np.eye(size) + rng.normal(size=(size, size)) / np.sqrt(size)
    return (rng.normal(0.3, 1, (samples, size)) @ mixing).reshape(samples, *shape).astype("float32")


@pytest.mark.parametrize("name", CHAINS)
def test_the_pattern_of_a_deep_linear_network_is_that_of_the_network_it_collapses_to(name):
    """The oracle knows of no layers: cov[x, y] / var[y] over the data, and the network's values at unit vectors."""
    model = models.randomize(CHAINS[name](), seed=5)
    model.layers[-1].activation = keras.activations.linear
    x = correlated(model.input_shape[1:])
    flat, y = x.reshape(len(x), -1).astype("float64"), model.predict(x, verbose=0)[:, 1].astype("float64")
    pattern = (flat - flat.mean(0)).T @ (y - y.mean()) / len(x) / y.var()
    units = np.eye(flat.shape[1], dtype="float32").reshape(-1, *x.shape[1:])
    weight = (model.predict(units, verbose=0) - model.predict(0 * units[:1], verbose=0))[:, 1].astype("float64")

    net = innvest_lite.PatternNet(model, estimator="linear").fit(x, batch_size=400, verbose=0)
    assert [found.count("..") for found in net.patterns] == [1]
    signals = net.analyze(x[:4], target=1).reshape(4, -1)
    np.testing.assert_allclose(signals, y[:4, None] * pattern, atol=2e-5 * np.abs(y[:4, None] * pattern).max())
    attribution = innvest_lite.PatternAttribution(model, patterns=net.patterns, start="logit")
    parts = attribution.analyze(x[:4], target=1).reshape(4, -1)
    np.testing.assert_allclose(parts, y[:4, None] * weight * pattern, atol=2e-5 * np.abs(parts).max())
    np.testing.assert_allclose(parts.sum(1), y[:4], rtol=1e-4)


def test_behind_a_rectifier_a_chain_has_the_pattern_of_its_positive_regime():
    """A twin with one layer in place of the two, its weights their product, has the same pattern and explanation."""
    x = keras.Input((10,))
    y = layers.Dense(8, activation="relu", name="first")(x)
    value = layers.Dense(5, activation="relu", name="upper")(layers.Dense(4, name="lower")(y))
    model = models.randomize(keras.Model(x, layers.Dense(2, name="out")(value)), seed=6)
    twin = keras.Model(x, layers.Dense(2, name="out")(layers.Dense(5, activation="relu", name="whole")(y)))
    (one, offset), (two, bias) = (model.get_layer(name).get_weights() for name in ("lower", "upper"))
    twin.get_layer("whole").set_weights([one @ two, offset @ two + bias])
    twin.get_layer("out").set_weights(model.get_layer("out").get_weights())
    data = correlated((10,))
    found, expected = (
        innvest_lite.fit_patterns(each, data, chains="joint", batch_size=400, verbose=0) for each in (model, twin)
    )
    assert list(found) == ["first", "lower..upper", "out"]
    np.testing.assert_allclose(found["lower..upper"], expected["whole"], rtol=1e-3, atol=1e-5)
    maps = [
        innvest_lite.PatternAttribution(each, patterns=patterns).analyze(data[:5], target=0)
        for each, patterns in ((model, found), (twin, expected))
    ]
    np.testing.assert_allclose(*maps, rtol=1e-3, atol=1e-5)


def used_twice(x):
    y = layers.Dense(4)(x)
    return layers.Dense(2)(layers.Add()([layers.Dense(4)(y), y]))


NO_CHAINS = {
    "a rectifier between": lambda x: layers.Dense(2)(layers.ReLU()(layers.Dense(4)(x))),
    "a softmax between": lambda x: layers.Dense(2)(layers.Dense(4, activation="softmax")(x)),
    "a value that something else takes": used_twice,
    "a value that is an output": lambda x: [y := layers.Dense(4)(x), layers.Dense(2)(y)],
    "a maximum between": lambda x: layers.Dense(2)(layers.GlobalMaxPooling1D()(layers.Dense(4)(layers.Reshape((5, 2))(x)))),
    "a vector at each position": lambda x: layers.Dense(2)(layers.Dense(4)(layers.Reshape((5, 2))(x))),
    "a comparison between": lambda x: layers.Dense(2)(keras.ops.cast(layers.Dense(4)(x) > 0, "float32")),
    "a mean of what a mask leaves": lambda x: layers.Dense(2)(
        layers.GlobalAveragePooling1D()(layers.Dense(4)(layers.Masking()(layers.Reshape((5, 2))(x))))
    ),
    "one layer and a pooling": lambda x: layers.Dense(2)(layers.GlobalAveragePooling1D()(layers.Reshape((5, 2))(x))),
}


@pytest.mark.parametrize("name", NO_CHAINS)
def test_what_is_no_chain(name):
    x = keras.Input((10,))
    assert not any(".." in found for found in Layout.of(keras.Model(x, NO_CHAINS[name](x)), chains="joint").patterned)


def test_a_chain_is_left_apart_where_one_kernel_would_cost_more():
    """A projection of 40 x 40 x 8 numbers to 4 and back to 512 would be 6.5 million products in place of 53 thousand."""

    def joined(units):
        x = keras.Input((40, 40, 8))
        y = layers.Dense(4)(layers.Flatten()(x))
        return any(".." in name for name in Layout.of(keras.Model(x, layers.Dense(units)(y)), chains="joint").patterned)

    assert joined(3) and joined(64) and not joined(512)


def test_layers_of_a_chain_can_be_kept_apart():
    model, x = models.randomize(dense_chain(), seed=5), correlated((12,))
    patterns = innvest_lite.fit_patterns(model, x, batch_size=400, verbose=0)
    assert "middle" in patterns and patterns.settings["chains"] == "split"
    # Whoever takes patterns takes the way in which they were fitted.
    assert innvest_lite.PatternNet(model, patterns=patterns).chains == "split"
    assert innvest_lite.PatternNet(model).chains == "joint"
    # Arrays by the names of layers, as they come from elsewhere.
    assert innvest_lite.PatternNet(model, patterns=dict(patterns)).chains == "split"
    joint = innvest_lite.fit_patterns(model, x, chains="joint", batch_size=400, verbose=0)
    assert innvest_lite.PatternNet(model, patterns=dict(joint)).chains == "joint"
    with pytest.raises(PatternMismatchError):
        innvest_lite.PatternNet(model, patterns=patterns, chains="joint")
    with pytest.raises(InvalidInputError, match="chains"):
        innvest_lite.fit_patterns(model, x, chains="both", verbose=0)


@pytest.mark.parametrize("changed", [2, 3, 4], ids=["its bias", "of a BatchNormalization", "in the middle"])
def test_other_weights_anywhere_in_a_chain_are_noticed(changed):
    model, x = models.randomize(convolutional_chain(), seed=5), correlated((6, 6, 2), 50)
    analyzer = innvest_lite.PatternAttribution(model).fit(x, batch_size=400, verbose=0)
    analyzer.analyze(x[:2])
    holder = [layer for layer in model.layers if layer.weights][changed]
    holder.weights[-1].assign(holder.weights[-1] + 0.5)
    with pytest.raises(PatternMismatchError, match="changed"):
        analyzer.analyze(x[:2])


def scaled_chain(scale):
    x = keras.Input((12,))
    return models.randomize(
        keras.Model(x, layers.Dense(3, name="b")(layers.Rescaling(scale)(layers.Dense(9, name="a")(x)))), seed=5
    )


def test_patterns_of_a_chain_of_another_scale_are_refused():
    """The same weights and another map: w * a would sum to 2."""
    patterns = innvest_lite.fit_patterns(scaled_chain(2.0), correlated((12,)), chains="joint", verbose=0)
    assert innvest_lite.PatternNet(scaled_chain(2.0), patterns=patterns).patterns.keys() == patterns.keys()
    with pytest.raises(PatternMismatchError):
        innvest_lite.PatternNet(scaled_chain(4.0), patterns=patterns)


def test_a_chain_that_is_used_twice_has_one_pattern():
    """Of the data of both: as if all samples had gone through one."""
    i, j, inner = keras.Input((12,)), keras.Input((12,)), keras.Input((12,))
    stack = layers.Dense(4)(layers.Dropout(0.5)(layers.Rescaling(3.0)(layers.Dense(9)(inner))))
    shared = keras.Model(inner, stack)
    model = models.randomize(keras.Model([i, j], layers.Subtract()([shared(i), shared(j)])), seed=5)
    x, y = correlated((12,)), correlated((12,))[::-1] + 1
    found = innvest_lite.fit_patterns(model, [x, y], "linear", chains="joint", verbose=0)
    expected = innvest_lite.fit_patterns(shared, np.concatenate([x, y]), "linear", chains="joint", verbose=0)
    (name,), (twin,) = ([each for each in patterns if ".." in each] for patterns in (found, expected))
    np.testing.assert_allclose(found[name], expected[twin], rtol=1e-3, atol=1e-5)


def test_a_chain_may_take_whole_numbers():
    x = keras.Input((3, 4), dtype="uint8")
    chained = layers.Dense(2)(layers.Dense(6)(layers.Flatten()(x)))
    model = models.randomize(keras.Model(x, chained), seed=5)
    twin = keras.Sequential([keras.Input((12,)), layers.Dense(6), layers.Dense(2)])
    twin.set_weights(model.get_weights())
    numbers = np.random.default_rng(0).integers(0, 256, (60, 3, 4), np.uint8)
    (found,), (expected,) = (
        innvest_lite.fit_patterns(each, data, chains="joint", verbose=0).values()
        for each, data in ((model, numbers), (twin, numbers.reshape(60, 12).astype("float32")))
    )
    np.testing.assert_allclose(found.reshape(expected.shape), expected, rtol=1e-4, atol=1e-6)


def test_an_analyzer_of_a_chain_is_saved_and_loaded(tmp_path):
    model, x = models.randomize(convolutional_chain(), seed=5), correlated((6, 6, 2), 50)
    analyzer = innvest_lite.PatternNet(model).fit(x, batch_size=400, verbose=0)
    expected = analyzer.analyze(x[:3])
    analyzer.save(tmp_path / "net.keras")
    loaded = keras.saving.load_model(tmp_path / "net.keras")
    np.testing.assert_array_equal(loaded.analyze(x[:3]), expected)
    # One that was saved before there were chains has a pattern for each layer.
    config = analyzer.get_config()
    del config["chains"]
    config["fitted"] = None
    assert innvest_lite.PatternNet.from_config(config).chains == "split"


def test_patterns_of_before_there_were_chains_are_taken():
    model, x = models.randomize(dense_chain(), seed=5), correlated((12,))
    now = innvest_lite.fit_patterns(model, x, verbose=0)
    older = Patterns(now, now.estimator, now.fingerprints, now.reports, {"regime": "rectifier", "separable": "split"})
    analyzer = innvest_lite.PatternNet(model, patterns=older)
    assert analyzer.chains == "split"
    np.testing.assert_array_equal(analyzer.analyze(x[:2]), innvest_lite.PatternNet(model, patterns=now).analyze(x[:2]))


def test_samples_of_a_chain_have_weights():
    """Whole numbers, and 0: as if each sample came so often. What fills up the last batch of a compiled fit has 0."""
    model, x = models.randomize(dense_chain(), seed=5), correlated((12,), 40)
    weights = np.arange(40) % 4
    found = innvest_lite.fit_patterns(model, x, chains="joint", sample_weight=weights.astype("float32"), verbose=0)
    expected = innvest_lite.fit_patterns(model, np.repeat(x, weights, axis=0), chains="joint", verbose=0)
    (name,) = found
    np.testing.assert_allclose(found[name], expected[name], rtol=1e-3, atol=1e-5)


def test_statistics_of_a_chain_are_merged_and_checked(tmp_path):
    model, x = models.randomize(dense_chain(), seed=5), correlated((12,))
    parts = [
        innvest_lite.fit_statistics(model, x, chains="joint", batch_size=100, shard=(index, 2), verbose=0)
        for index in range(2)
    ]
    parts[0].save(tmp_path / "part.h5")
    merged = innvest_lite.PatternStatistics.load(tmp_path / "part.h5").merge(parts[1]).patterns(model)
    whole = innvest_lite.fit_patterns(model, x, chains="joint", batch_size=400, verbose=0)
    (name,) = whole
    np.testing.assert_allclose(merged[name], whole[name], rtol=1e-4, atol=1e-6)
