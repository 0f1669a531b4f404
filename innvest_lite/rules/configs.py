"""Composites as plain data and back, for analyzers that are saved. Nothing is imported or run by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from innvest_lite.errors import InvalidInputError
from innvest_lite.rules import matchers
from innvest_lite.rules.base import RULES, Rule

# Those of the module alone: a file is data from strangers, and must not name what the module happens to import.
_MATCHERS = {
    cls.__name__: cls for cls in vars(matchers).values() if isinstance(cls, type) and cls.__module__ == matchers.__name__
}


def composite_to_config(composite: Iterable[tuple[Any, Any]]) -> list[list[dict[str, Any]]]:
    """A composite as lists, dicts, strings and numbers.

    Raises:
        InvalidInputError: a matcher is a user's function, which no file can hold.
    """
    return [[_matcher_to_config(matcher), _fields(rule, {})] for matcher, rule in composite]


def composite_from_config(config: Iterable[Any]) -> list[tuple[matchers.Matcher, Rule]]:
    """The composite that `composite_to_config` made a config of.

    Raises:
        InvalidInputError: a rule is not registered here.
    """
    unknown = sorted({rule["class"] for _, rule in config} - set(RULES))
    if unknown:
        raise InvalidInputError(f"The composite uses rules that are not registered: {', '.join(unknown)}.")
    return [(_matcher_from_config(matcher), _made(RULES[rule["class"]], rule)) for matcher, rule in config]


def _matcher_to_config(matcher):
    if not isinstance(matcher, matchers.Matcher):
        raise InvalidInputError(
            f"A composite with the function {matcher!r} cannot be saved; kind(), layer(), named(), first(), last() and "
            "until(), joined by &, | and ~, can."
        )
    nested = {
        field.name: _matcher_to_config(value)
        for field in dataclasses.fields(matcher)
        if callable(value := getattr(matcher, field.name))
    }
    return _fields(matcher, nested)


def _fields(value, nested):
    options = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return {"class": type(value).__name__, **options, **nested}


def _matcher_from_config(config):
    nested = {name: _matcher_from_config(value) for name, value in config.items() if isinstance(value, dict)}
    return _made(_MATCHERS[config["class"]], {**config, **nested})


def _made(cls, config):
    """An instance from its fields."""
    # JSON has made lists of tuples, and a frozen dataclass with a list could neither be compared nor hashed.
    options = {name: value for name, value in config.items() if name != "class"}
    return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in options.items()})
