"""A function of the model's outputs as the target: what is explained is its number, whatever the model gives.

The oracles are TensorFlow's tape on the function, brute force, and the single outputs with the function's gradient, worked
out by hand, as their weights.
"""

import keras
import models
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

import innvest_lite
from innvest_lite.analyzers.binding import engine_for
from innvest_lite.errors import InvalidInputError, PatternMismatchError

SAMPLES = models.normal(5, 8, 8, 3)


@keras.saving.register_keras_serializable("tests")
def of_both(outputs):
    """Of both heads, and not linear in either."""
    return ops.log(outputs["first"][:, 1]) - outputs["second"][:, 2] * outputs["second"][:, 0]


def with_raw_tensorflow(outputs):
    return tf.math.reduce_euclidean_norm(outputs["second"], axis=1)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(3)
    x = keras.Input((8, 8, 3))
    h = layers.Conv2D(6, 3, activation="relu")(layers.Conv2D(6, 3, activation="relu")(x))
    h = layers.GlobalAveragePooling2D()(h)
    heads = {"first": layers.Dense(4, activation="softmax", name="a")(h), "second": layers.Dense(3, name="b")(h)}
    return keras.Model(x, heads)


def taped(model, x, function):
    """The gradient and the numbers of a function of what a model puts out."""
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        numbers = function(model(x))
    return tape.gradient(numbers, x).numpy(), numbers.numpy()


@pytest.mark.parametrize("function", [of_both, with_raw_tensorflow])
def test_gradient_of_a_function(model, function):
    gradient, numbers = taped(model, SAMPLES, function)
    analyzer = innvest_lite.Gradient(model, target=function)
    np.testing.assert_allclose(analyzer.analyze(SAMPLES), gradient, atol=1e-7)
    np.testing.assert_allclose(analyzer(SAMPLES), gradient, atol=1e-7)
    np.testing.assert_allclose(analyzer.explainer.explained([SAMPLES]), numbers, rtol=1e-5)


def test_function_that_comes_with_the_samples(model):
    single = keras.Model(model.input, model.output["first"])
    analyzer = innvest_lite.Gradient(single)
    before = analyzer.analyze(SAMPLES)
    for sign in (1, -1):
        function = lambda p, sign=sign: sign * (p[:, 0] - p[:, 1]) ** 2  # noqa: E731
        expected = taped(single, SAMPLES, function)[0]
        np.testing.assert_allclose(analyzer.analyze(SAMPLES, target=function), expected, atol=1e-8)
        np.testing.assert_allclose(analyzer(SAMPLES, target=function), expected, atol=1e-8)
    np.testing.assert_array_equal(analyzer.analyze(SAMPLES), before)


def test_functions_are_forgotten(model):
    """Each has a program: an analyzer that is handed lambdas in a loop must not keep all of them."""
    analyzer = innvest_lite.Gradient(model, output="second")
    for number in range(20):
        engine_for(analyzer, lambda y, number=number: y[:, 0] * number)
    assert len(analyzer.explainers.value) <= 8


def test_function_of_a_chosen_output(model):
    analyzer = innvest_lite.Gradient(model, output="second")
    found = analyzer.analyze(SAMPLES, target=lambda y: y[:, 0] * y[:, 1])
    expected = taped(model, SAMPLES, lambda outputs: outputs["second"][:, 0] * outputs["second"][:, 1])[0]
    np.testing.assert_allclose(found, expected, atol=1e-7)


def test_integrated_gradients_follow_the_function_along_the_path(model):
    """With the function's gradient at the sample alone, the sum would not be the difference of its numbers."""
    analyzer = innvest_lite.IntegratedGradients(model, steps=256, target=of_both)
    found, gap = analyzer.analyze(SAMPLES, return_gap=True)
    difference = taped(model, SAMPLES, of_both)[1] - taped(model, 0 * SAMPLES, of_both)[1]
    np.testing.assert_allclose(found.sum((1, 2, 3)), difference, atol=2e-3)
    np.testing.assert_allclose(gap, difference - found.sum((1, 2, 3)), atol=1e-5)
    single = innvest_lite.IntegratedGradients(model, steps=2, output="second")
    _, gap = single.analyze(SAMPLES, target=lambda y: y[:, 0] ** 2, return_gap=True)
    squares = [taped(model, x, lambda o: o["second"][:, 0] ** 2)[1] for x in (SAMPLES, 0 * SAMPLES)]
    sums = single.analyze(SAMPLES, target=lambda y: y[:, 0] ** 2).sum((1, 2, 3))
    np.testing.assert_allclose(gap, squares[0] - squares[1] - sums, atol=1e-6)


def test_occlusion_asks_the_function_at_each_mask(model):
    found = innvest_lite.Occlusion(model, window=4, stride=4, target=of_both).analyze(SAMPLES)
    clean = taped(model, SAMPLES, of_both)[1]
    for row in (0, 4):
        for column in (0, 4):
            hidden = SAMPLES.copy()
            hidden[:, row : row + 4, column : column + 4] = 0
            effect = clean - taped(model, hidden, of_both)[1]
            np.testing.assert_allclose(found[:, row + 1, column + 2].sum(-1), effect, atol=1e-6)


