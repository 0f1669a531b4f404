"""The contract of every registered rule, on every kind of form that it names, and which node gets which rule."""

import dataclasses
import itertools
from functools import cache

import keras
import models
import numpy as np
import pytest
import tensorflow as tf
from comparing import FLOAT32, assert_close, offenders
from keras import layers, ops

import innvest_lite
from innvest_lite import backend, rules
from innvest_lite.errors import InvalidInputError, UnsupportedLayerError
from innvest_lite.forms import LinearForm, forms_of
from innvest_lite.graph import passes, trace
from innvest_lite.rules import RULES, Call, Rule

# Rules that treat positive and negative relevance differently; all others are additive in relevance.
NOT_ADDITIVE = {"Deconvnet", "GuidedBackprop"}
SAMPLES = 3


def _gated(x):
    gate = layers.Dense(4, activation="sigmoid", name="gate")(layers.GlobalAveragePooling2D(keepdims=True)(x))
    return layers.Multiply(name="node")([x, gate])


def _logits(x):
    return ops.einsum("btd,bsd->bts", *x)


def _weighed(x):
    return ops.matmul(layers.Softmax(name="weights")(x[0]), x[1])


def _both(x):
    return layers.Multiply(name="node")(x)


# kind -> (shapes of the inputs, the layer called "node")
MATERIAL = {
    "linear": [
        ([(4,)], layers.Dense(3, name="node")),
        ([(5, 5, 4)], layers.Conv2D(3, 3, padding="same", name="node")),
        ([(5, 5, 4)], layers.DepthwiseConv2D(2, depth_multiplier=2, name="node")),
        ([(5, 4)], layers.EinsumDense("btd,dhk->bthk", (5, 2, 3), name="node")),
    ],
    "sum": [([(4,), (4,), (4,)], layers.Add(name="node")), ([(5, 4), (5, 4)], layers.Subtract(name="node"))],
    "average": [
        ([(4, 4, 3)], layers.AveragePooling2D(3, 2, "same", name="node")),
        ([(4, 4, 3)], layers.GlobalAveragePooling2D(name="node")),
    ],
    "scale": [([(4, 3)], layers.BatchNormalization(name="node")), ([(4,)], layers.Rescaling(0.5, 1.0, name="node"))],
    "rectifier": [([(5,)], layers.ReLU(name="node"))],
    "activation": [([(5,)], layers.ELU(name="node")), ([(5,)], layers.Activation("gelu", name="node"))],
    "max": [([(4, 4, 3)], layers.MaxPooling2D(2, name="node")), ([(4,), (4,)], layers.Maximum(name="node"))],
    "product": [([(4, 4, 4)], _gated), ([(4, 3), (4, 3)], _both)],
    "route": [
        ([(4, 3)], layers.Flatten(name="node")),
        ([(4, 3), (4, 3)], layers.Concatenate(name="node")),
        ([(4, 3)], layers.ZeroPadding1D(2, name="node")),
    ],
    "embedding": [([("int32", 4)], layers.Embedding(7, 3, name="node"))],
    "normalization": [([(4, 3)], layers.LayerNormalization(name="node"))],
    "softmax": [([(4, 3)], layers.Softmax(name="node")), ([(4, 3)], layers.Softmax(axis=(1, 2), name="node"))],
    "matmul": [([(4, 3), (5, 3)], _logits), ([(4, 5), (5, 3)], _weighed)],
    "recurrent": [([(4, 3)], layers.LSTM(2, name="node"))],
    "opaque": [([(4, 3)], models.Closed(name="node"))],
}


@cache
def form_of(kind, index):
    shapes, layer = MATERIAL[kind][index]
    inputs = [keras.Input(s[1:], dtype=s[0]) if s[0] == "int32" else keras.Input(s) for s in shapes]
    model = models.randomize(keras.Model(inputs, layer(inputs if len(inputs) > 1 else inputs[0])), seed=2)
    forms = forms_of(passes.split_activations(trace(model)))
    # Operations have names of their own.
    form = forms.get("node") or next(one for one in forms.values() if one.kind == kind)
    assert form.kind == kind
    return form


