"""Makes `keras.saving.load_model` know the analyzers' classes, without importing Keras before the user does.

Keras only loads classes that are registered, and registering them needs Keras. If it is there already, the analyzers
are imported at once; else when its import has finished.
"""

import importlib
import importlib.abc
import importlib.util
import sys


def register_with_keras():
    """Imports the analyzers now, or right after Keras."""
    keras = sys.modules.get("keras")
    if keras is None:
        sys.meta_path.insert(0, _AfterKeras())
    elif hasattr(keras, "saving"):
        _register(keras)


def _register(keras):
    # On another backend the analyzers cannot be imported; using one says so, importing Keras shall not.
    if keras.backend.backend() == "tensorflow":
        importlib.import_module("innvest_lite.analyzers")


class _AfterKeras(importlib.abc.MetaPathFinder):
    """Finds Keras as the other finders do, once, and adds a step behind its import."""

    def find_spec(self, fullname, path=None, target=None):
        """The spec of Keras with a loader that registers the analyzers; None for all other modules."""
        if fullname != "keras":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec("keras")
        if spec is not None and spec.loader is not None:
            _then_register(spec.loader)
        return spec


def _then_register(loader):
    execute = loader.exec_module

    def exec_module(module):
        execute(module)
        _register(module)

    loader.exec_module = exec_module