@pytest.mark.parametrize("name", ["lrp.z", "lrp.epsilon_plus_flat", "pattern.attribution", "pattern.net"])
def test_starts_from_each_output_by_its_share(model, name):
    """The softmax does not stand in the way: relevance starts from logits, with the function's gradient as weights."""
    outputs = model.predict(SAMPLES, verbose=0)
    of_softmax = np.eye(4)[1][None] - outputs["first"]
    of_numbers = np.stack([-outputs["second"][:, 2], 0 * outputs["second"][:, 0], -outputs["second"][:, 0]], 1)

    def explained(**options):
        target = options.pop("weights", None)
        analyzer = innvest_lite.create_analyzer(name, model, **options)
        return analyzer.fit(models.normal(64, 8, 8, 3, seed=1), verbose=0).analyze(SAMPLES, target=target)

    parts = explained(output="first", weights=of_softmax) + explained(output="second", weights=of_numbers)
    np.testing.assert_allclose(explained(target=of_both), parts, atol=2e-6 * np.abs(parts).max())


def test_patterns_serve_every_function(model):
    """A function that comes with the samples needs no fit of its own, and sees whether the weights are still the same."""
    model = keras.models.clone_model(model)
    analyzer = innvest_lite.PatternAttribution(model, output="second").fit(SAMPLES, verbose=0)

    def total(outputs):
        return ops.sum(outputs, axis=1)

    whole = analyzer.analyze(SAMPLES, target=total)
    np.testing.assert_allclose(whole, analyzer.analyze(SAMPLES, target="all"), rtol=1e-5, atol=1e-7)
    model.get_layer("b").bias.assign_add([1.0, 0.0, 0.0])
    with pytest.raises(PatternMismatchError):
        analyzer.analyze(SAMPLES, target=total)


def test_check_starts_from_all_outputs(model):
    report = innvest_lite.create_analyzer("lrp.z", model, target=of_both).check(SAMPLES)
    outputs = model.predict(SAMPLES, verbose=0)
    logits = model.get_layer("a")
    features = keras.Model(model.input, logits.input).predict(SAMPLES, verbose=0)
    z = features @ logits.kernel.numpy() + logits.bias.numpy()
    expected = ((np.eye(4)[1][None] - outputs["first"]) * z).sum(1) - 2 * outputs["second"][:, 0] * outputs["second"][:, 2]
    np.testing.assert_allclose(report.start, expected, rtol=1e-5)
    assert report.unexplained.max() < 1e-5


def test_no_warning_of_a_turned_sign(model, caplog):
    """A difference of logits that is negative turns no map round."""
    innvest_lite.create_analyzer("lrp.epsilon", model, target=lambda o: -100 + o["second"][:, 0]).analyze(SAMPLES)
    assert "turned round" not in caplog.text


def test_saved_and_served(model, tmp_path):
    expected = innvest_lite.Gradient(model, target=of_both).analyze(SAMPLES)
    analyzer = innvest_lite.Gradient(model, target=of_both)
    analyzer.save(tmp_path / "one.keras")
    np.testing.assert_array_equal(keras.saving.load_model(tmp_path / "one.keras").analyze(SAMPLES), expected)
    np.testing.assert_array_equal(analyzer.for_model(model).analyze(SAMPLES), expected)
    analyzer.export(tmp_path / "served", verbose=False)
    served = tf.saved_model.load(tmp_path / "served")
    np.testing.assert_allclose(served.serve(SAMPLES)["attributions"], expected, atol=1e-7)
    with pytest.raises(InvalidInputError, match="register_keras_serializable"):
        innvest_lite.Gradient(model, target=lambda o: o["second"][:, 0]).save(tmp_path / "two.keras")


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda o: o["first"], r"\(samples,\), but .* gave shape \(5, 4\)"),
        (lambda o: ops.sum(o["first"]), r"gave shape \(\)"),
        (lambda o: o["third"], "does not take the model's outputs.*first: .*'third'"),
        (lambda o: 3.0, "should give a tensor"),
        (lambda o: ops.argmax(o["first"], axis=-1), "int32"),
        (lambda o: ops.reshape(o["second"], (-1,)), "of 5 samples, .* gave 15"),
        (lambda o: o["second"][1:, 0], "of 5 samples, .* gave 4"),
        (lambda o: tf.boolean_mask(o["second"][:, 0], o["second"][:, 0] > 0), "gave an unknown number"),
        (lambda o: o["second"][:, 0] - ops.mean(o["second"]), "changes with the others"),
        (lambda o: o["first"][::-1, 0], "changes with the others"),
    ],
)
def test_functions_that_give_no_number_a_sample(model, function, words):
    with pytest.raises(InvalidInputError, match=words):
        innvest_lite.Gradient(model, target=function)


