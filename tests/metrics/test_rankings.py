"""What patches are ranked by, both orders, and the area between the curves, against loops and sums by hand."""

import itertools
import json

import keras
import models
import numpy as np
import pytest
from degraded import Recorder, heat_for, model_of
from keras import layers

import innvest_lite
from innvest_lite import InvalidInputError
from innvest_lite.datasets import suppressor
from innvest_lite.metrics import Degradation, degradation, degradation_table

TOLERANCE = 1e-6


def blocks(patch, height, width):
    """The patches of an image, in the order of the positions."""
    corners = itertools.product(range(0, height, patch), range(0, width, patch))
    return [(slice(top, top + patch), slice(left, left + patch)) for top, left in corners]


def slow(model, x, score, patch, steps, least=False):
    """The curves of a loop that replaces by zero what scores most, or least; `score` takes a patch of attributions."""
    curves = []
    for image, heat in zip(x, score, strict=True):
        where = blocks(patch, *image.shape[:2])
        ranked = sorted(range(len(where)), key=lambda place: heat[place] if least else -heat[place])  # noqa: B023
        states, altered = [image.copy()], image.copy()
        for place in ranked[:steps]:
            altered[where[place]] = 0
            states.append(altered.copy())
        outputs = np.asarray(model(np.stack(states)), "float64")
        curves.append(outputs[:, outputs[0].argmax()])
    return np.stack(curves)


def scores(heat, patch, of):
    """Of each image, `of` each patch of its attributions."""
    where = blocks(patch, *heat.shape[1:3])
    return [[of(image[block].astype("float64")) for block in where] for image in heat]


def test_each_ranking_in_each_order_is_the_loop():
    model, x = model_of((7, 5, 2))
    heat = heat_for(x)
    by_value, by_size = scores(heat, 2, np.sum), scores(heat, 2, lambda block: np.abs(block).sum())
    expected = {"signed": by_value, "magnitude": by_size}
    for ranked_by, score in expected.items():
        most, least = (slow(model, x, score, 2, 7, least) for least in (False, True))
        found = degradation(model, heat, x, 2, 7, "zero", order="both", rank_by=ranked_by, batch_size=2)
        assert (found.order, found.ranked_by) == ("both", ranked_by)
        np.testing.assert_allclose(found.curves, most, rtol=0, atol=TOLERANCE)
        np.testing.assert_allclose(found.least, least, rtol=0, atol=TOLERANCE)
        np.testing.assert_allclose(found.area_between, (least - most).mean(1), rtol=0, atol=TOLERANCE)
    assert np.abs(slow(model, x, by_value, 2, 7) - slow(model, x, by_size, 2, 7)).max() > 0.05


def test_one_order_alone_is_that_of_both(eager):
    model, x = model_of((7, 5, 2))
    both = degradation(model, heat_for(x), x, 2, 5, order="both", rank_by="magnitude")
    for order, curves in (("most", both.curves), ("least", both.least)):
        found = degradation(model, heat_for(x), x, 2, 5, order=order, rank_by="magnitude")
        np.testing.assert_array_equal(found.curves, curves)
        assert found.least is None and found.ranked_by == "magnitude"


# What "auto" is -------------------------------------------------------------------------------------------------------


# In units of the input, or logits for a unit of input: their sign says neither for nor against.
BY_MAGNITUDE = {
    *("guided_gradcam", "input", "gradient", "gradient.baseline", "deconvnet", "guided_backprop"),
    *("smoothgrad", "squaregrad", "vargrad", "pattern.net"),
}


def test_which_methods_have_a_sign_that_tells():
    classes = {name: method.analyzer for name, method in innvest_lite.ANALYZERS.items()}
    assert {name for name, analyzer in classes.items() if not analyzer.sign_tells} == BY_MAGNITUDE
    shown_as_inputs = {name for name, analyzer in classes.items() if analyzer.picture in ("signal", "image")}
    assert shown_as_inputs and shown_as_inputs <= BY_MAGNITUDE


def test_auto_asks_the_analyzer(eager):
    model, x = model_of((7, 5, 2))
    array = heat_for(x)
    unsigned = Recorder(array)
    unsigned.sign_tells = False
    curves = {
        ranked_by: degradation(model, array, x, 2, 4, rank_by=ranked_by).curves for ranked_by in ("signed", "magnitude")
    }
    assert np.abs(curves["signed"] - curves["magnitude"]).max() > 0.01
    for given, ranked_by in ((array, "signed"), (Recorder(array), "signed"), (unsigned, "magnitude")):
        found = degradation(model, given, x, 2, 4)
        assert found.ranked_by == ranked_by
        np.testing.assert_array_equal(found.curves, curves[ranked_by])
    assert degradation(model, unsigned, x, 2, 4, rank_by="signed").ranked_by == "signed"
    assert degradation(model, None, x, 2, 4, order="random").ranked_by is None
    with pytest.raises(InvalidInputError, match="rank_by should be one of .*'auto', 'signed', 'magnitude'.* is 'size'"):
        degradation(model, array, x, 2, 4, rank_by="size")


