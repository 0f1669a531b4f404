"""A fit on several processes, each on a core: `python scripts/benchmarks/workers.py [--ways strategy ray]`.

"strategy" is MultiWorkerMirroredStrategy; "ray" a map-reduce on Ray (pip install ray), whose parts are merged two by two in
a tree. All fit the same images. What comes before the end of a process's second batch is its start, what comes behind the
last one merging; the rate is that of the batches between. Speed-up is that over one process on one core without a strategy;
efficiency is the speed-up for each core that is at work: four processes on two cores have two. What processors computed for
an image, in all processes, does not depend on what else the machine does.

What it would be on many hosts is computed, not measured. For N images on h hosts that each fit R images a second, with
statistics of S bytes, a network of B bytes a second, and seconds to save, load and merge statistics:

    T(h) = N / (R h) + save + ceil(log2 h) (S / B + 2 load + merge + save)

R is the rate of one process on one core here times `--cores`, of a host; N is `--images`.
"""

import argparse
import functools
import json
import math
import os
import pathlib
import socket
import statistics
import subprocess
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from common.measuring import machine, median, timed
from common.sums import sums_around_zero

_SCRIPTS = pathlib.Path(__file__).resolve().parents[1]
_SIZES = {"small": 64, "resnet50": 224}
# Batches of a process until which all is compiled.
_START = 2
_COLUMNS = (
    *("processes", "cores", "start s", "images/s", "speed-up", "efficiency", "computed ms an image", "merging s"),
    *("sums off", "patterns off"),
)
# Of reading, merging and writing.
_REPEATS = 3


