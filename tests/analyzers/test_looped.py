"""What holds for all methods that ask a model many times: batches, seeds, XLA, memory, traces, files."""

import keras
import models
import numpy as np
import pytest
from comparing import assert_close, offenders
from loop_replicas import assert_saved
from probes import probed

from innvest_lite import (
    RISE,
    ExpectedGradients,
    IntegratedGradients,
    InvalidInputError,
    Occlusion,
    SmoothGrad,
    SquareGrad,
    VarGrad,
)

NOISY = [SmoothGrad, SquareGrad, VarGrad]
# The fewest evaluations that show what a test looks for, and how many they are of a sample with five positions.
FEW = {IntegratedGradients: {"steps": 4}, Occlusion: {"window": 1}, RISE: {"masks": 5}}
FEW[ExpectedGradients] = {"augment_by_n": 5}
FEW.update(dict.fromkeys(NOISY, {"augment_by_n": 5}))
EVALUATIONS = {IntegratedGradients: 4, ExpectedGradients: 5, Occlusion: 5, RISE: 5, **dict.fromkeys(NOISY, 5)}
# SquareGrad's loop is SmoothGrad's.
LOOPS = [method for method in FEW if method is not SquareGrad]
ROW, A, B = models.normal(6, seed=3), models.normal(4, seed=4), models.normal(3, 2, seed=5)


def make(method, name="dense", **options):
    return method(models.case(name).model, **{**FEW[method], **options})


@pytest.mark.parametrize("method", LOOPS)
def test_values_do_not_depend_on_the_batch_size(method, eager):
    """Nor on the samples that follow, nor on how they come; each sample has its own target."""
    analyzer, x, target = make(method), models.normal(3, 6, seed=2), [0, 1, 2]
    whole = analyzer.analyze(x, target, batch_size=100)
    assert_close(analyzer.analyze(x, target, batch_size=2), whole)
    assert_close(analyzer.analyze(x[:2], target[:2], batch_size=7), whole[:2])
    assert_close(analyzer(x, target=np.array(target)), whole)


XLA_CASES = [*((method, "dense") for method in FEW), (RISE, "conv_bn")]


@pytest.mark.slow
@pytest.mark.parametrize("method, name", XLA_CASES)
def test_values_do_not_depend_on_xla(method, name):
    """`test_xla` has a few of them that are quick."""
    case = models.case(name)
    analyzers = [method(case.model, **FEW[method], jit_compile=jit) for jit in (False, True)]
    plain, compiled = (analyzer.analyze(case.x, 1, batch_size=4) for analyzer in analyzers)
    assert_close(compiled, plain)


@pytest.mark.slow
@pytest.mark.parametrize("method", LOOPS)
def test_no_evaluation_sees_more_samples_than_the_batch_size(method, eager):
    model, probe = probed(5, 2)
    analyzer, evaluations = method(model, **FEW[method]), EVALUATIONS[method]
    for samples in (1, 5):
        probe.seen.clear()
        analyzer.analyze(models.normal(samples, 5, 2), batch_size=4)
        # Of one sample, so many evaluations that no round is filled up with more than one that does not count.
        alone = -(-evaluations // -(-evaluations // 4))
        assert max(probe.sizes) == {1: alone, 5: 4}[samples]
        assert sum(probe.sizes) >= samples * evaluations


@pytest.mark.parametrize("method", [*LOOPS[:-1], pytest.param(LOOPS[-1], marks=pytest.mark.slow)])
def test_one_trace_for_several_batches(method):
    """Compiled, and the values are those of a call on tensors; those of VarGrad also in `test_averaged`."""
    model, probe = probed(6)
    analyzer, x = method(model, **FEW[method]), models.normal(10, 6)
    heat, traces = analyzer.analyze(x, batch_size=4), probe.traces
    for samples in (10, 9):
        analyzer.analyze(x[:samples], batch_size=4)
    assert probe.traces == traces
    assert_close(heat, analyzer(x))


CHANGED = {IntegratedGradients: {"rule": "left"}, Occlusion: {"stride": 2, "fill": 0.5}}
CHANGED.update(dict.fromkeys(NOISY, {"noise_scale": 0.7, "relative": False, "seed": 7, "postprocess": "abs"}))
CHANGED[ExpectedGradients] = {"noise_scale": 0.7, "relative": False, "seed": 7, "reference_inputs": models.normal(4, 6)}
CHANGED[RISE] = {"cells": 2, "probability": 0.3, "seed": 7, "fill": 0.5, "score": "logit"}


@pytest.mark.slow
def test_saved_with_every_option(tmp_path):
    x = models.case("dense").x
    assert offenders(lambda method: assert_saved(make(method, **CHANGED[method]), x, tmp_path), FEW) == {}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, reference", [("dense", ROW), ("dense", 0.1), ("two_inputs", [A, B]), ("text", np.array([1, 2, 3, 4, 5, 6]))]
)
def test_saved_with_references(name, reference, tmp_path):
    x, analyzer = models.case(name).x, make(IntegratedGradients, name, reference_inputs=reference)
    assert_saved(analyzer, x, tmp_path)
    one, two = (keras.tree.flatten(each(x))[0] for each in (analyzer, make(IntegratedGradients, name)))
    assert np.abs(one - two).max() > 1e-3


@pytest.mark.parametrize("method", FEW)
def test_no_samples(method, eager):
    heat, exponent = make(method).analyze(np.zeros((0, 6)), return_exponent=True)
    assert heat.shape == (0, 6) and heat.dtype == np.float32 and exponent.shape == (0,)
    if method is IntegratedGradients:
        heat, gap = make(method, "text").analyze(np.zeros((0, 6), int), return_gap=True)
        assert heat.shape == (0, 6) and gap.shape == (0,)


@pytest.mark.parametrize("method", FEW)
def test_nothing_is_kept_on_the_way(method):
    with pytest.raises(InvalidInputError, match="keeps nothing on the way"):
        make(method).analyze(models.case("dense").x, keep=["first"])
