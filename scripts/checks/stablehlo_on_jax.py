"""Our programs as StableHLO, run by JAX's PJRT client: VGG16 explained, and one step of a fit.

    python scripts/checks/stablehlo_on_jax.py write FOLDER    # needs this package
    python scripts/checks/stablehlo_on_jax.py run FOLDER      # needs JAX and NumPy alone, no TensorFlow

The first writes the StableHLO text, its arguments and what TensorFlow computes; the second compiles the text on each of
JAX's devices, compares, and times it against the gradient of the same model. `--small` takes the shipped digit model, for a
machine without the memory. A row: the largest deviation as a share of the largest value, and the median seconds of a call,
arguments on the device.
"""

import argparse
import pathlib
import statistics
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import numpy as np
from common.networks import gatherer, images, kernels, vgg16

METHODS = ("gradient", "pattern.net", "pattern.attribution", "lrp.epsilon")
FIT = "fit step"
ROUNDS = 10


def write(folder, small, batch):
    """Writes `NAME.mlir` and `NAME.npz` for each method and the fit."""
    import innvest_lite
    from innvest_lite.data import load_digits, load_model

    if small:
        model, x = load_model(), load_digits()[0][:batch].astype("float32")
    else:
        model, x = vgg16(), images(batch)
    folder.mkdir(parents=True, exist_ok=True)
    patterns = kernels(model)
    for name in METHODS:
        options = {"patterns": patterns} if name.startswith("pattern.") else {}
        analyzer = innvest_lite.create_analyzer(name, model, **options)
        text, weights = analyzer.stablehlo(batch, return_weights=True)
        _save(folder, name, text, [x, *weights], [analyzer.analyze(x, batch_size=batch)])
    text, arguments, results = fit_step(model, x)
    _save(folder, FIT, text, arguments, results)


def fit_step(model, x):
    """`(text, arguments, results)` of the sums that a batch adds to the statistics of a fit."""
    from keras import ops

    from innvest_lite import backend

    gathering = gatherer(model, exact=True)

    def step(batch):
        added = [products.values() for _, products in gathering.added([batch])]
        return [ops.cast(product(), "float32") for products in added for product in products]

    text, weights = backend.stablehlo(step, [backend.tensor_spec(x.shape, "float32")])
    return text, [x, *weights], [np.asarray(tensor) for tensor in step(ops.convert_to_tensor(x))]


def _save(folder, name, text, arguments, results):
    (folder / f"{name}.mlir").write_text(text)
    arrays = {f"argument {number}": array for number, array in enumerate(arguments)}
    arrays.update({f"result {number}": array for number, array in enumerate(results)})
    np.savez(folder / f"{name}.npz", **arrays)
    print(f"{name}: {len(text.splitlines())} lines, {len(arguments)} arguments", flush=True)


def run(folder):
    """Compiles and runs all; returns whether all values agree."""
    import jax
    from jax.extend import backend as jax_backend

    client = jax_backend.get_backend()
    device = client.local_devices()[0]
    print(f"JAX {jax.__version__}, {client.platform}: {device.device_kind}")
    baseline, worst = None, 0
    for name in (*METHODS, FIT):
        program = _compiled(client, device, (folder / f"{name}.mlir").read_text())
        arrays = np.load(folder / f"{name}.npz")
        arguments = [jax.device_put(arrays[key], device) for key in arrays if key.startswith("argument")]
        results = [arrays[key] for key in arrays if key.startswith("result")]
        outputs = [np.asarray(output) for output in _executed(program, arguments)][: len(results)]
        off = max(_deviation(*pair) for pair in zip(outputs, results, strict=True))
        seconds = statistics.median(_seconds(program, arguments) for _ in range(ROUNDS))
        baseline = baseline or seconds
        worst = max(worst, off)
        print(f"{name:20} off {off:.1e}, {seconds * 1000:9.2f} ms, {seconds / baseline:.2f} of the gradient", flush=True)
    return worst <= 1e-3


def _compiled(client, device, text):
    from jax._src.interpreters import mlir
    from jax._src.lib import xla_client
    from jax._src.lib.mlir import ir

    options = xla_client.CompileOptions()
    with mlir.make_ir_context():
        module = ir.Module.parse(text)
        return client.compile_and_load(module, xla_client.DeviceList((device,)), options)


def _deviation(actual, expected):
    return float(np.abs(actual.astype("float64") - expected).max() / max(np.abs(expected).max(), 1e-300))


def _seconds(program, arguments):
    start = time.perf_counter()
    for output in _executed(program, arguments):
        output.block_until_ready()
    return time.perf_counter() - start


def _executed(program, arguments):
    """The outputs, on the only device."""
    return [parts[0] for parts in program.execute_sharded(arguments).disassemble_into_single_device_arrays()]


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("write", "run"))
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--small", action="store_true", help="the shipped digit model in place of VGG16")
    parser.add_argument("--batch", type=int, default=8)
    arguments = parser.parse_args()
    if arguments.what == "write":
        write(arguments.folder, arguments.small, arguments.batch)
        return 0
    return 0 if run(arguments.folder) else 1


if __name__ == "__main__":
    sys.exit(main())
