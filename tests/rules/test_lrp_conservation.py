"""Where relevance goes in LRP: each node conserves it up to what it says it absorbs; identities that follow from that."""

from functools import cache

import keras
import models
import numpy as np
import pytest
import tensorflow as tf
from comparing import FLOAT64, assert_close, offenders
from keras import layers

from innvest_lite import LRP, DeepTaylor, InputTimesGradient, backend, rules
from innvest_lite.analyzers import sweep
from innvest_lite.forms import forms_of
from innvest_lite.forms.signs import nonnegative_values
from innvest_lite.graph import passes, trace
from innvest_lite.rules import (
    PRESETS,
    AlphaBeta,
    Box,
    Call,
    Epsilon,
    Flat,
    Gamma,
    InverseScale,
    Norm,
    Pass,
    WSquare,
    Zero,
    ZPlus,
    kind,
)

# Float32; relative to the largest relevance that arrives at any node of the sample.
IN_FLOAT32 = 1e-4
METHODS = (*PRESETS, "deep_taylor")
# One rule for all linear nodes. What other presets put together of these is tried on one net: each node is on its own.
PURE = ("zero", "epsilon", "gamma", "z_plus", "alpha1_beta0", "alpha2_beta1", "w_square", "flat", "deep_taylor")


def mixed():
    """What models.py has no small model with: tokens, a concatenation, a layer normalization, poolings of each kind."""
    x = keras.Input((8,), dtype="int32", name="x")
    value = layers.LayerNormalization(name="norm")(layers.Embedding(7, 4, name="embedding")(x))
    value = layers.Concatenate(name="both")([layers.Conv1D(4, 3, padding="same", name="conv")(value), value])
    value = layers.AveragePooling1D(2, name="average")(layers.ReLU(name="relu")(value))
    value = layers.Flatten(name="flat")(layers.MaxPooling1D(2, name="max")(value))
    return models.randomize(keras.Model(x, layers.Dense(3, name="out")(value)), seed=4)


@cache
def net(name):
    """A model and data."""
    if name != "mixed":
        return models.case(name).model, models.case(name).x
    model = mixed()
    return model, models.data_for(model)


def analyzer(method, model, **options):
    return DeepTaylor(model) if method == "deep_taylor" else LRP(model, method, **options)


def assert_explained(report, tolerance=IN_FLOAT32):
    """The one check: nothing that arrives at a node is lost without a reason, nor on the way between nodes."""
    largest = np.max([np.abs(row.arrived) for row in report.rows], axis=0)
    for row in report.rows:
        share = np.max(np.abs(row.rest) / np.where(largest > 0, largest, 1))
        assert share <= tolerance, f"{row.node} ({row.rule}) loses {share:.2g} without a reason"
    assert np.all(report.unexplained <= 2 * tolerance)


def each_node_conserves(name, method):
    model, x = net(name)
    explaining = analyzer(method, model)
    report = explaining.check(x)
    assert_explained(report)
    assert np.abs(report.start).max() > 0.1
    kinds = {step.node.name: step.form.kind for step in explaining.plan().steps}
    for row in report.rows:
        if kinds[row.node] in ("rectifier", "activation", "max", "route", "product", "embedding"):
            assert_close(row.handed_on, row.arrived, what=row.node)
            assert not np.any(row.bias) and not np.any(row.epsilon)


@pytest.mark.parametrize("name", ["conv_bn", "residual", "two_inputs", "shapes", "gate", "mixed"])
def test_each_node_conserves(name, eager):
    methods = METHODS if name == "conv_bn" else PURE
    assert offenders(lambda method: each_node_conserves(name, method), methods) == {}


def test_what_rounding_makes_is_no_contribution(eager):
    """At a unit with a bias and without negative contributions; `check` says that 70 % of the relevance are lost there."""
    model, x = net("einsum")
    assert_explained(LRP(model, "alpha2_beta1").check(x))


def test_only_the_rules_with_a_bias_let_it_absorb(eager):
    model, x = net("conv_bn")
    for composite in ("zero", "epsilon", "gamma", "alpha1_beta0"):
        rows = {row.node: row for row in LRP(model, composite).check(x).rows}
        assert all(np.abs(rows[name].bias).max() > 1e-3 for name in ("conv1", "conv2", "out"))
    ignoring = [("zero", {"bias": False}), ("alpha1_beta0", {"bias": "ignore"})]
    ignoring += [(name, None) for name in ("z_plus", "w_square", "flat")]
    for composite, options in ignoring:
        report = LRP(model, composite, composite_options=options).check(x)
        largest = max(np.abs(row.arrived).max() for row in report.rows)
        assert all(np.abs(row.bias).max() <= 1e-6 * largest for row in report.rows)


