"""Constants that a network adds: shares of the sample are of what values have above them, by hand and by twin networks."""

import keras
import models
import numpy as np
import pytest
from comparing import assert_close
from keras import layers, ops
from untraced import eager_fits  # noqa: F401  (a fixture)

import innvest_lite
from innvest_lite.analyzers import sweep
from innvest_lite.analyzers.constants import above, constants_of
from innvest_lite.patterns.layout import Layout
from innvest_lite.rules import Call

pytestmark = pytest.mark.usefixtures("eager", "eager_fits")


def sample(model, patterns, start="logit", **options):
    """PatternAttribution with shares of the sample and given patterns, a layer each."""
    given = {name: np.float32(pattern) for name, pattern in patterns.items()}
    return innvest_lite.PatternAttribution(model, patterns=given, shares="sample", chains="split", start=start, **options)


def normalized(offset):
    """The weights of a BatchNormalization without epsilon that adds an offset."""
    return [[1], [offset], [0], [1]]


def loaded(model, weights):
    model.set_weights([np.float32(weight) for weight in weights])
    return model


def test_a_unit_that_lowers_what_a_constant_lifts():
    """By hand: y = relu(x) - 3 and the logit -y; whatever their signs, more of x makes the logit smaller."""
    i = keras.Input((1,))
    y = layers.BatchNormalization(epsilon=0.0)(layers.Dense(1, activation="relu", name="h")(i))
    model = loaded(keras.Model(i, layers.Dense(1, name="o")(y)), [[[1]], [0], *normalized(-3), [[-1]], [0]])
    analyzer = sample(model, {"h": [[1]], "o": [[-1]]})
    np.testing.assert_allclose(analyzer.analyze(np.float32([[1], [4]])), [[-2], [-1]], rtol=1e-5)
    assert analyzer.check(np.float32([[1], [4]])).unexplained.max() < 1e-6


def test_a_constant_behind_a_sum_keeps_its_share():
    """By hand: the sum -2 with 3 added is 1 behind a ReLU; of the logit 1 the sum has -2 / 5, its addends by their size."""
    i, j = keras.Input((1,)), keras.Input((1,))
    one, other = layers.Dense(1, name="a", use_bias=False)(i), layers.Dense(1, name="b", use_bias=False)(j)
    y = layers.ReLU()(layers.BatchNormalization(epsilon=0.0)(layers.Add(name="s")([one, other])))
    model = keras.Model([i, j], layers.Dense(1, name="o", use_bias=False)(y))
    loaded(model, [[[1]], [[1]], *normalized(3), [[1]]])
    analyzer = sample(model, {"a": [[1]], "b": [[1]], "s": [[0.5], [0.5]], "o": [[1]]})
    found = analyzer.analyze([np.float32([[-0.5], [3]]), np.float32([[-1.5], [-1]])])
    # In the second sample the sum 2 is lifted to 5, of which it has 2 / 5; the addends are 3 and -1.
    np.testing.assert_allclose(found, [[[-0.1], [1.5]], [[-0.3], [-0.5]]], rtol=1e-5)


@pytest.mark.parametrize("offset", [-30.0, -0.3, 0.3, 3.0])
def test_a_constant_on_the_logits_turns_nothing_round(offset):
    i = keras.Input((5,))
    z = layers.Dense(4, name="h")(i)
    plain = models.randomize(keras.Model(i, layers.Softmax()(z)), seed=3)
    lifted = keras.Model(i, layers.Softmax()(layers.Rescaling(1.0, offset)(z)))
    pattern = {"h": np.sign(plain.get_weights()[0])}
    x = models.normal(20, 5)
    maps = [sample(model, pattern, start="contrast").analyze(x, target=1) for model in (plain, lifted)]
    for one, other in zip(*maps, strict=True):
        assert np.corrcoef(one, other)[0, 1] > 0.9999


