"""The notebooks: stored with outputs, made of names that there are, and run from top to bottom to the same outputs."""

import ast
import base64
import copy
import io
import pathlib

import nbformat
import numpy as np
import pytest
from loading import load_script
from PIL import Image

import innvest_lite

ROOT = pathlib.Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
# Run by the quick tests; .ci/run runs all.
LARGEST, ALL = 1_500_000, 6_000_000
PNG = "image/png"


@pytest.fixture(scope="module")
def script():
    return load_script("common/notebooks")


def read(path):
    return nbformat.read(path, 4)


def code_cells(path):
    return [cell for cell in read(path).cells if cell.cell_type == "code"]


def code_of(path):
    """All of a notebook's code; what starts with % or ! is a command of Jupyter's."""
    cells = [cell.source for cell in code_cells(path)]
    return "\n".join(line for cell in cells for line in cell.split("\n") if not line.startswith(("%", "!")))


def test_all_are_there_with_outputs(subtests):
    assert [path.name[:2] for path in NOTEBOOKS] == [f"{number:02d}" for number in range(1, 9)]
    for path in NOTEBOOKS:
        with subtests.test(path.stem):
            notebook, code = read(path), code_cells(path)
            nbformat.validate(notebook)
            assert notebook.cells[0].cell_type == "markdown"
            assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
            outputs = [output for cell in code for output in cell.outputs]
            assert not [one for one in outputs if one.output_type == "error" or one.get("name") == "stderr"]
            assert any(PNG in one.get("data", {}) for one in outputs)
            assert "assert " in code_of(path)


def test_they_are_small_and_name_no_machine():
    sizes = [path.stat().st_size for path in NOTEBOOKS]
    assert max(sizes) < LARGEST
    assert sum(sizes) < ALL
    texts = [path.read_text("utf-8") for path in NOTEBOOKS]
    assert not [part for part in ("/home/", "/root/", "/tmp/", "site-packages") for text in texts if part in text]


def test_the_index_names_each():
    index = (ROOT / "notebooks/README.md").read_text("utf-8")
    assert [path.name for path in NOTEBOOKS if f"]({path.name})" not in index] == []


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


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, id=path.stem, marks=pytest.mark.slow) for path in NOTEBOOKS],
)
def test_it_runs_to_what_is_stored(script, path):
    """Where this fails because the package shows something else now, `scripts/make/notebooks.py` stores that."""
    assert script.differences(read(path), script.executed(path)) == []


def output(text="", **data):
    """A notebook of one cell with an output."""
    shown = nbformat.v4.new_output("display_data", data) if data else nbformat.v4.new_output("stream", text=text)
    cell = nbformat.v4.new_code_cell("", outputs=[shown], id="a")
    return nbformat.v4.new_notebook(cells=[cell])


@pytest.mark.parametrize(
    ("stored", "new", "same"),
    [
        ("accuracy 0.9917 of 600", "accuracy 0.9917 of 600", True),
        ("accuracy 0.9917 of 600", "accuracy 0.9916 of 600", True),
        ("accuracy 0.9917 of 600", "accuracy 0.9817 of 600", False),
        ("accuracy 0.9917 of 600", "accuracy 0.9917 of 601", False),
        ("accuracy 0.9917 of 600", "precision 0.9917 of 600", False),
        ("accuracy 0.9917 of 600", "accuracy 0.9917", False),
        ("a 12.5  b\n-------  -", "a 12.4999  b\n----------  -", True),
        ("rest 3.1e-08", "rest -2.2e-09", True),
        ("rest 3.1e-02", "rest -3.1e-02", False),
        ("logit 22.24", "logit 222.4", False),
        ("conv1_1 relu.safe", "conv1_2 relu.safe", False),
        ("all of 405,600", "all of 405,601", False),
    ],
)
def test_texts_are_compared(script, stored, new, same):
    assert (script.differences(output(stored), output(new)) == []) == same


def test_tables_and_words_are_compared(script):
    def page(number, word="not", red=103):
        ink = "#fff" if red < 105 else "#111"
        span = f'<span style="background:rgb({red},0,31);color:{ink};padding:2px" title="{number}">{word}</span>'
        return output(**{"text/html": span, "text/plain": "<HTML>"})

    stored = page("+0.123")
    assert script.differences(stored, page("+0.124", red=105)) == []
    assert "is +0.223, stored is +0.123" in script.differences(stored, page("+0.223"))[0]
    assert "'dull', stored is 'not'" in script.differences(stored, page("+0.123", "dull"))[0]
    assert "rgb(203,0,31)" in script.differences(stored, page("+0.123", red=203))[0]


def encoded(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def test_pictures_are_compared(script):
    """One digit of a sheet that is another's is seen; noise of one of 255 is not."""
    stored = read(ROOT / "notebooks/01_quickstart.ipynb")
    cell = next(cell for cell in stored.cells if cell.id == "cell-05")
    pixels = np.asarray(next(picture for id, picture in script.pictures_of(stored) if id == cell.id))

    def with_pixels(changed):
        new = copy.deepcopy(stored)
        place = stored.cells.index(cell)
        new.cells[place].outputs[0].data[PNG] = encoded(changed)
        return script.differences(stored, new)

    noisy = np.clip(pixels.astype(int) + np.random.default_rng(0).integers(-1, 2, pixels.shape), 0, 255).astype("uint8")
    assert with_pixels(noisy) == []
    # A cell has 112 pixels and a hairline, and 8 between: the second digit's heat map in place of the first one's.
    other = pixels.copy()
    other[270:386, 136:250] = pixels[270:386, 256:370]
    assert (other != pixels).any()
    assert with_pixels(other)[0].startswith("cell-05: pixels of a picture differ by")
    assert with_pixels(pixels[:-1])[0].startswith("cell-05: a picture has")
    assert with_pixels(255 - pixels)


def test_outputs_are_counted(script):
    stored = read(ROOT / "notebooks/02_why_patterns.ipynb")
    for change in ("fewer", "more", "other"):
        new = copy.deepcopy(stored)
        outputs = next(cell.outputs for cell in new.cells if cell.id == "cell-03")
        if change == "fewer":
            outputs.clear()
        elif change == "more":
            outputs.append(outputs[0])
        else:
            del outputs[0].data[PNG]
        assert "outputs are" in script.differences(stored, new)[0]


def test_what_was_trained_may_differ_in_numbers_alone(script):
    def trained(text, size=8):
        made = output(**{"text/plain": text, PNG: encoded(np.zeros((size, 8, 3), "uint8") + len(text))})
        made.cells[0].metadata["tags"] = [script.TRAINED]
        return made

    stored = trained("right about 0.93")
    assert script.differences(stored, trained("right about 0.9")) == []
    assert script.differences(stored, trained("wrong about 0.93"))
    assert script.differences(stored, trained("right about 0.93", 9))
    assert script.differences(trained("right"), trained("right 1.0"))


def test_notes_of_tensorflow_are_not_kept(script):
    notes = "WARNING: All log messages before absl::InitializeLog() is called\nI0000 00:00:1 port.cc:1] oneDNN\n"
    assert script._of_tensorflow(nbformat.v4.new_output("stream", name="stderr", text=notes))
    assert not script._of_tensorflow(nbformat.v4.new_output("stream", name="stderr", text=f"{notes}E0000 1] lost"))
    assert not script._of_tensorflow(nbformat.v4.new_output("stream", name="stdout", text=notes))
