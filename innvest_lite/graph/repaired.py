"""Operations that Keras computes otherwise when they are recorded than when they are called."""

from __future__ import annotations

import dataclasses
from typing import Any

from keras import ops

from innvest_lite.graph.arguments import StandIn


@dataclasses.dataclass(frozen=True, eq=False)
class ConvTranspose(StandIn):
    """`keras.ops.conv_transpose`; its operation, up to Keras 3.15, takes padding for output padding.

    Attributes:
        operation: the operation that Keras made of the call.
    """

    operation: Any

    def call(self, inputs: Any, kernel: Any) -> Any:
        """What the function gives."""
        own = self.operation
        return ops.conv_transpose(
            inputs, kernel, own.strides, own.padding, own.output_padding, own.data_format, own.dilation_rate
        )

    __call__ = call


def repaired(operation: Any) -> Any:
    """An operation as it is, or what stands in for it."""
    broken = type(operation).__name__ == "ConvTranspose" and type(operation).__module__ == "keras.src.ops.nn"
    return ConvTranspose(operation) if broken else operation
