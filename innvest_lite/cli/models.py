"""The model of a command: loading it from its file, the size of its images, an analyzer for it.

Called by the commands. Keras is imported late, after everything that can be checked without it.
"""

from __future__ import annotations

import argparse
import importlib
import os
import pathlib
import shlex
import struct
import sys
import textwrap
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

import innvest_lite
from innvest_lite.cli import defaults
from innvest_lite.cli.terminal import say
from innvest_lite.errors import InvalidInputError, NotFittedError, PatternMismatchError, did_you_mean

OWN_PREPROCESSOR = "model"
"""The value of --preprocess for the preprocessor that a model brings."""

# A factor below this is for numbers up to 255.
_OF_PIXELS = 0.05
_ENDINGS = (".keras", ".h5", ".hdf5")
_LOAD_ERRORS = (
    *(ValueError, TypeError, LookupError, AttributeError, ArithmeticError, AssertionError, EOFError, ImportError),
    *(MemoryError, OSError, RuntimeError, SyntaxError, struct.error, zipfile.BadZipFile, zlib.error),
)
"""What Keras raises at damaged files, unsafe layers and unknown classes."""


def files_read(arguments: argparse.Namespace) -> dict[str, list[str]]:
    """What a command reads besides its data, and must not replace: what it is -> paths, as `check_none_among` takes it."""
    known = {"model": "the model's own file", "patterns": "the file of the patterns", "labels": "the file of the labels"}
    known |= {"truth": "the file of the masks", "truth_signal": "the file of the signal"}
    given = {what: getattr(arguments, name, None) for name, what in known.items()}
    kept = {what: [path] for what, path in given.items() if path}
    saved = getattr(arguments, "attributions", None)
    return {**kept, "a file of attributions": saved} if saved else kept


def check_file(path: str | os.PathLike[str]) -> None:
    """Raises InvalidInputError unless there is a file that may be a model; costs nothing."""
    path = pathlib.Path(path)
    if path.suffix.lower() not in _ENDINGS:
        raise InvalidInputError(f"The model {str(path)!r} should be a .keras or .h5 file; save it with model.save().")
    if not path.is_file():
        raise InvalidInputError(f"There is no model file {str(path)!r}; correct the path.")
    if path.suffix.lower() == ".keras" and not zipfile.is_zipfile(path):
        raise InvalidInputError(f"The model {str(path)!r} is not a .keras file, or it is truncated; save or copy it again.")


def load(path: str | os.PathLike[str]) -> Any:
    """The model in a file, uncompiled and in Keras's safe mode: no Python code from the file runs.

    Raises:
        InvalidInputError: there is no such file, or Keras cannot or may not load it.
    """
    check_file(path)
    import keras

    try:
        model = keras.saving.load_model(path, compile=False)
    except _LOAD_ERRORS as error:
        detail = textwrap.shorten(str(error), 300, placeholder=" ...")
        raise InvalidInputError(
            f"Keras cannot load the model {str(path)!r} in safe mode: {detail or type(error).__name__} "
            "(A damaged file? Save or copy it again. Lambda layers or classes of your own? Use the Python API.)"
        ) from error
    if isinstance(model, innvest_lite.Analyzer):
        raise InvalidInputError(
            f"{str(path)!r} holds a saved explainer, {type(model).__name__}, where the model itself is expected. Use it "
            "from Python: keras.saving.load_model(path).analyze(images), or .export(folder)."
        )
    return _without_pipeline(model)


def _without_pipeline(model):
    """The network alone of a KerasHub task, which would prepare its inputs again in `predict`; others as they are."""
    import keras

    preprocessor = getattr(model, "preprocessor", None)
    if preprocessor is None:
        return model
    plain = keras.Model(model.input, model.output, name=model.name)
    plain.preprocessor = preprocessor
    return plain


