"""`create_analyzer`: every name and keyword of iNNvestigate gives what the classes give; what is wrong is told."""

import keras
import models
import numpy as np
import pytest
from loop_replicas import assert_saved
from models import assert_close
from registered import FEW, NAMES, OURS, PATTERNS, create, model, patterns

import innvest_lite
from innvest_lite import LRP, InvalidInputError, create_analyzer
from innvest_lite.analyzers import ANALYZERS
from innvest_lite.rules import AlphaBeta, Box, Epsilon, Flat, WSquare, Zero, ZPlus, first, kind, layer, named, until

X = models.normal(4, 9, 8, 2)
LINEAR, DENSE = kind("linear"), kind("linear") & layer("Dense")


def assert_same(one, two):
    """Two analyzers of the same values, which are not all 0; eagerly, for there are many."""
    assert type(one) is type(two)
    expected = np.asarray(two(X))
    assert np.any(expected)
    assert_close(one(X), expected, 1e-6)


def assert_different(one, two):
    one, two = np.asarray(one(X)), np.asarray(two(X))
    assert np.abs(one - two).max() > 1e-3 * np.abs(two).max()


def test_the_names():
    assert len(set(NAMES)) == 32 and set(ANALYZERS) == {*NAMES, *OURS}
    assert all(method.summary and isinstance(method.analyzer, type) for method in ANALYZERS.values())


@pytest.mark.parametrize("name", [*NAMES, *OURS])
def test_every_name_runs_and_comes_back_from_a_file(name, tmp_path):
    analyzer = create(name)
    assert type(analyzer) is ANALYZERS[name].analyzer
    heat = analyzer.analyze(X)
    assert heat.shape == X.shape and heat.dtype == np.float32 and np.all(np.isfinite(heat)) and np.any(heat)
    analyzer = create(name)
    analyzer.save(tmp_path / "analyzer.keras")
    loaded = keras.saving.load_model(tmp_path / "analyzer.keras")
    # Eagerly, for there are many.
    np.testing.assert_array_equal(loaded(X), analyzer(X))


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
    "deep_taylor": lambda m: innvest_lite.DeepTaylor(m, structure="gradient"),
    "deep_taylor.bounded": lambda m: innvest_lite.BoundedDeepTaylor(m, -1.0, 1.0, structure="gradient"),
}


@pytest.mark.parametrize("name", STAND_FOR)
def test_the_values_are_innvestigates(name):
    analyzer, direct = create_analyzer(name, model()), STAND_FOR[name](model())
    if name in FEW:
        # So many evaluations are not needed to see that they are the same.
        assert {**analyzer.get_config(), "model": None} == {**direct.get_config(), "model": None}
    else:
        assert_same(analyzer, direct)


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
    pytest.param(
        *("lrp", {"rule": "alpha_beta", "alpha": 2, "beta": 1}), *(lambda m: lrp((LINEAR, AlphaBeta(2.0, 1.0, "shared"))),)
    ),
    *(
        ("lrp.w_square", {"input_layer_rule": given}, lambda m, rule=rule: lrp((first(), rule), (LINEAR, WSquare())))
        for given, rule in (
            *(("flat", Flat()), ("Flat", Flat()), ("ZPlus", ZPlus()), ("z_plus", ZPlus()), ("zero", Zero())),
            *(("epsilon", Epsilon()), (Epsilon(0.5), Epsilon(0.5)), (Box(-3, 2), Box(-3, 2)), ((-3, 2), Box(-3, 2))),
        )
    ),
    ("lrp.z", {"input_layer_rule": "WSquare"}, lambda m: lrp((first(), WSquare()), (LINEAR, Zero()))),
    pytest.param("lrp.flat", {"input_layer_rule": "Z"}, lambda m: lrp((first(), Zero()), (LINEAR, Flat()))),
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


@pytest.mark.parametrize("name, options, direct", KEYWORDS)
def test_a_keyword_does_what_the_class_does(name, options, direct):
    analyzer = create(name, **options)
    assert_same(analyzer, direct(model()))
    if "until_layer_idx" not in options or options["until_layer_idx"] not in (None, 0, 1, 3):
        assert_different(analyzer, create(name, **({"rule": "gamma"} if name == "lrp" else {})))


@pytest.mark.parametrize(
    "name, word, estimator",
    [
        (PATTERNS[0], "relu", "relu"),
        (PATTERNS[1], "relu.positive", "relu"),
        (PATTERNS[0], "relu.negative", "relu.negative"),
        (PATTERNS[1], "linear", "linear"),
        (PATTERNS[0], "filter", "filter"),
    ],
)
def test_pattern_type_is_the_estimator(name, word, estimator):
    analyzer = create_analyzer(name, model(), pattern_type=word).fit(models.normal(30, 9, 8, 2, seed=7), verbose=0)
    for node, pattern in patterns(estimator).items():
        # PatternAttribution keeps the product with the kernel.
        assert_close(analyzer.patterns[node], pattern, 1e-5)


