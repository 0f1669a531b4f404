"""Expected gradients against a slow loop over the same draws, and against what they converge to."""

import keras
import loop_replicas
import models
import numpy as np
import pytest
from comparing import assert_close, offenders, refusals

from innvest_lite import ExpectedGradients, IntegratedGradients, InvalidInputError, create_analyzer, metrics
from innvest_lite.draws import normal, uniform

REFERENCES = models.normal(7, 6, seed=11)
TARGET = np.eye(3)[[1]]
# Of which the loop is gone through.
SAMPLES = 2


def slow(name, references, augment_by_n, seed=0, scale=0.0):
    """One draw after the other: the gradient at a random place, times the whole way; the draws themselves are ours."""
    function, points = loop_replicas.from_points(name)
    points = [point[:SAMPLES] for point in points]
    totals = [np.zeros(point.shape) for point in points]
    for number in range(augment_by_n):
        for sample in range(len(points[0])):
            chosen, place = np.asarray(uniform((2,), seed, np.array([[0, sample, number, 1]]))).squeeze().astype("float64")
            starts = [reference[int(chosen * len(reference))] for reference in references]
            keys = [np.array([[position, sample, number]]) for position in range(len(points))]
            noise = [np.asarray(normal(x.shape[1:], seed, key))[0] for x, key in zip(points, keys, strict=True)]
            ends = [x[sample] + scale * one for x, one in zip(points, noise, strict=True)]
            there = [(x0 + place * (x - x0))[None] for x, x0 in zip(ends, starts, strict=True)]
            for total, end, start, g in zip(
                totals, ends, starts, loop_replicas.gradient(function, there, TARGET), strict=True
            ):
                total[sample] += (end - start) * g[0] / augment_by_n
    return totals


CASES = {
    "dense": (REFERENCES, [REFERENCES]),
    "two_inputs": (
        [models.normal(4, 4, seed=1), models.normal(4, 3, 2, seed=2)],
        [models.normal(4, 4, seed=1), models.normal(4, 3, 2, seed=2)],
    ),
}


def test_the_slow_loop(eager):
    def is_the_loop(name, scale):
        given, references = CASES[name]
        options = {"seed": 3, "noise_scale": scale, "relative": False}
        heat = ExpectedGradients(models.case(name).model, given, 3, **options)(models.case(name).x, target=1)
        expected = slow(name, references, 3, 3, scale)
        assert_close([one[:SAMPLES] for one in keras.tree.flatten(heat)], expected, 2e-5)

    assert offenders(is_the_loop, [(name, scale) for name in CASES for scale in (0.0, 0.4)]) == {}


def test_references_of_tokens(eager):
    """Each stands where its own embedding is."""
    tokens = np.array([[3, 1, 4, 1, 5, 2], [1, 1, 2, 3, 5, 6]])
    embedded = models.case("text").logits.get_layer("embedding")(tokens).numpy()
    heat = ExpectedGradients(models.case("text").model, tokens, 5, seed=2).analyze(models.case("text").x, 1)
    (expected,) = loop_replicas.folded("text", slow("text", [embedded], 5, 2))
    assert_close(heat[:SAMPLES], expected, 2e-5)


def test_they_converge_to_the_mean_of_integrated_gradients():
    """As 1 / sqrt(n): sixteen times the draws, a quarter of the error; so does the sum to f(x) - mean f(references)."""
    case = models.case("dense")
    ways = [IntegratedGradients(case.model, 64, reference_inputs=row)(case.x, target=1).numpy() for row in REFERENCES]
    exact, errors, gaps = np.mean(ways, axis=0), [], []
    logits = case.logits(case.x).numpy()[:, 1] - case.logits(REFERENCES).numpy()[:, 1].mean()
    for draws in (32, 512):
        # Each place in a batch has draws of its own.
        heat = ExpectedGradients(case.model, REFERENCES, draws).analyze(np.tile(case.x, (10, 1)), 1, batch_size=6000)
        found = heat.reshape(10, *case.x.shape)
        errors.append(np.sqrt(np.mean((found - exact) ** 2)))
        gaps.append(np.sqrt(np.mean((found.sum(2) - logits) ** 2)))
    assert 2.8 < errors[0] / errors[1] < 5.7 and 2.8 < gaps[0] / gaps[1] < 5.7
    # They are right in the mean.
    assert np.abs(found.mean(0) - exact).max() < 2 * errors[1]


def test_without_references_they_start_from_nothing(eager):
    case = models.case("dense")
    heat, zeros = (ExpectedGradients(case.model, given, 9)(case.x) for given in (None, np.zeros((3, 6))))
    assert_close(heat, zeros)


def test_measures_know_what_they_explain():
    case = models.case("dense")
    analyzer = ExpectedGradients(case.model, REFERENCES, 100)
    wanted = case.logits(case.x).numpy()[:, 1] - case.logits(REFERENCES).numpy()[:, 1].mean()
    for found in (metrics.completeness(analyzer, case.x, 1).explained, analyzer.check(case.x, 1).start):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    assert np.abs(analyzer.check(case.x, 1).gap).max() < 0.5 * np.abs(wanted).max()


def test_both_names(eager):
    case = models.case("dense")
    one, two = (
        create_analyzer(name, case.model, reference_inputs=REFERENCES, augment_by_n=5, seed=1)(case.x)
        for name in ("expected_gradients", "gradient_shap")
    )
    np.testing.assert_array_equal(one, two)
    other = create_analyzer("gradient_shap", case.model, reference_inputs=REFERENCES, augment_by_n=5, seed=2)(case.x)
    assert np.abs(np.asarray(one) - other).max() > 1e-3


def test_what_is_refused():
    model = models.case("dense").model
    cases = {
        "shape": (lambda: ExpectedGradients(model, np.zeros((3, 5))), "should have shape"),
        "none": (lambda: ExpectedGradients(model, np.zeros((0, 6))), "at least one sample"),
        "numbers": (lambda: ExpectedGradients(model, np.full((2, 6), np.nan)), "NaN or infinite"),
        "count": (lambda: ExpectedGradients(model, REFERENCES, 0), "augment_by_n should be"),
        "noise": (lambda: ExpectedGradients(model, REFERENCES, noise_scale=-1), "noise_scale should be"),
        "seed": (lambda: ExpectedGradients(model, REFERENCES, seed=-1), "seed should lie"),
        "open": (
            lambda: ExpectedGradients(open_sized(), np.zeros((2, 5, 5, 1))).analyze(np.zeros((1, 6, 6, 1))),
            r"reference_inputs has the shape \(5, 5, 1\), but the samples have \(6, 6, 1\)",
        ),
    }
    assert refusals(cases, InvalidInputError) == {}


def open_sized():
    x = keras.Input((None, None, 1), name="x")
    value = keras.layers.GlobalAveragePooling2D(name="mean")(keras.layers.Conv2D(2, 3, name="conv")(x))
    return keras.Model(x, keras.layers.Dense(2, name="out")(value))


@pytest.mark.slow
def test_a_served_one_takes_a_seed(exported):
    case = models.case("dense")
    analyzer = ExpectedGradients(case.model, REFERENCES, 5)
    served = exported(analyzer, predictions=False).serve
    for seed in (0, 5):
        expected = ExpectedGradients(case.model, REFERENCES, 5, seed=seed)(case.x)
        assert_close(served(case.x, seed=np.int64(seed))["attributions"], expected)
