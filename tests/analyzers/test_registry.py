"""`create_analyzer`: every name and keyword of iNNvestigate gives what the classes give; what is wrong is told."""

from functools import cache

import models
import numpy as np
import pytest
from comparing import assert_close, offenders, refusals
from loop_replicas import assert_saved
from registered import ATTENTION, FEW, NAMES, OF_EACH_CLASS, ON_ARRAYS, OURS, PATTERNS, create, model, patterns

import innvest_lite
from innvest_lite import LRP, InvalidInputError, create_analyzer
from innvest_lite.analyzers import ANALYZERS
from innvest_lite.rules import AlphaBeta, Box, Epsilon, Flat, WSquare, Zero, ZPlus, first, kind, layer, named, until

X = models.normal(2, 9, 8, 2)
LINEAR, DENSE = kind("linear"), kind("linear") & layer("Dense")


def assert_same(one, two):
    """Two analyzers of the same values, which are not all 0; eagerly, for there are many."""
    assert type(one) is type(two)
    expected = np.asarray(two(X))
    assert np.any(expected)
    assert_close(one(X), expected, 1e-6)


# A rule that no keyword here asks for.
OTHER_RULE = {"lrp": {"rule": "gamma"}}


@cache
def usual(name):
    """What a name gives without keywords."""
    return np.asarray(create(name)(X))


def assert_different(found, other):
    assert np.abs(found - other).max() > 1e-3 * np.abs(other).max()


def test_the_names():
    assert len(set(NAMES)) == 33 and set(ANALYZERS) == {*NAMES, *OURS, *ATTENTION, *ON_ARRAYS}
    assert all(method.summary and isinstance(method.analyzer, type) for method in ANALYZERS.values())


def runs(name):
    analyzer = create(name)
    assert type(analyzer) is ANALYZERS[name].analyzer
    heat = np.asarray(analyzer(X))
    assert heat.shape == X.shape and heat.dtype == np.float32 and np.all(np.isfinite(heat)) and np.any(heat)


def test_every_name_runs():
    """Where it stands for something else, the values below show that."""
    assert offenders(runs, [name for name in (*NAMES, *OURS) if name not in STAND_FOR or name in FEW]) == {}


@pytest.mark.slow
def test_every_class_comes_back_from_a_file(tmp_path, eager):
    """`test_looped` saves those that ask a model many times, with all their options."""
    names = [name for name in OF_EACH_CLASS if name not in FEW]
    assert offenders(lambda name: assert_saved(create(name), X, tmp_path), names) == {}


# What the names stand for --------------------------------------------------------------------------------------------


def lrp(*pairs):
    return LRP(model(), list(pairs))


STAND_FOR = {
    "gradient.baseline": lambda m: innvest_lite.Gradient(m),
    "integrated_gradients": lambda m: innvest_lite.IntegratedGradients(m, 64, rule="left"),
    "smoothgrad": lambda m: innvest_lite.SmoothGrad(m, 64, 1.0, relative=False),
    "lrp": lambda m: lrp((LINEAR, Epsilon(1e-7))),
    "lrp.z": lambda m: lrp((LINEAR, Zero())),
    "lrp.z_IB": lambda m: lrp((LINEAR, Zero(bias=False))),
    "lrp.epsilon": lambda m: lrp((LINEAR, Epsilon(1e-7))),
    "lrp.epsilon_IB": lambda m: lrp((LINEAR, Epsilon(1e-7, bias=False))),
    "lrp.w_square": lambda m: lrp((LINEAR, WSquare())),
    "lrp.flat": lambda m: lrp((LINEAR, Flat())),
    "lrp.alpha_2_beta_1": lambda m: lrp((LINEAR, AlphaBeta(2.0, 1.0, "shared"))),
    "lrp.alpha_2_beta_1_IB": lambda m: lrp((LINEAR, AlphaBeta(2.0, 1.0, "ignore"))),
    "lrp.alpha_1_beta_0": lambda m: lrp((LINEAR, AlphaBeta(1.0, 0.0, "shared"))),
    "lrp.alpha_1_beta_0_IB": lambda m: lrp((LINEAR, AlphaBeta(1.0, 0.0, "ignore"))),
    "lrp.z_plus": lambda m: lrp((LINEAR, AlphaBeta(1.0, 0.0, "ignore"))),
    "lrp.z_plus_fast": lambda m: lrp((LINEAR, ZPlus(fast=True))),
    "lrp.sequential_preset_a": lambda m: lrp((DENSE, Epsilon(0.1)), (LINEAR, AlphaBeta(1.0, 0.0, "shared"))),
    "lrp.sequential_preset_b": lambda m: lrp((DENSE, Epsilon(0.1)), (LINEAR, AlphaBeta(2.0, 1.0, "shared"))),
    "lrp.sequential_preset_a_flat": lambda m: lrp(
        (named("fused*"), Flat()), (DENSE, Epsilon(0.1)), (LINEAR, AlphaBeta(1.0, 0.0, "shared"))
    ),
    "lrp.sequential_preset_b_flat": lambda m: lrp(
        (named("fused*"), Flat()), (DENSE, Epsilon(0.1)), (LINEAR, AlphaBeta(2.0, 1.0, "shared"))
    ),
    "deep_lift.wrapper": lambda m: innvest_lite.DeepLIFT(m, reference_inputs=0, rule="rescale"),
    "deep_taylor": lambda m: innvest_lite.DeepTaylor(m, structure="gradient"),
    "deep_taylor.bounded": lambda m: innvest_lite.BoundedDeepTaylor(m, -1.0, 1.0, structure="gradient"),
}