def preprocessor(name: str, model: Any) -> Any:
    """The value of --preprocess as `images.preprocess` takes it: `OWN_PREPROCESSOR` becomes the model's own.

    Raises:
        InvalidInputError: the model has no preprocessor.
    """
    if name != OWN_PREPROCESSOR:
        return name
    own = getattr(model, "preprocessor", None)
    if own is None:
        raise InvalidInputError(
            f"--preprocess {OWN_PREPROCESSOR} is for models with a preprocessor of their own, as KerasHub's; this has none."
        )
    return own


def tell_of_own_scaling(name: str, model: Any) -> None:
    """Says so where images are prepared for a model that scales pixels itself: it would see them scaled twice.

    Args:
        name: the value of --preprocess.
        model: the model.
    """
    if name in ("none", OWN_PREPROCESSOR):
        return
    layer = _scaling_of_pixels(model.layers)
    if layer is not None:
        say(
            f"innvest-lite: warning: the model scales pixels itself ({layer.name}), and --preprocess {name} scales them "
            "before; leave --preprocess out if it was trained on images as they are.",
            file=sys.stderr,
        )


def _scaling_of_pixels(layers):
    """The layer that makes small numbers of pixels before any weights; None where there is none."""
    import keras

    for layer in layers:
        if isinstance(layer, keras.layers.Rescaling) and np.all(np.abs(layer.scale) < _OF_PIXELS):
            return layer
        inner = getattr(layer, "layers", None)
        if inner:
            return _scaling_of_pixels(inner)
        if layer.weights:
            return None
    return None


def check_prepared_alike(patterns: innvest_lite.Patterns | None, name: str, model: Any) -> None:
    """Raises PatternMismatchError where patterns were fitted on images that another preprocessor prepared.

    Args:
        patterns: `Patterns` or None.
        name: the value of --preprocess.
        model: the model.
    """
    if patterns is None:
        return
    from innvest_lite.preprocessing import Preprocessor, differing

    used: Any = Preprocessor.of(preprocessor(name, model))
    said = differing(patterns.settings.get("preprocess"), used.name)
    if said:
        raise PatternMismatchError(f"{said} (--preprocess is {name!r}.)")


def image_shape(model: Any, size: Sequence[int] | None) -> tuple[int, int, int]:
    """The `(height, width, channels)` of the images that a model takes.

    Args:
        model: a Keras model.
        size: the `[height, width]` of --size, or None.

    Raises:
        InvalidInputError: the model does not have a single input that is an image, or its size is open and --size is
            missing, or --size is another size.
    """
    inputs = getattr(model, "inputs", None) or []
    shapes = [tuple(tensor.shape) for tensor in inputs]
    if len(shapes) != 1 or len(shapes[0]) != 4 or shapes[0][3] not in (1, 3):
        raise InvalidInputError(
            "The command line handles models with one image input of shape (batch, height, width, 1 or 3), but this "
            f"model has {len(shapes)} inputs: {shapes}. Use the Python API for it."
        )
    _, height, width, channels = shapes[0]
    size = size or _own_size(model, height, width)
    if size is None and None in (height, width):
        raise InvalidInputError(f"The model accepts images of any size, {shapes[0]}: add --size HEIGHT WIDTH.")
    given = (height, width) if size is None else tuple(size)
    if any(fixed not in (None, side) for fixed, side in zip((height, width), given, strict=True)):
        raise InvalidInputError(f"--size is {given}, but the model takes {(height, width)}; remove --size.")
    return (*given, channels)


def _own_size(model, height, width):
    """The size that a model's own preprocessor resizes to, where the model accepts any size; else None."""
    return getattr(getattr(model, "preprocessor", None), "image_size", None) if None in (height, width) else None


def known_methods(names: Iterable[str]) -> list[str]:
    """The names, each once, in their order.

    Raises:
        InvalidInputError: there is no method of one of these names; the message suggests the nearest.
    """
    for name in names:
        if name not in innvest_lite.ANALYZERS:
            hint = did_you_mean(name, list(innvest_lite.ANALYZERS))
            raise InvalidInputError(f'There is no method {name!r}.{hint} "innvest-lite methods" lists them.')
    return list(dict.fromkeys(names))


