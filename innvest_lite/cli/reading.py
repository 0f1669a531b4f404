"""Images in batches, one batch in memory at a time, with a progress bar.

In: paths. Out: batches of pixels and inputs, and a list of the images that could not be read. Called by `analysis`,
`evaluation` and `reporting`; `fitting`, whose `ImageFolder` gives inputs alone, uses `report`.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import dataclasses
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from innvest_lite.cli import models
from innvest_lite.cli.terminal import complain
from innvest_lite.errors import InvalidInputError
from innvest_lite.images import PREPROCESSORS, load_image, preprocess

_MOST_WORKERS = 4


def check_preprocessor(name: str) -> None:
    """Raises InvalidInputError for an unknown preprocessor; imports Keras only where a name cannot be checked without."""
    if name not in (*PREPROCESSORS, models.OWN_PREPROCESSOR):
        preprocess(np.zeros((1, 1, 3)), name)


def check_apart(out: pathlib.Path, images: pathlib.Path) -> None:
    """Raises InvalidInputError where results would be written into the folder of the images."""
    if images.is_dir() and out.resolve().is_relative_to(images.resolve()):
        raise InvalidInputError(
            f"--out {str(out)!r} lies in the folder of the images, {str(images)!r}: results could replace images, or be "
            "read as images the next time. Choose another folder."
        )


def report(unreadable: Sequence[str], count: int) -> int:
    """Prints on stderr which of `count` images could not be read; returns the exit code, 1 if there are any, else 0."""
    for message in unreadable:
        complain(f"skipped: {message}")
    if unreadable:
        complain(f"{len(unreadable)} of {count} images were skipped")
    return int(bool(unreadable))


@dataclasses.dataclass(frozen=True, eq=False)
class Batch:
    """Some images.

    Attributes:
        paths: where they come from.
        pixels: float32 `(batch, height, width, channels)` in 0..255.
        inputs: the same as the model takes them.
    """

    paths: tuple[pathlib.Path, ...]
    pixels: np.ndarray
    inputs: np.ndarray


def batches_for(arguments: argparse.Namespace, model: Any, paths: Iterable[pathlib.Path]) -> ImageReader:
    """The `ImageReader` of images, as a command's --preprocess, --size and --batch-size say."""
    shape = models.image_shape(model, arguments.size)
    models.tell_of_own_scaling(arguments.preprocess, model)
    return ImageReader(paths, shape, models.preprocessor(arguments.preprocess, model), arguments.batch_size)


class ImageReader:
    """An iterable of `Batch`, all but the last of them full; reads each image once, and shows a progress bar.

    Args:
        paths: of the images.
        shape: their `(height, width, channels)` for the model.
        preprocessor: as in `images.preprocess`.
        batch_size: images in a batch.

    Raises:
        InvalidInputError: the preprocessor does not accept this number of channels; while iterating: no image can be read.
    """

    def __init__(
        self,
        paths: Iterable[pathlib.Path],
        shape: tuple[int, int, int],
        preprocessor: str | Callable[[Any], Any],
        batch_size: int,
    ) -> None:
        if isinstance(preprocessor, str):
            preprocess(np.zeros((1, 1, shape[-1])), preprocessor)
        self._paths, self._shape = list(paths), shape
        self._preprocessor, self._batch_size = preprocessor, batch_size
        self.unreadable: list[str] = []

    def __iter__(self) -> Iterator[Batch]:
        import keras

        bar = keras.utils.Progbar(len(self._paths), unit_name="image")
        waiting = []
        with concurrent.futures.ThreadPoolExecutor(min(_MOST_WORKERS, os.cpu_count() or 1)) as pool:
            for start in range(0, len(self._paths), self._batch_size):
                window = self._paths[start : start + self._batch_size]
                read = [(path, image) for path, image in pool.map(self._read, window) if image is not None]
                bar.add(len(window) - len(read))
                waiting += read
                if len(waiting) >= self._batch_size:
                    yield self._batch(waiting[: self._batch_size])
                    bar.add(self._batch_size)
                    waiting = waiting[self._batch_size :]
        if waiting:
            yield self._batch(waiting)
            bar.add(len(waiting))
        elif len(self.unreadable) == len(self._paths):
            raise InvalidInputError(f"None of the {len(self._paths)} images can be read.")

    def report(self) -> int:
        """As `report`, for these images."""
        return report(sorted(self.unreadable), len(self._paths))

    def _read(self, path):
        """The path and its image, or None in its place if it cannot be read."""
        try:
            return path, load_image(path, *self._shape)
        except InvalidInputError as error:
            self.unreadable.append(str(error))
            return path, None

    def _batch(self, read):
        pixels = np.stack([image for _, image in read])
        return Batch(tuple(path for path, _ in read), pixels, preprocess(pixels, self._preprocessor))
