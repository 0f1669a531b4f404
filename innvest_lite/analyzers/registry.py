"""`create_analyzer`: analyzers by the names that iNNvestigate gave them, with its keyword arguments and its values.

Where iNNvestigate departs from the papers, these names compute what it computes (so that people can compare), and the
classes themselves follow the papers: alpha-beta puts the whole bias in both denominators here, Deep Taylor hands each
addend of a sum all relevance, integrated gradients are a left Riemann sum of 64 steps, and SmoothGrad's noise has the
standard deviation 1.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import keras

from innvest_lite.analyzers import (
    attention_maps,
    baseline,
    cam,
    deeplift,
    expected,
    gradient,
    keywords,
    lrp,
    noise,
    path,
    pattern,
    perturbation,
    scorecam,
    shapley,
)
from innvest_lite.analyzers.base import Analyzer
from innvest_lite.analyzers.binding import options_of
from innvest_lite.errors import InvalidInputError, did_you_mean
from innvest_lite.foreign import refuse_unknown


@dataclasses.dataclass(frozen=True)
class Method:
    """A name's analyzer: call it with a model and options.

    Attributes:
        analyzer: the class of what it makes.
        summary: what it is, in a line.
        make: a function of a model and options; None for the class itself.
        defaults: options that differ from the class's own.
        words: names of options that `make` takes besides the class's.
        fixed: names of the class's options that `make` sets itself.
    """

    analyzer: type[Analyzer]
    summary: str
    make: Callable | None = None
    defaults: Mapping = dataclasses.field(default_factory=dict)
    words: tuple = ()
    fixed: tuple = ()

    def __call__(self, model: Any, **options: Any) -> Analyzer:
        """The analyzer of a model."""
        return (self.make or self.analyzer)(model, **{**self.defaults, **options})


def _class(analyzer, **defaults):
    summary = inspect.getdoc(analyzer).splitlines()[0]
    return Method(analyzer, summary, None, defaults)


def _composite(preset, summary, sums="contribution", **defaults):
    """LRP by a preset; under iNNvestigate's names, sums share by contribution as there."""
    return _worded(f"LRP: {summary}", functools.partial(keywords.lrp_by_preset, preset), {"sums": sums, **defaults})


def _attention(preset, summary):
    make = functools.partial(keywords.lrp_by_preset, preset)
    return _worded(f"LRP: {summary}", make, {"sums": "auto"}, keywords.ATTENTION)


def _worded(summary, make, defaults, words=()):
    """LRP whose composite the name, and iNNvestigate's words for rules, say."""
    fixed = ("composite", "composite_options")
    return Method(lrp.LRP, summary, make, defaults, (*words, *keywords.LRP_OPTIONS), fixed)


def _patterned(cls):
    return dataclasses.replace(_class(cls), make=functools.partial(keywords.pattern_analyzer, cls), words=("pattern_type",))


_LIFT = Method(
    deeplift.DeepLIFT,
    "DeepLIFT: differences from a reference, rule= or iNNvestigate's nonlinear_mode=",
    keywords.deep_lift,
    words=("nonlinear_mode",),
)
_SHARED = {"bias": "shared"}
_PRESET_A, _PRESET_B = (
    "dense layers epsilon, convolutions alpha 1 beta 0",
    "dense layers epsilon, convolutions alpha 2 beta 1",
)

ANALYZERS = {
    "input": _class(baseline.Input),
    "random": _class(baseline.Random),
    "gradient": _class(gradient.Gradient),
    "gradient.baseline": _class(gradient.Gradient),
    "input_t_gradient": _class(gradient.InputTimesGradient),
    "deconvnet": _class(gradient.Deconvnet),
    "guided_backprop": _class(gradient.GuidedBackprop),
    "integrated_gradients": _class(path.IntegratedGradients, steps=64, rule="left"),
    "expected_gradients": _class(expected.ExpectedGradients),
    "gradient_shap": _class(expected.ExpectedGradients),
    "smoothgrad": _class(noise.SmoothGrad, noise_scale=1.0, relative=False),
    "squaregrad": _class(noise.SquareGrad),
    "vargrad": _class(noise.VarGrad),
    "gradcam": _class(cam.GradCAM),
    "gradcam++": _class(cam.GradCAMPlusPlus),
    "layercam": _class(cam.LayerCAM),
    "scorecam": _class(scorecam.ScoreCAM),
    "guided_gradcam": _class(cam.GuidedGradCAM),
    "attention.rollout": _class(attention_maps.AttentionRollout),
    "attention.gradient_weighted": _class(attention_maps.GradientWeightedAttention),
    "occlusion": _class(perturbation.Occlusion),
    "rise": _class(perturbation.RISE),
    "kernel_shap": _class(shapley.KernelSHAP),
    "lrp": _worded("LRP: one rule for all linear nodes, rule=", keywords.lrp_by_rule, {}, ("rule",)),
    "lrp.z": _composite("zero", "the z-rule"),
    "lrp.z_IB": _composite("zero", "the z-rule, ignoring the bias", bias=False),
    "lrp.epsilon": _composite("epsilon", "epsilon"),
    "lrp.epsilon_IB": _composite("epsilon", "epsilon, ignoring the bias", bias=False),
    "lrp.w_square": _composite("w_square", "w^2"),
    "lrp.flat": _composite("flat", "flat"),
    "lrp.alpha_beta": _composite("alpha_beta", "alpha-beta, alpha= and beta=", **_SHARED),
    "lrp.alpha_2_beta_1": _composite("alpha2_beta1", "alpha 2 beta 1", **_SHARED),
    "lrp.alpha_2_beta_1_IB": _composite("alpha2_beta1", "alpha 2 beta 1, ignoring the bias", bias="ignore"),
    "lrp.alpha_1_beta_0": _composite("alpha1_beta0", "alpha 1 beta 0", **_SHARED),
    "lrp.alpha_1_beta_0_IB": _composite("alpha1_beta0", "alpha 1 beta 0, ignoring the bias", bias="ignore"),
    "lrp.z_plus": _composite("z_plus", "z+"),
    "lrp.z_plus_fast": _composite("z_plus", "z+ with inputs as they are", fast=True),
    "lrp.sequential_preset_a": _composite("sequential_preset_a", _PRESET_A),
    "lrp.sequential_preset_b": _composite("sequential_preset_b", _PRESET_B),
    "lrp.sequential_preset_a_flat": _composite("sequential_preset_a_flat", f"{_PRESET_A}, the first layer flat"),
    "lrp.sequential_preset_b_flat": _composite("sequential_preset_b_flat", f"{_PRESET_B}, the first layer flat"),
    "lrp.sequential_preset_b_flat_until_idx": _composite(
        "sequential_preset_b_flat", f"{_PRESET_B}, flat up to model.layers[until_layer_idx]"
    ),
    "lrp.epsilon_plus": _composite("epsilon_plus", "dense layers epsilon, convolutions z+", "auto"),
    "lrp.epsilon_plus_flat": _composite("epsilon_plus_flat", "the same, the first layer flat", "auto"),
    "lrp.attn_lrp": _attention("attn_lrp", "relevance through the weights of attention and its values alike"),
    "lrp.cp_lrp": _attention("cp_lrp", "relevance through the values of attention, its weights being constants"),
    "lrp.cp_lrp_gamma": _attention("cp_lrp_gamma", "the same, linear layers gamma"),
    "deep_taylor": _class(lrp.DeepTaylor, structure="gradient"),
    "deep_taylor.bounded": _class(lrp.BoundedDeepTaylor, structure="gradient"),
    "deep_lift": _class(deeplift.DeepLIFT),
    "deep_lift.reveal_cancel": _class(deeplift.DeepLIFT, rule="reveal_cancel"),
    "deep_lift.wrapper": _LIFT,
    "pattern.net": _patterned(pattern.PatternNet),
    "pattern.attribution": _patterned(pattern.PatternAttribution),
}

