"""INNvestigate's keyword arguments and words for rules, as options of our classes. Called by the registry."""

from __future__ import annotations

from typing import Any

from innvest_lite.analyzers.base import Analyzer
from innvest_lite.analyzers.deeplift import RULES, DeepLIFT
from innvest_lite.analyzers.lrp import LRP
from innvest_lite.errors import InvalidInputError
from innvest_lite.options import one_of, whole
from innvest_lite.rules import AlphaBeta, Box, Epsilon, Flat, Rule, WSquare, Zero, ZPlus, first, kind, presets, until

_PATTERN_TYPES = {
    "relu": "relu",
    "relu.positive": "relu",
    "relu.negative": "relu.negative",
    "linear": "linear",
    "filter": "filter",
}
_SHARED, _IGNORED = {"bias": "shared"}, {"bias": "ignore"}
_TWO_ONE, _ONE_ZERO = {"alpha": 2.0, "beta": 1.0}, {"alpha": 1.0, "beta": 0.0}
# INNvestigate's words for rules, in small letters.
_RULE_WORDS = {
    "z": (Zero, {}),
    "zero": (Zero, {}),
    "zib": (Zero, {"bias": False}),
    "epsilon": (Epsilon, {}),
    "epsilonib": (Epsilon, {"bias": False}),
    "wsquare": (WSquare, {}),
    "flat": (Flat, {}),
    "zplus": (ZPlus, {}),
    "zplusfast": (ZPlus, {"fast": True}),
    "alphabeta": (AlphaBeta, _SHARED),
    "alphabetaignorebias": (AlphaBeta, _IGNORED),
    "alpha2beta1": (AlphaBeta, {**_TWO_ONE, **_SHARED}),
    "alpha2beta1ignorebias": (AlphaBeta, {**_TWO_ONE, **_IGNORED}),
    "alpha1beta0": (AlphaBeta, {**_ONE_ZERO, **_SHARED}),
    "alpha1beta0ignorebias": (AlphaBeta, {**_ONE_ZERO, **_IGNORED}),
    "bounded": (Box, {"low": -1.0, "high": 1.0}),
    "box": (Box, {"low": -1.0, "high": 1.0}),
    "zb": (Box, {"low": -1.0, "high": 1.0}),
}
_RULE_OPTIONS = ("epsilon", "alpha", "beta", "bias", "fast")
_BOUNDS = ("low", "high")
ATTENTION = ("gamma", "gamma_convolution", "gates", "bias_factor")
_PLACED = ("input_layer_rule", "until_layer_idx", "until_layer_rule")
LRP_OPTIONS = (*_RULE_OPTIONS, *_PLACED, *_BOUNDS)


def lrp_by_preset(preset: str, model: Any, **options: Any) -> LRP:
    """LRP with a preset: `epsilon`, `alpha`, `beta`, `bias` are options of the preset, the rest as in `_lrp`."""
    own = _taken(options, (*_RULE_OPTIONS, *ATTENTION))
    own = _alpha_beta(own) if preset == "alpha_beta" else own
    if not {*_PLACED, *_BOUNDS, "composite"}.intersection(options):
        return LRP(model, preset, composite_options=own, **options)
    return _lrp(model, presets.preset(preset, **own), options)


def lrp_by_rule(model: Any, *, rule: Any = "epsilon", **options: Any) -> LRP:
    """LRP with one rule for all linear nodes, itself or by name, or with a preset by name, or with a list of pairs."""
    if isinstance(rule, Rule):
        return _lrp(model, presets.everywhere(rule), options)
    if not isinstance(rule, str):
        return LRP(model, rule, **options)
    if _word(rule) not in _RULE_WORDS:
        return lrp_by_preset(rule.lower(), model, **options)
    # INNvestigate's words for rules mean what they mean there.
    options = {"sums": "contribution", **options}
    bounds = _taken(options, _BOUNDS) if _is_box(rule) else {}
    return _lrp(model, presets.everywhere(_rule(rule, {**_taken(options, _RULE_OPTIONS), **bounds}, "rule")), options)


def pattern_analyzer(cls: type[Analyzer], model: Any, *, pattern_type: str | None = None, **options: Any) -> Analyzer:
    """PatternNet or PatternAttribution, whose `estimator` iNNvestigate calls `pattern_type`."""
    if pattern_type is not None:
        options["estimator"] = _PATTERN_TYPES[one_of(pattern_type, _PATTERN_TYPES, "pattern_type")]
    return cls(model, **options)


def deep_lift(model: Any, *, nonlinear_mode: str | None = None, **options: Any) -> Analyzer:
    """DeepLIFT, whose `rule` iNNvestigate calls `nonlinear_mode`."""
    if nonlinear_mode is not None:
        options["rule"] = one_of(nonlinear_mode, RULES, "nonlinear_mode")
    return DeepLIFT(model, **options)


def _lrp(model, pairs, options):
    """LRP with these pairs, behind those that `input_layer_rule`, `until_layer_idx` and `until_layer_rule` ask for."""
    pairs = list(pairs)
    at_input, end, until_rule = (options.pop(name, None) for name in _PLACED)
    bounds = _taken(options, _BOUNDS)
    if bounds and not _is_box(at_input):
        raise InvalidInputError(f"{', '.join(bounds)} go with input_layer_rule='bounded'.")
    if until_rule is not None and end is None:
        raise InvalidInputError("until_layer_rule goes with until_layer_idx.")
    if "composite" in options:
        raise InvalidInputError("This name has its composite; for another one, innvest_lite.LRP(model, composite).")
    if end is not None:
        end = end if isinstance(end, str) else whole(end, "until_layer_idx")
        pairs.insert(0, (until(end) & kind("linear"), _placed(until_rule or "flat", {}, "until_layer_rule")))
    if at_input is not None:
        pairs.insert(0, (first(), _placed(at_input, bounds, "input_layer_rule")))
    return LRP(model, pairs, **options)


def _placed(rule, bounds, name):
    """The rule of some layers: one of ours, iNNvestigate's word for one, or (low, high) for a box."""
    if isinstance(rule, list | tuple) and len(rule) == 2:
        return Box(*rule)
    if isinstance(rule, Rule):
        return rule
    return _rule(rule, bounds, name)


def _rule(given, options, name):
    """The rule that iNNvestigate's word names."""
    if not isinstance(given, str) or _word(given) not in _RULE_WORDS:
        raise InvalidInputError(f"{name} should be a rule, (low, high), or one of {tuple(_RULE_WORDS)}, but is {given!r}.")
    cls, defaults = _RULE_WORDS[_word(given)]
    options = {**defaults, **options}
    return presets.alpha_beta(**_alpha_beta(options))[0][1] if cls is AlphaBeta else cls(**options)


def _alpha_beta(options):
    """INNvestigate says with True and False whether alpha-beta counts the bias."""
    given = options.get("bias")
    return {**options, "bias": "shared" if given else "ignore"} if isinstance(given, bool) else options


def _word(rule):
    return rule.lower().removesuffix("rule").replace("-", "").replace("_", "")


def _is_box(rule):
    return isinstance(rule, str) and _RULE_WORDS.get(_word(rule), (None,))[0] is Box


def _taken(options, names):
    """Takes some options out."""
    return {name: options.pop(name) for name in names if name in options}
