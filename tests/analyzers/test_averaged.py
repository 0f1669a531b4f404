"""Integrated gradients and the gradient under noise against slow loops, theory, and each other."""

import keras
import loop_replicas
import models
import numpy as np
import pytest
from comparing import assert_close, offenders, refusals
from keras import layers

import innvest_lite.data
from innvest_lite import IntegratedGradients, InvalidInputError, SmoothGrad, SquareGrad, VarGrad
from innvest_lite.draws import normal

NOISY = [SmoothGrad, SquareGrad, VarGrad]
TARGETS = [1, [0, 1, 2, 0, 2, 1], "all", np.random.default_rng(5).normal(size=(6, 3)).astype("float32")]
RULES = [("gauss_legendre", 1), ("gauss_legendre", 3), ("gauss_legendre", 16), ("left", 1), ("left", 3), ("left", 16)]
RULES += [("trapezoid", 3), ("trapezoid", 16)]


# Integrated gradients ------------------------------------------------------------------------------------------------


def assert_integrated(name, options, references, target=None):
    """The loop's attributions, and the gap from the model itself; `references` stand at the points of `slow`."""
    function, points = loop_replicas.from_points(name)
    logits = loop_replicas.logits_at(function, points)
    weights = loop_replicas.weights_for(logits, target)
    rule, steps = options.get("rule", "gauss_legendre"), options.get("steps", 32)
    found = loop_replicas.integrated(function, points, references, weights, rule, steps)
    analyzer = IntegratedGradients(models.case(name).model, **options)
    heat, gap = analyzer.analyze(models.case(name).x, target, return_gap=True)
    assert_close(heat, loop_replicas.folded(name, found), 2e-5)
    before = loop_replicas.logits_at(
        function, [np.broadcast_to(x0, x.shape) for x, x0 in zip(points, references, strict=True)]
    )
    rise = ((logits - before) * weights).sum(1)
    expected = rise - sum(array.reshape(len(array), -1).sum(1) for array in found)
    np.testing.assert_allclose(gap, expected, atol=2e-5 * np.abs(rise).max())
    assert gap.dtype == np.float32


def test_integrated_gradients_are_the_loop(eager):
    row = models.normal(6, seed=3)

    def loop(rule, steps, name="dense", reference=row):
        given = {"rule": rule, "steps": steps, "reference_inputs": reference}
        assert_integrated(name, given, [np.asarray(reference, "float32")])

    convolutions = [("gauss_legendre", 16, "conv_bn", 0.3), ("left", 3, "conv_bn", 0.3), ("trapezoid", 3, "conv_bn", 0.3)]
    assert offenders(loop, [*RULES, *convolutions]) == {}


ROW, A, B = models.normal(6, seed=3), models.normal(4, seed=4), models.normal(3, 2, seed=5)
REFERENCES = [
    ("dense", None, [np.zeros(6)]),
    ("dense", 0.5, [np.full(6, 0.5)]),
    ("dense", ROW[None], [ROW]),
    ("dense", [ROW], [ROW]),
    ("dense", {"x": ROW}, [ROW]),
    ("dense", ROW.tolist(), [ROW]),
    ("two_inputs", None, [np.zeros(4), np.zeros((3, 2))]),
    ("two_inputs", -1, [np.full(4, -1.0), np.full((3, 2), -1.0)]),
    ("two_inputs", [A, B], [A, B]),
    ("two_inputs", (A, B[None]), [A, B]),
    ("two_inputs", {"b": B, "a": A}, [A, B]),
    ("two_inputs", [0.25, B], [np.full(4, 0.25), B]),
    ("dict_inputs", {"z": A, "a": B}, [B, A]),
]


def test_references(eager):
    def loop(name, given, references):
        assert_integrated(name, {"steps": 3, "reference_inputs": given}, [x0.astype("float32") for x0 in references])

    assert offenders(loop, REFERENCES) == {}


@pytest.mark.parametrize("name", ["text", "masked_text"])
@pytest.mark.parametrize("tokens", [None, [3, 1, 4, 1, 5, 2]])
def test_tokens_go_from_an_embedding(name, tokens, eager):
    """None: an embedding of zeros; else that of other tokens. What is masked in the sample stays so on the path."""
    embedding = models.case(name).logits.get_layer("embedding")
    reference = np.zeros((6, 4)) if tokens is None else embedding(np.array(tokens)).numpy()
    given = None if tokens is None else np.array(tokens)
    assert_integrated(name, {"steps": 3, "reference_inputs": given}, [reference.astype("float32")])