def inputs_of(form, zeros=False):
    rng = np.random.default_rng(3)
    arrays = []
    for spec in form.node.input_specs:
        shape = (SAMPLES, *spec.shape[1:])
        array = rng.integers(0, 7, shape) if spec.dtype == "int32" else rng.normal(0.2, 1, shape)
        arrays.append(tf.constant(np.zeros(shape) if zeros else array, spec.dtype))
    return tuple(arrays)


def reverse(rule, form, relevance, zeros=False):
    """What a rule gives for the relevance of a form's only output."""
    inputs = inputs_of(form, zeros)
    outputs, pullback = backend.vjp(form.forward, *inputs)
    kernel = None
    if rule.needs_kernel:
        kernel = tf.constant(np.random.default_rng(4).normal(size=form.kernel_shape), tf.float32)
    return rule.reverse(Call(form, inputs, outputs, pullback, kernel), (relevance,))


def relevance_of(form, seed):
    shape = (SAMPLES, *form.node.output_specs[0].shape[1:])
    return tf.constant(np.random.default_rng(seed).normal(size=shape), tf.float32)


def options_of(field):
    """The values of a rule's option that are tried: both of a yes or no, all words; None: its default alone."""
    if not field.repr:
        # `grows` is told to the sweep and changes nothing of what a rule hands on.
        return None
    if isinstance(field.default, bool):
        return (False, True)
    return next((words for words in (rules.lrp.BIASES, rules.attention.SHARES) if field.default in words), None)


def variants(rule_class):
    """A rule with its defaults, and with every option that is a yes or no, or a word, in all ways."""
    tried = {field.name: options_of(field) for field in dataclasses.fields(rule_class)}
    tried = {name: values for name, values in tried.items() if values}
    for values in itertools.product(*tried.values()):
        yield rule_class(**dict(zip(tried, values, strict=True)))


def rules_for(form):
    """Every registered rule, with every option, that is for a form."""
    return [rule for cls in RULES.values() for rule in variants(cls) if rule.is_for(form)]


# The contract --------------------------------------------------------------------------------------------------------


def has_shape_and_dtype(rule, form):
    handed_on = reverse(rule, form, relevance_of(form, 5))
    assert isinstance(handed_on, tuple)
    inputs = inputs_of(form)
    assert len(handed_on) == len(inputs)
    assert {place for place, r in enumerate(handed_on) if r is not None} <= set(rule.hands_to(form))
    given = [(r, x) for r, x in zip(handed_on, inputs, strict=True) if r is not None]
    # A gate and a token that the gradient does not reach get nothing; all else gets something.
    assert given or (form.kind == "embedding" and isinstance(rule, rules.Gradient))
    for relevance, x in given:
        assert relevance.shape == x.shape
        assert relevance.dtype == tf.float32


def is_finite_on_zeros(rule, form):
    for relevance in (relevance_of(form, 5), tf.zeros_like(relevance_of(form, 5))):
        for handed_on in reverse(rule, form, relevance, zeros=True):
            assert handed_on is None or np.isfinite(handed_on).all()
    for handed_on in reverse(rule, form, tf.zeros_like(relevance_of(form, 5))):
        assert handed_on is None or not np.any(handed_on), "relevance from nothing"


def is_additive_in_relevance(rule, form):
    one, two = relevance_of(form, 5), relevance_of(form, 6)
    parts = zip(reverse(rule, form, one), reverse(rule, form, two), reverse(rule, form, one - 2 * two), strict=True)
    sums = [(both, first - 2 * second) for first, second, both in parts if both is not None]
    additive = all(np.abs(both - wanted).max() <= FLOAT32 * np.abs(both).max() for both, wanted in sums)
    assert additive == (type(rule).__name__ not in NOT_ADDITIVE)


def prints_short(rule, form):
    assert type(rule).__name__ in str(rule) and "\n" not in str(rule)
    assert dataclasses.replace(rule) == rule and hash(rule) == hash(dataclasses.replace(rule))


