"""The choices of a fit beyond the paper's networks: estimators by kind of layer, separable convolutions, sums, reports."""

import csv
import io

import keras
import models
import numpy as np
import pytest
import replicas
from fits import assert_same, statistics
from keras import layers
from models import assert_close

import innvest_lite
from innvest_lite import PatternAttribution, PatternNet
from innvest_lite.errors import InvalidInputError, PatternMismatchError

# Each program sees a few batches and is gone.
pytestmark = pytest.mark.usefixtures("eager", "eager_fits")


def mixed():
    """A layer of each kind that a choice tells apart, and a separable convolution."""
    x = keras.Input((8, 8, 2), name="x")
    value = layers.Conv2D(4, 3, padding="same", activation="relu", name="conv")(x)
    value = layers.AveragePooling2D(2, name="average")(value)
    branch = layers.SeparableConv2D(4, 3, padding="same", depth_multiplier=2, activation="relu", name="separable")(value)
    value = layers.ReLU(name="rectified")(layers.Add(name="sum")([value, branch]))
    return models.randomize(keras.Model(x, layers.Dense(3, name="out")(layers.Flatten()(value))), seed=41)


def images(samples=48):
    return models.normal(samples, 8, 8, 2, seed=42)


@pytest.fixture(scope="module")
def split():
    return statistics(images(), mixed())


@pytest.fixture(scope="module")
def joint():
    return statistics(images(), mixed(), separable="joint")


# Estimators by kind --------------------------------------------------------------------------------------------------
KINDS = {
    "conv": "rectified",
    "average": "average",
    "separable/depthwise": "unrectified",
    "separable/pointwise": "rectified",
    "sum": "sum",
    "out": "output",
}
DEFAULT = "relu.rectified"
# Written out: a rectifier decides which values pass; elsewhere values of both signs pass.
WORD_OF = {"rectified": "relu.safe", "output": "linear", "unrectified": "linear", "sum": "linear", "average": "linear"}


def test_kinds(split):
    assert {name: facts.kind for name, facts in split.facts.items()} == KINDS


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["rectified", "average", "sum", "unrectified", "output"])
@pytest.mark.parametrize("word", ["relu", "relu.safe", "linear", "filter", "relu.negative"])
def test_an_estimator_for_a_kind(split, kind, word):
    chosen = split.patterns(estimator={kind: word})
    for name, own in KINDS.items():
        expected = word if own == kind else WORD_OF[own]
        np.testing.assert_array_equal(chosen[name], split.patterns(estimator=expected)[name])
        assert chosen.reports[name].estimator == expected
    fitted = innvest_lite.fit_patterns(mixed(), images(), {kind: word}, batch_size=8, verbose=0)
    assert fitted.estimator == {kind: word}
    assert_same(fitted, chosen)


def test_the_default(split):
    fitted = innvest_lite.fit_patterns(mixed(), images(), batch_size=8, verbose=0)
    assert fitted.estimator == DEFAULT == PatternNet(mixed()).estimator
    assert {name: report.estimator for name, report in fitted.reports.items()} == {n: WORD_OF[k] for n, k in KINDS.items()}
    assert_same(fitted, split.patterns())
    # The word "relu" is the paper's a+ everywhere.
    everywhere = innvest_lite.fit_patterns(mixed(), images(), "relu", batch_size=8, verbose=0)
    assert {report.estimator for report in everywhere.reports.values()} == {"relu"}


def test_choices_are_kept(split, tmp_path):
    choice = {"sum": "filter"}
    patterns = split.patterns(estimator=choice)
    patterns.save(tmp_path / "p.h5")
    loaded = innvest_lite.Patterns.load(tmp_path / "p.h5")
    assert loaded.estimator == choice
    analyzer = PatternAttribution(mixed(), estimator=choice).fit(images(), batch_size=8, verbose=0)
    analyzer.save(tmp_path / "a.keras")
    again = keras.saving.load_model(tmp_path / "a.keras")
    assert again.estimator == choice and again.patterns.estimator == choice
    assert_same(again.patterns, patterns)


