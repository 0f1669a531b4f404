"""Options that are True or False take nothing else, and masked arrays are refused, wherever the public names take them."""

import functools
import importlib
import inspect

import models
import numpy as np
from comparing import refusals
from registered import create, model, patterns

import innvest_lite
from innvest_lite import InvalidInputError, datasets, metrics, rules, visualize
from innvest_lite.export import Format

ROOMS = (
    *("analyzers", "callbacks", "data", "datasets", "errors", "export", "forms", "graph", "images", "metrics", "patterns"),
    *("preprocessing", "report", "rules", "visualize"),
)
# Values that the package makes, and nobody chooses.
MADE = {
    "Spec.masked",
    "Call.nonnegative",
    "Step.nonnegative",
    "Site.first",
    "Site.last",
    "Site.before_first",
    "Site.offset",
    "Attributions.sign_tells",
}
X = models.normal(2, 9, 8, 2)
MAP = np.ones((4, 5))


def flags(value):
    """The arguments of a function that are True or False by default."""
    try:
        taken = inspect.signature(value).parameters.values()
    except (TypeError, ValueError):
        return []
    return [f"{value.__qualname__}.{one.name}" for one in taken if isinstance(one.default, bool)]


def public():
    """All public functions and classes, and the methods of these."""
    for room in (innvest_lite, *(importlib.import_module(f"innvest_lite.{room}") for room in ROOMS)):
        own = [name for name, value in vars(room).items() if getattr(value, "__module__", None) == room.__name__]
        for name in getattr(room, "__all__", own):
            value = getattr(room, name)
            yield value
            if inspect.isclass(value):
                yield from (getattr(value, part) for part in vars(value) if part[0] != "_")


def fitted(**options):
    return innvest_lite.fit_statistics(model(), X, verbose=0, **options)


def along_a_path(**options):
    return create("integrated_gradients").analyze(X, **options)


# What else is True or False, but has another default, or is True, False or a word.
BESIDE = {
    "Analyzer.jit_compile": lambda word: create("gradient", jit_compile=word),
    "fit_statistics.jit_compile": lambda word: fitted(jit_compile=word),
    "fit_statistics.exact": lambda word: fitted(exact=word),
}
GIVEN = {
    "Analyzer.require_ready.look": lambda word: create("gradient").require_ready(word),
    "Analyzer.fit.approximate": lambda word: create("gradient").fit(X, approximate=word),
    "Analyzer.analyze.return_exponent": lambda word: create("gradient").analyze(X, return_exponent=word),
    "Analyzer.save.overwrite": lambda word: create("gradient").save("nowhere.keras", overwrite=word),
    "Analyzer.export.predictions": lambda word: create("gradient").export("nowhere", predictions=word),
    "Analyzer.stablehlo.return_weights": lambda word: create("gradient").stablehlo(2, return_weights=word),
    "IntegratedGradients.analyze.return_exponent": lambda word: along_a_path(return_exponent=word),
    "IntegratedGradients.analyze.return_gap": lambda word: along_a_path(return_gap=word),
    "PatternNet.merge_patterns": lambda word: create("pattern.net", merge_patterns=word),
    "SmoothGrad.relative": lambda word: create("smoothgrad", relative=word),
    "SquareGrad.relative": lambda word: create("squaregrad", relative=word),
    "ExpectedGradients.relative": lambda word: create("expected_gradients", relative=word),
    "VarGrad.relative": lambda word: create("vargrad", relative=word),
    "fit_statistics.approximate": lambda word: fitted(approximate=word),
    "Format.checks": lambda word: Format(".txt", ("serve",), print, checks=word),
    "Format.echoes": lambda word: Format(".txt", ("serve",), print, echoes=word),
    "Gradient.grows": lambda word: rules.Gradient(grows=word),
    "Elementwise.signed": lambda word: rules.Elementwise(signed=word),
    "Magnitude.signed": lambda word: rules.Magnitude(signed=word),
    "PatternShares.rectified": lambda word: rules.PatternShares(rectified=word),
    "GatedSignal.inverse": lambda word: rules.GatedSignal(inverse=word),
    "TokenSum.times_input": lambda word: rules.TokenSum(times_input=word),
    "Epsilon.bias": lambda word: rules.Epsilon(bias=word),
    "Gamma.bias": lambda word: rules.Gamma(bias=word),
    "Box.mapped": lambda word: rules.Box(mapped=word),
    "Zero.bias": lambda word: rules.Zero(bias=word),
    "ZPlus.fast": lambda word: rules.ZPlus(fast=word),
    "tetrominoes.distractors": lambda word: datasets.tetrominoes(2, distractors=word),
    "ground_truth.emd": lambda word: metrics.ground_truth(MAP, np.eye(4, 5), emd=word),
    "heatmap.absolute": lambda word: visualize.heatmap(MAP, absolute=word),
    "overlay.absolute": lambda word: visualize.overlay(MAP, MAP, absolute=word),
    "panel.absolute": lambda word: visualize.panel(MAP, MAP, absolute=word),
    "series.absolute": lambda word: visualize.series(MAP[0], MAP[0], absolute=word),
    "slices.absolute": lambda word: visualize.slices(np.ones((3, 4, 5)), absolute=word),
    "tokens.absolute": lambda word: visualize.tokens(["a", "b"], np.ones(2), absolute=word),
}


