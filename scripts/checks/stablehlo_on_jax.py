"""Our programs as StableHLO, run by JAX's PJRT client: VGG16 explained, and one step of a fit, against float64.

    python scripts/checks/stablehlo_on_jax.py write FOLDER    # needs this package
    python scripts/checks/stablehlo_on_jax.py run FOLDER      # needs JAX and NumPy alone, no TensorFlow

The first writes the StableHLO texts and their arguments, and judges what TensorFlow computes; the second compiles the texts
for JAX's first device, judges and times them. `--small` takes the shipped digit model, for a machine without the memory.

Two float32 programs cannot be compared number by number: of VGG16's 13.5 million rectifiers for an image some lie within
rounding of 0, and where one opens in one program and stays closed in the other, the pixels before it differ by percents,
TensorFlow's from the exact ones as XLA's do. So each is judged by a replica in float64 (`common/chains.py`), in two parts
that have no such jumps, both elementwise and within rounding:

- values: what all linear layers give, against float64's;
- relevance: against a float64 sweep (or a fit's sums) at the values that the program itself had. Its rectifiers and the
  largest of its windows are then given, and all that is left is linear.

Programs that hand out the values too are written for this. That the one which `Analyzer.stablehlo` gives does the same is
seen by the Euclidean norm of the difference, since it may round otherwise.

A row: the largest deviations as shares of the largest value, how many choices differ from float64's (rectifiers that are
open, the place of the largest in a window of max pooling), what that makes of the explanation (the largest deviation from
float64 at its own values, and the Euclidean norm's), and seconds.
"""

import argparse
import hashlib
import json
import pathlib
import statistics
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import common.chains as chains
import numpy as np
from common.networks import added_sums, images, kernels, vgg16
from common.pjrt import Program, client

METHODS = ("gradient", "pattern.net", "pattern.attribution", "lrp.epsilon")
FIT = "fit step"
# Of the largest value: float32 through 16 layers of up to 25,088 terms. TensorFlow's own is up to 4e-6.
ROUNDING = 1e-5
# Of the Euclidean norm, where a few rectifiers may differ.
NEARLY = 2e-2
# Rounds of timing, and the seconds after which there are no more.
ROUNDS, PATIENCE = 10, 20


def write(folder, small, batch):
    """Writes the programs, their arguments and the chain; returns whether TensorFlow computes what float64 does."""
    from keras import ops

    import innvest_lite
    from innvest_lite import backend
    from innvest_lite.data import load_digits, load_model

    if small:
        model, x = load_model(), load_digits()[0][:batch].astype("float32")
    else:
        model, x = vgg16(), images(batch)
    store, patterns, layers = Store(folder), kernels(model), chains.described(model)
    spec, judge, fine = backend.tensor_spec(x.shape, "float32"), Judge(layers, patterns, x), True
    for name in (*METHODS, FIT):
        if name == FIT:
            step = fit_step(model, layers)
        else:
            options = {"patterns": patterns} if name.startswith("pattern.") else {}
            analyzer = innvest_lite.create_analyzer(name, model, **options)
            step = explaining(analyzer.explainer, layers)
            text, weights = analyzer.stablehlo(batch, return_weights=True)
            store.text(f"{name}, served", text, [x, *weights])
        text, weights = backend.stablehlo(step, [spec])
        store.text(f"{name}, checked", text, [x, *weights])
        outputs = backend.compiled(step, [spec], False)(ops.convert_to_tensor(x))
        fine &= judge(f"TensorFlow, {name}", name, [backend.to_numpy(tensor) for tensor in outputs])
    store.save(layers, patterns)
    return fine


def explaining(explainer, layers):
    """A function of the input: relevance, exponent, and what each linear layer gives."""
    from innvest_lite.forms.values import values_of

    values = {node.name: node.values[0] for node in explainer.graph.nodes}
    wanted = [values[name] for name in names_of(layers)]

    def explain(x):
        found = explainer.explain((x,))
        # The same operations once more; XLA makes one of both.
        given = values_of(explainer.graph, explainer.plan.forms, (x,))
        return [*found.relevance, found.exponent, *[given[value] for value in wanted]]

    return explain


