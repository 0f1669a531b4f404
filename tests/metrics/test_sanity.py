"""Input invariance, randomization and random logits: against slow values, with planted defects."""

import hashlib
import random

import keras
import models
import numpy as np
import pytest

import innvest_lite
from innvest_lite import metrics
from innvest_lite.errors import InvalidInputError, PatternMismatchError
from innvest_lite.metrics import copies

# Each program explains a few samples and is gone.
pytestmark = pytest.mark.usefixtures("eager")
LINEAR = {name: {"estimator": "linear"} for name in ("pattern.net", "pattern.attribution")}


def digest(model):
    """A hash of all weights, and of how often each layer was called."""
    weights = b"".join(np.ascontiguousarray(array).tobytes() for array in model.get_weights())
    return hashlib.sha256(weights).hexdigest(), [len(layer._inbound_nodes) for layer in model.layers]


def same(one, two):
    """Whether two lists of arrays are equal."""
    return all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))


def weights_by_layer(model):
    return {name: layer.get_weights() for name, layer in copies.weighted_layers(model).items()}


@pytest.fixture
def image_model():
    """Two convolutions and a dense layer, "valid" padding."""
    stack = [keras.Input((7, 6, 2)), keras.layers.Conv2D(4, 3, activation="relu", name="first")]
    stack += [keras.layers.Conv2D(3, 2, activation="relu", name="second"), keras.layers.Flatten()]
    return models.randomize(keras.Sequential([*stack, keras.layers.Dense(3, name="out")]), seed=3)


# Input invariance.


@pytest.mark.slow
def test_a_shift_of_an_image(image_model, eager_fits):
    x, fit_data, before = models.normal(5, 7, 6, 2), models.normal(60, 7, 6, 2, seed=4), digest(image_model)
    shift = np.array([0.5, -2.0])
    found = metrics.input_invariance(image_model, x, shift=shift, fit_data=fit_data, options=LINEAR)
    assert digest(image_model) == before
    assert tuple(found.differences) == ("pattern.net", "pattern.attribution", "gradient", *NOT_INVARIANT)
    for name, largest in found.largest.items():
        assert largest > 0.05 if name in NOT_INVARIANT else largest < 1e-4, (name, largest)
    assert found.logit_difference < 1e-5


NOT_INVARIANT = ("input_t_gradient", "lrp.z", "integrated_gradients")


def test_a_shift_of_all_channels_by_the_same(image_model):
    found = metrics.input_invariance(image_model, models.normal(5, 7, 6, 2), ("gradient", "lrp.z"), shift=1.0)
    assert found.largest["gradient"] < 1e-4 < 0.05 < found.largest["lrp.z"]


@pytest.mark.slow
def test_the_demo_model():
    model, x = innvest_lite.data.load_model(), innvest_lite.data.load_digits()[0]
    methods = ("pattern.net", "pattern.attribution", "gradient", "input_t_gradient", "lrp.z")
    found = metrics.input_invariance(model, x[:4], methods, fit_data=x[:200], options=LINEAR)
    assert max(found.largest[name] for name in (*LINEAR, "gradient")) < 1e-4
    assert min(found.largest[name] for name in ("input_t_gradient", "lrp.z")) > 0.3


@pytest.mark.slow
def test_patterns_of_the_positive_regime_move_with_the_shift():
    """The numerator E+[x y] - E+[x] E[y] of a neuron moves by shift * (E+[y] - E[y]): no defect, but the formula."""
    rng = np.random.default_rng(0)
    x, w, b, shift = rng.normal(size=(4000, 3)), np.array([1.0, -0.5, 0.3]), 0.2, np.array([1.0, 0.5, -1.0])

    def numerator(x, b):
        y, active = x @ w, x @ w + b > 0
        return (x[active] * y[active, None]).mean(0) - x[active].mean(0) * y.mean(), y[active].mean() - y.mean()

    (plain, excess), (moved, _) = numerator(x, b), numerator(x + shift, b - w @ shift)
    np.testing.assert_allclose(moved - plain, shift * excess)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, activation="relu"), keras.layers.Dense(1)])
    model.layers[0].set_weights([w[:, None], np.array([b])])
    model.layers[1].set_weights([np.ones((1, 1)), np.zeros(1)])
    found = metrics.input_invariance(model, x[:8], ("pattern.net",), shift, x, 0)
    assert found.largest["pattern.net"] > 0.1


