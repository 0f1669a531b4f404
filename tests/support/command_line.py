"""`innvest-lite` in this process, for the tests of its commands, and a model file for it.

The model takes and gives what the shipped one does, but has random weights and a fraction of its layers, of which each
fit and each explanation traces a program.
"""

import atexit
import pathlib
import shutil
import tempfile

import keras
import models
from keras import layers

from innvest_lite.cli import main


def _saved():
    folder = pathlib.Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    stack = [keras.Input((28, 28, 1), name="digit"), layers.Conv2D(4, 5, 3, activation="relu", name="conv")]
    stack += [layers.Flatten(name="flat"), layers.Dense(12, activation="relu", name="hidden")]
    model = keras.Sequential([*stack, layers.Dense(10, activation="softmax", name="classes")], name="small")
    models.randomize(model, seed=2).save(folder / "small.keras")
    return folder / "small.keras"


MODEL = _saved()


def small_model():
    """The model of the file, anew."""
    return keras.saving.load_model(MODEL)


def run(*arguments):
    return main([str(argument) for argument in arguments])


def fails(capsys, *arguments):
    """Run a command that must end with exit code 2 and one message on stderr; returns the message."""
    # What earlier commands warned of.
    capsys.readouterr()
    assert run(*arguments) == 2
    # Behind what it may have warned of before.
    warned, begin, message = capsys.readouterr().err.rpartition("innvest-lite: error: ")
    assert begin and all(line.startswith("innvest-lite: warning: ") for line in warned.splitlines())
    message = f"{begin}{message}"
    assert "Traceback" not in message
    return message
