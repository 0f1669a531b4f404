"""What cost grows with: `python scripts/benchmarks/growth.py depth|size|batch|classes|file [--rounds 7]`.

Each table ends with slopes, of the logarithm of a time against that of what grows, over the last three rows. A slope of 1
is linear; those of explanations and fits are to be those of the plain gradient and of the forward pass beside them.

depth: a chain of convolutions and residual blocks, of 10 to 800 layers. What Python computes to make an analyzer, seconds
    of its thread, and for each node; then what first and later calls take.
size, batch, classes: a small convolutional network. Ratios are medians of those to the plain gradient in the same rounds,
    a fit's full step against the forward pass, and beside it a plain gradient in all kernels, the largest part of such a
    step: it has three of these for each kernel, and none in the values.
file: a dense layer of growing width. Files of patterns and of statistics.
"""

import argparse
import functools
import gc
import logging
import os
import pathlib
import statistics
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from common.measuring import against, machine, median, plain_gradient, timed

METHODS = ("gradient", "lrp.epsilon", "pattern.attribution")
NUMBERS = {
    "depth": (10, 25, 50, 100, 200, 400, 800),
    "size": (32, 64, 128, 256, 512),
    "batch": (1, 2, 4, 8, 16, 32, 64),
    "classes": (10, 100, 1000, 10_000, 60_000),
    "file": (64, 256, 1024, 4096),
}
# Rows over which slopes are fitted: before them, what does not grow counts.
_LAST = 3
_FIT_BATCHES = 6
_IMAGE = (32, 32, 16)
_TRAINING, _FITTING = "kernel gradient / forward", "full fit step / forward"


def network(size, classes=10):
    """Six convolutions, two poolings and a dense layer, of random weights, with the logits as output."""
    import keras

    layers = keras.layers
    keras.utils.set_random_seed(0)
    x = taken = keras.Input((size, size, 3))
    for channels in (16, 32, 64):
        x = layers.Conv2D(channels, 3, padding="same", activation="relu")(x)
        x = layers.Conv2D(channels, 3, padding="same", activation="relu")(x)
        x = layers.MaxPooling2D()(x) if channels < 64 else layers.GlobalAveragePooling2D()(x)
    return keras.Model(taken, layers.Dense(classes)(x))


def chain(number):
    """So many layers with weights, one behind the other."""
    import keras

    x = taken = keras.Input(_IMAGE)
    for _ in range(number - 1):
        x = keras.layers.Conv2D(16, 3, padding="same", activation="relu")(x)
    return keras.Model(taken, keras.layers.Dense(10)(keras.layers.GlobalAveragePooling2D()(x)))


def residual(number):
    """So many layers with weights, in blocks of two convolutions with BatchNormalization and a sum."""
    import keras

    layers = keras.layers
    x = taken = keras.Input(_IMAGE)
    for _ in range((number - 1) // 2):
        y = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(16, 3, padding="same", use_bias=False)(x)))
        y = layers.BatchNormalization()(layers.Conv2D(16, 3, padding="same", use_bias=False)(y))
        x = layers.ReLU()(layers.Add()([x, y]))
    return keras.Model(taken, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))


def noise(batch, shape):
    """Samples of noise."""
    import numpy as np

    return np.random.default_rng(0).normal(size=(batch, *shape)).astype("float32")


def slope(numbers, seconds):
    """The exponent of the power by which seconds grow, over the last rows."""
    import numpy as np

    return float(np.polyfit(np.log(numbers[-_LAST:]), np.log(seconds[-_LAST:]), 1)[0])


def printed(title, rows, timings):
    """Prints rows, dicts of the same keys, and behind them the slopes of `timings`: column -> seconds of each row."""
    from innvest_lite.tables import table

    name, *_ = rows[0]
    numbers = [row[name] for row in rows]
    slopes = {column: f"{slope(numbers, seconds):.2f}" for column, seconds in timings.items()}
    cells = [[_cell(cell) for cell in row.values()] for row in rows]
    print(f"\n{title}")
    print(table(tuple(rows[0]), [*cells, ["slope", *(slopes.get(column, "") for column in list(rows[0])[1:])]]), flush=True)


def _cell(value):
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}" if value < 100 else f"{value:.0f}"