def on_core(number):
    """Keeps this process on one core, with one thread; before TensorFlow is used."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[number % len(cores)]})
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)


def network(name):
    """A network of random weights, the same in each process."""
    import keras

    keras.utils.set_random_seed(0)
    if name == "resnet50":
        return keras.applications.ResNet50(weights=None, classifier_activation=None)
    layers = keras.layers
    x = taken = keras.Input((_SIZES[name], _SIZES[name], 3))
    for channels in (32, 64, 128):
        x = layers.Conv2D(channels, 3, padding="same", activation="relu")(x)
        x = layers.MaxPooling2D()(layers.Conv2D(channels, 3, padding="same", activation="relu")(x))
    x = layers.Dense(256, activation="relu")(layers.GlobalAveragePooling2D()(x))
    return keras.Model(taken, layers.Dense(100)(x))


def images(options):
    """Noise from 0 to 1 in patches of 8 x 8, so that neighbours have something in common."""
    import numpy as np

    size = _SIZES[options.network] // 8
    patches = np.random.default_rng(options.seed).random((options.samples, size, size, 3), "float32")
    return patches.repeat(8, axis=1).repeat(8, axis=2)


def strategy():
    """Several workers', where TensorFlow's variable says that there are some; else the default one."""
    import tensorflow as tf

    several = "TF_CONFIG" in os.environ
    return tf.distribute.MultiWorkerMirroredStrategy() if several else tf.distribute.get_strategy()


def fit(options, core, shard, path):
    """What one process does: it fits its part and saves the statistics.

    Args:
        options: of the command line.
        core: the number of its core.
        shard: `(number, of how many)`; of workers, who share the batches by themselves, (0, 1).
        path: of the statistics.

    Returns:
        `(seconds until the second batch was done, until the last was, until the sums of all workers were there)` and the
        seconds that processors computed from the second batch to the last.
    """
    on_core(core)
    import keras

    import innvest_lite

    x = images(options)
    with strategy().scope():
        model = network(options.network)
    ends, computed = [time.perf_counter()], [0.0]

    def note(batch, logs):
        ends.append(time.perf_counter())
        computed.append(time.process_time())

    note = keras.callbacks.LambdaCallback(on_train_batch_end=note)
    found = innvest_lite.fit_statistics(model, x, batch_size=options.batch, shard=shard, callbacks=[note], verbose=0)
    ends.append(time.perf_counter())
    found.save(path)
    return ends[_START] - ends[0], ends[-2] - ends[_START], ends[-1] - ends[-2], computed[-1] - computed[_START]


def merge(path, other):
    """Adds statistics in a file to those of another, which is written anew; the path of that."""
    from innvest_lite import PatternStatistics

    PatternStatistics.load(path).merge(PatternStatistics.load(other)).save(path)
    return path


def ready():
    """Imports what `merge` needs."""
    from innvest_lite import PatternStatistics

    return PatternStatistics.__name__


def in_a_tree(parts, merged):
    """Merges parts two by two, and what comes of it likewise; `merged` takes and gives parts, or promises of them."""
    while len(parts) > 1:
        pairs = zip(parts[::2], parts[1::2], strict=False)
        parts = [merged(*pair) for pair in pairs] + (parts[-1:] if len(parts) % 2 else [])
    return parts[0]


# The ways -----------------------------------------------------------------------------------------------------------------


def with_strategy(options, processes, folder):
    """Workers of one strategy, whose sums are added up while they fit.

    Returns:
        `(seconds until all have started, behind that, to merge, that processors computed, path of the statistics)`.
    """
    ports = []
    for _ in range(processes):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            ports.append(free.getsockname()[1])
    cluster, running = {"worker": [f"127.0.0.1:{port}" for port in ports]}, []
    for index in range(processes):
        task = {"cluster": cluster, "task": {"type": "worker", "index": index}}
        environment = {**os.environ, **({"TF_CONFIG": json.dumps(task)} if processes > 1 else {})}
        command = [sys.executable, __file__, "--given", json.dumps(vars(options)), "--worker", str(index), str(folder)]
        running.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True))
    found = [process.communicate()[0].splitlines() for process in running]
    if any(process.returncode for process in running):
        raise SystemExit("a worker failed")
    started, fitted, added, computed = zip(*(json.loads(lines[-1]) for lines in found), strict=True)
    # Who is done first waits for the others.
    return max(started), max(fitted), min(added), sum(computed), folder / "0.h5"


def with_ray(options, processes, folder):
    """The same of a map-reduce on Ray, with a task for each part and for each pair."""
    import ray

    environment = {"PYTHONPATH": os.pathsep.join([str(_SCRIPTS), str(_SCRIPTS.parent)]), "TF_CPP_MIN_LOG_LEVEL": "3"}
    ray.init(num_cpus=processes, runtime_env={"env_vars": environment}, include_dashboard=False, log_to_driver=False)
    try:
        paths = [folder / f"{index}.h5" for index in range(processes)]
        part = ray.remote(num_cpus=1, max_calls=1)(fit)
        fitting = [part.remote(options, index, (index, processes), path) for index, path in enumerate(paths)]
        started, fitted, _, computed = zip(*ray.get(fitting), strict=True)
        pair, merged = ray.remote(num_cpus=1)(merge), []
        # Processes that merge have imported what they need, as those of a cluster have.
        ray.get([ray.remote(num_cpus=1)(ready).remote() for _ in range(processes // 2)])
        merging = timed(lambda: merged.append(ray.get(in_a_tree(list(map(ray.put, paths)), pair.remote))))
        return max(started), max(fitted), merging, sum(computed), merged[0]
    finally:
        ray.shutdown()


WAYS = {"strategy": with_strategy, "ray": with_ray}


def scaling(options, folder):
    """Prints a table for each way; returns the rate of one process, and its statistics."""
    from innvest_lite import PatternStatistics
    from innvest_lite.tables import table

    cores = len(os.sched_getaffinity(0))
    _, seconds, *_, path = with_strategy(options, 1, folder)
    alone, whole = rate_of(options, 1, seconds), PatternStatistics.load(path)
    expected = whole.patterns()
    for way in options.ways:
        rows = []
        for processes in options.processes:
            place = folder / f"{way}-{processes}"
            place.mkdir()
            started, seconds, merging, computed, path = WAYS[way](options, processes, place)
            found, busy = PatternStatistics.load(path), min(processes, cores)
            rate = rate_of(options, processes, seconds)
            each = 1e3 * computed / (rate * seconds)
            cells = (processes, busy, started, rate, rate / alone, rate / alone / busy, each, merging)
            off = furthest(sums_around_zero(found), sums_around_zero(whole)), furthest(found.patterns(), expected)
            rows.append([*(f"{cell:.3g}" for cell in cells), *(f"{one:.0e}" for one in off)])
        print(f"\n{way}: {options.samples} images, {options.network}, batch {options.batch}")
        print(table(_COLUMNS, rows), flush=True)
    return alone, whole


def rate_of(options, processes, seconds):
    """Images a second behind the start of all processes."""
    return (options.samples - _START * processes * options.batch) / seconds


def furthest(actual, expected):
    """How far some arrays are from others at most, each relative to the other's largest number."""
    import numpy as np

    pairs = ((np.asarray(actual[name], "float64"), np.asarray(expected[name], "float64")) for name in expected)
    return max(float(np.abs(one - other).max() / max(np.abs(other).max(), 1e-30)) for one, other in pairs)


