"""The data sources of a fit: batches of arrays, one after the other, read before they are needed.

Comes in: arrays (also on disk, memory-mapped or HDF5), batched data sets, `PyDataset`s, iterables of batches, a folder of
images. Goes out: checked NumPy batches with sample weights, only a few of them in memory at a time. Called by the
fitter and by the metrics.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import itertools
import multiprocessing
import os
import pathlib
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any

import keras
import numpy as np

from innvest_lite.errors import InvalidInputError
from innvest_lite.folders import ImageFolder
from innvest_lite.inputs import InputSpec
from innvest_lite.options import as_array

_EMPTY = "The data set is empty: patterns need samples to be fitted on."
# Batches that are read while an earlier one is processed.
_AHEAD = 2
# tf.data's word for a set without an end; -2 is its word for one whose length it does not know.
_ENDLESS = -1


@dataclasses.dataclass(frozen=True, eq=False)
class Batch:
    """Some samples.

    Attributes:
        arrays: an array for each input of the model, in its dtype.
        weights: float32 of shape (samples,), or None where all count the same.
    """

    arrays: list[np.ndarray]
    weights: np.ndarray | None


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """Batches by their number, or, where the data cannot be indexed, one after the other.

    Attributes:
        read: number -> batch, `x`, `(x, y)` or `(x, y, sample_weight)`; None where there are only `batches`.
        batches: an iterable of the same; None where there is `read`.
        length: how many batches; None where that is not known.
        endless: whether the data is known to be infinite.
        batch_size: the size of the batches that arrays are cut into; 0 where the data comes in batches.
        total: the number of samples in the arrays.
        dataset: the `PyDataset` behind `read`, whose workers read; or None.
    """

    read: Callable[[int], Any] | None = None
    batches: Any = None
    length: int | None = None
    endless: bool = False
    batch_size: int = 0
    total: int = 0
    dataset: keras.utils.PyDataset | None = None

    def count(self, first: int, step: int, limit: int | None) -> int | None:
        """How many batches `raw` will give; None where that is not known."""
        left = None if self.length is None else len(range(first, self.length, step))
        return min((number for number in (left, limit) if number is not None), default=None)

    def samples(self, first: int, step: int, count: int) -> int | None:
        """How many samples `count` batches of arrays have; None where the data came in batches."""
        if not self.batch_size:
            return None
        starts = (number * self.batch_size for number in range(first, first + step * count, step))
        return sum(max(0, min(self.batch_size, self.total - start)) for start in starts)

    def raw(self, first: int, step: int, limit: int | None) -> Generator[tuple[int, Any], None, None]:
        """The batches number `first`, `first + step`, ..., at most `limit` of them, read ahead.

        Returns:
            A generator of `(number, batch)`, which stops reading when it is closed.
        """
        stop = self.length if limit is None else first + step * limit
        stop = stop if self.length is None or stop is None else min(stop, self.length)
        numbers = itertools.count(first, step) if stop is None else iter(range(first, stop, step))
        if self.read is None:
            # A tf.data.Dataset need not prepare the batches that it skips.
            ahead = first if hasattr(self.batches, "skip") else 0
            rest = self.batches.skip(ahead) if ahead else self.batches
            iterator = itertools.islice(rest, first - ahead, None if stop is None else stop - ahead, step)
            return _read_ahead(lambda number: next(iterator, _END), numbers, _threads(1), _AHEAD)
        if self.dataset is None:
            return _read_ahead(self.read, numbers, _threads(1), _AHEAD)
        return self._from_dataset(numbers)

    def _from_dataset(self, numbers):
        dataset = self.dataset
        workers = max(dataset.workers, 1)
        processes = dataset.use_multiprocessing and workers > 1
        pool, read = (_processes(dataset, workers), _read_inside) if processes else (_threads(workers), self.read)
        dataset.on_epoch_begin()
        try:
            yield from _read_ahead(read, numbers, pool, max(dataset.max_queue_size, workers) if workers > 1 else _AHEAD)
        finally:
            dataset.on_epoch_end()


def _threads(workers):
    return concurrent.futures.ThreadPoolExecutor(workers)


_END = object()
_ADOPTED: list[Any] = []


def _adopt(dataset):
    _ADOPTED.append(dataset)


def _processes(dataset, workers):
    """Processes that each have the data set; spawned, because a forked copy of a process with threads can hang."""
    context = multiprocessing.get_context("spawn")
    return concurrent.futures.ProcessPoolExecutor(workers, context, _adopt, (dataset,))


def _read_inside(number):
    return _ADOPTED[0][number]


def _read_ahead(read, numbers, pool, ahead):
    """`(number, read(number))` in order; the pool reads up to `ahead` of them in advance."""
    waiting = deque()

    def submit():
        number = next(numbers, None)
        if number is not None:
            waiting.append((number, pool.submit(read, number)))

    try:
        for _ in range(ahead):
            submit()
        while waiting:
            number, future = waiting.popleft()
            batch = future.result()
            if batch is _END:
                return
            submit()
            yield number, batch
    finally:
        # Also where a callback or an error ended the fit: no thread goes on reading.
        pool.shutdown(wait=True, cancel_futures=True)


def source_of(
    data: Any,
    inputs: InputSpec,
    batch_size: int,
    *,
    sample_weight: Any = None,
    preprocess: str | Callable[[Any], Any] = "none",
) -> Source:
    """The `Source` of a user's data.

    Args:
        data: an array or anything that is sliced like one (a list or dict of them for several inputs), a batched
            `tf.data.Dataset`, a `keras.utils.PyDataset`, an iterable of batches, or the path of a folder of images.
        inputs: the model's `InputSpec`.
        batch_size: for arrays and images.
        sample_weight: a weight for each sample, where the data are arrays.
        preprocess: for images, see `images.preprocess`.

    Raises:
        InvalidInputError: the arrays do not fit the model, or the data set is empty.
    """
    if preprocess != "none" and inputs.preprocessor is not None:
        raise InvalidInputError("preprocess= and preprocessor= would prepare the images twice; give only one of them.")
    if isinstance(data, str | os.PathLike):
        data = _folder(data, inputs, batch_size, preprocess)
    elif preprocess != "none":
        raise InvalidInputError("preprocess= is for a folder of images; for other data use preprocessor=.")
    if (isinstance(data, list | tuple) or hasattr(data, "shape")) and not _length(data):
        raise InvalidInputError(_EMPTY)
    if not _is_batched(data, inputs):
        return _of_arrays(*_arrays(data, inputs, sample_weight), batch_size)
    if sample_weight is not None:
        raise InvalidInputError("sample_weight= is for arrays; batches bring their own weights: (x, y, sample_weight).")
    if isinstance(data, keras.utils.PyDataset):
        length = data.num_batches
        return Source(data.__getitem__, length=length, endless=length is None, dataset=data)
    if isinstance(data, list | tuple):
        return Source(data.__getitem__, length=len(data))
    # Only a tf.data.Dataset has one; -1 and -2 are its words for endless and unknown.
    cardinality = int(data.cardinality()) if callable(getattr(data, "cardinality", None)) else None
    if cardinality is None and hasattr(data, "element_spec"):
        raise InvalidInputError(
            "A distributed data set is already divided among replicas: pass the data set that it was made from."
        )
    if not isinstance(data, Iterable) or isinstance(data, bytes):
        hint = " Call it, and pass what it returns." if callable(data) else ""
        raise InvalidInputError(
            f"The data should be arrays, a tf.data.Dataset, a PyDataset, an iterable of batches, or a folder, but is "
            f"{type(data).__name__}.{hint}"
        )
    return Source(batches=data, endless=cardinality == _ENDLESS, length=_known(cardinality))


def _known(cardinality):
    return cardinality if cardinality is not None and cardinality >= 0 else None


def _folder(path, inputs, batch_size, preprocess):
    if pathlib.Path(path).suffix.lower() in (".npy", ".npz"):
        raise InvalidInputError(f'Load the array first, which leaves it on disk: np.load("{path}", mmap_mode="r").')
    shape = inputs.shapes[0][1:]
    if len(inputs.shapes) != 1 or len(shape) != 3 or None in shape:
        raise InvalidInputError(
            f"A folder of images needs a model with one input of a fixed size (height, width, channels), but this model's "
            f"inputs are {list(inputs.shapes)}. Where its size is open, pass innvest_lite.ImageFolder(path, shape)."
        )
    return ImageFolder(path, shape, preprocess, batch_size)


def batches(
    source: Source, inputs: InputSpec, first: int = 0, step: int = 1, limit: int | None = None
) -> Generator[Batch, None, None]:
    """The batches of a source, checked.

    Args:
        source: a `Source`.
        inputs: the model's `InputSpec`.
        first: the number of the first batch to take.
        step: 1 for every batch, 2 for every other one.
        limit: at most so many.

    Returns:
        A generator of `Batch`, also of those without samples.

    Raises:
        InvalidInputError: a batch does not fit the model, or holds NaN, infinite values or text.
    """
    with contextlib.closing(source.raw(first, step, limit)) as raw:
        for number, given in raw:
            try:
                yield _checked(given, inputs)
            except InvalidInputError as error:
                raise InvalidInputError(f"{error} This was in batch {number} of the data (counted from 0).") from error


def each_batch(data: Any, inputs: InputSpec, batch_size: int) -> Iterator[list[np.ndarray]]:
    """The batches of a finite data source, as lists of arrays, one per input, in the dtypes of `inputs`.

    Args:
        data: as in `source_of`.
        inputs: the model's `InputSpec`.
        batch_size: for arrays.

    Raises:
        InvalidInputError: as `source_of` and `batches`; the data is infinite, or has no sample.
    """
    source, empty = source_of(data, inputs, batch_size), True
    require_end(source)
    for batch in batches(source, inputs):
        if len(batch.arrays[0]):
            empty = False
            yield batch.arrays
    if empty:
        raise InvalidInputError(_EMPTY)


def require_end(source: Source) -> None:
    """Raises InvalidInputError for a source that is known to be infinite."""
    if source.endless:
        raise InvalidInputError(
            "The data set is infinite: give the number of batches to use, with steps=, or cut it with take(...)."
        )


def _checked(given, inputs):
    x, weights = _unpacked(given)
    arrays = inputs.flat(list(x) if isinstance(x, tuple) else x, unbatched="Batch the data, as with .batch(32).")
    return Batch(arrays, None if weights is None else _weights(weights, len(arrays[0])))


def _unpacked(given):
    """x and the weights of `x`, `(x,)`, `(x, y)` or `(x, y, sample_weight)`."""
    if not isinstance(given, tuple):
        return given, None
    if len(given) > 3:
        raise InvalidInputError(f"A batch is x, (x, y) or (x, y, sample_weight), but has {len(given)} parts.")
    return given[0], given[2] if len(given) == 3 else None


def _weights(given, count):
    array = as_array(given, "sample_weight")
    if array.dtype.kind not in "fiub" or array.shape != (count,):
        raise InvalidInputError(
            f"sample_weight should hold one number per sample, shape ({count},), but is {array.dtype} of shape "
            f"{array.shape}."
        )
    array = array.astype("float32")
    if not np.isfinite(array).all() or (array < 0).any():
        raise InvalidInputError("sample_weight holds negative, NaN or infinite values.")
    return array


def _of_arrays(arrays, weights, batch_size):
    """Arrays, cut in batches when these are read."""

    def read(number):
        part = slice(number * batch_size, (number + 1) * batch_size)
        own = None if weights is None else weights[part]
        return [array[part] for array in arrays], None, own

    total = len(arrays[0])
    return Source(read, length=-(-total // batch_size), batch_size=batch_size, total=total)


def _arrays(data: Any, inputs: InputSpec, weights: Any) -> tuple[list[Any], Any]:
    """The arrays, in the order of the model's inputs, and the weights."""
    if isinstance(data, tuple) and _is_pair(data, inputs):
        data, weights = data[0], data[2] if len(data) == 3 else weights
    arrays = [array if hasattr(array, "shape") else as_array(array, "The data") for array in inputs.raw(data)]
    inputs.check_shapes(arrays)
    if not _length(arrays[0]):
        raise InvalidInputError(_EMPTY)
    return arrays, None if weights is None else _weights(weights, len(arrays[0]))


def _length(data):
    return len(data) if not hasattr(data, "shape") or len(data.shape) else 0


def _is_batched(data, inputs):
    if isinstance(data, dict | np.ndarray) or hasattr(data, "__array__"):
        return False
    if not isinstance(data, list | tuple):
        return not (hasattr(data, "shape") and hasattr(data, "__getitem__"))
    # A list is one array per input, or, for a model with one input, samples or batches: told apart by the rank. A tuple of
    # as many y is x with its y, as everywhere in Keras.
    return len(inputs.names) == 1 and bool(data) and _rank(data[0]) == len(inputs.shapes[0]) and not _is_pair(data, inputs)


def _rank(item):
    return len(item[0].shape if isinstance(item, tuple) else getattr(item, "shape", ()))


def _is_pair(data, inputs):
    """`(x, y)` or `(x, y, sample_weight)` of arrays, as people hand them to `fit`."""
    if not isinstance(data, tuple) or len(data) not in (2, 3) or len(inputs.names) > 1:
        return False
    return all(part is None or (hasattr(part, "__len__") and len(part) == len(data[0])) for part in data[1:])
