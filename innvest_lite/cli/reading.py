"""Images in batches, one batch in memory at a time, with a progress bar.

In: paths. Out: batches of pixels and inputs, and a list of the images that could not be read. Called by `analysis`,
`evaluation` and `reporting`; `fitting`, whose `ImageFolder` gives inputs alone, uses `report`.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import dataclasses
import glob
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from innvest_lite.cli import arrays, models, spreadsheets
from innvest_lite.cli.terminal import complain
from innvest_lite.errors import InvalidInputError
from innvest_lite.images import PREPROCESSORS, find_images, load_image, preprocess

_MOST_WORKERS = 4


def check_preprocessor(name: str) -> None:
    """Raises InvalidInputError for an unknown preprocessor; imports Keras only where a name cannot be checked without."""
    if name not in (*PREPROCESSORS, models.OWN_PREPROCESSOR):
        preprocess(np.zeros((1, 1, 3)), name)


@dataclasses.dataclass(frozen=True)
class Found:
    """Images that a command was given.

    Attributes:
        paths: of the images, each once.
        root: the folder that results mirror: the one that was given, or what all that was given has in common.
    """

    paths: tuple[pathlib.Path, ...]
    root: pathlib.Path

    def name(self, path: pathlib.Path) -> str:
        """What an image is called: its path seen from the root."""
        return path.relative_to(self.root).as_posix()


def found(given: Sequence[str]) -> Found:
    """The images of folders, files and patterns such as "photos/*.jpg".

    Raises:
        InvalidInputError: there is nothing of that name, or no image in it.
    """
    places = [place for one in given for place in _matching(one)]
    paths = dict.fromkeys(path for place in places for path in find_images(place))
    folders = [place if place.is_dir() else place.parent for place in places]
    if len(set(folders)) == 1:
        return Found(tuple(paths), folders[0])
    # Made absolute without following links, which may lead out of the folders.
    root = pathlib.Path(os.path.commonpath([os.path.abspath(one) for one in folders]))
    paths = dict.fromkeys(pathlib.Path(os.path.abspath(path)) for path in paths)
    return Found(tuple(paths), root)


def check_there(given: Sequence[str]) -> None:
    """Raises InvalidInputError where nothing is called so; costs nothing."""
    for one in given:
        if not pathlib.Path(one).exists() and not glob.has_magic(one):
            raise InvalidInputError(f"No folder or file is called {one!r} (seen from {os.getcwd()!r}); correct the path.")


def _matching(given):
    """The path that was given, or, where there is none and it is a pattern, what matches it."""
    path = pathlib.Path(given)
    if path.exists() or not glob.has_magic(given):
        return [path]
    matching = sorted(map(pathlib.Path, glob.glob(given, recursive=True)))
    if not matching:
        raise InvalidInputError(f"No file matches {given!r} (seen from {os.getcwd()!r}); correct the pattern.")
    return matching


def array_of(given: Sequence[str]) -> str | None:
    """The one file of arrays or of a table that was given; None where images were.

    Raises:
        InvalidInputError: there is one beside others.
    """
    if not any(map(is_samples, given)):
        return None
    if len(given) > 1:
        raise InvalidInputError(f"One file of samples at a time, or images; got {' '.join(given)}.")
    return given[0]


def is_samples(path: str) -> bool:
    """Whether a path names a file of samples, by its ending."""
    return arrays.is_array(path) or pathlib.Path(path).suffix.lower() == spreadsheets.ENDING


def samples_of(path: str, arguments: argparse.Namespace, model: Any) -> Any:
    """The samples of a .npy file or of a table, as the model takes them.

    Raises:
        InvalidInputError: they cannot be read, or do not fit the model.
    """
    if arrays.is_array(path):
        return arrays.read(path, arguments.preprocess)
    return spreadsheets.inputs_of(spreadsheets.read(path), model, arguments.columns)[0]


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
