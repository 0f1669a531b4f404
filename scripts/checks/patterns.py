"""Fits patterns and runs PatternNet and PatternAttribution on all keras.applications models (weights=None).

Usage: `python scripts/checks/patterns.py [NAME ...]`. Each model runs in a process of its own, with random weights, at the
smallest input it allows: a line each, exit code 1 if one is bad. A model is good if its patterns are finite, its
explanations finite and not all 0; if `check` explains the gap of PatternAttribution to 1e-3 (of the largest sum of
relevance, and of the gap) and node by node to float32's rounding; and if sums of live units (but for what speaks against
them, where shares are those of the sample), maxima, scales, products and whatever only moves values hand on all that
arrives.

Where layers have no pattern, the line says which, and the gradient stands in there (`fallback="gradient"`). The gap and its
reasons are shares of the explained logit, means over the samples.
"""

import collections
import os
import pathlib
import resource
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from common.each_model import build, run_each

EXPLAINED = 2
REASONS = ("bias", "epsilon", "gate", "kernel", "padding", "rest")
# What `check` may leave unexplained, of the largest sum of relevance and of the gap.
UNEXPLAINED = 1e-3
# What a node may lose without a reason, as a share of the magnitudes that arrived there. Of their sum it can be any share:
# that of a gradient behind a normalization, for one, is 0.
ROUNDING = 1e-5


def one(name):
    """Prints the line of one model and returns whether it is good."""
    import numpy as np

    import innvest_lite

    model, x = build(name)
    seconds = [time.perf_counter()]
    fitted = innvest_lite.fit_patterns(model, x, batch_size=8, verbose=0)
    seconds.append(time.perf_counter())
    options, unsupported = fallback(model)
    signal, _ = innvest_lite.PatternNet(model, patterns=fitted, **options).analyze(x[:EXPLAINED], return_exponent=True)
    analyzer = innvest_lite.PatternAttribution(model, patterns=fitted, **options)
    report = analyzer.check(x[:EXPLAINED])
    nodes = [row.node for row in report.rows]
    heat, kept, exponent = analyzer.analyze(x[:EXPLAINED], keep=nodes, return_exponent=True)
    seconds.append(time.perf_counter())
    finite = {
        "patterns": all(np.isfinite(array).all() for array in fitted.values()),
        "PatternNet": bool(np.isfinite(signal).all() and signal.any()),
        "PatternAttribution": bool(np.isfinite(heat).all() and heat.any()),
    }
    magnitudes = {node: magnitude(values, exponent) for node, values in kept.items()}
    relevance, explained = followed(analyzer.plan(), report, magnitudes, fitted.report(), unsupported)
    parts = [
        "finite" if all(finite.values()) else f"NOT FINITE OR 0: {', '.join(w for w, good in finite.items() if not good)}",
        units(fitted.report()),
        activations(analyzer.plan()),
        *relevance,
        *([f"{sum(unsupported.values())} nodes by fallback ({listed(unsupported)})"] if unsupported else []),
        f"{seconds[1] - seconds[0]:.0f} s fit, {seconds[2] - seconds[1]:.0f} s explain, "
        f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB",
    ]
    good = bool(all(finite.values()) and explained)
    print(f"{'ok ' if good else 'BAD'} {name:20s} {'; '.join(parts)}", flush=True)
    return good


def fallback(model):
    """The options that make an analyzer of the model, and layer class -> how many nodes of it have no rule."""
    import innvest_lite

    try:
        innvest_lite.PatternAttribution(model)
    except innvest_lite.UnsupportedLayerError as error:
        return {"fallback": "gradient"}, dict(collections.Counter(node.layer for node in error.nodes))
    return {}, {}


def units(report):
    """What the data said of the model's units."""
    total, dead, ill = (sum(getattr(row, word) for row in report.values()) for word in ("units", "dead", "ill_conditioned"))
    noted = sum(bool(row.note) for row in report.values())
    return f"units {total}, dead {dead}, ill {ill}, noted layers {noted} of {len(report)}"


