"""DeepLIFT's rules for what is linear and for functions of one value: multipliers.

What goes back through the nodes are multipliers m with sum_i m_i (x_i - x0_i) = m (y - y0) at each of them, whatever m is
(Shrikumar et al. 2017, arXiv 1704.02685, eq. 1 and 3). `call.prepared` has what the node took and gave at the reference.

Under RevealCancel, what makes a value larger and what makes it smaller have multipliers of their own: a pair, stacked along
a new first axis. Called by `analyzers.deeplift`; these rules, and those of
`lift_mixing` for nodes that mix values, stand in no composite of another method.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import numpy as np
from keras import ops

from innvest_lite import backend
from innvest_lite.forms import LinearForm
from innvest_lite.forms.structure import Mixture
from innvest_lite.graph.masks import copy_mask
from innvest_lite.rules.base import Call, Rule
from innvest_lite.rules.shares import kernel_of, own, wide

Pair = tuple[Any, Any]

# Below this share of the two values a difference is rounding, and the derivative stands for the quotient.
_NEAR = 1e-6


@dataclasses.dataclass(frozen=True, eq=False)
class Reference:
    """What a node took and gave at the reference.

    Attributes:
        inputs: a tensor for each input.
        outputs: a tensor for each output.
        parts: for each input, what makes it larger and what makes it smaller than there, two tensors whose sum is the
            difference; empty where one multiplier serves both.
    """

    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]
    parts: tuple[Pair | None, ...] = ()


def difference(x: Any, before: Any) -> Any:
    """x - x0, float32 or wider."""
    return wide(x) - wide(before)


def by_sign(delta: Any) -> Pair:
    """A difference as what is above 0 of it and what is below."""
    above = ops.relu(delta)
    return above, delta - above


def contribution(multiplier: Any, delta: Any, parts: Pair | None = None) -> Any:
    """What a value contributes: its difference from the reference times its multiplier; of pairs, part by part."""
    if parts is None:
        # Not `*`: layers of several precisions may follow each other.
        return ops.multiply(multiplier, delta)
    return ops.multiply(multiplier[0], parts[0]) + ops.multiply(multiplier[1], parts[1])


def paired(multiplier: Any) -> Any:
    """One multiplier for both parts, as a pair."""
    return ops.stack([multiplier, multiplier])


@dataclasses.dataclass(frozen=True)
class Multiplier(Rule):
    """A node as a whole: one multiplier for all that changes an output. Subclasses give `back`.

    Attributes:
        pairs: whether multipliers are pairs; then an output that is larger than at the reference takes the first.
    """

    pairs: bool = dataclasses.field(default=False, repr=False)

    def back(self, call: Call, multipliers: tuple[Any, ...]) -> tuple[Any, ...]:
        """From one multiplier for each output, or None, to one for each input, or None."""
        raise NotImplementedError

    def reverse(self, call: Call, relevance: tuple[Any, ...]) -> tuple[Any, ...]:
        """See `back`."""
        relevance = tuple(None if one is None else wide(one) for one in relevance)
        if not self.pairs:
            return self.back(call, relevance)
        deltas = map(difference, call.outputs, call.prepared.outputs)
        each = zip(deltas, relevance, strict=True)
        found = self.back(call, tuple(None if m is None else chosen(delta, m[0], m[1]) for delta, m in each))
        return tuple(None if one is None else paired(one) for one in found)

    def split(self, form: Any, inputs: tuple, outputs: tuple, reference: Reference) -> tuple[Pair, ...]:
        """For each output, what makes it larger and what makes it smaller than at the reference."""
        return tuple(map(by_sign, map(difference, outputs, reference.outputs)))

    def absorbed(self, call: Call, relevance: tuple[Any, ...]) -> dict[str, Any]:
        """Nothing: what a node contributes is what its inputs contribute."""
        return {}


def chosen(sign: Any, above: Any, below: Any) -> Any:
    """One tensor where a number is above 0, another where it is below, and their mean where it is 0."""
    return ops.where(sign > 0, above, ops.where(sign < 0, below, (above + below) / 2))


@dataclasses.dataclass(frozen=True)
class LinearMultiplier(Multiplier):
    """The Linear rule (sections 3.5.1 and 3.4): m_i = sum_j w_ij m_j; of pairs, by the sign of w_ij (x_i - x0_i).

    What is positive of these contributions makes a unit larger, and takes the multiplier of that; where x_i is x0_i, the
    mean of both.
    """

    kinds: ClassVar[tuple[str, ...]] = ("linear", "sum", "average", "scale", "route")

    def is_for(self, form: Any) -> bool:
        """Of pairs, where the sign of what each input contributes is known."""
        unknown = isinstance(form, Mixture) and not form.monotone
        return super().is_for(form) and not (self.pairs and unknown)

    def back(self, call: Call, multipliers: tuple[Any, ...]) -> tuple[Any, ...]:
        """m_in = W' m."""
        return own(call, multipliers[0]) if isinstance(call.form, LinearForm) else call.pullback(multipliers)

    def reverse(self, call: Call, relevance: tuple[Any, ...]) -> tuple[Any, ...]:
        """See the class; what only moves values moves the pairs."""
        if not self.pairs or call.prepared is None:
            return self.back(call, relevance)
        above, below = (tuple(None if r is None else wide(r)[place] for r in relevance) for place in (0, 1))
        if call.form.kind == "linear":
            return self._of_kernel(call, above[0], below[0])
        found = zip(call.pullback(above), _again(call)(below), strict=True)
        if call.form.kind == "route":
            return tuple(None if one is None else ops.stack([one, two]) for one, two in found)
        pairs = zip(found, self._signed(call.form, call.inputs, call.prepared), strict=True)
        return tuple(None if one is None else paired(chosen(sign, one, two)) for (one, two), sign in pairs)

    def split(self, form: Any, inputs: tuple, outputs: tuple, reference: Reference) -> tuple[Pair, ...]:
        """Sums of the positive contributions and of the negative ones."""
        if form.kind == "route":
            along = [_along(form, inputs, [part and part[place] for part in reference.parts]) for place in (0, 1)]
            return tuple(zip(*along, strict=True))
        deltas = [difference_of_floats(x, before) for x, before in zip(inputs, reference.inputs, strict=True)]
        if form.kind == "linear":
            return (_split_by_kernel(form, deltas),)
        signs = self._signed(form, inputs, reference)
        above = [d if d is None else ops.where(sign > 0, d, 0) for d, sign in zip(deltas, signs, strict=True)]
        below = [d if d is None else ops.where(sign < 0, d, 0) for d, sign in zip(deltas, signs, strict=True)]
        return ((_along(form, inputs, above)[0], _along(form, inputs, below)[0]),)

    def _of_kernel(self, call, above, below):
        kernel, form = kernel_of(call), call.form
        positive, negative = ops.relu(kernel), -ops.relu(-kernel)

        def through(one, two):
            pairs = zip(
                form.vjp_inputs(call.inputs, positive, one), form.vjp_inputs(call.inputs, negative, two), strict=True
            )
            return [first + second for first, second in pairs]

        there, back = through(above, below), through(below, above)
        deltas = map(difference, call.inputs, call.prepared.inputs)
        return tuple(paired(chosen(d, one, two)) for d, one, two in zip(deltas, there, back, strict=True))

    def _signed(self, form, inputs, reference):
        """What each input's difference contributes, up to a positive factor; None for what is no float."""
        deltas = [difference_of_floats(x, before) for x, before in zip(inputs, reference.inputs, strict=True)]
        if form.kind == "scale":
            _, pullback = backend.vjp(form.forward, *inputs)
            (factor,) = pullback((ops.ones_like(reference.outputs[0]),))
            return [deltas[0] if factor is None else wide(factor) * deltas[0]]
        weights = getattr(form, "weights", None) or [1.0] * len(deltas)
        return [d if d is None else float(np.sign(weight)) * d for d, weight in zip(deltas, weights, strict=False)]


