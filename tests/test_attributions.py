"""Saved attributions: what goes in comes out, NumPy reads them, damage is an error; the report and `evaluate` take them."""

import dataclasses
import io
import json
import zipfile

import keras
import numpy as np
import pytest
from command_line import MODEL, fails, run, small_model
from pictures import write_digits

import innvest_lite
from innvest_lite.answers import answers
from innvest_lite.attributions import Attributions
from innvest_lite.data import load_digits
from innvest_lite.errors import CorruptFileError, InvalidInputError
from innvest_lite.metrics import degradation

UNIT = ("--preprocess", "unit")


@pytest.fixture(scope="module")
def made():
    model, x = small_model(), load_digits()[0][:3]
    analyzer = innvest_lite.InputTimesGradient(model)
    return analyzer, x, Attributions.of(analyzer, x, [1, 2, 3], names=["a", "b/c", "\udcff"], preprocess="unit")


def test_what_is_saved_is_read_back(made, tmp_path):
    analyzer, x, found = made
    expected = analyzer.analyze(x, [1, 2, 3])
    np.testing.assert_array_equal(found.values, expected)
    assert [str(one) for one in found.answers] == [str(one) for one in answers(analyzer, x, [1, 2, 3])]
    found = dataclasses.replace(found, exponents=np.array([0, 9, -3], "int32"))
    read = Attributions.load(found.save(tmp_path / "maps.npz"))
    assert read.exponents.tolist() == [0, 9, -3]
    np.testing.assert_array_equal(read.values, expected)
    assert (read.names, read.answers, read.method) == (found.names, found.answers, "InputTimesGradient")
    assert (read.unit, read.picture, read.sign_tells) == (analyzer.unit, analyzer.picture, True)
    assert read.settings == {"model": "small", "innvest_lite": innvest_lite.__version__, "preprocess": "unit"}
    assert read.targets.tolist() == [1, 2, 3] and len(repr(read)) < 400
    with np.load(tmp_path / "maps.npz", allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["values"], expected)
        assert arrays["names"].tolist() == ["a", "b/c", "\udcff"] and arrays["classes"].tolist() == [1, 2, 3]
        np.testing.assert_array_equal(arrays["scores"], [one.score for one in found.answers])


def test_parts_and_names(made):
    _, _, found = made
    found = dataclasses.replace(found, exponents=np.array([5, 6, 7], "int32"))
    joined = Attributions.joined([found.at(["b/c"]), found.at(["a", "\udcff"])])
    assert joined.names == ("b/c", "a", "\udcff") and joined.targets.tolist() == [2, 1, 3]
    np.testing.assert_array_equal(joined.values, found.values[[1, 0, 2]])
    assert joined.exponents.tolist() == [6, 5, 7]
    without = dataclasses.replace(found, answers=(dataclasses.replace(found.answers[0], index=None), *found.answers[1:]))
    assert without.targets is None
    with pytest.raises(InvalidInputError, match=r"hold no 'z': they are of 'a', 'b/c'"):
        found.at(["z"])
    with pytest.raises(InvalidInputError, match="names that are not unique"):
        Attributions.joined([found, found]).at(["a"])
    with pytest.raises(InvalidInputError, match="a name, an answer and an exponent for each"):
        Attributions(found.values, ("a",), found.answers, "m", found.exponents)


