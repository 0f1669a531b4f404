"""The command line, in this process: what is printed, what is written, the exit codes, and the Python API's values."""

import json
import pathlib
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest
from PIL import Image

import innvest_lite
from innvest_lite.analyzers.base import Analyzer
from innvest_lite.cli import main
from innvest_lite.data import load_digits, load_model
from innvest_lite.images import load_image
from innvest_lite.visualize import grid, heatmap, overlay, project

MODEL = pathlib.Path(innvest_lite.data.__file__).parent / "digits.keras"
CELL, MARGIN = 112, 8


def write_digits(folder, names):
    """Write the first digits as images of these names; returns what the model gets of them."""
    digits, _ = load_digits()
    for name, digit in zip(names, digits, strict=False):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.rint(digit[..., 0] * 255).astype(np.uint8)).save(folder / name)
    return digits[: len(names)]


def run(*arguments):
    return main([str(argument) for argument in arguments])


def fit_in_batches(images, size):
    """The Python API's patterns of the same batches."""
    batches = (images[start : start + size] for start in range(0, len(images), size))
    return innvest_lite.fit_patterns(load_model(), batches, verbose=0)


def fails(capsys, *arguments):
    """Run a command that must end with exit code 2 and one message on stderr; returns the message."""
    assert run(*arguments) == 2
    message = capsys.readouterr().err
    assert message.startswith("innvest-lite: error: ")
    assert "Traceback" not in message
    return message


def picture(path):
    return np.asarray(Image.open(path))


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A folder of six images, and the patterns that the command line fits on them in batches of two."""
    folder = tmp_path_factory.mktemp("fitted")
    images = write_digits(folder / "images", [f"{index}.png" for index in range(6)])
    (folder / "images" / "0.npy").write_bytes(b"from an earlier run")
    options = ["--preprocess", "unit", "--batch-size", 2]
    assert run("fit", MODEL, folder / "images", "--out", folder / "patterns.h5", *options) == 0
    return folder, images, options


# --- help, demo, methods, inspect ----------------------------------------------------------------------------------


def test_help_needs_neither_tensorflow_nor_numpy():
    code = (
        "import sys\nfrom innvest_lite.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit as end: code = end.code\n"
        "heavy = {'tensorflow', 'keras', 'numpy', 'PIL', 'h5py'} & set(sys.modules)\n"
        "sys.exit(f'{code} {heavy}' if code or heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    for command in ("demo", "methods", "inspect", "fit", "analyze"):
        assert f"\n    {command} " in done.stdout


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo") / "out"
    assert run("demo", "--out", out, "--digits", 3) == 0
    return picture(out / "demo.png")


def demo_cell(sheet, row, method):
    """The picture in a cell of the demo's grid, reduced to the 28 pixels that it was made from."""
    methods = list(innvest_lite.ANALYZERS)
    bottom = sheet.shape[0] - MARGIN - (2 - row) * (CELL + MARGIN)
    right = sheet.shape[1] - MARGIN - (len(methods) - 1 - methods.index(method)) * (CELL + MARGIN)
    return sheet[bottom - CELL : bottom, right - CELL : right][::4, ::4]


def test_demo_draws_a_row_a_digit_and_a_column_a_method(demo):
    digits, labels = load_digits()
    guesses = load_model().predict(digits[:3], verbose=0).argmax(axis=1)
    row_labels = [f"true {true}, predicted {guess}" for true, guess in zip(labels, guesses, strict=False)]
    methods = list(innvest_lite.ANALYZERS)
    empty = grid([[None] * len(methods)] * 3, row_labels, methods, cell=CELL, margin=MARGIN)
    assert demo.shape == empty.shape
    labelled = np.s_[:, : -MARGIN - len(methods) * (CELL + MARGIN)]
    assert np.array_equal(demo[labelled], empty[labelled])


def test_demo_shows_each_method_in_its_way(demo):
    digits, _ = load_digits()
    model = load_model()
    gradient = heatmap(innvest_lite.Gradient(model).analyze(digits[:3]))
    patterns = innvest_lite.fit_patterns(model, digits, verbose=0)
    signal = project(innvest_lite.PatternNet(model, patterns=patterns).analyze(digits[:3]))
    for row in range(3):
        assert np.array_equal(demo_cell(demo, row, "input")[..., 0], np.rint(digits[row, ..., 0] * 255))
        assert np.array_equal(demo_cell(demo, row, "gradient"), gradient[row])
        assert np.abs(demo_cell(demo, row, "pattern.net").astype(int) - signal[row]).max() <= 1


