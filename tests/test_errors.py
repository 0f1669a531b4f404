"""What bad input gets: the right type and message, and nothing half-written; and the data sources of a fit."""

import functools
import os

import h5py
import keras
import models
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from models import assert_close

import innvest_lite
from innvest_lite import Gradient, PatternAttribution, PatternNet, Patterns, PatternStatistics
from innvest_lite.errors import (
    CorruptFileError,
    InvalidInputError,
    NotFittedError,
    PatternMismatchError,
    UnsupportedLayerError,
)
from innvest_lite.graph import trace
from innvest_lite.patterns import files

SAMPLES = 40


def dense():
    return models.case("dense").model


@functools.cache
def data():
    return models.normal(SAMPLES, 6, seed=11)


@functools.cache
def fitted(estimator="relu"):
    return innvest_lite.fit_patterns(dense(), data(), estimator, batch_size=8, verbose=0)


def fit(model, source, **options):
    return innvest_lite.fit_patterns(model, source, verbose=0, **{"batch_size": 8, **options})


def statistics(source, model=None, **options):
    return innvest_lite.fit_statistics(model or dense(), source, batch_size=8, verbose=0, **options)


def assert_same(actual, expected, tolerance=1e-5):
    assert list(actual) == list(expected)
    for name in expected:
        assert_close(actual[name], expected[name], tolerance)


# Models --------------------------------------------------------------------------------------------------------------


class Subclassed(keras.Model):
    def call(self, x):
        return 2 * x


class Overridden(keras.Model):
    def call(self, inputs, training=None, mask=None):
        return 2 * super().call(inputs)


def functional_with_call():
    x = keras.Input((3,))
    return Overridden(x, layers.Dense(2)(x))


def with_lambda(depth):
    x = keras.Input((3,), name="x")
    model = keras.Model(x, layers.Lambda(lambda v: v * 2, name="double")(x), name="inner0")
    for level in range(depth):
        x = keras.Input((3,), name="x")
        model = keras.Model(x, layers.Dense(2, name=f"dense{level}")(model(x)), name=f"inner{level + 1}")
    return model