CONTRACT = {
    check.__name__: check for check in (has_shape_and_dtype, is_finite_on_zeros, is_additive_in_relevance, prints_short)
}


@pytest.mark.parametrize("kind, index", [(kind, index) for kind in MATERIAL for index in range(len(MATERIAL[kind]))])
def test_every_rule_keeps_the_contract(kind, index):
    form = form_of(kind, index)
    cases = [(rule, check) for rule in rules_for(form) for check in CONTRACT]
    assert offenders(lambda rule, check: CONTRACT[check](rule, form), cases) == {}


def without_material():
    """Kinds that a rule names, and of which there is no form to try it on."""
    return {kind for cls in RULES.values() for kind in cls.kinds} - set(MATERIAL)


def test_there_is_a_form_for_every_rule():
    assert without_material() == set()
    tried = {
        type(rule) for kind in MATERIAL for index in range(len(MATERIAL[kind])) for rule in rules_for(form_of(kind, index))
    }
    assert tried == set(RULES.values())
    linear = rules_for(form_of("linear", 0))
    assert {rule.bias for rule in linear if isinstance(rule, rules.AlphaBeta)} == {"split", "shared", "ignore"}


def test_every_rule_in_use_is_registered():
    """Nothing escapes the contract: a rule that a composite uses stands in RULES."""
    used = {type(step.rule) for name in models.PATTERNED for step in _plan(name).steps} - {rules.Evaluated}
    used |= {type(rule) for analyzer in (innvest_lite.LRP, innvest_lite.PatternNet) for _, rule in [analyzer.stand_in]}
    assert used and used <= set(RULES.values())
    families = {
        Rule,
        rules.lrp.LinearRule,
        rules.first_layer.InputlessRule,
        rules.Norm,
        rules.pattern_shares.SharesByPattern,
        rules.pattern_shares.SharesByMagnitude,
    }
    subclasses = {cls for family in families for cls in family.__subclasses__()} - families
    ours = {cls for cls in subclasses if cls.__module__.startswith("innvest_lite")}
    # Where a method only evaluates, nothing is handed back. DeepLIFT's want a reference, which no other method has, and are
    # held against the paper in `test_deeplift`.
    others = {rules.Evaluated, rules.base.ByStep, rules.lift.Multiplier}
    assert (ours | {rules.Norm}) - others == set(RULES.values())


def test_planted_rule_without_material():
    """A rule of a kind for which there is no material makes the suite fail."""

    @dataclasses.dataclass(frozen=True)
    class Planted(Rule):
        kinds = ("a kind of its own",)

        def reverse(self, call, relevance):
            return relevance

    rules.register_rule(Planted)
    try:
        assert without_material() == {"a kind of its own"}
    finally:
        del RULES["Planted"]


@pytest.mark.parametrize("defect", ["shape", "zeros", "additive", "nothing"])
def test_planted_broken_rules(defect):
    """Each part of the contract catches a rule that breaks it."""

    @dataclasses.dataclass(frozen=True)
    class Broken(Rule):
        def reverse(self, call, relevance):
            x, r = call.inputs[0], relevance[0]
            broken = {"shape": r[:, :1], "zeros": r / x, "additive": r * r, "nothing": r + 1e-3}
            return (broken[defect],)

    check = {"shape": has_shape_and_dtype, "additive": is_additive_in_relevance}.get(defect, is_finite_on_zeros)
    with pytest.raises(AssertionError):
        check(Broken(), form_of("rectifier", 0))


# What the rules compute ----------------------------------------------------------------------------------------------


def test_pattern_with_the_kernel_is_the_gradient():
    cases = [(kind, index) for kind in ("linear", "sum", "average") for index in range(len(MATERIAL[kind]))]
    assert offenders(pattern_with_the_kernel_is_the_gradient, cases) == {}