def with_softmax(model: Any) -> Any:
    """A new model with a softmax after the logits; after a single output, a sigmoid. The model itself is not changed."""
    import keras

    from innvest_lite.graph import passes, trace
    from innvest_lite.graph.recognized import is_softmax

    outputs = model.outputs
    if len(outputs) != 1:
        raise InvalidInputError(f"--logits is for models with one output, but this one has {len(outputs)}.")
    (head,) = passes.heads(passes.split_activations(trace(model)))
    if head:
        name = "softmax" if is_softmax(head[0]) else "sigmoid"
        raise InvalidInputError(f"The model ends in a {name}, not in logits; remove --logits.")
    activation = "sigmoid" if outputs[0].shape[-1] == 1 else "softmax"
    return keras.Model(model.inputs, keras.layers.Activation(activation)(outputs[0]))


def with_probabilities(model: Any, logits: bool = False, regression_fails: bool = False) -> Any:
    """The model, with a softmax behind it where it can be seen to end in logits, or --logits says that it does."""
    from innvest_lite.answers import LOGIT, kind_of

    if not logits:
        if len(model.outputs) != 1:
            return model
        explainer = innvest_lite.Gradient(model).explainer
        if explainer.targets.classes == 1 and not explainer.targets.is_dense and regression_fails:
            raise InvalidInputError(
                "The model gives one number without a sigmoid, as a regression does, of which there is no probability that "
                "could fall: its degradation cannot be measured. If it is the logit of two classes, say --logits."
            )
        seen = kind_of(explainer)
        if seen is None or seen[0] != LOGIT:
            return model
        say("The model ends in logits: probabilities are their softmax")
    return with_softmax(model)


def needs_patterns(method: str) -> bool:
    """Whether the method of this name explains with patterns; False for an unknown name."""
    from innvest_lite.analyzers.pattern import PatternAnalyzer

    known = innvest_lite.ANALYZERS.get(method)
    return known is not None and issubclass(known.analyzer, PatternAnalyzer)


def create(
    method: str, model: Any, patterns: innvest_lite.Patterns | None, prepare: Any = None, found: Any = None
) -> innvest_lite.Analyzer:
    """The analyzer of this name, with the patterns if it explains with patterns.

    Args:
        method: the name.
        model: the model.
        patterns: or None.
        prepare: of images, the preprocessor, which knows their bounds.
        found: of tables, the rows, which know what is absent.
    """
    options: dict[str, Any] = {"patterns": patterns} if needs_patterns(method) else {}
    options = defaults.with_reference(options, method, found)
    if prepare is not None:
        options = defaults.with_bounds(options, method, prepare, model.inputs[0].shape[-1])
    return innvest_lite.create_analyzer(method, model, **options)


def target_of(given: Any, analyzer: innvest_lite.Analyzer, labels: Sequence[str] | None) -> Any:
    """The value of --target as `analyze` takes it; a name of a class becomes its number.

    Raises:
        InvalidInputError: no class has this name, or the output has no positions where one is named.
    """
    targets = analyzer.explainer.targets
    if isinstance(given, tuple) and not targets.is_dense:
        raise InvalidInputError(
            f"--target {','.join(map(str, given))} names a position, but the model's output, of shape "
            f"{targets.shape}, has none."
        )
    places = [place for place, label in enumerate(labels or ()) if label == str(given)]
    if len(places) > 1 or (isinstance(given, int) and places and places != [given]):
        raise InvalidInputError(
            f"--target {given} may be the class of this number or one of {', '.join(map(str, places))}, which --labels "
            "names so: give it another name there."
        )
    if not isinstance(given, str) or given == "all":
        return given
    if labels is None or given not in labels:
        few = f" There are {', '.join(map(repr, labels))}." if labels and len(labels) <= 10 else ""
        hint = did_you_mean(given, list(labels)) + few if labels else " Name the classes with --labels."
        raise InvalidInputError(
            f'--target {given!r} is neither a whole number from 0, nor ROW,COLUMN,K, nor "all", nor a class.{hint}'
        )
    return list(labels).index(given)


