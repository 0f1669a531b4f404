"""Shares of this sample: PatternAttribution by x * sign(w) (w a)+, as loops over units and by what `check` accounts for."""

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


def looped(x, weight, product, z, relevance):
    """Unit by unit in float64: contributions x v that have the sign of z share what arrives, v = sign(w) (w a)+.

    Returns:
        The shares, and what arrives where no contribution has that sign.
    """
    shares, lost = np.zeros_like(x), np.zeros_like(relevance)
    for row, unit in np.ndindex(relevance.shape):
        sign = 1 if z[row, unit] >= 0 else -1
        contributions = [
            max(sign * value * np.sign(w) * max(wa, 0), 0)
            for value, w, wa in zip(x[row], weight[:, unit], product[:, unit], strict=True)
        ]
        if not sum(contributions):
            lost[row, unit] = relevance[row, unit]
            continue
        for place, part in enumerate(contributions):
            shares[row, place] += part / sum(contributions) * relevance[row, unit]
    return shares, lost


def by_size(x, v, z, relevance):
    """Unit by unit in float64: x v with the sign of z, divided by the size of all; what is lost where there is none."""
    shares, lost = np.zeros_like(x), np.zeros_like(relevance)
    for row, unit in np.ndindex(relevance.shape):
        contributions = [value * weight for value, weight in zip(x[row], v[:, unit], strict=True)]
        total = sum(map(abs, contributions))
        if not total:
            lost[row, unit] = relevance[row, unit]
            continue
        sign = 1 if z[row, unit] >= 0 else -1
        for place, part in enumerate(contributions):
            shares[row, place] += sign * part / total * relevance[row, unit]
    return shares, lost


def dense_call(x, weight, bias, product, nonnegative=False):
    """The `Call` of a dense layer, and what it puts out, in float64."""
    i = keras.Input((len(weight),))
    model = keras.Model(i, layers.Dense(weight.shape[1])(i))
    model.set_weights([weight, bias])
    (form,) = forms_of(trace(model)).values()
    inputs = (tf.constant(x, tf.float32),)
    outputs, pullback = backend.vjp(form.forward, *inputs)
    call = Call(form, inputs, outputs, pullback, tf.constant(product, tf.float32), nonnegative=nonnegative)
    return call, x @ weight + bias


def odd_numbers(nonnegative=False):
    """Inputs of both signs and of 0; weights that their pattern agrees with, disagrees with, and of 0; a bias each.

    Nothing agrees in unit 1; the biases make units negative whose contributions are positive, and the other way round.
    """
    rng = np.random.default_rng(3)
    x, weight, pattern, arrived = (rng.normal(size=shape) for shape in ((4, 6), (6, 3), (6, 3), (4, 3)))
    x[:, 2], weight[4, 0], pattern[:, 1] = 0, 0, -weight[:, 1]
    x = np.abs(x) if nonnegative else x
    return x, weight, np.array([-2.0, 0.5, 2.0]), weight * pattern, arrived


@pytest.mark.parametrize("nonnegative", [False, True])
def test_inputs_share_by_what_made_the_unit_what_it_is(nonnegative):
    x, weight, bias, product, arrived = odd_numbers(nonnegative)
    call, z = dense_call(x, weight, bias, product, nonnegative)
    assert (z[:, [0, 2]] < 0).any() and (z[:, [0, 2]] > 0).any()
    expected, lost = looped(x, weight, product, z, arrived)
    relevance = (tf.constant(arrived, tf.float32),)
    (found,) = rules.PatternShares().reverse(call, relevance)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    absorbed = rules.PatternShares().absorbed(call, relevance)
    np.testing.assert_allclose(absorbed["epsilon"], lost, rtol=1e-5)
    assert lost[:, 1].all() and not lost[:, 2].all()