def dark_eye():
    """A model whose first class is a dark patch, images that hold it, and its untouched kernel's patch."""
    x = keras.Input((8, 8, 1), name="x")
    logits = layers.Dense(2, name="logits")(layers.Flatten(name="flat")(x))
    model = keras.Model(x, layers.Softmax(name="out")(logits))
    kernel = np.zeros((8, 8, 2), "float32")
    kernel[4:, :4] = np.array([-0.5, 0.5])
    model.get_layer("logits").set_weights([kernel.reshape(64, 2), np.zeros(2, "float32")])
    # The eye is dark by as much as the sample is of the class; all else is bright noise.
    rng = np.random.default_rng(0)
    images = rng.uniform(0, 0.1, (300, 8, 8, 1)).astype("float32")
    images[:, 4:, :4] -= rng.uniform(0.5, 1, (300, 1, 1, 1)).astype("float32")
    return model, images


def test_a_dark_eye_is_ranked_first_by_magnitude_and_last_by_its_sign(eager):
    """PatternNet's signal is most negative where the evidence is."""
    model, images = dark_eye()
    analyzer = innvest_lite.PatternNet(model).fit(images, verbose=0)
    signal, x = analyzer.analyze(images[:4]), images[:4]
    assert (signal[:, 4:, :4] < -0.3).all() and np.abs(np.delete(signal, np.s_[4:], axis=1)).max() < 0.1
    signed, found = (degradation(model, analyzer, x, 4, 4, "zero", rank_by=ranked) for ranked in ("signed", "auto"))
    whole = np.asarray(model(x))[:, 0]
    # Nothing else moves the probability; without the eye it is one half.
    np.testing.assert_allclose(signed.curves, np.c_[whole, whole, whole, whole, np.full(4, 0.5)], atol=TOLERANCE)
    np.testing.assert_allclose(found.curves, np.c_[whole, np.full((4, 4), 0.5)], atol=TOLERANCE)
    assert found.ranked_by == "magnitude" and signed.area_over_curve.max() < found.area_over_curve.min() / 3
    # A contribution has the sign: the same eye speaks for the class.
    heat = innvest_lite.PatternAttribution(model).fit(images, verbose=0)
    np.testing.assert_allclose(degradation(model, heat, x, 4, 4, "zero").curves, found.curves, atol=TOLERANCE)


def test_removal_rewards_what_only_cancels_noise(eager):
    """The second feature says nothing of the class, but marking it where it helps gets a larger area (arXiv 2409.14590)."""
    data = suppressor(400, correlation=0.8, separation=2.0, seed=1)
    x = keras.Input((2,), name="x")
    model = keras.Model(x, layers.Dense(1, activation="sigmoid", name="out")(x))
    model.set_weights([np.asarray(data.weight, "float32")[:, None], np.zeros(1, "float32")])
    right = degradation(model, np.abs(data.x) * [1, 0], data.x, 1, 2, "zero")
    wrong = degradation(model, innvest_lite.InputTimesGradient(model), data.x, 1, 2, "zero")
    assert wrong.gain(right)[1] > 0


# The area between -----------------------------------------------------------------------------------------------------


def additive(contributions):
    """A model without a softmax, whose class 0 has the probability sum of contributions, one for each column of ones."""
    x = keras.Input((len(contributions),), name="x")
    model = keras.Model(x, layers.Dense(2, name="out")(x))
    kernel = np.asarray(contributions, "float32")
    model.set_weights([np.stack([kernel, -kernel], 1), np.array([0, 1], "float32")])
    return model, np.ones((1, len(contributions)), "float32")


def test_the_area_between_in_closed_form(eager):
    """sum_i c_i (n + 1 - 2 i) / (n + 1) for contributions c_1 >= c_2 >= ... of n patches."""
    contributions = [0.05, 0.4, -0.1, 0.2, 0.15]
    model, x = additive(contributions)
    found = degradation(model, np.array([contributions]), x, 1, 5, "zero", order="both", target=0)
    falling, n = sorted(contributions, reverse=True), 5
    expected = sum(c * (n + 1 - 2 * i) for i, c in enumerate(falling, 1)) / (n + 1)
    assert found.area_between == pytest.approx([expected]) and expected > 0.3
    np.testing.assert_allclose(found.least[0, 1:3], [0.7 + 0.1, 0.7 + 0.1 - 0.05], atol=TOLERANCE)
    # Turned round, and for a map that says nothing.
    turned = degradation(model, -np.array([contributions]), x, 1, 5, "zero", order="both", target=0)
    assert turned.area_between == pytest.approx([-expected])
    equal = degradation(model, np.zeros((1, 5)), x, 1, 5, "zero", order="both", target=0)
    np.testing.assert_allclose(equal.area_between, 0, atol=TOLERANCE)


def both_of(gap, samples=30, seed=0):
    """A result of both orders, whose area between is three quarters of `gap` and noise."""
    falls = np.random.default_rng(seed).normal(gap, 0.05, (samples, 1)) * [0, 1, 1, 1]
    return Degradation(0.9 - falls, np.zeros(samples, int), "both", 4, "magnitude", np.full((samples, 4), 0.9))


