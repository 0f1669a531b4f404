"""Which node of LRP gets which rule: matchers, lists of pairs and what is wrong with them, saving."""

import re

import keras
import models
import numpy as np
import pytest
from comparing import offenders
from keras import layers

from innvest_lite import LRP, BoundedDeepTaylor, DeepTaylor, create_analyzer, rules
from innvest_lite.errors import InvalidInputError, UnsupportedLayerError, UnsupportedNode
from innvest_lite.forms import forms_of
from innvest_lite.graph import passes, trace
from innvest_lite.rules import (
    PRESETS,
    AlphaBeta,
    Box,
    Epsilon,
    Flat,
    Gamma,
    Pass,
    WSquare,
    Zero,
    ZPlus,
    anything,
    first,
    gated,
    kernel_bearing,
    kind,
    last,
    layer,
    named,
    until,
)
from innvest_lite.rules.sites import sites_of

LINEAR = kind("linear")


class Wide(layers.Conv2D):
    """A user's subclass."""


class Wider(Wide):
    pass


def subclassed():
    x = keras.Input((6, 6, 2), name="x")
    value = Wider(3, 2, name="wider")(Wide(3, 2, activation="relu", name="wide")(x))
    return keras.Model(x, layers.Dense(3, name="out")(layers.Flatten(name="flat")(value)))


def sites(model):
    model = models.case(model).model if isinstance(model, str) else model
    graph = passes.rewrite(trace(model), fuse=True)
    return sites_of(graph, forms_of(graph))


def matched(model, matcher):
    """The names of the nodes that a matcher matches, as one string."""
    return " ".join(site.name for site in sites(model) if matcher(site))


def rules_of(model, composite, **options):
    """Node name -> rule, as text."""
    model = models.case(model).model if isinstance(model, str) else model
    return {step.node.name: str(step.rule) for step in LRP(model, composite, **options).plan().steps}


# Matchers -------------------------------------------------------------------------------------------------------------

CONV_BN = "conv1 relu1 pool conv2 relu2 flat dense relu3 out"


MATCHED = [
    (anything(), CONV_BN),
    (kind("linear"), "conv1 conv2 dense out"),
    (kind("rectifier", "max"), "relu1 pool relu2 relu3"),
    (kernel_bearing(), "conv1 conv2 dense out"),
    (layer(layers.Dense), "dense out"),
    (layer("Conv2D", layers.MaxPooling2D), "conv1 pool conv2"),
    (layer(layers.Layer), CONV_BN),
    (layer("Dens", "conv2d"), ""),
    (named("conv1"), "conv1"),
    (named("conv?", "d*"), "conv1 conv2 dense"),
    (named("Conv1", "onv1"), ""),
    (named("*"), CONV_BN),
    (first(), "conv1"),
    (last(), "out"),
    # By the index in model.layers, of which the first is the Input layer.
    (until(0), ""),
    (until(1), "conv1"),
    (until(4), "conv1 relu1 pool"),
    (until(5), "conv1 relu1 pool conv2"),
    (until(9), "conv1 relu1 pool conv2 relu2 flat dense"),
    (until("pool"), "conv1 relu1 pool"),
    (until("out"), CONV_BN),
    (kind("linear") & until("conv2"), "conv1 conv2"),
    (first() | last(), "conv1 out"),
    (~kind("linear"), "relu1 pool relu2 flat relu3"),
    (~(first() | named("relu*")) & until("flat"), "pool conv2 flat"),
    (kind("linear") & (lambda site: site.place > (5,)), "dense out"),
    (lambda site: site.operation.name.endswith("2"), "conv2 relu2"),
]


def test_a_matcher_matches():
    one = sites("conv_bn")
    found = [" ".join(site.name for site in one if matcher(site)) for matcher, _ in MATCHED]
    assert found == [names for _, names in MATCHED]


