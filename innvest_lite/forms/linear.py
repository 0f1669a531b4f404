"""The linear forms with a kernel of their own: dense, einsum, convolutions of 1 to 3 dimensions of every kind.

Each is the layer's linear map as one pure `keras.ops` call of (x, kernel).
"""

from __future__ import annotations

import dataclasses
from typing import Any

from keras import ops

from innvest_lite import backend
from innvest_lite.forms.base import Form, LinearForm, as_dtype, weighted
from innvest_lite.forms.convolutions import (
    as_matrix,
    by_groups,
    convolve,
    in_layout,
    is_depthwise,
    is_grouped,
    is_plain,
    native_convolution,
    padded,
    seen,
)
from innvest_lite.graph import Node
from innvest_lite.graph.masks import carry_mask
from innvest_lite.graph.passes import LINEAR_MAPS, einsum_axes, einsum_bias_axes, unit_axes
from innvest_lite.graph.weighted import Linear


@dataclasses.dataclass(frozen=True, eq=False)
class LayerForm(LinearForm):
    """A linear form whose weights are `layer.kernel` and `layer.bias`."""

    @property
    def layer(self) -> Any:
        """The Keras layer."""
        return self.node.operation

    @property
    def weights_key(self) -> tuple[Any, ...]:
        """See `LinearForm.weights_key`; what no layer holds is known by its variables."""
        own = super().weights_key
        return (self.layer.weights_key, *own[1:]) if isinstance(self.layer, Linear) else own

    def raw_kernel(self) -> Any:
        """The layer's kernel."""
        return ops.convert_to_tensor(self.layer.kernel)

    def raw_bias(self) -> Any:
        """The layer's bias or None."""
        return None if self.layer.bias is None else ops.convert_to_tensor(self.layer.bias)

    def completed(self, inputs: tuple[Any, ...], linear: Any) -> tuple[Any, ...]:
        """The output; a Keras mask travels with it, as through the layer."""
        (output,) = super().completed(inputs, linear)
        return (carry_mask(self.layer, inputs[0], output),)


@dataclasses.dataclass(frozen=True, eq=False)
class Dense(LayerForm):
    """`x @ kernel` on the last axis; kernel (inputs, units)."""

    @property
    def units_share_inputs(self) -> bool:
        """All inputs."""
        return True

    def apply(self, inputs: tuple[Any, ...], kernel: Any) -> Any:
        """(batch, ..., inputs) to (batch, ..., units)."""
        return ops.matmul(as_dtype(inputs[0], kernel.dtype), kernel)

    def vjp_kernel(self, inputs: tuple[Any, ...], cotangent: Any) -> Any:
        """See `LinearForm.vjp_kernel`: one matrix product."""
        pair = as_dtype(inputs[0], cotangent.dtype), cotangent
        return backend.dense_vjp_kernel(*(one if len(one.shape) == 2 else as_matrix(one) for one in pair))

    @property
    def input_sums_shape(self) -> tuple[int, ...]:
        """All units see the same inputs."""
        return (self.kernel_shape[0], 1)

    def input_sums(self, inputs: tuple[Any, ...], like: Any, weights: Any = None) -> Any:
        """Shape (inputs, 1)."""
        # A plain sum: the VJP of ones would make as many equal columns as there are units.
        x = weighted(as_dtype(inputs[0], like.dtype), weights)
        return ops.reshape(ops.sum(x, axis=tuple(range(len(x.shape) - 1))), self.input_sums_shape)


@dataclasses.dataclass(frozen=True, eq=False)
class Einsum(LayerForm):
    """EinsumDense: `einsum(equation, x, kernel)`."""

    @property
    def units_share_inputs(self) -> bool:
        """Unless an axis is both one of the inputs and one of the units, such as that of attention heads."""
        return not _axes_of_both(self.layer.equation)

    def apply(self, inputs: tuple[Any, ...], kernel: Any) -> Any:
        """As the equation says."""
        return ops.einsum(self.layer.equation, as_dtype(inputs[0], kernel.dtype), kernel)

    def raw_bias(self) -> Any:
        """The bias, of the output's rank or less, in the kernel's order of units."""
        if self.layer.bias is None:
            return None
        rank = len(self.node.output_specs[0].shape)
        flat = einsum_bias_axes(self.layer, rank)
        bias = ops.squeeze(ops.convert_to_tensor(self.layer.bias), flat) if flat else self.layer.bias
        # Keras drops leading axes of size 1: a bias of lower rank than the units lie does not vary along the first ones.
        bias = ops.expand_dims(bias, tuple(range(len(self.unit_axes) - len(bias.shape))))
        ranks = tuple(sorted(self.unit_axes).index(axis) for axis in self.unit_axes)
        return ops.broadcast_to(ops.transpose(bias, ranks), self.unit_shape)


