"""Explanations of photographs, by networks of VGG's, ResNet's and MobileNetV2's blocks that are trained here.

Usage: `pip install scikit-image scikit-learn`, then `python scripts/experiments/photographs.py sheet --out
photographs.jpg`, `... pictures` or `... measure --seeds 0 1`, with `--cache folder` to keep the networks; five minutes a
network.

The networks tell from which of twelve photographs a piece of 64 x 64 pixels is; patterns are fitted on pieces. `sheet`
shows whole photographs by a few methods, on a VGG-like and a residual network side by side, `pictures` by every choice, a
file a network, and `explained` one photograph by `visualize.explain`. `measure` asks for one class in mosaics of four
pieces of different classes (the grid pointing game: Boehle et al. 2021, arXiv 2104.00032), so that its cell is known to
hold what speaks for the class: precision and mass accuracy of what speaks for it, and of a signal's magnitude. There are no
other photographs, so that the networks know these by heart.
"""

import argparse
import os
import pathlib
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import numpy as np
from common.choices import by_every_choice
from common.measuring import machine
from common.photographs import CLASSES, NETWORKS, SIZE, mosaics, photographs, pieces, scaled, trained, whole
from common.tables import table_of
from PIL import Image

import innvest_lite
from innvest_lite import visualize
from innvest_lite.metrics import ground_truth

FITTED, CELL = 2000, 112
ON_THE_SHEET = (("vgg", "VGG-like"), ("resnet", "residual"))
SHOWN = ("astronaut", "cat", "coffee", "motorcycle", "temple", "dahlia")
ESTIMATORS = {word: word for word in ("relu.rectified", "linear", "relu.safe")}
OTHERS = (
    *("gradient", "input_t_gradient", "integrated_gradients", "lrp.epsilon", "lrp.z_plus", "lrp.epsilon_plus_flat"),
    *("lrp.sequential_preset_a", "gradcam"),
)


def analyzers(model, seed):
    """Name -> analyzer: the other methods, and the pattern methods by every choice."""
    return by_every_choice(model, pieces(FITTED, [seed, 2_000], size=2 * SIZE)[0], OTHERS, ESTIMATORS)


def pictures(options):
    """Writes a sheet for each network: photographs by methods."""
    images, targets = whole(2 * SIZE), [CLASSES.index(name) for name in SHOWN]
    images = images[targets]
    for network in options.networks:
        model = trained(network, options.seeds[0], options.cache, 2 * SIZE)
        logits = model.predict(images, verbose=0)
        labels = [f"{name}, {CLASSES[found]}" for name, found in zip(SHOWN, logits.argmax(axis=1), strict=True)]
        columns = {"input": visualize.project(images)}
        for name, analyzer in analyzers(model, options.seeds[0]).items():
            draw = visualize.project if name.startswith("PatternNet") else visualize.heatmap
            columns[name] = draw(analyzer.analyze(images, target=targets))
        names = [name.replace("PatternAttribution", "PA").replace("PatternNet", "PN") for name in columns]
        sheet = visualize.grid([list(row) for row in zip(*columns.values(), strict=True)], labels, names, cell=CELL)
        path = options.out.with_stem(f"{options.out.stem}_{network}")
        Image.fromarray(sheet).quantize(200).save(path, optimize=True)
        print(path)


def sheet(options):
    """Writes one sheet: photographs in rows, a few methods in columns, by the networks of `ON_THE_SHEET`."""
    chosen = list(map(CLASSES.index, SHOWN[:-1]))
    images = whole(2 * SIZE)[chosen]
    columns = {"input": visualize.project(images)}
    for network, title in ON_THE_SHEET:
        model = trained(network, options.seeds[0], options.cache, 2 * SIZE)
        patterns = innvest_lite.fit_patterns(model, pieces(FITTED, [options.seeds[0], 2_000], size=2 * SIZE)[0], verbose=0)
        methods = {
            "gradient": innvest_lite.Gradient(model),
            "LRP": innvest_lite.create_analyzer("lrp.epsilon_plus_flat", model),
            "PatternNet": innvest_lite.PatternNet(model, patterns=patterns),
            "PatternAttribution": innvest_lite.PatternAttribution(model, patterns=patterns),
        }
        for name, analyzer in methods.items():
            draw = visualize.project if name == "PatternNet" else visualize.heatmap
            columns[f"{name}, {title}"] = draw(analyzer.analyze(images, target=chosen))
    cells = [list(row) for row in zip(*columns.values(), strict=True)]
    picture = visualize.grid(cells, SHOWN[:-1], list(columns), cell=CELL)
    Image.fromarray(picture).save(options.out, quality=85, subsampling=0)
    print(options.out)


def explained(options):
    """Writes one photograph at its own proportions, explained in one call."""
    model = trained("vgg", options.seeds[0], options.cache, 2 * SIZE)
    found = visualize.explain(model, photographs()["coffee"], labels=CLASSES, preprocessor=scaled)
    print(found.save(options.out), found)


def measure(options):
    """Prints a table: methods in rows, networks and seeds in columns, local precision and mass accuracy."""
    machine()
    scores = {}
    for network in options.networks:
        for seed in options.seeds:
            model = trained(network, seed, options.cache, 2 * SIZE)
            single, labels = pieces(1000, [seed, 3_000], size=2 * SIZE)
            accuracy = (model.predict(single, verbose=0).argmax(axis=1) == labels).mean()
            print(f"{network} {seed}: accuracy {accuracy:.3f}", flush=True)
            x, y, masks = mosaics(options.samples, 1_000 + seed)
            for name, analyzer in analyzers(model, seed).items():
                maps = analyzer.analyze(x, target=y)
                evidence = np.maximum(maps.sum(axis=-1), 0) if analyzer.sign_tells else np.abs(maps.sum(axis=-1))
                found = ground_truth(evidence[..., None], masks).mean
                scores.setdefault(name, {})[f"{network} {seed}"] = found
    for score in ("precision", "mass_accuracy"):
        rows = [{score: name, **{at: found[score] for at, found in each.items()}} for name, each in scores.items()]
        print(f"\n{table_of(rows, '.3f')}")


def main():
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("sheet", "pictures", "explained", "measure"))
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--cache", type=pathlib.Path, default=pathlib.Path("photograph_networks"))
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("photographs.png"))
    options = parser.parse_args()
    {"sheet": sheet, "pictures": pictures, "explained": explained, "measure": measure}[options.what](options)


if __name__ == "__main__":
    main()
