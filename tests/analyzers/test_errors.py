"""What bad models, patterns and files get: the right type and message, and nothing half-written."""

import functools
import os

import h5py
import keras
import models
import numpy as np
import pytest
from fits import data, dense, fit, fitted, statistics
from keras import layers

import innvest_lite
from innvest_lite import Gradient, PatternAttribution, PatternNet, Patterns, PatternStatistics
from innvest_lite.errors import (
    CorruptFileError,
    NotFittedError,
    PatternMismatchError,
    UnsupportedLayerError,
)
from innvest_lite.graph import trace
from innvest_lite.patterns import files

# Models --------------------------------------------------------------------------------------------------------------


class Subclassed(keras.Model):
    def call(self, x):
        return 2 * x


REFUSED = {
    "never called": (Subclassed, r"\(Subclassed\) has no graph yet, because what it takes is unknown. Call it once"),
    "unbuilt": (lambda: keras.Sequential([layers.Dense(2)], name="mine"), r"'mine' \(Sequential\) has no graph yet"),
    "a layer": (lambda: layers.Dense(2), "explains a keras.Model, but got Dense"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_models_without_a_graph(name):
    make, message = REFUSED[name]
    model = make()
    for use in (trace, Gradient, PatternNet, lambda model: fit(model, np.ones((4, 3)))):
        with pytest.raises(UnsupportedLayerError, match=message) as error:
            use(model)
        assert isinstance(error.value, (innvest_lite.InnvestLiteError, TypeError))


@pytest.mark.parametrize("method", [PatternNet, PatternAttribution])
def test_not_fitted(method):
    analyzer = method(dense())
    for use in (analyzer.analyze, analyzer, analyzer.check):
        with pytest.raises(NotFittedError, match=rf"{method.__name__} explains with patterns, and has none yet: call.*fit"):
            use(models.case("dense").x)
    with pytest.raises(NotFittedError):
        _ = analyzer.patterns


# Patterns of another model -------------------------------------------------------------------------------------------


def test_patterns_of_another_model():
    model = dense()
    for given, message in (
        ({name: fitted()[name] for name in ("first", "out")}, "second: missing"),
        ({**fitted(), "other": np.ones(3)}, "other: the model has no such layer"),
        ({**fitted(), "first": np.ones((6, 4))}, r"first: the kernel has shape \(6, 5\), the pattern \(6, 4\)"),
        ({}, "(?s)first: missing.*second: missing.*out: missing.*innvest_lite.fit_patterns"),
    ):
        with pytest.raises(PatternMismatchError, match=message):
            PatternNet(model, patterns=given)
    PatternNet(model, patterns=dict(fitted()))


def test_patterns_of_other_weights():
    model = models.build("conv_bn")
    patterns = fit(model, models.data_for(model, 16))
    PatternNet(model, patterns=patterns)
    variance = model.get_layer("bn1").moving_variance
    variance.assign(variance * 1.001)
    with pytest.raises(PatternMismatchError, match="conv1: fitted for other weights than the model has now") as error:
        PatternNet(model, patterns=patterns)
    assert "conv2" not in str(error.value)


# Files ---------------------------------------------------------------------------------------------------------------


@functools.cache
def gathered():
    return statistics(data())


@pytest.fixture(params=[Patterns, PatternStatistics])
def saved(request, tmp_path):
    path = tmp_path / "file.h5"
    (fitted() if request.param is Patterns else gathered()).save(path)
    assert os.listdir(tmp_path) == ["file.h5"]
    request.param.load(path)
    return request.param, path


def test_what_is_saved_is_loaded(tmp_path):
    fitted().save(tmp_path / "patterns.h5")
    loaded = Patterns.load(tmp_path / "patterns.h5")
    assert (loaded.estimator, loaded.fingerprints) == (fitted().estimator, fitted().fingerprints)
    assert dict(loaded.report()) == dict(fitted().report())
    for name in fitted():
        np.testing.assert_array_equal(loaded[name], fitted()[name])


def test_flipped_bits(saved):
    kind, path = saved
    whole, rng = path.read_bytes(), np.random.default_rng(1)
    # Half of them in the first kilobyte, where the checksum itself stands.
    for end in [1024] * 50 + [len(whole)] * 50:
        broken = bytearray(whole)
        broken[rng.integers(end)] ^= 1 << rng.integers(8)
        path.write_bytes(broken)
        with pytest.raises(CorruptFileError, match=str(path)):
            kind.load(path)
    path.write_bytes(whole)
    kind.load(path)


def test_truncated(saved):
    kind, path = saved
    whole = path.read_bytes()
    for length in np.linspace(0, len(whole) - 1, 20).astype(int):
        path.write_bytes(whole[:length])
        with pytest.raises(CorruptFileError):
            kind.load(path)
    path.write_bytes(whole + b"\0")
    with pytest.raises(CorruptFileError, match="checksum does not match"):
        kind.load(path)


def test_a_file_of_something_else(saved, tmp_path):
    kind, path = saved
    other = PatternStatistics if kind is Patterns else Patterns
    with pytest.raises(CorruptFileError, match="holds (patterns|statistics), where (patterns|statistics) were expected"):
        other.load(path)
    (tmp_path / "text.h5").write_text("innvest_lite\n")
    with pytest.raises(CorruptFileError, match="is not a file of innvest_lite"):
        kind.load(tmp_path / "text.h5")
    with pytest.raises(FileNotFoundError):
        kind.load(tmp_path / "nothing.h5")


def reseal(path, kind, version=3):
    """As a stranger could: the checksum is right."""
    files._seal(path, {Patterns: "patterns", PatternStatistics: "statistics"}[kind], version)


def test_an_unknown_version(saved):
    kind, path = saved
    reseal(path, kind, version=4)
    with pytest.raises(CorruptFileError, match="format version 4; this version of innvest_lite reads 3"):
        kind.load(path)


# What is put in the place of the first array; the files that are linked to are there.
TAMPERED = {
    "external link": lambda group, key: group.__setitem__(key, h5py.ExternalLink("secret.h5", "/x")),
    "soft link": lambda group, key: group.__setitem__(key, h5py.SoftLink(f"/1/{key}")),
    "external storage": lambda group, key: group.create_dataset(key, (4,), "f4", external=[("secret.h5", 0, 16)]),
    "virtual": lambda group, key: group.create_virtual_dataset(key, h5py.VirtualLayout((4,), "f4")),
    "bomb": lambda group, key: group.create_dataset(key, (1 << 40,), "f4", chunks=(1 << 20,), compression="gzip"),
    "words": lambda group, key: group.__setitem__(key, "words"),
    "nothing": lambda group, key: None,
    "no name": lambda group, key: group.attrs.__delitem__("name"),
    "external group": lambda group, key: group.parent.__setitem__("1", h5py.ExternalLink("secret.h5", "/")),
}


LINKED, STORED = "has a link out of the file", "of an unexpected storage, or larger than the file"
# Why they are refused, where that is more than that the numbers are wrong.
WHY = {
    **dict.fromkeys(("external link", "soft link", "external group"), LINKED),
    **dict.fromkeys(("external storage", "virtual", "bomb"), STORED),
}


@pytest.mark.parametrize("tamper", TAMPERED)
def test_what_a_stranger_could_put_in_a_file(saved, tamper, monkeypatch):
    kind, path = saved
    monkeypatch.chdir(path.parent)
    with h5py.File("secret.h5", "w") as file:
        file["x"] = np.ones(4, "f4")
    with h5py.File(path, "r+") as file:
        key = next(iter(file["0"]))
        del file["0"][key]
        if tamper == "external group":
            del file["1"]
        TAMPERED[tamper](file["0"], key)
    reseal(path, kind)
    with pytest.raises(CorruptFileError, match=WHY.get(tamper)):
        kind.load(path)


def test_a_write_that_fails_leaves_the_old_file(saved, monkeypatch):
    kind, path = saved
    whole, loaded = path.read_bytes(), kind.load(path)
    monkeypatch.setattr(files, "_seal", lambda *arguments: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        loaded.save(path)
    assert path.read_bytes() == whole
    assert os.listdir(path.parent) == ["file.h5"]


def test_a_place_where_no_file_can_be(saved):
    kind, path = saved
    loaded = kind.load(path)
    with pytest.raises(IsADirectoryError, match="is a folder; name a file in it"):
        loaded.save(path.parent)
    with pytest.raises(FileNotFoundError, match="There is no folder .*missing to write file.h5 to"):
        loaded.save(path.parent / "missing" / "file.h5")
    assert os.listdir(path.parent) == ["file.h5"]
