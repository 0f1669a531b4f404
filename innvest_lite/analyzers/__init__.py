"""What people call: one class per method (`gradient`, `pattern`, `baseline`), and `create_analyzer` by name.

- `base`: `Analyzer`, a Keras model; options, data in and out, files. It holds an `explainer`, the engine, which `binding`
  makes; how a method explains tensors is a `strategy`.
- `reverse`, `gradient`, `lrp`, `pattern`, `cam`: one backward `sweep` by the rules of a plan; `guard` looks whether the
  weights that patterns belong to are still there.
- `deeplift`: multipliers back through the plan, from the samples and `references` gone through side by side.
- `attention_maps`: the weights of attention, multiplied up along the `token_flow`; where tokens lie, `token_places` says.
- `averaged` with `path`, `expected` and `noise`: gradients at many altered samples. `perturbation` with `masks`, and
  `scorecam`: outputs under masks.
- `shapley`: of arrays alone, by the package shap.
- `registry`, `keywords`: methods by iNNvestigate's names. `quantus`: as that package wants them.
"""

from innvest_lite.analyzers.attention_maps import AttentionRollout, GradientWeightedAttention
from innvest_lite.analyzers.base import Analyzer
from innvest_lite.analyzers.baseline import Input, Random
from innvest_lite.analyzers.cam import GradCAM, GradCAMPlusPlus, GuidedGradCAM, LayerCAM
from innvest_lite.analyzers.deeplift import DeepLIFT
from innvest_lite.analyzers.expected import ExpectedGradients
from innvest_lite.analyzers.gradient import Deconvnet, Gradient, GuidedBackprop, InputTimesGradient
from innvest_lite.analyzers.lrp import LRP, BoundedDeepTaylor, DeepTaylor
from innvest_lite.analyzers.noise import SmoothGrad, SquareGrad, VarGrad
from innvest_lite.analyzers.path import IntegratedGradients
from innvest_lite.analyzers.pattern import PatternAttribution, PatternNet
from innvest_lite.analyzers.perturbation import RISE, Occlusion
from innvest_lite.analyzers.registry import ANALYZERS, create_analyzer, register_analyzer
from innvest_lite.analyzers.reverse import ReverseAnalyzer
from innvest_lite.analyzers.scorecam import ScoreCAM
from innvest_lite.analyzers.shapley import KernelSHAP

__all__ = [
    "ANALYZERS",
    "LRP",
    "RISE",
    "Analyzer",
    "AttentionRollout",
    "BoundedDeepTaylor",
    "DeepLIFT",
    "DeepTaylor",
    "ExpectedGradients",
    "GradCAM",
    "GradCAMPlusPlus",
    "GuidedGradCAM",
    "KernelSHAP",
    "LayerCAM",
    "ScoreCAM",
    "GradientWeightedAttention",
    "IntegratedGradients",
    "Occlusion",
    "SmoothGrad",
    "SquareGrad",
    "VarGrad",
    "Deconvnet",
    "Gradient",
    "GuidedBackprop",
    "Input",
    "InputTimesGradient",
    "PatternAttribution",
    "PatternNet",
    "Random",
    "ReverseAnalyzer",
    "create_analyzer",
    "register_analyzer",
]
