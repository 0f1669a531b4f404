"""One exception type per cause; every message says where, what was expected, what came and what to do.

All of them are `InnvestLiteError`, so that a service can catch the package's own errors in one place.
"""

import difflib
from collections.abc import Mapping


def did_you_mean(word, names):
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


class UnsupportedLayerError(InnvestLiteError, TypeError):
    """A model, or some of its layers, cannot be explained by the method; the message lists all offenders."""


class NotFittedError(InnvestLiteError, RuntimeError):
    """A pattern method was asked for an explanation before `fit`, and no `patterns=` were given."""


class PatternMismatchError(InnvestLiteError, ValueError):
    """Patterns or statistics belong to another model: names, shapes or the fingerprint of the weights differ."""


class InvalidInputError(InnvestLiteError, ValueError):
    """Data, a target or an option has a wrong shape, type, value or range."""


class ExportError(InnvestLiteError, RuntimeError):
    """A file format cannot hold an analyzer; the message names the operations that it lacks."""


class CorruptFileError(InnvestLiteError, OSError):
    """A pattern or statistics file is truncated, damaged, unsafe, or of an unknown format version."""
