"""Xplique as a contestant of `scripts/benchmarks/race.py`."""

import contextlib
import functools

import tensorflow as tf
from keras_models import built
from worker import CELLS, MASKS, NOISE, SAMPLES, STEPS, TOGETHER, WINDOW, serve, versions
from xplique import attributions

METHODS = {
    "deconvnet": attributions.DeconvNet,
    "gradcam": attributions.GradCAM,
    "gradient": attributions.Saliency,
    "guided_backprop": attributions.GuidedBackprop,
    "input_t_gradient": attributions.GradientInput,
    "integrated_gradients": functools.partial(attributions.IntegratedGradients, steps=STEPS),
    "occlusion": functools.partial(attributions.Occlusion, patch_size=WINDOW, patch_stride=WINDOW),
    "rise": functools.partial(attributions.Rise, nb_samples=MASKS, grid_size=CELLS),
    "smoothgrad": functools.partial(attributions.SmoothGrad, nb_samples=SAMPLES, noise=NOISE),
}


@contextlib.contextmanager
def explaining(model, method, x):
    """The call to time; class 0 is explained, as Xplique wants to be told."""
    explainer = METHODS[method](built(model), batch_size=max(len(x), TOGETHER))
    targets = tf.one_hot([0] * len(x), 1000).numpy()
    yield lambda: explainer.explain(x, targets).numpy()


if __name__ == "__main__":
    notes = {**dict.fromkeys(METHODS, "class 0"), "integrated_gradients": "class 0, trapezoid rule"}
    serve(explaining, notes, versions("xplique", "tensorflow-cpu", "keras"))