@pytest.mark.parametrize("name", ["gradient", "lrp.epsilon", "integrated_gradients"])
def test_a_function_that_depends_on_nothing(name, model):
    analyzer = innvest_lite.create_analyzer(name, model, target=lambda o: ops.stop_gradient(o["first"][:, 0]))
    np.testing.assert_array_equal(analyzer.analyze(SAMPLES), 0 * SAMPLES)


def test_where_a_function_is_no_target(model):
    analyzer = innvest_lite.Gradient(model, output="second")
    with pytest.raises(InvalidInputError, match=r"target=function"):
        innvest_lite.metrics.max_sensitivity(analyzer, SAMPLES, target=lambda y: y[:, 0])
    with pytest.raises(InvalidInputError, match="is a function of the model's outputs, but is 3"):
        innvest_lite.Gradient(model, output="second", target=3)


def test_measures_take_an_analyzer_of_a_function(model):
    """The number is its only output: measures follow it as any other."""
    analyzer = innvest_lite.IntegratedGradients(model, steps=64, target=of_both)
    found = innvest_lite.metrics.completeness(analyzer, SAMPLES)
    numbers = taped(model, SAMPLES, of_both)[1]
    np.testing.assert_allclose(
        found.gap, numbers - taped(model, 0 * SAMPLES, of_both)[1] - analyzer.analyze(SAMPLES).sum((1, 2, 3)), atol=1e-5
    )
    assert np.isfinite(innvest_lite.metrics.max_sensitivity(analyzer, SAMPLES).values).all()


def test_a_region_of_a_segmentation():
    x = keras.Input((8, 8, 3))
    dense = keras.Model(x, layers.Conv2D(2, 3, padding="same", activation="sigmoid")(x))
    function = lambda y: ops.mean(y[:, 2:5, 1:3, 0], axis=(1, 2))  # noqa: E731
    found = innvest_lite.Gradient(dense).analyze(SAMPLES, target=function)
    np.testing.assert_allclose(found, taped(dense, SAMPLES, function)[0], atol=1e-8)


class Encoder(keras.Model):
    """Gives a list that holds a None."""

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(4)

    def call(self, x):
        return [self.dense(ops.reshape(x, (-1, 192))), None]


def test_cosine_with_a_reference():
    encoder, reference = Encoder(), models.normal(1, 8, 8, 3, seed=5)
    wanted = encoder(reference)[0]

    def cosine(outputs):
        return -keras.losses.cosine_similarity(wanted, outputs[0])

    found = innvest_lite.Gradient(encoder, target=cosine).analyze(SAMPLES)
    np.testing.assert_allclose(found, taped(encoder, SAMPLES, cosine)[0], atol=1e-7)
    shares = innvest_lite.create_analyzer("lrp.z", encoder, target=cosine).analyze(SAMPLES)
    np.testing.assert_allclose(shares.sum(), 0, atol=1e-4)  # the cosine is the same for any length


@keras.saving.register_keras_serializable("tests")
class Weighted(layers.Layer):
    """A target with weights of its own."""

    def build(self, shape):
        self.scale = self.add_weight(shape=(3,), initializer="ones")

    def call(self, outputs):
        return ops.sum(outputs["second"] * self.scale, axis=-1)


class Unknown(Weighted):
    """A layer that Keras was not told of."""


def test_layers_as_targets_are_saved_with_their_weights(model, tmp_path):
    target = Weighted()
    target(model(SAMPLES))
    target.scale.assign([1.0, -2.0, 5.0])
    analyzer = innvest_lite.Gradient(model, target=target)
    expected = taped(model, SAMPLES, lambda outputs: ops.sum(outputs["second"] * [1.0, -2.0, 5.0], axis=-1))[0]
    np.testing.assert_allclose(analyzer.analyze(SAMPLES), expected, atol=1e-6)
    analyzer.save(tmp_path / "one.keras")
    np.testing.assert_allclose(keras.saving.load_model(tmp_path / "one.keras").analyze(SAMPLES), expected, atol=1e-6)
    with pytest.raises(InvalidInputError, match="register_keras_serializable"):
        innvest_lite.Gradient(model, target=Unknown()).save(tmp_path / "two.keras")


def test_a_model_with_a_layer_called_target_and_one_output_in_a_dict():
    x = keras.Input((4,))
    model = keras.Model(x, {"only": layers.Dense(2, name="target")(x)})
    analyzer = innvest_lite.Gradient(model, target=lambda outputs: outputs["only"][:, 0])
    kernel = model.get_layer("target").kernel.numpy()
    np.testing.assert_allclose(analyzer.analyze(np.ones((2, 4))), [kernel[:, 0]] * 2, rtol=1e-6)
    assert [step.node.name for step in analyzer.plan().steps] == ["target", "target#2"]
    np.testing.assert_allclose(
        innvest_lite.Gradient(model).analyze(np.ones((2, 4)), target=lambda o: o["only"][:, 1]),
        [kernel[:, 1]] * 2,
        rtol=1e-6,
    )
