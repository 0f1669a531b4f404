"""What `innvest-lite analyze` says was explained, in print and in files; labels, folders, tables, nothing overwritten."""

import csv
import json
import shlex
import subprocess
import sys

import keras
import numpy as np
import pytest
from command_line import MODEL, fails, run, small_model
from pictures import picture, write_digits
from PIL import Image

import innvest_lite
from innvest_lite.cli import naming, reading, spreadsheets
from innvest_lite.cli.parser import EXAMPLES, build_parser
from innvest_lite.errors import InvalidInputError

UNIT = ("--preprocess", "unit")


def rows_of(out):
    """The rows of both files, once they say the same."""
    found = json.loads((out / "explanations.json").read_text(encoding="utf-8"))
    with open(out / "explanations.csv", encoding="utf-8") as stream:
        written = list(csv.DictReader(stream))
    assert [[str("" if value is None else value) for value in row.values()] for row in found] == [
        list(row.values()) for row in written
    ]
    return found


def saved(tmp_path, *layers, shape=(28, 28, 1)):
    """A model with weights that tell inputs apart, in a file."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input(shape), *layers])
    model.save(tmp_path / "model.keras")
    return model


def test_what_was_explained_is_what_the_model_predicts(tmp_path, capsys):
    images = write_digits(tmp_path / "images", ["a.png", "b/c.png"])
    names = [f"digit {place}" for place in range(10)]
    (tmp_path / "labels.txt").write_text("\n".join(names) + "\n")
    given = ("--method", "gradient", "--labels", tmp_path / "labels.txt", "--out", tmp_path / "out", *UNIT)
    assert run("analyze", MODEL, tmp_path / "images", *given) == 0
    printed = capsys.readouterr().out
    expected = small_model().predict(images, verbose=0)
    rows = rows_of(tmp_path / "out")
    assert [row["file"] for row in rows] == ["a.png", "b/c.png"]
    for row, outputs in zip(rows, expected, strict=True):
        best = int(outputs.argmax())
        assert (row["class"], row["name"], row["unit"], row["method"]) == (best, names[best], "probability", "gradient")
        assert row["score"] == pytest.approx(float(outputs.max()), rel=1e-5)
        assert f"{names[best]} ({best})" in printed and f"probability {outputs.max():.2f}" in printed
        assert (tmp_path / "out" / row["values"]).is_file() and (tmp_path / "out" / row["picture"]).is_file()
    # A class by its name; the rows of the other run stay.
    assert (
        run("analyze", MODEL, tmp_path / "images" / "a.png", *given[:-2], "--target", "digit 7", "--overwrite", *UNIT) == 0
    )
    first, other = rows_of(tmp_path / "out")
    assert (first["class"], first["target"], other) == (7, "digit 7", rows[1])
    assert first["score"] == pytest.approx(float(expected[0, 7]), rel=1e-4)
    message = fails(capsys, "analyze", MODEL, tmp_path / "images", *given, "--target", "digit 77", "--overwrite")
    assert "Did you mean 'digit 7'" in message


HEADS = {
    "one sigmoid": (1, "sigmoid", "probability"),
    "sigmoids": (3, "sigmoid", "probability"),
    "logits": (3, None, "logit"),
    "softmax": (3, "softmax", "probability"),
}


@pytest.mark.parametrize("head", HEADS)
def test_every_head_has_classes_and_scores(tmp_path, head):
    units, activation, unit = HEADS[head]
    images = write_digits(tmp_path / "images", ["a.png", "b.png", "c.png"])
    layer = keras.layers.Dense(units, activation=activation, kernel_initializer="he_normal")
    model = saved(tmp_path, keras.layers.Flatten(), layer)
    given = ("--method", "gradient", "--plain", "--out", tmp_path / "out", *UNIT)
    assert run("analyze", tmp_path / "model.keras", tmp_path / "images", *given) == 0
    outputs = np.float64(model.predict(images, verbose=0))
    outputs = np.hstack([1 - outputs, outputs]) if units == 1 else outputs
    for row, expected in zip(rows_of(tmp_path / "out"), outputs, strict=True):
        assert (row["class"], row["unit"]) == (int(expected.argmax()), unit)
        assert row["score"] == pytest.approx(expected.max(), rel=1e-4)
        softmax = np.exp(expected.max()) / np.exp(expected).sum()
        assert row["softmax"] == (pytest.approx(softmax, rel=1e-4) if head == "logits" else None)


def test_one_number_is_of_no_class(tmp_path):
    images = write_digits(tmp_path / "images", ["a.png"])
    model = saved(tmp_path, keras.layers.Flatten(), keras.layers.Dense(1))
    given = ("--method", "gradient", "--plain", "--out", tmp_path / "out", *UNIT)
    assert run("analyze", tmp_path / "model.keras", tmp_path / "images", *given) == 0
    (row,) = rows_of(tmp_path / "out")
    assert (row["class"], row["name"], row["unit"]) == (None, "the output", "output")
    assert row["score"] == pytest.approx(model.predict(images, verbose=0).item(), rel=1e-4)


def test_folders_say_the_true_class(tmp_path, capsys):
    """In the order of their names, as Keras numbers them; a wrong prediction is named."""
    digits = innvest_lite.data.load_digits()[0]
    for name, places in (("ant", (0, 1)), ("Bee", (2, 3))):
        (tmp_path / "images" / name).mkdir(parents=True)
        for place in places:
            Image.fromarray(np.rint(digits[place, ..., 0] * 255).astype("uint8")).save(
                tmp_path / "images" / name / f"{place}.png"
            )
    model = saved(tmp_path, keras.layers.Flatten(), keras.layers.Dense(1, activation="sigmoid"))
    given = ("--method", "gradient", "--plain", "--out", tmp_path / "out", *UNIT)
    assert run("analyze", tmp_path / "model.keras", tmp_path / "images", *given) == 0
    printed = capsys.readouterr().out
    data = keras.utils.image_dataset_from_directory(tmp_path / "images", image_size=(28, 28), verbose=0)
    assert data.class_names == ["Bee", "ant"] and "0 Bee, 1 ant" in printed
    predicted = model.predict(digits[:4], verbose=0)[:, 0] > 0.5
    true = np.array([True, True, False, False])
    rows = {row["file"]: row for row in rows_of(tmp_path / "out")}
    for place, (folder, one) in enumerate((("ant", 0), ("ant", 1), ("Bee", 2), ("Bee", 3))):
        row = rows[f"{folder}/{one}.png"]
        assert row["true"] == folder and row["class"] == int(predicted[place])
    assert f"{int((predicted != true).sum())} of 4 predictions are not the class of the folder" in printed
    assert ("(true: " in printed) == bool((predicted != true).any())


def test_labels_of_every_form(tmp_path):
    (tmp_path / "lines.txt").write_text("cat\nred dog\n", encoding="utf-8-sig")
    (tmp_path / "list.json").write_text('["cat", "red dog"]')
    (tmp_path / "numbers.json").write_text('{"1": ["n02", "red dog"], "0": ["n01", "cat"]}')
    (tmp_path / "indices.json").write_text('{"red dog": 1, "cat": 0}')
    for given in (*map(str, tmp_path.iterdir()), "cat, red dog"):
        assert naming.labels(given) == ["cat", "red dog"], given
    for wrong, message in (
        ('{"0": "a", "2": "b"}', "number the classes from 0"),
        ("[", "no JSON"),
        ('"a"', "a list of names"),
    ):
        (tmp_path / "wrong.json").write_text(wrong)
        with pytest.raises(InvalidInputError, match=message):
            naming.labels(str(tmp_path / "wrong.json"))
    with pytest.raises(InvalidInputError, match="there is no such file, and names have commas"):
        naming.labels(str(tmp_path / "missing.txt"))


def test_folders_go_by_labels_where_there_are_some(tmp_path):
    write_digits(tmp_path, ["Red_Dog/a.png", "cat/b.png", "bird/c.png"])
    found = reading.found([str(tmp_path)])
    truth = naming.truth_of(found, ["cat", "red dog", "fish"], 3)
    assert {path.name: number for path, number in truth.classes.items()} == {"a.png": 1, "b.png": 0}
    assert naming.truth_of(found, None, 4) == naming.Truth({}, None), "as many folders as classes, or none is said"
    inside = reading.found([str(tmp_path / "cat")])
    assert list(naming.truth_of(inside, ["cat", "dog"], 2).classes.values()) == [0], "the folder itself is named"


def test_several_images_and_patterns(tmp_path, capsys):
    write_digits(tmp_path / "images", ["a/1.png", "a/2.png", "b/1.png", "c.bmp"])
    given = ("--method", "input", "--plain", "--out", tmp_path / "out", *UNIT)
    images = tmp_path / "images"
    assert run("analyze", MODEL, images / "a" / "1.png", images / "*" / "1.png", images / "c.bmp", *given) == 0
    assert [row["file"] for row in rows_of(tmp_path / "out")] == ["a/1.png", "b/1.png", "c.bmp"]
    assert "No file matches" in fails(capsys, "analyze", MODEL, images / "*.jpeg", *given)


def test_nothing_of_an_earlier_run_is_overwritten(tmp_path, capsys):
    write_digits(tmp_path / "images", ["a.png"])
    np.save(tmp_path / "x.npy", innvest_lite.data.load_digits()[0][:2])
    (tmp_path / "out").mkdir()
    for data in ("images", "x.npy"):
        name = "a" if data == "images" else "x"
        (tmp_path / "out" / f"{name}.gradient.npy").write_bytes(b"from before")
        given = ("analyze", MODEL, tmp_path / data, "--method", "gradient", "--plain", "--out", tmp_path / "out")
        assert f"{name}.gradient.npy of an earlier run already: add --overwrite" in fails(capsys, *given)
        assert (tmp_path / "out" / f"{name}.gradient.npy").read_bytes() == b"from before"
        assert run(*given, "--overwrite") == 0
        assert np.load(tmp_path / "out" / f"{name}.gradient.npy").ndim >= 3
    # Another method has other names.
    assert run("analyze", MODEL, tmp_path / "images", "--method", "input", "--plain", "--out", tmp_path / "out") == 0
    assert {row["method"] for row in rows_of(tmp_path / "out")} == {"gradient", "input"}


def test_a_record_that_is_not_ours_is_kept(tmp_path, capsys):
    write_digits(tmp_path / "images", ["a.png"])
    (tmp_path / "out").mkdir()
    for text in ("[1]", "{", '[{"file": "a"}]'):
        (tmp_path / "out" / "explanations.json").write_text(text)
        message = fails(capsys, "analyze", MODEL, tmp_path / "images", "--method", "input", "--out", tmp_path / "out")
        assert "is not what analyze writes" in message
        assert (tmp_path / "out" / "explanations.json").read_text() == text


def test_pictures_have_the_size_of_the_photograph(tmp_path):
    photo = np.random.default_rng(0).integers(0, 256, (90, 160, 3), dtype="uint8")
    Image.fromarray(photo).save(tmp_path / "a.png")
    given = ("analyze", MODEL, tmp_path / "a.png", "--method", "gradient", "--out")
    assert run(*given, tmp_path / "panel") == 0
    assert run(*given, tmp_path / "overlay", "--overlay", "--format", "jpg", "--colormap", "seismic") == 0
    assert run(*given, tmp_path / "plain", "--plain", "--format", "webp") == 0
    assert picture(tmp_path / "overlay" / "a.gradient.jpg").shape == (90, 160, 3)
    assert picture(tmp_path / "plain" / "a.gradient.webp").shape == (28, 28, 3)
    panel = picture(tmp_path / "panel" / "a.gradient.png")
    assert panel.shape[1] > 2 * 160 and panel.shape[0] > 90


def test_a_table(tmp_path, capsys):
    """Columns by name, bars, and the values of the Python API."""
    generator = np.random.default_rng(0)
    cells = generator.normal(size=(5, 3)).astype("float32")
    lines = [f"{row[2]!r};{number};{row[0]!r};{row[1]!r}" for number, row in enumerate(cells.tolist())]
    (tmp_path / "t.csv").write_text("\n".join(["dose;patient;age;weight", *lines]))
    model = saved(tmp_path, keras.layers.Dense(4, activation="relu"), keras.layers.Dense(2), shape=(3,))
    given = [
        "analyze",
        tmp_path / "model.keras",
        tmp_path / "t.csv",
        "--method",
        "input_t_gradient",
        "--out",
        tmp_path / "out",
    ]
    assert "gives 4 columns: dose, patient, age, weight" in fails(capsys, *given)
    assert "has no column 'aeg'. Did you mean 'age'" in fails(capsys, *given, "--columns", "aeg,weight,dose")
    assert run(*given, "--columns", "age,weight,dose", "--labels", "no,yes") == 0
    expected = innvest_lite.InputTimesGradient(model).analyze(cells)
    np.testing.assert_allclose(np.load(tmp_path / "out" / "t.input_t_gradient.npy"), expected, rtol=1e-5, atol=1e-6)
    rows = rows_of(tmp_path / "out")
    assert [row["name"] for row in rows] == [["no", "yes"][place] for place in model.predict(cells, verbose=0).argmax(1)]
    assert len(list((tmp_path / "out" / "t.input_t_gradient").glob("*.png"))) == 5
    (tmp_path / "t.csv").write_text("age,weight,dose\n1,2,x\n")
    assert "column 'dose' of row 0 holds 'x', which is no number" in fails(capsys, *given, "--overwrite")


def test_the_reference_of_a_table_is_its_mean(tmp_path, capsys):
    cells = np.random.default_rng(0).normal(5, 2, size=(6, 3)).astype("float32")
    (tmp_path / "t.csv").write_text("\n".join(["a,b,c", *(",".join(map(repr, row)) for row in cells.tolist())]))
    model = saved(tmp_path, keras.layers.Dense(4, activation="relu"), keras.layers.Dense(2), shape=(3,))
    given = ("analyze", tmp_path / "model.keras", tmp_path / "t.csv", "--method", "integrated_gradients", "--plain")
    logits, predicted = model.predict(cells, verbose=0), model.predict(cells, verbose=0).argmax(1)
    for out, options, reference in (("mean", (), cells.mean(0)), ("zero", ("--option", "reference_inputs=0"), np.zeros(3))):
        assert run(*given, "--out", tmp_path / out, *options) == 0
        assert ("mean of each column" in capsys.readouterr().out) == (out == "mean")
        there = model.predict(reference[None], verbose=0)[0]
        gained = np.load(tmp_path / out / "t.integrated_gradients.npy").sum(1)
        np.testing.assert_allclose(gained, logits[np.arange(6), predicted] - there[predicted], rtol=0.05, atol=0.05)


def test_a_table_for_inputs_that_are_named(tmp_path):
    """Each input takes the column of its name, texts too."""
    age, sex = keras.Input((1,), name="age"), keras.Input((1,), name="sex", dtype="string")
    lookup = keras.layers.StringLookup(vocabulary=["f", "m"], output_mode="one_hot", num_oov_indices=0)
    x = keras.layers.Concatenate()([age, lookup(sex)])
    model = keras.Model({"age": age, "sex": sex}, keras.layers.Dense(1, kernel_initializer="ones")(x))
    model.save(tmp_path / "m.keras")
    (tmp_path / "t.csv").write_text("sex,name,age\nf,Ada,36\nm,Bob,4\n")
    given = ("--method", "input_t_gradient", "--out", tmp_path / "out")
    assert run("analyze", tmp_path / "m.keras", tmp_path / "t.csv", *given) == 0
    values = np.load(tmp_path / "out" / "t.input_t_gradient.npy")
    assert values.shape == (2, 2) and sorted(values[0]) == [0, 36] and sorted(values[1]) == [0, 4]


def test_series_and_tokens_are_drawn(tmp_path):
    np.save(tmp_path / "s.npy", np.random.default_rng(0).normal(size=(3, 12, 2)).astype("float32"))
    saved(
        tmp_path, keras.layers.Conv1D(3, 3, activation="relu"), keras.layers.Flatten(), keras.layers.Dense(2), shape=(12, 2)
    )
    given = ("--method", "gradient", "--out", tmp_path / "out")
    assert run("analyze", tmp_path / "model.keras", tmp_path / "s.npy", *given) == 0
    assert len(list((tmp_path / "out" / "s.gradient").glob("*.png"))) == 3
    np.save(tmp_path / "t.npy", np.random.default_rng(0).integers(0, 9, (2, 5)))
    saved(tmp_path, keras.layers.Embedding(9, 4), keras.layers.Flatten(), keras.layers.Dense(2), shape=(5,))
    assert run("analyze", tmp_path / "model.keras", tmp_path / "t.npy", *given[:-1], tmp_path / "tokens") == 0
    assert (tmp_path / "tokens" / "t.gradient" / "000.html").read_text().count("<span") == 5


def test_composites_by_name(tmp_path, capsys):
    images = write_digits(tmp_path / "images", ["a.png"])
    given = ("analyze", MODEL, tmp_path / "images", "--plain", "--out", tmp_path / "out", *UNIT)
    assert run(*given, "--composite", "alpha2_beta1") == 0
    expected = innvest_lite.create_analyzer("lrp", small_model(), rule="alpha2_beta1").analyze(images)
    np.testing.assert_allclose(np.load(tmp_path / "out" / "a.lrp.alpha2_beta1.npy"), expected[0], rtol=1e-4, atol=1e-6)
    capsys.readouterr()
    assert run(*given) == 0
    assert "The method is lrp.epsilon_plus_flat" in capsys.readouterr().out
    expected = innvest_lite.create_analyzer("lrp.epsilon_plus_flat", small_model()).analyze(images)
    np.testing.assert_allclose(np.load(tmp_path / "out" / "a.lrp.epsilon_plus_flat.npy"), expected[0], rtol=1e-4, atol=1e-6)
    assert "--composite is for LRP" in fails(capsys, *given, "--composite", "epsilon", "--method", "gradient")


def test_modules_are_imported_first(tmp_path, capsys, monkeypatch):
    """By name, from the folder one is in; what they register, Keras then knows."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    code = "import keras\n\n@keras.saving.register_keras_serializable('imported')\nclass Tripled(keras.layers.Layer):\n"
    (tmp_path / "tripling_layers.py").write_text(f"{code}    def call(self, x):\n        return 3 * x\n")
    names: dict = {"__name__": "tripling_layers"}
    exec(compile((tmp_path / "tripling_layers.py").read_text(), "tripling_layers.py", "exec"), names)
    keras.Sequential([keras.Input((28, 28, 1)), names["Tripled"](), keras.layers.Flatten(), keras.layers.Dense(2)]).save(
        "m.keras"
    )
    keras.saving.get_custom_objects().pop("imported>Tripled")
    write_digits(tmp_path / "images", ["a.png"])
    given = ("analyze", "m.keras", "images", "--method", "gradient", "--plain", "--out", "out")
    assert "Keras cannot load the model" in fails(capsys, *given)
    try:
        assert run(*given, "--import", "tripling_layers.py") == 0
    finally:
        keras.saving.get_custom_objects().pop("imported>Tripled", None)
        sys.modules.pop("tripling_layers", None)
    assert "--import no_such_module" in fails(capsys, *given, "--import", "no_such_module")


