"""Layer-wise relevance propagation and Deep Taylor decomposition: a composite of rules, started from the logit."""

from __future__ import annotations

import logging
from typing import Any

import keras
from keras import ops

from innvest_lite.analyzers.reverse import ReverseAnalyzer
from innvest_lite.errors import InvalidInputError
from innvest_lite.forms.base import LinearForm
from innvest_lite.options import one_of
from innvest_lite.rules import presets
from innvest_lite.rules.composite import Step, checked_pairs
from innvest_lite.rules.configs import composite_from_config, composite_to_config
from innvest_lite.rules.first_layer import Flat, box_of
from innvest_lite.rules.gradient import Gradient
from innvest_lite.rules.lrp import AlphaBeta, Epsilon, Zero, ZPlus
from innvest_lite.rules.matchers import first, kind, layer

_log = logging.getLogger("innvest_lite")
_GRADIENTS = (kind("rectifier") & layer("Activation", "ReLU")) | kind("sum", "average", "scale")
_SHARES = presets.STRUCTURE_BY_MAGNITUDE
_STRUCTURES = {
    "shares": _SHARES,
    "gradient": (*presets.PREPROCESSING, (_GRADIENTS, Gradient(grows=True)), *_SHARES),
}


@keras.saving.register_keras_serializable(package="innvest_lite")
class LRP(ReverseAnalyzer):
    """Layer-wise relevance propagation (Bach et al. 2015, doi 10.1371/journal.pone.0130140).

    Relevance starts as the explained logit; each node shares it out among its inputs by a rule. Unit: logits. What biases
    and stabilizers absorb, `check` shows.

    Args:
        model: a Functional or Sequential `keras.Model`; BatchNormalization is fused into the layer before it.
        composite: a name of `innvest_lite.rules.presets.PRESETS`, or a list of `(matcher, rule)`, of which the first match
            counts. "auto" is "cp_lrp_gamma" for networks with attention or recurrent layers (docs/sequences.md),
            "epsilon_plus" for others with tokens, and "epsilon_plus_flat" for the rest. A list needs to speak of the linear
            nodes only: behind it, activations and gates pass relevance on, sums and means share it out by contribution (by
            its magnitude, unless all rules are `Zero` or `Epsilon`), and what only moves values moves relevance back.
        composite_options: options of a named composite, such as `{"epsilon": 0.01}`.
        sums: how sums, means and diagonal maps share relevance: "contribution", which grows without bound where
            contributions cancel, "magnitude" of the contributions, "signed", the same with relevance of the other sign for
            what has another sign than the sum, or "auto": by contribution where all rules are `Zero` or `Epsilon`, else by
            magnitude.
        **options: as in `ReverseAnalyzer` and `Analyzer`.

    Raises:
        UnsupportedLayerError: some nodes match nothing; the message lists them all.
        InvalidInputError: there is no such composite, or a rule stands at a node that it is not for.

    Example:
        >>> from innvest_lite.rules import Box, ZPlus, first, kind
        >>> analyzer = innvest_lite.LRP(model, [(first(), Box(0, 1)), (kind("linear"), ZPlus())])
        >>> analyzer.analyze(images[:2]).shape
        (2, 28, 28, 1)
    """

    unit = "logits"
    fuses_batchnorm = True
    starts_from_logit = True

    def __init__(
        self,
        model: Any,
        composite: Any = presets.AUTO,
        *,
        composite_options: dict | None = None,
        sums: str = "auto",
        **options: Any,
    ) -> None:
        if not isinstance(composite, str | list | tuple):
            raise InvalidInputError(f"A composite is a name or a list of pairs (matcher, rule), but this is {composite!r}.")
        if not isinstance(composite_options, dict | None):
            raise InvalidInputError(f"composite_options should be a dict, but is {composite_options!r}.")
        self.sums = one_of(sums, presets.SUMS, "sums")
        named = isinstance(composite, str)
        self._name_or_pairs: Any = composite
        self._composite_options = dict(composite_options or {})
        if not named and self._composite_options:
            raise InvalidInputError("composite_options go with a composite's name; the rules of a list have their own.")
        self._given: Any = None
        if composite != presets.AUTO:
            chosen = self._composite_options
            self._given = presets.preset(composite, **chosen) if isinstance(composite, str) else checked_pairs(composite)
        super().__init__(model, **options)

    def complete(self) -> None:
        """See `Analyzer.complete`; pairs of a user's list that no node takes are told of."""
        super().complete()
        if not isinstance(self._name_or_pairs, str):
            self._tell_of_unused_pairs()
        self._tell_of_flat_columns()
        self._tell_of_biases_among_shares()

    def composite(self) -> list:
        """The user's pairs, then what all other nodes do."""
        pairs = self._given
        if pairs is None:
            pairs = presets.preset(presets.by_itself(self.mixes_steps, self.has_tokens), **self._composite_options)
        return [*pairs, *presets.structure_of(pairs, self.sums)]

    @property
    def turns_with_the_logit(self) -> bool:
        """See `Analyzer`: where the last layer's rule divides by less than the whole logit."""
        last, _ = self.plan().ends()
        return not all(isinstance(step.rule, Zero | Epsilon) and step.rule.bias for step in last)

    def _tell_of_flat_columns(self) -> None:
        """Flat over neighbouring pixels smooths a map; over all columns of a table it leaves none."""
        flat = [
            step.node.name
            for step in self.plan().steps
            if isinstance(step.rule, Flat) and len(step.node.input_specs[0].shape) == 2
        ]
        if flat:
            _log.warning(
                "The rule Flat gives all numbers that %s takes the same relevance, so that the map does not tell them "
                "apart. For tables, tokens and flattened images take lrp.epsilon or lrp.epsilon_plus.",
                ", ".join(flat),
            )

    def _tell_of_biases_among_shares(self) -> None:
        """Of a constant of all logits the two sums of alpha-beta take other parts, so that their weights change."""
        last, _ = self.plan().ends()
        biased = [step.node.name for step in last if _divides_by_biased_sums(step)]
        if biased:
            _log.warning(
                "The rule AlphaBeta counts the bias of %s: a constant that is added to all logits, which a softmax does "
                'not see, changes the explanations. bias="ignore" or another rule at this layer, such as that of '
                "lrp.epsilon_plus, do not depend on it.",
                ", ".join(biased),
            )

    def _tell_of_unused_pairs(self) -> None:
        used = [step.rule for step in self.plan().every_step]
        for matcher, rule in self._given:
            if not any(rule is other for other in used):
                _log.warning(
                    "The pair (%s, %s) of the composite is used nowhere: it matches no node of this model, or those before "
                    "it take all. print(analyzer.plan()) says which rule stands where.",
                    matcher,
                    rule,
                )

    def get_config(self) -> dict:
        """The model, the composite and the options, as Keras serializes them."""
        named = isinstance(self._name_or_pairs, str)
        composite = self._name_or_pairs if named else composite_to_config(self._name_or_pairs)
        chosen = {"composite": composite, "composite_options": self._composite_options, "sums": self.sums}
        return {**super().get_config(), **chosen}

    @classmethod
    def from_config(cls, config: dict) -> LRP:
        """An analyzer from `get_config`."""
        config = dict(config)
        if not isinstance(config["composite"], str):
            config["composite"] = composite_from_config(config["composite"])
        return super().from_config(config)