def _again(call):
    """The node's pullback once more; the tape of a call serves once."""
    return backend.vjp(call.form.forward, *call.inputs)[1]


def difference_of_floats(x: Any, before: Any) -> Any:
    """As `difference`; None for what is no float."""
    return difference(x, before) if backend.is_float(x) else None


def _along(form, inputs, tangents):
    """What an affine node makes of changes of its inputs; None: of what is no float."""
    floats = [place for place, tangent in enumerate(tangents) if tangent is not None]

    def of_floats(*given):
        taken = dict(zip(floats, given, strict=True))
        return form.forward(*(taken.get(place, x) for place, x in enumerate(inputs)))

    values = [inputs[place] for place in floats]
    found = backend.jvp(of_floats, values, [ops.cast(tangents[place], inputs[place].dtype) for place in floats])
    return tuple(map(wide, found))


def _split_by_kernel(form, deltas):
    kernel = wide(form.kernel())
    positive, negative = ops.relu(kernel), -ops.relu(-kernel)
    above, below = zip(*(by_sign(ops.cast(delta, kernel.dtype)) for delta in deltas), strict=True)
    return (
        form.apply(above, positive) + form.apply(below, negative),
        form.apply(above, negative) + form.apply(below, positive),
    )


def _secant(rise, run, size, derivative):
    """rise / run, and the derivative where run is but rounding of values of this size."""
    near = ops.abs(run) <= _NEAR * size
    # Of what has steps, as a rounding, TensorFlow has no derivative.
    derivative = ops.zeros_like(run) if derivative is None else wide(derivative)
    return ops.where(near, derivative, ops.divide(rise, ops.where(near, ops.ones_like(run), run)))


