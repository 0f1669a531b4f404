"""Pictures and texts in TensorBoard's event files. Called by `callbacks` and `loggers`."""

from __future__ import annotations

import importlib.util
import os

import numpy as np
import tensorflow as tf


def can_write() -> bool:
    """Whether TensorBoard, which knows the format, is installed."""
    return importlib.util.find_spec("tensorboard") is not None


class PictureWriter:
    """Writes pictures to an event file of their own in a folder.

    Args:
        folder: where TensorBoard is pointed to.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._writer = tf.summary.create_file_writer(str(folder), filename_suffix=".explanations")

    def write(self, name: str, pictures: np.ndarray, step: int) -> None:
        """Writes uint8 pictures `(count, height, width, 3)` under a name at a step."""
        with self._writer.as_default(step=step):
            tf.summary.image(name, pictures, max_outputs=len(pictures))
        self._writer.flush()

    def write_text(self, name: str, text: str, step: int) -> None:
        """Writes a text, which may be Markdown, under a name at a step."""
        with self._writer.as_default(step=step):
            tf.summary.text(name, text)
        self._writer.flush()

    def close(self) -> None:
        """Ends the file."""
        self._writer.close()