def test_behind_a_rectifier_one_pass_is_the_same():
    """Nothing arrives at units that are negative: by the loop, and by the rule that has both passes."""
    x, weight, bias, product, arrived = odd_numbers()
    call, z = dense_call(x, weight, bias, product)
    arrived = arrived * (z > 0)
    relevance = (tf.constant(arrived, tf.float32),)
    expected, lost = looped(x, weight, product, z, arrived)
    for rule in (rules.PatternShares(rectified=True), rules.PatternShares()):
        np.testing.assert_allclose(rule.reverse(call, relevance)[0], expected, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(rule.absorbed(call, relevance)["epsilon"], lost, rtol=1e-5)


def test_one_pass_is_taken_where_only_rectifiers_follow():
    """Not where a sum, a leaky or a hard-swish rectifier or the output sees the value too; BatchNormalization is fused."""
    i = keras.Input((6, 6, 2))
    x = layers.Conv2D(4, 3, padding="same", activation="relu", name="plain")(i)
    x = layers.ReLU(6.0)(layers.BatchNormalization()(layers.Conv2D(4, 3, padding="same", name="fused")(x)))
    x = skip = layers.Conv2D(4, 1, name="summed")(x)
    x = layers.Add()([skip, layers.Conv2D(4, 1, name="addend")(layers.ReLU()(x))])
    x = layers.LeakyReLU()(layers.Conv2D(4, 1, name="leaky")(x))
    x = layers.Activation("hard_swish")(layers.Conv2D(4, 1, name="swish")(x))
    y = layers.Conv2D(3, 1, name="out")(x)
    for outputs in (y, layers.ReLU()(y)):
        plan = innvest_lite.PatternAttribution(keras.Model(i, outputs), shares="sample", chains="split").plan()
        found = {step.node.name: step.rule for step in plan.steps if step.form.kind == "linear"}
        assert found.pop("out") == rules.PatternEvidence()
        assert {name for name, rule in found.items() if rule == rules.PatternShares(rectified=True)} == {"plain", "fused"}
        assert set(found) == {"plain", "fused", "summed", "addend", "leaky", "swish"}


def residual_network():
    x = keras.Input((8, 8, 2))
    y = layers.Conv2D(6, 3, padding="same", activation="relu")(x)
    z = layers.BatchNormalization()(layers.DepthwiseConv2D(3, padding="same")(y))
    y = layers.Add()([y, layers.Conv2D(6, 1)(layers.ReLU(6.0)(z))])
    return models.randomize(keras.Model(x, layers.GlobalAveragePooling2D()(layers.Conv2D(3, 1)(y))), seed=7)


def test_no_map_has_more_in_it_than_it_starts_from():
    model, x = residual_network(), models.normal(60, 8, 8, 2)
    analyzer = innvest_lite.PatternAttribution(model, shares="sample", start="logit").fit(x, verbose=0)
    assert analyzer.check(x[:8]).unexplained.max() < 1e-5
    maps, logits = analyzer.analyze(x[:8]), model.predict(x[:8], verbose=0).max(1)
    assert (np.abs(maps).sum((1, 2, 3)) <= np.abs(logits) * (1 + 1e-4)).all()
    assert np.abs(maps).sum() > 0.5 * np.abs(logits).sum()
    assert not np.any((maps != 0) & (x[:8] == 0))


def test_evidence_is_what_speaks_for_a_unit_and_against_it():
    x, weight, bias, product, arrived = odd_numbers()
    call, z = dense_call(x, weight, bias, product)
    expected, lost = by_size(x, np.sign(weight) * np.maximum(product, 0), z, arrived)
    relevance = (tf.constant(arrived, tf.float32),)
    (found,) = rules.PatternEvidence().reverse(call, relevance)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    absorbed = rules.PatternEvidence().absorbed(call, relevance)
    np.testing.assert_allclose(absorbed["epsilon"], lost, rtol=1e-5)
    accounted = np.sum(absorbed["epsilon"] + absorbed["kernel"], axis=1)
    np.testing.assert_allclose(arrived.sum(1) - expected.sum(1), accounted, rtol=1e-4, atol=1e-5)
    # Of a positive unit, red speaks for it: more of such an input, and the unit is larger.
    for row, unit in np.ndindex(arrived.shape):
        alone = np.zeros_like(arrived)
        alone[row, unit] = z[row, unit]
        (map_of_one,) = rules.PatternEvidence().reverse(call, (tf.constant(alone, tf.float32),))
        assert np.all(np.asarray(map_of_one)[row] * x[row] * weight[:, unit] >= 0)


@pytest.mark.parametrize("join", [layers.Add, layers.Subtract])
def test_addends_share_by_their_size_with_their_signs(join):
    """Values of both signs, a sum of 0 and a sample in which both addends are 0; a pattern that is against an addend."""
    i, j = keras.Input((2,)), keras.Input((2,))
    (form,) = forms_of(trace(keras.Model([i, j], join()([i, j])))).values()
    one, other = np.array([[-1.0, 2.0], [0.0, -3.0]]), np.array([[-3.0, -2.0], [0.0, 1.0]])
    inputs = tf.constant(one, tf.float32), tf.constant(other, tf.float32)
    outputs, pullback = backend.vjp(form.forward, *inputs)
    signs, product = np.array([1, 1 if join is layers.Add else -1]), np.array([[0.5, 0.25], [-0.5, 0.75]])
    call = Call(form, inputs, outputs, pullback, tf.constant(product, tf.float32))
    arrived = np.array([[8.0, 8.0], [5.0, -6.0]])
    relevance, z = (tf.constant(arrived, tf.float32),), np.asarray(outputs[0])
    found = rules.PatternMagnitudes().reverse(call, relevance)
    absorbed = rules.PatternMagnitudes().absorbed(call, relevance)
    left = arrived - sum(map(np.asarray, found))
    for row, unit in np.ndindex(2, 2):
        addends, v = np.array([[one[row, unit], other[row, unit]]]), np.abs(product[:, unit, None]) * signs[:, None]
        expected, lost = by_size(addends, v, z[row, [[unit]]], arrived[row, [[unit]]])
        np.testing.assert_allclose([part[row, unit] for part in found], expected[0], rtol=1e-6)
        np.testing.assert_allclose(absorbed["epsilon"][row, unit], lost[0, 0])
    np.testing.assert_allclose(absorbed["epsilon"] + absorbed["kernel"], left, rtol=1e-6, atol=1e-6)


def test_a_kernel_that_serves_one_position_goes_by_evidence():
    """By the plan: of a convolution as large as its input, of dense layers behind a Flatten, and of the last layer."""
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
    along = keras.Model(open_sizes, layers.Dense(2)(layers.ELU()(layers.Dense(3)(open_sizes))))
    along_plan = innvest_lite.PatternAttribution(along, shares="sample").plan()
    assert [step.rule for step in along_plan.steps if step.form.kind == "linear"] == [
        rules.PatternShares(),
        rules.PatternEvidence(),
    ]


@pytest.mark.parametrize("start", ["contrast", "logit"])
def test_red_speaks_for_the_explained_class_whatever_its_logit(start, caplog):
    """By hand, of a linear network: all weights agree with their patterns, so that the map is the contrast, shared out."""
    rng = np.random.default_rng(5)
    x, weight, bias = rng.normal(size=(40, 5)), rng.normal(size=(5, 3)), np.array([-1.0, 0.5, 1.0])
    i = keras.Input((5,))
    model = keras.Model(i, layers.Dense(3, name="out")(i))
    model.set_weights([weight, bias])
    patterns = {"out": np.float32(np.sign(weight) * rng.uniform(0.5, 1, weight.shape))}
    analyzer = innvest_lite.PatternAttribution(model, patterns=patterns, shares="sample", start=start)
    logits = x @ weight + bias
    contrast = logits - logits.mean(axis=1, keepdims=True) if start == "contrast" else logits
    # All four: a logit and its contrast, each above 0 and below.
    assert {(above, below) for above, below in zip(*(np.sign(z).ravel() for z in (logits, contrast)), strict=True)} >= (
        {(1, 1), (1, -1), (-1, 1), (-1, -1)} if start == "contrast" else {(1, 1), (-1, -1)}
    )
    for target in range(3):
        contributions = x * weight[:, target] * patterns["out"][:, target] * np.sign(weight[:, target])
        shares = contributions / np.abs(contributions).sum(axis=1, keepdims=True)
        expected = shares * np.abs(contrast[:, target, None])
        np.testing.assert_allclose(analyzer.analyze(np.float32(x), target=target), expected, rtol=1e-3, atol=1e-5)
    assert "turned" not in caplog.text


def test_sums_without_a_pattern_are_left_to_what_knows_them():
    """Of a network for segmentation: bilinear upsampling has coefficients, and no pattern."""
    i = keras.Input((8, 8, 2))
    x = skip = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(4, 3, padding="same")(i)))
    x = layers.UpSampling2D(interpolation="bilinear", name="larger")(layers.MaxPooling2D()(x))
    x = layers.Conv2D(3, 1, name="out")(layers.Concatenate()([skip, x]))
    model, data = models.randomize(keras.Model(i, x), seed=4), models.normal(40, 8, 8, 2)
    analyzer = innvest_lite.PatternAttribution(model).fit(data, verbose=0)
    found = {step.node.name: type(step.rule) for step in analyzer.plan().steps if step.form.kind in ("average", "sum")}
    assert found == {"larger": rules.Magnitude}
    assert np.isfinite(analyzer.analyze(data[:2])).all() and analyzer.check(data[:2]).unexplained.max() < 1e-4