def test_demo_seed_draws_other_digits_of_the_same_classes(tmp_path, monkeypatch):
    monkeypatch.setattr(innvest_lite, "ANALYZERS", {"input": innvest_lite.Input})
    monkeypatch.setattr(innvest_lite, "fit_patterns", lambda *_, **__: {})
    seeds = {"none": [], "one": ["--seed", 1], "again": ["--seed", 1], "two": ["--seed", 2]}
    for name, seed in seeds.items():
        assert run("demo", "--out", tmp_path / name, "--digits", 2, *seed) == 0
    sheets = {name: picture(tmp_path / name / "demo.png") for name in seeds}
    assert np.array_equal(sheets["one"], sheets["again"])
    cells = {name: sheet[:, -CELL - MARGIN :] for name, sheet in sheets.items()}
    assert not np.array_equal(cells["one"], cells["none"])
    assert not np.array_equal(cells["one"], cells["two"])
    labels = {name: sheet[:, : -CELL - 2 * MARGIN] for name, sheet in sheets.items()}
    assert np.array_equal(labels["one"], labels["none"])
    assert np.array_equal(labels["two"], labels["none"])


def test_demo_has_no_more_digits_than_there_are(tmp_path, capsys):
    assert "only 600 digits" in fails(capsys, "demo", "--out", tmp_path, "--digits", 601)


def test_methods_says_what_each_is_and_what_needs_fit(capsys):
    assert run("methods") == 0
    rows = capsys.readouterr().out.splitlines()[2:]
    assert [row.split()[0] for row in rows] == list(innvest_lite.ANALYZERS)
    assert [row.split()[0] for row in rows if row.split()[1] == "yes"] == ["pattern.net", "pattern.attribution"]
    assert "d y_k / dx" in next(row for row in rows if row.startswith("gradient "))


def test_inspect_prints_shapes_and_the_plan(capsys):
    assert run("inspect", MODEL) == 0
    text = capsys.readouterr().out
    assert "inputs: digit (None, 28, 28, 1) float32\noutputs: classes (None, 10) float32\n" in text
    assert str(innvest_lite.PatternAttribution(load_model()).plan()) in text


def test_inspect_all_and_one(capsys):
    assert run("inspect", MODEL, "--all") == 0
    assert set(innvest_lite.ANALYZERS) <= set(capsys.readouterr().out.splitlines())
    assert run("inspect", MODEL, "--method", "deconvnet") == 0
    assert "\ndeconvnet\n" in capsys.readouterr().out


def test_inspect_lists_all_that_is_unsupported(tmp_path, capsys):
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.LayerNormalization(name="norm_a")(keras.layers.Conv2D(2, 3)(inputs))
    outputs = keras.layers.Dense(2)(keras.layers.Flatten()(keras.layers.LayerNormalization(name="norm_b")(x)))
    keras.Model(inputs, outputs).save(tmp_path / "model.keras")
    with pytest.raises(innvest_lite.UnsupportedLayerError, match="norm_a, norm_b") as coverage:
        innvest_lite.PatternAttribution(keras.Model(inputs, outputs))
    assert run("inspect", tmp_path / "model.keras") == 1
    printed = capsys.readouterr()
    assert str(coverage.value) in printed.out
    assert printed.err == ""
    assert run("inspect", tmp_path / "model.keras", "--all") == 1
    with pytest.warns(UserWarning, match="not yet been built"):
        keras.Sequential([keras.layers.Dense(2)]).save(tmp_path / "unbuilt.keras")
    capsys.readouterr()
    assert run("inspect", tmp_path / "unbuilt.keras", "--all") == 1
    assert capsys.readouterr().out.count("has no graph yet") == 1


# --- fit and analyze: values ---------------------------------------------------------------------------------------


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
    assert "6/6" in printed


