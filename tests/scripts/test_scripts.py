"""All scripts: what they take from the package is there, they share `common` alone, each says how it is used."""

import ast
import importlib
import importlib.util
import re
import subprocess
import sys

import pytest
from loading import SCRIPTS

FILES = {str(path.relative_to(SCRIPTS)): path for path in sorted(SCRIPTS.rglob("*.py"))}
# What is called by its name; the peers of the race are called by it, in environments of their own.
COMMANDS = {name for name, path in FILES.items() if "__name__ ==" in path.read_text() and "race_peers" not in name}


def imports(path):
    """(module, name) of all that a script imports, also inside of its functions; a module alone has no name."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            yield from ((node.module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)


def is_module(name):
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def is_there(module, name):
    return is_module(module) and (
        not name or hasattr(importlib.import_module(module), name) or is_module(f"{module}.{name}")
    )


def test_what_they_import_of_the_package_is_there():
    taken = {pair: script for script, path in FILES.items() for pair in imports(path) if "innvest_lite" in pair[0]}
    assert len(taken) > 20
    assert not {(script, *pair) for pair, script in taken.items() if not is_there(*pair)}


def test_no_script_imports_another():
    modules = {path.stem: name for name, path in FILES.items() if name in COMMANDS}
    beside = [(script, path, module) for script, path in FILES.items() for module, _ in imports(path)]
    assert not {
        (script, module)
        for script, path, module in beside
        if module in modules and (path.parent / f"{module}.py") == FILES[modules[module]]
    }
    common = {f"common.{path.stem}" for path in (SCRIPTS / "common").glob("*.py")}
    assert {module for _, _, module in beside if module.startswith("common")} <= common


def test_what_texts_name_is_there():
    """Paths of scripts in the documentation, in notebooks, and in docstrings and comments of the package and the tests."""
    root = SCRIPTS.parent
    folders = ("docs", "innvest_lite", "notebooks", "scripts", "tests")
    texts = [root / "README.md", root / "CONTRIBUTING.md", root / "SECURITY.md"]
    texts += [path for folder in folders for path in (root / folder).rglob("*") if path.suffix in (".md", ".py", ".ipynb")]
    found = {path: re.findall(r"(?<![/\w])scripts/\w[\w/]*(?:\.\w+)?", path.read_text("utf-8")) for path in texts}
    named = {(str(path.relative_to(root)), name) for path, names in found.items() for name in names}
    assert len(named) > 30
    assert not {(text, name) for text, name in named if not (root / name).exists()}


@pytest.mark.slow
@pytest.mark.parametrize("name", [*sorted(COMMANDS), "examples/service"])
def test_each_says_how_it_is_used(name, tmp_path):
    """From another folder, as after a clone; what a script needs besides (a browser, JAX) is imported when it is needed."""
    done = subprocess.run([sys.executable, SCRIPTS / name, "--help"], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "usage:" in done.stdout