def test_nothing_passes_a_closed_rectifier_behind_which_something_is_added():
    """By hand: BatchNormalization makes 1 of a closed unit's 0, and 3 of the open one's 2; of the logit 4, that has all."""
    x = keras.Input((2,))
    y = layers.Dense(2, activation="relu", name="hidden")(x)
    model = keras.Model(x, layers.Dense(2, name="out")(layers.BatchNormalization(epsilon=0.0)(y)))
    scaled = [np.ones(2), np.ones(2), np.zeros(2), np.ones(2)]
    weights = [np.eye(2), [-10, 0], *scaled, [[1, 0], [1, 0]], np.zeros(2)]
    model.set_weights([np.float32(weight) for weight in weights])
    patterns = {"hidden": np.eye(2, dtype="float32"), "out": np.full((2, 2), 0.5, "float32")}
    analyzer = innvest_lite.PatternAttribution(model, patterns=patterns, shares="sample", start="logit", chains="split")
    sample = np.float32([[3, 2]])
    np.testing.assert_allclose(analyzer.analyze(sample), [[0, 4]], rtol=1e-5)
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
        layers.LayerNormalization(),
    ],
)
def test_what_is_beyond_the_papers_networks(more):
    i = keras.Input((6, 6, 4))
    plain = layers.Dropout(0.1)(layers.MaxPooling2D(1)(layers.Conv2D(4, 1, activation="relu")(layers.Rescaling(2.0)(i))))
    assert not Layout.of(keras.Model(i, layers.Dense(2)(layers.Flatten()(plain)))).is_beyond_the_papers
    assert Layout.of(keras.Model(i, more(plain))).is_beyond_the_papers


