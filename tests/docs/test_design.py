"""docs/design.md holds: every decision that is cited exists, and imports point downwards through its table of rooms."""

import ast
import pathlib
import re

import pytest
from pages import PAGES, ROOT

DESIGN = PAGES["docs/design.md"]
PACKAGE = ROOT / "innvest_lite"
# "module -> room" pairs that may point upwards: names that are loaded when they are asked for.
EXCEPTIONS = frozenset({"innvest_lite.visualize -> pictured"})


def decisions():
    """The numbers of the decisions, in order."""
    return [int(number) for number in re.findall(r"^(\d+)\. \*\*", DESIGN, re.MULTILINE)]


def cited(text):
    """The decisions that a text cites: `decision 9` or `decisions 3 and 13`, also over the end of a comment's line."""
    found = re.findall(r"decisions?[\s#]+(\d+(?:(?:,|,? and|,? to) \d+)*)", text)
    return {int(number) for numbers in found for number in re.findall(r"\d+", numbers)}


def layers():
    """Room -> its layer, from the table."""
    rows = re.findall(r"^\| (\d+) \| `(\w+)` \|", DESIGN, re.MULTILINE)
    return {room: int(layer) for layer, room in rows}


def modules(root):
    """Dotted name -> path, of all modules of the package in a folder."""
    paths = sorted((root / "innvest_lite").rglob("*.py"))
    return {".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


def room(module):
    """The room of a module by its dotted name: the part behind the package's name, or the package itself."""
    return module.split(".")[1] if "." in module else module


def imports(source, known):
    """The modules of this package that a source imports, anywhere in it, also inside functions; the version is none."""
    tree, found = ast.parse(source), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, "Imports inside the package are absolute."
            names = {f"{node.module}.{alias.name}" for alias in node.names} - {"innvest_lite.__version__"}
            found |= {name if name in known else node.module for name in names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name != "innvest_lite"}
        elif isinstance(node, ast.Attribute) and node.attr != "__version__" and _is_package(node.value):
            found.add("innvest_lite")
    return {name for name in found if name.partition(".")[0] == "innvest_lite"}


def _is_package(node):
    return isinstance(node, ast.Name) and node.id == "innvest_lite"


def upward(root, order):
    """All imports that do not point to a lower layer, as "module -> room"."""
    known, wrong = modules(root), []
    for module, path in known.items():
        for other in imports(path.read_text(encoding="utf-8"), known):
            above, below = order.get(room(module), 0), order.get(room(other), 0)
            if room(other) != room(module) and below >= above:
                wrong.append(f"{module} -> {room(other)}")
    return sorted(set(wrong) - EXCEPTIONS)


def test_the_decisions_are_numbered_in_order():
    assert decisions() == list(range(1, len(decisions()) + 1)) and len(decisions()) >= 20


def test_every_cited_decision_exists():
    paths = [path for folder in ("innvest_lite", "scripts", "tests", "docs") for path in (ROOT / folder).rglob("*.*")]
    texts = {path: path.read_text(encoding="utf-8") for path in paths if path.suffix in (".py", ".md")}
    # This file's own docstrings show what a citation looks like.
    places = {path: cited(text) for path, text in texts.items() if path != pathlib.Path(__file__)}
    assert sum(map(len, places.values())) >= 10
    assert not {path: numbers - set(decisions()) for path, numbers in places.items() if numbers - set(decisions())}
    nameless = [path for path in places if places[path] and path.suffix == ".py" and "docs/design.md" not in texts[path]]
    assert not nameless, "Say where the decisions are: docs/design.md, decision N"


def test_every_room_is_in_the_table():
    rooms = {room(module) for module in modules(ROOT)}
    assert rooms == set(layers()), "docs/design.md says which layer a room is of"


def test_imports_point_downwards():
    assert upward(ROOT, layers()) == []


@pytest.mark.parametrize(
    "source",
    [
        "from innvest_lite.analyzers import base",
        "from innvest_lite import analyzers",
        "import innvest_lite.analyzers",
        "def late():\n    from innvest_lite.analyzers.base import Analyzer",
        "import innvest_lite\nx = innvest_lite.Gradient",
        "from innvest_lite.forms import Form",
    ],
)
def test_imports_that_point_upwards_are_seen(source, tmp_path):
    folder = tmp_path / "innvest_lite"
    for name in ("__init__", "analyzers/__init__", "analyzers/base", "forms/__init__"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.py").write_text("", encoding="utf-8")
    planted = folder / "draws.py"
    planted.write_text("import innvest_lite\nfrom innvest_lite import errors\nversion = innvest_lite.__version__\n")
    (folder / "errors.py").write_text("")
    assert upward(tmp_path, layers()) == []
    planted.write_text(source)
    assert len(upward(tmp_path, layers())) == 1
