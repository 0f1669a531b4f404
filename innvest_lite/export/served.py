"""`Served`: an analyzer as functions of named tensors, the endpoints of an exported file."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

from keras import ops

from innvest_lite import backend
from innvest_lite.backend import formats
from innvest_lite.errors import InvalidInputError
from innvest_lite.export.pictures import RENDERERS
from innvest_lite.forms.inputs import TOKENS, spatial_axes
from innvest_lite.inputs import check_shape
from innvest_lite.options import one_of, positive, truth
from innvest_lite.preprocessing import FOREIGN_ERRORS, Preprocessor
from innvest_lite.visualize.colormaps import colors_of

TARGETS = ("argmax", "input")
# What an exported function takes besides the model's inputs.
_OWN = ("target", "seed")


class Served:
    """What an exported analyzer takes and gives; see `Analyzer.export`.

    Args:
        analyzer: an `Analyzer` that can explain.
        target: "argmax" or "input".
        predictions: whether the model's output is handed out too.
        batch: the number of samples, or None for any.
        preprocess: what a `Preprocessor` takes: inputs are uint8 images; None: the analyzer's own, where it has one.
        render: None, "heatmap", "signal" or "overlay": pictures are handed out too.
        colormap: of the pictures.
        checks: whether a target out of range stops the program; without, its attributions are NaN. LiteRT and ONNX
            programs cannot stop.
        echoes: whether a target that came in is handed out again; ONNX's inputs and outputs cannot share a name.

    Raises:
        InvalidInputError: an option is unknown, or does not fit the model.
    """

    def __init__(
        self,
        analyzer: Any,
        target: str,
        *,
        predictions: bool,
        batch: int | None,
        preprocess: Any,
        render: str | None,
        colormap: str,
        checks: bool,
        echoes: bool,
    ) -> None:
        self.analyzer, self.colormap, self.checks, self.echoes = analyzer, colormap, checks, echoes
        self.target = one_of(target, TARGETS, "target")
        self.batch = None if batch is None else positive(batch, "batch")
        # Texts are prepared before: their tokens are what comes.
        own = None if TOKENS in analyzer.explainer.inputs.kinds else analyzer.preprocessor
        self.preprocessor = own if preprocess is None else Preprocessor.of(preprocess)
        self.render = render if render is None else one_of(render, tuple(RENDERERS), "render")
        self.predictions = truth(predictions, "predictions")
        self._explainer = analyzer.explainer
        self._inputs, self._outputs = self._explainer.inputs, self._explainer.output.shape
        if self.batch is not None and self._inputs.batch not in (None, self.batch):
            raise InvalidInputError(f"The model takes {self._inputs.batch} samples at a time: batch should not be {batch}.")
        self.batch = self._inputs.batch or self.batch
        self._targets = self._explainer.targets
        if self.target == "input" and self._targets.classes is None:
            raise InvalidInputError(
                f"The model's output has shape {self._outputs}, where one number names no output: export with "
                "target='argmax'."
            )
        self._prepare = self._preprocessing()
        self._check_pictures()

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the inputs: "x" where there is one."""
        if len(self._inputs.names) == 1:
            return ("x",)
        names: list[str] = []
        for name in map(_identifier, self._inputs.names):
            while name in (*names, *_OWN):
                name += "_"
            names.append(name)
        return tuple(names)

    def endpoints(self, names: Iterable[str]) -> dict[str, Any]:
        """Name -> a traced function of named tensors that returns a dict of them.

        Args:
            names: some of "serve", "explain" and "predict", in this order.
        """
        inputs, others = self._input_specs(), self._other_specs()
        serve = functools.cache(lambda: self._endpoint(self._serve, [*inputs, *others]))
        # Without predictions, they are the same.
        functions: dict[str, Callable[[], Any]] = {"serve": serve, "explain": serve}
        if self.predictions:
            functions["explain"] = lambda: formats.endpoint(_without_predictions(serve()), [*inputs, *others])
            functions["predict"] = lambda: self._endpoint(self._predict, inputs)
        return {name: functions[name]() for name in names if name in functions}

    def _endpoint(self, function, signature):
        """What XLA compiles lies within: it drops checks."""
        compiled = backend.within(function, self.analyzer.jit_choice is True)

        def checked(*tensors):
            given = {spec.name: tensor for spec, tensor in zip(signature, tensors, strict=True)}
            if "target" in given:
                given["target"] = self._in_range(given["target"])
            return self._filled(compiled, given)

        return formats.endpoint(checked if self.checks else compiled, signature)

    def _filled(self, function, given):
        """Without a sample, one of zeros goes through: TensorFlow's gradient of max pooling would end the process."""
        if self.batch is not None:
            return function(*given.values())
        samples = ops.shape(given[self.names[0]])[0]
        filled = [x if name == "seed" else backend.at_least_one(x) for name, x in given.items()]
        return {name: x[:samples] for name, x in function(*filled).items()}

    def _input_specs(self):
        dtypes = self._inputs.dtypes if self.preprocessor is None else ("uint8",)
        shapes = [(self.batch, *shape[1:]) for shape in self._inputs.shapes]
        return [formats.named_spec(*spec) for spec in zip(shapes, dtypes, self.names, strict=True)]

    def _other_specs(self):
        specs = [formats.named_spec((self.batch,), "int32", "target")] if self.target == "input" else []
        return [*specs, *([formats.named_spec((), "int64", "seed")] if self.analyzer.is_random else [])]

    def _serve(self, *tensors):
        found, results = self._explained(tensors)
        if self.predictions:
            results["predictions"] = self._plain(self._explainer.predictions(found.logits))
        return results

    def _predict(self, *tensors):
        logits = self._explainer.logits(self._prepare(tensors))
        return {"predictions": self._plain(self._explainer.predictions(logits))}

    def _explained(self, tensors):
        """An `Explained`, and what is handed out of it."""
        given, others = tensors[: len(self.names)], list(tensors[len(self.names) :])
        target = others.pop(0) if self.target == "input" else None
        inputs = self._prepare(given)
        within = None if target is None else ops.logical_and(target >= 0, target < self._targets.classes)
        weights = None if target is None else self._explainer.weights_of_classes(inputs, ops.where(within, target, 0))
        around = self._explainer.round(inputs[0], others.pop(0) if others else None)
        found = self._explainer.explain(inputs, weights, around=around)
        relevance = [self._plain(tensor) for tensor in found.relevance]
        keys = ["attributions"] if len(relevance) == 1 else [f"attributions_{name}" for name in self.names]
        results = dict(zip(keys, relevance, strict=True))
        if target is None:
            target = self._targets.largest(found.logits)
        if self.echoes or self.target == "argmax":
            results["target"] = target
        if self.render is not None:
            shown = relevance[0] if within is None else _where(within, relevance[0], 0.0)
            results["picture"] = RENDERERS[self.render](shown, given[0], self.colormap)
        if within is not None and not self.checks:
            results.update({name: _where(within, results[name], float("nan")) for name in keys})
        return found, results

    def _in_range(self, target):
        """The target, behind a check when the program runs that the model has such outputs."""
        count = self._targets.classes
        message = f"target is out of range: the model has outputs 0 to {count - 1}, but got"
        return backend.require_within(target, count, message)

    def _plain(self, tensor):
        """float32, as `analyze` gives it; float64 for a model with float64 inputs."""
        return ops.cast(tensor, "float64" if "float64" in self._inputs.dtypes else "float32")

    def _preprocessing(self):
        """From what comes to what the model takes."""
        if self.preprocessor is None:
            return list
        self.preprocessor.check(self._image_shape("preprocess")[-1])
        return self._prepared

    def _prepared(self, tensors):
        try:
            prepared = self.preprocessor.tensors(tensors[0])
        except FOREIGN_ERRORS as error:
            raise InvalidInputError(
                f"The preprocessor {self.preprocessor.name!r} cannot be part of an exported program: {error} (It has "
                "to be of TensorFlow's or Keras's operations.)"
            ) from error
        check_shape(tuple(prepared.shape), self._inputs.names[0], self._inputs.shapes[0])
        return [ops.cast(prepared, self._inputs.dtypes[0])]

    def _check_pictures(self):
        colors_of(self.colormap)
        if self.render is not None:
            channels = self._image_shape("render")[-1]
            if self.render != "heatmap" and channels not in (1, 3):
                raise InvalidInputError(f"render={self.render!r} wants 1 or 3 channels, but the input has {channels}.")

    def _image_shape(self, option):
        """The shape of the model's only input, an image with its channels last."""
        shapes = self._inputs.shapes
        channel = len(shapes) == 1 and len(shapes[0]) == 4 and spatial_axes(self._explainer.graph, 4)[1]
        if channel != 3 or shapes[0][3] is None:
            raise InvalidInputError(
                f"{option}= is for models with one input of images, (batch, height, width, channels), but this model's "
                f"inputs have the shapes {list(shapes)}."
            )
        return shapes[0]


def _without_predictions(serve):
    """A call of what is served already, neither traced nor written again; TensorFlow computes what is asked for."""

    def explain(*tensors):
        return {name: value for name, value in serve(*tensors).items() if name != "predictions"}

    return explain


def _where(samples, x, other):
    """The values of some samples, and another number for all of the others."""
    return ops.where(ops.reshape(samples, (-1, *[1] * (len(x.shape) - 1))), x, ops.cast(other, x.dtype))


def _identifier(name):
    """A name that a signature may have as an argument."""
    name = "".join(letter if letter.isalnum() and letter.isascii() else "_" for letter in name)
    return name if name[:1].isalpha() else f"x_{name}"
