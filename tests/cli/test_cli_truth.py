"""`innvest-lite evaluate --truth`, in this process: the Python API's scores of the same samples, and what is refused."""

import csv
import json
import sys

import numpy as np
import pytest
from command_line import MODEL, fails, run, small_model
from pictures import write_digits

import innvest_lite
from innvest_lite.cli.truths import CONSTANT
from innvest_lite.data import load_digits
from innvest_lite.metrics import ground_truth, ground_truth_table

QUICK = ["--patch", 14, "--max-patches", 1]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Twelve digits, with the ink as the truth and as the signal; and one truth for all."""
    folder = tmp_path_factory.mktemp("truth")
    images = load_digits()[0][:12]
    found = {"x": images, "masks": images[..., 0] > 0.5, "signal": images, "flat": images[..., 0], "few": images[:5] > 0.5}
    found["one"] = np.zeros((1, 28, 28), "uint8")
    found["one"][0, 8:20, 8:20] = 1
    found["empty"] = found["masks"] & (np.arange(12) != 3)[:, None, None]
    for name, array in found.items():
        np.save(folder / f"{name}.npy", array)
    write_digits(folder / "pictures", ["a.png"])
    return folder, found


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def expected_of(images, masks, signal=None, emd=False):
    model = small_model()
    maps = {name: innvest_lite.create_analyzer(name, model).analyze(images) for name in ("gradient", "input")}
    maps[CONSTANT] = np.ones(images.shape)
    results = {name: ground_truth(values, masks, signal, emd=emd) for name, values in maps.items()}
    return ground_truth_table(results, baseline=CONSTANT)


def check_rows(path, expected):
    """The table in the file is that of the Python API."""
    wanted = {
        (name, scope, score): numbers
        for name, scopes in expected.to_dict().items()
        for scope, scores in scopes.items()
        for score, numbers in (scores or {}).items()
    }
    rows = {(row["method"], row["scope"], row["score"]): row for row in rows_of(path)}
    assert list(rows) == list(wanted)
    for key, numbers in wanted.items():
        for column in ("mean", "low", "high", "gain", "gain_low", "gain_high"):
            if column in numbers:
                assert float(rows[key][column]) == pytest.approx(numbers[column], abs=1e-5), (key, column)
            else:
                assert rows[key][column] == "" and key[1] == "global"
        assert rows[key]["samples"] == str(len(expected.results[key[0]].chance))


def test_masks_follow_the_samples_that_limit_draws(files, tmp_path, capsys, eager):
    folder, arrays = files
    options = ["--truth", folder / "masks.npy", "--truth-signal", folder / "signal.npy", "--emd", "--limit", 5, "--seed", 3]
    assert run("evaluate", MODEL, folder / "x.npy", "--out", tmp_path, "--methods", "gradient,input", *QUICK, *options) == 0
    drawn = np.sort(np.random.default_rng(3).permutation(12)[:5])
    expected = expected_of(arrays["x"][drawn], arrays["masks"][drawn], arrays["signal"][drawn], emd=True)
    check_rows(tmp_path / "ground_truth.csv", expected)
    printed = capsys.readouterr().out
    assert (
        f"local, gain over {CONSTANT}" in printed and "5 samples; chance is" in printed and "signal_correlation" in printed
    )
    assert "all 5 samples count, also those that the model gets wrong, since no labels are known here" in printed
    settings = json.loads((tmp_path / "evaluation.json").read_text())
    assert settings["truth"] == str(folder / "masks.npy") and settings["emd"] is True


def test_one_mask_for_all_samples_has_global_scores(files, tmp_path, capsys, eager):
    folder, arrays = files
    options = ["--methods", "gradient,input", "--truth", folder / "one.npy"]
    assert run("evaluate", MODEL, folder / "x.npy", "--out", tmp_path, *QUICK, *options) == 0
    check_rows(tmp_path / "ground_truth.csv", expected_of(arrays["x"], arrays["one"]))
    assert {row["scope"] for row in rows_of(tmp_path / "ground_truth.csv")} == {"local", "global"}
    assert f"global, gain over {CONSTANT}" in capsys.readouterr().out


def test_without_truth_nothing_is_said_of_it(files, tmp_path, capsys, eager):
    folder, _ = files
    assert run("evaluate", MODEL, folder / "x.npy", "--out", tmp_path, *QUICK, "--methods", "input") == 0
    assert "Known truth" not in capsys.readouterr().out and not (tmp_path / "ground_truth.csv").exists()


def test_what_is_refused(files, tmp_path, capsys, monkeypatch, eager):
    folder, _ = files
    truth = ["--truth", folder / "masks.npy"]
    for data, options, words in (
        ("x.npy", ["--truth-signal", folder / "signal.npy"], "--truth-signal and --emd go with --truth"),
        ("x.npy", ["--emd"], "--truth-signal and --emd go with --truth"),
        ("pictures", truth, "--truth is for arrays"),
        ("x.npy", ["--truth", folder / "missing.npy"], "There is no file"),
        ("x.npy", ["--truth", folder / "few.npy"], "few.npy holds 5 samples, but DATA 12; give as many, or 1 for all"),
        ("x.npy", [*truth, "--truth-signal", folder / "few.npy"], "few.npy holds 5 samples"),
        ("x.npy", ["--truth", folder / "x.npy"], "masks should be True and False"),
        ("x.npy", ["--truth", folder / "empty.npy"], "The mask of sample 3 has no position in the truth"),
        ("x.npy", [*truth, "--truth-signal", folder / "flat.npy"], "signal should have the attributions' shape"),
    ):
        message = fails(capsys, "evaluate", MODEL, folder / data, "--out", tmp_path / "never", *options)
        assert words in message, options
    monkeypatch.setitem(sys.modules, "ot", None)
    message = fails(capsys, "evaluate", MODEL, folder / "x.npy", "--out", tmp_path / "never", *truth, "--emd")
    assert "innvest_lite[emd]" in message and not (tmp_path / "never").exists()