OF_ATTENTION = tuple(
    name for name, method in ANALYZERS.items() if issubclass(method.analyzer, attention_maps.AttentionRollout)
)
"""The names that want self-attention in the model."""

ON_ARRAYS = tuple(name for name, method in ANALYZERS.items() if issubclass(method.analyzer, shapley.KernelSHAP))
"""The names of what explains arrays alone, by a package that need not be there."""


def create_analyzer(name: str, model: Any, **options: Any) -> Analyzer:
    """An analyzer by name.

    Args:
        name: one of `ANALYZERS`, e.g. "pattern.attribution"; iNNvestigate's names compute what they compute there.
        model: a Functional or Sequential `keras.Model`.
        **options: of the analyzer's class, and iNNvestigate's: `neuron_selection_mode` for all; `epsilon`, `alpha`, `beta`,
            `bias`, `input_layer_rule`, `low`, `high`, `until_layer_idx`, `until_layer_rule` for LRP;
            `postprocess`, `augment_by_n`, `noise_scale`, `steps`, `reference_inputs`, `nonlinear_mode`, `patterns`,
            `pattern_type` where they belong.

    Returns:
        An `Analyzer`.

    Raises:
        InvalidInputError: there is no analyzer of that name; the message suggests the nearest. Or it has no such option.
    """
    method = method_of(name)
    refuse_unknown(f"The analyzer {name!r}", options, _options_of(method))
    return method(model, **options)


def register_analyzer(name: str, summary: str | None = None, *, package: str = "custom") -> Callable[[type], type]:
    """Class decorator: gives an analyzer a name for `create_analyzer`, and makes Keras know it in files.

    Args:
        name: for `create_analyzer`.
        summary: what it is, in a line; None: the first line of its docstring.
        package: under which Keras registers the class, so that two of one name can be told apart in files.

    Returns:
        The decorator.

    Raises:
        InvalidInputError: another analyzer has the name, or what is decorated is no analyzer.
    """

    def register(cls: type) -> type:
        if not isinstance(cls, type) or not issubclass(cls, Analyzer):
            raise InvalidInputError(f"An analyzer is a class derived from innvest_lite.Analyzer, not {cls!r}.")
        known = ANALYZERS.get(name)
        if known is not None and (known.analyzer.__module__, known.analyzer.__qualname__) != (
            cls.__module__,
            cls.__qualname__,
        ):
            raise InvalidInputError(
                f"There is an analyzer {name!r} already, {known.analyzer.__name__}; choose another name."
            )
        keras.saving.register_keras_serializable(package=package)(cls)
        ANALYZERS[name] = Method(cls, summary or (inspect.getdoc(cls) or cls.__name__).splitlines()[0])
        return cls

    return register


def method_of(name: str) -> Method:
    """The `Method` of a name.

    Raises:
        InvalidInputError: there is no analyzer of that name; the message suggests the nearest.
    """
    if isinstance(name, keras.Model):
        raise InvalidInputError("The name of the method comes first: create_analyzer(name, model).")
    if not isinstance(name, str) or name not in ANALYZERS:
        hint = did_you_mean(str(name).lower(), {known.lower(): known for known in ANALYZERS})
        raise InvalidInputError(f"There is no analyzer {name!r}.{hint} There are: {', '.join(ANALYZERS)}.")
    return ANALYZERS[name]


def _options_of(method: Method) -> list[str]:
    """The names of the options of a method: those of its class and of the classes behind it, and those of its words."""
    return [name for name in (*method.words, *options_of(method.analyzer)) if name not in ("model", *method.fixed)]
