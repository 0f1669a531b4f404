"""The command line, in this process: help, methods, inspect, and models and options that are refused."""

import subprocess
import sys
import zipfile

import keras
import pytest
from command_line import MODEL, fails, run, small_model
from pictures import write_digits

import innvest_lite
from innvest_lite.analyzers.registry import OF_ATTENTION

# --- help, methods, inspect ----------------------------------------------------------------------------------------


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
    assert str(innvest_lite.PatternAttribution(small_model()).plan()) in text


def test_inspect_all_and_one(capsys):
    assert run("inspect", MODEL, "--all") == 0
    lines = capsys.readouterr().out.splitlines()
    rows = dict(line.split(maxsplit=1) for line in lines if line.split()[:1] and line.split()[0] in innvest_lite.ANALYZERS)
    stops = {name: where for name, where in rows.items() if where != "yes"}
    # It has no attention.
    assert list(rows) == list(innvest_lite.ANALYZERS) and set(stops) == set(OF_ATTENTION)
    assert all("finds no self-attention" in where for where in stops.values())
    assert run("inspect", MODEL, "--method", "deconvnet") == 0
    assert "\ndeconvnet\n" in capsys.readouterr().out


def test_inspect_lists_all_that_is_unsupported(tmp_path, capsys):
    inputs = keras.Input((8, 8, 1))
    # Along another axis than the last, their groups are not known.
    x = keras.layers.GroupNormalization(2, axis=1, name="norm_a")(keras.layers.Conv2D(2, 3)(inputs))
    outputs = keras.layers.Dense(2)(keras.layers.Flatten()(keras.layers.GroupNormalization(2, axis=1, name="norm_b")(x)))
    keras.Model(inputs, outputs).save(tmp_path / "model.keras")
    with pytest.raises(innvest_lite.UnsupportedLayerError, match="norm_a, norm_b") as coverage:
        innvest_lite.PatternAttribution(keras.Model(inputs, outputs))
    assert run("inspect", tmp_path / "model.keras") == 1
    printed = capsys.readouterr()
    assert str(coverage.value) in printed.out
    assert printed.err == ""
    assert run("inspect", tmp_path / "model.keras", "--all") == 1
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line}
    assert lines["pattern.net"].endswith("no: GroupNormalization (norm_a and 1 more)") and lines["gradient"].endswith("yes")
    # A line a method, and no node twice.
    assert len(lines) < len(innvest_lite.ANALYZERS) + 10
    with pytest.warns(UserWarning, match="not yet been built"):
        keras.Sequential([keras.layers.Dense(2)]).save(tmp_path / "unbuilt.keras")
    capsys.readouterr()
    assert run("inspect", tmp_path / "unbuilt.keras", "--all") == 1
    assert capsys.readouterr().out.count("has no graph yet") == 1


# --- models and options that are refused ----------------------------------------------------------------------------


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
        "half.keras": "not a .keras file, or it is truncated",
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


@pytest.mark.parametrize(
    "wrong", [["--batch-size", "0"], ["--format", "gif"], ["--overlay", "--plain"], ["--size", "2", "x"]]
)
def test_wrong_options_are_refused_at_once(wrong, capsys):
    with pytest.raises(SystemExit) as end:
        run("analyze", MODEL, "images", "--method", "input", *wrong)
    assert end.value.code == 2
    assert wrong[-1] in capsys.readouterr().err
