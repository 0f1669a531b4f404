"""Similarity of maps, completeness, max-sensitivity and sparseness: against hand values, slow replicas."""

import itertools

import keras
import models
import numpy as np
import pytest

import innvest_lite
from innvest_lite import metrics
from innvest_lite.errors import InvalidInputError
from innvest_lite.metrics.similarity import average_ranks


def slow_ranks(values):
    """Average ranks, one value against all others."""
    return np.array([sum(v < value for v in values) + (sum(v == value for v in values) + 1) / 2 for value in values])


def slow_ssim(one, two, data_range, window):
    """The mean over windows, one after the other, of the formula with sample covariances."""
    c1, c2, found = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2, []
    for corner in itertools.product(*(range(size - window + 1) for size in one.shape)):
        where = tuple(slice(start, start + window) for start in corner)
        a, b = one[where].ravel(), two[where].ravel()
        (va, cab), (_, vb) = np.cov(a, b)
        above = (2 * a.mean() * b.mean() + c1) * (2 * cab + c2)
        found.append(above / ((a.mean() ** 2 + b.mean() ** 2 + c1) * (va + vb + c2)))
    return np.mean(found)


def test_spearman_by_hand():
    # 1 - 6 sum d^2 / (n (n^2 - 1)), without ties.
    np.testing.assert_allclose(metrics.spearman([[1.0, 2, 3, 4, 5]], [[5.0, 6, 7, 8, 7.5]]), [0.9])
    # With ties: Pearson's of (1, 2.5, 2.5, 4) and (1, 2, 3, 4).
    np.testing.assert_allclose(metrics.spearman([[1, 2, 2, 3]], [[1, 2, 3, 4]]), [4.5 / np.sqrt(4.5 * 5)])


def test_ranks_with_ties():
    values = np.random.default_rng(0).integers(0, 6, 40).astype(float)
    np.testing.assert_array_equal(average_ranks(values), slow_ranks(values))


def test_spearman_sees_only_the_order():
    one, two = models.normal(3, 4, 5), models.normal(3, 4, 5, seed=2)
    np.testing.assert_allclose(metrics.spearman(one, two), metrics.spearman(np.exp(one), 3 * two - 1))
    np.testing.assert_allclose(metrics.spearman(one, -two), -metrics.spearman(one, two))
    np.testing.assert_allclose(metrics.spearman(one, one), 1)
    np.testing.assert_allclose(metrics.spearman(one, -one), -1)


def test_constant_maps():
    flat, varied = np.full((1, 8, 8), 3.0), models.normal(1, 8, 8)
    assert metrics.spearman(flat, varied) == 0 and metrics.spearman(flat, flat) == 1
    assert metrics.ssim(flat, flat) == 1 and metrics.ssim(0 * flat, 0 * flat) == 1
    assert metrics.ssim(flat, varied) < 0.1


def test_not_a_number_is_no_similarity():
    broken = models.normal(2, 4, 4)
    broken[1, 0, 0] = np.inf
    for measure in (metrics.spearman, metrics.ssim):
        first, second = measure(broken, broken)
        assert np.isclose(first, 1) and np.isnan(second)


@pytest.mark.parametrize(("shape", "window"), [((9, 8), 7), ((6, 5, 4), 3), ((12,), 12)])
def test_ssim_against_the_slow_one(shape, window):
    one, two = models.normal(2, *shape).astype(float), models.normal(2, *shape, seed=2).astype(float)
    expected = [slow_ssim(a, b, 3.0, window) for a, b in zip(one, two, strict=True)]
    np.testing.assert_allclose(metrics.ssim(one, two, data_range=3.0, window=window), expected)


def test_ssim_of_a_single_axis_has_one_window_over_all_of_it():
    """The default window is shorter, and is for images."""
    one, two = models.normal(3, 12).astype(float), models.normal(3, 12, seed=2).astype(float)
    expected = [slow_ssim(a, b, 3.0, 12) for a, b in zip(one, two, strict=True)]
    np.testing.assert_allclose(metrics.ssim(one, two, data_range=3.0), expected)
    assert not np.allclose(expected, [slow_ssim(a, b, 3.0, 7) for a, b in zip(one, two, strict=True)])


def test_ssim_by_hand():
    # Means 1 and 2, variances 2 and 8, covariance 4 (two values); c1 = 1e-4 L^2, c2 = 9e-4 L^2 with L = 10.
    expected = (4 + 0.01) * (8 + 0.09) / ((5 + 0.01) * (10 + 0.09))
    np.testing.assert_allclose(metrics.ssim([[0.0, 2]], [[0.0, 4]], data_range=10), [expected])


def test_ssim_without_a_range_ignores_the_scale_but_not_the_sign():
    one = models.normal(2, 9, 9)
    np.testing.assert_allclose(metrics.ssim(one, 1e-8 * one), 1, rtol=1e-6)
    board = np.indices((1, 8, 8)).sum(0) % 2 * 2.0 - 1
    np.testing.assert_allclose(metrics.ssim(board, -board, window=2), -1, atol=0.01)


