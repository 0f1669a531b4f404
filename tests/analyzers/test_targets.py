"""What is explained: one sigmoid unit as two classes, labels, dense outputs; against tapes, twins and brute force."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from comparing import assert_close, offenders, refusals
from keras import layers
from models import normal, randomize

import innvest_lite
from innvest_lite import Gradient, InvalidInputError, PatternAttribution, PatternNet, create_analyzer, metrics

X = normal(6, 8, 8, 2)


def gradient(function, x):
    """The tape's gradient of the sum of `function(x)`."""
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        total = tf.reduce_sum(function(x))
    return tape.gradient(total, x).numpy()


# One sigmoid unit ----------------------------------------------------------------------------------------------------


def body(x):
    value = layers.Conv2D(4, 3, activation="relu", name="conv")(x)
    return layers.Dense(5, activation="relu", name="hidden")(layers.GlobalAveragePooling2D(name="pool")(value))


HEADS = {
    "inline": lambda h: layers.Dense(1, activation="sigmoid", name="out")(h),
    "squeezed": lambda h: keras.ops.squeeze(layers.Dense(1, activation="sigmoid", name="out")(h), -1),
    "reshaped": lambda h: layers.Reshape((1, 1))(layers.Dense(1, activation="sigmoid", name="out")(h)),
}


def logits(model):
    """The logit of a model's only unit, by its layers: a function of tensors, (samples, 1)."""
    hidden, out = keras.Model(model.input, model.get_layer("hidden").output), model.get_layer("out")
    return lambda x: tf.matmul(hidden(x), out.kernel) + out.bias


def centred(head="inline"):
    """A model of one sigmoid unit that predicts both classes."""
    x = keras.Input((8, 8, 2), name="x")
    model = randomize(keras.Model(x, HEADS[head](body(x))), seed=2)
    bias = model.get_layer("out").bias
    bias.assign(bias - np.median(logits(model)(X)))
    return model


def twin(model, factor=1.0):
    """Two logits, -z and z (times a factor), behind a softmax; of the same weights."""
    x = keras.Input((8, 8, 2), name="x")
    made = keras.Model(x, layers.Dense(2, activation="softmax", name="two")(body(x)))
    *weights, kernel, bias = model.get_weights()
    made.set_weights([*weights, factor * np.hstack([-kernel, kernel]), factor * np.hstack([-bias, bias])])
    return made


@pytest.mark.parametrize("head", HEADS)
def test_one_sigmoid_unit_is_two_classes(head, eager):
    model = centred(head)
    z = logits(model)
    expected, signs = gradient(z, X), np.where(z(X).numpy()[:, 0] >= 0, 1, -1)
    assert set(signs) == {1, -1}
    labels = np.array([0, 1, 1, 0, 1, 0])
    analyze = Gradient(model).analyze
    for target, sign in (
        (1, 1),
        (0, -1),
        (None, signs),
        ("all", 1),
        (labels, 2 * labels - 1),
        (labels.tolist(), 2 * labels - 1),
        (labels[:, None], 2 * labels - 1),
        (labels[:, None].astype("uint8"), 2 * labels - 1),
    ):
        sign = np.broadcast_to(sign, 6).reshape(-1, 1, 1, 1)
        assert_close(analyze(X, target=target), sign * expected)
        if not isinstance(target, list):
            assert_close(Gradient(model)(X, target=target), sign * expected)
    weights = np.linspace(-2, 1, 6).astype("float32")
    assert_close(analyze(X, target=weights.reshape(-1, *model.output_shape[1:])), weights.reshape(-1, 1, 1, 1) * expected)


def test_a_logit_of_0_is_class_1(eager):
    model = keras.Sequential([keras.Input((2,)), layers.Dense(1, activation="sigmoid", use_bias=False)])
    model.set_weights([np.float32([[3], [-1]])])
    np.testing.assert_array_equal(Gradient(model).analyze(np.zeros((1, 2))), [[3, -1]])


METHODS = {
    **dict.fromkeys(("lrp.epsilon", "gradcam", "guided_backprop"), {}),
    "integrated_gradients": {"steps": 2},
    "smoothgrad": {"augment_by_n": 2},
    "occlusion": {"window": 3},
}