@pytest.mark.parametrize("options", [{"use_bias": False}, {"groups": 2}, {"strides": 2}, {"dilation_rate": 2}])
def test_the_bias_that_absorbs(options):
    stack = [keras.Input((9, 8, 2)), keras.layers.Conv2D(4, 3, activation="relu", **options)]
    stack += [keras.layers.BatchNormalization(), keras.layers.Flatten(), keras.layers.Dense(3)]
    model, x = models.randomize(keras.Sequential(stack), 3), models.normal(4, 9, 8, 2)
    shift = np.broadcast_to([0.7, -1.5], (9, 8, 2))
    models.assert_close(copies.absorbing(model, shift)(x + shift.astype("float32")), model(x))


def test_a_dense_first_layer_and_a_shift_by_feature():
    case = models.case("dense")
    shift = np.arange(6) / 3
    found = metrics.input_invariance(case.model, case.x, ("gradient", "lrp.z"), shift)
    assert found.largest["gradient"] < 1e-4 < 0.05 < found.largest["lrp.z"]


def test_a_bias_that_absorbs_too_little_is_caught(monkeypatch):
    case, whole = models.case("dense"), copies._answer
    monkeypatch.setattr(copies, "_answer", lambda *arguments: 0.99 * whole(*arguments))
    with pytest.raises(InvalidInputError, match="logits of x and of x \\+ shift differ"):
        metrics.input_invariance(case.model, case.x, ("gradient",))


def test_invariance_prints_and_draws():
    found = metrics.InputInvariance({"a": np.array([0.0, 1e-6]), "b": np.array([0.5, 0.25])}, 0.0)
    assert found.largest == {"a": 1e-6, "b": 0.5} and found.to_dict()["b"] == [0.5, 0.25]
    assert str(found).splitlines()[2].endswith("yes") and str(found).splitlines()[3].endswith("no")
    assert found.plot().get_xscale() == "log"


@pytest.mark.parametrize(
    ("name", "words"),
    [("residual", "padding 'same'"), ("shared", "called 3 times"), ("two_inputs", "one input"), ("text", "Embedding")],
)
def test_first_layers_that_cannot_absorb(name, words):
    case = models.case(name)
    with pytest.raises(InvalidInputError, match=words):
        metrics.input_invariance(case.model, case.x, ("gradient",))


def test_wrong_input_of_the_invariance(image_model):
    x = models.normal(2, 7, 6, 2)
    for arguments, words in (
        ({"methods": "gradient"}, "names of analyzers"),
        ({"methods": {}}, "names of analyzers"),
        ({"methods": ("nothing",)}, "no analyzer"),
        ({"methods": {"mine": 3}}, "a name for create_analyzer or a function"),
        ({"shift": np.ones(3)}, "broadcast to a sample"),
        ({"shift": np.nan}, "finite"),
        ({"shift": np.arange(42.0).reshape(7, 6, 1)}, "same at all of them"),
        ({"shift": 1e9}, "too large for the model"),
        ({"options": {"lrp.z": {}}}, "options should map"),
    ):
        with pytest.raises(InvalidInputError, match=words):
            metrics.input_invariance(image_model, x, **{"methods": ("gradient",), **arguments})


# Randomization.


@pytest.mark.parametrize("mode", copies.MODES)
@pytest.mark.parametrize("name", ["conv_bn", "shared", "nested", "nested_twice", "separable", "opaque", "built"])
def test_exactly_the_named_layers_change(name, mode):
    model = models.build(name)
    before, trained = digest(model), weights_by_layer(model)
    order = list(reversed(trained))
    for number, (step, copy) in enumerate(copies.randomized(model, order, mode, seed=1)):
        changed = set() if not number else set(order[:number]) if mode == "cascade" else {order[number - 1]}
        now = weights_by_layer(copy)
        assert step == (copies.ORIGINAL, *order)[number]
        assert {layer for layer in trained if not same(trained[layer], now[layer])} == changed
    assert digest(model) == before


def test_batch_normalizations_are_redrawn_and_their_variances_positive():
    x = keras.Input((5,))
    normal = keras.initializers.RandomNormal()
    norm = keras.layers.BatchNormalization(moving_variance_initializer=normal, gamma_initializer=normal, name="bn")
    model = models.randomize(keras.Model(x, keras.layers.Dense(2)(norm(x))), 3)
    trained, fresh = norm.get_weights(), copies.weighted_layers(copies.redrawn(model, 1))["bn"]
    assert np.asarray(fresh.moving_variance).min() > 0
    for one, two in zip(trained, fresh.get_weights(), strict=True):
        assert not np.any(one == two)
    for layer in copies.weighted_layers(copies.redrawn(models.case("conv_bn").model, 0)).values():
        if isinstance(layer, keras.layers.BatchNormalization):
            np.testing.assert_array_equal(layer.moving_variance, 1)