def test_targets_of_integrated_gradients(eager):
    loop = lambda target: assert_integrated("dense", {"steps": 4}, [np.zeros(6, "float32")], target)  # noqa: E731
    assert offenders(loop, TARGETS) == {}


def linear(seed=2):
    """`(model, kernel)`: logits that are linear in four numbers."""
    x = keras.Input((4,), name="x")
    model = models.randomize(keras.Model(x, layers.Dense(3, name="out")(x)), seed)
    return model, model.get_layer("out").kernel.numpy()


def test_one_step_is_exact_on_a_linear_model(eager):
    model, kernel = linear()
    x, x0 = models.normal(5, 4), models.normal(4, seed=2)
    heat, gap = IntegratedGradients(model, 1, reference_inputs=x0).analyze(x, 2, return_gap=True)
    assert_close(heat, (x - x0) * kernel[:, 2], 1e-6)
    np.testing.assert_allclose(gap, 0, atol=1e-5)


def test_sixty_four_steps_to_the_left_as_innvestigate(eager):
    """On x^3 the mean gradient over the places k/64 is a sum of squares."""
    model = cubes(3)
    x = models.normal(4, 3)
    mean = np.mean([3 * (k / 64 * x.astype("float64")) ** 2 for k in range(64)], axis=0)
    heat, gap = IntegratedGradients(model, 64, rule="left").analyze(x, return_gap=True)
    assert_close(heat, x * mean, 1e-5)
    np.testing.assert_allclose(gap, (x.astype("float64") ** 3 - x * mean).sum(1), rtol=1e-3, atol=1e-5)
    exact, small = IntegratedGradients(model, 2).analyze(x, return_gap=True)
    assert_close(exact, x**3, 1e-5)
    assert np.abs(small).max() < 1e-4 < np.abs(gap).max()


def open_image_model(padding):
    x = keras.Input((None, None, 2), name="x")
    value = layers.Conv2D(3, 3, padding=padding, activation="relu", name="one")(x)
    value = layers.GlobalAveragePooling2D()(layers.Conv2D(3, 3, padding="same", activation="relu", name="two")(value))
    return models.randomize(keras.Model(x, layers.Dense(3, name="out")(value)), seed=1)


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_the_gap_of_a_model_of_open_size(padding, eager):
    model, x = open_image_model(padding), models.normal(3, 6, 5, 2)
    heat, gap = IntegratedGradients(model, 16).analyze(x, 1, return_gap=True)
    rise = np.asarray(model(x) - model(0 * x))[:, 1]
    np.testing.assert_allclose(gap, rise - heat.sum((1, 2, 3), dtype="float64"), atol=1e-4)


@pytest.mark.slow
def test_the_gap_on_the_demo_model():
    """16 Gauss-Legendre steps account for the rise of the logit up to 1 %, on average over digits."""
    images, _ = innvest_lite.data.load_digits()
    heat, gap = IntegratedGradients(innvest_lite.data.load_model(), 16).analyze(images[:50], return_gap=True)
    relative = np.abs(gap) / np.abs(gap + heat.sum((1, 2, 3)))
    assert relative.mean() < 0.01


# The gradient under noise --------------------------------------------------------------------------------------------


def cubes(size):
    """Y = sum x^3, whose gradient is 3 x^2."""
    x = keras.Input((size,), name="x")
    return keras.Model(x, keras.ops.sum(x**3, axis=1, keepdims=True))


def halved_squares(*shape):
    """Y = sum x^2 / 2, whose gradient is x: one noisy gradient shows the noise."""
    x = keras.Input(shape, name="x")
    return keras.Model(x, keras.ops.sum(layers.Flatten()(x) ** 2 / 2, axis=1, keepdims=True))


def noise_of(x, **options):
    return SmoothGrad(halved_squares(*x.shape[1:]), 1, **options)(x).numpy() - x