@pytest.mark.parametrize("wrong", [(np.ones((2, 3)), np.ones((3, 2))), (np.ones(3), np.ones(3)), (np.ones((2, 0)),) * 2])
def test_maps_that_do_not_fit(wrong):
    for measure in (metrics.spearman, metrics.ssim):
        with pytest.raises(InvalidInputError, match="two arrays of one shape"):
            measure(*wrong)


def test_ssim_options():
    for options, words in (({"data_range": 0}, "above 0"), ({"window": 0}, "at least 1")):
        with pytest.raises(InvalidInputError, match=words):
            metrics.ssim(np.ones((1, 3, 3)), np.ones((1, 3, 3)), **options)


def test_sparseness_by_hand():
    rows = np.array([[0, 0, 0, -2.0], [1, -1, 1, 1], [0, 0, 0, 0], [1, 2, 3, 4]])
    np.testing.assert_allclose(metrics.sparseness(rows), [0.75, 0, 0, 0.25])


def test_sparseness_is_the_mean_difference():
    values = models.normal(3, 4, 5).astype(float)
    flat = np.abs(values.reshape(3, -1))
    expected = [np.abs(v[:, None] - v).mean() / (2 * v.mean()) for v in flat]
    np.testing.assert_allclose(metrics.sparseness(values), expected)
    np.testing.assert_allclose(metrics.sparseness(1e30 * values), expected)
    np.testing.assert_allclose(metrics.sparseness({"a": values[:, :2], "b": values[:, 2:]}), expected)


@pytest.mark.parametrize("wrong", [np.ones(3), np.full((2, 2), np.nan), ["a"], [np.ones((2, 2)), np.ones((3, 2))], []])
def test_sparseness_of_no_attributions(wrong):
    with pytest.raises(InvalidInputError, match="attributions should be"):
        metrics.sparseness(wrong)


def by_hand(name):
    """A dense model's logits and gradients, for the sums below."""
    case = models.case(name)
    return case, case.logits.predict(case.x, verbose=0).astype(float)


@pytest.mark.parametrize("target", [None, 1, "all"])
def test_completeness_of_input_times_gradient(target):
    case, logits = by_hand("dense")
    found = metrics.completeness(innvest_lite.InputTimesGradient(case.model), case.x, target)
    expected = {None: logits.max(1), 1: logits[:, 1], "all": logits.sum(1)}[target]
    models.assert_close(found.explained, expected)
    sums = innvest_lite.InputTimesGradient(case.model).analyze(case.x, target).sum(1)
    models.assert_close(found.sums, sums)
    np.testing.assert_allclose(found.gap, found.explained - found.sums)
    np.testing.assert_allclose(found.relative, np.abs(found.gap) / np.abs(found.explained))


def test_completeness_of_contrastive_weights():
    case, logits = by_hand("dense")
    weights = np.tile([1.0, -0.5, -2.0], (len(logits), 1))
    analyzer = innvest_lite.InputTimesGradient(case.model)
    found = metrics.completeness(analyzer, case.x, weights)
    models.assert_close(found.explained, logits @ [1, -0.5, -2])
    models.assert_close(found.sums, sum(w * analyzer.analyze(case.x, k).sum(1) for k, w in enumerate([1, -0.5, -2])))


def beyond_float32():
    """A PatternNet of linear layers whose explanations leave float32, and the matrix that each target's logit meets."""
    model = keras.Sequential([keras.Input((4,)), *(keras.layers.Dense(4, name=f"d{index}") for index in range(4))])
    models.randomize(model, 3)
    rng = np.random.default_rng(5)
    patterns = {layer.name: np.float32(rng.uniform(0.1, 0.3, (4, 4)) * 1e12) for layer in model.layers}
    back = np.eye(4)
    for layer in reversed(model.layers):
        back = back @ patterns[layer.name].astype(float).T
    return innvest_lite.PatternNet(model, patterns=patterns), back


def test_measures_of_relevance_beyond_float32():
    analyzer, back = beyond_float32()
    x = models.normal(3, 4)
    logits = analyzer.model.predict(x, verbose=0).astype(float)
    found = metrics.completeness(analyzer, x, 1)
    models.assert_close(found.sums, logits[:, 1] * back[1].sum())
    assert np.abs(found.sums).min() > np.finfo("float32").max
    generator, changes = np.random.default_rng(0), []
    for _ in range(2):
        moved = (x + generator.uniform(-0.3, 0.3, x.shape)).astype("float32")
        changes.append(np.abs(analyzer.model.predict(moved, verbose=0).astype(float) - logits)[:, 1] / np.abs(logits[:, 1]))
    sensitivity = metrics.max_sensitivity(analyzer, x, radius=0.3, samples=2, target=1)
    models.assert_close(sensitivity.values, np.max(changes, 0))


