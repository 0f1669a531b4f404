"""KernelSHAP: Shapley values of parts of the input, estimated by the package shap from what the model says without others.

The only method that leaves TensorFlow: shap draws coalitions and solves its regression in NumPy, the model is asked batch
by batch. So it explains arrays, by `analyze`, and no tensors.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from innvest_lite import backend
from innvest_lite.analyzers.base import Analyzer
from innvest_lite.analyzers.explained import Explained
from innvest_lite.analyzers.explainer import Explainer
from innvest_lite.analyzers.references import References, from_config
from innvest_lite.analyzers.strategy import Round, Strategy
from innvest_lite.errors import InvalidInputError
from innvest_lite.forms.inputs import MASK, input_axes
from innvest_lite.functions import check_saveable, config_of, from_config as function_from
from innvest_lite.graph import Graph
from innvest_lite.inputs import InputSpec
from innvest_lite.options import as_array, positive, seed_of

# Along each axis of an image, a series or a volume.
PATCHES = 8


@dataclasses.dataclass(frozen=True, eq=False)
class Coalitions(Strategy):
    """Shapley values of the parts of the input.

    Attributes:
        background: what stands in place of parts that are left out.
        segments: see `KernelSHAP`.
        channels: for each input, its axis of channels or None; the whole is None where an input has no parts.
        masks: how many coalitions are asked for; None: as shap chooses.
        seed: of the draws.
    """

    background: References
    segments: Any
    channels: tuple
    masks: int | None
    seed: int

    differs = True

    def check_inputs(self, arrays: list) -> None:
        """See `Strategy.check_inputs`."""
        self.background.check_inputs(arrays)

    def explain(self, explainer: Explainer, inputs: Any, weights: Any, keep: tuple, around: Round) -> Explained:
        """Refuses tensors: shap works on arrays."""
        raise InvalidInputError(
            f"{explainer.method} explains arrays, by analyze: shap draws and solves in NumPy, which no graph of TensorFlow "
            "can hold, so that it cannot be called on tensors, exported or compiled. Occlusion, which hides parts too, can."
        )

    def on_arrays(self, explainer: Explainer, arrays: list, weights: Any, batch_size: int) -> tuple[list, np.ndarray]:
        """See `Strategy.on_arrays`."""
        outputs = explainer.logits_of(arrays, batch_size)
        weights = explainer.targets.predicted(outputs) if weights is None else weights.reshape(outputs.shape)
        found = [np.zeros(array.shape) for array in arrays]
        for row in range(len(arrays[0])):
            sample = [array[row : row + 1] for array in arrays]
            for place, part in enumerate(self._one(explainer, sample, weights[row], batch_size)):
                found[place][row] = part
        return found, (outputs * weights).sum(1)

    def measured_from(self, explainer: Explainer, inputs: Any) -> Any:
        """See `Strategy.measured_from`: the mean over the background."""
        given = self.background.arrays or [np.zeros(())] * len(inputs)

        def body(number: Any, state: Any) -> tuple:
            shown = [
                x if channel is None else ops.broadcast_to(_row(ops.convert_to_tensor(one, x.dtype), number), ops.shape(x))
                for x, one, channel in zip(inputs, given, self.channels, strict=True)
            ]
            return (state[0] + ops.cast(explainer.logits(shown), "float32"),)

        start = ops.zeros_like(explainer.logits(inputs), dtype="float32")
        return backend.loop(self.background.count, body, (start,))[0] / self.background.count

    def _backgrounds(self, arrays: list) -> list:
        """The background as arrays of samples; of what has no parts, the first sample's."""
        count, given = self.background.count, self.background.arrays or [np.zeros(())] * len(arrays)
        return [
            np.broadcast_to(array[:1] if labels is None else reference, (count, *array.shape[1:])).astype(array.dtype)
            for array, reference, labels in zip(arrays, given, self.channels, strict=True)
        ]

    def _one(self, explainer: Explainer, sample: list, weights: np.ndarray, batch_size: int) -> list:
        """The attributions of one sample."""
        labels, count = self._labels(explainer, sample)
        backgrounds = self._backgrounds(sample)

        def value(coalitions: np.ndarray) -> np.ndarray:
            """The explained output where only these parts are there, mean over the background."""
            rows = [coalitions[start : start + batch_size] for start in range(0, len(coalitions), batch_size)]
            return np.concatenate([some(part) for part in rows])

        def some(coalitions: np.ndarray) -> np.ndarray:
            shown = [None if one is None else coalitions[:, one].astype(bool) for one in labels]
            total = np.zeros(len(coalitions))
            for number in range(self.background.count):
                given = [
                    np.repeat(x, len(coalitions), axis=0) if where is None else np.where(where, x, other[number])
                    for x, where, other in zip(sample, shown, backgrounds, strict=True)
                ]
                total += (explainer.logits_of(given, batch_size) * weights).sum(1)
            return total / self.background.count

        found = shapley_values(value, count, self.masks, self.seed)
        shares = found / np.maximum(sum(_sizes(one, count) for one in labels if one is not None), 1)
        return [np.zeros(x.shape[1:]) if one is None else shares[one] for x, one in zip(sample, labels, strict=True)]

    def _labels(self, explainer: Explainer, sample: list) -> tuple[list, int]:
        """For each input the number of the part that each value belongs to, in the shape of a sample, and how many."""
        total = 0
        found: list[Any] = []
        for place, (x, channel) in enumerate(zip(sample, self.channels, strict=True)):
            if channel is None:
                found.append(None)
                continue
            sizes = tuple(size for axis, size in enumerate(x.shape[1:], start=1) if axis != channel)
            given = self._given(explainer.inputs, place)
            labels = _as_labels(given(x[0]) if callable(given) else given, sizes, channel > 0)
            labels = np.unique(labels, return_inverse=True)[1].reshape(sizes)
            total, labels = total + labels.max() + 1, labels + total
            whole = np.expand_dims(labels, channel - 1) if channel > 0 else labels
            found.append(np.broadcast_to(whole, x.shape[1:]))
        return found, total

    def _given(self, inputs: InputSpec, place: int) -> Any:
        """The segments of one input."""
        if isinstance(self.segments, dict):
            return self.segments.get(inputs.names[place])
        if isinstance(self.segments, list | tuple) and len(inputs.names) > 1:
            return self.segments[place]
        return self.segments