def test_a_layer_is_matched_by_its_base_classes_too():
    assert matched(subclassed(), layer("Conv2D") & LINEAR) == "wide wider"
    assert matched(subclassed(), layer(Wide) & LINEAR) == "wide wider"
    assert matched(subclassed(), layer("Wider")) == "wider"
    assert matched(subclassed(), layer(keras.layers.Conv1D, "Conv2DTranspose")) == ""


def test_an_inline_activation_lies_where_its_layer_does():
    assert matched("dense", until(1)) == "first first/activation"
    assert matched("dense", until("second")) == "first first/activation second second/activation"
    assert matched("dense", layer("Dense") & ~LINEAR) == "first/activation second/activation"


def test_virtual_kernels_and_gates():
    assert matched("residual", kernel_bearing() & ~LINEAR) == "add subtract mean pool gap"
    assert matched("gate", gated()) == "gated"


def test_until_goes_by_the_order_of_the_layers():
    for name in ("residual", "two_inputs", "shared"):
        model = models.case(name).model
        for index, last_layer in enumerate(model.layers):
            before = {one.name for one in model.layers[: index + 1]}
            expected = " ".join(site.name for site in sites(name) if site.name.split("/")[0].split("#")[0] in before)
            assert matched(name, until(index)) == expected
            if matched(name, named(last_layer.name)):
                assert matched(name, until(last_layer.name)) == expected


def test_until_in_nested_models():
    def linear_nodes_until(end):
        return matched("nested", until(end) & LINEAR)

    assert (
        linear_nodes_until(1)
        == linear_nodes_until("middle")
        == linear_nodes_until("middle/inner/conv")
        == "middle/inner/conv"
    )
    assert linear_nodes_until(2) == linear_nodes_until("stack") == "middle/inner/conv stack/conv"


def test_a_sequential_model_counts_from_its_first_layer():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, name="one"), layers.Dense(2, name="two")])
    assert matched(model, until(0)) == "one" and matched(model, until(1)) == "one two"


def test_an_operation_lies_where_what_it_takes_lies():
    x = keras.Input((4,), name="x")
    value = keras.ops.relu(layers.Dense(3, name="one")(x) + 1.0)
    model = keras.Model(x, layers.Dense(2, name="two")(value))
    assert len(matched(model, until(1)).split()) == 3 and "two" not in matched(model, until(1))


FIRSTS = {
    "two_inputs": "first hidden",
    "dict_inputs": "hidden first",
    "shared": "shared shared#2",
    "nested": "middle/inner/conv",
    "nested_twice": "inner/conv",
    "text": "conv",
    "residual": "stem",
    "gate": "conv",
    "shapes": "conv",
    "operators": "hidden gate",
}


def test_the_first_layers():
    """No other linear node before them; `shared` is called twice on the input and once on itself."""
    assert {name: sorted(matched(name, first()).split()) for name in FIRSTS} == {
        n: sorted(f.split()) for n, f in FIRSTS.items()
    }


def test_the_last_layers():
    assert matched("residual", last()) == "out"
    x = keras.Input((4,), name="x")
    one, two = layers.Dense(3, name="one")(x), layers.Dense(3, name="two")(layers.Dense(5, name="hidden")(x))
    assert matched(keras.Model(x, layers.Add(name="add")([one, two])), last()) == "one two"


def test_a_shared_layer_gets_a_rule_at_each_call():
    found = rules_of("shared", [(first(), Flat()), (LINEAR, Zero())])
    assert [found[name] for name in ("shared", "shared#2", "shared#3")] == ["Flat", "Flat", "Zero(bias=True)"]


def test_until_a_layer_of_a_nested_model():
    """In `nested` all layers but the last lie in models of models."""
    assert matched("nested", until("middle/inner/conv")) == "middle/inner/conv middle/inner/conv/activation"


# Lists of pairs -------------------------------------------------------------------------------------------------------


