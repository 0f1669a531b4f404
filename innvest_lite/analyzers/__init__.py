"""What people call: one class per method (`gradient`, `pattern`, `baseline`), and `create_analyzer` by name."""

from innvest_lite.analyzers.base import Analyzer, ReverseAnalyzer
from innvest_lite.analyzers.baseline import Input, Random
from innvest_lite.analyzers.gradient import Deconvnet, Gradient, GuidedBackprop, InputTimesGradient
from innvest_lite.analyzers.pattern import PatternAttribution, PatternNet
from innvest_lite.analyzers.registry import ANALYZERS, create_analyzer

__all__ = [
    "ANALYZERS",
    "Analyzer",
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