@pytest.mark.parametrize("method", ["pattern.net", "pattern.attribution", "gradient"])
def test_analyze_writes_the_values_of_the_python_api(fitted, tmp_path, method):
    folder, images, options = fitted
    patterns = innvest_lite.Patterns.load(folder / "patterns.h5")
    needs = method != "gradient"
    given = ["--patterns", folder / "patterns.h5"] if needs else []
    assert run("analyze", MODEL, folder / "images", "--method", method, *given, "--out", tmp_path, *options) == 0
    analyzer = innvest_lite.create_analyzer(method, load_model(), **({"patterns": patterns} if needs else {}))
    expected = analyzer.analyze(images, batch_size=2)
    draw = project if method == "pattern.net" else heatmap
    assert len(list(tmp_path.iterdir())) == 12
    for index in range(6):
        values = np.load(tmp_path / f"{index}.npy", allow_pickle=False)
        assert values.dtype == np.float32
        assert np.array_equal(values, expected[index])
        assert np.array_equal(picture(tmp_path / f"{index}.png"), draw(expected[index]))


def test_analyze_target_and_overlay(fitted, tmp_path):
    folder, images, options = fitted
    options = ["--target", 3, "--overlay", *options]
    assert run("analyze", MODEL, folder / "images" / "1.png", "--method", "gradient", "--out", tmp_path, *options) == 0
    expected = innvest_lite.Gradient(load_model()).analyze(images[1:2], target=3, batch_size=2)
    assert np.array_equal(np.load(tmp_path / "1.npy"), expected[0])
    pixels = load_image(folder / "images" / "1.png", 28, 28, 1).astype(np.uint8)
    assert np.array_equal(picture(tmp_path / "1.png"), overlay(expected[0], pixels))
    assert [file.name for file in sorted(tmp_path.iterdir())] == ["1.npy", "1.png"]


def test_one_of_several_outputs(tmp_path, capsys):
    images = write_digits(tmp_path / "images", ["a.png"])
    model = load_model()
    second = keras.layers.Dense(2, name="second")(model.get_layer("hidden").output)
    model = keras.Model(model.inputs, [model.outputs[0], second])
    model.save(tmp_path / "two.keras")
    given = ["--method", "gradient", "--preprocess", "unit", "--out", tmp_path / "out"]
    message = fails(capsys, "analyze", tmp_path / "two.keras", tmp_path / "images", *given)
    assert "['classes', 'second']" in message
    assert run("analyze", tmp_path / "two.keras", tmp_path / "images", *given, "--output-name", "second") == 0
    expected = innvest_lite.Gradient(model, output="second").analyze(images)
    assert np.array_equal(np.load(tmp_path / "out" / "a.npy"), expected[0])
    assert run("inspect", tmp_path / "two.keras", "--output-name", "second") == 0
    assert "outputs: classes (None, 10) float32, second (None, 2) float32" in capsys.readouterr().out


def test_an_h5_model_gives_the_same(fitted, tmp_path):
    folder, images, options = fitted
    load_model().save(tmp_path / "digits.h5")
    given = ["--patterns", folder / "patterns.h5", "--out", tmp_path / "out", *options]
    assert run("analyze", tmp_path / "digits.h5", folder / "images", "--method", "pattern.net", *given) == 0
    patterns = innvest_lite.Patterns.load(folder / "patterns.h5")
    expected = innvest_lite.PatternNet(load_model(), patterns=patterns).analyze(images, batch_size=2)
    assert np.array_equal(np.load(tmp_path / "out" / "5.npy"), expected[5])


def test_same_stems_keep_apart(tmp_path):
    names = ["a/x.png", "b/x.png", "x.png", "b/c/y.bmp", "b/c/y.png", "b/c/Y.gif"]
    images = write_digits(tmp_path / "images", names)
    out = tmp_path / "new" / "out"
    assert run("analyze", MODEL, tmp_path / "images", "--method", "input", "--preprocess", "unit", "--out", out) == 0
    results = ["a/x", "b/x", "x", "b/c/y.bmp", "b/c/y.png", "b/c/Y.gif"]
    for image, result in zip(images, results, strict=True):
        assert np.load(out / f"{result}.npy") == pytest.approx(image, abs=1e-6)
        assert np.array_equal(picture(out / f"{result}.png")[..., 0], np.rint(image[..., 0] * 255))
    assert len([file for file in out.rglob("*") if file.is_file()]) == 12