@pytest.mark.slow
def test_layers_of_ones_own(tmp_path):
    code = "import keras\n\n@keras.saving.register_keras_serializable('own')\nclass Doubled(keras.layers.Layer):\n"
    (tmp_path / "own_layers.py").write_text(f"{code}    def call(self, x):\n        return 2 * x\n")
    program = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import keras, own_layers\n"
    program += "keras.Sequential([keras.Input((28, 28, 1)), own_layers.Doubled(), keras.layers.Flatten(), "
    program += f"keras.layers.Dense(2)]).save({str(tmp_path / 'own.keras')!r})"
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    write_digits(tmp_path / "images", ["a.png"])
    given = ["-m", "innvest_lite", "analyze", "own.keras", "images", "--method", "gradient", "--out", "out"]
    environment = {"cwd": tmp_path, "capture_output": True, "text": True}
    ended = subprocess.run([sys.executable, *given, "--import", "own_layers"], **environment)
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert (tmp_path / "out" / "a.gradient.npy").is_file()


@pytest.mark.parametrize("command", EXAMPLES)
def test_examples_of_help_are_commands(command, capsys):
    with pytest.raises(SystemExit) as ended:
        run(command, "--help")
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    for example in EXAMPLES[command]:
        assert f"innvest-lite {example}\n" in shown
        assert build_parser().parse_args(shlex.split(example)).command == command


