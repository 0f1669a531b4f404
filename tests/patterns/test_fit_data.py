"""The data sources of a fit and its options: all sources give the same, and bad data gets the right message."""

import os
import re

import keras
import models
import numpy as np
import pytest
import tensorflow as tf
from fits import SAMPLES, assert_same, data, dense, fit, fit_dense, fitted, statistics, sums

from innvest_lite import PatternFits, PatternNet
from innvest_lite.errors import InvalidInputError, NotFittedError

SOURCES = (
    *("array", "float64", "tensor", "tf.data", "tf.data with labels", "PyDataset", "generator", "generator of pairs"),
    *("list", "list of pairs", "pair of arrays", "dict"),
)


def test_every_data_source_gives_the_same(feed, subtests):
    kept = data().copy()
    for source in SOURCES:
        with subtests.test(source):
            assert_same(fit_dense(feed(source, data())), fitted())
            np.testing.assert_array_equal(data(), kept)


def pairs(a, b):
    return [[a[start : start + 8], b[start : start + 8]] for start in range(0, SAMPLES, 8)]


TWO_SOURCES = {
    "dict": lambda a, b: {"b": b, "a": a},
    "tf.data of pairs": lambda a, b: tf.data.Dataset.from_tensor_slices(((a, b), np.zeros(len(a)))).batch(8),
    "tf.data of dicts": lambda a, b: tf.data.Dataset.from_tensor_slices({"a": a, "b": b}).batch(8),
    "generator": lambda a, b: iter(pairs(a, b)),
    "generator of pairs": lambda a, b: ((both, np.zeros(8)) for both in pairs(a, b)),
}


@pytest.mark.slow
def test_every_data_source_of_two_inputs(subtests):
    model = models.case("two_inputs").model
    a, b = models.data_for(model, SAMPLES, seed=12)
    fits = PatternFits(model)
    expected = fits([a, b], batch_size=8, verbose=0)
    for name, source in TWO_SOURCES.items():
        with subtests.test(name):
            assert_same(fits(source(a, b), batch_size=8, verbose=0), expected)


@pytest.mark.parametrize("labels", [np.zeros(SAMPLES), [0, 1], ()])
def test_labels_are_no_batch_size(labels):
    with pytest.raises(InvalidInputError, match="Patterns need no labels: pass samples alone"):
        PatternNet(dense()).fit(data(), labels)


@pytest.mark.parametrize("count", [29, 30])
def test_few_samples_are_said(count, caplog):
    fit_dense(np.resize(data(), (count, *data().shape[1:])))
    said = [record.message for record in caplog.records if "some hundred" in record.message]
    assert said == (
        ["Patterns were fitted on 29 samples. They are covariances of what units see: take some hundred."] * (count < 30)
    )


def test_empty_data(feed, subtests):
    for source in ("array", "list", "tf.data", "generator", "PyDataset"):
        with subtests.test(source):
            with pytest.raises(InvalidInputError, match="data set is empty"):
                fit_dense(feed(source, data()[:0]))
            with pytest.raises(InvalidInputError, match="steps should be a whole number of at least 1, but is 0"):
                fit_dense(feed(source, data()), steps=0)


@pytest.mark.parametrize("source, value", [("array", np.nan), ("tf.data", -np.inf), ("generator", np.inf)])
def test_a_bad_number_in_the_data_is_found(source, value, feed, tmp_path):
    x = data().copy()
    x[20, 3] = value
    with pytest.raises(InvalidInputError, match=r"NaN or infinite values.*in batch 2 of the data \(counted from 0\)"):
        fit_dense(feed(source, x), checkpoint=tmp_path / "part.h5")
    assert not os.listdir(tmp_path), "something was written"
    analyzer = PatternNet(dense())
    with pytest.raises(InvalidInputError, match="NaN"):
        analyzer.fit(feed(source, x), verbose=0, batch_size=8)
    with pytest.raises(NotFittedError):
        analyzer.analyze(x[:1])


def test_bad_data(feed):
    with pytest.raises(InvalidInputError, match="pass samples like those that the model is used on"):
        PatternNet(dense()).fit()
    with pytest.raises(InvalidInputError, match=r"should have shape \(None, 6\), but got \(40, 5\)"):
        fit_dense(data()[:, :5])
    for source in ("generator", "tf.data"):
        with pytest.raises(InvalidInputError, match=r"should have shape \(None, 6\), but got .* batch 0"):
            fit_dense(feed(source, data()[:, :5]))
    with pytest.raises(InvalidInputError, match="not finite.*overflow"):
        fit_dense(data() * 1e30)


