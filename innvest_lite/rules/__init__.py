"""How relevance goes back through a node: rules (`gradient`, `pattern`) and which node gets which (`composite`)."""

from innvest_lite.rules.base import RULES, Call, Rule, register_rule
from innvest_lite.rules.composite import Plan, Step, anything, bind, gated, kernel_bearing, kind
from innvest_lite.rules.gradient import Deconvnet, Gradient, GuidedBackprop, TokenSum
from innvest_lite.rules.pattern import GatedSignal, InverseScale, Pass, Pattern

__all__ = [
    "RULES",
    "Call",
    "Deconvnet",
    "GatedSignal",
    "Gradient",
    "GuidedBackprop",
    "InverseScale",
    "Pass",
    "Pattern",
    "Plan",
    "Rule",
    "Step",
    "TokenSum",
    "anything",
    "bind",
    "gated",
    "kernel_bearing",
    "kind",
    "register_rule",
]
