"""What the project says of itself: versions once, bounds and CI the same, what ships is shipped."""

import pathlib
import re
import sys

import pytest

import innvest_lite

ROOT = pathlib.Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def project():
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has no reader of TOML")
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_the_version_stands_once(project):
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "innvest_lite.__version__"}
    assert "version" not in project["project"] and "version" in project["project"]["dynamic"]
    assert not re.search(r"^version:", (ROOT / "CITATION.cff").read_text(), flags=re.MULTILINE)
    assert f"## [{innvest_lite.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_ci_tries_the_lower_bounds(project):
    tried = re.findall(r"^\w.*==.*$", (ROOT / ".ci" / "lowest.txt").read_text(), flags=re.MULTILINE)
    assert [line.replace("==", ">=") for line in tried] == project["project"]["dependencies"]
    lowest = re.match(r">=(\d+)\.(\d+)", project["project"]["requires-python"]).groups()
    assert f"({', '.join(lowest)})" in (ROOT / ".ci" / "lowest").read_text()
    assert sys.version_info >= tuple(map(int, lowest))


def test_ci_calls_the_test_command_of_the_readme():
    (command,) = re.findall(r"^pip install .*pytest$", (ROOT / "README.md").read_text(), flags=re.MULTILINE)
    assert f'bash -c "{command}"' in (ROOT / ".ci" / "run").read_text()


def test_what_ships_is_named(project):
    package = pathlib.Path(innvest_lite.__file__).parent
    data = project["tool"]["setuptools"]["package-data"]
    named = {
        path.relative_to(package)
        for name, patterns in data.items()
        for pattern in patterns
        for path in package.joinpath(*name.split(".")[1:]).glob(pattern)
    }
    there = {
        path.relative_to(package) for path in package.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")
    }
    assert named == there and pathlib.Path("py.typed") in named
