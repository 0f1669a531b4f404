"""Image degradation: areas, intervals, tables, and what is refused. The curves themselves: `test_degradation`."""

import json

import keras
import models
import numpy as np
import pytest
from degraded import Recorder, heat_for, model_of
from keras import layers, ops

import innvest_lite
from innvest_lite import InvalidInputError
from innvest_lite.data import load_digits, load_model
from innvest_lite.metrics import Degradation, degradation, degradation_table

# The result ----------------------------------------------------------------------------------------------------------


def result_of(curves, order="most", patch=4):
    curves = np.asarray(curves, "float64")
    return Degradation(curves, np.zeros(len(curves), int), order, patch)


def noisy(samples, mean=0.5, seed=0):
    falls = np.random.default_rng(seed).normal(mean, 0.1, (samples, 1))
    return result_of(1 - falls * [0, 1, 1, 1])


def test_the_area_by_hand():
    result = result_of([[1.0, 0.5, 0.0], [0.8, 0.8, 0.2]])
    # (0 + 0.5 + 1) / 3 and (0 + 0 + 0.6) / 3.
    np.testing.assert_allclose(result.area_over_curve, [0.5, 0.2])
    np.testing.assert_allclose(result.mean, [0.9, 0.65, 0.1])
    assert result.steps == 2


def test_the_interval_contains_the_mean_and_shrinks():
    widths = []
    for samples in (20, 200, 2000):
        result = noisy(samples)
        low, high = result.interval()
        assert low < result.area_over_curve.mean() < high
        widths.append(high - low)
        # The normal interval of a mean; the area is three quarters of the fall.
        assert widths[-1] == pytest.approx(2 * 1.96 * result.area_over_curve.std() / np.sqrt(samples), rel=0.1)
    assert widths[0] > 2 * widths[1] > 4 * widths[2]


def test_the_options_of_the_interval():
    result = noisy(50)
    assert result.interval(seed=1) == result.interval(seed=1) != result.interval(seed=2)
    (low, high), (lower, higher) = result.interval(0.5), result.interval(0.99)
    assert lower < low < high < higher
    assert np.ptp(noisy(1).interval()) == 0


@pytest.mark.parametrize(
    "options, message",
    [
        ({"level": 1}, "level should lie between 0 and 1, but is 1"),
        ({"level": None}, "level should be a number"),
        ({"resamples": 0}, "resamples .* is 0"),
        ({"seed": -1}, "seed"),
    ],
)
def test_bad_intervals(options, message):
    with pytest.raises(InvalidInputError, match=message):
        noisy(5).interval(**options)


def test_it_prints_and_goes_to_json():
    model, x = model_of((7, 5, 2))
    found = degradation(model, heat_for(x), x, 2, 5)
    said = str(found)
    assert "most first" in said and f"{found.mean[5]:.3f}" in said and "5 samples, patch 2" in said
    assert len(str(result_of(np.ones((2, 101)))).splitlines()) < 16
    back = json.loads(json.dumps(found.to_dict()))
    np.testing.assert_array_equal(back["curves"], found.curves)
    np.testing.assert_array_equal(back["area_over_curve"], found.area_over_curve)
    assert back["classes"] == found.classes.tolist() and (back["order"], back["patch"]) == ("most", 2)


def test_plots():
    pyplot = pytest.importorskip("matplotlib.pyplot")
    pyplot.switch_backend("Agg")
    axes = noisy(5).plot()
    np.testing.assert_allclose(axes.lines[0].get_ydata(), noisy(5).mean)
    table = degradation_table({"one": noisy(5), "two": noisy(5, 0.9)})
    axes = table.plot(pyplot.figure().add_subplot())
    assert [line.get_label() for line in axes.lines] == ["two", "one"]
    assert axes.get_legend() is not None
    pyplot.close("all")


def test_the_table_is_sorted_by_area():
    results = {"weak": noisy(20, 0.1), "strong": noisy(20, 0.8), "random": result_of([[1, 1, 0.5, 0.5]] * 20, "random")}
    table = degradation_table(results)
    assert list(table.results) == list(table.to_dict()) == ["strong", "random", "weak"]
    lines = str(table).splitlines()
    assert [line.split()[0] for line in lines if line.split()[0] in results] == ["strong", "random", "weak"]
    low, high = results["strong"].interval()
    assert f"{low:.4f}" in str(table) and f"{high:.4f}" in str(table)
    assert json.loads(json.dumps(table.to_dict()))["random"]["area"] == 0.25


