"""The gradient family against TensorFlow's own tape, and slow NumPy replicas of what DeConvNet and Guided BackProp do."""

from functools import cache

import keras
import models
import numpy as np
import pytest
import replicas
import tensorflow as tf
from comparing import assert_close, offenders

import innvest_lite
from innvest_lite import Deconvnet, Gradient, GuidedBackprop, Input, InputTimesGradient, Random

# Float32: relative to the largest value of the gradient.
TOLERANCE = 1e-6
MODELS = [name for name in models.NAMES if name not in ("text", "masked_text")]
TEXTS = ["text", "masked_text"]


def taped(function, x, weights=None):
    """(gradient, value) of the weighted sum of `function(x)` by an eager tape; None: each sample's largest value."""
    tensors = keras.tree.map_structure(tf.convert_to_tensor, x)
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        value = function(tensors)
        if weights is None:
            weights = np.eye(value.shape[-1])[np.argmax(value, axis=-1)]
        total = tf.reduce_sum(value * tf.cast(weights, value.dtype))
    gradient = tape.gradient(total, tensors)
    return keras.tree.map_structure(lambda g: g.numpy(), gradient), value.numpy()


def assert_gradient(actual, expected, tolerance=TOLERANCE):
    assert_close(actual, expected, tolerance, "the gradient")


@cache
def gradient_of(name):
    return Gradient(models.case(name).model, **models.case(name).options)


def test_gradient_is_the_tapes():
    """On tensors, without a compilation of each model."""

    def is_the_tapes(name):
        case = models.case(name)
        assert_gradient(gradient_of(name)(case.x), taped(case.logits, case.x)[0])

    assert offenders(is_the_tapes, MODELS) == {}


@pytest.mark.parametrize("name", ["conv_bn", "dict_inputs", "masked_text"])
def test_compiled_it_is_the_same(name):
    case = models.case(name)
    heat = gradient_of(name).analyze(case.x)
    assert {array.dtype for array in keras.tree.flatten(heat)} == {np.dtype("float32")}
    assert_gradient(heat, gradient_of(name)(case.x))


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("analyzer", [Gradient, InputTimesGradient])
def test_gradient_of_tokens_is_summed_over_the_embedding(name, analyzer):
    case = models.case(name)
    embedding = case.logits.get_layer("embedding")

    def tail(embedded):
        if name == "masked_text":
            embedded._keras_mask = tf.constant(case.x != 0)
        value = embedded
        for layer in case.logits.layers[2:]:
            value = layer(value)
        return value

    embedded = embedding(case.x).numpy()
    gradient, value = taped(tail, embedded)
    np.testing.assert_allclose(value, case.logits(case.x), rtol=1e-4)
    if analyzer is InputTimesGradient:
        gradient = gradient * embedded
    assert_gradient(analyzer(case.model)(case.x), gradient.sum(axis=-1))


def test_training_behaviour_that_a_call_asks_for_is_left_out_as_predict_does():
    x = keras.Input((4,), name="x")
    value = keras.layers.BatchNormalization(name="bn")(keras.layers.Dropout(0.5)(x, training=True), training=True)
    model = models.randomize(keras.Model(x, keras.layers.Dense(3, name="out")(value)), seed=10)
    data = models.normal(5, 4)
    expected, value = taped(lambda tensor: model(tensor, training=False), data)
    np.testing.assert_allclose(value, model.predict(data, verbose=0), rtol=1e-5)
    assert_gradient(Gradient(model)(data), expected)


