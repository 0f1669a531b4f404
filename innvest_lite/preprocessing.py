"""From images and texts as people have them to what a model takes: `preprocessor=` of analyzers and of fits.

Comes in: a name of `keras.applications`, a Keras layer such as TextVectorization or the preprocessor of a KerasHub task, or
any function of a batch. Goes out: a `Preprocessor`, which an `InputSpec` applies to its inputs.
"""

from __future__ import annotations

import dataclasses
import inspect
import logging
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from innvest_lite import backend, functions
from innvest_lite.errors import InvalidInputError
from innvest_lite.options import as_array
from innvest_lite.scalings import canonical, scaling

FOREIGN_ERRORS = (
    *(ArithmeticError, AssertionError, AttributeError, LookupError, OSError, RuntimeError, TypeError, ValueError),
    backend.OperationError,
)
"""What a user's function may raise when it is given images that it does not accept."""

# Images that are prepared at a time.
_BATCH = 32

_log = logging.getLogger("innvest_lite")


@dataclasses.dataclass(frozen=True, eq=False)
class Preprocessor:
    """A preprocessor: a name or a function.

    Attributes:
        given: a name as in `innvest_lite.images.preprocess`, or a function of a batch of images or texts, such as a Keras
            layer.

    Raises:
        InvalidInputError: there is no such name, or it cannot be called.
    """

    given: str | Callable[..., Any]

    def __post_init__(self) -> None:
        self.check(3)
        if not isinstance(self.given, str) and not callable(self.given):
            raise InvalidInputError(
                f"preprocessor should be a name, such as 'vgg16', or a function of images or texts, but is {self.given!r}."
            )

    @classmethod
    def of(cls, given: Any) -> Preprocessor | None:
        """`given` as a `Preprocessor`; None, and what is a `Preprocessor` already, are returned unchanged.

        Raises:
            InvalidInputError: it is neither a name that `innvest_lite.images.preprocess` knows nor callable.
        """
        return given if given is None or isinstance(given, cls) else cls(given)

    @classmethod
    def from_config(cls, config: Any) -> Preprocessor | None:
        """The preprocessor that `config` described; None for None."""
        return cls.of(functions.from_config(config))

    def config(self) -> Any:
        """What a file can hold: the name, or Keras's config of a layer or a registered function; else what was given."""
        return self.given if isinstance(self.given, str) else functions.config_of(self.given)

    @property
    def name(self) -> str:
        """Its name in messages, descriptions and pattern files."""
        return canonical(self.given) if isinstance(self.given, str) else functions.name_of(self.given)

    @property
    def layer(self) -> Any:
        """The Keras layer, whose weights are saved with an analyzer; None where it is not a layer."""
        return self.given if isinstance(self.given, keras.Layer) else None

    def check_saveable(self) -> None:
        """Raises InvalidInputError where Keras could save it but not load it again."""
        if not isinstance(self.given, str) and self.layer is None:
            functions.check_saveable(self.given, "The preprocessor")

    def check(self, channels: int) -> None:
        """Raises InvalidInputError where it is known not to accept images with this number of channels."""
        if isinstance(self.given, str):
            scaling(self.given, channels)

    def __call__(self, images: Any) -> Any:
        """A batch of images or texts as the model takes it.

        Args:
            images: an array `(samples, height, width, channels)`, or a list of texts, as the preprocessor takes it.

        Returns:
            A NumPy array, or a list or a dict of them.

        Raises:
            InvalidInputError: it is not an array, the preprocessor refuses it, or changes the number of samples.
        """
        if images is None or hasattr(images, "element_spec") or callable(getattr(images, "__next__", None)):
            kind = type(images).__name__
            raise InvalidInputError(
                f"Images should be an array, not {kind}; of a data set, give one batch after the other."
            )
        images = as_array(images, "Images")
        if not images.ndim:
            raise InvalidInputError(
                f"Images should be an array, and texts a list, not {images!r}; innvest_lite.images reads files, and one "
                "text is a list of one."
            )
        self._look_at(images)
        # Texts go together: they may be filled up to the longest.
        size = max(len(images), 1) if images.dtype.kind in "OUS" else _BATCH
        parts = [self._prepared(images[start : start + size]) for start in range(0, max(len(images), 1), size)]
        return keras.tree.map_structure(lambda *each: np.concatenate(each), *parts)

    def _prepared(self, images):
        """Some images; the function gets a copy, because Keras's own preprocessing edits its argument."""
        try:
            given = np.array(images)
            if images.dtype.kind in "OUS":
                # KerasHub's preprocessors take no arrays of texts; functions of one's own get str.
                given = [one.decode() if isinstance(one, bytes) else one for one in images.tolist()]
                given = keras.ops.convert_to_tensor(given) if self.layer is not None else given
            prepared = keras.tree.map_structure(_as_array, self.tensors(given))
        except FOREIGN_ERRORS as error:
            what = "texts" if images.dtype.kind in "OUS" else "images"
            raise InvalidInputError(
                f"The preprocessor {self.name!r} refuses the {what}, {images.dtype} of shape {images.shape}: {error}"
            ) from error
        for one in keras.tree.flatten(prepared):
            if one.shape[:1] != images.shape[:1]:
                raise InvalidInputError(
                    f"The preprocessor {self.name!r} turned shape {images.shape} into {one.shape}; it should keep the "
                    "number of samples."
                )
        return prepared

    def _look_at(self, images):
        """Warns of images that seem to be in 0..1: preprocessors by name expect 0..255."""
        named = isinstance(self.given, str) and self.given != "none"
        if named and images.dtype.kind == "f" and images.size and images.min() >= 0 and 0 < images.max() <= 1:
            _log.warning("The images lie in 0..1, but the preprocessor %r expects 0..255: multiply them by 255.", self.name)

    def tensors(self, images: Any) -> Any:
        """As calling it, but for a tensor `images` of that shape, also inside a `tf.function`."""
        if self.layer is not None and "training" in inspect.signature(self.layer.call).parameters:
            return self.layer(images, training=False)
        if not isinstance(self.given, str):
            return self.given(images)
        floats = np.array(images, "float32") if isinstance(images, np.ndarray) else keras.ops.cast(images, "float32")
        return scaling(self.given, images.shape[-1])(floats)


def _as_array(given):
    """What a preprocessor gives, as an array; ragged texts are filled up to the longest."""
    return np.asarray(given.to_tensor() if hasattr(given, "to_tensor") else given)


def differing(fitted: str | None, used: str | None) -> str:
    """The message where patterns were fitted on data prepared in another way; "" where they agree or it is not known.

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
        "would be wrong, and nothing would show it. Prepare both in the same way, or fit again."
    )


def refuse_preprocessor(analyzer: Any, what: str) -> None:
    """Refuses an analyzer with a preprocessor for a measure that works on the model's own inputs.

    Args:
        analyzer: an `Analyzer`.
        what: the name of the measure, for the message.

    Raises:
        InvalidInputError: the analyzer has a preprocessor.
    """
    if getattr(analyzer, "preprocessor", None) is not None:
        raise InvalidInputError(
            f"{what} changes and compares the model's own inputs: make the analyzer without preprocessor=, and pass the "
            "inputs that analyzer.preprocessor(images) returns."
        )