def drawn(points, draws, noise_scale, seed=0):
    """The points under the noise of each draw: it hangs on the seed, the point, the sample's place and the draw."""
    altered = []
    for position, point in enumerate(points):
        keys = [[position, place, draw] for draw in range(draws) for place in range(len(point))]
        noise = normal(point.shape[1:], seed, np.array(keys, "int32")).numpy().reshape(draws, *point.shape)
        altered.append(point + noise_scale * np.ptp(point, axis=tuple(range(1, point.ndim)), keepdims=True) * noise)
    return list(zip(*altered, strict=True))


SUMMED_UP = {
    SmoothGrad: lambda g: g.mean(0),
    SquareGrad: lambda g: (g**2).mean(0),
    VarGrad: lambda g: g.var(0),
}
POSTPROCESSED = {None: lambda g: g, "abs": np.abs, "square": np.square}


def assert_noisy(method, name, noise_scale, target=None, postprocess=None):
    function, points = loop_replicas.from_points(name)
    weights = loop_replicas.weights_for(loop_replicas.logits_at(function, points), target)
    analyzer = method(models.case(name).model, augment_by_n=6, noise_scale=noise_scale, postprocess=postprocess)
    draws = [loop_replicas.gradient(function, noisy, weights) for noisy in drawn(points, 6, noise_scale)]
    how = POSTPROCESSED[postprocess]
    found = [SUMMED_UP[method](how(np.stack(each))) for each in zip(*draws, strict=True)]
    # On tensors: a compilation takes many times longer than this does.
    assert_close(analyzer(models.case(name).x, target=target), loop_replicas.folded(name, found), 5e-5)


# How inputs become noisy is the same in all.
NOISED = [(SmoothGrad, ("conv_bn", "two_inputs", "text", "masked_text")), (SquareGrad, ("two_inputs",))]
NOISED += [(VarGrad, ("two_inputs", "text"))]


@pytest.mark.parametrize("method, names", NOISED, ids=lambda given: getattr(given, "__name__", ""))
def test_noisy_gradients_are_the_loop_over_the_same_noise(method, names):
    assert offenders(lambda name: assert_noisy(method, name, 0.3), names) == {}


@pytest.mark.slow
@pytest.mark.parametrize("method", NOISY)
def test_postprocess_is_done_to_every_gradient(method, eager):
    loop = lambda postprocess: assert_noisy(method, "dense", 0.5, postprocess=postprocess)  # noqa: E731
    assert offenders(loop, ("abs", "square")) == {}


def test_targets_of_noisy_gradients():
    assert offenders(lambda target: assert_noisy(SmoothGrad, "dense", 0.5, target), TARGETS) == {}


@pytest.mark.parametrize("method, power", [(SmoothGrad, 1), (SquareGrad, 2), (VarGrad, None)])
def test_without_noise_they_are_the_gradient(method, power):
    case = models.case("conv_bn")
    gradient = innvest_lite.Gradient(case.model)(case.x)
    heat = method(case.model, 7, noise_scale=0)(case.x)
    if power is None:
        np.testing.assert_array_equal(heat, 0)
    else:
        assert_close(heat, gradient**power, 1e-6)


def test_the_noise_is_normal_and_independent():
    noise = noise_of(np.zeros((20, 10, 10, 2), "float32"), relative=False, noise_scale=2.0).ravel() / 2
    # Five standard errors.
    assert abs(noise.mean()) < 5 / np.sqrt(noise.size) and abs(noise.var() - 1) < 5 * np.sqrt(2 / noise.size)
    assert abs((noise**3).mean()) < 5 * np.sqrt(15 / noise.size)
    assert abs((noise**4).mean() - 3) < 5 * np.sqrt(96 / noise.size)
    rows = noise.reshape(20, -1)
    assert np.abs(np.corrcoef(rows) - np.eye(20)).max() < 5 / np.sqrt(200) and len(np.unique(noise)) > 0.99 * noise.size


def test_two_inputs_have_noise_of_their_own():
    one, two = keras.Input((50,), name="a"), keras.Input((50,), name="b")
    total = keras.ops.sum(one**2 / 2, axis=1, keepdims=True) + keras.ops.sum(two**2 / 2, axis=1, keepdims=True)
    zeros = np.zeros((2, 50), "float32")
    a, b = SmoothGrad(keras.Model([one, two], total), 1, noise_scale=1, relative=False)([zeros, zeros])
    assert np.abs(np.corrcoef(np.concatenate([a, b])) - np.eye(4)).max() < 0.6


