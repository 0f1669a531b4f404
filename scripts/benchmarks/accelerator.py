"""What explanations and a fit's steps cost on an accelerator, through JAX's PJRT client.

    python scripts/benchmarks/accelerator.py write FOLDER                            # needs this package; no accelerator
    python scripts/benchmarks/accelerator.py run FOLDER --seconds 420 --results OUT  # needs JAX and NumPy alone

The first writes the programs as StableHLO, a few MB without weights; the second makes weights of the same sizes, compiles
for JAX's first device (a GPU where there is one), and prints medians of seconds, arguments on the device and results left
there: against the plain gradient and the forward pass of the same model, as a share of the fastest matrix product of the
same dtype in the same run, and what a fit of ImageNet's images would take. Cases go by importance; none is begun when the
seconds are over, and what was left out is said. `OUT/accelerator.json` has all figures.

For a machine without an accelerator: `write FOLDER --batches 2 --size 64`.

Explanations are what `analyze` runs, the look at the weights included ("as served": without). Patterns of VGG16 are its
kernels; those of ResNet50 are of 8 images. A fit's step adds to the sums; "lean" and "full" as in `fit.py`. Products of
float32 have the precision that the device gives them by default, on a GPU less than float32's own. Medians of ratios are of
rounds in which all programs of a model ran, one after the other.
"""

import argparse
import concurrent.futures
import functools
import itertools
import json
import math
import operator
import os
import pathlib
import statistics
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import common.bundles as bundles
import numpy as np
from common.measuring import taped
from common.networks import added_sums, images, kernels
from common.pjrt import Program, client

MODELS, DTYPES, BATCHES = ("VGG16", "ResNet50"), ("float32", "bfloat16"), (32, 1, 128)
METHODS = ("pattern.attribution", "gradient", "pattern.net", "lrp.epsilon_plus")
FORWARD, TAPE = "forward pass", "plain gradient"
# A fit's steps: the products of a kernel's size that they add, beside sums of a few numbers a unit.
LEAN, FULL = "fit, lean", "fit, full"
STEPS = {
    LEAN: ("active_xy", "active_x"),
    FULL: ("sum_x", "sum_xy", "active_xy", "active_x"),
    f"{LEAN}, approximate": ("active_xy",),
}
SMALL = ("count", "sum_y", "active")
IMAGENET = 1_281_167
# Rounds of timing, and the seconds after which there are no more.
ROUNDS, PATIENCE = 20, 2.0


# Writing, with this package ------------------------------------------------------------------------------------------


def write(folder, models, dtypes, batches, size):
    """Writes all programs, in the order in which they are to run."""
    import keras
    import tensorflow as tf

    from innvest_lite.patterns.fitter import FLUSH_EVERY, FULL_EVERY, FULL_SAMPLES

    versions = f"TensorFlow {tf.__version__}, Keras {keras.__version__}"
    steps = {"flush_every": FLUSH_EVERY, "full_every": FULL_EVERY, "full_samples": FULL_SAMPLES}
    bundle = bundles.Bundle(folder, {"made with": versions, "size": size, **steps})
    made = {(name, dtype): built(name, dtype, size) for name in models for dtype in dtypes}
    patterns = {name: patterns_of(name, made[name, "float32"], size) for name in models if (name, "float32") in made}
    for batch, dtype, name in itertools.product(batches, dtypes, models):
        model = made[name, dtype]
        for title, step, specs, given in programs(name, model, patterns.get(name), batch, size):
            text, weights = stablehlo(step, specs)
            facts = {"title": title, "model": name, "dtype": dtype, "batch": batch, "sums": len(given) - 1}
            file = f"{name} {dtype} {batch} {title}".replace(", ", "-").replace(" ", "_")
            bundle.add(file, text, [*given, *weights], **facts)
            print(f"{file}: {len(text) // 1024} KiB", flush=True)
    bundle.save()


def built(name, dtype, size):
    """A model of keras.applications that gives logits, of random weights, computing in a dtype."""
    import keras

    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy(f"mixed_{dtype}" if dtype == "bfloat16" else dtype)
    model = getattr(keras.applications, name)(weights=None, classifier_activation=None, input_shape=(size, size, 3))
    keras.config.set_dtype_policy("float32")
    return model


