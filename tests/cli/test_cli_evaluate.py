"""`innvest-lite evaluate`, in this process: the Python API's figures, what is written, and what is refused."""

import csv
import json

import keras
import models
import numpy as np
import pytest
from command_line import MODEL, fails, run, small_model
from pictures import write_digits

import innvest_lite
from innvest_lite.cli import results
from innvest_lite.cli.evaluation import METHODS, RANDOM
from innvest_lite.data import load_digits
from innvest_lite.metrics import LayerQuality, SignalQuality, degradation, degradation_table, signal_quality


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """Twelve digits: the array, its file, and a folder of images."""
    folder = tmp_path_factory.mktemp("digits")
    images = write_digits(folder / "images", [f"{index:02d}.png" for index in range(12)])
    np.save(folder / "digits.npy", images)
    return images, folder / "digits.npy", folder / "images"


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize("source", ["array", pytest.param("folder", marks=pytest.mark.slow)])
def test_it_is_the_python_api(digits, source, tmp_path, capsys, eager):
    images, array, folder = digits
    data, methods = [array], "gradient,pattern.attribution, gradient"
    if source == "folder":
        data, methods = [folder, "--preprocess", "unit"], "pattern.attribution"
    options = ["--methods", methods, "--patch", 7, "--steps", 9, "--replace", "zero"]
    assert run("evaluate", MODEL, *data, "--out", tmp_path / "out", *options, "--batch-size", 5) == 0
    model = small_model()
    patterns = innvest_lite.fit_patterns(model, images, batch_size=5, verbose=0)
    analyzers = {"pattern.attribution": innvest_lite.PatternAttribution(model, patterns=patterns)}
    if source == "array":
        analyzers["gradient"] = innvest_lite.Gradient(model)
    expected = {RANDOM: degradation(model, None, images, 7, 9, "zero", order="random", batch_size=5)}
    expected |= {name: degradation(model, analyzer, images, 7, 9, "zero") for name, analyzer in analyzers.items()}
    expected = degradation_table(expected, baseline=RANDOM)
    printed = capsys.readouterr().out
    assert "Fitting the patterns on the 12 samples themselves" in printed
    assert ("12/12" in printed) == (source == "folder")
    written = {row["method"]: row for row in rows_of(tmp_path / "out" / "degradation.csv")}
    assert list(written) == list(expected.results)
    for name, row in expected.to_dict().items():
        for column in ("area", "low", "high", "gain", "gain_low", "gain_high"):
            assert float(written[name][column]) == pytest.approx(row[column], abs=1e-5), (name, column)
        assert (written[name]["order"], written[name]["samples"], written[name]["patch"]) == (row["order"], "12", "7")
    curves = rows_of(tmp_path / "out" / "degradation_curves.csv")
    assert [int(row["replaced"]) for row in curves] == list(range(10))
    for name in analyzers:
        np.testing.assert_allclose([float(row[name]) for row in curves], expected.results[name].mean, atol=1e-5)
    assert f"gain over {RANDOM}" in printed and str(tmp_path / "out") in printed
    assert (tmp_path / "out" / "degradation.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".")]


def test_both_orders_and_what_they_are_ranked_by(digits, tmp_path, capsys, eager):
    images, array, _ = digits
    options = ["--methods", "gradient,input_t_gradient", "--patch", 7, "--max-patches", 3, "--order", "both"]
    assert run("evaluate", MODEL, array, "--out", tmp_path / "auto", *options) == 0
    assert "area between" in capsys.readouterr().out
    assert run("evaluate", MODEL, array, "--out", tmp_path / "signed", *options, "--rank-by", "signed") == 0
    model = small_model()
    for folder, rank_by in (("auto", "auto"), ("signed", "signed")):
        rows = {row["method"]: row for row in rows_of(tmp_path / folder / "degradation.csv")}
        curves = rows_of(tmp_path / folder / "degradation_curves.csv")
        for name in ("gradient", "input_t_gradient"):
            analyzer = innvest_lite.create_analyzer(name, model)
            expected = degradation(model, analyzer, images, 7, 3, order="both", rank_by=rank_by)
            row = rows[name]
            assert float(row["between"]) == pytest.approx(expected.area_between.mean(), abs=1e-5)
            assert (float(row["start"]), float(row["end"])) == pytest.approx((expected.start, expected.end), abs=1e-5)
            assert (row["order"], row["ranked_by"]) == ("both", expected.ranked_by)
            for column, curve in ((name, expected.mean), (f"{name}, least first", expected.means["least"])):
                np.testing.assert_allclose([float(one[column]) for one in curves], curve, atol=1e-5)
        assert (rows[RANDOM]["between"], rows[RANDOM]["ranked_by"]) == ("0.0", "")
        assert list(curves[0]).count(RANDOM) == 1


@pytest.mark.slow
def test_the_signal(digits, tmp_path, capsys, eager):
    images, array, _ = digits
    assert run("evaluate", MODEL, array, "--out", tmp_path, "--methods", "input", "--signal", "--seed", 3) == 0
    printed = capsys.readouterr().out
    order = np.random.default_rng(3).permutation(len(images))
    parts = [images[part] for part in np.array_split(order, 3)]
    expected = signal_quality(small_model(), *parts, batch_size=32, seed=3)
    assert str(expected) in printed and "batch to regress" in printed and "batch to evaluate" in printed
    rows = rows_of(tmp_path / "signal.csv")
    assert len(rows) == sum(values.size for layer in expected.layers.values() for values in layer.rho.values())
    found = [float(row["rho"]) for row in rows if (row["layer"], row["estimator"]) == ("conv", "linear")]
    np.testing.assert_allclose(found, expected.layers["conv"].rho["linear"], atol=1e-6)
    assert (tmp_path / "signal.png").stat().st_size > 1000


@pytest.mark.slow
def test_own_patterns_and_so_many_samples(digits, tmp_path, capsys, eager):
    _, array, _ = digits
    innvest_lite.fit_patterns(small_model(), load_digits()[0][:50], verbose=0).save(tmp_path / "patterns.h5")
    options = ["--methods", "pattern.net", "--patterns", tmp_path / "patterns.h5", "--limit", 5, "--patch", 14]
    assert run("evaluate", MODEL, array, "--out", tmp_path, *options) == 0
    assert "Fitting" not in capsys.readouterr().out
    assert {row["samples"] for row in rows_of(tmp_path / "degradation.csv")} == {"5"}


@pytest.mark.slow
def test_a_model_of_logits(digits, tmp_path, capsys, eager):
    _, array, _ = digits
    model = small_model()
    logits = keras.Model(model.inputs, model.get_layer("classes").output)
    logits.get_layer("classes").activation = keras.activations.linear
    path = tmp_path / "logits.keras"
    keras.models.clone_model(logits).save(path)
    options = ["--methods", "gradient", "--patch", 14, "--out", tmp_path]
    assert run("evaluate", path, array, *options) == 0
    assert "The model ends in logits" in capsys.readouterr().out
    seen = (tmp_path / "degradation.csv").read_text()
    assert "of an earlier run already: add --overwrite" in fails(capsys, "evaluate", path, array, *options, "--logits")
    assert run("evaluate", path, array, *options, "--logits", "--overwrite") == 0
    assert (tmp_path / "degradation.csv").read_text() == seen


def test_methods_that_do_not_go_are_named(tmp_path, capsys, eager):
    x = keras.Input((4, 3))
    y = models.Closed(name="closed")(x)
    keras.Model(x, keras.layers.Dense(2, activation="softmax")(y)).save(tmp_path / "closed.keras")
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(5, 4, 3)))
    options = ["--methods", "gradient,lrp.z,pattern.net", "--patch", 2, "--out", tmp_path / "out"]
    assert run("evaluate", tmp_path / "closed.keras", tmp_path / "x.npy", *options) == 1
    errors = capsys.readouterr().err
    assert "left out: lrp.z: " in errors and "left out: pattern.net: " in errors
    assert {row["method"] for row in rows_of(tmp_path / "out" / "degradation.csv")} == {"gradient", RANDOM}