# On paper -----------------------------------------------------------------------------------------------------------------


def seconds_on(hosts, images, rate, tree):
    """Seconds of a fit on so many hosts, see the formula above.

    Args:
        hosts: how many.
        images: how many, on all hosts together.
        rate: images a second of a host.
        tree: seconds to "save", "load", "merge" and "send" statistics.
    """
    level = tree["send"] + 2 * tree["load"] + tree["merge"] + tree["save"]
    return images / (rate * hosts) + tree["save"] + math.ceil(math.log2(hosts)) * level


def on_paper(options, rate, whole, folder):
    """Prints what a fit would take on more and more hosts."""
    from innvest_lite import PatternStatistics
    from innvest_lite.tables import table

    path = folder / "whole.h5"
    # Other data, of which a few batches have sums as large as all of them.
    few = argparse.Namespace(**{**vars(options), "samples": 4 * options.batch, "seed": 1})
    (folder / "few").mkdir()
    *_, other = with_strategy(few, 1, folder / "few")
    tree = {
        "save": median(lambda: whole.save(path), _REPEATS),
        "load": median(lambda: PatternStatistics.load(path), _REPEATS),
    }
    pairs = ((PatternStatistics.load(path), PatternStatistics.load(other)) for _ in range(_REPEATS))
    tree["merge"] = statistics.median(timed(functools.partial(one.merge, two)) for one, two in pairs)
    size = path.stat().st_size
    tree["send"] = size / (options.gigabits * 1e9 / 8)
    one = seconds_on(1, options.images, rate * options.cores, tree)
    rows = []
    for hosts in (1, 2, 4, 8, 16, 32, 64):
        seconds = seconds_on(hosts, options.images, rate * options.cores, tree)
        fitting = options.images / (rate * options.cores * hosts)
        cells = fitting, seconds - fitting, one / seconds, one / seconds / hosts
        rows.append([hosts, *(f"{cell:.4g}" for cell in cells)])
    measured = ", ".join(f"to {name} {seconds:.3g} s" for name, seconds in tree.items())
    print(
        f"\non paper: {options.images:,} images, {options.network}, hosts of {options.cores} cores of {rate:.3g} images/s, "
        f"{options.gigabits:g} Gbit/s; statistics of {size / 2**20:.3g} MiB, {measured}"
    )
    print(table(("hosts", "fitting s", "saving and merging s", "speed-up", "efficiency"), rows))


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ways", nargs="*", choices=WAYS, default=["strategy"])
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--network", choices=_SIZES, default="small")
    parser.add_argument("--samples", type=int, default=2048, help="images of noise, %(default)s")
    parser.add_argument("--batch", type=int, default=32, help="%(default)s")
    parser.add_argument("--images", type=int, default=1_281_167, help="on paper, %(default)s (ImageNet)")
    parser.add_argument("--cores", type=int, default=16, help="of a host, on paper, %(default)s")
    parser.add_argument("--gigabits", type=float, default=10, help="of the network a second, on paper, %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of the images, %(default)s")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--given", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        index, folder = options.worker
        given = argparse.Namespace(**json.loads(options.given))
        print(json.dumps(fit(given, int(index), (0, 1), pathlib.Path(folder) / f"{index}.h5")))
        return
    machine()
    with tempfile.TemporaryDirectory() as folder:
        rate, whole = scaling(options, pathlib.Path(folder))
        on_paper(options, rate, whole, pathlib.Path(folder))


if __name__ == "__main__":
    main()