def test_every_family_explains_what_two_logits_would(eager):
    model = centred()
    two = twin(model)

    def is_the_twin(name):
        one, other = (create_analyzer(name, each, **METHODS[name]) for each in (model, two))
        for target in (0, 1, None):
            assert_close(one.analyze(X, target), other.analyze(X, target))

    # Rectifiers of Guided BackProp see the sign of what arrives: two classes, not one times -1.
    assert offenders(is_the_twin, METHODS) == {}


UNEVEN = ("lrp.z_plus", "lrp.alpha_2_beta_1", "deep_taylor")


@pytest.mark.parametrize("tail", ["dense", "mean", "sum"])
def test_rules_that_treat_signs_apart_explain_what_two_logits_would(tail, eager):
    """What speaks for class 0 are the contributions that speak against class 1."""

    def made(units):
        x = keras.Input((8, 8, 2), name="x")
        value = layers.Conv2D(4, 3, activation="relu", name="conv")(x)
        if tail == "mean":
            value = layers.GlobalAveragePooling2D(name="pool")(layers.Conv2D(units, 3, name="a")(value))
        else:
            value = layers.Flatten(name="flat")(value)
            one = layers.Dense(units, name="a")(value)
            value = layers.Add(name="add")([one, layers.Dense(units, name="b")(value)]) if tail == "sum" else one
        return keras.Model(x, layers.Activation("sigmoid" if units == 1 else "softmax", name="head")(value))

    one, two = randomize(made(1), 3), made(2)
    z = keras.Model(one.input, one.layers[-2].output)
    bias = one.get_layer("a").bias
    bias.assign(bias - np.median(z(X)))
    for layer in one.layers:
        weights = layer.get_weights()
        double = [np.concatenate([-part, part], axis=-1) for part in weights] if layer.name in "ab" else weights
        two.get_layer(layer.name).set_weights(double)

    def is_the_twin(name):
        mine, other = create_analyzer(name, one), create_analyzer(name, two)
        for target in (0, None):
            assert_close(mine(X, target), other(X, target), 1e-4)
        one_check, other_check = mine.check(X), other.check(X)
        assert_close(one_check.at_input, other_check.at_input, 1e-4)
        # Relative to the logit: where a rule conserves it, the gap is rounding.
        np.testing.assert_allclose(one_check.gap, other_check.gap, atol=1e-4 * np.abs(one_check.start).max())
        assert one_check.unexplained.max() < 1e-4

    assert offenders(is_the_twin, UNEVEN) == {}


@pytest.mark.parametrize("name", ["occlusion", "rise"])
def test_the_probability_of_class_0(name, eager):
    model = centred()
    options = {"score": "probability", **({"window": 3} if name == "occlusion" else {"masks": 8})}
    one, other = (create_analyzer(name, each, **options) for each in (model, twin(model, 0.5)))
    for target in (0, 1, None):
        # Probabilities near 1/2 of float32, which differ by some hundredths at most where something is hidden.
        assert_close(one.analyze(X, target), other.analyze(X, target), 1e-4)


def test_innvestigates_word_names_the_unit(eager):
    model = centred()
    expected = gradient(logits(model), X)
    analyzer = Gradient(model, neuron_selection_mode="index")
    assert_close(analyzer.analyze(X, neuron_selection=0), expected)
    assert_close(analyzer.analyze(X, neuron_selection=[0] * 6), expected)
    assert_close(analyzer.analyze(X, target=0), -expected)
    with pytest.raises(InvalidInputError, match="Target 1 is out of range: the model has outputs 0 to 0"):
        analyzer.analyze(X, neuron_selection=1)
    assert_close(Gradient(model, neuron_selection_mode="all").analyze(X), expected)


def test_what_is_explained_is_told_by_check_and_by_gaps(eager):
    model = centred()
    z = logits(model)(X).numpy()[:, 0]
    assert_close(innvest_lite.LRP(model, "epsilon").check(X).start, np.abs(z))
    assert_close(innvest_lite.LRP(model, "epsilon").check(X, target=0).start, -z)
    assert_close(innvest_lite.Occlusion(model, 3).check(X).start, np.abs(z))
    analyzer = innvest_lite.IntegratedGradients(model, 40)
    heat, gap = analyzer.analyze(X, return_gap=True)
    z0 = logits(model)(0 * X).numpy()[:, 0]
    assert_close(heat.sum((1, 2, 3)) + gap, np.sign(z) * (z - z0), 1e-4)


