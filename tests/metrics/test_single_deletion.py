"""Single deletion against a loop over samples and cells, and against explanations whose score is known."""

import json

import keras
import models
import numpy as np
import pytest
from degraded import Recorder, heat_for, model_of
from keras import layers

import innvest_lite
from innvest_lite import InvalidInputError
from innvest_lite.metrics import SingleDeletion, single_deletion, single_deletion_table

TOLERANCE = 1e-5


def convolutional(head="softmax", units=3):
    """A tiny CNN, the same model without its head, and images."""
    x = keras.Input((7, 5, 2), name="x")
    value = layers.Conv2D(4, 2, activation="relu", name="conv")(x)
    logits = layers.Dense(units, name="logits")(layers.Flatten(name="flat")(value))
    model = models.randomize(keras.Model(x, layers.Activation(head, name="out")(logits)), seed=4)
    return model, keras.Model(x, logits), models.data_for(model, 5)


def blocks(sizes, grid):
    """The slices of each cell of a grid, in the order of the positions."""
    edges = [[cell * size // cells for cell in range(cells + 1)] for size, cells in zip(sizes, grid, strict=True)]
    rows = [[slice(*pair) for pair in zip(edge[:-1], edge[1:], strict=True)] for edge in edges]
    return [(row,) for row in rows[0]] if len(rows) == 1 else [(row, column) for row in rows[0] for column in rows[1]]


def slow_drops(logits, x, cells, fill, classes):
    """By how much the logit of a class falls without each cell."""
    drops = []
    for sample, wanted in zip(x, classes, strict=True):
        altered = np.stack([sample] * (len(cells) + 1))
        for place, cell in enumerate(cells):
            altered[place][cell] = np.broadcast_to(fill, sample.shape)[cell]
        found = np.asarray(logits(altered), "float64")[:, wanted]
        drops.append(found[-1] - found[:-1])
    return np.array(drops)


def slow_rank_correlation(one, two):
    """Pearson's correlation of ranks, each the number of smaller values and half of the equal ones."""
    ranks = [[np.sum(v < value) + np.sum(v == value) / 2 for value in v] for v in (np.asarray(one), np.asarray(two))]
    return np.corrcoef(ranks)[0, 1]


FILLS = [((3, 2), 0.0), ((2, 5), 0.25), ((7, 5), [0.5, -1.0]), ((1, 2), heat_for)]


@pytest.mark.parametrize("grid, fill", FILLS, ids=("zero", "a number", "a number a channel", "a function"))
def test_it_is_the_loop(grid, fill):
    model, logits, x = convolutional()
    fill = fill(x[0]) if callable(fill) else fill
    heat, cells = heat_for(x), blocks((7, 5), grid)
    found = single_deletion(model, heat, x, grid, fill, batch_size=2)
    classes = np.asarray(model(x)).argmax(1)
    drops = slow_drops(logits, x, cells, fill, classes)
    totals = np.array([[one[cell].sum(dtype="float64") for cell in cells] for one in heat])
    np.testing.assert_allclose(found.drops, drops, rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(found.totals, totals, rtol=0, atol=TOLERANCE)
    np.testing.assert_array_equal(found.targets.argmax(1), classes)
    expected = [slow_rank_correlation(*pair) for pair in zip(totals, drops, strict=True)]
    np.testing.assert_allclose(found.correlations, expected, atol=TOLERANCE)
    assert found.correlations.shape == (5,) and np.abs(drops).max() > 0.1
    assert found.mean == pytest.approx(np.mean(expected)) and (found.grid, found.ranked_by) == (grid, "signed")


@pytest.mark.parametrize("shape, grid", [((9, 3), (4,)), ((8,), (3,))], ids=["series", "table"])
def test_other_samples(shape, grid, eager):
    model, x = model_of(shape)
    logits = keras.Model(model.input, keras.layers.Dense(3, name="logits")(model.get_layer("hidden").output))
    logits.get_layer("logits").set_weights(model.get_layer("out").get_weights())
    found = single_deletion(model, heat_for(x), x, grid, target=1)
    drops = slow_drops(logits, x, blocks(shape[:1], grid), 0, [1] * 5)
    np.testing.assert_allclose(found.drops, drops, rtol=0, atol=TOLERANCE)


def test_the_exact_effect_has_1_and_its_negative_minus_1(eager):
    model, logits, x = convolutional()
    cells, classes = blocks((7, 5), (3, 2)), np.asarray(model(x)).argmax(1)
    exact = np.zeros_like(x)
    for place, drops in enumerate(slow_drops(logits, x, cells, 0, classes)):
        for cell, drop in zip(cells, drops, strict=True):
            exact[place][cell] = drop / exact[place][cell].size
    for given, expected in ((exact, 1), (-exact, -1), (np.zeros_like(x), 0)):
        found = single_deletion(model, given, x, (3, 2))
        np.testing.assert_allclose(found.correlations, expected, atol=1e-12)


def test_of_a_linear_model_the_contributions_are_exact(eager):
    x = keras.Input((6, 6, 1), name="x")
    model = models.randomize(keras.Model(x, layers.Dense(3, activation="softmax")(layers.Flatten()(x))), seed=2)
    images = models.normal(4, 6, 6, 1)
    found = single_deletion(model, innvest_lite.InputTimesGradient(model), images, (3, 3))
    np.testing.assert_allclose(found.correlations, 1)
    np.testing.assert_allclose(found.totals, found.drops, atol=TOLERANCE)
    # Filled with 1, a cell takes w (x - 1).
    filled = single_deletion(model, innvest_lite.InputTimesGradient(model), images, (3, 3), 1.0)
    kernel = model.layers[-1].get_weights()[0][:, filled.targets.argmax(1)].T.reshape(images.shape)
    np.testing.assert_allclose(single_deletion(model, kernel * (images - 1), images, (3, 3), 1.0).correlations, 1)
    assert filled.mean < 1


def test_what_is_watched_is_the_logit(eager):
    """Without the softmax nothing changes; in probabilities the drops would hang on the other classes."""
    model, logits, x = convolutional()
    with_head, without = (single_deletion(one, heat_for(x), x, (3, 2), target=[0, 1, 2, 0, 1]) for one in (model, logits))
    np.testing.assert_allclose(with_head.drops, without.drops, atol=TOLERANCE)
    np.testing.assert_array_equal(with_head.targets.argmax(1), [0, 1, 2, 0, 1])


def test_one_sigmoid_has_two_sides(eager):
    model, logits, x = convolutional("sigmoid", 1)
    logits.get_layer("logits").bias.assign([-np.median(np.asarray(logits(x)))])
    sides = np.where(np.asarray(logits(x)) >= 0, 1, -1)
    assert set(sides[:, 0]) == {-1, 1}
    cells = blocks((7, 5), (3, 2))
    one = slow_drops(logits, x, cells, 0, [0] * 5)
    asked = Recorder(heat_for(x))
    found = single_deletion(model, asked, x, (3, 2))
    np.testing.assert_allclose(found.drops, one * sides, atol=TOLERANCE)
    np.testing.assert_array_equal(asked.target, sides)
    np.testing.assert_allclose(single_deletion(model, asked, x, (3, 2), target=0).drops, -one, atol=TOLERANCE)


def test_signals_and_gradients_are_summed_by_magnitude(eager):
    model, _, x = convolutional()
    gradient = innvest_lite.Gradient(model)
    found = single_deletion(model, gradient, x, (3, 2))
    heat, cells = gradient.analyze(x), blocks((7, 5), (3, 2))
    totals = {of: np.array([[of(one[cell]).sum() for cell in cells] for one in heat]) for of in (np.abs, np.asarray)}
    np.testing.assert_allclose(found.totals, totals[np.abs], atol=TOLERANCE)
    signed = single_deletion(model, gradient, x, (3, 2), rank_by="signed")
    np.testing.assert_allclose(signed.totals, totals[np.asarray], atol=TOLERANCE)
    assert (found.ranked_by, signed.ranked_by) == ("magnitude", "signed")


def test_tokens_are_deleted_by_a_token(eager):
    model, x = model_of((6,), dtype="int32")
    found = single_deletion(model, heat_for(x), x, (3,), 2, target=0)
    altered = x.copy()
    altered[:, 2:4] = 2
    logits = innvest_lite.Gradient(model).explainer.logits_of
    np.testing.assert_allclose(found.drops[:, 1], (logits([x]) - logits([altered]))[:, 0], atol=TOLERANCE)


# The result -----------------------------------------------------------------------------------------------------------


def result_of(correlations, ranked_by="signed", grid=(1, 3)):
    count = len(correlations)
    drops = np.tile([0.0, 1.0, 5.0], (count, 1))
    return SingleDeletion(np.asarray(correlations), drops, drops, np.ones((count, 1), "float32"), grid, ranked_by)


def test_the_interval_and_the_gain():
    rng = np.random.default_rng(0)
    one, other = (result_of(rng.uniform(-0.2, high, 400)) for high in (0.8, 0.4))
    low, high = one.interval()
    assert low < one.mean < high
    assert high - low == pytest.approx(2 * 1.96 * one.correlations.std() / 20, rel=0.1)
    mean, low, high = one.gain(other)
    assert mean == pytest.approx((one.correlations - other.correlations).mean()) and 0 < low < mean < high
    assert other.gain(one, 0.5, 200, seed=3) == other.gain(one, 0.5, 200, seed=3)
    with pytest.raises(InvalidInputError, match="level should lie between 0 and 1"):
        one.interval(1.5)
    for wrong in (None, result_of([0.1] * 400, grid=(3, 1)), result_of([0.1] * 5)):
        with pytest.raises(InvalidInputError, match="baseline should be a SingleDeletion of the same samples"):
            one.gain(wrong)


def test_the_table():
    results = {"weak": result_of([0.1, 0.2, 0.3]), "strong": result_of([0.5, 1.0, 0.9], "magnitude")}
    table = single_deletion_table(results, baseline="weak")
    assert list(table.results) == ["strong", "weak"]
    row = json.loads(json.dumps(table.to_dict()))["strong"]
    assert row["correlation"] == pytest.approx(0.8) and (row["low"], row["high"]) == results["strong"].interval()
    assert (row["gain"], row["gain_low"], row["gain_high"]) == results["strong"].gain(results["weak"])
    assert row["drop"] == pytest.approx(2) and row["largest_drop"] == pytest.approx(5) and row["ranked_by"] == "magnitude"
    said = str(table)
    assert "0.8000" in said and "gain over weak" in said and "3 samples, 1 x 3 cells" in said
    assert "0.8000" in str(results["strong"]) and "gain" not in str(results["strong"])
    assert json.loads(json.dumps(results["weak"].to_dict()))["correlations"] == [0.1, 0.2, 0.3]
    for wrong, message in (
        ({}, "at least one name"),
        ({"one": 1}, "at least one name"),
        ({**results, "other": result_of([0.1] * 3, grid=(3, 1))}, "same samples, targets and grid"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            single_deletion_table(wrong)
    with pytest.raises(InvalidInputError, match=r"baseline should be one of \['weak', 'strong'\]"):
        single_deletion_table(results, "other")


# Bad input ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options, message",
    [
        ({"grid": 4}, r"grid should be how many cells lie along each axis, such as \(4, 4\), but is 4"),
        ({"grid": (2, 0)}, "grid should be a whole number of at least 1"),
        ({"grid": (2, 2, 2)}, r"whose sizes are \(7, 5\), and at most so many; but it is \(2, 2, 2\)"),
        ({"grid": (2, 6)}, r"whose sizes are \(7, 5\), and at most so many; but it is \(2, 6\)"),
        ({"fill": [1, 2, 3]}, r"fill should be a number or an array that broadcasts to a sample of shape \(7, 5, 2\)"),
        ({"fill": np.nan}, "What fill gives .* NaN"),
        ({"rank_by": "size"}, "rank_by should be one of"),
        ({"target": 3}, "Target 3 is out of range"),
        ({"batch_size": 0}, "batch_size .* is 0"),
    ],
)
def test_bad_options(options, message):
    model, _, x = convolutional()
    with pytest.raises(InvalidInputError, match=message):
        single_deletion(model, heat_for(x), x, **{"grid": (2, 2), **options})


def test_bad_attributions_and_models():
    model, _, x = convolutional()
    for given, message in (
        (None, "An analyzer or attributions are expected, not None"),
        ("gradient", "make an analyzer with create_analyzer"),
        (heat_for(x)[:2], "samples' shape"),
        (x * np.nan, "NaN or infinite"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            single_deletion(model, given, x, (2, 2))
    with pytest.raises(InvalidInputError, match="There are no samples"):
        single_deletion(model, x[:0], x[:0], (2, 2))
    prepared = innvest_lite.Gradient(model, preprocessor=lambda images: images)
    with pytest.raises(InvalidInputError, match="make the analyzer without preprocessor="):
        single_deletion(model, prepared, x, (2, 2))
    for name in ("two_inputs", "several"):
        case = models.case(name)
        with pytest.raises(InvalidInputError, match="one input and one output, but this one has [12] and [12]"):
            single_deletion(case.model, None, case.x)