def test_measures_explain_what_the_analyzer_explains():
    case, logits = by_hand("dense")
    of_all = innvest_lite.InputTimesGradient(case.model, neuron_selection_mode="all")
    found = metrics.completeness(of_all, case.x)
    models.assert_close(found.explained, logits.sum(1))
    models.assert_close(found.sums, of_all.analyze(case.x).sum(1))
    models.assert_close(metrics.completeness(of_all, case.x, 1).explained, logits[:, 1])
    plain = innvest_lite.InputTimesGradient(case.model)
    found, wanted = (metrics.max_sensitivity(*given, samples=2).values for given in ((of_all, case.x), (plain, case.x)))
    assert not np.allclose(found, wanted)
    models.assert_close(found, metrics.max_sensitivity(plain, case.x, samples=2, target="all").values)


def test_measures_of_an_analyzer_that_wants_to_be_told():
    case, logits = by_hand("dense")
    told = innvest_lite.InputTimesGradient(case.model, neuron_selection_mode="index")
    for measure in (metrics.completeness, metrics.max_sensitivity):
        with pytest.raises(InvalidInputError, match="neuron_selection_mode is 'index'"):
            measure(told, case.x)
    models.assert_close(metrics.completeness(told, case.x, target=2).explained, logits[:, 2])


def test_completeness_of_a_method_that_is_complete():
    case, _ = by_hand("two_inputs")
    for variable in case.logits.weights:
        assert "bias" not in variable.path or np.any(variable)
    model = models.logits_of("two_inputs", case.model)
    for layer in model.layers:
        if getattr(layer, "bias", None) is not None:
            layer.bias.assign(0 * layer.bias)
    found = metrics.completeness(innvest_lite.create_analyzer("lrp.z", model), case.x)
    assert found.relative.max() < 1e-4


def test_completeness_of_integrated_gradients_is_a_rise():
    case, logits = by_hand("dense")
    chosen = logits.argmax(1)
    origin = case.logits.predict(0 * case.x, verbose=0)[np.arange(len(chosen)), chosen]
    found = metrics.completeness(innvest_lite.IntegratedGradients(case.model, steps=64), case.x)
    models.assert_close(found.explained, logits.max(1) - origin, 1e-4)
    assert np.abs(found.gap).max() < 0.02 * np.abs(found.explained).max()


def test_completeness_prints_and_draws():
    found = metrics.Completeness(np.array([0.0, 0, 2]), np.array([0.0, 1, 1]))
    np.testing.assert_array_equal(found.relative, [0, np.inf, 0.5])
    assert found.to_dict()["gap"] == [0, -1, 1]
    assert str(found).splitlines()[2].startswith("median")
    assert found.plot().get_ylabel() == "sum of the attributions"


def test_max_sensitivity_is_the_largest_of_its_draws():
    case = models.case("dense")
    analyzer, x = innvest_lite.InputTimesGradient(case.model), case.x
    target = case.logits.predict(x, verbose=0).argmax(1)
    clean, generator, changes = analyzer.analyze(x, target), np.random.default_rng(5), []
    for _ in range(4):
        moved = (x + generator.uniform(-0.3, 0.3, x.shape)).astype("float32")
        changes.append(np.linalg.norm(analyzer.analyze(moved, target) - clean, axis=1) / np.linalg.norm(clean, axis=1))
    found = metrics.max_sensitivity(analyzer, x, radius=0.3, samples=4, seed=5)
    models.assert_close(found.values, np.max(changes, 0))
    assert found.to_dict()["samples"] == 4 and "radius 0.3, 4 draws" in str(found)


def test_max_sensitivity_of_a_linear_model_is_none():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    found = metrics.max_sensitivity(innvest_lite.Gradient(model), models.normal(3, 4), radius=5.0, target=1)
    np.testing.assert_array_equal(found.values, 0)


def test_max_sensitivity_of_several_inputs():
    case = models.case("dict_inputs")
    found = metrics.max_sensitivity(innvest_lite.InputTimesGradient(case.model), case.x, samples=2)
    assert found.values.shape == (6,) and np.all(found.values > 0)


def test_wrong_input_of_the_properties():
    case, text = models.case("dense"), models.case("text")
    analyzer = innvest_lite.Gradient(case.model)
    for call, words in (
        (lambda: metrics.completeness(case.model, case.x), "An analyzer is wanted, .* but this is <Functional"),
        (lambda: metrics.completeness(analyzer, case.x[:0]), "no samples"),
        (lambda: metrics.completeness(analyzer, case.x[:, :2]), "shape"),
        (lambda: metrics.max_sensitivity(analyzer, case.x, radius=0), "above 0"),
        (lambda: metrics.max_sensitivity(analyzer, case.x, samples=0), "at least 1"),
        (lambda: metrics.max_sensitivity(innvest_lite.Gradient(text.model), text.x), "tokens"),
        (lambda: metrics.max_sensitivity(analyzer, case.x, target=7), "out of range"),
    ):
        with pytest.raises(InvalidInputError, match=words):
            call()


def test_sparseness_of_tensors_and_lists_of_several_inputs():
    one, two = np.array([[1.0, 0.0], [0.0, 2.0]]), np.array([[0.0, 0.0], [2.0, 0.0]])
    expected = metrics.sparseness(np.concatenate([one, two], axis=1))
    for given in ([one, two], [keras.ops.convert_to_tensor(one), two], {"a": one.tolist(), "b": two.tolist()}):
        np.testing.assert_allclose(metrics.sparseness(given), expected)