def test_draws_come_from_the_initializers_and_the_seed_alone():
    stack = [
        keras.Input((400,)),
        keras.layers.Dense(300, kernel_initializer=keras.initializers.RandomNormal(2, 0.5, seed=1)),
    ]
    model = keras.Sequential([*stack, keras.layers.Dense(3, bias_initializer="ones")])
    random.seed(7)
    state = random.getstate()
    one, again, other = (copies.redrawn(model, seed).get_weights() for seed in (0, 0, 1))
    assert random.getstate() == state
    assert same(one, again) and not np.any(one[0] == other[0]) and not np.any(one[0] == model.get_weights()[0])
    assert abs(one[0].mean() - 2) < 0.01 and abs(one[0].std() - 0.5) < 0.01
    np.testing.assert_array_equal(one[3], 1)


def check_start(found):
    """A randomization starts from the trained weights."""
    for name in ("spearman", "absolute_spearman", "ssim"):
        np.testing.assert_allclose(getattr(found, name)[0], 1, atol=1e-6)


@pytest.mark.parametrize("mode", copies.MODES)
def test_randomization_step_by_step(mode):
    model, x = models.build("conv_bn"), models.case("conv_bn").x
    before, target = digest(model), models.case("conv_bn").logits.predict(x, verbose=0).argmax(1)
    found = metrics.randomization(model, "gradient", x, mode, layers=["conv2", "out"], seed=2)
    assert digest(model) == before and found.steps == (copies.ORIGINAL, "out", "conv2")
    assert found.spearman.shape == (3, 6)
    check_start(found)
    own, fresh = models.build("conv_bn"), copies.redrawn(model, 2)
    original = innvest_lite.Gradient(model).analyze(x, target).sum(-1)
    for number, name in enumerate(found.steps[1:], start=1):
        own = models.build("conv_bn") if mode == "independent" else own
        own.get_layer(name).set_weights(fresh.get_layer(name).get_weights())
        now = innvest_lite.Gradient(own).analyze(x, target).sum(-1)
        np.testing.assert_allclose(found.spearman[number], metrics.spearman(now, original), atol=1e-5)
        np.testing.assert_allclose(found.absolute_spearman[number], metrics.spearman(abs(now), abs(original)), atol=1e-5)
        np.testing.assert_allclose(found.ssim[number], metrics.ssim(now, original), atol=1e-5)
    assert found.spearman[1:].mean() < 0.9


def test_a_randomization_from_random_weights_is_caught(monkeypatch):
    case = models.case("conv_bn")
    monkeypatch.setattr(copies, "copy_of", lambda model: copies.redrawn(model, 5))
    found = metrics.randomization(case.model, "gradient", case.x, layers=["out"])
    with pytest.raises(AssertionError):
        check_start(found)


def test_a_function_that_explains_another_model_is_refused():
    case = models.case("dense")
    with pytest.raises(InvalidInputError, match="the model that it is given"):
        metrics.randomization(case.model, lambda model: innvest_lite.Gradient(models.build("dense")), case.x)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "word"), [("pattern.attribution", "refit"), (lambda model: innvest_lite.PatternAttribution(model), "frozen")]
)
def test_frozen_and_refitted_patterns(make, word):
    case = models.case("conv_bn")
    data = models.data_for(case.model, 40, seed=7)
    fitted = innvest_lite.fit_patterns(case.model, data, verbose=0)
    target = case.logits.predict(case.x, verbose=0).argmax(1)
    own = models.build("conv_bn")
    own.get_layer("dense").set_weights(copies.redrawn(own, 0).get_layer("dense").get_weights())
    with pytest.raises(PatternMismatchError):
        innvest_lite.PatternAttribution(own, patterns=fitted)
    original = innvest_lite.PatternAttribution(case.model, patterns=fitted).analyze(case.x, target).sum(-1)
    patterns = dict(fitted) if word == "frozen" else innvest_lite.fit_patterns(own, data, verbose=0)
    options = {"layers": "dense", "fit_data": data, "batch_size": 40}
    found = metrics.randomization(case.model, make, case.x, patterns=word, **options)
    check_start(found)
    now = innvest_lite.PatternAttribution(own, patterns=patterns).analyze(case.x, target).sum(-1)
    np.testing.assert_allclose(found.ssim[1], metrics.ssim(now, original), atol=1e-4)