@pytest.mark.parametrize(
    "rule", [Zero(), Epsilon(0.1), Gamma(), AlphaBeta(), ZPlus(), WSquare(), Flat(), Box(), Norm()], ids=str
)
def test_a_planted_leak_is_found(rule, eager, monkeypatch):
    """A rule that loses a thousandth of what it hands on."""
    model, x = net("conv_bn") if not isinstance(rule, Norm) else net("shapes")
    composite = [(kind("linear"), Zero() if isinstance(rule, Norm) else rule)]
    original = type(rule).reverse
    monkeypatch.setattr(type(rule), "reverse", lambda *call: tuple(0.999 * r for r in original(*call)))
    with pytest.raises(AssertionError, match="without a reason"):
        assert_explained(LRP(model, composite).check(x))


# Identities -----------------------------------------------------------------------------------------------------------


def rectifying(batchnorm=True):
    """All that a ReLU network is made of, with biases; with batchnorm False the same without its normalizations."""

    def normalized(value, name):
        return layers.BatchNormalization(epsilon=0.01, name=name)(value) if batchnorm else value

    x = keras.Input((8, 8, 2), name="x")
    stem = normalized(layers.Conv2D(4, 3, padding="same", name="conv1")(x), "bn1")
    stem = layers.MaxPooling2D(2, name="pool")(layers.ReLU(name="relu1")(stem))
    branch = normalized(layers.DepthwiseConv2D(3, padding="same", use_bias=not batchnorm, name="conv2")(stem), "bn2")
    value = layers.ReLU(name="relu2")(layers.Add(name="add")([branch, stem]))
    value = normalized(layers.SeparableConv2D(4, 2, name="conv3")(layers.Concatenate(name="both")([value, stem])), "bn3")
    value = layers.AveragePooling2D(2, padding="same", name="average")(layers.ReLU(name="relu3")(value))
    value = normalized(layers.Dense(6, name="dense")(layers.Flatten(name="flat")(value)), "bn4")
    value = layers.Dense(3, activation="softmax", name="out")(layers.ReLU(name="relu4")(value))
    return keras.Model(x, value)


def folded(model):
    """The model with its normalizations folded by hand into the weights before them."""
    twin = rectifying(batchnorm=False)
    for layer in twin.layers:
        source = model.get_layer(layer.name)
        for weight in source.weights:
            getattr(layer, weight.name).assign(weight)
    for name, bn in (("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3"), ("dense", "bn4")):
        layer, bn = twin.get_layer(name), model.get_layer(bn)
        scale = bn.gamma.numpy() / np.sqrt(bn.moving_variance.numpy() + bn.epsilon)
        weight = layer.pointwise_kernel if name == "conv3" else layer.kernel
        weight.assign(weight * (scale[:, None] if name == "conv2" else scale))
        layer.bias.assign((layer.bias - bn.moving_mean) * scale + bn.beta)
    return twin


@cache
def rectifying_nets():
    """The network, itself folded, and data."""
    model = models.randomize(rectifying(), seed=6)
    return model, folded(model), models.data_for(model)


def explained(method, model, x):
    """On tensors, for a compilation takes longer."""
    return analyzer(method, model)(x)


@pytest.mark.slow
def test_a_folded_batchnorm_changes_nothing():
    model, twin, x = rectifying_nets()
    np.testing.assert_allclose(model.predict(x, verbose=0), twin.predict(x, verbose=0), atol=1e-5)
    one, two = LRP(model, "zero").plan(), LRP(twin, "zero").plan()
    assert len(two.steps) == len(one.steps) and "BatchNormalization" not in str(two)
    same = lambda method: assert_close(explained(method, twin, x), explained(method, model, x), IN_FLOAT32)  # noqa: E731
    assert offenders(same, METHODS) == {}


def test_an_error_in_the_folding_is_found():
    """Folded right, nothing changes."""
    twin, x = rectifying_nets()[1:]
    model = models.randomize(rectifying(), seed=6)
    bent = models.randomize(rectifying(), seed=6)
    bent.get_layer("bn2").gamma.assign(bent.get_layer("bn2").gamma * [1.01, 1, 1, 1])
    for method in ("gamma", "epsilon_gamma_box"):
        expected = explained(method, twin, x)
        assert_close(explained(method, model, x), expected, IN_FLOAT32)
        with pytest.raises(AssertionError, match="differs by"):
            assert_close(explained(method, bent, x), expected, IN_FLOAT32)


def assert_input_times_gradient(model, x, composite, tolerance):
    for target in (None, "all"):
        one, two = (each(x, target=target) for each in (LRP(model, composite), InputTimesGradient(model)))
        assert_close(one, two, tolerance)