def import_modules(names: Iterable[str]) -> None:
    """Imports modules of the user's, also from the folder one is in, so that Keras knows the classes registered there.

    Raises:
        InvalidInputError: a module cannot be imported.
    """
    names = list(names)
    if names and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    for name in names:
        try:
            importlib.import_module(name.removesuffix(".py"))
        except ImportError as error:
            raise InvalidInputError(
                f"--import {name}: {error}. It is imported as Python does, from this folder too."
            ) from error


def analyzer_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """The options that `analyze` passes to `create_analyzer`; pattern files are read here.

    Raises:
        NotFittedError: a pattern method without --patterns.
        InvalidInputError: --patterns for another method.
    """
    options = {**dict(arguments.option), "output": arguments.output_name}
    if getattr(arguments, "composite", None) is not None:
        options["rule"] = arguments.composite
    if not needs_patterns(arguments.method):
        if arguments.patterns and arguments.method in innvest_lite.ANALYZERS:
            raise InvalidInputError(f"The method {arguments.method!r} uses no patterns; remove --patterns.")
        return options
    if not arguments.patterns:
        places = f"{shlex.quote(arguments.model)} {shlex.join(getattr(arguments, 'images', None) or ['DATA'])}"
        raise NotFittedError(
            f"The method {arguments.method!r} explains with patterns, but --patterns is missing. Fit them once on data "
            f"like what the model is used on, innvest-lite fit {places} --out patterns.h5 (with the same "
            "--preprocess), then add --patterns patterns.h5."
        )
    return {**options, "patterns": innvest_lite.Patterns.load(arguments.patterns)}


def method_of(arguments: argparse.Namespace) -> str:
    """The method that was named, LRP where a composite was, or else what goes with the model and needs no fit.

    Raises:
        InvalidInputError: both were named.
    """
    if getattr(arguments, "composite", None) is not None:
        if arguments.method not in (None, "lrp"):
            raise InvalidInputError(f"--composite is for LRP, not for --method {arguments.method}; remove one of the two.")
        return "lrp"
    if arguments.method is None:
        from innvest_lite.pictured import by_itself

        model = load(arguments.model)
        texts = any(tensor.dtype == "string" for tensor in getattr(model, "inputs", None) or ())
        options = {"output": arguments.output_name}
        # Of texts, the model behind what makes tokens of them is explained, whose sizes are not known yet.
        name = "integrated_gradients" if texts else by_itself(model, options)[0]
        say(f'The method is {name}; --method chooses another ("innvest-lite methods" lists them)')
        return name
    return arguments.method


def named(arguments: argparse.Namespace) -> str:
    """What results are called after the method: its name, and that of a composite."""
    composite = getattr(arguments, "composite", None)
    return arguments.method if composite is None else f"lrp.{composite}"


def attributions(
    arguments: argparse.Namespace,
    analyzer: innvest_lite.Analyzer,
    names: Sequence[str],
    values: np.ndarray,
    powers: np.ndarray,
    said: Sequence[Any],
) -> Any:
    """What a command explained as `Attributions`, with its arguments as their settings.

    Args:
        arguments: of `analyze`.
        analyzer: that explained.
        names: of the samples.
        values: their explanations.
        powers: their exponents.
        said: their answers.
    """
    from innvest_lite.attributions import Attributions

    options = {"options": dict(arguments.option), "preprocess": arguments.preprocess, "target": arguments.target}
    settings = {"model": pathlib.Path(arguments.model).name, "innvest_lite": innvest_lite.__version__, **options}
    shown = analyzer.unit, analyzer.picture, analyzer.sign_tells
    return Attributions(values, tuple(names), tuple(said), named(arguments), powers, *shown, settings)
