"""Vector-Jacobian products of convolutions in their kernels, each as the one operation that it is.

A tape gives the same numbers by the same operations. But it evaluates the convolution first, which is work where nothing is
compiled, and it writes four operations into a graph where one is needed, which is most of the time that a fit of a small
network takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf


def convolution_vjp_kernel(x: Any, shape: Sequence[int], cotangent: Any, strides: Sequence[int], padding: str) -> Any:
    """`sum(cotangent * x)` over samples and positions of a plain convolution, two-dimensional, channels last.

    Args:
        x: (batch, height, width, inputs).
        shape: of the kernel, (height, width, inputs, units).
        cotangent: (batch, height, width, units), of the dtype of `x`.
        strides: one per dimension.
        padding: "same" or "valid".

    Returns:
        A tensor of the kernel's shape.
    """
    return tf.raw_ops.Conv2DBackpropFilter(
        input=x, filter_sizes=list(shape), out_backprop=cotangent, strides=[1, *strides, 1], padding=padding.upper()
    )


def depthwise_vjp_kernel(x: Any, shape: Sequence[int], cotangent: Any, strides: Sequence[int], padding: str) -> Any:
    """As `convolution_vjp_kernel`, of a depthwise convolution, whose kernel is (height, width, channels, multiplier)."""
    return tf.raw_ops.DepthwiseConv2dNativeBackpropFilter(
        input=x, filter_sizes=list(shape), out_backprop=cotangent, strides=[1, *strides, 1], padding=padding.upper()
    )


def dense_vjp_kernel(x: Any, cotangent: Any) -> Any:
    """`x' cotangent`: of a matrix product, from matrices with the samples first."""
    return tf.matmul(x, cotangent, transpose_a=True)
