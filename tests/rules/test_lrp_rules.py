"""Each rule of LRP on each linear form, against the slow replicas on the dense matrix of the layer."""

import dataclasses
from functools import cache
from typing import NamedTuple

import keras
import linear_layers
import lrp_replicas as replicas
import models
import numpy as np
import pytest
import tensorflow as tf
from comparing import FLOAT64, assert_close, offenders
from keras import layers

from innvest_lite import backend, rules
from innvest_lite.forms import forms_of
from innvest_lite.graph import passes, trace
from innvest_lite.rules import AlphaBeta, Box, Call, Epsilon, Flat, Gamma, WSquare, Zero, ZPlus

# float32, where alpha-beta's z- is a difference of float32 sums; relative to the sample's largest relevance.
IN_FLOAT32 = 5e-4

# That these are as linear as the others is shown in the tests of forms; a rule asks no more of them.
ALIKE = ("einsum permuted", "einsum permuted flat bias", "einsum three units", "conv2d 1x1", "conv2d 1x1 strides")
ALIKE += ("dense bare", "conv2d bare", "conv3d 1x1 stride")
LAYERS = {name: linear_layers.LAYERS[name] for name in linear_layers.WEIGHTED if name not in ALIKE}
LAYERS.update(linear_layers.SEPARABLE)
# Which of them are also tried with a BatchNormalization behind, which is fused into them, and with the channels first.
NORMALIZED = ("dense", "conv1d", "conv2d same", "transposed2d same", "depthwise2d", "separable2d")
FIRST = (*NORMALIZED[2:], "conv1d", "conv1d causal", "conv2d", "conv2d 1x1 stride", "conv3d")
# And without a bias: of each way in which a kernel is applied, one.
BARE = ("dense", "einsum", "conv1d", "conv2d same", "conv3d", "transposed2d", "depthwise2d", "separable2d")


class Key(NamedTuple):
    """One of `LAYERS`, and whether it is normalized and has the channels first."""

    name: str
    normalized: bool = False
    first: bool = False

    def __str__(self):
        return self.name + ", batchnorm" * self.normalized + ", channels first" * self.first


KEYS = (
    *(Key(name) for name in LAYERS if name not in linear_layers.GROUPED),
    *(Key(name, normalized=True) for name in NORMALIZED),
    *(Key(name, first=True) for name in FIRST),
    *(Key(name, normalized=True, first=True) for name in NORMALIZED[4:]),
)
RULES = (
    *(Zero(), Zero(bias=False), Epsilon(0.1), Epsilon(1e-7), Epsilon(0.1, bias=False)),
    *(Epsilon(0.1, bias_factor=0.7), Epsilon(0.1, bias=False, bias_factor=1.0)),
    *(Gamma(), Gamma(0.0), Gamma(3.0, bias=False), ZPlus(), ZPlus(fast=True)),
    AlphaBeta(1.0, 0.0),
    # With alpha 2 and beta 1 one would not see that beta stands where its square belongs.
    *(AlphaBeta(1.5, 0.5, bias) for bias in ("split", "shared", "ignore")),
    *(WSquare(), Flat(), Box(-4, 5), Box((-4.0, -4.5, -5.0, -5.5, -6.0), (6.0, 5.0, 5.5, 4.5, 7.0))),
)


@dataclasses.dataclass(frozen=True)
class Subject:
    """A form, and its layer as a dense matrix.

    Attributes:
        form: the form under test.
        linear: a `replicas.Map` of the same weights, the channels last.
        first: whether the form has its channels first.
    """

    form: object
    linear: replicas.Map
    first: bool