BAD_LABELS = {
    "too large": (2, "Target 2 is out of range: the model has the classes 0 to 1"),
    "a label": (np.array([[0], [1], [0], [7], [1], [0]]), "Target 7 is out of range"),
    "negative": ([-1] * 6, "Target -1 is out of range"),
    "too few": (np.array([[0], [1]]), "Got 2 targets for 6 samples"),
    "truth values": (np.ones((6, 1), bool), r"A target is None, an int, 6 ints.*got bool of shape \(6, 1\)"),
}


@pytest.mark.parametrize("call", [False, True])
def test_bad_labels(call):
    analyzer = Gradient(centred())
    function = analyzer if call else analyzer.analyze
    uses = {name: (lambda t=t: function(X, target=t), message) for name, (t, message) in BAD_LABELS.items()}
    if call:
        uses = {name: uses[name] for name in ("too large", "a label", "negative")}
    assert refusals(uses, InvalidInputError) == {}


def test_labels_of_many_classes(eager):
    model = randomize(keras.Sequential([keras.Input((4,)), layers.Dense(3)]), 1)
    labels, x = np.array([[2], [0], [1]]), normal(3, 4)
    np.testing.assert_allclose(Gradient(model).analyze(x, target=labels), model.get_weights()[0][:, labels[:, 0]].T)
    np.testing.assert_allclose(Gradient(model)(x, target=labels), model.get_weights()[0][:, labels[:, 0]].T)


def test_a_single_unit_without_a_sigmoid_is_one_output(eager):
    model = randomize(keras.Sequential([keras.Input((4,)), layers.Dense(1)]), 1)
    kernel, x = model.get_weights()[0][:, 0], normal(5, 4)
    assert (model(x).numpy() < 0).any()
    for target in (None, 0, np.zeros((5, 1), int)):
        np.testing.assert_allclose(Gradient(model).analyze(x, target=target), np.broadcast_to(kernel, (5, 4)))
    with pytest.raises(InvalidInputError, match="outputs 0 to 0"):
        Gradient(model).analyze(x, target=1)


# Dense outputs -------------------------------------------------------------------------------------------------------


IMAGES = normal(3, 9, 9, 2, mean=0)


def dense(size=9, first=False, classes=4, activation="softmax"):
    """`(model, logits, x)`: a segmentation and its twin without a head; with the channels first, the classes are."""
    order = {"data_format": "channels_first" if first else "channels_last"}
    x = keras.Input((2, size, size) if first else (size, size, 2), name="x")
    value = layers.Conv2D(5, 3, padding="same", activation="relu", **order)(x)
    z = layers.Conv2D(classes, 1, **order)(value)
    heads = {"softmax": lambda: layers.Softmax(axis=1 if first else -1)(z), None: lambda: z}
    model = randomize(keras.Model(x, heads.get(activation, lambda: layers.Activation(activation)(z))()), seed=3)
    return model, keras.Model(x, z), np.moveaxis(IMAGES, -1, 1) if first else IMAGES


def by_hand(z, classes, region=None):
    """Position by position: a class where it wins, or, where it wins nowhere, everywhere; or over a region."""
    weights = np.zeros(z.shape, "float32")
    for n, wanted in enumerate(classes):
        places = list(np.ndindex(z.shape[1:-1]))
        mine = [place for place in places if (z[n][place].argmax() == wanted if region is None else region[n][place])]
        for place in mine or (places if region is None else []):
            weights[n][(*place, wanted)] = 1
    return weights