def depth(numbers, rounds):
    """Prints what making an analyzer takes, its first call and others, by the number of layers."""
    from innvest_lite.graph import trace

    for build in (chain, residual):
        made(build(numbers[0]))
        models = [build(number) for number in numbers]
        rows, timings = [], {name: [] for name in ("trace", *METHODS, "print")}
        for number, model in zip(numbers, models, strict=True):
            seconds = {"trace": computing(functools.partial(trace, model), rounds)}
            for name in METHODS:
                seconds[name] = computing(functools.partial(made, model, name), rounds)
            plan = made(model).plan()
            seconds["print"] = computing(functools.partial(str, plan), rounds)
            for name, value in seconds.items():
                timings[name].append(value)
            nodes = len(plan.steps)
            row = {"layers": number, "nodes": nodes, **{name: 1e3 * seconds[name] for name in ("trace", *METHODS, "print")}}
            rows.append({**row, "us a node": 1e6 * seconds["pattern.attribution"] / nodes})
        printed(f"{build.__name__}: milliseconds of tracing, of making an analyzer, of print(plan())", rows, timings)
        calls(f"{build.__name__}: calls, batch 1", dict(zip(numbers, models, strict=True)), "layers", rounds)


def calls(title, models, name, rounds):
    """Prints what a first call takes and, against the plain gradient, others, for a model of each number."""
    x, rows, timings = noise(1, _IMAGE), [], {}
    for number, model in models.items():
        plain = plain_gradient(model, x)
        firsts = {"plain, first s": timed(plain)}
        explained = {method: explaining(model, method, x) for method in METHODS}
        for method, call in explained.items():
            firsts[f"{method}, first s"] = timed(call)
        row, seconds = ratios(plain, explained, rounds)
        rows.append({name: number, **firsts, **row})
        for column, value in {**firsts, **seconds}.items():
            timings.setdefault(column, []).append(value)
    printed(title, rows, timings)


def ratios(plain, explained, rounds):
    """`(row, seconds)`: the plain gradient's milliseconds and the methods' ratios; and all as seconds."""
    found, seconds = against(plain, explained, rounds)
    middle = statistics.median(seconds)
    medians = {name: statistics.median(values) for name, values in found.items()}
    row = {"plain ms": 1e3 * middle, **medians}
    return row, {"plain ms": middle, **{name: middle * ratio for name, ratio in medians.items()}}


def made(model, name="gradient"):
    """A method's analyzer."""
    import innvest_lite

    return innvest_lite.create_analyzer(name, model)


def explaining(model, name, x):
    """A call that explains samples; kernels stand in for patterns, and cost the same."""
    import numpy as np

    from innvest_lite.patterns.layout import Layout

    analyzer = made(model, name)
    if name.startswith("pattern"):
        forms = Layout.of(model, chains=analyzer.chains).patterned
        analyzer.set_patterns({key: np.asarray(form.kernel()) for key, form in forms.items()})
    return lambda: analyzer.analyze(x, batch_size=len(x))


def computing(call, rounds):
    """Seconds of a call that its thread computes, whatever else the machine does; the median."""
    found = []
    for _ in range(rounds):
        gc.collect()
        began = time.thread_time()
        call()
        found.append(time.thread_time() - began)
    return statistics.median(found)


def steps(fits, x):
    """Seconds of the steps of a fit, behind the first."""
    import keras

    ends = []
    note = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: ends.append(time.perf_counter()))
    fits([x] * _FIT_BATCHES, callbacks=[note], verbose=0)
    return [after - before for before, after in zip(ends[1:], ends[2:], strict=False)]