@pytest.mark.parametrize("between", [[], ["max"], ["crop"], ["average", "flatten"], ["max", "flatten"]])
def test_a_twin_whose_constants_are_biases(between):
    """BatchNormalization behind a ReLU, and what it adds written as a bias of the layer behind: the same explanations."""
    made = {
        "max": lambda: layers.MaxPooling2D(2, padding="same"),
        "average": lambda: layers.AveragePooling2D(2, name="mean"),
        "flatten": layers.Flatten,
        "crop": lambda: layers.Cropping2D(1),
    }
    i = keras.Input((8, 8, 2))
    y = layers.Conv2D(3, 3, activation="relu", name="first")(i)
    y = layers.BatchNormalization(epsilon=0.0, name="norm")(y)
    for word in between:
        y = made[word]()(y)
    last = layers.Dense(2) if "flatten" in between else layers.Conv2D(2, 2)
    model = models.randomize(keras.Model(i, last(y)), seed=5)
    data = models.normal(60, 8, 8, 2)
    analyzer = innvest_lite.PatternAttribution(model, shares="sample", start="logit").fit(data, verbose=0)
    twin = keras.models.clone_model(model)
    twin.set_weights(model.get_weights())
    norm, behind, gamma = twin.get_layer("norm"), twin.layers[-1], model.get_layer("norm").gamma
    zeros = np.zeros((1, *twin.get_layer("first").output.shape[1:]), "float32")
    constant = model.layers[-1](keras.Model(model.get_layer("norm").input, model.layers[-1].input)(zeros))
    norm.set_weights([gamma, np.zeros(3), np.zeros(3), norm.moving_variance])
    bias = np.asarray(constant)[0].reshape(-1, 2)
    # Away from padding, the constant is the same everywhere.
    np.testing.assert_allclose(bias, bias[:1].repeat(len(bias), 0), rtol=1e-4, atol=1e-5)
    behind.set_weights([behind.get_weights()[0], bias[0]])
    assert_close(twin.predict(data, verbose=0), model.predict(data, verbose=0), 1e-4)
    arrays = {name: np.asarray(pattern) for name, pattern in analyzer.patterns.items()}
    second = innvest_lite.PatternAttribution(twin, shares="sample", start="logit", patterns=arrays)
    target = (0, *(0 for _ in model.output_shape[1:-1]))[-1]
    assert_close(second.analyze(data[:6], target=target), analyzer.analyze(data[:6], target=target), 1e-4)
    assert np.abs(np.asarray(constant)).max() > 0.1 and analyzer.check(data[:6], target=target).unexplained.max() < 1e-5


NORMALIZATIONS = {
    "one group": lambda: layers.GroupNormalization(1, name="own"),
    "groups": lambda: layers.GroupNormalization(2, name="own"),
    "each channel": lambda: layers.GroupNormalization(-1, name="own"),
    "norm": lambda: layers.UnitNormalization(axis=[1, 2, 3], name="own"),
}


def normalized_beside(layer, lifted=True):
    """A normalization, behind a BatchNormalization or not, and beside it a value without constants."""
    i = keras.Input((6, 6, 2))
    y = layers.Conv2D(4, 3, activation="relu", name="first")(i)
    y = layers.BatchNormalization(name="norm")(y) if lifted else y
    aside = layers.Reshape((1, 1, 3))(layers.Dense(3, name="aside")(layers.Flatten()(i)))
    y = layers.Flatten(name="both")(layers.Concatenate()([layers.MaxPooling2D(4, name="largest")(layer(y)), aside]))
    return models.randomize(keras.Model(i, layers.Dense(2, name="out")(y)), seed=5), models.normal(40, 6, 6, 2)


