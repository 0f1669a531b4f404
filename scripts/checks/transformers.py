"""Relevance through KerasHub's transformers: `python scripts/checks/transformers.py [WORD ...]`.

Of random weights, tiny, with patterns fitted on noise. For each network and method (LRP, or PatternAttribution)
the table says what `check` leaves unexplained, a share of the largest sum at any node; of texts also by how much four
padding tokens change the relevance of the others, a share of the largest, and how much padding gets; and how many alarms
rang. Likewise of both maps of attention, which explain no sum and may refuse a network. Exit code 1 where more than 1e-4 is
unexplained, where padding changes more than 1e-4, or gets anything.
"""

import argparse
import os
import pathlib
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import keras_hub
import numpy as np
from common.measuring import machine
from people import MODELS

import innvest_lite
from innvest_lite.analyzers.registry import OF_ATTENTION
from innvest_lite.tables import table

METHODS = ("lrp.attn_lrp", "lrp.cp_lrp", "lrp.cp_lrp_gamma", "lrp.epsilon_plus", "pattern.attribution")
_SIZES = {"vocabulary_size": 50, "num_layers": 2, "hidden_dim": 16, "intermediate_dim": 32}
_GROUPED = {**_SIZES, "num_query_heads": 2, "num_key_value_heads": 1}
_PLAIN = {**_SIZES, "num_heads": 2, "max_sequence_length": 32}
CLASSIFIERS = {
    "BERT": ("Bert", _PLAIN),
    "DistilBERT": ("DistilBert", _PLAIN),
    "RoBERTa": ("Roberta", _PLAIN),
    "ALBERT": ("Albert", {**_PLAIN, "embedding_dim": 8}),
}
BACKBONES = {
    "GPT-2": ("GPT2", _PLAIN),
    "Gemma": ("Gemma", {**_GROUPED, "head_dim": 8}),
    "Llama": ("Llama", _GROUPED),
    "Mistral": ("Mistral", _GROUPED),
    "Qwen": ("Qwen", _GROUPED),
}
IMAGES = ("ViT", "DeiT", "Swin", "MiT")
TOKENS, MORE, LARGEST = 7, 4, 1e-4
# How many samples are explained, and how many patterns are fitted on.
EXPLAINED, FITTED = 2, 64


def randomized(model):
    """The model with random weights: scales around 1."""
    generator = np.random.default_rng(1)
    for weight in model.weights:
        if "int" in weight.dtype or "seed" in weight.path:
            continue
        around = 1.0 if any(word in weight.path for word in ("gamma", "scale", "variance")) else 0.0
        weight.assign(around + 0.3 * generator.normal(size=weight.shape) * (0.1 if "variance" in weight.path else 1))
    return model


def text_model(name):
    """A classifier, or a backbone whose first feature of the first token is explained."""
    prefix, sizes = {**CLASSIFIERS, **BACKBONES}[name]
    backbone = getattr(keras_hub.models, f"{prefix}Backbone")(**sizes)
    if name in BACKBONES:
        return randomized(backbone), lambda features: features[:, 0, 0]
    classifier = getattr(keras_hub.models, f"{prefix}TextClassifier")
    return randomized(classifier(backbone, num_classes=3, preprocessor=None)), lambda logits: logits[:, 1] - logits[:, 0]


def inputs_of(model, padding, samples=EXPLAINED):
    """Samples, behind which padding stands."""
    tokens = np.random.default_rng(3).integers(4, 50, (samples, TOKENS))
    tokens = np.pad(tokens, ((0, 0), (0, padding))).astype("int32")
    whole = {"token_ids": tokens, "padding_mask": (tokens > 0).astype("int32"), "segment_ids": np.zeros_like(tokens)}
    return {name: whole[name] for name in model.input}


def patterns_for(model, method, samples, **options):
    """The options by which a method has its patterns; none where it takes none."""
    if not method.startswith("pattern."):
        return {}
    return {"patterns": innvest_lite.create_analyzer(method, model, **options).fit(samples, verbose=0).patterns}


def padded(name, method):
    """`(analyzer, x, explanation of the tokens)` of a text's network without padding and with some."""
    (model, function), patterns = text_model(name), None
    for padding in (0, MORE):
        x = inputs_of(model, padding)
        options = {"target": function, "input_shape": {name: one.shape[1:] for name, one in x.items()}}
        patterns = patterns_for(model, method, inputs_of(model, 0, FITTED), **options) if patterns is None else patterns
        analyzer = innvest_lite.create_analyzer(method, model, **options, **patterns)
        yield analyzer, x, analyzer.analyze(x)["token_ids"]


def changes(short, long):
    """By how much padding changes the other tokens, a share of the largest, and how much padding gets."""
    return np.abs(long[:, :TOKENS] - short).max() / np.abs(short).max(), np.abs(long[:, TOKENS:]).max()


def text_row(name, method):
    """`(unexplained, change, at padding, alarms)`."""
    found = [(heat, analyzer.check(x)) for analyzer, x, heat in padded(name, method)]
    (short, one), (long, other) = found
    return max(one.unexplained.max(), other.unexplained.max()), *changes(short, long), len(other.alarms)


def map_row(name, method):
    """Of a map of attention `(None, change, at padding, None)`; of images "refused" in place of a change, or nothing."""
    if name in IMAGES:
        entry = MODELS[f"KerasHub {name} classifier"]
        try:
            innvest_lite.create_analyzer(method, entry.build()).analyze(entry.inputs(np.random.default_rng(0)))
        except innvest_lite.UnsupportedLayerError:
            return None, "refused", None, None
        return None, None, None, None
    short, long = (heat for _, _, heat in padded(name, method))
    return None, *changes(short, long), None


def row_of(name, way):
    """The row of a network and a method."""
    if way in OF_ATTENTION:
        return map_row(name, way)
    return (image_row if name in IMAGES else text_row)(name, way)


def image_row(name, method):
    """`(unexplained, None, None, alarms)`."""
    entry = MODELS[f"KerasHub {name} classifier"]
    model, generator = entry.build(), np.random.default_rng(0)
    samples = np.concatenate([entry.inputs(generator) for _ in range(FITTED // 4)])
    analyzer = innvest_lite.create_analyzer(method, model, **patterns_for(model, method, samples))
    report = analyzer.check(samples[:EXPLAINED])
    return report.unexplained.max(), None, None, len(report.alarms)


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", help="networks whose names hold one of these; by default all")
    parser.add_argument("--methods", nargs="+", default=(*METHODS, *OF_ATTENTION))
    arguments = parser.parse_args()
    words = arguments.words
    machine()
    rows, wrong = [], []
    for name in (*CLASSIFIERS, *BACKBONES, *IMAGES):
        if words and not any(word in name for word in words):
            continue
        for way in arguments.methods:
            *numbers, alarms = row_of(name, way)
            shown = [
                number if isinstance(number, str) else f"{number:.1e}" if number is not None else "" for number in numbers
            ]
            rows.append((name, way, *shown, "" if alarms is None else alarms))
            unexplained, change, padding = (0 if isinstance(number, str) else number or 0 for number in numbers)
            wrong += [(name, way)] if max(unexplained, change) > LARGEST or padding else []
            print(*rows[-1], flush=True)
    print(f"\n{table(('network', 'method', 'unexplained', 'padding changes', 'at padding', 'alarms'), rows)}")
    print(f"{len(rows) - len(wrong)} of {len(rows)} good")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
