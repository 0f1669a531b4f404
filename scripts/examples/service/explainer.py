"""An exported SavedModel as a function from an encoded image to what is answered, with TensorFlow alone.

`Explainer(folder)` loads what `analyzer.export` wrote, or raises `Unsuitable`. Called by the service.
"""

import base64
import json
import pathlib
import re
import threading
import urllib.parse

import tensorflow as tf
from still_image import Refused

# Images that are decoded and explained at a time: all others wait as they came, encoded.
_AT_ONCE = 2
PIXELS = 1_000_000
"""What a model of any size is given of an image at most: its memory is a multiple of them, of its own."""

DECODERS = {"image/png": tf.io.decode_png, "image/jpeg": tf.io.decode_jpeg}
_ADVICE = 'Export with analyzer.export(folder, preprocess="unit", render="heatmap"), or with another preprocess.'
# What a signature may take besides the image; a seed is 0 where the request does not say it.
_ARGUMENTS = {
    "target": lambda number: tf.constant([number], tf.int32),
    "seed": lambda number: tf.constant(number, tf.int64),
}


class Unsuitable(Exception):
    """A SavedModel that cannot be served."""


class Explainer:
    """An exported SavedModel as a function from an encoded image to what is answered.

    Args:
        folder: what `analyzer.export` wrote.
        pixels: the most that the model is given of an image, where it takes any size.

    Raises:
        Unsuitable: there is no such SavedModel.
    """

    def __init__(self, folder, pixels=PIXELS):
        versions = sorted(path.parent.name for path in pathlib.Path(folder).glob("*/saved_model.pb"))
        if versions:
            raise Unsuitable(f"{str(folder)!r} is a folder of SavedModels; name one of them: {', '.join(versions)}.")
        try:
            # Its variables live as long as it does.
            self._loaded = tf.saved_model.load(str(folder))
            description = description_of(folder)
            self.method = description["method"]
        except (OSError, ValueError, TypeError, KeyError, RuntimeError, tf.errors.OpError) as error:
            raise Unsuitable(f"{str(folder)!r} cannot be loaded as a SavedModel: {error}") from error
        if "serve" not in self._loaded.signatures:
            names = ", ".join(self._loaded.signatures) or "none"
            raise Unsuitable(f"Expected a signature called serve, as analyzer.export writes it; there is: {names}.")
        self._serve = self._loaded.signatures["serve"]
        check_signature(self._serve)
        self.height, self.width, self.channels = self._serve.structured_input_signature[1]["x"].shape[1:]
        # One unit behind a sigmoid is two classes: 1, and 0 with the rest.
        self._classes = description.get("classes") or self._serve.structured_outputs["predictions"].shape[1]
        self._takes = set(self._serve.structured_input_signature[1]) - {"x"}
        self._predict = self._loaded.signatures.get("predict")
        if "target" in self._takes and self._predict is None:
            raise Unsuitable(
                "Expected a signature called predict, as analyzer.export writes it, for requests without target."
            )
        self._turns, self._pixels_at_most = threading.Semaphore(_AT_ONCE), pixels

    def arguments(self, query):
        """What the query of a request says besides the image, name -> tensor.

        Raises:
            Refused: it says something else.
        """
        try:
            pairs = urllib.parse.parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query), max_num_fields=8)
        except ValueError:
            pairs = [("", "")]
        given, takes = dict(pairs), " and ".join(sorted(self._takes)) or "nothing"
        if set(given) - self._takes or len(given) < len(pairs):
            raise Refused(400, f"This explainer takes {takes} in the query, each once, as in ?NAME=NUMBER.")
        if not all(re.fullmatch("[0-9]{1,18}", text) for text in given.values()):
            raise Refused(400, "Expected whole numbers of at least 0 in the query.")
        numbers = {**dict.fromkeys(self._takes - {"target"}, 0), **{name: int(text) for name, text in given.items()}}
        if "target" in self._takes and numbers.get("target", 0) >= self._classes:
            raise Refused(400, f"Expected ?target=K with the class to explain, from 0 to {self._classes - 1}.")
        return {name: _ARGUMENTS[name](number) for name, number in numbers.items()}

    def __call__(self, body, content_type, **arguments):
        """What is answered for an image that passed `check_image`, and what `arguments` gave.

        Where nobody said a target, it is what is predicted.
        """
        with self._turns:
            results = self._explained(self._pixels(body, content_type), arguments)
            heatmap = tf.io.encode_png(results["picture"][0]).numpy()
        target, predictions = int(results["target"][0]), results["predictions"][0].numpy().tolist()
        return {
            "target": target,
            "score": self._scores(predictions)[target],
            "predictions": predictions,
            "heatmap": base64.b64encode(heatmap).decode(),
        }

    def _scores(self, predictions):
        """The prediction for each class."""
        alone = len(predictions) == 1 and self._classes == 2
        return [1 - predictions[0], predictions[0]] if alone else predictions

    def _predicted(self, pixels):
        """The class that is predicted."""
        scores = self._scores(self._predict(x=pixels)["predictions"][0].numpy().tolist())
        return scores.index(max(scores))

    def _explained(self, pixels, arguments):
        try:
            if "target" in self._takes - set(arguments):
                arguments = {"target": _ARGUMENTS["target"](self._predicted(pixels)), **arguments}
            return self._serve(x=pixels, **arguments)
        except tf.errors.InvalidArgumentError as error:
            if self.height and self.width:
                raise
            size = " x ".join(map(str, pixels.shape[1:3]))
            raise Refused(400, f"Expected an image of a size that the model takes; it fails on {size} pixels.") from error

    def _pixels(self, body, content_type):
        """The image as the model takes it: uint8 (1, height, width, channels)."""
        try:
            image = DECODERS[content_type](body, channels=self.channels)
        except tf.errors.InvalidArgumentError as error:
            raise Refused(
                400, f"Expected a whole {content_type} in grey or RGB, but this one is damaged or other."
            ) from error
        size = self.height or image.shape[0], self.width or image.shape[1]
        if None in (self.height, self.width) and size[0] * size[1] > self._pixels_at_most:
            most, found = self._pixels_at_most, f"{size[0]} x {size[1]}"
            raise Refused(413, f"Expected an image of at most {most} pixels for this model, but it would get {found}.")
        resized = tf.image.resize(image[None], size, "bilinear", antialias=True)
        return tf.saturate_cast(tf.round(tf.cast(resized, tf.float32)), tf.uint8)


