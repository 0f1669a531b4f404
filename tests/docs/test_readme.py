"""Everything that the README shows is run: its Python blocks in order, and its commands against the parser."""

import glob
import pathlib
import re
import shlex

import keras
import numpy as np
import pytest
from PIL import Image

import innvest_lite
from innvest_lite import cli, data, rules

README = (pathlib.Path(__file__).resolve().parents[2] / "README.md").read_text()


class MyScale(keras.Layer):
    """The custom layer of the README's example."""

    def call(self, x):
        return x * 2


def test_python_blocks_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(rules.base, "RULES", {})
    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert len(blocks) >= 3
    names = {
        "innvest_lite": innvest_lite,
        "model": data.load_model(),
        "images": data.load_digits()[0][:64],
        "labels": data.load_digits()[1][:64],
        "MyScale": MyScale,
    }
    names["new_model"] = keras.models.clone_model(names["model"])
    names["new_model"].compile("adam", "sparse_categorical_crossentropy")
    names["model"].save("model.keras")
    exec("\n".join(blocks), names)
    assert (tmp_path / "training" / "epoch-0002.png").exists()
    written = {path.name for path in tmp_path.iterdir()}
    assert {"explainer.keras", "patterns.h5", "heat.png", "signal.png", "sheet.png"} <= written
    x = keras.Input((4,))
    scaled = keras.Model(x, keras.layers.Dense(2)(MyScale()(x)))
    assert "Pass" in str(innvest_lite.PatternAttribution(scaled).plan())


COMMANDS = [shlex.split(line) for line in README.splitlines() if line.startswith("innvest-lite ")]


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """A folder with what the commands name: model.keras and photos/."""
    folder = tmp_path_factory.mktemp("desk")
    stack = [keras.layers.Conv2D(4, 3, activation="relu"), keras.layers.MaxPooling2D(), keras.layers.Flatten()]
    keras.Sequential([keras.Input((24, 24, 3)), *stack, keras.layers.Dense(5, activation="softmax")]).save(
        folder / "model.keras"
    )
    (folder / "photos").mkdir()
    for place, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (16, 30, 40, 3), np.uint8)):
        Image.fromarray(pixels).save(folder / "photos" / f"{place:02d}.png")
    return folder


def test_commands_run_in_their_order(desk, monkeypatch, capsys):
    monkeypatch.chdir(desk)
    assert len(COMMANDS) >= 9
    for command in COMMANDS:
        for arguments in expanded(command[1:]):
            assert cli.main(arguments) == 0, (arguments, capsys.readouterr().err)
    assert {"patterns.h5", "heat", "report.html", "evaluation", "for-images"} <= {path.name for path in desk.iterdir()}
    assert len(list(desk.glob("heat/**/*.png"))) == 16 and (desk / "evaluation" / "signal.csv").exists()


def expanded(arguments):
    """What the shell makes of a command, and for a part of eight the other parts, batch by batch, too."""
    if "--shard" in arguments:
        assert arguments[arguments.index("--shard") + 1] == "3/8"
        renamed = (
            [part.replace("3/8", f"{number}/8").replace("part-3", f"part-{number}") for part in arguments]
            for number in range(1, 9)
        )
        return [[*part, "--batch-size", "2"] for part in renamed]
    return [[name for part in arguments for name in (sorted(glob.glob(part)) if "*" in part else [part])]]


def test_the_two_commands_stand_first():
    first = README.split("```")[1].strip().splitlines()
    assert first == ["pip install . && innvest-lite demo", "pip install '.[test]' && pytest"]
