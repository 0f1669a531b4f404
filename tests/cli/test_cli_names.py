"""Names from strangers: control characters do nothing to a terminal, formulas nothing to a spreadsheet."""

import csv
import io
import logging
import os
import pathlib
import re

import keras
import numpy as np
import pytest
from command_line import MODEL, run, small_model
from pictures import write_digits

import innvest_lite
from innvest_lite.cli import terminal
from innvest_lite.cli.results import save_rows
from innvest_lite.cli.terminal import Warnings, in_our_words, say
from innvest_lite.errors import UnsupportedLayerError, UnsupportedNode
from innvest_lite.patterns.estimators import LayerReport
from innvest_lite.patterns.patterns import Report
from innvest_lite.tables import csv_cell, printable, table

# What a terminal acts on: C0 but for tab and newline, DEL, C1, and what turns text round.
ACTS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
EVIL = ["\x1b[2Jgone", "\x1b]0;title\x07", "a\rb", "\x9b31m", "\u202egnp.exe", "x\x00y", "a\x7fb", "\u2066hidden"]


@pytest.mark.parametrize("name", EVIL)
def test_nothing_acts_on_a_terminal(name, capsys):
    assert not ACTS.search(printable(name)) and not ACTS.search(table(("layer",), [(name,)]))
    say(f"first {name}\nsecond")
    printed = capsys.readouterr().out
    assert not ACTS.search(printed) and printed.startswith("first ") and printed.endswith("\nsecond\n")
    record = logging.LogRecord("innvest_lite", logging.WARNING, "", 0, "layers %s of %d", (name, 2), None)
    told = Warnings()
    told.emit(record)
    told.emit(record)
    printed = capsys.readouterr().err
    assert not ACTS.search(printed) and printed.endswith("of 2\n") and printed.count("innvest-lite: warning: ") == 1
    assert told.texts == [printed.removeprefix("innvest-lite: warning: ").rstrip("\n")]


def test_warnings_are_in_the_words_of_the_command_line():
    assert in_our_words("give it those, or let preprocessor= make them.").endswith("such as --preprocess unit.")
    sources = "".join(path.read_text() for path in (pathlib.Path(innvest_lite.__file__).parent).rglob("*.py"))
    joined = re.sub(r'"\s*\n\s*f?"', "", sources)
    for theirs, _ in terminal._WORDS:
        assert joined.count(theirs) >= 2, f"the library says {theirs!r} no longer"


def test_plain_text_is_left_as_it_is(capsys):
    for text in ("dense_1", "größe", "日本語", "two  spaces", "a\\b", "😀"):
        assert printable(text) == text
    assert printable("a\nb") == "a\\nb" and printable("a\nb", keep="\n") == "a\nb"
    assert printable("\udcff") == "\\udcff", "a byte of a file's name that is no text"


def test_what_the_terminal_has_no_letters_for_is_escaped():
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True)
    say("größe \udcff 日", file=stream)
    assert stream.buffer.getvalue() == b"gr\\xf6\\xdfe \\udcff \\u65e5\n"


def test_a_name_is_one_line_of_a_table_and_of_an_error():
    assert len(table(("layer",), [("a\nb",)]).splitlines()) == 3
    error = UnsupportedLayerError("No rule for:", [UnsupportedNode("a\ninnvest-lite: done", "LSTM", "")])
    assert len(str(error).splitlines()) == 2


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1+cmd|' /C calc'!A0", "@SUM(1)", "\t=1", "\r=1", "  =1", "＝1", "\n=1"])
def test_a_name_is_no_formula(name, tmp_path):
    save_rows(tmp_path, "a.csv", ("layer", name), [{"layer": name, name: -1.5}])
    (header, row) = csv.reader((tmp_path / "a.csv").open(newline="", encoding="utf-8"))
    assert row[1] == "-1.5", "a number stays one"
    report = Report({name: LayerReport(10.0, 0.5, 4, 1, 0, "relu", name)})
    rows = list(csv.reader(io.StringIO(report.to_csv(), newline="")))
    for cell in (header[1], row[0], rows[1][0], rows[1][-1]):
        assert cell.startswith("'") and cell[1:].startswith(
            name.replace("\t", "\\t").replace("\r", "\\r").replace("\n", "\\n")
        )


def test_other_cells_are_as_before():
    assert [csv_cell(value) for value in ("dense", 1.5, -2, None, np.float32(-1), "a=b", "a-b")] == [
        *("dense", 1.5, -2, None, np.float32(-1), "a=b", "a-b")
    ]


def test_commands_print_and_write_names_harmlessly(tmp_path, capsys):
    """A model whose layers have such names, and images with such names."""
    model = small_model()
    names = {"conv": "=cmd()", "hidden": "\x1b[31mred", "classes": "a\nb"}
    renamed = [keras.Input((28, 28, 1))]
    for layer in model.layers:
        config = {**layer.get_config(), "name": names.get(layer.name, layer.name)}
        renamed.append(type(layer).from_config(config))
    other = keras.Sequential(renamed, name="\x1b]0;owned\x07")
    other.set_weights(model.get_weights())
    other.save(tmp_path / "m.keras")
    write_digits(tmp_path / "images", ["\x1b[2J.png", "=1+1.png"])
    (tmp_path / "images" / "\x1b[5mbroken.png").write_bytes(b"no image")
    given = (tmp_path / "m.keras", tmp_path / "images", "--preprocess", "unit")
    assert run("fit", *given, "--out", tmp_path / "p.h5") == 1
    assert run("inspect", tmp_path / "m.keras") == 0
    assert run("inspect", "--patterns", tmp_path / "p.h5") == 0
    assert run("analyze", *given, "--method", "input", "--out", tmp_path / "\x1bout") == 1
    assert run("inspect", "--patterns", tmp_path / "absent\x1b[31m.h5") == 2
    printed = capsys.readouterr()
    # Keras's progress bar goes back on its line: its characters are not those of names.
    bar = re.compile("\x08+|\r|\x1b\\[(?:0|1|32|37)m")
    assert not ACTS.search(bar.sub("", printed.out)) and not ACTS.search(bar.sub("", printed.err))
    assert "\\x1b[31mred" in printed.out and "\\x1b[5mbroken.png" in printed.err
    assert run("inspect", "--patterns", tmp_path / "p.h5", "--csv") == 0
    rows = list(csv.reader(io.StringIO(capsys.readouterr().out)))
    assert [row[0] for row in rows if row and "cmd" in row[0]] == ["'=cmd()"]


@pytest.mark.skipif(os.name != "posix", reason="names of bytes")
def test_a_name_that_is_no_text(tmp_path, capsys):
    write_digits(tmp_path / "images", ["a.png"])
    os.rename(tmp_path / "images" / "a.png", os.fsencode(tmp_path / "images") + b"/\xff.png")
    given = (MODEL, tmp_path / "images", "--method", "input", "--out", os.fsdecode(os.fsencode(tmp_path) + b"/\xfe"))
    assert run("analyze", *given) == 0
    assert "\\udcfe" in capsys.readouterr().out
    assert (tmp_path / os.fsdecode(b"\xfe") / os.fsdecode(b"\xff.input.npy")).exists()
    assert innvest_lite.images.find_images(tmp_path / "images")
