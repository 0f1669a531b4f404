"""INNvestigate as a contestant of `scripts/benchmarks/race.py`."""

import contextlib

import innvestigate
import tensorflow as tf
from worker import EPSILON, SAMPLES, STEPS, serve, versions

OPTIONS = {
    "integrated_gradients": {"steps": STEPS},
    "lrp.epsilon": {"epsilon": EPSILON},
    "smoothgrad": {"augment_by_n": SAMPLES},
}
PLAIN = (
    *("gradient", "input_t_gradient", "guided_backprop", "deconvnet"),
    *("lrp.alpha_1_beta_0", "lrp.alpha_2_beta_1", "lrp.sequential_preset_a", "deep_taylor"),
)
NOTES = {
    "integrated_gradients": "left Riemann sum",
    "smoothgrad": "noise of standard deviation 1, whatever is asked for",
}
PATTERNS = ("pattern.net", "pattern.attribution", "pattern.attribution_average")
MISSING = dict.fromkeys(PATTERNS, "not there: version 2 has no pattern methods")
# Its analyzers of ResNet50 take minutes to build, so it is tried with this alone, on single images.
RESNET50 = ("gradient",)


@contextlib.contextmanager
def explaining(model, method, x):
    """The call to time."""
    if model == "ResNet50" and (method not in RESNET50 or len(x) > 1):
        raise ValueError("left out: its analyzers of ResNet50 take minutes to build")
    built = getattr(tf.keras.applications, model)(weights=None, classifier_activation=None)
    # Their check of layers raises where it means to warn.
    options = {} if method in ("smoothgrad", "integrated_gradients") else {"disable_model_checks": True}
    analyzer = innvestigate.create_analyzer(method, built, **OPTIONS.get(method, {}), **options)
    yield lambda: analyzer.analyze(x)


if __name__ == "__main__":
    tf.compat.v1.disable_eager_execution()
    methods = {**dict.fromkeys([*PLAIN, *OPTIONS], ""), **NOTES}
    serve(explaining, methods, versions("innvestigate", "tensorflow-cpu"), MISSING)
