"""What editors see: names that are loaded late are completed, and the list for editors is the list that is loaded."""

import ast
import pathlib

import jedi
import pytest

import innvest_lite

SOURCE = pathlib.Path(innvest_lite.__file__)


# What it has read of the package is read once.
PROJECT = jedi.Project(SOURCE.parent.parent, added_sys_path=[str(SOURCE.parent.parent)])


def names_for_editors():
    """Module -> names, in the block that only type checkers and editors read."""
    blocks = [node for node in ast.parse(SOURCE.read_text()).body if isinstance(node, ast.If)]
    (block,) = [node for node in blocks if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"]
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    assert all(alias.asname == alias.name for node in imports for alias in node.names)
    return {node.module: {alias.name for alias in node.names} for node in imports}


def test_editors_see_what_is_loaded():
    expected = {home: set(names) for home, names in innvest_lite._HOMES.items()}
    assert names_for_editors() == {**expected, "innvest_lite": set(innvest_lite._MODULES)}


@pytest.mark.parametrize(
    "code, name",
    [
        ("import innvest_lite\ninnvest_lite.Pat", "PatternAttribution"),
        ("import innvest_lite\nanalyzer = innvest_lite.PatternAttribution(model)\nanalyzer.ana", "analyze"),
        ("import innvest_lite\nanalyzer = innvest_lite.create_analyzer('gradient', model)\nanalyzer.ana", "analyze"),
        ("import innvest_lite\npatterns = innvest_lite.fit_patterns(model, x)\npatterns.rep", "report"),
        ("import innvest_lite\ninnvest_lite.visualize.heat", "heatmap"),
    ],
)
def test_names_are_completed(code, name):
    found = [completion.name for completion in jedi.Script(code, project=PROJECT).complete()]
    assert name in found