def patterns_of(name, model, size):
    """Kernels where they will do, as they cost what fitted patterns cost; else patterns of a few images."""
    import innvest_lite

    return kernels(model) if name == "VGG16" else innvest_lite.fit_patterns(model, images(8, size), batch_size=8, verbose=0)


def programs(name, model, patterns, batch, size):
    """`(title, function of tensors, their specs, arrays for them)` of all programs of a model."""
    import innvest_lite
    from innvest_lite import backend

    x = images(batch, size)
    specs = [backend.tensor_spec(x.shape, "float32")]
    yield FORWARD, lambda x: model(x, training=False), specs, [x]
    yield TAPE, taped(model), specs, [x]
    for method in METHODS:
        if patterns is None and method.startswith("pattern."):
            continue
        options = {"patterns": patterns} if method.startswith("pattern.") else {}
        explainer = innvest_lite.create_analyzer(method, model, **options).explainer
        yield method, explaining(explainer, looking=True), specs, [x]
        if method == "pattern.attribution":
            yield f"{method}, as served", explaining(explainer, looking=False), specs, [x]
    for title, kinds in STEPS.items():
        step, sums = adding(model, kinds)
        yield title, step, specs + [backend.tensor_spec(one.shape, one.dtype.name) for one in sums], [x, *sums]


def explaining(explainer, looking):
    """An explanation, with or without the sums by which `analyze` sees whether weights have changed."""

    def explain(x):
        found = explainer.explain((x,))
        numbers = explainer.guard.numbers() if looking else []
        return [*found.relevance, found.exponent, *(numbers if isinstance(numbers, list) else [numbers])]

    return explain


def adding(model, kinds):
    """`(step, sums)`: a function of a batch and the sums so far, of the sums with the batch, and zeros to begin with.

    The products that are wanted are part of it; the fitter's own program takes them as an argument.
    """
    from keras import ops

    from innvest_lite.patterns.layers import sums_of
    from innvest_lite.patterns.layout import Layout

    forms, shapes = Layout.of(model).patterned, sums_of("all")
    places = {pair: number for number, pair in enumerate(itertools.product(forms, (*SMALL, *kinds)))}
    sums = [
        np.zeros(getattr(forms[name], shapes[kind]) if shapes[kind] else (), "float64" if kind in SMALL else "float32")
        for name, kind in places
    ]

    def step(x, *sums):
        sums = list(sums)
        for name, kind, value in added_sums(model, x, kinds):
            place = places[name, kind]
            sums[place] = sums[place] + ops.cast(value, sums[place].dtype)
        return sums

    return step, sums


def stablehlo(step, specs):
    """A program and its weights."""
    from innvest_lite import backend

    return backend.stablehlo(step, specs)


# Running, with JAX and NumPy alone -----------------------------------------------------------------------------------


