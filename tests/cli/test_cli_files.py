"""Commands and files: what is read is never replaced, results know their exponents, full disks and damaged arrays are said.

The oracles are hashes of what was read, files read by NumPy and json alone, and limits of the system in another process.
"""

import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
from command_line import MODEL, fails, run, small_model
from pictures import write_digits

import innvest_lite
from innvest_lite.analyzers.base import Analyzer
from innvest_lite.cli import arrays
from innvest_lite.data import load_digits
from innvest_lite.files import check_none_among, check_not_inside, replacing, replacing_folder

COMMAND = "import sys; from innvest_lite.cli import main; sys.exit(main(sys.argv[1:]))"


def hashes(folder):
    """What stands in a folder: path -> hash of its bytes, through links."""
    files = [path for path in sorted(pathlib.Path(folder).rglob("*")) if path.is_file()]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


# --- what is read is never replaced ----------------------------------------------------------------------------------


@pytest.fixture
def given(tmp_path, monkeypatch):
    """A folder with a model, an array, images and labels, in which the commands run."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(MODEL, "m.keras")
    np.save("data.npy", load_digits()[0][:4])
    np.save("masks.npy", load_digits()[0][:4, ..., 0] > 0.5)
    np.save("signal.npy", load_digits()[0][:4])
    write_digits(tmp_path / "images", ["a.png", "b.png"])
    (tmp_path / "labels.txt").write_text("\n".join("0123456789"))
    (tmp_path / "served").mkdir()
    shutil.copy(MODEL, "served/inside.keras")
    return tmp_path


def link(kind, name, target):
    """Another name for a file: a link of one kind, or one way to spell the same path."""
    pathlib.Path(name).parent.mkdir(exist_ok=True)
    if kind == "symlink":
        os.symlink(os.path.abspath(target), name)
    elif kind == "hard link":
        os.link(target, name)
    elif kind == "link to a link":
        os.symlink(os.path.abspath(target), f"{name}.first")
        os.symlink(os.path.abspath(f"{name}.first"), name)
    return name


SPELLINGS = {"itself": "{}", "dots": "images/../{}", "absolute": None, "symlink": 0, "hard link": 0, "link to a link": 0}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("read", ["data.npy", "m.keras", "images/a.png"])
def test_fit_keeps_what_it_reads(given, capsys, read, spelling):
    form = SPELLINGS[spelling]
    out = link(spelling, "out.h5", read) if form == 0 else form.format(read) if form else os.path.abspath(read)
    before = hashes(given)
    data = "images" if read.startswith("images") else "data.npy"
    assert "would be replaced" in fails(capsys, "fit", "m.keras", data, "--out", out)
    assert "would be replaced" in fails(capsys, "fit", "m.keras", data, "--out", "p.h5", "--checkpoint", out)
    assert hashes(given) == before


def results_of(given):
    """Where each command writes -> the command, which would write there, and what it reads."""
    analyze = ("analyze", "m.keras", "images", "--method", "input", "--out", "out")
    array = ("analyze", "m.keras", "data.npy", "--method", "input", "--out", "out")
    page = ("report", "m.keras", "images", "--methods", "gradient", "--labels", "labels.txt", "-o", "page.html")
    evaluate = ("evaluate", "m.keras", "data.npy", "--out", "out")
    truth = (*evaluate, "--truth", "masks.npy", "--truth-signal", "signal.npy")
    export = ("export", "m.keras", "--method", "gradient", "--out", "x.tflite")
    return {
        "out/a.input.npy": (analyze, ("images/b.png", "m.keras")),
        "out/b.input.png": (analyze, ("images/b.png", "images/a.png")),
        "out/explanations.csv": (analyze, ("images/a.png", "m.keras")),
        "out/explanations.json": (array, ("data.npy", "m.keras")),
        "out/exponents.json": (array, ("data.npy", "m.keras")),
        "out/data.input.npy": (array, ("data.npy", "m.keras")),
        "page.html": (page, ("images/a.png", "labels.txt", "m.keras")),
        "out/degradation.csv": (evaluate, ("data.npy", "m.keras")),
        "out/ground_truth.csv": (truth, ("masks.npy", "signal.npy", "data.npy")),
        "x.tflite": (export, ("m.keras",)),
    }


@pytest.mark.parametrize("kind", ["symlink", "hard link"])
def test_results_through_links_replace_nothing(given, capsys, kind):
    for place, (command, kept) in results_of(given).items():
        for read in kept:
            link(kind, place, read)
            before = hashes(given)
            message = fails(capsys, *command)
            assert "would be replaced" in message or "is not what analyze writes" in message, place
            assert hashes(given) == before, place
            pathlib.Path(place).unlink()


def test_a_folder_that_holds_the_model_is_not_replaced(given, capsys):
    before = hashes(given)
    innvest_lite.Gradient(small_model()).export(given / "explainer")
    shutil.copy(MODEL, given / "explainer" / "m.keras")
    os.symlink(given / "explainer", given / "link")
    for out in ("explainer", "link", "./images/../explainer"):
        message = fails(capsys, "export", given / "explainer" / "m.keras", "--method", "gradient", "--out", out)
        assert "is a folder that holds the model's own file" in message
    assert {path: found for path, found in hashes(given).items() if path in before} == before


def test_merge_keeps_its_parts(given, capsys):
    for part in ("1/2", "2/2"):
        options = ("--shard", part, "--batch-size", 2, "--out", f"part-{part[0]}.h5")
        assert run("fit", "m.keras", "data.npy", *options) == 0
    os.symlink(given / "part-1.h5", "link.h5")
    os.link("part-2.h5", "hard.h5")
    before = hashes(given)
    for out in ("part-2.h5", "link.h5", "hard.h5"):
        assert "one of the parts" in fails(capsys, "merge", "part-1.h5", "part-2.h5", "-o", out)
    assert hashes(given) == before


def test_what_is_not_there_replaces_nothing(tmp_path):
    (tmp_path / "kept").write_text("")
    check_none_among([tmp_path / "new", tmp_path / "other"], {"it": [tmp_path / "kept", tmp_path / "absent"]})
    check_not_inside(tmp_path / "new", {"it": tmp_path / "kept"})
    with pytest.raises(innvest_lite.InvalidInputError, match="new is it, which would be replaced"):
        os.link(tmp_path / "kept", tmp_path / "new")
        check_none_among([tmp_path / "other", tmp_path / "new"], {"it": [tmp_path / "kept"]})


# --- exponents belong to their results ---------------------------------------------------------------------------------


@pytest.fixture
def scaled(monkeypatch):
    """A function that sets which of all explanations, in their order, are divided by which power of two."""
    analyze, powers = Analyzer.analyze, []

    def with_powers(self, x, **options):
        values, exponents = analyze(self, x, **options)
        taken = [powers.pop(0) if powers else 0 for _ in exponents]
        return values, np.array(taken, "int32")

    monkeypatch.setattr(Analyzer, "analyze", with_powers)
    return lambda new: powers.__setitem__(slice(None), new)


def exponents(out):
    path = pathlib.Path(out) / "exponents.json"
    found = json.loads(path.read_text()) if path.exists() else None
    return found and {name.removesuffix(".input"): power for name, power in found.items()}


def explain(data, out):
    options = ("--method", "input", "--out", out, "--batch-size", 2, "--overwrite", "--plain")
    assert run("analyze", MODEL, data, *options) == 0


@pytest.fixture
def two(tmp_path):
    write_digits(tmp_path / "one", ["x.png", "y.png", "z.png"])
    write_digits(tmp_path / "two", ["y.png", "w.png"])
    for name in ("a", "b"):
        np.save(tmp_path / f"{name}.npy", load_digits()[0][:3])
    return tmp_path


def test_exponents_of_another_input_stay(two, scaled):
    scaled([70, 71, 72])
    explain(two / "one", two / "out")
    assert exponents(two / "out") == {"x": 70, "y": 71, "z": 72}
    scaled([5, 0])
    explain(two / "two", two / "out")
    assert exponents(two / "out") == {"x": 70, "w": 5, "z": 72}, "y was written anew, and is in range"
    scaled([0, 0, 9])
    explain(two / "a.npy", two / "out")
    scaled([3, 4, 0])
    explain(two / "b.npy", two / "out")
    assert exponents(two / "out") == {"x": 70, "w": 5, "z": 72, "a": {"2": 9}, "b": {"0": 3, "1": 4}}
    assert not [path for path in (two / "out").iterdir() if path.name.startswith(".")]


def test_nothing_stale_remains(two, scaled):
    scaled([70, 0, 0])
    explain(two / "one", two / "out")
    explain(two / "one", two / "out")
    assert exponents(two / "out") is None
    scaled([1])
    explain(two / "a.npy", two / "out")
    explain(two / "a.npy", two / "out")
    assert exponents(two / "out") is None


def test_exponents_are_not_written_through_links(two, scaled):
    (two / "out").mkdir()
    (two / "precious.json").write_text('{"other": 1}')
    os.symlink(two / "precious.json", two / "out" / "exponents.json")
    scaled([70])
    explain(two / "one", two / "out")
    assert (two / "precious.json").read_text() == '{"other": 1}'
    assert not (two / "out" / "exponents.json").is_symlink()
    assert exponents(two / "out")["x"] == 70


@pytest.mark.parametrize("text", ["[1]", '{"x": "7"}', "no JSON", "[" * 100_000, '{"x": {"0": null}}'], ids=lambda t: t[:9])
def test_a_file_of_that_name_that_is_not_ours_is_kept(two, capsys, text):
    (two / "out").mkdir()
    (two / "out" / "exponents.json").write_text(text)
    for data in (two / "one", two / "a.npy"):
        message = fails(capsys, "analyze", MODEL, data, "--method", "input", "--out", two / "out")
        assert "is not what analyze writes" in message
    assert (two / "out" / "exponents.json").read_text() == text and len(list((two / "out").iterdir())) == 1


def test_no_result_ever_stands_beside_the_exponent_of_another(two, scaled, monkeypatch):
    """The process ends at each moment in turn; what is on the disk then is right, or missing."""
    scaled([70, 71, 72])
    explain(two / "one", two / "out")
    before = {name: np.load(two / "out" / f"{name}.input.npy") for name in "xyz"}
    real, moments = os.replace, []

    class LostError(Exception):
        pass

    for lost in range(8):
        shutil.copytree(two / "out", two / f"out-{lost}")
        moments.clear()

        def replace(source, target, lost=lost):
            moments.append(target)
            if len(moments) > lost:
                raise LostError
            real(source, target)

        monkeypatch.setattr(os, "replace", replace)
        with pytest.raises(LostError):
            scaled([1, 0, 3])
            explain(two / "one", two / f"out-{lost}")
        monkeypatch.setattr(os, "replace", real)
        now = exponents(two / f"out-{lost}") or {}
        for name, old, new in zip("xyz", (70, 71, 72), (1, 0, 3), strict=True):
            path = two / f"out-{lost}" / f"{name}.input.npy"
            if path.exists():
                # The values are the same in both runs: which of the exponents is right is told by the time of writing.
                is_new = path.stat().st_mtime_ns != (two / "out" / f"{name}.input.npy").stat().st_mtime_ns
                assert now.get(name, 0) == (new if is_new else old), (lost, name)
                np.testing.assert_array_equal(np.load(path), before[name])


# --- full disks ------------------------------------------------------------------------------------------------------

LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), int(sys.argv[1])))
from innvest_lite.cli import main
sys.exit(main(sys.argv[2:]))
"""


