"""Files of exported analyzers: what they say of themselves, options that write nothing, folders that stay whole."""

import json
import os

import keras
import models
import numpy as np
import pytest
import tensorflow as tf
from comparing import refusals
from exports import described, image_model
from registered import create

import innvest_lite
from innvest_lite import (
    Gradient,
    InvalidInputError,
    NotFittedError,
    PatternAttribution,
    PatternMismatchError,
    PatternNet,
    Random,
)
from innvest_lite.analyzers import ANALYZERS
from innvest_lite.backend import formats
from innvest_lite.export import fingerprint
from innvest_lite.export.files import FORMATS, Format, check_path
from innvest_lite.files import replacing_folder

# What it says of itself ----------------------------------------------------------------------------------------------


def test_the_description(exported, tmp_path):
    analyzer = Random(image_model(), stddev=3.0)
    served = exported(analyzer, preprocess="vgg16", render="overlay", predictions=False)
    facts = described(tmp_path / "served")
    assert facts["method"] == "Random" and facts["options"]["stddev"] == 3
    assert facts["versions"]["innvest_lite"] == innvest_lite.__version__
    assert facts["preprocess"] == "vgg16" and facts["render"]["kind"] == "overlay"
    assert facts["classes"] == analyzer.model.output_shape[-1] > 1
    np.testing.assert_allclose(facts["input_range"], [-123.68, 151.061], atol=1e-3)
    inputs = {name: spec["dtype"] for name, spec in facts["signatures"]["serve"]["inputs"].items()}
    assert inputs == {"x": "uint8", "seed": "int64"}
    assert set(facts["signatures"]["serve"]["outputs"]) == set(served.signatures["serve"].structured_outputs)


def test_the_fingerprint_is_that_of_the_weights(tmp_path):
    one, same, other = (models.build("dense", seed=seed) for seed in (3, 3, 4))
    assert fingerprint(one) == fingerprint(same) != fingerprint(other)
    Gradient(one).export(tmp_path / "served", input_range=(-1, 1), predictions=False)
    facts = described(tmp_path / "served")
    assert facts["model"]["fingerprint"] == fingerprint(one) and facts["input_range"] == [-1, 1]


def test_the_description_counts_classes_not_units(tmp_path, monkeypatch):
    write = lambda path, _, description: path.write_text(description)  # noqa: E731
    monkeypatch.setitem(FORMATS, "description", Format(".json", (), write))
    for activation, classes in (("sigmoid", 2), ("linear", 1)):
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, activation=activation)])
        Gradient(model).export(tmp_path / "one.json", format="description")
        assert json.loads((tmp_path / "one.json").read_text())["classes"] == classes


def test_fingerprints_know_shapes():
    weights = np.arange(6, dtype="float32")
    prints = set()
    for shape in ((2, 3), (3, 2)):
        stack = keras.Sequential([keras.Input(shape[:1]), keras.layers.Dense(shape[1], use_bias=False)])
        stack.set_weights([weights.reshape(shape)])
        prints.add(fingerprint(stack))
    assert len(prints) == 2


def test_a_description_with_rules_and_arrays_is_json(tmp_path, monkeypatch):
    """With the files of a format that holds the description alone."""
    write = lambda path, _, description: path.write_text(description)  # noqa: E731
    monkeypatch.setitem(FORMATS, "description", Format(".json", (), write))
    for name in ("lrp.sequential_preset_a_flat", "deep_taylor.bounded"):
        create(name).export(tmp_path / "served.json", format="description")
        assert json.loads((tmp_path / "served.json").read_text())["method"] == ANALYZERS[name].analyzer.__name__


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
    ({"format": "onnx"}, "ends in .onnx"),
    ({"format": "litert"}, "ends in .tflite"),
]
NO_IMAGES = [
    ("text", {"preprocess": "unit"}, "preprocess= is for models with one input of images"),
    ("two_inputs", {"render": "heatmap"}, "render= is for models with one input of images"),
]


