"""Explanations scored against known truth: the tetrominoes of XAI-TRIS, on networks of several kinds.

Usage: `python scripts/experiments/ground_truth.py measure --seeds 0 1 --cache truth [--networks ...] [--scenarios ...]`,
then `... record --cache truth` and `... report --seeds 0 1`; `... published` for what others have measured. Each network
of each cell and seed is trained, explained and scored once and kept in the folder --cache, so that a run which was ended
goes on where it was; half a minute each. All of them together are one file, --record, from which the tables are.

A cell is a scenario, a background, and whether there are distractors. All samples that are scored are new and are ones
that the network gets right; patterns are fitted on the samples that it was trained on. Choices are made on some seeds and
reported on others.
"""

import argparse
import itertools
import json
import logging
import os
import pathlib
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import numpy as np
import tensorflow as tf
from common.choices import by_every_choice
from common.measuring import machine
from common.tables import table_of
from ground_truth_networks import NETWORKS, TRAINING, data, explained_right, trained
from ground_truth_tables import SCORES, interval, tables

import innvest_lite
from innvest_lite.metrics import ground_truth

SCENARIOS = ("linear", "rigid", "xor", "multiplicative")
BACKGROUNDS = ("white", "correlated")
BATCH = 500
OTHERS = (
    *("gradient", "input_t_gradient", "integrated_gradients", "smoothgrad", "guided_backprop", "deconvnet"),
    *("lrp.epsilon", "lrp.epsilon_plus", "lrp.epsilon_plus_flat", "lrp.z_plus", "lrp.alpha_1_beta_0_IB"),
    *("lrp.alpha_2_beta_1_IB", "lrp.sequential_preset_a", "lrp.sequential_preset_b", "deep_taylor"),
)
"""The methods that need no patterns."""
ESTIMATORS = {word: word for word in ("relu.rectified", "linear", "relu.safe")}
PUBLISHED = {"integrated_gradients": (0.97, 0.95, 0.86, 0.80), "PatternNet": (0.71, 0.80, 0.40, 0.32)}
"""Global mass accuracy by PatternGAM (Clark et al. 2025): linear, white then correlated, without distractors and with."""


def local_pattern(samples, gradient):
    """cov[x] @ gradient: the pattern of the linear map that the network is about a sample (Haufe et al. 2014)."""
    flat = samples.reshape(len(samples), -1)
    return (gradient.reshape(len(gradient), -1) @ np.cov(flat, rowvar=False)).reshape(gradient.shape).astype("float32")


def measured(network, cell, seed, cache, samples):
    """Accuracy, and the scores of all methods, local and global, of one network."""
    model = trained(network, cell, seed, cache / "networks")
    x, y, signal, masks, accuracy = explained_right(model, cell, samples, seed)
    # Of small networks, tracing takes longer than anything else.
    tf.config.run_functions_eagerly(True)
    try:
        fitted = data(cell, TRAINING, 10_000 + seed).x
        analyzers = by_every_choice(model, fitted, OTHERS, ESTIMATORS, ("logit", "contrast"), BATCH)
        maps = {name: analyzer.analyze(x, target=y, batch_size=BATCH) for name, analyzer in analyzers.items()}
        gradient = maps["gradient"]
        maps["local pattern"] = local_pattern(fitted, gradient)
        maps |= {
            f"gradient x {name}": gradient * signal
            for name, signal in maps.items()
            if name.startswith("PatternNet") and name.endswith("contrast")
        }
    finally:
        tf.config.run_functions_eagerly(False)
    scored = {}
    for name, relevance in maps.items():
        scores = ground_truth(relevance, masks, signal)
        scored[name] = {"local": _kept(scores.mean), "global": scores.global_scores and _kept(scores.global_scores.mean)}
    return {"accuracy": accuracy, "methods": scored}


def _kept(scores):
    return [scores[name] for name in SCORES]


def _path(cache, network, cell, seed):
    return cache / f"{network}_{cell[0]}_{cell[1]}_{'distractors' if cell[2] else 'plain'}_{seed}.json"


def cells(options):
    """The chosen cells."""
    return list(itertools.product(options.scenarios, options.backgrounds, (False, True)))


def measure(options):
    """Measures what is not measured yet."""
    known = _recorded(options)
    for seed, cell, network in itertools.product(options.seeds, cells(options), options.networks):
        path = _path(options.cache, network, cell, seed)
        if path.exists() or path.stem in known:
            continue
        found = measured(network, cell, seed, options.cache, options.samples)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(found), encoding="utf-8")
        print(f"{path.stem}: accuracy {found['accuracy']:.3f}", flush=True)


