"""Every example in a docstring of the package is run, in a folder that holds the files that the examples name."""

import doctest
import importlib
import pkgutil
import shutil
import types

import keras
import numpy as np
import pytest
from pictures import write_digits

import innvest_lite
from innvest_lite import data

# How many there are; more are welcome, fewer mean that a module is no longer looked into.
LEAST = 46


def modules():
    """The package and all modules in it, by name."""
    names = [found.name for found in pkgutil.walk_packages(innvest_lite.__path__, "innvest_lite.")]
    return {name: importlib.import_module(name) for name in ["innvest_lite", *names]}


def examples_of(module):
    """A `DocTest` per docstring with examples."""
    return [test for test in doctest.DocTestFinder().find(module) if test.examples]


EXAMPLES = {name: tests for name, module in modules().items() if (tests := examples_of(module))}


@pytest.fixture(scope="module")
def names():
    """What the examples take for granted."""
    images = data.load_digits()[0][:64]
    return {"model": data.load_model(), "images": images, "np": np, "keras": keras, "innvest_lite": innvest_lite}


@pytest.fixture(scope="module")
def files(names, tmp_path_factory):
    """A folder of the files that examples read."""
    folder = tmp_path_factory.mktemp("files")
    for index, part in enumerate((names["images"][:32], names["images"][32:])):
        innvest_lite.fit_statistics(names["model"], part, verbose=0).save(folder / f"part-{index}.h5")
    names["model"].save(folder / "model.keras")
    write_digits(folder / "photos", ["bird.png", "zebra.JPG"])
    return folder


def failures(tests, names):
    """What doctest says of the examples that fail."""
    said, runner = [], doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    for test in tests:
        test.globs.update(names)
        runner.run(test, out=said.append, clear_globs=False)
    return "".join(said)


@pytest.mark.parametrize("module", EXAMPLES)
def test_examples(module, names, files, tmp_path, monkeypatch, eager):
    shutil.copytree(files, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    said = failures(EXAMPLES[module], names)
    assert not said, said


def test_all_examples_are_found_and_none_is_skipped():
    examples = [example for tests in EXAMPLES.values() for test in tests for example in test.examples]
    assert len(examples) >= LEAST
    assert not [example.source for example in examples if doctest.SKIP in example.options]


@pytest.mark.parametrize("wrong", [">>> 1 + 1\n3", ">>> images.shape[0] / 0", ">>> nothing"])
def test_planted_wrong_examples(wrong, names):
    module = types.ModuleType("planted", wrong)
    assert "Failed example" in failures(examples_of(module), names)
    assert not failures(examples_of(types.ModuleType("planted", ">>> images.shape[0]\n64")), names)
