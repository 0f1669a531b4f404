"""Shares of this sample: PatternAttribution by x * w * a, as loops over units and as what `check` accounts for."""

import keras
import models
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from untraced import eager_fits  # noqa: F401  (a fixture)

import innvest_lite
from innvest_lite import backend, rules
from innvest_lite.analyzers.pattern import SHARES
from innvest_lite.forms import forms_of
from innvest_lite.graph import trace
from innvest_lite.patterns.layout import Layout
from innvest_lite.rules import Call

pytestmark = pytest.mark.usefixtures("eager", "eager_fits")


def looped(x, kernel, relevance):
    """R_i = sum_j (x_i v_ij)+ / sum_k (x_k v_kj)+ R_j, in float64, and what arrives where nothing is positive."""
    shares, lost = np.zeros_like(x), 0.0
    for row in range(len(x)):
        for unit in range(kernel.shape[1]):
            positive = [max(value * weight, 0) for value, weight in zip(x[row], kernel[:, unit], strict=True)]
            if not sum(positive):
                lost += relevance[row, unit]
                continue
            for place, part in enumerate(positive):
                shares[row, place] += part / sum(positive) * relevance[row, unit]
    return shares, lost


def test_inputs_share_by_what_they_contribute_for_the_signal():
    """Inputs of both signs and of 0, and a unit with no positive contribution at all."""
    rng = np.random.default_rng(1)
    x, kernel, arrived = rng.normal(size=(4, 6)), rng.normal(size=(6, 3)), rng.normal(size=(4, 3))
    x[:, 2] = 0
    x[0], kernel[:, 1] = np.abs(x[0]), -np.abs(kernel[:, 1])
    expected, lost = looped(x, kernel, arrived)
    assert lost == arrived[0, 1]
    i = keras.Input((6,))
    (form,) = forms_of(trace(keras.Model(i, layers.Dense(3)(i)))).values()
    inputs = (tf.constant(x, tf.float32),)
    outputs, pullback = backend.vjp(form.forward, *inputs)
    call, relevance = (
        Call(form, inputs, outputs, pullback, tf.constant(kernel, tf.float32)),
        tf.constant(arrived, tf.float32),
    )
    (found,) = rules.PatternShares().reverse(call, (relevance,))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    absorbed = rules.PatternShares().absorbed(call, (relevance,))
    np.testing.assert_allclose(np.sum(absorbed["epsilon"]), lost, rtol=1e-5)


def residual_network():
    x = keras.Input((8, 8, 2))
    y = layers.Conv2D(6, 3, padding="same", activation="relu")(x)
    z = layers.BatchNormalization()(layers.DepthwiseConv2D(3, padding="same")(y))
    y = layers.Add()([y, layers.Conv2D(6, 1)(layers.ReLU(6.0)(z))])
    return models.randomize(keras.Model(x, layers.GlobalAveragePooling2D()(layers.Conv2D(3, 1)(y))), seed=7)


def test_nothing_is_lost_but_where_a_unit_has_no_positive_contribution():
    model, x = residual_network(), models.normal(60, 8, 8, 2)
    analyzer = innvest_lite.PatternAttribution(model, shares="sample", start="logit").fit(x, verbose=0)
    report = analyzer.check(x[:8])
    assert report.unexplained.max() < 1e-5
    maps, logits = analyzer.analyze(x[:8]), model.predict(x[:8], verbose=0).max(1)
    # Shares are between 0 and 1: no map has more in it than it starts from.
    assert (np.abs(maps).sum((1, 2, 3)) <= np.abs(logits) * (1 + 1e-4)).all()
    assert np.median(maps.sum((1, 2, 3)) / logits) > 0.99
    assert not np.any((maps != 0) & (x[:8] == 0))


def evidence(x, weight, kernel, relevance):
    """The rule unit by unit: half by (x w)+ |a| where weight and pattern agree, half by |w a| with the sign of x w."""
    shares = np.zeros_like(x)
    for row, unit in np.ndindex(relevance.shape):
        agreeing = [max(kernel[place, unit], 0) for place in range(x.shape[1])]
        pushes = [x[row, place] * np.sign(weight[place, unit]) for place in range(x.shape[1])]
        here = [max(push, 0) * part for push, part in zip(pushes, agreeing, strict=True)]
        for place, push in enumerate(pushes):
            if sum(here):
                shares[row, place] += here[place] / sum(here) * relevance[row, unit] / 2
            if sum(agreeing):
                shares[row, place] += np.sign(push) * agreeing[place] / sum(agreeing) * relevance[row, unit] / 2
    return shares


