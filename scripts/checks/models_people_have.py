"""Which methods explain the models that people have: `python scripts/checks/models_people_have.py [WORD ...]`.

The models are those of `scripts/people`, of random weights; words choose those whose names hold one of them. A method
runs if it gives finite numbers that are not all 0, refuses if it says why (a line for each cause), and fails otherwise
(exit code 1). Nothing but zeros is counted apart: a class activation map may have no positive part, and what is
discretized has a gradient of 0; and so is what the analyzer itself says to be no explanation, where the model gives no
numbers for samples with noise.

Each model is compared with what TensorFlow says of it. One of its numbers less another is explained (`target=`, a function
of the outputs): where all inputs are floats by the gradient, against TensorFlow's tape; tokens by the gradient at their
embeddings, against the tape there, and all others, and tokens too, by occlusion of the first one, against what the model
gives without it.

The last row but one leaves models with attention or recurrence out: those that weigh places by a softmax inside, and those
with layers that go step by step.
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
from innvest_lite.graph import passes
from innvest_lite.graph.recognized import is_softmax
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
# What the analyzers warned of.
said = []
# Of the largest value; float16 has three decimal places.
TOLERANCE, HALF = 1e-4, 2e-2


def outcome(method, entry, model, x):
    """`(word, text)`: "runs", "refuses", "zeros", "none" or "fails", and what was said."""
    said.clear()
    try:
        analyzer = innvest_lite.create_analyzer(method, model, **options(method, entry, model, x))
        if method.startswith("pattern."):
            analyzer.fit(keras.tree.map_structure(lambda one: np.concatenate([one] * 16), x), verbose=0)
        found = keras.tree.flatten(analyzer.analyze(x))
    except innvest_lite.InnvestLiteError as error:
        return "refuses", str(error)
    except Exception as error:
        return "fails", f"{type(error).__name__}: {error}"
    if not all(np.isfinite(one).all() for one in found):
        warned = any("explains nothing of" in message for message in said)
        return ("none" if warned else "fails"), "values that are no numbers"
    return ("runs", "") if any(np.any(one) for one in found) else ("zeros", "nothing but zeros")


def attends_or_recurs(model, x):
    """Whether a model has attention or recurrence."""
    shape = sized(model, x).get("input_shape")
    graph = passes.strip_softmax(passes.split_activations(innvest_lite.graph.trace(model, shape)))
    return any(is_softmax(node) or any(word in node.kind for word in _STEPWISE) for node in graph.nodes)


_STEPWISE = ("LSTM", "GRU", "RNN", "Cell", "Bidirectional", "Attention", "TransformerDecoder")


def options(method, entry, model, x):
    """What an analyzer of the model is made with; windows of about a quarter of each axis."""
    chosen = {**METHODS[method], **({"output": entry.output} if entry.output else {}), **sized(model, x)}
    if method == "occlusion" and not entry.tokens and isinstance(x, np.ndarray) and x.ndim > 3:
        size = max(min(x.shape[1:-1]) // 4, 1)
        chosen |= {"window": size, "stride": size}
    return chosen


def difference(output):
    """A function of a model's outputs: a number of the output of this name less another, one for each sample."""

    def of(outputs):
        if isinstance(outputs, dict) and output in outputs:
            outputs = outputs[output]
        first = next(one for one in keras.tree.flatten(outputs) if keras.backend.is_float_dtype(one.dtype))
        flat = keras.ops.cast(keras.ops.reshape(first, (keras.ops.shape(first)[0], -1)), "float32")
        return flat[:, 0] if all(size == 1 for size in first.shape[1:]) else flat[:, 0] - flat[:, -1]

    return of


def off(entry, model, x):
    """How far an explanation is from what TensorFlow says, as a share of the largest value."""
    function = difference(entry.output)
    flat = keras.tree.flatten(x)
    if all(one.dtype.kind == "f" for one in flat) and not entry.tokens:
        expected, found = gradients(function, model, x), innvest_lite.Gradient(model, target=function).analyze(x)
    else:
        expected, found = without_the_first(function, entry, model, x)
        if entry.tokens:
            more, others = at_embeddings(function, model, x)
            expected, found = [*expected, *more], [*found, *others]
    pairs = list(zip(expected, keras.tree.flatten(found), strict=True))
    largest = max(max(np.abs(one).max() for one, _ in pairs), 1e-12)
    return max(np.abs(a - b).max() for a, b in pairs) / largest


def gradients(function, model, x):
    """TensorFlow's."""

    # Compiled, it asks for no kernel's gradient: that of a strided 1x1 kernel can crash the process (docs/design.md, 11).
    @tf.function(autograph=False)
    def taped(given):
        with tf.GradientTape() as tape:
            tape.watch(given)
            number = tf.reduce_sum(function(model(keras.tree.pack_sequence_as(x, given), training=False)))
        return tape.gradient(number, given, unconnected_gradients="zero")

    return [one.numpy() for one in taped([tf.constant(one) for one in keras.tree.flatten(x)])]