def test_open_size_needs_size(tmp_path, capsys):
    layers = [keras.Input((None, None, 3)), keras.layers.Conv2D(2, 3), keras.layers.GlobalAveragePooling2D()]
    keras.Sequential([*layers, keras.layers.Dense(2)]).save(tmp_path / "open.keras")
    write_digits(tmp_path / "images", ["a.png"])
    arguments = ["analyze", tmp_path / "open.keras", tmp_path / "images", "--method", "gradient", "--out", tmp_path / "o"]
    assert "add --size HEIGHT WIDTH" in fails(capsys, *arguments)
    assert run(*arguments, "--size", 10, 14) == 0
    assert np.load(tmp_path / "o" / "a.npy").shape == (10, 14, 3)
    arguments[1] = MODEL
    assert "(10, 14), but the model takes (28, 28)" in fails(capsys, *arguments, "--size", 10, 14)


def test_values_beyond_float32_come_with_their_exponents(tmp_path, monkeypatch, capsys):
    write_digits(tmp_path / "images", ["a/x.png", "x.png"])
    analyze = Analyzer.analyze

    def scaled(self, x, **options):
        values, exponents = analyze(self, x, **options)
        return values, exponents + np.array([0, 70], "int32")

    monkeypatch.setattr(Analyzer, "analyze", scaled)
    assert run("analyze", MODEL, tmp_path / "images", "--method", "gradient", "--out", tmp_path / "out") == 0
    assert json.loads((tmp_path / "out" / "exponents.json").read_text()) == {"x": 70}
    assert "2**exponent" in capsys.readouterr().out


# --- what is wrong with images, models, options --------------------------------------------------------------------


def test_unreadable_images_are_named_and_the_rest_is_done(tmp_path, capsys):
    options = ["--preprocess", "unit", "--batch-size", 3]
    names = ["0.png", "1.png", "3.png", "5.png"]
    images = write_digits(tmp_path / "images", names)
    for name in ("2.png", "4.jpg"):
        (tmp_path / "images" / name).write_bytes(b"no image")
    assert run("fit", MODEL, tmp_path / "images", "--out", tmp_path / "p.h5", *options) == 1
    fit_errors = capsys.readouterr().err
    expected = fit_in_batches(images, 3)
    assert np.array_equal(innvest_lite.Patterns.load(tmp_path / "p.h5")["classes"], expected["classes"])
    given = ["--method", "gradient", "--out", tmp_path / "out", *options]
    assert run("analyze", MODEL, tmp_path / "images", *given) == 1
    expected = innvest_lite.Gradient(load_model()).analyze(images, batch_size=3)
    assert sorted(file.name for file in (tmp_path / "out").glob("*.npy")) == ["0.npy", "1.npy", "3.npy", "5.npy"]
    assert np.array_equal(np.load(tmp_path / "out" / "5.npy"), expected[3])
    printed = capsys.readouterr()
    assert "Wrote 4 explanations" in printed.out
    for errors in (fit_errors, printed.err):
        assert "2.png" in errors.splitlines()[0]
        assert "4.jpg" in errors.splitlines()[1]
        assert errors.splitlines()[2:] == ["innvest-lite: 2 of 6 images were skipped"]


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
    assert f"innvest-lite fit {MODEL} IMAGES" in fails(capsys, *given, "pattern.net")
    message = fails(capsys, *given, "gradient", "--patterns", folder / "patterns.h5")
    assert "'gradient' takes no patterns" in message
    (tmp_path / "broken.h5").write_bytes((folder / "patterns.h5").read_bytes()[:-9])
    assert "truncated" in fails(capsys, *given, "pattern.net", "--patterns", tmp_path / "broken.h5")
    assert "absent.h5" in fails(capsys, *given, "pattern.net", "--patterns", tmp_path / "absent.h5")
    other = load_model()
    other.get_layer("hidden").set_weights([2 * weight for weight in other.get_layer("hidden").get_weights()])
    other.save(tmp_path / "other.keras")
    given[1] = tmp_path / "other.keras"
    message = fails(capsys, *given, "pattern.net", "--patterns", folder / "patterns.h5")
    assert "hidden: fitted for other weights" in message
    assert not (tmp_path / "out").exists()