@keras.saving.register_keras_serializable(package="innvest_lite")
class DeepTaylor(ReverseAnalyzer):
    """Deep Taylor decomposition by the z+ rule (Montavon et al. 2017, doi 10.1016/j.patcog.2016.11.008).

    Relevance starts as the explained logit's positive part. Unit: logits.

    Args:
        model: a Functional or Sequential `keras.Model`.
        structure: what all nodes but the linear ones do. "shares": as in `LRP`, sums, means and normalizations share
            relevance out by contribution, and BatchNormalization is fused into the layer before it. "gradient": they
            hand on its gradient, as in iNNvestigate; each addend of a sum gets all of it, so it is not conserved. What
            scales before the first weights hands relevance on in both.
        **options: as in `ReverseAnalyzer` and `Analyzer`.
    """

    unit = "logits"
    fuses_batchnorm = True
    starts_from_logit = True
    zeros_mean = ": Deep Taylor decomposition explains the positive part of the logit, and theirs is none"

    def __init__(self, model: Any, *, structure: str = "shares", **options: Any) -> None:
        self.structure = one_of(structure, _STRUCTURES, "structure")
        self.fuses_batchnorm = structure == "shares"
        super().__init__(model, **options)

    def composite(self) -> list:
        """The z+ rule at all linear nodes."""
        return [(kind("linear"), ZPlus()), *_STRUCTURES[self.structure]]

    def get_config(self) -> dict:
        """The model and the options, as Keras serializes them."""
        return {**super().get_config(), "structure": self.structure}

    def start(self, weights: Any, logits: Any) -> Any:
        """See `ReverseAnalyzer.start`: the positive part of the logit."""
        return weights * ops.relu(logits)


@keras.saving.register_keras_serializable(package="innvest_lite")
class BoundedDeepTaylor(DeepTaylor):
    """Deep Taylor decomposition with the z^B rule at an input in [low, high] (Montavon et al. 2017, eq. 17).

    Args:
        model: a Functional or Sequential `keras.Model`.
        low: the smallest value of an input of the model: a number, or one per channel; None: -1, of what the first layer
            takes, inside the model or outside.
        high: the largest; None: 1.
        **options: as in `DeepTaylor`.
    """

    def __init__(self, model: Any, low: Any = None, high: Any = None, **options: Any) -> None:
        self._bounds = low, high
        self._box = box_of(low, high, 1.0)
        super().__init__(model, **options)

    def composite(self) -> list:
        """Z^B at the first linear nodes, z+ at all others."""
        return [(first(), self._box), *super().composite()]

    def get_config(self) -> dict:
        """The model and the options, as Keras serializes them."""
        given = zip(self._bounds, (self._box.low, self._box.high), strict=True)
        low, high = (None if bound is None else own for bound, own in given)
        return {**super().get_config(), "low": low, "high": high}


def _divides_by_biased_sums(step: Step) -> bool:
    """Whether a rule divides by sums of both signs that hold a bias; a single output has no other to be held against."""
    rule, form = step.rule, step.form
    if not (isinstance(rule, AlphaBeta) and isinstance(form, LinearForm)) or not rule.beta or rule.bias == "ignore":
        return False
    return form.bias() is not None and step.node.output_specs[0].shape[-1] != 1
