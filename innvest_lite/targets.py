"""What is explained, checked: a target becomes weights on the model's outputs. For the analyzers and the measures."""

import numpy as np
from keras import ops

from innvest_lite.errors import InvalidInputError
from innvest_lite.inputs import as_array, is_integer


def weights_of(target, count, output_shape):
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
    shape = (count, *output_shape[1:])
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


def tensor_weights_of(target, x, output_shape):
    """The same of what an analyzer's `call` takes; Keras has made tensors of arrays.

    Args:
        target: as in `weights_of`, or a tensor of whole numbers or of weights.
        x: a tensor of samples, batch first.
        output_shape: the shape of the model's output, batch first.

    Returns:
        A tensor `(samples, *output_shape[1:])`, or of one sample, for all alike.

    Raises:
        InvalidInputError: as `weights_of`; what is in a tensor is not looked at.
    """
    if not ops.is_tensor(target):
        # One row, for all samples alike, where the batch axis is open.
        return ops.convert_to_tensor(weights_of(target, x.shape[0] or 1, output_shape))
    if not is_integer(target.dtype) or len(target.shape) > 1:
        return target
    return ops.one_hot(ops.broadcast_to(target, ops.shape(x)[:1]), output_shape[-1])


def _one_hot(indices, count, shape):
    if len(shape) != 2:
        raise InvalidInputError(
            f"The model's output has shape {(None, *shape[1:])}, where one int names no output: give an array of weights "
            f"of shape {shape}."
        )
    if indices.ndim == 1 and len(indices) != count:
        raise InvalidInputError(f"Got {len(indices)} targets for {count} samples; give one for each, or a single int.")
    outputs, flat = shape[1], np.atleast_1d(indices)
    outside = flat[(flat < 0) | (flat >= outputs)]
    if outside.size:
        raise InvalidInputError(f"Target {int(outside[0])} is out of range: the model has outputs 0 to {outputs - 1}.")
    weights = np.zeros((count, outputs), "float32")
    weights[np.arange(count), np.broadcast_to(indices, (count,))] = 1
    return weights