@pytest.mark.filterwarnings("ignore:Layer 'inner' .* was passed an input with a mask:UserWarning")
def test_a_mask_that_only_exists_at_run_time():
    """A nested model does not know that its input is masked, but its layers see it, also behind one that is cut in two."""
    inner_x = keras.Input((6, 4))
    hidden = keras.layers.Dense(4, activation="relu", name="hidden")(inner_x)
    inner = keras.Model(inner_x, keras.layers.GlobalAveragePooling1D(name="gap")(hidden), name="inner")
    x = keras.Input((6,), dtype="int32", name="x")
    model = keras.Model(x, keras.layers.Dense(3, name="out")(inner(keras.layers.Embedding(8, 4, mask_zero=True)(x))))
    models.randomize(model, seed=11)
    tokens = np.array([[1, 2, 3, 0, 0, 0], [4, 0, 0, 0, 0, 0]])
    start = innvest_lite.LRP(model, "epsilon").check(tokens, target=1).start
    np.testing.assert_allclose(start, model.predict(tokens, verbose=0)[:, 1], rtol=1e-5)


# Targets -------------------------------------------------------------------------------------------------------------

WEIGHTS = np.random.default_rng(5).normal(size=(6, 3)).astype("float32")
ONE_HOT = np.eye(3, dtype="float32")
TARGETS = {
    "an int": (1, ONE_HOT[[1] * 6]),
    "a NumPy int": (np.int64(2), ONE_HOT[[2] * 6]),
    "zero": (0, ONE_HOT[[0] * 6]),
    "a list": ([0, 1, 2, 0, 2, 1], ONE_HOT[[0, 1, 2, 0, 2, 1]]),
    "an array": (np.array([2, 2, 1, 0, 0, 1], "uint8"), ONE_HOT[[2, 2, 1, 0, 0, 1]]),
    "all": ("all", np.ones((6, 3))),
    "weights": (WEIGHTS, WEIGHTS),
    "contrastive": (np.array([[1, -1, 0]] * 6), np.array([[1, -1, 0]] * 6)),
}


TENSORS = {
    "an int tensor": (tf.constant(1), ONE_HOT[[1] * 6]),
    "an int tensor of weights": (tf.constant([[1, -1, 0]] * 6), np.array([[1, -1, 0]] * 6)),
    "a tensor": (tf.constant(WEIGHTS), WEIGHTS),
}


@pytest.mark.parametrize("name", ["dense", "conv_bn"])
def test_targets(name):
    case = models.case(name)

    def explains_the_target(target):
        given, weights = TARGETS[target]
        heat = gradient_of(name).analyze(case.x, target=given, batch_size=4)
        assert_gradient(heat, taped(case.logits, case.x, weights)[0])

    assert offenders(explains_the_target, TARGETS) == {}


def test_targets_of_a_call_on_tensors():
    case = models.case("dense")

    def explains_the_target(target):
        given, weights = {**TARGETS, **TENSORS}[target]
        assert_gradient(gradient_of("dense")(tf.constant(case.x), target=given), taped(case.logits, case.x, weights)[0])

    assert offenders(explains_the_target, ("an int", "a list", "weights", "contrastive", *TENSORS)) == {}


@pytest.mark.parametrize("target", [1, "all"])
def test_a_target_inside_a_function_of_any_batch_size(target):
    case = models.case("dense")
    analyzer = gradient_of("dense")
    function = tf.function(
        lambda x: analyzer(x, target=target), input_signature=[tf.TensorSpec((None, 6))], autograph=False
    )
    assert_gradient(function(case.x).numpy(), analyzer.analyze(case.x, target=target))


def test_a_sigmoid_head_explains_its_logit():
    case = models.case("sigmoid_head")
    expected = taped(case.logits, case.x, np.ones((6, 1)))[0]
    signs = np.where(case.logits(case.x).numpy() >= 0, 1, -1)
    for target, sign in ((None, signs), (1, 1), (0, -1), ("all", 1)):
        assert_gradient(gradient_of("sigmoid_head")(case.x, target=target), sign * np.asarray(expected))


