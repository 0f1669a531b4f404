"""NaN and infinity in weights, patterns and values on the way: refused or said, never handed out as an explanation."""

import logging

import keras
import models
import numpy as np
import pytest
from keras import layers

import innvest_lite
from innvest_lite import CorruptFileError, InvalidInputError, Patterns, PatternStatistics, create_analyzer, fit_patterns

X = models.normal(4, 6)
DIRECTION = "direction is exact"


def network(activation="relu"):
    x = keras.Input((6,))
    hidden = layers.Dense(5, activation=activation, name="hidden")(x)
    return models.randomize(keras.Model(x, layers.Dense(3, name="out")(hidden)), seed=3)


def spoilt(value, **options):
    """A network one of whose weights is no number."""
    model = network(**options)
    kernel = keras.ops.convert_to_numpy(model.get_layer("hidden").kernel).copy()
    kernel[2, 1] = value
    model.get_layer("hidden").kernel.assign(kernel)
    return model


METHODS = ("gradient", "lrp.epsilon", "deep_taylor", "integrated_gradients", "smoothgrad", "occlusion")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_no_numbers_are_said(value, caplog, eager):
    model = spoilt(value)
    for name in METHODS:
        caplog.clear()
        _, exponent = create_analyzer(name, model).analyze(X, target=0, return_exponent=True)
        assert "hold NaN or infinite values. The weights hidden/kernel hold such values." in caplog.text, name
        assert "explains nothing of 4 of 4 samples" in caplog.text and DIRECTION not in caplog.text
        np.testing.assert_array_equal(exponent, 0)


def test_a_map_of_numbers_for_a_logit_that_is_none(caplog, eager):
    """Of a bias that is NaN, a ReLU hands no gradient on: the map is that of the other units, and looks sound."""
    model = network()
    bias = keras.ops.convert_to_numpy(model.get_layer("hidden").bias).copy()
    bias[1] = np.nan
    model.get_layer("hidden").bias.assign(bias)
    for name in ("gradient", "integrated_gradients", "smoothgrad"):
        caplog.clear()
        # Of a class that is given, the last two evaluate altered samples alone.
        assert np.isfinite(create_analyzer(name, model).analyze(X, target=0)).all()
        assert "explains nothing of 4 of 4 samples" in caplog.text and "weights hidden/bias hold such values" in caplog.text


def test_an_altered_sample_that_is_no_number_is_said_whichever_it_is(caplog, eager):
    """Of 8 evaluations, one a round, some early ones are logarithms of negative numbers; a ReLU hides their slopes."""
    x = keras.Input((1,))
    hidden = layers.Activation("relu")(keras.ops.log(keras.ops.abs(x - 0.25) - 0.2))
    model = keras.Model(x, layers.Dense(2, kernel_initializer="ones")(layers.Concatenate()([x, hidden])))
    analyzer = create_analyzer("integrated_gradients", model, steps=8)
    heat = analyzer.analyze(np.float32([[1], [-1]]), target=1, batch_size=2)
    assert np.isfinite(heat).all()
    assert "explains nothing of 1 of 2 samples" in caplog.text


def test_which_samples_are_explained_all_the_same(caplog, eager):
    """An exponential overflows for one sample of four; the others are as they are alone."""
    model = network("exponential")
    x = np.concatenate([X, 1e3 * np.ones((1, 6), "float32")])
    model.get_layer("hidden").kernel.assign(np.ones((6, 5)))
    analyzer = create_analyzer("gradient", model)
    whole = analyzer.analyze(x, target=1)
    assert "explains nothing of 1 of 5 samples" in caplog.text and "No weight does, so values overflow" in caplog.text
    caplog.clear()
    np.testing.assert_allclose(whole[:4], analyzer.analyze(X, target=1), rtol=1e-6)
    assert not caplog.text


def test_maps_that_are_no_numbers_are_said(caplog, eager):
    """The slope of a square root at 0 is infinite, where its value is a number."""
    x = keras.Input((2,))
    model = keras.Model(x, layers.Dense(2, use_bias=False, kernel_initializer="ones")(keras.ops.sqrt(x)))
    heat = create_analyzer("gradient", model).analyze(np.array([[0.0, 1.0], [4.0, 1.0]], "float32"), target=0)
    assert "explains nothing of 1 of 2 samples" in caplog.text
    np.testing.assert_allclose(heat[1], [0.25, 0.5])


