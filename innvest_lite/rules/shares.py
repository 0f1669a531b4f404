"""The arithmetic that the rules of layer-wise relevance propagation share: wide numbers, denominators, signed passes."""

from __future__ import annotations

from typing import Any

from keras import ops

from innvest_lite import backend
from innvest_lite.errors import InvalidInputError
from innvest_lite.forms import LinearForm
from innvest_lite.graph.masks import copy_mask
from innvest_lite.options import is_number, truth
from innvest_lite.rules.base import Call


class Signed:
    """Positive inputs through one kernel and negative inputs through another, in one pass where no input is negative."""

    def __init__(self, call: Call, above: Any, below: Any, together: bool = False) -> None:
        form = call.form
        inputs = tuple(ops.cast(x, above.dtype) for x in call.inputs)
        if call.nonnegative or together:
            # The second kernel would meet zeros only.
            self._parts = [(inputs, *applied(form, inputs, above))]
        else:
            rectified = tuple(ops.relu(x) for x in inputs)
            # Exact, since at each place one of the two parts is x and the other 0.
            rest = tuple(x - r for x, r in zip(inputs, rectified, strict=True))
            self._parts = [(rectified, *applied(form, rectified, above)), (rest, *applied(form, rest, below))]
        outputs = [output for _, output, _ in self._parts]
        self.output = sum(outputs[1:], outputs[0])

    def back(self, cotangent: Any) -> tuple[Any, ...]:
        """The contributions' shares: each part of the inputs times its pullback."""
        shares = [times(inputs, pullback((cotangent,))) for inputs, _, pullback in self._parts]
        return tuple(sum(share[1:], share[0]) for share in zip(*shares, strict=True))


class Magnitudes:
    """How large the contributions of a node without weights are: a sum's addends, the values of a mean, a diagonal map.

    Attributes:
        total: the sum of the magnitudes, with that of the constant, a tensor of the output's shape.
        constant: the magnitude of what is no contribution of an input.
    """

    def __init__(self, call: Call) -> None:
        # In the output's dtype: a layer casts what it takes to its own, and a number of NumPy's makes float64 of float32.
        dtype = wide(call.outputs[0]).dtype
        self._inputs = tuple(copy_mask(x, ops.cast(ops.abs(x), dtype)) if backend.is_float(x) else x for x in call.inputs)
        form = call.form
        if form.kind == "scale":
            output, self._pullback, self.constant = self._of_scale(call)
        elif isinstance(form, LinearForm):
            output, self._pullback = applied(form, self._inputs, ops.cast(ops.abs(kernel_of(call)), self._inputs[0].dtype))
            self.constant = ops.zeros_like(output)
        elif form.kind == "sum":
            sizes = [abs(weight) for weight in form.weights]
            output, self._pullback = backend.vjp(
                lambda *x: sum(size * y for size, y in zip(sizes, x, strict=True)), *self._inputs
            )
            self.constant = ops.zeros_like(output)
        else:
            # Without a negative coefficient, magnitudes go through the node as the values do.
            (whole,), self._pullback = backend.vjp(lambda *x: tuple(map(wide, form.forward(*x))), *self._inputs)
            nothing = (copy_mask(x, ops.zeros_like(x)) if backend.is_float(x) else x for x in self._inputs)
            (at_zero,) = map(wide, form.forward(*nothing))
            output, self.constant = whole - at_zero, ops.abs(at_zero)
        self.total = output + self.constant

    def _of_scale(self, call: Call) -> tuple[Any, Any, Any]:
        # The VJP of ones is the factor of each value, whatever makes the map.
        _, pullback = backend.vjp(call.form.forward, *call.inputs)
        (weight,) = pullback((ops.ones_like(call.outputs[0]),))
        whole = wide(call.outputs[0])
        # Of what looks at no number that it takes there is no gradient.
        weight = ops.zeros_like(whole) if weight is None else ops.cast(weight, whole.dtype)
        constant = ops.abs(whole - ops.cast(call.inputs[0], whole.dtype) * weight)
        size = ops.abs(weight)
        return self._inputs[0] * size, lambda cotangents: (size * cotangents[0],), constant

    def back(self, cotangent: Any) -> tuple[Any, ...]:
        """Each input's magnitude times what the cotangent of the outputs makes of it; None for what is no float."""
        shares = self._pullback((cotangent,))
        return tuple(None if share is None else x * share for x, share in zip(self._inputs, shares, strict=True))


