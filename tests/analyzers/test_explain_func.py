"""`as_explain_func`: Quantus's calls, with a stand-in for its wrapper of models. Quantus itself is not needed."""

import functools

import keras
import models
import numpy as np
import pytest
from comparing import offenders, refusals

import innvest_lite
from innvest_lite.analyzers.quantus import is_copy
from innvest_lite.errors import InvalidInputError, NotFittedError

# A new model for each call, which is explained once.
pytestmark = pytest.mark.usefixtures("eager")
TARGETS = np.array([1, 0, 2, 1])


class Wrapper:
    """What is used of Quantus's ModelInterface: it holds a model."""

    def __init__(self, model):
        self.model = model

    def get_model(self):
        return self.model


def build(shape=(6, 5, 2), seed=0):
    layers = [keras.layers.Conv2D(4, 3, activation="relu"), keras.layers.BatchNormalization(), keras.layers.Flatten()]
    return models.randomize(keras.Sequential([keras.Input(shape), *layers, keras.layers.Dense(3)]), seed)


def copy(model):
    twin = keras.models.clone_model(model)
    twin.set_weights(model.get_weights())
    return twin


def shuffle(model):
    """What Quantus's randomization test does to a layer, in place."""
    layer, rng = model.layers[-1], np.random.default_rng(3)
    layer.set_weights([rng.permutation(weight) for weight in layer.get_weights()])


X = models.normal(4, 6, 5, 2)
METHODS = {
    "Gradient": innvest_lite.Gradient,
    "LRP": functools.partial(innvest_lite.LRP, composite="epsilon_gamma_box", composite_options={"low": -4, "high": 4}),
    "pairs": lambda model: innvest_lite.LRP(model, [(innvest_lite.rules.kind("linear"), innvest_lite.rules.Epsilon(0.5))]),
    "DeepTaylor": innvest_lite.DeepTaylor,
    "SmoothGrad": functools.partial(innvest_lite.SmoothGrad, augment_by_n=3, noise_scale=0.3),
    "IntegratedGradients": functools.partial(innvest_lite.IntegratedGradients, steps=5),
    "GradCAM": innvest_lite.GradCAM,
    "Occlusion": functools.partial(innvest_lite.Occlusion),
}


@pytest.fixture(scope="module")
def model():
    return build()


@pytest.fixture(scope="module")
def patterned(model):
    return innvest_lite.PatternNet(model).fit(models.normal(50, 6, 5, 2), verbose=0)


def test_explains_its_own_model(model, patterned):
    def explains(given, targets):
        explanation = patterned.as_explain_func()(model=given, inputs=X, targets=targets)
        assert isinstance(explanation, np.ndarray) and explanation.shape == X.shape
        np.testing.assert_array_equal(explanation, patterned.analyze(X, targets))

    cases = [(given, targets) for given in (model, Wrapper(model), None) for targets in (TARGETS, TARGETS.tolist(), None)]
    assert offenders(explains, cases) == {}


@pytest.mark.slow
def test_another_model_is_explained_itself_also_after_its_weights_changed(model):
    assert offenders(lambda method: another_model_is_explained_itself(method, model), METHODS) == {}


def another_model_is_explained_itself(method, model):
    analyzer, other = METHODS[method](model), copy(model)
    explain, before = analyzer.as_explain_func(), analyzer.analyze(X, TARGETS)
    np.testing.assert_allclose(explain(Wrapper(other), X, TARGETS), before, atol=1e-6)
    for _ in range(2):
        shuffle(other)
        expected = METHODS[method](other).analyze(X, TARGETS)
        np.testing.assert_allclose(explain(Wrapper(other), X, TARGETS), expected, atol=1e-6)
        assert not np.allclose(expected, before, atol=1e-3)
    np.testing.assert_array_equal(explain(model, X, TARGETS), before)


def test_the_analyzer_of_another_model_is_kept_while_it_comes_back(model):
    built = []

    class Counted(innvest_lite.Gradient):
        def __init__(self, model, **options):
            built.append(model)
            super().__init__(model, **options)

    explain, one, two = Counted(model).as_explain_func(), copy(model), copy(model)
    built.clear()
    for other in (one, one, model, one, two, two, one):
        explain(other, X, TARGETS)
    assert [id(other) for other in built] == [id(other) for other in (one, two, one)]


