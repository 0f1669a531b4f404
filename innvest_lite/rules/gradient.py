"""The rules of the gradient family: the gradient itself and what DeConvNet and Guided BackProp do at a ReLU."""

from __future__ import annotations

import dataclasses
from typing import Any

from keras import ops

from innvest_lite.options import truth
from innvest_lite.rules.base import Call, Rule, register_rule


@register_rule
@dataclasses.dataclass(frozen=True)
class Gradient(Rule):
    """The chain rule: the node's vector-Jacobian product, whatever the node is (Simonyan et al. 2013, arXiv 1312.6034).

    Attributes:
        grows: as in `Rule`. Among the rules of LRP, which conserve relevance, the gradient doubles it at each sum.
    """

    grows: bool = dataclasses.field(default=False, repr=False)

    def __post_init__(self) -> None:
        truth(self.grows, "grows")

    def reverse(self, call: Call, relevance: tuple[Any, ...]) -> tuple[Any, ...]:
        """R_in = J' R_out."""
        return call.pullback(relevance)


@register_rule
@dataclasses.dataclass(frozen=True)
class Deconvnet(Rule):
    """DeConvNet's ReLU (Zeiler and Fergus 2014, arXiv 1311.2901): rectifies the relevance, ignores the forward gate."""

    kinds = ("rectifier",)

    def reverse(self, call: Call, relevance: tuple[Any, ...]) -> tuple[Any, ...]:
        """R_in = max(R_out, 0)."""
        return (ops.relu(relevance[0]),)


@register_rule
@dataclasses.dataclass(frozen=True)
class GuidedBackprop(Rule):
    """Guided BackProp's ReLU (Springenberg et al. 2015, arXiv 1412.6806): both gates, backward and forward."""

    kinds = ("rectifier",)

    def reverse(self, call: Call, relevance: tuple[Any, ...]) -> tuple[Any, ...]:
        """R_in = gate * max(R_out, 0)."""
        # The pullback of a ReLU is the forward gate.
        return call.pullback((ops.relu(relevance[0]),))


@register_rule
@dataclasses.dataclass(frozen=True)
class TokenSum(Rule):
    """An embedding, whose input is no float: one number a token, the relevance summed over the embedding axis.

    Attributes:
        times_input: multiply with the embedded token first, for input times gradient.
    """

    # Token numbers have no gradient: relevance ends here, as one number per token.
    kinds = ("embedding",)
    times_input: bool = False

    def __post_init__(self) -> None:
        truth(self.times_input, "times_input")

    def reverse(self, call: Call, relevance: tuple[Any, ...]) -> tuple[Any, ...]:
        """R_in = sum_d R_out[d], or sum_d e[d] R_out[d] with e the embedded token."""
        values = relevance[0] * call.outputs[0] if self.times_input else relevance[0]
        return (ops.sum(values, axis=-1),)
