"""Fits patterns as a map-reduce: parts of the data anywhere, their sums added up. An example to start from.

    python scripts/examples/map_reduce.py model.keras samples.npy patterns.h5 --parts 8 --engine processes

`--engine ray` runs the parts as Ray tasks (pip install ray), `--engine beam` as an Apache Beam pipeline (pip install
apache-beam), `--engine processes` in processes of this machine. A part is about as large as three kernels of the model in
float64, so parts go through a folder that all machines see, and their paths through the engine.
"""

import argparse
import functools
import pathlib


def fit_part(index, model, samples, parts, folder):
    """Map: gathers the sums of one part of the samples; returns the path of the file that holds them.

    Run again after a failure, it goes on where it was; run again after it was done, it does nothing.
    """
    # Inside, since the engine runs this function in processes of its own.
    import keras
    import numpy as np

    import innvest_lite

    path = pathlib.Path(folder) / f"part-{index + 1}-of-{parts}.h5"
    innvest_lite.fit_statistics(
        keras.saving.load_model(model, compile=False),
        np.load(samples, mmap_mode="r"),
        estimator="relu.rectified",
        shard=(index, parts),
        checkpoint=path,
        verbose=0,
    )
    return str(path)


def merged(paths):
    """Reduce: adds up the sums of some parts; any grouping and order gives the same."""
    from innvest_lite import PatternStatistics

    first, *others = map(PatternStatistics.load, sorted(paths))
    for other in others:
        first.merge(other)
    return first


def with_processes(task, parts):
    """The paths of all parts, fitted in two processes of this machine."""
    import concurrent.futures
    import multiprocessing

    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
        return list(pool.map(task, range(parts)))


def with_ray(task, parts):
    """The paths of all parts, fitted as Ray tasks; a lost machine's are run again."""
    import ray

    ray.init(ignore_reinit_error=True)

    @ray.remote(max_retries=3)
    def part(index):
        return task(index)

    return ray.get([part.remote(index) for index in range(parts)])


def with_beam(task, parts):
    """The paths of all parts, fitted by an Apache Beam pipeline; its runner's options are those of the command line."""
    import tempfile

    import apache_beam

    with tempfile.TemporaryDirectory() as folder:
        with apache_beam.Pipeline() as pipeline:
            paths = pipeline | apache_beam.Create(range(parts)) | apache_beam.Reshuffle() | apache_beam.Map(task)
            _ = paths | apache_beam.io.WriteToText(f"{folder}/paths")
        return [line for file in pathlib.Path(folder).iterdir() for line in file.read_text().splitlines()]


ENGINES = {"processes": with_processes, "ray": with_ray, "beam": with_beam}


def main(arguments=None):
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("samples")
    parser.add_argument("out")
    parser.add_argument("--parts", type=int, default=4)
    parser.add_argument("--engine", choices=ENGINES, default="processes")
    parser.add_argument("--folder", help="that all machines see; default: beside the result")
    options = parser.parse_args(arguments)
    folder = pathlib.Path(options.folder or f"{options.out}.parts").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    given = (str(pathlib.Path(path).resolve()) for path in (options.model, options.samples))
    task = functools.partial(
        fit_part, **dict(zip(("model", "samples"), given, strict=True)), parts=options.parts, folder=folder
    )
    statistics = merged(ENGINES[options.engine](task, options.parts))
    patterns = statistics.patterns()
    patterns.save(options.out)
    print(patterns.report())
    print(f"{statistics.samples} samples in {options.parts} parts: {options.out}; the parts are in {folder}")


if __name__ == "__main__":
    main()