@pytest.mark.parametrize(
    "units, head, sample",
    [(1, None, True), (1, "sigmoid", False), (3, "sigmoid", False), (3, None, False), (2, "softmax", False)],
)
def test_of_a_single_number_shares_are_those_of_the_sample(units, head, sample):
    """By default, also through a plain network; its values mean something below 0, too."""
    i = keras.Input((6, 6, 4))
    y = layers.Dense(units, activation=head)(layers.Flatten()(layers.Conv2D(4, 1, activation="relu")(i)))
    analyzer = innvest_lite.PatternAttribution(keras.Model(i, y))
    rules_in_use = {type(step.rule).__name__ for step in analyzer.plan().steps}
    assert ("PatternShares" in rules_in_use) == sample
    assert not (sample and analyzer.turns_with_the_logit)


def test_the_shares_are_an_option_that_is_kept(tmp_path):
    model, x = residual_network(), models.normal(60, 8, 8, 2)
    analyzer = innvest_lite.PatternAttribution(model, shares="average").fit(x, verbose=0)
    expected = analyzer.analyze(x[:2])
    assert not np.allclose(expected, innvest_lite.PatternAttribution(model, patterns=analyzer.patterns).analyze(x[:2]))
    analyzer.save(tmp_path / "shares.keras")
    np.testing.assert_array_equal(keras.saving.load_model(tmp_path / "shares.keras").analyze(x[:2]), expected)