def test_several_inputs_and_nested_models():
    for name, layers in (("dict_inputs", None), ("nested", ["middle/inner/conv"]), ("text", None)):
        case = models.case(name)
        found = metrics.randomization(case.model, "input_t_gradient", case.x, layers=layers)
        check_start(found)
        assert np.isfinite(found.ssim).all() and found.ssim.shape[1] == 6


def test_randomization_prints_and_draws():
    rows = np.array([[1.0, 1], [0.5, 0]])
    found = metrics.Randomization(("(original)", "out"), rows, rows, rows, "cascade", "frozen")
    assert found.to_dict()["out"]["ssim"] == [0.5, 0] and str(found).splitlines()[3].split()[:2] == ["out", "0.250"]
    assert len(found.plot().lines) == 3


def test_wrong_input_of_the_randomization():
    case = models.case("dense")
    for arguments, words in (
        ({"mode": "both"}, "mode should be one of"),
        ({"patterns": "old"}, "patterns should be one of"),
        ({"layers": ["nothing"]}, "layers should name layers with weights"),
        ({"layers": []}, "layers should name"),
        ({"layers": 3}, "layers should name"),
        ({"seed": -1}, "seed"),
        ({"make_analyzer": 3}, "a name for create_analyzer or a function"),
        ({"make_analyzer": lambda model: model}, "An analyzer is wanted, .* but this is <Functional"),
        ({"x": case.x[:0]}, "no samples"),
        ({"target": 9}, "out of range"),
    ):
        with pytest.raises(InvalidInputError, match=words):
            metrics.randomization(**{"model": case.model, "make_analyzer": "gradient", "x": case.x, **arguments})


# Random logits.


def test_random_logit():
    case = models.case("conv_bn")
    analyzer, logits = innvest_lite.Gradient(case.model), case.logits.predict(case.x, verbose=0)
    found = metrics.random_logit(analyzer, case.x, seed=3)
    np.testing.assert_array_equal(found.predicted, logits.argmax(1))
    assert np.all(found.other != found.predicted) and set(found.other) <= {0, 1, 2}
    one, two = (analyzer.analyze(case.x, target).sum(-1) for target in (found.predicted, found.other))
    np.testing.assert_allclose(found.spearman, metrics.spearman(one, two), atol=1e-6)
    np.testing.assert_allclose(found.ssim, metrics.ssim(one, two), atol=1e-6)
    assert found.to_dict()["other"] == found.other.tolist() and "ssim" in str(found)


def test_random_logit_takes_every_other_class():
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(5, kernel_initializer="identity")])
    found = metrics.random_logit(innvest_lite.Gradient(model), models.normal(400, 5), batch_size=400)
    seen = set(zip(found.predicted.tolist(), found.other.tolist(), strict=True))
    assert seen == {(one, other) for one in range(5) for other in range(5) if other != one}


def test_a_method_that_ignores_the_class():
    case = models.case("conv_bn")
    np.testing.assert_allclose(metrics.random_logit(innvest_lite.Input(case.model), case.x).spearman, 1)


def test_checks_that_name_their_own_outputs_do_so_whatever_the_analyzer_explains(subtests):
    case = models.case("dense")
    plain = innvest_lite.Gradient(case.model)
    logit, cosine = metrics.random_logit(plain, case.x), metrics.convergence(plain, case.x, samples=2)
    invariance = metrics.input_invariance(case.model, case.x, ("lrp.z",)).differences["lrp.z"]
    for mode in ("all", "index"):
        other, options = innvest_lite.Gradient(case.model, neuron_selection_mode=mode), {"neuron_selection_mode": mode}
        with subtests.test(mode):
            np.testing.assert_array_equal(metrics.random_logit(other, case.x).spearman, logit.spearman)
            np.testing.assert_array_equal(metrics.convergence(other, case.x, samples=2).cosine, cosine.cosine)
            found = metrics.input_invariance(case.model, case.x, ("gradient", "lrp.z"), options={"gradient": options})
            np.testing.assert_array_equal(found.differences["lrp.z"], invariance)


def test_random_logit_wants_two_classes():
    x = keras.Input((6,))
    with pytest.raises(InvalidInputError, match="single output"):
        metrics.random_logit(innvest_lite.Gradient(keras.Model(x, keras.layers.Dense(1)(x))), models.normal(4, 6))
