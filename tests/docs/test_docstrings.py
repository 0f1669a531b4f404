"""Every public name is documented: what it takes with its shape, what it gives, what it raises, where it comes from."""

import ast
import importlib
import inspect
import re
import textwrap

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


def test_all_is_documented():
    assert not undocumented(PUBLIC)


def undocumented(values):
    """The names of those whose docstring has no first line of its own."""
    lines = {name: documentation(value).split("\n") for name, value in values.items()}
    return [name for name, (first, *rest) in lines.items() if not first.endswith((".", ":")) or any(rest[:1])]


def overrides(function):
    """Whether a class above has a method of this name, which says what it takes and gives."""
    home = vars(importlib.import_module(function.__module__))
    cls = home.get(function.__qualname__.rpartition(".")[0])
    return cls is not None and any(function.__name__ in vars(base) for base in cls.__mro__[1:])


OWN = {name: value for name, value in FUNCTIONS.items() if not overrides(value)}


def test_what_functions_take_and_give():
    missing = {name: unsaid(value) for name, value in OWN.items()}
    assert not {name: found for name, found in missing.items() if found}


def unsaid(function):
    """What of its arguments, their shapes and its result a function's docstring does not say."""
    text, taken = documentation(function), parameters(function)
    place = text if len(taken) < 2 else section(text, "Args")
    missing = [one for one in taken if not re.search(rf"\b{one}\b", place)]
    returns = any(isinstance(node, ast.Return) and node.value is not None for node in ast.walk(tree(function)))
    if len(taken) > 1 and returns and not section(text, "Returns"):
        missing.append("Returns")
    shapes = re.search(r"\(\w[^()]*,[^()]*\)|shape|as in `|as `", text)
    return missing + [f"shape of {one}" for one in ARRAYS.intersection(taken) if not shapes]


def test_what_is_raised():
    missing = {name: unnamed_errors(value) for name, value in PUBLIC.items()}
    assert not {name: found for name, found in missing.items() if found}


def unnamed_errors(value):
    """The package's errors that a function, or the making of a class, raises and that its docstring does not name."""
    bodies = [vars(value).get(one) for one in ("__init__", "__post_init__")] if inspect.isclass(value) else [value]
    written = [body for body in bodies if body and body.__code__.co_filename.endswith(".py")]
    return {error for body in written for error in raised(body) if error not in documentation(value)}


def _sources():
    """What follows a paper: all analyzers, rules and measures."""
    rules = importlib.import_module("innvest_lite.rules")
    metrics = importlib.import_module("innvest_lite.metrics")
    classes = [value for value in vars(rules).values() if inspect.isclass(value) and issubclass(value, rules.Rule)]
    measures = [getattr(metrics, name) for name in metrics.__all__ if inspect.isfunction(getattr(metrics, name))]
    analyzers = [method.analyzer for method in innvest_lite.ANALYZERS.values()]
    every = [value for value in (*analyzers, *classes, *measures) if value.__name__ not in NO_PAPER]
    return {f"{value.__module__}.{value.__qualname__}": value for value in every}


def test_where_it_comes_from():
    sources = {name: documentation(value) for name, value in _sources().items()}
    paper = r"arXiv \d{4}\.\d{4,5}|doi 10\.\d{4,}/|et al\. \d{4}"
    assert len(sources) > 40 and not [name for name, text in sources.items() if not re.search(paper, text)]


def test_the_checks_see_what_is_missing():
    def scale(x, factor):  # noqa: D417 (that is the point)
        """Scales

        Args:
            x: numbers.
        """
        if factor == 0:
            raise InvalidInputError("No.")
        return x * factor

    assert undocumented({"scale": scale}) == ["scale"]
    assert unsaid(scale) == ["factor", "Returns", "shape of x"]
    assert unnamed_errors(scale) == {"InvalidInputError"} and issubclass(InvalidInputError, InnvestLiteError)
    assert len(PUBLIC) > 250 and len(OWN) > 100
