"""`innvest-lite fit` and `analyze`, in this process: the Python API's values, what is written, and what is refused."""

import json

import keras
import numpy as np
import pytest
from command_line import MODEL, fails, run, small_model
from models import assert_close
from pictures import picture, write_digits

import innvest_lite
from innvest_lite.analyzers.base import Analyzer
from innvest_lite.images import load_image
from innvest_lite.visualize import heatmap, overlay, project

# What is written beside the results.
RECORD = ("explanations.csv", "explanations.json")


def fit_in_batches(images, size):
    """The Python API's patterns of the same batches."""
    batches = (images[start : start + size] for start in range(0, len(images), size))
    return innvest_lite.fit_patterns(small_model(), batches, verbose=0)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A folder of six images, and the patterns that the command line fits on them in batches of two."""
    folder = tmp_path_factory.mktemp("fitted")
    images = write_digits(folder / "images", [f"{index}.png" for index in range(6)])
    (folder / "images" / "0.npy").write_bytes(b"from an earlier run")
    options = ["--preprocess", "unit", "--batch-size", 2]
    assert run("fit", MODEL, folder / "images", "--out", folder / "patterns.h5", *options) == 0
    return folder, images, options


# --- fit and analyze: values ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_fit_writes_the_patterns_of_the_python_api(fitted, capsys):
    folder, images, options = fitted
    expected = fit_in_batches(images, 2)
    saved = innvest_lite.Patterns.load(folder / "patterns.h5")
    assert list(saved) == list(expected)
    assert all(np.array_equal(saved[name], expected[name]) for name in expected)
    assert run("fit", MODEL, folder / "images", "--out", folder / "linear.h5", "--estimator", "linear", *options) == 0
    printed = capsys.readouterr().out
    linear = innvest_lite.Patterns.load(folder / "linear.h5")
    assert linear.estimator == "linear"
    assert str(linear.report()) in printed
    assert "3/3" in printed


def test_pixels_that_the_model_scales_itself_are_said_to_be_scaled_twice(tmp_path, capsys):
    images = tmp_path / "images"
    write_digits(images, ["a.png"])
    x = keras.Input((28, 28, 1))
    body = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Rescaling(1 / 255), keras.layers.Flatten()])
    keras.Model(x, keras.layers.Dense(2)(body(x))).save(tmp_path / "scales.keras")
    given = ["--method", "input", "--out", tmp_path / "out", "--overwrite"]
    for model, preprocess, said in (
        ("scales.keras", "unit", True),
        ("scales.keras", "none", False),
        (MODEL, "unit", False),
    ):
        assert run("analyze", tmp_path / model, images, *given, "--preprocess", preprocess) == 0
        assert ("warning: the model scales pixels itself" in capsys.readouterr().err) == said


@pytest.mark.slow
def test_analyze_takes_options_of_the_method(fitted, tmp_path, capsys):
    folder, images, options = fitted
    method = ["analyze", MODEL, folder / "images", "--method", "integrated_gradients", "--out", tmp_path, *options]
    method += ["--overwrite", "--plain"]
    assert run(*method, "--option", "steps=3", "--option", "rule=trapezoid") == 0
    expected = innvest_lite.IntegratedGradients(small_model(), 3, rule="trapezoid").analyze(images[:1], batch_size=2)
    np.testing.assert_allclose(np.load(tmp_path / "0.integrated_gradients.npy"), expected[0], rtol=1e-5, atol=1e-7)
    assert "has no option 'stepps'. Did you mean 'steps'?" in fails(capsys, *method, "--option", "stepps=3")
    with pytest.raises(SystemExit):
        run(*method, "--option", "steps")
    assert "'steps' is not of the form NAME=VALUE" in capsys.readouterr().err


@pytest.mark.parametrize("method", ["pattern.net", "pattern.attribution", "gradient"])
def test_analyze_writes_the_values_of_the_python_api(fitted, tmp_path, method):
    folder, images, options = fitted
    patterns = innvest_lite.Patterns.load(folder / "patterns.h5")
    needs = method != "gradient"
    given = ["--patterns", folder / "patterns.h5"] if needs else []
    given = [*given, "--out", tmp_path, "--plain"]
    assert run("analyze", MODEL, folder / "images", "--method", method, *given, *options) == 0
    analyzer = innvest_lite.create_analyzer(method, small_model(), **({"patterns": patterns} if needs else {}))
    expected = analyzer.analyze(images, batch_size=2)
    draw = project if method == "pattern.net" else heatmap
    assert len(list(tmp_path.iterdir())) == 12 + len(RECORD)
    for index in range(6):
        values = np.load(tmp_path / f"{index}.{method}.npy", allow_pickle=False)
        assert values.dtype == np.float32
        assert np.array_equal(values, expected[index])
        assert np.array_equal(picture(tmp_path / f"{index}.{method}.png"), draw(expected[index]))


def test_analyze_target_and_overlay(fitted, tmp_path):
    folder, images, options = fitted
    options = ["--target", 3, "--overlay", *options]
    assert run("analyze", MODEL, folder / "images" / "1.png", "--method", "gradient", "--out", tmp_path, *options) == 0
    expected = innvest_lite.Gradient(small_model()).analyze(images[1:2], target=3, batch_size=2)
    assert np.array_equal(np.load(tmp_path / "1.gradient.npy"), expected[0])
    pixels = load_image(folder / "images" / "1.png", 28, 28, 1).astype(np.uint8)
    assert np.array_equal(picture(tmp_path / "1.gradient.png"), overlay(expected[0], pixels))
    assert [file.name for file in sorted(tmp_path.iterdir())] == sorted(["1.gradient.npy", "1.gradient.png", *RECORD])


def test_one_of_several_outputs(tmp_path, capsys):
    images = write_digits(tmp_path / "images", ["a.png"])
    model = small_model()
    second = keras.layers.Dense(2, name="second")(model.get_layer("hidden").output)
    model = keras.Model(model.inputs, [model.outputs[0], second])
    model.save(tmp_path / "two.keras")
    given = ["--method", "gradient", "--preprocess", "unit", "--out", tmp_path / "out"]
    message = fails(capsys, "analyze", tmp_path / "two.keras", tmp_path / "images", *given)
    assert "['classes', 'second']" in message
    assert run("analyze", tmp_path / "two.keras", tmp_path / "images", *given, "--output-name", "second") == 0
    expected = innvest_lite.Gradient(model, output="second").analyze(images)
    assert np.array_equal(np.load(tmp_path / "out" / "a.gradient.npy"), expected[0])
    assert run("inspect", tmp_path / "two.keras", "--output-name", "second") == 0
    assert "outputs: classes (None, 10) float32, second (None, 2) float32" in capsys.readouterr().out


def test_an_h5_model_gives_the_same(fitted, tmp_path, eager):
    folder, images, options = fitted
    small_model().save(tmp_path / "digits.h5")
    given = ["--patterns", folder / "patterns.h5", "--out", tmp_path / "out", *options]
    assert run("analyze", tmp_path / "digits.h5", folder / "images", "--method", "pattern.net", *given) == 0
    patterns = innvest_lite.Patterns.load(folder / "patterns.h5")
    expected = innvest_lite.PatternNet(small_model(), patterns=patterns).analyze(images, batch_size=2)
    assert np.array_equal(np.load(tmp_path / "out" / "5.pattern.net.npy"), expected[5])


def test_same_stems_keep_apart(tmp_path):
    names = ["a/x.png", "b/x.png", "x.png", "b/c/y.bmp", "b/c/y.png", "b/c/Y.gif"]
    images = write_digits(tmp_path / "images", names)
    out = tmp_path / "new" / "out"
    assert (
        run("analyze", MODEL, tmp_path / "images", "--method", "input", "--preprocess", "unit", "--plain", "--out", out)
        == 0
    )
    results = ["a/x", "b/x", "x", "b/c/y.bmp", "b/c/y.png", "b/c/Y.gif"]
    for image, result in zip(images, results, strict=True):
        assert np.load(out / f"{result}.input.npy") == pytest.approx(image, abs=1e-6)
        assert np.array_equal(picture(out / f"{result}.input.png")[..., 0], np.rint(image[..., 0] * 255))
    assert len([file for file in out.rglob("*") if file.is_file()]) == 12 + len(RECORD)


def test_open_size_needs_size(tmp_path, capsys):
    layers = [keras.Input((None, None, 3)), keras.layers.Conv2D(2, 3), keras.layers.GlobalAveragePooling2D()]
    keras.Sequential([*layers, keras.layers.Dense(2)]).save(tmp_path / "open.keras")
    write_digits(tmp_path / "images", ["a.png"])
    arguments = ["analyze", tmp_path / "open.keras", tmp_path / "images", "--method", "gradient", "--out", tmp_path / "o"]
    assert "add --size HEIGHT WIDTH" in fails(capsys, *arguments)
    assert run(*arguments, "--size", 10, 14) == 0
    assert np.load(tmp_path / "o" / "a.gradient.npy").shape == (10, 14, 3)
    arguments[1] = MODEL
    assert "(10, 14), but the model takes (28, 28)" in fails(capsys, *arguments, "--size", 10, 14, "--overwrite")


def test_values_beyond_float32_come_with_their_exponents(tmp_path, monkeypatch, capsys):
    write_digits(tmp_path / "images", ["a/x.png", "x.png"])
    analyze = Analyzer.analyze

    def scaled(self, x, **options):
        values, exponents = analyze(self, x, **options)
        return values, exponents + np.array([0, 70], "int32")

    monkeypatch.setattr(Analyzer, "analyze", scaled)
    assert run("analyze", MODEL, tmp_path / "images", "--method", "gradient", "--out", tmp_path / "out") == 0
    assert json.loads((tmp_path / "out" / "exponents.json").read_text()) == {"x.gradient": 70}
    assert "2**exponent" in capsys.readouterr().out


# --- what is wrong with images, patterns and places ----------------------------------------------------------------


@pytest.mark.slow
def test_unreadable_images_are_named_and_the_rest_is_done(tmp_path, capsys):
    options = ["--preprocess", "unit", "--batch-size", 3]
    names = ["0.png", "1.png", "3.png", "5.png"]
    images = write_digits(tmp_path / "images", names)
    for name in ("2.png", "4.jpg"):
        (tmp_path / "images" / name).write_bytes(b"no image")
    assert run("fit", MODEL, tmp_path / "images", "--out", tmp_path / "p.h5", *options) == 1
    fit_errors = capsys.readouterr().err
    expected = fit_in_batches(images, 3)
    # In other batches: those with unreadable images are smaller.
    assert_close(innvest_lite.Patterns.load(tmp_path / "p.h5")["classes"], expected["classes"], 1e-5)
    given = ["--method", "gradient", "--out", tmp_path / "out", *options]
    assert run("analyze", MODEL, tmp_path / "images", *given) == 1
    expected = innvest_lite.Gradient(small_model()).analyze(images, batch_size=3)
    assert sorted(file.name for file in (tmp_path / "out").glob("*.npy")) == [
        f"{number}.gradient.npy" for number in (0, 1, 3, 5)
    ]
    assert np.array_equal(np.load(tmp_path / "out" / "5.gradient.npy"), expected[3])
    printed = capsys.readouterr()
    assert "Wrote 4 explanations" in printed.out
    for errors in (fit_errors, printed.err):
        lines = [line for line in errors.splitlines() if ": warning: " not in line]
        assert "2.png" in lines[0] and "4.jpg" in lines[1]
        assert lines[2:] == ["innvest-lite: 2 of 6 images were skipped"]


def test_a_folder_without_one_readable_image(tmp_path, capsys):
    (tmp_path / "a.png").write_bytes(b"no image")
    assert run("fit", MODEL, tmp_path, "--out", tmp_path / "p.h5") == 2
    errors = capsys.readouterr().err
    assert "a.png" in errors
    assert "error: None of the 1 images can be read." in errors
    assert not (tmp_path / "p.h5").exists()


def test_unknown_method_suggests_the_nearest(fitted, capsys, tmp_path):
    folder, _, _ = fitted
    given = [MODEL, folder / "images", "--out", tmp_path]
    assert "Did you mean 'pattern.net'?" in fails(capsys, "analyze", *given, "--method", "patern.net")
    assert "Did you mean 'gradient'?" in fails(capsys, "inspect", MODEL, "--method", "gradiant")


def test_unknown_preprocessor_suggests_the_nearest(fitted, capsys, tmp_path):
    folder, _, _ = fitted
    given = [MODEL, folder / "images", "--out", tmp_path / "p.h5", "--preprocess"]
    assert "Did you mean 'vgg1" in fails(capsys, "fit", *given, "vgg166")
    assert "'vgg16' expects 3 channels" in fails(capsys, "fit", *given, "vgg16")


def test_patterns_missing_wrong_or_needless(fitted, capsys, tmp_path):
    folder, _, _ = fitted
    given = ["analyze", MODEL, folder / "images", "--out", tmp_path / "out", "--method"]
    assert f"innvest-lite fit {MODEL} {folder / 'images'} --out patterns.h5" in fails(capsys, *given, "pattern.net")
    message = fails(capsys, *given, "gradient", "--patterns", folder / "patterns.h5")
    assert "'gradient' uses no patterns" in message
    (tmp_path / "broken.h5").write_bytes((folder / "patterns.h5").read_bytes()[:-9])
    assert "truncated" in fails(capsys, *given, "pattern.net", "--patterns", tmp_path / "broken.h5")
    assert "absent.h5" in fails(capsys, *given, "pattern.net", "--patterns", tmp_path / "absent.h5")
    other = small_model()
    other.get_layer("hidden").set_weights([2 * weight for weight in other.get_layer("hidden").get_weights()])
    other.save(tmp_path / "other.keras")
    given[1] = tmp_path / "other.keras"
    message = fails(capsys, *given, "pattern.net", "--patterns", folder / "patterns.h5")
    assert "hidden: fitted for other weights" in message
    assert not (tmp_path / "out").exists()


def test_results_never_replace_what_was_given(tmp_path, capsys):
    images = tmp_path / "images"
    write_digits(images, ["a.png"])
    small_model().save(tmp_path / "m.h5")
    before = (images / "a.png").read_bytes(), (tmp_path / "m.h5").read_bytes()
    analyze = ["analyze", MODEL, images, "--method", "input", "--out"]
    assert "lies in the folder of the images" in fails(capsys, *analyze, images)
    assert "lies in the folder of the images" in fails(capsys, *analyze, images / "new")
    analyze[2] = images / "a.png"
    (images / "a.input.png").symlink_to(images / "a.png")
    assert "is one of the images, which would be replaced" in fails(capsys, *analyze, images)
    (images / "a.input.png").unlink()
    assert "the model's own file" in fails(capsys, "fit", tmp_path / "m.h5", images, "--out", tmp_path / "m.h5")
    assert "There is no folder" in fails(capsys, "fit", MODEL, images, "--out", tmp_path / "absent" / "p.h5")
    assert "is a folder" in fails(capsys, "fit", MODEL, images, "--out", tmp_path)
    assert ((images / "a.png").read_bytes(), (tmp_path / "m.h5").read_bytes()) == before
    assert list(images.iterdir()) == [images / "a.png"]


def test_missing_images_and_targets_out_of_range(fitted, tmp_path, capsys):
    folder, _, _ = fitted
    given = ["--method", "gradient", "--out", tmp_path / "out"]
    assert "No folder or file is called" in fails(capsys, "analyze", MODEL, tmp_path / "absent", *given)
    assert "Target 10 is out of range" in fails(capsys, "analyze", MODEL, folder / "images", *given, "--target", 10)
    several = fails(capsys, "analyze", MODEL, folder / "images", *given, "--target", "1,2,3")
    assert "--target 1,2,3 names a position, but the model's output, of shape (None, 10), has none" in several


def test_a_class_and_a_pixel_of_a_segmentation(tmp_path):
    x = keras.Input((None, None, 2))
    model = keras.Model(x, keras.layers.Conv2D(3, 3, padding="same", activation="softmax")(x))
    model.save(tmp_path / "m.keras")
    data = np.random.default_rng(0).normal(size=(2, 6, 6, 2)).astype("float32")
    np.save(tmp_path / "x.npy", data)
    for text, target in (("2", 2), ("4,1,2", (4, 1, 2))):
        given = ["--method", "gradient", "--out", tmp_path / "out", "--overwrite", "--target", text]
        assert run("analyze", tmp_path / "m.keras", tmp_path / "x.npy", *given) == 0
        assert_close(
            np.load(tmp_path / "out" / "x.gradient.npy"), innvest_lite.Gradient(model).analyze(data, target=target)
        )