@cache
def subject(key, bias=True, dtype="float64"):
    factory, (shape,) = LAYERS[key.name]
    bare = {"bias_axes": None} if factory.func is layers.EinsumDense else {"use_bias": False}
    options = {} if bias else bare
    order = {"data_format": "channels_first"} if key.first else {}
    chain, twins = [factory(name="node", dtype=dtype, **options, **order)], [factory(dtype="float64", **options)]
    if key.normalized:
        chain.append(layers.BatchNormalization(1 if key.first else -1, epsilon=0.01, dtype=dtype))
        twins.append(layers.BatchNormalization(epsilon=0.01, dtype="float64"))
    model = keras.Sequential([keras.Input((shape[-1], *shape[:-1]) if key.first else shape, dtype=dtype), *chain])
    models.randomize(model, seed=5)
    keras.Sequential([keras.Input(shape, dtype="float64"), *twins])  # builds them
    for layer, twin in zip(chain, twins, strict=True):
        twin.set_weights(layer.get_weights())
    form = forms_of(passes.rewrite(trace(model), fuse=True))["node"]
    assert form.kind == "linear" and (form.node.batchnorm is not None) == key.normalized
    return Subject(form, replicas.linear_map(twins, shape), key.first)


def samples_of(linear, seed=3):
    """Six samples, the last three not negative, the last all zeros, and a relevance of both signs."""
    rng = np.random.default_rng(seed)
    x = rng.normal(0.2, 1, (6, *linear.input_shape)) * rng.choice([0, 1, 1, 1], (6, *linear.input_shape))
    x[3:] = np.abs(x[3:])
    x[5] = 0
    # Numbers that float32 can hold, so that the replica sees what the rule sees.
    return x.astype("float32"), rng.normal(size=(6, *linear.output_shape)).astype("float32")


def fitting(rule, subject):
    """The rule; of one with a bound per channel, as many bounds as there are channels."""
    channels = subject.linear.input_shape[-1]
    if isinstance(rule, Epsilon) and subject.form.node.input_specs[0].dtype == "float64":
        # Of a Python float, see `test_epsilon_in_float64`.
        return dataclasses.replace(rule, epsilon=np.float64(rule.epsilon))
    return Box(rule.low[:channels], rule.high[:channels]) if isinstance(getattr(rule, "low", 0), tuple) else rule


def reverse(several, subject, x, relevance, nonnegative=False):
    """What each of several rules of the library gives, the channels last."""
    dtype = subject.form.node.input_specs[0].dtype

    def explain(x, relevance):
        calls = [(rule, *backend.vjp(subject.form.forward, x)) for rule in several]
        calls = [(rule, Call(subject.form, (x,), outputs, back, None, nonnegative)) for rule, outputs, back in calls]
        return [rule.reverse(call, (relevance,))[0] for rule, call in calls]

    # Keras compiles each call of a grouped convolution; compiled as a whole it is one compilation.
    grouped = getattr(subject.form.node.operation, "groups", 1) > 1
    explain = tf.function(explain, jit_compile=True, autograph=False) if grouped else explain
    arrays = (np.moveaxis(a, -1, 1) if subject.first else a for a in (x, relevance))
    handed_on = explain(*(tf.constant(array, dtype) for array in arrays))
    assert {tensor.dtype for tensor in handed_on} == {tf.as_dtype(dtype)}
    return [np.moveaxis(tensor, 1, -1) if subject.first else tensor.numpy() for tensor in handed_on]


def differing(several, subject, linear=None, tolerance=replicas.TOLERANCE):
    """The rules that differ from the replica on a form, and how: `linear` is what the replica has for the form's map."""
    linear, fitted = linear or subject.linear, [fitting(rule, subject) for rule in several]
    x, relevance = samples_of(linear)
    found = dict(zip(map(str, several), zip(fitted, reverse(fitted, subject, x, relevance), strict=True), strict=True))

    def compare(name):
        rule, actual = found[name]
        expected = replicas.relevance(type(rule).__name__, vars(rule), linear, x, relevance)
        assert_close(actual, expected, tolerance, per_sample=True)

    return offenders(compare, found)


def assert_rules(several, subject, tolerance=replicas.TOLERANCE):
    """The one check of rules on a form; all that differ are listed."""
    assert differing(several, subject, tolerance=tolerance) == {}


# The forms whose products tests/forms compares one by one differ to a rule in nothing that these would not show.
_SHOWN = (
    *("dense", "einsum batch letter", "einsum free letter", "conv1d causal", "conv2d same", "conv2d strides", "conv3d"),
    *("depthwise2d multiplier", "separable2d", "transposed2d same", "conv2d 1x1 stride", "dense, batchnorm"),
    *("conv2d same, batchnorm", "transposed2d same, batchnorm"),
)