def test_a_gain_is_paired():
    """Samples that differ much, by as much in both: the difference is certain where the areas are not."""
    rng = np.random.default_rng(0)
    low = np.c_[np.ones(50), 1 - rng.uniform(0, 0.9, (50, 1)).repeat(3, 1)]
    more = low - [0, 0.04, 0.04, 0.04]
    weak, strong = result_of(low, "random"), result_of(more)
    mean, start, end = strong.gain(weak)
    assert mean == pytest.approx(0.03) and start == pytest.approx(0.03) and end == pytest.approx(0.03)
    assert weak.gain(strong)[0] == pytest.approx(-0.03) and strong.interval()[0] < weak.interval()[1]
    table = degradation_table({"weak": weak, "strong": strong}, baseline="weak")
    assert table.to_dict()["strong"]["gain"] == pytest.approx(0.03) and table.to_dict()["weak"]["gain_high"] == 0
    assert "gain over weak" in str(table) and "gain" not in str(degradation_table({"weak": weak}))


def test_gains_are_taken_over_samples_not_over_means():
    noise = np.random.default_rng(1).normal(0, 0.1, (40, 1))
    one, other = result_of(np.c_[np.ones(40), 0.5 + noise]), result_of(np.c_[np.ones(40), 0.6 - noise])
    gains = one.area_over_curve - other.area_over_curve
    mean, low, high = one.gain(other, resamples=4000)
    error = gains.std() / np.sqrt(len(gains))
    assert mean == pytest.approx(gains.mean())
    np.testing.assert_allclose([low, high], [mean - 1.96 * error, mean + 1.96 * error], atol=0.2 * error)


def test_gains_need_the_same_classes():
    one, curves = result_of(np.ones((3, 4))), np.ones((3, 4))
    with pytest.raises(InvalidInputError, match="same classes"):
        one.gain(Degradation(curves, np.array([0, 1, 0]), "random", 4))


def test_the_least_first_is_ranked_by_small_areas():
    weak, strong = result_of(1 - np.outer(np.ones(9), [0, 1, 1, 1]), "least"), result_of(np.ones((9, 4)), "least")
    table = degradation_table({"weak": weak, "strong": strong, "random": result_of(np.ones((9, 4)) / 2, "random")})
    assert list(table.results) == ["strong", "random", "weak"] and "a smaller area is better" in str(table)
    assert "a larger area is better" in str(degradation_table({"one": result_of(np.ones((3, 4)))}))
    with pytest.raises(InvalidInputError, match="cannot be compared: those of a good method"):
        degradation_table({"weak": weak, "most": result_of(np.ones((9, 4)))})


def test_values_above_1_are_no_probabilities():
    x = keras.Input((6,), name="x")
    model = keras.Model(x, layers.Dense(2, activation="exponential")(x))
    with pytest.raises(InvalidInputError, match="should be probabilities, but one is [1-9]"):
        degradation(model, None, np.full((3, 6), 3.0) * np.sign(model.layers[1].kernel.numpy()[:, 0]), 2, order="random")


def test_a_patch_as_large_as_the_input_is_told(caplog):
    model, x = model_of((7, 5, 2))
    found = degradation(model, None, x, 10**20, order="random")
    assert found.steps == 1 and "covers the whole input" in caplog.text


