"""The project's scripts as modules, for the tests of them."""

import importlib.util
import pathlib
import sys
from unittest import mock

SCRIPTS = pathlib.Path(__file__).resolve().parents[2] / "scripts"


def load_script(name):
    """A new module of the script of that name, such as "examples/map_reduce"; its folder is searched as Python would."""
    path = SCRIPTS / f"{name}.py"
    specification = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(specification)
    with mock.patch.object(sys, "path", [str(path.parent), *sys.path]):
        specification.loader.exec_module(module)
    return module