@pytest.mark.parametrize(
    "key", [key if str(key) in _SHOWN else pytest.param(key, marks=pytest.mark.slow) for key in KEYS], ids=str
)
def test_every_rule_on_a_form(key):
    assert_rules(RULES, subject(key))


def test_the_shown_forms_are_there():
    assert set(_SHOWN) <= set(map(str, KEYS))


@pytest.mark.slow
@pytest.mark.parametrize("name", linear_layers.GROUPED)
def test_every_rule_on_a_grouped_convolution(name):
    assert_rules(RULES, subject(Key(name)))


def test_some_rules_on_a_grouped_convolution():
    """The quick part of the test above, which XLA compiles for half a minute."""
    assert_rules([Epsilon(0.1), Flat()], subject(Key("conv1d groups")))


@pytest.mark.slow
@pytest.mark.parametrize("name", BARE)
def test_every_rule_on_a_form_without_bias(name):
    assert_rules(RULES, subject(Key(name), bias=False))


@pytest.mark.slow
@pytest.mark.parametrize("key", [Key("dense"), Key("conv2d same"), Key("depthwise2d", True), Key("separable1d")], ids=str)
def test_knowing_that_no_input_is_negative_changes_nothing(key):
    """Half of gamma, z+ and alpha-beta is left out there."""
    one = subject(key)
    x, relevance = (array[3:] for array in samples_of(one.linear))
    several = [fitting(rule, one) for rule in RULES]
    known, unknown = (reverse(several, one, x, relevance, nonnegative) for nonnegative in (True, False))
    pairs = {str(rule): pair for rule, *pair in zip(several, known, unknown, strict=True)}
    assert offenders(lambda rule: assert_close(*pairs[rule], FLOAT64, per_sample=True), pairs) == {}


@pytest.mark.parametrize("key", [Key("dense"), *(Key(name, True) for name in NORMALIZED[2:5]), Key("einsum")], ids=str)
def test_every_rule_in_float32(key):
    assert_rules(RULES, subject(key, dtype="float32"), tolerance=IN_FLOAT32)


# Are the tests themselves any good? -----------------------------------------------------------------------------------


def with_a_defect(linear, x, relevance):
    """The map with one entry too large by a thousandth, the one through which most relevance flows."""
    flat, arrived = np.maximum(x, 0).reshape(len(x), -1), np.abs(relevance).reshape(len(x), -1)
    flow = np.einsum("ni,ij,nj->ij", flat, np.maximum(linear.matrix, 0), arrived)
    entry = np.unravel_index(np.argmax(flow), flow.shape)
    matrix, sight = linear.matrix.copy(), linear.sight.copy()
    matrix[entry] *= 1.001
    sight[entry] *= 1.001
    return dataclasses.replace(linear, matrix=matrix, sight=sight)


@pytest.mark.parametrize("key", [Key("dense"), Key("conv2d same"), Key("separable2d", True)], ids=str)
def test_a_planted_thousandth_is_found(key):
    """For every rule; without the defect nothing is found, as the tests above show."""
    one = subject(key)
    assert set(differing(RULES, one, with_a_defect(one.linear, *samples_of(one.linear)))) == set(map(str, RULES))


def test_a_planted_dropped_bias_is_found():
    """By the rules that know of a bias."""
    one = subject(Key("conv2d same"))
    without = dataclasses.replace(one.linear, bias=np.zeros_like(one.linear.bias))
    knowing = {str(rule) for rule in RULES if getattr(rule, "bias", False) not in (False, "ignore")}
    assert set(differing(RULES, one, without)) == knowing


def test_every_rule_for_linear_nodes_has_a_replica():
    linear = {name for name, rule in rules.RULES.items() if issubclass(rule, rules.lrp.LinearRule)}
    assert linear == set(replicas.SHARES) == {type(rule).__name__ for rule in RULES}
    options = {name: {field.name for field in dataclasses.fields(rules.RULES[name])} for name in linear}
    assert options["AlphaBeta"] == {"alpha", "beta", "bias"}