@pytest.mark.parametrize("name", PATTERNS)
def test_patterns_are_the_classes(name):
    assert_same(create(name), ANALYZERS[name].analyzer(model(), patterns=patterns()))
    assert_different(create(name), create(name, patterns=patterns("filter")))


@pytest.mark.parametrize("name", ["gradient", "smoothgrad", "lrp.epsilon", "pattern.net"])
def test_neuron_selection(name, tmp_path):
    usual, index, total = (create(name, neuron_selection_mode=mode) for mode in ("max_activation", "index", "all"))
    plain = create(name)
    np.testing.assert_array_equal(usual.analyze(X), plain.analyze(X))
    np.testing.assert_array_equal(total.analyze(X), plain.analyze(X, target="all"))
    for chosen in (1, [2, 0, 1, 1]):
        expected = plain.analyze(X, target=chosen)
        np.testing.assert_array_equal(index.analyze(X, neuron_selection=chosen), expected)
        np.testing.assert_array_equal(index.analyze(X, target=chosen), expected)
    assert_saved(total, X, tmp_path)


WRONG_SELECTION = [
    ("index", {}, "neuron_selection_mode is 'index': say which"),
    ("max_activation", {"neuron_selection": 1}, "neuron_selection goes with neuron_selection_mode='index'.*max_activation"),
    ("all", {"neuron_selection": 1}, "neuron_selection goes with neuron_selection_mode='index'.*'all'"),
    ("index", {"neuron_selection": 1, "target": 1}, "without target"),
    ("index", {"neuron_selection": 7}, "7 is out of range"),
]


@pytest.mark.parametrize("name", ["random", "gradient", "integrated_gradients", "lrp.z", "pattern.net", "rise"])
@pytest.mark.parametrize("mode, given, message", WRONG_SELECTION)
def test_selections_that_do_not_go_together(name, mode, given, message):
    with pytest.raises(InvalidInputError, match=message):
        create(name, neuron_selection_mode=mode).analyze(X, **given)


@pytest.mark.parametrize("use", ["call", "predict"])
def test_mode_index_always_wants_an_index(use):
    analyzer = create("gradient", neuron_selection_mode="index")
    uses = {"call": analyzer, "predict": lambda x: analyzer.predict(x, verbose=0)}
    with pytest.raises(InvalidInputError, match="neuron_selection_mode is 'index'"):
        uses[use](X)


# What is wrong -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ANALYZERS)
def test_an_unknown_option_is_named(name):
    with pytest.raises(InvalidInputError, match="does not take these options.*'colour'"):
        create(name, colour="red")


NEAREST = [
    *(("gradiant", "gradient"), ("smooth_grad", "smoothgrad"), ("lrp.alpha2_beta1", "lrp.alpha_2_beta_1")),
    *(("pattern.atribution", "pattern.attribution"), ("deeptaylor", "deep_taylor"), ("lrp.zplus", "lrp.z_plus")),
    *(("guided_backpropagation", "guided_backprop"), ("integrated_gradient", "integrated_gradients")),
    pytest.param("LRP.Z", "lrp.z"),
]


@pytest.mark.parametrize("name, nearest", NEAREST)
def test_an_unknown_name_suggests_the_nearest(name, nearest):
    with pytest.raises(InvalidInputError, match=f"no analyzer '{name}'. Did you mean '{nearest}'"):
        create_analyzer(name, model())


@pytest.mark.parametrize("name", ["", "xyzzy", None, 3])
def test_a_name_that_is_near_nothing(name):
    with pytest.raises(InvalidInputError, match="There is no analyzer .*There are: input, random, gradient,"):
        create_analyzer(name, model())


@pytest.mark.parametrize(
    "name, options, message",
    [
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
        pytest.param("lrp.z", {"low": -1, "high": 1}, "low"),
        pytest.param("lrp.z", {"input_layer_rule": (0, 1), "low": -1}, "low"),
        pytest.param("lrp.z", {"until_layer_rule": "flat"}, "until_layer_rule"),
        pytest.param("lrp.z", {"until_layer_idx": "nope"}, "nope"),
        pytest.param("lrp.z", {"until_layer_idx": 1.5}, "until_layer_idx"),
        pytest.param("lrp.z", {"composite": "flat"}, "composite"),
    ],
)
def test_bad_options(name, options, message):
    with pytest.raises(InvalidInputError, match=message):
        create(name, **options)
