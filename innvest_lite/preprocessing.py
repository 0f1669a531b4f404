"""What turns images as people have them into what a model takes: `preprocessor=` of analyzers and of fits.

Comes in: a name of `keras.applications`, a Keras layer such as the preprocessor of a KerasHub task, or any function of a
batch. Goes out: a `Preprocessor`, which an `InputSpec` applies to all that comes in.
"""

import dataclasses
import inspect
import logging
from collections.abc import Callable

import keras
import numpy as np

from innvest_lite import backend
from innvest_lite.errors import InvalidInputError
from innvest_lite.scalings import canonical, scaling

FOREIGN_ERRORS = (
    *(ArithmeticError, AssertionError, AttributeError, LookupError, OSError, RuntimeError, TypeError, ValueError),
    backend.OperationError,
)
"""What a function that is not ours may raise at images that it does not take."""

# Images that are prepared at a time.
_BATCH = 32

_log = logging.getLogger("innvest_lite")


@dataclasses.dataclass(frozen=True, eq=False)
class Preprocessor:
    """A preprocessor, by name or as something that is called.

    Attributes:
        given: a name as in `innvest_lite.images.preprocess`, or a function of a batch of images, such as a Keras layer.

    Raises:
        InvalidInputError: there is no such name, or it cannot be called.
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
        """From what `config` gave, where `config` is not None."""
        return cls.of(keras.saving.deserialize_keras_object(config) if isinstance(config, dict) else config)

    def config(self):
        """What a file can hold: the name, or what Keras makes of a layer or a registered function; else what was given."""
        known = inspect.isroutine(self.given) and keras.saving.get_registered_name(self.given) != self.given.__name__
        return keras.saving.serialize_keras_object(self.given) if self.layer is not None or known else self.given

    @property
    def name(self):
        """What messages, descriptions and files of patterns call it."""
        if isinstance(self.given, str):
            return canonical(self.given)
        if inspect.isroutine(self.given):
            return f"{self.given.__module__}.{self.given.__qualname__}"
        return type(self.given).__qualname__

    @property
    def layer(self):
        """The Keras layer that it is, whose weights are to be saved; or None."""
        return self.given if isinstance(self.given, keras.Layer) else None

    def check_saveable(self):
        """Raises InvalidInputError where Keras could write it to a file, but not read it again."""
        if self.layer is None and not isinstance(self.given, str) and self.config() is self.given:
            raise InvalidInputError(
                f"The preprocessor {self.name!r} cannot be saved: give it a name, or make it a layer or function that is "
                "registered with @keras.saving.register_keras_serializable()."
            )

    def check(self, channels):
        """Raises InvalidInputError where it is known not to take images of so many channels."""
        if isinstance(self.given, str):
            scaling(self.given, channels)

    def __call__(self, images):
        """A batch of images as the model takes it.

        Args:
            images: an array `(samples, height, width, channels)`, as the preprocessor takes it.

        Returns:
            A NumPy array.

        Raises:
            InvalidInputError: it is no array, the preprocessor refuses it, or gives another number of samples.
        """
        if images is None or hasattr(images, "element_spec") or callable(getattr(images, "__next__", None)):
            kind = type(images).__name__
            raise InvalidInputError(f"Images should be an array, not {kind}: a data set goes batch by batch.")
        images = np.asarray(images)
        if not images.ndim:
            raise InvalidInputError(f"Images should be an array of them, not {images!r}; innvest_lite.images reads files.")
        self._look_at(images)
        starts = range(0, max(len(images), 1), _BATCH)
        return np.concatenate([self._prepared(images[start : start + _BATCH]) for start in starts])

    def _prepared(self, images):
        """Some images; functions get a copy, for Keras's own edit their argument."""
        try:
            prepared = np.asarray(self.tensors(np.array(images)))
        except FOREIGN_ERRORS as error:
            raise InvalidInputError(
                f"The preprocessor {self.name!r} refuses the images, {images.dtype} of shape {images.shape}: {error}"
            ) from error
        if prepared.shape[:1] != images.shape[:1]:
            raise InvalidInputError(
                f"The preprocessor {self.name!r} makes {prepared.shape} of {images.shape}: another number of samples."
            )
        return prepared

    def _look_at(self, images):
        """Warns of images that seem to be in 0..1, where those by name are for 0..255."""
        named = isinstance(self.given, str) and self.given != "none"
        if named and images.dtype.kind == "f" and images.size and images.min() >= 0 and 0 < images.max() <= 1:
            _log.warning("The images lie in 0..1, but the preprocessor %r takes 0..255: multiply them by 255.", self.name)

    def tensors(self, images):
        """The same of a tensor, `images` of the same shape, also inside a `tf.function`."""
        if self.layer is not None and "training" in inspect.signature(self.layer.call).parameters:
            return self.given(images, training=False)
        if not isinstance(self.given, str):
            return self.given(images)
        floats = np.array(images, "float32") if isinstance(images, np.ndarray) else keras.ops.cast(images, "float32")
        return scaling(self.given, images.shape[-1])(floats)


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
    """Refuses an analyzer with a preprocessor where the model's own inputs are looked at.

    Args:
        analyzer: an `Analyzer`.
        what: what looks at them, for the message.

    Raises:
        InvalidInputError: it has one.
    """
    if getattr(analyzer, "preprocessor", None) is not None:
        raise InvalidInputError(
            f"{what} changes and compares what the model itself takes: make the analyzer without preprocessor=, and hand "
            "over the inputs that analyzer.preprocessor(images) gives."
        )
