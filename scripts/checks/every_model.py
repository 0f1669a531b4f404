"""Runs every analyzer that needs no fitting on all keras.applications models and a small vision transformer.

Usage: `python scripts/checks/every_model.py [NAME ...]`. Each model runs in a process of its own, with random weights, at
the smallest input it allows, eagerly (which needs no compilation). A row a model: how many methods gave finite values that
are not all 0; which had no rule for some layer (the documented UnsupportedLayerError); which failed. Exit code 1 if one
failed.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from common.each_model import build, names

# Options that keep the number of evaluations small; the names are those of create_analyzer, or of LRP's composites.
FEW = {
    "integrated_gradients": {"steps": 2},
    "smoothgrad": {"augment_by_n": 2},
    "expected_gradients": {"augment_by_n": 2},
    "squaregrad": {"augment_by_n": 2},
    "vargrad": {"augment_by_n": 2},
    "occlusion": {"window": 40, "stride": 40},
    "rise": {"masks": 2},
}
# Other names of methods that are here already.
ALIASES = (
    "gradient.baseline",
    "gradient_shap",
    "deep_lift.wrapper",
    "lrp",
    "lrp.alpha_beta",
    "lrp.sequential_preset_b_flat_until_idx",
    "lrp.z_plus_fast",
)


def methods():
    """Name -> a function that makes the analyzer of a model."""
    import innvest_lite
    from innvest_lite.analyzers.registry import ON_ARRAYS

    named = {name: make for name, make in innvest_lite.ANALYZERS.items() if not name.startswith("pattern.")}
    named = {name: make for name, make in named.items() if name not in ON_ARRAYS}
    makers = {
        name: (lambda model, make=make, name=name: make(model, **FEW.get(name, {})))
        for name, make in named.items()
        if name not in ALIASES
    }
    for composite in ("gamma", "epsilon_plus_flat", "epsilon_gamma_box", "epsilon_alpha2_beta1_flat"):
        makers[composite] = lambda model, composite=composite: innvest_lite.LRP(model, composite)
    return makers


def vision_transformer():
    """Two blocks of attention over 4x4 patches."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(1)
    image = keras.Input((32, 32, 3))
    x = layers.Reshape((64, 32))(layers.Conv2D(32, 4, strides=4)(image))
    x = x + layers.Embedding(64, 32)(keras.ops.arange(64)[None])
    for _ in range(2):
        y = layers.LayerNormalization()(x)
        x = x + layers.MultiHeadAttention(4, 8)(y, y)
        y = layers.Dense(64, activation="gelu")(layers.LayerNormalization()(x))
        x = x + layers.Dense(32)(y)
    x = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(x))
    return keras.Model(image, layers.Dense(10, activation="softmax")(x))


def one(name):
    """Prints, as JSON, what became of every method on one model."""
    import numpy as np

    from innvest_lite.errors import UnsupportedLayerError

    if name == "ViT":
        model, x = vision_transformer(), np.random.default_rng(0).normal(size=(1, 32, 32, 3)).astype("float32")
    else:
        model, x = build(name)
    found = {}
    for method, make in methods().items():
        start = time.perf_counter()
        try:
            values = np.asarray(make(model)(x[:1]))
            good = np.isfinite(values).all() and values.shape == x[:1].shape
            # Grad-CAM's map is rectified: it may be all 0.
            found[method] = "ok" if good and (values.any() or "cam" in method) else "bad values"
        except UnsupportedLayerError:
            found[method] = "unsupported"
        except Exception as error:
            found[method] = f"{type(error).__name__}: {str(error)[:200]}"
        found[method] = [found[method], round(time.perf_counter() - start, 1)]
    print(json.dumps(found))


def row(name):
    """Runs one model and describes what came; returns the text and whether all is well."""
    done = subprocess.run([sys.executable, __file__, "--inside", name], capture_output=True, text=True)
    if done.returncode:
        return f"BAD {name:20s} {done.stderr[-300:]}", False
    found = json.loads(done.stdout.splitlines()[-1])
    by_result = {}
    for method, (result, _) in found.items():
        by_result.setdefault(result, []).append(method)
    finite, unsupported = len(by_result.pop("ok", ())), by_result.pop("unsupported", [])
    text = f"{finite} of {len(found)} finite in {sum(seconds for _, seconds in found.values()):.0f} s"
    text += f"; no rule: {', '.join(unsupported)}" if unsupported else ""
    text += "".join(f"; {result}: {', '.join(names)}" for result, names in by_result.items())
    return f"{'BAD' if by_result else 'ok '} {name:20s} {text}", not by_result


def main():
    """Two models at a time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    if arguments.inside:
        one(arguments.models[0])
        return
    chosen = arguments.models or [*names(), "ViT"]
    with concurrent.futures.ThreadPoolExecutor(arguments.processes) as pool:
        results = []
        for text, good in pool.map(row, chosen):
            print(text, flush=True)
            results.append(good)
    print(f"{sum(results)} of {len(results)} models good")
    sys.exit(not all(results))


if __name__ == "__main__":
    main()