REFUSED = {
    "subclassed": (Subclassed, "class Subclassed, whose `call` is Python code.*Functional"),
    "overridden call": (functional_with_call, "class Overridden, whose `call` is Python code"),
    "lambda": (lambda: with_lambda(0), "Lambda layers.*: double. Replace"),
    "nested lambda": (lambda: with_lambda(2), "Lambda layers.*: inner1/inner0/double. Replace"),
    "unbuilt": (
        lambda: keras.Sequential([layers.Dense(2)], name="mine"),
        "Sequential model 'mine' has no graph yet.*build",
    ),
    "a layer": (lambda: layers.Dense(2), "explains a keras.Model, but got Dense"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_models_without_a_graph(name):
    make, message = REFUSED[name]
    model = make()
    for use in (trace, Gradient, PatternNet, lambda model: fit(model, np.ones((4, 3)))):
        with pytest.raises(UnsupportedLayerError, match=message) as error:
            use(model)
        assert isinstance(error.value, (innvest_lite.InnvestLiteError, TypeError))


@pytest.mark.parametrize("method", [PatternNet, PatternAttribution])
def test_not_fitted(method):
    analyzer = method(dense())
    for use in (analyzer.analyze, analyzer, analyzer.check):
        with pytest.raises(NotFittedError, match=rf"{method.__name__} explains with patterns, and has none yet: call.*fit"):
            use(models.case("dense").x)
    with pytest.raises(NotFittedError):
        _ = analyzer.patterns


# Data to fit on ------------------------------------------------------------------------------------------------------


SOURCES = (
    *("array", "float64", "tensor", "tf.data", "tf.data with labels", "PyDataset", "generator", "generator of pairs"),
    *("list", "list of pairs", "pair of arrays", "dict"),
)


@pytest.mark.parametrize("source", SOURCES)
def test_every_data_source_gives_the_same(source, feed):
    kept = data().copy()
    assert_same(fit(dense(), feed(source, data())), fitted())
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


@pytest.mark.parametrize("source", TWO_SOURCES)
def test_every_data_source_of_two_inputs(source):
    model = models.case("two_inputs").model
    a, b = models.data_for(model, SAMPLES, seed=12)
    assert_same(fit(model, TWO_SOURCES[source](a, b)), fit(model, [a, b]))


@pytest.mark.parametrize("source", ["array", "list", "tf.data", "generator", "PyDataset"])
def test_empty_data(source, feed):
    with pytest.raises(InvalidInputError, match="data set is empty"):
        fit(dense(), feed(source, data()[:0]))
    with pytest.raises(InvalidInputError, match="steps should be a whole number of at least 1, but is 0"):
        fit(dense(), feed(source, data()), steps=0)


@pytest.mark.parametrize("source, value", [("array", np.nan), ("tf.data", -np.inf), ("generator", np.inf)])
def test_a_bad_number_in_the_data_is_found(source, value, feed, tmp_path):
    x = data().copy()
    x[20, 3] = value
    with pytest.raises(InvalidInputError, match=r"NaN or infinite values in batch 2 \(counted from 0\)"):
        fit(dense(), feed(source, x), checkpoint=tmp_path / "part.h5")
    assert not os.listdir(tmp_path), "something was written"
    analyzer = PatternNet(dense())
    with pytest.raises(InvalidInputError, match="NaN"):
        analyzer.fit(feed(source, x), verbose=0, batch_size=8)
    with pytest.raises(NotFittedError):
        analyzer.analyze(x[:1])


def test_bad_data(feed):
    with pytest.raises(InvalidInputError, match="pass samples that the model sees in use"):
        PatternNet(dense()).fit()
    with pytest.raises(InvalidInputError, match=r"should have shape \(None, 6\), but got \(40, 5\)"):
        fit(dense(), data()[:, :5])
    for source in ("generator", "tf.data"):
        with pytest.raises(InvalidInputError, match=r"A batch of the data has shape .*5\)\], but the model's inputs have"):
            fit(dense(), feed(source, data()[:, :5]))
    with pytest.raises(InvalidInputError, match="not finite.*overflow"):
        fit(dense(), data() * 1e30)


def test_a_strided_pointwise_convolution_does_not_crash_the_process(python):
    """TensorFlow 2.21's kernel for the kernel gradient of this shape can (DESIGN, decision 11)."""
    code = """
import keras, numpy as np, innvest_lite
x = keras.Input((60, 60, 8))
value = keras.layers.Conv2D(16, 1, strides=2, activation="relu", name="conv")(x)
model = keras.Model(x, keras.layers.Dense(2)(keras.layers.GlobalMaxPooling2D()(value)))
data = np.random.default_rng(0).normal(size=(8, 60, 60, 8)).astype("float32")
analyzer = innvest_lite.PatternNet(model).fit(data, batch_size=4, verbose=0)
print(np.isfinite(analyzer.analyze(data)).all(), analyzer.patterns["conv"].shape)
"""
    assert python(code).split("\n")[0] == "True (1, 1, 8, 16)"


# Statistics in parts -------------------------------------------------------------------------------------------------


def sums(statistics):
    return {f"{name} {field}": value for name, layer in statistics.layers.items() for field, value in vars(layer).items()}


def test_merged_shards_in_any_order_equal_one_pass(tmp_path):
    whole = sums(statistics(data()))
    for index, cut in enumerate([slice(0, 5), slice(5, 23), slice(23, SAMPLES)]):
        statistics(data()[cut]).save(tmp_path / f"{index}.h5")
    for order in ((0, 1, 2), (2, 0, 1), (1, 2, 0)):
        first, *others = (PatternStatistics.load(tmp_path / f"{index}.h5") for index in order)
        for other in others:
            assert first.merge(other) is first
        assert first.samples == SAMPLES
        assert_same(sums(first), whole, 1e-6)


def test_statistics_give_every_estimator():
    gathered = statistics(data())
    for estimator in ("relu", "linear", "relu.negative"):
        assert_same(gathered.patterns(dense(), estimator), fitted(estimator))
    assert gathered.patterns(dense()).estimator == "relu"
    with pytest.raises(PatternMismatchError):
        gathered.patterns(models.build("dense", seed=99))


def test_a_checkpoint_continues(feed, tmp_path):
    path = tmp_path / "part.h5"
    statistics(data(), steps=2, checkpoint=path)
    assert (PatternStatistics.load(path).samples, PatternStatistics.load(path).batches) == (16, 2)
    assert_same(fit(dense(), data(), checkpoint=path), fitted())
    assert PatternStatistics.load(path).samples == SAMPLES
    # All is done, so nothing is read or added any more.
    assert_same(fit(dense(), data(), checkpoint=path), fitted())
    for source in ("tf.data", "PyDataset", "generator", "list"):
        path = tmp_path / f"{source}.h5"
        fit(dense(), data(), steps=2, checkpoint=path)
        assert_same(fit(dense(), feed(source, data()), checkpoint=path), fitted())


def test_a_checkpoint_of_other_sums_or_weights_is_refused(tmp_path):
    fit(dense(), data(), estimator="linear", checkpoint=tmp_path / "linear.h5", steps=1)
    with pytest.raises(innvest_lite.InnvestLiteError, match="linear|regime|positive|components"):
        fit(dense(), data(), checkpoint=tmp_path / "linear.h5")
    fit(dense(), data(), checkpoint=tmp_path / "relu.h5", steps=1)
    with pytest.raises(PatternMismatchError, match="different models or weights cannot be merged; they differ at .*first"):
        fit(models.build("dense", seed=99), data(), checkpoint=tmp_path / "relu.h5")


def test_statistics_of_different_models_are_not_merged():
    model = models.build("dense")
    one, kept = statistics(data(), model), sums(statistics(data(), model))
    model.get_layer("second").bias.assign(np.ones(5))
    with pytest.raises(PatternMismatchError, match="cannot be merged; they differ at second\\.$"):
        one.merge(statistics(data(), model))
    with pytest.raises(PatternMismatchError, match="differ at .*conv"):
        one.merge(statistics(models.normal(8, 5, 2), models.case("sequential").model))
    assert_same(sums(one), kept, 0)


# Patterns of another model -------------------------------------------------------------------------------------------


def test_patterns_of_another_model():
    model = dense()
    for given, message in (
        ({name: fitted()[name] for name in ("first", "out")}, "second: missing"),
        ({**fitted(), "other": np.ones(3)}, "other: the model has no such layer"),
        ({**fitted(), "first": np.ones((6, 4))}, r"first: the kernel has shape \(6, 5\), the pattern \(6, 4\)"),
        ({}, "(?s)first: missing.*second: missing.*out: missing.*innvest_lite.fit_patterns"),
    ):
        with pytest.raises(PatternMismatchError, match=message):
            PatternNet(model, patterns=given)
    PatternNet(model, patterns=dict(fitted()))


def test_patterns_of_other_weights():
    model = models.build("conv_bn")
    patterns = fit(model, models.data_for(model, 16))
    PatternNet(model, patterns=patterns)
    variance = model.get_layer("bn1").moving_variance
    variance.assign(variance * 1.001)
    with pytest.raises(PatternMismatchError, match="conv1: fitted for other weights than the model has now") as error:
        PatternNet(model, patterns=patterns)
    assert "conv2" not in str(error.value)


# Files ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(params=[Patterns, PatternStatistics])
def saved(request, tmp_path):
    path = tmp_path / "file.h5"
    (fitted() if request.param is Patterns else statistics(data())).save(path)
    assert os.listdir(tmp_path) == ["file.h5"]
    request.param.load(path)
    return request.param, path


def test_what_is_saved_is_loaded(tmp_path):
    fitted().save(tmp_path / "patterns.h5")
    loaded = Patterns.load(tmp_path / "patterns.h5")
    assert (loaded.estimator, loaded.fingerprints) == (fitted().estimator, fitted().fingerprints)
    assert dict(loaded.report()) == dict(fitted().report())
    for name in fitted():
        np.testing.assert_array_equal(loaded[name], fitted()[name])


def test_flipped_bits(saved):
    kind, path = saved
    whole, rng = path.read_bytes(), np.random.default_rng(1)
    # Half of them in the first kilobyte, where the checksum itself stands.
    for end in [1024] * 50 + [len(whole)] * 50:
        broken = bytearray(whole)
        broken[rng.integers(end)] ^= 1 << rng.integers(8)
        path.write_bytes(broken)
        with pytest.raises(CorruptFileError, match=str(path)):
            kind.load(path)
    path.write_bytes(whole)
    kind.load(path)


def test_truncated(saved):
    kind, path = saved
    whole = path.read_bytes()
    for length in np.linspace(0, len(whole) - 1, 20).astype(int):
        path.write_bytes(whole[:length])
        with pytest.raises(CorruptFileError):
            kind.load(path)
    path.write_bytes(whole + b"\0")
    with pytest.raises(CorruptFileError, match="checksum does not match"):
        kind.load(path)


def test_a_file_of_something_else(saved, tmp_path):
    kind, path = saved
    other = PatternStatistics if kind is Patterns else Patterns
    with pytest.raises(CorruptFileError, match="holds (patterns|statistics), where (patterns|statistics) were expected"):
        other.load(path)
    (tmp_path / "text.h5").write_text("innvest_lite\n")
    with pytest.raises(CorruptFileError, match="is no file of innvest_lite"):
        kind.load(tmp_path / "text.h5")
    with pytest.raises(FileNotFoundError):
        kind.load(tmp_path / "nothing.h5")


def reseal(path, kind, version=1):
    """As a stranger could: the checksum is right."""
    files._seal(path, {Patterns: "patterns", PatternStatistics: "statistics"}[kind], version)


def test_an_unknown_version(saved):
    kind, path = saved
    reseal(path, kind, version=2)
    with pytest.raises(CorruptFileError, match="format version 2; this version of innvest_lite reads 1"):
        kind.load(path)


# What is put in the place of the first array; the files that are linked to are there.
TAMPERED = {
    "external link": lambda group, key: group.__setitem__(key, h5py.ExternalLink("secret.h5", "/x")),
    "soft link": lambda group, key: group.__setitem__(key, h5py.SoftLink(f"/1/{key}")),
    "external storage": lambda group, key: group.create_dataset(key, (4,), "f4", external=[("secret.h5", 0, 16)]),
    "virtual": lambda group, key: group.create_virtual_dataset(key, h5py.VirtualLayout((4,), "f4")),
    "bomb": lambda group, key: group.create_dataset(key, (1 << 40,), "f4", chunks=(1 << 20,), compression="gzip"),
    "words": lambda group, key: group.__setitem__(key, "words"),
    "nothing": lambda group, key: None,
    "no name": lambda group, key: group.attrs.__delitem__("name"),
    "external group": lambda group, key: group.parent.__setitem__("1", h5py.ExternalLink("secret.h5", "/")),
}


@pytest.mark.parametrize("tamper", TAMPERED)
def test_what_a_stranger_could_put_in_a_file(saved, tamper, monkeypatch):
    kind, path = saved
    monkeypatch.chdir(path.parent)
    with h5py.File("secret.h5", "w") as file:
        file["x"] = np.ones(4, "f4")
    with h5py.File(path, "r+") as file:
        key = next(iter(file["0"]))
        del file["0"][key]
        if tamper == "external group":
            del file["1"]
        TAMPERED[tamper](file["0"], key)
    reseal(path, kind)
    with pytest.raises(CorruptFileError):
        kind.load(path)


def test_a_write_that_fails_leaves_the_old_file(saved, monkeypatch):
    kind, path = saved
    whole, loaded = path.read_bytes(), kind.load(path)
    monkeypatch.setattr(files, "_seal", lambda *arguments: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        loaded.save(path)
    assert path.read_bytes() == whole
    assert os.listdir(path.parent) == ["file.h5"]