def explanations(what, cases, rounds):
    """Prints what explanations and a fit's steps take, for `(model, samples)` of each number."""
    import tensorflow as tf

    import innvest_lite

    rows, timings = [], {}
    for number, (model, x) in cases:
        plain = plain_gradient(model, x)
        explained = {method: explaining(model, method, x) for method in METHODS}
        for call in (plain, *explained.values()):
            call()
        row, seconds = ratios(plain, explained, rounds)
        forward, fits = tf.function(functools.partial(model, training=False)), innvest_lite.PatternFits(model)
        passing, training = (functools.partial(call, tf.constant(x)) for call in (forward, in_all_kernels(model)))
        found = {"forward ms": [], _TRAINING: [], _FITTING: []}
        steps(fits, x)
        for _ in range(rounds):
            found["forward ms"] += [timed(passing) for _ in range(_FIT_BATCHES - 2)]
            found[_TRAINING] += [timed(training) for _ in range(_FIT_BATCHES - 2)]
            found[_FITTING] += steps(fits, x)
        middle = {name: statistics.median(values) for name, values in found.items()}
        seconds |= middle
        passed = middle.pop("forward ms")
        rows.append(
            {what: number, **row, "forward ms": 1e3 * passed, **{name: one / passed for name, one in middle.items()}}
        )
        rows[-1] |= more_of(what, model, x)
        for column, value in seconds.items():
            timings.setdefault(column, []).append(value)
    printed(f"{what}: ratios to the plain gradient, to the forward pass; slopes are of seconds", rows, timings)


def in_all_kernels(model):
    """The gradient in a model's weights as one `tf.function` of a batch."""
    import tensorflow as tf

    def gradients(batch):
        with tf.GradientTape() as tape:
            largest = tf.reduce_max(model(batch, training=False), axis=1)
        return tape.gradient(largest, model.trainable_variables)

    return tf.function(gradients)


def more_of(what, model, x):
    """Of classes, what the weights' number alone makes dear: seconds from sums to patterns and a printed report."""
    import innvest_lite

    if what != "classes":
        return {}
    sums = innvest_lite.fit_statistics(model, x, batch_size=len(x), verbose=0)
    patterns = sums.patterns()
    return {"estimate ms": 1e3 * timed(sums.patterns), "report ms": 1e3 * timed(lambda: str(patterns.report()))}


def size(numbers, rounds):
    """By the side of the image, four at a time."""
    explanations("side", ((number, (network(number), noise(4, (number, number, 3)))) for number in numbers), rounds)


def batch(numbers, rounds):
    """By the number of samples, images of 64 x 64."""
    explanations("batch", ((number, (network(64), noise(number, (64, 64, 3)))) for number in numbers), rounds)


def classes(numbers, rounds):
    """By the number of classes, eight images of 64 x 64."""
    explanations("classes", ((number, (network(64, number), noise(8, (64, 64, 3)))) for number in numbers), rounds)


def file(numbers, rounds):
    """By the number of weights: files of patterns and of statistics, and how long they take."""
    import keras

    import innvest_lite

    rows, timings = [], {}
    for number in numbers:
        inputs = keras.Input((number,))
        model = keras.Model(inputs, keras.layers.Dense(10)(keras.layers.Dense(number, activation="relu")(inputs)))
        x = noise(64, (number,))
        one, other = (innvest_lite.fit_statistics(model, x, shard=(part, 2), verbose=0) for part in range(2))
        patterns = innvest_lite.fit_patterns(model, x, verbose=0)
        row, seconds = {"weights": number * number}, {}
        with tempfile.TemporaryDirectory() as folder:
            for name, saved in (("patterns", patterns), ("statistics", one)):
                path = pathlib.Path(folder) / f"{name}.h5"
                seconds[f"{name}, save ms"] = median(lambda saved=saved, path=path: saved.save(path), rounds)
                seconds[f"{name}, load ms"] = median(lambda saved=saved, path=path: type(saved).load(path), rounds)
                row[f"{name} MiB"] = path.stat().st_size / 2**20
        seconds["merge ms"] = timed(lambda one=one, other=other: one.merge(other))
        rows.append({**row, **{name: 1e3 * value for name, value in seconds.items()}})
        for column, value in {**seconds, **{name: value for name, value in row.items() if "MiB" in name}}.items():
            timings.setdefault(column, []).append(value)
    printed("a dense layer of so many weights: files", rows, timings)


TABLES = {"depth": depth, "size": size, "batch": batch, "classes": classes, "file": file}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=TABLES)
    parser.add_argument("--rounds", type=int, default=7, help="%(default)s")
    parser.add_argument("--numbers", type=int, nargs="+", help="in place of the table's own, three at least")
    arguments = parser.parse_args()
    machine()
    # Fits on few samples of noise say so.
    logging.getLogger("innvest_lite").setLevel(logging.ERROR)
    TABLES[arguments.table](arguments.numbers or NUMBERS[arguments.table], arguments.rounds)
