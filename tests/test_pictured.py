"""`visualize.explain`: photographs of every kind become the numbers that the analyzer explains, and a picture."""

import io
import logging

import keras
import models
import numpy as np
import pytest
from keras import layers
from PIL import Image

import innvest_lite
from innvest_lite import InvalidInputError, data, visualize
from innvest_lite.images import load_image

NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


@pytest.fixture(scope="module")
def model():
    return data.load_model()


@pytest.fixture(scope="module")
def digits():
    return data.load_digits()


@pytest.fixture(scope="module")
def photo():
    return np.random.default_rng(5).integers(0, 256, (60, 90, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def path(photo, tmp_path_factory):
    Image.fromarray(photo).save(tmp_path_factory.mktemp("photos") / "photo.png")
    return next(tmp_path_factory.getbasetemp().rglob("photos*/photo.png"))


@pytest.fixture(scope="module")
def expected(model, path):
    """What the method that goes with convolutional networks says of the file as the command line reads it."""
    pixels = load_image(path, 28, 28, 1) / np.float32(255)
    return innvest_lite.create_analyzer("lrp.epsilon_plus_flat", model).analyze(pixels[None])[0]


def test_a_file_in_one_call(model, path, photo, expected, tmp_path):
    found = visualize.explain(model, path, preprocessor="unit", labels=NAMES)
    np.testing.assert_allclose(found.relevance, expected, atol=1e-6 * np.abs(expected).max())
    probabilities = model.predict(load_image(path, 28, 28, 1)[None] / 255, verbose=0)[0]
    assert found.answer.index == probabilities.argmax() and found.answer.name == NAMES[found.answer.index]
    assert found.answer.score == pytest.approx(probabilities.max(), rel=1e-4)
    assert found.method == "lrp.epsilon_plus_flat" and np.array_equal(found.image, photo) and found.unit == "logits"
    title = f"lrp.epsilon_plus_flat of {found.answer}"
    assert str(found.answer).startswith(f"{NAMES[found.answer.index]} ({found.answer.index}), probability ")
    assert str(found) == found.title == title
    expected_picture = visualize.panel(photo, found.relevance, title=title, percentile=99.5)
    assert np.array_equal(found.picture, expected_picture)
    assert np.asarray(Image.open(found.save(tmp_path / "found.png"))).tolist() == found.picture.tolist()
    assert np.asarray(Image.open(io.BytesIO(found._repr_png_()))).tolist() == found.picture.tolist()
    assert title in repr(found) and len(repr(found)) < 400
    assert np.array_equal(found.overlay(limit=1), visualize.overlay(found.relevance, photo, limit=1))
    assert found.panel(width=400).shape[1] <= 400 and found.overlay().shape == photo.shape


def test_photographs_of_every_kind(model, path, photo, expected):
    floats = load_image(path, 28, 28, 1)
    for given in (str(path), Image.open(path), photo, floats):
        found = visualize.explain(model, given, preprocessor="unit")
        np.testing.assert_allclose(found.relevance, expected, atol=1e-6 * np.abs(expected).max())
    # As the model takes them, with and without channels.
    for given in (floats / 255, floats[..., 0] / 255):
        found = visualize.explain(model, given)
        np.testing.assert_allclose(found.relevance, expected, atol=1e-6 * np.abs(expected).max())


def test_several_photographs(model, digits, photo):
    images, labels = digits
    found = visualize.explain(model, images[:3])
    assert [one.answer.index for one in found] == labels[:3].tolist()
    mixed = visualize.explain(model, [photo, np.rint(255 * images[0]).astype(np.uint8)], preprocessor="unit")
    assert [one.image.shape for one in mixed] == [(60, 90, 3), (28, 28, 3)]
    np.testing.assert_allclose(mixed[1].relevance, found[0].relevance, atol=1e-4 * np.abs(found[0].relevance).max())
    assert visualize.explain(model, []) == []


def test_targets_by_number_and_by_name(model, digits):
    image = digits[0][0]
    by_name = visualize.explain(model, image, method="gradient", target="seven", labels=NAMES)
    by_number = visualize.explain(model, image, method="gradient", target=7)
    assert by_name.answer.index == by_number.answer.index == 7 and by_number.answer.name == "class 7"
    assert np.array_equal(by_name.relevance, by_number.relevance)
    assert visualize.explain(model, image, method="gradient", target="all", labels=NAMES).answer.index is None


def test_options_go_to_the_method_and_to_the_picture(model, digits):
    image = digits[0][0]
    drawing = {"title": "t", "colormap": "seismic", "percentile": 90}
    found = visualize.explain(model, image, method="integrated_gradients", steps=3, **drawing)
    expected = innvest_lite.create_analyzer("integrated_gradients", model, steps=3).analyze(image[None])[0]
    assert np.array_equal(found.relevance, expected)
    assert np.array_equal(found.picture, visualize.panel(image, expected, **drawing))


def test_an_analyzer_with_patterns(model, digits):
    image, patterns = digits[0][0], innvest_lite.fit_patterns(model, digits[0][:64], verbose=0)
    analyzer = innvest_lite.PatternNet(model, patterns=patterns)
    found = visualize.explain(analyzer, image)
    assert np.array_equal(found.relevance, analyzer.analyze(image[None])[0]) and found.method == "PatternNet"
    assert np.array_equal(found.picture, visualize.panel(image, found.relevance, title=found.title, kind="signal"))
    named = visualize.explain(model, image, "pattern.net", patterns=patterns)
    assert np.array_equal(named.relevance, found.relevance) and named.unit == "input"
    with pytest.raises(InvalidInputError, match="An analyzer has its options already, so method= belongs where it is made"):
        visualize.explain(analyzer, image, "gradient")
    with pytest.raises(InvalidInputError, match="so steps= belongs"):
        visualize.explain(analyzer, image, steps=3)


def test_rise_is_drawn_less_its_mean(model, digits):
    found = visualize.explain(model, digits[0][0], "rise", masks=20)
    assert found.relevance.min() >= 0 and found.unit == "probability, less its mean"
    centred = found.relevance.astype(float) - found.relevance.mean()
    drawn = visualize.panel(digits[0][0], centred, title=found.title, unit=found.unit, percentile=99.5)
    assert np.abs(found.picture.astype(int) - drawn).max() <= 1


# --- which method ----------------------------------------------------------------------------------------------------


def network(*middle, flat=False):
    """A model of 8 x 8 images in colour."""
    x = keras.Input((8, 8, 3))
    y = layers.Flatten()(x) if flat else layers.Conv2D(4, 3, activation="relu")(x)
    for layer in middle:
        y = layer(y)
    return models.randomize(keras.Model(x, layers.Dense(3)(layers.Flatten()(y))), seed=2)


def image(seed=0):
    return np.random.default_rng(seed).uniform(0, 1, (8, 8, 3)).astype("float32")


def attention(y):
    tokens = layers.Reshape((36, 4))(y)
    return layers.MultiHeadAttention(2, 2)(tokens, tokens)


@pytest.mark.parametrize(
    ("built", "method"),
    [
        (lambda: network(), "lrp.epsilon_plus_flat"),
        (lambda: network(flat=True), "lrp.epsilon"),
        (lambda: network(attention), "lrp.cp_lrp_gamma"),
    ],
)
def test_the_method_goes_with_the_network(built, method, caplog, eager):
    with caplog.at_level(logging.WARNING):
        found = visualize.explain(built(), image())
    assert found.method == method and np.ptp(found.relevance) > 0 and not caplog.records


def test_where_lrp_has_no_rule_it_is_said_who_explains(caplog, eager):
    model = network(lambda y: keras.ops.sort(y, axis=1))
    with caplog.at_level(logging.WARNING):
        found = visualize.explain(model, image())
    expected = innvest_lite.create_analyzer("integrated_gradients", model).analyze(image()[None])[0]
    assert found.method == "integrated_gradients" and np.array_equal(found.relevance, expected)
    (record,) = caplog.records
    assert "so integrated_gradients does" in record.getMessage() and "Sort" in record.getMessage()
    with pytest.raises(innvest_lite.UnsupportedLayerError, match="Sort"):
        visualize.explain(model, image(), "lrp.epsilon_plus_flat")


def test_a_number_has_no_logits(eager):
    x = keras.Input((8, 8, 3))
    model = keras.Model(x, layers.Dense(1)(layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(x))))
    found = visualize.explain(model, image())
    assert found.answer.unit == "output" and found.unit == "output"
    squares = visualize.explain(model, image(), "gradient", postprocess="square")
    assert squares.unit == "squares of output per unit of input"


def test_models_that_leave_sizes_open(eager):
    x = keras.Input((None, None, 3))
    model = keras.Model(x, layers.Dense(3)(layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(x))))
    photo = np.full((20, 30, 3), 90, np.uint8)
    with pytest.raises(InvalidInputError, match=r"leaves the size of its input open: say size=\(height, width\)"):
        visualize.explain(model, photo)
    assert visualize.explain(model, photo, size=(10, 15), preprocessor="unit").relevance.shape == (10, 15, 3)