@dataclasses.dataclass(frozen=True, eq=False)
class Convolution(LayerForm):
    """Conv1D, Conv2D, Conv3D, grouped, strided or dilated; kernel (taps..., inputs / groups, units)."""

    @property
    def units_share_inputs(self) -> bool:
        """Unless the convolution has groups."""
        return self.layer.groups == 1

    def apply(self, inputs: tuple[Any, ...], kernel: Any) -> Any:
        """(batch, positions..., inputs) to (batch, positions..., units), or channels first."""
        return convolve(self.layer, as_dtype(inputs[0], kernel.dtype), kernel)

    def evaluate(self, inputs: tuple[Any, ...], kernel: Any) -> Any:
        """The layer's own convolution, also where `apply` computes it differently; but for groups, see `by_groups`."""
        x = as_dtype(inputs[0], kernel.dtype)
        grouped = is_grouped(self.layer) and not is_depthwise(self.layer, kernel)
        return (by_groups if grouped else native_convolution)(self.layer, x, kernel)

    @property
    def input_sums_shape(self) -> tuple[int, ...]:
        """All units of a convolution without groups see the same inputs."""
        return (*self.kernel_shape[:-1], 1) if self.layer.groups == 1 else self.kernel_shape

    def input_sums(self, inputs: tuple[Any, ...], like: Any, weights: Any = None) -> Any:
        """Shape (taps..., inputs, 1): a single unit sees what all units see; with groups, the general way."""
        if self.layer.groups > 1:
            return super().input_sums(inputs, like, weights)
        if is_plain(self.layer) and max(self.layer.kernel_size) == 1:
            x = weighted(as_dtype(seen(self.layer, inputs[0]), like.dtype), weights)
            return ops.reshape(ops.sum(ops.sum(x, axis=(1, 2)), axis=0), self.input_sums_shape)
        one = [slice(None)] * len(like.shape)
        one[self.unit_axes[0]] = slice(1)
        return self._vjp(inputs, weighted(ops.ones_like(like[tuple(one)]), weights), self.input_sums_shape)

    def vjp_kernel(self, inputs: tuple[Any, ...], cotangent: Any) -> Any:
        """See `LinearForm.vjp_kernel`."""
        return self._vjp(inputs, cotangent, self.kernel_shape)

    def _vjp(self, inputs, cotangent, shape):
        """The VJP in a kernel of this shape, which may be that of fewer units."""
        x, layer = as_dtype(inputs[0], cotangent.dtype), self.layer
        if layer.groups > 1 or not is_plain(layer):
            _, pullback = backend.vjp(lambda k: convolve(layer, x, k), ops.zeros(shape, x.dtype))
            return pullback(cotangent)[0]
        if max(layer.kernel_size) > 1:
            return backend.convolution_vjp_kernel(x, shape, cotangent, layer.strides, layer.padding)
        # A 1x1 kernel is a matrix, and its VJP a product; of the strided one, TensorFlow's own can crash, see below.
        product = backend.dense_vjp_kernel(as_matrix(seen(layer, x)), as_matrix(cotangent))
        return ops.reshape(product, shape)


@dataclasses.dataclass(frozen=True, eq=False)
class Pointwise(LayerForm):
    """The second half of a separable convolution: a 1x1 convolution with the layer's bias."""

    @property
    def units_share_inputs(self) -> bool:
        """All channels."""
        return True

    def raw_kernel(self) -> Any:
        """Shape (1, ..., channels, units)."""
        return ops.convert_to_tensor(self.layer.pointwise_kernel)

    def apply(self, inputs: tuple[Any, ...], kernel: Any) -> Any:
        """(batch, positions..., channels) to (batch, positions..., units), or channels first."""
        x = as_dtype(inputs[0], kernel.dtype)
        return in_layout(self.layer, x, lambda x, layout: ops.conv(x, kernel, 1, "valid", layout))


@dataclasses.dataclass(frozen=True, eq=False)
class Depthwise(LayerForm):
    """DepthwiseConv1D and 2D, and the first half of a separable convolution; kernel (taps..., channels, multiplier)."""

    def raw_kernel(self) -> Any:
        """The layer's depthwise kernel."""
        separable = self.node.part == "depthwise"
        return ops.convert_to_tensor(self.layer.depthwise_kernel if separable else self.layer.kernel)

    def raw_bias(self) -> Any:
        """The bias; a separable convolution adds its own after the second half."""
        return None if self.node.part == "depthwise" else super().raw_bias()

    def apply(self, inputs: tuple[Any, ...], kernel: Any) -> Any:
        """(batch, positions..., channels) to (batch, positions..., channels * multiplier), or channels first."""
        layer = self.layer
        x, padding = padded(layer, as_dtype(inputs[0], kernel.dtype))
        depthwise = ops.depthwise_conv
        return in_layout(
            layer, x, lambda x, layout: depthwise(x, kernel, layer.strides, padding, layout, layer.dilation_rate)
        )

    def vjp_kernel(self, inputs: tuple[Any, ...], cotangent: Any) -> Any:
        """See `LinearForm.vjp_kernel`."""
        layer = self.layer
        if not is_plain(layer) or len(set(layer.strides)) > 1:
            return super().vjp_kernel(inputs, cotangent)
        x = as_dtype(inputs[0], cotangent.dtype)
        return backend.depthwise_vjp_kernel(x, self.kernel_shape, cotangent, layer.strides, layer.padding)