def test_without_matplotlib_there_are_tables(digits, tmp_path, capsys, monkeypatch, eager):
    monkeypatch.setattr(results, "can_draw", lambda: False)
    assert run("evaluate", MODEL, digits[1], "--out", tmp_path, "--methods", "input", "--patch", 14) == 0
    assert "matplotlib is not installed" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "degradation.csv",
        "degradation_curves.csv",
        "evaluation.json",
    ]


def test_unreadable_images_are_named(digits, tmp_path, capsys, eager):
    folder = tmp_path / "images"
    write_digits(folder, ["a.png", "b.png"])
    (folder / "broken.png").write_bytes(b"no image")
    options = ["--preprocess", "unit", "--methods", "input", "--patch", 14, "--out", tmp_path / "out"]
    assert run("evaluate", MODEL, folder, *options) == 1
    assert "1 of 3 images were skipped" in capsys.readouterr().err


def test_what_is_compared_where_nobody_says():
    assert set(METHODS) < set(innvest_lite.ANALYZERS) and {"pattern.net", "pattern.attribution"} < set(METHODS)


def test_bad_input(digits, tmp_path, capsys):
    _, array, folder = digits
    (tmp_path / "pickled.npy").write_bytes(b"\x93NUMPY nothing")
    np.save(tmp_path / "objects.npy", np.array([{}], object), allow_pickle=True)
    np.savez(tmp_path / "several.npz", x=np.zeros(3))
    (tmp_path / "several.npz").rename(tmp_path / "several.npy")
    np.savez(tmp_path / "several.npz", x=np.zeros(3))
    np.save(tmp_path / "none.npy", np.zeros((0, 28, 28, 1)))
    np.save(tmp_path / "other.npy", np.zeros((3, 5, 5, 1)))
    (tmp_path / "file").write_text(json.dumps({}))
    for arguments, words in (
        ([array, "--methods", "gradiant"], "no method 'gradiant'. Did you mean 'gradient'?"),
        ([tmp_path / "missing.npy"], "missing.npy"),
        ([tmp_path / "pickled.npy"], "Cannot read the array"),
        ([tmp_path / "objects.npy"], "Cannot read the array"),
        ([tmp_path / "none.npy"], "should hold samples"),
        ([tmp_path / "other.npy"], "should have shape"),
        ([folder, "--out", folder / "out"], "lies in the folder of the images"),
        ([array, "--out", tmp_path / "file"], "is a file; name a folder"),
        ([array, "--limit", 2, "--signal"], "divides the data into three parts"),
        ([array, "--patterns", tmp_path / "missing.h5", "--methods", "pattern.net"], "missing.h5"),
        ([array, "--patterns", tmp_path / "missing.h5", "--methods", "gradient"], "remove --patterns"),
        ([array, "--preprocess", "unit"], "--preprocess is for images"),
        ([array, "--logits", "--methods", "input"], "ends in a softmax, not in logits"),
        ([tmp_path / "several.npz"], "save the samples alone"),
        ([tmp_path / "several.npy"], "save the samples alone"),
    ):
        out = [] if "--out" in arguments else ["--out", tmp_path / "never"]
        assert words in fails(capsys, "evaluate", MODEL, *arguments, *out), arguments
    assert not (tmp_path / "never" / "degradation.csv").exists() and not (folder / "out").exists()
    for wrong in (["--methods", ","], ["--seed", "-1"], ["--steps", "0"], ["--replace", "mean"]):
        with pytest.raises(SystemExit):
            run("evaluate", MODEL, array, *wrong)


