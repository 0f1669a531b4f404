"""Composites by name: which LRP rule where, as the papers and iNNvestigate have them.

A composite gives rules to the linear nodes; what follows each (`structure_of`) gives rules to all others.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from innvest_lite.errors import InvalidInputError, did_you_mean
from innvest_lite.options import one_of
from innvest_lite.rules.attention import Halves, Proportional, SoftmaxTaylor, ValuePath
from innvest_lite.rules.base import Rule
from innvest_lite.rules.first_layer import Flat, WSquare, box_of
from innvest_lite.rules.gradient import Gradient, TokenSum
from innvest_lite.rules.lrp import AlphaBeta, Epsilon, Gamma, LinearRule, Zero, ZPlus
from innvest_lite.rules.matchers import (
    Matcher,
    before_first,
    both_sides,
    first,
    gated,
    kind,
    layer,
    one_position,
    squashed,
    weighted,
)
from innvest_lite.rules.pattern import GatedSignal, Pass
from innvest_lite.rules.shares import require
from innvest_lite.rules.weightless import Elementwise, Magnitude, Norm

Composite = tuple[tuple[Matcher, Rule], ...]

# Activations and gates pass relevance on, the rest moves it with its values.
_MOVES: Composite = (
    (kind("rectifier", "activation"), Elementwise()),
    # The winner of a maximum takes all: its gradient is that of the winner.
    (kind("max", "route"), Gradient()),
    (gated(), GatedSignal()),
    # The weights of attention are constants, as gates are; of products of two equals, each gets half.
    (weighted(), ValuePath()),
    (kind("matmul", "product"), Halves()),
    (kind("softmax"), SoftmaxTaylor()),
    (kind("embedding"), TokenSum()),
)
# What arrives there need not be in proportion to what it hands on, as behind a flat first layer.
PREPROCESSING: Composite = ((kind("scale") & before_first(), Pass()),)
_WITHOUT_WEIGHTS = ("sum", "average", "scale", "normalization")

# Sums and means share relevance out by contribution.
STRUCTURE: Composite = (*_MOVES, *PREPROCESSING, (kind(*_WITHOUT_WEIGHTS), Norm()))
# By the magnitude of contributions (docs/evidence.md): where contributions cancel, shares of them grow without bound.
STRUCTURE_BY_MAGNITUDE: Composite = (*_MOVES, *PREPROCESSING, (kind(*_WITHOUT_WEIGHTS), Magnitude()))
# As well without bound, and what is against a sum gets relevance of the other sign (docs/sequences.md).
STRUCTURE_SIGNED: Composite = (*_MOVES, *PREPROCESSING, (kind(*_WITHOUT_WEIGHTS), Magnitude(signed=True)))


SUMS = ("auto", "contribution", "magnitude", "signed")
"""How sums, means and diagonal maps may share relevance."""


def structure_of(pairs: Composite, sums: str = "auto") -> Composite:
    """What follows a composite: the rules of all nodes that it leaves out.

    Args:
        pairs: the composite.
        sums: one of `SUMS`.

    Returns:
        Pairs of a matcher and a rule.

    LRP-0 and LRP-epsilon alone are the gradient times the input, in which what one node divides by another multiplies
    with, so that sums share by contribution there. Behind any other rule nothing takes a large share back.
    """
    if sums == "signed":
        return STRUCTURE_SIGNED
    linear = [rule for _, rule in pairs if isinstance(rule, LinearRule)]
    exact = linear and all(isinstance(rule, Zero | Epsilon) for rule in linear)
    by_contribution = exact if sums == "auto" else sums == "contribution"
    return STRUCTURE if by_contribution else STRUCTURE_BY_MAGNITUDE


# An EinsumDense is a dense layer over one axis or several; so are products with a constant matrix.
_DENSE = ("Dense", "EinsumDense", "Matmul", "Dot", "Tensordot", "Einsum")


def everywhere(rule: Rule) -> Composite:
    """One rule for all linear nodes."""
    return ((kind("linear"), rule),)


def dense_and_convolutional(
    dense: Rule, convolutional: Rule, at_input: Rule | None = None, by_class: bool = False
) -> Composite:
    """One rule for dense layers, one for convolutions, and, if given, one for the first layer.

    Args:
        dense: for dense layers, and for convolutions of a single position, which are dense layers written otherwise.
        convolutional: for all other linear layers.
        at_input: for the first layers.
        by_class: whether all convolutions are convolutions, as in iNNvestigate.
    """
    is_dense = kind("linear") & (layer(*_DENSE) if by_class else layer(*_DENSE) | one_position())
    pairs = (is_dense, dense), (kind("linear"), convolutional)
    return pairs if at_input is None else ((first(), at_input), *pairs)


def alpha_beta(alpha: float | None = None, beta: float | None = None, bias: str = "split") -> Composite:
    """Alpha-beta everywhere (Bach et al. 2015). As alpha - beta is 1, one of them is enough; without both, 2 and 1."""
    for value in (alpha, beta):
        require(value is None or isinstance(value, int | float), f"alpha and beta should be numbers, but one is {value!r}.")
    # Without both, the paper's alpha 2, beta 1; alpha - beta = 1 makes the rule conserve relevance.
    if alpha is None:
        alpha = 2.0 if beta is None else beta + 1
    return everywhere(AlphaBeta(alpha, alpha - 1 if beta is None else beta, bias))


def epsilon_plus(epsilon: float = 1e-6) -> Composite:
    """Epsilon for dense layers, z+ for convolutions (Montavon et al. 2019, doi 10.1007/978-3-030-28954-6_10)."""
    return dense_and_convolutional(Epsilon(epsilon), ZPlus())


def epsilon_plus_flat(epsilon: float = 1e-6) -> Composite:
    """As epsilon_plus, the first layer flat (Kohlbrenner et al. 2020, arXiv 1910.09840)."""
    return dense_and_convolutional(Epsilon(epsilon), ZPlus(), Flat())


def epsilon_gamma_box(
    low: float | tuple[float, ...] | None = None,
    high: float | tuple[float, ...] | None = None,
    epsilon: float = 1e-6,
    gamma: float = 0.25,
) -> Composite:
    """Epsilon for dense layers, gamma for convolutions, z^B at the input (Montavon et al. 2019).

    Args:
        low: the smallest value of an input of the model: a number, or one per channel; None: -3, of what the first layer
            takes, for images that were standardized channel by channel, inside the model or outside.
        high: the largest; None: 3.
        epsilon: of the dense layers.
        gamma: of the convolutions.
    """
    box = box_of(low, high, 3.0)
    return dense_and_convolutional(Epsilon(epsilon), Gamma(gamma), box)


def epsilon_alpha2_beta1(epsilon: float = 1e-6) -> Composite:
    """Epsilon for dense layers, alpha 2 beta 1 for convolutions (Lapuschkin et al. 2017, arXiv 1708.07689)."""
    return dense_and_convolutional(Epsilon(epsilon), AlphaBeta(2.0, 1.0))


def epsilon_alpha2_beta1_flat(epsilon: float = 1e-6) -> Composite:
    """As epsilon_alpha2_beta1, the first layer flat (Lapuschkin et al. 2019, arXiv 1902.10178)."""
    return dense_and_convolutional(Epsilon(epsilon), AlphaBeta(2.0, 1.0), Flat())


def sequential_preset_a(epsilon: float = 0.1, bias: str = "shared") -> Composite:
    """iNNvestigate's preset A: epsilon for dense layers, alpha 1 beta 0 for convolutions.

    Args:
        epsilon: of the dense layers.
        bias: of alpha-beta; "shared" is iNNvestigate's, "split" the paper's.
    """
    return dense_and_convolutional(Epsilon(epsilon), AlphaBeta(1.0, 0.0, bias), by_class=True)


def sequential_preset_b(epsilon: float = 0.1, bias: str = "shared") -> Composite:
    """iNNvestigate's preset B: epsilon for dense layers, alpha 2 beta 1 for convolutions; arguments as in preset A."""
    return dense_and_convolutional(Epsilon(epsilon), AlphaBeta(2.0, 1.0, bias), by_class=True)


