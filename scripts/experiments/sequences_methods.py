"""The methods that `sequences.py` measures, and the scores of what each makes of some samples.

A method is a name of `innvest_lite.create_analyzer`, with options and start where it says so:
"lrp.cp_lrp_gamma:gamma=0.25,gamma_convolution=1@contrast". Without "@contrast" the logit of the class is explained, with it
the logit less the mean of all logits.
"""

import ast

import numpy as np
from sequences_tasks import FIRST, SECOND

import innvest_lite
from innvest_lite.errors import InnvestLiteError
from innvest_lite.metrics import degradation, ground_truth

METHODS = (
    *("lrp.epsilon", "lrp.epsilon_plus", "lrp.attn_lrp", "lrp.cp_lrp", "lrp.cp_lrp_gamma"),
    *("pattern.net", "pattern.attribution", "input_t_gradient", "integrated_gradients", "occlusion"),
    *("attention.rollout", "attention.gradient_weighted", "random"),
)
STARTED = ("lrp.attn_lrp", "lrp.cp_lrp", "lrp.cp_lrp_gamma", "integrated_gradients")
"""The methods that are measured from the contrast, too: patterns start from it by themselves."""
_GAMMAS = (
    *(f"lrp.cp_lrp_gamma:gamma={gamma}" for gamma in (0.1, 0.25, 0.5, 1.0)),
    *("lrp.cp_lrp_gamma:gamma=0.25@contrast", "lrp.attn_lrp:gamma=0.25", "lrp.z_plus", "lrp.z_plus@contrast"),
)
_EPSILONS = ("lrp.epsilon:epsilon=0.001", "lrp.epsilon:epsilon=0.1", "lrp.cp_lrp:epsilon=0.1", "lrp.attn_lrp:epsilon=0.1")
_SUMS = (
    *("lrp.cp_lrp:sums='magnitude'", "lrp.cp_lrp:sums='signed'", "lrp.cp_lrp:sums='signed',epsilon=0.1"),
    *("lrp.cp_lrp_gamma:sums='signed',gamma=0.25", "lrp.attn_lrp:sums='signed',epsilon=0.1"),
)
_PATTERNS = ("pattern.attribution:shares='average'", "pattern.attribution:estimator='linear'")
_IMAGES = (
    *_GAMMAS,
    *_EPSILONS,
    *_SUMS,
    "lrp.attn_lrp:epsilon=0.1@contrast",
    "lrp.cp_lrp_gamma:gamma=0.25,gamma_convolution=10",
    *_PATTERNS,
)
VARIANTS = {
    "digits": _IMAGES,
    "tetrominoes": _IMAGES,
    "negation": (*_GAMMAS, *_EPSILONS, *_SUMS, *_PATTERNS),
    "arithmetic": (*_EPSILONS, "lrp.epsilon_IB"),
}
"""What is tried on the seeds that choices are made on, beside `METHODS`: the options of rules, by families of tasks."""
BATCH = 100
_WITHIN = 0.01


class NotThereError(InnvestLiteError):
    """The package has no method of this name."""


def analyzer_of(method, model, task, fitted):
    """The analyzer of a method, with patterns of some samples where it takes any.

    Raises:
        NotThereError: there is no such name.
        InnvestLiteError: the method refuses the network.
    """
    name, _, written = method.partition("@")[0].partition(":")
    if name not in innvest_lite.ANALYZERS:
        raise NotThereError(f"there is no analyzer {name!r}")
    options = {key: ast.literal_eval(value) for key, value in (pair.split("=") for pair in written.split(",") if pair)}
    if name == "occlusion":
        options = {**task.occlusion, **options}
    analyzer = innvest_lite.create_analyzer(name, model, **options)
    return analyzer.fit(fitted, batch_size=BATCH, verbose=0) if name.startswith("pattern.") else analyzer


def target_of(method, task, y, outputs):
    """What is explained: the class, its contrast, or of a number the number itself."""
    if not task.classes:
        return None
    return (np.eye(outputs)[y] - 1 / outputs).astype("float32") if method.endswith("@contrast") else y