def asked(z):
    """Target -> the weights that it should mean."""
    mask = np.random.default_rng(0).random((3, 9, 9)) < 0.3
    point = np.zeros((3, 9, 9), bool)
    point[:, 5, 7] = True
    return [
        (2, by_hand(z, [2] * 3)),
        ([0, 3, 1], by_hand(z, [0, 3, 1])),
        (np.array([[0], [3], [1]]), by_hand(z, [0, 3, 1])),
        ((2, mask), by_hand(z, [2] * 3, mask)),
        ((1, mask[0]), by_hand(z, [1] * 3, [mask[0]] * 3)),
        ((5, 7, 2), by_hand(z, [2] * 3, point)),
        ("all", np.ones(z.shape, "float32")),
        (np.round(z), np.round(z)),
    ]


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("size", [9, None])
def test_a_class_of_a_dense_output(first, size, eager):
    model, logits, x = dense(size, first)
    moved = (lambda array: np.moveaxis(array, -1, 1)) if first else (lambda array: array)
    z = logits(x).numpy()
    z = np.moveaxis(z, 1, -1) if first else z
    wins = [(z[n].argmax(-1) == wanted).any() for n in range(3) for wanted in range(4)]
    assert not all(wins) and any(wins)
    for target, weights in asked(z):
        target, weights = moved(target) if getattr(target, "ndim", 0) == 4 else target, moved(weights)
        expected = gradient(lambda tensor, w=weights: w * logits(tensor), x)
        assert_close(Gradient(model).analyze(x, target=target), expected)
        assert_close(Gradient(model)(x, target=target), expected)


def test_a_class_of_a_dense_output_inside_a_function():
    """Where neither the number of samples nor their size is known while the program is made."""
    model, logits, x = dense(None)
    for target, weights in asked(logits(x).numpy()):
        if not isinstance(target, str | np.ndarray):
            spec = tf.TensorSpec((None, None, None, 2), tf.float32)
            explain = functools.partial(Gradient(model), target=target)
            call = tf.function(explain, [spec], autograph=False)
            expected = gradient(lambda tensor, w=weights: w * logits(tensor), x)
            assert_close(call(tf.constant(x)), expected)


def test_a_binary_segmentation(eager):
    """One sigmoid unit at each position: class 1 where its logit is positive, class 0, -z, elsewhere."""
    model, logits, x = dense(classes=1, activation="sigmoid")
    z = logits(x).numpy()
    assert (z > 0).any() and (z < 0).any()
    mask = np.arange(81).reshape(9, 9) % 5 == 0
    for target, weights in (
        (1, np.where((z >= 0).any((1, 2, 3), keepdims=True), z >= 0, 1.0)),
        (0, -np.where((z < 0).any((1, 2, 3), keepdims=True), z < 0, 1.0)),
        ((0, mask), -1.0 * np.broadcast_to(mask[None, ..., None], z.shape)),
        (None, z == z.max((1, 2, 3), keepdims=True)),
    ):
        weights = weights.astype("float32")
        expected = gradient(lambda tensor, w=weights: w * logits(tensor), x)
        assert_close(Gradient(model).analyze(x, target=target), expected)


def test_layers_that_want_to_know_an_open_size():
    """Bilinear enlarging cannot be traced without it: one program for each size."""
    x = keras.Input((None, None, 2))
    value = layers.UpSampling2D(interpolation="bilinear")(layers.MaxPooling2D()(layers.Conv2D(5, 3, padding="same")(x)))
    logits = layers.Conv2D(4, 1, activation=None)(value)
    model = randomize(keras.Model(x, layers.Softmax()(logits)), 4)
    z = keras.Model(x, logits)
    for size in (8, 6):
        given = normal(2, size, size, 2)
        weights = by_hand(z(given).numpy(), [2, 2])
        expected = gradient(lambda tensor, w=weights: w * z(tensor), given)
        assert_close(Gradient(model).analyze(given, target=2), expected)


AXES = {
    "a softmax over the first axis, behind channels last": (lambda x: layers.Softmax(axis=1)(layers.Dense(4)(x)), 1),
    "logits, turned": (lambda x: layers.Permute((3, 1, 2))(layers.Conv2D(4, 1)(x)), 1),
    "twice turned": (lambda x: layers.Permute((2, 3, 1))(layers.Permute((3, 1, 2))(layers.Conv2D(4, 1)(x))), 3),
    "enlarged": (lambda x: layers.UpSampling2D()(layers.Conv2D(4, 1)(x)), 3),
    "enlarged, the channels first": (
        lambda x: layers.UpSampling2D(data_format="channels_first")(layers.Conv2D(4, 1, data_format="channels_first")(x)),
        1,
    ),
    "a sum": (lambda x: layers.Add()([layers.Conv2D(4, 1)(x), layers.Conv2D(4, 1)(x)]), 3),
    "a last axis of 1": (lambda x: layers.Reshape((4, 1))(layers.Dense(4, activation="softmax")(layers.Flatten()(x))), 1),
}


