"""Makes `keras.saving.load_model` know the analyzers' classes, without importing Keras before the user does.

Keras only loads classes that are registered, and registering them needs Keras. If it is there already, the analyzers
are imported at once; else when its import has finished.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.util
import sys


def register_with_keras() -> None:
    """Imports the analyzers now, or right after Keras."""
    if not _register():
        sys.meta_path.insert(0, _AfterKeras())


def _register():
    """Imports the analyzers if Keras is there and none of our own modules is half imported; says whether it is done."""
    keras = sys.modules.get("keras")
    if keras is None or _initializing(keras) or not hasattr(keras, "saving") or _half_imported():
        return False
    # On another backend the analyzers cannot be imported; using one says so, importing Keras shall not.
    if keras.backend.backend() == "tensorflow":
        importlib.import_module("innvest_lite.analyzers")
    return True


def _half_imported():
    """Whether one of our modules is being imported, and imports Keras itself: the analyzers would find it unfinished."""
    ours = [module for name, module in list(sys.modules.items()) if name.startswith("innvest_lite.")]
    return any(_initializing(module) for module in ours)


def _initializing(module):
    return getattr(getattr(module, "__spec__", None), "_initializing", False)


class _AfterKeras(importlib.abc.MetaPathFinder):
    """Adds a step behind the import of Keras; where it comes too early, behind a later import."""

    def find_spec(self, fullname, path=None, target=None):
        """The spec of Keras with a loader that registers the analyzers; None for all other modules."""
        if fullname == "keras":
            return self._registering_spec()
        if "keras" in sys.modules and self in sys.meta_path:
            self._try()
        return None

    def _try(self):
        # Not while the analyzers are imported: that asks here for each of their modules.
        sys.meta_path.remove(self)
        if not _register():
            sys.meta_path.insert(0, self)

    def _registering_spec(self):
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec("keras")
        sys.meta_path.insert(0, self)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module):
                execute(module)
                module.__spec__._initializing = False
                self._try()

            spec.loader.exec_module = exec_module
        return spec
