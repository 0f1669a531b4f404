"""What the analyzers take: bad samples, targets and options get the right message."""

import re

import models
import numpy as np
import pytest
import tensorflow as tf
from models import fitted

import innvest_lite
from innvest_lite import Gradient, Input, InvalidInputError, PatternNet

# Bad samples and targets ---------------------------------------------------------------------------------------------

BAD_X = {
    "no batch axis": (
        np.ones(6),
        r"'x' should have shape \(None, 6\), but got \(6,\). One sample needs a batch axis: x\[None\]",
    ),
    "shape": (np.ones((2, 5)), r"'x' should have shape \(None, 6\), but got \(2, 5\)\.$"),
    "rank": (np.ones((2, 6, 1)), r"but got \(2, 6, 1\)\.$"),
    "words": (np.array([["a"] * 6]), "should hold numbers, but has dtype <U1"),
    "complex": (np.ones((2, 6), complex), "should hold numbers, but has dtype complex128"),
    "ragged": ([[1, 2], [3]], "cannot be read as an array"),
    "NaN": (np.full((2, 6), np.nan), "holds NaN or infinite values"),
    "infinity": (np.array([[0, 0, 0, 0, 0, -np.inf]]), "holds NaN or infinite values"),
    "beyond float32": (np.full((2, 6), 1e39), "infinite|range"),
    "name": ({"y": np.ones((2, 6))}, r"inputs are named \['x'\], but the data has \['y'\]"),
    "none": (None, r"'x' should be an array of shape \(None, 6\), but is NoneType\."),
    "a data set": (
        tf.data.Dataset.from_tensors(np.ones((2, 6))),
        "is _TensorDataset. For a data set, explain one batch after the other",
    ),
    "a generator": (iter([np.ones((2, 6))]), "but is list_iterator. For a data set, explain one batch after the other"),
}


@pytest.mark.parametrize("name", BAD_X)
@pytest.mark.parametrize("use", ["analyze", "check"])
def test_bad_samples(name, use):
    x, message = BAD_X[name]
    with pytest.raises(InvalidInputError, match=message):
        getattr(fitted(Gradient, "dense"), use)(x)


def test_bad_samples_of_two_inputs():
    analyzer, (a, b) = fitted(Gradient, "two_inputs"), models.case("two_inputs").x
    for given, message in (
        ([a], "has 2 inputs.*but got 1 of them"),
        (a, "has 2 inputs.*but got ndarray"),
        ([a, b[:3]], "different numbers of samples"),
        ([b, a], "'a' should have shape"),
        ({"a": a}, r"named \['a', 'b'\], but the data has \['a'\]"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            analyzer.analyze(given)


BAD_TARGETS = {
    "too large": (3, "Target 3 is out of range: the model has outputs 0 to 2"),
    "negative": (-1, "Target -1 is out of range"),
    "one of many": ([0, 1, 2, 0, 7, 1], "Target 7 is out of range"),
    "too few": ([0, 1], "Got 2 targets for 6 samples"),
    "word": ("every", "The target 'every' is unknown; the only word for one is 'all'"),
    "weights": (np.ones((6, 2)), r"weights of shape \(6, 3\); got float64 of shape \(6, 2\)"),
    "floats": ([0.0, 1.0, 2.0, 0.0, 1.0, 2.0], "A target is None, an int"),
    "a bool": (True, "A target is None, an int"),
    "NaN": (np.full((6, 3), np.nan), "weights hold NaN"),
}


@pytest.mark.parametrize("name", BAD_TARGETS)
def test_bad_targets(name):
    target, message = BAD_TARGETS[name]
    for use in (fitted(Gradient, "dense").analyze, fitted(Gradient, "dense").check):
        with pytest.raises(InvalidInputError, match=message):
            use(models.case("dense").x, target=target)


# Options -------------------------------------------------------------------------------------------------------------


def test_create_analyzer():
    with pytest.raises(InvalidInputError, match="no analyzer 'pattern.atribution'. Did you mean 'pattern.attribution'"):
        innvest_lite.create_analyzer("pattern.atribution", models.case("dense").model)
    with pytest.raises(InvalidInputError, match="no analyzer 'xyz'. There are: .*gradient"):
        innvest_lite.create_analyzer("xyz", models.case("dense").model)
    for name, method in innvest_lite.ANALYZERS.items():
        model = models.case("dense" if "cam" not in name else "conv_bn").model
        assert type(innvest_lite.create_analyzer(name, model)) is method.analyzer


def test_outputs():
    model = models.case("several").model
    with pytest.raises(InvalidInputError, match="several outputs.*'other', 'out'"):
        Gradient(model)
    with pytest.raises(InvalidInputError, match="no output 'nothing'; it has .*'out'"):
        Gradient(model, output="nothing")


def test_other_bad_options():
    analyzer, x = fitted(Gradient, "dense"), models.case("dense").x
    with pytest.raises(InvalidInputError, match=r"keep names no node of the model: \['nothing'\].*plan"):
        analyzer.analyze(x, keep=["first", "nothing"])
    with pytest.raises(InvalidInputError, match="estimator should be one of .*'linear', 'relu'.* is 'mean'"):
        PatternNet(models.case("dense").model, estimator="mean")
    with pytest.raises(InvalidInputError, match="estimator .* is 'mean'"):
        innvest_lite.fit_patterns(models.case("dense").model, models.normal(8, 6), estimator="mean")
    with pytest.raises(InvalidInputError, match="regime should be one of .*but is 'mine'"):
        innvest_lite.fit_patterns(models.case("dense").model, models.normal(8, 6), regime="mine")
    with pytest.raises(InvalidInputError, match="No relevance passes through excite"):
        fitted(PatternNet, "gate").analyze(models.case("gate").x, keep=["excite"])
    with pytest.raises(InvalidInputError, match="Input has no backward pass"):
        Input(models.case("dense").model).analyze(x, keep=["first"])


@pytest.mark.parametrize("method", [Gradient, PatternNet])
@pytest.mark.parametrize("value", [None, 1.5, "a", 0, -1, True])
def test_bad_batch_sizes(method, value):
    message = re.escape(f"batch_size should be a whole number of at least 1, but is {value!r}.")
    for use in (fitted(method, "dense").analyze, fitted(method, "dense").check):
        with pytest.raises(InvalidInputError, match=message):
            use(models.case("dense").x, batch_size=value)


@pytest.mark.parametrize("method", [Gradient, PatternNet])
@pytest.mark.parametrize("value", [None, 3, [3], ["first", None], {"first": 1}, b"first"])
def test_keep_takes_names(method, value):
    with pytest.raises(InvalidInputError, match=re.escape(f"keep should be names of layers, but is {value!r}.")):
        fitted(method, "dense").analyze(models.case("dense").x, keep=value)
