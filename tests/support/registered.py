"""A model and an analyzer of it by every registered name, with few evaluations, for many tests."""

from functools import cache

import models

import innvest_lite
from innvest_lite import create_analyzer
from innvest_lite.analyzers import ANALYZERS

# All that iNNvestigate 1.0.9 has; 2 left `deep_lift.wrapper` and the pattern methods out.
GRADIENTS = ("gradient", "gradient.baseline", "input_t_gradient", "deconvnet", "guided_backprop")
LRPS = (
    *("lrp", "lrp.z", "lrp.z_IB", "lrp.epsilon", "lrp.epsilon_IB", "lrp.w_square", "lrp.flat", "lrp.alpha_beta"),
    *("lrp.alpha_2_beta_1", "lrp.alpha_2_beta_1_IB", "lrp.alpha_1_beta_0", "lrp.alpha_1_beta_0_IB", "lrp.z_plus"),
    *("lrp.z_plus_fast", "lrp.sequential_preset_a", "lrp.sequential_preset_b", "lrp.sequential_preset_a_flat"),
    *("lrp.sequential_preset_b_flat", "lrp.sequential_preset_b_flat_until_idx"),
)
PATTERNS = ("pattern.net", "pattern.attribution")
TAYLOR = ("deep_taylor", "deep_taylor.bounded")
LIFT = ("deep_lift.wrapper",)
NAMES = ("input", "random", *GRADIENTS, "integrated_gradients", "smoothgrad", *LRPS, *TAYLOR, *LIFT, *PATTERNS)
OURS = ("squaregrad", "vargrad", "gradcam", "gradcam++", "occlusion", "rise", "lrp.epsilon_plus", "lrp.epsilon_plus_flat")
OURS += ("lrp.attn_lrp", "lrp.cp_lrp", "lrp.cp_lrp_gamma", "deep_lift", "deep_lift.reveal_cancel")
OURS += ("expected_gradients", "gradient_shap", "layercam", "scorecam", "guided_gradcam")
# These want attention, which the model here has none of.
ATTENTION = ("attention.rollout", "attention.gradient_weighted")
# This explains arrays alone.
ON_ARRAYS = ("kernel_shap",)
# A name of each class: what a class does, such as coming back from a file, is tried once.
OF_EACH_CLASS = {
    method.analyzer: name for name, method in reversed(ANALYZERS.items()) if name not in (*ATTENTION, *ON_ARRAYS)
}
OF_EACH_CLASS = tuple(OF_EACH_CLASS.values())
# Fewer evaluations than by default.
FEW = {
    "integrated_gradients": {"steps": 3},
    "rise": {"masks": 4},
    "occlusion": {"window": 4, "stride": 4},
    **dict.fromkeys(("smoothgrad", "squaregrad", "vargrad", "expected_gradients", "gradient_shap"), {"augment_by_n": 3}),
}


@cache
def model():
    """Convolutions, one with a BatchNormalization to fuse and one depthwise, and dense layers; its biases matter."""
    return models.chain()


@cache
def patterns(estimator="relu"):
    return innvest_lite.fit_patterns(model(), models.normal(30, 9, 8, 2, seed=7), estimator, verbose=0)


def create(name, **options):
    given = {"patterns": patterns()} if name in PATTERNS else {}
    return create_analyzer(name, model(), **{**given, **FEW.get(name, {}), **options})
