"""`explain`: a model and a photograph in one call, to a picture that says what was explained, and by which method.

In: a model or an analyzer, and photographs as people have them. Out: an `ImageExplanation` of each. Users call it
`visualize.explain`; it stands here because it needs analyzers, which `visualize` stands below.
"""

from __future__ import annotations

import dataclasses
import io
import logging
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from innvest_lite import visualize
from innvest_lite.analyzers.base import Analyzer
from innvest_lite.analyzers.registry import create_analyzer
from innvest_lite.answers import OUTPUT, Answer, answers, ordered_labels
from innvest_lite.errors import InvalidInputError, UnsupportedLayerError, did_you_mean
from innvest_lite.images import as_photo, resized_photo
from innvest_lite.visualize.colormaps import DEFAULT
from innvest_lite.visualize.pictures import bytes_of
from innvest_lite.visualize.suited import KINDS, centred

_log = logging.getLogger("innvest_lite")

# What goes with any model that has gradients, and needs no fit.
_FALLBACK = "integrated_gradients"
_CENTRED = "centred heatmap"


@dataclasses.dataclass(frozen=True, eq=False)
class ImageExplanation:
    """A photograph and what of it made a model answer as it did. A notebook shows its picture.

    Attributes:
        picture: uint8 `(height, width, 3)`: the photograph, the explanation over it, a title, a colour bar.
        relevance: what `Analyzer.analyze` gave, `(height, width, channels)` of the model's input, in the method's unit.
        answer: what was explained, an `innvest_lite.answers.Answer`: the class, its name, its score.
        method: the name of the method, or the class of an analyzer of one's own.
        image: the photograph, uint8 `(height, width, 3)` at its own size.
        shown: as what it is drawn, as `Analyzer.picture` says: "centred heatmap" is less its mean.
        unit: what the colour bar counts.
    """

    picture: np.ndarray
    relevance: np.ndarray
    answer: Answer
    method: str
    image: np.ndarray
    shown: str
    unit: str

    @property
    def title(self) -> str:
        """The method and what was explained, as in "lrp.epsilon_plus_flat of zebra (340), probability 0.98"."""
        return f"{self.method} of {self.answer}"

    def panel(self, **options: Any) -> np.ndarray:
        """The picture drawn anew with other options of `visualize.panel`, such as `width=2400` or `colormap="seismic"`.

        Returns:
            uint8 array `(height, width, 3)`.
        """
        own = {"title": self.title, "unit": self.unit, "kind": KINDS[self.shown]}
        return visualize.panel(self.image, self._drawn, **{**own, **options})

    def overlay(self, **options: Any) -> np.ndarray:
        """The explanation over the photograph at its full size, by itself, see `visualize.overlay` and its options.

        Returns:
            uint8 array `(height, width, 3)`, as large as `image`.
        """
        return visualize.overlay(self._drawn, self.image, **options)

    @property
    def _drawn(self) -> np.ndarray:
        return centred(self.shown, self.relevance)

    def save(self, path: str | os.PathLike[str]) -> pathlib.Path:
        """Writes the picture as PNG, JPEG or WebP, by the ending, see `visualize.save`.

        Args:
            path: of the file.

        Returns:
            The path.
        """
        return visualize.save(self.picture, path)

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(self.picture).save(buffer, format="PNG")
        return buffer.getvalue()

    def __repr__(self) -> str:
        return f"<ImageExplanation: {self.title}; relevance {self.relevance.shape}, picture {self.picture.shape[:2]}>"

    def __str__(self) -> str:
        return self.title


