"""Convolutions as pure functions of (layer, x, kernel), each in the way that TensorFlow does on this machine.

Called by the forms of linear layers, whose maps and products they are.
"""

from __future__ import annotations

from typing import Any

from keras import ops

from innvest_lite import backend


def convolve(layer: Any, x: Any, kernel: Any) -> Any:
    """The convolution in the way whose two vector-Jacobian products TensorFlow has, and has fast."""
    if is_depthwise(layer, kernel):
        return _as_depthwise(layer, x, kernel)
    return by_groups(layer, x, kernel) if is_grouped(layer) else _without_groups(layer, x, kernel)


def _without_groups(layer: Any, x: Any, kernel: Any) -> Any:
    # Both VJPs of this one go around a kernel of TensorFlow that can crash (docs/design.md, decision 11).
    if max(layer.kernel_size) == 1 and max(layer.strides) > 1 and x.shape[_channels(layer, x)] == kernel.shape[-2]:
        return _strided_pointwise(layer, x, kernel)
    return native_convolution(layer, x, kernel)


def as_matrix(x: Any) -> Any:
    """All rows of the last axis."""
    return ops.reshape(x, (-1, x.shape[-1]))


def is_plain(layer: Any) -> bool:
    """Whether a layer's VJP in the kernel is one operation of TensorFlow's."""
    plain = layer.data_format == "channels_last" and layer.padding in ("same", "valid")
    return plain and len(layer.kernel_size) == 2 and set(layer.dilation_rate) == {1}


def seen(layer: Any, x: Any) -> Any:
    """The positions that a 1x1 convolution looks at, channels last."""
    return x if max(layer.strides) == 1 else x[:, :: layer.strides[0], :: layer.strides[1]]


def is_depthwise(layer: Any, kernel: Any) -> bool:
    """Whether each group has one input, and TensorFlow's depthwise convolution can stride as the layer does."""
    return layer.groups > 1 and kernel.shape[-2] == 1 and len(layer.kernel_size) < 3 and len(set(layer.strides)) == 1


def _as_depthwise(layer: Any, x: Any, kernel: Any) -> Any:
    """The same by TensorFlow's depthwise convolution: Keras would compile a grouped convolution with XLA, for seconds."""
    kernel = ops.reshape(kernel, (*kernel.shape[:-2], layer.groups, -1))
    x, padding = padded(layer, x)
    return in_layout(
        layer, x, lambda x, layout: ops.depthwise_conv(x, kernel, layer.strides, padding, layout, layer.dilation_rate)
    )


def is_grouped(layer: Any) -> bool:
    """Whether a convolution has groups that TensorFlow's own does not know: those of a CPU."""
    return layer.groups > 1 and not backend.has_accelerator()


def by_groups(layer: Any, x: Any, kernel: Any) -> Any:
    """A convolution with groups, one group after the other.

    On a CPU, Keras has XLA compile it, which takes seconds, for a gradient that takes forty times as long.
    """
    axis = _channels(layer, x)
    inputs, kernels = ops.split(x, layer.groups, axis=axis), ops.split(kernel, layer.groups, axis=-1)
    return ops.concatenate([_without_groups(layer, *pair) for pair in zip(inputs, kernels, strict=True)], axis=axis)


def _channels(layer: Any, x: Any) -> int:
    return 1 if layer.data_format == "channels_first" else len(x.shape) - 1


def native_convolution(layer: Any, x: Any, kernel: Any) -> Any:
    """The convolution as Keras computes it."""
    x, padding = padded(layer, x)
    return in_layout(layer, x, lambda x, layout: ops.conv(x, kernel, layer.strides, padding, layout, layer.dilation_rate))


def in_layout(layer: Any, x: Any, convolve: Any) -> Any:
    """Runs a convolution of (x, data format); TensorFlow's float64 kernels on CPU want the channels last."""
    if layer.data_format == "channels_first" and x.dtype == "float64":
        return ops.moveaxis(convolve(ops.moveaxis(x, 1, -1), "channels_last"), -1, 1)
    return convolve(x, layer.data_format)


def _strided_pointwise(layer: Any, x: Any, kernel: Any) -> Any:
    """A strided 1x1 convolution as the matrix product that it is, on the positions that it looks at.

    TensorFlow 2.21's CPU kernel for the kernel gradient of such a convolution can crash the process
    (docs/design.md, decision 11), so neither VJP goes through it.
    """
    every = tuple(slice(None, None, stride) for stride in layer.strides)
    matrix = ops.reshape(kernel, kernel.shape[-2:])
    if layer.data_format == "channels_first":
        x = ops.moveaxis(x[(slice(None), slice(None)) + every], 1, -1)
        return ops.moveaxis(ops.matmul(x, matrix), -1, 1)
    return ops.matmul(x[(slice(None),) + every], matrix)


def padded(layer: Any, x: Any) -> tuple[Any, Any]:
    """Causal padding, which the primitive operations do not have, as zeros in front."""
    if layer.padding != "causal":
        return x, layer.padding
    width = (layer.kernel_size[0] - 1) * layer.dilation_rate[0]
    time = 2 if layer.data_format == "channels_first" else 1
    return ops.pad(x, [(width, 0) if axis == time else (0, 0) for axis in range(3)]), "valid"