@pytest.mark.parametrize("name", AXES)
def test_where_the_classes_lie(name):
    x, (tail, axis) = keras.Input((4, 4, 4)), AXES[name]
    targets = Gradient(keras.Model(x, tail(x))).explainer.targets
    assert (targets.axis, targets.classes) == (axis, 4)


BAD_DENSE = {
    "class": (4, "Target 4 is out of range: the model has outputs 0 to 3"),
    "class of a mask": ((4, np.ones((9, 9), bool)), "Target 4 is out of range"),
    "class of a position": ((5, 7, 4), "Target 4 is out of range"),
    "position": ((5, 9, 1), r"position \(5, 9\) is outside the output, which has \(9, 9\)"),
    "mask": ((1, np.ones((9, 8), bool)), r"mask of booleans of shape \(9, 9\).*got bool of shape \(9, 8\)"),
    "numbers for a mask": ((1, np.ones((9, 9))), r"mask of booleans.*got float64"),
    "two numbers": ((1, 2), r"for one position of this model's output \(None, 9, 9, 4\) 3 whole numbers"),
    "weights": (np.ones((3, 9, 9, 3)), r"\(row, column, class\), or weights of shape \(3, 9, 9, 4\)"),
}


def test_bad_targets_of_dense_outputs():
    model, _, x = dense()
    uses = {name: (lambda t=t: Gradient(model).analyze(x, target=t), message) for name, (t, message) in BAD_DENSE.items()}
    assert refusals(uses, InvalidInputError) == {}
    open_model, _, _ = dense(None)
    with pytest.raises(InvalidInputError, match="is outside the output"):
        Gradient(open_model).analyze(x, target=(9, 0, 1))
    with pytest.raises(InvalidInputError, match="mask has shape"):
        Gradient(open_model).analyze(x, target=(1, np.ones((8, 8), bool)))


# Outputs by name -----------------------------------------------------------------------------------------------------


def test_keys_name_outputs(eager):
    shared, x = layers.Dense(2, name="head"), keras.Input((3,), name="x")
    first, second = layers.Dense(3)(x), layers.Dense(3)(x)
    outputs = {"second": shared(second), "first": shared(first), "other": layers.Dense(2, name="own")(x)}
    model, data = randomize(keras.Model(x, outputs), 4), normal(2, 3)
    for name in outputs:
        expected = gradient(lambda tensor, name=name: model(tensor)[name][:, 0], data)
        assert_close(Gradient(model, output=name).analyze(data, target=0), expected)
    expected = Gradient(model, output="other").analyze(data)
    assert_close(Gradient(model, output="own").analyze(data), expected)
    with pytest.raises(InvalidInputError, match="2 outputs of the model are made by 'head'; name them by their keys"):
        Gradient(model, output="head")
    with pytest.raises(InvalidInputError, match="several outputs; choose one.*first.*other.*second"):
        Gradient(model)
    doubled = keras.Model(x, [shared(first), shared(second)])
    with pytest.raises(InvalidInputError, match="2 outputs of the model are made by 'head'; name them by keys"):
        Gradient(doubled, output="head")


# Exports -------------------------------------------------------------------------------------------------------------


def test_exports_know_both_classes():
    from exports import served_by

    model = centred()
    classes = (logits(model)(X).numpy()[:, 0] >= 0).astype(int)
    expected = gradient(logits(model), X)
    results = served_by(Gradient(model), "serve")["serve"](X)
    np.testing.assert_array_equal(results["target"], classes)
    assert_close(results["attributions"], (2 * classes - 1).reshape(-1, 1, 1, 1) * expected)
    results = served_by(Gradient(model), "serve", target="input")["serve"](X, 1 - classes.astype("int32"))
    assert_close(results["attributions"], (1 - 2 * classes).reshape(-1, 1, 1, 1) * expected)
    with pytest.raises(tf.errors.InvalidArgumentError, match="outputs 0 to 1"):
        served_by(Gradient(model), "serve", target="input")["serve"](X, np.full(6, 2, "int32"))


def test_exports_take_a_class_of_a_dense_output():
    from exports import served_by

    model, logits, x = dense(None)
    given = np.array([0, 3, 1], "int32")
    weights = by_hand(logits(x).numpy(), given)
    expected = gradient(lambda tensor: weights * logits(tensor), x)
    results = served_by(Gradient(model), "serve", target="input")["serve"](x, given)
    assert_close(results["attributions"], expected)