def test_bounds_are_those_of_the_preprocessor(tmp_path, caplog):
    """Of all values that a pixel may have, by channel; what is said is kept."""
    rgb = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype="uint8")
    Image.fromarray(rgb).save(tmp_path / "a.png")
    model = saved(
        tmp_path,
        keras.layers.Conv2D(4, 3, activation="relu"),
        keras.layers.Flatten(),
        keras.layers.Dense(3),
        shape=(8, 8, 3),
    )
    given = ("analyze", tmp_path / "model.keras", tmp_path / "a.png", "--method", "deep_taylor.bounded", "--plain", "--out")
    x = keras.applications.vgg16.preprocess_input(rgb[None].astype("float32"))
    means = np.array([103.939, 116.779, 123.68])
    for out, options, low, high in (
        ("own", (), (-means).tolist(), (255 - means).tolist()),
        ("said", ("--option", "low=-200", "--option", "high=200"), -200.0, 200.0),
    ):
        assert run(*given, tmp_path / out, "--preprocess", "vgg16", *options) == 0
        expected = innvest_lite.create_analyzer("deep_taylor.bounded", model, low=low, high=high).analyze(x)[0]
        np.testing.assert_allclose(np.load(tmp_path / out / "a.deep_taylor.bounded.npy"), expected, rtol=1e-4, atol=1e-6)
    assert "outside of the bounds" not in caplog.text


