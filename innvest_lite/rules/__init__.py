"""How relevance goes back through a node: rules (`gradient`, `pattern`, `lrp`, `first_layer`), and which node gets which.

`matchers` say for which nodes a rule is, `presets` are the composites that people know by name, `composite` binds.
"""

from innvest_lite.rules.attention import Halves, Proportional, SoftmaxTaylor, ValuePath
from innvest_lite.rules.base import RULES, Call, Evaluated, Rule, register_rule
from innvest_lite.rules.composite import Plan, Step, bind
from innvest_lite.rules.first_layer import Box, Flat, WSquare
from innvest_lite.rules.gradient import Deconvnet, Gradient, GuidedBackprop, TokenSum
from innvest_lite.rules.lrp import AlphaBeta, Epsilon, Gamma, Zero, ZPlus
from innvest_lite.rules.matchers import (
    Matcher,
    affine,
    anything,
    before_first,
    both_sides,
    first,
    gated,
    kernel_bearing,
    kind,
    last,
    layer,
    monotone,
    named,
    offset,
    one_position,
    rectified,
    squashed,
    unshared,
    until,
    weighted,
)
from innvest_lite.rules.pattern import GatedSignal, InverseScale, Pass, Pattern
from innvest_lite.rules.pattern_shares import PatternEvidence, PatternMagnitudes, PatternShares
from innvest_lite.rules.presets import PRESETS, preset
from innvest_lite.rules.sites import Site
from innvest_lite.rules.weightless import Coefficients, Contributions, Elementwise, Magnitude, Norm

__all__ = [
    "PRESETS",
    "RULES",
    "AlphaBeta",
    "Box",
    "Call",
    "Coefficients",
    "Contributions",
    "Deconvnet",
    "Elementwise",
    "Epsilon",
    "Evaluated",
    "Flat",
    "Gamma",
    "GatedSignal",
    "Gradient",
    "GuidedBackprop",
    "Halves",
    "InverseScale",
    "Magnitude",
    "Matcher",
    "Norm",
    "Pass",
    "Pattern",
    "PatternEvidence",
    "PatternMagnitudes",
    "PatternShares",
    "Plan",
    "Proportional",
    "Rule",
    "Site",
    "SoftmaxTaylor",
    "Step",
    "TokenSum",
    "ValuePath",
    "WSquare",
    "ZPlus",
    "Zero",
    "affine",
    "anything",
    "before_first",
    "bind",
    "both_sides",
    "first",
    "gated",
    "kernel_bearing",
    "kind",
    "last",
    "layer",
    "monotone",
    "named",
    "offset",
    "one_position",
    "preset",
    "rectified",
    "register_rule",
    "squashed",
    "unshared",
    "until",
    "weighted",
]