def test_evidence_is_half_of_this_sample_and_half_on_average():
    """Inputs of both signs and of 0, weights that the pattern agrees with and not, a unit for which nothing speaks."""
    rng = np.random.default_rng(3)
    x, weight, pattern, arrived = (rng.normal(size=shape) for shape in ((4, 6), (6, 3), (6, 3), (4, 3)))
    x[:, 2], weight[4, 0] = 0, 0
    pattern[:, 1] = 0
    pattern[:, 2] = -weight[:, 2]
    i = keras.Input((6,))
    model = keras.Model(i, layers.Dense(3, use_bias=False)(i))
    model.set_weights([weight])
    (form,) = forms_of(trace(model)).values()
    inputs, relevance = (tf.constant(x, tf.float32),), (tf.constant(arrived, tf.float32),)
    outputs, pullback = backend.vjp(form.forward, *inputs)
    call = Call(form, inputs, outputs, pullback, tf.constant(weight * pattern, tf.float32))
    (found,) = rules.PatternEvidence().reverse(call, relevance)
    np.testing.assert_allclose(found, evidence(x, weight, weight * pattern, arrived), rtol=1e-4, atol=1e-6)
    lost = rules.PatternEvidence().absorbed(call, relevance)
    accounted = sum(np.sum(tensor, axis=1) for tensor in lost.values())
    np.testing.assert_allclose(arrived.sum(1) - np.sum(found, axis=1), accounted, rtol=1e-4, atol=1e-5)


def test_a_sum_of_nothing_positive_is_shared_by_magnitudes():
    """By hand: two addends, a pattern each, values of both signs and a sample in which both are 0."""
    i, j = keras.Input((2,)), keras.Input((2,))
    (form,) = forms_of(trace(keras.Model([i, j], layers.Add()([i, j])))).values()
    inputs = tf.constant([[-1.0, 2.0], [0.0, -3.0]]), tf.constant([[-3.0, -2.0], [0.0, 1.0]])
    outputs, pullback = backend.vjp(form.forward, *inputs)
    call = Call(form, inputs, outputs, pullback, tf.constant([[0.5, 0.25], [0.5, 0.75]]))
    relevance = (tf.constant([[8.0, 8.0], [5.0, -6.0]]),)
    one, other = rules.PatternMagnitudes().reverse(call, relevance)
    np.testing.assert_allclose(one, [[2.0, 2.0], [0.0, -3.0]], rtol=1e-6)
    np.testing.assert_allclose(other, [[6.0, 6.0], [0.0, -3.0]], rtol=1e-6)
    np.testing.assert_allclose(rules.PatternMagnitudes().absorbed(call, relevance)["epsilon"], [[0, 0], [5, 0]])


def test_a_kernel_that_serves_one_position_goes_by_evidence():
    """By the plan: of a convolution as large as its input and of dense layers behind a Flatten, not along a sequence."""
    i = keras.Input((4, 4, 2))
    x = layers.ReLU(name="a")(layers.Conv2D(3, 3, padding="same", name="sliding")(i))
    x = layers.ReLU(name="b")(layers.Dense(4, name="along")(x))
    x = layers.ReLU(name="c")(layers.Conv2D(5, 4, name="whole")(x))
    x = layers.Dense(2, name="out")(layers.Flatten()(x))
    plan = innvest_lite.PatternAttribution(keras.Model(i, x), shares="sample", chains="split").plan()
    found = {step.node.name: type(step.rule) for step in plan.steps if step.form.kind == "linear"}
    whole = dict.fromkeys(("whole", "out"), rules.PatternEvidence)
    assert found == {**dict.fromkeys(("sliding", "along"), rules.PatternShares), **whole}
    open_sizes = keras.Input((None, 4))
    along = keras.Model(open_sizes, layers.Dense(2)(open_sizes))
    (step,) = innvest_lite.PatternAttribution(along, shares="sample").plan().steps
    assert step.rule == rules.PatternShares()


def test_sums_without_a_pattern_are_left_to_what_knows_them():
    """Of a network for segmentation: bilinear upsampling has coefficients, and no pattern."""
    i = keras.Input((8, 8, 2))
    x = skip = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(4, 3, padding="same")(i)))
    x = layers.UpSampling2D(interpolation="bilinear", name="larger")(layers.MaxPooling2D()(x))
    x = layers.Conv2D(3, 1, name="out")(layers.Concatenate()([skip, x]))
    model, data = models.randomize(keras.Model(i, x), seed=4), models.normal(40, 8, 8, 2)
    analyzer = innvest_lite.PatternAttribution(model).fit(data, verbose=0)
    found = {step.node.name: type(step.rule) for step in analyzer.plan().steps if step.form.kind in ("average", "sum")}
    assert found == {"larger": rules.Coefficients}
    assert np.isfinite(analyzer.analyze(data[:2])).all() and analyzer.check(data[:2]).unexplained.max() < 1e-4


