"""Seconds, memory and ratios to a plain TensorFlow gradient; the line that says on what they were measured.

Libraries are imported when they are needed: the contestants of the race run this in environments of their own.
"""

import argparse
import json
import os
import pathlib
import platform
import re
import statistics
import subprocess
import sys
import time


def machine():
    """Prints what the figures were measured on."""
    import keras
    import tensorflow as tf

    print(f"{processor()}, Python {platform.python_version()}, TensorFlow {tf.__version__}, Keras {keras.__version__}")


def processor():
    """The kind of processor, its widest vectors, by which kernels differ most, and the number of cores."""
    known = pathlib.Path("/proc/cpuinfo")
    flags = set(known.read_text().split()) if known.exists() else set()
    widest = next((name for flag, name in (("avx512f", " with AVX-512"), ("avx2", " with AVX2")) if flag in flags), "")
    return f"{platform.machine()}{widest}, {os.cpu_count()} cores"


def plain_gradient(model, x):
    """The gradient of the largest logit as anybody would write it: one `tf.function`, one tape."""
    import tensorflow as tf

    gradient = tf.function(taped(model))
    return lambda: gradient(tf.constant(x)).numpy()


def taped(model):
    """The gradient of a model's largest logit as a function of a batch of tensors, by one tape."""
    import tensorflow as tf

    def gradient(batch):
        with tf.GradientTape() as tape:
            tape.watch(batch)
            largest = tf.reduce_max(model(batch, training=False), axis=1)
        return tape.gradient(largest, batch)

    return gradient


def timed(call):
    """Seconds that a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def median(call, rounds):
    """Seconds that a call takes, the median."""
    return statistics.median(timed(call) for _ in range(rounds))


def against(baseline, calls, rounds):
    """Times several calls against one, all of which ran before. A round runs each once, right behind the one.

    Returns:
        `(ratios, seconds)`: name -> the ratios of all rounds; and the seconds that the one took, each time.
    """
    ratios, seconds = {name: [] for name in calls}, []
    for _ in range(rounds):
        for name, call in calls.items():
            seconds.append(timed(baseline))
            ratios[name].append(timed(call) / seconds[-1])
    return ratios, seconds


def spread(ratios, of=""):
    """The median of some ratios, of what they are, the smallest and the largest, as text."""
    median = f"{statistics.median(ratios):.3f} {of}".rstrip()
    return f"{median} (min {min(ratios):.3f}, max {max(ratios):.3f})"


def high_water_mark():
    """The most memory that this process had, in GiB."""
    # Not getrusage: its maximum starts at the size of the process that started this one.
    status = pathlib.Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status).group(1)) / 2**20


def forget_high_water_mark():
    """Starts the mark again, at the size that the process has now."""
    pathlib.Path("/proc/self/clear_refs").write_text("5")


def tensors_while(call):
    """The most memory that TensorFlow's tensors take while a call runs, beside those that there are before it, in GiB."""
    # Not the process's memory: the allocator keeps what it once had, and splits it.
    import tensorflow as tf

    before = tf.config.experimental.get_memory_info("CPU:0")["current"]
    tf.config.experimental.reset_memory_stats("CPU:0")
    call()
    return (tf.config.experimental.get_memory_info("CPU:0")["peak"] - before) / 2**30


def in_a_process(script, *arguments):
    """What a script prints last, as JSON, in a process of its own."""
    command = [sys.executable, script, *map(str, arguments)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def parsed(description, **defaults):
    """The command line of a benchmark.

    Args:
        description: its docstring.
        defaults: the options that it takes, of `batch`, `rounds`, `samples`, `epochs` (numbers) and `methods` (names).
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in defaults.items():
        kind = {"nargs": "+"} if name == "methods" else {"type": int}
        parser.add_argument(f"--{name}", default=default, **kind, help="%(default)s")
    return parser.parse_args()