def shapley_values(value: Callable[[np.ndarray], np.ndarray], count: int, masks: int | None, seed: int) -> np.ndarray:
    """The Shapley values of `count` players by shap's KernelExplainer: float64 (count,).

    Args:
        value: of coalitions (coalitions, count) of 0 and 1, their values (coalitions,).
        count: how many players.
        masks: how many coalitions are asked for; None: as shap chooses.
        seed: of the draws.

    Raises:
        InvalidInputError: shap is not installed, or so few coalitions leave the values open.
    """
    enough = min(2 * count, 2**count - 2)
    if masks is not None and masks < enough:
        raise InvalidInputError(
            f"masks={masks} coalitions do not tell {count} parts apart: ask for at least {enough}, or make fewer parts, "
            "segments=."
        )
    shap = _shap()
    before = np.random.get_state()
    # shap draws from NumPy's global generator, which is somebody else's.
    np.random.seed(seed % 2**32)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            explainer = shap.KernelExplainer(value, np.zeros((1, count)))
            # Without it, shap would set all but a few values to 0.
            options = {"l1_reg": False, "silent": True, "nsamples": "auto" if masks is None else masks}
            return np.asarray(explainer.shap_values(np.ones((1, count)), **options), "float64").reshape(count)
    finally:
        np.random.set_state(before)


def _row(x, number):
    return ops.take(x, [number], axis=0) if len(x.shape) and x.shape[0] > 1 else x


