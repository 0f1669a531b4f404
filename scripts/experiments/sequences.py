"""Explanations of transformers and recurrent networks scored against known truth: images, texts, arithmetic.

Usage: `python scripts/experiments/sequences.py measure --seeds 2 3 4 5 6 --cache sequences [--tasks ...] [--methods ...]`,
then `... report --seeds 2 3 4 5 6`. Choices are made on seeds 0 and 1: `... choose --cache sequences` also measures what
else the rules can be given, and `report` takes from there which of our methods stands for all of them.

Networks are trained once, in half a minute to three, and kept in the folder --cache. What is measured is kept in --record;
`measure` fills in what is missing there: methods that were not there or refused a network are asked again. All samples that
are scored are new ones, which the network gets right; patterns are fitted on those that it was trained on.
"""

import argparse
import json
import logging
import os
import pathlib
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import numpy as np
from common.measuring import machine
from sequences_methods import METHODS, STARTED, VARIANTS, NotThereError, areas_between, explained
from sequences_networks import trained
from sequences_tables import choices, family, tables
from sequences_tasks import TASKS

from innvest_lite.errors import InnvestLiteError

_TOLD = {NotThereError: "not there"}
FITTED = 2000
"""How many training samples patterns are fitted on."""


def cells(options):
    """`(task, network, seed)` of all that are asked for; the seeds of a task one after the other."""
    return [
        (task, network, seed)
        for task in options.tasks
        for network in TASKS[task].networks
        if network in (options.networks or TASKS[task].networks)
        for seed in options.seeds
    ]


def measure(options):
    """Measures what is not measured yet: the methods that are asked for, and those that were chosen."""
    chosen = choices(_known(options, options.chosen_on))
    for task, network, seed in cells(options):
        name, record = _name(task, network, seed), _recorded(options.record)
        known = record.get(name, {"methods": {}})
        wanted = dict.fromkeys([*_methods(options, task), *chosen.get((family(task), network), {}).values()])
        missing = [one for one in wanted if not isinstance(known["methods"].get(one), dict)]
        if "accuracy" not in known or (missing and known["accuracy"] >= options.accuracy):
            record[name] = _measured((task, network, seed), known, missing, options)
            _write(options.record, record)


def _measured(cell, known, missing, options):
    """What is known of a network, with what was missing."""
    task, network, seed = cell
    model = trained(network, task, seed, options.cache / "networks")
    samples, accuracy = drawn(model, TASKS[task], seed, options.samples)
    print(f"{_name(*cell)}: {'accuracy' if TASKS[task].classes else 'correlation'} {accuracy:.5f}", flush=True)
    methods, maps = dict(known["methods"]), {}
    if accuracy < options.accuracy:
        return {"accuracy": accuracy, "methods": methods}
    fitted = TASKS[task].drawn("training", seed, None).x[:FITTED]
    for method in missing:
        maps[method], methods[method] = _maps_and_scores(method, model, TASKS[task], samples, fitted)
    maps = {name: relevance for name, relevance in maps.items() if relevance is not None}
    for name, area in areas_between(maps, model, TASKS[task], samples).items() if TASKS[task].replace and maps else ():
        methods[name]["area between"] = area
    for name in missing:
        print(f"  {name}: {_said(methods[name])}", flush=True)
    return {"accuracy": accuracy, "methods": methods}


def _maps_and_scores(method, model, task, samples, fitted):
    """What a method makes of samples and its scores; or None, and a word that says why."""
    try:
        return explained(method, model, task, samples, fitted)
    except InnvestLiteError as error:
        return None, _TOLD.get(type(error), f"refused: {type(error).__name__}")


def drawn(model, task, seed, count):
    """`(samples, accuracy)`: new samples that the network gets right; where it gives a number, all, and its correlation."""
    found = task.drawn("explained", seed, 2 * count)
    predicted = model.predict(found.x, verbose=0)
    if not task.classes:
        return found.of(slice(count)), float(np.corrcoef(predicted[:, 0], found.y[:, 0])[0, 1])
    right = predicted.argmax(axis=1) == found.y
    return found.of(np.flatnonzero(right)[:count]), float(right.mean())


def choose(options):
    """Measures on the seeds of choices all that rules can be given, and prints it."""
    options.seeds = options.chosen_on
    measure(options)
    report(options)


def report(options):
    """Prints what all methods have of each score, and how those of ours do beside integrated gradients and rollout."""
    machine()
    chosen = choices(_known(options, options.chosen_on))
    for text in tables(_known(options, options.seeds), chosen):
        print(f"\n{text}")


def _known(options, seeds):
    """`(task, network)` -> what was measured of it, a list over seeds; of networks that are accurate enough."""
    record, found = _recorded(options.record), {}
    for task, network, _ in cells(options):
        of_seeds = [record.get(_name(task, network, seed)) for seed in seeds]
        found[task, network] = [one for one in of_seeds if one and one["accuracy"] >= options.accuracy and one["methods"]]
    return found


def _methods(options, task):
    """Those that are asked for; of a number there is no contrast."""
    wanted = options.methods or [*METHODS, *(f"{name}@contrast" for name in STARTED)]
    wanted = [*wanted, *(VARIANTS[family(task)] if options.what == "choose" else ())]
    return [one for one in wanted if TASKS[task].classes or not one.endswith("@contrast")]


def _name(task, network, seed):
    return f"{task}, {network}, {seed}"


def _said(scores):
    return scores if isinstance(scores, str) else ", ".join(f"{name} {value:.4f}" for name, value in scores.items())


def _recorded(path):
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _write(path, record):
    rounded = json.loads(json.dumps(record), parse_float=lambda written: float(f"{float(written):.5g}"))
    lines = (f"{json.dumps(name)}: {json.dumps(rounded[name])}" for name in sorted(rounded))
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def main():
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("measure", "choose", "report"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[2, 3, 4, 5, 6])
    parser.add_argument("--chosen-on", type=int, nargs="+", default=[0, 1], help="seeds of choices")
    parser.add_argument("--cache", type=pathlib.Path, default=pathlib.Path("sequences"))
    parser.add_argument("--record", type=pathlib.Path, default=pathlib.Path(__file__).with_suffix(".json"))
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS), metavar="TASK", help=f"of {list(TASKS)}")
    parser.add_argument("--networks", nargs="+", default=[])
    parser.add_argument("--methods", nargs="+", default=[], help="see sequences_methods.py for how options are written")
    parser.add_argument("--samples", type=int, default=150)
    parser.add_argument("--accuracy", type=float, default=0.8, help="networks below it are left out (%(default)s)")
    options = parser.parse_args()
    # Of maps of zeros and negative logits, which are scored as they are.
    logging.getLogger("innvest_lite").setLevel(logging.ERROR)
    {"measure": measure, "choose": choose, "report": report}[options.what](options)


if __name__ == "__main__":
    main()