def explain(
    model: Any,
    photo: Any,
    method: str | None = None,
    target: Any = None,
    labels: Sequence[str] | None = None,
    preprocessor: Any = None,
    *,
    patterns: Any = None,
    size: tuple[int, int] | None = None,
    batch_size: int = 32,
    title: str | None = None,
    colormap: str = DEFAULT,
    percentile: float = 99.5,
    width: int = 1000,
    **options: Any,
) -> Any:
    """Explains a photograph in one call: reads and resizes it, explains what the model answers, and draws that.

    The photograph is resized to the model's input without keeping proportions, as `images.load_image` does; the picture has
    the photograph's own proportions. Each call makes an analyzer: to explain many photographs, hand over a list of them,
    or an `Analyzer` in place of the model.

    Args:
        model: a `keras.Model` that takes one image of 1 or 3 channels, or an `Analyzer` of one, fitted where it needs that.
        photo: the path of an image, an image of Pillow's, or a uint8 array `(height, width)` or `(height, width, channels)`
            of any size; or a float array of the very shape of the model's input, which is taken as it is; or a list of
            these, or a batch of arrays `(batch, height, width, channels)`.
        method: a name of `innvest_lite.ANALYZERS`. None: LRP, "lrp.epsilon_plus_flat" of convolutional networks,
            "lrp.epsilon" where the first layer is dense, "lrp.cp_lrp_gamma" of those with attention, and where LRP has no
            rule for a layer, "integrated_gradients", which is logged as a warning that names the layers.
        target: as in `Analyzer.analyze`, for all photographs; or with `labels`, the name of a class.
        labels: a name for each class, in order; None: classes are named by number.
        preprocessor: what makes the model's input of images in 0..255, as in `Analyzer`: a name such as "unit" or "vgg16",
            or a function. None: the model takes 0..255.
        patterns: of the pattern methods, as in `PatternAttribution`.
        size: `(height, width)` for models that leave the size of their input open.
        batch_size: as in `Analyzer.analyze`.
        title: above the picture; None: the method and what was explained.
        colormap: as in `visualize.heatmap`.
        percentile: as in `visualize.heatmap`; the few largest values do not pale all else.
        width: of the picture, as in `visualize.panel`.
        **options: of the method, such as `steps=64`, as in `create_analyzer`.

    Returns:
        An `ImageExplanation`, or a list of them for a list or a batch.

    Raises:
        InvalidInputError: the photograph cannot be read, or it, the target, the labels, the method or an option does not
            fit the model.
        UnsupportedLayerError: the method that was asked for cannot explain the model.

    Example:
        >>> found = explain(model, "photos/bird.png", preprocessor="unit")
        >>> found.method, found.relevance.shape, found.answer.index
        ('lrp.epsilon_plus_flat', (28, 28, 1), 0)
        >>> found.save("bird.png")
        PosixPath('bird.png')
    """
    given = {name: one for name, one in (("preprocessor", preprocessor), ("patterns", patterns)) if one is not None}
    name, analyzer = _analyzer(model, method, {**given, **options})
    many = isinstance(photo, list | tuple) or (not isinstance(photo, Image.Image) and np.ndim(photo) == 4)
    shape = _shape_of(analyzer, size)
    pairs = [_read(one, shape) for one in (photo if many else [photo])]
    if not pairs:
        return []
    target = _target(target, labels)
    inputs = np.stack([pixels for _, pixels in pairs])
    relevance = analyzer.analyze(inputs, target, batch_size)
    said = answers(analyzer, inputs, target, labels, batch_size)
    found = []
    for (image, _), one, answer in zip(pairs, relevance, said, strict=True):
        blank = ImageExplanation(image, one, answer, name, image, analyzer.picture, _unit(analyzer, answer))
        shown = {} if title is None else {"title": title}
        drawn = blank.panel(colormap=colormap, percentile=percentile, width=width, **shown)
        found.append(dataclasses.replace(blank, picture=drawn))
    return found if many else found[0]


def _analyzer(model, method, options):
    """`(name of the method, analyzer)`."""
    if isinstance(model, Analyzer):
        if method is not None or options:
            given = "method" if method is not None else next(iter(options))
            raise InvalidInputError(f"An analyzer has its options already, so {given}= belongs where it is made.")
        return type(model).__name__, model
    if method is None:
        return by_itself(model, options)
    return method, create_analyzer(method, model, **options)


