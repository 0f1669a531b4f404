"""Importing: light, in any order, and known to Keras's loader, mostly in processes that have not imported the package."""

import importlib
import subprocess
import sys
from unittest import mock

import keras
import pytest

import innvest_lite

MODULES = ("analyzers", "export", "forms", "patterns", "rules")
REGISTERED = "import keras; assert keras.saving.get_registered_object('innvest_lite>PatternNet'), 'not registered'"
FIRST = [
    "import innvest_lite",
    *(f"import innvest_lite.{module}; import json.tool" for module in MODULES),
    *(f"import innvest_lite; innvest_lite.{name}" for name in ("Patterns", "PatternNet")),
]
# Keras is imported once, and a fork of that process has not imported the package.
FORKS = """
import os, sys
import keras
for number, code in enumerate(sys.argv[1:]):
    child = os.fork()
    if not child:
        exec(code)
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        sys.exit(code)
"""


def run(code, *arguments):
    command = [sys.executable, "-W", "error::ImportWarning", "-W", "ignore::DeprecationWarning", "-c", code, *arguments]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]


def test_the_package_alone_imports_neither_keras_nor_numpy():
    run("import sys, innvest_lite; assert not {'keras', 'tensorflow', 'numpy', 'h5py'} & set(sys.modules)")


def test_keras_knows_the_analyzers_where_it_is_imported_first():
    """As it is here; the package, forgotten and imported anew, brings them at once."""
    known, before = keras.saving.get_custom_objects(), innvest_lite.PatternNet
    others = {name: value for name, value in known.items() if not name.startswith("innvest_lite>")}
    with mock.patch.dict(sys.modules), mock.patch.dict(known, others, clear=True):
        for name in [name for name in sys.modules if name.partition(".")[0] == "innvest_lite"]:
            del sys.modules[name]
        importlib.import_module("innvest_lite")
        assert keras.saving.get_registered_object("innvest_lite>PatternNet") not in (None, before)


@pytest.mark.slow
def test_keras_knows_the_analyzers_whatever_is_imported_first():
    run(FORKS, *(f"{code}; {REGISTERED}" for code in FIRST))


@pytest.mark.slow
@pytest.mark.parametrize("code", FIRST)
def test_keras_knows_the_analyzers_where_it_is_imported_last(code):
    run(f"{code}; {REGISTERED}")


def test_all_names_are_there():
    assert all(getattr(innvest_lite, name) is not None for name in innvest_lite.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Patern'"):
        innvest_lite.Patern  # noqa: B018