@pytest.mark.parametrize(
    "estimator, message",
    [
        ({"dense": "relu"}, "the kinds are .*not 'dense'"),
        ({"sum": "mean"}, r"estimator\['sum'\] should be one of"),
        ({"sum": None}, r"estimator\['sum'\] should be one of"),
        ("mean", "estimator should be one of"),
        (np.arange(600), r"but is an array of shape \(600,\)\.$"),
        (None, "estimator should be one of"),
    ],
)
def test_unknown_choices(estimator, message):
    with pytest.raises(InvalidInputError, match=message):
        innvest_lite.fit_patterns(mixed(), images(), estimator)
    with pytest.raises(InvalidInputError, match=message):
        PatternNet(mixed(), estimator=estimator)


# Separable convolutions ----------------------------------------------------------------------------------------------
@pytest.mark.slow
@pytest.mark.parametrize("estimator", ["linear", "relu"])
def test_a_joint_separable_convolution_is_the_convolution_that_it_makes(joint, estimator):
    """Against the replica on a plain convolution with the joint kernel."""
    model = mixed()
    layer = model.get_layer("separable")
    depthwise, pointwise = (np.asarray(w, "float64") for w in (layer.depthwise_kernel, layer.pointwise_kernel))
    kernel = np.einsum("abcm,cmu->abcu", depthwise, pointwise.reshape(4, 2, 4))
    plain = layers.Conv2D(4, 3, padding="same", activation="relu")
    values = keras.Model(model.input, model.get_layer("average").output).predict(images(), verbose=0)
    plain.build(values.shape)
    plain.set_weights([kernel, layer.bias])
    expected = replicas.layer_pattern(plain, values.astype("float64"), estimator)
    replicas.assert_same_pattern(joint.patterns(estimator=estimator)["separable"], expected, 1e-4)


@pytest.mark.slow
def test_analyzers_follow_their_patterns(split, joint, tmp_path):
    for gathered, names in ((split, {"separable/depthwise", "separable/pointwise"}), (joint, {"separable"})):
        patterns = gathered.patterns()
        patterns.save(tmp_path / "p.h5")
        analyzer = PatternAttribution(mixed(), patterns=innvest_lite.Patterns.load(tmp_path / "p.h5"))
        assert analyzer.separable == gathered.settings["separable"]
        assert {step.node.name for step in analyzer.plan().steps} >= names
        fitted = PatternAttribution(mixed(), separable=analyzer.separable).fit(images(), batch_size=8, verbose=0)
        assert_same(fitted.patterns, patterns)
        analyzer.save(tmp_path / "a.keras")
        again = keras.saving.load_model(tmp_path / "a.keras")
        np.testing.assert_array_equal(again.analyze(images(4)), analyzer.analyze(images(4)))
        assert again.patterns.settings == patterns.settings
    with pytest.raises(PatternMismatchError, match="separable/depthwise: missing"):
        PatternNet(mixed(), patterns=joint.patterns(), separable="split")


def test_statistics_of_other_choices_do_not_mix(split, joint, tmp_path):
    with pytest.raises(PatternMismatchError):
        split.merge(joint)
    own = statistics(images(), mixed(), regime="own", steps=1, checkpoint=tmp_path / "own.h5")
    with pytest.raises(PatternMismatchError, match="regime='rectifier'.* cannot be merged|different ways"):
        split.merge(own)
    with pytest.raises(PatternMismatchError, match="regime='own'.*there, but regime='rectifier'"):
        statistics(images(), mixed(), checkpoint=tmp_path / "own.h5")
    for option in ("regime", "separable"):
        with pytest.raises(InvalidInputError, match=f"{option} should be one of"):
            statistics(images(), mixed(), **{option: "other"})


# Sums ----------------------------------------------------------------------------------------------------------------
def test_a_sum_hands_on_what_it_received(split):
    report = PatternAttribution(mixed(), shares="average", patterns=split.patterns()).check(images(8))
    row = next(row for row in report.rows if row.node == "sum")
    assert np.abs(row.arrived).max() > 0
    np.testing.assert_allclose(row.handed_on, row.arrived, rtol=1e-5)


