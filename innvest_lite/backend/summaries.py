"""Pictures in TensorBoard's event files. Called by `callbacks`."""

import importlib.util

import tensorflow as tf


def can_write():
    """Whether TensorBoard, which knows the format, is installed."""
    return importlib.util.find_spec("tensorboard") is not None


class PictureWriter:
    """Writes pictures to an event file of their own in a folder.

    Args:
        folder: where TensorBoard is pointed to.
    """

    def __init__(self, folder):
        self._writer = tf.summary.create_file_writer(str(folder), filename_suffix=".explanations")

    def write(self, name, pictures, step):
        """Writes uint8 pictures `(count, height, width, 3)` under a name at a step."""
        with self._writer.as_default(step=step):
            tf.summary.image(name, pictures, max_outputs=len(pictures))
        self._writer.flush()

    def close(self):
        """Ends the file."""
        self._writer.close()
