"""Exported analyzers: what a SavedModel gives is what `analyze` gives, its options, what it says of itself, errors.

LiteRT and ONNX have `test_portable.py`, images and pictures `test_export_pictures.py`.
"""

import json
import os

import keras
import models
import numpy as np
import pytest
import tensorflow as tf
from exports import image_model, is_compiled, served_by
from models import assert_close
from registered import create, model

import innvest_lite
from innvest_lite import (
    Gradient,
    InvalidInputError,
    NotFittedError,
    PatternAttribution,
    PatternMismatchError,
    PatternNet,
    Random,
    SmoothGrad,
)
from innvest_lite.analyzers import ANALYZERS
from innvest_lite.export import fingerprint
from innvest_lite.export.files import check_path
from innvest_lite.files import replacing_folder

X = models.normal(5, 9, 8, 2)
TARGETS = np.array([2, 0, 1, 1, 2], "int32")


def described(folder):
    return json.loads((folder / "assets.extra" / "description.json").read_text())


def seeds(analyzer):
    """What a random analyzer's endpoints take besides."""
    return [tf.constant(analyzer.seed, tf.int64)] if analyzer.is_random else []


def operations(concrete):
    """All operations of a program, also those of the functions that it calls."""
    definition = concrete.graph.as_graph_def(add_shapes=True)
    return [*definition.node, *(node for function in definition.library.function for node in function.node_def)]


# A name of each class; `scripts/checks/export.py` goes through all names, in an environment that has TensorFlow alone.
NAMES = {method.analyzer: name for name, method in reversed(ANALYZERS.items())}.values()


@pytest.mark.parametrize("name", NAMES)
def test_every_analyzer_is_served_as_it_analyzes(name, exported):
    analyzer = create(name)
    served = exported(analyzer, target="input", predictions=False)
    for samples in (5, 1):
        given = tf.constant(X[:samples]), tf.constant(TARGETS[:samples])
        results = served.serve(*given, *seeds(analyzer))
        assert_close(results["attributions"], analyzer.analyze(X[:samples], TARGETS[:samples]))
        np.testing.assert_array_equal(results["target"], TARGETS[:samples])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pattern.attribution", "smoothgrad", "rise", "input"])
def test_predictions_are_those_of_the_model(name, exported):
    analyzer = create(name)
    served = exported(analyzer)
    results = served.serve(X, *seeds(analyzer))
    assert sorted(results) == ["attributions", "predictions", "target"]
    assert_close(results["predictions"], model().predict(X, verbose=0), 2e-6)
    np.testing.assert_array_equal(results["target"], results["predictions"].numpy().argmax(1))


LOAD_ALONE = """
import sys
sys.modules["innvest_lite"] = sys.modules["keras"] = None
import numpy as np, tensorflow as tf
for folder in sys.argv[2:]:
    served = tf.saved_model.load(folder)
    given = np.load(sys.argv[1])
    serve = served.signatures["serve"]
    seed = {"seed": tf.constant(3, tf.int64)} if "seed" in serve.structured_input_signature[1] else {}
    results = serve(x=tf.constant(given["x"]), **seed)
    np.savez(folder + ".npz", **results)
    assert set(served.signatures) == {"serve", "explain", "predict", "serving_default"}, served.signatures
"""


def test_loaded_where_there_is_neither_this_package_nor_keras(python, tmp_path):
    names = ("pattern.attribution", "smoothgrad")
    analyzers = {name: create(name, **({"seed": 3} if ANALYZERS[name].analyzer.is_random else {})) for name in names}
    np.savez(tmp_path / "x.npz", x=X)
    for name, analyzer in analyzers.items():
        analyzer.export(tmp_path / name)
    python(LOAD_ALONE, tmp_path / "x.npz", *(tmp_path / name for name in names))
    for name, analyzer in analyzers.items():
        results = np.load(tmp_path / f"{name}.npz")
        assert_close(results["attributions"], analyzer.analyze(X))
        np.testing.assert_array_equal(results["target"], results["predictions"].argmax(1))


# Signatures ----------------------------------------------------------------------------------------------------------


