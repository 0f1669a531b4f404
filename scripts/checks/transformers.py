"""Relevance through KerasHub's transformers: `python scripts/checks/transformers.py [WORD ...]`.

Of random weights, tiny. For each network and composite the table says what `check` leaves unexplained, a share of the
largest sum at any node; of texts also by how much four padding tokens change the relevance of the others, a share of the
largest, and how much padding gets; and how many alarms rang. Exit code 1 where more than 1e-4 is unexplained, where padding
changes more than 1e-4, or gets anything.
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
from innvest_lite.tables import table

COMPOSITES = ("attn_lrp", "cp_lrp", "cp_lrp_gamma", "epsilon_plus")
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


def inputs_of(model, padding):
    """Two samples, behind which padding stands."""
    tokens = np.random.default_rng(3).integers(4, 50, (2, TOKENS))
    tokens = np.pad(tokens, ((0, 0), (0, padding))).astype("int32")
    whole = {"token_ids": tokens, "padding_mask": (tokens > 0).astype("int32"), "segment_ids": np.zeros_like(tokens)}
    return {name: whole[name] for name in model.input}


def text_row(name, composite):
    """`(unexplained, change, at padding, alarms)`."""
    model, function = text_model(name)
    found = []
    for padding in (0, MORE):
        x = inputs_of(model, padding)
        shape = {name: one.shape[1:] for name, one in x.items()}
        analyzer = innvest_lite.LRP(model, composite, target=function, input_shape=shape)
        found.append((analyzer.analyze(x)["token_ids"], analyzer.check(x)))
    (short, one), (long, other) = found
    unexplained = max(one.unexplained.max(), other.unexplained.max())
    change = np.abs(long[:, :TOKENS] - short).max() / np.abs(short).max()
    return unexplained, change, np.abs(long[:, TOKENS:]).max(), len(other.alarms)


def image_row(name, composite):
    """`(unexplained, None, None, alarms)`."""
    entry = MODELS[f"KerasHub {name} classifier"]
    report = innvest_lite.LRP(entry.build(), composite).check(entry.inputs(np.random.default_rng(0)))
    return report.unexplained.max(), None, None, len(report.alarms)


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", help="networks whose names hold one of these; by default all")
    words = parser.parse_args().words
    machine()
    rows, wrong = [], []
    for name in (*CLASSIFIERS, *BACKBONES, *IMAGES):
        if words and not any(word in name for word in words):
            continue
        for composite in COMPOSITES:
            unexplained, change, padding, alarms = (image_row if name in IMAGES else text_row)(name, composite)
            shown = ["" if number is None else f"{number:.1e}" for number in (unexplained, change, padding)]
            rows.append((name, composite, *shown, alarms))
            wrong += [(name, composite)] if max(unexplained, change or 0) > LARGEST or padding else []
            print(*rows[-1], flush=True)
    print(f"\n{table(('network', 'composite', 'unexplained', 'padding changes', 'at padding', 'alarms'), rows)}")
    print(f"{len(rows) - len(wrong)} of {len(rows)} good")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
