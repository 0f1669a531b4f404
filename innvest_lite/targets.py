"""What is explained: a target in the user's words becomes weights on the model's outputs.

In: `target=`, as `Analyzer.analyze` and the measures take it. Out: weights in the shape of the output. Called by the
analyzers, through their `Explainer`, and by the measures.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from keras import ops

from innvest_lite import backend
from innvest_lite.errors import InvalidInputError
from innvest_lite.forms.inputs import is_integer
from innvest_lite.options import as_array

SELECTION_MODES = ("max_activation", "index", "all")


@dataclasses.dataclass(frozen=True)
class Targets:
    """What may be explained of an output.

    Attributes:
        shape: the output's shape, batch first, None where it may vary.
        mode: what is explained where nobody says, a word of `SELECTION_MODES` (iNNvestigate's `neuron_selection_mode`).
    """

    shape: tuple[int | None, ...]
    mode: str = "max_activation"

    def selected(self, target: Any, neuron_selection: Any = None) -> Any:
        """The target, said in our word or in iNNvestigate's, or what the mode stands for; None for the largest output.

        Raises:
            InvalidInputError: both words were used, or none where the mode asks for one.
        """
        if neuron_selection is not None:
            if target is not None or self.mode != "index":
                raise InvalidInputError(
                    "neuron_selection goes with neuron_selection_mode='index' and without target; here the mode is "
                    f"{self.mode!r}. Say analyze(x, target=...) instead."
                )
            return neuron_selection
        if target is None and self.mode == "index":
            raise InvalidInputError("neuron_selection_mode is 'index': say which, with neuron_selection=.")
        return "all" if target is None and self.mode == "all" else target

    def weights(self, target: Any, count: int) -> np.ndarray | None:
        """A selected target as float32 weights `(count, *shape[1:])`; None, the largest output, stays None.

        Raises:
            InvalidInputError: see `weights_of`.
        """
        return None if target is None else weights_of(target, count, self.shape)

    def tensor(self, target: Any, x: Any) -> Any:
        """The same of what an analyzer's `call` takes, where Keras has made tensors of arrays.

        Args:
            target: as in `weights`, or a tensor of whole numbers or of weights. Of whole numbers the values are looked at
                where they are known; inside a `tf.function` they are not, and one that is out of range explains nothing.
            x: a tensor of samples, batch first.

        Returns:
            None, or a tensor `(samples, *shape[1:])`, or of one row that stands for all samples.

        Raises:
            InvalidInputError: see `weights_of`.
        """
        if target is None:
            return None
        if not ops.is_tensor(target):
            # One row, for all samples alike, where the number of samples is not known while the graph is made.
            return ops.convert_to_tensor(weights_of(target, x.shape[0] or 1, self.shape))
        if not is_integer(target.dtype) or len(target.shape) > 1:
            return target
        known = backend.known(target)
        if known is not None and x.shape[0] is not None:
            return ops.convert_to_tensor(weights_of(known, x.shape[0], self.shape))
        if len(self.shape) != 2:
            raise _names_none(self.shape[1:], f"(samples, {', '.join(map(str, self.shape[1:]))})")
        return ops.one_hot(ops.broadcast_to(target, ops.shape(x)[:1]), self.shape[-1])


def weights_of(target: Any, count: int, output_shape: tuple[int | None, ...]) -> np.ndarray:
    """A target as weights on the model's outputs.

    Args:
        target: an int (the same output for all samples), `count` ints, "all", or an array of weights.
        count: the number of samples.
        output_shape: the shape of the model's output, batch first.

    Returns:
        float32 of shape `(count, *output_shape[1:])`.

    Raises:
        InvalidInputError: the target is none of these, or out of range.
    """
    shape: tuple[Any, ...] = (count, *output_shape[1:])
    if None in shape:
        raise InvalidInputError(f"The model's output has no fixed shape ({output_shape}): only target=None is possible.")
    if isinstance(target, str):
        if target != "all":
            raise InvalidInputError(f"The target {target!r} is unknown; the only word for one is 'all'.")
        return np.ones(shape, "float32")
    array = as_array(target, "The target")
    if array.dtype.kind in "iu" and array.ndim < 2:
        return _one_hot(array, count, shape)
    if array.shape != shape or array.dtype.kind not in "fiub":
        raise InvalidInputError(
            f"A target is None, an int, {count} ints, 'all', or weights of shape {shape}; got {array.dtype} of shape "
            f"{array.shape}."
        )
    with np.errstate(over="ignore"):
        weights = array.astype("float32")
    if not np.isfinite(weights).all():
        raise InvalidInputError("The target weights hold NaN or infinite values, or some beyond the range of float32.")
    return weights


def weights_at(logits: Any, weights: Any) -> Any:
    """Weights in the shape and dtype of logits: those given, or one-hot ones of each sample's largest logit for None."""
    if weights is not None:
        return ops.broadcast_to(ops.cast(weights, logits.dtype), ops.shape(logits))
    # Keras has no argmax whose ties and NaN are the same under XLA, so the backend's own is taken.
    flat = ops.reshape(logits, (ops.shape(logits)[0], -1))
    one_hot = ops.one_hot(backend.argmax(flat), flat.shape[-1] or ops.shape(flat)[-1], dtype=logits.dtype)
    return ops.reshape(one_hot, ops.shape(logits))


def _names_none(sizes: tuple, expected: Any) -> InvalidInputError:
    return InvalidInputError(
        f"The model's output has shape {(None, *sizes)}, where one int names no output: give an array of weights of shape "
        f"{expected}."
    )


def _one_hot(indices: np.ndarray, count: int, shape: tuple[int, ...]) -> np.ndarray:
    if len(shape) != 2:
        raise _names_none(shape[1:], shape)
    if indices.ndim == 1 and len(indices) != count:
        raise InvalidInputError(f"Got {len(indices)} targets for {count} samples; give one for each, or a single int.")
    outputs, flat = shape[1], np.atleast_1d(indices)
    outside = flat[(flat < 0) | (flat >= outputs)]
    if outside.size:
        raise InvalidInputError(f"Target {int(outside[0])} is out of range: the model has outputs 0 to {outputs - 1}.")
    weights = np.zeros((count, outputs), "float32")
    weights[np.arange(count), np.broadcast_to(indices, (count,))] = 1
    return weights
