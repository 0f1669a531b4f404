"""The command line's standard error: nothing that TensorFlow says of itself, all that is wrong, and all where it dies."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from command_line import MODEL
from pictures import write_digits

from innvest_lite.cli import quiet

PATIENCE = 120
# As TensorFlow 2.19 to 2.21 print them.
NOTES = [
    "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",
    "I0000 00:00:1796074565.1   21504 port.cc:153] oneDNN custom operations are on. You may see other results.",
    "2026-11-30 21:36:05.123456: I external/local_xla/xla/tsl/cuda/cudart_stub.cc:31] Could not find cuda drivers.",
    "To enable the following instructions: AVX2 FMA, in other operations, rebuild TensorFlow with the appropriate compiler "
    "flags.",
    "E0000 00:00:1796074569.1   21504 cuda_platform.cc:52] failed call to cuInit: INTERNAL: CUDA error: Failed call to "
    "cuInit: UNKNOWN ERROR (303)",
    "E0000 00:00:1796074569.1   21504 cuda_dnn.cc:8579] Unable to register cuDNN factory: Attempting to register factory",
    "W0000 00:00:1796074569.1   21504 computation_placer.cc:177] computation placer already registered. Please check",
    "E0000 00:00:1796074574.8   21504 util.cc:131] oneDNN supports DT_BOOL only on platforms with AVX-512. Falling back",
]
TOLD = [
    "E0000 00:00:1796074569.1   21504 cuda_platform.cc:52] failed call to cuInit: CUDA_ERROR_SYSTEM_DRIVER_MISMATCH",
    "W0000 00:00:1796074569.1   21504 gpu_device.cc:2431] Cannot dlopen some GPU libraries.",
    "E0000 00:00:1796074569.1   21504 cuda_dnn.cc:10] Loaded runtime CuDNN library: 9.1 but source was compiled with 9.3",
    "F0000 00:00:1796074569.1   21504 tensor.cc:9] Check failed: dtype() == expected_dtype",
    "2026-11-30 21:36:05.123456: E tensorflow/core/framework/x.cc:1] out of memory",
    "loc(callsite(somewhere)): error: of somebody else",
    "Segmentation fault, and I0000 within a line",
    "",
]
MLIR = [
    "loc(fused[x]): error: 'tf.Cast' op is neither a custom op nor a flex op",
    "TF Select ops: Cast",
    "\ttf.Cast(x)",
    "",
]


def relayed(text, pieces):
    """What comes through of a text that is read in pieces of this size."""
    out = bytearray()
    parts = iter([text[start : start + pieces] for start in range(0, len(text), pieces)])
    quiet.relay(lambda: next(parts, b""), out.extend)
    return bytes(out)


@pytest.mark.parametrize("pieces", [1, 7, 10**6])
def test_notes_are_dropped_and_all_else_comes_through(pieces):
    mixed = [line for pair in zip(NOTES, TOLD, strict=True) for line in pair]
    text = "\n".join([*mixed, "half a line"]).encode()
    expected = "\n".join([*TOLD, "half a line"]).encode()
    assert relayed(text + quiet._ENDED, pieces) == expected
    died = relayed(text, pieces)
    assert died.startswith(expected) and all(died.count(note.encode()) == 1 for note in NOTES)


def test_mlir_is_a_note_while_a_converter_runs():
    shown = "\n".join(MLIR).encode() + b"\n"
    text = quiet._CONVERTING + shown + b"E0000 00:00:1 1 x.cc:1] trouble\n" + quiet._CONVERTED + shown
    assert relayed(text + quiet._ENDED, 10**6) == b"E0000 00:00:1 1 x.cc:1] trouble\n" + shown
    assert relayed(quiet._CONVERTING + shown, 10**6) == quiet._DIED + shown


# --- Processes ----------------------------------------------------------------------------------------------------------

# A command that needs no TensorFlow.
STUB = """
import os, signal, sys, time, types, warnings
from innvest_lite import cli

def run(arguments):
    {body}
    return 0

