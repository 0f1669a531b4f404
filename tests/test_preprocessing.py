"""`preprocessor=`: images as people have them, prepared by name or by a KerasHub task's own preprocessor."""

import functools
import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from command_line import fails, run
from PIL import Image

import innvest_lite
from innvest_lite import InvalidInputError, metrics
from innvest_lite.images import load_image, preprocess
from innvest_lite.preprocessing import Preprocessor

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3)).astype("float32")


@keras.saving.register_keras_serializable(package="tests")
class Halves(keras.Layer):
    """A preprocessor that changes the size and the range."""

    def call(self, images):
        return keras.ops.cast(images[:, ::2, ::2], "float32") / 255 - 0.5


def network(side=16):
    keras.utils.set_random_seed(0)
    hidden = [keras.layers.Conv2D(4, 3, activation="relu"), keras.layers.Flatten()]
    return keras.Sequential([keras.Input((side, side, 3)), *hidden, keras.layers.Dense(3)])


def halved(images):
    return images[:, ::2, ::2].astype("float32") / 255 - 0.5


GIVEN = {
    "name": ("vgg16", 16, lambda images: preprocess(images, "vgg16")),
    "layer": (Halves(), 8, halved),
    "function": (lambda images: halved(np.asarray(images)), 8, halved),
    "one of Keras's, which edits its argument": (
        keras.applications.vgg16.preprocess_input,
        16,
        lambda images: preprocess(images, "vgg16"),
    ),
}


METHODS = ("PatternAttribution", "Gradient", "IntegratedGradients", "Occlusion")
# One method with all, and all methods with one.
QUICK = [*(("Gradient", kind) for kind in GIVEN), *((name, "layer") for name in METHODS if name != "Gradient")]
SLOW = [(name, kind) for name in METHODS for kind in GIVEN if (name, kind) not in QUICK]


@pytest.mark.parametrize("name, kind", [*QUICK, *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW)])
def test_it_is_the_analyzer_of_prepared_images(name, kind, eager):
    given, side, prepared = GIVEN[kind]
    model, before = network(side), IMAGES.copy()
    analyzer = getattr(innvest_lite, name)(model, preprocessor=given).fit(IMAGES, verbose=0)
    plain = getattr(innvest_lite, name)(model).fit(prepared(IMAGES), verbose=0)
    heat = analyzer.analyze(IMAGES[:5], target=1)
    assert heat.shape == (5, side, side, 3)
    np.testing.assert_array_equal(heat, plain.analyze(prepared(IMAGES[:5]), target=1))
    np.testing.assert_array_equal(IMAGES, before)
    np.testing.assert_array_equal(analyzer.preprocessor(IMAGES), prepared(IMAGES))
    assert str(analyzer.check(IMAGES[:5], target=1)) == str(plain.check(prepared(IMAGES[:5]), target=1))


def test_tensors_are_prepared_too():
    model = network(8)
    plain = innvest_lite.Gradient(model)(halved(IMAGES[:3]))
    np.testing.assert_allclose(innvest_lite.Gradient(model, preprocessor=Halves())(IMAGES[:3]), plain)
    named = innvest_lite.Gradient(network(), preprocessor="vgg16")
    np.testing.assert_allclose(named(tf.constant(IMAGES[:3])), named.analyze(IMAGES[:3]), atol=1e-6)


SOURCES = {
    "tf.data": lambda: tf.data.Dataset.from_tensor_slices((IMAGES, np.zeros(40))).batch(16),
    "batches": lambda: [IMAGES[:16], IMAGES[16:32], IMAGES[32:]],
    "uint8": lambda: IMAGES.astype("uint8"),
    "pair": lambda: (IMAGES, np.zeros(40)),
}


