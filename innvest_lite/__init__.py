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
from typing import TYPE_CHECKING, Any

from innvest_lite import _lazy

if TYPE_CHECKING:
    # For editors and type checkers, which do not see names that are loaded when they are asked for.
    from innvest_lite import (
        analyzers as analyzers,
        attributions as attributions,
        callbacks as callbacks,
        data as data,
        datasets as datasets,
        errors as errors,
        forms as forms,
        graph as graph,
        images as images,
        loggers as loggers,
        metrics as metrics,
        patterns as patterns,
        report as report,
        rules as rules,
        texts as texts,
        visualize as visualize,
    )
    from innvest_lite.analyzers import (
        ANALYZERS as ANALYZERS,
        LRP as LRP,
        RISE as RISE,
        Analyzer as Analyzer,
        AttentionRollout as AttentionRollout,
        BoundedDeepTaylor as BoundedDeepTaylor,
        Deconvnet as Deconvnet,
        DeepLIFT as DeepLIFT,
        DeepTaylor as DeepTaylor,
        ExpectedGradients as ExpectedGradients,
        GradCAM as GradCAM,
        GradCAMPlusPlus as GradCAMPlusPlus,
        Gradient as Gradient,
        GradientWeightedAttention as GradientWeightedAttention,
        GuidedBackprop as GuidedBackprop,
        GuidedGradCAM as GuidedGradCAM,
        Input as Input,
        InputTimesGradient as InputTimesGradient,
        IntegratedGradients as IntegratedGradients,
        KernelSHAP as KernelSHAP,
        LayerCAM as LayerCAM,
        Occlusion as Occlusion,
        PatternAttribution as PatternAttribution,
        PatternNet as PatternNet,
        Random as Random,
        ReverseAnalyzer as ReverseAnalyzer,
        ScoreCAM as ScoreCAM,
        SmoothGrad as SmoothGrad,
        SquareGrad as SquareGrad,
        VarGrad as VarGrad,
        create_analyzer as create_analyzer,
        register_analyzer as register_analyzer,
    )
    from innvest_lite.attributions import (
        Attributions as Attributions,
    )
    from innvest_lite.errors import (
        CorruptFileError as CorruptFileError,
        ExportError as ExportError,
        InnvestLiteError as InnvestLiteError,
        InvalidInputError as InvalidInputError,
        NotFittedError as NotFittedError,
        PatternMismatchError as PatternMismatchError,
        UnknownOptionError as UnknownOptionError,
        UnsupportedLayerError as UnsupportedLayerError,
    )
    from innvest_lite.folders import (
        ImageFolder as ImageFolder,
    )
    from innvest_lite.forms import (
        Form as Form,
        LinearForm as LinearForm,
        register_form as register_form,
    )
    from innvest_lite.patterns import (
        PatternFits as PatternFits,
        Patterns as Patterns,
        PatternStatistics as PatternStatistics,
        fit_patterns as fit_patterns,
        fit_statistics as fit_statistics,
    )
    from innvest_lite.rules import (
        Rule as Rule,
        register_rule as register_rule,
    )

__version__ = "0.1.0"

_HOMES = {
    "innvest_lite.analyzers": (
        *("ANALYZERS", "Analyzer", "Deconvnet", "Gradient", "GuidedBackprop", "Input", "InputTimesGradient"),
        *("PatternAttribution", "PatternNet", "Random", "ReverseAnalyzer", "create_analyzer", "register_analyzer"),
        *("LRP", "BoundedDeepTaylor", "DeepLIFT", "DeepTaylor", "ExpectedGradients", "IntegratedGradients", "SmoothGrad"),
        *("SquareGrad", "VarGrad", "AttentionRollout", "GradientWeightedAttention", "Occlusion", "RISE"),
        *("GradCAM", "GradCAMPlusPlus", "GuidedGradCAM", "KernelSHAP", "LayerCAM", "ScoreCAM"),
    ),
    "innvest_lite.patterns": ("PatternFits", "PatternStatistics", "Patterns", "fit_patterns", "fit_statistics"),
    "innvest_lite.attributions": ("Attributions",),
    "innvest_lite.folders": ("ImageFolder",),
    "innvest_lite.forms": ("Form", "LinearForm", "register_form"),
    "innvest_lite.rules": ("Rule", "register_rule"),
    "innvest_lite.errors": (
        *("CorruptFileError", "ExportError", "InnvestLiteError", "InvalidInputError", "NotFittedError"),
        *("PatternMismatchError", "UnknownOptionError", "UnsupportedLayerError"),
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
_MODULES = (
    *("analyzers", "attributions", "callbacks", "data", "datasets", "errors", "forms", "graph", "images", "loggers"),
    *("metrics", "patterns", "report", "rules", "texts", "visualize"),
)

__all__ = ["__version__", *sorted(_HOME_OF)]


def __getattr__(name: str) -> Any:
    if name in _HOME_OF:
        # Keras first, which brings all analyzers: none of our modules is half imported then (see `_lazy`).
        importlib.import_module("keras")
        return getattr(importlib.import_module(_HOME_OF[name]), name)
    if name in _MODULES:
        return importlib.import_module(f"innvest_lite.{name}")
    raise AttributeError(f"module 'innvest_lite' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *_MODULES])


_lazy.register_with_keras()