def stands_for(name):
    analyzer, direct = create_analyzer(name, model()), STAND_FOR[name](model())
    if name in FEW:
        # So many evaluations are not needed to see that they are the same.
        assert {**analyzer.get_config(), "model": None} == {**direct.get_config(), "model": None}
    else:
        assert_same(analyzer, direct)


def test_the_values_are_innvestigates(eager):
    assert offenders(stands_for, STAND_FOR) == {}


# Keywords ------------------------------------------------------------------------------------------------------------

PRESET_B = (DENSE, Epsilon(0.1)), (LINEAR, AlphaBeta(2.0, 1.0, "shared"))


def until_flat(*names):
    return lambda m: lrp((named(*names), Flat()), *PRESET_B)


KEYWORDS = [
    ("gradient", {"postprocess": "abs"}, lambda m: innvest_lite.Gradient(m, postprocess="abs")),
    ("gradient.baseline", {"postprocess": "square"}, lambda m: innvest_lite.Gradient(m, postprocess="square")),
    ("smoothgrad", {"augment_by_n": 5}, lambda m: innvest_lite.SmoothGrad(m, 5, 1.0, relative=False)),
    ("smoothgrad", {"noise_scale": 0.3}, lambda m: innvest_lite.SmoothGrad(m, 3, 0.3, relative=False)),
    (
        *("smoothgrad", {"postprocess": "square"}),
        lambda m: innvest_lite.SmoothGrad(m, 3, 1.0, relative=False, postprocess="square"),
    ),
    ("integrated_gradients", {"steps": 5}, lambda m: innvest_lite.IntegratedGradients(m, 5, rule="left")),
    (
        *("integrated_gradients", {"reference_inputs": X[0]}),
        lambda m: innvest_lite.IntegratedGradients(m, 3, rule="left", reference_inputs=X[0]),
    ),
    ("lrp.epsilon", {"epsilon": 0.5}, lambda m: lrp((LINEAR, Epsilon(0.5)))),
    ("lrp.epsilon_IB", {"epsilon": 0.5}, lambda m: lrp((LINEAR, Epsilon(0.5, bias=False)))),
    ("lrp.alpha_beta", {"alpha": 3}, lambda m: lrp((LINEAR, AlphaBeta(3.0, 2.0, "shared")))),
    ("lrp.alpha_beta", {"beta": 0}, lambda m: lrp((LINEAR, AlphaBeta(1.0, 0.0, "shared")))),
    ("lrp.alpha_beta", {"beta": 2, "bias": True}, lambda m: lrp((LINEAR, AlphaBeta(3.0, 2.0, "shared")))),
    ("lrp.alpha_beta", {"bias": False}, lambda m: lrp((LINEAR, AlphaBeta(2.0, 1.0, "ignore")))),
    ("lrp.epsilon", {"bias": False}, lambda m: lrp((LINEAR, Epsilon(1e-7, bias=False)))),
    ("lrp.alpha_beta", {"alpha": 3, "beta": 2}, lambda m: lrp((LINEAR, AlphaBeta(3.0, 2.0, "shared")))),
    ("lrp.alpha_beta", {"bias": "split"}, lambda m: lrp((LINEAR, AlphaBeta(2.0, 1.0, "split")))),
    (
        *("lrp.sequential_preset_a", {"epsilon": 5.0}),
        lambda m: lrp((DENSE, Epsilon(5.0)), (LINEAR, AlphaBeta(1.0, 0.0, "shared"))),
    ),
    ("lrp", {"rule": "Flat"}, lambda m: lrp((LINEAR, Flat()))),
    (
        *("deep_lift.wrapper", {"nonlinear_mode": "reveal_cancel"}),
        lambda m: innvest_lite.DeepLIFT(m, rule="reveal_cancel"),
    ),
    (
        *("deep_lift.wrapper", {"reference_inputs": X[0]}),
        lambda m: innvest_lite.DeepLIFT(m, reference_inputs=X[0]),
    ),
    *(
        ("lrp", {"rule": word}, lambda m, rule=rule: lrp((LINEAR, rule)))
        for word, rule in (
            *(
                ("Z", Zero()),
                ("WSquare", WSquare()),
                ("ZPlus", ZPlus()),
                ("ZPlusFast", ZPlus(fast=True)),
                ("Bounded", Box()),
            ),
            *(("Alpha1Beta0", AlphaBeta(1.0, 0.0, "shared")), ("Alpha1Beta0IgnoreBias", AlphaBeta(1.0, 0.0, "ignore"))),
            *(("Alpha2Beta1", AlphaBeta(2.0, 1.0, "shared")), ("Alpha2Beta1IgnoreBias", AlphaBeta(2.0, 1.0, "ignore"))),
            *(("AlphaBeta", AlphaBeta(2.0, 1.0, "shared")), ("alpha_beta_ignore_bias", AlphaBeta(2.0, 1.0, "ignore"))),
        )
    ),
    ("lrp", {"rule": "Bounded", "low": -3, "high": 2}, lambda m: lrp((LINEAR, Box(-3, 2)))),
    ("lrp", {"rule": "epsilon_plus"}, lambda m: LRP(m, "epsilon_plus")),
    (
        "integrated_gradients",
        {"postprocess": "abs"},
        lambda m: innvest_lite.IntegratedGradients(m, 3, rule="left", postprocess="abs"),
    ),
    ("lrp", {"rule": "epsilon", "epsilon": 0.5}, lambda m: lrp((LINEAR, Epsilon(0.5)))),
    ("lrp", {"rule": [(DENSE, Zero()), (LINEAR, Flat())]}, lambda m: lrp((DENSE, Zero()), (LINEAR, Flat()))),
    ("lrp", {"rule": "alpha_beta", "alpha": 2, "beta": 1}, lambda m: lrp((LINEAR, AlphaBeta(2.0, 1.0, "shared")))),
    ("lrp", {"rule": Epsilon(0.5)}, lambda m: lrp((LINEAR, Epsilon(0.5)))),
    *(
        ("lrp.w_square", {"input_layer_rule": given}, lambda m, rule=rule: lrp((first(), rule), (LINEAR, WSquare())))
        for given, rule in (
            *(("flat", Flat()), ("Flat", Flat()), ("ZPlus", ZPlus()), ("z_plus", ZPlus()), ("zero", Zero())),
            *(("epsilon", Epsilon()), (Epsilon(0.5), Epsilon(0.5)), (Box(-3, 2), Box(-3, 2)), ((-3, 2), Box(-3, 2))),
        )
    ),
    ("lrp.z", {"input_layer_rule": "WSquare"}, lambda m: lrp((first(), WSquare()), (LINEAR, Zero()))),
    ("lrp.flat", {"input_layer_rule": "Z"}, lambda m: lrp((first(), Zero()), (LINEAR, Flat()))),
    (
        *("lrp.z", {"input_layer_rule": "Bounded", "low": -3, "high": 2}),
        lambda m: lrp((first(), Box(-3, 2)), (LINEAR, Zero())),
    ),
    (
        "deep_taylor.bounded",
        {"low": -3, "high": 2.5},
        lambda m: innvest_lite.BoundedDeepTaylor(m, -3, 2.5, structure="gradient"),
    ),
    # The index of a layer in model.layers; the first layer is flat in any case.
    *(
        ("lrp.sequential_preset_b_flat_until_idx", {"until_layer_idx": index}, until_flat("fused*"))
        for index in (None, 0, 1, 3)
    ),
    ("lrp.sequential_preset_b_flat_until_idx", {"until_layer_idx": 4}, until_flat("fused*", "inline*")),
    ("lrp.sequential_preset_b_flat_until_idx", {"until_layer_idx": 5}, until_flat("fused*", "inline*", "depth*")),
    ("lrp.sequential_preset_b_flat_until_idx", {"until_layer_idx": "inline"}, until_flat("fused*", "inline*")),
    ("lrp.sequential_preset_b", {"until_layer_idx": 4}, until_flat("fused*", "inline*")),
    (
        *("lrp.z", {"until_layer_idx": 4, "input_layer_rule": (-3, 2), "until_layer_rule": "wsquare"}),
        lambda m: lrp((first(), Box(-3, 2)), (until(4) & LINEAR, WSquare()), (LINEAR, Zero())),
    ),
]