def damaged(tmp_path):
    """Model files that are none, and what the message says of each."""
    with zipfile.ZipFile(MODEL) as whole, zipfile.ZipFile(tmp_path / "cut.keras", "w") as cut:
        for name in whole.namelist():
            cut.writestr(name, whole.read(name)[: 3000 if name.endswith(".h5") else None])
    with zipfile.ZipFile(tmp_path / "empty.keras", "w") as empty:
        empty.writestr("config.json", "{}")
    (tmp_path / "half.keras").write_bytes(MODEL.read_bytes()[:9999])
    (tmp_path / "no.h5").write_bytes(b"no HDF5")
    (tmp_path / "model.pt").write_bytes(b"")
    layers = [keras.Input((8, 8, 1)), keras.layers.Lambda(lambda x: x), keras.layers.Flatten()]
    keras.Sequential(layers).save(tmp_path / "unsafe.keras")
    return {
        "absent.keras": "There is no model file",
        "cut.keras": "truncated",
        "empty.keras": "model.weights",
        "half.keras": "no .keras file, or it is truncated",
        "no.h5": "file signature not found",
        "model.pt": "should be a .keras or .h5 file",
        "unsafe.keras": "Lambda",
    }


def test_a_missing_broken_or_unsafe_model_is_one_line(tmp_path, capsys):
    for name, text in damaged(tmp_path).items():
        message = fails(capsys, "inspect", tmp_path / name)
        assert len(message.splitlines()) == 1
        assert str(tmp_path / name) in message
        assert text in message


def test_only_one_image_input(tmp_path, capsys):
    write_digits(tmp_path / "images", ["a.png"])
    both = [keras.Input((4, 4, 1), name="left"), keras.Input((4, 4, 1), name="right")]
    flat = keras.layers.Flatten()(keras.layers.Add()(both))
    keras.Model(both, keras.layers.Dense(2)(flat)).save(tmp_path / "two.keras")
    keras.Sequential([keras.Input((5,)), keras.layers.Dense(2)]).save(tmp_path / "table.keras")
    for name in ("two.keras", "table.keras"):
        message = fails(capsys, "fit", tmp_path / name, tmp_path / "images", "--out", tmp_path / "p.h5")
        assert "models with one image input" in message
    assert run("inspect", tmp_path / "two.keras") == 0


def test_results_never_replace_what_was_given(tmp_path, capsys):
    images = tmp_path / "images"
    write_digits(images, ["a.png"])
    load_model().save(tmp_path / "m.h5")
    before = (images / "a.png").read_bytes(), (tmp_path / "m.h5").read_bytes()
    analyze = ["analyze", MODEL, images, "--method", "input", "--out"]
    assert "lies in the folder of the images" in fails(capsys, *analyze, images)
    assert "lies in the folder of the images" in fails(capsys, *analyze, images / "new")
    analyze[2] = images / "a.png"
    assert "would replace the image" in fails(capsys, *analyze, images)
    assert "the model's own file" in fails(capsys, "fit", tmp_path / "m.h5", images, "--out", tmp_path / "m.h5")
    assert "there is no folder" in fails(capsys, "fit", MODEL, images, "--out", tmp_path / "absent" / "p.h5")
    assert "it is a folder" in fails(capsys, "fit", MODEL, images, "--out", tmp_path)
    assert ((images / "a.png").read_bytes(), (tmp_path / "m.h5").read_bytes()) == before
    assert list(images.iterdir()) == [images / "a.png"]


def test_missing_images_and_targets_out_of_range(fitted, tmp_path, capsys):
    folder, _, _ = fitted
    given = ["--method", "gradient", "--out", tmp_path / "out"]
    assert "No folder or file is called" in fails(capsys, "analyze", MODEL, tmp_path / "absent", *given)
    assert "Target 10 is out of range" in fails(capsys, "analyze", MODEL, folder / "images", *given, "--target", 10)


@pytest.mark.parametrize("wrong", [["--batch-size", "0"], ["--target", "-1"], ["--target", "dog"], ["--size", "2", "x"]])
def test_wrong_options_are_refused_at_once(wrong, capsys):
    with pytest.raises(SystemExit) as end:
        run("analyze", MODEL, "images", "--method", "input", *wrong)
    assert end.value.code == 2
    assert wrong[-1] in capsys.readouterr().err
