"""Rooms keep to themselves: what starts with an underscore is used in the room that it stands in, and nowhere else."""

import ast
import pathlib

import innvest_lite

PACKAGE = pathlib.Path(innvest_lite.__file__).parent
# Where private names of Keras and of TensorFlow are used on purpose; each has a canary of its own.
OTHERS = {"graph/trace.py", "backend", "_lazy.py"}


def room_of(path):
    """The folder of a module within the package, or the module itself where it stands at the top."""
    return path.relative_to(PACKAGE).parts[0]


def is_private(name):
    return name.startswith("_") and not name.endswith("__")


def defined(tree):
    """The private names that a module gives: of functions, classes, variables and attributes of `self` and `cls`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


def used(tree):
    """`(line, name)` of private names that a module takes from something else than itself."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            if not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")):
                yield node.lineno, node.attr
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("innvest_lite"):
            yield from ((node.lineno, alias.name) for alias in node.names if is_private(alias.name))


def offenders(sources):
    """Uses of private names outside the room that gives them; `sources` maps paths to their text."""
    trees = {path: ast.parse(text) for path, text in sources.items()}
    given = {}
    for path, tree in trees.items():
        given.setdefault(room_of(path), set()).update(filter(is_private, defined(tree)))
    return [
        f"{path.relative_to(PACKAGE).as_posix()}:{line} {name}"
        for path, tree in trees.items()
        if not {path.relative_to(PACKAGE).as_posix(), room_of(path)} & OTHERS
        for line, name in used(tree)
        if name not in given[room_of(path)]
    ]


def sources():
    return {path: path.read_text() for path in PACKAGE.rglob("*.py")}


def test_no_private_name_is_used_across_rooms():
    # `innvest_lite._lazy` is the package's own, `os._exit` Python's.
    assert [row for row in offenders(sources()) if not row.endswith((" _lazy", " _exit"))] == []


def test_a_use_across_rooms_would_be_found():
    planted = sources()
    planted[PACKAGE / "metrics" / "signal.py"] += "\n\ndef look(analyzer):\n    return analyzer._fingerprints\n"
    planted[PACKAGE / "cli" / "demo.py"] += "\nfrom innvest_lite.analyzers.sweep import _total\n"
    found = offenders(planted)
    assert any(row.endswith(" _fingerprints") for row in found) and any(row.endswith(" _total") for row in found)