def test_damaged_and_foreign_files(made, tmp_path):
    _, _, found = made
    whole = found.save(tmp_path / "maps.npz").read_bytes()
    for cut in (10, len(whole) // 2, len(whole) - 30):
        (tmp_path / "cut.npz").write_bytes(whole[:cut])
        with pytest.raises(CorruptFileError):
            Attributions.load(tmp_path / "cut.npz")
    np.savez(tmp_path / "other.npz", values=np.zeros(3))
    np.savez_compressed(tmp_path / "small.npz", values=np.zeros(10**6))
    about = io.BytesIO()
    np.save(about, np.array(json.dumps({"version": 99, "answers": []})))
    with zipfile.ZipFile(tmp_path / "maps.npz") as old, zipfile.ZipFile(tmp_path / "newer.npz", "w") as new:
        for name in old.namelist():
            new.writestr(name, about.getvalue() if name == "about.npy" else old.read(name))
    np.savez(tmp_path / "object.npz", **{key: np.array([{}], object) for key in ("values", "names", "about")})
    for name, message in (
        ("other", "names"),
        ("small", "is compressed, or claims more"),
        ("newer", "not what Attributions.save writes|format 99"),
        ("object", "Object arrays cannot be loaded"),
    ):
        with pytest.raises(CorruptFileError, match=message):
            Attributions.load(tmp_path / f"{name}.npz")
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<U0", "fortran_order": False, "shape": (10**7,)})
    with zipfile.ZipFile(tmp_path / "maps.npz") as old, zipfile.ZipFile(tmp_path / "bomb.npz", "w") as new:
        for name in ("values.npy", "exponents.npy", "classes.npy", "scores.npy", "about.npy"):
            new.writestr(name, old.read(name))
        new.writestr("names.npy", header.getvalue())
    assert (tmp_path / "bomb.npz").stat().st_size < 50_000
    with pytest.raises(CorruptFileError, match="claims"):
        Attributions.load(tmp_path / "bomb.npz")
    for wrong in ({"index": "q"}, {"name": 5}):
        odd = dataclasses.replace(found, answers=tuple(dataclasses.replace(one, **wrong) for one in found.answers))
        with zipfile.ZipFile(tmp_path / "maps.npz") as old, zipfile.ZipFile(tmp_path / "odd.npz", "w") as new:
            about = json.loads(str(np.load(tmp_path / "maps.npz")["about"]))
            about["answers"] = [dataclasses.asdict(one) for one in odd.answers]
            written = io.BytesIO()
            np.save(written, np.array(json.dumps(about)))
            for name in old.namelist():
                new.writestr(name, written.getvalue() if name == "about.npy" else old.read(name))
        with pytest.raises(CorruptFileError, match="of another type"):
            Attributions.load(tmp_path / "odd.npz")
    with pytest.raises(InvalidInputError, match="what JSON takes"):
        Attributions.of(made[0], made[1], odd=np.float32(1))
    with pytest.raises(InvalidInputError, match="There is no file"):
        Attributions.load(tmp_path / "absent.npz")
    with pytest.raises(InvalidInputError, match="let it end in .npz"):
        found.save(tmp_path / "maps.npy")


def test_measures_take_them_as_what_they_are(made):
    """Ranked as the analyzer itself: gradients by magnitude."""
    analyzer, x, _ = made
    gradient = innvest_lite.Gradient(analyzer.model)
    model = analyzer.model
    for one in (analyzer, gradient):
        by_analyzer = degradation(model, one, x, 7, 6)
        kept = degradation(model, Attributions.of(one, x), x, 7, 6)
        np.testing.assert_array_equal(by_analyzer.curves, kept.curves)
        assert by_analyzer.ranked_by == kept.ranked_by
    assert degradation(model, Attributions.of(gradient, x), x, 7, 6).ranked_by == "magnitude"


def test_the_command_line_writes_and_reads_them(tmp_path, capsys):
    images = write_digits(tmp_path / "images", [f"{number}.png" for number in range(6)])
    given = ("--method", "gradient", "--plain", "--batch-size", 4, "--out", tmp_path / "out", *UNIT)
    assert run("analyze", MODEL, tmp_path / "images", *given, "--save", tmp_path / "maps.npz") == 0
    read = Attributions.load(tmp_path / "maps.npz")
    np.testing.assert_array_equal(read.values[5], np.load(tmp_path / "out" / "5.gradient.npy"))
    assert read.names[5] == "5.png" and read.settings["preprocess"] == "unit" and read.method == "gradient"
    page = (
        "report",
        MODEL,
        tmp_path / "images",
        "-o",
        tmp_path / "page.html",
        "--attributions",
        tmp_path / "maps.npz",
        *UNIT,
    )
    assert run(*page) == 0
    assert "6 images, 1 methods" in capsys.readouterr().out
    assert (tmp_path / "page.html").read_text().count("heat map by gradient") == 6
    measures = ("--patch", 7, "--max-patches", 5, "--seed", 0, *UNIT)
    table = {}
    for out, options in (("kept", ("--attributions", tmp_path / "maps.npz")), ("anew", ("--methods", "gradient"))):
        assert run("evaluate", MODEL, tmp_path / "images", "--out", tmp_path / out, *measures, *options) == 0
        table[out] = (tmp_path / out / "degradation.csv").read_text()
    assert table["kept"] == table["anew"] and "gradient," in table["kept"]
    write_digits(tmp_path / "images", ["new.png"])
    message = fails(capsys, *page)
    assert "hold no 'new.png'" in message
    before = (tmp_path / "maps.npz").read_bytes()
    assert "maps.npz of an earlier run" in fails(
        capsys, "analyze", MODEL, tmp_path / "images", *given[:-3], tmp_path / "o2", *UNIT, "--save", tmp_path / "maps.npz"
    )
    assert (tmp_path / "maps.npz").read_bytes() == before and images is not None


def test_samples_of_files_too(tmp_path):
    np.save(tmp_path / "x.npy", load_digits()[0][:5])
    given = ("--method", "gradient", "--plain", "--out", tmp_path / "out", "--save", tmp_path / "maps.npz")
    assert run("analyze", MODEL, tmp_path / "x.npy", *given) == 0
    read = Attributions.load(tmp_path / "maps.npz")
    assert read.names[4] == "x.npy[4]"
    np.testing.assert_array_equal(read.values, np.load(tmp_path / "out" / "x.gradient.npy"))
    options = ("--attributions", tmp_path / "maps.npz", "--patch", 7, "--max-patches", 3, "--limit", 3)
    assert run("evaluate", MODEL, tmp_path / "x.npy", "--out", tmp_path / "measured", *options) == 0


def test_a_model_of_several_inputs_is_refused():
    both = [keras.Input((3,), name="left"), keras.Input((3,), name="right")]
    model = keras.Model(both, keras.layers.Dense(2)(keras.layers.Concatenate()(both)))
    x = [np.ones((2, 3), "float32")] * 2
    with pytest.raises(InvalidInputError, match="hold those of one input"):
        Attributions.of(innvest_lite.Gradient(model), x)
