"""Every public name is documented: what it takes with its shape, what it gives, what it raises, where it comes from."""

import ast
import importlib
import inspect
import re
import textwrap

import pytest

import innvest_lite
from innvest_lite.errors import InnvestLiteError, InvalidInputError

MODULES = (
    *("analyzers", "callbacks", "data", "datasets", "errors", "export", "forms", "graph", "images", "metrics", "patterns"),
    *("preprocessing", "report", "rules", "visualize"),
)
# What is computed follows a paper, which is named; these do not.
NO_PAPER = {"Analyzer", "ReverseAnalyzer", "Input", "Random", "Rule", "Evaluated", "TokenSum"}
# Arguments that are arrays, whose shapes must be said.
ARRAYS = {"x", "images", "relevance", "signal", "volume", "picture", "pictures", "inputs", "explanations"}


def _public():
    """Qualified name -> object: all that `__all__` names, or a module without one defines, and its public methods."""
    found = {}
    for module in [innvest_lite, *(importlib.import_module(f"innvest_lite.{name}") for name in MODULES)]:
        for name in _names(module):
            value = getattr(module, name)
            if callable(value):
                found.setdefault(f"{value.__module__}.{value.__qualname__}", value)
                if inspect.isclass(value):
                    found.update(_methods(value))
    return found


def _names(module):
    if hasattr(module, "__all__"):
        return module.__all__
    return [n for n, value in vars(module).items() if n[0] != "_" and getattr(value, "__module__", 0) == module.__name__]


def _methods(cls):
    return {
        f"{cls.__module__}.{cls.__qualname__}.{name}": getattr(cls, name)
        for name, value in vars(cls).items()
        if name[0] != "_" and (inspect.isfunction(value) or isinstance(value, (classmethod, staticmethod)))
    }


PUBLIC = _public()
FUNCTIONS = {name: value for name, value in PUBLIC.items() if not inspect.isclass(value)}


def section(text, title):
    """What stands under a title of a docstring, "" where there is no such."""
    found = re.search(rf"^{title}:\n(.*?)(?=^\w|\Z)", text, re.DOTALL | re.MULTILINE)
    return found[1] if found else ""


def documentation(value):
    """The docstring; a method without its own has that of the class above that it overrides."""
    return inspect.getdoc(value) or ""


def parameters(value):
    """The names of what it takes."""
    try:
        found = inspect.signature(value).parameters.values()
    except ValueError:
        return []
    named = [one.name for one in found if one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)]
    return [name for name in named if name not in ("self", "cls") and name[0] != "_"]


def tree(function):
    return ast.parse(textwrap.dedent(inspect.getsource(function)))


def raised(function):
    """The names of this package's errors that the very body raises."""
    exceptions = [node.exc for node in ast.walk(tree(function)) if isinstance(node, ast.Raise)]
    names = {call.func.id for call in exceptions if isinstance(call, ast.Call) and isinstance(call.func, ast.Name)}
    known = {name for name, value in vars(innvest_lite.errors).items() if inspect.isclass(value)}
    return names & known


@pytest.mark.parametrize("name", PUBLIC)
def test_it_is_documented(name):
    first, *rest = documentation(PUBLIC[name]).split("\n")
    assert first.endswith((".", ":")) and (not rest or not rest[0]), f"{name}: {first!r}"


def overrides(function):
    """Whether a class above has a method of this name, which says what it takes and gives."""
    home = vars(importlib.import_module(function.__module__))
    cls = home.get(function.__qualname__.rpartition(".")[0])
    return cls is not None and any(function.__name__ in vars(base) for base in cls.__mro__[1:])


OWN = {name: value for name, value in FUNCTIONS.items() if not overrides(value)}


@pytest.mark.parametrize("name", OWN)
def test_what_a_function_takes_and_gives(name):
    text, taken = documentation(OWN[name]), parameters(OWN[name])
    place = text if len(taken) < 2 else section(text, "Args")
    missing = [one for one in taken if not re.search(rf"\b{one}\b", place)]
    assert not missing, f"{name} does not say what {missing} are"
    returns = any(isinstance(node, ast.Return) and node.value is not None for node in ast.walk(tree(OWN[name])))
    assert len(taken) < 2 or not returns or section(text, "Returns"), f"{name} does not say what it returns"
    for one in ARRAYS.intersection(taken):
        assert re.search(r"\(\w[^()]*,[^()]*\)|shape|as in `|as `", text), f"{name} does not say the shape of {one}"


@pytest.mark.parametrize("name", PUBLIC)
def test_what_is_raised(name):
    value = PUBLIC[name]
    text = documentation(value)
    bodies = [vars(value).get(one) for one in ("__init__", "__post_init__")] if inspect.isclass(value) else [value]
    written = [body for body in bodies if body and body.__code__.co_filename.endswith(".py")]
    missing = {error for body in written for error in raised(body) if error not in text}
    assert not missing, f"{name} does not name {missing}"


def _sources():
    """What follows a paper: all analyzers, rules and measures."""
    rules = importlib.import_module("innvest_lite.rules")
    metrics = importlib.import_module("innvest_lite.metrics")
    classes = [value for value in vars(rules).values() if inspect.isclass(value) and issubclass(value, rules.Rule)]
    measures = [getattr(metrics, name) for name in metrics.__all__ if inspect.isfunction(getattr(metrics, name))]
    analyzers = [method.analyzer for method in innvest_lite.ANALYZERS.values()]
    every = [value for value in (*analyzers, *classes, *measures) if value.__name__ not in NO_PAPER]
    return {f"{value.__module__}.{value.__qualname__}": value for value in every}


@pytest.mark.parametrize("name", _sources())
def test_where_it_comes_from(name):
    value = _sources()[name]
    assert re.search(r"arXiv \d{4}\.\d{4,5}|doi 10\.\d{4,}/|et al\. \d{4}", documentation(value)), f"{name} names no paper"


def test_the_checks_see_what_is_missing():
    def scale(x, factor):  # noqa: D417 (that is the point)
        """Scales.

        Args:
            x: numbers.
        """
        if factor == 0:
            raise InvalidInputError("No.")
        return x * factor

    text = documentation(scale)
    assert parameters(scale) == ["x", "factor"] and "x:" in section(text, "Args") and "factor" not in section(text, "Args")
    assert not section(text, "Returns") and raised(scale) == {"InvalidInputError"}
    assert issubclass(InvalidInputError, InnvestLiteError)
    assert len(PUBLIC) > 250 and len(OWN) > 100