# By hand --------------------------------------------------------------------------------------------------------------


def by_hand(rule, kernel, bias, x, dtype="float32"):
    """The relevance of the inputs of a dense layer of one unit, to which a relevance of 1 arrives."""
    layer = layers.Dense(1, name="node", dtype=dtype)
    graph = trace(keras.Sequential([keras.Input((len(kernel),), dtype=dtype), layer]))
    layer.set_weights([np.reshape(kernel, (-1, 1)), np.reshape(bias, (1,))])
    (_, form), x = *forms_of(graph).items(), tf.constant([x], dtype)
    outputs, pullback = backend.vjp(form.forward, x)
    return rule.reverse(Call(form, (x,), outputs, pullback), (tf.ones((1, 1), dtype),))[0][0].numpy()


@pytest.mark.parametrize(
    "rule, relevance",
    [
        (Zero(), [0.4, -0.6]),
        (Zero(bias=False), [-2, 3]),
        (Epsilon(5.0), [0.2, -0.3]),
        (Gamma(1.0), [4 / 13, -3 / 13]),
        (ZPlus(), [1, 0]),
        (AlphaBeta(2.0, 1.0), [0.5, -1]),
        (AlphaBeta(2.0, 1.0, "shared"), [0.5, 1]),
        (AlphaBeta(2.0, 1.0, "ignore"), [2, -1]),
        (WSquare(), [4 / 13, 9 / 13]),
        (Flat(), [0.5, 0.5]),
        (Box(0, 3), [0.25, 0.75]),
    ],
    ids=str,
)
def test_by_hand(rule, relevance):
    """Two inputs of 1 through weights of 2 and -3, and a bias of 6: z is 5."""
    np.testing.assert_allclose(by_hand(rule, [2, -3], 6, [1, 1]), relevance, rtol=1e-6)


@pytest.mark.parametrize("rule", [Epsilon(5.0), Epsilon(5.0, bias=False)], ids=str)
def test_epsilon_in_float64(rule):
    expected = by_hand(rule, [2, -3], 6, [1, 1], "float32")
    np.testing.assert_allclose(by_hand(rule, [2, -3], 6, [1, 1], "float64"), expected, rtol=1e-6)


def test_a_denominator_of_zero():
    """LRP-0 hands nothing on; the sign of 0 is 1 to epsilon."""
    np.testing.assert_array_equal(by_hand(Zero(), [1, -1], 0, [1, 1]), [0, 0])
    np.testing.assert_array_equal(by_hand(Epsilon(0.5), [1, -1], 0, [1, 1]), [2, -2])
    np.testing.assert_array_equal(by_hand(AlphaBeta(), [1, 1], 0, [1, 1]), [1, 1])
    np.testing.assert_array_equal(by_hand(AlphaBeta(), [-1, -1], 0, [1, 1]), [-0.5, -0.5])
    np.testing.assert_array_equal(by_hand(ZPlus(), [-1, -1], 0, [1, 1]), [0, 0])
    np.testing.assert_array_equal(by_hand(WSquare(), [0, 0], 0, [1, 1]), [0, 0])


@pytest.mark.parametrize("bias, speaks_for, speaks_against", [(1, 1e-3, 1e-8), (100, 1e-3, 4e-6), (0, 1, 1.4e-6)])
def test_alpha_beta_hands_on_minus_beta_in_float32(bias, speaks_for, speaks_against):
    """One input speaks against the unit, little but alone: it gets -beta, whatever else the unit's value is made of."""
    against = by_hand(AlphaBeta(2.0, 1.0), [1, -1], bias, [speaks_for, speaks_against])[1]
    np.testing.assert_allclose(against, -1, rtol=1e-3)


def test_options_may_be_integers():
    for rule, same in (
        (Epsilon(1), Epsilon(1.0)),
        (Gamma(1), Gamma(1.0)),
        (AlphaBeta(2, 1), AlphaBeta(2.0, 1.0)),
        (Box(0, 3), Box(0.0, 3.0)),
    ):
        np.testing.assert_array_equal(by_hand(rule, [2, -3], 6, [1, 1]), by_hand(same, [2, -3], 6, [1, 1]), str(rule))