def names_of(layers):
    """The names of a chain's linear layers."""
    return [layer["name"] for layer in layers if layer["kind"] == "linear"]


def fit_step(model, layers):
    """A function of the input: the sums that a batch adds to the statistics, as `chains.sums` has them, and the values."""
    from keras import ops

    from innvest_lite.patterns.layout import Layout
    from innvest_lite.patterns.products import PRODUCTS

    layout = Layout.of(model)
    values = {node.name: node.values[0] for node in layout.graph.nodes}
    wanted = [values[name] for name in names_of(layers)]

    def step(x):
        added = {(name, kind): value for name, kind, value in added_sums(model, x, PRODUCTS)}
        found = [ops.cast(added[name, kind], "float32") for name in names_of(layers) for kind in chains.SUMS]
        given = layout.values([x])
        return [*found, *[given[value] for value in wanted]]

    return step


class Store:
    """Arguments of programs in a folder, each array once.

    Attributes:
        programs: name -> the keys of its arguments.
    """

    def __init__(self, folder):
        folder.mkdir(parents=True, exist_ok=True)
        self.programs, self._folder = {}, folder

    def key(self, array):
        """Keeps an array; returns what it is kept under."""
        array = np.ascontiguousarray(array)
        key = hashlib.sha256(f"{array.dtype} {array.shape}".encode() + array.tobytes()).hexdigest()[:24]
        np.save(self._folder / f"{key}.npy", array)
        return key

    def text(self, name, text, arguments):
        """Keeps a program."""
        (self._folder / f"{name}.mlir").write_text(text)
        self.programs[name] = [self.key(array) for array in arguments]

    def save(self, layers, patterns):
        """Writes what the other side reads first."""
        told = [{name: self._told(value) for name, value in layer.items()} for layer in layers]
        kept = {name: self.key(pattern) for name, pattern in patterns.items()}
        whole = {"programs": self.programs, "layers": told, "patterns": kept}
        (self._folder / "programs.json").write_text(json.dumps(whole))

    def _told(self, value):
        return {"array": self.key(value)} if isinstance(value, np.ndarray) else value


class Judge:
    """Compares what programs gave with float64.

    Args:
        layers: as `chains.described` has them.
        patterns: layer's name -> pattern.
        x: the input.
    """

    def __init__(self, layers, patterns, x):
        self._layers, self._patterns, self._x = layers, patterns, x
        self._truth = chains.values(layers, x)

    def __call__(self, title, name, outputs):
        """Prints a row; returns whether the program, which hands out its values last, is right within rounding."""
        found, given = outputs[: -len(self._truth)], outputs[-len(self._truth) :]
        values = max(map(off, given, self._truth))
        if name == FIT:
            linear, allowed = self._sums(found, given)
            rest = ""
        else:
            relevance, allowed = scaled(*found), ROUNDING
            linear = off(relevance, chains.explained(self._layers, self._x, given, name, self._patterns))
            exact = chains.explained(self._layers, self._x, self._truth, name, self._patterns)
            rest = f", which makes {off(relevance, exact):.1e} (norm {norm(relevance, exact):.1e})"
        fine = values <= ROUNDING and linear <= allowed
        rectifiers, windows = chains.differing(self._layers, self._x, given, self._truth)
        print(
            f"{title:32} values off {values:.1e}, given these off {linear:.1e}{'' if fine else ' WRONG'}; "
            f"{rectifiers} rectifiers and {windows} windows other{rest}",
            flush=True,
        )
        return fine

    def _sums(self, found, given):
        """`(deviation, allowed)` of that sum of a fit which comes nearest to what is allowed, or exceeds it."""
        pairs = []
        for one, (*_, expected, terms) in zip(found, chains.sums(self._layers, self._x, given), strict=True):
            # Where many numbers are added one after the other, as XLA does on CPU, float32's units in the last place add
            # up like a random walk's steps (Higham and Mary 2019, doi 10.1137/18M1226312).
            pairs.append((off(one, expected), max(ROUNDING, 2 * 2**-24 * terms**0.5)))
        return max(pairs, key=lambda pair: pair[0] / pair[1])


