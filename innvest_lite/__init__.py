"""PatternNet, PatternAttribution and the methods they are compared with, for Keras 3 models.

    >>> import innvest_lite
    >>> analyzer = innvest_lite.PatternAttribution(model)
    >>> analyzer = analyzer.fit(images, verbose=0)
    >>> heat = analyzer.analyze(images[:8])
    >>> heat.shape
    (8, 28, 28, 1)

The names below are loaded when they are first used, so that importing the package does not import TensorFlow.
"""

import importlib

from innvest_lite import _lazy

__version__ = "0.1.0"

_HOMES = {
    "innvest_lite.analyzers": (
        *("ANALYZERS", "Analyzer", "Deconvnet", "Gradient", "GuidedBackprop", "Input", "InputTimesGradient"),
        *("PatternAttribution", "PatternNet", "Random", "ReverseAnalyzer", "create_analyzer", "register_analyzer"),
        *("LRP", "BoundedDeepTaylor", "DeepTaylor", "IntegratedGradients", "SmoothGrad", "SquareGrad", "VarGrad"),
        *("GradCAM", "GradCAMPlusPlus", "Occlusion", "RISE"),
    ),
    "innvest_lite.patterns": ("PatternFits", "PatternStatistics", "Patterns", "fit_patterns", "fit_statistics"),
    "innvest_lite.folders": ("ImageFolder",),
    "innvest_lite.forms": ("Form", "LinearForm", "register_form"),
    "innvest_lite.rules": ("Rule", "register_rule"),
    "innvest_lite.errors": (
        *("CorruptFileError", "ExportError", "InnvestLiteError", "InvalidInputError", "NotFittedError"),
        *("PatternMismatchError", "UnsupportedLayerError"),
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
_MODULES = (
    *("analyzers", "callbacks", "data", "datasets", "errors", "forms", "graph", "images", "metrics", "patterns", "report"),
    *("rules", "visualize"),
)

__all__ = ["__version__", *sorted(_HOME_OF)]


def __getattr__(name):
    if name in _HOME_OF:
        # Keras first, which brings all analyzers: none of our modules is half imported then (see `_lazy`).
        importlib.import_module("keras")
        return getattr(importlib.import_module(_HOME_OF[name]), name)
    if name in _MODULES:
        return importlib.import_module(f"innvest_lite.{name}")
    raise AttributeError(f"module 'innvest_lite' has no attribute {name!r}")


def __dir__():
    return sorted([*__all__, *_MODULES])


_lazy.register_with_keras()