def rules_of(analyzer):
    """Rules with all their options, node by node."""
    return [(step.node.name, step.rule) for step in analyzer.plan().steps]


def does_what_the_class_does(name, options, direct):
    analyzer, wanted = create(name, **options), direct(model())
    changes = "until_layer_idx" not in options or options["until_layer_idx"] not in (None, 0, 1, 3)
    if isinstance(wanted, LRP):
        # Rules with all their options stand in the plan; their values are compared above.
        assert type(analyzer) is LRP and rules_of(analyzer) == rules_of(wanted)
        assert not changes or rules_of(analyzer) != rules_of(create(name, **OTHER_RULE.get(name, {})))
    else:
        assert_same(analyzer, wanted)
        assert_different(np.asarray(analyzer(X)), usual(name))


@pytest.mark.slow
def test_a_keyword_does_what_the_class_does(eager):
    assert offenders(does_what_the_class_does, KEYWORDS) == {}


def test_a_rule_for_all_linear_nodes():
    given = create_analyzer("lrp", model(), rule=Epsilon(0.5))(X)
    np.testing.assert_array_equal(given, LRP(model(), "epsilon", composite_options={"epsilon": 0.5})(X))


WORDS = {"relu": "relu", "relu.positive": "relu", "relu.negative": "relu.negative", "linear": "linear", "filter": "filter"}