def limited(size, *arguments):
    """A command in a process that may write files of so many bytes at most."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", LIMITED, str(size), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)


@pytest.mark.slow
def test_no_room_for_an_array_is_an_error_and_not_a_signal(tmp_path):
    """28 x 28 x 4 bytes for each of 64 samples do not fit in 100,000 bytes."""
    np.save(tmp_path / "x.npy", load_digits()[0][:64].astype("float16"))
    done = limited(100_000, "analyze", MODEL, tmp_path / "x.npy", "--method", "input", "--out", tmp_path / "out")
    assert done.returncode == 2, (done.returncode, done.stderr)
    assert "innvest-lite: error: [Errno 27] File too large" in done.stderr and "Traceback" not in done.stderr
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.slow
def test_no_room_for_patterns_checkpoints_and_pictures(tmp_path):
    np.save(tmp_path / "x.npy", load_digits()[0][:64].astype("float16"))
    write_digits(tmp_path / "images", ["a.png"])
    commands = [
        ("fit", MODEL, tmp_path / "x.npy", "--out", tmp_path / "out" / "p.h5"),
        ("fit", MODEL, tmp_path / "x.npy", "--out", tmp_path / "out" / "p.h5", "--checkpoint", tmp_path / "out" / "c.h5"),
        ("analyze", MODEL, tmp_path / "images", "--method", "input", "--out", tmp_path / "out"),
        ("report", MODEL, tmp_path / "images", "--methods", "gradient", "-o", tmp_path / "out" / "page.html"),
    ]
    (tmp_path / "out").mkdir()
    for command in commands:
        done = limited(2000, *command)
        assert (done.returncode, "Traceback" in done.stderr) == (2, False), (command, done.returncode, done.stderr)
        assert "innvest-lite: error: " in done.stderr
        assert list((tmp_path / "out").iterdir()) == [], command


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounting needs root")
def test_a_disk_that_is_full(tmp_path):
    (tmp_path / "disk").mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(tmp_path / "disk")])
    if mounted.returncode:
        pytest.skip("no tmpfs may be mounted here")
    try:
        np.save(tmp_path / "x.npy", load_digits()[0][:64].astype("float16"))
        command = ("analyze", MODEL, tmp_path / "x.npy", "--method", "input", "--out", tmp_path / "disk")
        done = limited(2**30, *command)
        assert done.returncode == 2 and "No space left on device" in done.stderr and "Traceback" not in done.stderr
        (tmp_path / "disk" / "filler").write_bytes(bytes(120_000))
        write_digits(tmp_path / "images", ["a.png"])
        commands = [
            ("fit", MODEL, tmp_path / "x.npy", "--shard", "1/1", "--out", tmp_path / "disk" / "p.h5"),
            ("export", MODEL, "--method", "gradient", "--out", tmp_path / "disk" / "served"),
            ("report", MODEL, tmp_path / "images", "--methods", "gradient", "-o", tmp_path / "disk" / "page.html"),
        ]
        for command in commands:
            done = limited(2**30, *command)
            assert (done.returncode, "Traceback" in done.stderr) == (2, False), (command, done.returncode, done.stderr)
            assert [path.name for path in (tmp_path / "disk").iterdir()] == ["filler"], command
    finally:
        subprocess.run(["umount", str(tmp_path / "disk")], check=True)


def test_room_is_asked_for_before_the_work(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(os, "posix_fallocate", lambda file, start, size: asked.append((start, size)), raising=False)
    values = np.arange(24, dtype="float32").reshape(4, 6)
    with arrays.Writer(tmp_path / "a.npy", 4) as written:
        written.add(values[:3])
        assert asked == [(0, 128 + 4 * 6 * 4)], "a header of 128 bytes, and the values"
        written.add(values[3:])
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy", mmap_mode="r"), values)
    assert len(asked) == 1


# --- damaged arrays --------------------------------------------------------------------------------------------------


def npy(header, body=b"", version=b"\x01\x00"):
    """A .npy file of any header."""
    text = header.encode("latin1")
    return b"\x93NUMPY" + version + len(text).to_bytes(2 if version[0] == 1 else 4, "little") + text + body


def of(descr, shape, order="False"):
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n"


DAMAGED = {
    "empty": b"",
    "magic alone": b"\x93NUMPY",
    "unknown version": npy(of("'<f4'", "(1, 28, 28, 1)"), version=b"\x09\x00"),
    "terabytes": npy(of("'<f4'", "(10000000000, 28, 28, 1)"), bytes(40)),
    "more than any size": npy(of("'<f4'", f"({10**30}, 28, 28, 1)"), bytes(40)),
    "product overflows": npy(of("'<f4'", f"({2**62}, {2**62}, 28, 1)"), bytes(40)),
    "negative": npy(of("'<f4'", "(-1, 28, 28, 1)"), bytes(40)),
    "many of nothing": npy(of("'<f4'", f"({10**15}, 28, 0, 1)")),
    "many of no bytes": npy(of("'<U0'", f"({10**15}, 28, 28, 1)")),
    "many void": npy(of("'|V0'", f"({10**15}, 28, 28, 1)")),
    "records": npy(of("[('a', '<f4')]", "(1, 28, 28, 1)"), bytes(4 * 784)),
    "unknown type": npy(of("'no type'", "(1, 28, 28, 1)"), bytes(40)),
    "type of types": npy(of("(((('<f4',),),),)", "(1, 28, 28, 1)"), bytes(40)),
    "objects": npy(of("'|O'", "(1, 28, 28, 1)"), b"cos\nsystem\n(S'touch ran'\ntR."),
    "no shape": npy("{'descr': '<f4', 'fortran_order': False}\n", bytes(40)),
    "shape of words": npy(of("'<f4'", "('a', 2)"), bytes(40)),
    "shape of floats": npy(of("'<f4'", "(1.0, 28, 28, 1)"), bytes(4 * 784)),
    "no literal": npy("__import__('os').system('touch ran')\n"),
    "deep": npy("(" * 3000),
    "deeper": npy("-" * 9000 + "1"),
    "half a header": npy(of("'<f4'", "(1, 28, 28, 1)"))[:40],
    "half the values": npy(of("'<f4'", "(2, 28, 28, 1)"), bytes(4 * 784)),
    "no text": npy("\xff\xfe{'descr'\x00"),
    "pickle": b"\x80\x04\x95\x0f\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix",
    "scalar": npy(of("'<f4'", "()"), bytes(4)),
    "no samples": npy(of("'<f4'", "(0, 28, 28, 1)")),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_arrays_are_one_message(tmp_path, capsys, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    pathlib.Path("x.npy").write_bytes(DAMAGED[name])
    for command in (("fit",), ("analyze", "--method", "input"), ("evaluate",)):
        message = fails(capsys, command[0], MODEL, "x.npy", "--out", "out.h5", *command[1:])
        assert "x.npy" in message and len(message.splitlines()) == 1, message
    assert os.listdir() == ["x.npy"]


def test_damaged_archives_are_one_message(tmp_path, capsys):
    np.savez(tmp_path / "x.npz", load_digits()[0][:2])
    assert "holds several arrays" in fails(capsys, "fit", MODEL, tmp_path / "x.npz", "--out", tmp_path / "p.h5")
    whole = (tmp_path / "x.npz").read_bytes()
    for content in (whole[:-30], b"PK\x03\x04", b"PK\x05\x06" + bytes(9), whole[:40] + bytes(200) + whole[240:]):
        (tmp_path / "x.npz").write_bytes(content)
        assert "x.npz" in fails(capsys, "fit", MODEL, tmp_path / "x.npz", "--out", tmp_path / "p.h5")


# --- files.py --------------------------------------------------------------------------------------------------------


def test_long_names_have_partial_files_of_their_own(tmp_path):
    names = ["é" * 100 + ".h5", "é" * 100 + ".h6", "a" * 255]
    for name in names:
        with replacing(tmp_path / name) as partial:
            partial.write_text(name)
            assert len(os.fsencode(partial.name)) <= 255
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {name: name for name in names}


def test_what_is_unfinished_is_taken_away_at_once(tmp_path):
    """As a process does that ends without unwinding: also between the two renames of a folder."""
    from innvest_lite import files

    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "old").write_text("old")
    with (
        replacing(tmp_path / "file") as partial,
        replacing_folder(tmp_path / "folder") as new,
        files.locked(tmp_path / "f"),
    ):
        partial.write_text("half")
        new.mkdir()
        os.replace(tmp_path / "folder", new.with_suffix(".old"))
        files.clean_up()
        assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == ["folder", "folder/old"]
        partial.write_text("")
        new.mkdir()