def record(options):
    """Adds all that is measured to one file, from which `report` makes its tables."""
    found = _recorded(options)
    found |= {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in options.cache.glob("*.json")}
    lines = (f'"{name}": {json.dumps(_rounded(found[name]))}' for name in sorted(found))
    options.record.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    print(f"{options.record}: {len(found)} networks")


def _recorded(options):
    return json.loads(options.record.read_text(encoding="utf-8")) if options.record.exists() else {}


def _rounded(found):
    """Numbers, however nested, to four places."""
    if isinstance(found, dict):
        return {name: _rounded(value) for name, value in found.items()}
    if isinstance(found, list):
        return [_rounded(value) for value in found]
    return round(found, 4) if isinstance(found, float) else found


def report(options):
    """Prints what all methods have of each score, and how PatternAttribution and PatternNet do by it."""
    machine()
    measured, chosen = _recorded(options), cells(options)
    records = {
        network: {cell: _over_seeds(measured, network, cell, options) for cell in chosen} for network in options.networks
    }
    for text in tables(records, options, chosen):
        print(f"\n{text}")


def _over_seeds(measured, network, cell, options):
    """What was measured of a cell, of networks that are accurate enough."""
    found = [measured.get(_path(options.cache, network, cell, seed).stem) for seed in options.seeds]
    return [each for each in found if each and each["accuracy"] >= options.accuracy]


def published(options):
    """Prints global mass accuracy of networks with one output, beside the published figures of PatternGAM."""
    machine()
    rows = []
    for place, cell in enumerate(itertools.product(("linear",), BACKGROUNDS, (False, True))):
        found = [_globally(cell, seed, options) for seed in options.seeds]
        for method, theirs in PUBLISHED.items():
            ours = np.array([each[method] for each in found])
            low, high = interval(ours)
            row = {"linear": f"{cell[1]}{', distractors' if cell[2] else ''}", "method": method, "ours": float(ours.mean())}
            rows.append({**row, "95 % from": low, "to": high, "published": theirs[place]})
    print(f"\n{table_of(rows, '.3f')}")


def _globally(cell, seed, options):
    """Method -> global mass accuracy of one network with one output, whose logit is explained whatever its sign."""
    model = trained("mlp", cell, seed, options.cache / "networks", outputs=1)
    x, _, _, masks, accuracy = explained_right(model, cell, options.samples, seed)
    print(f"{cell}, {seed}: accuracy {accuracy:.3f}", flush=True)
    analyzers = {"integrated_gradients": innvest_lite.create_analyzer("integrated_gradients", model)}
    fitted = data(cell, TRAINING, 10_000 + seed).x
    analyzers["PatternNet"] = innvest_lite.PatternNet(model).fit(fitted, batch_size=BATCH, verbose=0)
    maps = {name: analyzer.analyze(x, target=0, batch_size=BATCH) for name, analyzer in analyzers.items()}
    return {name: ground_truth(found, masks).global_scores.mean["mass_accuracy"] for name, found in maps.items()}


def main():
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("measure", "record", "report", "published"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--cache", type=pathlib.Path, default=pathlib.Path("truth"))
    parser.add_argument("--record", type=pathlib.Path, default=pathlib.Path(__file__).with_suffix(".json"))
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--scenarios", nargs="+", choices=SCENARIOS, default=list(SCENARIOS))
    parser.add_argument("--backgrounds", nargs="+", choices=BACKGROUNDS, default=list(BACKGROUNDS))
    parser.add_argument("--samples", type=int, default=300)
    parser.add_argument("--accuracy", type=float, default=0.8, help="networks below it are left out (%(default)s)")
    parser.add_argument("--every-choice", action="store_true", help="report the pattern methods by every choice")
    parser.add_argument("--cells", action="store_true", help="report cell by cell, too")
    parser.add_argument("--scope", choices=("local", "global"), default="local")
    options = parser.parse_args()
    # Of negative logits and maps of zeros, which are scored as they are, once for each of hundreds of networks.
    logging.getLogger("innvest_lite").setLevel(logging.ERROR)
    {"measure": measure, "record": record, "report": report, "published": published}[options.what](options)


if __name__ == "__main__":
    main()