def test_a_true_class_is_never_a_namesake(tmp_path):
    """Labels that differ in case alone, that are there twice; folders that are parts of the data."""
    write_digits(tmp_path / "case", ["A/1.png", "a/2.png", "b/3.png"])
    truth = naming.truth_of(reading.found([str(tmp_path / "case")]), ["A", "a", "b"], 3)
    assert {path.parent.name: number for path, number in truth.classes.items()} == {"A": 0, "a": 1, "b": 2}
    write_digits(tmp_path / "twice", ["crane/1.png", "b/2.png"])
    truth = naming.truth_of(reading.found([str(tmp_path / "twice")]), ["crane", "crane", "b"], 3)
    assert {path.parent.name: number for path, number in truth.classes.items()} == {"b": 2}
    write_digits(tmp_path / "parts", ["train/1.png", "test/2.png"])
    assert naming.truth_of(reading.found([str(tmp_path / "parts")]), None, 2) == naming.Truth({}, None)
    write_digits(tmp_path / "others", ["x/1.png", "y/2.png"])
    assert (
        "No folder has the name of a label"
        in naming.truth_of(reading.found([str(tmp_path / "others")]), ["a", "b"], 2).said
    )
    (tmp_path / "indices.json").write_text('{"0": 0, "1": 1, "10": 2, "2": 3}')
    assert naming.labels(str(tmp_path / "indices.json")) == ["0", "1", "10", "2"]
    with pytest.raises(InvalidInputError, match="there is no such file"):
        naming.labels("labels,v2.txt")