def _shap() -> Any:
    """The package shap.

    Raises:
        InvalidInputError: it is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import shap
    except ImportError as error:
        raise InvalidInputError(
            "KernelSHAP needs the package shap, which is not installed: pip install 'innvest_lite[shap]' (or shap). "
            "expected_gradients, occlusion and deep_lift need no package."
        ) from error
    return shap


def _sizes(labels: np.ndarray, count: int) -> np.ndarray:
    return np.bincount(labels.reshape(-1), minlength=count)


def _as_labels(given: Any, sizes: tuple, has_channels: bool) -> np.ndarray:
    """A label for each position: those given, a patch each, or, where there are no channels, a part each."""
    if given is None and has_channels:
        patches = [np.arange(size) * min(size, PATCHES) // size for size in sizes]
        return np.ravel_multi_index(np.meshgrid(*patches, indexing="ij"), [min(size, PATCHES) for size in sizes])
    if given is None:
        return np.arange(np.prod(sizes)).reshape(sizes)
    labels = as_array(given, "segments")
    if labels.shape != sizes or labels.dtype.kind not in "iu":
        raise InvalidInputError(
            f"segments should be whole numbers of shape {sizes}, a label for each position, or a function that gives them, "
            f"but is {labels.dtype} of shape {labels.shape}."
        )
    return labels


@keras.saving.register_keras_serializable(package="innvest_lite")
class KernelSHAP(Analyzer):
    """KernelSHAP (Lundberg and Lee 2017, arXiv 1705.07874): Shapley values of parts, by the package shap.

    What each part adds to the explained output, in the mean over all orders in which parts can come to a background,
    estimated by a weighted regression on random coalitions (eq. 8 and theorem 2); of up to about a dozen parts all
    coalitions are asked for, and the values are exact. Each part's value is spread evenly over its values. Unit: logits;
    they sum to f(x) - f(background). `pip install 'innvest_lite[shap]'`.

    Args:
        model: a Functional or Sequential `keras.Model`.
        background: what stands in place of parts that are left out: a number, a sample, or several samples
            (samples, ...), over which the output's mean is taken; or a list or a dict of these for several inputs; None: 0.
        segments: the parts, of an input with channels: whole numbers (height, width), a label for each position, or a
            function from a sample (height, width, channels) to them, such as `skimage.segmentation.slic`. None: patches, 8
            along each axis; in a table and in a text, each column and each token is a part. For several inputs a list or a
            dict of these.
        masks: how many coalitions are asked for; None: as many as shap chooses, 2048 and two for each part.
        seed: of the draws; the same for each sample, whatever `batch_size`.
        **options: as in `Analyzer`.

    Raises:
        InvalidInputError: the background does not fit the model. In `analyze`: shap is not installed, the segments do not
            fit the sample, or masks are too few for so many parts.

    Example:
        >>> import keras, numpy as np, innvest_lite
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        >>> innvest_lite.KernelSHAP(model, background=0.5).analyze(np.ones((1, 3))).shape
        (1, 3)
    """

    hands_back = False
    unit = "logits"

    def __init__(
        self,
        model: Any,
        background: Any = None,
        *,
        segments: Any = None,
        masks: int | None = None,
        seed: int = 0,
        **options: Any,
    ) -> None:
        self.masks, self.seed = None if masks is None else positive(masks, "masks"), seed_of(seed)
        self._segments = backend.Untracked(segments)
        self._background = backend.Untracked(background)
        super().__init__(model, **options)

    def strategy(self, graph: Graph, inputs: InputSpec) -> Strategy:
        """See `Analyzer.strategy`.

        Raises:
            InvalidInputError: the background does not fit the model.
        """
        shapes = [spec.shape for spec in graph.input_specs]
        hidden = [kind != MASK and dtype != "string" for kind, dtype in zip(inputs.kinds, inputs.dtypes, strict=True)]
        axes = [input_axes(graph, *each)[1] for each in zip(shapes, inputs.kinds, strict=True)]
        # 0 is no axis of channels: there, each value is a part.
        channels = tuple((axis or 0) if has else None for axis, has in zip(axes, hidden, strict=True))
        background = References.of(self._background.value, inputs, several=True, option="background")
        return Coalitions(background, self._segments.value, channels, self.masks, self.seed)

    def check_saveable(self) -> None:
        """See `Configured.check_saveable`; a function that gives the segments has to be registered too."""
        super().check_saveable()
        if callable(self._segments.value):
            check_saveable(self._segments.value, "The function of segments")

    def get_config(self) -> dict:
        """The model and the options, as Keras serializes them."""
        strategy: Any = self.explainer.strategy
        segments = self._segments.value
        written = config_of(segments) if callable(segments) else _plain(segments)
        own = {"background": strategy.background.config, "segments": written, "masks": self.masks, "seed": self.seed}
        return {**super().get_config(), **own}

    @classmethod
    def from_config(cls, config: dict) -> KernelSHAP:
        """An analyzer from `get_config`."""
        segments = config["segments"]
        segments = function_from(segments) if isinstance(segments, dict) and "class_name" in segments else segments
        return super().from_config({**from_config(config, "background"), "segments": segments})


def _plain(segments):
    """Labels as lists of numbers, also in a list or a dict."""
    if isinstance(segments, dict):
        return {name: _plain(one) for name, one in segments.items()}
    if isinstance(segments, list | tuple):
        return [_plain(one) for one in segments]
    return segments.tolist() if hasattr(segments, "tolist") else segments
