"""Everything that the README shows is run: its Python blocks in order, and its commands against the parser."""

import pathlib
import re
import shlex

import keras
import pytest

import innvest_lite
from innvest_lite import cli, data, rules

README = (pathlib.Path(__file__).parent.parent / "README.md").read_text()


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
        "MyScale": MyScale,
    }
    names["model"].save("model.keras")
    exec("\n".join(blocks), names)
    assert {"explainer.keras", "patterns.h5", "heat.png", "signal.png"} <= {path.name for path in tmp_path.iterdir()}
    x = keras.Input((4,))
    scaled = keras.Model(x, keras.layers.Dense(2)(MyScale()(x)))
    assert "Pass" in str(innvest_lite.PatternAttribution(scaled).plan())


@pytest.mark.parametrize("line", [line for line in README.splitlines() if line.startswith("innvest-lite ")])
def test_commands_parse(line):
    arguments = cli.build_parser().parse_args(shlex.split(line)[1:])
    assert arguments.command == line.split()[1]


def test_the_two_commands_stand_first():
    first = README.split("```")[1].strip().splitlines()
    assert first == ["pip install . && innvest-lite demo", "pip install '.[test]' && pytest"]