@pytest.mark.parametrize("composite, tolerance", [("zero", 1e-5), ("epsilon", 1e-4)])
def test_lrp_of_relu_networks_is_input_times_gradient(composite, tolerance):
    """Biases or not: each layer's R / z is its gradient (Ancona et al. 2018, arXiv 1711.06104, proposition 3.2)."""
    for model in rectifying_nets()[:2]:
        assert_input_times_gradient(model, rectifying_nets()[2], composite, tolerance)


def test_lrp_zero_is_input_times_gradient():
    def same(name):
        model, x = net(name)
        assert_close(LRP(model, "zero")(x), InputTimesGradient(model)(x))

    assert offenders(same, ("two_inputs", "dict_inputs", "shared", "text", "conv3d", "residual")) == {}


def test_lrp_epsilon_tends_to_input_times_gradient():
    model, _, x = rectifying_nets()
    expected = InputTimesGradient(model)(x)
    distances = [
        np.abs(LRP(model, "epsilon", composite_options={"epsilon": epsilon})(x) - expected).max()
        for epsilon in (1e-3, 1e-5, 1e-7)
    ]
    assert distances[0] > 10 * distances[1] > 100 * distances[2] > 0


def test_alpha_beta_is_none_of_it():
    """The identity above can fail."""
    model, _, x = rectifying_nets()
    with pytest.raises(AssertionError, match="differs by"):
        assert_input_times_gradient(model, x, "alpha1_beta0", 0.1)


# Normalizations -------------------------------------------------------------------------------------------------------

NORMALIZATIONS = {
    "layer": lambda: layers.LayerNormalization(name="node"),
    "layer, positions too": lambda: layers.LayerNormalization(axis=[1, 2], name="node"),
    "layer, first axis": lambda: layers.LayerNormalization(axis=1, name="node"),
    "layer, no gamma": lambda: layers.LayerNormalization(scale=False, name="node"),
    "layer, no beta": lambda: layers.LayerNormalization(center=False, name="node"),
    "layer, bare": lambda: layers.LayerNormalization(axis=[1, 2], scale=False, center=False, name="node"),
    "group": lambda: layers.GroupNormalization(3, name="node"),
    "group, no gamma": lambda: layers.GroupNormalization(2, scale=False, name="node"),
    "group, no beta": lambda: layers.GroupNormalization(2, center=False, name="node"),
    "group, one": lambda: layers.GroupNormalization(1, name="node"),
    "group, each channel": lambda: layers.GroupNormalization(6, name="node"),
    "group, -1": lambda: layers.GroupNormalization(-1, name="node"),
    "rms": lambda: layers.RMSNormalization(name="node"),
    "rms, positions too": lambda: layers.RMSNormalization(axis=[1, 2], name="node"),
    "unit": lambda: layers.UnitNormalization(name="node"),
    "unit, first axis": lambda: layers.UnitNormalization(axis=1, name="node"),
    "unit, all": lambda: layers.UnitNormalization(axis=[1, 2], name="node"),
}