def run(folder):
    """Compiles and runs all; returns whether all values agree."""
    import jax

    told = json.loads((folder / "programs.json").read_text())
    layers = [{name: read(folder, value) for name, value in layer.items()} for layer in told["layers"]]
    patterns = {name: np.load(folder / f"{key}.npy") for name, key in told["patterns"].items()}
    judge = Judge(layers, patterns, np.load(folder / f"{told['programs'][f'{FIT}, checked'][0]}.npy"))
    pjrt, baseline, fine = client(), None, True
    device = pjrt.local_devices()[0]
    print(f"JAX {jax.__version__}, {pjrt.platform}: {device.device_kind}")
    for name in (*METHODS, FIT):
        results, seconds = {}, None
        for kind in ("checked", "served"):
            if f"{name}, {kind}" not in told["programs"]:
                continue
            # GPUs would otherwise multiply with 10 bits of each float32.
            text = (folder / f"{name}, {kind}.mlir").read_text().replace("precision DEFAULT", "precision HIGHEST")
            program = Program(pjrt, text.replace("precision = [DEFAULT, DEFAULT]", "precision = [HIGHEST, HIGHEST]"))
            keys = told["programs"][f"{name}, {kind}"]
            arguments = [jax.device_put(np.load(folder / f"{key}.npy"), device) for key in keys]
            results[kind] = [np.asarray(output) for output in program(arguments)]
            seconds = timed(program, arguments)
        fine &= judge(f"{name}", name, results["checked"])
        baseline = baseline or seconds
        as_served = ""
        if "served" in results:
            apart = norm(scaled(*results["served"][:2]), scaled(*results["checked"][:2]))
            fine &= apart <= NEARLY
            as_served = f"as served: {apart:.1e} of the norm off{'' if apart <= NEARLY else ' WRONG'}; "
        print(f"{'':32} {as_served}{seconds * 1000:.2f} ms, {seconds / baseline:.2f} of the gradient", flush=True)
    return fine


def read(folder, value):
    """What `Store` told of a layer's option, or its array."""
    return np.load(folder / f"{value['array']}.npy") if isinstance(value, dict) else value


def timed(program, arguments):
    """The median seconds of a call, of as many as there is patience for."""
    found, start = [], time.perf_counter()
    while not found or (len(found) < ROUNDS and time.perf_counter() - start < PATIENCE):
        found.append(program.seconds(arguments))
    return statistics.median(found)


def scaled(relevance, exponent):
    """Relevance times its power of two, in float64."""
    return np.ldexp(np.float64(relevance), exponent.reshape(-1, *[1] * (relevance.ndim - 1)))


def off(actual, expected):
    """The largest deviation, as a share of the largest value."""
    return float(np.abs(np.float64(actual) - expected).max() / max(np.abs(expected).max(), 1e-300))


def norm(actual, expected):
    """The Euclidean norm of the deviation, as a share of the value's."""
    return float(np.linalg.norm(actual - expected) / max(np.linalg.norm(expected), 1e-300))


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("write", "run"))
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--small", action="store_true", help="the shipped digit model in place of VGG16")
    parser.add_argument("--batch", type=int, default=2)
    arguments = parser.parse_args()
    if arguments.what == "run":
        return 0 if run(arguments.folder) else 1
    return 0 if write(arguments.folder, arguments.small, arguments.batch) else 1


if __name__ == "__main__":
    sys.exit(main())
