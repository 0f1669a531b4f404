"""Whether each model of the collection can be built and computes: `python scripts/people/check.py [NAME ...]`.

A model is good if it gives finite numbers for each of 3 samples, the same a second time, and not the same for all samples.
A name is a part of the names of the models that are meant. Exit code 1 if a model is not good.
"""

import argparse
import collections
import os
import pathlib
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import keras
import numpy as np

from people import MODELS


def outputs_of(model, x):
    """The model's outputs for a batch, as arrays."""
    return [keras.ops.convert_to_numpy(y) for y in keras.tree.flatten(model(x, training=False))]


def problems(entry):
    """What is wrong with a model, in words."""
    model, x = entry.build(), entry.inputs(np.random.default_rng(0))
    first, second = outputs_of(model, x), outputs_of(model, x)
    found = [] if isinstance(model, keras.Model) else ["is no keras.Model"]
    for once, again in zip(first, second, strict=True):
        if once.shape[:1] != (3,):
            found.append(f"has shape {once.shape}")
        elif not np.isfinite(once).all():
            found.append("is not finite")
        elif not np.array_equal(once, again):
            found.append("differs the second time")
        elif np.ptp(once.astype("float64"), axis=0).max() < 1e-4:
            found.append(f"hardly depends on the sample: {np.ptp(once, axis=0).max():.1g}")
        elif not 1e-3 < np.abs(once).max() < 1e4:
            found.append(f"has odd size: {np.abs(once).max():.1g}")
    if isinstance(model, keras.src.models.functional.Functional):
        expected, given = keras.tree.map_structure(lambda _: 0, model.input), keras.tree.map_structure(lambda _: 0, x)
        if expected != given and expected != [given]:
            found.append(f"takes {expected}, but gets {given}")
    y = model(x, training=False)
    names = list(y) if isinstance(y, dict) else model.output_names if isinstance(y, (list, tuple)) else [None]
    if entry.output not in names:
        found.append(f"has no output {entry.output}, but {names}")
    return found


def main():
    """Checks the models and prints a line for each that is not good, and how many there are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    wanted = parser.parse_args().names
    chosen = [entry for name, entry in MODELS.items() if not wanted or any(word in name for word in wanted)]
    began, bad = time.perf_counter(), 0
    for entry in chosen:
        started = time.perf_counter()
        try:
            found = problems(entry)
        except Exception as error:
            found = [f"{type(error).__name__}: {str(error)[:1500]}"]
        if found or wanted:
            print(f"{entry.family}: {entry.name}: {'; '.join(found) or 'good'} ({time.perf_counter() - started:.1f} s)")
        bad += bool(found)
        keras.backend.clear_session()
    families = collections.Counter(entry.family for entry in chosen)
    print(", ".join(f"{count} {family}" for family, count in families.most_common()))
    print(f"{len(chosen)} models, {bad} not good, {time.perf_counter() - began:.0f} s")
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
