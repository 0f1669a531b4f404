"""`innvest-lite fit`, `merge` and `inspect --patterns`, in this process: arrays, parts, checkpoints, what is refused."""

import csv
import io

import numpy as np
import pytest
from command_line import MODEL, fails, run, small_model
from models import assert_close

import innvest_lite
from innvest_lite import Patterns, PatternStatistics
from innvest_lite.data import load_digits


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An array of digits, its patterns, and the same in three parts."""
    folder = tmp_path_factory.mktemp("fit")
    np.save(folder / "x.npy", load_digits()[0][:60])
    assert run("fit", MODEL, folder / "x.npy", "--out", folder / "whole.h5") == 0
    for number in (1, 2, 3):
        options = ("--shard", f"{number}/3", "--batch-size", 8, "--out", folder / f"part-{number}.h5")
        assert run("fit", MODEL, folder / "x.npy", *options) == 0
    return folder


def assert_same_patterns(path, expected, tolerance=1e-5):
    actual = Patterns.load(path)
    assert list(actual) == list(expected)
    for name in expected:
        assert_close(actual[name], expected[name], tolerance)


def test_an_array_gives_the_patterns_of_the_python_api(folder):
    x = np.load(folder / "x.npy")
    assert_same_patterns(folder / "whole.h5", innvest_lite.fit_patterns(small_model(), x, verbose=0), 1e-6)


@pytest.mark.slow
def test_sampled_sums_are_gathered_as_asked_for(folder, tmp_path):
    for options, gathered in (((), {"relu", "linear"}), (("--sampled",), {"relu, sampled", "linear"})):
        out = tmp_path / f"part{len(options)}.h5"
        assert run("fit", MODEL, folder / "x.npy", "--shard", "1/3", "--out", out, *options) == 0
        assert {facts.gathered for facts in PatternStatistics.load(out).facts.values()} == gathered


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 1, 2)])
def test_merged_parts_are_the_whole(folder, order, tmp_path, capsys):
    parts = [folder / f"part-{number}.h5" for number in order]
    assert run("merge", *parts, "-o", tmp_path / "patterns.h5") == 0
    assert_same_patterns(tmp_path / "patterns.h5", Patterns.load(folder / "whole.h5"))
    assert "Saved the patterns of 3 layers" in capsys.readouterr().out


def test_parts_are_merged_in_stages(folder, tmp_path):
    first = [folder / "part-1.h5", folder / "part-3.h5"]
    assert run("merge", *first, "-o", tmp_path / "two.h5", "--statistics", "--partial") == 0
    assert PatternStatistics.load(tmp_path / "two.h5").parts == ["1/3", "3/3"]
    assert run("merge", tmp_path / "two.h5", folder / "part-2.h5", "-o", tmp_path / "patterns.h5") == 0
    assert_same_patterns(tmp_path / "patterns.h5", Patterns.load(folder / "whole.h5"))


def test_parts_that_do_not_go_together(folder, tmp_path, capsys):
    one, two, three = (folder / f"part-{number}.h5" for number in (1, 2, 3))
    out = ("-o", tmp_path / "patterns.h5")
    assert "Parts are missing: 2/3." in fails(capsys, "merge", one, three, *out)
    (tmp_path / "copy.h5").write_bytes(one.read_bytes())
    assert "Both hold part 1/3" in fails(capsys, "merge", one, tmp_path / "copy.h5", *out)
    assert "Both hold part 1/3" in fails(capsys, "merge", one, one, *out)
    assert "holds patterns, where statistics were expected" in fails(capsys, "merge", folder / "whole.h5", one, *out)
    assert "is one of the parts, which would be replaced" in fails(capsys, "merge", one, two, "-o", one)
    assert "There is no folder" in fails(capsys, "merge", one, two, "-o", tmp_path / "absent" / "p.h5")
    assert "for 'linear' were not gathered" in fails(capsys, "merge", one, two, three, *out, "--estimator", "linear")
    run("fit", MODEL, folder / "x.npy", "--shard", "2/2", "--out", tmp_path / "half.h5")
    capsys.readouterr()
    assert "divided in different ways" in fails(capsys, "merge", one, tmp_path / "half.h5", *out)
    assert not (tmp_path / "patterns.h5").exists()
    assert run("merge", one, three, *out, "--partial") == 0


@pytest.mark.parametrize("shard", ["0/3", "4/3", "1", "a/b", "1/0", "-1/3"])
def test_a_shard_is_one_of_so_many(folder, shard, capsys):
    with pytest.raises(SystemExit):
        run("fit", MODEL, folder / "x.npy", "--out", folder / "p.h5", f"--shard={shard}")
    assert "I/N" in capsys.readouterr().err


@pytest.mark.slow
def test_a_part_may_be_empty(folder, tmp_path, capsys):
    """60 samples are two batches of 32."""
    parts = [tmp_path / f"{number}.h5" for number in (1, 2, 3)]
    for number, part in enumerate(parts, 1):
        assert run("fit", MODEL, folder / "x.npy", "--shard", f"{number}/3", "--out", part) == 0
    assert "part 3 of 3, 0 samples" in capsys.readouterr().out
    assert run("merge", *parts, "-o", tmp_path / "p.h5") == 0
    assert_same_patterns(tmp_path / "p.h5", Patterns.load(folder / "whole.h5"))
    assert "hold no sample" in fails(capsys, "merge", parts[2], "--partial", "-o", tmp_path / "p.h5")


@pytest.mark.slow
def test_a_checkpoint_is_gone_on_from(folder, tmp_path, caplog):
    options = ("--checkpoint", tmp_path / "run.h5", "--batch-size", 8)
    given = ("fit", MODEL, folder / "x.npy", "--out", tmp_path / "p.h5", "--overwrite", *options)
    assert run(*given, "--steps", 3) == 0
    assert PatternStatistics.load(tmp_path / "run.h5").batches == 3
    assert run(*given) == 0
    assert PatternStatistics.load(tmp_path / "run.h5").complete
    assert_same_patterns(tmp_path / "p.h5", Patterns.load(folder / "whole.h5"))
    assert "nothing was added" not in caplog.text
    assert run(*given) == 0
    assert "nothing was added" in caplog.text


@pytest.mark.slow
def test_estimators_by_kind(folder, tmp_path):
    given = ("fit", MODEL, folder / "x.npy", "--out", tmp_path / "p.h5", "--overwrite", "--estimator")
    assert run(*given, "rectified=relu, output=linear") == 0
    assert Patterns.load(tmp_path / "p.h5").estimator == {"rectified": "relu", "output": "linear"}
    assert Patterns.load(tmp_path / "p.h5").reports["classes"].estimator == "linear"
    assert run(*given, "linear") == 0
    assert Patterns.load(tmp_path / "p.h5").estimator == "linear"


def test_what_is_refused(folder, tmp_path, capsys):
    given = ("fit", MODEL, folder / "x.npy", "--out", tmp_path / "p.h5")
    assert "estimator should be one of" in fails(capsys, *given, "--estimator", "mean")
    assert "the kinds are" in fails(capsys, *given, "--estimator", "dense=relu")
    assert "--preprocess is for images" in fails(capsys, *given, "--preprocess", "unit")
    np.savez(tmp_path / "x.npz", a=np.ones(3))
    assert "holds several arrays" in fails(capsys, "fit", MODEL, tmp_path / "x.npz", "--out", tmp_path / "p.h5")
    np.save(tmp_path / "wrong.npy", np.ones((4, 3)))
    assert "should have shape" in fails(capsys, "fit", MODEL, tmp_path / "wrong.npy", "--out", tmp_path / "p.h5")
    assert "is the checkpoint, which would be replaced" in fails(capsys, *given, "--checkpoint", tmp_path / "p.h5")
    assert not (tmp_path / "p.h5").exists()


def test_inspect_prints_the_report(folder, capsys):
    assert run("inspect", "--patterns", folder / "whole.h5") == 0
    printed, values = capsys.readouterr().out, sum(pattern.size for pattern in Patterns.load(folder / "whole.h5").values())
    assert str(Patterns.load(folder / "whole.h5").report()) in printed and f"{values:,} values" in printed
    assert run("inspect", MODEL, "--patterns", folder / "whole.h5") == 0
    assert "They belong to" in capsys.readouterr().out
    assert run("inspect", "--patterns", folder / "whole.h5", "--csv") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["layer"] for row in rows] == list(Patterns.load(folder / "whole.h5"))


def test_inspect_refuses(folder, tmp_path, capsys):
    assert "Give a model to inspect, or a pattern file" in fails(capsys, "inspect")
    assert "Give a model to inspect, or a pattern file" in fails(capsys, "inspect", MODEL, "--csv")
    assert "and of other parts: innvest-lite merge" in fails(capsys, "inspect", "--patterns", folder / "part-1.h5")
    model = small_model()
    model.get_layer("classes").bias.assign(np.ones(10))
    model.save(tmp_path / "other.keras")
    message = fails(capsys, "inspect", tmp_path / "other.keras", "--patterns", folder / "whole.h5")
    assert "classes: fitted for other weights" in message


def test_analyze_explains_an_array(folder, tmp_path, capsys):
    options = ("--method", "pattern.attribution", "--patterns", folder / "whole.h5", "--out", tmp_path / "out")
    assert run("analyze", MODEL, folder / "x.npy", *options, "--batch-size", 7) == 0
    assert "Wrote 60 explanations" in capsys.readouterr().out
    analyzer = innvest_lite.PatternAttribution(small_model(), patterns=Patterns.load(folder / "whole.h5"))
    expected = analyzer.analyze(np.load(folder / "x.npy"))
    assert_close(np.load(tmp_path / "out" / "x.pattern.attribution.npy"), expected, 1e-5)
    assert "--overlay is for images" in fails(capsys, "analyze", MODEL, folder / "x.npy", *options, "--overlay")
    (folder / "x.gradient.npy").symlink_to(folder / "x.npy")
    same = ("--method", "gradient", "--out", folder)
    assert "is the file of the samples" in fails(capsys, "analyze", MODEL, folder / "x.npy", *same)