def by_itself(model: Any, options: Mapping[str, Any]) -> tuple[str, Analyzer]:
    """What goes with a model and needs no fit.

    Args:
        model: a `keras.Model`.
        options: of the method.

    Returns:
        `(name, analyzer)`.
    """
    try:
        # Without a flat first layer, so that it says nothing of dense ones, for which flat shares tell nothing apart.
        analyzer = create_analyzer("lrp.epsilon_plus", model, **options)
    except UnsupportedLayerError as error:
        _log.warning("LRP cannot explain this model, so %s does: %s", _FALLBACK, error)
        return _FALLBACK, create_analyzer(_FALLBACK, model, **options)
    if analyzer.mixes_steps:
        name = "lrp.cp_lrp_gamma"
    else:
        name = "lrp.epsilon" if _begins_dense(analyzer.plan()) else "lrp.epsilon_plus_flat"
    return name, create_analyzer(name, model, **options)


def _begins_dense(plan):
    """Whether a layer that sees the input itself takes it as columns, without positions."""
    linear = [step.node for step in plan.steps if step.form.kind == "linear" and plan.before(step.node) is not None]
    return any(len(node.input_specs[0].shape) == 2 for node in linear)


def _shape_of(analyzer, size):
    """The (height, width, channels) that photographs are resized to."""
    shapes = analyzer.explainer.inputs.shapes
    if len(shapes) != 1 or len(shapes[0]) != 4 or shapes[0][3] not in (1, 3, None):
        raise InvalidInputError(
            f"The model takes {list(shapes)}; expected one image, (None, height, width, 1 or 3). Make samples and an "
            "analyzer, and draw with visualize.series, slices, bars, tokens or panel."
        )
    _, *sides, channels = shapes[0]
    if size is None and None in sides:
        raise InvalidInputError("The model leaves the size of its input open: say size=(height, width).")
    if size is not None and (len(size) != 2 or any(own not in (None, one) for own, one in zip(sides, size, strict=True))):
        raise InvalidInputError(f"size is {size!r}, but the model takes {tuple(sides)}; leave it out, or correct it.")
    return (*(size or sides), channels or 3)


def _read(photo, shape):
    """`(image, pixels)`: uint8 at its own size, and what the model, or its preprocessor, is given."""
    is_bytes = isinstance(photo, str | os.PathLike | Image.Image) or np.asarray(photo).dtype == np.uint8
    if is_bytes:
        image = as_photo(photo, "photo")
        return image, resized_photo(image, *shape)
    pixels = np.asarray(photo)
    pixels = pixels[..., None] if pixels.shape == shape[:2] else pixels
    if pixels.shape != tuple(shape) or pixels.dtype.kind not in "fiu":
        raise InvalidInputError(
            f"photo is {type(photo).__name__} of {pixels.dtype} with the shape {pixels.shape}; expected a path, an image "
            f"of Pillow's, a uint8 array, or numbers as the model takes them, of the shape {tuple(shape)}."
        )
    return bytes_of(pixels), pixels


def _target(target, labels):
    """The number of a class that is named by its label."""
    if not isinstance(target, str) or target == "all":
        return target
    labels = ordered_labels(labels) if isinstance(labels, Mapping) else list(() if labels is None else labels)
    places = [place for place, label in enumerate(labels) if str(label) == target]
    if len(places) != 1:
        hint = did_you_mean(target, list(map(str, labels)))
        raise InvalidInputError(
            f"target is {target!r}, which {len(places) or 'none'} of the labels are.{hint} Say the number of the class, or "
            "one of the labels."
        )
    return places[0]


def _unit(analyzer, answer):
    """What the relevance is counted in, in words."""
    unit = analyzer.unit
    if answer.unit == OUTPUT and not analyzer.explainer.head:
        unit = unit.replace("logits", "output")
    if getattr(analyzer, "postprocess", None) == "square":
        unit = f"squares of {unit}"
    return f"{unit}, less its mean" if analyzer.picture == _CENTRED else unit
