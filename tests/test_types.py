"""Types: every public function, method and property of the package says what it takes and what it gives.

Whether what they say is true, mypy checks; how it is called stands in pyproject.toml.
"""

import ast
import pathlib

import pytest

import innvest_lite

PACKAGE = pathlib.Path(innvest_lite.__file__).parent


def is_public(name):
    """Names without an underscore, and those that Python itself calls, such as `__init__` and `__getitem__`."""
    return not name.startswith("_") or (name.startswith("__") and name.endswith("__"))


def public_functions(body, prefix=""):
    """`(qualified name, node)` of all public functions of a module and methods of its public classes."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and is_public(node.name):
            yield prefix + node.name, node
        elif isinstance(node, ast.ClassDef) and is_public(node.name):
            yield from public_functions(node.body, f"{prefix}{node.name}.")
        elif isinstance(node, ast.If | ast.Try | ast.With):
            yield from public_functions([*node.body, *getattr(node, "orelse", ())], prefix)


def without_type(function, is_method):
    """The parameters of a function that have no type, and "return" where what it gives has none."""
    given = function.args
    positional = [*given.posonlyargs, *given.args]
    static = any(isinstance(one, ast.Name) and one.id == "staticmethod" for one in function.decorator_list)
    named = positional[1:] if is_method and not static else positional
    parameters = [*named, *given.kwonlyargs, *filter(None, (given.vararg, given.kwarg))]
    missing = [parameter.arg for parameter in parameters if parameter.annotation is None]
    return missing + ["return"] * (function.returns is None)


def offenders(path, source):
    """All public functions of a module that lack a type, as "path:line name: what lacks it"."""
    for name, function in public_functions(ast.parse(source).body):
        missing = without_type(function, "." in name)
        if missing:
            yield f"{path}:{function.lineno} {name}: {', '.join(missing)}"


def test_the_public_surface_has_types():
    paths = sorted(PACKAGE.rglob("*.py"))
    functions = [name for path in paths for name, _ in public_functions(ast.parse(path.read_text()).body)]
    assert len(functions) > 500 and {"fit_patterns", "Analyzer.analyze", "Patterns.__getitem__"} <= set(functions)
    assert [row for path in paths for row in offenders(path.relative_to(PACKAGE).as_posix(), path.read_text())] == []


@pytest.mark.parametrize(
    "source, missing",
    [
        ("def f(x, y: int = 0) -> int: ...", "x"),
        ("def f(x: int): ...", "return"),
        ("def f(*args, key, **options: int) -> None: ...", "key, args"),
        ("class A:\n    def __init__(self, x) -> None: ...", "x"),
        ("class A:\n    @property\n    def size(self): ...", "return"),
        ("class A:\n    @staticmethod\n    def of(x) -> None: ...", "x"),
        ("try:\n    pass\nfinally:\n    pass\nif True:\n    pass\nelse:\n    def f() : ...", "return"),
    ],
)
def test_a_missing_type_would_be_found(source, missing):
    (row,) = offenders("planted.py", source)
    assert row.endswith(f": {missing}")


def test_what_is_private_needs_no_types():
    assert not list(offenders("planted.py", "def _f(x): ...\nclass _A:\n    def f(self, x): ..."))


def test_type_checkers_of_users_are_told():
    assert (PACKAGE / "py.typed").read_bytes() == b""