def normalization(name, dtype="float64"):
    """A form and two inputs."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(dtype)
    try:
        layer = NORMALIZATIONS[name]()
    finally:
        keras.config.set_dtype_policy(before)
    model = models.randomize(keras.Sequential([keras.Input((4, 6), dtype=dtype), layer]), seed=8)
    rng = np.random.default_rng(9)
    return forms_of(trace(model))["node"], *(tf.constant(rng.normal(0.5, 2, (3, 4, 6)), dtype) for _ in range(2))


def affine_is_the_normalization_there(name, dtype, tolerance):
    form, x, other = normalization(name, dtype)
    assert form.kind == "normalization"
    frozen = form.affine(x)
    assert_close(frozen(x)[0], form.forward(x)[0], tolerance)
    assert_close(frozen(x)[0], form.node.operation(x), tolerance)
    mixture = 0.3 * frozen(x)[0] + 0.7 * frozen(other)[0]
    assert_close(frozen(0.3 * x + 0.7 * other)[0], mixture, tolerance * 10)
    assert np.abs(frozen(other)[0] - form.forward(other)[0]).max() > 1e-3


def test_the_affine_normalization_is_the_normalization_there():
    precisions = (("float64", FLOAT64), ("float32", 1e-6))
    cases = [(name, *precision) for name in NORMALIZATIONS for precision in precisions]
    assert offenders(affine_is_the_normalization_there, cases) == {}


def conserves_but_for_beta(name):
    form, x, _ = normalization(name)
    outputs, pullback = backend.vjp(form.forward, x)
    relevance = tf.constant(np.random.default_rng(10).normal(size=x.shape))
    call = Call(form, (x,), outputs, pullback)
    handed_on = Norm().reverse(call, (relevance,))[0].numpy()
    beta = getattr(form.node.operation, "beta", None)
    beta = np.zeros(6) if beta is None else beta.numpy()
    beta = beta[:, None] if name == "layer, first axis" else beta
    absorbed = (relevance * beta / outputs[0]).numpy()
    expected = relevance.numpy() - absorbed
    np.testing.assert_allclose(handed_on.sum((1, 2)), expected.sum((1, 2)), rtol=1e-9)
    np.testing.assert_allclose(Norm().absorbed(call, (relevance,))["bias"], absorbed, rtol=1e-6, atol=1e-9)


def test_a_normalization_conserves_but_for_beta():
    assert offenders(conserves_but_for_beta, NORMALIZATIONS) == {}


# The axes over which each takes statistics, with the channels in so many groups.
STATISTICS = {
    "layer, positions too": (1, (1, 2, 3)),
    "layer, first axis": (6, (1,)),
    "layer, bare": (1, (1, 2, 3)),
    "group": (3, (1, 3)),
    "group, no gamma": (2, (1, 3)),
    "group, no beta": (2, (1, 3)),
    "group, one": (1, (1, 3)),
    "group, each channel": (6, (1,)),
    "group, -1": (6, (1,)),
    "rms, positions too": (1, (1, 2, 3)),
    "unit, first axis": (6, (1,)),
    "unit, all": (1, (1, 2, 3)),
}


def inverse_scale_undoes_a_step_without_mean(name):
    """By a step that leaves the mean as it is, so that the standard deviation alone is held."""
    form, x, other = normalization(name)
    groups, axes = STATISTICS.get(name, (1, (3,)))
    step = tf.reshape(other, (3, 4, groups, 6 // groups))
    step = tf.reshape(step - tf.reduce_mean(step, axes, keepdims=True), x.shape)
    frozen = form.affine(x)
    moved = frozen(x + step)[0] - frozen(x)[0]
    (found,) = InverseScale().reverse(Call(form, (x,), form.forward(x), None), (moved,))
    assert_close(found, step, FLOAT64)
    assert_close(Pass().reverse(Call(form, (x,), form.forward(x), None), (moved,))[0], moved, FLOAT64)


def test_channels_that_a_normalization_closes_hand_nothing_back():
    form, x, relevance = normalization("layer")
    form.node.operation.gamma.assign([0.0, 1.0, -2.0, 0.0, 1.0, 1.0])
    (found,) = InverseScale().reverse(Call(form, (x,), form.forward(x), None), (relevance,))
    assert np.isfinite(found).all() and not found.numpy()[..., [0, 3]].any() and found.numpy()[..., [1, 2, 4, 5]].all()


def test_to_patterns_a_normalization_is_a_diagonal_map():
    assert offenders(inverse_scale_undoes_a_step_without_mean, NORMALIZATIONS) == {}


# What cannot be negative ----------------------------------------------------------------------------------------------


def known_and_values(model, x):
    """The values that the library says are not negative, and all values."""
    graph = passes.rewrite(trace(model), fuse=True)
    known = nonnegative_values(graph, forms_of(graph))
    plan = rules.bind(graph, [(rules.anything(), rules.Gradient())], "Test")
    arrays = [x[value.node] for value in graph.inputs] if isinstance(x, dict) else keras.tree.flatten(x)
    tensors = [tf.constant(array) for array in arrays]
    return known, sweep.forward(plan, tensors)[0]


def said_not_to_be_negative_is_not(name):
    model = models.build(name)
    for seed in (3, 4):
        known, values = known_and_values(models.randomize(model, seed), models.data_for(model, 16, seed))
        for value in known:
            assert np.min(values[value]) >= 0, value
        assert any(np.min(tensor) < 0 for value, tensor in values.items() if value not in known)


def test_what_is_said_not_to_be_negative_is_not():
    assert offenders(said_not_to_be_negative_is_not, models.NAMES) == {}


def test_what_is_known_not_to_be_negative():
    model, x = net("conv_bn")
    known = {value.node for value in known_and_values(model, x)[0]}
    assert known == {"relu1", "pool", "relu2", "flat", "relu3"}
    known = {value.node for value in known_and_values(*net("two_inputs"))[0]}
    assert known == {"first/activation", "hidden/activation", "both"}
    known = {value.node for value in known_and_values(*net("residual"))[0]}
    assert known == {"stem/activation", "relu"}
    known = {value.node for value in known_and_values(*net("gate"))[0]}
    assert known == {"conv/activation", "squeeze", "narrow/activation", "excite/activation", "gated", "flat"}
    model, _, x = rectifying_nets()
    known = {value.node for value in known_and_values(model, x)[0]}
    assert known == {"relu1", "pool", "relu2", "both", "relu3", "average", "flat", "relu4"}
