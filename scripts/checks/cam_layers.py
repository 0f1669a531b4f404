"""Which layer Grad-CAM looks at by itself, for all models of keras.applications: the input of their global pooling?

Usage: `python scripts/checks/cam_layers.py [NAME ...]`. The models have random weights, and no image is explained. What
they pool is read from Keras's own objects: the input of the last global pooling layer, or, of a model that flattens (VGG),
that of the last pooling before. Exit code 1 if one is another.
"""

import argparse
import os
import pathlib
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from common.each_model import made, names

# At the smallest input, the last feature maps have one position, as what is pooled has.
SIDE = 96


def pooled(model):
    """`(name, shape)` of what the last pooling of a model takes, by Keras alone."""
    import keras

    whole = [layer for layer in model.layers if isinstance(layer, keras.layers.GlobalAveragePooling2D)]
    flattens = any(isinstance(layer, keras.layers.Flatten) for layer in model.layers)
    local = [layer for layer in model.layers if isinstance(layer, keras.layers.MaxPooling2D)]
    tensor = (local if flattens and not whole else whole)[-1].input
    return next(each.name for each in model.operations if each.output is tensor), tuple(tensor.shape)


def main():
    """One model after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*")
    chosen = parser.parse_args().models or names()

    import keras

    import innvest_lite

    good = 0
    for name in chosen:
        keras.backend.clear_session()
        model = made(name, SIDE)
        expected, shape = pooled(model)
        found = innvest_lite.GradCAM(model)
        given = next(tuple(each.output.shape) for each in model.operations if each.name == found.layer)
        agree = (found.layer, given) == (expected, shape)
        good += agree
        word = "ok " if agree else "BAD"
        print(f"{word} {name:20s} {found.layer:32s} {given!s:24s} pooled: {expected} {shape}", flush=True)
    print(f"{good} of {len(chosen)}")
    sys.exit(good != len(chosen))


if __name__ == "__main__":
    main()
