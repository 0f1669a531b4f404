"""What was explained, against Keras's own `predict`: names, scores, units, and what speaks against a model."""

import keras
import numpy as np
import pytest
from keras import layers

import innvest_lite
from innvest_lite.answers import Answer, Scores, answers, ordered_labels, scores
from innvest_lite.errors import InvalidInputError

X = np.random.default_rng(0).normal(size=(6, 4)).astype("float32")


def made(*stack, shape=(4,)):
    keras.utils.set_random_seed(3)
    return keras.Sequential([keras.Input(shape), *stack])


def test_an_answer_reads_as_a_sentence():
    assert str(Answer(340, "zebra", 0.984, "probability", 7.1)) == "zebra (340), probability 0.98"
    near = [str(Answer(3, "class 3", score, "probability", 0.0)) for score in (0.994, 0.9962, 0.99999, 1.0)]
    assert [one.split("probability ")[1] for one in near] == ["0.99", "0.996", "> 0.999", "1.00"]
    assert str(Answer(3, "class 3", 6.24, "logit", 6.24, 0.9)) == "class 3, logit 6.24 (softmax 0.90)"
    assert str(Answer(None, "the output", -12345.6, "output", -12345.6)) == "the output, output -1.23e+04"
    assert "\x1b" not in str(Answer(1, "\x1b[31mred", 1e-9, "probability", 0.0))


