"""What is wrong with options, rules, matchers and one's own layers is said in words; nothing is taken silently."""

import dataclasses

import keras
import ml_dtypes
import models
import numpy as np
import pytest
from keras import layers

import innvest_lite
from innvest_lite import LRP, Gradient, InvalidInputError, UnsupportedLayerError, create_analyzer
from innvest_lite.rules import (
    RULES,
    AlphaBeta,
    Box,
    Epsilon,
    Gamma,
    Norm,
    Rule,
    Zero,
    ZPlus,
    first,
    kind,
    layer,
    named,
    until,
)

LINEAR = kind("linear")


def dense():
    return models.case("dense").model


def make(analyzer, **options):
    return lambda: analyzer(dense(), **options)


WRONG = {
    "epsilon text": (lambda: Epsilon("a"), "epsilon should be a number above 0, but is 'a'"),
    "epsilon none": (lambda: Epsilon(None), "epsilon should be a number"),
    "epsilon infinite": (lambda: Epsilon(float("inf")), "epsilon should be a number"),
    "gamma text": (lambda: Gamma("x"), "gamma should be a number of at least 0"),
    "alpha text": (lambda: AlphaBeta("2", "1"), "alpha should be a number"),
    "bias word": (lambda: Zero("split"), "bias should be True or False, but is 'split'"),
    "bias list": (lambda: AlphaBeta(2, 1, ["split"]), "bias should be one of"),
    "fast": (lambda: ZPlus(fast="yes"), "fast should be True or False"),
    "norm": (lambda: Norm(-1.0), "epsilon should be a number of at least 0"),
    "box text": (lambda: Box("a", 1), "low should be a number or one per channel, but is 'a'"),
    "box ragged": (lambda: Box([[1], [2, 3]], 5), "low should be a number"),
    "box empty": (lambda: Box((), ()), "low should be a number"),
    "box lengths": (lambda: Box((0, 0), (1, 1, 1)), "low and high should have as many numbers"),
    "kind": (lambda: kind("liner"), "no kind 'liner'. Did you mean 'linear'"),
    "until none": (lambda: until(None), "until.. takes a layer's name or its index"),
    "until negative": (lambda: until(-1), "until.. takes a layer's name or its index"),
    "until far": (lambda: LRP(dense(), [(until(99), Zero()), (LINEAR, Zero())]), r"beyond the model's last layer, .*\[3\]"),
    "named": (lambda: named(3), "named.. takes names of nodes"),
    "layer": (lambda: layer(dense().layers[1]), "layer.. takes classes of layers"),
    "text for a matcher": (lambda: LRP(dense(), [("out", Zero())]), "Write named.'out'."),
    "composite typo": (lambda: LRP(dense(), "epsilon_plus_flt"), "Did you mean 'epsilon_plus_flat'"),
    "composite of names": (lambda: LRP(dense(), "lrp.epsilon"), "Did you mean 'epsilon'"),
    "no match": (lambda: LRP(dense(), []), "(?s)no rule for .*Add a pair for them to the composite"),
    "jit": (make(Gradient, jit_compile="no"), "jit_compile should be True, False or 'auto'"),
    "seed": (make(innvest_lite.RISE, seed=-1), "seed should lie between 0"),
    "large seed": (make(innvest_lite.SmoothGrad, seed=2**64), "seed should lie between 0"),
    "stddev": (make(innvest_lite.Random, stddev="a"), "stddev should be a number"),
    "fill": (make(innvest_lite.Occlusion, window=1, fill=1e39), "fill holds values beyond the range of float32"),
    "reference": (make(innvest_lite.IntegratedGradients, reference_inputs=1e300), "beyond the range of float32"),
    "ragged reference": (make(innvest_lite.IntegratedGradients, reference_inputs=[[1, 2], [3]]), "read as an array"),
    "output": (lambda: innvest_lite.GradCAM(models.case("conv_bn").model, layer=["conv1"]), "name of a layer, but is"),
    "two inputs": (lambda: innvest_lite.GradCAM(models.case("two_inputs").model), "this model has 2 inputs"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_options(name):
    use, message = WRONG[name]
    with pytest.raises((InvalidInputError, UnsupportedLayerError), match=message):
        use()


@pytest.mark.parametrize("name", ["lrp.epsilon", "smoothgrad", "deep_taylor", "integrated_gradients", "gradcam"])
def test_an_unknown_option_lists_the_known_ones(name):
    model = models.case("conv_bn").model
    with pytest.raises(InvalidInputError, match="no_such_option.* It takes .*jit_compile") as error:
        create_analyzer(name, model, no_such_option=1)
    assert ("epsilon" in str(error.value)) == name.startswith("lrp")
    assert ("noise_scale" in str(error.value)) == (name == "smoothgrad")


def test_a_rule_for_all_linear_nodes():
    x = models.case("dense").x
    found = create_analyzer("lrp", dense(), rule=Epsilon(0.5)).analyze(x)
    np.testing.assert_array_equal(found, LRP(dense(), "epsilon", composite_options={"epsilon": 0.5}).analyze(x))


def test_pairs_that_are_used_nowhere_are_told(caplog):
    LRP(dense(), [(first(), Zero()), (LINEAR, Epsilon())])
    create_analyzer("lrp.sequential_preset_a_flat", dense())
    assert not caplog.records
    LRP(dense(), [(LINEAR, Epsilon()), (first(), Box(0, 1)), (layer("Conv2d"), ZPlus())])
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 2 and "Box" in messages[0] and "Conv2d" in messages[1]
    assert all("used nowhere" in message for message in messages)


# Rules and layers of one's own ----------------------------------------------------------------------------------------


def test_a_rule_of_a_taken_name_is_refused():
    @dataclasses.dataclass(frozen=True)
    class Epsilon(Rule):
        def reverse(self, call, relevance):
            return relevance

    with pytest.raises(InvalidInputError, match="has a rule Epsilon already"):
        innvest_lite.register_rule(Epsilon)
    assert RULES["Epsilon"] is not Epsilon


def test_what_is_no_rule():
    class Plain(Rule):
        def reverse(self, call, relevance):
            return relevance

    @dataclasses.dataclass(frozen=True)
    class Empty(Rule):
        """Without a reverse."""

    for wrong, message in ((Plain, "should be a dataclass"), (Empty, "with a reverse"), (Epsilon(), "with a reverse")):
        with pytest.raises(InvalidInputError, match=message):
            innvest_lite.register_rule(wrong)


class Odd(keras.Layer):
    def call(self, x):
        return x + 1


def test_what_is_no_form():
    with pytest.raises(InvalidInputError, match="register_form takes a class of Keras layers"):
        innvest_lite.register_form(Odd())
    model = keras.Sequential([keras.Input((3,)), Odd(name="odd"), layers.Dense(2)])
    innvest_lite.register_form(Odd)(lambda node: "scale")
    with pytest.raises(InvalidInputError, match="The form of odd .* should be a Form, but its function gave 'scale'"):
        LRP(model, "zero")
    innvest_lite.register_form(Odd)(lambda node: innvest_lite.Form(node, "scael"))
    with pytest.raises(InvalidInputError, match="odd has the form 'scael'; the kinds are linear"):
        LRP(model, "zero")


# Inputs and targets ---------------------------------------------------------------------------------------------------


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
        Gradient(dense())(np.ones((1, 99), "float32"))


def test_bfloat16_is_looked_at_too():
    model = keras.Sequential([keras.Input((4,), dtype="bfloat16"), layers.Dense(2)])
    with pytest.raises(InvalidInputError, match="NaN or infinite"):
        Gradient(model).analyze(np.array([[1, np.nan, 0, 0]], ml_dtypes.bfloat16))
    with pytest.raises(InvalidInputError, match="beyond the range of bfloat16"):
        Gradient(model).analyze(np.array([[1, 1e300, 0, 0]]))


def test_a_ragged_target():
    with pytest.raises(InvalidInputError, match="The target cannot be read as an array"):
        Gradient(dense()).analyze(models.case("dense").x[:2], target=[[1], [2, 3]])


def test_a_target_among_very_many_outputs():
    """Weights of (samples, outputs), and nothing of outputs squared."""
    model = keras.Sequential([keras.Input((2,)), layers.Dense(300_000, use_bias=False)])
    found = Gradient(model).analyze(np.ones((2, 2)), target=[7, 299_999])
    kernel = model.get_weights()[0]
    np.testing.assert_allclose(found, kernel[:, [7, 299_999]].T, rtol=1e-6)


def test_a_reference_of_another_size():
    x = keras.Input((None, None, 3))
    model = keras.Model(x, layers.Dense(2)(layers.GlobalMaxPooling2D()(layers.Conv2D(4, 3)(x))))
    analyzer = innvest_lite.IntegratedGradients(model, 2, reference_inputs=np.zeros((5, 5, 3)))
    with pytest.raises(InvalidInputError, match=r"reference_inputs has the shape \(5, 5, 3\), .* \(6, 7, 3\)"):
        analyzer.analyze(np.ones((1, 6, 7, 3)))
    assert analyzer.analyze(np.ones((1, 5, 5, 3))).shape == (1, 5, 5, 3)


def test_check_of_methods_without_a_sweep():
    analyzer, x = innvest_lite.IntegratedGradients(dense(), 4), models.case("dense").x
    assert analyzer.check(x[:0]).start.shape == (0,) and str(analyzer.check(x[:0])) == "no samples, nothing to check"
    assert str(analyzer.check(x)).startswith("start ")
    for method in (innvest_lite.InputTimesGradient(dense()), analyzer):
        np.testing.assert_allclose(method.check(x).at_input, method.analyze(x).sum(1), rtol=1e-4, atol=1e-5)
    index = Gradient(dense(), neuron_selection_mode="index")
    np.testing.assert_array_equal(index.check(x, neuron_selection=1).start, Gradient(dense()).check(x, target=1).start)


def test_the_plan_of_what_only_evaluates():
    for method in (innvest_lite.Occlusion(dense(), 1), innvest_lite.Input(dense())):
        assert {str(step.rule) for step in method.plan().steps} == {"-"}
    assert {str(step.rule) for step in innvest_lite.SmoothGrad(dense()).plan().steps} == {"Gradient"}


def test_flatten_says_nothing_of_where_channels_lie():
    def model(data_format):
        x = keras.Input((6, 8, 3))
        value = layers.Flatten(data_format=data_format)(layers.Conv2D(4, 3, name="conv")(x))
        return keras.Model(x, layers.Dense(2)(value))

    one = models.randomize(model("channels_last"), seed=3)
    # The same computation: its Flatten moves the channels first, so the kernel's rows are reordered.
    two = model("channels_first")
    conv, bias, kernel, last = one.get_weights()
    two.set_weights([conv, bias, kernel.reshape(4, 6, 4, 2).transpose(1, 2, 0, 3).reshape(96, 2), last])
    x = models.normal(2, 6, 8, 3)
    for method in (innvest_lite.GradCAM, lambda model: innvest_lite.Occlusion(model, 3)):
        np.testing.assert_allclose(method(two).analyze(x), method(one).analyze(x), atol=1e-6)