def test_the_largest_value_of_an_output_with_positions():
    x = keras.Input((4, 3), name="x")
    model = models.randomize(keras.Model(x, keras.layers.Conv1D(2, 2, name="conv")(x)), seed=6)
    data = models.normal(5, 4, 3)
    flat = keras.Model(x, keras.layers.Flatten()(model.output))
    expected, value = taped(flat, data)
    assert_gradient(Gradient(model)(data), expected)
    weights = models.normal(5, 3, 2, seed=7)
    assert_gradient(Gradient(model)(data, target=weights), taped(model, data, weights)[0])
    assert value.shape == (5, 6)


# Values on the way ---------------------------------------------------------------------------------------------------

# (model, layer, layers whose values the rest of the model needs besides)
KEPT = [
    *(("conv_bn", layer, []) for layer in ("conv1", "bn1", "relu1", "pool", "dense", "bn3")),
    *(("residual", layer, ["stem"]) for layer in ("branch", "bn", "add")),
    ("residual", "stem", []),
    ("dense", "first", []),
    ("nested", "flat", []),
    ("gate", "conv", []),
]


@pytest.mark.slow
def test_keep_is_the_tapes_gradient_at_the_layers_output(eager):
    assert offenders(kept_is_the_tapes_gradient, KEPT) == {}


def kept_is_the_tapes_gradient(name, layer, others):
    case = models.case(name)
    relevance, kept = Gradient(case.model).analyze(case.x, keep=[layer], batch_size=4)
    assert_gradient(relevance, taped(case.logits, case.x)[0])
    assert list(kept) == [layer]
    tensors = [case.logits.get_layer(each).output for each in (layer, *others)]
    values = keras.tree.flatten(keras.Model(case.logits.inputs, tensors).predict(case.x, verbose=0))
    tail = keras.Model(tensors, case.logits.outputs[0])
    assert_gradient(kept[layer], taped(tail, values)[0][0], 2 * TOLERANCE)


def test_keep_at_both_calls_of_a_shared_layer(eager):
    x, shared = keras.Input((4,), name="x"), keras.layers.Dense(4, activation="relu", name="shared")
    out = keras.layers.Dense(3, name="out")
    model = models.randomize(keras.Model(x, out(shared(shared(x)))), seed=9)
    data = models.normal(5, 4)
    _, kept = Gradient(model).analyze(data, keep=["shared", "shared#2", "out"])
    first = shared(data).numpy()
    assert_gradient(kept["shared"], taped(lambda value: out(shared(value)), first)[0])
    gradient, logits = taped(out, shared(first).numpy())
    assert_gradient(kept["shared#2"], gradient)
    np.testing.assert_array_equal(kept["out"], ONE_HOT[np.argmax(logits, axis=-1)])


def test_keep_takes_a_single_name_and_nodes_of_the_plan():
    analyzer, x = gradient_of("dense"), models.case("dense").x
    _, kept = analyzer.analyze(x, keep="first")
    _, more = analyzer.analyze(x, keep=("first", "first/activation", "second/activation"))
    np.testing.assert_array_equal(kept["first"], more["first/activation"])
    assert list(more) == ["first", "first/activation", "second/activation"]


# The relatives -------------------------------------------------------------------------------------------------------


def test_input_times_gradient():
    def is_the_product(name):
        case = models.case(name)
        gradient = taped(case.logits, case.x)[0]
        expected = keras.tree.map_structure(lambda x, g: x * g, case.x, gradient)
        assert_gradient(InputTimesGradient(case.model)(case.x), expected)

    assert offenders(is_the_product, ("conv_bn", "two_inputs", "dict_inputs", "sequential")) == {}


def small_net(kind):
    layers = keras.layers
    if kind == "dense":
        stack = [keras.Input((6,)), layers.Dense(7, activation="relu"), layers.Dense(6), layers.ReLU()]
    else:
        stack = [keras.Input((7, 6, 2)), layers.Conv2D(4, 3, padding="same"), layers.BatchNormalization(), layers.ReLU()]
        stack += [layers.MaxPooling2D(), layers.Conv2D(3, 2, activation="relu"), layers.Flatten()]
    return models.randomize(keras.Sequential([*stack, layers.Dense(3, activation="softmax")]), seed=8)