def description_of(folder):
    """What an exported analyzer says of itself; of another SavedModel, only what it is."""
    path = pathlib.Path(folder) / "assets.extra" / "description.json"
    return json.loads(path.read_text()) if path.exists() else {"method": "SavedModel"}


def check_signature(function):
    """Raises `Unsuitable` where a signature does not make pictures of explanations from uint8 images."""
    inputs, outputs = function.structured_input_signature[1], function.structured_outputs
    if "x" not in inputs or set(inputs) - {"x", *_ARGUMENTS}:
        raise Unsuitable(f"Expected serve to take one image, x, but it takes {', '.join(inputs)}.")
    _check_tensor("x", inputs["x"], 4, (tf.uint8,))
    if inputs["x"].shape[3] not in (1, 3):
        raise Unsuitable(f"Expected x to have 1 or 3 channels, but its shape is {inputs['x'].shape}.")
    wanted = {"target": (1, (tf.int32,)), "predictions": (2, (tf.float32, tf.float64)), "picture": (4, (tf.uint8,))}
    for name, (rank, dtypes) in wanted.items():
        if name not in outputs:
            raise Unsuitable(f"Expected serve to give {name}, but it gives {', '.join(outputs)}. {_ADVICE}")
        _check_tensor(name, outputs[name], rank, dtypes)


def _check_tensor(name, tensor, rank, dtypes):
    """Raises `Unsuitable` for another rank or dtype, or for batches that one image is none of."""
    shape = tensor.shape
    if tensor.dtype not in dtypes or shape.rank != rank or shape[0] not in (None, 1):
        found = f"{tensor.dtype.name} of shape {shape}"
        raise Unsuitable(
            f"Expected {name} to be {dtypes[0].name} of {rank} axes, the first for 1 image, but it is {found}. {_ADVICE}"
        )
