"""What is wrong with rules, matchers, composites and one's own layers is said in words; nothing is taken silently."""

import dataclasses

import keras
import models
import pytest
from comparing import refusals
from keras import layers

import innvest_lite
from innvest_lite import LRP, InvalidInputError, UnsupportedLayerError
from innvest_lite.rules import (
    PRESETS,
    RULES,
    AlphaBeta,
    Box,
    Epsilon,
    Gamma,
    Norm,
    Rule,
    Zero,
    ZPlus,
    anything,
    first,
    kernel_bearing,
    kind,
    last,
    layer,
    named,
    until,
)

LINEAR = kind("linear")


def lrp(composite, **options):
    """An analyzer of a small model, made when it is asked for."""
    return lambda: LRP(models.case("dense").model, composite, **options)


OPTIONS_OF_RULES = {
    "epsilon text": (lambda: Epsilon("a"), "epsilon should be a number above 0, but is 'a'"),
    "epsilon none": (lambda: Epsilon(None), "epsilon should be a number"),
    "epsilon infinite": (lambda: Epsilon(float("inf")), "epsilon should be a number"),
    "epsilon negative": (lambda: Epsilon(-1.0), "epsilon should be a number above 0, but is -1.0"),
    "gamma text": (lambda: Gamma("x"), "gamma should be a number of at least 0"),
    "gamma negative": (lambda: Gamma(-0.1), "gamma should be a number of at least 0, but is -0.1"),
    "alpha text": (lambda: AlphaBeta("2", "1"), "alpha should be a number"),
    "alpha and beta": (lambda: AlphaBeta(2.0, 0.5), "alpha - beta should be 1.*alpha is 2.0 and beta 0.5"),
    "beta negative": (lambda: AlphaBeta(0.5, -0.5), "beta should be a number of at least 0, but is -0.5"),
    "bias word of alpha-beta": (lambda: AlphaBeta(bias="all"), "bias should be one of .*'split'.* but is 'all'"),
    "bias list": (lambda: AlphaBeta(2, 1, ["split"]), "bias should be one of"),
    "bias word of zero": (lambda: Zero("split"), "bias should be True or False, but is 'split'"),
    "fast": (lambda: ZPlus(fast="yes"), "fast should be True or False"),
    "norm": (lambda: Norm(-1.0), "epsilon should be a number of at least 0"),
    "box of no width": (lambda: Box(1.0, 1.0), "low should be below high, but they are 1.0 and 1.0"),
    "box of a channel of no width": (lambda: Box((0.0, 2.0), (1.0, 1.0)), "low should be below high"),
    "box NaN": (lambda: Box(float("nan"), 1.0), "low should be a number or one per channel"),
    "box nested": (lambda: Box(0.0, [[1.0]]), "high should be a number or one per channel"),
    "box text": (lambda: Box("a", 1), "low should be a number or one per channel, but is 'a'"),
    "box ragged": (lambda: Box([[1], [2, 3]], 5), "low should be a number"),
    "box empty": (lambda: Box((), ()), "low should be a number"),
    "box lengths": (lambda: Box((0, 0), (1, 1, 1)), "low and high should have as many numbers"),
}


def test_options_of_rules():
    assert refusals(OPTIONS_OF_RULES, InvalidInputError) == {}


MATCHERS = {
    "kind": (lambda: kind("liner"), "no kind 'liner'. Did you mean 'linear'"),
    "until none": (lambda: until(None), "until.. takes a layer's name or its index"),
    "until negative": (lambda: until(-1), "until.. takes a layer's name or its index"),
    "until far": (lrp([(until(99), Zero()), (LINEAR, Zero())]), r"beyond the model's last layer, .*\[3\]"),
    "until a layer that is not there": (lrp([(until("typo"), Zero()), (LINEAR, Zero())]), "typo"),
    "named": (lambda: named(3), "named.. takes names of nodes"),
    "layer": (lambda: layer(models.case("dense").model.layers[1]), "layer.. takes classes of layers"),
}


def test_matchers():
    assert refusals(MATCHERS, InvalidInputError) == {}


COMPOSITES = {
    "a class": (lrp([ZPlus]), "list of pairs"),
    "a rule in a list": (lrp([ZPlus()]), "list of pairs"),
    "one pair": (lrp((LINEAR, ZPlus())), "list of pairs"),
    "three in a pair": (lrp([(LINEAR, ZPlus(), 1)]), "list of pairs"),
    "a class in a pair": (lrp([(LINEAR, ZPlus)]), r"ZPlus'>\) is not a pair.*Write ZPlus\(\)"),
    "a kind's name": (lrp([("linear", ZPlus())]), "'linear', ZPlus.*is not a pair of a matcher and a rule"),
    "a node's name": (lrp([("out", Zero())]), "Write named.'out'."),
    "a dict": (lrp({"linear": ZPlus()}), "list of pairs"),
    "none": (lrp(None), "list of pairs"),
    "a rule": (lrp(ZPlus()), "list of pairs"),
    "a misspelt name": (
        lrp("epsilom"),
        f"no composite 'epsilom'. Did you mean 'epsilon'. The names are: {', '.join(PRESETS)}",
    ),
    "a long misspelt name": (lrp("epsilon_plus_flt"), "Did you mean 'epsilon_plus_flat'"),
    "an analyzer's name": (lrp("lrp.epsilon"), "Did you mean 'epsilon'"),
    **{
        f"{matcher.__name__} without ()": (lrp([(matcher, ZPlus())]), rf"{matcher.__name__}\(")
        for matcher in (first, last, anything, kernel_bearing, kind, layer, named, until)
    },
    "an option of another": (
        lrp("epsilon", composite_options={"gamma": 1.0}),
        "'epsilon' takes the options .'epsilon', 'bias', 'bias_factor'., not .'gamma'.",
    ),
    "one of two options": (
        lrp("epsilon", composite_options={"epsilon": 0.1, "low": 0}),
        "'epsilon' takes the options .'epsilon', 'bias', 'bias_factor'., not .'low'.",
    ),
    "epsilon of zero": (lrp("epsilon", composite_options={"epsilon": 0.0}), "epsilon should be above 0; Zero.. has none"),
    "options of a list": (
        lrp([(LINEAR, Zero())], composite_options={"epsilon": 0.1}),
        "composite_options go with a composite's name",
    ),
}


def test_composites():
    assert refusals(COMPOSITES, InvalidInputError) == {}


def test_no_pair_for_a_node():
    with pytest.raises(UnsupportedLayerError, match="(?s)no rule for .*Add a pair for them to the composite"):
        LRP(models.case("dense").model, [])


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
