"""Small models of the kinds that people bring, of random weights, written as examples, books and notebooks write them.

`MODELS`: name -> `Model`, which makes it and its inputs. `python scripts/people/check.py` builds and calls each. The folder
`scripts` must be on Python's path.
"""

import importlib

from .base import MODELS, Model, randomize

_MODULES = (
    "tabular",
    "tabular_categories",
    "vision",
    "vision_mobile",
    "vision_blocks",
    "outputs",
    "transformers",
    "mixers",
    "text",
    "language",
    "sequences",
    "recurrence",
    "structures",
    "styles",
    "kerashub",
)
for _module in _MODULES:
    importlib.import_module(f"{__name__}.{_module}")

__all__ = ["MODELS", "Model", "randomize"]