# --- refused ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"photo": "nothing.png"}, "There is no image 'nothing.png'"),
        ({"photo": np.ones((5, 5, 1))}, r"photo is ndarray .* the shape \(5, 5, 1\); .* the shape \(28, 28, 1\)"),
        ({"photo": None}, "photo is NoneType"),
        ({"photo": ["a", 3]}, "There is no image 'a'"),
        ({"target": "seven"}, "target is 'seven', which none of the labels are"),
        ({"target": "sevn", "labels": NAMES}, "Did you mean 'seven'"),
        ({"target": "a", "labels": ["a"] * 10}, "target is 'a', which 10 of the labels are"),
        ({"target": 12}, "12"),
        ({"labels": ["a"]}, "The labels name 1 classes, but the model has 10"),
        ({"method": "lrp.epsilom"}, "Did you mean 'lrp.epsilon'"),
        ({"method": "gradient", "steps": 3}, "has no option 'steps'"),
        ({"size": (20, 20)}, r"size is \(20, 20\), but the model takes \(28, 28\)"),
        ({"width": 3}, "width is 3"),
    ],
)
def test_what_is_refused(model, options, message):
    with pytest.raises(InvalidInputError, match=message):
        visualize.explain(model, **{"photo": np.zeros((28, 28), np.uint8), "preprocessor": "unit", **options})


def test_models_of_other_inputs(eager):
    table = keras.Sequential([keras.Input((5,)), layers.Dense(3)])
    with pytest.raises(InvalidInputError, match=r"The model takes \[\(None, 5\)\]; expected one image"):
        visualize.explain(table, np.zeros((5, 5), np.uint8))


@pytest.mark.slow
def test_the_name_is_loaded_when_it_is_asked_for(python):
    code = "import sys; from innvest_lite import visualize as v; print('tensorflow' in sys.modules, v.explain.__name__)"
    assert python(code).split() == ["False", "explain"]
    with pytest.raises(AttributeError, match="no attribute 'explane'"):
        _ = visualize.explane
