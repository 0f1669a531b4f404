"""Convergence: propagated random starts against a known matrix, on many models, with words for what is wrong."""

import keras
import models
import numpy as np
import pytest

import innvest_lite
from innvest_lite import metrics
from innvest_lite.errors import InvalidInputError
from innvest_lite.metrics import sanity

# Each program explains a few samples and is gone; so are fits.
pytestmark = pytest.mark.usefixtures("eager", "eager_fits")


def linear_chain():
    stack = [keras.Input((5,)), keras.layers.Dense(6, name="hidden"), keras.layers.Dense(3, name="out")]
    return models.randomize(keras.Sequential(stack), 3)


def mean_cosine(rows):
    """The mean |cosine| over pairs, one after the other."""
    pairs = [(a, b) for i, a in enumerate(rows) for b in rows[:i]]
    return np.mean([abs(a @ b) / np.linalg.norm(a) / np.linalg.norm(b) for a, b in pairs])


def test_convergence_of_a_linear_chain():
    """Without activations the relevance at the input is K r for a known matrix K."""
    model = linear_chain()
    found = metrics.convergence(innvest_lite.Gradient(model), models.normal(1, 5), seed=2, samples=4)
    starts = np.random.default_rng(2).normal(size=(4, 3))
    hidden, out = (layer.get_weights()[0] for layer in model.layers)
    assert found.layers == ("out", "hidden", sanity.INPUT)
    for row, relevance in zip(found.cosine[:, 0], (starts, starts @ out.T, starts @ out.T @ hidden.T), strict=True):
        np.testing.assert_allclose(row, mean_cosine(relevance), atol=1e-5)


@pytest.mark.parametrize("method", ["lrp.z", "pattern.net", "pattern.attribution"])
def test_methods_that_start_from_the_logit_have_the_same_starts(method, eager):
    """What they multiply by is divided out: at the output, each row is that of the raw starts."""
    model, x = linear_chain(), models.normal(3, 5)
    # As one map, the chain would have no layers to look at.
    options = {"chains": "split"} if method.startswith("pattern") else {}
    analyzer = innvest_lite.create_analyzer(method, model, **options).fit(models.normal(200, 5), verbose=0)
    assert analyzer.starts_from_logit
    found = metrics.convergence(analyzer, x, seed=2, samples=4)
    generator = np.random.default_rng(2)
    expected = [mean_cosine(generator.normal(size=(4, 3))) for _ in x]
    np.testing.assert_allclose(found.cosine[found.layers.index("out")], expected, atol=1e-5)


def test_a_chain_of_positive_kernels_converges():
    model = models.chain(depth=8)
    for layer in model.layers[:-1]:
        layer.kernel.assign(np.abs(layer.kernel))
        layer.bias.assign(np.abs(layer.bias))
    x = np.abs(models.normal(2, 4))
    found = metrics.convergence(innvest_lite.create_analyzer("lrp.z_plus", model), x)
    assert found.means[sanity.INPUT] > 0.999 > 0.9 > found.means["out"]
    whole = metrics.convergence(innvest_lite.create_analyzer("lrp.z_plus", model))
    assert whole.cosine.shape == (10, 8)


def test_convergence_prints_and_draws():
    found = metrics.Convergence(("out", "(input)"), np.array([[0.5, np.nan], [np.nan, np.nan]]))
    assert found.means["out"] == 0.5 and np.isnan(found.means["(input)"])
    assert "0.500" in str(found) and found.to_dict()["out"][0] == 0.5
    assert len(found.plot().lines) == 1


QUICK, SLOW = ("two_inputs", "text"), ("several", "sigmoid_head", "nested", "separable")


@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_convergence_in_many_models(name):
    case = models.case(name)
    patterns = innvest_lite.fit_patterns(case.model, estimator="filter")
    analyzer = innvest_lite.PatternAttribution(case.model, patterns=patterns, **case.options)
    found = metrics.convergence(analyzer, case.x, samples=3)
    assert found.cosine.shape == (len(found.layers), 6) and np.all((found.cosine <= 1 + 1e-9) | np.isnan(found.cosine))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["lrp.z", "pattern.attribution"])
def test_convergence_leaves_out_what_gets_no_relevance(method, eager):
    """Gates get none, so that neither does what makes them."""
    case = models.case("gate")
    analyzer = innvest_lite.create_analyzer(method, case.model).fit(case.x, verbose=0)
    assert metrics.convergence(analyzer, case.x, samples=2).layers == ("out", "conv", sanity.INPUT)
    whole = metrics.convergence(innvest_lite.Gradient(case.model), case.x, samples=2)
    assert whole.layers == ("out", "excite", "narrow", "conv", sanity.INPUT)


def test_wrong_input_of_the_convergence():
    case, text = models.case("dense"), models.case("text")
    analyzer = innvest_lite.Gradient(case.model)
    for call, words in (
        (
            lambda: metrics.convergence(innvest_lite.IntegratedGradients(case.model)),
            "which IntegratedGradients has none of",
        ),
        (lambda: metrics.convergence(analyzer, samples=1), "at least 2"),
        (lambda: metrics.convergence(analyzer, layers=5), "names of layers"),
        (lambda: metrics.convergence(analyzer, case.x, layers=["nothing"]), "keep names no node"),
        (lambda: metrics.convergence(innvest_lite.Gradient(text.model)), "give x"),
    ):
        with pytest.raises(InvalidInputError, match=words):
            call()
