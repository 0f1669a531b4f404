"""What turns images as people have them into what a model takes: `preprocessor=` of analyzers and of fits.

Comes in: a name of `keras.applications`, a Keras layer such as the preprocessor of a KerasHub task, or any function of a
batch. Goes out: a `Preprocessor`, which an `InputSpec` applies to all that comes in.
"""

import dataclasses
import logging
from collections.abc import Callable

import keras
import numpy as np

from innvest_lite.errors import InvalidInputError
from innvest_lite.images import canonical, preprocessing

# Images that are prepared at a time.
_BATCH = 32

_log = logging.getLogger("innvest_lite")


@dataclasses.dataclass(frozen=True, eq=False)
class Preprocessor:
    """A preprocessor, by name or as something that is called.

    Attributes:
        given: a name as in `innvest_lite.images.preprocess`, or a function of a batch of images, such as a Keras layer.
    """

    given: str | Callable

    def __post_init__(self):
        self.check(3)
        if not isinstance(self.given, str) and not callable(self.given):
            raise InvalidInputError(
                f"preprocessor should be a name, such as 'vgg16', or something to call with images, but is {self.given!r}."
            )

    @classmethod
    def of(cls, given):
        """`given` as a `Preprocessor`; None for None, and what is one already as it is.

        Raises:
            InvalidInputError: it is neither a name that `innvest_lite.images.preprocess` knows nor callable.
        """
        return given if given is None or isinstance(given, cls) else cls(given)

    @classmethod
    def from_config(cls, config):
        """From what `config` gave; None for None."""
        return cls.of(keras.saving.deserialize_keras_object(config) if isinstance(config, dict) else config)

    def config(self):
        """What a file can hold: the name, or what Keras makes of the layer or function."""
        return self.given if isinstance(self.given, str) else keras.saving.serialize_keras_object(self.given)

    @property
    def name(self):
        """What messages, descriptions and files of patterns call it."""
        if isinstance(self.given, str):
            return canonical(self.given)
        return getattr(self.given, "__qualname__", type(self.given).__qualname__)

    def check(self, channels):
        """Raises InvalidInputError where it is known not to take images of so many channels."""
        if isinstance(self.given, str):
            preprocessing(self.given, channels)

    def __call__(self, images):
        """A batch of images as the model takes it.

        Args:
            images: an array `(samples, height, width, channels)`, as the preprocessor takes it.

        Returns:
            A NumPy array.

        Raises:
            InvalidInputError: it is no array, or the preprocessor refuses it.
        """
        try:
            images = np.asarray(images)
            self._look_at(images)
            starts = range(0, max(len(images), 1), _BATCH)
            return np.concatenate([np.asarray(self.tensors(images[start : start + _BATCH])) for start in starts])
        except (TypeError, ValueError) as error:
            shape = getattr(images, "shape", type(images).__name__)
            raise InvalidInputError(f"The preprocessor {self.name!r} refuses the images, {shape}: {error}") from error

    def _look_at(self, images):
        """Warns of images that seem to be in 0..1, where those by name are for 0..255."""
        named = isinstance(self.given, str) and self.given != "none"
        if named and images.dtype.kind == "f" and images.size and images.min() >= 0 and 0 < images.max() <= 1:
            _log.warning("The images lie in 0..1, but the preprocessor %r takes 0..255: multiply them by 255.", self.name)

    def tensors(self, images):
        """The same of a tensor, also inside a `tf.function`."""
        if not isinstance(self.given, str):
            return self.given(images)
        floats = np.array(images, "float32") if isinstance(images, np.ndarray) else keras.ops.cast(images, "float32")
        return preprocessing(self.given, images.shape[-1])(floats)


def differing(fitted, used):
    """What to say where patterns were fitted on data that was prepared in another way; "" where nothing is wrong or known.

    Args:
        fitted: the name that the patterns hold, or None.
        used: the name of the `Preprocessor` in use, or None.

    Returns:
        A str.
    """
    if None in (fitted, used) or fitted == used:
        return ""
    return (
        f"The patterns were fitted on images prepared by {fitted!r}, but these are prepared by {used!r}: explanations "
        "would be wrong without looking so. Prepare both alike, or fit again."
    )


def refuse_preprocessor(analyzer, what):
    """Raises InvalidInputError where an analyzer has a preprocessor and `what` looks at the model's own inputs."""
    if getattr(analyzer, "preprocessor", None) is not None:
        raise InvalidInputError(
            f"{what} changes and compares what the model itself takes: make the analyzer without preprocessor=, and hand "
            "over the inputs that analyzer.preprocessor(images) gives."
        )