def test_relative_noise_is_a_share_of_each_samples_range():
    x = np.stack([np.linspace(-1, 4, 6), np.linspace(0, 0.5, 6), np.full(6, 3.0)]).astype("float32")
    absolute = noise_of(x, noise_scale=0.2, relative=False)
    np.testing.assert_allclose(noise_of(x, noise_scale=0.2), absolute * [[5], [0.5], [0]], atol=2e-6)
    np.testing.assert_allclose(noise_of(x), noise_of(x, noise_scale=0.15), atol=0)


@pytest.mark.parametrize("method", NOISY)
def test_many_draws_approach_theory(method, eager):
    """With z = x + s e, the gradient 3 z^2 has the mean 3 (x^2 + s^2) and the variance 9 (4 x^2 s^2 + 2 s^4)."""
    x, s, draws = np.array([[-1.0, 0.0, 0.5, 2.0]]), 0.5, 4096
    mean, variance = 3 * (x**2 + s**2), 9 * (4 * x**2 * s**2 + 2 * s**4)
    expected = {SmoothGrad: mean, SquareGrad: mean**2 + variance, VarGrad: variance}[method]
    # Standard errors, measured by drawing.
    z = x + s * np.random.default_rng(0).normal(size=(200_000, 1))
    g = 3 * z**2
    spread = {SmoothGrad: g.std(0), SquareGrad: (g**2).std(0), VarGrad: ((g - mean) ** 2).std(0)}[method]
    heat = method(cubes(4), draws, s, relative=False).analyze(x, batch_size=draws)
    assert np.all(np.abs(heat - expected) < 5 * spread / np.sqrt(draws))


def test_the_variance_is_the_mean_square_less_the_squared_mean():
    case = models.case("dense")
    found = [method(case.model, 9, 0.5, seed=3)(case.x, target=1) for method in NOISY]
    mean, square, variance = (np.asarray(each, "float64") for each in found)
    assert_close(variance, square - mean**2)


def test_a_small_variance_of_large_gradients_is_no_rounding(eager):
    """Gradients of 3000 with a spread of 1: the difference of the large sums would be noise in float32."""
    x = keras.Input((3,), name="x")
    model = keras.Model(x, keras.ops.sum(3000 * x + x**2 / 2, axis=1, keepdims=True))
    heat = VarGrad(model, 500, 1.0, relative=False).analyze(np.zeros((1, 3)), batch_size=500)
    assert_close(heat, np.ones((1, 3)), 0.3)


@pytest.mark.parametrize("method", NOISY)
def test_the_seed_makes_the_values(method):
    case = models.case("dense")
    one, same, other = (method(case.model, 4, seed=seed)(case.x) for seed in (2**31 - 1, 2**31 - 1, 4))
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 1e-3 * np.abs(one).max()


@pytest.mark.parametrize("method", [IntegratedGradients, *NOISY])
def test_the_class_is_that_of_the_clean_input(method, eager):
    """Logits a hair apart, much noise (or another class at x0): the kernel of the clean winner is all there is to see."""
    model, kernel = linear()
    x = models.normal(6, 4)
    model.get_layer("out").bias.assign(-(x @ kernel)[0] + [0, 1e-3, 0])
    winners = model.predict(x, verbose=0).argmax(1)
    assert winners[0] == 1
    options = {} if method is IntegratedGradients else {"noise_scale": 3.0}
    if options:
        flipped = x[0] + 3 * np.ptp(x[0]) * models.normal(50, 4, mean=0)
        assert len(set(model.predict(flipped, verbose=0).argmax(1))) == 3
    gradient = kernel.T[winners]
    expected = {IntegratedGradients: x * gradient, SmoothGrad: gradient, SquareGrad: gradient**2, VarGrad: 0 * gradient}
    np.testing.assert_allclose(method(model, 10, **options)(x), expected[method], atol=1e-5)


# Options -------------------------------------------------------------------------------------------------------------


