"""The rules for the first layer, whose inputs are no activations: w^2, flat and z^B (Montavon et al. 2017)."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from keras import ops

from innvest_lite import backend
from innvest_lite.options import truth
from innvest_lite.rules.base import Call, register_rule
from innvest_lite.rules.lrp import LinearRule
from innvest_lite.rules.shares import applied, kernel_of, nowhere, require, wide


@dataclasses.dataclass(frozen=True)
class InputlessRule(LinearRule):
    """Shares by the kernel alone, whatever the inputs; padding gets no share."""

    def reverse(self, call: Call, relevance: tuple[Any, ...]) -> tuple[Any, ...]:
        """R_in = V'(R / V 1)."""
        form, kernel = call.form, self._kernel(call)
        cotangent = backend.divide_no_nan(wide(relevance[0]), self._total(call, kernel))
        return form.vjp_inputs(call.inputs, kernel, cotangent)

    def absorbed(self, call: Call, relevance: tuple[Any, ...]) -> dict[str, Any]:
        """All relevance is lost where a unit's kernel is 0."""
        total = self._total(call, self._kernel(call))
        return {"epsilon": nowhere(relevance[0], ops.broadcast_to(total, ops.shape(relevance[0])))}

    def _total(self, call, kernel):
        # Ones go through the layer itself, so that at a border the taps on padding are not in the denominator.
        # A single sample: the shares do not depend on the inputs.
        ones = tuple(ops.ones_like(x[:1], dtype=kernel.dtype) for x in call.inputs)
        return call.form.apply(ones, kernel)

    def _kernel(self, call):
        raise NotImplementedError


@register_rule
@dataclasses.dataclass(frozen=True)
class WSquare(InputlessRule):
    """The w^2 rule: R_i = sum_j w_ij^2 / sum_i w_ij^2 R_j (Montavon et al. 2017, eq. 10)."""

    def _kernel(self, call):
        return ops.square(kernel_of(call))


@register_rule
@dataclasses.dataclass(frozen=True)
class Flat(InputlessRule):
    """The flat rule: every input in a unit's sight gets the same (Lapuschkin et al. 2019, arXiv 1902.10178)."""

    def _kernel(self, call):
        return ops.ones_like(kernel_of(call))


@register_rule
@dataclasses.dataclass(frozen=True)
class Box(LinearRule):
    """The z^B rule for inputs in [low, high], such as pixels (Montavon et al. 2017, eq. 17).

    R_i = sum_j (x_i w_ij - l_i w_ij+ - h_i w_ij-) / sum_i (...) R_j, without the bias.

    Attributes:
        low: the smallest value an input can have: a number, or a tuple of one per channel.
        high: the largest.
        mapped: whether these are bounds of the model's input, which preprocessing inside the model maps; False: of what
            the layer itself takes.
    """

    needs_bounds = True

    low: float | tuple[float, ...] = -1.0
    high: float | tuple[float, ...] = 1.0
    mapped: bool = True

    def __post_init__(self) -> None:
        truth(self.mapped, "mapped")
        for name in ("low", "high"):
            value = _numbers(getattr(self, name))
            sound = value is not None and value.ndim < 2 and value.size and np.isfinite(value).all()
            require(sound, f"{name} should be a number or one per channel, but is {getattr(self, name)!r}.")
            # The dataclass is frozen. As plain numbers and tuples, rules can be compared, hashed and saved.
            object.__setattr__(self, name, value.item() if value.ndim == 0 else tuple(value.tolist()))
        # A single number serves all channels, so it fits any number of bounds on the other side.
        sizes = {np.size(self.low), np.size(self.high)} - {1}
        require(len(sizes) < 2, f"low and high should have as many numbers, but are {self.low} and {self.high}.")
        require(
            bool(np.all(np.asarray(self.low) < np.asarray(self.high))),
            f"low should be below high, but they are {self.low} and {self.high}.",
        )

    def reverse(self, call: Call, relevance: tuple[Any, ...]) -> tuple[Any, ...]:
        """R_in = x W's - l W+'s - h W-'s with s = R / z."""
        parts, total = self._parts(call)
        cotangent = backend.divide_no_nan(wide(relevance[0]), total)
        handed_on = [x * pullback((cotangent,))[0] for x, pullback in parts]
        return (handed_on[0] - handed_on[1] - handed_on[2],)

    def absorbed(self, call: Call, relevance: tuple[Any, ...]) -> dict[str, Any]:
        """All relevance is lost where z is 0."""
        return {"epsilon": nowhere(relevance[0], self._parts(call)[1])}

    def _parts(self, call):
        """`(inputs, pullback)` of the three maps, and the denominator."""
        kernel, form = kernel_of(call), call.form
        x = ops.cast(call.inputs[0], kernel.dtype)
        bounds = call.prepared or tuple(self.filled(x[:1], bound, form) for bound in (self.low, self.high))
        low, high = (ops.broadcast_to(ops.cast(bound, x.dtype), ops.shape(x)) for bound in bounds)
        kernels = (kernel, ops.relu(kernel), -ops.relu(-kernel))
        # Three maps, because each term has inputs and a kernel of its own: x with w, low with w+, high with w-.
        parts, outputs = [], []
        for bound, part in zip((x, low, high), kernels, strict=True):
            output, pullback = applied(form, (bound,), part)
            parts.append((bound, pullback))
            outputs.append(output)
        return parts, outputs[0] - outputs[1] - outputs[2]

    def filled(self, x: Any, bound: float | tuple[float, ...], form: Any) -> Any:
        """A tensor that holds a bound everywhere.

        Args:
            x: an input of the model, a tensor.
            bound: a number, or one per channel.
            form: the node that the rule stands at, which says where channels lie.

        Returns:
            A tensor of the shape and type of `x`.

        Raises:
            InvalidInputError: there are as many bounds as `x` has no channels.
        """
        values = ops.convert_to_tensor(np.asarray(bound), x.dtype)
        rank, axis = len(x.shape), form.input_channel_axis
        if len(values.shape):
            require(
                axis < rank and values.shape[0] == x.shape[axis],
                f"{form.name} has {x.shape[min(axis, rank - 1)]} channels, but Box has {values.shape[0]} bounds.",
            )
            values = ops.reshape(values, tuple(-1 if position == axis else 1 for position in range(rank)))
        return ops.broadcast_to(values, ops.shape(x))


def _numbers(given):
    """An array of float64, or None where none can be made."""
    try:
        return np.asarray(given, "float64")
    except (ValueError, TypeError):
        return None


def box_of(low: Any, high: Any, default: float) -> Box:
    """The z^B of bounds of the model's input.

    Args:
        low: the smallest value, a number or one per channel, or None.
        high: the largest value, or None.
        default: in place of a bound that is None; where both are, they are of what the first layer takes.
    """
    given = low is not None or high is not None
    return Box(-default if low is None else low, default if high is None else high, mapped=given)
