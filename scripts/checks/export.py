"""Every analyzer as a file, against `analyze`: `python scripts/checks/export.py`; about ten minutes.

1. Every name of `create_analyzer` is exported as a SavedModel, with the shipped digit model, then loaded by a fresh virtual
   environment that has TensorFlow and not this package (`--python` names one that is there), which compares.
2. `saved_model_cli show` of one.
3. Every name as LiteRT and ONNX (with ai-edge-litert, tf2onnx and onnxruntime), or the operation that stops it.

A row: the largest deviation as a share of the largest attribution, and of the predictions.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import venv

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from common.explained import SEED, analyzers, deviation, samples

SAVED_MODEL_LIMIT, PORTABLE_LIMIT = 1e-5, 1e-4
# Of these, the portable formats must hold the values.
PORTABLE = ("gradient", "pattern.net", "pattern.attribution", "lrp.epsilon")
LOADED = "loaded.json"


def write(folder):
    """Exports all, with what `analyze` and `predict` say."""
    x, targets = samples()
    for name, analyzer in analyzers():
        analyzer.export(folder / name, target="input")
        heat = analyzer.analyze(x, targets)
        np.savez(folder / f"{name}.npz", x=x, targets=targets, heat=heat, predictions=analyzer.model.predict(x, verbose=0))


def load(folder):
    """Runs where this package is not: loads all, compares, and writes the deviations to a file."""
    import tensorflow as tf

    try:
        import innvest_lite  # noqa: F401
    except ImportError:
        pass
    else:
        sys.exit("innvest_lite can be imported here, so this says nothing; use an environment that has TensorFlow alone.")
    results = {}
    for path in sorted(folder.glob("*.npz")):
        given, served = np.load(path), tf.saved_model.load(str(path.with_suffix("")))
        serve = served.signatures["serve"]
        arguments = {"x": tf.constant(given["x"]), "target": tf.constant(given["targets"])}
        if "seed" in serve.structured_input_signature[1]:
            arguments["seed"] = tf.constant(SEED, tf.int64)
        found = serve(**arguments)
        pairs = ((found["attributions"], given["heat"]), (found["predictions"], given["predictions"]))
        results[path.stem] = [
            *(deviation(*pair) for pair in pairs),
            bool((found["target"] == given["targets"]).numpy().all()),
        ]
    (folder / LOADED).write_text(json.dumps({"tensorflow": tf.__version__, "results": results}))


def environment(folder):
    """The Python of a new virtual environment with this TensorFlow and nothing else."""
    import tensorflow as tf

    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", f"tensorflow=={tf.__version__}"], check=True)
    return python


def check_saved_models(folder, python):
    """Prints the rows of the SavedModels; returns the names of those that are off."""
    write(folder)
    # Not from this folder: the package beside the script would be importable.
    subprocess.run([python, pathlib.Path(__file__).resolve(), "--load", folder], check=True, cwd=folder, env=_clean())
    said = json.loads((folder / LOADED).read_text())
    print(f"SavedModel, loaded by TensorFlow {said['tensorflow']} alone: name, attributions, predictions")
    off = []
    for name, (attributions, predictions, same_targets) in said["results"].items():
        good = attributions <= SAVED_MODEL_LIMIT and predictions <= SAVED_MODEL_LIMIT and same_targets
        off += [] if good else [name]
        print(f"  {name:38} {attributions:8.1e} {predictions:8.1e}{'' if good else '  OFF'}")
    command = pathlib.Path(python).parent / "saved_model_cli"
    shown = subprocess.run(
        [command, "show", "--dir", folder / "smoothgrad", "--all"], check=True, capture_output=True, text=True, env=_clean()
    )
    print("\nsaved_model_cli show --dir smoothgrad --all:")
    print(
        "\n".join(
            line for line in shown.stdout.splitlines() if line.startswith(("signature_def", "  The given")) or "['" in line
        )
    )
    return off


def _clean():
    """The environment without a way to this package."""
    return {**{name: value for name, value in os.environ.items() if name != "PYTHONPATH"}, "TF_CPP_MIN_LOG_LEVEL": "3"}


def run_litert(path, arguments):
    """What a LiteRT file gives for named arrays."""
    from ai_edge_litert.interpreter import Interpreter

    return Interpreter(str(path)).get_signature_runner("serve")(**arguments)


def run_onnx(path, arguments):
    """What an ONNX file gives for named arrays."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path))
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, arguments), strict=True))


def check_portable(folder):
    """Prints the rows of LiteRT and ONNX; returns the names of those that are off."""
    from innvest_lite import ExportError

    x, targets = samples()
    off = []
    print("\nLiteRT and ONNX: name, attributions of each, or what stops it")
    for name, analyzer in analyzers():
        cells = []
        for file_format, ending, run in (("litert", ".tflite", run_litert), ("onnx", ".onnx", run_onnx)):
            path = folder / f"{name}{ending}"
            try:
                analyzer.export(path, format=file_format, target="input")
            except ExportError as error:
                cells.append(str(error).partition(": ")[2].partition(". ")[0])
                off += [name] if name in PORTABLE else []
                continue
            arguments = {"x": x, "target": targets, **({"seed": np.array(SEED)} if analyzer.is_random else {})}
            difference = deviation(run(path, arguments)["attributions"], analyzer.analyze(x, targets))
            good = difference <= PORTABLE_LIMIT
            off += [name] if not good and name in PORTABLE else []
            # Of the others, some divide by sums that nearly cancel: see xla.py.
            cells.append(f"{difference:.1e}{'' if good else ' above the limit'}")
        print(f"  {name:38} {cells[0]:10} {cells[1]}", flush=True)
    return off


def main():
    """Runs all; the exit code says whether every line held."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", help="of an environment that has TensorFlow and not this package; default: a new one")
    parser.add_argument("--load", type=pathlib.Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.load:
        load(arguments.load)
        return 0
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "served").mkdir()
        off = check_saved_models(folder / "served", arguments.python or environment(folder / "environment"))
        off += check_portable(folder)
    print(f"\n{'all good' if not off else 'OFF: ' + ', '.join(off)}")
    return bool(off)


if __name__ == "__main__":
    sys.exit(main())
