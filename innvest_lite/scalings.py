"""From pixels in 0..255 to what a model takes, by name: "unit", or a module of `keras.applications`.

`preprocess` is what users call, also as `innvest_lite.images.preprocess`; `preprocessing.Preprocessor` holds such a name, a
layer or a function for an analyzer. Keras is imported only for names that need it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from innvest_lite.errors import InvalidInputError, did_you_mean

PREPROCESSORS = (
    "none",
    "unit",
    "convnext",
    "densenet",
    "efficientnet",
    "efficientnet_v2",
    "inception_resnet_v2",
    "inception_v3",
    "mobilenet",
    "mobilenet_v2",
    "mobilenet_v3",
    "nasnet",
    "resnet",
    "resnet50",
    "resnet_v2",
    "vgg16",
    "vgg19",
    "xception",
)
"""What `preprocess` knows: two scalings of our own, and the modules of `keras.applications`."""


def preprocess(images: Any, name: str | Callable[[Any], Any]) -> np.ndarray:
    """Images in 0..255 as a model was trained to see them.

    Args:
        images: numbers of shape `(batch, height, width, channels)` or `(height, width, channels)`, in 0..255.
        name: "none" (as they are), "unit" (divided by 255), or a module of `keras.applications` that has a
            `preprocess_input`, such as "vgg16" or "mobilenet_v2"; also the name of a model in it, such as
            "densenet121". For these, capital letters, "_" and "-" make no difference. Or a function of float32 images.

    Returns:
        A new float32 array, of the same shape unless it is a function that changes it; the argument is not edited.

    Raises:
        InvalidInputError: an unknown name, an array of another rank or type, or a number of channels other than 3 where
            `keras.applications` wants 3.

    Example:
        >>> preprocess(np.full((1, 1, 1), 255), "unit").tolist()
        [[[1.0]]]
    """
    if np.ma.is_masked(images):
        raise InvalidInputError("images is a masked array, and some of its entries are masked: fill them first.")
    values = np.asarray(images)
    if values.ndim not in (3, 4) or not np.can_cast(values.dtype, np.float32, casting="same_kind"):
        raise InvalidInputError(
            f"images has the type {values.dtype} and the shape {values.shape}; expected real numbers of shape "
            "(batch, height, width, channels) or (height, width, channels), in 0..255."
        )
    values = np.array(values, np.float32)  # a copy: preprocess_input edits NumPy arrays in place
    return np.asarray(scaling(name, values.shape[-1])(values), np.float32)


def scaling(name: str | Callable[[Any], Any], channels: int) -> Callable[[Any], Any]:
    """The function by which `preprocess` prepares float32 images: of arrays, which it may edit, or tensors.

    Args:
        name: as in `preprocess`.
        channels: the number of channels of the images.

    Returns:
        A function from float32 images `(batch, height, width, channels)` in 0..255 to the model's input.

    Raises:
        InvalidInputError: as `preprocess`.
    """
    if callable(name):
        return name
    if name == "none":
        return lambda images: images
    if name == "unit":
        return lambda images: images / np.float32(255)
    module = _application(name)
    if channels != 3:
        raise InvalidInputError(
            f"The preprocessor {name!r} expects 3 channels (red, green, blue), but images has {channels}; "
            'load them with channels=3, or choose "none" or "unit".'
        )
    return lambda images: module.preprocess_input(images, data_format="channels_last")


def canonical(name: str) -> str:
    """The canonical name of a preprocessor: "vgg16" for "VGG16".

    Raises:
        InvalidInputError: an unknown name.
    """
    return name if name in PREPROCESSORS else _application(name).__name__.rpartition(".")[2]


def _application(name):
    """The module of `keras.applications` that prepares the input of the model called so."""
    import keras

    modules = {module: getattr(keras.applications, module, None) for module in PREPROCESSORS[2:]}
    names = {_plain(module): found for module, found in modules.items() if found is not None}
    for module in list(names.values()):
        names.update({_plain(model): module for model in vars(module) if model[0].isupper()})
    if isinstance(name, str) and _plain(name) in names:
        return names[_plain(name)]
    raise InvalidInputError(_unknown_preprocessor(name, names))


def _plain(name):
    """A name without capitals, "_" and "-", which people write differently."""
    return name.lower().replace("_", "").replace("-", "")


def _unknown_preprocessor(name, names):
    """The message for an unknown name, with the nearest known one."""
    known = {_plain(preprocessor): preprocessor for preprocessor in PREPROCESSORS}
    hint = did_you_mean(_plain(str(name)), {**{own: own for own in names}, **known})
    choices = ", ".join(PREPROCESSORS)
    return f"No preprocessor is called {name!r}.{hint} Choose one of {choices}, or the name of a model of these."
