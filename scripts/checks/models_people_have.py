"""Which methods explain the models that people have: `python scripts/checks/models_people_have.py [WORD ...]`.

The models are those of `scripts/people`, of random weights; words choose those whose names hold one of them. A method
runs if it gives finite numbers that are not all 0, refuses if it says why (a line for each cause), and fails otherwise
(exit code 1). Where all inputs are floats, the gradient is compared with TensorFlow's own tape, of the logit of one output
less that of another, worked out of what the model puts out: log p - log q behind a softmax, log p - log(1 - p) behind a
sigmoid.
"""

import argparse
import collections
import logging
import os
import pathlib
import sys
import time
import warnings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import keras
import numpy as np
import tensorflow as tf
from common.measuring import machine
from people import MODELS

import innvest_lite
from innvest_lite.tables import table

METHODS = {
    "gradient": {},
    "integrated_gradients": {"steps": 4},
    "smoothgrad": {"augment_by_n": 2},
    "occlusion": {},
    "gradcam": {},
    "lrp.epsilon_plus": {},
    "pattern.attribution": {},
}
# Of the largest value; float16 has three decimal places.
TOLERANCE, HALF = 1e-4, 2e-2


def outcome(method, entry, model, x):
    """`(word, text)`: "runs", "refuses" or "fails", and what was said."""
    try:
        analyzer = innvest_lite.create_analyzer(method, model, **options(method, entry, x))
        if method.startswith("pattern."):
            analyzer.fit(keras.tree.map_structure(lambda one: np.concatenate([one] * 16), x), verbose=0)
        found = keras.tree.flatten(analyzer.analyze(x))
    except innvest_lite.InnvestLiteError as error:
        return "refuses", str(error)
    except Exception as error:
        return "fails", f"{type(error).__name__}: {error}"
    if not all(np.isfinite(one).all() for one in found):
        return "fails", "values that are no numbers"
    return ("runs", "") if any(np.any(one) for one in found) else ("fails", "nothing but zeros")


def options(method, entry, x):
    """What an analyzer of the model is made with; windows of about a quarter of each axis."""
    chosen = {**METHODS[method], **({"output": entry.output} if entry.output else {})}
    if method == "occlusion" and not entry.tokens and isinstance(x, np.ndarray) and x.ndim > 3:
        size = max(min(x.shape[1:-1]) // 4, 1)
        chosen |= {"window": size, "stride": size}
    return chosen


def difference(outputs):
    """A number for each sample, of outputs (samples, ..., classes): the logit of the first less that of the second."""
    flat = tf.cast(tf.reshape(outputs, (len(outputs), -1, outputs.shape[-1]))[:, 0], tf.float64)
    bounded = bool(tf.reduce_all((outputs > 0) & (outputs < 1)))
    if flat.shape[1] == 1:
        return tf.math.log(flat[:, 0]) - tf.math.log1p(-flat[:, 0]) if bounded else flat[:, 0]
    sums = tf.reduce_sum(tf.cast(outputs, tf.float64), -1)
    if bounded and bool(tf.reduce_all(tf.abs(sums - 1) < 1e-2)):
        return tf.math.log(flat[:, 0]) - tf.math.log(flat[:, 1])
    if bounded:
        return sum(sign * (tf.math.log(flat[:, i]) - tf.math.log1p(-flat[:, i])) for i, sign in ((0, 1), (1, -1)))
    return flat[:, 0] - flat[:, 1]


def off(entry, model, x):
    """How far the gradient is from the tape's, as a share of the largest value; None where inputs are no floats."""
    given = [tf.constant(one) if one.dtype.kind in "f" else None for one in keras.tree.flatten(x)]
    if any(one is None for one in given) or entry.tokens:
        return None
    with tf.GradientTape() as tape:
        tape.watch(given)
        outputs = model(keras.tree.pack_sequence_as(x, given), training=False)
        if isinstance(outputs, dict | list | tuple):
            outputs = outputs[entry.output] if isinstance(outputs, dict) else None
        if outputs is None or len(outputs.shape) < 2:
            return None
        number = tf.reduce_sum(difference(outputs))
    expected = [
        np.zeros(x.shape) if g is None else g.numpy() for g, x in zip(tape.gradient(number, given), given, strict=True)
    ]
    weights = np.zeros(outputs.shape, "float32")
    first = (slice(None), *[0] * (len(outputs.shape) - 2))
    weights[(*first, 0)] = 1
    if outputs.shape[-1] > 1:
        weights[(*first, 1)] = -1
    found = innvest_lite.Gradient(model, **({"output": entry.output} if entry.output else {})).analyze(x, target=weights)
    largest = max(max(np.abs(one).max() for one in expected), 1e-12)
    return max(np.abs(a - b).max() for a, b in zip(keras.tree.flatten(found), expected, strict=True)) / largest


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    arguments = parser.parse_args()
    logging.getLogger("innvest_lite").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    machine()
    counts, causes, wrong, failed = collections.defaultdict(collections.Counter), {}, [], 0
    compared = collections.Counter()
    for name, entry in MODELS.items():
        if arguments.words and not any(word in name for word in arguments.words):
            continue
        model, x = entry.build(), entry.inputs(np.random.default_rng(0))
        words, began = [], time.perf_counter()
        for method in arguments.methods:
            word, text = outcome(method, entry, model, x)
            counts[entry.family][method, word] += 1
            words.append(f"{method} {word}")
            if text:
                causes.setdefault((method, word, text.split("\n")[0][:200] if word == "fails" else cause(text)), []).append(
                    name
                )
            failed += word == "fails"
        share = off(entry, model, x) if "gradient" in arguments.methods and "gradient runs" in words else None
        half = any("16" in weight.dtype for weight in model.weights) or "16" in str(model.dtype_policy.compute_dtype)
        half = half or any("16" in layer.dtype_policy.compute_dtype for layer in model._flatten_layers())
        if share is not None:
            compared[entry.family] += 1
            wrong += [(name, share)] if not share < (HALF if half else TOLERANCE) else []
        print(
            f"{entry.family}: {name}: {', '.join(words)}; off by {share} ({time.perf_counter() - began:.1f} s)", flush=True
        )
        keras.backend.clear_session()
    report(counts, compared, causes, wrong, arguments.methods)
    return bool(failed or wrong)


def cause(text):
    """The layers at which a method stops, or the sentence that says why."""
    lines = [line.strip().split(":")[0] for line in text.split("\n") if line.startswith("  ")]
    return ", ".join(sorted(set(lines))) or text.split("\n")[0][:160]


def report(counts, compared, causes, wrong, methods):
    """Prints the tables."""
    rows = []
    for family in [*counts, "all"]:
        of = counts[family] if family in counts else sum(counts.values(), collections.Counter())
        total = sum(count for (method, _), count in of.items() if method == methods[0])
        runs = [f"{of[method, 'runs']}" for method in methods]
        rows.append((family, total, *runs, compared[family] if family in counts else sum(compared.values())))
    print(f"\n{table(('models', 'of', *methods, 'tape'), rows)}\n")
    for (method, word, why), names in sorted(causes.items(), key=lambda each: (each[0][0], -len(each[1]))):
        print(f"{method} {word}, {len(names)} of them: {why}: {'; '.join(names[:3])}{' ...' if len(names) > 3 else ''}")
    for name, share in wrong:
        print(f"gradient differs from the tape's by {share:.2g}: {name}")


if __name__ == "__main__":
    sys.exit(main())