def test_the_first_match_wins():
    pairs = [(named("conv2"), Gamma()), (layer("Conv2D"), ZPlus()), (LINEAR, Epsilon(0.1))]
    found = rules_of("conv_bn", pairs)
    expected = {"conv1": str(ZPlus()), "conv2": str(Gamma()), "dense": str(Epsilon(0.1)), "out": str(Epsilon(0.1))}
    assert {name: found[name] for name in expected} == expected
    assert rules_of("conv_bn", pairs[::-1])["conv2"] == str(Epsilon(0.1))


def test_the_users_pairs_stand_before_what_all_nodes_do():
    assert rules_of("conv_bn", "zero")["relu1"] == "Elementwise(signed=False)"
    found = rules_of("conv_bn", [(kind("rectifier"), rules.Gradient()), (LINEAR, Zero())])
    assert found["relu1"] == "Gradient"


def test_a_pair_speaks_only_of_the_nodes_that_its_rule_is_for():
    """`layer` matches the activation too, and `anything` all."""
    found = rules_of("dense", [(layer("Dense") & until(1), Flat()), (anything(), Zero())])
    assert (
        found["first"] == "Flat"
        and found["first/activation"] == "Elementwise(signed=False)"
        and found["out"] == "Zero(bias=True)"
    )


def test_no_match_lists_all_nodes():
    with pytest.raises(UnsupportedLayerError) as error:
        LRP(models.case("conv_bn").model, [(named("conv1"), ZPlus())])
    for expected in ("LRP has no rule for 3 of", "Conv2D + BatchNormalization: conv2", "Dense (linear): out"):
        assert expected in str(error.value)
    assert [node.name for node in error.value.nodes] == ["conv2", "dense", "out"]
    assert error.value.nodes[0] == UnsupportedNode("conv2", "Conv2D + BatchNormalization", error.value.nodes[0].reason)
    with pytest.raises(UnsupportedLayerError, match="has no rule for 4 of"):
        LRP(models.case("conv_bn").model, [])
    with pytest.raises(UnsupportedLayerError, match="(?s)DeepTaylor has no rule for 1.*closed"):
        DeepTaylor(models.case("opaque").model)


def test_fallback_takes_what_is_linear_and_no_more():
    with pytest.raises(UnsupportedLayerError, match="(?s)has no rule for 1.*closed.*is linear"):
        LRP(models.case("opaque").model, "zero", fallback="gradient")


def test_a_rule_at_nodes_that_it_is_not_for():
    with pytest.raises(
        InvalidInputError, match=r"LRP has the rule ZPlus.*'linear'.*only others: relu1 \(rectifier\), relu2"
    ):
        LRP(models.case("conv_bn").model, [(kind("rectifier"), ZPlus()), (LINEAR, Zero())])
    with pytest.raises(InvalidInputError, match=r"Pass.*matches only others: conv1 \(linear\)"):
        LRP(models.case("conv_bn").model, [(first(), Pass()), (LINEAR, Zero())])


def test_pairs_that_are_used_nowhere_are_told(caplog):
    model = models.case("dense").model
    LRP(model, [(first(), Zero()), (LINEAR, Epsilon())])
    create_analyzer("lrp.sequential_preset_a", model)
    assert not caplog.records
    LRP(model, [(LINEAR, Epsilon()), (first(), Box(0, 1)), (layer("Conv2d"), ZPlus())])
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 2 and "Box" in messages[0] and "Conv2d" in messages[1]
    assert all("used nowhere" in message for message in messages)


def test_as_many_bounds_as_channels():
    model, x = models.case("conv_bn").model, models.case("conv_bn").x
    box = Box((-1.0, -2.0, -3.0), (1.0, 2.0, 3.0))
    with pytest.raises(InvalidInputError, match="conv1 has 2 channels, but Box has 3 bounds"):
        LRP(model, [(first(), box), (LINEAR, Zero())]).analyze(x)