@pytest.mark.slow
def test_what_is_drawn_and_ordered(digits, tmp_path, eager):
    """--limit draws, --order and --seed reach the measure, the columns say what they name."""
    images, array, _ = digits
    options = ["--methods", "input", "--patch", 7, "--steps", 5, "--order", "least", "--seed", 3, "--limit", 5]
    assert run("evaluate", MODEL, array, "--out", tmp_path, *options) == 0
    chosen = images[np.sort(np.random.default_rng(3).permutation(12)[:5])]
    model = small_model()
    expected = {
        "input": degradation(model, innvest_lite.Input(model), chosen, 7, 5, order="least"),
        RANDOM: degradation(model, None, chosen, 7, 5, order="random", seed=3),
    }
    rows = {row["method"]: row for row in rows_of(tmp_path / "degradation.csv")}
    for name, result in expected.items():
        assert float(rows[name]["area"]) == pytest.approx(result.area_over_curve.mean(), abs=1e-6)
        assert (rows[name]["order"], rows[name]["steps"], rows[name]["patch"]) == (result.order, "5", "7")
    assert json.loads((tmp_path / "evaluation.json").read_text())["order"] == "least"


def test_the_columns_of_the_signal(tmp_path):
    rho = {"linear": np.array([0.25, 0.5])}
    layers = {"wide": LayerQuality(rho, 0.125, np.array([7, 300]), 4, 256)}
    results.save_signal(SignalQuality(layers, "active", 1e-6), tmp_path)
    found = [tuple(row.values()) for row in rows_of(tmp_path / "signal.csv")]
    assert found == [("wide", "7", "linear", "0.25", "0.125", "256"), ("wide", "300", "linear", "0.5", "0.125", "256")]