def test_one_forward_pass_for_all():
    """`serve` has as many convolutions as `explain`, and `predict` those of the model."""
    endpoints = served_by(create("guided_backprop"))
    counts = [
        [node.op for node in operations(endpoints[name].get_concrete_function())].count("Conv2D")
        for name in ("serve", "explain", "predict")
    ]
    assert len(set(counts)) == 1 and counts[0] > 1


def test_the_largest_is_explained(exported):
    analyzer = create("gradient")
    served = exported(analyzer)
    results = served.serve(X)
    np.testing.assert_array_equal(results["target"], model().predict(X, verbose=0).argmax(1))
    assert_close(results["attributions"], analyzer.analyze(X))
    explained = served.explain(X)
    assert sorted(explained) == ["attributions", "target"]
    np.testing.assert_array_equal(explained["attributions"], results["attributions"])
    assert list(served.predict(X)) == ["predictions"]
    np.testing.assert_array_equal(served.predict(X)["predictions"], results["predictions"])


@pytest.mark.parametrize("jit_compile", [False, True])
def test_no_samples(jit_compile, exported):
    """Max pooling's gradient would end the process."""
    stack = [keras.layers.Conv2D(4, 3, activation="relu"), keras.layers.MaxPooling2D(), keras.layers.Flatten()]
    pooled = keras.Sequential([keras.Input((9, 8, 2)), *stack, keras.layers.Dense(3)])
    served = exported(Gradient(pooled, jit_compile=jit_compile), target="input")
    results = served.serve(X[:0], TARGETS[:0])
    shapes = {name: tuple(tensor.shape) for name, tensor in results.items()}
    assert shapes == {"attributions": (0, 9, 8, 2), "predictions": (0, 3), "target": (0,)}
    assert served.predict(X[:0])["predictions"].shape == (0, 3)


def test_functions_take_their_arguments_by_name(exported):
    served = exported(create("smoothgrad"), target="input")
    seed = tf.constant(1, tf.int64)
    by_place = served.serve(X, TARGETS, seed)
    by_name = served.serve(seed=seed, target=TARGETS, x=X)
    np.testing.assert_array_equal(by_name["attributions"], by_place["attributions"])
    assert_close(served.predict(x=X)["predictions"], model().predict(X, verbose=0), 2e-6)
    with pytest.raises(TypeError, match="missing a required argument: 'target'"):
        served.explain(X, seed=seed)


def test_float64_models_and_names_that_are_taken(exported):
    inputs = [keras.Input((3,), name=name, dtype="float64") for name in ("target_", "target")]
    total = keras.layers.Dense(2, dtype="float64")(keras.layers.Concatenate(dtype="float64")(inputs))
    analyzer = innvest_lite.InputTimesGradient(keras.Model(inputs, total))
    served, x = exported(analyzer), [np.random.default_rng(seed).normal(size=(4, 3)) for seed in (0, 1)]
    results = served.serve(target_=x[0], target__=x[1])
    for name, expected in zip(("target_", "target__"), analyzer.analyze(x), strict=True):
        assert results[f"attributions_{name}"].dtype == results["predictions"].dtype == tf.float64
        np.testing.assert_allclose(results[f"attributions_{name}"], expected, rtol=1e-13)


def test_one_number_names_no_output_of_open_shape(tmp_path):
    x = keras.Input((None,))
    analyzer = Gradient(keras.Model(x, keras.layers.ReLU()(x)))
    with pytest.raises(InvalidInputError, match="one number names no output: export with target='argmax'"):
        analyzer.export(tmp_path / "served", target="input")


def test_fingerprints_know_shapes():
    weights = np.arange(6, dtype="float32")
    prints = set()
    for shape in ((2, 3), (3, 2)):
        stack = keras.Sequential([keras.Input(shape[:1]), keras.layers.Dense(shape[1], use_bias=False)])
        stack.set_weights([weights.reshape(shape)])
        prints.add(fingerprint(stack))
    assert len(prints) == 2


def test_without_predictions(exported):
    served = exported(create("gradient"), predictions=False)
    assert sorted(served.serve(X)) == sorted(served.explain(X)) == ["attributions", "target"]
    assert "predict" not in served.signatures and "explain" in served.signatures