def test_nothing_passes_a_closed_rectifier_behind_which_something_is_added():
    """By hand: BatchNormalization makes 1 of a closed unit's 0, which so has a share of the logit; the unit has none."""
    x = keras.Input((2,))
    y = layers.Dense(2, activation="relu", name="hidden")(x)
    model = keras.Model(x, layers.Dense(2, name="out")(layers.BatchNormalization(epsilon=0.0)(y)))
    scaled = [np.ones(2), np.ones(2), np.zeros(2), np.ones(2)]
    weights = [np.eye(2), [-10, 0], *scaled, [[1, 0], [1, 0]], np.zeros(2)]
    model.set_weights([np.float32(weight) for weight in weights])
    patterns = {"hidden": np.eye(2, dtype="float32"), "out": np.full((2, 2), 0.5, "float32")}
    analyzer = innvest_lite.PatternAttribution(model, patterns=patterns, shares="sample", start="logit", chains="split")
    sample = np.float32([[3, 2]])
    # Of the logit, 0 + 1 and 2 + 1, half goes by this sample, 1 to 3, and half on average, 1 to 1.
    np.testing.assert_allclose(analyzer.analyze(sample), [[0, 4 * (3 / 4 + 1 / 2) / 2]], rtol=1e-5)
    checked = analyzer.check(sample)
    np.testing.assert_allclose(checked.unexplained, 0, atol=1e-5)


@pytest.mark.parametrize("beyond", [False, True])
def test_by_default_networks_like_the_papers_have_average_shares(beyond, tmp_path):
    """Also one that was saved before there was the choice, whatever it has."""
    i = keras.Input((6, 6, 2))
    x = layers.Conv2D(4, 3, use_bias=not beyond)(i)
    x = layers.BatchNormalization()(x) if beyond else x
    x = layers.GlobalAveragePooling2D()(layers.MaxPooling2D()(layers.ReLU()(x)))
    model, data = models.randomize(keras.Model(i, layers.Dense(3)(x)), seed=2), models.normal(30, 6, 6, 2)
    usual = innvest_lite.PatternAttribution(model).fit(data, verbose=0)
    named = {shares: innvest_lite.PatternAttribution(model, shares=shares, patterns=usual.patterns) for shares in SHARES}
    maps = {shares: analyzer.analyze(data[:3]) for shares, analyzer in named.items()}
    assert not np.allclose(maps["average"], maps["sample"])
    np.testing.assert_array_equal(usual.analyze(data[:3]), maps["sample" if beyond else "average"])
    older = usual.get_config()
    del older["shares"]
    assert innvest_lite.PatternAttribution.from_config({**older, "fitted": None}).shares == "average"


@pytest.mark.parametrize(
    "more",
    [
        lambda x: layers.Add()([x, x]),
        lambda x: layers.Multiply()([x, layers.Conv2D(4, 1, activation="sigmoid")(x)]),
        layers.DepthwiseConv2D(3),
        layers.SeparableConv2D(4, 3),
        layers.Conv2D(4, 3, groups=2),
        layers.BatchNormalization(),
    ],
)
def test_what_is_beyond_the_papers_networks(more):
    i = keras.Input((6, 6, 4))
    plain = layers.Dropout(0.1)(layers.MaxPooling2D(1)(layers.Conv2D(4, 1, activation="relu")(layers.Rescaling(2.0)(i))))
    assert not Layout.of(keras.Model(i, layers.Dense(2)(layers.Flatten()(plain)))).is_beyond_the_papers
    assert Layout.of(keras.Model(i, more(plain))).is_beyond_the_papers


def test_the_shares_are_an_option_that_is_kept(tmp_path):
    model, x = residual_network(), models.normal(60, 8, 8, 2)
    analyzer = innvest_lite.PatternAttribution(model, shares="average").fit(x, verbose=0)
    expected = analyzer.analyze(x[:2])
    assert not np.allclose(expected, innvest_lite.PatternAttribution(model, patterns=analyzer.patterns).analyze(x[:2]))
    analyzer.save(tmp_path / "shares.keras")
    np.testing.assert_array_equal(keras.saving.load_model(tmp_path / "shares.keras").analyze(x[:2]), expected)