def test_a_table_loses_column_after_column_to_the_mean_of_the_data(caplog):
    """By hand: the columns in the order of the attributions, each replaced by its mean over all samples."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, activation="softmax")])
    x, heat = (np.random.default_rng(seed).normal(size=(6, 4)).astype("float32") for seed in (0, 1))
    found = degradation(model, heat, x, steps=4)
    assert found.patch == 1 and found.steps == 4 and "mix columns" not in caplog.text
    classes = model.predict(x, verbose=0).argmax(1)
    now = x.copy()
    for step in range(5):
        expected = model.predict(now, verbose=0)[np.arange(6), classes]
        np.testing.assert_allclose(found.curves[:, step], expected, rtol=1e-5)
        if step < 4:
            column = np.argsort(-heat, axis=1, kind="stable")[:, step]
            now[np.arange(6), column] = x.mean(0, dtype="float64")[column]
    degradation(model, heat, x, patch=2, replace="patch_mean")
    assert "Patches of 2 mix columns of a table" in caplog.text


def test_a_curve_that_hardly_moves_is_told(caplog):
    """Where the network does not look at what is replaced; not where it does, nor for the random order."""
    x = np.random.default_rng(0).normal(size=(8, 6)).astype("float32")
    model = keras.Sequential([keras.Input((6,)), layers.Dense(2, activation="softmax", name="classes")])
    kernel = np.zeros((6, 2), "float32")
    kernel[0] = 5, -5
    model.layers[0].set_weights([kernel, np.zeros(2, "float32")])
    there, elsewhere = np.eye(6)[[0] * 8], np.eye(6)[[3] * 8]
    degradation(model, there, x, steps=1)
    degradation(model, None, x, steps=1, order="random", seed=3)
    assert not caplog.records
    degradation(model, elsewhere, x, steps=1, order="least")
    assert not caplog.records, "of the least relevant first, little is what should happen"
    degradation(model, elsewhere, x, steps=1)
    assert "The mean probability falls by 0.0000" in caplog.text


def test_plots_begin_at_zero():
    axes = result_of([[0.95, 0.94, 0.93, 0.93]] * 3).plot()
    assert axes.get_ylim()[0] == 0


@pytest.mark.parametrize("given", ["gradient", innvest_lite.Gradient])
def test_names_and_classes_are_no_analyzers(given):
    model, x = model_of((7, 5, 2))
    with pytest.raises(InvalidInputError, match="make an analyzer with create_analyzer"):
        degradation(model, given, x, 2)


@pytest.mark.parametrize("baseline", [None, result_of(np.ones((3, 4)), patch=5), result_of(np.ones((2, 4)))])
def test_gains_need_the_same_samples(baseline):
    with pytest.raises(InvalidInputError, match="baseline should"):
        result_of(np.ones((3, 4))).gain(baseline)
    with pytest.raises(InvalidInputError, match="baseline should|patch and steps"):
        degradation_table({"a": result_of(np.ones((3, 4))), "b": baseline or result_of(np.ones((3, 4)))}, baseline="c")


@pytest.mark.parametrize(
    "results, message",
    [
        ({}, "at least one name"),
        ([noisy(3)], "should map"),
        ({"a": 1}, "should map"),
        ({"a": noisy(3), "b": result_of(np.ones((3, 3)))}, r"for the same patch and steps, .*\(4, 2\), \(4, 3\)"),
        ({"a": noisy(3), "b": result_of(np.ones((3, 4)), patch=5)}, r"\(4, 3\), \(5, 3\)"),
    ],
)
def test_bad_comparisons(results, message):
    with pytest.raises(InvalidInputError, match=message):
        degradation_table(results)


@pytest.mark.slow
def test_on_the_demo_model_an_explanation_beats_random_order():
    model, (images, _) = load_model(), load_digits()
    analyzer = innvest_lite.create_analyzer("lrp.epsilon", model)
    informed, blind = (
        degradation(model, analyzer, images[:20], 4, 49, "zero", order=order, batch_size=20) for order in ("most", "random")
    )
    assert informed.interval()[0] > blind.interval()[1]
    # A blurred digit is often still read: only the differences, sample by sample, tell the orders apart.
    informed, blind = (degradation(model, analyzer, images[:20], 4, 49, order=order) for order in ("most", "random"))
    differences = informed.area_over_curve - blind.area_over_curve
    assert differences.mean() > 2 * differences.std() / np.sqrt(20)


# Bad input -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options, message",
    [
        ({"patch": 0}, "patch should be a whole number of at least 1, but is 0"),
        ({"patch": 2.5}, "patch .* is 2.5"),
        ({"steps": 0}, "steps should be a whole number of at least 1, but is 0"),
        ({"batch_size": 0}, "batch_size .* is 0"),
        ({"order": "best"}, "order should be one of .*'most', 'least', 'random'.* is 'best'"),
        ({"order": None}, "order should be one of"),
        ({"replace": "grey"}, "replace should be one of .*'patch_mean'.* is 'grey'"),
        ({"patch": 1}, "A patch of one position is its own mean"),
        ({"replace": np.zeros(3)}, r"broadcasts to a sample of shape \(7, 5, 2\).* \(3,\)"),
        ({"replace": np.zeros((5, 7, 5, 2))}, r"broadcasts to a sample of shape \(7, 5, 2\)"),
        ({"replace": np.nan}, "What replace gives .* NaN"),
        ({"replace": lambda x: x[:2]}, r"should have the samples' shape \(5, 7, 5, 2\), but has \(2, 7, 5, 2\)"),
        ({"replace": lambda x: x[..., 0]}, "What replace gives should be valid samples"),
        ({"replace": lambda x: x * np.nan}, "What replace gives .* NaN"),
        ({"target": 3}, "Target 3 is out of range"),
        ({"target": [0, 1]}, "2 targets for 5 samples"),
        ({"target": "all"}, "target should be None, a class, or one class per sample, but is 'all'"),
        ({"target": 0.5}, "target should be .* is 0.5"),
        ({"order": "random", "seed": -1}, "seed"),
    ],
)
def test_bad_options(options, message):
    model, x = model_of((7, 5, 2))
    with pytest.raises(InvalidInputError, match=message):
        degradation(model, heat_for(x), x, **options)


@pytest.mark.parametrize(
    "attributions, message",
    [
        (None, 'Only order="random" needs no analyzer .* None was given'),
        (np.zeros((5, 7, 5)), r"samples' shape \(5, 7, 5, 2\), but are float64 of shape \(5, 7, 5\)"),
        (np.zeros((4, 7, 5, 2)), r"of shape \(4, 7, 5, 2\)"),
        (np.full((5, 7, 5, 2), np.nan), "NaN or infinite"),
        (np.full((5, 7, 5, 2), np.inf), "NaN or infinite"),
        (np.full((5, 7, 5, 2), "a"), "should be numbers"),
        (Recorder(np.zeros((5, 7, 5))), r"of shape \(5, 7, 5\)"),
    ],
    ids=lambda given: type(given).__name__,
)
def test_bad_attributions(attributions, message):
    model, x = model_of((7, 5, 2))
    with pytest.raises(InvalidInputError, match=message):
        degradation(model, attributions, x, 2)


def test_bad_samples():
    model, x = model_of((7, 5, 2))
    for wrong, message in [(x[:0], "at least one sample"), (x[..., :1], "should have shape"), (x * np.nan, "NaN")]:
        with pytest.raises(InvalidInputError, match=message):
            degradation(model, wrong, wrong, 2)


@pytest.mark.parametrize("name", ["two_inputs", "dict_inputs", "several"])
def test_several_inputs_or_outputs_are_refused(name):
    case = models.case(name)
    with pytest.raises(InvalidInputError, match="one input and one output, but this one has [12] and [12]"):
        degradation(case.model, None, case.x, order="random")


def test_models_without_probabilities_are_refused():
    model, x = model_of((7, 5, 2), head=None)
    with pytest.raises(InvalidInputError, match="should be probabilities, but one is -?[0-9.]+. Add a softmax"):
        degradation(model, None, x, 2, order="random", target=0)
    x = keras.Input((4, 3), name="x")
    by_position = keras.Model(x, ops.softmax(layers.Dense(3)(x)))
    with pytest.raises(InvalidInputError, match=r"should have shape \(batch, classes\), but has \(None, 4, 3\)"):
        degradation(by_position, None, np.zeros((2, 4, 3)), 2, order="random")


@pytest.mark.parametrize("replace", ["patch_mean", "image_mean"])
def test_tokens_have_no_mean(replace):
    model, x = model_of((7,), dtype="int32")
    with pytest.raises(InvalidInputError, match="whole numbers, whose mean is not one: replace should not be"):
        degradation(model, heat_for(x), x, 2, replace=replace)