@pytest.mark.parametrize("target", [3, -1])
@pytest.mark.parametrize("name", ["gradient", "occlusion"])
def test_a_target_out_of_range_stops_the_program(name, target, exported):
    served = exported(create(name), target="input")
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"out of range: the model has outputs 0 to 2, but got.*"):
        served.serve(X, tf.constant([0, 1, 2, target, 0]))


def test_a_fixed_batch(exported):
    served = exported(create("smoothgrad"), batch=5)
    assert_close(served.serve(X, tf.constant(0, tf.int64))["attributions"], create("smoothgrad").analyze(X))
    with pytest.raises(TypeError):
        served.serve(X[:3], tf.constant(0, tf.int64))


def test_a_single_sample_is_evaluated_side_by_side():
    """At most 32 at a time, as in `analyze`, where the batch is known to be one: two rounds of 20."""
    analyzer = SmoothGrad(model(), augment_by_n=40)
    assert [analyzer.explainer.strategy.together(samples) for samples in (None, 1, 5, 64)] == [1, 20, 6, 1]
    for samples, at_a_time in ((1, 20), (5, 30), (None, None)):
        nodes = operations(served_by(analyzer, batch=samples)["serve"].get_concrete_function())
        shapes = [node.attr["_output_shapes"].list.shape[0] for node in nodes if node.op == "Conv2D"]
        assert (at_a_time or -1) in {shape.dim[0].size for shape in shapes}


@pytest.mark.slow
@pytest.mark.parametrize("seed", [5, 2**32 + 5, 2**62 + 1])
def test_the_seed_is_an_input(seed, exported):
    served = exported(Random(model()))
    noise = served.serve(X, tf.constant(seed, tf.int64))["attributions"]
    np.testing.assert_array_equal(noise, Random(model(), seed=seed).analyze(X))
    assert not np.isin(noise, Random(model(), seed=seed + 1).analyze(X)).any()


STRUCTURES = [(Gradient, name) for name in ("two_inputs", "several", "sigmoid_head")]
STRUCTURES += [(PatternAttribution, "dict_inputs"), (SmoothGrad, "text")]


@pytest.mark.slow
@pytest.mark.parametrize("method, name", STRUCTURES)
def test_structures(method, name, exported):
    case = models.case(name)
    analyzer = models.fitted(method, name, **({"augment_by_n": 3} if method is SmoothGrad else {}))
    served = exported(analyzer)
    names, arrays = analyzer.explainer.inputs.names, analyzer.explainer.inputs.flat(case.x)
    results = served.serve(*arrays, *seeds(analyzer))
    keys = ["attributions"] if len(names) == 1 else [f"attributions_{one}" for one in names]
    expected = analyzer.explainer.inputs.in_order(analyzer.analyze(case.x))
    for key, one in zip(keys, expected, strict=True):
        assert_close(results[key], one)
    outputs, _ = models.predicted(name)
    assert any(one.shape == results["predictions"].shape and np.allclose(one, results["predictions"]) for one in outputs)


def test_names_of_inputs_that_are_taken_or_no_names(exported):
    inputs = [keras.Input((2,), name=name) for name in ("target", "a b", "1st", "a_b")]
    odd = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Concatenate()(inputs)))
    served = exported(Gradient(odd), target="input")
    arguments = served.signatures["serve"].structured_input_signature[1]
    assert sorted(arguments) == ["a_b", "a_b_", "target", "target_", "x_1st"]
    assert "attributions_target_" in served.signatures["serve"].structured_outputs


@pytest.mark.parametrize("name", [name for name in models.NAMES if name.endswith("head")])
def test_predictions_have_the_head_of_the_model(name):
    results = served_by(Gradient(models.case(name).model))["serve"](models.case(name).x)
    assert_close(results["predictions"], models.predicted(name)[0][0], 2e-6)


def test_mixed_precision(exported):
    keras.config.set_dtype_policy("mixed_float16")
    try:
        half = models.build("conv_bn")
    finally:
        keras.config.set_dtype_policy("float32")
    x = models.case("conv_bn").x
    served = exported(Gradient(half))
    results = served.serve(x)
    assert results["attributions"].dtype == results["predictions"].dtype == tf.float32
    assert_close(results["attributions"], Gradient(half).analyze(x))


