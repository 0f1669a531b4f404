"""What people call: one class per method (`gradient`, `pattern`, `baseline`), and `create_analyzer` by name."""

from innvest_lite.analyzers.base import Analyzer
from innvest_lite.analyzers.baseline import Input, Random
from innvest_lite.analyzers.cam import GradCAM, GradCAMPlusPlus
from innvest_lite.analyzers.gradient import Deconvnet, Gradient, GuidedBackprop, InputTimesGradient
from innvest_lite.analyzers.lrp import LRP, BoundedDeepTaylor, DeepTaylor
from innvest_lite.analyzers.noise import SmoothGrad, SquareGrad, VarGrad
from innvest_lite.analyzers.path import IntegratedGradients
from innvest_lite.analyzers.pattern import PatternAttribution, PatternNet
from innvest_lite.analyzers.perturbation import RISE, Occlusion
from innvest_lite.analyzers.registry import ANALYZERS, create_analyzer
from innvest_lite.analyzers.reverse import ReverseAnalyzer

__all__ = [
    "ANALYZERS",
    "LRP",
    "RISE",
    "Analyzer",
    "BoundedDeepTaylor",
    "DeepTaylor",
    "GradCAM",
    "GradCAMPlusPlus",
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
]
