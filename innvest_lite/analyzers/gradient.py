"""The gradient and its relatives: one backward pass, no data to fit."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
from keras import ops

from innvest_lite import rules
from innvest_lite.analyzers.explained import Explained
from innvest_lite.analyzers.explainer import Explainer
from innvest_lite.analyzers.reverse import ReverseAnalyzer, Sweep
from innvest_lite.analyzers.samples import grouped
from innvest_lite.analyzers.strategy import Round, Strategy
from innvest_lite.analyzers.tokens import REDUCTIONS, points_of, tell_of_zero_sums, tokens_at_inputs
from innvest_lite.forms.inputs import is_integer
from innvest_lite.graph import Graph
from innvest_lite.inputs import InputSpec
from innvest_lite.options import one_of

POSTPROCESSES = {None: lambda x: x, "abs": ops.abs, "square": ops.square}


def postprocessed(x: Any, how: str | None) -> Any:
    """A gradient as it is (None), its magnitude ("abs") or its square ("square")."""
    return POSTPROCESSES[how](x)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class TokenNorms(Sweep):
    """A sweep of which tokens get the norm of what arrived at their embeddings.

    Attributes:
        points: for each input, the values that stand for it, see `tokens.points_of`.
    """

    points: tuple = dataclasses.field(kw_only=True)

    def explain(self, explainer: Explainer, inputs: Any, weights: Any, keep: tuple, around: Round) -> Explained:
        """See `Strategy.explain`."""
        graph = explainer.graph
        pairs = zip(self.points, graph.input_specs, strict=True)
        embedded = dict.fromkeys(point for points, spec in pairs if is_integer(spec.dtype) for point in points)
        found = super().explain(explainer, inputs, weights, (*keep, *embedded), around)
        arrived = dict(zip(embedded, found.kept[len(keep) :], strict=True))
        arrived = {point: grouped(x, graph.spec(point)) for point, x in arrived.items()}
        tokens = tokens_at_inputs(explainer, inputs, self.points, arrived, "norm")
        pairs = zip(graph.inputs, found.relevance, strict=True)
        relevance = [self.finish([], [tokens[value]])[0] if value in tokens else whole for value, whole in pairs]
        return dataclasses.replace(found, relevance=relevance, kept=found.kept[: len(keep)])


@keras.saving.register_keras_serializable(package="innvest_lite")
class Gradient(ReverseAnalyzer):
    """The gradient of the explained logit in the input: d y_k / dx (Simonyan et al. 2013, arXiv 1312.6034).

    Unit: logits per unit of input. At an embedding, the sum over the embedding axis.

    Args:
        model: a Functional or Sequential `keras.Model`.
        postprocess: None, "abs" or "square".
        tokens: what a token gets: "sum", the sum of its gradient over the embedding axis, or "norm", its Euclidean norm, in
            logits per unit of the embedding. Where layer normalization follows the embedding, the sum is 0 by construction,
            which is said once.
        **options: as in `ReverseAnalyzer` and `Analyzer`.

    Example:
        >>> import keras, numpy as np, innvest_lite
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        >>> innvest_lite.Gradient(model).analyze(np.ones((2, 4))).shape
        (2, 4)
    """

    unit = "logits per unit of input"
    sign_tells = False

    def __init__(self, model: Any, *, postprocess: str | None = None, tokens: str = "sum", **options: Any) -> None:
        self.postprocess = one_of(postprocess, POSTPROCESSES, "postprocess")
        self.tokens = one_of(tokens, REDUCTIONS, "tokens")
        super().__init__(model, **options)

    def strategy(self, graph: Graph, inputs: InputSpec) -> Strategy:
        """See `Analyzer.strategy`."""
        if self.tokens == "norm":
            return TokenNorms(self.start, self.finish, self.kernels, False, points=points_of(graph))
        tell_of_zero_sums(graph, type(self).__name__)
        return super().strategy(graph, inputs)

    def composite(self) -> list:
        """The chain rule everywhere."""
        return [(rules.kind("embedding"), rules.TokenSum()), (rules.anything(), rules.Gradient())]

    def finish(self, inputs: list, relevance: list) -> list:
        """See `ReverseAnalyzer.finish`."""
        return [postprocessed(r, self.postprocess) for r in relevance]

    def get_config(self) -> dict:
        """The model and the options, as Keras serializes them."""
        return {**super().get_config(), "postprocess": self.postprocess, "tokens": self.tokens}


@keras.saving.register_keras_serializable(package="innvest_lite")
class InputTimesGradient(ReverseAnalyzer):
    """The input times the gradient of the explained logit: x * d y_k / dx (Shrikumar et al. 2016, arXiv 1605.01713).

    Unit: logits. At an embedding, the embedded token times its gradient, summed over the embedding axis.
    """

    unit = "logits"
    # What the sweep hands back is the gradient, which is not yet the attribution.
    accounts = False

    def composite(self) -> list:
        """The chain rule everywhere; tokens are multiplied where they are embedded."""
        return [(rules.kind("embedding"), rules.TokenSum(times_input=True)), (rules.anything(), rules.Gradient())]

    def finish(self, inputs: list, relevance: list) -> list:
        """See `ReverseAnalyzer.finish`."""
        # Tokens are multiplied where they are embedded.
        pairs = zip(inputs, relevance, strict=True)
        return [r if is_integer(x.dtype) else r * ops.cast(x, r.dtype) for x, r in pairs]


@keras.saving.register_keras_serializable(package="innvest_lite")
class Deconvnet(ReverseAnalyzer):
    """DeConvNet (Zeiler and Fergus 2014, arXiv 1311.2901): the gradient, but a ReLU rectifies the relevance instead.

    Starts from 1 at the explained logit.
    """

    sign_tells = False

    def composite(self) -> list:
        """The gradient but for rectifiers."""
        return [
            (rules.kind("rectifier"), rules.Deconvnet()),
            (rules.kind("embedding"), rules.TokenSum()),
            (rules.anything(), rules.Gradient()),
        ]


@keras.saving.register_keras_serializable(package="innvest_lite")
class GuidedBackprop(ReverseAnalyzer):
    """Guided BackProp (Springenberg et al. 2015, arXiv 1412.6806): a ReLU passes what is positive both ways.

    Starts from 1 at the explained logit.
    """

    sign_tells = False

    def composite(self) -> list:
        """The gradient but for rectifiers."""
        return [
            (rules.kind("rectifier"), rules.GuidedBackprop()),
            (rules.kind("embedding"), rules.TokenSum()),
            (rules.anything(), rules.Gradient()),
        ]