def test_the_direction_of_nan_is_never_exact(caplog):
    """Of signals beyond float32 it is; those of NaN are told apart from them."""
    kernel = np.full((6, 6), 1 / 6, "float32")
    stack = [layers.Dense(6, use_bias=False, name=f"d{index}") for index in range(30)]
    model = keras.Sequential([keras.Input((6,)), *stack, layers.Dense(2, use_bias=False, name="out")])
    patterns = {}
    for layer in model.layers:
        layer.kernel.assign(kernel[:, : layer.units])
        patterns[layer.name] = np.full(layer.kernel.shape, 100.0, "float32")
    x = np.ones((2, 6), "float32")
    analyzer = innvest_lite.PatternNet(model, patterns=patterns)
    _, exponent = analyzer.analyze(x, target=0, return_exponent=True)
    assert np.all(exponent > 0) and not caplog.text
    analyzer.analyze(x, target=0)
    assert "The explanations of 2 of 2 samples leave the range of float32" in caplog.text and DIRECTION in caplog.text
    caplog.clear()
    analyzer.explainer.guard.check = lambda *_: None
    model.get_layer("out").kernel.assign(np.full((6, 2), np.nan))
    _, exponent = analyzer.analyze(x, target=0, return_exponent=True)
    analyzer.analyze(x, target=0)
    assert "explains nothing of 2 of 2 samples" in caplog.text and DIRECTION not in caplog.text
    np.testing.assert_array_equal(exponent, 0)


def test_what_does_not_depend_on_the_model_says_nothing(caplog, eager):
    for name in ("input", "random"):
        create_analyzer(name, spoilt(np.nan)).analyze(X)
    assert not caplog.text


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e39])
def test_patterns_that_are_no_numbers_are_refused(value, tmp_path):
    model = network()
    good = fit_patterns(model, models.normal(40, 6), verbose=0)
    bad = {name: np.array(good[name], "float64") for name in good}
    bad["out"][1, 2] = value
    for name in ("pattern.net", "pattern.attribution"):
        analyzer = create_analyzer(name, model, patterns=good)
        expected = analyzer.analyze(X)
        with pytest.raises(InvalidInputError, match="The pattern of out holds NaN or infinite values"):
            create_analyzer(name, model, patterns=bad)
        with pytest.raises(InvalidInputError, match="The pattern of out holds NaN or infinite values"):
            analyzer.set_patterns(bad)
        # What was refused has changed nothing.
        np.testing.assert_array_equal(analyzer.analyze(X), expected)
    with pytest.raises(InvalidInputError, match="The pattern of out"):
        Patterns(bad, "linear", good.fingerprints, good.reports)


def test_files_with_nan_are_refused(tmp_path):
    """As somebody else's program may write them: with a seal that fits."""
    model, path = network(), tmp_path / "some.h5"
    good = fit_patterns(model, models.normal(40, 6), verbose=0)
    good._arrays["out"] = np.full((5, 3), np.nan, "float32")
    good.save(path)
    with pytest.raises(CorruptFileError, match="The pattern of out holds NaN"):
        Patterns.load(path)
    statistics = innvest_lite.fit_statistics(model, models.normal(40, 6), verbose=0)
    statistics.layers["out"].sum_y[1] = np.inf
    statistics.save(path)
    with pytest.raises(CorruptFileError, match="The statistics of out are not finite"):
        PatternStatistics.load(path)


@pytest.mark.parametrize("estimator", ["filter", "relu", "linear"])
def test_weights_without_a_pattern(estimator):
    """The filter's own pattern needs no data, of which sums could show it."""
    with pytest.raises(InvalidInputError, match="hidden.*(hold NaN or infinite values|not finite)"):
        fit_patterns(spoilt(np.nan), models.normal(40, 6), estimator, verbose=0)


def test_text_and_objects_are_no_patterns():
    with pytest.raises(InvalidInputError, match="The pattern of out should hold numbers"):
        Patterns({"out": np.array(["a"])}, "linear", {}, {})


def test_the_logger_is_the_packages(caplog, eager):
    create_analyzer("gradient", spoilt(np.nan)).analyze(X)
    assert {(record.name, record.levelno) for record in caplog.records} == {("innvest_lite", logging.WARNING)}