def pattern_with_the_kernel_is_the_gradient(kind, index):
    form = form_of(kind, index)
    inputs, relevance = inputs_of(form), relevance_of(form, 5)
    outputs, pullback = backend.vjp(form.forward, *inputs)
    expected = pullback((relevance,))
    actual = rules.Pattern().reverse(Call(form, inputs, outputs, None, form.kernel()), (relevance,))
    assert_close(actual, expected, 1e-6)


@pytest.mark.parametrize("index", [0, 1])
def test_inverse_scale_undoes_the_gradient(index):
    form = form_of("scale", index)
    relevance = relevance_of(form, 5)
    (scaled,) = reverse(rules.Gradient(), form, relevance)
    np.testing.assert_allclose(reverse(rules.InverseScale(), form, scaled)[0], relevance, rtol=1e-5)
    assert not np.allclose(scaled, relevance)


def test_inverse_scale_of_zero_is_zero():
    x = keras.Input((3,))
    norm = layers.BatchNormalization(name="node")
    form = forms_of(trace(keras.Model(x, norm(x))))["node"]
    norm.gamma.assign([2.0, 0.0, -1.0])
    norm.epsilon = 0.0
    (handed_on,) = reverse(rules.InverseScale(), form, tf.ones((SAMPLES, 3)))
    np.testing.assert_allclose(handed_on, [[0.5, 0.0, -1.0]] * SAMPLES, rtol=1e-6)


def test_gated_signal():
    form = form_of("product", 0)
    relevance = relevance_of(form, 5)
    signal, gate = inputs_of(form)
    handed_on = reverse(rules.GatedSignal(), form, relevance)
    assert handed_on[1] is None
    np.testing.assert_array_equal(handed_on[0], relevance)
    divided = reverse(rules.GatedSignal(inverse=True), form, relevance)
    np.testing.assert_allclose(divided[0], relevance / gate, rtol=1e-5)
    assert signal.shape != gate.shape


@pytest.mark.parametrize(
    "squash, shape, signal", [(None, (1, 1, 4), 0), ("sigmoid", (4, 4, 4), 0), (None, (4, 4, 4), None)]
)
def test_a_gate_is_what_is_squashed_or_broadcast(squash, shape, signal):
    x, other = keras.Input((4, 4, 4)), keras.Input(shape)
    gate = layers.Activation(squash)(other) if squash else other
    graph = trace(keras.Model([x, other], layers.Multiply(name="node")([x, gate])))
    assert forms_of(graph)["node"].signal == signal


def test_rectifier_rules():
    form = form_of("rectifier", 0)
    x, r = inputs_of(form)[0].numpy(), relevance_of(form, 5).numpy()
    np.testing.assert_array_equal(reverse(rules.Deconvnet(), form, tf.constant(r))[0], np.maximum(r, 0))
    np.testing.assert_array_equal(reverse(rules.GuidedBackprop(), form, tf.constant(r))[0], np.maximum(r, 0) * (x > 0))
    assert np.any((x < 0) & (r > 0)) and np.any((x > 0) & (r < 0))


def test_token_sum():
    form = form_of("embedding", 0)
    r, embedded = relevance_of(form, 5).numpy(), form.forward(*inputs_of(form))[0].numpy()
    np.testing.assert_allclose(reverse(rules.TokenSum(), form, tf.constant(r))[0], r.sum(-1), rtol=1e-5)
    product = reverse(rules.TokenSum(times_input=True), form, tf.constant(r))[0]
    np.testing.assert_allclose(product, (r * embedded).sum(-1), rtol=1e-5)


def test_powers_of_two_are_exact_over_the_whole_range_of_float32():
    values, exponents = np.float32([1.5 * 2.0**-100, 3 * 2.0**100, 0]), tf.constant([200, -200, 5])
    expected = np.float32([1.5 * 2.0**100, 3 * 2.0**-100, 0])
    np.testing.assert_array_equal(backend.scale_by_powers_of_two([tf.constant(values)], exponents)[0], expected)
    np.testing.assert_array_equal(backend.exponents(tf.constant(values)), [-100, 101, 0])