def test_the_interval_of_the_area_between():
    result = both_of(0.4, 400)
    low, high = result.interval_between()
    assert low < result.area_between.mean() < high
    # The normal interval of a mean.
    assert high - low == pytest.approx(2 * 1.96 * result.area_between.std() / 20, rel=0.1)
    assert result.interval_between(seed=1) == result.interval_between(seed=1) != result.interval_between(seed=2)
    assert result.interval_between(0.5)[0] > low
    one = Degradation(result.curves, result.classes, "most", 4)
    for asked in (lambda: one.area_between, one.interval_between):
        with pytest.raises(InvalidInputError, match="Only order=\"both\" gives an area between curves; .* order 'most'"):
            asked()


def test_what_is_told_of_both_orders():
    result = both_of(0.4)
    said = str(result)
    assert "most first" in said and "least first" in said and "ranked by magnitudes" in said
    low, high = result.interval_between()
    assert f"between the curves {result.area_between.mean():.3f} (95 % from {low:.3f} to {high:.3f})" in said
    back = json.loads(json.dumps(result.to_dict()))
    np.testing.assert_array_equal(back["least"], result.least)
    np.testing.assert_array_equal(back["area_between"], result.area_between)
    assert back["ranked_by"] == "magnitude"
    alone = Degradation(result.curves, result.classes, "most", 4)
    assert alone.to_dict()["ranked_by"] is None and not {"least", "area_between"} & set(alone.to_dict())


def test_the_table_of_both_orders():
    random = Degradation(np.full((30, 4), [0.9, 0.8, 0.7, 0.6]), np.zeros(30, int), "random", 4)
    results = {"weak": both_of(0.1), "random": random, "strong": both_of(0.4, seed=1), "wrong": both_of(-0.2, seed=2)}
    table = degradation_table(results, baseline="random")
    assert list(table.results) == ["strong", "weak", "random", "wrong"]
    rows = table.to_dict()
    strong = rows["strong"]
    assert strong["between"] == pytest.approx(results["strong"].area_between.mean())
    assert (strong["between_low"], strong["between_high"]) == results["strong"].interval_between()
    assert rows["random"]["between"] == rows["random"]["between_high"] == 0 and rows["random"]["ranked_by"] is None
    assert strong["gain"] == pytest.approx(results["strong"].gain(random)[0]) and strong["ranked_by"] == "magnitude"
    said = str(table)
    assert "area between" in said and "a larger area between the curves is better" in said
    assert f"{strong['between']:.4f}" in said and f"{strong['between_low']:.4f}" in said
    one = {"one": Degradation(results["weak"].curves, np.zeros(30, int), "most", 4)}
    assert "area between" not in str(degradation_table(one)) and "between" not in degradation_table(one).to_dict()["one"]
    with pytest.raises(InvalidInputError, match=r"orders \['both', 'most'\] cannot be compared"):
        degradation_table({**results, **one})


def test_the_table_says_how_far_the_probability_moved():
    curves = np.array([[0.9, 0.5, 0.125], [0.7, 0.5, 0.25]])
    results = {"one": Degradation(curves, np.zeros(2, int), "most", 4, "signed")}
    row = degradation_table(results).to_dict()["one"]
    assert row["start"] == pytest.approx(0.8) and row["end"] == pytest.approx(0.1875)
    header, _, line, note = str(degradation_table(results)).splitlines()
    assert header.split()[-4:] == ["probability", "in", "the", "end"] and line.split()[-2:] == ["0.8000", "0.1875"]
    assert "ranked by" in header and line.split()[:3] == ["one", "most", "signed"] and "2 samples" in note


def test_plots_of_both_orders():
    pyplot = pytest.importorskip("matplotlib.pyplot")
    pyplot.switch_backend("Agg")
    result = both_of(0.4)
    lines = result.plot().lines
    np.testing.assert_allclose(lines[0].get_ydata(), result.mean)
    np.testing.assert_allclose(lines[1].get_ydata(), result.least.mean(0))
    axes = degradation_table({"one": result, "two": both_of(0.1)}).plot(pyplot.figure().add_subplot())
    assert [line.get_label() for line in axes.lines] == ["one", "one, least first", "two", "two, least first"]
    assert axes.lines[0].get_color() == axes.lines[1].get_color() != axes.lines[2].get_color()
    assert axes.get_title() == "image degradation, most and least first, patch 4"
    pyplot.close("all")


def test_magnitudes_of_whole_numbers(eager):
    """Also of attributions that are no floats, such as int8, of which the least has no positive counterpart."""
    model, x = models.case("dense").model, models.normal(3, 6)
    heat = np.array([[1, -128, 3, 0, -2, 127]] * 3)
    expected = degradation(model, np.abs(heat), x, 2, 3)
    found = degradation(model, heat.astype("int8"), x, 2, 3, rank_by="magnitude")
    np.testing.assert_array_equal(found.curves, expected.curves)