@dataclasses.dataclass(frozen=True)
class RescaleMultiplier(Multiplier):
    """The Rescale rule (section 3.5.2) of a function of one value: m_in = (f(x) - f(x0)) / (x - x0) m."""

    kinds: ClassVar[tuple[str, ...]] = ("rectifier", "activation")

    def back(self, call: Call, multipliers: tuple[Any, ...]) -> tuple[Any, ...]:
        """See the class; f'(x) where x is all but x0."""
        (x,), (before,) = call.inputs[:1], call.prepared.inputs[:1]
        rise, run = difference(call.outputs[0], call.prepared.outputs[0]), difference(x, before)
        slope = _secant(rise, run, ops.abs(wide(x)) + ops.abs(wide(before)), _slope(call))
        return (ops.multiply(multipliers[0], slope), *[None] * (len(call.inputs) - 1))


def _slope(call):
    return call.pullback((ops.ones_like(call.outputs[0]),))[0]


@dataclasses.dataclass(frozen=True)
class RevealCancelMultiplier(RescaleMultiplier):
    """The RevealCancel rule (section 3.5.3): the mean of what a part adds on its own and what it adds to the other.

    dy+ = (f(x0 + dx+) - f(x0) + f(x0 + dx- + dx+) - f(x0 + dx-)) / 2, m+ = dy+ / dx+, and dy- likewise.
    """

    def reverse(self, call: Call, relevance: tuple[Any, ...]) -> tuple[Any, ...]:
        """m_in+ = dy+ / dx+ m+, m_in- = dy- / dx- m-."""
        rises = self.split(call.form, call.inputs, call.outputs, call.prepared)[0]
        size, slope = ops.abs(wide(call.inputs[0])) + ops.abs(wide(call.prepared.inputs[0])), _slope(call)
        each = zip(rises, call.prepared.parts[0], (relevance[0][0], relevance[0][1]), strict=True)
        found = [ops.multiply(wide(m), _secant(rise, run, size, slope)) for rise, run, m in each]
        return (ops.stack(found), *[None] * (len(call.inputs) - 1))

    def split(self, form: Any, inputs: tuple, outputs: tuple, reference: Reference) -> tuple[Pair, ...]:
        """dy+ and dy-."""
        before, parts = wide(reference.inputs[0]), reference.parts[0]
        above, below = parts or by_sign(difference(inputs[0], before))

        def at(change: Any) -> Any:
            moved = copy_mask(inputs[0], ops.cast(before + change, inputs[0].dtype))
            return wide(form.forward(moved, *inputs[1:])[0])

        start, end = wide(reference.outputs[0]), wide(outputs[0])
        with_above, with_below = at(above), at(below)
        return (((with_above - start + end - with_below) / 2, (with_below - start + end - with_above) / 2),)
