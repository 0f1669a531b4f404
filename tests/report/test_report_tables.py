"""Tables on the report page: which rows, which classes, and bars that say the numbers of the Python API."""

import re

import keras
import numpy as np
import pytest
from command_line import fails, run
from test_report import Elements

import innvest_lite
from innvest_lite import InvalidInputError
from innvest_lite.report import Sample, charts, page

NAMES = ("age", "weight", "dose")


@pytest.fixture
def table(tmp_path):
    keras.utils.set_random_seed(0)
    stack = [keras.layers.Dense(4, activation="relu"), keras.layers.Dense(2, activation="softmax")]
    model = keras.Sequential([keras.Input((3,)), *stack])
    model.save(tmp_path / "model.keras")
    cells = np.random.default_rng(0).normal(2, 1, size=(12, 3)).astype("float32")
    (tmp_path / "t.csv").write_text("\n".join([",".join(NAMES), *(",".join(map(repr, row)) for row in cells.tolist())]))
    np.save(tmp_path / "t.npy", cells)
    return tmp_path, model, cells


def bars_of(path):
    """Row -> the texts that its charts say, in the order of the methods."""
    text, found = path.read_text(encoding="utf-8"), {}
    Elements(text)
    for one in re.findall(r"<article .*?</article>", text, flags=re.DOTALL):
        (name,) = re.findall(r'data-name="([^"]*)"', one)
        found[name] = re.findall(r'aria-label="([^"]*)"', one)
    return found


def test_bars_are_the_numbers_of_the_python_api(table):
    folder, model, cells = table
    options = ("--methods", "integrated_gradients,pattern.attribution", "--labels", "no,yes", "-o", folder / "page.html")
    assert run("report", folder / "model.keras", folder / "t.csv", *options) == 0
    patterns = innvest_lite.fit_patterns(model, cells, verbose=0)
    expected = {
        "integrated_gradients": innvest_lite.create_analyzer(
            "integrated_gradients", model, reference_inputs=cells.mean(0)
        ).analyze(cells),
        "pattern.attribution": innvest_lite.PatternAttribution(model, patterns=patterns).analyze(cells),
    }
    found = bars_of(folder / "page.html")
    assert list(found) == [f"t.csv[{number}]" for number in range(12)]
    for number, said in enumerate(found.values()):
        for (method, values), text in zip(expected.items(), said, strict=True):
            assert text.startswith(f"{method} of t.csv[{number}]: ")
            shown = dict(re.findall(r"(\w+) = [^ ,]+ ([-+][^ ,]+)", text))
            assert {name: float(one) for name, one in shown.items()} == pytest.approx(
                dict(zip(NAMES, values[number].astype(float), strict=True)), rel=6e-3, abs=1e-6
            )
    predicted = model.predict(cells, verbose=0)
    text = (folder / "page.html").read_text()
    for row in predicted:
        assert f"{['no', 'yes'][row.argmax()]}: {100 * row.max():.1f} %" in text
    assert 'id="overlay"' not in text and "Bars to the right" in text


def test_rows_are_drawn_and_arrays_have_names_too(table, capsys):
    folder, _, _ = table
    options = ("--methods", "gradient", "--limit", 5, "--columns", "a,b,c", "-o", folder / "page.html")
    assert run("report", folder / "model.keras", folder / "t.npy", *options) == 0
    assert "5 of 12 rows are shown" in capsys.readouterr().out
    found = bars_of(folder / "page.html")
    numbers = [int(name[6:-1]) for name in found]
    assert len(numbers) == 5 and numbers == sorted(numbers) and "a = " in next(iter(found.values()))[0]
    np.save(folder / "x.npy", np.zeros((2, 4, 4, 1)))
    assert "rows of a table for a model with one input" in fails(capsys, "report", folder / "model.keras", folder / "x.npy")


def test_charts_of_bars():
    """Lengths are in proportion, sides by sign; many columns are summed, and long names keep their value."""
    text = charts.bars([("a", 2.0), ("b", -1.0), ("c", 0.0)], "m")
    widths = [float(one) for one in re.findall(r'<rect x="[\d.]+" y="\d+" width="([\d.]+)"', text)]
    lefts = [float(one) for one in re.findall(r'<rect x="([\d.]+)"', text)]
    assert widths == [80.0, 40.0, 0.0] and lefts == [316.0, 276.0, 316.0]
    many = [(f"n{number}", float(number - 10)) for number in range(20)]
    said = re.findall(r'aria-label="([^"]*)"', charts.bars(many, "m"))[0]
    numbers = [float(one) for one in re.findall(r" ([-+][\d.e+-]+)", said)]
    assert "8 others" in said and sum(numbers) == pytest.approx(sum(number for _, number in many))
    assert len(re.findall("<rect", charts.bars(many[:13], "m"))) == 13, "one that is left has its own name"
    assert "… = 12.5" in charts.bars([("a_very_long_name_of_a_column = 12.5", 1.0)], "m")
    assert "<b>" not in charts.bars([("<b>", 1.0)], "<b>")
    for wrong in ([], [("a", np.nan)]):
        with pytest.raises(InvalidInputError, match="Bars should be finite"):
            charts.bars(wrong, "m")


def test_rows_and_images_side_by_side():
    image = np.zeros((4, 4, 3), "uint8")
    both = [Sample("a", image, (), {"m": image}, {"m": np.ones((4, 4))}), Sample("b", None, (), bars={"m": [("x", 1.0)]})]
    elements = Elements(page("t", both))
    assert [one["class"] for one in elements.of("article")] == ["sample", "sample row"]