@dataclasses.dataclass(frozen=True, eq=False)
class WholeSeparable(LayerForm):
    """A separable convolution as the one linear map that it is, where `split_separable` has not cut it.

    Its kernel (taps..., channels, units) is the product of the two that the layer keeps.
    """

    def raw_kernel(self) -> Any:
        """The joint kernel."""
        # The depthwise channels (c, m) are one axis of the pointwise kernel, c outermost.
        depthwise, pointwise = self.layer.depthwise_kernel, self.layer.pointwise_kernel
        shape = (*depthwise.shape[-2:], pointwise.shape[-1])
        return ops.einsum("...cm,cmu->...cu", depthwise, ops.reshape(pointwise, shape))

    def apply(self, inputs: tuple[Any, ...], kernel: Any) -> Any:
        """(batch, positions..., channels) to (batch, positions..., units), or channels first."""
        return native_convolution(self.layer, as_dtype(inputs[0], kernel.dtype), kernel)

    def forward(self, *inputs: Any) -> tuple[Any, ...]:
        """The output, in the layer's compute dtype, by the layer's own two convolutions."""
        # As the model computes it: the convolution with the joint kernel rounds differently, and costs far more.
        return self.completed(inputs, self._separately(ops.cast(inputs[0], self.node.output_specs[0].dtype)))

    def _separately(self, x):
        layer, scale = self.layer, self._scale()
        pointwise = ops.convert_to_tensor(layer.pointwise_kernel)
        pointwise = pointwise if scale is None else pointwise * ops.cast(scale, pointwise.dtype)
        kernels = ops.cast(layer.depthwise_kernel, x.dtype), ops.cast(pointwise, x.dtype)
        x, padding = padded(layer, x)
        return in_layout(
            layer, x, lambda x, at: ops.separable_conv(x, *kernels, layer.strides, padding, at, layer.dilation_rate)
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Transposed(LayerForm):
    """Conv1DTranspose, Conv2DTranspose, Conv3DTranspose; kernel (taps..., units, inputs)."""

    @property
    def units_share_inputs(self) -> bool:
        """All channels at the places that reach the position."""
        return True

    def apply(self, inputs: tuple[Any, ...], kernel: Any) -> Any:
        """(batch, positions..., inputs) to (batch, positions..., units), or channels first."""
        layer = self.layer
        options = (layer.strides, layer.padding, layer.output_padding)
        return in_layout(
            layer,
            as_dtype(inputs[0], kernel.dtype),
            lambda x, layout: ops.conv_transpose(x, kernel, *options, layout, layer.dilation_rate),
        )


def dense(node: Node) -> Form:
    """The form of a Dense node."""
    return Dense(node, "linear", fan_in=(0,), unit_axes=unit_axes(node))


def einsum(node: Node) -> Form:
    """The form of an EinsumDense node; opaque where its bias varies along an axis that is not the kernel's."""
    _, fan_in, units = einsum_axes(node.operation.equation, len(node.output_specs[0].shape))
    if einsum_bias_axes(node.operation, len(node.output_specs[0].shape)) is None:
        return Form(node, "opaque")
    return Einsum(node, "linear", fan_in=fan_in, unit_axes=units)


def convolution(node: Node) -> Form:
    """The form of a Conv1D, Conv2D or Conv3D node."""
    return Convolution(node, "linear", fan_in=_all_but_last(node.operation.kernel), unit_axes=unit_axes(node))


def depthwise(node: Node) -> Form:
    """The form of a depthwise node."""
    rank = len(node.output_specs[0].shape)
    return Depthwise(node, "linear", fan_in=tuple(range(rank - 2)), unit_axes=unit_axes(node))


def separable(node: Node) -> Form:
    """The form of a separable convolution, or of one half of it (after `split_separable`)."""
    if node.part == "depthwise":
        return depthwise(node)
    if node.part != "pointwise":
        fan_in = _all_but_last(node.operation.depthwise_kernel)
        return WholeSeparable(node, "linear", fan_in=fan_in, unit_axes=unit_axes(node))
    return Pointwise(node, "linear", fan_in=_all_but_last(node.operation.pointwise_kernel), unit_axes=unit_axes(node))


def transposed(node: Node) -> Form:
    """The form of a transposed convolution."""
    rank = len(node.operation.kernel.shape)
    return Transposed(node, "linear", fan_in=(*range(rank - 2), rank - 1), unit_axes=unit_axes(node))


def _all_but_last(kernel):
    return tuple(range(len(kernel.shape) - 1))


_FORMS = {
    "dense": dense,
    "einsum": einsum,
    "convolution": convolution,
    "depthwise": depthwise,
    "transposed": transposed,
    "separable": separable,
}
LAYERS = {layer: _FORMS[name] for layer, name in LINEAR_MAPS.items()}


def of_weights(node: Node) -> Form:
    """The form of a linear map by weights that no layer of Keras's own holds."""
    return _FORMS[node.operation.map](node)


def _axes_of_both(equation):
    given, rest = equation.replace("...", "").split(",")
    kernel, output = rest.split("->")
    return set(given) & set(kernel) & set(output)