def test_compiled_where_the_analyzer_says_so(exported):
    served = exported(create("gradient", jit_compile=True))
    assert is_compiled(served.serve)
    asked = exported(create("gradient", jit_compile=True), target="input")
    with pytest.raises(tf.errors.InvalidArgumentError, match="out of range"):
        asked.serve(X, TARGETS + 1)
    assert_close(served.serve(X)["attributions"], create("gradient").analyze(X))


# What it says of itself ----------------------------------------------------------------------------------------------


def test_the_description(exported, tmp_path):
    analyzer = SmoothGrad(image_model(), augment_by_n=3)
    served = exported(analyzer, preprocess="vgg16", render="overlay")
    facts = described(tmp_path / "served")
    assert facts["method"] == "SmoothGrad" and facts["options"]["augment_by_n"] == 3
    assert facts["versions"]["innvest_lite"] == innvest_lite.__version__
    assert facts["preprocess"] == "vgg16" and facts["render"]["kind"] == "overlay"
    np.testing.assert_allclose(facts["input_range"], [-123.68, 151.061], atol=1e-3)
    inputs = {name: spec["dtype"] for name, spec in facts["signatures"]["serve"]["inputs"].items()}
    assert inputs == {"x": "uint8", "seed": "int64"}
    assert set(facts["signatures"]["serve"]["outputs"]) == set(served.signatures["serve"].structured_outputs)


def test_the_fingerprint_is_that_of_the_weights(tmp_path):
    prints = []
    for seed in (3, 3, 4):
        Gradient(models.build("dense", seed=seed)).export(tmp_path / "served", input_range=(-1, 1))
        prints.append(described(tmp_path / "served")["model"]["fingerprint"])
        assert described(tmp_path / "served")["input_range"] == [-1, 1]
    assert prints[0] == prints[1] != prints[2]


def test_every_description_is_json(tmp_path):
    for name in ("lrp.sequential_preset_a_flat", "deep_taylor.bounded"):
        create(name).export(tmp_path / "served")
        assert described(tmp_path / "served")["method"] == ANALYZERS[name].analyzer.__name__


# Errors and files ----------------------------------------------------------------------------------------------------

WRONG = [
    ({"format": "h5"}, "format should be one of"),
    ({"target": "largest"}, "target should be one of"),
    ({"predictions": 1}, "predictions should be True or False"),
    ({"batch": 0}, "batch should be a whole number"),
    ({"preprocess": "vgg61"}, "No preprocessor is called 'vgg61'. Did you mean 'vgg1"),
    ({"preprocess": "vgg16"}, "expects 3 channels"),
    ({"render": "picture"}, "render should be one of"),
    ({"render": "overlay"}, "wants 1 or 3 channels, but the input has 2"),
    ({"render": "heatmap", "colormap": "red"}, "No colour map is called 'red'"),
    ({"input_range": (1, 0)}, r"input_range should be \(low, high\)"),
    ({"input_range": (1, 1)}, r"input_range should be \(low, high\)"),
    ({"rendr": "heatmap"}, "export has no option 'rendr'. Did you mean 'render'"),
    ({"format": "onnx"}, "ends in .onnx"),
    ({"format": "litert"}, "ends in .tflite"),
]


@pytest.mark.parametrize("options, message", WRONG)
def test_wrong_options_write_nothing(options, message, tmp_path):
    with pytest.raises(InvalidInputError, match=message):
        create("gradient").export(tmp_path / "served", **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("text", {"preprocess": "unit"}, "preprocess= is for models with one input of images"),
        ("two_inputs", {"render": "heatmap"}, "render= is for models with one input of images"),
    ],
)
def test_pictures_of_what_is_no_image(name, options, message, tmp_path):
    with pytest.raises(InvalidInputError, match=message):
        Gradient(models.case(name).model).export(tmp_path / "served", **options)
    assert not list(tmp_path.iterdir())