class Run:
    """Programs on a device, within a budget of seconds.

    Args:
        folder: what `write` wrote.
        seconds: the budget.
        threads: how many programs are compiled at a time.
    """

    def __init__(self, folder, seconds, threads):
        import jax

        # The numbers of pairs are counted in float64.
        jax.config.update("jax_enable_x64", True)
        self._jax, self._start, self._seconds, self._threads = jax, time.perf_counter(), seconds, threads
        self._facts, self._text = bundles.read(folder)
        self._client = client()
        self._device, self._arrays = self._client.local_devices()[0], {}
        self.figures = {"device": self._device.device_kind, "platform": self._client.platform, "JAX": jax.__version__}

    @property
    def left(self):
        """The seconds that are left."""
        return self._seconds - (time.perf_counter() - self._start)

    def all(self, results):
        """Measures and prints all for which there is time; writes figures behind each group."""
        told = f"JAX {self._jax.__version__}, {self._client.platform}: {self._device.device_kind}"
        print(f"{told}, {os.cpu_count()} cores; programs made with {self._facts['made with']}", flush=True)
        self.figures["peak"] = {dtype: self._peak(dtype) for dtype in DTYPES}
        peaks = ", ".join(f"{dtype} {peak / 1e12:.3g} TFLOP/s" for dtype, peak in self.figures["peak"].items())
        print(f"the fastest of some matrix products: {peaks}", flush=True)
        self.figures["groups"], skipped = [], []
        kinds = operator.itemgetter("model", "dtype", "batch")
        for kind, group in itertools.groupby(self._facts["programs"], kinds):
            group = list(group)
            done = self._group(kind, group) if self.left > 0 else {}
            missing = [one["title"] for one in group if one["title"] not in done]
            if missing:
                skipped.append(f"{' '.join(map(str, kind))}: {', '.join(missing) if done else 'all'}")
            self.figures["left out"] = skipped
            if results is not None:
                results.mkdir(parents=True, exist_ok=True)
                (results / "accelerator.json").write_text(json.dumps(self.figures, indent=1))
        print(f"{self._seconds - self.left:.0f} s; left out: {'; '.join(skipped) or 'nothing'}")

    def _peak(self, dtype):
        """Operations a second of the fastest of some large matrix products, with the precision that programs have."""
        number = self._jax.numpy
        size = 8192 if self._client.platform != "cpu" else 1024
        drawn = np.random.default_rng(0).standard_normal((size, size), "float32")
        one = self._jax.device_put(number.asarray(drawn, dtype), self._device)
        product = self._jax.jit(number.matmul)
        product(one, one).block_until_ready()
        return 2 * size**3 / min(self._timed_call(lambda: product(one, one).block_until_ready()) for _ in range(10))

    @staticmethod
    def _timed_call(call):
        start = time.perf_counter()
        call()
        return time.perf_counter() - start

    def _group(self, kind, group):
        """Compiles and times the programs of one model, dtype and batch; returns what came of them, by title."""
        model, dtype, batch = kind
        size, done = self._facts["size"], {}
        print(f"\n{model} {size}x{size}, {dtype}, batch {batch}", flush=True)
        # All before the first is timed: compiling takes cores, and on a GPU tries kernels out.
        with concurrent.futures.ThreadPoolExecutor(self._threads) as pool:
            compiled = list(pool.map(self._compiled, [one["name"] for one in group]))
        calls = {}
        for one, program in zip(group, compiled, strict=True):
            if program is None or self.left <= 0:
                continue
            try:
                calls[one["title"]] = self._called(one, program)
            except RuntimeError as error:
                # Such as memory that is short.
                done[one["title"]] = {"failed": str(error).splitlines()[0][:200]}
        rounds = self._rounds(calls)
        for one in group:
            if one["title"] in calls:
                done[one["title"]] = self._figures(one, compiled[group.index(one)], rounds)
            if one["title"] in done:
                self._print(one, done[one["title"]], self.figures["peak"][dtype])
        found = {"model": model, "dtype": dtype, "batch": batch, "programs": done}
        if {LEAN, FULL} <= calls.keys():
            found["fit"] = self._fit(group, done, batch)
        self.figures["groups"].append(found)
        return done

    def _compiled(self, name):
        """A program, or None where there is no time for it, or a message where it cannot be compiled."""
        # What is left then is for the rounds of those that are.
        if self.left <= self._seconds / 8:
            return None
        try:
            return Program(self._client, self._text(name))
        except RuntimeError as error:
            return str(error)

    def _called(self, one, program):
        """A function that calls a program and gives its seconds; called once, as the first call makes what others find."""
        if isinstance(program, str):
            raise RuntimeError(program)
        call = functools.partial(program.seconds, [self._array(key) for key in one["arguments"]])
        call()
        return call

    def _rounds(self, calls):
        """Title -> seconds, of rounds in which each program runs once: what disturbs the machine disturbs all of them."""
        rounds, start = {title: [] for title in calls}, time.perf_counter()
        for number in range(ROUNDS):
            late = time.perf_counter() - start > PATIENCE * len(calls) or self.left <= 0
            if number and late:
                break
            for title, call in calls.items():
                rounds[title].append(call())
        return rounds

    @staticmethod
    def _figures(one, program, rounds):
        times = rounds[one["title"]]
        seconds = statistics.median(times)
        found = {"seconds": seconds, "least": min(times), "most": max(times), "rounds": len(times)}
        for baseline in (TAPE, FORWARD):
            if baseline in rounds:
                ratios = [mine / other for mine, other in zip(times, rounds[baseline], strict=True)]
                found[f"of {baseline}"] = statistics.median(ratios)
        rate = one["operations"] / seconds
        return {**found, "compiled in": program.compiling, "operations": one["operations"], "rate": rate}

    def _array(self, key):
        if key not in self._arrays:
            self._arrays[key] = self._jax.device_put(bundles.made(key, self._facts["recipes"][key]), self._device)
        return self._arrays[key]

    @staticmethod
    def _print(one, found, peak):
        title = one["title"]
        if "failed" in found:
            print(f"  {title:31} failed: {found['failed']}", flush=True)
            return
        cells = [f"{title:31} {found['seconds'] * 1000:9.2f} ms"]
        for baseline, word in ((TAPE, "gradient"), (FORWARD, "forward")):
            cells.append(f"{found[f'of {baseline}']:6.2f} of a {word}" if f"of {baseline}" in found else " " * 19)
        cells.append(f"{one['batch'] / found['seconds']:9.1f} images/s {found['rate'] / 1e12:8.3g} TFLOP/s")
        print(f"  {'  '.join(cells)} {found['rate'] / peak:6.1%}  compiled in {found['compiled in']:.1f} s", flush=True)

    def _fit(self, group, done, batch):
        """What steps and flushes make of a fit of ImageNet, and what its images take to be handed over."""
        full_step = next(one for one in group if one["title"] == FULL)
        sums = [self._array(key) for key in full_step["arguments"]][1 : 1 + full_step["sums"]]
        flush = statistics.median(self._timed_call(lambda: self._flushed(sums)) for _ in range(3))
        images = np.asarray(self._array(full_step["arguments"][0]))
        handing = statistics.median(
            self._timed_call(lambda: self._jax.device_put(images, self._device).block_until_ready()) for _ in range(5)
        )
        batches = math.ceil(IMAGENET / batch)
        first = min(math.ceil(self._facts["full_samples"] / batch), batches)
        full = first + (batches - first) / self._facts["full_every"]
        found = {"flush": flush, "handing over": handing, "images": IMAGENET}
        for title in (LEAN, f"{LEAN}, approximate"):
            if "seconds" in done.get(title, {}):
                steps = full * done[FULL]["seconds"] + (batches - full) * done[title]["seconds"]
                hours = (steps + batches / self._facts["flush_every"] * flush) / 3600
                found[title.replace(LEAN, "hours")] = hours
        told = ", ".join(f"{hours:.2f} h ({title})" for title, hours in found.items() if title.startswith("hours"))
        print(
            f"  a fit of {IMAGENET:,} images: {told.replace('hours, ', '').replace('(hours)', '(exact)')}, flushes of "
            f"{flush:.2f} s each {self._facts['flush_every']} batches included; to hand over all images: "
            f"{batches * handing / 3600:.2f} h",
            flush=True,
        )
        return found

    @staticmethod
    def _flushed(sums):
        """The way of the sums to the host, where they are added to such in float64, and their zeros back."""
        for one in sums:
            # A copy on the host is kept with the array.
            fresh = np.array((one + 0).block_until_ready())
            total = np.zeros(fresh.shape)
            np.add(total, fresh, out=total)


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("write", "run"))
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--models", nargs="+", default=MODELS, choices=MODELS)
    parser.add_argument("--dtypes", nargs="+", default=DTYPES, choices=DTYPES)
    parser.add_argument("--batches", nargs="+", type=int, default=BATCHES, help="in the order in which they are to run")
    parser.add_argument("--size", type=int, default=224, help="of images (%(default)s)")
    parser.add_argument("--seconds", type=float, default=420, help="what `run` may take (%(default)s)")
    parser.add_argument("--threads", type=int, default=max(1, (os.cpu_count() or 1) // 4), help="that compile")
    parser.add_argument("--results", type=pathlib.Path, help="a folder for all figures")
    arguments = parser.parse_args()
    if arguments.what == "write":
        write(arguments.folder, arguments.models, arguments.dtypes, arguments.batches, arguments.size)
    else:
        Run(arguments.folder, arguments.seconds, arguments.threads).all(arguments.results)


if __name__ == "__main__":
    main()
