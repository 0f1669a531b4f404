"""XLA: every family and the fitter compile to one program each, for all sizes of a last batch; the StableHLO text."""

import re

import keras
import models
import numpy as np
import pytest
from comparing import assert_close
from registered import create, model, patterns

import innvest_lite
from innvest_lite import InvalidInputError, NotFittedError

X = models.normal(5, 9, 8, 2)
# One of each way in which programs are made; `scripts/checks/xla.py` goes through all names.
NAMES = ("random", "gradcam++")
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("lrp.sequential_preset_a", "deep_taylor.bounded")]


@pytest.mark.parametrize("name", [*NAMES, *SLOW])
def test_compiled_it_is_the_same(name):
    compiled = create(name, jit_compile=True)
    assert compiled.jit_compile
    assert_close(compiled.analyze(X), create(name)(X), 1e-4)


@pytest.mark.slow
def test_compiled_the_fitter_is_the_same():
    samples = models.normal(30, 9, 8, 2, seed=7)
    compiled = innvest_lite.fit_patterns(model(), samples, "relu", batch_size=8, jit_compile=True, verbose=0)
    for name, expected in patterns().items():
        assert_close(compiled[name], expected, 1e-4)


COUNTED = """
import sys, numpy as np, keras, innvest_lite
stack = [keras.Input((6,)), keras.layers.Dense(5, activation="relu"), keras.layers.Dense(3)]
model = keras.Sequential(stack)
for analyzer in (innvest_lite.Gradient(model, jit_compile=True), innvest_lite.SmoothGrad(model, 4, jit_compile=True)):
    for samples in (33, 34, 41, 57, 63):
        analyzer.analyze(np.ones((samples, 6), "float32"), batch_size=32)
    print("analyzed", flush=True)
for samples in (33, 34, 41, 57, 63):
    statistics = innvest_lite.fit_statistics(model, np.ones((samples, 6)), batch_size=32, jit_compile=True, verbose=0)
"""


@pytest.mark.slow
def test_one_program_for_all_sizes_of_a_last_batch(python, tmp_path, monkeypatch):
    """Counted by what XLA writes of each program that it compiles."""
    monkeypatch.setenv("XLA_FLAGS", f"--xla_dump_to={tmp_path} --xla_dump_hlo_as_text")
    python(COUNTED)
    compiled = [path.name for path in tmp_path.glob("module_*before_optimizations.txt")]
    explained = [name for name in compiled if "explain" in name]
    # A fit makes its program anew: one for each of the five, besides the two that explain.
    assert len(explained) == 2 and len(compiled) == 2 + 5, compiled


# StableHLO -----------------------------------------------------------------------------------------------------------


def arguments_of(text):
    """The types of what the main function takes."""
    (line,) = [line for line in text.splitlines() if "func.func @main" in line]
    return re.findall(r"%arg\d+: tensor<([^>]+)>", line.partition("->")[0])


def operations_of(text):
    return re.findall(r"stablehlo\.\w+", text)


@pytest.mark.parametrize("name", ["pattern.attribution", pytest.param("vargrad", marks=pytest.mark.slow)])
def test_the_text_of_the_program(name):
    analyzer = create(name)
    text = analyzer.stablehlo(4)
    assert text.startswith(("module", "#loc")) and "stablehlo.convolution" in text
    assert arguments_of(text)[0] == "4x9x8x2xf32"
    assert operations_of(analyzer.stablehlo(X[:4])) == operations_of(text)
    assert arguments_of(analyzer.stablehlo(7))[0] == "7x9x8x2xf32"
    again, weights = create(name).stablehlo(4, return_weights=True)
    assert operations_of(again) == operations_of(text)
    shapes = ["x".join(map(str, array.shape)) + "xf32" for array in weights]
    assert arguments_of(text)[1:] == shapes


def test_the_text_has_the_exponents_and_the_inputs_types():
    (line,) = [line for line in create("pattern.net").stablehlo(4).splitlines() if "func.func @main" in line]
    assert re.findall(r"tensor<([^>]+)>", line.partition("->")[2])[:2] == ["4x9x8x2xf32", "4xi32"]
    tokens = keras.Sequential([keras.Input((5,), dtype="int32"), keras.layers.Embedding(9, 3), keras.layers.Flatten()])
    tokens.add(keras.layers.Dense(2))
    assert arguments_of(innvest_lite.Gradient(tokens).stablehlo(4))[0] == "4x5xi32"


def test_no_text_without_patterns():
    with pytest.raises(NotFittedError, match="has none yet"):
        innvest_lite.PatternNet(model()).stablehlo(4)


def test_the_text_with_a_target():
    assert arguments_of(create("gradient").stablehlo(4, target="input"))[:2] == ["4x9x8x2xf32", "4x3xf32"]


def test_sizes_that_are_open_come_from_samples():
    inputs = keras.Input((None, None, 2))
    values = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3)(inputs))
    analyzer = innvest_lite.Gradient(keras.Model(inputs, keras.layers.Dense(3)(values)))
    with pytest.raises(InvalidInputError, match="leaves sizes open"):
        analyzer.stablehlo(4)
    assert arguments_of(analyzer.stablehlo(np.zeros((4, 9, 8, 2))))[0] == "4x9x8x2xf32"


@pytest.mark.parametrize("batch", [0, -1, 2.5, "4"])
def test_what_is_no_batch(batch):
    with pytest.raises(InvalidInputError):
        create("gradient").stablehlo(batch)
