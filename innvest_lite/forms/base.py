"""What a node is to a rule: a linear map, a sum, an activation, a maximum, ...: `Form` and `LinearForm`.

Comes in: a node. Goes out: its forward value, and for linear nodes the two vector-Jacobian products on which every
reverse rule (in x) and every pattern statistic (in the kernel) stand. `forms.registry` decides which node gets which
form; rules, the sweep and the fitter use them.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from innvest_lite import backend
from innvest_lite.errors import InvalidInputError
from innvest_lite.graph import Node
from innvest_lite.tables import Brief

KINDS = (
    *("linear", "sum", "average", "scale", "rectifier", "activation", "max", "product", "route", "embedding"),
    *("normalization", "softmax", "matmul", "recurrent", "opaque"),
)

# How many samples are taken to be explained at a time, where the work for a sample is weighed against that for a call.
_BATCH = 8


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Form(Brief):
    """How a node computes, as far as rules need to know.

    The kinds, on which composites match: "linear" (a map with weights), "sum" (of inputs, weighted), "average" (pooling),
    "scale" (each value times a constant of its own, plus a constant), "rectifier" (ReLU), "activation" (any other function
    of one value at a time), "max" (pooling, or of several inputs), "product" (of inputs), "route" (values are moved or
    copied), "embedding" (integers to vectors), "normalization" (by a sample's own statistics), "softmax", "matmul"
    (sums of products of two tensors of the data), "recurrent" (the same steps over and over, see `Node.steps`), "opaque"
    (anything else: only its gradient is known).

    Attributes:
        node: the graph node.
        kind: one of the above.

    Raises:
        InvalidInputError: the kind is not one of these.
    """

    node: Node
    kind: str

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InvalidInputError(f"{self.node.name} has the form {self.kind!r}; the kinds are {', '.join(KINDS)}.")

    @property
    def name(self) -> str:
        """The node's name."""
        return self.node.name

    def forward(self, *inputs: Any) -> tuple[Any, ...]:
        """The node's outputs, a tuple, exactly as the model computes them."""
        return self.node.call(*inputs)

    def moved(self, *inputs: Any) -> tuple[Any, ...]:
        """As `forward`, of floats in the places of whole numbers, where the node moves what it takes."""
        outputs = self.forward(*inputs)
        if type(self.node.operation).__name__ == "Cast":
            outputs = (ops.reshape(inputs[0], ops.shape(outputs[0])),)
        return outputs

    def affine(self, *inputs: Any) -> Callable[..., tuple[Any, ...]]:
        """A function that equals `forward` at these inputs and is affine in them: statistics count as constants."""
        return self.forward

    def held(self, *inputs: Any) -> Callable[..., tuple[Any, ...]]:
        """As `affine`, but all statistics are constants: of a normalization, the mean too."""
        return self.affine(*inputs)


@dataclasses.dataclass(frozen=True, eq=False)
class LinearForm(Form):
    """A linear node `z = f(x, kernel) + bias`, linear in x and in the kernel.

    A node without a kernel of its own (a sum, an average) has a virtual one. Subclasses give `raw_kernel`,
    `raw_bias` and `apply`; BatchNormalization fused into the node is added here.

    Attributes:
        fan_in: the kernel axes over which a unit sums its inputs (where sum(w * a) = 1 for a pattern a).
        unit_axes: the output axes along which the units lie, in the order of the kernel's other axes.
    """

    fan_in: tuple[int, ...] = ()
    unit_axes: tuple[int, ...] = ()

    @property
    def units_share_inputs(self) -> bool:
        """Whether all units are known to see the same inputs at a position."""
        return False

    def raw_kernel(self) -> Any:
        """The kernel before BatchNormalization, a float tensor."""
        raise NotImplementedError

    def raw_bias(self) -> Any:
        """The bias as a tensor that broadcasts to `unit_shape`, or None."""
        return

    def apply(self, inputs: tuple[Any, ...], kernel: Any) -> Any:
        """The linear map without bias.

        Args:
            inputs: a tuple of tensors, as the node takes them.
            kernel: a tensor of `kernel_shape`.

        Returns:
            A tensor of the output's shape, in the kernel's dtype.
        """
        raise NotImplementedError

    def evaluate(self, inputs: tuple[Any, ...], kernel: Any) -> Any:
        """What the forward pass computes: `apply`, unless the layer's own operation rounds differently.

        Args:
            inputs: as in `apply`.
            kernel: as in `apply`.

        Returns:
            As `apply`.
        """
        return self.apply(inputs, kernel)

    @functools.cached_property
    def kernel_shape(self) -> tuple[int, ...]:
        """The shape of the kernel, a tuple of ints."""
        return tuple(self.raw_kernel().shape)

    @functools.cached_property
    def unit_shape(self) -> tuple[int, ...]:
        """The kernel's shape without the fan-in axes: one entry a unit."""
        return tuple(size for axis, size in enumerate(self.kernel_shape) if axis not in self.fan_in)

    @property
    def input_sums_shape(self) -> tuple[int, ...]:
        """The shape of what `input_sums` gives."""
        return self.kernel_shape

    @property
    def weights_key(self) -> tuple[Any, ...]:
        """Equal for nodes that share their weights, and so their pattern (docs/design.md, decision 3)."""
        # With the fused BatchNormalization: one kernel before two of them is two effective kernels.
        return id(self.node.operation), self.node.part, id(self.node.batchnorm)

    def fingerprinted(self) -> tuple[list, list]:
        """What a hash of the weights is made of: arrays, raw ones, and options that change the kernel, as text."""
        # Raw, since a fused kernel is rounded as the machine does it.
        weights, layer = [self.raw_kernel(), self.raw_bias()], self.node.batchnorm
        if layer is None:
            return weights, []
        return [*weights, layer.moving_mean, layer.moving_variance, layer.gamma, layer.beta], [repr(layer.epsilon)]

    def kernel(self) -> Any:
        """The effective kernel, float: `w * gamma / sqrt(variance + epsilon)` with a fused BatchNormalization."""
        # In float32 at least: gamma / sqrt(variance) of a channel that hardly varies leaves float16.
        kernel = _wide(self.raw_kernel())
        scale = self._scale()
        return kernel if scale is None else kernel * as_dtype(self.spread_over_kernel(scale), kernel.dtype)

    def is_positive(self) -> Any:
        """Whether the numbers of the effective kernel are above 0, booleans of `kernel_shape`; of zeros, either."""
        positive, scale = self.raw_kernel() > 0, self._scale()
        return positive if scale is None else ops.equal(positive, self.spread_over_kernel(scale > 0))

    def bias(self) -> Any:
        """The effective bias in `unit_shape`; None where there is none."""
        bias = self.raw_bias()
        bias = None if bias is None else shaped(_wide(bias), self.unit_shape)
        return bias if self.node.batchnorm is None else backend.once((id(self), "bias"), lambda: self._fused_bias(bias))

    def _fused_bias(self, bias):
        layer = self.node.batchnorm
        mean = shaped(_wide(layer.moving_mean), self.unit_shape)
        scaled = (-mean if bias is None else bias - mean) * self._scale()
        return scaled + shaped(_wide(layer.beta), self.unit_shape) if layer.center else scaled

    def _scale(self):
        """The factor of each unit in the fused BatchNormalization, in `unit_shape`; None without one."""
        return None if self.node.batchnorm is None else backend.once((id(self), "scale"), self._fused_scale)

    def _fused_scale(self):
        layer = self.node.batchnorm
        scale = ops.rsqrt(_wide(layer.moving_variance) + layer.epsilon)
        scale = scale * _wide(layer.gamma) if layer.scale else scale
        return shaped(scale, self.unit_shape)

    def forward(self, *inputs: Any) -> tuple[Any, ...]:
        """The node's output, a tuple of one, in the layer's compute dtype."""
        # Rounded to the layer's compute dtype, as the model itself does.
        dtype = self.node.output_specs[0].dtype
        if not self._scales_outputs:
            return self.completed(inputs, self.evaluate(inputs, as_dtype(self.kernel(), dtype)))
        linear = self.evaluate(inputs, as_dtype(self.raw_kernel(), dtype))
        return self.completed(inputs, linear * as_dtype(self.spread(self._scale()), dtype))

    @property
    def _scales_outputs(self):
        """Whether the factors of a fused BatchNormalization are multiplied with the outputs, and not with the kernel.

        It is the same map, and less work where the kernel has more numbers than the outputs of a batch.
        """
        output = self.node.output_specs[0]
        # In half precision, outputs that are not scaled yet could overflow.
        if self.node.batchnorm is None or output.dtype not in ("float32", "float64") or None in output.shape[1:]:
            return False
        return math.prod(self.kernel_shape) > _BATCH * math.prod(output.shape[1:])

    def completed(self, inputs: tuple[Any, ...], linear: Any) -> tuple[Any, ...]:
        """The outputs from the linear part: with the bias, in the layer's compute dtype.

        Args:
            inputs: as in `apply`.
            linear: what `evaluate` gave.

        Returns:
            A tuple of one tensor, of the output's shape.
        """
        dtype, bias = self.node.output_specs[0].dtype, self.bias()
        linear = as_dtype(linear, dtype)
        if bias is None:
            return (linear,)
        shift = as_dtype(self.spread(bias), dtype)
        # Along the last axis, Keras adds it by an operation that TensorFlow fuses with the convolution and the ReLU behind
        # it; along another, it could take positions for channels.
        return (ops.add(linear, shift) if self.unit_axes[-1] == len(linear.shape) - 1 else linear + shift,)

    def linear_part(self, output: Any) -> Any:
        """y = w'x: a forward output without its bias, float32 or wider."""
        output, bias = _wide(output), self.bias()
        return output if bias is None else output - self.spread(bias)

    def centred(self, output: Any, pivot: Any) -> Any:
        """A forward output without its bias and a number per unit; in one pass over the values.

        Args:
            output: a tensor of the output's shape.
            pivot: the number to subtract, a tensor of `unit_shape`.

        Returns:
            A tensor of the output's shape, float32 or wider.
        """
        output, bias = _wide(output), self.bias()
        shift = pivot if bias is None else bias + as_dtype(pivot, bias.dtype)
        return output - as_dtype(self.spread(shift), output.dtype)

    def spread(self, per_unit: Any) -> Any:
        """Shapes one number a unit, `per_unit` of `unit_shape`, so that it broadcasts against the output."""
        rank = len(self.node.output_specs[0].shape)
        # A depthwise kernel has its units on two axes, channels and multiplier, which are one axis of the output.
        if len(self.unit_axes) != len(self.unit_shape):
            per_unit = shaped(per_unit, (math.prod(self.unit_shape),))
        order = np.argsort(self.unit_axes)
        # What moves nothing is left out: a fit's graph has thousands of operations, each of which takes time to trace.
        if list(order) != sorted(order):
            per_unit = ops.transpose(per_unit, tuple(order))
        sizes = dict(zip(sorted(self.unit_axes), per_unit.shape, strict=True))
        if len(sizes) == 1 and rank - 1 in sizes:
            return per_unit
        return ops.reshape(per_unit, tuple(sizes.get(axis, 1) for axis in range(rank)))

    @property
    def input_channel_axis(self) -> int:
        """The axis of the inputs along which their channels lie."""
        rank = len(self.node.input_specs[0].shape)
        return 1 if getattr(self.node.operation, "data_format", None) == "channels_first" else rank - 1

    def spread_over_kernel(self, per_unit: Any) -> Any:
        """Shapes one number a unit, `per_unit` of `unit_shape`, so that it broadcasts against the kernel."""
        sizes = enumerate(self.kernel_shape)
        return ops.reshape(per_unit, tuple(1 if axis in self.fan_in else size for axis, size in sizes))

    def per_unit(self, values: Any) -> Any:
        """Sums output-shaped values over samples and positions; the result has `unit_shape`."""
        rank = len(values.shape)
        positions = tuple(axis for axis in range(1, rank) if axis not in self.unit_axes)
        # Sample by sample first: TensorFlow adds up one by one in float32, in which 2**24 + 1 is 2**24.
        sums = ops.sum(ops.sum(values, axis=positions), axis=0) if positions else ops.sum(values, axis=0)
        ranks = tuple(np.argsort(np.argsort(self.unit_axes)))
        sums = sums if ranks == tuple(range(len(ranks))) else ops.transpose(sums, ranks)
        return shaped(sums, self.unit_shape)

    def vjp_inputs(self, inputs: tuple[Any, ...], kernel: Any, cotangent: Any) -> tuple[Any, ...]:
        """The VJP in x with any kernel: relevance of the output to relevance of each input.

        Args:
            inputs: as in `apply`.
            kernel: as in `apply`.
            cotangent: a tensor of the output's shape, in the kernel's dtype.

        Returns:
            A tuple of tensors, of the inputs' shapes, in the kernel's dtype.
        """
        inputs = tuple(ops.cast(x, kernel.dtype) for x in inputs)
        _, pullback = backend.vjp(lambda *x: self.apply(x, kernel), *inputs)
        return pullback(cotangent)

    def vjp_kernel(self, inputs: tuple[Any, ...], cotangent: Any) -> Any:
        """The VJP in the kernel: `sum(cotangent * x)` over samples and positions.

        Args:
            inputs: as in `apply`.
            cotangent: a tensor of the output's shape.

        Returns:
            A tensor of `kernel_shape`, in the cotangent's dtype.
        """
        inputs = tuple(as_dtype(x, cotangent.dtype) for x in inputs)
        # The map is linear in the kernel, so its VJP is the same at any; the forward value is dead code when compiled.
        _, pullback = backend.vjp(lambda k: self.apply(inputs, k), ops.zeros(self.kernel_shape, cotangent.dtype))
        return pullback(cotangent)[0]

    def input_sums(self, inputs: tuple[Any, ...], like: Any, weights: Any = None) -> Any:
        """`sum(x)` over samples and positions: the VJP in the kernel of ones.

        Forms whose units all see the same inputs override it: one unit's worth of work is enough.

        Args:
            inputs: a tuple of tensors.
            like: an output-shaped tensor, for shape and dtype.
            weights: a weight for each sample, which broadcasts against `like`; None: 1.

        Returns:
            A tensor of `input_sums_shape`.
        """
        return self.vjp_kernel(inputs, weighted(ops.ones_like(like), weights))


def weighted(values: Any, weights: Any) -> Any:
    """The values times their samples' weights; None: as they are."""
    return values if weights is None else values * as_dtype(weights, values.dtype)


def as_dtype(x: Any, dtype: Any) -> Any:
    """The tensor in a dtype; itself where it has that, without Keras's look at it, which costs more than a small cast."""
    return x if x.dtype == dtype else ops.cast(x, dtype)


def shaped(x: Any, shape: tuple[int, ...]) -> Any:
    """The tensor in a fixed shape; itself where it has that: what does nothing is to be traced all the same."""
    return x if tuple(x.shape) == tuple(shape) else ops.reshape(x, shape)


def _wide(x):
    """As float32, or float64 where it is float64: the dtype in which weights are combined, whatever the compute dtype."""
    dtype = keras.backend.standardize_dtype(x.dtype)
    # Of a variable, its value.
    return ops.convert_to_tensor(x) if dtype in ("float32", "float64") else ops.cast(x, "float32")