def test_measures_know_both_classes(eager):
    model = centred()
    z = logits(model)(X).numpy()[:, 0]
    found = metrics.random_logit(Gradient(model), X)
    np.testing.assert_array_equal(found.predicted, z >= 0)
    np.testing.assert_array_equal(found.other, z < 0)
    assert_close(found.spearman, -np.ones(6))
    assert_close(metrics.completeness(innvest_lite.LRP(model, "epsilon"), X).explained, np.abs(z))
    labels = np.array([[0], [1], [1], [0], [1], [0]])
    curves = metrics.degradation(model, Gradient(model), X, patch=4, steps=2, target=labels).curves
    p = 1 / (1 + np.exp(-z))
    assert_close(curves[:, 0], np.where(labels[:, 0] == 1, p, 1 - p))


# One unit and patterns ------------------------------------------------------------------------------------------------


def detectors():
    """A unit that counts what two detectors see: class 1 has ones in the last four features, class 0 in the first."""
    x = keras.Input((8,))
    hidden = layers.Dense(2, activation="relu", name="hidden")(x)
    model = keras.Model(x, layers.Dense(1, activation="sigmoid", name="out")(hidden))
    ends = np.repeat(np.eye(2), 4, axis=0)
    model.set_weights([ends - 0.3 * (1 - ends), np.zeros(2), np.float32([[-1], [1]]), np.zeros(1)])
    labels = np.arange(400) % 2
    noise = np.random.default_rng(0).normal(scale=0.3, size=(400, 8))
    return model, (np.repeat(np.eye(2)[labels], 4, axis=1) + noise).astype("float32"), labels


@pytest.mark.parametrize("method", [PatternAttribution, PatternNet])
def test_one_pattern_serves_both_classes_of_a_unit(method, eager, eager_fits):
    """What speaks for the class that is predicted lies where that class's features are, for either one."""
    model, samples, labels = detectors()
    found = method(model).fit(samples, verbose=0).analyze(samples[:40])
    own = np.stack([found[:, :4].sum(1), found[:, 4:].sum(1)], 1)[np.arange(40), labels[:40]]
    assert np.all(own > 0)
    assert np.median(own / np.abs(found).sum(1)) > 0.9


@pytest.mark.parametrize(
    "estimator, expected", [({"output": "filter"}, "filter"), ({"single": "relu"}, "relu"), ("relu", "relu")]
)
def test_another_estimator_of_a_single_unit_is_what_it_says(estimator, expected, eager_fits):
    model, samples, _ = detectors()
    fitted = innvest_lite.fit_patterns(model, samples, estimator, verbose=0)
    assert fitted.report()["out"].estimator == expected
    assert innvest_lite.fit_patterns(model, samples, {"rectified": "relu"}, verbose=0).report()["out"].estimator == "linear"


@pytest.mark.parametrize(
    "method, options", [(PatternAttribution, {}), (PatternAttribution, {"shares": "sample"}), (PatternNet, {})]
)
def test_patterns_explain_what_two_logits_would(method, options, eager, eager_fits):
    """Two logits whose patterns are estimated as those of a single unit are."""
    model, (samples, target) = centred(), (normal(60, 8, 8, 2, seed=5), np.array([0, 1, 1, 0, 1, 0]))
    one = method(model, **options).fit(samples, verbose=0)
    two = method(twin(model, 0.5), estimator={"output": "linear"}, **options).fit(samples, verbose=0)
    for chosen in (0, 1, target, None):
        expected = two.analyze(X, chosen)
        # Of PatternAttribution, half: -z / 2 and z / 2 are contrasted.
        factor = 2 if method is PatternAttribution else 1
        assert_close(one.analyze(X, chosen), factor * expected, 1e-4)


def test_floats_of_0_and_1_are_no_labels_of_a_single_unit(eager):
    """As weights, which they are elsewhere, half of them would explain nothing."""
    model, analyzer = centred(), Gradient(centred())
    labels = np.float32([[0], [1], [1], [0], [1], [0]])
    with pytest.raises(InvalidInputError, match="Labels are whole numbers"):
        analyzer.analyze(X, labels)
    assert_close(analyzer.analyze(X, 2 * labels - 1), gradient(logits(model), X) * (2 * labels - 1).reshape(-1, 1, 1, 1))
