"""Several linear layers as one linear map: one behind the other, or added up.

Made by `chains` and `affine`, which find them; a rule or the fitter sees one node with one kernel.
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
from innvest_lite.forms.linear import Dense
from innvest_lite.graph import Node
from innvest_lite.graph.arguments import Given

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


class Affine:
    """Several dense maps, each of a tensor of its own, and constants, added up: as the operation of one node.

    Args:
        forms: of the dense maps, one for each tensor.
        constants: what is added besides their biases.
    """

    def __init__(self, forms: tuple[Dense, ...], constants: tuple[Given, ...] = ()) -> None:
        self.forms, self.constants = forms, constants

    @property
    def weights(self) -> list:
        """The Keras variables of all maps and constants, each once."""
        found = [weight for form in self.forms for weight in form.node.weights]
        found += [weight for one in self.constants for weight in one.variables]
        return list({id(weight): weight for weight in found}.values())

    def call(self, *inputs: Any) -> Any:
        """The sum, as the cell computes it."""
        first, *others = (form.forward(x)[0] for form, x in zip(self.forms, inputs, strict=True))
        for term in (*others, *(one.value(()) for one in self.constants)):
            first = ops.add(first, term)
        return first

    __call__ = call


@dataclasses.dataclass(frozen=True, eq=False)
class AffineForm(LinearForm):
    """Such a sum: kernel (all inputs, units), those of the first tensor first."""

    @property
    def units_share_inputs(self) -> bool:
        """All inputs."""
        return True

    @property
    def weights_key(self) -> tuple[Any, ...]:
        """Equal for sums of the same maps."""
        return tuple(key for form in self._forms for key in form.weights_key)

    def raw_kernel(self) -> Any:
        """The maps' kernels, one below the other."""
        return ops.concatenate([form.kernel() for form in self._forms], axis=0)

    def raw_bias(self) -> Any:
        """The sum of all biases and constants; None where there is none."""
        given = [form.bias() for form in self._forms]
        found = [*(one for one in given if one is not None), *(one.value(()) for one in self.node.operation.constants)]
        found = [ops.reshape(ops.cast(one, "float64" if one.dtype == "float64" else "float32"), (-1,)) for one in found]
        return sum(found[1:], found[0]) if found else None

    def apply(self, inputs: tuple[Any, ...], kernel: Any) -> Any:
        """(batch, inputs) each to (batch, units)."""
        ends = self._ends
        parts = [
            ops.matmul(ops.cast(x, kernel.dtype), kernel[start:end])
            for x, start, end in zip(inputs, (0, *ends), ends, strict=False)
        ]
        return sum(parts[1:], parts[0])

    def forward(self, *inputs: Any) -> tuple[Any, ...]:
        """The cell's own output."""
        return (self.node.operation(*inputs),)

    @property
    def input_sums_shape(self) -> tuple[int, ...]:
        """All units see the same inputs."""
        return (self._ends[-1], 1)

    def input_sums(self, inputs: tuple[Any, ...], like: Any, weights: Any = None) -> Any:
        """Shape (all inputs, 1)."""
        parts = [ops.sum(weighted(ops.cast(x, like.dtype), weights), axis=0) for x in inputs]
        return ops.concatenate(parts, axis=0)[:, None]

    @property
    def _forms(self):
        return self.node.operation.forms

    @property
    def _ends(self):
        """Where in the kernel the part of each tensor ends."""
        ends = [0]
        for form in self._forms:
            ends.append(ends[-1] + form.kernel_shape[0])
        return tuple(ends[1:])


def affine(node: Node) -> Form:
    """The form of a node whose operation is an `Affine`."""
    return AffineForm(node, "linear", fan_in=(0,), unit_axes=(1,))