def test_patterns_serve_a_copy_of_their_model_alone(model, patterned):
    explain, other = patterned.as_explain_func(), copy(model)
    other.trainable = False
    np.testing.assert_array_equal(explain(other, X, TARGETS), patterned.analyze(X, TARGETS))
    same_again = build()
    assert same_again.layers[0].name != model.layers[0].name
    np.testing.assert_array_equal(explain(same_again, X, TARGETS), patterned.analyze(X, TARGETS))
    # In place: a model that would have done in the call before.
    explain(other, X, TARGETS)
    shuffle(other)
    with pytest.raises(InvalidInputError, match="PatternNet has patterns for the weights of its own model.*other weights"):
        explain(Wrapper(other), X, TARGETS)


def test_patterns_of_the_same_weights_in_other_layers_are_refused(model, patterned):
    other = keras.models.clone_model(model, clone_function=_without_relu)
    other.set_weights(model.get_weights())
    with pytest.raises(InvalidInputError, match="other weights or layers"):
        patterned.as_explain_func()(other, X, TARGETS)
    with pytest.raises(InvalidInputError, match="other weights or layers"):
        patterned.as_explain_func()(build((5, 6, 2)), X, TARGETS)


def _branches(join, end="end"):
    x = keras.Input((3,))
    values = join(*(keras.layers.Dense(3, name=name)(x) for name in ("one", "two")))
    return models.randomize(keras.Model(x, keras.layers.Dense(2, name=end)(values)), 0)


def _join(one, two, third=0, axis=1, operation=keras.ops.relu):
    return operation(keras.layers.Concatenate(axis=axis)([one, two, (one, two)[third]]))


@pytest.mark.parametrize(
    "change", [{"third": 1}, {"axis": -1}, {"operation": keras.ops.tanh}], ids=lambda change: [*change][0]
)
def test_patterns_of_the_same_weights_in_another_graph_are_refused(change):
    model, same, other = _branches(_join), _branches(_join, "other_end"), _branches(functools.partial(_join, **change))
    x = models.normal(4, 3)
    analyzer = innvest_lite.PatternNet(model, patterns=innvest_lite.fit_patterns(model, estimator="filter"))
    np.testing.assert_array_equal(analyzer.as_explain_func()(same, x, None), analyzer.analyze(x))
    with pytest.raises(InvalidInputError, match="other weights or layers"):
        analyzer.as_explain_func()(other, x, None)


CONSTANT = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], "float32")
CALLS = {
    "number": (lambda x: x * 1.0, lambda x: x * 5.0),
    "array": (lambda x: x * CONSTANT, lambda x: x * CONSTANT[::-1].copy()),
    "tensor": (lambda x: x * keras.ops.convert_to_tensor(CONSTANT), lambda x: x * keras.ops.convert_to_tensor(-CONSTANT)),
    "slice": (lambda x: x[:, :3], lambda x: x[:, 3:]),
    "axis": (lambda x: keras.ops.flip(x, axis=1), lambda x: keras.ops.flip(x, axis=0)),
    "keyword": (lambda x: keras.ops.clip(x, x_min=-1, x_max=2), lambda x: keras.ops.clip(x, x_min=-1, x_max=1)),
}


def _called(call):
    x = keras.Input((6,))
    return models.randomize(keras.Model(x, keras.layers.Dense(2)(keras.layers.Dense(4, "relu")(call(x)))), 0)


def test_patterns_of_the_same_weights_behind_another_call_are_refused():
    def tells_apart(name):
        one, other = CALLS[name]
        model = _called(one)
        assert is_copy(_called(one), model) and is_copy(copy(model), model)
        assert not is_copy(_called(other), model)

    assert offenders(tells_apart, CALLS) == {}


def test_patterns_behind_another_constant_are_refused_by_name():
    model = _called(CALLS["number"][0])
    patterns = innvest_lite.fit_patterns(model, estimator="filter")
    explain = innvest_lite.PatternNet(model, patterns=patterns).as_explain_func()
    with pytest.raises(InvalidInputError, match="other weights or layers"):
        explain(_called(CALLS["number"][1]), models.normal(4, 6), None)


def test_copies_of_models_whose_calls_say_training_and_whose_nested_models_cast():
    def build(training=None, policy="mixed_float16"):
        inner_x = keras.Input((4,), dtype="float32")
        inner = keras.Model(inner_x, keras.layers.Dense(3, dtype=policy)(inner_x))
        x = keras.Input((6,))
        value = keras.layers.Dropout(0.5)(keras.layers.Dense(4, dtype="mixed_float16")(x), training=training)
        return models.randomize(keras.Model(x, inner(value)), 0)

    assert is_copy(build(), build(False)) and not is_copy(build(), build(policy="float32"))


def _without_relu(layer):
    config = layer.get_config()
    return layer.from_config({**config, **({"activation": "tanh"} if config.get("activation") == "relu" else {})})


