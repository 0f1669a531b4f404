"""A constant that is added to all logits, which a softmax does not see, changes no explanation unsaid."""

import logging

import keras
import numpy as np
import pytest

import innvest_lite
from innvest_lite import DeepTaylor, PatternAttribution, PatternNet, rules

layers = keras.layers
X = np.random.default_rng(0).normal(size=(20, 6)).astype("float32")
SHIFTS = (-30.0, -3.0, 3.0, 30.0)


def network(constant=0.0, units=4, head="softmax"):
    """A network of one hidden layer, with a constant added to all of its logits."""
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((6,)), layers.Dense(8, activation="relu"), layers.Dense(units, activation=head)])
    weights = model.get_weights()
    model.set_weights([*weights[:-1], weights[-1] + constant])
    return model


def kernels(model):
    return {layer.name: np.abs(layer.kernel.numpy()) for layer in model.layers if hasattr(layer, "kernel")}


def correlations(one, two):
    """Per sample; two maps of zeros are alike, and one is like nothing else."""
    return [_correlation(a.ravel(), b.ravel()) for a, b in zip(one, two, strict=True)]


def _correlation(a, b):
    if a.any() and b.any():
        return np.corrcoef(a, b)[0, 1]
    return float(not a.any() and not b.any())


def made(name, model):
    options = {"patterns": kernels(model)} if name.startswith("pattern.") else {}
    return innvest_lite.create_analyzer(name, model, **options)


# What a constant changes, it changes with a word.
SAID = ("pattern.net", "lrp.z_plus", "deep_taylor", "lrp.alpha_2_beta_1")
UNCHANGED = ("pattern.attribution", "gradient", "input_t_gradient", "lrp", "lrp.epsilon", "lrp.epsilon_plus")


@pytest.mark.parametrize("name", SAID)
def test_the_same_map_or_a_word(name, eager, caplog):
    found, said = {}, {}
    for shift in (0.0, *SHIFTS):
        caplog.clear()
        with caplog.at_level(logging.WARNING, "innvest_lite"):
            found[shift] = made(name, network(shift)).analyze(X, target=1)
        said[shift] = bool(caplog.records)
    for shift in SHIFTS:
        assert np.median(correlations(found[shift], found[0.0])) > 0.99 or said[shift] or said[0.0], shift


@pytest.mark.parametrize("name", UNCHANGED)
def test_the_same_map_without_a_word(name, eager, caplog):
    usual = made(name, network()).analyze(X)
    for shift in SHIFTS:
        with caplog.at_level(logging.WARNING, "innvest_lite"):
            assert min(correlations(made(name, network(shift)).analyze(X), usual)) > 0.99
    assert not caplog.records


