"""Importing: light, in any order, and known to Keras's loader. Each case in a process of its own."""

import subprocess
import sys

import pytest

import innvest_lite

MODULES = ("analyzers", "export", "forms", "patterns", "rules")
REGISTERED = "import keras; assert keras.saving.get_registered_object('innvest_lite>PatternNet'), 'not registered'"


def run(code):
    result = subprocess.run([sys.executable, "-W", "error::ImportWarning", "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]


def test_the_package_alone_imports_neither_keras_nor_numpy():
    run("import sys, innvest_lite; assert not {'keras', 'tensorflow', 'numpy', 'h5py'} & set(sys.modules)")


@pytest.mark.slow
@pytest.mark.parametrize("module", MODULES)
def test_every_subpackage_can_be_imported_first(module):
    run(f"import innvest_lite.{module}; import json.tool; {REGISTERED}")


@pytest.mark.parametrize("name", ["Patterns", "PatternNet"])
def test_every_home_of_names_can_be_used_first(name):
    run(f"import innvest_lite; innvest_lite.{name}; {REGISTERED}")


@pytest.mark.parametrize("first", ["import keras, innvest_lite", "import innvest_lite, keras"])
def test_keras_knows_the_analyzers_in_either_order(first):
    run(f"{first}; {REGISTERED}")


def test_all_names_are_there():
    assert all(getattr(innvest_lite, name) is not None for name in innvest_lite.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Patern'"):
        innvest_lite.Patern  # noqa: B018
