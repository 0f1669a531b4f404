"""The data sources that a fit takes, as arguments of Keras's `fit`."""

import itertools

import keras
import numpy as np

from innvest_lite.errors import InvalidInputError


def fit_arguments(data, inputs, batch_size, skip=0):
    """Arguments for `keras.Model.fit`.

    Args:
        data: an array (or a list or dict of them for several inputs), a batched `tf.data.Dataset`, a
            `keras.utils.PyDataset`, or an iterable of batches; of `(x, y)` batches x is used.
        inputs: the model's `InputSpec`.
        batch_size: for arrays.
        skip: how many batches to leave out at the start.

    Returns:
        A dict, or None where nothing is left after `skip`.

    Raises:
        InvalidInputError: the arrays do not fit the model, or the data set is empty.
    """
    sized = isinstance(data, list | tuple) or hasattr(data, "shape")
    if sized and not len(data):
        raise InvalidInputError("The data set is empty: patterns need samples to be fitted on.")
    if _is_batched(data, inputs):
        batches = _batches(data, skip)
        return None if batches is None else {"x": batches}
    arrays = [array[skip * batch_size :] for array in _arrays(data, inputs)]
    if not len(arrays[0]):
        return None
    return {"x": arrays[0] if len(arrays) == 1 else arrays, "batch_size": batch_size}


def each_batch(data, inputs, batch_size):
    """The batches of a data source as lists of arrays, one per input, in the dtypes of `inputs`.

    Args:
        data: as in `fit_arguments`.
        inputs: the model's `InputSpec`.
        batch_size: for arrays.

    Raises:
        InvalidInputError: as `fit_arguments` does, or a batch does not fit the model.
    """
    given = fit_arguments(data, inputs, batch_size)
    if "batch_size" in given:
        arrays = given["x"] if isinstance(given["x"], list) else [given["x"]]
        parts = ([array[start : start + batch_size] for array in arrays] for start in range(0, len(arrays[0]), batch_size))
    else:
        parts = (batch[0] if isinstance(batch, tuple) else batch for batch in _ending(given["x"]))
    empty = True
    for part in parts:
        part = list(part) if isinstance(part, tuple) else part
        empty = False
        yield inputs.flat(part)
    if empty:
        raise InvalidInputError("The data set is empty: it gave no batch.")


def _ending(source):
    """The batches of a source that ends."""
    indexed = isinstance(source, keras.utils.PyDataset)
    # tf.data's word for a set without an end is -1.
    without_end = hasattr(source, "cardinality") and int(source.cardinality()) == -1
    if source.num_batches is None if indexed else without_end:
        raise InvalidInputError("The data set has no end: take so many batches of it, as with take(100).")
    return (source[index] for index in range(source.num_batches)) if indexed else source


def _is_batched(data, inputs):
    if isinstance(data, dict | np.ndarray) or hasattr(data, "__array__"):
        return False
    if not isinstance(data, list | tuple):
        return True
    # A list is one array per input, or, for a model with one input, samples or batches: told apart by the rank.
    return len(inputs.names) == 1 and bool(data) and _rank(data[0]) == len(inputs.shapes[0]) and not _is_pair(data, inputs)


def _rank(item):
    return len(item[0].shape if isinstance(item, tuple) else getattr(item, "shape", ()))


def _is_pair(data, inputs):
    """`(x, y)` arrays, as people hand them to `fit`."""
    return isinstance(data, tuple) and len(data) == 2 and _rank(data[1]) < len(inputs.shapes[0])


def _arrays(data, inputs):
    if len(inputs.names) == 1 and isinstance(data, tuple) and _is_pair(data, inputs):
        data = data[0]
    arrays = inputs.flat(data, finite=False)
    if not len(arrays[0]):
        raise InvalidInputError("The data set is empty: patterns need samples to be fitted on.")
    return arrays


def _batches(data, skip):
    if hasattr(data, "skip"):
        return data.skip(skip) if skip else data
    if isinstance(data, keras.utils.PyDataset):
        return _Rest(data, skip) if data.num_batches is None or data.num_batches > skip else None
    iterator = itertools.islice((batch for batch in map(_as_tuple, data) if _has_samples(batch)), skip, None)
    first = next(iterator, None)
    if first is None and skip:
        return None
    if first is None:
        raise InvalidInputError("The data set is empty: it gave no batch.")
    # A generator, which is what Keras knows; other iterators it does not.
    return (batch for batch in itertools.chain([first], iterator))


def _as_tuple(batch):
    """`(x,)` or `(x, y)`, several inputs as a tuple, which is what Keras can read the structure of."""
    parts = batch if isinstance(batch, tuple) else (batch,)
    _refuse_text(parts[0])
    return tuple(tuple(part) if isinstance(part, list) else part for part in parts)


def _refuse_text(x):
    if any(np.asarray(part).dtype.kind in "USO" for part in keras.tree.flatten(x)):
        raise InvalidInputError("A batch of the data holds text or objects, where the model takes numbers.")


def _has_samples(batch):
    """TensorFlow's convolutions fail on a batch without."""
    return all(len(part) for part in keras.tree.flatten(batch[0]))


class _Rest(keras.utils.PyDataset):
    """A `PyDataset` from some batch on, which refuses text."""

    def __init__(self, dataset, skip):
        super().__init__(dataset.workers, dataset.use_multiprocessing, dataset.max_queue_size)
        self._dataset, self._skip = dataset, skip

    @property
    def num_batches(self):
        """How many are left; None where there is no end."""
        return None if self._dataset.num_batches is None else self._dataset.num_batches - self._skip

    def __getitem__(self, index):
        batch = self._dataset[index + self._skip]
        _refuse_text(batch[0] if isinstance(batch, tuple) else batch)
        return batch