@pytest.mark.parametrize("name", PATTERNS)
def test_pattern_type_is_the_estimator(name):
    found = {word: create_analyzer(name, model(), pattern_type=word).estimator for word in WORDS}
    assert found == WORDS


def test_the_estimator_of_a_pattern_type_is_fitted(eager_fits):
    analyzer = create_analyzer("pattern.attribution", model(), pattern_type="relu.negative")
    analyzer.fit(models.normal(30, 9, 8, 2, seed=7), verbose=0)
    for node, pattern in patterns("relu.negative").items():
        # PatternAttribution keeps the product with the kernel.
        assert_close(analyzer.patterns[node], pattern)


@pytest.mark.parametrize("name", PATTERNS)
def test_patterns_are_the_classes(name):
    assert_same(create(name), ANALYZERS[name].analyzer(model(), patterns=patterns()))
    assert_different(np.asarray(create(name, patterns=patterns("filter"))(X)), usual(name))


@pytest.mark.parametrize(
    "name",
    ["smoothgrad", *(pytest.param(name, marks=pytest.mark.slow) for name in ("gradient", "lrp.epsilon", "pattern.net"))],
)
def test_neuron_selection(name, eager, tmp_path):
    usual, index, total = (create(name, neuron_selection_mode=mode) for mode in ("max_activation", "index", "all"))
    plain = create(name)
    np.testing.assert_array_equal(usual.analyze(X), plain.analyze(X))
    np.testing.assert_array_equal(total.analyze(X), plain.analyze(X, target="all"))
    for chosen in (1, [2, 0]):
        expected = plain.analyze(X, target=chosen)
        np.testing.assert_array_equal(index.analyze(X, neuron_selection=chosen), expected)
        np.testing.assert_array_equal(index.analyze(X, target=chosen), expected)
    assert_saved(total, X, tmp_path)


# What is wrong -------------------------------------------------------------------------------------------------------

WRONG_SELECTION = {
    "index": ({}, "neuron_selection_mode is 'index': say which"),
    "max_activation": (
        {"neuron_selection": 1},
        "neuron_selection goes with neuron_selection_mode='index'.*max_activation",
    ),
    "all": ({"neuron_selection": 1}, "neuron_selection goes with neuron_selection_mode='index'.*'all'"),
    "index and target": ({"neuron_selection": 1, "target": 1}, "without target"),
    "index out of range": ({"neuron_selection": 7}, "7 is out of range"),
}


