"""Other weights than a model has, for a look at what it does whatever it has learned.

With the weights as they are, a table of zeros or a scale of 1e-6 hides what stands behind it. Called by `proof`, `merging`
and `behaviour`; no variable is changed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np

from innvest_lite import backend


@dataclasses.dataclass(frozen=True, eq=False)
class Weights:
    """Values for variables.

    Attributes:
        pairs: `(Keras variable, tensor)`.
        others: `id` of a TensorFlow variable -> tensor.
    """

    pairs: tuple[tuple[Any, Any], ...] = ()
    others: dict[int, Any] = dataclasses.field(default_factory=dict)

    def of(self, variables: Sequence[Any]) -> Weights:
        """The same for some variables alone: Keras looks at each of them whenever a scope begins."""
        if not self.pairs:
            return self
        wanted = dict.fromkeys(map(id, variables))
        return dataclasses.replace(self, pairs=tuple(self._pair_of[one] for one in wanted if one in self._pair_of))

    @functools.cached_property
    def _pair_of(self):
        return {id(pair[0]): pair for pair in self.pairs}

    @contextlib.contextmanager
    def scope(self) -> Iterator[None]:
        """A context in which the variables have these values; losses and new states of seeds stay in it."""
        with contextlib.ExitStack() as stack:
            if self.others:
                stack.enter_context(backend.with_weights(self.others))
            stack.enter_context(keras.StatelessScope(state_mapping=list(self.pairs), collect_losses=True))
            yield


AS_THEY_ARE = Weights()
"""The model's own."""


def random_weights(variables: Sequence[Any]) -> Weights:
    """Random values for variables of floats: kernels of the size that layers begin with, all else between 0.5 and 1.5.

    Args:
        variables: Keras's or TensorFlow's.
    """
    generator, pairs, others = np.random.default_rng(0), [], {}
    for variable in variables:
        dtype = keras.backend.standardize_dtype(variable.dtype)
        own = backend.variable_of(variable)
        if not keras.backend.is_float_dtype(dtype) or id(own) in others:
            continue
        shape = tuple(variable.shape)
        if len(shape) > 1:
            values = generator.standard_normal(shape, "float32") / np.sqrt(max(np.prod(shape[:-1]), 1), dtype="float32")
        else:
            # Variances and scales are never negative.
            values = generator.uniform(0.5, 1.5, shape)
        others[id(own)] = keras.ops.cast(values, dtype)
        if isinstance(variable, keras.Variable):
            pairs.append((variable, others[id(own)]))
    return Weights(tuple(pairs), others)
