"""One exception type per cause; every message says where, what was expected, what came and what to do.

All of them are `InnvestLiteError`, so that a service can catch the package's own errors in one place.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Mapping, Sequence


def did_you_mean(word: object, names: Sequence[str] | Mapping[str, str]) -> str:
    """The part of a message that suggests the nearest name: " Did you mean 'x'?", or nothing where none is near.

    Args:
        word: what was given.
        names: the known names, or a mapping to them from how they are spelled.

    Returns:
        A str, which begins with a space unless it is empty.
    """
    nearest = difflib.get_close_matches(str(word), names, n=1)
    if not nearest:
        return ""
    return f" Did you mean {(names[nearest[0]] if isinstance(names, Mapping) else nearest[0])!r}?"


class InnvestLiteError(Exception):
    """The base of every error that this package raises on purpose."""


@dataclasses.dataclass(frozen=True)
class UnsupportedNode:
    """A node of a model that a method cannot explain.

    Attributes:
        name: the node's name, as `plan()` prints it.
        layer: the class of its layer or operation, as `plan()` prints it: "LSTM", "Dense (linear)".
        reason: why it cannot be explained, as part of a sentence.
    """

    name: str
    layer: str
    reason: str


class UnsupportedLayerError(InnvestLiteError, TypeError):
    """A model, or some of its layers, cannot be explained by the method; the message lists every such node.

    Args:
        message: what happened, and, where no nodes are listed, what to do.
        nodes: the nodes that cannot be explained; the message lists them by layer class.
        advice: what to do, put behind the list.

    Attributes:
        nodes: a tuple of `UnsupportedNode`; empty where the model as a whole is the cause.

    Example:
        >>> error = UnsupportedLayerError("No rule for:", [UnsupportedNode("lstm", "LSTM", "no rule matches")])
        >>> print(error)
        No rule for:
          LSTM: lstm
        >>> error.nodes[0].name
        'lstm'
    """

    def __init__(self, message: str, nodes: Iterable[UnsupportedNode] = (), advice: str = "") -> None:
        self.nodes = tuple(nodes)
        super().__init__("\n".join(part for part in (message, *_by_layer(self.nodes), advice) if part))


def _by_layer(nodes):
    """A line for each layer class, in order of appearance."""
    names = {}
    for node in nodes:
        # Names are others' text: one with the end of a line in it could look like a line of ours.
        names.setdefault(node.layer, []).append(node.name if node.name.isprintable() else repr(node.name)[1:-1])
    return [f"  {layer}: {', '.join(found)}" for layer, found in names.items()]


class NotFittedError(InnvestLiteError, RuntimeError):
    """A pattern method was asked for an explanation before `fit`, and no `patterns=` were given."""


class PatternMismatchError(InnvestLiteError, ValueError):
    """Patterns or statistics belong to another model: names, shapes or the fingerprint of the weights differ."""


class InvalidInputError(InnvestLiteError, ValueError):
    """Data, a target or an option has a wrong shape, type, value or range."""


class UnknownOptionError(InvalidInputError, TypeError):
    """There is no option of this name; the message names ours for it. Also a TypeError, as Python's own."""


class ExportError(InnvestLiteError, RuntimeError):
    """A file format cannot hold an analyzer; the message names the operations that it lacks."""


class CorruptFileError(InnvestLiteError, OSError):
    """A pattern or statistics file is truncated, damaged, unsafe, or of an unknown format version."""