def explained(method, model, task, samples, fitted):
    """`(relevance, scores)`: what a method makes of samples, signals by their magnitude, and all scores but that of hiding.

    Raises:
        InnvestLiteError: the method is not there, or refuses the network.
    """
    analyzer = analyzer_of(method, model, task, fitted)
    target = target_of(method, task, samples.y, model.output_shape[-1])
    relevance = analyzer.analyze(samples.x, target=target, batch_size=BATCH)
    if task.classes:
        scores = {} if samples.masks is None else _of_truth(relevance, samples.masks)
    else:
        scores = _of_operands(relevance, samples, model.predict(samples.x, verbose=0)[:, 0])
        scores |= _of_biases(analyzer.check(samples.x, batch_size=BATCH)) if method.startswith("lrp.") else {}
    return relevance if analyzer.sign_tells else np.abs(relevance), scores


def _of_truth(relevance, masks):
    """How far what is largest, and what there is at all, lies in the truth."""
    totals = relevance.astype("float64").sum(axis=-1) if relevance.ndim > masks.ndim else relevance.astype("float64")
    scores = ground_truth(totals[..., None], masks)
    # By value and not by magnitude: above the least there are only values that are not negative, in the same order.
    least = totals.min(axis=tuple(range(1, totals.ndim)), keepdims=True)
    signed = ground_truth((totals - least)[..., None], masks)
    return {
        "precision |r|": float(scores.precision.mean()),
        "precision r": float(signed.precision.mean()),
        "mass accuracy": float(scores.mass_accuracy.mean()),
    }


def areas_between(maps, model, task, samples):
    """Name of a method -> the mean area between the curves of both orders of hiding.

    Args:
        maps: name of a method -> as `explained` gives it.
        model: the network.
        task: its task.
        samples: those that were explained.
    """
    # All methods at once: of small networks, tracing takes longer than anything else.
    every, count = np.concatenate(list(maps.values())), len(maps)
    hidden = np.concatenate([task.replace(samples.x)] * count) if callable(task.replace) else None
    areas = degradation(
        model,
        every,
        np.concatenate([samples.x] * count),
        task.patch,
        replace=task.replace if hidden is None else lambda _: hidden,
        order="both",
        rank_by="signed",
        target=np.concatenate([samples.y] * count),
        batch_size=500,
    ).area_between
    return dict(zip(maps, areas.reshape(count, -1).mean(axis=1).tolist(), strict=True))


def _of_operands(relevance, samples, predicted):
    """How near the relevance of both marked steps comes to the prediction, and that of each to its operand.

    Deviations are relative: of the sum to the prediction, of each to the operand, as it is added.
    """
    steps = relevance.astype("float64").sum(axis=-1)
    first = samples.x[..., FIRST].sum(axis=1).astype("float64")
    marked = [(steps * (samples.x[..., column] != 0)).sum(axis=1) for column in (FIRST, SECOND)]
    operands = np.stack([first, samples.y[:, 0] - first], axis=1)
    of_sum = np.abs(sum(marked) - predicted) / np.abs(predicted)
    of_each = (np.abs(np.stack(marked, axis=1) - operands) / np.abs(operands)).max(axis=1)
    return {
        "sum: median deviation": float(np.median(of_sum)),
        "sum: mean deviation": float(of_sum.mean()),
        "sum: within 1 %": float((of_sum <= _WITHIN).mean()),
        "operands: median deviation": float(np.median(of_each)),
        "operands: within 1 %": float((of_each <= _WITHIN).mean()),
    }


def _of_biases(report):
    """What biases took, and what stabilizers did, as a share of the prediction: the median over samples of magnitudes."""
    start = np.abs(report.start)
    taken = {reason: np.sum([getattr(row, reason) for row in report.rows], axis=0) for reason in ("bias", "epsilon")}
    return {f"taken by {reason}": float(np.median(np.abs(lost) / start)) for reason, lost in taken.items()}
