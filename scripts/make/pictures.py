"""The README's pictures, docs/pictures: `python scripts/make/pictures.py`.

- methods.png: a method of every family on digits that the shipped classifier was not trained on.
- known_signal.png: what methods show of images whose signal is known, next to that signal; a linear readout and a CNN,
  trained here (see `datasets.template_images`; the correlations are in the README, by reproduce_paper.py).
"""

import argparse
import os
import pathlib
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["KERAS_BACKEND"] = "tensorflow"
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import numpy as np
from common.templates import trained_on_templates

import innvest_lite
from innvest_lite import visualize
from innvest_lite.cli import models
from innvest_lite.cli.pictures import pictures_of

METHODS = (
    *("input", "gradient", "deconvnet", "guided_backprop", "integrated_gradients", "gradcam", "occlusion", "rise"),
    *("lrp.epsilon", "lrp.sequential_preset_a_flat", "deep_taylor", "pattern.net", "pattern.attribution"),
)
NETWORKS = {"linear": "a linear readout", "CNN": "a CNN of 4 convolutions"}


def methods():
    """Digits by methods."""
    digits, _ = innvest_lite.data.load_digits()
    model = innvest_lite.data.load_model()
    patterns = innvest_lite.fit_patterns(model, digits, verbose=0)
    images = digits[[0, 3, 4, 7, 9]]
    columns = [pictures_of(name, models.create(name, model, patterns).analyze(images), images * 255) for name in METHODS]
    labels = [f"predicted {digit}" for digit in model.predict(images, verbose=0).argmax(axis=-1)]
    return visualize.grid([list(row) for row in zip(*columns, strict=True)], labels, list(METHODS), cell=84)


def known_signal():
    """Two images of each network by methods, next to the signal."""
    rows, labels = [], []
    for kind, name in NETWORKS.items():
        model, data, shown, test = trained_on_templates(kind, strength=0.5, seed=0)
        held_out = range(test.start, len(data.images))
        chosen = [next(place for place in held_out if data.labels[place] == label) for label in (0, 1)]
        columns = {"image": data.images[chosen], "its signal": data.signal[chosen]}
        for method in ("PatternNet", "Gradient", "Deconvnet", "GuidedBackprop"):
            analyzer = getattr(innvest_lite, method)(model)
            if method == "PatternNet":
                analyzer.fit(data.images[shown], batch_size=100, verbose=0)
            columns[method] = analyzer.analyze(data.images[chosen], target=data.labels[chosen])
        rows += zip(*map(visualize.project, columns.values()), strict=True)
        labels += [f"{name}, class {label}" for label in (0, 1)]
    return visualize.grid([list(row) for row in rows], labels, list(columns))


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("docs/pictures"))
    out = parser.parse_args().out
    for make in (methods, known_signal):
        picture = make()
        visualize.save(picture, out / f"{make.__name__}.png")
        print(f"{out / make.__name__}.png, {np.shape(picture)[1]} x {np.shape(picture)[0]} pixels")


if __name__ == "__main__":
    main()