def replica(model, x, at_relu):
    """The backward pass of `replicas.explain` with another rule at the rectifiers; float64, layer by layer."""
    steps, values = replicas.forward(model, x)
    relevance = np.eye(3)[np.argmax(values[-1], axis=-1)]
    for (kind, layer, batchnorm), value in zip(reversed(steps), reversed(values[:-1]), strict=True):
        if kind == "ReLU":
            relevance = at_relu(value, relevance)
        else:
            kernel = replicas.fused_kernel(layer, batchnorm)[0] if kind == "linear" else None
            relevance = replicas.step_backward(kind, layer, kernel, value, relevance)
    return relevance


AT_RELU = {
    Gradient: lambda x, r: r * (x > 0),
    Deconvnet: lambda x, r: np.maximum(r, 0),
    GuidedBackprop: lambda x, r: np.maximum(r, 0) * (x > 0),
}


@pytest.mark.parametrize("kind", ["dense", "conv"])
@pytest.mark.parametrize("method", AT_RELU)
def test_against_the_replica(method, kind):
    model = small_net(kind)
    x = models.normal(5, *model.inputs[0].shape[1:])
    expected = replica(model, x, AT_RELU[method])
    assert_gradient(method(model)(x), expected, 5e-6)
    others = [replica(model, x, rule) for other, rule in AT_RELU.items() if other is not method]
    assert all(np.abs(expected - other).max() > 0.01 * np.abs(expected).max() for other in others)


def test_planted_kernel_error():
    """A kernel that is off by a thousandth, in any layer, is caught by the comparison of this file."""
    case = models.case("conv_bn")
    for name in ("conv1", "conv2", "dense", "out"):
        model = models.build("conv_bn")
        layer = model.get_layer(name)
        layer.kernel.assign(layer.kernel * 1.001)
        with pytest.raises(AssertionError, match="the gradient differs"):
            assert_gradient(Gradient(model)(case.x), taped(case.logits, case.x)[0])


# Baselines -----------------------------------------------------------------------------------------------------------


def test_input_is_the_input():
    case = models.case("dict_inputs")
    result = Input(case.model).analyze(case.x)
    for name in case.x:
        np.testing.assert_array_equal(result[name], case.x[name])
    tokens = Input(models.case("text").model).analyze(models.case("text").x)
    assert tokens.dtype == np.float32
    np.testing.assert_array_equal(tokens, models.case("text").x)


def test_random_depends_on_the_seed_and_the_place_alone(eager):
    model, x = models.case("dense").model, models.normal(40, 6)
    analyzer = Random(model, seed=4)
    noise = analyzer.analyze(x, batch_size=10)
    # Sines of a vector's end may be rounded otherwise than those of its middle.
    np.testing.assert_allclose(noise, analyzer.analyze(x, batch_size=7), rtol=1e-6)
    np.testing.assert_array_equal(noise, Random(model, seed=4).analyze(x, batch_size=10))
    assert len(np.unique(noise)) == noise.size
    assert not np.isin(noise, Random(model, seed=5).analyze(x, batch_size=10)).any()
    assert abs(noise.std() - 1) < 0.2
    np.testing.assert_allclose(Random(model, seed=4, stddev=3.0).analyze(x, batch_size=10), 3 * noise, rtol=1e-5)


def test_random_is_another_for_each_input(eager):
    case = models.case("two_inputs")
    first, second = Random(case.model).analyze(case.x)
    assert not np.isin(first, second).any()


def test_random_takes_a_target_in_the_same_place_as_the_others(eager):
    model, x = models.case("dense").model, models.case("dense").x
    np.testing.assert_array_equal(Random(model).analyze(x, 1), Random(model).analyze(x))