def sequential_preset_a_flat(epsilon: float = 0.1, bias: str = "shared") -> Composite:
    """Preset A with the first layer flat."""
    return ((first(), Flat()), *sequential_preset_a(epsilon, bias))


def sequential_preset_b_flat(epsilon: float = 0.1, bias: str = "shared") -> Composite:
    """Preset B with the first layer flat."""
    return ((first(), Flat()), *sequential_preset_b(epsilon, bias))


GATES = ("constant", "halves", "proportional")
"""What gates may get of a product's relevance (Arras et al. 2019, arXiv 1909.12114)."""


def attn_lrp(
    epsilon: float = 1e-6,
    gamma: float = 0.0,
    gamma_convolution: float = 0.0,
    gates: str = "constant",
    bias_factor: float = 0.0,
) -> Composite:
    """AttnLRP (Achtibat et al. 2024, arXiv 2402.05602): relevance goes through both sides of products, and the softmax.

    Gates that come out of a sigmoid, as in recurrent layers, or that are broadcast stay constants.

    Args:
        epsilon: of linear layers, where gamma is 0, and of products.
        gamma: of dense layers; 0: epsilon.
        gamma_convolution: of convolutions, such as those that embed patches; 0: epsilon.
        gates: what a gate gets of a product's relevance: "constant", nothing; "halves", as much as the signal;
            "proportional", by the sizes of the two.
        bias_factor: of epsilon, see `Epsilon`.
    """
    halves = Halves(epsilon)
    return (
        (kind("softmax"), SoftmaxTaylor()),
        (kind("matmul"), halves),
        (both_sides() | (kind("product") & ~gated()), halves),
        *_at_gates(gates, epsilon),
        *_gamma_or_epsilon(epsilon, gamma, gamma_convolution, bias_factor),
    )


