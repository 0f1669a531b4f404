"""Interruptions, in processes of their own: at any moment a message, the exit code 130, and nothing half-written."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
from command_line import MODEL, run

from innvest_lite.cli import main
from innvest_lite.data import load_digits

PATIENCE = 120
# The console script, and the way of those who call `main` with arguments.
AS_SCRIPT = "import sys; from innvest_lite.cli import main; sys.exit(main())"
AS_FUNCTION = "import sys; from innvest_lite.cli import main; sys.exit(main(sys.argv[1:]))"

# A command that needs no TensorFlow, writes half a file and a folder, and then does what libraries do with exceptions.
STUBBORN = """
import os, pathlib, sys, types
from innvest_lite import cli
from innvest_lite.files import locked, replacing, replacing_folder

def run(arguments):
    out = pathlib.Path(arguments.out)
    with replacing(out / "file") as file, replacing_folder(out / "folder") as folder, locked(out / "file"):
        file.write_text("half")
        folder.mkdir()
        (folder / "half").write_text("half")
        if BETWEEN:
            os.replace(out / "folder", folder.with_suffix(".old"))
        print("writing", flush=True)
        while True:
            try:
                while True:
                    pass
            except BaseException:
                pass

sys.modules["innvest_lite.cli.stubborn"] = types.SimpleNamespace(run=run)
cli._COMMANDS["demo"] = ("stubborn", "run")
sys.argv[1:1] = ["demo", "--out"]
sys.exit(cli.main())
"""


def started(code, *arguments):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "TF_CPP_MIN_LOG_LEVEL": "3"}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], env=environment, **streams)


def ended(process, number, code, words, patience=PATIENCE):
    """Sends a signal, and checks how the process ends."""
    process.send_signal(number)
    try:
        _, errors = process.communicate(timeout=patience)
    finally:
        process.kill()
    assert (process.returncode, "Traceback" in errors) == (code, False), (process.returncode, errors[-2000:])
    assert f"innvest-lite: {words}" in errors
    return errors


@pytest.fixture(autouse=True)
def heard():
    """Tests that run in the background ignore SIGINT, and what they start would inherit that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    ("number", "code", "words"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "told to end")]
)
@pytest.mark.parametrize("between", [False, True])
def test_a_command_that_swallows_exceptions_ends_at_once(tmp_path, number, code, words, between):
    """Also between the two renames by which a folder is replaced: the old one gets its name back."""
    (tmp_path / "file").write_text("old")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "old").write_text("old")
    process = started(f"BETWEEN = {between}\n{STUBBORN}", tmp_path)
    assert process.stdout.readline() == "writing\n"
    ended(process, number, code, words, patience=30)
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == ["file", "folder", "folder/old"]
    assert (tmp_path / "file").read_text() == "old"


def test_a_signal_that_is_ignored_stays_ignored(tmp_path):
    """As of a job in the background."""
    code = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n" + AS_SCRIPT.replace(
        "sys.exit(main())",
        "sys.argv = ['', 'methods', '--help']; import atexit, os\n"
        "atexit.register(lambda: print(signal.getsignal(signal.SIGINT) is signal.SIG_IGN)); sys.exit(main())",
    )
    process = started(code)
    assert process.communicate(timeout=PATIENCE)[0].endswith("True\n")


@pytest.mark.parametrize("error", [KeyboardInterrupt, ImportError])
def test_what_libraries_make_of_an_interruption_is_one(monkeypatch, capsys, tmp_path, error):
    """TensorFlow's imports and its compiled programs raise errors of their own in place of KeyboardInterrupt."""
    from innvest_lite.cli import inspection

    def interrupted(arguments):
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt as interruption:
            raise error("lost") from interruption

    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(inspection, "run", interrupted)
    assert main(["inspect", "m.keras"]) == 130
    assert capsys.readouterr().err == "innvest-lite: interrupted\n"
    assert signal.getsignal(signal.SIGINT) is before


def test_an_error_without_an_interruption_is_one(monkeypatch):
    from innvest_lite.cli import inspection

    def broken(arguments):
        raise ZeroDivisionError

    monkeypatch.setattr(inspection, "run", broken)
    with pytest.raises(ZeroDivisionError):
        main(["inspect", "m.keras"])


def test_memory_that_is_not_there_is_an_error(monkeypatch, capsys):
    from innvest_lite.cli import inspection

    def broken(arguments):
        raise MemoryError("Unable to allocate 1.00 PiB")

    monkeypatch.setattr(inspection, "run", broken)
    assert main(["inspect", "m.keras"]) == 2
    assert "not enough memory: Unable to allocate 1.00 PiB" in capsys.readouterr().err


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Digits, and how long a fit of them takes with all its imports."""
    folder = tmp_path_factory.mktemp("data")
    np.save(folder / "x.npy", np.tile(load_digits()[0], (4, 1, 1, 1)))
    begin = time.monotonic()
    process = started(AS_SCRIPT, "fit", MODEL, folder / "x.npy", "--out", folder / "p.h5", "--batch-size", 4)
    assert process.wait(PATIENCE) == 0
    process.communicate()
    return folder / "x.npy", time.monotonic() - begin


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])
@pytest.mark.parametrize("program", [AS_SCRIPT, AS_FUNCTION], ids=["script", "function"])
def test_at_any_moment_of_a_fit(data, tmp_path, share, program):
    x, seconds = data
    (tmp_path / "p.h5").write_text("from before")
    options = ("--out", tmp_path / "p.h5", "--checkpoint", tmp_path / "c.h5", "--batch-size", 4, "--overwrite")
    process = started(program, "fit", MODEL, x, *options)
    time.sleep(share * seconds)
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=PATIENCE)
        # Of a function an interruption is an exception, and TensorFlow prints those that its compiled code meets.
        assert program == AS_FUNCTION or "Traceback" not in errors
        if (tmp_path / "p.h5").read_bytes() == b"from before":
            assert process.returncode == 130 and errors.endswith("innvest-lite: interrupted\n")
        else:
            # All was done: the signal met Python while it ended.
            assert process.returncode in (0, 130, -signal.SIGINT)
    assert {path.name for path in tmp_path.iterdir()} <= {"p.h5", "c.h5"}
    if (tmp_path / "c.h5").exists():
        # What was written is whole: the fit goes on from it.
        assert run("fit", MODEL, x, *options) == 0


@pytest.mark.slow
def test_while_results_are_written(tmp_path):
    stack = [keras.Input((64, 64, 3)), keras.layers.Flatten(), keras.layers.Dense(2)]
    keras.Sequential(stack).save(tmp_path / "m.keras")
    np.save(tmp_path / "x.npy", np.zeros((20_000, 64, 64, 3), "float16"))
    out = tmp_path / "out"
    process = started(AS_SCRIPT, "analyze", tmp_path / "m.keras", tmp_path / "x.npy", "--method", "input", "--out", out)
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and not (out.exists() and list(out.glob(".*.partial"))):
        time.sleep(0.01)
    time.sleep(0.3)
    assert [path.name for path in out.iterdir()] != []
    ended(process, signal.SIGINT, 130, "interrupted")
    assert list(pathlib.Path(out).iterdir()) == []
