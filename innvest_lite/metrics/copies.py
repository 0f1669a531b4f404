"""Working copies of a model whose weights may be changed: layers redrawn one by one, a bias that absorbs a shift.

In: the user's model, which is only read. Out: clones. Called by the sanity checks.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterable, Iterator
from typing import Any

import keras
import numpy as np

from innvest_lite.errors import InvalidInputError
from innvest_lite.graph import all_layers, trace

MODES = ("cascade", "independent")
ORIGINAL = "(original)"
_CONVOLUTIONS = (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)


def copy_of(model: keras.Model) -> keras.Model:
    """A clone with the same weights."""
    copy = _clone(model, 0)
    copy.set_weights(model.get_weights())
    return _finalized(copy)


def _clone(model, seed, **options):
    """A clone that is built; its draws leave the caller's generators as they are.

    Raises:
        InvalidInputError: Keras cannot clone it.
    """
    try:
        with _own_randomness(seed):
            return keras.models.clone_model(model, **options)
    except (TypeError, ValueError, AttributeError) as error:
        raise InvalidInputError(
            f"Keras cannot clone the model, which this test changes a copy of: {error} Layers and initializers of your own "
            "need a get_config and keras.saving.register_keras_serializable."
        ) from error


def _finalized(copy):
    """The copy, its preprocessing layers with the numbers that they derive from their weights."""
    for layer in all_layers(copy):
        if hasattr(layer, "finalize_state"):
            layer.finalize_state()
    return copy


def redrawn(model: keras.Model, seed: int) -> keras.Model:
    """A clone whose weights come from its layers' own initializers, the same for the same seed.

    The moving variance of a BatchNormalization stays above 0, whatever its initializer draws.

    Args:
        model: a Functional or Sequential `keras.Model`.
        seed: of all draws; seeds that the initializers bring along do not count, since they may be the training's.
    """
    copy = _clone(model, seed, clone_function=_unseeded_layer)
    for layer in weighted_layers(copy).values():
        if isinstance(layer, keras.layers.BatchNormalization):
            variance = np.abs(np.asarray(layer.moving_variance))
            layer.moving_variance.assign(np.where(variance > 0, variance, 1))
    return copy


def weighted_layers(model: keras.Model) -> dict[str, Any]:
    """Name -> layer, for all layers with weights from the input to the output; `outer/inner` inside nested models."""
    found: dict[str, Any] = {}
    for node in trace(model).nodes:
        layer = node.operation
        if getattr(layer, "weights", None) and not any(layer is other for other in found.values()):
            found[node.name] = layer
    return found


def randomized(model: keras.Model, names: Iterable[str], mode: str, seed: int) -> Iterator[tuple[str, keras.Model]]:
    """Yields a copy of the trained model, then the copy with one layer after the other redrawn.

    Args:
        model: the trained model.
        names: of layers, in the order in which they are redrawn.
        mode: "cascade": earlier layers stay redrawn. "independent": they get their trained weights back.
        seed: of the draws.

    Yields:
        `(name, copy)`, the first name being `ORIGINAL`; it is one copy, changed in place.
    """
    # By place, since a layer of the user's own may get another name in a clone.
    known, copy = list(weighted_layers(model)), copy_of(model)
    own, fresh = (dict(zip(known, weighted_layers(m).values(), strict=True)) for m in (copy, redrawn(model, seed)))
    yield ORIGINAL, copy
    for name in names:
        trained = own[name].get_weights()
        own[name].set_weights(fresh[name].get_weights())
        yield name, _finalized(copy)
        if mode == "independent":
            own[name].set_weights(trained)


def absorbing(model: keras.Model, shift: np.ndarray) -> keras.Model:
    """A copy f2 of f1 = `model` whose first layers' biases absorb a shift: f2(x + shift) = f1(x).

    Args:
        model: a model with one input, which goes into `Dense` layers and convolutions with padding "valid" only.
        shift: an array of one sample's shape.

    Raises:
        InvalidInputError: no bias can absorb the shift.
    """
    copy = _clone(model, 0, clone_function=_biased(_first_layers(model, shift)))
    for layer, own in zip(model.layers, copy.layers, strict=True):
        weights = layer.get_weights()
        missing = [np.zeros(variable.shape) for variable in own.weights[len(weights) :]]
        own.set_weights([*weights, *missing])
    for layer in _first_layers(copy, shift):
        kernel, bias = (np.asarray(weight, "float64") for weight in (layer.kernel, layer.bias))
        layer.bias.assign(bias - _answer(layer, kernel, shift))
    return _finalized(copy)


def _first_layers(model, shift):
    """The layers that take the input, if each of them can absorb the shift."""
    graph = trace(model)
    if len(graph.inputs) != 1:
        raise InvalidInputError(f"A shift can be absorbed in a model with one input, but this one has {len(graph.inputs)}.")
    nodes = graph.consumers.get(graph.inputs[0], [])
    calls = [node.operation for node in graph.nodes]
    for node in nodes:
        _refuse_first(node, sum(node.operation is operation for operation in calls), shift)
    return [node.operation for node in nodes]


def _refuse_first(node, calls, shift):
    layer, wants = node.operation, "The first layer should be Dense, or a convolution with padding 'valid'"
    convolves = isinstance(layer, _CONVOLUTIONS)
    if not (convolves or isinstance(layer, keras.layers.Dense)):
        raise InvalidInputError(f"{wants}, to absorb a shift of the input in its bias; {node.name} is a {node.kind}.")
    if convolves and layer.padding != "valid":
        raise InvalidInputError(
            f"{wants}; {node.name} has padding {layer.padding!r}, where zeros outside the image are not shifted."
        )
    if calls > 1:
        raise InvalidInputError(f"{node.name} is called {calls} times: a bias that absorbs the shift would count in each.")
    if not layer.use_bias and "/" in node.name:
        raise InvalidInputError(f"{node.name}, in a nested model, has no bias that could absorb a shift of the input.")
    by_position = _by_position(layer, shift)
    if (by_position != by_position[:1]).any():
        raise InvalidInputError(f"{node.name} looks at many positions alike: the shift should be the same at all of them.")


def _by_position(layer, shift):
    """The shift as (positions, channels)."""
    if getattr(layer, "data_format", None) == "channels_first":
        shift = np.moveaxis(shift, 0, -1)
    return shift.reshape(-1, shift.shape[-1])


def _answer(layer, kernel, shift):
    """What the shift adds to each unit."""
    channels = _by_position(layer, shift)[0]
    taps = kernel.reshape(-1, *kernel.shape[-2:]).sum(0)
    groups = getattr(layer, "groups", 1)
    parts = zip(np.split(channels, groups), np.split(taps, groups, axis=1), strict=True)
    return np.concatenate([part @ weights for part, weights in parts])


def _biased(layers):
    """A clone function that gives these layers a bias."""

    def clone(layer):
        bias = {"use_bias": True} if any(layer is one for one in layers) else {}
        return type(layer).from_config({**layer.get_config(), **bias})

    return clone


def _unseeded_layer(layer):
    return type(layer).from_config(_unseeded(layer.get_config()))


def _unseeded(config, of_initializer=False):
    """A copy of a layer's (or nested model's) config in which no initializer has a seed."""
    if isinstance(config, list | tuple):
        return type(config)(_unseeded(part, of_initializer) for part in config)
    if not isinstance(config, dict):
        return config
    return {
        key: None if of_initializer and key == "seed" else _unseeded(part, of_initializer or _names_initializer(key))
        for key, part in config.items()
    }


def _names_initializer(key):
    return isinstance(key, str) and key.endswith("initializer")


@contextlib.contextmanager
def _own_randomness(seed):
    """Keras draws the seeds of initializers from Python's generator; what the user gets from it must not change."""
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)