def test_without_patterns_nothing_is_explained(model):
    for other in (model, copy(model)):
        with pytest.raises(NotFittedError, match="fit"):
            innvest_lite.PatternNet(model).as_explain_func()(other, X, TARGETS)


def test_channels_first_inputs_give_channels_first_explanations(model):
    analyzer = innvest_lite.Gradient(model)
    explanation = analyzer.as_explain_func()(Wrapper(model), X.transpose(0, 3, 1, 2), TARGETS, channel_first=True)
    assert explanation.shape == (4, 2, 6, 5)
    np.testing.assert_array_equal(explanation.transpose(0, 2, 3, 1), analyzer.analyze(X, TARGETS))


def test_where_both_orders_fit_quantus_says_which():
    analyzer, x = innvest_lite.InputTimesGradient(build((4, 4, 4))), models.normal(4, 4, 4, 4)
    explain, expected = analyzer.as_explain_func(), analyzer.analyze(x, TARGETS)
    for said in ({}, {"channel_first": None}, {"channel_first": False}):
        np.testing.assert_array_equal(explain(None, x, TARGETS, **said), expected)
    turned = explain(None, x.transpose(0, 3, 1, 2), TARGETS, channel_first=True)
    np.testing.assert_array_equal(turned, expected.transpose(0, 3, 1, 2))


def test_channels_first_models_take_inputs_as_they_are():
    layers = [keras.layers.GlobalAveragePooling2D(data_format="channels_first"), keras.layers.Dense(3)]
    analyzer = innvest_lite.InputTimesGradient(keras.Sequential([keras.Input((4, 4, 4)), *layers]))
    x = models.normal(4, 4, 4, 4)
    for said in (True, False):
        np.testing.assert_array_equal(
            analyzer.as_explain_func()(None, x, TARGETS, channel_first=said), analyzer.analyze(x, TARGETS)
        )


def test_options_of_quantus_are_ignored_and_others_refused(model):
    explain = innvest_lite.Gradient(model).as_explain_func()
    options = {"device": "cpu", "softmax": True, "method": "Saliency", "xai_lib": "captum", "xai_lib_kwargs": {}}
    np.testing.assert_array_equal(explain(model, X, TARGETS, **options, attributor=None), explain(model, X, TARGETS))
    for name in ("reduce_axes", "sofmax"):
        with pytest.raises(InvalidInputError, match=f"no options \\['{name}'\\]"):
            explain(model, X, TARGETS, device="cpu", **{name: ()})


WRONG = [
    (X[0], TARGETS, r"targets should be .*shape \(6,\)"),
    (X[0], None, r"should have shape \(None, 6, 5, 2\), but got \(6, 5, 2\)"),
    (X.transpose(0, 2, 1, 3), TARGETS, r"should have shape \(None, 6, 5, 2\)"),
    (X.transpose(0, 3, 2, 1), TARGETS, r"should have shape \(None, 6, 5, 2\)"),
    (np.float32(1), TARGETS, "targets should"),
    ([[1, 2], [3]], TARGETS, "inputs cannot be read as an array"),
    (None, None, "should hold numbers"),
    (X, TARGETS[:3], r"targets should be None or whole numbers of shape \(4,\).*\(3,\)"),
    (X, 1, "targets should"),
    (X, np.stack([TARGETS, TARGETS], axis=1), "targets should"),
    (X, TARGETS / 2, "targets should be .*float64"),
    (X, "all", "targets should"),
    (X, TARGETS + 2, "out of range"),
]


def test_wrong_inputs_and_targets(model):
    explain = innvest_lite.Gradient(model).as_explain_func()
    uses = {
        f"{number}: {message}": (lambda inputs=inputs, targets=targets: explain(model, inputs, targets), message)
        for number, (inputs, targets, message) in enumerate(WRONG)
    }
    assert refusals(uses, InvalidInputError) == {}


@pytest.mark.parametrize("wrong", ["model", Wrapper("torch"), Wrapper])
def test_wrong_models(model, wrong):
    with pytest.raises((InvalidInputError, TypeError), match="model"):
        innvest_lite.Gradient(model).as_explain_func()(wrong, X, TARGETS)


def test_several_inputs_are_not_for_quantus():
    one, two = keras.Input((3,), name="one"), keras.Input((3,), name="two")
    both = keras.Model([one, two], keras.layers.Dense(3)(keras.layers.Add()([one, two])))
    with pytest.raises(InvalidInputError, match="the model has several: one, two"):
        innvest_lite.Gradient(both).as_explain_func()


def test_the_given_arrays_are_left_alone(model):
    x, targets = X.copy(), TARGETS.copy()
    innvest_lite.Gradient(model).as_explain_func()(model, x, targets)
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(targets, TARGETS)
