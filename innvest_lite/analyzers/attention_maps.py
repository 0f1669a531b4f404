"""Maps of attention: which tokens reach those that are read, by the weights of all blocks multiplied up."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from innvest_lite import backend
from innvest_lite.analyzers import sweep
from innvest_lite.analyzers.explained import Explained
from innvest_lite.analyzers.explainer import Explainer
from innvest_lite.analyzers.overlay import in_order, over_input
from innvest_lite.analyzers.reverse import ReverseAnalyzer, Sweep
from innvest_lite.analyzers.strategy import Round, Strategy
from innvest_lite.analyzers.token_flow import Step, TokenFlow, token_flow
from innvest_lite.analyzers.token_places import TokenPlaces, token_places
from innvest_lite.errors import InvalidInputError
from innvest_lite.forms import forms_of
from innvest_lite.forms.positions import Places
from innvest_lite.graph import Graph, Value
from innvest_lite.inputs import InputSpec
from innvest_lite.rules import Gradient, anything


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class AttentionMap(Sweep):
    """Matrices of attention, multiplied up along a flow of tokens, and drawn over the input.

    Attributes:
        flow: which matrices, and how they follow one another.
        layout: how the tokens lie over the input.
        weighed: see `AttentionRollout.weighed`.
        normalizes: see `AttentionRollout.normalizes`.
    """

    flow: TokenFlow = dataclasses.field(kw_only=True)
    layout: TokenPlaces = dataclasses.field(kw_only=True)
    weighed: Callable[[Any, Any], Any] = dataclasses.field(kw_only=True)
    normalizes: bool = dataclasses.field(kw_only=True)

    def explain(self, explainer: Explainer, inputs: Any, weights: Any, keep: tuple, around: Round) -> Explained:
        """See `Strategy.explain`."""
        flow, output = self.flow, explainer.graph.outputs[0]
        values, calls = sweep.forward(explainer.plan, inputs)
        logits = values[output]
        starts = [(output, explainer.targets.at(logits, weights))]
        swept = sweep.backward(explainer.plan, calls, starts, {}, (*flow.weights, *flow.ends, *keep))

        def gradient(value: Value) -> Any:
            return ops.cast(swept.relevance.get(value, ops.zeros_like(values[value])), "float32")

        weighed = {one: self.weighed(ops.cast(values[one], "float32"), gradient(one)) for one in flow.weights}
        if flow.pooling is None:
            read = _read([(gradient(value), places) for value, places in flow.ends.items()])
        else:
            read = _matrix(weighed, flow.pooling)
        heat = _over_tokens(read, flow, weighed, self.normalizes)
        kept = [gradient(one) for one in keep]
        drawn = [ops.zeros_like(x, dtype="float32") for x in inputs]
        maps = self.layout.maps
        drawn[maps.input] = over_input(self._laid_out(heat, values[maps.value]), inputs[maps.input], maps)
        return Explained(drawn, kept, swept.exponent, logits)

    def _laid_out(self, heat: Any, tokens: Any) -> Any:
        """(batch, tokens) as a map with an axis for each position of the input, without what the network added."""
        maps, numbers = self.layout.maps, self.layout.numbers
        heat = heat if numbers is None else ops.take(heat, list(numbers), axis=1)
        shape = [ops.shape(tokens)[axis] for axis in maps.places.positions]
        return in_order(ops.reshape(heat, (-1, *shape)), maps.places, len(maps.over.positions))


@keras.saving.register_keras_serializable(package="innvest_lite")
class AttentionRollout(ReverseAnalyzer):
    """Attention rollout (Abnar and Zuidema 2020, arXiv 2005.00928): the attention of all blocks, multiplied up.

    R_l = row_normalize(A_l + I) R_(l-1) with R_0 = I: A_l (queries, keys) is the mean over heads of a block's weights, and
    I its residual connection, which the data flow shows; where there is none, R_l = A_l R_(l-1). The map is the row of the
    token that the output reads (a class token, the last token), and where it reads several (a mean over tokens) the mean of
    their rows; tokens that it does not read, such as padding, are those in which its gradient is 0. Where attention itself
    pools the tokens, its weights take their mean. It says which tokens were mixed into what is read, in no unit: not what
    they said, nor for which class.

    The weights of attention are found by data flow: what comes out of a softmax and weighs the values of tokens, in Keras's
    layers, in `keras.ops.dot_product_attention` or written by hand, also inside nested models. What a causal or a padding
    mask hides has weight 0. The map lies over the input as that of `GradCAM` does: one number a token of a text, patches
    stretched over an image and spread evenly over its channels. Tokens that the network adds (class tokens, registers) have
    no place there, so that the sum is at most 1 before an image is stretched.

    Args:
        model: a Functional or Sequential `keras.Model`.
        input: of a model with several inputs, the name of the one to draw over; None: the only one whose positions are the
            tokens, and of several that look up tokens the one with the largest vocabulary. The others get zeros.
        **options: as in `ReverseAnalyzer` and `Analyzer`.

    Raises:
        UnsupportedLayerError: the model has no self-attention, or tokens also reach one another in ways that its weights do
            not say: windows, convolutions between blocks, fewer keys than queries, attention between two sequences.
        InvalidInputError: there is no such input, or several could be drawn over.
    """

    #: Whether the rows of what meets at a residual connection are brought to a sum of 1.
    normalizes = True

    def __init__(self, model: Any, *, input: str | None = None, **options: Any) -> None:
        if not isinstance(input, str | None):
            raise InvalidInputError(f"input should be the name of an input, but is {input!r}.")
        self._input_choice = input
        super().__init__(model, **options)

    def composite(self) -> list:
        """The chain rule everywhere."""
        return [(anything(), Gradient())]

    def weighed(self, weights: Any, gradient: Any) -> Any:
        """What is averaged over heads.

        Args:
            weights: the weights of attention, float32 (batch, heads, queries, keys) or with its axes in another order.
            gradient: the gradient of the explained output in them, float32.

        Returns:
            A tensor of their shape.
        """
        return weights

    def strategy(self, graph: Graph, inputs: InputSpec) -> Strategy:
        """See `Analyzer.strategy`.

        Raises:
            UnsupportedLayerError: as in the class.
            InvalidInputError: likewise.
        """
        method = type(self).__name__
        flow = token_flow(graph, forms_of(graph), method)
        layout = token_places(graph, inputs, flow, self._input_choice, method)
        back = self.start, self.finish, self.kernels, False
        return AttentionMap(*back, flow=flow, layout=layout, weighed=self.weighed, normalizes=self.normalizes)

    def get_config(self) -> dict:
        """The model and the options, as Keras serializes them."""
        return {**super().get_config(), "input": self._input_choice}


@keras.saving.register_keras_serializable(package="innvest_lite")
class GradientWeightedAttention(AttentionRollout):
    """Gradient-weighted attention (Chefer et al. 2021, arXiv 2103.15679): attention that speaks for the explained output.

    R_l = R_(l-1) + E_h[(dy/dA_l * A_l)+] R_(l-1) with R_0 = I, equations 5 and 6 for self-attention: the mean over heads of
    the weights of attention times the explained output's gradient in them, where that is positive. What the map is a row
    of, and how it lies over the input, is as in `AttentionRollout`; it is no unit's, and depends on the target.
    """

    normalizes = False

    def weighed(self, weights: Any, gradient: Any) -> Any:
        """(gradient * weights)+."""
        return ops.relu(gradient * weights)


def _read(ends: Sequence[tuple[Any, Places]]) -> Any:
    """The mean over the tokens that are read, those in which the gradient is not 0: (batch, tokens), of sum 1 or 0."""
    parts = []
    for gradient, places in ends:
        used = ops.cast(ops.any(gradient != 0, axis=places.channels), "float32")
        used = in_order(used, places, len([one for here in places.axes for one in here]))
        parts.append(ops.reshape(used, (ops.shape(used)[0], -1)))
    read = parts[0] if len(parts) == 1 else ops.max(ops.stack(parts), axis=0)
    return backend.divide_no_nan(read, ops.sum(read, axis=1, keepdims=True))


def _over_tokens(read: Any, flow: TokenFlow, weighed: dict[Value, Any], normalizes: bool) -> Any:
    """How much of each token as it began is in what is read: a row vector, multiplied by the matrices from the last on.

    Args:
        read: the tokens that are read, (batch, tokens).
        flow: the steps.
        weighed: the weights of attention -> what is averaged over heads.
        normalizes: see `AttentionRollout.normalizes`.

    Returns:
        (batch, tokens).
    """
    sums = _row_sums(read, flow, weighed, normalizes)
    rows: dict[int, Any] = {flow.last: read}
    for number in range(flow.last, 0, -1):
        row, step = rows.pop(number, None), flow.steps[number]
        if row is None:
            continue
        if step.weights is not None:
            row = ops.squeeze(ops.matmul(row[:, None], _matrix(weighed, step)), axis=1)
        elif normalizes or step.beside:
            total = sum(sums[one] for one in step.sources) if normalizes else len(step.sources)
            row = backend.divide_no_nan(row, ops.cast(total, "float32"))
        for source in step.sources:
            rows[source] = rows[source] + row if source in rows else row
    return rows[0]


def _row_sums(read: Any, flow: TokenFlow, weighed: dict[Value, Any], normalizes: bool) -> list:
    """What the rows of each step's matrix sum to, (batch, tokens) each; only where they are normalized."""
    sums = [ops.ones_like(read)]
    for step in flow.steps[1:] if normalizes else ():
        if step.weights is not None:
            sums.append(ops.squeeze(ops.matmul(_matrix(weighed, step), sums[step.sources[0]][..., None]), axis=-1))
        else:
            total = sum(sums[one] for one in step.sources)
            sums.append(backend.divide_no_nan(total, total))
    return sums


def _matrix(weighed: dict[Value, Any], step: Step) -> Any:
    """The mean over heads, (batch, queries, keys); where what looks is no token, the mean over that too, (batch, keys)."""
    tensor = weighed[step.weights]  # type: ignore[index]
    kept = (step.keys,) if step.queries is None else (step.queries, step.keys)
    heads = [axis for axis in range(1, len(tensor.shape)) if axis not in kept]
    tensor = ops.mean(tensor, axis=heads) if heads else tensor
    return ops.transpose(tensor, (0, 2, 1)) if len(kept) > 1 and step.queries > step.keys else tensor  # type: ignore
