"""What SECURITY.md promises and no other test holds: a model file runs no code; the tests that it names are there."""

import pathlib
import re

import keras
import pytest
from command_line import fails

ROOT = pathlib.Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("ending", ["keras", "h5"])
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_code_in_a_model_file_is_not_run(ending, tmp_path, monkeypatch, capsys):
    """A Lambda's bytecode: with `.h5` this rests on Keras 3.11.3; 3.11.2 ran it."""
    monkeypatch.chdir(tmp_path)
    stack = [keras.layers.Lambda(lambda x: (open("ran", "w").close(), x)[1]), keras.layers.Flatten()]
    keras.Sequential([keras.Input((8, 8, 1)), *stack, keras.layers.Dense(2)]).save(f"unsafe.{ending}")
    (tmp_path / "ran").unlink()
    assert "Lambda" in fails(capsys, "inspect", tmp_path / f"unsafe.{ending}")
    assert not (tmp_path / "ran").exists()


def test_the_tests_that_are_named_are_there():
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:tests|scripts)/[\w/.]+)`", text)
    assert len(named) > 5
    assert not [path for path in named if not (ROOT / path).exists()]