# Which node gets which rule ------------------------------------------------------------------------------------------


def _plan(name):
    return innvest_lite.PatternNet(models.case(name).model, **models.case(name).options).plan()


def bound(name, composite):
    graph = passes.rewrite(trace(models.case(name).model), fuse=True)
    return rules.bind(graph, composite, "Mine")


def test_the_first_match_wins():
    named = lambda form: form.name == "conv1"  # noqa: E731
    composite = [(named, rules.Zero()), (rules.kernel_bearing(), rules.Pattern()), (rules.anything(), rules.Gradient())]
    found = {step.node.name: step.rule for step in bound("conv_bn", composite).steps}
    assert found["conv1"] == rules.Zero()
    assert found["conv2"] == rules.Pattern()
    assert found["pool"] == rules.Gradient()
    reordered = {step.node.name: step.rule for step in bound("conv_bn", composite[1:] + composite[:1]).steps}
    assert reordered["conv1"] == rules.Pattern()


def test_no_match_lists_all_offenders():
    composite = [(rules.kernel_bearing(), rules.Pattern())]
    with pytest.raises(UnsupportedLayerError) as error:
        bound("conv_bn", composite)
    message = str(error.value)
    for expected in ("Mine has no rule for 5", "ReLU: relu1", "MaxPooling2D: pool", "Flatten: flat", "relu2, relu3"):
        assert expected in message
    assert "conv1" not in message
    assert "fallback='gradient'" in message


def test_pattern_methods_list_what_they_cannot_explain():
    model = models.case("opaque").model
    with pytest.raises(UnsupportedLayerError, match="PatternNet has no rule for 1.*") as error:
        innvest_lite.PatternNet(model)
    assert "Closed: closed" in str(error.value)


@pytest.mark.parametrize("method", [innvest_lite.PatternNet, innvest_lite.PatternAttribution])
def test_an_average_over_an_open_size_asks_for_a_fixed_one(method):
    """Its kernel is one over the number of positions, which is open."""
    x = keras.Input((None, None, 3))
    value = layers.GlobalAveragePooling2D(name="gap")(layers.Conv2D(4, 3, name="conv")(x))
    model = keras.Model(x, layers.Dense(2, name="out")(value))
    with pytest.raises(UnsupportedLayerError, match="(?s)GlobalAveragePooling2D: gap\n.*fixed input size"):
        method(model)
    method(model, fallback="gradient")
    with pytest.raises(UnsupportedLayerError) as error:
        method(models.case("opaque").model)
    assert "fixed input size" not in str(error.value)


def test_fallback_is_the_gradient_and_only_where_nothing_else_matches():
    model = models.case("opaque").model
    plan = innvest_lite.PatternNet(model, fallback="gradient").plan()
    found = {step.node.name: step.rule for step in plan.steps}
    known = {
        "norm": rules.InverseScale(),
        **dict.fromkeys(("attention/value", "attention/attention_output", "out"), rules.Pattern()),
    }
    weighed = {"attention/dot_product_attention/einsum#2": rules.ValuePath("coefficient"), "closed": rules.Gradient()}
    assert {name: rule for name, rule in found.items() if rule != rules.Evaluated()} == {**known, **weighed}
    with pytest.raises(InvalidInputError, match="fallback should be None or 'gradient', but is 'zero'"):
        innvest_lite.PatternNet(model, fallback="zero")


def test_the_plan_prints_one_row_a_node():
    plan = _plan("conv_bn")
    lines = str(plan).splitlines()
    assert lines[0].split() == ["node", "layer", "form", "rule"]
    assert len(lines) == 2 + len(plan.steps)
    assert lines[2].split() == ["conv1", "Conv2D", "+", "BatchNormalization", "linear", "Pattern"]


def test_kernel_forms_are_those_with_a_pattern():
    plan = _plan("residual")
    assert [form.name for form in plan.kernel_forms] == [
        step.node.name for step in plan.steps if isinstance(step.form, LinearForm)
    ]
    assert "add" in [form.name for form in plan.kernel_forms]
