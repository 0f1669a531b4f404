"""A user's functions inside an analyzer, such as a preprocessor or a target: what a file can hold of them.

Called by `preprocessing` and by the analyzers.
"""

from __future__ import annotations

import inspect
from typing import Any

import keras

from innvest_lite.errors import InvalidInputError


def is_registered(function: Any) -> bool:
    """Whether Keras can write a function, or an object that can be called, down, and make it again from that."""
    if isinstance(function, keras.Layer):
        return True
    is_function = inspect.isroutine(function)
    kind = function if is_function else type(function)
    return (is_function or hasattr(function, "get_config")) and keras.saving.get_registered_name(kind) != kind.__name__


def is_known_class(layer: Any) -> bool:
    """Whether Keras knows a layer's class without being told: its own, or one that is registered."""
    kind = type(layer)
    return kind.__module__.partition(".")[0] == "keras" or keras.saving.get_registered_name(kind) != kind.__name__


def config_of(function: Any) -> Any:
    """What a file can hold of a function: Keras's config where it is registered, else the function itself."""
    return keras.saving.serialize_keras_object(function) if is_registered(function) else function


def from_config(config: Any) -> Any:
    """The function that `config_of` described."""
    return keras.saving.deserialize_keras_object(config) if isinstance(config, dict) else config


def name_of(function: Any) -> str:
    """Its name, for messages and descriptions."""
    if inspect.isroutine(function):
        return f"{function.__module__}.{function.__qualname__}"
    return type(function).__qualname__


def check_saveable(function: Any, what: str) -> None:
    """Raises InvalidInputError where Keras could save a function but not load it again; `what` it is, for the message."""
    if not is_registered(function) or (isinstance(function, keras.Layer) and not is_known_class(function)):
        raise InvalidInputError(
            f"{what} {name_of(function)!r} cannot be saved: make it a layer or a function that is registered with "
            "@keras.saving.register_keras_serializable()."
        )


def checked_function(given: Any) -> Any:
    """A target that is a function; None stays None.

    Raises:
        InvalidInputError: it is something else.
    """
    if given is None or callable(given):
        return given
    raise InvalidInputError(
        f"The target of an analyzer is a function of the model's outputs, but is {given!r}; classes and weights are said "
        "with the samples: analyze(x, target=...)."
    )


def refuse_function(target: Any) -> None:
    """Raises InvalidInputError for a target that is a function, where an analyzer has to be made with it."""
    if callable(target):
        raise InvalidInputError(
            "A function of the model's outputs is a target of an analyzer's analyze, call and check. Elsewhere, hand an "
            "analyzer that is made with it, such as Gradient(model, target=function), and leave the target out."
        )
