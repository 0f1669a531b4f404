"""The notebooks: stored without outputs, made of names that there are, and run from top to bottom."""

import ast
import pathlib

import nbclient
import nbformat
import pytest

import innvest_lite

NOTEBOOKS = sorted((pathlib.Path(__file__).resolve().parents[2] / "notebooks").glob("*.ipynb"))


def read(path):
    return nbformat.read(path, 4)


def code_of(path):
    """All of a notebook's code; what starts with % or ! is a command of Jupyter's."""
    cells = [cell.source for cell in read(path).cells if cell.cell_type == "code"]
    return "\n".join(line for cell in cells for line in cell.split("\n") if not line.startswith(("%", "!")))


def test_all_are_there_without_outputs(subtests):
    assert [path.name[:2] for path in NOTEBOOKS] == [f"{number:02d}" for number in range(1, 9)]
    for path in NOTEBOOKS:
        notebook = read(path)
        with subtests.test(path.stem):
            nbformat.validate(notebook)
            assert notebook.cells[0].cell_type == "markdown"
            code = [cell for cell in notebook.cells if cell.cell_type == "code"]
            assert code and not any(cell.outputs or cell.execution_count is not None for cell in code)


def unknown(code):
    """What code takes from this package, and what is not there."""
    names, missing = {"innvest_lite": innvest_lite}, []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "innvest_lite":
            module = __import__(node.module, fromlist=["*"])
            missing += [one.name for one in node.names if not hasattr(module, one.name)]
            names.update({one.asname or one.name: getattr(module, one.name, None) for one in node.names})
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in names:
            missing += [] if hasattr(names[node.value.id], node.attr) else [f"{node.value.id}.{node.attr}"]
    return missing


def test_the_names_in_them_are_there():
    assert not {path.stem: found for path in NOTEBOOKS if (found := unknown(code_of(path)))}
    code = "from innvest_lite import visualise\nimport innvest_lite\ninnvest_lite.Gradent(model).analyze(x)"
    assert unknown(code) == ["visualise", "innvest_lite.Gradent"]


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs(path, tmp_path, monkeypatch):
    for name, value in {"MPLBACKEND": "agg", "TF_CPP_MIN_LOG_LEVEL": "2", "OMP_NUM_THREADS": "1"}.items():
        monkeypatch.setenv(name, value)
    notebook = read(path)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert shown and not [output for output in shown if output.output_type == "error"]