def test_targets_that_may_be_two_classes(tmp_path, capsys):
    write_digits(tmp_path / "images", ["a.png"])
    given = ("analyze", MODEL, tmp_path / "images", "--method", "gradient", "--plain", "--out", tmp_path / "out", *UNIT)
    numbers = ",".join(str(9 - place) for place in range(10))
    assert "--target 2 may be the class of this number or one of 7" in fails(
        capsys, *given, "--labels", numbers, "--target", 2
    )
    twice = ",".join(["crane", "crane", *map(str, range(8))])
    assert "--target crane may be" in fails(capsys, *given, "--labels", twice, "--target", "crane")
    assert "the model has 10" in fails(capsys, *given, "--labels", "a,b")
    assert not (tmp_path / "out").exists()


def test_links_out_of_several_folders(tmp_path):
    write_digits(tmp_path, ["a/1.png", "b/2.png", "elsewhere/3.png"])
    (tmp_path / "a" / "link.png").symlink_to(tmp_path / "elsewhere" / "3.png")
    found = reading.found([str(tmp_path / "a"), str(tmp_path / "b")])
    assert sorted(map(found.name, found.paths)) == ["a/1.png", "a/link.png", "b/2.png"]


def test_whole_numbers_of_a_table_stay_whole(tmp_path, capsys):
    identity = keras.Input((1,), name="id", dtype="int64")
    age = keras.Input((1,), name="age")
    table = keras.layers.Embedding(3, 2)(keras.ops.mod(identity, 3))
    model = keras.Model({"id": identity, "age": age}, keras.layers.Dense(1)(keras.layers.Flatten()(table) + age))
    (tmp_path / "t.csv").write_text("id,age\n16777217,1.5\n")
    found, _ = spreadsheets.inputs_of(spreadsheets.read(str(tmp_path / "t.csv")), model, None)
    assert found["id"].tolist() == [[16777217]] and found["id"].dtype == np.int64 and found["age"].tolist() == [[1.5]]
    for cell in ("7.9", "1e30", "99999999999999999999"):
        (tmp_path / "t.csv").write_text(f"id,age\n{cell},1\n")
        with pytest.raises(InvalidInputError, match=f"holds '{cell}', which is no number"):
            spreadsheets.inputs_of(spreadsheets.read(str(tmp_path / "t.csv")), model, None)


