"""A folder of images as a data set, read batch by batch: for fitting patterns, in Python and on the command line."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np

from innvest_lite import images as images_module
from innvest_lite.errors import InvalidInputError
from innvest_lite.images import find_images, load_image
from innvest_lite.options import shard_of

_MOST_WORKERS = 4


class ImageFolder(keras.utils.PyDataset):
    """The images of a folder and of all folders in it, in batches; files that cannot be read are skipped.

    Args:
        images: a folder, an image, or a list of the paths of images.
        shape: their `(height, width, channels)` for the model.
        preprocess: how values in 0..255 become inputs, as in `innvest_lite.images.preprocess`.
        batch_size: images in a batch; a batch with unreadable images has fewer.
        shard: `(index, count)`: take every `count`-th image, beginning with number `index`, counted from 0, so that each of
            `count` machines reads a part.

    Attributes:
        paths: of the images.
        unreadable: a message for each image that could not be read so far.

    Raises:
        InvalidInputError: no such folder, no image in it, or the preprocessor does not take so many channels.

    Example:
        >>> folder = ImageFolder("photos", (224, 224, 3), "vgg16", batch_size=16)
        >>> folder[0].shape
        (2, 224, 224, 3)
    """

    def __init__(
        self,
        images: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
        shape: tuple[int, int, int],
        preprocess: str | Callable[[Any], Any] = "none",
        batch_size: int = 32,
        shard: tuple[int, int] = (0, 1),
    ) -> None:
        super().__init__(workers=min(_MOST_WORKERS, os.cpu_count() or 1))
        # An unknown name is an error now, not when the first batch is read.
        if isinstance(preprocess, str):
            images_module.preprocess(np.zeros((1, 1, shape[-1])), preprocess)
        paths = find_images(images) if isinstance(images, str | os.PathLike) else list(images)
        index, count = shard_of(shard)
        self.paths = paths[index::count]
        if not self.paths:
            raise InvalidInputError(
                f"Part {index + 1} of {count} is empty: there are only {len(paths)} images. Use fewer parts."
            )
        self._shape, self.preprocess, self._batch_size = tuple(shape), preprocess, batch_size
        self._messages: dict[Any, str] = {}

    @property
    def unreadable(self) -> list[str]:
        """Sorted by path, each once."""
        return [self._messages[path] for path in sorted(self._messages)]

    def __len__(self) -> int:
        return -(-len(self.paths) // self._batch_size)

    def __getitem__(self, index: int) -> np.ndarray:
        paths = self.paths[index * self._batch_size : (index + 1) * self._batch_size]
        read = [image for image in map(self._read, paths) if image is not None]
        return images_module.preprocess(np.stack(read), self.preprocess) if read else np.zeros((0, *self._shape), "float32")

    def _read(self, path):
        try:
            return load_image(path, *self._shape)
        except InvalidInputError as error:
            self._messages[path] = str(error)
            return None