@pytest.mark.parametrize("lifted", [False, True])
@pytest.mark.parametrize("name", NORMALIZATIONS)
def test_a_normalization_is_a_batch_normalization_with_the_samples_statistics(name, lifted):
    model, data = normalized_beside(NORMALIZATIONS[name](), lifted)
    analyzer = innvest_lite.PatternAttribution(model, start="logit").fit(data, verbose=0)
    found, own = analyzer.analyze(data[:2], target=0), model.get_layer("own")
    assert analyzer.check(data[:4]).unexplained.max() < 1e-5
    arrays = {key: np.asarray(array) for key, array in analyzer.patterns.items()}
    groups = {"one group": 1, "groups": 2, "each channel": 4, "norm": 1}[name]
    for sample, expected in zip(data[:2], found, strict=True):
        hidden = np.asarray(keras.Model(model.input, own.input)(sample[None])).reshape(16, groups, 4 // groups)
        mean, variance = hidden.mean(axis=(0, 2)), hidden.var(axis=(0, 2)) + 1e-3
        weights = own.get_weights() or [np.ones(4), np.zeros(4)]
        if name == "norm":
            mean, variance = np.zeros(1), (hidden**2).sum()[None]
        twin, _ = normalized_beside(layers.BatchNormalization(epsilon=0.0, name="own"), lifted)
        for layer in model.layers:
            if layer.weights and layer is not own:
                twin.get_layer(layer.name).set_weights(layer.get_weights())
        twin.get_layer("own").set_weights([*weights, mean.repeat(4 // groups), variance.repeat(4 // groups)])
        assert_close(twin(sample[None]), model(sample[None]), 1e-4)
        second = innvest_lite.PatternAttribution(twin, start="logit", patterns=arrays)
        assert_close(second.analyze(sample[None], target=0)[0], expected, 1e-3)


def test_nothing_arrives_at_units_that_are_closed_before_a_normalization():
    i = keras.Input((6, 6, 2))
    y = layers.LayerNormalization()(layers.Conv2D(4, 3, activation="relu", name="first")(i))
    y = layers.Conv2D(5, 2, activation="relu")(y)
    model, data = models.randomize(keras.Model(i, layers.Dense(2)(layers.Flatten()(y))), seed=5), models.normal(40, 6, 6, 2)
    analyzer = innvest_lite.PatternAttribution(model).fit(data, verbose=0)
    _, kept = analyzer.analyze(data[:8], keep=["first"])
    closed = keras.Model(i, model.get_layer("first").output).predict(data[:8], verbose=0) == 0
    largest = np.abs(kept["first"]).max()
    assert closed.mean() > 0.2 and largest > 0.01 and np.abs(kept["first"][closed]).max() < 1e-5 * largest


@pytest.mark.parametrize("dtypes", [("mixed_float16", "float32"), ("float32", "mixed_bfloat16"), ("float32", "float64")])
def test_a_normalization_of_another_precision(dtypes):
    def network(conv, norm):
        i = keras.Input((6, 6, 2))
        y = layers.LayerNormalization(dtype=norm)(layers.Conv2D(4, 3, activation="relu", dtype=conv)(i))
        y = layers.Flatten()(layers.Conv2D(3, 2, dtype=conv)(y))
        return keras.Model(i, layers.Dense(3, dtype="float32")(y))

    plain, other = network("float32", "float32"), network(*dtypes)
    models.randomize(plain, seed=2)
    other.set_weights(plain.get_weights())
    data = models.normal(40, 6, 6, 2)
    analyzers = [innvest_lite.PatternAttribution(model).fit(data, verbose=0) for model in (plain, other)]
    expected, found = (np.asarray(analyzer.analyze(data[:5], target=1), "float64") for analyzer in analyzers)
    assert np.corrcoef(expected.ravel(), found.ravel())[0, 1] > 0.98


def constants_in(model, data):
    """Node name -> the constants of some samples, and all values likewise."""
    plan = innvest_lite.PatternAttribution(model).fit(data, verbose=0).plan()
    values, calls = sweep.forward(plan, [ops.convert_to_tensor(data[:3])])
    found = constants_of(plan, calls)
    return ({value.node: np.asarray(array) for value, array in arrays.items()} for arrays in (found, values))


def offset_of(norm):
    """What a BatchNormalization adds, one number a channel."""
    return np.asarray(norm.beta - norm.moving_mean * norm.gamma / np.sqrt(norm.moving_variance + norm.epsilon))


@pytest.mark.parametrize("gated", [False, True])
def test_the_constant_of_a_maximum_is_that_of_the_largest(gated):
    """By hand, where it differs from place to place: behind a gate for each position, and with the statistics of each."""
    if gated:
        i = keras.Input((6, 6, 2))
        y = layers.BatchNormalization(name="norm")(layers.Conv2D(4, 3, activation="relu", name="first")(i))
        y = layers.Multiply(name="own")([y, layers.Conv2D(1, 3, activation="sigmoid", name="gates")(i)])
        y = layers.Flatten()(layers.MaxPooling2D(4, name="largest")(y))
        model, data = models.randomize(keras.Model(i, layers.Dense(2)(y)), seed=5), models.normal(40, 6, 6, 2)
    else:
        model, data = normalized_beside(layers.RMSNormalization(name="own"))
    found, values = constants_in(model, data)
    if gated:
        factors = values["gates/activation"]
    else:
        own = model.get_layer("own")
        factors = np.asarray(own.scale) / np.sqrt((values["norm"] ** 2).mean(axis=-1, keepdims=True) + own.epsilon)
    at_each = (offset_of(model.get_layer("norm")) * factors).reshape(3, 16, 4)
    largest = values["own"].reshape(3, 16, 4).argmax(axis=1)
    expected = np.take_along_axis(at_each, largest[:, None], axis=1)
    assert_close(found["own"].reshape(3, 16, 4), at_each, 1e-4)
    assert_close(found["largest"].reshape(3, 1, 4), expected, 1e-4)
    assert np.abs(at_each.max(axis=1) - expected[:, 0]).max() > 0.1
    if not gated:
        assert_close(found["both"], np.concatenate([expected[:, 0], np.zeros((3, 3))], axis=1), 1e-4)


def test_the_constant_of_a_choice_is_that_of_what_was_chosen():
    i = keras.Input((6,))
    y = layers.BatchNormalization(name="norm")(layers.Dense(4, activation="relu")(i))
    chosen = ops.where(ops.greater(layers.Dense(4, name="by")(i), 0.0), y, 2.0 * y)
    model = models.randomize(keras.Model(i, layers.Dense(2)(chosen)), seed=5)
    found, values = constants_in(model, models.normal(40, 6))
    (name,) = (node for node in found if node.startswith("where"))
    expected = offset_of(model.get_layer("norm")) * np.where(values["by"] > 0, 1, 2)
    assert_close(found[name], expected, 1e-4)


@pytest.mark.parametrize("squeezed", [False, True])
def test_a_gated_constant_may_be_a_bias(squeezed):
    """Of one sample, whose gates are given: what they let through of a constant, written as a bias of the layer behind."""
    i = keras.Input((6, 6, 2))
    y = layers.BatchNormalization(name="norm")(layers.Conv2D(4, 3, activation="relu", name="first")(i))
    # The gates of squeeze and excitation see the constant, too; those of another branch do not.
    seen = y if squeezed else layers.Conv2D(4, 3, name="other")(i)
    gates = layers.Dense(4, activation="sigmoid", name="gates")(layers.GlobalAveragePooling2D(name="mean")(seen))
    y = layers.Multiply()([y, layers.Reshape((1, 1, 4))(gates)])
    # Beside it lies a value whose constant is none.
    y = layers.Concatenate()([layers.GlobalMaxPooling2D()(y), layers.Dense(3, name="aside")(layers.Flatten()(i))])
    model = models.randomize(keras.Model(i, layers.Dense(2, name="out")(y)), seed=5)
    data = models.normal(40, 6, 6, 2)
    analyzer = innvest_lite.PatternAttribution(model, start="logit").fit(data, verbose=0)
    norm = model.get_layer("norm")
    added = offset_of(norm)
    let_through = keras.Model(i, gates).predict(data[:2], verbose=0)
    found = analyzer.analyze(data[:2], target=0)
    arrays = {name: np.asarray(array) for name, array in analyzer.patterns.items()}
    for sample, expected, passed in zip(data[:2], found, let_through, strict=True):
        twin = keras.models.clone_model(model)
        twin.set_weights(model.get_weights())
        twin.get_layer("norm").set_weights([norm.gamma, np.zeros(4), np.zeros(4), norm.moving_variance])
        weights, bias = model.get_layer("out").get_weights()
        twin.get_layer("out").set_weights([weights, bias + (passed * added) @ weights[:4]])
        if squeezed:
            # What the gates' layer sees less of, its bias makes up for.
            weights, bias = model.get_layer("gates").get_weights()
            twin.get_layer("gates").set_weights([weights, bias + added @ weights])
        assert_close(twin(sample[None]), model(sample[None]), 1e-4)
        second = innvest_lite.PatternAttribution(twin, start="logit", patterns=arrays)
        assert_close(second.analyze(sample[None], target=0)[0], expected, 1e-4)
    assert analyzer.check(data[:4]).unexplained.max() < 1e-5 and np.abs(added).max() > 0.1


@pytest.mark.parametrize("activation", ["softplus", "sigmoid", "exponential", "tanh", "gelu", "leaky_relu"])
@pytest.mark.parametrize("last", [False, True])
def test_no_activation_makes_more_of_relevance_than_arrives(activation, last):
    """Also where f(x) is near 0 and f(0) is not, and behind which something is added."""
    i = keras.Input((6,))
    x = layers.Dense(8, name="one", activation=activation)(i)
    x = layers.Dense(5, name="two", activation=activation)(layers.BatchNormalization()(x))
    x = layers.Dense(3, name="out", activation=activation if last else None)(x)
    scale = 0.3 if activation == "exponential" else 4
    model, data = models.randomize(keras.Model(i, x), seed=1), scale * models.normal(50, 6)
    analyzer = innvest_lite.PatternAttribution(model, shares="sample").fit(data, verbose=0)
    report = analyzer.check(data, target=0)
    assert report.unexplained.max() < 1e-5
    outputs = model.predict(data, verbose=0)
    most = np.abs(outputs - outputs.mean(axis=1, keepdims=True))[:, 0]
    assert (np.abs(analyzer.analyze(data, target=0)).sum(axis=1) <= most * (1 + 1e-4)).all()


def test_a_leaky_unit_hands_on_what_arrives():
    """By hand: -0.1 and -0.3, of which the last layer's evidence against the logit arrives at the inputs as it is."""
    i = keras.Input((2,))
    y = layers.LeakyReLU(negative_slope=0.1)(layers.Dense(2, name="h", use_bias=False)(i))
    model = loaded(keras.Model(i, layers.Dense(1, name="o")(y)), [np.eye(2), [[1], [1]], [1]])
    found = sample(model, {"h": np.eye(2), "o": [[0.5], [0.5]]}).analyze(np.float32([[-1, -3]]))
    np.testing.assert_allclose(found, [[-0.6 * 0.25, -0.6 * 0.75]], rtol=1e-5)


@pytest.mark.parametrize("merge", ["sum", "unmerged"])
def test_values_that_are_summed_keep_their_signs(merge):
    """Of a sum over positions and one without patterns: by hand, as the linear network that they are."""
    rng = np.random.default_rng(0)
    weight, x = rng.normal(size=(2, 3)), rng.normal(size=(30, 4, 2))
    i = keras.Input((4, 2))
    if merge == "sum":
        y = ops.sum(layers.Conv1D(3, 1, name="c", use_bias=False)(i), axis=1)
    else:
        each = [layers.Dense(3, name=f"c{place}", use_bias=False)(i[:, place]) for place in range(4)]
        y = layers.Add()(each)
    weights = [weight[None]] if merge == "sum" else [weight] * 4
    model = loaded(keras.Model(i, y), weights)
    patterns = {"c": np.sign(weight[None])} if merge == "sum" else {f"c{place}": np.sign(weight) for place in range(4)}
    options = {} if merge == "sum" else {"merge_patterns": False}
    found = sample(model, patterns, **options).analyze(np.float32(x), target=1)
    products = x * weight[:, 1]
    assert (np.sign(found) == np.sign(products)).all()
    by_place = products.sum(-1)
    shares = np.abs(by_place) / np.abs(by_place).sum(1, keepdims=True) * np.abs(by_place.sum(1, keepdims=True))
    inside = np.abs(products) / np.abs(products).sum(-1, keepdims=True)
    np.testing.assert_allclose(np.abs(found), shares[..., None] * inside, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("policy", ["float64", "mixed_float16"])
def test_in_any_precision(policy):
    keras.utils.set_random_seed(3)
    i = keras.Input((6, 6, 2))

    def network(dtype):
        def made(layer, **options):
            return layer(**options, dtype=dtype)

        y = made(layers.ReLU)(made(layers.BatchNormalization)(made(layers.Conv2D, filters=4, kernel_size=3)(i)))
        y = made(layers.Add)([y, made(layers.Conv2D, filters=4, kernel_size=1)(y)])
        y = made(layers.BatchNormalization)(made(layers.Activation, activation="softplus")(y))
        return keras.Model(i, made(layers.Dense, units=3)(made(layers.GlobalAveragePooling2D)(y)))

    data = models.normal(40, 6, 6, 2)
    plain, other = network("float32"), network(policy)
    models.randomize(plain, seed=2)
    other.set_weights(plain.get_weights())
    analyzers = [innvest_lite.PatternAttribution(model).fit(data, verbose=0) for model in (plain, other)]
    expected, found = (np.asarray(analyzer.analyze(data[:5], target=1), "float64") for analyzer in analyzers)
    assert np.corrcoef(expected.ravel(), found.ravel())[0, 1] > (0.9999 if policy == "float64" else 0.99)


@pytest.mark.parametrize(
    "layer", [layers.BatchNormalization, layers.LayerNormalization, lambda: layers.GroupNormalization(2)]
)
def test_a_rectifier_behind_a_normalization_decides_the_regime(layer):
    i = keras.Input((6, 6, 2))
    y = layers.ReLU()(layer()(layers.Conv2D(4, 3, name="c")(i)))
    layout = Layout.of(keras.Model(i, layers.Dense(2)(layers.Flatten()(y))))
    form = layout.forms["c"]
    assert layout.activation(form) == "relu" and layout.kind(form) == "rectified"
    (rectifier,) = (node for node in layout.graph.nodes if layout.forms[node.name].kind == "rectifier")
    assert layout.regime(form, "rectifier") == rectifier.inputs[0]


@pytest.mark.parametrize("order", [0, 1])
def test_a_layer_whose_value_is_broadcast_in_a_sum_reaches_no_rectifier(order):
    i = keras.Input((6, 6, 2))
    y = layers.ReLU()(layers.Conv2D(4, 3, padding="same")(i))
    pooled = layers.Dense(4, name="pooled")(layers.GlobalMaxPooling2D(keepdims=True)(y))
    y = layers.Conv2D(4, 1, name="spread over")(y)
    y = layers.ReLU()(layers.Add()([[y, pooled], [pooled, y]][order]))
    model = models.randomize(keras.Model(i, layers.Dense(2)(layers.Flatten()(y))), seed=4)
    data = models.normal(20, 6, 6, 2)
    layout = Layout.of(model)
    assert layout.activation(layout.forms["pooled"]) == "" and layout.activation(layout.forms["spread over"]) == "relu"
    analyzer = innvest_lite.PatternAttribution(model).fit(data, verbose=0)
    assert np.isfinite(analyzer.analyze(data[:3])).all() and analyzer.check(data[:3]).unexplained.max() < 1e-5


def test_what_scales_the_input_adds_no_constant():
    """A black pixel counts as -1 where the scaling stands inside the model, too."""
    i, raw = keras.Input((6, 6, 1)), keras.Input((6, 6, 1))
    y = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(4, 3)(i)))
    model = models.randomize(keras.Model(i, layers.Dense(3)(layers.GlobalAveragePooling2D()(y))), seed=6)
    inside = keras.Model(raw, model(layers.Rescaling(2.0, offset=-1.0)(raw)))
    pixels = np.random.default_rng(0).uniform(0, 1, (40, 6, 6, 1)).astype("float32")
    outside = innvest_lite.PatternAttribution(model).fit(2 * pixels - 1, verbose=0)
    found = innvest_lite.PatternAttribution(inside).fit(pixels, verbose=0).analyze(pixels[:5])
    assert_close(found, outside.analyze(2 * pixels[:5] - 1), 1e-4)


def test_what_is_left_of_a_positive_value_may_be_negative():
    call = Call(None, (np.ones(2),), (np.ones(2),), None, nonnegative=True)
    assert above(call, (None,), (np.ones(2),)).nonnegative
    lifted = above(call, (np.full(2, 3.0),), (None,))
    assert not lifted.nonnegative and (lifted.inputs[0] == -2).all() and (lifted.outputs[0] == 1).all()