def says_what_its_name_says(name):
    found = rules_of("conv_bn", name)
    at_input = "Flat" if name.endswith("flat") else "Box" if name.endswith("box") else None
    if at_input:
        assert found["conv1"].startswith(at_input)
    if name.startswith("cp_lrp_gamma"):
        assert found["conv1"] == found["conv2"] != found["dense"] == found["out"]
    elif name.startswith(("epsilon_", "sequential")):
        assert found["dense"].startswith("Epsilon") and found["out"].startswith("Epsilon")
        assert not found["conv2"].startswith(("Epsilon", "Flat", "Box"))
    else:
        assert len({found[node] for node in ("conv1" if not at_input else "conv2", "conv2", "dense", "out")}) == 1


def test_what_a_preset_says():
    assert offenders(says_what_its_name_says, PRESETS) == {}


# Saving ---------------------------------------------------------------------------------------------------------------

SAVED = {
    "named": ("epsilon_plus_flat", None),
    "with options": ("epsilon_gamma_box", {"low": [-3.0, -4.0], "high": [3.0, 4.5], "gamma": 0.5}),
    "every matcher": (
        [
            (first() & ~layer("Dense"), Box((-3.0, -4.5), (3.0, 4.0))),
            (named("conv?") & kind("linear") | named("none"), AlphaBeta(1.5, 0.5, "shared")),
            (until(9) & (until("dense") & kernel_bearing()), Gamma(0.5, bias=False)),
            (last(), Epsilon(0.2, bias=False)),
            (anything(), WSquare()),
        ],
        None,
    ),
    "tuple": (((kind("linear"), ZPlus(fast=True)), [kind("rectifier"), rules.Gradient()]), None),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SAVED)
def test_a_saved_composite_gives_the_same(name, tmp_path, eager):
    (composite, options), case = SAVED[name], models.case("conv_bn")
    analyzer = LRP(case.model, composite, composite_options=options)
    analyzer.save(tmp_path / "lrp.keras")
    again = keras.saving.load_model(tmp_path / "lrp.keras")
    assert str(again.plan()) == str(analyzer.plan())
    np.testing.assert_array_equal(again(case.x), analyzer(case.x))
    again.save(tmp_path / "again.keras")
    assert str(keras.saving.load_model(tmp_path / "again.keras").plan()) == str(analyzer.plan())


def test_every_rule_of_the_saved_composite_is_used():
    found = rules_of("conv_bn", SAVED["every matcher"][0])
    expected = {"conv1": "Box", "conv2": "AlphaBeta", "dense": "Gamma", "out": "Epsilon"}
    assert {name: found[name].split("(")[0] for name in expected} == expected


@pytest.mark.parametrize("low", [0.0, (-4.0, -3.0)])
def test_bounded_deep_taylor_is_saved(low, tmp_path):
    case = models.case("conv_bn")
    analyzer = BoundedDeepTaylor(case.model, low, 5.0)
    analyzer.save(tmp_path / "dt.keras")
    again = keras.saving.load_model(tmp_path / "dt.keras")
    np.testing.assert_array_equal(again(case.x), analyzer(case.x))
    assert str(Box(low, 5.0)) in str(again.plan())


@pytest.mark.parametrize("matcher", [lambda site: True, ~first() & (lambda site: True)])
def test_a_function_cannot_be_saved(matcher, tmp_path):
    analyzer = LRP(models.case("conv_bn").model, [(matcher, Zero()), (LINEAR, Zero())])
    with pytest.raises(InvalidInputError, match=r"with the function <function.*cannot be saved; kind\(\).*can"):
        analyzer.save(tmp_path / "lrp.keras")


def test_a_rule_that_is_not_registered_here(tmp_path):
    config = LRP(models.case("conv_bn").model, [(LINEAR, Zero())]).get_config()
    config["composite"][0][1]["class"] = "Mine"
    with pytest.raises(InvalidInputError, match=re.escape("rules that are not registered: Mine")):
        LRP.from_config(config)
