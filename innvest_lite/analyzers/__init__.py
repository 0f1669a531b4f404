"""What people call: one class per method (`gradient`, `pattern`, `baseline`), and `create_analyzer` by name."""

from innvest_lite.analyzers.base import Analyzer
from innvest_lite.analyzers.baseline import Input, Random
from innvest_lite.analyzers.gradient import Deconvnet, Gradient, GuidedBackprop, InputTimesGradient
from innvest_lite.analyzers.lrp import LRP, BoundedDeepTaylor, DeepTaylor
from innvest_lite.analyzers.pattern import PatternAttribution, PatternNet
from innvest_lite.analyzers.registry import ANALYZERS, create_analyzer
from innvest_lite.analyzers.reverse import ReverseAnalyzer

__all__ = [
    "ANALYZERS",
    "LRP",
    "Analyzer",
    "BoundedDeepTaylor",
    "DeepTaylor",
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
