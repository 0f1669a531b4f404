"""This package as a contestant of `scripts/benchmarks/race.py`, through `create_analyzer` and `analyze`."""

import contextlib
import functools

from common.networks import images, kernels
from keras_models import built
from worker import CELLS, EPSILON, MASKS, NOISE, SAMPLES, STEPS, TOGETHER, WINDOW, serve, versions

import innvest_lite

OPTIONS = {
    "integrated_gradients": {"steps": STEPS},
    "lrp.epsilon": {"epsilon": EPSILON},
    "occlusion": {"window": WINDOW, "stride": WINDOW},
    "pattern.attribution_average": {"shares": "average"},
    "rise": {"masks": MASKS, "cells": CELLS, "score": "logit"},
    "smoothgrad": {"augment_by_n": SAMPLES, "noise_scale": NOISE},
}
PLAIN = (
    *("gradient", "input_t_gradient", "guided_backprop", "deconvnet", "lrp.epsilon_plus_flat"),
    *("lrp.alpha_1_beta_0", "lrp.alpha_2_beta_1", "lrp.sequential_preset_a", "deep_taylor", "gradcam"),
)
PATTERNS = "patterns: VGG16's kernels; for ResNet50 fitted on 8 images"
NOTES = {
    "integrated_gradients": "left Riemann sum",
    "pattern.net": PATTERNS,
    "pattern.attribution": f"{PATTERNS}, with shares of the sample",
    "pattern.attribution_average": PATTERNS,
}


@functools.lru_cache(maxsize=1)
def patterns(name):
    """The kernels where they will do, as they cost what fitted patterns cost; else patterns of a few images."""
    model = built(name)
    if name == "VGG16":
        return kernels(model)
    return innvest_lite.fit_patterns(model, images(8), batch_size=8, verbose=0)


@contextlib.contextmanager
def explaining(model, method, x):
    """The call to time."""
    options = {**OPTIONS.get(method, {})}
    if method.startswith("pattern."):
        options["patterns"] = patterns(model)
    if method == "lrp.epsilon_plus_flat":
        analyzer = innvest_lite.LRP(built(model), "epsilon_plus_flat", composite_options={"epsilon": EPSILON})
    else:
        analyzer = innvest_lite.create_analyzer(method.removesuffix("_average"), built(model), **options)
    size = max(len(x), TOGETHER)
    yield {"": lambda: analyzer.analyze(x, batch_size=size), "class 0": lambda: analyzer.analyze(x, 0, batch_size=size)}


if __name__ == "__main__":
    installed = {"innvest_lite": innvest_lite.__version__, **versions("tensorflow", "keras")}
    serve(explaining, {**dict.fromkeys([*PLAIN, *OPTIONS], ""), **NOTES}, installed)