def require_number(value: Any, name: str, least: float = 0.0, above: bool = False) -> None:
    """Raises InvalidInputError unless `value` is a finite number of at least (or above) `least`."""
    words = f"above {least:g}" if above else f"of at least {least:g}"
    sound = is_number(value) and (value > least if above else value >= least)
    require(sound, f"{name} should be a number {words}, but is {value!r}.")


def require_bool(value: Any, name: str) -> None:
    """Raises InvalidInputError unless `value` is True or False."""
    truth(value, name)


def applied(form: Any, inputs: tuple[Any, ...], kernel: Any) -> tuple[Any, Any]:
    """`(output, pullback)` of a linear form with another kernel, without bias."""
    return backend.vjp(lambda *x: form.apply(x, kernel), *inputs)


def own(call: Call, cotangent: Any) -> tuple[Any, ...]:
    """The node's VJP in x with its own kernel; under a half-precision policy in float32, where half would overflow."""
    if call.outputs[0].dtype == cotangent.dtype:
        return call.pullback((cotangent,))
    return call.form.vjp_inputs(call.inputs, ops.cast(call.form.kernel(), cotangent.dtype), cotangent)


def kernel_of(call: Call) -> Any:
    """The node's effective kernel."""
    return wide(call.form.kernel())


def bias_of(call: Call) -> Any:
    """The node's effective bias in unit shape, or None."""
    bias = call.form.bias()
    return None if bias is None else wide(bias)


def wide(x: Any) -> Any:
    """As float32, or float64 where it is float64."""
    # float16 ends at 65504, which a division by a small z easily exceeds.
    return x if x.dtype == "float64" else ops.cast(x, "float32")


def times(inputs: tuple[Any, ...], shares: tuple[Any, ...]) -> tuple[Any, ...]:
    """Each input times its share."""
    return tuple(ops.cast(x, share.dtype) * share for x, share in zip(inputs, shares, strict=True))


def stabilized(total: Any, epsilon: float) -> Any:
    """z + epsilon sign(z), with sign(0) = 1."""
    # sign(0) = 1, as otherwise the denominator would still be 0 there.
    epsilon = ops.convert_to_tensor(epsilon, total.dtype)
    return total + ops.where(total >= 0, epsilon, -epsilon)


def kept(call: Call, relevance: Any, total: Any, denominator: Any, has_bias: bool) -> dict[str, Any]:
    """How much relevance epsilon and the bias absorb where z (`total`) is stabilized to `denominator`."""
    share = backend.divide_no_nan(wide(relevance), denominator)
    parts = {"epsilon": wide(relevance) - share * total}
    if has_bias and bias_of(call) is not None:
        parts["bias"] = share * ops.cast(call.form.spread(bias_of(call)), share.dtype)
    return parts


def nowhere(relevance: Any, total: Any) -> Any:
    """The relevance that arrives at a denominator of 0, where it is lost."""
    return ops.where(ops.equal(total, 0), wide(relevance), 0)


def share_above(value: Any, constant: Any) -> Any:
    """(v - c) / (|v - c| + |c|) with the sign of v: 1 where c is 0."""
    part = value - constant
    return backend.divide_no_nan(with_sign_of(value, part), ops.abs(part) + ops.abs(constant))


def with_sign_of(value: Any, tensor: Any) -> Any:
    """A tensor times the sign of a value, that of 0 being 1."""
    return ops.where(value >= 0, tensor, -tensor)


def require(condition: bool, message: str) -> None:
    """Raises InvalidInputError with the message unless the condition holds."""
    if not condition:
        raise InvalidInputError(message)