def test_many_labels_at_once_are_judged_one_by_one(tmp_path, capsys):
    """As the report does: a true class is found where its own probability says so, whatever the others."""
    images = write_digits(tmp_path / "images", ["a/1.png", "b/2.png", "c/3.png"])
    model = saved(tmp_path, keras.layers.Flatten(), keras.layers.Dense(3, activation="sigmoid"))
    model.layers[-1].set_weights([np.zeros((784, 3)), np.array([3.0, 1.0, -2.0])])
    model.save(tmp_path / "model.keras")
    given = ("--method", "gradient", "--plain", "--out", tmp_path / "out", *UNIT)
    assert run("analyze", tmp_path / "model.keras", tmp_path / "images", *given) == 0
    assert [row["correct"] for row in rows_of(tmp_path / "out")] == [True, True, False]
    assert "1 of 3 predictions are not" in capsys.readouterr().out and len(images) == 3


def test_a_method_of_texts_goes_without_being_named(tmp_path, capsys):
    reader = keras.layers.TextVectorization(output_sequence_length=4, vocabulary=["good", "bad", "film"])
    stack = [keras.Input((), dtype="string"), reader, keras.layers.Embedding(8, 3), keras.layers.GlobalAveragePooling1D()]
    keras.Sequential([*stack, keras.layers.Dense(1, activation="sigmoid")]).save(tmp_path / "m.keras")
    (tmp_path / "said.txt").write_text("good film\nbad film\n")
    options = ("--labels", "no,yes", "--target", "yes", "--out", tmp_path / "out")
    assert run("analyze", tmp_path / "m.keras", tmp_path / "said.txt", *options) == 0
    assert {row["name"] for row in rows_of(tmp_path / "out")} == {"yes"}
    assert "yes (1), probability" in (tmp_path / "out" / "said.integrated_gradients.html").read_text()
    assert run("fit", tmp_path / "m.keras", tmp_path / "said.txt", "--out", tmp_path / "p.h5") == 0
    part = ("--out", tmp_path / "part.h5", "--shard", "1/2", "--batch-size", 1)
    assert run("fit", tmp_path / "m.keras", tmp_path / "said.txt", *part) == 0
    assert innvest_lite.PatternStatistics.load(tmp_path / "part.h5").samples == 1, "no option is ignored"
    pattern = ("--method", "pattern.attribution", "--patterns", tmp_path / "p.h5", "--out", tmp_path / "out")
    assert run("analyze", tmp_path / "m.keras", tmp_path / "said.txt", *pattern) == 0
    assert "No folder or file is called" in fails(capsys, "analyze", tmp_path / "m.keras", tmp_path / "absent.csv")


def test_what_is_absent_of_a_table_is_said_by_export_too(tmp_path, capsys):
    saved(tmp_path, keras.layers.Dense(2), shape=(3,))
    given = ("export", tmp_path / "model.keras", "--method", "integrated_gradients", "--out")
    assert run(*given, tmp_path / "one") == 0
    assert "takes for absent is 0 in each column" in capsys.readouterr().out
    assert run(*given, tmp_path / "two", "--option", "reference_inputs=1,2,3") == 0
    assert "takes for absent" not in capsys.readouterr().out


def test_grad_cam_of_a_table_leads_nowhere_else(tmp_path, capsys):
    saved(tmp_path, keras.layers.Dense(4), keras.layers.Dense(2), shape=(3,))
    (tmp_path / "t.csv").write_text("a,b,c\n1,2,3\n")
    message = fails(capsys, "analyze", tmp_path / "model.keras", tmp_path / "t.csv", "--method", "gradcam")
    assert "No layer has feature maps" in message and "layer=" not in message
