"""`innvest-lite demo`: which digits, what of each is explained, where it stands in the picture, what is left behind."""

import shlex

import numpy as np
import pytest
from command_line import MODEL, fails, run, small_model
from pictures import picture

import innvest_lite
from innvest_lite.analyzers.registry import OF_ATTENTION
from innvest_lite.cli import demo as demo_command, demo_sheet
from innvest_lite.data import load_digits, load_model
from innvest_lite.visualize import grid, heatmap, project

CELL, MARGIN = 112, 8
# In the order of their families.
METHODS = ("input", "pattern.net", "gradient")
HEADS = {"digit": 1, "signal": 1, "gradients": 1}
COUNT = 3


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The folder and the picture of three digits, by three methods and of the small model."""
    out = tmp_path_factory.mktemp("demo") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo_command, "FAMILIES", METHODS[::-1])
        patch.setattr(innvest_lite.data, "load_model", small_model)
        assert run("demo", "--out", out, "--digits", COUNT) == 0
    return out, picture(out / "demo.png")


def expected(model, count):
    """(place, target, label) of each row, found one by one."""
    digits, labels = load_digits()
    probabilities = model.predict(digits, verbose=0)
    guesses = probabilities.argmax(axis=1)
    wrong = [place for place in range(len(digits)) if guesses[place] != labels[place]]
    first = max(wrong, key=lambda place: probabilities[place, labels[place]])
    places = [first, *(place for place in range(10) if labels[place] != labels[first])][:count]
    rows = []
    for place in places:
        true, guess = labels[place], guesses[place]
        chance = probabilities[place, guess]
        said = f"true {true}, predicted {guess} ({'> 0.99' if chance > 0.995 else f'{chance:.2f}'})"
        rows.append([place, guess, said if true == guess else f"wrong: {said}"])
    (place, guess, said), true = rows[0], labels[first]
    return [
        (place, guess, f"{said}\nWhy {guess}?"),
        (place, true, f"{said}\nWhy {true} ({probabilities[first, true]:.2f})?"),
        *map(tuple, rows[1:]),
    ]


def body_of(sheet, rows, methods):
    """The rows of the sheet between the heads and the legend, found by the labels at their left; and what is above."""
    empty = grid([[None] * len(methods)] * len(rows), [row[-1] for row in rows], list(methods), cell=CELL, margin=MARGIN)
    assert sheet.shape[1] == empty.shape[1]
    left = empty.shape[1] - len(methods) * (CELL + MARGIN) - MARGIN
    fits = [
        top
        for top in range(len(sheet) - len(empty) + 1)
        if np.array_equal(sheet[top : top + len(empty), :left], empty[:, :left])
    ]
    assert len(fits) == 1, "the labels of the rows are not there"
    return sheet[fits[0] :][: len(empty)], sheet[: fits[0]], sheet[fits[0] + len(empty) :]


def cell(body, rows, row, column, columns):
    """The picture in a cell, reduced to the 28 pixels that it was made from."""
    bottom = body.shape[0] - MARGIN - (rows - 1 - row) * (CELL + MARGIN)
    right = body.shape[1] - MARGIN - (columns - 1 - column) * (CELL + MARGIN)
    return body[bottom - CELL : bottom, right - CELL : right][::4, ::4]


def test_rows_say_what_is_true_predicted_and_explained(demo):
    rows = expected(small_model(), COUNT)
    assert len(rows) == COUNT + 1 and rows[0][0] == rows[1][0] and "wrong" in rows[0][2]
    body_of(demo[1], rows, METHODS)


def runs(line):
    """The colours along a line of pixels but white, each time that they change."""
    colours = [tuple(map(int, pixel)) for pixel in line]
    return [one for one, before in zip(colours, [None, *colours], strict=False) if one not in (before, (255, 255, 255))]


def test_heads_stand_over_their_columns_and_a_legend_below(demo):
    body, above, below = body_of(demo[1], expected(small_model(), COUNT), METHODS)
    dark = (above[-4:] < 140).all(axis=(2)).any(axis=0)
    starts = [body.shape[1] - (len(METHODS) - column) * (CELL + MARGIN) for column in range(len(METHODS))]
    lines = np.zeros_like(dark)
    for start in starts:
        lines[start : start + CELL] = True
    assert np.array_equal(dark, lines)
    written = (above[:-6] < 100).all(axis=2).any(axis=0)
    assert all(written[start : start + CELL].any() for start in starts)
    # A swatch for each of the two families that have colours: from black to white, from blue to red.
    assert runs(below[:, MARGIN]) == [(0, 0, 0), (0, 53, 157)]
    assert (129, 0, 16) in runs(below[:, MARGIN + 111])


@pytest.mark.slow
def test_each_method_in_its_way_for_its_class(demo):
    digits, _ = load_digits()
    model, rows = small_model(), expected(small_model(), COUNT)
    images, targets = digits[[row[0] for row in rows]], np.array([row[1] for row in rows])
    gradient = heatmap(innvest_lite.Gradient(model).analyze(images, target=targets))
    patterns = innvest_lite.fit_patterns(model, digits, verbose=0)
    signal = project(innvest_lite.PatternNet(model, patterns=patterns).analyze(images, target=targets))
    body = body_of(demo[1], rows, METHODS)[0]
    assert np.array_equal(images[0], images[1]) and not np.array_equal(gradient[0], gradient[1])
    for row in range(len(rows)):
        at = [cell(body, len(rows), row, column, len(METHODS)) for column in range(len(METHODS))]
        assert np.array_equal(at[0][..., 0], np.rint(images[row, ..., 0] * 255))
        assert np.abs(at[1].astype(int) - signal[row]).max() <= 1
        assert np.array_equal(at[2], gradient[row])


def test_what_is_left_is_the_model_its_patterns_and_the_digits(demo):
    out, _ = demo
    digits, labels = load_digits()
    saved = {path.relative_to(out / "digits"): picture(path) for path in (out / "digits").rglob("*.png")}
    places = sorted({row[0] for row in expected(small_model(), COUNT)})
    assert {str(path) for path in saved} == {f"{labels[place]}/{place:03d}.png" for place in places}
    for path, pixels in saved.items():
        assert np.array_equal(pixels, np.rint(digits[int(path.stem), ..., 0] * 255))
    assert sorted(path.name for path in (out / "digits").iterdir()) == [str(label) for label in range(10)]
    innvest_lite.PatternNet(small_model(), patterns=innvest_lite.Patterns.load(out / "patterns.h5"))


def test_the_shipped_model_takes_a_4_for_a_9():
    """Of 600 digits it gets five wrong; the first is nearest to being right."""
    assert expected(load_model(), 10)[0][:2] == (164, 9)
    digits, labels = load_digits()
    found = demo_command._Digits(digits, labels, load_model().predict(digits, verbose=0))
    assert np.flatnonzero(found.predicted != labels).tolist() == [164, 210, 241, 373, 413]
    assert (found.contested, found.rival(164)) == (164, 4)
    for count in (1, 10, 600):
        chosen = demo_command._choose(count, None, found)
        assert len(set(chosen)) == count and chosen[0] == 164
        assert count != 10 or sorted(labels[chosen]) == list(range(10))


def test_where_all_are_right_the_least_sure_is_first():
    probabilities = np.array([[0.9, 0.1, 0], [0.3, 0.5, 0.2], [0.1, 0.2, 0.7]])
    found = demo_command._Digits(np.zeros((3, 28, 28, 1)), np.array([0, 1, 2]), probabilities)
    assert (found.contested, found.rival(1)) == (1, 0)
    assert found.said(1) == "true 1, predicted 1 (0.50)"


def test_every_method_has_one_family():
    families = demo_sheet.grouped(list(innvest_lite.ANALYZERS))
    names = [name for members in families.values() for name in members]
    assert sorted(names) == sorted(innvest_lite.ANALYZERS)
    assert families["signal"] == ["pattern.net"] and families["perturbation"] == ["occlusion", "rise"]
    assert [name for name in names if "cam" in name and name not in families["region"]] == ["guided_gradcam"]
    # Maps that add up, by whatever name, are no gradients; and a family has no name of methods that there are not.
    assert not {"gradient_shap", "expected_gradients", "input_t_gradient"} & set(families["gradients"])
    assert {"squaregrad", "vargrad", "gradient.baseline"} <= set(families["gradients"])
    assert set(demo_sheet._FAMILY_OF) <= set(names)
    assert demo_sheet.grouped(["random", "input"]) == {"digit": ["input"], "control": ["random"]}
    assert set(demo_command.FAMILIES) <= set(innvest_lite.ANALYZERS) - set(OF_ATTENTION)


def test_files_of_others_are_not_replaced(tmp_path, capsys):
    (tmp_path / "model.keras").write_bytes(MODEL.read_bytes())
    assert "model.keras already, which is not the demo's" in fails(capsys, "demo", "--out", tmp_path)
    assert (tmp_path / "model.keras").read_bytes() == MODEL.read_bytes() and len(list(tmp_path.iterdir())) == 1
    (tmp_path / "model.keras").rename(tmp_path / "patterns.h5")
    assert "patterns.h5 already" in fails(capsys, "demo", "--out", tmp_path)


def test_demo_has_no_more_digits_than_there_are(tmp_path, capsys):
    assert "only 600 digits" in fails(capsys, "demo", "--out", tmp_path, "--digits", 601)


@pytest.mark.slow
def test_demo_of_all_families_and_the_command_that_it_prints(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):  # Into its own folder again.
        assert run("demo", "--out", "a folder", "--digits", 2) == 0
    assert picture("a folder/demo.png").shape[1] > len(demo_command.FAMILIES) * CELL
    printed = capsys.readouterr().out.strip().splitlines()[-1]
    program, *arguments = shlex.split(printed)
    assert program == "innvest-lite" and run(*arguments) == 0
    said = capsys.readouterr()
    assert "a folder/report.html: 2 images, 6 methods" in said.out and said.err == ""
    assert "The folders are taken for the classes" in said.out
    assert "164.png" in (tmp_path / "a folder" / "report.html").read_text()


@pytest.mark.slow
def test_demo_seed_draws_other_digits_of_the_same_classes(tmp_path, monkeypatch):
    monkeypatch.setattr(demo_command, "FAMILIES", ("input",))
    seeds = {"none": [], "one": ["--seed", 1], "again": ["--seed", 1], "two": ["--seed", 2]}
    for name, seed in seeds.items():
        assert run("demo", "--out", tmp_path / name, "--digits", 3, *seed) == 0
    sheets = {name: picture(tmp_path / name / "demo.png") for name in seeds}
    assert np.array_equal(sheets["one"], sheets["again"])
    drawn = {name: sorted(str(path.parent.name) for path in (tmp_path / name / "digits").rglob("*.png")) for name in seeds}
    assert drawn["one"] == drawn["two"] == drawn["none"]
    digits = {name: {path.name for path in (tmp_path / name / "digits").rglob("*.png")} for name in seeds}
    assert all("164.png" in names for names in digits.values())
    assert digits["one"] != digits["none"] and digits["one"] != digits["two"]