def activations(plan):
    """Which activations the model has, those of gates among them."""
    from innvest_lite.forms.structure import activation_name

    others = {activation_name(step.node) for step in plan.steps if step.form.kind == "activation"}
    return f"with {', '.join(sorted(others))}" if others else "ReLU only"


def followed(plan, report, magnitudes, fitted, unsupported):
    """Where PatternAttribution's relevance went, as texts, and whether all of it is accounted for.

    Args:
        plan: the analyzer's.
        report: a `CheckReport`.
        magnitudes: node -> the sum of magnitudes that arrived there, per sample.
        fitted: the report of the patterns.
        unsupported: layer class -> how many nodes of it have no rule.
    """
    import numpy as np

    steps = {step.node.name: step for step in plan.steps}
    without_rule = {node for node, step in steps.items() if step.node.kind in unsupported}

    def share(row, amount):
        return float(np.max(np.abs(amount) / np.maximum(magnitudes[row.node], 1e-300)))

    rests = {row.node: share(row, row.rest) for row in report.rows}
    worst = max(rests, key=rests.get)
    sums = [row for row in report.rows if steps[row.node].form.kind == "sum"]
    live = [row for row in sums if row.node in fitted and not fitted[row.node].dead]
    others = [row for row in report.rows if loses_nothing(steps[row.node]) and row.node not in without_rule]
    lost = max((share(row, unsaid(row, steps[row.node].rule)) for row in live), default=0.0)
    moved = max((share(row, row.lost) for row in others), default=0.0)
    unexplained = float(report.unexplained.max())
    of_gap = float(np.max(sum(np.abs(row.rest) for row in report.rows) / np.abs(report.gap)))
    texts = [
        f"at input {np.mean(report.at_input / report.start):.2g}, gap {reasons(report, without_rule)}",
        f"unexplained {unexplained:.0e}, of the gap {of_gap:.0e}, at a node {rests[worst]:.0e} ({worst})",
        f"sums lose {lost:.0e} ({len(live)} of {len(sums)} live), moves {moved:.0e}",
    ]
    return texts, max(unexplained, of_gap) <= UNEXPLAINED and max(rests[worst], lost, moved) <= ROUNDING


def reasons(report, without_rule):
    """The gap and what it is made of, as text."""
    import numpy as np

    parts = {}
    for row in report.rows:
        for reason in REASONS:
            lost_to = "fallback" if row.node in without_rule else reason
            parts[lost_to] = parts.get(lost_to, 0) + np.mean(getattr(row, reason) / report.start)
    parts["bias/rest"] = sum(parts.pop(word) for word in ("bias", "epsilon", "rest"))
    listing = ", ".join(f"{reason} {value:.2g}" for reason, value in parts.items())
    return f"{np.mean(report.gap / report.start):.2g} ({listing})"


def unsaid(row, rule):
    """What a sum loses, but for what speaks against it in this sample."""
    from innvest_lite import rules

    return row.lost - row.kernel if isinstance(rule, rules.PatternMagnitudes) else row.lost


def loses_nothing(step):
    """Whether all that arrives at a node without a pattern is to be handed on."""
    kinds = ("max", "scale", "product", "route")
    return step.form.kind in kinds and not step.node.kind.startswith(("ZeroPadding", "Pad"))


def magnitude(values, exponent):
    """The sum of magnitudes of each sample, float64, from values that come divided by `2**exponent`."""
    import numpy as np

    return np.ldexp(np.abs(values, dtype="float64").sum(tuple(range(1, values.ndim))), exponent)


def listed(counts):
    """A count of each thing, as text."""
    return ", ".join(f"{count} {thing}" for thing, count in counts.items())


if __name__ == "__main__":
    run_each(__file__, __doc__, one)