def test_the_predicted_class_or_the_one_that_was_asked_for():
    model = made(layers.Dense(3, activation="softmax"))
    outputs, analyzer = model.predict(X, verbose=0), innvest_lite.Gradient(model)
    for target, expected in ((None, outputs.argmax(1)), (2, [2] * 6), ([0, 1, 2, 0, 1, 2], [0, 1, 2, 0, 1, 2])):
        found = answers(analyzer, X, target, labels=["a", "b", "c"])
        assert [one.index for one in found] == list(expected) and [one.name for one in found] == [
            "abc"[k] for k in expected
        ]
        np.testing.assert_allclose([one.score for one in found], outputs[np.arange(6), expected], rtol=1e-5)
    logits = keras.Model(model.inputs, model.layers[-1].output).layers[-1]
    expected = X @ logits.kernel.numpy() + logits.bias.numpy()
    np.testing.assert_allclose([one.logit for one in answers(analyzer, X, 1)], expected[:, 1], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose([one.score for one in answers(analyzer, X, "all")], expected.sum(1), rtol=1e-4, atol=1e-5)
    weights = np.tile([1.0, -1.0, 0.0], (6, 1))
    (contrast, *_) = answers(analyzer, X, weights)
    assert (contrast.index, contrast.name) == (None, "weighted outputs")
    assert contrast.score == pytest.approx(expected[0, 0] - expected[0, 1], rel=1e-4)
    by_function = answers(analyzer, X, lambda outputs: outputs[:, 0])
    assert by_function[0].name == "a function of the outputs"
    np.testing.assert_allclose([one.score for one in by_function], outputs[:, 0], rtol=1e-5)


def test_one_sigmoid_is_two_classes():
    model = made(layers.Dense(1, activation="sigmoid"))
    share = model.predict(X, verbose=0)[:, 0]
    found = answers(innvest_lite.Gradient(model), X, labels=["no", "yes"])
    assert [one.name for one in found] == ["yes" if one >= 0.5 else "no" for one in share]
    np.testing.assert_allclose([one.score for one in found], np.maximum(share, 1 - share), rtol=1e-5)
    asked = answers(innvest_lite.Gradient(model), X, 0)
    np.testing.assert_allclose([one.score for one in asked], 1 - share, rtol=1e-4, atol=1e-7)


def mixed(*parts):
    """Two softmaxes, or one, put together in some other way than a head."""
    x = keras.Input((4,))
    shares = [layers.Dense(3, activation="softmax", kernel_initializer="he_normal")(x) for _ in range(2)]
    return keras.Model(x, parts[0](*shares))


@pytest.mark.parametrize(
    "joined",
    [
        lambda a, b: 0.5 * a + 0.5 * b,
        lambda a, b: a * layers.Dense(3, activation="sigmoid")(b),
        lambda a, b: layers.BatchNormalization()(a),
        lambda a, b: 100 * a,
    ],
    ids=["mean", "gate", "normalized", "percent"],
)
def test_what_is_made_of_probabilities_is_no_logit(joined):
    """Its softmax would be no probability of anything."""
    keras.utils.set_random_seed(0)
    model = mixed(joined)
    found = scores(innvest_lite.Gradient(model), X)
    np.testing.assert_allclose(found.probabilities, model.predict(X, verbose=0), rtol=1e-4, atol=1e-6)
    assert found.unit != "logit" and found.doubts() == []


def test_a_head_that_is_cast_gives_probabilities():
    """As under mixed precision; explained are the logits."""
    model = made(layers.Dense(3), layers.Softmax(), layers.Activation("linear", dtype="float32"))
    found = scores(innvest_lite.Gradient(model), X)
    assert (found.unit, found.exclusive) == ("probability", True)
    np.testing.assert_allclose(found.values, model.predict(X, verbose=0), rtol=1e-5)


def test_ties_of_probabilities_are_ordered_by_logits():
    model = made(layers.Dense(3, activation="softmax"))
    kernel = np.zeros((4, 3), "float32")
    kernel[0] = 0, 1e-9, 2e-9
    model.layers[-1].set_weights([kernel, np.zeros(3, "float32")])
    x = np.abs(X) + 1
    found = scores(innvest_lite.Gradient(model), x)
    assert (found.values == found.values[0, 0]).all() and (found.predicted == 2).all()
    assert found.likeliest(0, 1)[0][0] == "class 2" == answers(innvest_lite.Gradient(model), x)[0].name
    assert "prefers no class: all have the same" in Scores(found.values[:1], "probability", True).doubts()[0]


def test_labels_of_every_order():
    named = {
        "number first": {0: "a", 1: "b", 2: "c"},
        "name first": {"c": 2, "a": 0, "b": 1},
        "array": np.array(["a", "b", "c"]),
    }
    analyzer = innvest_lite.Gradient(made(layers.Dense(3)))
    for case, labels in named.items():
        assert [one.name for one in answers(analyzer, X, 2, labels=labels)] == ["c"] * 6, case
    folders = {"0": 0, "1": 1, "10": 2, "2": 3}
    assert ordered_labels(folders) == ["0", "1", "10", "2"], "names that are numbers"
    with pytest.raises(InvalidInputError, match="number the classes from 0"):
        ordered_labels({0: "a", 2: "b"})


HEADS = {
    "softmax": ([layers.Dense(3, activation="softmax")], "probability", True),
    "softmax layer": ([layers.Dense(3), layers.Softmax()], "probability", True),
    "sigmoids": ([layers.Dense(3, activation="sigmoid")], "probability", False),
    "logits": ([layers.Dense(3)], "logit", True),
    "bounded": ([layers.Dense(3, activation="tanh")], "output", True),
}


@pytest.mark.parametrize("head", HEADS)
def test_the_scores_of_all_classes(head):
    stack, unit, exclusive = HEADS[head]
    model = made(*(one.from_config(one.get_config()) for one in stack))
    outputs = np.float64(model.predict(X, verbose=0))
    found = scores(innvest_lite.Gradient(model), X)
    assert (found.unit, found.exclusive) == (unit, exclusive)
    np.testing.assert_allclose(found.values, outputs, rtol=1e-5, atol=1e-6)
    shares = np.exp(outputs) / np.exp(outputs).sum(1, keepdims=True) if head == "logits" else outputs
    np.testing.assert_allclose(found.probabilities, shares, rtol=1e-5, atol=1e-6)
    best = int(shares[0].argmax())
    assert found.likeliest(0, 2)[0] == (f"class {best}", pytest.approx(shares[0, best], rel=1e-4))


def test_many_labels_at_once_are_all_shown():
    found = Scores(np.array([[0.9, 0.2, 0.8, 0.7]]), "probability", False, ("a", "b", "c", "d"))
    assert [name for name, _ in found.likeliest(0, 1)] == ["a", "c", "d"]
    assert len(Scores(found.values, "probability", True).likeliest(0, 1)) == 1


def test_outputs_that_are_of_no_class():
    number = innvest_lite.Gradient(made(layers.Dense(1)))
    dense = innvest_lite.Gradient(made(layers.Conv1D(3, 1), shape=(5, 2)))
    assert scores(number, X) is None and scores(dense, np.zeros((2, 5, 2), "float32")) is None
    assert answers(dense, np.ones((2, 5, 2), "float32"), 1)[0].name == "class 1 where it wins"
    with pytest.raises(InvalidInputError, match="one number, of no class"):
        answers(number, X, labels=["a"])
    for labels in (["a", "b"], "abc"):
        with pytest.raises(InvalidInputError, match="the model has 3"):
            answers(innvest_lite.Gradient(made(layers.Dense(3))), X, labels=labels)


def of(values, unit="probability", exclusive=True):
    return Scores(np.asarray(values, "float64"), unit, exclusive).doubts()


def test_what_speaks_against_a_model_is_said():
    generator = np.random.default_rng(0)
    good = generator.dirichlet([0.3] * 4, 20)
    assert of(good) == []
    assert "says the same of all 20" in of(np.tile(good[:1], (20, 1)))[0]
    assert "prefers no class" in of(0.25 + generator.uniform(-0.05, 0.05, (20, 4)))[0]
    sure = np.eye(4)[generator.integers(0, 4, 20)]
    assert "saturated" in of(sure)[0] and of(0.999 * sure + 0.00025) == [] and "saturated" in of(1000 * sure, "logit")[0]
    assert of(sure[:7]) == [] and of(np.tile(good[:1], (7, 1))) == [], "of a few samples nothing is said"
    two = np.array([[0.5 + step, 0.5 - step] for step in generator.uniform(-0.05, 0.05, 20)])
    assert "prefers no class" in of(two)[0] and of(np.where(two > 0.5, 0.7, 0.3)) == []
    # Probabilities of one class alone may be the same where logits are not, as of a sure model on one folder.
    same = Scores(np.tile([[1.0, 0.0]], (9, 1)), "probability", True, None, generator.normal(9, 1, (9, 2)))
    assert same.doubts() and "saturated" in same.doubts()[0]
    assert (
        of(np.full((9, 3), 1 / 3) + np.array([0.3, -0.15, -0.15]))
        and "same of all" in of(np.tile([[0.63, 0.2, 0.17]], (9, 1)))[0]
    )
    assert of(np.tile([[0.9, -0.9]], (20, 1)) * generator.uniform(0.5, 1, (20, 1)), "output") == []
    # Of many labels at once, all may be rare, or sure.
    assert of(generator.uniform(0, 0.1, (20, 4)), exclusive=False) == [] and of(sure, exclusive=False) == []
