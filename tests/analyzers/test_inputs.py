"""What the analyzers take: bad samples, targets and options get the right message."""

import re

import keras
import ml_dtypes
import models
import numpy as np
import pytest
import tensorflow as tf
from comparing import refusals
from keras import layers
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


@pytest.mark.parametrize("use", ["analyze", "check"])
def test_bad_samples(use):
    function = getattr(fitted(Gradient, "dense"), use)
    uses = {name: (lambda x=x: function(x), message) for name, (x, message) in BAD_X.items()}
    assert refusals(uses, InvalidInputError) == {}


def test_what_is_missing_is_said():
    analyzer = Gradient(keras.Sequential([keras.Input((6, 5, 1)), keras.layers.Flatten(), keras.layers.Dense(2)]))
    for shape, hint in {
        (4, 6, 5): r"Grey images need a channel axis: x\[..., None\]",
        (6, 5, 1): r"batch axis: x\[None\]",
    }.items():
        with pytest.raises(InvalidInputError, match=hint):
            analyzer.analyze(np.zeros(shape))
    with pytest.raises(InvalidInputError, match=r"got \(6, 5\)\.$"):
        analyzer.analyze(np.zeros((6, 5)))


def test_what_is_no_image_lacks_no_channel():
    analyzer = Gradient(keras.Sequential([keras.Input((6, 1)), keras.layers.Flatten(), keras.layers.Dense(2)]))
    with pytest.raises(InvalidInputError, match=r"got \(4, 6\)\.$"):
        analyzer.analyze(np.zeros((4, 6)))


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


@pytest.mark.parametrize("use", ["analyze", "check"])
def test_bad_targets(use):
    function, x = getattr(fitted(Gradient, "dense"), use), models.case("dense").x
    uses = {name: (lambda t=t: function(x, target=t), message) for name, (t, message) in BAD_TARGETS.items()}
    uses["ragged"] = (lambda: function(x[:2], target=[[1], [2, 3]]), "The target cannot be read as an array")
    assert refusals(uses, InvalidInputError) == {}


def test_a_target_among_very_many_outputs(eager):
    """Weights of (samples, outputs), and nothing of outputs squared."""
    model = keras.Sequential([keras.Input((2,)), layers.Dense(300_000, use_bias=False)])
    found = Gradient(model).analyze(np.ones((2, 2)), target=[7, 299_999])
    kernel = model.get_weights()[0]
    np.testing.assert_allclose(found, kernel[:, [7, 299_999]].T, rtol=1e-6)


# Direct calls --------------------------------------------------------------------------------------------------------


def test_a_dict_goes_by_its_names_in_a_direct_call_too():
    b, a = keras.Input((2,), name="b"), keras.Input((2,), name="a")
    model = models.randomize(keras.Model([b, a], layers.Dense(1)(layers.Concatenate()([b, layers.Dense(3)(a)]))), seed=1)
    analyzer, data = innvest_lite.InputTimesGradient(model), {"b": np.float32([[1, 2]]), "a": np.float32([[30, 40]])}
    expected = analyzer.analyze([data["b"], data["a"]])
    for found in (analyzer.analyze(data), analyzer(data), analyzer.predict(data, verbose=0)):
        for name, values in zip("ba", expected, strict=True):
            np.testing.assert_allclose(found[name], values, rtol=1e-6)


def test_what_does_not_fit_in_a_direct_call():
    with pytest.raises(InvalidInputError, match="2 inputs"):
        Gradient(models.case("two_inputs").model)([np.ones((1, 6), "float32")])
    with pytest.raises(InvalidInputError, match="should have shape"):
        Gradient(models.case("dense").model)(np.ones((1, 99), "float32"))


def test_targets_that_do_not_fit_in_a_direct_call():
    """Keras makes tensors of arrays; a map of zeros, or of all positions at once, is no answer."""
    analyzer, x = Gradient(models.case("dense").model), models.case("dense").x[:2]
    for target in (np.array([0, 3]), tf.constant([-1, 0]), tf.constant(3)):
        with pytest.raises(InvalidInputError, match="out of range: the model has outputs 0 to 2"):
            analyzer(x, target=target)
    found = analyzer(x, target=np.array([2, 0]))
    np.testing.assert_allclose(found, analyzer.analyze(x, target=[2, 0]), rtol=1e-4, atol=1e-6)
    x = keras.Input((None,))
    unknown = Gradient(keras.Model(x, layers.ReLU()(x)))
    for call in (unknown, tf.function(unknown, autograph=False)):
        with pytest.raises(InvalidInputError, match="where one int names no output"):
            call(tf.ones((4, 6)), target=tf.constant([2] * 4))


def test_bfloat16_is_looked_at_too():
    model = keras.Sequential([keras.Input((4,), dtype="bfloat16"), layers.Dense(2)])
    with pytest.raises(InvalidInputError, match="NaN or infinite"):
        Gradient(model).analyze(np.array([[1, np.nan, 0, 0]], ml_dtypes.bfloat16))
    with pytest.raises(InvalidInputError, match="beyond the range of bfloat16"):
        Gradient(model).analyze(np.array([[1, 1e300, 0, 0]]))


# Options -------------------------------------------------------------------------------------------------------------


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
    gated = models.case("gate").model
    with pytest.raises(InvalidInputError, match="No relevance passes through excite"):
        PatternNet(gated, patterns=innvest_lite.fit_patterns(gated, estimator="filter")).analyze(
            models.case("gate").x, keep=["excite"]
        )
    with pytest.raises(InvalidInputError, match="Input has no single backward pass"):
        Input(models.case("dense").model).analyze(x, keep=["first"])


def test_bad_batch_sizes():
    x, message = models.case("dense").x, "batch_size should be a whole number of at least 1, but is {!r}."
    uses = {
        f"{use} {value!r}": (
            lambda use=use, value=value: getattr(fitted(Gradient, "dense"), use)(x, batch_size=value),
            re.escape(message.format(value)),
        )
        for use in ("analyze", "check")
        for value in (None, 1.5, "a", 0, -1, True)
    }
    assert refusals(uses, InvalidInputError) == {}


def test_keep_takes_names():
    analyze, x = fitted(Gradient, "dense").analyze, models.case("dense").x
    uses = {
        repr(value): (
            lambda value=value: analyze(x, keep=value),
            re.escape(f"keep should be names of layers, but is {value!r}."),
        )
        for value in (None, 3, [3], ["first", None], {"first": 1}, b"first")
    }
    assert refusals(uses, InvalidInputError) == {}


def test_what_is_no_option_of_every_analyzer():
    model = models.case("dense").model
    uses = {
        "jit": (lambda: Gradient(model, jit_compile="no"), "jit_compile should be True, False or 'auto'"),
        "stddev": (lambda: innvest_lite.Random(model, stddev="a"), "stddev should be a number"),
    }
    assert refusals(uses, InvalidInputError) == {}


def test_the_plan_of_what_only_evaluates():
    model = models.case("dense").model
    for method in (innvest_lite.Occlusion(model, 1), Input(model)):
        assert {str(step.rule) for step in method.plan().steps} == {"-"}
    assert {str(step.rule) for step in innvest_lite.SmoothGrad(model).plan().steps} == {"Gradient"}
