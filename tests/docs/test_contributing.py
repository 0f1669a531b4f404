"""The code blocks of CONTRIBUTING.md are run, in order."""

import pathlib
import re

import innvest_lite
from innvest_lite import data, rules

TEXT = (pathlib.Path(__file__).resolve().parents[2] / "CONTRIBUTING.md").read_text(encoding="utf-8")


def test_its_blocks_run(monkeypatch):
    monkeypatch.setattr(rules.base, "RULES", dict(rules.base.RULES))
    blocks = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
    assert len(blocks) == 3
    names = {"model": data.load_model(), "images": data.load_digits()[0][:8]}
    exec("\n".join(blocks), names)
    assert "Pass" in str(innvest_lite.PatternAttribution(names["with_gain"]).plan())
    assert names["heat"].shape == (2, 28, 28, 1)