def test_wrong_options_write_nothing(tmp_path):
    def export(analyzer, options):
        return lambda: analyzer.export(tmp_path / "served", **options)

    uses = {str(options): (export(create("gradient"), options), message) for options, message in WRONG}
    images = {name: (export(Gradient(models.case(name).model), options), message) for name, options, message in NO_IMAGES}
    assert refusals({**uses, **images}, InvalidInputError) == {}
    assert not list(tmp_path.iterdir())


def test_patterns_must_be_there_and_fit(tmp_path):
    with pytest.raises(NotFittedError):
        PatternNet(models.case("dense").model).export(tmp_path / "served")
    trained = models.build("dense")
    analyzer = PatternAttribution(trained, patterns=innvest_lite.fit_patterns(trained, estimator="filter"))
    trained.set_weights([weight + 1 for weight in trained.get_weights()])
    with pytest.raises(PatternMismatchError):
        analyzer.export(tmp_path / "served")
    assert not list(tmp_path.iterdir())


def test_only_a_saved_model_is_replaced(tmp_path):
    analyzer, folder = Gradient(models.case("dense").model), tmp_path / "served"
    folder.mkdir()
    analyzer.export(folder, predictions=False)
    (folder / "mine.txt").write_text("old")
    innvest_lite.InputTimesGradient(models.case("dense").model).export(folder, predictions=False)
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
    analyzer.export(folder, predictions=False)

    def broken(module, path, **options):
        (tmp_path / path).mkdir()
        raise OSError("no space left")

    monkeypatch.setattr(tf.saved_model, "save", broken)
    with pytest.raises(OSError, match="no space left"):
        Random(models.case("dense").model).export(folder, predictions=False)
    assert [path.name for path in tmp_path.iterdir()] == ["served"] and described(folder)["method"] == "Gradient"


def test_folders_on_the_way_are_made_and_verbose_prints(tmp_path, capsys):
    Gradient(models.case("dense").model).export(tmp_path / "a" / "b", verbose=True, predictions=False)
    assert f"Saved Gradient as tf_saved_model to {tmp_path / 'a' / 'b'}" in capsys.readouterr().out
    assert tf.saved_model.contains_saved_model(tmp_path / "a" / "b")


def test_endings_in_capitals(tmp_path):
    assert check_path(tmp_path / "SERVED.ONNX", "onnx") == tmp_path / "SERVED.ONNX"
    with pytest.raises(InvalidInputError, match="say format='litert'"):
        check_path(tmp_path / "SERVED.TFLITE", "tf_saved_model")


def test_formats_of_ones_own(tmp_path, monkeypatch):
    """One with the ending of another, and one whose ending has two dots."""
    for name, ending in [("small onnx", ".onnx"), ("text", ".serve.txt")]:
        monkeypatch.setitem(FORMATS, name, Format(ending, ("serve",), lambda path, *_: path.write_text("")))
        Gradient(models.case("dense").model).export(tmp_path / f"mine{ending}", format=name)
        assert (tmp_path / f"mine{ending}").exists()
    with pytest.raises(InvalidInputError, match="ends in .serve.txt"):
        check_path(tmp_path / "mine.txt", "text")
    with pytest.raises(InvalidInputError, match="say format='text'"):
        check_path(tmp_path / "mine.serve.txt", "tf_saved_model")


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


def test_a_link_to_a_folder_stays_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    for _ in range(2):
        Gradient(models.case("dense").model).export(tmp_path / "link", predictions=False)
        assert (tmp_path / "link").is_symlink() and (tmp_path / "real" / "saved_model.pb").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "real"]


def test_what_is_saved_is_traced_and_written_once(tmp_path):
    """TensorFlow traces functions again as it saves them, and writes both graphs: twice the time, a file twice as large."""
    traced = []

    def function(x):
        traced.append(x)
        return {"y": tf.math.erfinv(x)}

    served = formats.endpoint(function, [formats.named_spec((None, 3), "float32", "x")])
    formats.write_saved_model(str(tmp_path), {"serve": served}, {})
    assert len(traced) == 1
    assert (tmp_path / "saved_model.pb").read_bytes().count(b"\x12\x06Erfinv") == 1
    x = np.array([[0, 0.5, -0.5]], "float32")
    np.testing.assert_array_equal(tf.saved_model.load(str(tmp_path)).serve(x=x)["y"], tf.math.erfinv(x))