@pytest.mark.parametrize("name", ["random", "gradient", "integrated_gradients", "lrp.z", "pattern.net", "rise"])
def test_selections_that_do_not_go_together(name):
    modes = {mode: create(name, neuron_selection_mode=mode) for mode in ("index", "max_activation", "all")}
    uses = {
        case: (lambda case=case, given=given: modes[case.split(" ")[0]].analyze(X, **given), message)
        for case, (given, message) in WRONG_SELECTION.items()
    }
    uses["called"] = (lambda: modes["index"](X), "neuron_selection_mode is 'index'")
    assert refusals(uses, InvalidInputError) == {}


def test_mode_index_always_wants_an_index():
    with pytest.raises(InvalidInputError, match="neuron_selection_mode is 'index'"):
        create("gradient", neuron_selection_mode="index").predict(X, verbose=0)


def created(name, **options):
    return lambda: create(name, **options)


def test_an_unknown_option_is_named():
    uses = {name: (created(name, colour="red"), "has no option 'colour'.*It takes .*output") for name in ANALYZERS}
    assert refusals(uses, InvalidInputError) == {}


def test_an_unknown_option_lists_the_known_ones():
    for name in ("lrp.epsilon", "smoothgrad", "deep_taylor", "integrated_gradients", "gradcam"):
        with pytest.raises(InvalidInputError, match="no_such_option.* It takes .*jit_compile") as error:
            create_analyzer(name, model(), no_such_option=1)
        assert ("epsilon" in str(error.value)) == name.startswith("lrp")
        assert ("noise_scale" in str(error.value)) == (name == "smoothgrad")


NEAREST = {
    "gradiant": "gradient",
    "smooth_grad": "smoothgrad",
    "lrp.alpha2_beta1": "lrp.alpha_2_beta_1",
    "pattern.atribution": "pattern.attribution",
    "deeptaylor": "deep_taylor",
    "lrp.zplus": "lrp.z_plus",
    "guided_backpropagation": "guided_backprop",
    "integrated_gradient": "integrated_gradients",
    "LRP.Z": "lrp.z",
}


def test_an_unknown_name_suggests_the_nearest():
    def named(name):
        return lambda: create_analyzer(name, model())

    uses = {name: (named(name), f"no analyzer '{name}'. Did you mean '{nearest}'") for name, nearest in NEAREST.items()}
    all_names = "There is no analyzer .*There are: input, random, gradient,"
    uses.update({repr(name): (named(name), all_names) for name in ("", "xyzzy", None, 3)})
    assert refusals(uses, InvalidInputError) == {}


def test_the_name_comes_first():
    with pytest.raises(InvalidInputError, match=r"name of the method comes first: create_analyzer\(name, model\)"):
        create_analyzer(model(), "gradient")


WRONG = [
    ("gradient", {"neuron_selection_mode": "largest"}, "neuron_selection_mode should be one of .* is 'largest'"),
    ("gradient", {"postprocess": "root"}, "postprocess should be one of .* is 'root'"),
    ("lrp.z", {"epsilon": 0.1}, "'zero' .*'epsilon'"),
    ("lrp.epsilon", {"epsilon": -1}, "epsilon should be a number above 0, but is -1"),
    ("lrp.alpha_beta", {"alpha": 2, "beta": 2}, "alpha - beta should be 1"),
    ("lrp.z", {"input_layer_rule": "gamma"}, "input_layer_rule should be a rule, .* is 'gamma'"),
    ("lrp.z", {"input_layer_rule": (2, 1)}, "low should be below high"),
    ("deep_taylor.bounded", {"low": 2, "high": 1}, "low should be below high"),
    ("lrp", {"rule": "nothing"}, "There is no composite 'nothing'"),
    ("lrp", {"rule": Epsilon}, "A composite is a name or a list of pairs .*, but this is .*Epsilon"),
    ("pattern.net", {"pattern_type": "cubic"}, "pattern_type should be one of .* is 'cubic'"),
    ("integrated_gradients", {"steps": 0}, "steps .* is 0"),
    ("lrp.z", {"low": -1, "high": 1}, "low"),
    ("lrp.z", {"input_layer_rule": (0, 1), "low": -1}, "low"),
    ("lrp.z", {"until_layer_rule": "flat"}, "until_layer_rule"),
    ("lrp.z", {"until_layer_idx": "nope"}, "nope"),
    ("lrp.z", {"until_layer_idx": 1.5}, "until_layer_idx"),
    ("lrp.z", {"composite": "flat"}, "composite"),
]


def test_bad_options():
    uses = {f"{name} {options}": (created(name, **options), message) for name, options, message in WRONG}
    assert refusals(uses, InvalidInputError) == {}