def cp_lrp(
    epsilon: float = 1e-6,
    gamma: float = 0.0,
    gamma_convolution: float = 0.0,
    gates: str = "constant",
    bias_factor: float = 0.0,
) -> Composite:
    """CP-LRP (Ali et al. 2022, arXiv 2202.07304): the weights of attention are constants; arguments as of `attn_lrp`."""
    return (
        (weighted(), ValuePath(epsilon=epsilon)),
        (kind("matmul"), Halves(epsilon)),
        *_at_gates(gates, epsilon),
        *_gamma_or_epsilon(epsilon, gamma, gamma_convolution, bias_factor),
    )


def cp_lrp_gamma(
    epsilon: float = 1e-6,
    gamma: float = 0.05,
    gamma_convolution: float = 0.25,
    gates: str = "constant",
    bias_factor: float = 0.0,
) -> Composite:
    """As cp_lrp, with gamma at linear layers, as for transformers of images; arguments as there."""
    return cp_lrp(epsilon, gamma, gamma_convolution, gates, bias_factor)


def _at_gates(gates, epsilon):
    if one_of(gates, GATES, "gates") == "constant":
        return ()
    # What a normalization multiplies with is no gate.
    return ((squashed(), Halves(epsilon) if gates == "halves" else Proportional()),)


def _gamma_or_epsilon(epsilon, gamma, gamma_convolution, bias_factor):
    dense, convolutional = (
        Gamma(one) if one else Epsilon(epsilon, bias_factor=bias_factor) for one in (gamma, gamma_convolution)
    )
    return dense_and_convolutional(dense, convolutional)


PRESETS: dict[str, Callable[..., Composite]] = {
    "zero": lambda bias=True: everywhere(Zero(bias)),
    "epsilon": lambda epsilon=1e-7, bias=True, bias_factor=0.0: everywhere(Epsilon(epsilon, bias, bias_factor)),
    "gamma": lambda gamma=0.25: everywhere(Gamma(gamma)),
    "z_plus": lambda fast=False: everywhere(ZPlus(fast)),
    "alpha_beta": alpha_beta,
    "alpha1_beta0": lambda bias="split": everywhere(AlphaBeta(1.0, 0.0, bias)),
    "alpha2_beta1": lambda bias="split": everywhere(AlphaBeta(2.0, 1.0, bias)),
    "w_square": lambda: everywhere(WSquare()),
    "flat": lambda: everywhere(Flat()),
    "epsilon_plus": epsilon_plus,
    "epsilon_plus_flat": epsilon_plus_flat,
    "epsilon_gamma_box": epsilon_gamma_box,
    "attn_lrp": attn_lrp,
    "cp_lrp": cp_lrp,
    "cp_lrp_gamma": cp_lrp_gamma,
    "epsilon_alpha2_beta1": epsilon_alpha2_beta1,
    "epsilon_alpha2_beta1_flat": epsilon_alpha2_beta1_flat,
    "sequential_preset_a": sequential_preset_a,
    "sequential_preset_b": sequential_preset_b,
    "sequential_preset_a_flat": sequential_preset_a_flat,
    "sequential_preset_b_flat": sequential_preset_b_flat,
}


AUTO = "auto"
"""In place of a name: the one that `by_itself` chooses."""


def by_itself(mixes_steps: bool, has_tokens: bool) -> str:
    """The name of the composite that is taken where none is given.

    Args:
        mixes_steps: whether the network has attention or recurrent layers.
        has_tokens: whether it looks up tokens, of which a flat first layer gives all numbers the same.
    """
    if mixes_steps:
        return "cp_lrp_gamma"
    return "epsilon_plus" if has_tokens else "epsilon_plus_flat"


def preset(name: str, **options: Any) -> Composite:
    """The composite of a name.

    Raises:
        InvalidInputError: there is no composite of that name, or it does not have one of the options.
    """
    if name not in PRESETS:
        hint = did_you_mean(name.removeprefix("lrp."), list(PRESETS))
        raise InvalidInputError(f"There is no composite {name!r}.{hint} The names are: {', '.join(PRESETS)}.")
    allowed = list(inspect.signature(PRESETS[name]).parameters)
    unknown = sorted(set(options).difference(allowed))
    if unknown:
        raise InvalidInputError(f"The composite {name!r} takes the options {allowed}, not {unknown}.")
    return PRESETS[name](**options)
