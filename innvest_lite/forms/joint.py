"""Several linear layers, one behind the other, as one linear map: its kernel is the product of theirs.

Made by `chains`, which finds them; a rule or the fitter sees one node with one kernel.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import keras
import numpy as np
from keras import ops

from innvest_lite import backend
from innvest_lite.forms.base import Form, LinearForm, weighted
from innvest_lite.graph import Node

# Options by which layers with the same weights are other maps.
_OPTIONS = ("epsilon", "scale", "offset", "strides", "padding", "dilation_rate", "pool_size", "groups", "depth_multiplier")


class Chain:
    """Several nodes, one behind the other, as the operation of one node.

    Args:
        forms: what the nodes are, the first one first; each takes one tensor and makes one.
    """

    def __init__(self, forms: tuple[Form, ...]) -> None:
        self.forms = forms

    @property
    def weights(self) -> list:
        """The Keras variables of all layers, each once."""
        holders = [holder for form in self.forms for holder in (form.node.operation, form.node.batchnorm)]
        return list({id(weight): weight for holder in holders for weight in getattr(holder, "weights", ())}.values())

    def call(self, x: Any) -> Any:
        """What the layers make of a tensor."""
        for form in self.forms:
            (x,) = form.forward(x)
        return x

    __call__ = call


@dataclasses.dataclass(frozen=True, eq=False)
class ChainForm(LinearForm):
    """A chain that ends in a vector: kernel (the axes of a sample..., units)."""

    @property
    def units_share_inputs(self) -> bool:
        """All inputs."""
        return True

    @property
    def weights_key(self) -> tuple[Any, ...]:
        """Equal for chains of the same shared layers."""
        # What stands between layers with weights has a name of its own at each call; its operation is the same.
        return tuple(
            key
            for form in self.node.operation.forms
            for key in (form.weights_key if form.kind == "linear" else (id(form.node.operation), form.node.part))
        )

    def raw_kernel(self) -> Any:
        """The product of all its maps: how each output changes with each input."""
        x = ops.zeros((self._units, *self._sizes), self._dtype)
        output, pullback = backend.vjp(self.node.operation, x)
        (kernel,) = pullback(ops.eye(self._units, dtype=output.dtype))
        return ops.moveaxis(kernel, 0, -1)

    def raw_bias(self) -> Any:
        """What it makes of zeros."""
        return self.node.operation(ops.zeros((1, *self._sizes), self._dtype))[0]

    def fingerprinted(self) -> tuple[list, list]:
        """The weights and options of all layers."""
        chain = self.node.operation
        holders = [holder for form in chain.forms for holder in (form.node.operation, form.node.batchnorm)]
        found = [getattr(holder, name) for holder in holders for name in _OPTIONS if hasattr(holder, name)]
        # As lists, since files make lists of tuples.
        return chain.weights, [repr(np.ravel(value).tolist()) for value in found]

    def apply(self, inputs: tuple[Any, ...], kernel: Any) -> Any:
        """(batch, ...) to (batch, units)."""
        return ops.matmul(self._flat(inputs, kernel.dtype), ops.reshape(kernel, (-1, self._units)))

    def forward(self, *inputs: Any) -> tuple[Any, ...]:
        """The layers' own output: the joint kernel rounds differently."""
        return (self.node.operation(*inputs),)

    @property
    def input_sums_shape(self) -> tuple[int, ...]:
        """All units see the same inputs."""
        return (*self._sizes, 1)

    def input_sums(self, inputs: tuple[Any, ...], like: Any, weights: Any = None) -> Any:
        """Shape (the axes of a sample..., 1)."""
        return ops.reshape(ops.sum(weighted(self._flat(inputs, like.dtype), weights), axis=0), self.input_sums_shape)

    def _flat(self, inputs, dtype):
        return ops.reshape(ops.cast(inputs[0], dtype), (-1, math.prod(self._sizes)))

    @property
    def _sizes(self):
        return self.node.input_specs[0].shape[1:]

    @property
    def _dtype(self):
        # Of whole numbers there is no gradient.
        dtype = self.node.input_specs[0].dtype
        return dtype if keras.backend.is_float_dtype(dtype) else "float32"

    @property
    def _units(self):
        return self.node.output_specs[0].shape[1]


def chain(node: Node) -> Form:
    """The form of a node whose operation is a `Chain`."""
    return ChainForm(node, "linear", fan_in=tuple(range(len(node.input_specs[0].shape) - 1)), unit_axes=(1,))