def test_no_is_no_boolean(tmp_path, monkeypatch):
    """Nor are a number, None and an array; every public argument that is True or False by default is tried."""
    monkeypatch.chdir(tmp_path)
    found = {flag for value in public() if callable(value) for flag in flags(value)}
    assert found - MADE == set(GIVEN)
    for word in ("no", "", 1, None, np.zeros(2)):
        cases = GIVEN if word is None else {**GIVEN, **BESIDE}
        tried = {name: functools.partial(use, word) for name, use in cases.items()}
        tried = {name: (use, f"{name.split('.')[-1]} should be True") for name, use in tried.items()}
        assert refusals(tried, InvalidInputError) == {}, word
    assert not list(tmp_path.iterdir())


def test_numpys_booleans_are_booleans():
    assert innvest_lite.Gradient(model(), jit_compile=np.False_).jit_compile is False
    np.testing.assert_array_equal(visualize.heatmap(-MAP, absolute=np.True_), visualize.heatmap(MAP))


# Masked arrays -------------------------------------------------------------------------------------------------------


def masked(array):
    """An array of which one entry is masked, over a number that is as good as any."""
    hidden = np.ma.masked_array(np.array(array), mask=False)
    hidden.reshape(-1)[0] = np.ma.masked
    return hidden


def analyzer():
    return create("gradient")


TAKES_ARRAYS = {
    "analyze": lambda: analyzer().analyze(masked(X)),
    "a list of samples": lambda: analyzer().analyze([masked(X[0]), X[1]]),
    "a list of an array": lambda: analyzer().analyze([masked(X)]),
    "a call": lambda: analyzer().call(masked(X)),
    "check": lambda: analyzer().check(masked(X)),
    "a target": lambda: analyzer().analyze(X, masked([0, 1])),
    "weights as a target": lambda: analyzer().analyze(X, masked(np.ones((2, 3)))),
    "fit": lambda: fitted_on(masked(X)),
    "a batch of a fit": lambda: fitted_on([X, masked(X)]),
    "x of a batch": lambda: fitted_on([(masked(X), np.zeros(2))]),
    "sample_weight": lambda: fitted(sample_weight=masked([1.0, 1.0])),
    "patterns": lambda: create("pattern.net", patterns={**patterns(), "hidden": masked(patterns()["hidden"])}),
    "a reference": lambda: create("integrated_gradients", reference_inputs=masked(X[0])),
    "a replacement": lambda: metrics.degradation(model(), analyzer(), X, replace=masked(X[0])),
    "maps of a measure": lambda: metrics.degradation(model(), masked(X), X),
    "a measure's samples": lambda: metrics.completeness(analyzer(), masked(X)),
    "attributions": lambda: metrics.sparseness(masked(X)),
    "maps": lambda: metrics.spearman(masked(MAP), MAP),
    "a heat map": lambda: visualize.heatmap(masked(MAP)),
    "a picture": lambda: visualize.caption(masked(np.zeros((40, 40, 3), "uint8")), "a"),
    "images": lambda: innvest_lite.images.preprocess(masked(X[0]), "unit"),
    "images of an analyzer": lambda: create("gradient", preprocessor="none").analyze(masked(X)),
}


def fitted_on(data):
    return innvest_lite.fit_statistics(model(), data, verbose=0)


def test_masked_entries_are_refused_wherever_arrays_come_in():
    cases = {what: (use, "masked array.* entries are masked") for what, use in TAKES_ARRAYS.items()}
    assert refusals(cases, InvalidInputError) == {}
    # A masked array without masked entries is an array.
    np.testing.assert_array_equal(analyzer().analyze(np.ma.masked_array(X)), analyzer().analyze(X))
