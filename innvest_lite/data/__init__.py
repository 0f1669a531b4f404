"""Data that the package ships: a small trained digit classifier and digits that it never saw, for demo and tutorials.

Data made from random numbers, with a known truth, is in `innvest_lite.datasets`.

`README.md` beside this file says where both come from and under which licences. Called by users, the command line's
demo, and tests.
"""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import keras

_FOLDER = pathlib.Path(__file__).resolve().parent


def load_digits() -> tuple[np.ndarray, np.ndarray]:
    """The 600 held-out digits, labelled 0, 1, ..., 9, 0, 1, ... in turn; the shipped model was not trained on them.

    Returns:
        The pair (images float32 `(600, 28, 28, 1)` in 0..1, white on black; labels int64 `(600,)` in 0..9).

    Example:
        >>> images, labels = load_digits()
        >>> images.shape, labels.shape
        ((600, 28, 28, 1), (600,))
    """
    with np.load(_FOLDER / "digits.npz", allow_pickle=False) as file:
        images, labels = file["images"], file["labels"]
    return (images.astype(np.float32) / np.float32(255))[..., None], labels.astype(np.int64)


def load_model() -> keras.Model:
    """The digit classifier: four convolutions with ReLU, two max poolings, two dense layers, a softmax.

    Returns:
        An uncompiled `keras.Model`, from images `(batch, 28, 28, 1)` in 0..1 to ten probabilities `(batch, 10)`.

    Example:
        >>> load_model().output_shape
        (None, 10)
    """
    import keras

    return keras.saving.load_model(_FOLDER / "digits.keras", compile=False)
