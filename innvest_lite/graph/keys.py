"""The names of what a model gives in a dict. Called by `trace`."""

from __future__ import annotations

from typing import Any


def keys_of(outputs: Any) -> tuple[str, ...]:
    """The keys of a model's outputs, in their flat order, where it gives a dict; of what lies deeper, "key/0"."""
    return tuple(_paths(outputs, "")) if isinstance(outputs, dict) else ()


def _paths(outputs, path):
    if outputs is None:
        return []
    if not isinstance(outputs, dict | list | tuple):
        return [path[1:]]
    each = [(key, outputs[key]) for key in sorted(outputs)] if isinstance(outputs, dict) else enumerate(outputs)
    return [found for key, one in each for found in _paths(one, f"{path}/{key}")]