def test_a_contrast_is_the_logit_less_the_mean(eager):
    """One factor for each sample, so that the map is the paper's where the logit is above the mean and above 0."""
    model = network()
    contrast, paper = (PatternAttribution(model, patterns=kernels(model), start=start) for start in ("contrast", "logit"))
    logits = innvest_lite.Gradient(model).explainer.logits([X]).numpy()
    largest, mean = logits.max(1), logits.mean(1)
    expected = paper.analyze(X) * ((largest - mean) / largest)[:, None]
    np.testing.assert_allclose(contrast.analyze(X), expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(contrast.check(X).start, largest - mean, rtol=1e-5)


@pytest.mark.parametrize("first", [False, True])
def test_the_contrast_of_a_dense_output_is_with_the_classes_of_a_position(first, eager):
    """By hand: the last axis has the classes, or, behind a softmax along it, the second one has."""
    x = keras.Input((4, 4, 3))
    y = layers.Conv2D(3, 1, use_bias=False, name="classes")(x)
    y = layers.Softmax(axis=1)(layers.Permute((3, 1, 2))(y)) if first else layers.Softmax()(y)
    model = keras.Model(x, y)
    weights = np.random.default_rng(2).normal(size=(1, 1, 3, 3)).astype("float32")
    model.set_weights([weights])
    samples = np.random.default_rng(3).normal(size=(2, 4, 4, 3)).astype("float32")
    logits = samples @ weights[0, 0]
    start = (logits - logits.mean(-1, keepdims=True))[:, 1, 2, 0]
    analyzer = PatternAttribution(model, patterns={"classes": 1 / (3 * weights)}, chains="split")
    found = analyzer.analyze(samples, target=(1, 2, 0))
    np.testing.assert_allclose(found[:, 1, 2], np.repeat(start[:, None] / 3, 3, axis=1), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.sum((1, 2, 3)), start, rtol=1e-4, atol=1e-6)


def test_of_equal_weights_there_is_no_contrast_sample_by_sample(eager):
    model = network()
    analyzer = PatternAttribution(model, patterns=kernels(model))
    weights = np.float32([[1, 1, 1, 1], [0, 1, 0, 0], [0, 0, 0, 0], [2, 2, 2, 2]])
    found = analyzer.analyze(X[:4], target=weights)
    np.testing.assert_allclose(found[0], analyzer.analyze(X[:1], target="all")[0], rtol=1e-5)
    np.testing.assert_allclose(found[1], analyzer.analyze(X[1:2], target=1)[0], rtol=1e-5)
    np.testing.assert_allclose(found[3], 2 * analyzer.analyze(X[3:4], target="all")[0], rtol=1e-5)
    assert not found[2].any()


def test_of_all_outputs_there_is_no_contrast(eager):
    """Their sum is explained; weights that differ are a contrast as before."""
    model = network()
    contrast, logit = (PatternAttribution(model, patterns=kernels(model), start=start) for start in ("contrast", "logit"))
    expected = logit.analyze(X, target="all")
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(contrast.analyze(X, target="all"), expected, rtol=1e-5)
    logits = innvest_lite.create_analyzer("gradient", model).explainer.logits([X]).numpy()
    weights = np.float32([[1, 1, 1, 0.5]]) * np.ones((20, 1), "float32")
    above = weights * (logits - logits.mean(axis=1, keepdims=True)) / logits
    np.testing.assert_allclose(
        contrast.analyze(X, target=weights), logit.analyze(X, target=above.astype("float32")), rtol=1e-3, atol=1e-5
    )


@pytest.mark.parametrize("head, units", [("sigmoid", 3), (None, 1), ("sigmoid", 1)])
def test_where_zero_means_something_the_logit_is_explained(head, units, eager):
    """Of sigmoids a constant changes what they say; of a single output nothing would be left."""
    model = network(units=units, head=head)
    contrast, paper = (PatternAttribution(model, patterns=kernels(model), start=start) for start in ("contrast", "logit"))
    np.testing.assert_array_equal(contrast.analyze(X), paper.analyze(X))


def test_the_start_is_saved(tmp_path, eager):
    model = network()
    analyzer = PatternAttribution(model, patterns=kernels(model), start="logit")
    analyzer.save(tmp_path / "analyzer.keras")
    loaded = keras.saving.load_model(tmp_path / "analyzer.keras")
    np.testing.assert_array_equal(loaded.analyze(X), analyzer.analyze(X))
    with pytest.raises(innvest_lite.InvalidInputError, match="start should be one of"):
        PatternAttribution(model, start="mean")


@pytest.mark.parametrize("head, units", [("sigmoid", 3), ("sigmoid", 1)])
def test_a_contrast_that_is_the_logit_itself_says_when_that_is_negative(head, units, eager, caplog):
    with caplog.at_level(logging.WARNING, "innvest_lite"):
        model = network(-30.0, units, head)
        PatternAttribution(model, patterns=kernels(model)).analyze(X, target=1 if units == 1 else 0)
    (record,) = caplog.records
    assert record.message.endswith("its sign is turned round.")


def test_an_analyzer_of_before_there_was_a_choice_starts_from_the_logit():
    config = PatternAttribution(network()).get_config()
    del config["start"]
    assert PatternAttribution.from_config(config).start_choice == "logit"


def test_what_is_said_of_negative_logits(eager, caplog):
    model = network(-30.0)
    with caplog.at_level(logging.WARNING, "innvest_lite"):
        analyzer = PatternNet(model, patterns=kernels(model))
        analyzer.analyze(X)
        analyzer.analyze(X)
    (record,) = caplog.records
    assert "20 of 20 explained logits are negative" in record.message and "PatternNet" in record.message


@pytest.mark.parametrize(
    "bias, units, said", [("split", 4, True), ("shared", 4, True), ("ignore", 4, False), ("split", 1, False)]
)
def test_what_is_said_of_the_bias_in_both_sums_of_alpha_beta(bias, units, said, caplog):
    """A single output has no other that a softmax could hold it against."""
    with caplog.at_level(logging.WARNING, "innvest_lite"):
        innvest_lite.LRP(network(units=units, head=None), [(rules.kind("linear"), rules.AlphaBeta(bias=bias))])
    assert [record.message.startswith("The rule AlphaBeta counts the bias of dense") for record in caplog.records] == [
        True
    ] * said


def test_what_is_said_of_maps_of_zeros(eager, caplog):
    with caplog.at_level(logging.WARNING, "innvest_lite"):
        assert not DeepTaylor(network(-30.0)).analyze(X).any()
    assert "20 of 20 samples are all 0: Deep Taylor" in caplog.records[0].message