sys.modules["innvest_lite.cli.stub"] = types.SimpleNamespace(run=run)
cli._COMMANDS["methods"] = ("stub", "run")
sys.argv[1:] = ["methods"]
code = cli.main({argv})
os.write(2, b"I0000 00:00:1 1 x.cc:1] behind\\n")
sys.exit(code)
"""
NOTE, TROUBLE = b"I0000 00:00:1 1 x.cc:1] note\n", b"E0000 00:00:1 1 x.cc:1] trouble\n"
BEHIND = b"I0000 00:00:1 1 x.cc:1] behind\n"


def stub(body, argv="", **environment):
    without = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    path = os.pathsep.join(filter(None, sys.path))
    code = STUB.format(body=body, argv=argv)
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(
        [sys.executable, "-c", code], env={**without, "PYTHONPATH": path, **environment}, start_new_session=True, **streams
    )


def said(*arguments, **options):
    process = stub(*arguments, **options)
    out, err = process.communicate(timeout=PATIENCE)
    return process.returncode, out, err


WRITES = f"os.write(2, {NOTE + TROUBLE!r}); "


def test_only_a_process_of_ours_is_quiet_and_only_unasked():
    code, out, err = said(WRITES + "print('python', file=sys.stderr); warnings.warn('seen'); print('out')")
    assert (code, out) == (0, b"out\n")
    assert TROUBLE in err and b"python\n" in err and b"UserWarning: seen" in err and NOTE not in err
    assert err.endswith(BEHIND), "the descriptor is as it was"
    assert said(WRITES, "sys.argv[1:]") == (0, b"", NOTE + TROUBLE + BEHIND)
    assert said(WRITES, TF_CPP_MIN_LOG_LEVEL="0") == (0, b"", NOTE + TROUBLE + BEHIND)


def test_without_standard_error_or_input_commands_run():
    line = ["sh", "-c", 'exec "$0" "$@" 2>&- <&-', sys.executable, "-c", STUB.format(body="print('out')", argv="")]
    line[-1] = "\n".join(row for row in line[-1].splitlines() if "behind" not in row)
    without = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    environment = {**without, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(line, env=environment, stdout=subprocess.PIPE, timeout=PATIENCE)
    assert (done.returncode, done.stdout) == (0, b"out\n")
    line[2] = 'exec "$0" "$@" <&-'
    line[-1] = STUB.format(body=WRITES, argv="")
    done = subprocess.run(line, env=environment, stderr=subprocess.PIPE, timeout=PATIENCE)
    assert (done.returncode, done.stderr) == (0, TROUBLE + BEHIND)


def test_errors_are_told_and_their_notes_are_not():
    code, _, err = said(WRITES + "raise ValueError('of a bug')")
    assert code == 1 and TROUBLE in err and b"ValueError: of a bug" in err and NOTE not in err
    code, _, err = said(WRITES + "raise OSError('no file')")
    assert code == 2 and b"innvest-lite: error: no file" in err and NOTE not in err


@pytest.mark.parametrize(("death", "number"), [("os.abort()", signal.SIGABRT), ("os.kill(os.getpid(), 9)", signal.SIGKILL)])
def test_where_the_process_dies_nothing_is_lost(death, number):
    code, _, err = said(f"os.write(2, {NOTE + TROUBLE + b'half'!r}); {death}")
    assert code == -number
    assert err == TROUBLE + b"half" + quiet._DIED + NOTE


@pytest.mark.parametrize(
    ("number", "code", "words"), [(signal.SIGINT, 130, b"interrupted"), (signal.SIGTERM, 143, b"told")]
)
def test_an_interruption_is_no_death(number, code, words):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = stub(WRITES + "print('ready', flush=True); time.sleep(99)")
        assert process.stdout.readline() == b"ready\n"
        # As a terminal's Ctrl-C, which both processes get.
        os.killpg(process.pid, number)
        _, err = process.communicate(timeout=PATIENCE)
    finally:
        signal.signal(signal.SIGINT, before)
        process.kill()
    assert process.returncode == code
    assert err.count(words) == 1 and TROUBLE in err and NOTE not in err and quiet._DIED not in err


def test_who_reads_the_output_does_not_wait_for_the_other_process():
    """It lives as long as what the command started; the command ends without it."""
    process = stub(
        WRITES + f"import subprocess; subprocess.Popen([{sys.executable!r}, '-c', 'import time; time.sleep(30)'], "
        "stdout=subprocess.DEVNULL)"
    )
    out = process.stdout.read()
    assert (out, process.wait(20)) == (b"", 0)
    process.stderr.close()


COMMANDS = {
    "methods": ["methods"],
    "inspect": ["inspect", MODEL],
    "fit": ["fit", MODEL, "digits", "--preprocess", "unit", "--out", "patterns.h5"],
    "analyze": ["analyze", MODEL, "digits", "--preprocess", "unit", "--method", "gradient"],
    "evaluate": ["evaluate", MODEL, "digits", "--preprocess", "unit", "--methods", "gradient", "--max-patches", "2"],
    "report": ["report", MODEL, "digits", "--preprocess", "unit", "--methods", "gradient"],
    "saved_model": ["export", MODEL, "--method", "gradient", "--out", "served"],
    "litert": ["export", MODEL, "--method", "gradient", "--out", "explainer.tflite"],
    "onnx": ["export", MODEL, "--method", "gradient", "--out", "explainer.onnx"],
    "rise": ["analyze", MODEL, "digits", "--preprocess", "unit", "--method", "rise"],
}
FEW = "Patterns were fitted on 2 samples. They are covariances of what units see: take some hundred."
OURS = {"fit": f"innvest-lite: warning: {FEW}\n"}
NOISY = "import os, warnings\nos.write(2, b'E0000 00:00:1 1 x.cc:1] trouble\\n')\nwarnings.warn('of a layer')\n"


def command(folder, *arguments, code=0):
    """What a command prints on standard error, with no variable set."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TF_CPP")}
    environment["PYTHONPATH"] = os.pathsep.join([*filter(None, sys.path), str(folder)])
    line = [sys.executable, "-m", "innvest_lite", *map(str, arguments)]
    done = subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == code, done.stderr[-2000:]
    return done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_commands_print_nothing_of_tensorflow(name, tmp_path):
    write_digits(tmp_path / "digits", ["a.png", "b.png"])
    printed = command(tmp_path, *COMMANDS[name])
    ours = [line for line in printed.splitlines() if line.startswith("innvest-lite: ")]
    assert printed == OURS.get(name, printed) and printed.splitlines() == ours


@pytest.mark.slow
def test_what_litert_lacks_is_one_message(tmp_path):
    lines = command(tmp_path, "export", MODEL, "--method", "smoothgrad", "--out", "explainer.tflite", code=2).splitlines()
    assert len(lines) == 1 and lines[0].startswith("innvest-lite: error: LiteRT cannot hold this analyzer: it has no ")


@pytest.mark.slow
def test_real_trouble_is_told(tmp_path):
    (tmp_path / "noisy.py").write_text(NOISY)
    err = command(tmp_path, "inspect", MODEL, "--import", "noisy")
    assert "x.cc:1] trouble\n" in err and "UserWarning: of a layer" in err and "oneDNN" not in err
    np.save(tmp_path / "x.npy", np.zeros(3, "float32"))
    assert "Traceback" not in command(tmp_path, "analyze", MODEL, "x.npy", "--method", "gradient", code=2)