def test_without_merge_patterns_a_sum_hands_all_to_each(split):
    analyzer = PatternAttribution(mixed(), shares="average", patterns=split.patterns(), merge_patterns=False)
    assert "sum" not in analyzer.patterns and "average" in analyzer.patterns
    row = next(row for row in analyzer.check(images(8)).rows if row.node == "sum")
    np.testing.assert_allclose(row.handed_on, 2 * row.arrived, rtol=1e-5)
    # Equal shares are half of what the gradient hands on, here at the only sum.
    halves = PatternAttribution(mixed(), shares="average", patterns=split.patterns(estimator={"sum": "filter"}))
    _, at_sum = halves.analyze(images(8), keep=["average"])
    _, gradient = analyzer.analyze(images(8), keep=["average"])
    assert_close(2 * at_sum["average"], gradient["average"], 1e-5)


def test_merge_patterns_is_kept_and_checked(split, tmp_path):
    analyzer = PatternNet(mixed(), patterns=split.patterns(), merge_patterns=False)
    analyzer.save(tmp_path / "a.keras")
    again = keras.saving.load_model(tmp_path / "a.keras")
    assert again.merge_patterns is False
    np.testing.assert_array_equal(again.analyze(images(4)), analyzer.analyze(images(4)))
    with pytest.raises(InvalidInputError, match="merge_patterns should be True or False"):
        PatternNet(mixed(), merge_patterns="no")


# Reports -------------------------------------------------------------------------------------------------------------
def test_the_report_says_what_the_paper_does_not_cover(subtests):
    x = keras.Input((5,), name="x")
    rectifiers = {"layer": layers.LeakyReLU(), **{name: layers.Activation(name) for name in ("relu", "silu", "relu6")}}
    branches = [rectifier(layers.Dense(4, name=name)(x)) for name, rectifier in rectifiers.items()]
    model = models.randomize(keras.Model(x, layers.Dense(2, name="out")(layers.Concatenate()(branches))), seed=43)
    patterns = statistics(models.normal(30, 5, seed=44), model).patterns()
    notes = {"relu": "", "silu": "silu", "relu6": "relu6", "layer": "leaky_relu", "out": ""}
    for name, activation in notes.items():
        note = activation and f"{activation}: the paper covers ReLU only"
        with subtests.test(name):
            assert patterns.reports[name].note == note and note in str(patterns.report())


def test_the_report_as_csv(split, tmp_path):
    report = split.patterns(estimator={"sum": "linear"}).report()
    rows = list(csv.DictReader(io.StringIO(report.to_csv())))
    assert [row["layer"] for row in rows] == list(KINDS)
    assert rows[0] == {
        "layer": "conv",
        "pairs": str(48 * 64),
        "active": f"{report['conv'].active:.3f}",
        "units": "4",
        "dead": str(report["conv"].dead),
        "ill-conditioned": str(report["conv"].ill_conditioned),
        "estimator": "relu.safe",
        "note": "",
    }
    assert {row["layer"]: row["estimator"] for row in rows}["sum"] == "linear"
    assert report.to_csv(tmp_path / "report.csv") is None
    assert (tmp_path / "report.csv").read_text() == report.to_csv()


# Sound enough --------------------------------------------------------------------------------------------------------
def test_safe_is_linear_where_little_is_left_to_divide_by():
    """Units of which w'cov+ is 0.01 to 0.1 of var[y]: a+ is determined there, and long."""
    x = keras.Input((6,), name="x")
    model = models.randomize(keras.Model(x, layers.Dense(40, activation="relu", name="dense")(x)), seed=45)
    values = models.normal(600, 6, seed=46) + np.linspace(-2, 2, 6, dtype="float32")
    layer = model.get_layer("dense")
    layer.bias.assign(-np.quantile(values @ layer.kernel.numpy(), 0.4, axis=0))
    ratios, _ = replicas.layer_condition(layer, values.astype("float64"), "relu")
    between = (ratios > 0.002) & (ratios < 0.0999)
    assert between.any() and (ratios > 0.1001).any() and not np.any((ratios > 0.0999) & (ratios < 0.1001))
    found = statistics(values, model)
    relu, safe, linear = (found.patterns(estimator=word)["dense"] for word in ("relu", "relu.safe", "linear"))
    np.testing.assert_array_equal(safe, np.where(ratios > 0.1, relu, linear))
    assert np.abs(relu[:, between]).max() > 5 * np.abs(linear[:, between]).max()
    reports = {word: found.patterns(estimator=word).reports["dense"] for word in ("relu", "relu.safe")}
    assert reports["relu.safe"].ill_conditioned == np.sum(ratios < 0.1) > reports["relu"].ill_conditioned
