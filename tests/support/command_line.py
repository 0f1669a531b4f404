"""`innvest-lite` in this process, for the tests of its commands."""

import pathlib

import innvest_lite.data
from innvest_lite.cli import main

MODEL = pathlib.Path(innvest_lite.data.__file__).parent / "digits.keras"


def run(*arguments):
    return main([str(argument) for argument in arguments])


def fails(capsys, *arguments):
    """Run a command that must end with exit code 2 and one message on stderr; returns the message."""
    assert run(*arguments) == 2
    message = capsys.readouterr().err
    assert message.startswith("innvest-lite: error: ")
    assert "Traceback" not in message
    return message
