"""`innvest-lite export`, in this process: what is written is what `Analyzer.export` writes, and what is refused."""

import json

import numpy as np
import pytest
import tensorflow as tf
from command_line import MODEL, fails, run, small_model
from exports import is_compiled
from models import assert_close

import innvest_lite
from innvest_lite.data import load_digits


@pytest.fixture(scope="module")
def patterns(tmp_path_factory):
    path = tmp_path_factory.mktemp("fit") / "patterns.h5"
    innvest_lite.fit_patterns(small_model(), load_digits()[0][:60], verbose=0).save(path)
    return path


@pytest.mark.slow
def test_a_pattern_method_with_all_options(patterns, tmp_path, capsys, eager):
    options = ("--patterns", patterns, "--target", "input", "--batch", 4, "--no-predictions", "--preprocess", "unit")
    options += ("--render", "overlay", "--colormap", "seismic")
    assert run("export", MODEL, "--method", "pattern.attribution", "--out", tmp_path / "served", *options) == 0
    assert f"Saved PatternAttribution as tf_saved_model to {tmp_path / 'served'}" in capsys.readouterr().out
    served, images = tf.saved_model.load(tmp_path / "served"), (load_digits()[0][:4] * 255).astype("uint8")
    results = served.serve(images, tf.constant([1, 2, 3, 4]))
    assert sorted(results) == ["attributions", "picture", "target"]
    analyzer = innvest_lite.PatternAttribution(small_model(), patterns=innvest_lite.Patterns.load(patterns))
    heat = analyzer.analyze(images / np.float32(255), [1, 2, 3, 4])
    assert_close(results["attributions"], heat)
    picture = innvest_lite.visualize.overlay(heat, images, "seismic")
    assert np.abs(results["picture"].numpy().astype(int) - picture).max() <= 1
    assert served.serve.get_concrete_function().inputs[0].shape[0] == 4


def test_options_of_the_method_and_the_description(tmp_path):
    options = ("--option", "steps=2", "--option", "rule=trapezoid", "--input-range", 0, 1, "--no-predictions")
    assert run("export", MODEL, "--method", "integrated_gradients", "--out", tmp_path / "a" / "served", *options) == 0
    facts = json.loads((tmp_path / "a" / "served" / "assets.extra" / "description.json").read_text())
    assert facts["options"]["steps"] == 2 and facts["options"]["rule"] == "trapezoid" and facts["input_range"] == [0, 1]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["served.tflite", "served.onnx"])
def test_the_ending_chooses_the_format(name, tmp_path, capsys):
    pytest.importorskip("onnxruntime")
    assert run("export", MODEL, "--method", "gradient", "--out", tmp_path / name) == 0
    expected = {"served.tflite": "litert", "served.onnx": "onnx"}[name]
    assert f"as {expected} to" in capsys.readouterr().out and (tmp_path / name).stat().st_size > 20_000


REFUSED = [
    (("--method", "gradeint"), "Did you mean 'gradient'"),
    (("--method", "pattern.net"), "--patterns is missing"),
    (("--method", "gradient", "--format", "onnx"), "ends in .onnx"),
    (("--method", "gradient", "--preprocess", "vgg61"), "No preprocessor is called"),
    (("--method", "gradient", "--preprocess", "vgg16"), "expects 3 channels"),
    (("--method", "gradient", "--colormap", "red"), "No colour map"),
    (("--method", "gradient", "--input-range", "1", "0"), "input_range should be"),
]


@pytest.mark.parametrize("options, message", REFUSED)
def test_refused(options, message, tmp_path, capsys):
    assert message in fails(capsys, "export", MODEL, "--out", tmp_path / "served", *options)
    assert not list(tmp_path.iterdir())


def test_a_saved_explainer_is_no_model(tmp_path, capsys):
    innvest_lite.Gradient(small_model()).save(tmp_path / "explainer.keras")
    message = fails(capsys, "export", tmp_path / "explainer.keras", "--method", "gradient", "--out", tmp_path / "served")
    assert "holds a saved explainer, Gradient, where the model itself is expected" in message


def test_pythons_words_for_options(tmp_path):
    assert run("export", MODEL, "--method", "gradient", "--option", "jit_compile=True", "--out", tmp_path / "served") == 0
    served = tf.saved_model.load(tmp_path / "served")
    assert is_compiled(served.serve)


# Quick are the converter's message, in `test_portable.py`, and other errors of this command, above.
@pytest.mark.slow
def test_a_format_that_lacks_an_operation(tmp_path, capsys):
    message = fails(capsys, "export", MODEL, "--method", "random", "--out", tmp_path / "served.tflite")
    assert "LiteRT cannot hold this analyzer: it has no" in message
    assert not list(tmp_path.iterdir())


def test_neither_the_model_nor_other_folders_are_replaced(tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("mine")
    assert "is no SavedModel" in fails(capsys, "export", MODEL, "--method", "gradient", "--out", tmp_path)
    assert "is the model's own file" in fails(capsys, "export", MODEL, "--method", "gradient", "--out", MODEL)