def test_a_target_where_one_number_names_no_output(tmp_path):
    inputs = keras.Input((4, 3))
    analyzer = Gradient(keras.Model(inputs, keras.layers.Dense(2)(inputs)))
    with pytest.raises(InvalidInputError, match="one number names no output"):
        analyzer.export(tmp_path / "served", target="input")
    analyzer.export(tmp_path / "served")
    x = models.normal(3, 4, 3)
    served = tf.saved_model.load(tmp_path / "served")
    results = served.serve(x)
    assert_close(results["attributions"], analyzer.analyze(x))
    np.testing.assert_array_equal(results["target"], results["predictions"].numpy().reshape(3, -1).argmax(1))


def test_patterns_must_be_there_and_fit(tmp_path):
    with pytest.raises(NotFittedError):
        PatternNet(models.case("dense").model).export(tmp_path / "served")
    trained = models.build("dense")
    analyzer = PatternAttribution(trained).fit(models.normal(30, 6), verbose=0)
    trained.set_weights([weight + 1 for weight in trained.get_weights()])
    with pytest.raises(PatternMismatchError):
        analyzer.export(tmp_path / "served")
    assert not list(tmp_path.iterdir())


def test_only_a_saved_model_is_replaced(tmp_path):
    analyzer, folder = Gradient(models.case("dense").model), tmp_path / "served"
    folder.mkdir()
    analyzer.export(folder)
    (folder / "mine.txt").write_text("old")
    innvest_lite.InputTimesGradient(models.case("dense").model).export(folder)
    assert not (folder / "mine.txt").exists() and described(folder)["method"] == "InputTimesGradient"
    assert [path.name for path in tmp_path.iterdir()] == ["served"]
    other = tmp_path / "photos"
    other.mkdir()
    (other / "cat.txt").write_text("a cat")
    for path in (other, other / "cat.txt"):
        with pytest.raises(InvalidInputError, match="is there and is no SavedModel"):
            analyzer.export(path)
    assert (other / "cat.txt").read_text() == "a cat"


def test_an_export_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    analyzer, folder = Gradient(models.case("dense").model), tmp_path / "served"
    analyzer.export(folder)

    def broken(module, path, **options):
        (tmp_path / path).mkdir()
        raise OSError("no space left")

    monkeypatch.setattr(tf.saved_model, "save", broken)
    with pytest.raises(OSError, match="no space left"):
        Random(models.case("dense").model).export(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["served"] and described(folder)["method"] == "Gradient"


def test_folders_on_the_way_are_made_and_verbose_prints(tmp_path, capsys):
    Gradient(models.case("dense").model).export(tmp_path / "a" / "b", verbose=True)
    assert f"Saved Gradient as tf_saved_model to {tmp_path / 'a' / 'b'}" in capsys.readouterr().out
    assert tf.saved_model.contains_saved_model(tmp_path / "a" / "b")


def test_exported_after_use_and_as_loaded_from_a_file(tmp_path):
    analyzer = create("pattern.attribution")
    expected = analyzer.analyze(X)
    analyzer.save(tmp_path / "analyzer.keras")
    keras.saving.load_model(tmp_path / "analyzer.keras").export(tmp_path / "served")
    served = tf.saved_model.load(tmp_path / "served")
    assert_close(served.serve(X)["attributions"], expected)


def test_endings_in_capitals(tmp_path):
    assert check_path(tmp_path / "SERVED.ONNX", "onnx") == tmp_path / "SERVED.ONNX"
    with pytest.raises(InvalidInputError, match="say format='litert'"):
        check_path(tmp_path / "SERVED.TFLITE", "tf_saved_model")


def test_what_was_there_comes_back_where_the_new_folder_cannot_take_its_place(tmp_path, monkeypatch):
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "old").touch()
    replace = os.replace

    def failing(source, place):
        if str(source).endswith(".partial"):
            raise OSError("full")
        replace(source, place)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(OSError, match="full"), replacing_folder(tmp_path / "served") as partial:
        partial.mkdir()
    assert [path.name for path in tmp_path.rglob("*")] == ["served", "old"]


def test_a_link_to_a_folder_stays_a_link(exported, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    for _ in range(2):
        create("gradient").export(tmp_path / "link")
        assert (tmp_path / "link").is_symlink() and (tmp_path / "real" / "saved_model.pb").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "real"]