def test_a_strided_pointwise_convolution_does_not_crash_the_process():
    """TensorFlow 2.21's kernel for the kernel gradient of this shape can (docs/design.md, decision 11)."""
    x = keras.Input((60, 60, 8))
    value = keras.layers.Conv2D(16, 1, strides=2, activation="relu", name="conv")(x)
    model = keras.Model(x, keras.layers.Dense(2)(keras.layers.GlobalMaxPooling2D()(value)))
    images = models.normal(8, 60, 60, 8, mean=0)
    analyzer = PatternNet(model).fit(images, batch_size=4, verbose=0)
    assert np.isfinite(analyzer.analyze(images)).all() and analyzer.patterns["conv"].shape == (1, 1, 8, 16)


def dataset_of(batches):
    """A data set of batches of any size, whose length TensorFlow does not know."""
    signature = tf.TensorSpec((None, *batches[0].shape[1:]))
    return tf.data.Dataset.from_generator(lambda: iter(batches), output_signature=signature)


FEEDS = {
    "list": lambda batches: batches,
    "generator": iter,
    "tf.data": lambda batches: dataset_of(batches).apply(tf.data.experimental.assert_cardinality(len(batches))),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "source, name, place",
    [
        *((source, "dense", place) for source in FEEDS for place in (0, 2, 5)),
        ("list", "text", 2),
        ("list", "conv_bn", 2),
    ],
)
def test_a_batch_of_no_samples_changes_nothing(source, name, place):
    model = models.case(name).model
    x = models.data_for(model, SAMPLES, seed=11).astype("float32")
    batches = [x[start : start + 8] for start in range(0, SAMPLES, 8)]
    expected = statistics(FEEDS[source](batches), model)
    actual = statistics(FEEDS[source]([*batches[:place], x[:0], *batches[place:]]), model)
    assert actual.samples == expected.samples == SAMPLES
    for kind, total in sums(expected).items():
        # TensorFlow's threads add up in any order.
        np.testing.assert_allclose(sums(actual)[kind], total, rtol=1e-6, atol=1e-5, err_msg=kind)


@pytest.mark.parametrize("length", ["unknown", "infinite"])
def test_a_data_set_without_a_length(length):
    batches = [data()[start : start + 8] for start in range(0, SAMPLES, 8)]
    dataset = dataset_of(batches) if length == "unknown" else tf.data.Dataset.from_tensor_slices(data()).batch(8).repeat()
    assert_same(fit_dense(dataset, steps=None if length == "unknown" else 5), fitted())


NUMERIC = ("array", "list", "list of pairs", "generator", "generator of pairs", "tf.data", "tensor", "dict", "PyDataset")


def test_text_is_refused(feed, subtests):
    for source in NUMERIC:
        message = "holds text.*where the model takes numbers|should hold numbers"
        with subtests.test(source), pytest.raises(InvalidInputError, match=message):
            fit_dense(feed(source, np.array([["a"] * 6] * 16)))


def test_what_counts_something_is_a_whole_number(subtests):
    wrong = [(option, value) for option in ("batch_size", "steps") for value in (0, -1, 1.5, "a", True)]
    for option, value in [("batch_size", None), *wrong]:
        message = re.escape(f"{option} should be a whole number of at least 1, but is {value!r}.")
        for use in (statistics, PatternNet(dense()).fit):
            with subtests.test(f"{option}={value!r}"), pytest.raises(InvalidInputError, match=message):
                use(data(), **{option: value})


def test_silent_outputs_and_dead_layers_are_told(caplog, eager_fits):
    model = models.build("dense")
    model.get_layer("out").bias.assign([5, -1e3, 5])
    patterns = fit(model, data(), estimator="relu.safe")
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.getMessage().startswith("Outputs 1 of out were never positive on this data")
    assert np.any(patterns["out"], axis=0).tolist() == [True, False, True]
    caplog.clear()
    model.get_layer("out").bias.assign([5, 5, 5])
    fit(model, data())
    assert not caplog.records
    model.get_layer("first").bias.assign([-1e3] * 5)
    fit(model, data())
    assert "No unit of first, second" in caplog.text


def test_outputs_that_are_silent_in_the_negative_regime(caplog, eager_fits):
    model = models.build("dense")
    model.get_layer("out").bias.assign([1e3, 0, 0])
    fit(model, data(), estimator="relu.negative")
    assert "Outputs 0 of out were never negative on this data" in caplog.text


def test_many_silent_outputs_are_told_in_short(caplog, eager_fits):
    x = keras.Input((6,), name="x")
    model = models.randomize(keras.Model(x, keras.layers.Dense(14, name="out")(x)), seed=1)
    model.get_layer("out").bias.assign([5] + [-1e3] * 13)
    fit(model, data(), estimator="relu.safe")
    assert "Outputs 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, ... of out were never positive" in caplog.text