def at_embeddings(function, model, x):
    """The gradients of tokens that go straight into embeddings: TensorFlow's at what these give, and ours."""
    seen, call = [], keras.layers.Embedding.call

    def noted(self, inputs):
        outputs = call(self, inputs)
        seen.append((np.asarray(inputs), outputs))
        return outputs

    keras.layers.Embedding.call = noted
    try:
        with tf.GradientTape() as tape:
            given = keras.tree.map_structure(tf.constant, x)
            number = tf.reduce_sum(function(model(given, training=False)))
    finally:
        keras.layers.Embedding.call = call
    try:
        found = keras.tree.flatten(innvest_lite.Gradient(model, target=function, **sized(model, x)).analyze(x))
    except innvest_lite.UnsupportedLayerError:
        return [], []
    arrived = tape.gradient(number, [outputs for _, outputs in seen], unconnected_gradients="zero")
    sums = [
        (tokens, np.asarray(tf.convert_to_tensor(g), "float64").sum(-1))
        for (tokens, _), g in zip(seen, arrived, strict=True)
    ]
    pairs = []
    for one, ours in zip(keras.tree.flatten(x), found, strict=True):
        mine = [g for tokens, g in sums if tokens.shape == one.shape and np.array_equal(tokens, one)]
        pairs += [(sum(mine), ours)] if mine else []
    return [one for one, _ in pairs], [other for _, other in pairs]


def without_the_first(function, entry, model, x):
    """The effect of the first position of the first input of tokens, and what occlusion says of it."""
    analyzer = innvest_lite.Occlusion(model, window=1, target=function, **sized(model, x))
    inputs, flat = analyzer.explainer.inputs, keras.tree.flatten(x)
    places = [place for place, kind in enumerate(inputs.kinds) if kind != "mask" and flat[place].dtype.kind in "iuf"]
    place = max(places, key=lambda one: inputs.vocabularies[one] or 0)
    hidden = [one.copy() for one in flat]
    # All channels of a pixel, which share its effect.
    channels = hidden[place].ndim > 2 and inputs.kinds[place] != "tokens"
    first = (slice(None), *(0 for _ in range(hidden[place].ndim - 1 - channels)))
    hidden[place][first] = 0

    def numbers(given):
        outputs = model(keras.tree.pack_sequence_as(x, list(map(tf.constant, given))), training=False)
        return np.asarray(function(outputs), "float64")

    found = keras.tree.flatten(analyzer.analyze(x))
    effect = found[place][first]
    return [numbers(flat) - numbers(hidden)], [effect.sum(-1) if channels else effect]


def sized(model, x):
    """The sizes of what a model takes, where it leaves them open."""
    inputs = getattr(model, "inputs", None) or []
    if not any(None in tensor.shape[1:] for tensor in inputs):
        return {}
    return {"input_shape": keras.tree.map_structure(lambda one: one.shape[1:], x)}


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    arguments = parser.parse_args()
    logger, handler = logging.getLogger("innvest_lite"), logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    logger.addHandler(handler)
    logger.propagate = False
    warnings.simplefilter("ignore")
    machine()
    counts, causes, wrong, failed = collections.defaultdict(collections.Counter), {}, [], 0
    compared, shares = collections.Counter(), {True: [], False: []}
    for name, entry in MODELS.items():
        if arguments.words and not any(word in name for word in arguments.words):
            continue
        model, x = entry.build(), entry.inputs(np.random.default_rng(0))
        words, began = [], time.perf_counter()
        aside = attends_or_recurs(model, x)
        for method in arguments.methods:
            word, text = outcome(method, entry, model, x)
            counts[entry.family, aside][method, word] += 1
            words.append(f"{method} {word}")
            if text:
                causes.setdefault((method, word, text.split("\n")[0][:200] if word == "fails" else cause(text)), []).append(
                    name
                )
            failed += word == "fails"
        share = None
        if "gradient" in arguments.methods and {"gradient runs", "occlusion runs"}.intersection(words):
            try:
                share = off(entry, model, x)
            except innvest_lite.InnvestLiteError as error:
                print(f"not compared, {name}: {error}".split("\n")[0])
        half = any("16" in weight.dtype for weight in model.weights) or "16" in str(model.dtype_policy.compute_dtype)
        half = half or any("16" in layer.dtype_policy.compute_dtype for layer in model._flatten_layers())
        if share is not None:
            compared[entry.family] += 1
            shares[half].append(share)
            wrong += [(name, share)] if not share < (HALF if half else TOLERANCE) else []
        print(
            f"{entry.family}: {name}: {', '.join(words)}; off by {share} ({time.perf_counter() - began:.1f} s)", flush=True
        )
        keras.backend.clear_session()
    report(counts, compared, causes, wrong, arguments.methods)
    for half, words in ((False, "float32 and wider"), (True, "half precision")):
        if shares[half]:
            print(f"Largest difference from TensorFlow, {words}: {max(shares[half]):.1e} of the largest value.")
    return bool(failed or wrong)


def cause(text):
    """The layers at which a method stops, or the sentence that says why."""
    lines = [line.strip().split(":")[0] for line in text.split("\n") if line.startswith("  ")]
    return ", ".join(sorted(set(lines))) or text.split("\n")[0][:160]


def report(counts, compared, causes, wrong, methods):
    """Prints the tables."""
    families, rows = list(dict.fromkeys(family for family, _ in counts)), []
    parts = [(family, [key for key in counts if key[0] == family], compared[family]) for family in families]
    parts.append(("no attention, no recurrence", [key for key in counts if not key[1]], ""))
    for name, keys, checked in [*parts, ("all", list(counts), sum(compared.values()))]:
        of = sum((counts[key] for key in keys), collections.Counter())
        total = sum(count for (method, _), count in of.items() if method == methods[0])
        rows.append((name, total, *(of[method, "runs"] for method in methods), checked))
    print(f"\n{table(('models', 'of', *methods, 'compared'), rows)}\n")
    for (method, word, why), names in sorted(causes.items(), key=lambda each: (each[0][0], -len(each[1]))):
        print(f"{method} {word}, {len(names)} of them: {why}: {'; '.join(names[:3])}{' ...' if len(names) > 3 else ''}")
    for name, share in wrong:
        print(f"differs from TensorFlow by {share:.2g}: {name}")


if __name__ == "__main__":
    sys.exit(main())