@pytest.mark.slow
def test_every_kind_of_data(subtests):
    model = network(8)
    fits = innvest_lite.PatternFits(model, preprocessor=Halves())
    expected = innvest_lite.fit_patterns(model, halved(IMAGES), batch_size=16, verbose=0)
    for kind, source in SOURCES.items():
        patterns = fits(source(), batch_size=16, verbose=0)
        with subtests.test(kind):
            for name, pattern in expected.items():
                np.testing.assert_allclose(patterns[name], pattern, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("given, side", [("vgg16", 16), (Halves(), 8)])
def test_saved_and_exported(given, side, tmp_path):
    analyzer = innvest_lite.PatternNet(network(side), preprocessor=given).fit(IMAGES, verbose=0)
    expected = analyzer.analyze(IMAGES[:2])
    analyzer.save(tmp_path / "explainer.keras")
    loaded = keras.saving.load_model(tmp_path / "explainer.keras")
    assert loaded.preprocessor.name == analyzer.preprocessor.name
    np.testing.assert_array_equal(loaded.analyze(IMAGES[:2]), expected)
    if side == 16:  # an exported explainer takes images of the model's size
        analyzer.export(tmp_path / "served", predictions=False)
        served = tf.saved_model.load(tmp_path / "served")
        results = served.serve(x=IMAGES[:2].astype("uint8"))
        np.testing.assert_allclose(results["attributions"], expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_what_is_refused(tmp_path):
    model = network()
    with pytest.raises(InvalidInputError, match="Did you mean 'vgg1"):
        innvest_lite.Gradient(model, preprocessor="vgg61")
    with pytest.raises(InvalidInputError, match="a function of images or texts, but is 3"):
        innvest_lite.Gradient(model, preprocessor=3)
    with pytest.raises(InvalidInputError, match=r"should have shape \(None, 16, 16, 3\), but got \(2, 8, 8, 3\)"):
        innvest_lite.Gradient(model, preprocessor=Halves()).analyze(IMAGES[:2])
    with pytest.raises(InvalidInputError, match="innvest_lite.images reads files"):
        innvest_lite.Gradient(model, preprocessor="vgg16").analyze("photo.png")
    analyzer = innvest_lite.Gradient(model, preprocessor="vgg16")
    for measure in (
        lambda: metrics.random_logit(analyzer, IMAGES[:2]),
        lambda: metrics.completeness(analyzer, IMAGES[:2]),
        lambda: metrics.degradation(keras.Sequential([model, keras.layers.Softmax()]), analyzer, IMAGES[:2]),
        analyzer.as_explain_func,
    ):
        with pytest.raises(InvalidInputError, match="make the analyzer without preprocessor="):
            measure()
    two = keras.Model(inputs := [keras.Input((2,)), keras.Input((2,))], keras.layers.Add()(inputs))
    with pytest.raises(InvalidInputError, match="models with one input, but this one has 2"):
        innvest_lite.Gradient(two, preprocessor=Halves()).analyze(IMAGES[:2])


def test_weights_of_a_preprocessor_are_saved(tmp_path, eager):
    normalization = keras.layers.Normalization()
    normalization.adapt(IMAGES)
    convolution = keras.Sequential([keras.Input((16, 16, 3)), keras.layers.Conv2D(3, 1)])
    for number, layer in enumerate((normalization, convolution)):
        analyzer = innvest_lite.IntegratedGradients(network(), preprocessor=layer)
        analyzer.save(tmp_path / f"{number}.keras")
        loaded = keras.saving.load_model(tmp_path / f"{number}.keras")
        np.testing.assert_array_equal(loaded.analyze(IMAGES[:2], 1), analyzer.analyze(IMAGES[:2], 1))
        assert np.abs(analyzer.preprocessor(IMAGES) - IMAGES).max() > 1


def test_functions_that_keras_does_not_know_are_not_saved(tmp_path):
    for function in (keras.applications.vgg16.preprocess_input, lambda images: images, functools.partial(np.add, 1)):
        analyzer = innvest_lite.Gradient(network(), preprocessor=function)
        with pytest.raises(InvalidInputError, match="register_keras_serializable"):
            analyzer.save(tmp_path / "explainer.keras")
    innvest_lite.Gradient(network(), preprocessor=tenth).save(tmp_path / "explainer.keras")
    loaded = keras.saving.load_model(tmp_path / "explainer.keras")
    np.testing.assert_allclose(loaded.preprocessor(IMAGES), IMAGES / 10)


@keras.saving.register_keras_serializable(package="tests")
def tenth(images):
    return images / 10


def test_layers_are_not_in_training():
    analyzer = innvest_lite.IntegratedGradients(network(), preprocessor=keras.Sequential([keras.layers.GaussianNoise(1.0)]))
    np.testing.assert_array_equal(analyzer.preprocessor(IMAGES), IMAGES)


@pytest.mark.parametrize("function", [lambda images: images[:1], lambda images: np.concatenate([images, images])])
def test_as_many_samples_as_came(function):
    with pytest.raises(InvalidInputError, match="it should keep the number of samples"):
        innvest_lite.Gradient(network(), preprocessor=function).analyze(IMAGES[:4])


def test_whatever_a_function_raises_is_told():
    def broken(images):
        raise KeyError("no such thing")

    with pytest.raises(InvalidInputError, match="refuses the images, float32 of shape .*no such thing"):
        innvest_lite.Gradient(network(), preprocessor=broken).analyze(IMAGES[:4])
    for given in (None, tf.data.Dataset.from_tensors(IMAGES), iter([IMAGES])):
        with pytest.raises(InvalidInputError, match="of a data set, give one batch after the other"):
            innvest_lite.Gradient(network(), preprocessor="unit").analyze(given)


def test_nothing_is_prepared_twice(desk):
    with pytest.raises(InvalidInputError, match="would prepare the images twice"):
        innvest_lite.fit_patterns(network(), "photos", preprocess="vgg16", preprocessor="vgg16")


def test_a_fit_does_not_go_on_with_another_preprocessor(tmp_path):
    options, model = {"checkpoint": tmp_path / "run.h5", "batch_size": 16, "verbose": 0}, network()
    innvest_lite.fit_statistics(model, IMAGES, preprocessor="vgg16", steps=1, **options)
    with pytest.raises(innvest_lite.PatternMismatchError, match="gathered in another way"):
        innvest_lite.fit_statistics(model, IMAGES, preprocessor="unit", **options)


def test_exported_preprocessors_see_what_came_and_are_checked(tmp_path):
    images = IMAGES[:2].astype("uint8")

    def by_dtype(x):
        return tf.image.convert_image_dtype(x, "float32")

    analyzer = innvest_lite.InputTimesGradient(network(), preprocessor=by_dtype)
    analyzer.export(tmp_path / "served", predictions=False)
    served = tf.saved_model.load(tmp_path / "served")
    expected = analyzer.analyze(images)
    np.testing.assert_allclose(served.serve(x=images)["attributions"], expected, atol=1e-5 * np.abs(expected).max())
    analyzer.export(tmp_path / "other", preprocess="vgg16", predictions=False)
    other = tf.saved_model.load(tmp_path / "other")
    expected = innvest_lite.InputTimesGradient(network(), preprocessor="vgg16").analyze(images)
    np.testing.assert_allclose(other.explain(x=images)["attributions"], expected, atol=1e-4 * np.abs(expected).max())
    pooled = keras.Sequential([keras.Input((16, 16, 3)), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3)])
    with pytest.raises(InvalidInputError, match=r"should have shape \(None, 16, 16, 3\), but got \(None, 8, 8, 3\)"):
        innvest_lite.Gradient(pooled, preprocessor=Halves()).export(tmp_path / "third")
    with pytest.raises(InvalidInputError, match="cannot be part of an exported program"):
        innvest_lite.Gradient(network(), preprocessor=lambda x: np.asarray(x) / 2).export(tmp_path / "fourth")


def test_no_samples_and_many_at_a_time():
    assert Preprocessor("unit")(np.zeros((0, 4, 4, 3))).shape == (0, 4, 4, 3)
    seen = []
    prepared = Preprocessor(lambda images: seen.append(len(images)) or images)(np.zeros((70, 2, 2, 3)))
    assert prepared.shape == (70, 2, 2, 3) and seen == [32, 32, 6]


# KerasHub -------------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def classifier():
    """A small ResNet of KerasHub's, of random weights, with its preprocessor beside it."""
    hub = pytest.importorskip("keras_hub")
    keras.utils.set_random_seed(0)
    stacks = {"stackwise_num_filters": [64, 64], "stackwise_num_blocks": [1, 1], "stackwise_num_strides": [1, 2]}
    stem = {"input_conv_filters": [64], "input_conv_kernel_sizes": [7], "block_type": "basic_block"}
    backbone = hub.models.ResNetBackbone(**stem, **stacks, image_shape=(32, 32, 3))
    converter = hub.layers.ResNetImageConverter(height=32, width=32, scale=1 / 255)
    preprocessor = hub.models.ResNetImageClassifierPreprocessor(converter)
    return hub.models.ResNetImageClassifier(backbone, num_classes=5, preprocessor=preprocessor)


@pytest.mark.parametrize(
    "name", [pytest.param("pattern.attribution", marks=pytest.mark.slow), "lrp.epsilon_plus_flat", "gradcam"]
)
def test_a_classifier_of_keras_hub(classifier, name, tmp_path, eager):
    photos = np.random.default_rng(1).integers(0, 256, (12, 48, 40, 3)).astype("uint8")
    method = {"lrp.epsilon_plus_flat": lambda model, **options: innvest_lite.LRP(model, "epsilon_plus_flat", **options)}
    make = method.get(name, lambda model, **options: innvest_lite.create_analyzer(name, model, **options))
    analyzer = make(classifier, preprocessor=classifier.preprocessor).fit(photos, verbose=0)
    heat = analyzer.analyze(photos[:3])
    assert heat.shape == (3, 32, 32, 3) and np.abs(heat).max() > 0
    prepared = np.asarray(classifier.preprocessor(photos))
    plain = make(classifier).fit(prepared, verbose=0)
    np.testing.assert_array_equal(heat, plain.analyze(prepared[:3]))
    analyzer.save(tmp_path / "explainer.keras")
    np.testing.assert_array_equal(keras.saving.load_model(tmp_path / "explainer.keras").analyze(photos[:3]), heat)


@pytest.fixture
def photos(classifier, tmp_path, monkeypatch):
    """In a folder with the model and four photographs: what its preprocessor makes of these."""
    monkeypatch.chdir(tmp_path)
    pathlib.Path("photos").mkdir()
    for place, photo in enumerate(np.random.default_rng(2).integers(0, 256, (4, 48, 40, 3)).astype("uint8")):
        Image.fromarray(photo).save(f"photos/{place}.png")
    classifier.save("model.keras")
    return np.asarray(
        classifier.preprocessor(np.stack([load_image(f"photos/{place}.png", 32, 32, 3) for place in range(4)]))
    )


HUB = ("model.keras", "photos", "--preprocess", "model")


def test_the_command_line_on_a_model_of_keras_hub(classifier, photos, eager):
    assert run("analyze", *HUB, "--method", "gradient", "--out", "heat") == 0
    heat = innvest_lite.Gradient(classifier).analyze(photos)
    np.testing.assert_allclose(np.load("heat/0.gradient.npy"), heat[0], rtol=1e-4, atol=1e-5 * np.abs(heat).max())


@pytest.mark.slow
def test_the_report_on_a_model_of_keras_hub(classifier, photos):
    assert run("fit", *HUB, "--out", "patterns.h5") == 0
    report = ("--patterns", "patterns.h5", "--methods", "gradient,pattern.net", "--logits", "-o", "page.html")
    assert run("report", *HUB, *report) == 0
    logits = np.asarray(classifier(photos), "float64")
    best = (np.exp(logits) / np.exp(logits).sum(1, keepdims=True)).max(1)
    page = pathlib.Path("page.html").read_text(encoding="utf-8")
    assert all(f"class {row.argmax()}: {100 * share:.1f} %" in page for row, share in zip(logits, best, strict=True))


def test_a_model_without_a_preprocessor(tmp_path, capsys):
    network().save(tmp_path / "model.keras")
    Image.fromarray(IMAGES[0].astype("uint8")).save(tmp_path / "photo.png")
    options = (tmp_path / "model.keras", tmp_path / "photo.png", "--preprocess", "model", "--method", "gradient")
    assert "this has none" in fails(capsys, "analyze", *options, "--out", tmp_path / "heat")


@pytest.mark.slow
def test_a_classifier_of_keras_hub_is_served(classifier, tmp_path):
    photos = np.random.default_rng(1).integers(0, 256, (3, 32, 32, 3)).astype("uint8")
    analyzer = innvest_lite.Gradient(classifier, preprocessor=classifier.preprocessor)
    analyzer.export(tmp_path / "served")
    served = tf.saved_model.load(tmp_path / "served")
    results, expected = served.serve(x=photos), analyzer.analyze(photos)
    np.testing.assert_allclose(results["attributions"], expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    np.testing.assert_allclose(results["predictions"], classifier.predict(photos, verbose=0), rtol=1e-5)


# Patterns know how their images were prepared --------------------------------------------------------------------------
@pytest.fixture
def desk(tmp_path, monkeypatch):
    """A folder with a model and photographs, in which commands are run."""
    monkeypatch.chdir(tmp_path)
    network().save("model.keras")
    pathlib.Path("photos").mkdir()
    for place, pixels in enumerate(IMAGES[:6].astype("uint8")):
        Image.fromarray(pixels).save(f"photos/{place}.png")
    return tmp_path


COMMANDS = {
    "analyze": ("--method", "pattern.net", "--out", "heat"),
    "report": ("--methods", "pattern.net", "-o", "page.html"),
    "evaluate": ("--methods", "pattern.net", "--logits", "--out", "evaluation"),
    "export": ("--method", "pattern.net", "--out", "served"),
}


def command(name, prepared):
    """The arguments of a command with patterns, on images that are prepared in some way."""
    given = ["model.keras"] if name == "export" else ["model.keras", "photos"]
    return (name, *given, "--preprocess", prepared, "--patterns", "patterns.h5", *COMMANDS[name])


def test_images_prepared_in_another_way_are_refused(desk, capsys, subtests):
    assert run("fit", "model.keras", "photos", "--preprocess", "VGG16", "--out", "patterns.h5") == 0
    for name in COMMANDS:
        with subtests.test(name):
            message = fails(capsys, *command(name, "unit"))
            assert "prepared by 'vgg16', but these are prepared by 'unit'" in message
    assert run(*command("analyze", "vgg16")) == 0


@pytest.mark.slow
def test_images_prepared_as_those_of_the_patterns_are_taken(desk):
    assert run("fit", "model.keras", "photos", "--preprocess", "VGG16", "--out", "patterns.h5") == 0
    for name in COMMANDS:
        assert run(*command(name, "vgg16")) == 0, name


@pytest.mark.slow
def test_parts_prepared_in_other_ways_are_not_merged(desk, capsys):
    for part, prepared in ((1, "unit"), (2, "none")):
        options = ("--shard", f"{part}/2", "--batch-size", 3, "--out", f"part-{part}.h5", "--preprocess", prepared)
        assert run("fit", "model.keras", "photos", *options) == 0
    message = fails(capsys, "merge", "part-1.h5", "part-2.h5", "-o", "patterns.h5")
    assert "preprocess='unit'" in message and "preprocess='none'" in message


@pytest.mark.slow
def test_what_is_recorded(desk):
    model = network()
    folder = innvest_lite.ImageFolder("photos", (16, 16, 3), "VGG16")
    for data, options, expected in (
        ("photos", {"preprocess": "unit"}, "unit"),
        (folder, {}, "vgg16"),
        (IMAGES, {"preprocessor": "resnet50"}, "resnet50"),
        (IMAGES, {}, None),
    ):
        patterns = innvest_lite.fit_patterns(model, data, verbose=0, **options)
        assert patterns.settings.get("preprocess") == expected
        patterns.save("patterns.h5")
        assert innvest_lite.Patterns.load("patterns.h5").settings == patterns.settings


def test_python_warns_of_patterns_of_other_images(caplog):
    model = network()
    patterns = innvest_lite.fit_patterns(model, IMAGES, preprocessor="vgg16", verbose=0)
    for preprocessor in ("vgg16", "VGG16", None):
        innvest_lite.PatternNet(model, patterns=patterns, preprocessor=preprocessor)
    assert not caplog.records
    innvest_lite.PatternNet(model, patterns=patterns, preprocessor="unit")
    assert "prepared by 'vgg16', but these are prepared by 'unit'" in caplog.text


def test_images_in_another_range_are_noticed(caplog):
    analyzer = innvest_lite.Gradient(network(), preprocessor="unit")
    analyzer.analyze(IMAGES[:2])
    analyzer.analyze(np.zeros_like(IMAGES[:2]))
    assert "expects 0..255" not in caplog.text
    analyzer.analyze(IMAGES[:2] / 255)
    assert "'unit' expects 0..255: multiply them by 255" in caplog.text