WRONG = [
    (IntegratedGradients, {"steps": 0}, "steps should be a whole number of at least 1, but is 0"),
    (IntegratedGradients, {"steps": 1.5}, "steps .* is 1.5"),
    (IntegratedGradients, {"steps": 1, "rule": "trapezoid"}, "trapezoid rule needs at least 2 steps"),
    (IntegratedGradients, {"rule": "simpson"}, "rule should be one of .*'left'.* is 'simpson'"),
    (IntegratedGradients, {"reference_inputs": np.zeros(5)}, r"should have shape \(None, 6\), but got \(1, 5\)"),
    (IntegratedGradients, {"reference_inputs": np.zeros((2, 6))}, "should be one sample, but there are 2"),
    (IntegratedGradients, {"reference_inputs": np.full(6, np.nan)}, "NaN"),
    (IntegratedGradients, {"reference_inputs": np.nan}, "should be a number, but is nan"),
    (IntegratedGradients, {"reference_inputs": "black"}, "reference_inputs"),
    (IntegratedGradients, {"reference_inputs": {"y": np.zeros(6)}}, "named"),
    (IntegratedGradients, {"reference_inputs": 1e300}, "beyond the range of float32"),
    (IntegratedGradients, {"reference_inputs": [[1, 2], [3]]}, "cannot be read as an array"),
    (SmoothGrad, {"augment_by_n": 0}, "augment_by_n .* is 0"),
    (SquareGrad, {"augment_by_n": 2.5}, "augment_by_n .* is 2.5"),
    (SmoothGrad, {"noise_scale": -0.1}, "noise_scale should be a number of at least 0, but is -0.1"),
    (VarGrad, {"noise_scale": np.nan}, "noise_scale .* is nan"),
    (VarGrad, {"noise_scale": np.inf}, "noise_scale .* is inf"),
    (SmoothGrad, {"noise_scale": "0.1"}, "noise_scale"),
    (SmoothGrad, {"seed": "one"}, "seed"),
    (SmoothGrad, {"seed": 1.5}, "seed"),
    (SmoothGrad, {"seed": 2**64}, "seed should lie between 0"),
    (SmoothGrad, {"postprocess": "root"}, "postprocess should be one of .*'square'.* is 'root'"),
]


def test_bad_options():
    def made(method, options):
        return lambda: method(models.case("dense").model, **options)

    uses = {f"{method.__name__} {options}": (made(method, options), message) for method, options, message in WRONG}
    assert refusals(uses, InvalidInputError) == {}


@pytest.mark.parametrize("references", [[A], A], ids=["too few", "one"])
def test_too_few_references(references):
    with pytest.raises(InvalidInputError, match="2 inputs"):
        IntegratedGradients(models.case("two_inputs").model, reference_inputs=references)


def test_a_reference_of_another_size(eager):
    analyzer = IntegratedGradients(open_image_model("same"), 2, reference_inputs=np.zeros((5, 5, 2)))
    with pytest.raises(InvalidInputError, match=r"reference_inputs has the shape \(5, 5, 2\), .* \(6, 7, 2\)"):
        analyzer.analyze(np.ones((1, 6, 7, 2)))
    assert analyzer.analyze(np.ones((1, 5, 5, 2))).shape == (1, 5, 5, 2)


def test_return_gap_goes_with_the_exponent_and_comes_last(eager):
    case = models.case("dense")
    analyzer = IntegratedGradients(case.model, 3)
    heat, gap = analyzer.analyze(case.x, 1, return_gap=True)
    heats, exponent, gaps = analyzer.analyze(case.x, 1, return_exponent=True, return_gap=True)
    np.testing.assert_array_equal(heats, heat)
    np.testing.assert_array_equal(gaps, gap)
    np.testing.assert_array_equal(exponent, np.zeros(len(case.x)))
    with pytest.raises(InvalidInputError, match="no single backward pass, so it keeps nothing"):
        analyzer.analyze(case.x, keep="first", return_gap=True)
    with pytest.raises(TypeError, match="returngap"):
        analyzer.analyze(case.x, returngap=True)


@pytest.mark.slow
def test_models_of_open_size():
    """Compiled; those on a path stand above, with their gap."""
    model, x = open_image_model("valid"), models.normal(2, 6, 5, 2)
    assert_close(VarGrad(model, 3).analyze(x), VarGrad(model, 3)(x))
